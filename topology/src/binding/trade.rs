//! Tasks trade CPUs as long as a split gets better by it.
//!
//! A trade is at most [`LONGEST`] gifts: one task (or nobody, for CPUs that nobody has) gives some of its CPUs to
//! another, then one of those who took part gives some to another, and so on.  Tasks with as many CPUs below each cache
//! and the same GPUs are alike, and so are cores below one cache of which the same tasks have as much: one of each is
//! tried.

use super::near::Near;
use super::objective::{Facts, Far, Merit, Wants};
use super::pool::Pool;
use crate::set::{CpuSet, NodeSet};

/// How many gifts are in one trade.
const LONGEST: usize = 3;

/// How many gifts are tried in all by a few tasks, at most 0.2 µs each; by many, whose gifts cost more, fewer.
const PATIENCE: usize = 6_000;

/// So many tasks more have half the patience, twice as many a third.
const MANY: usize = 16;

/// The best plan that trades make of `plan`, the CPUs of each task within `pool`, of `merit`, where no task gets fewer
/// than `least` CPUs that had as many; with its merit.
pub(super) fn trade(
    pool: &Pool,
    wants: Wants<'_>,
    least: usize,
    (merit, plan): (Merit, Vec<CpuSet>),
) -> (Merit, Vec<CpuSet>) {
    if merit == wants.bound(pool, least) {
        return (merit, plan);
    }
    let takes_part = plan.iter().zip(wants.takes_part);
    let owned: Vec<&CpuSet> = takes_part
        .filter_map(|(cpus, takes_part)| takes_part.then_some(cpus))
        .collect();
    let mut market = Market::new(pool, wants, least, &owned);
    if !market.find_better() {
        return (merit, plan);
    }
    while market.find_better() {}
    let mut traded = market.holdings().into_iter();
    let plan = wants.takes_part.iter().map(|takes_part| {
        let mine = takes_part.then(|| traded.next());
        mine.flatten().unwrap_or_default()
    });
    (market.merit, plan.collect())
}

/// What is below one cache of a node.
struct Stall {
    area: usize,
    package: Option<u32>,
}

/// One core of the pool.
struct Core {
    stall: usize,
    cpus: Vec<u32>,
    /// Which owner has each of its CPUs.
    owners: Vec<usize>,
}

impl Core {
    /// How many of its CPUs an owner has.
    fn count(&self, owner: usize) -> usize {
        self.owners.iter().filter(|by| **by == owner).count()
    }

    /// Whether several tasks have CPUs of it.
    fn is_shared(&self, nobody: usize) -> bool {
        let mut owners = self.owners.iter().filter(|owner| **owner != nobody);
        let first = owners.next();
        first.is_some_and(|first| owners.any(|owner| owner != first))
    }

    /// The tasks that have CPUs of it, each once.
    fn tasks(&self, nobody: usize) -> impl Iterator<Item = usize> + '_ {
        let owners = self.owners.iter().copied().enumerate();
        let firsts = owners.filter(move |(index, owner)| {
            let before = self.owners.iter().take(*index);
            *owner != nobody && !before.into_iter().any(|other| other == owner)
        });
        firsts.map(|(_, owner)| owner)
    }
}

/// Tasks whose GPUs are near the same nodes.
struct Class<'a> {
    gpu_nodes: &'a [Option<NodeSet>],
    /// Their even share.
    fair: usize,
    is_spanning: bool,
    /// Where each stall is, seen from their GPUs; none where it is local to them.
    far: Vec<Option<Far>>,
    /// Of each of their GPUs, the areas near it; GPUs without any are left out.
    areas_of_gpus: Vec<Vec<usize>>,
}

/// A task, or nobody.
struct Owner {
    /// None for nobody.
    class: Option<usize>,
    /// How many CPUs it has in each stall.
    held: Vec<usize>,
    /// The cores that it has CPUs of.
    cores: Vec<usize>,
    /// How many of these another task has CPUs of too.
    shared: usize,
    /// What it adds to the merit.
    merit: Merit,
}

/// CPUs that an owner may give away: so many of each of these cores.
struct Goods {
    cores: Vec<usize>,
    count: usize,
}

/// CPUs of one core that changed hands.
struct Gift {
    core: usize,
    /// The places of the CPUs in the core, a bit each.
    places: u64,
}

impl Owner {
    fn add(&mut self, stall: usize, cpus: usize) {
        if let Some(held) = self.held.get_mut(stall) {
            *held += cpus;
        }
    }

    fn sub(&mut self, stall: usize, cpus: usize) {
        if let Some(held) = self.held.get_mut(stall) {
            *held = held.saturating_sub(cpus);
        }
    }
}

struct Market<'a> {
    wants: Wants<'a>,
    /// CPUs that each task keeps.
    least: usize,
    stalls: Vec<Stall>,
    cores: Vec<Core>,
    classes: Vec<Class<'a>>,
    /// The tasks, and nobody as the last.
    owners: Vec<Owner>,
    /// The first owners of each kind.
    kinds: Vec<Vec<usize>>,
    merit: Merit,
    patience: usize,
}

impl<'a> Market<'a> {
    fn new(pool: &'a Pool, wants: Wants<'a>, least: usize, owned: &[&CpuSet]) -> Self {
        let mut market = Market {
            wants,
            least,
            stalls: Vec::new(),
            cores: Vec::new(),
            classes: Vec::new(),
            owners: Vec::new(),
            kinds: Vec::new(),
            merit: Merit::default(),
            patience: PATIENCE / (1 + owned.len() / MANY),
        };
        let mut by_cpu: Vec<usize> = Vec::new();
        for (owner, cpus) in owned.iter().enumerate() {
            for cpu in cpus.iter().map(|cpu| cpu as usize) {
                if cpu >= by_cpu.len() {
                    by_cpu.resize(cpu + 1, owned.len());
                }
                if let Some(slot) = by_cpu.get_mut(cpu) {
                    *slot = owner;
                }
            }
        }
        let owner_of = |cpu: u32| by_cpu.get(cpu as usize).copied().unwrap_or(owned.len());
        for (area, of) in pool.areas.iter().enumerate() {
            for cell in &of.cells {
                let stall = market.stalls.len();
                market.stalls.push(Stall {
                    area,
                    package: of.package,
                });
                market.cores.extend(cell.cores.iter().map(|core| Core {
                    stall,
                    cpus: core.iter().collect(),
                    owners: core.iter().map(owner_of).collect(),
                }));
            }
        }
        for (near, fair) in wants.takers_with_shares() {
            let class = market.class_of(pool, near, fair);
            market.add_owner(Some(class));
        }
        market.add_owner(None);
        for core in 0..market.cores.len() {
            market.enter(core);
        }
        for owner in 0..market.owners.len() {
            market.appraise(owner);
        }
        market
    }

    fn class_of(&mut self, pool: &Pool, near: &'a Near, fair: usize) -> usize {
        let alike = |class: &Class<'_>| class.gpu_nodes == near.gpu_nodes.as_slice();
        if let Some(class) = self.classes.iter().position(alike) {
            return class;
        }
        let known = near.gpu_nodes.iter().flatten();
        let of_gpus = known.map(|nodes| pool.areas_of(nodes));
        let far = pool.areas.iter().flat_map(|area| {
            let far = self.wants.far(near, area);
            area.cells.iter().map(move |_| far)
        });
        let far = far.collect();
        self.classes.push(Class {
            gpu_nodes: &near.gpu_nodes,
            fair,
            is_spanning: near.is_spanning(),
            far,
            areas_of_gpus: of_gpus.filter(|areas| !areas.is_empty()).collect(),
        });
        self.classes.len() - 1
    }

    fn add_owner(&mut self, class: Option<usize>) {
        self.owners.push(Owner {
            class,
            held: vec![0; self.stalls.len()],
            cores: Vec::new(),
            shared: 0,
            merit: Merit::default(),
        });
    }

    fn nobody(&self) -> usize {
        self.owners.len() - 1
    }

    /// Enters a core into the books of those who have CPUs of it.
    fn enter(&mut self, core: usize) {
        let nobody = self.nobody();
        let Some(of) = self.cores.get(core) else {
            return;
        };
        let is_shared = of.is_shared(nobody);
        for (place, owner) in of.owners.iter().enumerate() {
            let is_known = of.owners.iter().take(place).any(|other| other == owner);
            if let (false, Some(books)) = (is_known, self.owners.get_mut(*owner)) {
                books.cores.push(core);
                books.shared += usize::from(is_shared && *owner != nobody);
                books.add(of.stall, of.count(*owner));
            }
        }
    }

    /// Works out anew what an owner adds to the merit.
    fn appraise(&mut self, owner: usize) {
        let merit = self.merit_of(owner);
        if let Some(books) = self.owners.get_mut(owner) {
            self.merit -= books.merit;
            self.merit += merit;
            books.merit = merit;
        }
    }

    fn merit_of(&self, owner: usize) -> Merit {
        let Some(books) = self.owners.get(owner) else {
            return Merit::default();
        };
        let Some(class) = books.class.and_then(|class| self.classes.get(class)) else {
            return Merit::default();
        };
        let mut facts = Facts {
            held: 0,
            fair: class.fair,
            local: 0,
            at_home: 0,
            farthest: 0,
            touches_all: true,
            is_spanning: class.is_spanning,
            is_on_one: [true; 2],
            caches: 0,
            shares_core: books.shared > 0,
        };
        let mut first: Option<&Stall> = None;
        let stalls = books.held.iter().zip(&self.stalls).zip(&class.far);
        for ((held, stall), far) in stalls {
            let held = *held;
            if held == 0 {
                continue;
            }
            facts.held += held;
            facts.local += if far.is_none() { held } else { 0 };
            facts.at_home += if far.is_none_or(|far| far.is_home) {
                held
            } else {
                0
            };
            facts.farthest = facts.farthest.max(far.map_or(0, |far| far.distance));
            facts.caches += 1;
            let of = *first.get_or_insert(stall);
            let is_as_first = [stall.area == of.area, stall.package == of.package];
            for (one, same) in facts.is_on_one.iter_mut().zip(is_as_first) {
                *one &= same;
            }
        }
        let has_of = |area: &usize| {
            let mut stalls = books.held.iter().zip(&self.stalls);
            stalls.any(|(held, stall)| *held > 0 && stall.area == *area)
        };
        let is_touched = |areas: &Vec<usize>| areas.iter().any(has_of);
        facts.touches_all = class.areas_of_gpus.iter().all(is_touched);
        self.wants.merit_of(facts)
    }

    /// Gives goods of one owner to another.
    fn give(&mut self, goods: &Goods, from: usize, to: usize) -> Vec<Gift> {
        let mut gifts = Vec::with_capacity(goods.cores.len());
        for core in &goods.cores {
            let owners = self.cores.get(*core).map(|core| core.owners.as_slice());
            let owners = owners.into_iter().flatten().enumerate().take(64);
            let mine = owners.filter(|(_, owner)| **owner == from);
            let places = mine
                .take(goods.count)
                .fold(0, |all, (place, _)| all | 1 << place);
            let gift = Gift {
                core: *core,
                places,
            };
            self.hand(&gift, from, to);
            gifts.push(gift);
        }
        gifts
    }

    /// Hands one gift over.
    fn hand(&mut self, gift: &Gift, from: usize, to: usize) {
        let nobody = self.nobody();
        let Some(core) = self.cores.get_mut(gift.core) else {
            return;
        };
        let was_shared = core.is_shared(nobody);
        let had = core.count(to);
        if was_shared {
            for task in core.tasks(nobody) {
                if let Some(books) = self.owners.get_mut(task) {
                    books.shared -= 1;
                }
            }
        }
        for (place, owner) in core.owners.iter_mut().enumerate().take(64) {
            if gift.places >> place & 1 == 1 {
                *owner = to;
            }
        }
        let is_shared = core.is_shared(nobody);
        if is_shared {
            for task in core.tasks(nobody) {
                if let Some(books) = self.owners.get_mut(task) {
                    books.shared += 1;
                }
            }
        }
        let (stall, moved, kept) = (core.stall, core.count(to) - had, core.count(from));
        if let Some(giver) = self.owners.get_mut(from) {
            giver.sub(stall, moved);
            if kept == 0 {
                giver.cores.retain(|other| *other != gift.core);
            }
        }
        if let Some(taker) = self.owners.get_mut(to) {
            taker.add(stall, moved);
            if had == 0 {
                taker.cores.push(gift.core);
            }
        }
        self.appraise(from);
        self.appraise(to);
        if was_shared != is_shared {
            let core = self.cores.get(gift.core);
            let tasks: Vec<usize> = core
                .into_iter()
                .flat_map(|core| core.tasks(nobody))
                .collect();
            for task in tasks {
                self.appraise(task);
            }
        }
    }

    /// Makes the first trade that is found to make the split better; false where none is.
    fn find_better(&mut self) -> bool {
        self.sort_kinds();
        let before = self.merit;
        (1..=LONGEST).any(|length| {
            let givers = self.firsts(&[]);
            let mut givers = givers.into_iter();
            givers.any(|giver| self.is_better_with(giver, &mut vec![giver], length, before))
        })
    }

    /// Tries each trade of `length` more gifts, of which the next is `giver`'s, after those of the owners in `chain`;
    /// leaves the first that is better, and otherwise all as it was.
    fn is_better_with(
        &mut self,
        giver: usize,
        chain: &mut Vec<usize>,
        length: usize,
        before: Merit,
    ) -> bool {
        for goods in self.goods_of(giver) {
            let mut takers = self.firsts(chain);
            takers.extend(chain.iter().copied().filter(|owner| *owner != giver));
            for taker in takers {
                if self.patience == 0 {
                    return false;
                }
                // A whole node costs more than a core.
                let cost = 1 + goods.cores.len() / 8;
                self.patience = self.patience.saturating_sub(cost);
                let gifts = self.give(&goods, giver, taker);
                let is_new = !chain.contains(&taker);
                if is_new {
                    chain.push(taker);
                }
                let is_better = if length == 1 {
                    self.merit > before && self.all_keep_enough(chain)
                } else {
                    // The last to take first: the others give again for want of better.
                    let mut givers = chain.clone();
                    givers.sort_by_key(|owner| *owner != taker);
                    let mut givers = givers.into_iter();
                    givers.any(|giver| self.is_better_with(giver, chain, length - 1, before))
                };
                if is_better {
                    return true;
                }
                if is_new {
                    chain.pop();
                }
                for gift in gifts.iter().rev() {
                    self.hand(gift, taker, giver);
                }
            }
        }
        false
    }

    /// Whether those of a chain have as many CPUs as each is to keep.
    fn all_keep_enough(&self, chain: &[usize]) -> bool {
        let mut tasks = chain.iter().filter(|owner| **owner != self.nobody());
        tasks.all(|owner| {
            let held = self.owners.get(*owner).map(|books| books.held.iter().sum());
            held.is_some_and(|held: usize| held >= self.least)
        })
    }

    /// Sorts the owners into kinds; no trade has more of one kind than [`LONGEST`] and one.
    fn sort_kinds(&mut self) {
        let mut kinds: Vec<Vec<usize>> = Vec::new();
        for (index, owner) in self.owners.iter().enumerate() {
            let alike = |kind: &&mut Vec<usize>| {
                let first = kind.first().and_then(|first| self.owners.get(*first));
                first.is_some_and(|first| {
                    first.class == owner.class
                        && first.held == owner.held
                        && (first.shared > 0) == (owner.shared > 0)
                })
            };
            match kinds.iter_mut().find(alike) {
                Some(kind) if kind.len() <= LONGEST => kind.push(index),
                Some(_) => {}
                None => kinds.push(vec![index]),
            }
        }
        self.kinds = kinds;
    }

    /// The first owner of each kind that is not in a chain.
    fn firsts(&self, chain: &[usize]) -> Vec<usize> {
        let first = |kind: &Vec<usize>| kind.iter().find(|owner| !chain.contains(owner)).copied();
        self.kinds.iter().filter_map(first).collect()
    }

    /// What an owner may give: of cores alike, one; and all that it has on a node.
    fn goods_of(&self, owner: usize) -> Vec<Goods> {
        let mut seen: Vec<(usize, usize, Vec<usize>)> = Vec::new();
        let mut areas: Vec<(Option<usize>, Vec<usize>)> = Vec::new();
        let mut goods = Vec::new();
        let cores = self.owners.get(owner).map(|books| books.cores.as_slice());
        for core in cores.into_iter().flatten() {
            let Some(of) = self.cores.get(*core) else {
                continue;
            };
            let owners = of.owners.iter().copied();
            let (mine, others): (Vec<usize>, Vec<usize>) = owners.partition(|by| *by == owner);
            let area = self.stalls.get(of.stall).map(|stall| stall.area);
            match areas.iter_mut().find(|(other, _)| *other == area) {
                Some((_, cores)) => cores.push(*core),
                None => areas.push((area, vec![*core])),
            }
            let look = (of.stall, mine.len(), others);
            if seen.contains(&look) {
                continue;
            }
            seen.push(look);
            let cores = || vec![*core];
            goods.push(Goods {
                cores: cores(),
                count: mine.len(),
            });
            if mine.len() > 1 {
                goods.push(Goods {
                    cores: cores(),
                    count: 1,
                });
            }
        }
        let several = areas.into_iter().filter(|(_, cores)| cores.len() > 1);
        goods.extend(several.map(|(_, cores)| Goods {
            cores,
            count: usize::MAX,
        }));
        goods
    }

    /// What each task has.
    fn holdings(&self) -> Vec<CpuSet> {
        let mut holdings = vec![CpuSet::new(); self.nobody()];
        let cpus = |core: &'_ Core| core.cpus.clone().into_iter().zip(core.owners.clone());
        for (cpu, owner) in self.cores.iter().flat_map(cpus) {
            if let Some(cpus) = holdings.get_mut(owner) {
                cpus.insert(cpu);
            }
        }
        holdings
    }
}
