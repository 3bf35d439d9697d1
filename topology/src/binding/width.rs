//! `node`, `socket` and `l3`: tasks alike share their CPUs.

use std::cmp::Reverse;

use super::near::Near;
use super::request::StepRequest;
use crate::machine::Machine;
use crate::machine::speed::swiftness;
use crate::option::Width;
use crate::set::CpuSet;

/// The CPUs of each task; empty for a task that is left as Slurm made it.
pub(super) fn plan_shared(machine: &Machine, step: &StepRequest, near: &[Near]) -> Vec<CpuSet> {
    let mut holders = vec![0u32; machine.last_level_caches.len()];
    let faster = machine.faster(&step.step_cpus);
    let wide = near.iter().map(|near| match step.settings.width {
        _ if !near.is_placed() => CpuSet::new(),
        Width::Socket => in_packages(machine, step, near),
        Width::L3 => in_one_cache(machine, step, near, &faster, &mut holders),
        Width::Node | Width::Exclusive => near.cpus.clone(),
    });
    let wide: Vec<CpuSet> = wide.collect();
    // A task that wants more than its cache gets of another what nobody has.
    let mut taken = CpuSet::new();
    if step.settings.width == Width::L3 {
        wide.iter().for_each(|cpus| taken.extend_with(cpus));
    }
    let tasks = near.iter().zip(&step.tasks).zip(wide);
    tasks
        .map(|((near, request), wide)| {
            if !near.is_placed() {
                return CpuSet::new();
            }
            let cpus = fill(
                machine,
                step,
                near,
                wide,
                Others {
                    own: request.slurm_cpus.as_ref(),
                    taken: &taken,
                    faster: &faster,
                },
            );
            if step.settings.width == Width::L3 {
                taken.extend_with(&cpus);
            }
            match &request.slurm_cpus {
                Some(mask)
                    if is_kept(machine, step, near, mask, &cpus)
                        && swiftness(&faster, mask) >= swiftness(&faster, &cpus) =>
                {
                    mask.clone()
                }
                Some(_) | None => cpus,
            }
        })
        .collect()
}

/// Whether Slurm's mask stays: wholly local, at least as wide as what would be given, and under
/// [`Width::L3`] within one cache.
fn is_kept(
    machine: &Machine,
    step: &StepRequest,
    near: &Near,
    mask: &CpuSet,
    given: &CpuSet,
) -> bool {
    let caches = &machine.last_level_caches;
    let is_exact = near.nearest.is_empty() || mask.is_subset(&near.nearest);
    let is_narrow = step.settings.width != Width::L3
        || caches.is_empty()
        || (is_exact && caches.iter().any(|cache| mask.is_subset(cache)));
    is_narrow && mask.is_subset(&near.cpus) && mask.len() >= given.len()
}

/// The step's CPUs in the packages of the task's GPUs.
fn in_packages(machine: &Machine, step: &StepRequest, near: &Near) -> CpuSet {
    let mut cpus = near.cpus.clone();
    for package in machine
        .packages
        .iter()
        .filter(|package| package.numa_nodes.intersects(&near.nodes))
    {
        cpus.extend_with(&package.cpus.intersection(&step.step_cpus));
    }
    cpus
}

/// The step's CPUs of the cache that the task's GPUs hang from, where that is known; where the step has too few there, but enough of
/// another local one, of that: below one cache comes before near, as with [`Width::Exclusive`].  Else of the local one that fewest
/// tasks hold, of these one with enough CPUs, and then with the greater part of faster ones; all local ones where caches are not known.
fn in_one_cache(
    machine: &Machine,
    step: &StepRequest,
    near: &Near,
    faster: &[CpuSet],
    holders: &mut [u32],
) -> CpuSet {
    const WHOLE: usize = 1000;
    let local = |cache: &CpuSet| cache.intersection(&near.cpus);
    let is_enough = |cache: &CpuSet| cache.common(&near.cpus) >= step.asked as usize;
    let goes_by_room = !near.nearest.is_empty() && machine.last_level_caches.iter().any(is_enough);
    let best = machine
        .last_level_caches
        .iter()
        .zip(holders.iter())
        .enumerate()
        .filter(|(_, (cache, _))| cache.intersects(&near.cpus))
        .min_by_key(|(index, (cache, holders))| {
            let local = local(cache);
            let enough = is_enough(cache);
            let fast = swiftness(faster, &local) * WHOLE / local.len().max(1);
            (
                goes_by_room && !enough,
                !cache.intersects(&near.nearest),
                **holders,
                !enough,
                Reverse(fast),
                *index,
            )
        })
        .map(|(index, _)| index);
    let Some(best) = best else {
        return near.cpus.clone();
    };
    if let Some(count) = holders.get_mut(best) {
        *count += 1;
    }
    machine
        .last_level_caches
        .get(best)
        .map(local)
        .unwrap_or_default()
}

/// What decides between other CPUs that are equally near.
struct Others<'a> {
    /// Those that the task has.
    own: Option<&'a CpuSet>,
    /// Those that another has.
    taken: &'a CpuSet,
    /// Those that are faster ([`Machine::faster`]).
    faster: &'a [CpuSet],
}

/// Fills up to what was asked from the step's nearest other CPUs, whole cores: those that are not taken first, of these the
/// faster ones, and of these the task's own.
fn fill(
    machine: &Machine,
    step: &StepRequest,
    near: &Near,
    cpus: CpuSet,
    others: Others<'_>,
) -> CpuSet {
    let asked = (step.asked as usize).min(step.step_cpus.len());
    if cpus.len() >= asked {
        return cpus;
    }
    let rest = step.step_cpus.difference(&cpus);
    let mut units: Vec<CpuSet> = machine
        .cores
        .iter()
        .map(|core| core.intersection(&rest))
        .filter(|core| !core.is_empty())
        .collect();
    units.sort_by_cached_key(|unit| {
        let node = machine.nodes_of(unit).first();
        let distance = node.map_or(u32::MAX, |node| near.nearness(machine, node));
        (
            distance,
            others.taken.intersects(unit),
            // All CPUs of a core are in one class.
            Reverse(swiftness(others.faster, unit) / unit.len().max(1)),
            !others.own.is_some_and(|own| own.intersects(unit)),
            unit.first(),
        )
    });
    let mut filled = cpus;
    for unit in units {
        if filled.len() >= asked {
            break;
        }
        filled.extend_with(&unit);
    }
    filled
}
