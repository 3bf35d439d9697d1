//! `exclusive`: the step's CPUs split disjointly over the tasks of the host.
//!
//! First every task gets what it asked for from wherever the whole is most local, then all that is left
//! and local to somebody is handed out evenly.  Units are whole cores where there are enough.

use std::collections::BTreeMap;

use super::near::Near;
use super::request::StepRequest;
use super::transport::{Edge, Transport};
use super::width;
use crate::machine::Machine;
use crate::set::CpuSet;

/// The CPUs of each task; empty for a task that is left as Slurm made it and whose mask is not known.
pub(super) fn plan_exclusive(machine: &Machine, step: &StepRequest, near: &[Near]) -> Vec<CpuSet> {
    let takers = near.iter().filter(|near| near.is_placed()).count();
    if step.step_cpus.len() < takers {
        // Overcommitted: there is no CPU for each, so tasks alike share.
        return width::plan_shared(machine, step, near);
    }
    let clear_of = |left: &[Claim]| step.step_cpus.difference(&masks_of(step, near, left));
    // Keep clear of what the tasks left alone have.
    let clear = clear_of(&[Claim::Rest, Claim::None]);
    let mut plan = deal(machine, step, near, &clear, Unbound::Stay);
    if clear != step.step_cpus {
        // Where somebody is worse off for it, those not known to be near their GPUs move to what is not
        // needed.
        let moved = deal(
            machine,
            step,
            near,
            &clear_of(&[Claim::None]),
            Unbound::Move,
        );
        if served(step, near, &moved) > served(step, near, &plan) {
            plan = moved;
        }
        // Sharing CPUs with a task that stays is for those that would get none.
        let all = deal(machine, step, near, &step.step_cpus, Unbound::Move);
        if served(step, near, &all).0 > served(step, near, &plan).0 {
            plan = all;
        }
    }
    keep_slurms_own(step, near, &mut plan);
    plan
}

/// What of the step's CPUs a task may be given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// A share: some are known to be local to it.
    Share,
    /// What nobody needs: it has GPUs, but no CPU is known to be local to them.
    Rest,
    /// None: it has no GPU, or its CPUs are not to be changed.
    None,
}

impl Claim {
    fn of(near: &Near) -> Self {
        if near.left.is_some() {
            Self::None
        } else if near.is_placed() {
            Self::Share
        } else if near.is_far() {
            Self::Rest
        } else {
            Self::None
        }
    }
}

/// What becomes of tasks that no CPU of the step is known to be local to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unbound {
    /// They keep Slurm's mask.
    Stay,
    /// They take part, and get what is left.
    Move,
}

/// The masks of the tasks with one of these claims, which are left as Slurm made them.
fn masks_of(step: &StepRequest, near: &[Near], left: &[Claim]) -> CpuSet {
    let mut masks = CpuSet::new();
    for (request, near) in step.tasks.iter().zip(near) {
        let is_left = left.contains(&Claim::of(near));
        if let (true, Some(mask)) = (is_left, &request.slurm_cpus) {
            masks.extend_with(mask);
        }
    }
    masks
}

/// Deals whole cores; CPUs where that leaves a task with fewer than asked and there are enough.
fn deal(
    machine: &Machine,
    step: &StepRequest,
    near: &[Near],
    pool: &CpuSet,
    unbound: Unbound,
) -> Vec<CpuSet> {
    let split = Split::new(machine, step, near, pool, unbound, Unit::Core);
    let plan = split.deal();
    let asked = step.asked as usize;
    let is_short = (0..plan.len()).any(|task| {
        split.takes_part(task) && plan.get(task).is_some_and(|cpus| cpus.len() < asked)
    });
    if is_short && pool.len() >= split.takers() * asked {
        return Split::new(machine, step, near, pool, unbound, Unit::Cpu).deal();
    }
    plan
}

/// How good a plan is: tasks that are dealt CPUs at all, then CPUs asked for that are local.
fn served(step: &StepRequest, near: &[Near], plan: &[CpuSet]) -> (usize, usize) {
    let asked = step.asked as usize;
    let some = near
        .iter()
        .zip(plan)
        .filter(|(near, cpus)| near.is_placed() && !cpus.is_empty());
    let local = near
        .iter()
        .zip(plan)
        .map(|(near, cpus)| near.cpus.intersection(cpus).len().min(asked));
    (some.count(), local.sum())
}

/// A Slurm mask that is wholly local, at least as wide, and nobody else's, stays.
fn keep_slurms_own(step: &StepRequest, near: &[Near], plan: &mut [CpuSet]) {
    for task in 0..plan.len() {
        let mask = step
            .tasks
            .get(task)
            .and_then(|request| request.slurm_cpus.clone());
        let (Some(mask), Some(near), Some(given)) = (mask, near.get(task), plan.get(task)) else {
            continue;
        };
        let others = || plan.iter().enumerate().filter(|(other, _)| *other != task);
        if given.is_empty()
            || !mask.is_subset(&near.cpus)
            || mask.len() < given.len()
            || others().any(|(_, cpus)| cpus.intersects(&mask))
        {
            continue;
        }
        if let Some(slot) = plan.get_mut(task) {
            *slot = mask;
        }
    }
}

/// What is dealt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Cores where there are enough.
    Core,
    /// CPUs.
    Cpu,
}

/// Equivalent units: those of one NUMA node.
struct Cell {
    /// The node; none for CPUs that the machine has in none.
    node: Option<u32>,
    /// The units, in the order in which they are dealt.
    units: Vec<CpuSet>,
}

struct Split<'a> {
    step: &'a StepRequest,
    near: &'a [Near],
    cells: Vec<Cell>,
    edges: Vec<Vec<Edge>>,
    /// Whether each task takes part.
    dealt: Vec<bool>,
    /// Tasks without a local CPU that hold a place in the deal all the same, so that the others do not
    /// take all: those whose mask is not known, and those that move.
    held_for: Vec<bool>,
    /// Units that every task gets first.
    quota: u32,
}

impl<'a> Split<'a> {
    fn new(
        machine: &'a Machine,
        step: &'a StepRequest,
        near: &'a [Near],
        pool: &CpuSet,
        unbound: Unbound,
        unit: Unit,
    ) -> Self {
        let claims: Vec<Claim> = near.iter().map(Claim::of).collect();
        let dealt: Vec<bool> = claims.iter().map(|claim| *claim == Claim::Share).collect();
        let held_for: Vec<bool> = step
            .tasks
            .iter()
            .zip(&claims)
            .map(|(request, claim)| match claim {
                Claim::Share => false,
                Claim::Rest if unbound == Unbound::Move => true,
                Claim::Rest | Claim::None => request.slurm_cpus.is_none(),
            })
            .collect();
        let takers = dealt
            .iter()
            .zip(&held_for)
            .filter(|(a, b)| **a || **b)
            .count();
        let (cells, quota) = cut(machine, pool, step, takers, unit);
        let edges = near
            .iter()
            .map(|near| edges_of(machine, near, &cells))
            .collect();
        Self {
            step,
            near,
            cells,
            edges,
            dealt,
            held_for,
            quota,
        }
    }

    /// Deals the units and names each task's CPUs.
    fn deal(&self) -> Vec<CpuSet> {
        let units = self
            .cells
            .iter()
            .map(|cell| u32::try_from(cell.units.len()).unwrap_or(u32::MAX));
        let mut transport = Transport::new(units.collect(), &self.edges);
        for _ in 0..self.quota {
            for task in 0..self.near.len() {
                if self.takes_part(task) {
                    transport.take(task);
                }
            }
        }
        while transport.take_local(&self.dealt) {}
        // What is local to nobody goes to those that are left anyway, so that none shows fewer CPUs than
        // it may have.
        let mut turn: Vec<usize> = (0..self.near.len())
            .filter(|task| self.held_for.get(*task) == Some(&true))
            .collect();
        while !turn.is_empty() {
            turn.retain(|task| transport.take(*task));
        }
        self.name(&transport.into_held())
    }

    fn takers(&self) -> usize {
        (0..self.near.len())
            .filter(|task| self.takes_part(*task))
            .count()
    }

    fn takes_part(&self, task: usize) -> bool {
        self.dealt.get(task) == Some(&true) || self.held_for.get(task) == Some(&true)
    }

    /// Turns counts into CPUs: first units of the task's own Slurm mask, then in order.
    fn name(&self, held: &[Vec<u32>]) -> Vec<CpuSet> {
        let mut plan = vec![CpuSet::new(); self.near.len()];
        for (index, cell) in self.cells.iter().enumerate() {
            let mut wanted: Vec<u32> = held
                .iter()
                .map(|row| row.get(index).copied().unwrap_or(0))
                .collect();
            let mut free: Vec<&CpuSet> = cell.units.iter().collect();
            for (task, cpus) in plan.iter_mut().enumerate() {
                let mask = self
                    .step
                    .tasks
                    .get(task)
                    .and_then(|request| request.slurm_cpus.as_ref());
                let (Some(mask), Some(wanted)) = (mask, wanted.get_mut(task)) else {
                    continue;
                };
                free.retain(|unit| {
                    let mine = *wanted > 0 && unit.intersects(mask);
                    if mine {
                        cpus.extend_with(unit);
                        *wanted -= 1;
                    }
                    !mine
                });
            }
            let mut rest = free.into_iter();
            for (cpus, wanted) in plan.iter_mut().zip(wanted) {
                for unit in rest.by_ref().take(wanted as usize) {
                    cpus.extend_with(unit);
                }
            }
        }
        plan
    }
}

/// Cuts the pool into units by node, and says how many each task gets first.
///
/// Units are cores; CPUs where cores are too few for the tasks or for what they asked and CPUs are not.
fn cut(
    machine: &Machine,
    pool: &CpuSet,
    step: &StepRequest,
    takers: usize,
    unit: Unit,
) -> (Vec<Cell>, u32) {
    let takers = u32::try_from(takers).unwrap_or(u32::MAX).max(1);
    let cores = units_of(machine, pool);
    let threads = cores.iter().map(CpuSet::len).max().unwrap_or(1).max(1);
    let threads = u32::try_from(threads).unwrap_or(1);
    let count = |units: usize| u32::try_from(units).unwrap_or(u32::MAX);
    let (core_count, cpu_count) = (count(cores.len()), count(pool.len()));
    let asked = step.asked.max(1);
    let fits = |units: u32, each: u32| u64::from(units) >= u64::from(takers) * u64::from(each);
    let by_core = asked.div_ceil(threads);
    let enough_cores =
        fits(core_count, 1) && (fits(core_count, by_core) || !fits(cpu_count, asked));
    let whole_cores = unit == Unit::Core && enough_cores;
    let (units, each) = if whole_cores {
        (cores, by_core)
    } else {
        (pool.iter().map(CpuSet::single).collect(), asked)
    };
    let quota = each.min(count(units.len()) / takers);
    let mut cells: BTreeMap<Option<u32>, Vec<CpuSet>> = BTreeMap::new();
    for unit in units {
        cells
            .entry(machine.nodes_of(&unit).first())
            .or_default()
            .push(unit);
    }
    let cells = cells
        .into_iter()
        .map(|(node, units)| Cell { node, units })
        .collect();
    (cells, quota)
}

/// The pool's cores, those of one last-level cache side by side.
fn units_of(machine: &Machine, pool: &CpuSet) -> Vec<CpuSet> {
    let mut rest = pool.clone();
    let mut units = Vec::new();
    for core in &machine.cores {
        let mine = core.intersection(&rest);
        if !mine.is_empty() {
            rest = rest.difference(&mine);
            units.push(mine);
        }
    }
    units.extend(rest.iter().map(CpuSet::single));
    let cache = |unit: &CpuSet| {
        machine
            .last_level_caches
            .iter()
            .position(|cpus| cpus.intersects(unit))
    };
    units.sort_by_cached_key(|unit| (cache(unit), unit.first()));
    units
}

fn edges_of(machine: &Machine, near: &Near, cells: &[Cell]) -> Vec<Edge> {
    cells
        .iter()
        .map(|cell| match cell.node {
            Some(node) if near.nodes.contains(node) => Edge {
                local: true,
                cost: 0,
                // Only GPUs on several nodes give a reason to spread.
                step: if near.is_spanning() {
                    64 / near.weight(node).min(64)
                } else {
                    0
                },
            },
            Some(node) => Edge {
                local: false,
                cost: near.nearness(machine, node).min(1 << 16),
                step: 0,
            },
            None => Edge {
                local: false,
                cost: 1 << 16,
                step: 0,
            },
        })
        .collect()
}
