//! What makes one split of a step's CPUs better than another: the order that `exclusive` follows.
//!
//! From the first to the last, and a later one never at the cost of an earlier one:
//!
//! 1. under a strict policy ([`Policy::is_strict`](crate::option::Policy::is_strict)), tasks with a local CPU;
//! 2. CPUs that were asked for;
//! 3. local CPUs in total;
//! 4. tasks wholly local;
//! 5. tasks on one NUMA node, then on one package;
//! 6. as many CPUs for each, in cores' worth: the least sum of squares, so that what is left when all have what they
//!    asked for goes to nobody alone;
//! 7. tasks below one last-level cache, then few caches for each;
//! 8. tasks that share no core;
//! 9. as many CPUs for each, one by one.
//!
//! Where Slurm's own split is as good in all of these, it is kept; else tasks come out with as much of what Slurm gave
//! them as that leaves.

use std::cmp::Reverse;
use std::ops::{AddAssign, SubAssign};

use super::near::Near;
use super::pool::Pool;
use crate::set::{CpuSet, NodeSet};

/// How good a split is, or one task of it; the greater, the better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Merit {
    /// Tasks with a local CPU, where the policy wants one for each; else 0.
    reached: usize,
    /// CPUs that were asked for.
    asked: usize,
    /// Local CPUs.
    local: usize,
    /// Tasks whose CPUs are all local and touch every GPU of theirs.
    whole: usize,
    /// Tasks on one NUMA node.  Those whose GPUs are on several are not counted: they belong on all of them.
    one_node: usize,
    /// Tasks on one package, in the same way.
    one_package: usize,
    /// The squares of the CPUs of each, in cores' worth.
    uneven_cores: Reverse<usize>,
    /// Tasks below one last-level cache, in the same way.
    one_cache: usize,
    /// The caches that each has CPUs below.
    caches: Reverse<usize>,
    /// Tasks that share no core with another.
    whole_cores: usize,
    /// The squares of the CPUs of each.
    uneven_cpus: Reverse<usize>,
}

/// What the order looks at in the CPUs of one task.
#[derive(Clone, Copy)]
pub(super) struct Facts {
    /// How many it has.
    pub(super) held: usize,
    /// How many of them are local.
    pub(super) local: usize,
    /// Whether one is near each of its GPUs that the pool has a CPU near to.
    pub(super) touches_all: bool,
    /// Whether its GPUs are on different nodes.
    pub(super) is_spanning: bool,
    /// Whether all are on one node, on one package.
    pub(super) is_on_one: [bool; 2],
    /// Below how many caches they are.
    pub(super) caches: usize,
    /// Whether another task has a CPU of a core of its.
    pub(super) shares_core: bool,
}

/// What the tasks of a split want.
#[derive(Clone, Copy)]
pub(super) struct Wants<'a> {
    /// What is near each task.
    pub(super) near: &'a [Near],
    /// Whether each task takes part in the split.
    pub(super) takes_part: &'a [bool],
    /// CPUs that each asked for.
    pub(super) asked: usize,
    /// CPUs of a core.
    pub(super) threads: usize,
    /// Whether each must have a local CPU.
    pub(super) must_reach: bool,
}

impl<'a> Wants<'a> {
    /// What is near those who take part.
    pub(super) fn takers(&self) -> impl Iterator<Item = &'a Near> + use<'a> {
        let tasks = self.near.iter().zip(self.takes_part);
        tasks
            .filter(|(_, takes_part)| **takes_part)
            .map(|(near, _)| near)
    }

    /// What one task adds to the merit of a split.
    pub(super) fn merit_of(&self, facts: Facts) -> Merit {
        if facts.held == 0 {
            return Merit::default();
        }
        let is_counted = |is_on_one: bool| usize::from(!facts.is_spanning && is_on_one);
        let [one_node, one_package] = facts.is_on_one.map(is_counted);
        Merit {
            reached: usize::from(self.must_reach && facts.local > 0),
            asked: facts.held.min(self.asked),
            local: facts.local,
            whole: usize::from(facts.local == facts.held && facts.touches_all),
            one_node,
            one_package,
            uneven_cores: Reverse(facts.held.div_ceil(self.threads).pow(2)),
            one_cache: is_counted(facts.caches == 1),
            caches: Reverse(facts.caches),
            whole_cores: usize::from(!facts.shares_core),
            uneven_cpus: Reverse(facts.held.pow(2)),
        }
    }

    /// A merit that no split of `pool` exceeds where each task has at least `least` CPUs.
    pub(super) fn bound(&self, pool: &Pool, least: usize) -> Merit {
        let takers = self.takers().count();
        let together = self.takers().filter(|near| !near.is_spanning()).count();
        let mut near_somebody = CpuSet::new();
        for near in self.takers() {
            near_somebody.extend_with(&near.cpus);
        }
        let local = near_somebody.intersection(&pool.cpus).len();
        let (cores, cpus) = self.even_shares(pool, least.max(1));
        let cells = pool.areas.iter().flat_map(|area| &area.cells);
        let widest = cells.map(|cell| cell.cpus.len()).max().unwrap_or(1).max(1);
        // Of the last core's worth one CPU may be all.
        let caches = |share: &Share| {
            let cpus = share.each.saturating_sub(1) * self.threads + 1;
            cpus.div_ceil(widest)
        };
        let below_one = cores.iter().filter(|share| caches(share) == 1);
        Merit {
            reached: if self.must_reach {
                takers.min(local)
            } else {
                0
            },
            asked: pool.cpus.len().min(takers * self.asked),
            local,
            whole: self.most_whole(pool, least.max(1), local),
            one_node: together,
            one_package: together,
            uneven_cores: Reverse(cores.iter().map(Share::squares).sum()),
            one_cache: together.min(below_one.map(|share| share.tasks).sum()),
            caches: Reverse(cores.iter().map(|share| share.tasks * caches(share)).sum()),
            whole_cores: takers,
            uneven_cpus: Reverse(cpus.iter().map(Share::squares).sum()),
        }
    }

    /// The shares of the tasks where all that is local is dealt, as evenly as can be among those that have nodes in
    /// common: in cores' worth and in CPUs.
    fn even_shares(&self, pool: &Pool, least: usize) -> (Vec<Share>, Vec<Share>) {
        let mut groups: Vec<(NodeSet, usize)> = Vec::new();
        for near in self.takers() {
            let is_in = |(nodes, _): &&mut (NodeSet, usize)| {
                near.nodes.is_subset(nodes) && (!near.nodes.is_empty() || nodes.is_empty())
            };
            if let Some((_, tasks)) = groups.iter_mut().find(is_in) {
                *tasks += 1;
                continue;
            }
            let mut group = (near.nodes.clone(), 1);
            groups.retain(|(nodes, tasks)| {
                let is_apart = !nodes.intersects(&near.nodes);
                if !is_apart {
                    group.0.extend_with(nodes);
                    group.1 += tasks;
                }
                is_apart
            });
            groups.push(group);
        }
        let (mut cores, mut cpus) = (Vec::new(), Vec::new());
        for (nodes, tasks) in groups {
            let areas = pool.areas.iter();
            let here = areas.filter(|area| area.node.is_some_and(|node| nodes.contains(node)));
            let local: usize = here.map(|area| area.cpus.len()).sum();
            let least_cores = tasks * least.div_ceil(self.threads);
            cores.extend(Share::even(
                local.div_ceil(self.threads).max(least_cores),
                tasks,
            ));
            cpus.extend(Share::even(local.max(tasks * least), tasks));
        }
        (cores, cpus)
    }

    /// No more tasks than these can be wholly local with `least` CPUs each, of `local` ones.
    fn most_whole(&self, pool: &Pool, least: usize, local: usize) -> usize {
        let takers = self.takers().count();
        if self.takers().any(|near| near.nodes.len() != 1) {
            return takers.min(local / least);
        }
        // Each has one node, so what is left of a node helps nobody elsewhere.
        let seats = pool.areas.iter().map(|area| {
            let here = |near: &&Near| area.node.is_some_and(|node| near.nodes.contains(node));
            self.takers()
                .filter(here)
                .count()
                .min(area.cpus.len() / least)
        });
        seats.sum()
    }
}

/// Tasks with as much each.
struct Share {
    tasks: usize,
    each: usize,
}

impl Share {
    /// `total` over so many tasks, as evenly as can be.
    fn even(total: usize, tasks: usize) -> [Self; 2] {
        let each = total.checked_div(tasks).unwrap_or(0);
        let more = total - each * tasks;
        [(more, each + 1), (tasks - more, each)].map(|(tasks, each)| Self { tasks, each })
    }

    fn squares(&self) -> usize {
        self.tasks * self.each.pow(2)
    }
}

impl Merit {
    /// The merit of `plan`, the CPUs of each task, within `pool`.
    pub(super) fn of(pool: &Pool, wants: Wants<'_>, plan: &[CpuSet]) -> Self {
        let mut merit = Self::default();
        let shared = pool.cores_of_several(&plan.iter().collect::<Vec<_>>());
        for ((near, takes_part), cpus) in wants.near.iter().zip(wants.takes_part).zip(plan) {
            if *takes_part && !cpus.is_empty() {
                let spread = pool.spread(cpus);
                merit += wants.merit_of(Facts {
                    held: cpus.len(),
                    local: cpus.common(&near.cpus),
                    touches_all: near.touches_all(pool, &spread.areas),
                    is_spanning: near.is_spanning(),
                    is_on_one: [spread.areas.len() == 1, spread.packages.len() == 1],
                    caches: spread.caches.len(),
                    shares_core: cpus.intersects(&shared),
                });
            }
        }
        merit
    }

    /// Its parts, the first of the order first.
    fn parts(&mut self) -> [&mut usize; 11] {
        [
            &mut self.reached,
            &mut self.asked,
            &mut self.local,
            &mut self.whole,
            &mut self.one_node,
            &mut self.one_package,
            &mut self.uneven_cores.0,
            &mut self.one_cache,
            &mut self.caches.0,
            &mut self.whole_cores,
            &mut self.uneven_cpus.0,
        ]
    }
}

impl AddAssign for Merit {
    fn add_assign(&mut self, mut other: Self) {
        for (mine, more) in self.parts().into_iter().zip(other.parts()) {
            *mine += *more;
        }
    }
}

impl SubAssign for Merit {
    fn sub_assign(&mut self, mut other: Self) {
        for (mine, less) in self.parts().into_iter().zip(other.parts()) {
            *mine = mine.saturating_sub(*less);
        }
    }
}
