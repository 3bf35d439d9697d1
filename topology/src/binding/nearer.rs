//! Of splits that are as good in the order of the objective, one with more CPUs that are nearer to the tasks' GPUs than the
//! rest of their nodes.

use super::near::Near;
use super::objective::{Merit, Wants};
use super::pool::Pool;
use crate::set::CpuSet;

/// Exchanges that are tried by their merit at most: each costs as much as comparing two splits.
const MOST_TRIES: usize = 2048;

/// How many CPUs tasks have that are nearer to their GPUs than the rest of the nodes.
pub(super) fn nearest_held(near: &[Near], plan: &[CpuSet]) -> usize {
    let held = near
        .iter()
        .zip(plan)
        .map(|(near, cpus)| cpus.common(&near.nearest));
    held.sum()
}

/// The split that exchanges between two tasks make of `plan`, of `merit`: never a worse one, and with more CPUs that are
/// nearer as long as an exchange of two tasks gains some.  They exchange all that they have, what they have below a cache, or
/// a core; chains over three tasks are not tried.
pub(super) fn nearer(
    pool: &Pool,
    wants: Wants<'_>,
    merit: Merit,
    plan: Vec<CpuSet>,
) -> (Merit, Vec<CpuSet>) {
    let near = wants.near;
    if near.iter().all(|near| near.nearest.is_empty()) {
        return (merit, plan);
    }
    let (mut merit, mut plan) = (merit, plan);
    let mut tries = 0;
    while tries < MOST_TRIES {
        let Some(better) = first_better(pool, wants, merit, &plan, &mut tries) else {
            break;
        };
        (merit, plan) = better;
    }
    (merit, plan)
}

/// The first exchange that gains nearer CPUs and loses nothing.
fn first_better(
    pool: &Pool,
    wants: Wants<'_>,
    merit: Merit,
    plan: &[CpuSet],
    tries: &mut usize,
) -> Option<(Merit, Vec<CpuSet>)> {
    let near = wants.near;
    let takes_part = |task: usize| wants.takes_part.get(task).copied().unwrap_or(false);
    for a in 0..plan.len() {
        for b in a + 1..plan.len() {
            let (Some(of_a), Some(of_b)) = (plan.get(a), plan.get(b)) else {
                continue;
            };
            let (Some(near_a), Some(near_b)) = (near.get(a), near.get(b)) else {
                continue;
            };
            if !takes_part(a) || !takes_part(b) || of_a.intersects(of_b) {
                continue;
            }
            // Nothing is gained where each has its own nearest CPUs, or none that the other wants.
            let wanted = of_b.common(&near_a.nearest) + of_a.common(&near_b.nearest);
            if wanted == 0 {
                continue;
            }
            let gain = |from_a: &CpuSet, from_b: &CpuSet| {
                let won = from_b.common(&near_a.nearest) + from_a.common(&near_b.nearest);
                let lost = from_a.common(&near_a.nearest) + from_b.common(&near_b.nearest);
                won > lost
            };
            let (parts_a, parts_b) = (parts_of(pool, of_a), parts_of(pool, of_b));
            for from_a in &parts_a {
                for from_b in &parts_b {
                    if !gain(from_a, from_b) {
                        continue;
                    }
                    *tries += 1;
                    if *tries > MOST_TRIES {
                        return None;
                    }
                    let mut exchanged = plan.to_vec();
                    if let Some(of_a) = exchanged.get_mut(a) {
                        *of_a = of_a.difference(from_a).union(from_b);
                    }
                    if let Some(of_b) = exchanged.get_mut(b) {
                        *of_b = of_b.difference(from_b).union(from_a);
                    }
                    let new = Merit::of(pool, wants, &exchanged);
                    if new >= merit {
                        return Some((new, exchanged));
                    }
                }
            }
        }
    }
    None
}

/// What a task can exchange of `cpus`: all, what is below each cache, each core.
fn parts_of(pool: &Pool, cpus: &CpuSet) -> Vec<CpuSet> {
    let mut parts = vec![cpus.clone()];
    let cells = || pool.areas.iter().flat_map(|area| &area.cells);
    let cores = cells().flat_map(|cell| &cell.cores);
    for part in cells().map(|cell| &cell.cpus).chain(cores) {
        let own = part.intersection(cpus);
        if !own.is_empty() && !parts.contains(&own) {
            parts.push(own);
        }
    }
    parts
}
