//! How good a split is, and the best there is, in the order that topology's own tests judge by.

use std::collections::BTreeSet;

use gpu_numa_tests::optimum::{Cpu, Merit, Nodes, Step, Task};

use crate::input::{Machine, Shape};
use crate::set::{Set, bits};
use crate::step::Judged;

/// A step whose split is judged, without the tasks whose GPUs are unknown.
pub(crate) struct Order {
    step: Step,
    /// The numbers of its CPUs.
    cpus: Vec<u32>,
    /// Which tasks of the launch are judged.
    tasks: Vec<usize>,
}

impl Order {
    pub(crate) fn new(machine: &Machine, judged: &Judged, shape: &Shape) -> Self {
        let tasks: Vec<usize> = (0..judged.gpus.len())
            .filter(|task| !judged.gpus[*task].is_empty())
            .collect();
        let position = |sets: Vec<Set>, cpu: u32| {
            let found = sets.iter().position(|set| set >> cpu & 1 == 1);
            found.unwrap_or(usize::MAX)
        };
        let cpus: Vec<u32> = bits(judged.step).collect();
        let nodes: Vec<Set> = machine.nodes.values().map(|node| node.0).collect();
        let ids: Vec<u32> = machine.nodes.keys().copied().collect();
        let cpu = |cpu: &u32| Cpu {
            node: position(nodes.clone(), *cpu),
            package: machine.package_of.get(cpu).map_or(0, |id| *id as usize),
            // A core's own says nothing of tasks.
            cache: position(
                machine
                    .caches
                    .iter()
                    .copied()
                    .filter(|cache| !machine.cores.contains(cache))
                    .collect(),
                *cpu,
            ),
            core: position(machine.cores.iter().copied().collect(), *cpu),
        };
        let near = |node: &u32| -> BTreeSet<usize> {
            ids.iter().position(|id| id == node).into_iter().collect()
        };
        let mut lie = Nodes::default();
        for (from, (own, _, distances)) in machine.nodes.values().enumerate() {
            let package = bits(*own).find_map(|cpu| machine.package_of.get(&cpu));
            lie.packages.extend(package.map(|id| (from, *id as usize)));
            let to = distances.iter().enumerate();
            lie.distances
                .extend(to.map(|(to, distance)| ((from, to), i64::from(*distance))));
        }
        let step = Step {
            nodes: lie,
            cpus: cpus.iter().map(cpu).collect(),
            tasks: tasks
                .iter()
                .map(|task| Task {
                    gpus: judged.gpus[*task].iter().map(near).collect(),
                })
                .collect(),
            asked: shape.asked,
            must_reach: ["restricted", "single-numa-node"]
                .iter()
                .any(|policy| shape.items.contains(policy)),
        };
        Self { step, cpus, tasks }
    }

    pub(crate) fn merit(&self, has: &[Set]) -> Merit {
        let indexes = |task: &usize| -> Vec<usize> {
            let cpus = self.cpus.iter().enumerate();
            cpus.filter(|(_, cpu)| has[*task] >> **cpu & 1 == 1)
                .map(|(index, _)| index)
                .collect()
        };
        let split: Vec<Vec<usize>> = self.tasks.iter().map(indexes).collect();
        self.step.merit(&split)
    }

    /// The best of all disjoint splits.
    pub(crate) fn best(&self) -> Option<Merit> {
        self.step.best()
    }
}
