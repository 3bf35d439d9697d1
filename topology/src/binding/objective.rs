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

use super::near::Near;
use super::pool::Pool;
use crate::set::CpuSet;

/// How good a split is; the greater, the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

impl Merit {
    /// The merit of `plan`, the CPUs of each task, within `pool`.
    pub(super) fn of(pool: &Pool, wants: Wants<'_>, plan: &[CpuSet]) -> Self {
        let mut merit = Self {
            reached: 0,
            asked: 0,
            local: 0,
            whole: 0,
            one_node: 0,
            one_package: 0,
            one_cache: 0,
            whole_cores: 0,
        };
        let shared = pool.cores_of_several(&plan.iter().collect::<Vec<_>>());
        for ((near, takes_part), cpus) in wants.near.iter().zip(wants.takes_part).zip(plan) {
            if !takes_part || cpus.is_empty() {
                continue;
            }
            let local = cpus.intersection(&near.cpus).len();
            merit.reached += usize::from(wants.must_reach && local > 0);
            merit.asked += cpus.len().min(wants.asked);
            merit.local += local;
            merit.whole += usize::from(local == cpus.len() && near.touches_all(pool, cpus));
            if !near.is_spanning() {
                let spread = pool.spread(cpus);
                merit.one_node += usize::from(spread.nodes == 1);
                merit.one_package += usize::from(spread.packages == 1);
                merit.one_cache += usize::from(spread.caches == 1);
            }
            merit.whole_cores += usize::from(!cpus.intersects(&shared));
        }
        merit
    }
}
