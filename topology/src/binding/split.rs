//! `exclusive`: the step's CPUs split disjointly over the tasks of the host.
//!
//! Who takes part, and of which CPUs; [`place`] says from which nodes each gets how many, [`deal`] which CPUs these are,
//! [`objective`](super::objective) what is better, [`trade`](mod@super::trade) makes it better where it can.

use std::cmp::Reverse;

use smallvec::SmallVec;

use super::deal::{Most, deal};
use super::flow::Units;
use super::judge::far_gpus;
use super::near::Near;
use super::nearer::{Finish, nearer};
use super::objective::{Far, Merit, Wants, fair_shares};
use super::place::{Preference, Sizes, Taker, place};
use super::pool::{Pool, count};
use super::request::StepRequest;
use super::trade::trade;
use super::width;
use crate::machine::Machine;
use crate::set::{CpuSet, NodeSet};

/// With more tasks than these, a way to place that is no better than those before is the last that is tried: each costs
/// some 0.3 ms for 256 tasks.
const MANY: usize = 64;

/// So few tasks trade from the best of several ways to place, not from the best alone: it may lead to no better split
/// where another does.
const FEW: usize = 12;

/// From how many.
const STARTS: usize = 4;

/// The CPUs of each task; empty for a task that is left as Slurm made it and whose mask is not known.
pub(super) fn plan_exclusive(machine: &Machine, step: &StepRequest, near: &[Near]) -> Vec<CpuSet> {
    let takes_part = |near: &&Near| Claim::of(near) != Claim::None;
    let takers = near.iter().filter(takes_part).count();
    if step.step_cpus.len() < takers * step.asked.max(1) as usize {
        // Overcommitted (`srun -O`): tasks alike share, so that each has as many as it asked for.  Those that no CPU is local to
        // count, for there are none for them beside those of the others.
        return width::plan_shared(machine, step, near);
    }
    let clear_of = |left: &[Claim]| step.step_cpus.difference(&masks_of(step, near, left));
    // Keep clear of what the tasks left alone have.
    let clear = clear_of(&[Claim::Rest, Claim::None]);
    let mut plan = best(machine, step, near, &clear, Unbound::Stay);
    if clear != step.step_cpus {
        // Where somebody is worse off for it, those not known to be near their GPUs move to what is not
        // needed, if they can to their GPUs' own socket.
        let pool = clear_of(&[Claim::None]);
        let moved = best(machine, step, near, &pool, Unbound::Move);
        if served(machine, step, near, &moved) > served(machine, step, near, &plan) {
            plan = moved;
        }
        // Sharing CPUs with a task that stays is for those that would get none.
        let all = best(machine, step, near, &step.step_cpus, Unbound::Move);
        let dealt = |plan: &[CpuSet]| served(machine, step, near, plan).dealt;
        if dealt(&all) > dealt(&plan) {
            plan = all;
        }
    }
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

/// How well a plan serves the tasks, those that are left alone among them; the first counts most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Served {
    /// Tasks that are dealt CPUs at all, of those that some are local to.
    dealt: usize,
    /// CPUs asked for that are local.
    local: usize,
    /// Tasks with local CPUs only, and some near each of their GPUs that the step has any near to.
    whole: usize,
    /// Of tasks that no CPU of the step is local to, CPUs asked for on a package of their GPUs.
    at_home: usize,
    /// How far the farthest CPU is that each of these asked for, in all.
    farthest: Reverse<usize>,
}

fn served(machine: &Machine, step: &StepRequest, near: &[Near], plan: &[CpuSet]) -> Served {
    let asked = step.asked as usize;
    let mut served = Served::default();
    for ((near, cpus), request) in near.iter().zip(plan).zip(&step.tasks) {
        served.dealt += usize::from(near.is_placed() && !cpus.is_empty());
        served.local += near.cpus.common(cpus).min(asked);
        let is_whole = near.is_placed() && !cpus.is_empty() && cpus.is_subset(&near.cpus);
        // The step itself may have none near some GPU.
        let far_of = |cpus| far_gpus(machine, near, cpus).count();
        served.whole += usize::from(is_whole && far_of(cpus) == far_of(&step.step_cpus));
        if !near.is_far() || near.first_unknown().is_some() {
            continue;
        }
        let kept = request.slurm_cpus.as_ref();
        let cpus = kept.filter(|_| cpus.is_empty()).unwrap_or(cpus);
        // Of a mask that is wider than asked, the nearest.
        let nodes = machine.numa_nodes.iter().map(|node| {
            let far = Far::of(machine, &near.nodes, Some(node.id), node.package);
            (!far.is_home, far.distance, node.cpus.common(cpus))
        });
        let mut nodes: SmallVec<[_; 8]> = nodes.filter(|(_, _, cpus)| *cpus > 0).collect();
        nodes.sort_unstable();
        let (mut missing, mut farthest) = (asked, 0);
        for (is_abroad, distance, cpus) in nodes {
            if missing == 0 {
                break;
            }
            let taken = cpus.min(missing);
            missing -= taken;
            served.at_home += if is_abroad { 0 } else { taken };
            farthest = farthest.max(distance);
        }
        served.farthest.0 += farthest;
    }
    served
}

/// A split of a pool of CPUs over those who take part.
struct Split<'a> {
    machine: &'a Machine,
    step: &'a StepRequest,
    near: &'a [Near],
    pool: Pool,
    /// Whether each task takes part: those with a share, those that move, and those that nothing is local to and whose
    /// masks are not known, so that the others do not take all.
    takes_part: Vec<bool>,
    /// The even share of each.
    fair: Vec<usize>,
}

/// The best split of `cpus` that is found.
fn best(
    machine: &Machine,
    step: &StepRequest,
    near: &[Near],
    cpus: &CpuSet,
    unbound: Unbound,
) -> Vec<CpuSet> {
    let takes_part = step
        .tasks
        .iter()
        .zip(near)
        .map(|(request, near)| match Claim::of(near) {
            Claim::Share => true,
            Claim::Rest if unbound == Unbound::Move => true,
            Claim::Rest | Claim::None => request.slurm_cpus.is_none(),
        });
    let takes_part: Vec<bool> = takes_part.collect();
    if let Some(plan) = all_local(step, near, cpus, &takes_part) {
        return plan;
    }
    let pool = Pool::new(machine, cpus);
    let split = Split {
        machine,
        step,
        near,
        fair: fair_shares(&pool, near, &takes_part),
        pool,
        takes_part,
    };
    split.best()
}

/// All that is local to each, where that is enough and nothing is local to two: no other split is as good.
fn all_local(
    step: &StepRequest,
    near: &[Near],
    cpus: &CpuSet,
    takes_part: &[bool],
) -> Option<Vec<CpuSet>> {
    let mut seen = CpuSet::new();
    let mut plan = Vec::with_capacity(near.len());
    for (near, takes_part) in near.iter().zip(takes_part) {
        if !takes_part {
            plan.push(CpuSet::new());
            continue;
        }
        let local = near.cpus.intersection(cpus);
        let is_enough = local.len() >= step.asked.max(1) as usize;
        if !near.is_placed() || !is_enough || local.intersects(&seen) {
            return None;
        }
        seen.extend_with(&local);
        plan.push(local);
    }
    Some(plan)
}

impl<'a> Split<'a> {
    /// The best split that is found, or Slurm's own where that is as good; no CPUs for tasks that do not take part.
    fn best(&self) -> Vec<CpuSet> {
        let takers = self.takers();
        let Some((sizes, most)) = self.sizes(takers.len()) else {
            return vec![CpuSet::new(); self.near.len()];
        };
        let least = sizes.each as usize;
        let bound = self.wants().bound(&self.pool, least);
        let mut tried: Vec<Vec<Units>> = Vec::new();
        let mut starts: Vec<(Merit, Vec<CpuSet>)> = Vec::new();
        for (sizes, preference) in self.ways(sizes, &takers) {
            let placement = place(self.machine, &self.pool, &takers, sizes, preference);
            let is_new = !tried.contains(&placement.rows);
            let mut is_better = false;
            if is_new {
                let plan = self.of_all(deal(&self.pool, &takers, &placement.rows, most));
                let merit = self.merit(&plan);
                is_better = starts.iter().all(|(known, _)| merit > *known);
                starts.push((merit, plan));
                if placement.is_settled || merit == bound {
                    break;
                }
                tried.push(placement.rows);
            }
            if !is_better && takers.len() > MANY {
                break;
            }
        }
        // The best first; of those as good the one that was tried first.
        starts.sort_by_key(|(merit, _)| Reverse(*merit));
        starts.truncate(if takers.len() > FEW { 1 } else { STARTS });
        let mut best: Option<(Merit, Vec<CpuSet>)> = None;
        for start in starts {
            let traded = trade(&self.pool, self.wants(), least, start);
            if best.as_ref().is_none_or(|(known, _)| traded.0 > *known) {
                best = Some(traded);
            }
            if best.as_ref().is_some_and(|(merit, _)| *merit == bound) {
                break;
            }
        }
        let Some((merit, best)) = best else {
            return vec![CpuSet::new(); self.near.len()];
        };
        let (merit, best) = nearer(&self.pool, self.wants(), merit, best);
        let rank = |merit: Merit, plan: &[CpuSet]| (merit, Finish::of(&self.pool, self.near, plan));
        match self.slurms_own() {
            Some(own) if rank(self.merit(&own), &own) >= rank(merit, &best) => own,
            Some(_) | None => best,
        }
    }

    fn takers(&self) -> Vec<Taker<'a>> {
        let tasks = self.step.tasks.iter().zip(self.near).zip(&self.fair);
        let taking = tasks.zip(&self.takes_part).filter(|(_, takes)| **takes);
        taking
            .map(|(((request, near), fair), _)| {
                let is_known = near.first_unknown().is_none();
                Taker {
                    nodes: if is_known {
                        near.nodes.clone()
                    } else {
                        NodeSet::new()
                    },
                    gpus_on: if is_known { near.gpus_on() } else { Vec::new() },
                    nodes_of_gpus: near
                        .gpu_nodes
                        .iter()
                        .flatten()
                        .filter(|_| is_known && near.is_spanning())
                        .collect(),
                    mask: request.slurm_cpus.as_ref(),
                    fair: u32::try_from(*fair).unwrap_or(u32::MAX),
                }
            })
            .collect()
    }

    /// How many CPUs each is to get at least, and at most: what it asked for, or, where there are too few, no less than
    /// an even share.  None where there is no CPU for each.
    fn sizes(&self, takers: usize) -> Option<(Sizes, Most)> {
        let cpus = count(&self.pool.cpus);
        let takers = u32::try_from(takers).ok();
        let takers = takers.filter(|takers| (1..=cpus).contains(takers))?;
        let asked = self.step.asked.max(1);
        let local = u32::from(self.must_reach());
        let each = asked.min(cpus / takers);
        let most = if each == asked {
            Most::Local
        } else {
            Most::Asked(asked)
        };
        Some((Sizes { each, local }, most))
    }

    /// The ways to place that are compared where tasks cannot all be wholly local.
    fn ways(&self, sizes: Sizes, takers: &[Taker<'_>]) -> Vec<(Sizes, Preference)> {
        let mut wanted = takers.iter().map(|taker| (&taker.nodes, &taker.gpus_on));
        let first = wanted.next();
        let are_alike = wanted.all(|wanted| Some(wanted) == first);
        let threads = self.pool.threads().min(sizes.each);
        let mut promises = vec![sizes.local];
        if sizes.local > 0 && threads > 1 {
            // A whole core rather than a part of one.
            promises.insert(0, threads);
        }
        let mut ways = Vec::new();
        for local in promises {
            for (other_package, widest) in
                [(false, false), (true, false), (false, true), (true, true)]
            {
                // Which tasks come first says nothing where all are near the same.
                if widest && are_alike {
                    continue;
                }
                let preference = Preference {
                    other_package,
                    widest,
                };
                ways.push((Sizes { local, ..sizes }, preference));
            }
        }
        ways
    }

    /// Whether each task must have a CPU near each of its GPUs.
    fn must_reach(&self) -> bool {
        self.step.settings.policy.is_strict()
    }

    fn wants(&self) -> Wants<'_> {
        Wants {
            machine: self.machine,
            near: self.near,
            takes_part: &self.takes_part,
            fair: &self.fair,
            asked: self.step.asked.max(1) as usize,
            threads: self.pool.threads() as usize,
            must_reach: self.must_reach(),
        }
    }

    fn merit(&self, plan: &[CpuSet]) -> Merit {
        Merit::of(&self.pool, self.wants(), plan)
    }

    /// What those who take part got, with nothing for the others between them.
    fn of_all(&self, given: Vec<CpuSet>) -> Vec<CpuSet> {
        let mut given = given.into_iter();
        let each = self.takes_part.iter().map(|takes_part| {
            let mine = takes_part.then(|| given.next());
            mine.flatten().unwrap_or_default()
        });
        each.collect()
    }

    /// What Slurm gave those who take part, where each has CPUs of the pool to itself.
    fn slurms_own(&self) -> Option<Vec<CpuSet>> {
        let mut seen = CpuSet::new();
        let mut plan = Vec::new();
        for (request, takes_part) in self.step.tasks.iter().zip(&self.takes_part) {
            if !takes_part {
                plan.push(CpuSet::new());
                continue;
            }
            let mask = request.slurm_cpus.as_ref()?;
            let is_of_pool = !mask.is_empty() && mask.is_subset(&self.pool.cpus);
            if !is_of_pool || mask.intersects(&seen) {
                return None;
            }
            seen.extend_with(mask);
            plan.push(mask.clone());
        }
        Some(plan)
    }
}
