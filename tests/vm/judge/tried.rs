//! What was advised, by what came of it: the same shape was launched again in that way.

use std::collections::{BTreeMap, BTreeSet};

use crate::Tally;
use crate::input::{Launch, Machine, Shape, Task};
use crate::set::{ones, show_set};
use crate::step::used;

/// What the line says of its ways where they depend on the site.
pub(crate) const NEEDS_CORES: &str = ", if Cores= in gres.conf is right";

/// Each way that a line of the shape advised ended the lack for every task.
pub(crate) fn judge_tries(machine: &Machine, shape: &Shape, name: &str, tally: &mut Tally) {
    let mut said = shape.bound.said.iter();
    if shape.slurm.contains("GRES_CORES=") && said.any(|line| line.contains(NEEDS_CORES)) {
        return;
    }
    for (way, launch) in &shape.tried {
        let wrong = of_launch(machine, shape, way, launch);
        tally.check(name, &format!("\"{way}\" helps"), &wrong);
    }
}

fn of_launch(machine: &Machine, shape: &Shape, way: &str, launch: &Launch) -> Vec<String> {
    if launch.status == -1 {
        return vec!["run-table does not know how to try it".to_owned()];
    }
    if launch.status != 0 || launch.steps.is_empty() {
        return vec![format!("status {}: {:?}", launch.status, launch.said)];
    }
    let asked = way.strip_prefix("--cpus-per-task=");
    let asked = asked.and_then(|count| count.parse().ok());
    let asked = asked.unwrap_or(shape.asked);
    let steps = launch.steps.values();
    steps
        .flat_map(|tasks| of_step(machine, shape, asked, tasks))
        .collect()
}

/// The tasks that lack CPUs near their GPUs.
fn of_step(
    machine: &Machine,
    shape: &Shape,
    asked: usize,
    tasks: &BTreeMap<usize, Task>,
) -> Vec<String> {
    let tasks: Vec<&Task> = tasks.values().collect();
    let users = used(&tasks, &shape.items);
    let mut wrong = Vec::new();
    for (task, (seen, gpus)) in tasks.iter().zip(&users).enumerate() {
        let nodes: BTreeSet<u32> = gpus.iter().filter_map(|gpu| machine.node_of(gpu)).collect();
        let near = machine.cpus(&nodes);
        let each = |node: &u32| machine.cpus(&BTreeSet::from([*node])) & seen.cpus() != 0;
        if ones(seen.cpus() & near) < asked || !nodes.iter().all(each) {
            wrong.push(format!(
                "task {task} has CPUs {}, near are {}, asked {asked}",
                show_set(seen.cpus()),
                show_set(near)
            ));
        }
    }
    wrong
}
