//! Whether a strict policy has to refuse a step, by trying to give each task what the policy demands.

use std::collections::BTreeSet;

use crate::input::{Machine, Shape, Task};
use crate::set::{Set, bits, ones, show_set};
use crate::step::{Judged, used};

/// No task ran, and a line says why.
pub(crate) fn is_refused(shape: &Shape) -> bool {
    shape.bound.steps.is_empty() && shape.bound.said.iter().any(|line| line.contains("refused"))
}

/// A step that was expected to run where it can, and was refused although it can.
pub(crate) fn fits_all_the_same(machine: &Machine, shape: &Shape) -> Option<String> {
    let tasks = shape.alone.steps.values().next()?;
    let tasks: Vec<&Task> = tasks.values().collect();
    let users = used(&tasks, &shape.items);
    let judged = Judged::new(machine, shape, &tasks, &tasks, &users);
    (shape.expect == "fits" && fits(machine, shape, &judged)).then(|| {
        let near: Vec<String> = judged.near.iter().map(|near| show_set(*near)).collect();
        format!("CPUs near are {}: it fits", near.join(" | "))
    })
}

/// Whether each task can have CPUs of its own as its policy demands: one near each of its GPUs, and under
/// `single-numa-node` all on one node of all its GPUs.
pub(crate) fn fits(machine: &Machine, shape: &Shape, judged: &Judged) -> bool {
    let has_one_node = shape.items.contains("single-numa-node");
    let mut needs = Vec::new();
    for nodes in &judged.nodes {
        if nodes.is_empty() || has_one_node && nodes.len() > 1 {
            return false;
        }
        let each = |node: &u32| machine.cpus(&BTreeSet::from([*node])) & judged.step;
        let near: Vec<Set> = nodes.iter().map(each).collect();
        if has_one_node {
            needs.extend(
                near.iter()
                    .flat_map(|set| std::iter::repeat_n(*set, shape.asked)),
            );
        } else {
            needs.extend(near);
        }
    }
    let share = ones(judged.step) / judged.nodes.len().max(1);
    let most = shape.asked.min(share);
    judged.nodes.iter().all(|nodes| nodes.len() <= most) && can_all_be_met(&needs)
}

/// Whether there is a CPU for each need that no other has (Kuhn's augmenting paths).
fn can_all_be_met(needs: &[Set]) -> bool {
    let mut holder = [None; Set::BITS as usize];
    (0..needs.len()).all(|need| meet(need, needs, &mut holder, &mut 0))
}

fn meet(need: usize, needs: &[Set], holder: &mut [Option<usize>], seen: &mut Set) -> bool {
    for cpu in bits(needs[need]) {
        if *seen >> cpu & 1 == 1 {
            continue;
        }
        *seen |= 1 << cpu;
        if holder[cpu as usize].is_none_or(|other| meet(other, needs, holder, seen)) {
            holder[cpu as usize] = Some(need);
            return true;
        }
    }
    false
}
