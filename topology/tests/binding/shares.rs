//! Who gets what: shares, widths, memory.

use topology::binding::{
    MemoryPolicy, StepPlan, StepRequest, Verdict, find_socket_link, find_spanning, plan_step,
    summarize,
};
use topology::machine::{Machine, NumaNode};
use topology::names::GpuNames;
use topology::set::CpuSet;
use topology::words::{socket_link_line, spanning_line};

use super::made_up::{TWO_SOCKETS, cpus, gpu, lists, machine, message, step, verdicts, with_masks};

fn summary(host: &str, machine: &Machine, step: &StepRequest, plan: &StepPlan) -> String {
    topology::words::summary_line(host, &summarize(machine, step, plan))
}

#[test]
fn four_tasks_that_slurm_crossed_come_back_to_their_sockets() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let step = with_masks(
        step(&machine, "", 2, &[&[0], &[1], &[2], &[3]]),
        &["0-1", "4-5", "2-3", "6-7"],
    );
    let plan = plan_step(&machine, &step);
    assert_eq!(lists(&plan), ["0-1", "2-3", "4-5", "6-7"]);
    assert_eq!(verdicts(&plan), [Verdict::Local; 4]);
    assert_eq!(
        plan.tasks
            .iter()
            .map(|task| task.bind_cpus)
            .collect::<Vec<_>>(),
        [false, true, true, false]
    );
    assert!(
        plan.tasks
            .iter()
            .all(|task| task.memory.policy == MemoryPolicy::PreferredMany)
    );
    assert_eq!(
        summary("gpunode", &machine, &step, &plan),
        "gpunode: 4 tasks on their GPUs' CPUs and memory (nodes 0 0 1 1), 2 CPUs each"
    );
}

#[test]
fn without_a_request_each_task_gets_its_share_of_whole_cores() {
    let machine = machine(2, 1, 4, 2, TWO_SOCKETS);
    let plan = plan_step(&machine, &step(&machine, "", 1, &[&[0], &[1], &[2], &[3]]));
    assert_eq!(
        lists(&plan),
        ["0-1,8-9", "2-3,10-11", "4-5,12-13", "6-7,14-15"]
    );
}

#[test]
fn eight_tasks_on_four_gpus_share_a_gpu_but_no_cpu() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let all: &[usize] = &[0, 1, 2, 3];
    let plan = plan_step(&machine, &step(&machine, "", 1, &[all; 8]));
    assert_eq!(lists(&plan), ["0", "1", "4", "5", "2", "3", "6", "7"]);
    assert_eq!(plan.tasks[4].gpus, [gpu(0)]);
}

#[test]
fn more_tasks_than_cpus_share_what_is_local() {
    let machine = machine(2, 1, 2, 1, &["0", "1"]);
    let gpus: &[&[usize]] = &[&[0], &[1], &[0], &[1], &[0], &[1]];
    let plan = plan_step(&machine, &step(&machine, "", 1, gpus));
    assert_eq!(lists(&plan), ["0-1", "2-3", "0-1", "2-3", "0-1", "2-3"]);
}

/// Also where there is one for each task with a local one, but none beside for the others.
#[test]
fn more_tasks_than_cpus_share_what_is_local_to_some() {
    let machine = machine(2, 1, 4, 1, &["0", "0", "1", "1"]);
    let gpus: &[&[usize]] = &[&[0], &[1], &[2], &[3]];
    for (allowed, shared) in [("0-2", "0-2"), ("0-1", "0-1"), ("1", "1")] {
        let step = step(&machine, "", 1, gpus);
        let step = StepRequest {
            step_cpus: cpus(allowed),
            ..step
        };
        let plan = plan_step(&machine, &step);
        let bound: Vec<_> = plan.tasks.iter().filter(|task| task.bind_cpus).collect();
        assert_eq!(bound.len(), 2, "{allowed}");
        for task in bound {
            assert_eq!(
                (task.cpus.to_string().as_str(), task.verdict),
                (shared, Verdict::Local)
            );
        }
        let said = summary("h", &machine, &step, &plan);
        let is_one = allowed == "1";
        assert!(
            said.contains(if is_one {
                "1 CPU each where bound, which tasks share"
            } else {
                " CPUs each where bound, which tasks share"
            }),
            "{said}"
        );
        // As a launch knows them: Slurm binds no task of such a step, so that each has all of it.
        let launched = plan_step(&machine, &with_masks(step, &[allowed; 4]));
        assert_eq!(lists(&launched), [allowed; 4]);
        assert_eq!(
            verdicts(&launched),
            [
                Verdict::Local,
                Verdict::Local,
                Verdict::Unbound,
                Verdict::Unbound
            ]
        );
    }
    // Where there is one for each, none is shared.
    let all = StepRequest {
        step_cpus: cpus("0-3"),
        ..step(&machine, "", 1, gpus)
    };
    let plan = plan_step(&machine, &all);
    assert_eq!(lists(&plan)[..2], ["0", "1"]);
    assert!(!summary("h", &machine, &all, &plan).contains("share"));
}

#[test]
fn overcommitted_tasks_share_so_that_each_has_what_it_asked_for() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let step = with_masks(
        step(&machine, "", 3, &[&[0], &[1], &[2]]),
        &["0-2", "0-2", "0-2"],
    );
    let overcommitted = StepRequest {
        step_cpus: cpus("0-2"),
        ..step.clone()
    };
    let plan = plan_step(&machine, &overcommitted);
    assert_eq!(lists(&plan), ["0-2", "0-2", "0-2"]);
    assert!(plan.tasks.iter().all(|task| !task.bind_cpus));
    let wider = StepRequest {
        step_cpus: cpus("0-6"),
        ..step
    };
    assert_eq!(lists(&plan_step(&machine, &wider)), ["0-3", "0-3", "4-6"]);
}

#[test]
fn tasks_that_see_all_take_even_shares_and_visible_takes_all() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let all: &[usize] = &[0, 1, 2, 3];
    let pairs = plan_step(&machine, &step(&machine, "", 1, &[all; 2]));
    assert_eq!(pairs.tasks[1].gpus, [gpu(2), gpu(3)]);
    let one = plan_step(&machine, &step(&machine, "map=localid", 1, &[all; 2]));
    assert_eq!(one.tasks[1].gpus, [gpu(1)]);
    let visible = plan_step(&machine, &step(&machine, "map=visible", 2, &[all; 2]));
    assert_eq!(visible.tasks[1].gpus.len(), 4);
    assert_eq!(verdicts(&visible), [Verdict::Spanning; 2]);
    let odd = plan_step(&machine, &step(&machine, "", 1, &[all; 3]));
    let gpus: Vec<_> = odd.tasks.iter().map(|task| task.gpus.clone()).collect();
    assert_eq!(gpus, [[gpu(0)], [gpu(1)], [gpu(2)]]);
    let many = plan_step(&machine, &step(&machine, "", 1, &[all; 6]));
    assert_eq!(many.tasks[5].gpus, [gpu(1)]);
}

#[test]
fn a_task_with_a_gpu_on_each_socket_gets_cpus_on_both() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let plan = plan_step(&machine, &step(&machine, "", 4, &[&[0, 2], &[1, 3]]));
    for task in &plan.tasks {
        assert_eq!(
            task.cpus.intersection(&cpus("0-3")).len(),
            2,
            "{}",
            task.cpus
        );
        assert_eq!(
            task.cpus.intersection(&cpus("4-7")).len(),
            2,
            "{}",
            task.cpus
        );
        assert_eq!(
            task.memory.policy,
            MemoryPolicy::Default,
            "all nodes are the default policy"
        );
    }
}

#[test]
fn a_wider_local_mask_of_slurms_is_kept_when_nobody_else_needs_it() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let alone = with_masks(step(&machine, "node", 1, &[&[0]]), &["0-3"]);
    assert!(!plan_step(&machine, &alone).tasks[0].bind_cpus);
    let pair = with_masks(step(&machine, "", 1, &[&[0], &[1]]), &["0-3", "0-3"]);
    assert_eq!(lists(&plan_step(&machine, &pair)), ["0-1", "2-3"]);
}

#[test]
fn widths_share_what_is_near() {
    let mut machine = machine(2, 2, 2, 1, &["0", "0", "2", "3"]);
    machine.last_level_caches = ["0", "1", "2-3", "4-5", "6-7"].map(cpus).to_vec();
    let gpus: &[&[usize]] = &[&[0], &[1]];
    assert_eq!(
        lists(&plan_step(&machine, &step(&machine, "node", 1, gpus))),
        ["0-1", "0-1"]
    );
    let socket = plan_step(&machine, &step(&machine, "socket", 1, gpus));
    assert_eq!(
        (lists(&socket), verdicts(&socket)[0]),
        (vec!["0-3".to_owned(); 2], Verdict::Partial)
    );
    assert_eq!(
        lists(&plan_step(&machine, &step(&machine, "l3", 1, gpus))),
        ["0", "1"]
    );
    // A mask of Slurm's that is wider than the cache is none of one cache.
    for (mask, given) in [("0-1", "0"), ("1", "1")] {
        let alone = with_masks(step(&machine, "l3", 1, &[&[0]]), &[mask]);
        assert_eq!(lists(&plan_step(&machine, &alone)), [given]);
    }
}

#[test]
fn memory_follows_the_kernel_and_keeps_off_gpu_nodes() {
    let mut machine = machine(4, 1, 2, 1, &["0", "1"]);
    let both: &[&[usize]] = &[&[0, 1]];
    let policy = |machine: &Machine, option: &str, kernel: &str, gpus: &[&[usize]]| {
        let mut step = step(machine, option, 1, gpus);
        step.kernel = kernel.parse().unwrap();
        let memory = plan_step(machine, &step).tasks[0].memory.clone();
        (memory.policy, memory.nodes.to_string())
    };
    assert_eq!(
        policy(&machine, "", "5.15.0-rc1", both),
        (MemoryPolicy::PreferredMany, "0-1".to_owned())
    );
    assert_eq!(
        policy(&machine, "", "5.14.0-503.el9", both).0,
        MemoryPolicy::Default
    );
    assert_eq!(
        policy(&machine, "", "4.18.0", &[&[1]]),
        (MemoryPolicy::Preferred, "1".to_owned())
    );
    assert_eq!(
        policy(&machine, "mem=bind", "4.18.0", both),
        (MemoryPolicy::Bind, "0-1".to_owned())
    );
    assert_eq!(
        policy(&machine, "mem=interleave", "6.1", both).0,
        MemoryPolicy::Interleave
    );
    machine.numa_nodes[1].memory_bytes = Some(0);
    machine.numa_nodes[1].distances.insert(3, 15);
    assert_eq!(policy(&machine, "", "6.1", &[&[1]]).1, "3");
}

#[test]
fn gpus_that_only_the_socket_link_joins_are_named_once() {
    let mut machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    for (index, gpu) in machine.gpus.iter_mut().enumerate() {
        gpu.locality.package = Some(u32::from(index > 1));
    }
    let plan = plan_step(&machine, &step(&machine, "", 1, &[&[0], &[2]]));
    assert_eq!(
        find_socket_link(&machine, &plan, 1),
        None,
        "NVLink may join them"
    );
    machine.nvlink_visible = true;
    assert_eq!(
        socket_link_line(
            "h",
            &find_socket_link(&machine, &plan, 1).unwrap(),
            GpuNames::ADDRESSES
        ),
        "h: GPUs 0000:20:00.0 and 0000:22:00.0 have no path but the socket link (SLIT 21, by firmware 2.1x local latency); \
         NCCL's ring will cross it twice"
    );
    let spanning = plan_step(&machine, &step(&machine, "", 4, &[&[0, 1, 2, 3]]));
    let line = spanning_line("h", &find_spanning(&machine, &spanning).unwrap());
    assert!(
        line.starts_with("h task 0 sees 4 GPUs on 2 sockets"),
        "{line}"
    );
}

#[test]
fn cores_of_unequal_size_give_every_task_what_it_asked() {
    let mut machine = machine(1, 1, 16, 1, &["0"]);
    machine.cores = (0..8u32)
        .map(|core| [core * 2, core * 2 + 1].into_iter().collect())
        .chain((16..24).map(CpuSet::single))
        .collect();
    machine.online = cpus("0-23");
    machine.numa_nodes[0].cpus = cpus("0-23");
    machine.numa_nodes.push(NumaNode {
        id: 1,
        cpus: cpus("24"),
        ..machine.numa_nodes[0].clone()
    });
    let first: &[usize] = &[0];
    let gpus: &[&[usize]] = &[first; 8];
    let mut step = step(&machine, "single-numa-node", 3, gpus);
    step.step_cpus = cpus("0-23");
    let plan = plan_step(&machine, &step);
    assert_eq!(plan.refusal, None);
    assert!(
        plan.tasks.iter().all(|task| task.cpus.len() == 3),
        "{:?}",
        lists(&plan)
    );
}

#[test]
fn a_socket_wide_binding_with_enough_local_cpus_is_no_trouble() {
    let machine = machine(2, 2, 2, 1, &["0"]);
    let plan = plan_step(&machine, &step(&machine, "socket", 2, &[&[0]]));
    assert_eq!(verdicts(&plan), [Verdict::Partial]);
    assert!(!plan.tasks[0].is_trouble && !plan.tasks[0].lacks_local_cpus);
}

#[test]
fn shares_by_local_id_are_said() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let all: &[usize] = &[0, 1, 2, 3];
    let step = step(&machine, "", 1, &[all; 4]);
    let plan = plan_step(&machine, &step);
    assert!(summary("h", &machine, &step, &plan).ends_with("the k-th share of the GPUs it sees"));
    assert!(
        message(&plan, 0).contains("by local id"),
        "{}",
        message(&plan, 0)
    );
}
