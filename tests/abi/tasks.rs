//! Tasks of a step: what each is bound to, alone and with neighbours.

use std::path::Path;
use std::time::Duration;

use topology::set::CpuSet;

use crate::host::{Outcome, Scenario, run, run_together};
use crate::world::{World, pci};

fn cpus(outcome: &Outcome, task: usize) -> CpuSet {
    outcome.task(task).cpus.parse().unwrap()
}

/// The tasks together say this once.
fn assert_told_once(outcome: &Outcome, what: &str) {
    assert_eq!(outcome.text.matches(what).count(), 1, "{}", outcome.text);
}

/// All pairs of tasks have no CPU in common.
fn assert_disjoint(outcome: &Outcome, tasks: usize) {
    for a in 0..tasks {
        for b in a + 1..tasks {
            let (one, other) = (cpus(outcome, a), cpus(outcome, b));
            assert!(!one.intersects(&other), "tasks {a} {one} and {b} {other}");
        }
    }
}

#[test]
fn two_tasks_are_really_bound_to_their_gpus_cpus() {
    let world = World::with_real_cpus();
    let scenario = Scenario::on(&world, 2)
        .option("mem=bind")
        .fence(&world, &[1, 0]);
    let outcome = run_together(scenario);
    for (task, gpu) in [(0, 1), (1, 0)] {
        let own = outcome.task(task);
        assert_eq!(own.cpus, world.cpus_of_gpu(gpu).to_string());
        assert_eq!(own.policy, "bind", "{}", outcome.text);
    }
    // The memory policies are the kernel's own too: with one node here, the second GPU's has no memory.
    let memory = if Path::new("/sys/devices/system/node/node1").exists() {
        "memory"
    } else {
        "1 on their memory"
    };
    assert_eq!(
        outcome.task(0).user,
        [format!(
            "gpu-numa-bind: gpunode: 2 tasks on their GPUs' CPUs and {memory} (nodes 1 0), 1 CPU each"
        )]
    );
    assert!(outcome.task(1).user.is_empty());
}

#[test]
fn four_tasks_share_the_machine_out_disjointly() {
    let world = World::declared("abi-2s2n4c2t");
    let scenario = Scenario::on(&world, 4)
        .option("")
        .line("item 24 4")
        .fence(&world, &[3, 0, 2, 1]);
    let outcome = run_together(scenario);
    assert_disjoint(&outcome, 4);
    for (task, gpu) in [(0, 3), (1, 0), (2, 2), (3, 1)] {
        let own = outcome.task(task);
        assert_eq!(own.cpus, world.cpus_of_gpu(gpu).to_string());
        assert_eq!(
            (own.policy.as_str(), own.nodes.as_str()),
            ("preferred-many", gpu.to_string().as_str())
        );
    }
}

#[test]
fn tasks_of_one_gpu_get_parts_of_its_cpus() {
    let world = World::declared("abi-2s1n8c2t");
    let scenario = Scenario::on(&world, 4)
        .option("")
        .fence(&world, &[0, 1, 0, 1]);
    let outcome = run_together(scenario);
    assert_disjoint(&outcome, 4);
    for (task, gpu) in [(0, 0), (1, 1), (2, 0), (3, 1)] {
        let own = cpus(&outcome, task);
        assert_eq!(own.len(), 8);
        assert!(own.is_subset(&world.cpus_of_gpu(gpu)));
    }
}

#[test]
fn a_step_that_sees_all_gpus_is_taken_to_use_them_by_local_id() {
    let world = World::declared("abi-2s2n4c1t");
    let outcome = run_together(Scenario::on(&world, 4).option(""));
    for task in 0..4 {
        let own = outcome.task(task);
        assert_eq!(own.cpus, world.cpus_of_gpu(task).to_string());
        let report: serde_json::Value =
            serde_json::from_str(&own.env["GPU_NUMA_BIND_REPORT"]).unwrap();
        let address = pci(u32::try_from(task).unwrap()).to_string();
        assert_eq!(report["gpus"], serde_json::json!([address]));
        assert_eq!(report["cpus"], own.cpus);
        assert_eq!(report["verdict"], "local");
        assert_eq!(report["task"], task);
    }
}

#[test]
fn a_step_without_gpus_is_left_alone() {
    let world = World::with_real_cpus();
    let all = world.machine.online.to_string();
    let scenario = Scenario::on(&world, 2)
        .option("verbose")
        .line("env SLURM_GPUS_ON_NODE=0");
    let outcome = run_together(scenario);
    for task in 0..2 {
        let own = outcome.task(task);
        assert_eq!((own.cpus, own.policy.as_str()), (all.clone(), "default"));
        assert!(!own.env.contains_key("NCCL_TOPO_FILE"));
    }
    assert_eq!(
        outcome.task(0).user,
        ["gpu-numa-bind: gpunode: the step has no GPU; left as Slurm made it"]
    );
}

#[test]
fn without_the_option_nothing_is_touched() {
    let world = World::with_real_cpus();
    let outcome = run_together(Scenario::on(&world, 2).fence(&world, &[0, 1]));
    let own = outcome.task(1);
    assert_eq!(own.cpus, world.machine.online.to_string());
    assert!(own.log.is_empty(), "{:?}", own.log);
    assert!(!own.env.keys().any(|name| name.starts_with("GPU_NUMA")));
}

#[test]
fn a_mask_of_slurm_that_is_wholly_local_is_kept() {
    let world = World::with_real_cpus();
    let local = world.cpus_of_gpu(1);
    let scenario = Scenario::on(&world, 1)
        .option("")
        .fence(&world, &[1])
        .line(format_args!("mask 0 {local}"));
    let outcome = run(scenario);
    assert_eq!(cpus(&outcome, 0), local);
    assert_eq!(outcome.task(0).user.len(), 1);
}

#[test]
fn the_users_own_cpu_bind_is_respected_until_overridden() {
    let world = World::with_real_cpus();
    let far = world.cpus_of_gpu(0);
    let scenario = Scenario::on(&world, 1)
        .fence(&world, &[1])
        .line("env SLURM_CPU_BIND_TYPE=map_cpu:")
        .line(format_args!("mask 0 {far}"));
    let outcome = run(scenario.clone().option(""));
    assert_eq!(cpus(&outcome, 0), far);
    let outcome = run(scenario.option("override"));
    assert_eq!(cpus(&outcome, 0), world.cpus_of_gpu(1));
}

#[test]
fn a_task_that_dies_before_its_hook_delays_the_others_within_bounds() {
    let world = World::declared("abi-2s2n4c1t");
    let scenario = Scenario::on(&world, 4)
        .option("verbose")
        .fence(&world, &[0, 1, 2, 3])
        .line("die 2");
    let outcome = run(scenario);
    assert_eq!(outcome.task(2).exit, "9");
    for task in [0, 1, 3] {
        let own = outcome.task(task);
        assert_eq!(own.exit, "0");
        // The fallback is all that is local.
        assert_eq!(own.cpus, world.cpus_of_gpu(task).to_string());
    }
    assert_told_once(&outcome, "not all tasks came in time");
    let slowest = outcome.nanos("task_init").into_iter().max().unwrap();
    assert!(slowest >= 100_000_000, "{slowest}");
    assert!(
        Duration::from_nanos(slowest) < Duration::from_secs(3),
        "{slowest}"
    );
}

#[test]
fn a_task_that_is_late_beyond_patience_falls_back_like_the_others() {
    let world = World::declared("abi-1s2n4c1t");
    let scenario = Scenario::on(&world, 2)
        .option("verbose")
        .fence(&world, &[0, 1])
        .line("delay 1 1500");
    let outcome = run(scenario);
    for task in 0..2 {
        let own = outcome.task(task);
        assert_eq!(own.cpus, world.cpus_of_gpu(task).to_string());
    }
    assert_told_once(&outcome, "not all tasks came in time");
    assert!(
        outcome.nanos("task_init")[1] < 100_000_000,
        "a closed page keeps nobody"
    );
}

#[test]
fn sixty_four_tasks_come_together() {
    let world = World::declared("abi-2s4n16c2t");
    let gpus: Vec<usize> = (0..64).map(|task| task * 5 % 8).collect();
    let outcome = run_together(Scenario::on(&world, 64).option("").fence(&world, &gpus));
    assert_disjoint(&outcome, 64);
    for (task, gpu) in gpus.into_iter().enumerate() {
        let own = cpus(&outcome, task);
        assert_eq!(own.len(), 4, "task {task}");
        assert!(own.is_subset(&world.cpus_of_gpu(gpu)));
        assert_eq!(outcome.task(task).user.len(), usize::from(task == 0));
    }
    assert!(outcome.elapsed < Duration::from_secs(10));
}

#[test]
fn a_refusal_ends_every_task_and_only_the_lowest_speaks() {
    let world = World::declared("abi-2s1n4c1t");
    // Task 1's GPU is on node 1, of which the step has no CPU.
    let scenario = Scenario::on(&world, 3)
        .option("restricted")
        .fence(&world, &[0, 1, 0])
        .line(format_args!(
            "kernel 0-3 {}",
            world.path("status").display()
        ));
    let outcome = run_together(scenario);
    for task in 0..3 {
        assert_eq!(outcome.task(task).exit, "1");
    }
    let said = outcome.task(0).user;
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("step 12.0 refused on gpunode (restricted, all 3 tasks here)"));
    assert!(
        said[0].contains(&pci(1).to_string()) && said[0].contains("0-3"),
        "{said:?}"
    );
    assert!(outcome.task(1).user.is_empty() && outcome.task(2).user.is_empty());
}

#[test]
fn tasks_that_do_not_meet_are_refused_with_one_line() {
    let world = World::declared("abi-2s1n4c1t");
    let scenario = Scenario::on(&world, 3)
        .option("restricted")
        .fence(&world, &[1, 1, 1])
        .line("delay 2 1500")
        .line(format_args!(
            "kernel 0-3 {}",
            world.path("status").display()
        ));
    let outcome = run(scenario);
    for task in 0..3 {
        assert_eq!(outcome.task(task).exit, "1");
    }
    assert_told_once(&outcome, " refused on gpunode ");
    let slowest = outcome.nanos("task_init");
    assert!(slowest.is_empty(), "a refused hook does not return");
}

#[test]
fn a_batch_scripts_own_step_is_never_refused() {
    let world = World::declared("abi-2s1n4c1t");
    let scenario = Scenario::on(&world, 1)
        .option("restricted")
        .fence(&world, &[1])
        .line("item 3 0xfffffffb")
        .line(format_args!(
            "kernel 0-3 {}",
            world.path("status").display()
        ));
    let outcome = run(scenario.clone());
    let own = outcome.task(0);
    assert_eq!((own.exit.as_str(), own.cpus.as_str()), ("0", "0-3"));
    assert!(
        own.user.iter().any(|line| line.contains("never refused")),
        "{:?}",
        own.user
    );
    let outcome = run(scenario.line("arg strict_batch"));
    assert_eq!(outcome.task(0).exit, "1");
}

#[test]
fn policy_none_reports_and_changes_nothing() {
    let world = World::with_real_cpus();
    let outcome = run_together(
        Scenario::on(&world, 2)
            .option("none")
            .fence(&world, &[0, 1]),
    );
    for task in 0..2 {
        let own = outcome.task(task);
        assert_eq!(own.cpus, world.machine.online.to_string());
        assert_eq!(own.policy, "default");
    }
    assert!(outcome.task(0).user[0].contains("would be on their GPUs'"));
}
