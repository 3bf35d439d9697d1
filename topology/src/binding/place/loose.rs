//! Tasks that no single NUMA node has room for: from which nodes each gets how many CPUs.

use super::{Class, Placing};
use crate::binding::flow::Units;

/// Tasks of one class that get CPUs of several nodes.
pub(super) struct Loose<'p, 'a> {
    pub(super) placing: &'p mut Placing<'a>,
    pub(super) class: &'p Class,
}

impl Loose<'_, '_> {
    fn package(&self, area: usize) -> Option<u32> {
        self.placing
            .pool
            .areas
            .get(area)
            .and_then(|area| area.package)
    }

    /// Deals `units` to so many tasks, `each` to every one: over all areas where their GPUs are on different nodes,
    /// else over as few as can be.
    pub(super) fn share(&self, mut units: Units, tasks: u32, each: u32) -> Vec<Units> {
        let areas = self.placing.pool.areas.len();
        let block = self.placing.block.max(1);
        let mut seats = Vec::new();
        for done in 0..tasks {
            let mut seat = Units::none(areas);
            if self.class.is_spanning() {
                // Whole cores; less where it would otherwise have none there.
                let even = |held: u32| {
                    let even = held / (tasks - done);
                    if even < block {
                        even
                    } else {
                        even / block * block
                    }
                };
                let even: Vec<(usize, u32)> = units
                    .held()
                    .map(|(area, held)| (area, even(held)))
                    .collect();
                for (area, even) in even {
                    let want = each - seat.sum();
                    move_units(&mut units, &mut seat, area, even.min(want));
                }
            }
            while seat.sum() < each {
                let want = each - seat.sum();
                let packages: Vec<Option<u32>> =
                    seat.held().map(|(area, _)| self.package(area)).collect();
                let best = units.held().max_by_key(|(area, held)| {
                    // Those whose GPUs are on different nodes leave some of each for the next.
                    let most = if self.class.is_spanning() {
                        *held
                    } else {
                        (*held).min(want)
                    };
                    (
                        packages.contains(&self.package(*area)),
                        most,
                        usize::MAX - area,
                    )
                });
                let Some((area, held)) = best else {
                    break;
                };
                move_units(
                    &mut units,
                    &mut seat,
                    area,
                    if self.class.is_spanning() {
                        want.min(block)
                    } else {
                        held.min(want)
                    },
                );
            }
            seats.push(seat);
        }
        seats
    }

    /// Gives the first tasks all of `units` that they still want.
    pub(super) fn take_local(&self, seats: &mut [Units], mut units: Units) {
        let each = self.placing.sizes.each;
        for seat in seats {
            let want = each.saturating_sub(seat.sum());
            let more = units.sum().min(want);
            for share in self.share(units.clone(), 1, more) {
                for (area, taken) in share.held() {
                    move_units(&mut units, seat, area, taken);
                }
            }
        }
    }

    /// Fills a task up from what nobody has: from one package where that can be, and there from as few nodes.
    ///
    /// `of_others` is how many CPUs that could be local to somebody must be used up for want of others.
    pub(super) fn fill(&mut self, seat: &mut Units, of_others: &mut u32) {
        let each = self.placing.sizes.each;
        while seat.sum() < each {
            let want = each - seat.sum();
            let packages: Vec<Option<u32>> =
                seat.held().map(|(area, _)| self.package(area)).collect();
            let open = |area: usize| -> u32 {
                let room = self.placing.room.at(area);
                if self.placing.is_local_to_some(area) {
                    room.min(*of_others)
                } else {
                    room
                }
            };
            let areas = || 0..self.placing.pool.areas.len();
            let open_in = |package| -> u32 {
                areas()
                    .filter(|area| self.package(*area) == package)
                    .map(open)
                    .sum()
            };
            let best = areas().filter(|area| open(*area) > 0).min_by_key(|area| {
                let package = self.package(*area);
                (
                    !packages.is_empty() && !packages.contains(&package),
                    open_in(package) < want,
                    self.placing.is_local_to_some(*area),
                    open(*area) < want,
                    self.placing.distance(self.class, *area),
                    u32::MAX - open(*area),
                )
            });
            let Some(area) = best else {
                return;
            };
            let taken = open(area).min(want);
            if self.placing.is_local_to_some(area) {
                *of_others -= taken;
            }
            seat.add(area, taken);
            self.placing.room.sub(area, taken);
        }
    }
}

fn move_units(from: &mut Units, to: &mut Units, area: usize, units: u32) {
    let units = units.min(from.at(area));
    from.sub(area, units);
    to.add(area, units);
}
