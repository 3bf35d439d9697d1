//! How much of what demands want can be met from areas with so much room each, and by which area.

use smallvec::{SmallVec, smallvec};

/// Units by area; an area without an entry has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Units(SmallVec<[u32; 8]>);

impl Units {
    /// None in each of `areas` areas.
    pub(super) fn none(areas: usize) -> Self {
        Self(smallvec![0; areas])
    }

    pub(super) fn at(&self, area: usize) -> u32 {
        self.0.get(area).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, area: usize, units: u32) {
        if let Some(slot) = self.0.get_mut(area) {
            *slot += units;
        }
    }

    /// Takes `units` out; an area never holds fewer than none.
    pub(super) fn sub(&mut self, area: usize, units: u32) {
        if let Some(slot) = self.0.get_mut(area) {
            *slot = slot.saturating_sub(units);
        }
    }

    pub(super) fn sum(&self) -> u32 {
        self.0.iter().sum()
    }

    /// The areas that hold some, with how many.
    pub(super) fn held(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.0
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, units)| *units > 0)
    }
}

impl FromIterator<u32> for Units {
    fn from_iter<I: IntoIterator<Item = u32>>(units: I) -> Self {
        Self(units.into_iter().collect())
    }
}

/// Units that somebody wants, from any of some areas.
#[derive(Debug, Clone)]
pub(super) struct Demand<'a> {
    pub(super) units: u32,
    /// The areas.
    pub(super) from: &'a [usize],
    /// For a demand that should be spread over its areas: the weight of each; else empty, and it comes from where the
    /// most room is.
    pub(super) weights: &'a [u32],
    /// How many units such a demand takes of an area before it turns to the next: a core's.
    pub(super) block: u32,
}

/// What each demand gets: together as much as can be, and what an earlier one could have, no later one takes.
pub(super) fn draw(demands: &[Demand<'_>], room: &Units) -> Vec<Units> {
    draw_from_each(demands, room, room.clone())
}

/// How much each demand gets of [`draw`], wherever from.
pub(super) fn draw_amounts(demands: &[Demand<'_>], room: &Units) -> SmallVec<[u32; 16]> {
    let mut drawing = Drawing::new(demands, room, room.clone());
    for (index, demand) in demands.iter().enumerate() {
        let mut missing = demand.units - drawing.take_at_once(index);
        while missing > 0 {
            let more = drawing.displace(index, missing);
            if more == 0 {
                break;
            }
            missing -= more;
        }
    }
    drawing.drawn.iter().map(Units::sum).collect()
}

/// As [`draw`], and where there is a choice from areas that nobody has drawn from, while these still have `full` room.
pub(super) fn draw_from_each(demands: &[Demand<'_>], room: &Units, full: Units) -> Vec<Units> {
    let mut drawing = Drawing::new(demands, room, full);
    for (index, demand) in demands.iter().enumerate() {
        let has_choice = demand.from.len() > 1;
        let taken = if has_choice {
            0
        } else {
            drawing.take_at_once(index)
        };
        for _ in taken..demand.units {
            if !drawing.take(index) && drawing.displace(index, 1) == 0 {
                break;
            }
        }
    }
    drawing.drawn
}

struct Drawing<'a> {
    demands: &'a [Demand<'a>],
    full: Units,
    left: Units,
    drawn: Vec<Units>,
}

impl<'a> Drawing<'a> {
    fn new(demands: &'a [Demand<'a>], room: &Units, full: Units) -> Self {
        Self {
            demands,
            full,
            left: room.clone(),
            drawn: vec![Units::none(room.0.len()); demands.len()],
        }
    }

    /// All that a demand finds of what it wants, from the first of its areas on; how many units these are.
    fn take_at_once(&mut self, index: usize) -> u32 {
        let (Some(demand), Some(drawn)) = (self.demands.get(index), self.drawn.get_mut(index))
        else {
            return 0;
        };
        let mut taken = 0;
        for area in demand.from {
            let units = (demand.units - taken).min(self.left.at(*area));
            drawn.add(*area, units);
            self.left.sub(*area, units);
            taken += units;
        }
        taken
    }

    /// One more unit for a demand from an area with room.
    fn take(&mut self, index: usize) -> bool {
        let (Some(demand), Some(drawn)) = (self.demands.get(index), self.drawn.get_mut(index))
        else {
            return false;
        };
        let open = demand
            .from
            .iter()
            .enumerate()
            .filter(|(_, area)| self.left.at(**area) > 0);
        let best = open.min_by_key(|(place, area)| {
            let load = demand
                .weights
                .get(*place)
                .map(|weight| drawn.at(**area) / demand.block.max(1) * 64 / weight.max(&1));
            let left = self.left.at(**area);
            (load, left < self.full.at(**area), u32::MAX - left)
        });
        let Some((_, area)) = best else {
            return false;
        };
        drawn.add(*area, 1);
        self.left.sub(*area, 1);
        true
    }

    /// Up to `most` more units for a demand by way of others that have units where it could, and could have others; how
    /// many these are.
    fn displace(&mut self, index: usize, most: u32) -> u32 {
        // By whom, and from which area, each demand was reached.
        let mut reached: SmallVec<[Option<(usize, usize)>; 16]> =
            smallvec![None; self.demands.len()];
        let mut queue: SmallVec<[usize; 16]> = smallvec![index];
        let mut next = 0;
        while let Some(at) = queue.get(next).copied() {
            next += 1;
            let Some(demand) = self.demands.get(at) else {
                continue;
            };
            for area in demand.from {
                if self.left.at(*area) > 0 {
                    return self.shift(index, at, *area, most, &reached);
                }
                for other in 0..self.demands.len() {
                    let holds = self
                        .drawn
                        .get(other)
                        .is_some_and(|drawn| drawn.at(*area) > 0);
                    if let (true, true, Some(from @ None)) =
                        (holds, other != index, reached.get_mut(other))
                    {
                        *from = Some((at, *area));
                        queue.push(other);
                    }
                }
            }
        }
        0
    }

    /// Gives `at` up to `most` units of `area` that are left, whoever reached it those that it gives up for them, and so on
    /// to `start`; as many as each on the way has.
    fn shift(
        &mut self,
        start: usize,
        at: usize,
        area: usize,
        most: u32,
        reached: &[Option<(usize, usize)>],
    ) -> u32 {
        let before = |at: usize| reached.get(at).copied().flatten().filter(|_| at != start);
        let mut units = most.min(self.left.at(area));
        let mut giver = at;
        while let Some((by, given_up)) = before(giver) {
            let held = self.drawn.get(giver).map_or(0, |drawn| drawn.at(given_up));
            units = units.min(held);
            giver = by;
        }
        self.left.sub(area, units);
        let (mut at, mut area) = (at, area);
        loop {
            if let Some(drawn) = self.drawn.get_mut(at) {
                drawn.add(area, units);
            }
            let Some((by, given_up)) = before(at) else {
                return units;
            };
            if let Some(drawn) = self.drawn.get_mut(at) {
                drawn.sub(given_up, units);
            }
            (at, area) = (by, given_up);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(demands: &[(u32, &[usize])], room: &[u32]) -> Vec<Vec<u32>> {
        let demands: Vec<Demand<'_>> = demands
            .iter()
            .map(|(units, from)| Demand {
                units: *units,
                from,
                weights: &[],
                block: 1,
            })
            .collect();
        let rows = draw(&demands, &room.iter().copied().collect());
        rows.into_iter().map(|row| row.0.to_vec()).collect()
    }

    #[test]
    fn one_with_a_choice_makes_way_for_one_without() {
        assert_eq!(drawn(&[(2, &[0, 1]), (2, &[0])], &[2, 2]), [[0, 2], [2, 0]]);
        assert_eq!(
            drawn(&[(3, &[0, 1]), (2, &[1, 2]), (2, &[0])], &[2, 2, 1]),
            [[2, 1, 0], [0, 1, 1], [0, 0, 0]]
        );
    }

    #[test]
    fn an_earlier_one_keeps_what_a_later_one_wants() {
        assert_eq!(drawn(&[(3, &[0]), (2, &[0])], &[4]), [[3], [1]]);
    }
}
