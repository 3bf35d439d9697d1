//! Invariants on random machines, and optimality by brute force.

use proptest::prelude::*;
use topology::binding::{StepRequest, Verdict, plan_step};
use topology::machine::Machine;
use topology::set::CpuSet;

use super::made_up::{lists, machine, step};

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
