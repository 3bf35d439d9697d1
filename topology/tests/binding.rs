//! The binding decision on made-up machines: named shapes, invariants, and optimality by brute force.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that finds nothing where it looks should fail there"
)]

use proptest::prelude::*;
use topology::binding::{
    KernelVersion, MemoryPolicy, StepPlan, StepRequest, TaskRequest, Verdict, plan_alone,
    plan_step, socket_link_line, spanning_line, summary_line,
};
use topology::machine::{Gpu, Locality, Machine, NodeKind, NumaNode, Package};
use topology::option::{Items, Settings};
use topology::pci::{PciAddress, PciDevice};
use topology::set::{CpuSet, NodeSet};

/// A machine of packages x nodes x cores x threads, CPUs numbered as Linux does on Intel: all first
/// threads, then all second ones; a GPU on each node of `gpu_nodes`.
fn machine(
    packages: u32,
    nodes_each: u32,
    cores_each: u32,
    threads: u32,
    gpu_nodes: &[&str],
) -> Machine {
    let nodes = packages * nodes_each;
    let cores = nodes * cores_each;
    let mut machine = Machine {
        online: CpuSet::from_range(0, cores * threads - 1),
        ..Machine::default()
    };
    for core in 0..cores {
        machine
            .cores
            .push((0..threads).map(|thread| core + thread * cores).collect());
    }
    for id in 0..nodes {
        let mut cpus = CpuSet::new();
        for core in id * cores_each..(id + 1) * cores_each {
            cpus.extend_with(&machine.cores[core as usize]);
        }
        let package = id / nodes_each;
        let distances = (0..nodes)
            .map(|to| {
                (
                    to,
                    if to == id {
                        10
                    } else if to / nodes_each == package {
                        12
                    } else {
                        21
                    },
                )
            })
            .collect();
        machine.numa_nodes.push(NumaNode {
            id,
            package: Some(package),
            cpus,
            memory_bytes: Some(1 << 30),
            kind: NodeKind::Dram,
            distances,
        });
    }
    for id in 0..packages {
        let numa_nodes = NodeSet::from_range(id * nodes_each, (id + 1) * nodes_each - 1);
        machine.packages.push(Package {
            id,
            cpus: machine.cpus_of(&numa_nodes),
            numa_nodes,
        });
    }
    for (index, nodes) in gpu_nodes.iter().enumerate() {
        let known: Option<NodeSet> = (*nodes != "?").then(|| nodes.parse().unwrap());
        let device = PciDevice::new(gpu(index), 0x03_0200, 0x10de, 0x2330);
        machine.gpus.push(Gpu {
            locality: Locality {
                cpus: known.as_ref().map(|nodes| machine.cpus_of(nodes)),
                numa_nodes: known,
                ..Locality::default()
            },
            ..Gpu::of(&device)
        });
    }
    machine
}

fn gpu(index: usize) -> PciAddress {
    format!("0000:{:02x}:00.0", 0x20 + index).parse().unwrap()
}

fn cpus(list: &str) -> CpuSet {
    list.parse().unwrap()
}

/// A step on all the machine's CPUs; `gpus[k]` is what task k sees.
fn step(machine: &Machine, option: &str, asked: u32, gpus: &[&[usize]]) -> StepRequest {
    StepRequest {
        settings: Settings::from(&Items::parse(option).unwrap()),
        step_cpus: machine.online.clone(),
        asked,
        tasks: gpus
            .iter()
            .map(|visible| TaskRequest {
                visible: visible.iter().map(|index| gpu(*index)).collect(),
                ..TaskRequest::default()
            })
            .collect(),
        kernel: KernelVersion { major: 6, minor: 1 },
        allowed_nodes: None,
        may_refuse: true,
    }
}

fn with_masks(mut step: StepRequest, masks: &[&str]) -> StepRequest {
    for (task, mask) in step.tasks.iter_mut().zip(masks) {
        task.slurm_cpus = Some(cpus(mask));
    }
    step
}

fn lists(plan: &StepPlan) -> Vec<String> {
    plan.tasks
        .iter()
        .map(|task| task.cpus.to_string())
        .collect()
}

fn verdicts(plan: &StepPlan) -> Vec<Verdict> {
    plan.tasks.iter().map(|task| task.verdict).collect()
}

const TWO_SOCKETS: &[&str] = &["0", "0", "1", "1"];

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
        summary_line("gpunode", &machine, &step, &plan),
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
    assert_eq!(odd.tasks[0].gpus.len(), 4);
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
fn too_few_local_cpus_are_filled_up_with_the_nearest() {
    let machine = machine(2, 2, 2, 1, &["0", "1", "2", "3"]);
    for option in ["", "node"] {
        let plan = plan_step(&machine, &step(&machine, option, 3, &[&[0]]));
        assert_eq!(
            (lists(&plan), verdicts(&plan)),
            (vec!["0-2".to_owned()], vec![Verdict::Partial]),
            "{option}"
        );
    }
}

#[test]
fn a_step_without_a_local_cpu_is_left_as_slurm_made_it() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let mut step = with_masks(step(&machine, "", 1, &[&[2]]), &["1"]);
    step.step_cpus = cpus("0-3");
    let plan = plan_step(&machine, &step);
    assert_eq!(
        (lists(&plan), verdicts(&plan)),
        (vec!["1".to_owned()], vec![Verdict::Unbound])
    );
    assert!(!plan.tasks[0].bind_cpus && !plan.tasks[0].bind_memory);
    assert_eq!(
        plan.tasks[0].message,
        "GPU 0000:22:00.0 is on node 1, but the step has CPUs 0-3 of node 0 only; left as Slurm made it \
         (every copy crosses the socket link, distance 21)"
    );
}

#[test]
fn tasks_left_alone_keep_their_cpus_from_the_others() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let mut step = with_masks(
        step(&machine, "", 1, &[&[0], &[1], &[2], &[3]]),
        &["0", "1", "2", "3"],
    );
    step.step_cpus = cpus("0-3");
    assert_eq!(lists(&plan_step(&machine, &step)), ["0", "1", "2", "3"]);
}

#[test]
fn a_task_far_from_its_gpu_makes_way_for_one_that_is_near() {
    let machine = machine(2, 2, 2, 1, &["0", "1", "2", "3"]);
    let mut step = with_masks(
        step(&machine, "", 1, &[&[0], &[1], &[2], &[3]]),
        &["0", "4", "1", "5"],
    );
    step.step_cpus = cpus("0-1,4-5");
    let plan = plan_step(&machine, &step);
    assert_eq!(lists(&plan), ["0", "1", "4", "5"]);
    assert_eq!(
        verdicts(&plan),
        [
            Verdict::Local,
            Verdict::Remote,
            Verdict::Local,
            Verdict::Unbound
        ]
    );
    assert!(
        plan.tasks[1].message.contains("moved to CPU 1"),
        "{}",
        plan.tasks[1].message
    );
}

#[test]
fn strict_policies_refuse_and_say_what_would_fit() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let mut far = step(&machine, "restricted", 1, &[&[0], &[2]]);
    far.step_cpus = cpus("0-3");
    let plan = plan_step(&machine, &far);
    let refusal = plan.refusal.clone().unwrap();
    assert_eq!(refusal.task, 1);
    assert_eq!(
        refusal.reason,
        "task 1's GPU 0000:22:00.0 is on node 1, but the step has CPUs 0-3 of node 0 only"
    );
    assert!(
        refusal.advice.contains("--kill-on-bad-exit=1"),
        "{}",
        refusal.advice
    );
    assert_eq!(verdicts(&plan), [Verdict::Refused; 2]);
    far.may_refuse = false;
    assert_eq!(plan_step(&machine, &far).refusal, None);

    let span = step(&machine, "single-numa-node", 1, &[&[1, 2]]);
    let refusal = plan_step(&machine, &span).refusal.unwrap();
    assert!(
        refusal
            .reason
            .contains("0000:21:00.0 (node 0) and 0000:22:00.0 (node 1) share no node")
    );
    let few = step(&machine, "single-numa-node", 5, &[&[0]]);
    assert!(plan_step(&machine, &few).refusal.is_some());
    assert_eq!(
        plan_step(&machine, &step(&machine, "restricted", 5, &[&[0]])).refusal,
        None
    );
}

#[test]
fn an_unknown_locality_is_never_guessed() {
    let machine = machine(2, 1, 4, 1, &["?", "1"]);
    let plan = plan_step(&machine, &step(&machine, "", 1, &[&[0], &[1]]));
    assert_eq!(verdicts(&plan), [Verdict::Unbound, Verdict::Local]);
    assert!(
        plan_step(&machine, &step(&machine, "restricted", 1, &[&[0]]))
            .refusal
            .is_some()
    );
}

#[test]
fn the_users_own_bindings_stay_unless_overridden() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let mut own = with_masks(step(&machine, "", 1, &[&[2]]), &["0-7"]);
    own.tasks[0].user_cpu_bind = true;
    own.tasks[0].user_mem_bind = true;
    let plan = plan_step(&machine, &own);
    assert!(!plan.tasks[0].bind_cpus && !plan.tasks[0].bind_memory);
    own.settings.override_user = true;
    let plan = plan_step(&machine, &own);
    assert!(plan.tasks[0].bind_cpus && plan.tasks[0].bind_memory);
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
fn a_task_that_is_left_with_a_mask_nobody_knows_shows_the_steps_cpus() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    for width in ["exclusive", "node", "socket", "l3"] {
        let mut step = step(&machine, width, 1, &[&[2], &[3]]);
        step.step_cpus = cpus("1");
        let plan = plan_step(&machine, &step);
        assert_eq!(verdicts(&plan), [Verdict::Unbound; 2]);
        assert_eq!(lists(&plan), ["1", "1"], "{width}");
        assert!(!plan.tasks[0].bind_cpus);
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

/// The most CPUs that tasks asked for and that can be local to them at once.
fn best_local(machine: &Machine, step: &StepRequest) -> usize {
    let near: Vec<CpuSet> = step
        .tasks
        .iter()
        .map(|task| {
            let nodes = machine
                .gpu(task.visible[0])
                .unwrap()
                .locality
                .numa_nodes
                .clone()
                .unwrap();
            machine.cpus_of(&nodes).intersection(&step.step_cpus)
        })
        .collect();
    fn try_all(cpus: &[u32], near: &[CpuSet], left: &mut [u32]) -> usize {
        let Some((first, rest)) = cpus.split_first() else {
            return 0;
        };
        let mut best = try_all(rest, near, left);
        for task in 0..near.len() {
            if left[task] > 0 && near[task].contains(*first) {
                left[task] -= 1;
                best = best.max(1 + try_all(rest, near, left));
                left[task] += 1;
            }
        }
        best
    }
    let cpus: Vec<u32> = step.step_cpus.iter().collect();
    try_all(&cpus, &near, &mut vec![step.asked; near.len()])
}

proptest! {
    #[test]
    fn exclusive_is_disjoint_within_the_step_and_as_local_as_can_be(
        gpu_nodes in prop::collection::vec(prop::sample::select(vec!["0", "1", "2", "0-1", "2-3", "3"]), 1..5),
        allowed in prop::collection::btree_set(0u32..8, 1..8),
        asked in 1u32..4,
    ) {
        let machine = machine(2, 2, 2, 1, &gpu_nodes);
        let gpus: Vec<Vec<usize>> = (0..gpu_nodes.len()).map(|index| vec![index]).collect();
        let views: Vec<&[usize]> = gpus.iter().map(Vec::as_slice).collect();
        let mut step = step(&machine, "", asked, &views);
        step.step_cpus = allowed.into_iter().collect();
        let plan = plan_step(&machine, &step);
        let tasks = plan.tasks.len();
        let mut seen = CpuSet::new();
        for task in &plan.tasks {
            prop_assert!(!task.cpus.is_empty() || task.verdict == Verdict::Unbound);
            prop_assert!(task.cpus.is_subset(&step.step_cpus));
            if step.step_cpus.len() >= tasks {
                prop_assert!(!task.cpus.intersects(&seen), "{:?}", lists(&plan));
            }
            seen.extend_with(&task.cpus);
        }
        if step.step_cpus.len() >= tasks * asked as usize {
            let served: usize = plan.tasks.iter().map(|task| {
                let nodes = machine.gpu(task.gpus[0]).unwrap().locality.numa_nodes.clone().unwrap();
                machine.cpus_of(&nodes).intersection(&task.cpus).len().min(asked as usize)
            }).sum();
            prop_assert_eq!(served, best_local(&machine, &step), "{:?}", lists(&plan));
        }
    }
}

#[test]
fn alone_a_task_keeps_a_local_mask_and_else_takes_the_node() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let local = with_masks(step(&machine, "", 2, &[&[2]]), &["4-5"]);
    let plan = plan_alone(&machine, &local, 3);
    assert_eq!(
        (
            lists(&plan)[0].as_str(),
            plan.tasks[0].task,
            plan.tasks[0].bind_cpus
        ),
        ("4-5", 3, false)
    );
    let remote = with_masks(step(&machine, "", 2, &[&[2]]), &["0-1"]);
    assert_eq!(lists(&plan_alone(&machine, &remote, 3)), ["4-7"]);
    let all = with_masks(step(&machine, "map=localid", 2, &[&[0, 1, 2, 3]]), &["0-1"]);
    assert_eq!(lists(&plan_alone(&machine, &all, 3)), ["4-7"]);
}

#[test]
fn gpus_that_only_the_socket_link_joins_are_named_once() {
    let mut machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    for (index, gpu) in machine.gpus.iter_mut().enumerate() {
        gpu.locality.package = Some(u32::from(index > 1));
    }
    let plan = plan_step(&machine, &step(&machine, "", 1, &[&[0], &[2]]));
    assert_eq!(
        socket_link_line("h", &machine, &plan, 1),
        None,
        "NVLink may join them"
    );
    machine.nvlink_visible = true;
    assert_eq!(
        socket_link_line("h", &machine, &plan, 1).unwrap(),
        "h: GPUs 0000:20:00.0 and 0000:22:00.0 have no path but the socket link (distance 21, 2.1x a local access); \
         NCCL's ring will cross it twice"
    );
    let spanning = plan_step(&machine, &step(&machine, "", 4, &[&[0, 1, 2, 3]]));
    let line = spanning_line("h", &machine, &spanning).unwrap();
    assert!(
        line.starts_with("h task 0 sees 4 GPUs on 2 sockets"),
        "{line}"
    );
}

#[test]
fn a_task_that_cannot_move_keeps_its_cpus_to_itself() {
    let machine = machine(2, 1, 4, 1, &["0", "0"]);
    let mut step = with_masks(
        step(&machine, "", 2, &[&[0], &[1], &[]]),
        &["0-1", "4-5", "2-3"],
    );
    step.step_cpus = cpus("0-5");
    let plan = plan_step(&machine, &step);
    assert_eq!(lists(&plan)[2], "2-3");
    assert!(
        !plan.tasks[1].cpus.intersects(&cpus("2-3")),
        "{:?}",
        lists(&plan)
    );
}

#[test]
fn a_task_whose_gpu_nobody_can_place_makes_way_too() {
    let machine = machine(2, 1, 4, 1, &["0", "0", "?", "?"]);
    let masks = ["0-1", "4-5", "2-3", "6-7"];
    let step = with_masks(step(&machine, "", 2, &[&[0], &[1], &[2], &[3]]), &masks);
    let plan = plan_step(&machine, &step);
    assert_eq!(lists(&plan), ["0-1", "2-3", "4-5", "6-7"]);
    assert_eq!(
        verdicts(&plan),
        [
            Verdict::Local,
            Verdict::Local,
            Verdict::Unbound,
            Verdict::Unbound
        ]
    );
    assert!(plan.tasks[2].bind_cpus && !plan.tasks[3].bind_cpus);
    assert!(
        plan.tasks[2].message.contains("moved to CPUs 4-5"),
        "{}",
        plan.tasks[2].message
    );
    assert!(
        plan.tasks[3].message.contains("left as Slurm made it"),
        "{}",
        plan.tasks[3].message
    );
}

#[test]
fn a_task_that_its_user_bound_makes_way_only_under_override() {
    let machine = machine(2, 1, 4, 1, &["0", "0", "?"]);
    let masks = ["0-1", "4-5", "2-3"];
    let mut step = with_masks(step(&machine, "", 2, &[&[0], &[1], &[2]]), &masks);
    step.step_cpus = cpus("0-5");
    step.tasks[2].user_cpu_bind = true;
    assert_eq!(lists(&plan_step(&machine, &step))[2], "2-3");
    step.settings.override_user = true;
    assert_eq!(lists(&plan_step(&machine, &step)), ["0-1", "2-3", "4-5"]);
}

#[test]
fn alone_a_task_with_a_gpu_on_each_socket_is_not_refused_for_its_mask() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let lone = with_masks(step(&machine, "restricted", 2, &[&[0, 2]]), &["0-1"]);
    let plan = plan_alone(&machine, &lone, 0);
    assert_eq!(plan.refusal, None);
    assert_eq!(lists(&plan), ["0-7"]);
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
    assert!(
        summary_line("h", &machine, &step, &plan).ends_with("the k-th share of the GPUs it sees")
    );
    assert!(
        plan.tasks[0].message.contains("by local id"),
        "{}",
        plan.tasks[0].message
    );
}

#[test]
fn off_binds_nothing() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let plan = plan_step(&machine, &step(&machine, "off", 1, &[&[0]]));
    assert_eq!(
        (lists(&plan), verdicts(&plan)),
        (vec!["0-7".to_owned()], vec![Verdict::Unbound])
    );
    assert!(!plan.tasks[0].bind_cpus && !plan.tasks[0].bind_memory);
}
