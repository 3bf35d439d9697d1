//! Which CPUs of a NUMA node the tasks get that have some of it: below one last-level cache and in whole cores where
//! that can be, and as many more as are local to somebody.

use super::cores::{Table, left_over};
use super::flow::Units;
use super::place::Taker;
use super::pool::{Area, Cell, Pool, count};
use crate::set::CpuSet;

/// How many CPUs a task may have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Most {
    /// All that are local to it; of others, no more than make up what it asked for.
    Local,
    /// So many, local or not: there are fewer CPUs than were asked for.
    Asked(u32),
}

/// The CPUs of each taker: as many of each area as `rows` says, and what is left.
pub(super) fn deal(pool: &Pool, takers: &[Taker<'_>], rows: &[Units], most: Most) -> Vec<CpuSet> {
    let mut dealing = Dealing {
        pool,
        takers,
        most,
        shares: takers.iter().map(|_| Share::default()).collect(),
    };
    let mut left: Vec<Vec<Table>> = Vec::new();
    for (index, area) in pool.areas.iter().enumerate() {
        let mut tables: Vec<Table> = area.cells.iter().map(Table::new).collect();
        dealing.deal_bases(index, area, &mut tables, rows);
        left.push(tables);
    }
    for (index, (area, tables)) in pool.areas.iter().zip(&mut left).enumerate() {
        for (cell, table) in tables.iter_mut().enumerate() {
            dealing.deal_rest((index, cell), area, table, true);
            if let Most::Asked(_) = most {
                dealing.deal_rest((index, cell), area, table, false);
            }
        }
    }
    for (index, area) in pool.areas.iter().enumerate() {
        for (cell, cores) in area.cells.iter().enumerate() {
            dealing.put_in_order((index, cell), cores);
        }
    }
    dealing.shares.into_iter().map(|share| share.cpus).collect()
}

/// What a task gets of one area at least.
#[derive(Debug, Clone, Copy)]
struct Base {
    taker: usize,
    /// How many CPUs.
    cpus: u32,
    /// Whether it gets none elsewhere.
    is_all: bool,
}

/// What a task has been given.
#[derive(Debug, Default)]
struct Share {
    cpus: CpuSet,
    /// How many these are.
    held: u32,
    /// The areas that these are of, and the cells.
    areas: Vec<usize>,
    cells: Vec<(usize, usize)>,
    /// Their packages.
    packages: Vec<Option<u32>>,
    /// Whether one is not local to it.
    has_remote: bool,
}

/// What a task would no longer be with a CPU more: the first is the worst.
type Loss = (bool, bool, bool, bool);

struct Dealing<'a> {
    pool: &'a Pool,
    takers: &'a [Taker<'a>],
    most: Most,
    shares: Vec<Share>,
}

impl Dealing<'_> {
    fn is_local(&self, taker: usize, area: &Area) -> bool {
        let taker = self.takers.get(taker);
        taker.is_some_and(|taker| taker.is_near(area))
    }

    fn mask(&self, taker: usize) -> Option<&CpuSet> {
        self.takers.get(taker).and_then(|taker| taker.mask)
    }

    fn held(&self, taker: usize) -> u32 {
        self.shares.get(taker).map_or(0, |share| share.held)
    }

    fn has_of(&self, taker: usize, cpus: &CpuSet) -> bool {
        self.shares
            .get(taker)
            .is_some_and(|share| share.cpus.intersects(cpus))
    }

    /// How many more CPUs a task may have.
    fn may_take(&self, taker: usize) -> u32 {
        match self.most {
            Most::Local => u32::MAX,
            Most::Asked(asked) => asked.saturating_sub(self.held(taker)),
        }
    }

    fn give(&mut self, taker: usize, at: (usize, usize), cpus: &CpuSet) {
        let Some(area) = self.pool.areas.get(at.0).filter(|_| !cpus.is_empty()) else {
            return;
        };
        let is_local = self.is_local(taker, area);
        if let Some(share) = self.shares.get_mut(taker) {
            share.cpus.extend_with(cpus);
            share.held += count(cpus);
            share.has_remote |= !is_local;
            note(&mut share.areas, at.0);
            note(&mut share.cells, at);
            note(&mut share.packages, area.package);
        }
    }

    /// Whether a task whose GPUs are on different nodes has no CPU yet near those on this one.
    fn reaches(&self, taker: usize, index: usize, area: &Area) -> bool {
        let has_some = |share: &Share| share.areas.contains(&index);
        let is_spanning = self.takers.get(taker).is_some_and(Taker::is_spanning);
        is_spanning && self.is_local(taker, area) && !self.shares.get(taker).is_some_and(has_some)
    }

    /// What a task loses that is given a CPU of a cell.
    fn loss(&self, taker: usize, at: (usize, usize), area: &Area) -> Loss {
        let (Some(share), Some(asking)) = (self.shares.get(taker), self.takers.get(taker)) else {
            return Loss::default();
        };
        let is_whole = !share.has_remote && !share.cpus.is_empty();
        let is_spanning = asking.is_spanning();
        (
            is_whole && !self.is_local(taker, area),
            !is_spanning && loses(&share.areas, &at.0),
            !is_spanning && loses(&share.packages, &area.package),
            !is_spanning && loses(&share.cells, &at),
        )
    }

    /// Deals what each task gets of an area at least.
    fn deal_bases(&mut self, index: usize, area: &Area, tables: &mut [Table], rows: &[Units]) {
        let bases = rows.iter().enumerate().map(|(taker, row)| Base {
            taker,
            cpus: row.at(index),
            is_all: row.held().count() == 1,
        });
        let bases: Vec<Base> = bases.filter(|base| base.cpus > 0).collect();
        let by_cell = self.seat_below_caches(tables, &bases);
        // CPUs that are local to somebody go to nobody else without need.
        let is_wanted = (0..self.takers.len()).any(|taker| self.is_local(taker, area));
        let shared = if bases.iter().any(|base| self.held(base.taker) > 0) {
            let given: Vec<&CpuSet> = self.shares.iter().map(|share| &share.cpus).collect();
            self.pool.cores_of_several(&given)
        } else {
            CpuSet::new()
        };
        for (cell, (table, here)) in tables.iter_mut().zip(by_cell).enumerate() {
            let is_exact = |base: &Base| is_wanted && !self.is_local(base.taker, area);
            let mut order: Vec<(Base, bool)> = here
                .into_iter()
                .map(|base| (base, is_exact(&base)))
                .collect();
            // Those that share a core already meet on another rather than with one that shares none.
            order.sort_by_key(|(base, is_exact)| {
                (
                    *is_exact,
                    !self.has_of(base.taker, &shared),
                    u32::MAX - base.cpus,
                )
            });
            let of = |exact: bool| order.iter().filter(move |(_, is_exact)| *is_exact == exact);
            let wide: Vec<u32> = of(false).map(|(base, _)| base.cpus).collect();
            let others: u32 = of(true).map(|(base, _)| base.cpus).sum();
            let may_exceed = matches!(self.most, Most::Local) && table.has_cores_for(wide, others);
            for (base, is_exact) in order {
                let mut want = base.cpus;
                while want > 0 {
                    let Some(core) = table.take_core(want, may_exceed && !is_exact) else {
                        break;
                    };
                    want = want.saturating_sub(count(&core));
                    self.give(base.taker, (index, cell), &core);
                }
                let cpus = table.take_cpus(want, self.mask(base.taker));
                self.give(base.taker, (index, cell), &cpus);
            }
        }
    }

    /// What each task gets at least below each cache.
    fn seat_below_caches(&self, tables: &[Table], bases: &[Base]) -> Vec<Vec<Base>> {
        let mut room: Vec<u32> = tables.iter().map(Table::room).collect();
        let mut by_cell: Vec<Vec<Base>> = vec![Vec::new(); tables.len()];
        let mut later = Vec::new();
        // Those with all they get here first, each below a cache with nobody yet or with most room: what is left over
        // goes to who is there.
        let (all, parts): (Vec<&Base>, Vec<&Base>) = bases.iter().partition(|base| base.is_all);
        for base in all.into_iter().chain(parts) {
            let mask = self.mask(base.taker);
            let fitting = room
                .iter()
                .enumerate()
                .filter(|(_, room)| **room >= base.cpus);
            let best = fitting.max_by_key(|(cell, room)| {
                let kept = tables.get(*cell).map_or(0, |table| table.kept(mask));
                let is_empty = by_cell.get(*cell).is_some_and(Vec::is_empty);
                (is_empty, **room, kept, usize::MAX - cell)
            });
            match best.map(|(cell, _)| cell) {
                Some(cell) => {
                    if let (Some(room), Some(here)) = (room.get_mut(cell), by_cell.get_mut(cell)) {
                        *room -= base.cpus;
                        here.push(*base);
                    }
                }
                None => later.push(*base),
            }
        }
        let size = |cell: usize| tables.get(cell).map_or(0, Table::room);
        let is_whole = |(cell, room): (usize, &u32)| (*room == size(cell)).then_some(*room);
        let whole: Vec<u32> = room.iter().enumerate().filter_map(is_whole).collect();
        let is_roomy = left_over(whole, later.iter().map(|base| base.cpus).collect()).is_some();
        for mut base in later {
            while base.cpus > 0 {
                let open = room.iter().enumerate().filter(|(_, room)| **room > 0);
                // All of the largest that it needs whole, else part of the smallest; one with nobody where all can.
                let most = open.max_by_key(|(cell, room)| {
                    let is_empty = **room == size(*cell);
                    let fits = **room <= base.cpus;
                    let rank = if fits { **room } else { u32::MAX - **room };
                    (is_roomy && is_empty, fits, rank, usize::MAX - cell)
                });
                let Some(cell) = most.map(|(cell, _)| cell) else {
                    break;
                };
                if let (Some(room), Some(here)) = (room.get_mut(cell), by_cell.get_mut(cell)) {
                    let cpus = base.cpus.min(*room);
                    *room -= cpus;
                    here.push(Base { cpus, ..base });
                    base.cpus -= cpus;
                }
            }
        }
        by_cell
    }

    /// Deals what is left of a cell, to those to whom it is local or to all: by whole cores, to whoever loses least by
    /// it, and of these to who has least.
    fn deal_rest(&mut self, at: (usize, usize), area: &Area, table: &mut Table, to_local: bool) {
        let all = 0..self.takers.len();
        let takers: Vec<usize> = all
            .filter(|taker| !to_local || self.is_local(*taker, area))
            .collect();
        let least = |dealing: &Self, core: Option<&CpuSet>| {
            let open = takers
                .iter()
                .copied()
                .filter(|taker| dealing.may_take(*taker) > 0);
            let open = open.filter(|taker| core.is_none_or(|core| dealing.has_of(*taker, core)));
            open.min_by_key(|taker| {
                (
                    !dealing.reaches(*taker, at.0, area),
                    dealing.loss(*taker, at, area),
                    dealing.held(*taker),
                    *taker,
                )
            })
        };
        // A core that somebody has a part of stays his.
        for (cpu, core) in table.odd_cpus() {
            if let Some(owner) = least(self, Some(&core)) {
                table.take(cpu);
                self.give(owner, at, &CpuSet::single(cpu));
            }
        }
        while let Some(owner) = least(self, None) {
            let core = table.take_core(self.may_take(owner), false);
            let Some(core) = core.or_else(|| table.take_one()) else {
                return;
            };
            self.give(owner, at, &core);
        }
    }

    /// Swaps whole cores of one size: each task keeps those that Slurm gave it, the others lie side by side.
    fn put_in_order(&mut self, at: (usize, usize), cell: &Cell) {
        let here: Vec<usize> = (0..self.shares.len())
            .filter(|taker| {
                self.shares
                    .get(*taker)
                    .is_some_and(|share| share.cells.contains(&at))
            })
            .collect();
        let owner = |core: &CpuSet| {
            let holds = |taker: &&usize| {
                self.shares
                    .get(**taker)
                    .is_some_and(|share| core.is_subset(&share.cpus))
            };
            here.iter().find(holds).copied()
        };
        let owned: Vec<(&CpuSet, usize)> = cell
            .cores
            .iter()
            .filter_map(|core| Some((core, owner(core)?)))
            .collect();
        let mut sizes: Vec<usize> = owned.iter().map(|(core, _)| core.len()).collect();
        sizes.sort_unstable();
        sizes.dedup();
        for size in sizes {
            let mut free: Vec<&CpuSet> = Vec::new();
            let mut owed = vec![0usize; self.shares.len()];
            for (core, owner) in owned.iter().filter(|(core, _)| core.len() == size) {
                free.push(core);
                if let (Some(share), Some(owed)) =
                    (self.shares.get_mut(*owner), owed.get_mut(*owner))
                {
                    share.cpus = share.cpus.difference(core);
                    *owed += 1;
                }
            }
            for is_own in [true, false] {
                for ((owed, asking), share) in
                    owed.iter_mut().zip(self.takers).zip(&mut self.shares)
                {
                    free.retain(|core| {
                        let is_wanted =
                            !is_own || asking.mask.is_some_and(|mask| core.intersects(mask));
                        let takes = *owed > 0 && is_wanted;
                        if takes {
                            share.cpus.extend_with(core);
                            *owed -= 1;
                        }
                        !takes
                    });
                }
            }
        }
    }
}

fn note<T: PartialEq>(seen: &mut Vec<T>, one: T) {
    if !seen.contains(&one) {
        seen.push(one);
    }
}

/// Whether `one` more makes several of what was one.
fn loses<T: PartialEq>(seen: &[T], one: &T) -> bool {
    seen.len() == 1 && !seen.contains(one)
}
