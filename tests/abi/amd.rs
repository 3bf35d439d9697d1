//! Tasks on AMD's GPUs: render nodes as the fence, ROCm's variables, parts of GPUs, hosts with NVIDIA's too.

use topology::set::CpuSet;

use crate::host::{Scenario, run, run_together};
use crate::world::World;

#[test]
fn each_task_is_bound_by_the_render_node_that_it_may_open() {
    let world = World::declared("mi300a-4s");
    let scenario = Scenario::on(&world, 4)
        .option("mem=bind")
        .line("item 24 4")
        .fence(&world, &[3, 0, 2, 1]);
    let outcome = run_together(scenario);
    for (task, gpu) in [(0, 3), (1, 0), (2, 2), (3, 1)] {
        let own = outcome.task(task);
        assert_eq!(own.cpus, world.cpus_of_gpu(gpu).to_string());
        // CPU, GPU and memory are one node.
        assert_eq!(
            (own.policy.as_str(), own.nodes.as_str()),
            ("bind", gpu.to_string().as_str())
        );
        for name in [
            "NCCL_TOPO_FILE",
            "NCCL_PROFILER_PLUGIN",
            "CUDA_DEVICE_ORDER",
        ] {
            assert!(!own.env.contains_key(name), "{name}");
        }
    }
    assert!(!outcome.text.contains("socket link"), "{}", outcome.text);
}

#[test]
fn without_a_fence_rocr_counts_as_the_driver_found_the_gpus() {
    // Its driver found first the GPUs of node 0, d1 and d6: the fifth and sixth by address.
    let world = World::declared("frontier-mi250x");
    let mut scenario = Scenario::on(&world, 2).option("node");
    for (task, list) in [(0, "0"), (1, "GPU-7a3d00000000c1")] {
        scenario = scenario.line(format_args!("task-env {task} ROCR_VISIBLE_DEVICES={list}"));
    }
    let outcome = run_together(scenario);
    for (task, gpu) in [(0, 4), (1, 0)] {
        assert_eq!(outcome.task(task).cpus, world.cpus_of_gpu(gpu).to_string());
    }
}

#[test]
fn a_task_on_a_part_of_a_gpu_is_bound_near_that_gpu() {
    let world = World::declared("mi300x-2s8g-cpx");
    let mut scenario = Scenario::on(&world, 3).option("node");
    // The sixth part of the first GPU, the first of the fifth; all of them, of which the third task's share is the third.
    for (task, minor) in [(0, 133), (1, 160)] {
        scenario = scenario
            .line(format_args!("opens {task} {minor}"))
            .line(format_args!("task-env {task} ROCR_VISIBLE_DEVICES=0"));
    }
    let outcome = run_together(scenario.line("task-env 2 ROCR_VISIBLE_DEVICES=62,63"));
    for (task, gpu) in [(0, 0), (1, 4), (2, 7)] {
        assert_eq!(outcome.task(task).cpus, world.cpus_of_gpu(gpu).to_string());
    }
}

#[test]
fn parts_are_named_by_their_own_files_ids_and_places() {
    let world = World::declared("mi300a-4s-tpx");
    // The third part of the second GPU by its file; the second part of the third by its unique id; the last of all by its place.
    let mut scenario = Scenario::on(&world, 3)
        .option("node")
        .line(format_args!("opens 0 {}", 128 + 8 + 2))
        .line("task-env 0 ROCR_VISIBLE_DEVICES=0");
    for (task, list) in [(1, "GPU-7a3d000200020100"), (2, "11")] {
        scenario = scenario.line(format_args!("task-env {task} ROCR_VISIBLE_DEVICES={list}"));
    }
    let outcome = run_together(scenario);
    for (task, gpu) in [(0, 1), (1, 2), (2, 3)] {
        let near = world.cpus_of_gpu(gpu).to_string();
        assert_eq!(
            outcome.task(task).cpus,
            near,
            "task {task}: {}",
            outcome.text
        );
    }
}

#[test]
fn tasks_that_see_all_parts_use_them_by_local_id() {
    let world = World::declared("mi300x-2s8g-cpx");
    let outcome = run_together(Scenario::on(&world, 64).option("node"));
    for task in [0, 7, 8, 31, 32, 63] {
        let near = world.cpus_of_gpu(task / 8);
        assert_eq!(outcome.task(task).cpus, near.to_string(), "task {task}");
    }
}

#[test]
fn a_strict_step_is_refused_on_amds_gpus_too() {
    let world = World::declared("mi300a-4s");
    let scenario = Scenario::on(&world, 1)
        .option("restricted")
        .fence(&world, &[3])
        .line(format_args!(
            "kernel 0-3 {}",
            world.path("status").display()
        ));
    let outcome = run(scenario);
    assert_eq!(outcome.task(0).exit, "1");
    assert!(
        outcome.text.contains("refused on gpunode (restricted)"),
        "{}",
        outcome.text
    );
}

#[test]
fn on_a_host_of_both_vendors_each_variable_counts_its_own_gpus() {
    let world = World::declared("abi-2s2n-mixed");
    let near = |gpus: &[usize]| {
        let cpus = gpus.iter().map(|gpu| world.cpus_of_gpu(*gpu));
        cpus.fold(CpuSet::new(), |all, own| all.union(&own))
            .to_string()
    };
    let scenario = Scenario::on(&world, 3)
        .option("node,map=visible")
        .line("task-env 0 CUDA_VISIBLE_DEVICES=1")
        .line("task-env 1 ROCR_VISIBLE_DEVICES=1")
        .line("task-env 2 ROCR_VISIBLE_DEVICES=0")
        .line("task-env 2 CUDA_VISIBLE_DEVICES=0");
    let outcome = run_together(scenario);
    // NVIDIA's are the first and the third by address, AMD's the second and the fourth.
    for (task, gpus) in [(0, &[2][..]), (1, &[3]), (2, &[0, 1])] {
        assert_eq!(outcome.task(task).cpus, near(gpus), "task {task}");
    }
}

#[test]
fn each_memory_policy_is_of_the_apus_own_node() {
    let world = World::declared("mi300a-4s");
    for (policy, nodes) in [("interleave", "2"), ("none", "")] {
        let scenario = Scenario::on(&world, 1)
            .option(&format!("mem={policy}"))
            .fence(&world, &[2]);
        let outcome = run(scenario);
        let own = outcome.task(0);
        let kernels = if policy == "none" { "default" } else { policy };
        assert_eq!(
            (own.policy.as_str(), own.nodes.as_str()),
            (kernels, nodes),
            "{}",
            outcome.text
        );
        assert_eq!(own.cpus, world.cpus_of_gpu(2).to_string(), "{policy}");
    }
}

#[test]
fn none_says_what_it_would_do_and_does_nothing() {
    let world = World::declared("mi300a-4s");
    let left = run(Scenario::on(&world, 1).fence(&world, &[3]));
    let told = run(Scenario::on(&world, 1).option("none").fence(&world, &[3]));
    assert_eq!(told.task(0).cpus, left.task(0).cpus, "{}", told.text);
    assert_eq!(told.task(0).policy, "default");
    assert_eq!(
        told.task(0)
            .env
            .get("ROCR_VISIBLE_DEVICES")
            .map(String::as_str),
        Some("0")
    );
}

#[test]
fn a_task_with_intels_gpus_is_left_as_slurm_made_it() {
    let world = World::declared("spr-2s-6g-max1550");
    for option in ["", "mem=bind,l3", "exclusive,mem=interleave"] {
        let scenario = |option: Option<&str>| {
            let scenario = Scenario::on(&world, 2)
                .line("env SLURM_STEP_GPUS=0,1,4")
                .line("task-env 0 ZE_AFFINITY_MASK=4")
                .line("task-env 1 ZE_AFFINITY_MASK=0.1,1.0");
            option.map_or(scenario.clone(), |option| scenario.clone().option(option))
        };
        let left = run(scenario(None));
        let bound = run(scenario(Some(option)));
        let said = "gpunode: Intel's GPUs are not bound at launch; left as Slurm made it";
        assert_eq!(bound.text.matches(said).count(), 1, "{}", bound.text);
        for (task, mask) in [(0, "4"), (1, "0.1,1.0")] {
            let (left, own) = (left.task(task), bound.task(task));
            assert_eq!(own.exit, "0", "{}", bound.text);
            assert_eq!(own.cpus, left.cpus, "{option}: {}", bound.text);
            assert_eq!(own.policy, left.policy, "{option}");
            assert_eq!(
                own.env.get("ZE_AFFINITY_MASK").map(String::as_str),
                Some(mask)
            );
            for name in [
                "NCCL_TOPO_FILE",
                "CUDA_VISIBLE_DEVICES",
                "ROCR_VISIBLE_DEVICES",
            ] {
                assert!(!own.env.contains_key(name), "{name}");
            }
        }
    }
}

#[test]
fn a_strict_step_with_intels_gpus_is_refused_for_what_it_is() {
    let world = World::declared("spr-2s-6g-max1550");
    let scenario = Scenario::on(&world, 1)
        .line("env SLURM_STEP_GPUS=0")
        .option("restricted");
    let outcome = run(scenario);
    assert_eq!(outcome.task(0).exit, "1", "{}", outcome.text);
    let said = "refused on gpunode (restricted): Intel's GPUs are not bound at launch";
    assert!(outcome.text.contains(said), "{}", outcome.text);
}
