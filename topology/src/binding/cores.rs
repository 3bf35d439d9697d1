//! The cores below one last-level cache while they are dealt.

use std::borrow::Cow;

use super::pool::{Cell, count};
use crate::set::CpuSet;

/// The cores below one cache, as far as they are not dealt.
pub(super) struct Table<'a> {
    slots: Vec<Slot<'a>>,
}

/// One core.
struct Slot<'a> {
    /// All of it.
    core: &'a CpuSet,
    size: u32,
    /// What of it is not dealt.
    free: Cow<'a, CpuSet>,
    /// How many CPUs these are.
    left: u32,
}

impl Slot<'_> {
    fn is_whole(&self) -> bool {
        self.left == self.size
    }

    fn keep(&mut self, free: CpuSet) {
        self.left = count(&free);
        self.free = Cow::Owned(free);
    }
}

impl<'a> Table<'a> {
    pub(super) fn new(cell: &'a Cell) -> Self {
        let slot = |core: &'a CpuSet| Slot {
            core,
            size: count(core),
            free: Cow::Borrowed(core),
            left: count(core),
        };
        Self {
            slots: cell.cores.iter().map(slot).collect(),
        }
    }

    pub(super) fn room(&self) -> u32 {
        self.slots.iter().map(|slot| slot.left).sum()
    }

    /// The sizes of the cores that nobody has a CPU of.
    pub(super) fn whole_cores(&self) -> impl Iterator<Item = u32> + '_ {
        let whole = self.slots.iter().filter(|slot| slot.is_whole());
        whole.map(|slot| slot.size)
    }

    /// The CPUs of these.
    pub(super) fn room_in_cores(&self) -> u32 {
        self.whole_cores().sum()
    }

    /// How many of the CPUs are in `mask`.
    pub(super) fn kept(&self, mask: Option<&CpuSet>) -> u32 {
        mask.map_or(0, |mask| {
            let kept = self.slots.iter();
            kept.map(|slot| u32::try_from(slot.free.common(mask)).unwrap_or(u32::MAX))
                .sum()
        })
    }

    /// Whether tasks that want so many CPUs can each have cores of their own, and `others` CPUs are left.
    pub(super) fn has_cores_for(&self, wants: Vec<u32>, others: u32) -> bool {
        let sizes = self.slots.iter().map(|slot| slot.size).collect();
        left_over(sizes, wants).is_some_and(|left| left >= others)
    }

    /// A whole free core of at most `want` CPUs, or of more where that `may_exceed`.
    pub(super) fn take_core(&mut self, want: u32, may_exceed: bool) -> Option<&'a CpuSet> {
        let fits = |size: u32| size <= want || may_exceed;
        let whole = self.slots.iter_mut().filter(|slot| slot.is_whole());
        let best = whole
            .filter(|slot| fits(slot.size))
            .min_by_key(|slot| (slot.size > want, u32::MAX - slot.size));
        let slot = best?;
        slot.keep(CpuSet::new());
        Some(slot.core)
    }

    /// `want` CPUs: of a core that is shared already and has as many free, else of a whole one, else of several.
    pub(super) fn take_cpus(&mut self, want: u32, mask: Option<&CpuSet>) -> CpuSet {
        let mut taken = CpuSet::new();
        while count(&taken) < want {
            let missing = want - count(&taken);
            let open = self.slots.iter_mut().filter(|slot| slot.left > 0);
            let best = open.min_by_key(|slot| {
                let is_kept = mask.is_some_and(|mask| mask.intersects(&slot.free));
                (
                    slot.left < missing,
                    slot.is_whole(),
                    !is_kept,
                    slot.left,
                    slot.free.first(),
                )
            });
            let Some(slot) = best else {
                break;
            };
            let mine: CpuSet = match mask {
                Some(mask) => {
                    let own = slot.free.intersection(mask);
                    own.iter()
                        .chain(slot.free.difference(&own).iter())
                        .take(missing as usize)
                        .collect()
                }
                None => slot.free.iter().take(missing as usize).collect(),
            };
            slot.keep(slot.free.difference(&mine));
            taken.extend_with(&mine);
        }
        taken
    }

    /// A free CPU of a core that is dealt in part, with that core.
    pub(super) fn odd_cpus(&self) -> Vec<(u32, &'a CpuSet)> {
        let odd = self.slots.iter().filter(|slot| !slot.is_whole());
        odd.flat_map(|slot| slot.free.iter().map(|cpu| (cpu, slot.core)))
            .collect()
    }

    /// Takes one CPU.
    pub(super) fn take(&mut self, cpu: u32) {
        let mut slots = self.slots.iter_mut();
        if let Some(slot) = slots.find(|slot| slot.free.contains(cpu)) {
            slot.keep(slot.free.difference(&CpuSet::single(cpu)));
        }
    }

    /// Any free CPU.
    pub(super) fn take_one(&mut self) -> Option<CpuSet> {
        let slot = self.slots.iter_mut().find(|slot| slot.left > 0)?;
        let cpu = CpuSet::single(slot.free.first()?);
        slot.keep(slot.free.difference(&cpu));
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
