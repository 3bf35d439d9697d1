//! Which CPUs of a NUMA node the tasks get that have some of it: below one last-level cache and in whole cores where
//! that can be, and as many more as are local to somebody.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

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
    let mut left: Vec<Vec<Table<'_>>> = Vec::new();
    for (index, area) in pool.areas.iter().enumerate() {
        let mut tables: Vec<Table<'_>> = area.cells.iter().map(Table::new).collect();
        dealing.deal_bases(index, area, &mut tables, rows);
        left.push(tables);
    }
    for (index, (area, tables)) in pool.areas.iter().zip(&mut left).enumerate() {
        dealing.deal_rest(index, area, tables, true);
        if let Most::Asked(_) = most {
            dealing.deal_rest(index, area, tables, false);
        }
    }
    let owners = dealing.owners();
    for cell in pool.areas.iter().flat_map(|area| &area.cells) {
        dealing.put_in_order(&owners, cell);
    }
    dealing.shares.into_iter().map(|share| share.cpus).collect()
}

/// What a task gets of one area at least.
#[derive(Debug, Clone, Copy)]
struct Base {
    taker: usize,
    /// How many CPUs.
    cpus: u32,
    /// How many it is to have in the end below the cache that it gets these of.
    grown: u32,
    /// Whether it gets none elsewhere.
    is_all: bool,
}

/// How many CPUs more of an area a task is to get.
struct Quota {
    taker: usize,
    cpus: u32,
    /// The only cell that they may be of: it has no CPU elsewhere, and is to keep to one cache.
    cell: Option<usize>,
}

/// What of a cell nobody has.
struct Stock {
    /// The sizes of its free cores, the largest last.
    cores: Vec<u32>,
    /// The CPUs of these.
    free: u32,
    /// How many tasks keep to this cell.
    members: u32,
    /// What these have.
    held: u32,
}

impl Stock {
    /// What each of those who keep to it can come to.
    fn prospect(&self) -> u32 {
        (self.free + self.held) / self.members.max(1)
    }
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
    /// The cell that it keeps to, with its area; none for one whose even share is not below one cache, or that gets what
    /// nobody else who keeps to a cache would.
    keeps: Option<(usize, usize)>,
    /// Their packages.
    packages: Vec<Option<u32>>,
    /// Whether one is not local to it.
    has_remote: bool,
}

/// What a task would no longer be with a CPU of an area more: the first is the worst.
type Loss = (bool, bool, bool);

struct Dealing<'a> {
    pool: &'a Pool,
    takers: &'a [Taker<'a>],
    most: Most,
    shares: Vec<Share>,
}

impl<'a> Dealing<'a> {
    fn is_local(&self, taker: usize, area: &Area) -> bool {
        let taker = self.takers.get(taker);
        taker.is_some_and(|taker| taker.is_near(area))
    }

    fn mask(&self, taker: usize) -> Option<&'a CpuSet> {
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

    /// What a task loses that is given a CPU of an area.
    fn loss(&self, taker: usize, index: usize, area: &Area) -> Loss {
        let (Some(share), Some(asking)) = (self.shares.get(taker), self.takers.get(taker)) else {
            return Loss::default();
        };
        let is_whole = !share.has_remote && !share.cpus.is_empty();
        let is_spanning = asking.is_spanning();
        (
            is_whole && !self.is_local(taker, area),
            !is_spanning && loses(&share.areas, &index),
            !is_spanning && loses(&share.packages, &area.package),
        )
    }

    /// Deals what each task gets of an area at least.
    fn deal_bases(&mut self, index: usize, area: &Area, tables: &mut [Table<'_>], rows: &[Units]) {
        let bases = rows.iter().enumerate().map(|(taker, row)| Base {
            taker,
            cpus: row.at(index),
            grown: row.at(index),
            is_all: row.held().count() == 1,
        });
        let mut bases: Vec<Base> = bases.filter(|base| base.cpus > 0).collect();
        self.let_grow(area, &mut bases);
        let by_cell = self.seat_below_caches((index, area), tables, &bases);
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
            let mut owed: u32 = order.iter().map(|(base, _)| base.cpus).sum();
            let threads = self.pool.threads();
            for (base, is_exact) in order {
                let mut want = base.cpus;
                owed -= want;
                // Where not all can have cores of their own, the first that leave enough to the others have.
                let leaves_enough = matches!(self.most, Most::Local)
                    && table.room() >= owed + want.next_multiple_of(threads);
                let may_exceed = (may_exceed || leaves_enough) && !is_exact;
                while want > 0 {
                    let Some(core) = table.take_core(want, may_exceed) else {
                        break;
                    };
                    want = want.saturating_sub(count(core));
                    self.give(base.taker, (index, cell), core);
                }
                let cpus = table.take_cpus(want, self.mask(base.taker));
                self.give(base.taker, (index, cell), &cpus);
            }
        }
    }

    /// Those with all they have in an area that is local to them grow to an even share of it.
    fn let_grow(&self, area: &Area, bases: &mut [Base]) {
        let Most::Local = self.most else {
            return;
        };
        let is_local = |base: &Base| self.is_local(base.taker, area);
        let (locals, others): (Vec<&Base>, Vec<&Base>) =
            bases.iter().partition(|base| is_local(base));
        let exact: u32 = others.iter().map(|base| base.cpus).sum();
        let threads = self.pool.threads();
        let left = count(&area.cpus).saturating_sub(exact) / threads;
        let share = left.checked_div(count_of(&locals)).unwrap_or(0) * threads;
        for base in bases
            .iter_mut()
            .filter(|base| base.is_all && is_local(base))
        {
            let fair = self.takers.get(base.taker).map_or(0, |taker| taker.fair);
            base.grown = base.cpus.max(fair.min(share));
        }
    }

    /// What each task gets at least below each cache.
    fn seat_below_caches(
        &mut self,
        (index, area): (usize, &Area),
        tables: &[Table<'_>],
        bases: &[Base],
    ) -> Vec<Vec<Base>> {
        let threads = self.pool.threads();
        let mut room: Vec<u32> = tables.iter().map(Table::room).collect();
        let mut by_cell: Vec<Vec<Base>> = vec![Vec::new(); tables.len()];
        let mut later = Vec::new();
        // Those with all they get here first, of these those who grow: what is left over below a cache goes to who is
        // there, so each goes where most squares are saved by one more.
        let mut order: Vec<(bool, &Base)> = bases
            .iter()
            .map(|base| (base.is_all && self.is_local(base.taker, area), base))
            .collect();
        order.sort_by_key(|(is_local, base)| (!is_local, !base.is_all));
        let takers = self.takers;
        let is_spanning = |base: &Base| takers.get(base.taker).is_some_and(Taker::is_spanning);
        let mut members: Vec<u32> = vec![0; tables.len()];
        for (is_local, base) in order {
            let mask = self.mask(base.taker);
            let roomy = |least: u32, is_growing: bool| {
                let fitting = room.iter().enumerate().filter(|(_, room)| **room >= least);
                let best = fitting.max_by_key(|(cell, room)| {
                    let kept = tables.get(*cell).map_or(0, |table| table.kept(mask));
                    let is_empty = by_cell.get(*cell).is_some_and(Vec::is_empty);
                    let of = members.get(*cell).copied().filter(|_| is_growing);
                    let gain = match (of, tables.get(*cell)) {
                        (Some(members @ 1..), Some(table)) => {
                            let cores = table.room().div_ceil(threads);
                            squares(cores, members) - squares(cores, members + 1)
                        }
                        _ => **room,
                    };
                    (is_empty, gain, kept, usize::MAX - cell)
                });
                best.map(|(cell, _)| cell)
            };
            let keeps = roomy(base.grown, is_local).filter(|_| base.is_all);
            let taken = if keeps.is_some() {
                base.grown
            } else {
                base.cpus
            };
            let Some(cell) = keeps.or_else(|| roomy(base.cpus, false)) else {
                later.push(*base);
                continue;
            };
            if let (Some(room), Some(here), Some(members)) = (
                room.get_mut(cell),
                by_cell.get_mut(cell),
                members.get_mut(cell),
            ) {
                *room -= taken;
                here.push(*base);
                *members += u32::from(is_local && keeps.is_some());
            }
            if let Some(share) = self.shares.get_mut(base.taker) {
                share.keeps = keeps
                    .map(|cell| (index, cell))
                    .filter(|_| !is_spanning(base));
            }
        }
        let size = |cell: usize| tables.get(cell).map_or(0, Table::room);
        let is_whole = |(cell, room): (usize, &u32)| (*room == size(cell)).then_some(*room);
        let whole: Vec<u32> = room.iter().enumerate().filter_map(is_whole).collect();
        let is_roomy = left_over(whole, later.iter().map(|base| base.cpus).collect()).is_some();
        // Where there is room, the rest of a core goes with what is taken of it: who finds no cache whole takes no core of
        // those who keep to one.
        let with_cores: u32 = later
            .iter()
            .map(|base| base.cpus + threads.saturating_sub(1))
            .sum();
        let by_core = room.iter().sum::<u32>() >= with_cores;
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
                    let taken = if by_core {
                        cpus.next_multiple_of(threads)
                    } else {
                        cpus
                    };
                    *room -= taken.min(*room);
                    here.push(Base { cpus, ..base });
                    base.cpus -= cpus;
                }
            }
        }
        by_cell
    }

    /// Deals what is left of an area, to those to whom it is local or to all: by whole cores, to whoever loses least by
    /// it, and of these to who has least.
    fn deal_rest(&mut self, index: usize, area: &Area, tables: &mut [Table<'_>], to_local: bool) {
        let all = 0..self.takers.len();
        let takers: Vec<usize> = all
            .filter(|taker| !to_local || self.is_local(*taker, area))
            .collect();
        // A core that somebody has a part of stays his.
        for (cell, table) in tables.iter_mut().enumerate() {
            for (cpu, core) in table.odd_cpus() {
                let open = takers
                    .iter()
                    .copied()
                    .filter(|taker| self.may_take(*taker) > 0 && self.has_of(*taker, core));
                if let Some(owner) = open.min_by_key(|taker| self.rank(*taker, index, area, 0)) {
                    table.take(cpu);
                    self.give(owner, (index, cell), &CpuSet::single(cpu));
                }
            }
        }
        let (own, mut quotas): (Vec<Quota>, Vec<Quota>) = self
            .quotas(index, area, &takers, tables)
            .into_iter()
            .partition(|quota| quota.cell.is_some());
        for Quota {
            taker,
            mut cpus,
            cell,
        } in own
        {
            if let Some(cell) = cell {
                self.take_cores((index, cell), tables, taker, &mut cpus);
            }
        }
        self.fill_own_cells(index, tables, &mut quotas);
        // Those with most to come first: each where it finds all, in the smallest such cell, else as much as can be in one.
        quotas.sort_by_key(|quota| u32::MAX - quota.cpus);
        for Quota {
            taker, cpus: quota, ..
        } in &mut quotas
        {
            while *quota > 0 {
                let open = tables.iter().enumerate();
                let open = open.map(|(cell, table)| (cell, table.room_in_cores()));
                let open = open.filter(|(_, room)| *room > 0);
                let best = open.max_by_key(|(cell, room)| {
                    let finds_all = room >= quota;
                    let rank = if finds_all { u32::MAX - room } else { *room };
                    (finds_all, rank, usize::MAX - cell)
                });
                let Some((cell, _)) = best else {
                    break;
                };
                let before = *quota;
                self.take_cores((index, cell), tables, *taker, quota);
                if *quota == before {
                    break;
                }
            }
        }
        // What fitted nobody's quota, for cores are not all alike.
        for cell in 0..tables.len() {
            while tables.get(cell).is_some_and(|table| table.room() > 0) {
                let open = takers.iter().copied();
                let open = open.filter(|taker| self.may_take(*taker) > 0);
                let least = open.min_by_key(|taker| {
                    let has_other = self.own_cell(*taker, index).is_some_and(|own| own != cell);
                    (has_other, self.rank(*taker, index, area, 0))
                });
                let (Some(owner), Some(table)) = (least, tables.get_mut(cell)) else {
                    break;
                };
                let core = table.take_core(self.may_take(owner), false).cloned();
                let Some(core) = core.or_else(|| table.take_one()) else {
                    break;
                };
                self.give(owner, (index, cell), &core);
            }
        }
    }

    /// Who is dealt a core of an area first: the least.  `more` CPUs are promised to it already.
    fn rank(&self, taker: usize, index: usize, area: &Area, more: u32) -> (bool, Loss, u32, usize) {
        let is_promised = more > 0;
        (
            is_promised || !self.reaches(taker, index, area),
            if is_promised {
                Loss::default()
            } else {
                self.loss(taker, index, area)
            },
            self.held(taker) + more,
            taker,
        )
    }

    /// The cell of an area that a task keeps to.
    fn own_cell(&self, taker: usize, index: usize) -> Option<usize> {
        let keeps = self.shares.get(taker)?.keeps;
        keeps
            .filter(|(area, _)| *area == index)
            .map(|(_, cell)| cell)
    }

    /// How many CPUs of an area each of some tasks is to get, where its whole cores are dealt one by one, and none of
    /// another cache to a task that keeps to one.
    fn quotas(
        &mut self,
        index: usize,
        area: &Area,
        takers: &[usize],
        tables: &[Table<'_>],
    ) -> Vec<Quota> {
        let stock = |table: &Table<'_>| {
            let mut cores: Vec<u32> = table.whole_cores().collect();
            cores.sort_unstable();
            Stock {
                cores,
                free: table.room_in_cores(),
                members: 0,
                held: 0,
            }
        };
        let mut stocks: Vec<Stock> = tables.iter().map(stock).collect();
        if stocks.iter().all(|stock| stock.free == 0) {
            return Vec::new();
        }
        let asking = takers.iter().filter(|taker| self.may_take(**taker) > 0);
        let mut quotas: Vec<Quota> = asking
            .map(|taker| Quota {
                taker: *taker,
                cpus: 0,
                cell: self.own_cell(*taker, index),
            })
            .collect();
        for quota in &quotas {
            if let Some(stock) = quota.cell.and_then(|cell| stocks.get_mut(cell)) {
                stock.members += 1;
                stock.held += self.held(quota.taker);
            }
        }
        self.free_one(index, area, &mut quotas, &mut stocks);
        let rank = |place: usize, quota: &Quota| {
            Reverse((self.rank(quota.taker, index, area, quota.cpus), place))
        };
        let mut queue: BinaryHeap<_> = quotas
            .iter()
            .enumerate()
            .map(|(place, quota)| rank(place, quota))
            .collect();
        while let Some(Reverse((_, place))) = queue.pop() {
            let Some(quota) = quotas.get_mut(place) else {
                continue;
            };
            let open = quota.cell.or_else(|| roomiest(&stocks));
            let stock = open.and_then(|cell| stocks.get_mut(cell));
            // One that may take less than a core takes none, and is out.
            let may_take = self.may_take(quota.taker) - quota.cpus;
            let core = |stock: &mut Stock| stock.cores.pop_if(|size| *size <= may_take);
            let Some((stock, size)) = stock.and_then(|stock| {
                let size = core(stock)?;
                Some((stock, size))
            }) else {
                continue;
            };
            stock.free -= size;
            quota.cpus += size;
            if quota.cell.is_some() {
                stock.held += size;
            }
            queue.push(rank(place, quota));
        }
        quotas.retain(|quota| quota.cpus > 0);
        quotas
    }

    /// Where nobody has CPUs below some cache and all keep to another one, the task that can come to least there is the
    /// one that does not.
    fn free_one(&mut self, index: usize, area: &Area, quotas: &mut [Quota], stocks: &mut [Stock]) {
        let is_open = |quota: &Quota| {
            quota.cell.is_none() && self.loss(quota.taker, index, area) == Loss::default()
        };
        let is_nobodys = |stock: &Stock| stock.members == 0 && stock.free > 0;
        if !stocks.iter().any(is_nobodys) || quotas.iter().any(is_open) {
            return;
        }
        let prospect = |quota: &&mut Quota| {
            let stock = quota.cell.and_then(|cell| stocks.get(cell));
            (stock.map(Stock::prospect), quota.taker)
        };
        let keeping = quotas.iter_mut().filter(|quota| quota.cell.is_some());
        if let Some(quota) = keeping.min_by_key(prospect)
            && let Some(stock) = quota.cell.take().and_then(|cell| stocks.get_mut(cell))
        {
            stock.members -= 1;
            stock.held -= self.held(quota.taker);
            if let Some(share) = self.shares.get_mut(quota.taker) {
                share.keeps = None;
            }
        }
    }

    /// Gives each what it is to get of an area, as far as there is room below the caches that it has CPUs of.
    fn fill_own_cells(&mut self, index: usize, tables: &mut [Table<'_>], quotas: &mut [Quota]) {
        for cell in 0..tables.len() {
            for Quota {
                taker, cpus: quota, ..
            } in quotas.iter_mut()
            {
                let has_some = |share: &Share| share.cells.contains(&(index, cell));
                if self.shares.get(*taker).is_some_and(has_some) {
                    self.take_cores((index, cell), tables, *taker, quota);
                }
            }
        }
    }

    /// Whole cores of a cell, as far as the quota goes.
    fn take_cores(
        &mut self,
        at: (usize, usize),
        tables: &mut [Table<'_>],
        taker: usize,
        quota: &mut u32,
    ) {
        let Some(table) = tables.get_mut(at.1) else {
            return;
        };
        while let Some(core) = table.take_core(*quota, false) {
            *quota -= count(core).min(*quota);
            self.give(taker, at, core);
        }
    }

    /// Whose each CPU is, by its number.
    fn owners(&self) -> Vec<Option<usize>> {
        let mut owners = Vec::new();
        for (taker, share) in self.shares.iter().enumerate() {
            for cpu in share.cpus.iter().map(|cpu| cpu as usize) {
                if cpu >= owners.len() {
                    owners.resize(cpu + 1, None);
                }
                if let Some(owner) = owners.get_mut(cpu) {
                    *owner = Some(taker);
                }
            }
        }
        owners
    }

    /// Swaps whole cores of one size: each task keeps those that Slurm gave it, the others lie side by side.
    fn put_in_order(&mut self, owners: &[Option<usize>], cell: &Cell) {
        let owner_of = |core: &CpuSet| {
            let mut each = core
                .iter()
                .map(|cpu| owners.get(cpu as usize).copied().flatten());
            let first = each.next().flatten();
            first.filter(|_| each.all(|owner| owner == first))
        };
        let owned: Vec<(&CpuSet, usize)> = cell
            .cores
            .iter()
            .filter_map(|core| Some((core, owner_of(core)?)))
            .collect();
        let mut sizes: Vec<usize> = owned.iter().map(|(core, _)| core.len()).collect();
        sizes.sort_unstable();
        sizes.dedup();
        for size in sizes {
            let mut free: Vec<(&CpuSet, usize)> = owned.clone();
            free.retain(|(core, _)| core.len() == size);
            // How many cores each has of these, in the order of the tasks.
            let mut owed: Vec<usize> = free.iter().map(|(_, owner)| *owner).collect();
            owed.sort_unstable();
            let mut owed: Vec<(usize, usize)> = owed
                .chunk_by(|a, b| a == b)
                .filter_map(|same| Some((*same.first()?, same.len())))
                .collect();
            for is_own in [true, false] {
                for (taker, owed) in &mut owed {
                    let mask = self.mask(*taker);
                    if is_own && mask.is_none() {
                        continue;
                    }
                    free.retain(|(core, had_by)| {
                        let is_wanted = !is_own || mask.is_some_and(|mask| core.intersects(mask));
                        let takes = *owed > 0 && is_wanted;
                        if takes {
                            *owed -= 1;
                            hand(&mut self.shares, core, *had_by, *taker);
                        }
                        !takes
                    });
                }
            }
        }
    }
}

/// Gives a core of one to another.
fn hand(shares: &mut [Share], core: &CpuSet, from: usize, to: usize) {
    if from == to {
        return;
    }
    if let Some(share) = shares.get_mut(from) {
        share.cpus = share.cpus.difference(core);
    }
    if let Some(share) = shares.get_mut(to) {
        share.cpus.extend_with(core);
    }
}

/// The cell to take a core of for a task that keeps to none: one that nobody keeps to, else where those who do can come
/// to most.
fn roomiest(stocks: &[Stock]) -> Option<usize> {
    let open = stocks
        .iter()
        .enumerate()
        .filter(|(_, stock)| stock.free > 0);
    let best = open.max_by_key(|(cell, stock)| {
        let is_nobodys = stock.members == 0;
        (is_nobodys, stock.prospect(), usize::MAX - cell)
    });
    best.map(|(cell, _)| cell)
}

/// The sum of the squares of `total` in so many even parts.
fn squares(total: u32, parts: u32) -> u32 {
    let each = total.checked_div(parts).unwrap_or(0);
    let more = total - each * parts;
    more * (each + 1).pow(2) + (parts - more) * each.pow(2)
}

fn count_of<T>(some: &[T]) -> u32 {
    u32::try_from(some.len()).unwrap_or(u32::MAX)
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
