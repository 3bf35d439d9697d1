//! What makes one split of a step's CPUs better than another: the order that `exclusive` follows.
//!
//! From the first to the last, and a later one never at the cost of an earlier one:
//!
//! 1. under a strict policy ([`Policy::is_strict`](crate::option::Policy::is_strict)), tasks with a local CPU;
//! 2. CPUs that were asked for;
//! 3. local CPUs in total;
//! 4. tasks wholly local;
//! 5. tasks on one NUMA node, then on one package, then below one last-level cache;
//! 6. tasks that share no core.
//!
//! Where Slurm's own split is as good in all of these, it is kept; else tasks come out even and with as much of what
//! Slurm gave them as that leaves.

use std::ops::{AddAssign, SubAssign};

use super::near::Near;
use super::pool::Pool;
use crate::set::CpuSet;

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
    /// Tasks below one last-level cache, in the same way.
    one_cache: usize,
    /// Tasks that share no core with another.
    whole_cores: usize,
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
    /// Whether all are on one node, on one package, below one cache.
    pub(super) is_on_one: [bool; 3],
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
        let [one_node, one_package, one_cache] = facts.is_on_one.map(is_counted);
        Merit {
            reached: usize::from(self.must_reach && facts.local > 0),
            asked: facts.held.min(self.asked),
            local: facts.local,
            whole: usize::from(facts.local == facts.held && facts.touches_all),
            one_node,
            one_package,
            one_cache,
            whole_cores: usize::from(!facts.shares_core),
        }
    }

    /// The merit that no split of `pool` exceeds in anything where each task has at least `least` CPUs.
    pub(super) fn bound(&self, pool: &Pool, least: usize) -> Merit {
        let takers = self.takers().count();
        let together = self.takers().filter(|near| !near.is_spanning()).count();
        let mut near_somebody = CpuSet::new();
        for near in self.takers() {
            near_somebody.extend_with(&near.cpus);
        }
        let local = near_somebody.intersection(&pool.cpus).len();
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
            one_cache: together,
            whole_cores: takers,
        }
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
                    local: cpus.intersection(&near.cpus).len(),
                    touches_all: near.touches_all(pool, cpus),
                    is_spanning: near.is_spanning(),
                    is_on_one: [spread.nodes == 1, spread.packages == 1, spread.caches == 1],
                    shares_core: cpus.intersects(&shared),
                });
            }
        }
        merit
    }

    /// Its parts, the first of the order first.
    fn parts(&mut self) -> [&mut usize; 8] {
        [
            &mut self.reached,
            &mut self.asked,
            &mut self.local,
            &mut self.whole,
            &mut self.one_node,
            &mut self.one_package,
            &mut self.one_cache,
            &mut self.whole_cores,
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
