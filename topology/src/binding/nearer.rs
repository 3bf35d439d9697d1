//! Of splits that are as good in the order of the objective, one with more CPUs that are nearer to the tasks' GPUs than the
//! rest of their nodes, and of these one with more of the faster CPUs, and as many for each.

use std::cmp::Reverse;
use std::ops::AddAssign;

use super::near::Near;
use super::objective::{Merit, Wants};
use super::pool::Pool;
use crate::set::CpuSet;

/// Exchanges that are tried by their merit at most: each costs as much as comparing two splits.
const MOST_TRIES: usize = 2048;

/// What decides between splits of one merit, or one task's part of it; the greater, the better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finish {
    /// CPUs that are nearer to the GPUs than the rest of the nodes.
    nearest: usize,
    /// Faster CPUs, each as often as a class is slower.
    fast: usize,
    /// The squares of how many faster CPUs each has.
    uneven: Reverse<usize>,
}

impl AddAssign for Finish {
    fn add_assign(&mut self, other: Self) {
        self.nearest += other.nearest;
        self.fast += other.fast;
        self.uneven.0 += other.uneven.0;
    }
}

impl Finish {
    /// That of `plan`, the CPUs of each task.
    pub(super) fn of(pool: &Pool, near: &[Near], plan: &[CpuSet]) -> Self {
        let mut all = Self::default();
        for (near, cpus) in near.iter().zip(plan) {
            all += Self::counted(pool, near, |of| cpus.common(of));
        }
        all
    }

    /// That of a task that has as many of some CPUs as `held` says.
    fn counted(pool: &Pool, near: &Near, held: impl Fn(&CpuSet) -> usize) -> Self {
        let mut finish = Self {
            nearest: held(&near.nearest),
            ..Self::default()
        };
        for faster in &pool.faster {
            let held = held(faster);
            finish.fast += held;
            finish.uneven.0 += held.pow(2);
        }
        finish
    }
}

/// The split that exchanges make of `plan`, of `merit`: never a worse one, and a better [`Finish`] as long as an exchange of two
/// tasks, or of a task with what nobody has, gains some.  They exchange all that they have, what they have below a cache, a
/// core, or small cores against a large one; chains over three tasks are not tried.
pub(super) fn nearer(
    pool: &Pool,
    wants: Wants<'_>,
    merit: Merit,
    plan: Vec<CpuSet>,
) -> (Merit, Vec<CpuSet>) {
    let near = wants.near;
    if pool.faster.is_empty() && near.iter().all(|near| near.nearest.is_empty()) {
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

/// One side of an exchange.
struct Side<'a> {
    /// Its place among the tasks; none for what nobody has.
    task: Option<usize>,
    near: Option<&'a Near>,
    cpus: CpuSet,
}

impl Side<'_> {
    /// What is its with `gets` for `gives`, counted as tasks' are; nothing is gained by what nobody has.
    fn finish(&self, pool: &Pool, gives: &CpuSet, gets: &CpuSet) -> Finish {
        self.near.map_or_else(Finish::default, |near| {
            Finish::counted(pool, near, |of| {
                (self.cpus.common(of) + gets.common(of)).saturating_sub(gives.common(of))
            })
        })
    }

    /// Whether it could gain by what the other has.
    fn wants(&self, pool: &Pool, other: &Self) -> bool {
        let Some(near) = self.near else {
            return false;
        };
        // An exchange of less than two makes nothing more even; all that nobody has is won.
        let least = if other.task.is_some() { 2 } else { 1 };
        let is_slower = |faster: &CpuSet| {
            let theirs = other.cpus.common(faster);
            let ours = other.task.map_or(0, |_| self.cpus.common(faster));
            theirs >= ours + least
        };
        other.cpus.intersects(&near.nearest) || pool.faster.iter().any(is_slower)
    }
}

/// The first exchange that gains and loses nothing.
fn first_better(
    pool: &Pool,
    wants: Wants<'_>,
    merit: Merit,
    plan: &[CpuSet],
    tries: &mut usize,
) -> Option<(Merit, Vec<CpuSet>)> {
    let sides = sides(pool, wants, plan);
    for (index, a) in sides.iter().enumerate() {
        for b in sides.iter().skip(index + 1) {
            let is_of_use = a.wants(pool, b) || b.wants(pool, a);
            if !is_of_use || a.cpus.intersects(&b.cpus) {
                continue;
            }
            let none = CpuSet::new();
            let mut before = a.finish(pool, &none, &none);
            before += b.finish(pool, &none, &none);
            let (parts_a, parts_b) = (parts_of(pool, &a.cpus), parts_of(pool, &b.cpus));
            for from_a in &parts_a {
                for from_b in &parts_b {
                    let mut after = a.finish(pool, from_a, from_b);
                    after += b.finish(pool, from_b, from_a);
                    if after <= before {
                        continue;
                    }
                    *tries += 1;
                    if *tries > MOST_TRIES {
                        return None;
                    }
                    let mut exchanged = plan.to_vec();
                    for (side, gives, gets) in [(a, from_a, from_b), (b, from_b, from_a)] {
                        if let Some(own) = side.task.and_then(|task| exchanged.get_mut(task)) {
                            *own = own.difference(gives).union(gets);
                        }
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

/// The tasks that take part, and what nobody has.
fn sides<'a>(pool: &Pool, wants: Wants<'a>, plan: &[CpuSet]) -> Vec<Side<'a>> {
    let mut free = pool.cpus.clone();
    for cpus in plan {
        free = free.difference(cpus);
    }
    let tasks = plan.iter().zip(wants.near).zip(wants.takes_part);
    let tasks = tasks
        .enumerate()
        .filter(|(_, (_, takes_part))| **takes_part);
    let tasks = tasks.map(|(task, ((cpus, near), _))| Side {
        task: Some(task),
        near: Some(near),
        cpus: cpus.clone(),
    });
    let free = (!free.is_empty()).then_some(Side {
        task: None,
        near: None,
        cpus: free,
    });
    tasks.chain(free).collect()
}

/// What can be exchanged of `cpus`: all, what is below each cache, each core, and small cores that are together as large as the
/// largest.
fn parts_of(pool: &Pool, cpus: &CpuSet) -> Vec<CpuSet> {
    let mut parts = vec![cpus.clone()];
    let mut add = |part: CpuSet| {
        if !part.is_empty() && !parts.contains(&part) {
            parts.push(part);
        }
    };
    let threads = pool.threads() as usize;
    for cell in pool.areas.iter().flat_map(|area| &area.cells) {
        add(cell.cpus.intersection(cpus));
        let mut small = CpuSet::new();
        for core in &cell.cores {
            let own = core.intersection(cpus);
            // Those that are one core's part alone are it.
            if !pool.faster.is_empty() && own.len() < threads {
                small.extend_with(&own);
                if small.len() >= threads {
                    add(std::mem::take(&mut small));
                }
            }
            add(own);
        }
    }
    parts
}
