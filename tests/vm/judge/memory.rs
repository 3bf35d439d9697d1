//! Where a task's memory policy and its pages are.

use std::collections::BTreeSet;

use crate::input::{Machine, Shape, Task};
use crate::set::{bits, parse_set};
use crate::step::Judged;

/// Where the pages that a task touched lie, against `nodes`: how many are there, of how many that are somewhere.  One
/// that the kernel was moving or merging just then is absent, and nowhere.
fn pages_on(task: &Task, nodes: &BTreeSet<u32>) -> (usize, usize) {
    let mut counts = (0, 0);
    for part in task.get("pages").split(',') {
        let Some((node, pages)) = part.split_once(':') else {
            continue;
        };
        let (Ok(node), Ok(pages)) = (node.parse(), pages.parse::<usize>()) else {
            continue;
        };
        counts.1 += pages;
        if nodes.contains(&node) {
            counts.0 += pages;
        }
    }
    counts
}

pub(crate) fn judge_memory(
    machine: &Machine,
    shape: &Shape,
    judged: &Judged,
    tasks: &[&Task],
    before: &[&Task],
) -> Vec<String> {
    let mut wrong = Vec::new();
    let usable: BTreeSet<u32> = machine
        .nodes
        .iter()
        .filter(|(_, node)| node.1 && node.0 != 0)
        .map(|(id, _)| *id)
        .collect();
    for (task, (now, was)) in tasks.iter().zip(before).enumerate() {
        let wanted: BTreeSet<u32> = judged.nodes[task]
            .iter()
            .map(|node| machine.memory_of(*node))
            .collect();
        let policy = (now.get("policy"), now.get("policy_nodes"));
        let had = (was.get("policy"), was.get("policy_nodes"));
        let named: BTreeSet<u32> = bits(parse_set(policy.1)).collect();
        if shape.name.contains("--mem-bind") && shape.expect == "kept" || shape.expect == "stays" {
            if policy != had {
                wrong.push(format!(
                    "task {task}: the user's policy {had:?} became {policy:?}"
                ));
            }
            continue;
        }
        if shape.expect == "follows" {
            let own = machine.nodes_of(now.cpus());
            if policy.0 != "bind" || named != own {
                wrong.push(format!(
                    "task {task} has policy {policy:?}, its CPUs are on nodes {own:?}"
                ));
            }
        } else if shape.expect != "touched" && judged.near[task] != 0 {
            let is_all = wanted == usable;
            if is_all && policy.0 != "default"
                || !is_all && (policy.0 != "preferred-many" || named != wanted)
            {
                wrong.push(format!(
                    "task {task} has policy {policy:?}, its GPUs' memory is on {wanted:?}"
                ));
            }
        }
        let (on, all) = pages_on(now, &wanted);
        let (on_before, all_before) = pages_on(was, &wanted);
        if shape.expect != "touched"
            && judged.near[task] != 0
            && on + 64 < all
            && on * all_before.max(1) < on_before * all.max(1)
        {
            wrong.push(format!(
                "task {task}: {on} of {all} pages near its GPUs, under Slurm alone {on_before}"
            ));
        }
        if all == 0 && shape.expect != "touched" {
            wrong.push(format!("task {task}: pages are {}", now.get("pages")));
        }
        if ["best", "fits"].contains(&shape.expect.as_str())
            && judged.near[task] != 0
            && on + 64 < all
        {
            wrong.push(format!(
                "task {task}: {on} of {all} pages near its GPUs (nodes {wanted:?})"
            ));
        }
    }
    wrong
}
