//! From which NUMA nodes each task of a split gets how many CPUs.
//!
//! Tasks whose GPUs are on the same nodes are alike, so their number is what counts: how many of a class find all that
//! they asked for on a node of theirs (`seat_local`), how many of the others find it on a node of nobody's
//! (`seat_elsewhere`), and only what is left then gets CPUs of several nodes (`Loose`), of one package where that can be.

mod loose;

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::flow::{Demand, Units, draw, draw_amounts, draw_from_each};
use super::pool::{Area, Pool, count};
use crate::machine::Machine;
use crate::set::{CpuSet, NodeSet};
use loose::Loose;

/// A task that takes part.
pub(super) struct Taker<'a> {
    /// The nodes of its GPUs, whether the pool has CPUs there or not; empty where that of one is unknown.
    pub(super) nodes: NodeSet,
    /// How many of its GPUs are on each node, where they are on different ones; else empty.
    pub(super) gpus_on: Vec<(u32, u32)>,
    /// The nodes of each of its GPUs, where they are on different ones; else empty.
    pub(super) nodes_of_gpus: Vec<&'a NodeSet>,
    /// What Slurm gave it; none where that is not known.
    pub(super) mask: Option<&'a CpuSet>,
    /// CPUs of whole cores that it has where what is local is dealt evenly.
    pub(super) fair: u32,
}

impl Taker<'_> {
    /// Whether an area is local to it.
    pub(super) fn is_near(&self, area: &Area) -> bool {
        area.is_of(&self.nodes)
    }

    /// Whether its GPUs are on different nodes.
    pub(super) fn is_spanning(&self) -> bool {
        !self.gpus_on.is_empty()
    }
}

/// Tasks that want the same.
struct Class {
    /// Indexes of its takers.
    members: Vec<usize>,
    /// The nodes of their GPUs.
    nodes: NodeSet,
    /// The areas that are local to them.
    areas: Vec<usize>,
    /// For GPUs on different nodes, how many are on each of `areas`; else empty.
    weights: Vec<u32>,
    /// With CPUs of each of these it has one near each of its GPUs that the pool has any near to.
    reaches: Vec<Vec<usize>>,
}

impl Class {
    fn size(&self) -> u32 {
        u32::try_from(self.members.len()).unwrap_or(u32::MAX)
    }

    fn is_spanning(&self) -> bool {
        !self.weights.is_empty()
    }
}

/// How many CPUs each task gets at least.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// From anywhere.
    pub(super) each: u32,
    /// Near each of its GPUs that there are any near to; 0 where none are promised.
    pub(super) local: u32,
}

/// What is tried first where tasks cannot all be wholly local; none of them is always the best.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Preference {
    /// Tasks that go to another node go to another package first, and leave the room on their own to those that
    /// need CPUs of several nodes.
    pub(super) other_package: bool,
    /// Tasks with the most local nodes are the first to be wholly local, not those with the least choice.
    pub(super) widest: bool,
}

/// How many CPUs each taker gets of each area.
pub(super) struct Placement {
    /// One row per taker, each of `Sizes::each` in all.
    pub(super) rows: Vec<Units>,
    /// Whether each is wholly local, so that no preference changes anything.
    pub(super) is_settled: bool,
}

/// Places `takers`; the pool must have `sizes.each` CPUs for each.
pub(super) fn place(
    machine: &Machine,
    pool: &Pool,
    takers: &[Taker<'_>],
    sizes: Sizes,
    preference: Preference,
) -> Placement {
    let mut classes = classes_of(pool, takers);
    if preference.widest {
        classes.reverse();
    }
    let mut placing = Placing {
        machine,
        pool,
        classes: &classes,
        sizes,
        preference,
        block: pool.threads(),
        room: pool.areas.iter().map(|area| count(&area.cpus)).collect(),
        whole: vec![0; classes.len()],
        seats: vec![Vec::new(); classes.len()],
        elsewhere: vec![0; classes.len()],
        seats_in: [true, false].map(|by_core| seats_in(pool, sizes.each, by_core)),
    };
    placing.count_whole();
    placing.seat_local();
    let is_settled = (0..classes.len()).all(|class| placing.unseated_rest(class) == 0);
    if !is_settled {
        placing.seat_elsewhere();
        placing.seat_on_other_packages();
    }
    placing.place_loose();
    let seats = placing.seats;
    let mut rows = vec![Units::none(pool.areas.len()); takers.len()];
    for (class, seats) in classes.iter().zip(seats) {
        for (taker, seat) in assign(pool, takers, class, seats) {
            if let Some(row) = rows.get_mut(taker) {
                *row = seat;
            }
        }
    }
    Placement { rows, is_settled }
}

fn classes_of(pool: &Pool, takers: &[Taker<'_>]) -> Vec<Class> {
    let mut classes: Vec<Class> = Vec::new();
    for (index, taker) in takers.iter().enumerate() {
        let areas = pool.areas_of(&taker.nodes);
        let gpus_on = |area: &usize| {
            let node = pool.areas.get(*area).and_then(|area| area.node);
            let on = taker.gpus_on.iter().find(|(on, _)| Some(*on) == node);
            on.map_or(1, |(_, gpus)| *gpus)
        };
        let weights: Vec<u32> = if !taker.is_spanning() || areas.len() < 2 {
            Vec::new()
        } else {
            areas.iter().map(gpus_on).collect()
        };
        let reaches = reaches_of(pool, taker, &areas);
        let alike = |class: &&mut Class| {
            class.areas == areas
                && class.weights == weights
                && class.reaches == reaches
                && class.nodes == taker.nodes
        };
        match classes.iter_mut().find(alike) {
            Some(class) => class.members.push(index),
            None => classes.push(Class {
                members: vec![index],
                nodes: taker.nodes.clone(),
                areas,
                weights,
                reaches,
            }),
        }
    }
    // Those with the least choice first.
    classes.sort_by_key(|class| (class.areas.len(), class.is_spanning()));
    classes
}

/// What a task must have CPUs of, so that one is near each of its GPUs: one of each of these sets of areas.
fn reaches_of(pool: &Pool, taker: &Taker<'_>, areas: &[usize]) -> Vec<Vec<usize>> {
    let of_gpus = taker.nodes_of_gpus.iter();
    let mut sets: Vec<Vec<usize>> = of_gpus.map(|nodes| pool.areas_of(nodes)).collect();
    sets.retain(|set| !set.is_empty());
    // Those with the least choice first: what is in one of them is in a wider one too.
    sets.sort_by_key(Vec::len);
    let mut least: Vec<Vec<usize>> = Vec::new();
    for set in sets {
        let holds = |known: &Vec<usize>| known.iter().all(|area| set.contains(area));
        if !least.iter().any(holds) {
            least.push(set);
        }
    }
    if least.is_empty() && !areas.is_empty() {
        least.push(areas.to_vec());
    }
    least
}

struct Placing<'a> {
    machine: &'a Machine,
    pool: &'a Pool,
    classes: &'a [Class],
    sizes: Sizes,
    preference: Preference,
    /// CPUs of a core.
    block: u32,
    /// CPUs of each area that nobody has yet.
    room: Units,
    /// Of each class, how many tasks can have local CPUs only.
    whole: Vec<u32>,
    /// The seats of each class so far; what each holds of which area.
    seats: Vec<Vec<Units>>,
    /// How many seats of each class have nothing that is local to it.
    elsewhere: Vec<u32>,
    /// How many tasks each area could take whole, were it empty: in whole cores, and in any.
    seats_in: [Units; 2],
}

impl<'a> Placing<'a> {
    /// Counts the tasks that can have local CPUs only, all at once.
    fn count_whole(&mut self) {
        for class in 0..self.classes.len() {
            let Some(size) = self
                .classes
                .get(class)
                .filter(|class| !class.areas.is_empty())
                .map(Class::size)
            else {
                continue;
            };
            // The most for which there is room.
            let (mut low, mut high) = (0, size);
            let mut guess = size;
            while low < high {
                self.set_whole(class, guess);
                if self.is_room_for_whole() {
                    low = guess;
                } else {
                    high = guess - 1;
                }
                guess = (low + high).div_ceil(2);
            }
            self.set_whole(class, low);
        }
    }

    fn set_whole(&mut self, class: usize, tasks: u32) {
        if let Some(whole) = self.whole.get_mut(class) {
            *whole = tasks;
        }
    }

    fn is_room_for_whole(&self) -> bool {
        let whole = |class| self.whole.get(class).copied().unwrap_or(0);
        let size = |class| self.classes.get(class).map_or(0, Class::size);
        let wanted = self.firm_demands(|class| (whole(class), size(class) - whole(class)));
        are_met(&wanted.demands, &draw_amounts(&wanted.demands, &self.room))
    }

    /// Local CPUs promised to each task of a class.
    fn promised(&self, class: &Class) -> u32 {
        let promises = self.near_each(class, 1, self.sizes.local);
        promises.map(|demand| demand.units).sum()
    }

    /// `local` CPUs near each GPU of so many tasks of a class, or, where a task has fewer CPUs than that, near some.
    fn near_each(
        &self,
        class: &'a Class,
        tasks: u32,
        local: u32,
    ) -> impl Iterator<Item = Demand<'a>> + use<'a> {
        let each = self.sizes.each;
        let sets = u32::try_from(class.reaches.len()).unwrap_or(u32::MAX);
        let (of_each, of_all) = if sets <= each {
            (each.checked_div(sets).unwrap_or(0).min(local), 0)
        } else {
            (0, local)
        };
        let demand = move |from: &'a [usize], units| Demand {
            units: tasks * units,
            from,
            weights: &[],
            block: 1,
        };
        let of_sets = class.reaches.iter().map(move |set| demand(set, of_each));
        of_sets.chain(std::iter::once(demand(&class.areas, of_all)))
    }

    /// Tasks that get all they asked for on one node of theirs; whole cores as far as there are any.
    fn seat_local(&mut self) {
        // A task with one local node takes no more there than it could have anyway.
        let has_choice = self.classes.iter().any(|class| class.areas.len() > 1);
        for by_core in [true, false] {
            if (0..self.classes.len()).all(|class| self.unseated_whole(class) == 0) {
                return;
            }
            let full = self.seats_in(by_core);
            let seats = self.seats_left(&full);
            let demands: Vec<Demand<'_>> = (0..self.classes.len())
                .filter_map(|class| {
                    let of = self.classes.get(class)?;
                    let units = if of.is_spanning() {
                        0
                    } else {
                        self.unseated_whole(class)
                    };
                    Some(Demand {
                        units,
                        from: &of.areas,
                        weights: &[],
                        block: 1,
                    })
                })
                .collect();
            for (class, row) in draw_from_each(&demands, &seats, full).iter().enumerate() {
                for (area, seats) in row.held() {
                    self.seat_while(class, area, seats, |placing| {
                        !has_choice || placing.is_rest_met()
                    });
                }
            }
        }
    }

    /// How many tasks each area could take whole, were it empty; in whole cores or not.
    fn seats_in(&self, by_core: bool) -> Units {
        let [cores, any] = &self.seats_in;
        if by_core { cores } else { any }.clone()
    }

    /// How many more tasks each area could take whole, of the `seats` that it has.
    fn seats_left(&self, seats: &Units) -> Units {
        let each = self.sizes.each.max(1);
        let areas = self.pool.areas.iter().enumerate();
        areas
            .map(|(index, area)| {
                let taken = (count(&area.cpus) - self.room.at(index)) / each;
                seats
                    .at(index)
                    .saturating_sub(taken)
                    .min(self.room.at(index) / each)
            })
            .collect()
    }

    /// A seat with all that a task asked for on one area.
    fn seat_on(&self, area: usize) -> Units {
        let mut seat = Units::none(self.pool.areas.len());
        seat.add(area, self.sizes.each);
        seat
    }

    /// Gives a task of a class a seat.
    fn seat(&mut self, class: usize, seat: Units) {
        for (area, units) in seat.held() {
            self.room.sub(area, units);
        }
        self.count_elsewhere(class, &seat, |seats| seats + 1);
        if let Some(seats) = self.seats.get_mut(class) {
            seats.push(seat);
        }
    }

    /// Takes the last seat of a class back.
    fn unseat(&mut self, class: usize) {
        let Some(seat) = self.seats.get_mut(class).and_then(Vec::pop) else {
            return;
        };
        for (area, units) in seat.held() {
            self.room.add(area, units);
        }
        self.count_elsewhere(class, &seat, |seats| seats.saturating_sub(1));
    }

    /// Counts a seat with nothing that is local to its class.
    fn count_elsewhere(&mut self, class: usize, seat: &Units, count: impl Fn(u32) -> u32) {
        let of = self.classes.get(class);
        let is_elsewhere = of.is_some_and(|of| of.areas.iter().all(|area| seat.at(*area) == 0));
        if let Some(elsewhere) = self.elsewhere.get_mut(class).filter(|_| is_elsewhere) {
            *elsewhere = count(*elsewhere);
        }
    }

    fn seated(&self, class: usize) -> u32 {
        let seats = self.seats.get(class).map_or(0, Vec::len);
        u32::try_from(seats).unwrap_or(u32::MAX)
    }

    fn seated_elsewhere(&self, class: usize) -> u32 {
        self.elsewhere.get(class).copied().unwrap_or(0)
    }

    /// Tasks of a class that can be wholly local and are on no single node yet.
    fn unseated_whole(&self, class: usize) -> u32 {
        let whole = self.whole.get(class).copied().unwrap_or(0);
        whole.saturating_sub(self.seated(class) - self.seated_elsewhere(class))
    }

    /// Tasks of a class that cannot be wholly local and are nowhere yet.
    fn unseated_rest(&self, class: usize) -> u32 {
        let size = self.classes.get(class).map_or(0, Class::size);
        size - self.seated(class) - self.unseated_whole(class)
    }

    /// What tasks must have of what is local to them, of which `tasks` says how many of each class have local CPUs only, and
    /// how many others there are: some near each GPU of the first, what is promised to each of the others, and then all
    /// that the first asked for.
    fn firm_demands(&self, tasks: impl Fn(usize) -> (u32, u32)) -> LocalDemands<'a> {
        let classes: &'a [Class] = self.classes;
        let mut wanted = LocalDemands::default();
        let near_each = |class: &Class| self.sizes.local.max(u32::from(class.is_spanning()));
        // Those with the least choice first: they are met at once.
        for (index, class) in classes.iter().enumerate() {
            let (whole, rest) = tasks(index);
            let touching = self.near_each(class, whole, near_each(class));
            wanted.extend(Portion::Whole, index, touching);
            let promises = self.near_each(class, rest, self.sizes.local);
            wanted.extend(Portion::Promised, index, promises);
        }
        for (index, class) in classes.iter().enumerate() {
            let (whole, _) = tasks(index);
            let held = self.near_each(class, whole, near_each(class));
            let held: u32 = held.map(|demand| demand.units).sum();
            let more = self.spread(class, whole * self.sizes.each - held);
            wanted.extend(Portion::Whole, index, std::iter::once(more));
        }
        wanted.firm = wanted.demands.len();
        wanted
    }

    /// What the tasks without a seat want of what is local to them: what they must have, then all that those can have that
    /// cannot be whole.
    fn local_demands(&self) -> LocalDemands<'a> {
        let classes: &'a [Class] = self.classes;
        let mut wanted =
            self.firm_demands(|class| (self.unseated_whole(class), self.unseated_rest(class)));
        let placed = classes
            .iter()
            .enumerate()
            .filter(|(_, class)| !class.areas.is_empty());
        for (index, class) in placed {
            let units = self.unseated_rest(index) * (self.sizes.each - self.promised(class));
            let more = self.spread(class, units);
            wanted.extend(Portion::More, index, std::iter::once(more));
        }
        wanted
    }

    /// So many units that are local to a class, of each of its areas as many as GPUs are there.
    fn spread(&self, class: &'a Class, units: u32) -> Demand<'a> {
        Demand {
            units,
            from: &class.areas,
            weights: &class.weights,
            block: self.block,
        }
    }

    fn is_rest_met(&self) -> bool {
        let wanted = self.local_demands();
        let firm = wanted.firm();
        are_met(firm, &draw_amounts(firm, &self.room))
    }

    /// How many CPUs will be local in the end; none where a task that can be whole would not be, or a promise broken.
    fn local_in_the_end(&self) -> Option<u32> {
        let wanted = self.local_demands();
        let drawn = draw_amounts(&wanted.demands, &self.room);
        if !are_met(wanted.firm(), &drawn) {
            return None;
        }
        let each = self.sizes.each;
        let captured: u32 = drawn.iter().sum();
        let classes = || self.classes.iter().enumerate();
        let loose: u32 = classes()
            .map(|(class, _)| self.unseated_whole(class) + self.unseated_rest(class))
            .sum();
        let is_wanted = |area: &usize| {
            classes().any(|(index, class)| {
                class.areas.contains(area) && class.size() > self.seated_elsewhere(index)
            })
        };
        let wanted: u32 = (0..self.pool.areas.len())
            .filter(is_wanted)
            .map(|area| self.room.at(area))
            .sum();
        let seated: u32 = classes()
            .map(|(class, _)| self.seated(class) - self.seated_elsewhere(class))
            .sum();
        let spare = (self.room.sum() + captured).saturating_sub(loose * each);
        Some(seated * each + wanted.min(spare))
    }

    /// Tasks that cannot be wholly local get all they asked for on one other node, where no CPU that could be local to
    /// somebody is lost by it.
    fn seat_elsewhere(&mut self) {
        let Some(goal) = self.local_in_the_end() else {
            return;
        };
        // The last of a class may be what makes use of the CPUs left on its node; that with the least to use goes first.
        for keep in [1, 0] {
            let mut order: Vec<usize> = (0..self.classes.len()).collect();
            order.sort_by_key(|class| {
                let areas = self.classes.get(*class).map(|class| &class.areas);
                areas
                    .into_iter()
                    .flatten()
                    .map(|area| self.room.at(*area))
                    .sum::<u32>()
            });
            order.retain(|class| {
                let of = self.classes.get(*class);
                let is_free = of.is_some_and(|of| self.promised(of) == 0);
                is_free && self.unseated_rest(*class) > keep
            });
            for class in order {
                for area in self.areas_by_nearness(class) {
                    for by_core in [true, false] {
                        let seats = self
                            .seats_left(&self.seats_in(by_core))
                            .at(area)
                            .min(self.unseated_rest(class).saturating_sub(keep));
                        self.seat_while_local(class, area, seats, goal);
                    }
                }
            }
        }
    }

    /// Tasks whose own package has no room for them get all they asked for on another, in the same way.
    fn seat_on_other_packages(&mut self) {
        let Some(goal) = self.local_in_the_end() else {
            return;
        };
        let packages: BTreeSet<Option<u32>> =
            self.pool.areas.iter().map(|area| area.package).collect();
        for class in 0..self.classes.len() {
            for package in &packages {
                while self.wants_other_package(class, *package) {
                    let seat = self.seat_of_package(class, *package);
                    if seat.sum() < self.sizes.each {
                        break;
                    }
                    self.seat(class, seat);
                    if self.local_in_the_end().is_none_or(|local| local < goal) {
                        self.unseat(class);
                        break;
                    }
                }
            }
        }
    }

    /// Whether a task of a class has no seat yet, none to expect on a package of its own, and `package` is another.
    fn wants_other_package(&self, class: usize, package: Option<u32>) -> bool {
        let Some(of) = self
            .classes
            .get(class)
            .filter(|class| self.promised(class) == 0)
        else {
            return false;
        };
        let package_of = |area: usize| self.pool.areas.get(area).map(|area| area.package);
        let is_home = |area: usize| {
            of.areas
                .iter()
                .any(|home| package_of(*home) == package_of(area))
        };
        let home: u32 = (0..self.pool.areas.len())
            .filter(|area| is_home(*area))
            .map(|area| self.room.at(area))
            .sum();
        let is_other = of
            .areas
            .iter()
            .all(|home| package_of(*home) != Some(package));
        let waiting = self.unseated_rest(class);
        let is_there = |of: &Class| of.areas.iter().any(|area| is_home(*area));
        let taken: u32 = (0..self.classes.len())
            .filter(|other| self.classes.get(*other).is_some_and(is_there))
            .map(|other| self.unseated_whole(other) * self.sizes.each)
            .sum();
        is_other && waiting > 0 && home < taken + waiting * self.sizes.each
    }

    /// What one task gets of a package: of nodes that are local to nobody first, and of as few as can be.
    fn seat_of_package(&self, class: usize, package: Option<u32>) -> Units {
        let mut seat = Units::none(self.pool.areas.len());
        let mut areas = self.areas_by_nearness(class);
        areas.retain(|area| {
            self.pool
                .areas
                .get(*area)
                .is_some_and(|area| area.package == package)
        });
        areas.sort_by_key(|area| (self.is_local_to_some(*area), u32::MAX - self.room.at(*area)));
        for area in areas {
            seat.add(area, self.room.at(area).min(self.sizes.each - seat.sum()));
        }
        seat
    }

    /// As many of `most` tasks of a class on `area` as leave `goal` CPUs local.
    fn seat_while_local(&mut self, class: usize, area: usize, most: u32, goal: u32) {
        self.seat_while(class, area, most, |placing| {
            placing
                .local_in_the_end()
                .is_some_and(|local| local >= goal)
        });
    }

    /// As many of `most` tasks of a class on `area` as leave all well.
    fn seat_while(
        &mut self,
        class: usize,
        area: usize,
        most: u32,
        is_well: impl Fn(&Self) -> bool,
    ) {
        let (mut seated, mut step) = (0, most);
        while step > 0 && seated < most {
            let more = step.min(most - seated);
            for _ in 0..more {
                self.seat(class, self.seat_on(area));
            }
            if is_well(self) {
                seated += more;
            } else {
                for _ in 0..more {
                    self.unseat(class);
                }
                step /= 2;
            }
        }
    }

    /// The areas that are not local to a class: those local to nobody first, then the nearest.
    fn areas_by_nearness(&self, class: usize) -> Vec<usize> {
        let Some(class) = self.classes.get(class) else {
            return Vec::new();
        };
        let mut areas: Vec<usize> = (0..self.pool.areas.len())
            .filter(|area| !class.areas.contains(area))
            .collect();
        let package_of = |area: usize| self.pool.areas.get(area).map(|area| area.package);
        let homes: Vec<_> = class.areas.iter().map(|home| package_of(*home)).collect();
        areas.sort_by_key(|area| {
            let is_home = homes.contains(&package_of(*area));
            (
                self.is_local_to_some(*area),
                self.preference.other_package && is_home,
                self.distance(class, *area),
                *area,
            )
        });
        areas
    }

    fn is_local_to_some(&self, area: usize) -> bool {
        self.classes.iter().any(|class| class.areas.contains(&area))
    }

    /// From the nearest of a class' GPUs to an area; the greatest where either place is not known.
    fn distance(&self, class: &Class, area: usize) -> u32 {
        let node = self.pool.areas.get(area).and_then(|area| area.node);
        let distances = node
            .into_iter()
            .flat_map(|node| class.nodes.iter().map(move |home| (home, node)));
        distances
            .map(|(home, node)| self.machine.nearness(home, node))
            .min()
            .unwrap_or(u32::MAX)
    }

    /// The tasks that no single node has room for.
    fn place_loose(&mut self) {
        let wanted = self.local_demands();
        let drawn = draw(&wanted.demands, &self.room);
        let count = self.classes.len();
        for row in &drawn {
            for (area, units) in row.held() {
                self.room.sub(area, units);
            }
        }
        let each = self.sizes.each;
        let loose: u32 = (0..count)
            .map(|class| self.unseated_whole(class) + self.unseated_rest(class))
            .sum();
        let missing = loose * each - drawn.iter().map(Units::sum).sum::<u32>();
        let areas = 0..self.pool.areas.len();
        let nobodys: u32 = areas
            .filter(|area| !self.is_local_to_some(*area))
            .map(|area| self.room.at(area))
            .sum();
        let mut of_others = missing.saturating_sub(nobodys);
        for (index, class) in self.classes.iter().enumerate() {
            let mut loose = Loose {
                placing: self,
                class,
            };
            let of = |portion| {
                let mut sum = Units::none(loose.placing.pool.areas.len());
                for row in wanted.rows_of(portion, index, &drawn) {
                    row.held().for_each(|(area, units)| sum.add(area, units));
                }
                sum
            };
            let (whole, promised, more) =
                (of(Portion::Whole), of(Portion::Promised), of(Portion::More));
            let tasks = loose.placing.unseated_whole(index);
            let seats = loose.share(whole, tasks, loose.placing.sizes.each);
            let tasks = loose.placing.unseated_rest(index);
            let promise = loose.placing.promised(class);
            let mut others = loose.share(promised, tasks, promise);
            loose.take_local(&mut others, more);
            for seat in &mut others {
                loose.fill(seat, &mut of_others);
            }
            if let Some(of_class) = self.seats.get_mut(index) {
                of_class.extend(seats);
                of_class.extend(others);
            }
        }
    }
}

/// What of a class a demand is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Portion {
    /// All that the tasks get that can be wholly local.
    Whole,
    /// What is promised to each of the others.
    Promised,
    /// What else of what is local these can have.
    More,
}

/// What tasks want of what is local to them.
#[derive(Default)]
struct LocalDemands<'a> {
    demands: SmallVec<[Demand<'a>; 16]>,
    /// What each is for, and of which class.
    whose: SmallVec<[(Portion, usize); 16]>,
    /// How many of the first must be met.
    firm: usize,
}

impl<'a> LocalDemands<'a> {
    fn extend(
        &mut self,
        portion: Portion,
        class: usize,
        demands: impl Iterator<Item = Demand<'a>>,
    ) {
        self.demands
            .extend(demands.filter(|demand| demand.units > 0));
        self.whose.resize(self.demands.len(), (portion, class));
    }

    fn firm(&self) -> &[Demand<'a>] {
        self.demands.get(..self.firm).unwrap_or_default()
    }

    /// Of what each demand has `drawn`, that for a portion of a class.
    fn rows_of<'d>(
        &self,
        portion: Portion,
        class: usize,
        drawn: &'d [Units],
    ) -> impl Iterator<Item = &'d Units> {
        let rows = self.whose.iter().zip(drawn);
        rows.filter(move |(whose, _)| **whose == (portion, class))
            .map(|(_, row)| row)
    }
}

/// How many tasks each area could take whole that want `each` CPUs, were it empty; in whole cores or not.
fn seats_in(pool: &Pool, each: u32, by_core: bool) -> Units {
    let each = each.max(1);
    let areas = pool.areas.iter();
    let seats = areas.map(|area| {
        if by_core {
            area.core_seats(each)
        } else {
            count(&area.cpus) / each
        }
    });
    seats.collect()
}

fn are_met(demands: &[Demand<'_>], drawn: &[u32]) -> bool {
    let mut pairs = demands.iter().zip(drawn);
    pairs.all(|(demand, drawn)| *drawn == demand.units)
}

/// Who of a class gets which seat: each as much as can be of what Slurm gave it, else the first
/// those with most local CPUs.
fn assign(
    pool: &Pool,
    takers: &[Taker<'_>],
    class: &Class,
    mut seats: Vec<Units>,
) -> Vec<(usize, Units)> {
    let mut kinds: Vec<(Units, u32)> = Vec::new();
    for seat in seats.drain(..) {
        match kinds.iter_mut().find(|(kind, _)| *kind == seat) {
            Some((_, count)) => *count += 1,
            None => kinds.push((seat, 1)),
        }
    }
    let local = |seat: &Units| -> u32 { class.areas.iter().map(|area| seat.at(*area)).sum() };
    kinds.sort_by_key(|(seat, _)| u32::MAX - local(seat));
    let kept = |taker: usize, seat: &Units| -> u32 {
        let mask = takers.get(taker).and_then(|taker| taker.mask);
        let areas = seat
            .held()
            .filter_map(|(area, units)| Some((pool.areas.get(area)?, units)));
        areas
            .map(|(area, units)| {
                mask.map_or(0, |mask| count(&mask.intersection(&area.cpus)).min(units))
            })
            .sum()
    };
    if kinds.len() == 1 {
        let seat = kinds.pop().map(|(seat, _)| seat).unwrap_or_default();
        return class
            .members
            .iter()
            .map(|taker| (*taker, seat.clone()))
            .collect();
    }
    let mut pairs: Vec<(u32, usize, usize)> = Vec::new();
    for (order, taker) in class.members.iter().enumerate() {
        for (index, (seat, _)) in kinds.iter().enumerate() {
            pairs.push((u32::MAX - kept(*taker, seat), order, index));
        }
    }
    pairs.sort_unstable();
    let mut given: Vec<Option<usize>> = vec![None; class.members.len()];
    for (_, order, index) in pairs {
        let (Some(slot @ None), Some((_, count))) = (given.get_mut(order), kinds.get_mut(index))
        else {
            continue;
        };
        if *count > 0 {
            *count -= 1;
            *slot = Some(index);
        }
    }
    let seat = |index: Option<usize>| {
        index
            .and_then(|index| kinds.get(index))
            .map(|(seat, _)| seat.clone())
    };
    class
        .members
        .iter()
        .zip(given)
        .map(|(taker, index)| (*taker, seat(index).unwrap_or_default()))
        .collect()
}
