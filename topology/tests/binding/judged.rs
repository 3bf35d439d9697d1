//! A step as the judge of `gpu_numa_tests::optimum` takes it.

use std::collections::BTreeSet;

use gpu_numa_tests::optimum::{Cpu, Nodes, Step, Task};
use topology::binding::{StepPlan, StepRequest};
use topology::machine::Machine;
use topology::set::CpuSet;

/// The step as the judge takes it, and the numbers of its CPUs.
pub(crate) fn judged(machine: &Machine, step: &StepRequest) -> (Step, Vec<u32>) {
    let numbers: Vec<u32> = step.step_cpus.iter().collect();
    let position = |sets: Vec<&CpuSet>, cpu: u32| sets.iter().position(|set| set.contains(cpu));
    let cpu = |cpu: &u32| Cpu {
        node: position(
            machine.numa_nodes.iter().map(|node| &node.cpus).collect(),
            *cpu,
        )
        .unwrap(),
        package: position(
            machine
                .packages
                .iter()
                .map(|package| &package.cpus)
                .collect(),
            *cpu,
        )
        .unwrap(),
        // A core's own says nothing of tasks.
        cache: position(machine.last_level_caches.iter().collect(), *cpu)
            .filter(|cache| !machine.cores.contains(&machine.last_level_caches[*cache]))
            .unwrap_or(0),
        core: position(machine.cores.iter().collect(), *cpu).unwrap(),
    };
    let nodes_of = |address| -> BTreeSet<usize> {
        let gpu = machine.gpu(address).unwrap();
        let nodes = gpu.locality.numa_nodes.as_ref().unwrap();
        nodes.iter().map(|node| node as usize).collect()
    };
    let tasks = step.tasks.iter().map(|task| Task {
        gpus: task
            .visible
            .iter()
            .map(|address| nodes_of(*address))
            .collect(),
    });
    let mut nodes = Nodes::default();
    for node in &machine.numa_nodes {
        let id = node.id as usize;
        nodes
            .packages
            .extend(node.package.map(|package| (id, package as usize)));
        for other in &machine.numa_nodes {
            let distance = i64::from(machine.nearness(node.id, other.id));
            nodes.distances.insert((id, other.id as usize), distance);
        }
    }
    let step = Step {
        nodes,
        cpus: numbers.iter().map(cpu).collect(),
        tasks: tasks.collect(),
        asked: step.asked as usize,
        must_reach: step.settings.policy == topology::option::Policy::Restricted,
    };
    (step, numbers)
}

pub(crate) fn split_of(plan: &StepPlan, numbers: &[u32]) -> Vec<Vec<usize>> {
    let index = |cpu: u32| numbers.iter().position(|number| *number == cpu);
    let tasks = plan.tasks.iter();
    tasks
        .map(|task| task.cpus.iter().filter_map(index).collect())
        .collect()
}
