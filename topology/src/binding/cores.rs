//! The cores below one last-level cache while they are dealt.

use super::pool::{Cell, count};
use crate::set::CpuSet;

/// The cores below one cache, as far as they are not dealt.
pub(super) struct Table {
    /// What is free of each core, and how many CPUs it has.
    cores: Vec<(CpuSet, u32, CpuSet)>,
}

impl Table {
    pub(super) fn new(cell: &Cell) -> Self {
        let cores = cell
            .cores
            .iter()
            .map(|core| (core.clone(), count(core), core.clone()));
        Self {
            cores: cores.collect(),
        }
    }

    pub(super) fn room(&self) -> u32 {
        self.cores.iter().map(|(free, ..)| count(free)).sum()
    }

    /// How many of the CPUs are in `mask`.
    pub(super) fn kept(&self, mask: Option<&CpuSet>) -> u32 {
        mask.map_or(0, |mask| {
            self.cores
                .iter()
                .map(|(free, ..)| count(&free.intersection(mask)))
                .sum()
        })
    }

    /// Whether tasks that want so many CPUs can each have cores of their own, and `others` CPUs are left.
    pub(super) fn has_cores_for(&self, wants: Vec<u32>, others: u32) -> bool {
        let sizes = self.cores.iter().map(|(_, size, _)| *size).collect();
        left_over(sizes, wants).is_some_and(|left| left >= others)
    }

    /// A whole free core of at most `want` CPUs, or of more where that `may_exceed`.
    pub(super) fn take_core(&mut self, want: u32, may_exceed: bool) -> Option<CpuSet> {
        let fits = |size: u32| size <= want || may_exceed;
        let whole = self
            .cores
            .iter()
            .enumerate()
            .filter(|(_, (free, size, _))| count(free) == *size && fits(*size));
        let best =
            whole.min_by_key(|(index, (_, size, _))| (*size > want, u32::MAX - size, *index));
        let index = best.map(|(index, _)| index)?;
        self.cores
            .get_mut(index)
            .map(|(free, ..)| std::mem::take(free))
    }

    /// `want` CPUs: of a core that is shared already and has as many free, else of a whole one, else of several.
    pub(super) fn take_cpus(&mut self, want: u32, mask: Option<&CpuSet>) -> CpuSet {
        let mut taken = CpuSet::new();
        while count(&taken) < want {
            let missing = want - count(&taken);
            let open = self.cores.iter_mut().filter(|(free, ..)| !free.is_empty());
            let best = open.min_by_key(|(free, size, _)| {
                let is_shared = count(free) < *size;
                let is_kept = mask.is_some_and(|mask| mask.intersects(free));
                (
                    count(free) < missing,
                    !is_shared,
                    !is_kept,
                    count(free),
                    free.first(),
                )
            });
            let Some((free, ..)) = best else {
                break;
            };
            let mine: CpuSet = match mask {
                Some(mask) => {
                    let own = free.intersection(mask);
                    own.iter()
                        .chain(free.difference(&own).iter())
                        .take(missing as usize)
                        .collect()
                }
                None => free.iter().take(missing as usize).collect(),
            };
            *free = free.difference(&mine);
            taken.extend_with(&mine);
        }
        taken
    }

    /// A free CPU of a core that is dealt in part, with that core.
    pub(super) fn odd_cpus(&self) -> Vec<(u32, CpuSet)> {
        let odd = self
            .cores
            .iter()
            .filter(|(free, size, _)| count(free) < *size);
        odd.flat_map(|(free, _, core)| {
            free.iter()
                .map(move |cpu| (cpu, core.clone()))
                .collect::<Vec<_>>()
        })
        .collect()
    }

    /// Takes one CPU.
    pub(super) fn take(&mut self, cpu: u32) {
        for (free, ..) in &mut self.cores {
            free.remove(cpu);
        }
    }

    /// Any free CPU.
    pub(super) fn take_one(&mut self) -> Option<CpuSet> {
        let (free, ..) = self.cores.iter_mut().find(|(free, ..)| !free.is_empty())?;
        let cpu = CpuSet::single(free.first()?);
        *free = free.difference(&cpu);
        Some(cpu)
    }
}

/// What is left of parts of these `sizes` when each of `wants` has whole ones to itself; none where it cannot.
pub(super) fn left_over(mut sizes: Vec<u32>, mut wants: Vec<u32>) -> Option<u32> {
    sizes.sort_unstable();
    wants.sort_unstable();
    for mut want in wants.into_iter().rev() {
        while want > 0 {
            want = want.saturating_sub(sizes.pop()?);
        }
    }
    Some(sizes.iter().sum())
}
