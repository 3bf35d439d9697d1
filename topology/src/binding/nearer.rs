//! Of splits that are as good in the order of the objective, one with more CPUs that are nearer to the tasks' GPUs than the
//! rest of their nodes, and of these one with more of the faster CPUs, and as many for each.

use std::cmp::Reverse;
use std::ops::AddAssign;

use smallvec::SmallVec;

use super::near::Near;
use super::objective::{Merit, Wants};
use super::pool::Pool;
use crate::set::CpuSet;

/// Exchanges that are tried by their merit at most: each costs as much as comparing two splits.
const MOST_TRIES: usize = 2048;
/// Of those of three tasks, which are many more.
const MOST_CHAINS: usize = 256;
/// Tasks on the same nodes of which three are tried; of more it takes longer than a launch should wait.
const MOST_IN_CHAINS: usize = 8;

/// What decides between splits of one merit, or one task's part of it; the greater, the better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finish {
    /// CPUs that are nearer to the GPUs than the rest of the nodes.
    nearest: usize,
    /// Faster CPUs, each as often as a class is slower.
    fast: usize,
    /// The squares of how many faster CPUs each has.
    uneven: Reverse<usize>,
}

impl AddAssign for Finish {
    fn add_assign(&mut self, other: Self) {
        self.nearest += other.nearest;
        self.fast += other.fast;
        self.uneven.0 += other.uneven.0;
    }
}

impl Finish {
    /// That of `plan`, the CPUs of each task.
    pub(super) fn of(pool: &Pool, near: &[Near], plan: &[CpuSet]) -> Self {
        let mut all = Self::default();
        for (near, cpus) in near.iter().zip(plan) {
            all += Self::counted(pool, near, |of| cpus.common(of));
        }
        all
    }

    /// That of a task that has as many of some CPUs as `held` says.
    fn counted(pool: &Pool, near: &Near, held: impl Fn(&CpuSet) -> usize) -> Self {
        let mut finish = Self {
            nearest: held(&near.nearest),
            ..Self::default()
        };
        for faster in &pool.faster {
            let held = held(faster);
            finish.fast += held;
            finish.uneven.0 += held.pow(2);
        }
        finish
    }
}

/// The split that exchanges make of `plan`, of `merit`: never a worse one, and a better [`Finish`] as long as an exchange of two
/// tasks, or of a task with what nobody has, gains some.  Each gives all that it has, what it has below a cache, some cores
/// that are alike, small cores for a large one, or nothing: who of two tasks has a core more may change.  Where no two can,
/// three do whose GPUs are on the same nodes; longer chains are not tried.
pub(super) fn nearer(
    pool: &Pool,
    wants: Wants<'_>,
    merit: Merit,
    plan: Vec<CpuSet>,
) -> (Merit, Vec<CpuSet>) {
    let near = wants.near;
    if pool.faster.is_empty() && near.iter().all(|near| near.nearest.is_empty()) {
        return (merit, plan);
    }
    let (mut merit, mut plan) = (merit, plan);
    let (mut tries, mut chains) = (0, 0);
    while tries < MOST_TRIES && !is_nearest(pool, wants, &plan) {
        let split = Split::new(pool, wants, merit, &plan);
        let better = split.first_better(&mut tries);
        let better = better.or_else(|| split.first_chain(&mut chains));
        let Some(better) = better else {
            break;
        };
        (merit, plan) = better;
    }
    (merit, plan)
}

/// Whether no split has more CPUs that are nearer to the GPUs, where nothing else is asked for.
fn is_nearest(pool: &Pool, wants: Wants<'_>, plan: &[CpuSet]) -> bool {
    let mut near = CpuSet::new();
    for own in wants.takers() {
        near.extend_with(&own.nearest);
    }
    let held: usize = plan.iter().map(CpuSet::len).sum();
    let most = near.common(&pool.cpus).min(held);
    pool.faster.is_empty() && Finish::of(pool, wants.near, plan).nearest >= most
}

/// One side of an exchange.
struct Side<'a> {
    /// Its place among the tasks; none for what nobody has.
    task: Option<usize>,
    near: Option<&'a Near>,
    cpus: CpuSet,
}

impl Side<'_> {
    /// What is its with `gets` for `gives`, counted as tasks' are; nothing is gained by what nobody has.
    fn finish(&self, pool: &Pool, gives: &CpuSet, gets: &CpuSet) -> Finish {
        self.near.map_or_else(Finish::default, |near| {
            Finish::counted(pool, near, |of| {
                (self.cpus.common(of) + gets.common(of)).saturating_sub(gives.common(of))
            })
        })
    }

    /// Whether it could gain by what the other has.
    fn wants(&self, pool: &Pool, other: &Self) -> bool {
        let Some(near) = self.near else {
            return false;
        };
        // An exchange of less than two makes nothing more even; all that nobody has is won.
        let least = if other.task.is_some() { 2 } else { 1 };
        let is_slower = |faster: &CpuSet| {
            let theirs = other.cpus.common(faster);
            let ours = other.task.map_or(0, |_| self.cpus.common(faster));
            theirs >= ours + least
        };
        other.cpus.intersects(&near.nearest) || pool.faster.iter().any(is_slower)
    }
}

/// What of a side's goes to others, and what it gets for it.
type Move<'m> = (&'m Side<'m>, &'m CpuSet, &'m CpuSet);

/// A split, and what its exchanges go by.
struct Split<'a> {
    pool: &'a Pool,
    wants: Wants<'a>,
    merit: Merit,
    plan: &'a [CpuSet],
    sides: Vec<Side<'a>>,
    /// The cores that several tasks have CPUs of.
    shared: CpuSet,
}

impl<'a> Split<'a> {
    fn new(pool: &'a Pool, wants: Wants<'a>, merit: Merit, plan: &'a [CpuSet]) -> Self {
        Self {
            pool,
            wants,
            merit,
            plan,
            sides: sides(pool, wants, plan),
            shared: pool.cores_of_several(&plan.iter().collect::<Vec<_>>()),
        }
    }

    /// The split after these moves; none where that is of less merit.
    fn exchange(&self, moves: &[Move<'_>]) -> Option<(Merit, Vec<CpuSet>)> {
        let mut exchanged = self.plan.to_vec();
        for (side, gives, gets) in moves {
            if let Some(own) = side.task.and_then(|task| exchanged.get_mut(task)) {
                *own = own.difference(gives).union(gets);
            }
        }
        let new = Merit::of(self.pool, self.wants, &exchanged);
        (new >= self.merit).then_some((new, exchanged))
    }

    /// The first exchange that gains and loses nothing.
    fn first_better(&self, tries: &mut usize) -> Option<(Merit, Vec<CpuSet>)> {
        let pool = self.pool;
        for (index, a) in self.sides.iter().enumerate() {
            for b in self.sides.iter().skip(index + 1) {
                let is_of_use = a.wants(pool, b) || b.wants(pool, a);
                if !is_of_use || a.cpus.intersects(&b.cpus) {
                    continue;
                }
                let none = CpuSet::new();
                let mut before = a.finish(pool, &none, &none);
                before += b.finish(pool, &none, &none);
                let both = [a, b];
                let (parts_a, parts_b) = (self.parts_of(a, &both), self.parts_of(b, &both));
                for from_a in &parts_a {
                    for from_b in &parts_b {
                        let mut after = a.finish(pool, from_a, from_b);
                        after += b.finish(pool, from_b, from_a);
                        if after <= before {
                            continue;
                        }
                        *tries += 1;
                        if *tries > MOST_TRIES {
                            return None;
                        }
                        let better = self.exchange(&[(a, from_a, from_b), (b, from_b, from_a)]);
                        if better.is_some() {
                            return better;
                        }
                    }
                }
            }
        }
        None
    }

    /// The first exchange of three that gains and loses nothing: one gives what is nearer to the second, which gives to the third,
    /// and that may give to the first.
    fn first_chain(&self, tries: &mut usize) -> Option<(Merit, Vec<CpuSet>)> {
        if !self.pool.faster.is_empty() {
            return None;
        }
        for first in &self.sides {
            let Some(nodes) = first.near.map(|near| &near.nodes) else {
                continue;
            };
            let is_on = |side: &&Side<'_>| side.near.is_none_or(|near| near.nodes == *nodes);
            let group: Vec<&Side<'_>> = self.sides.iter().filter(is_on).collect();
            let is_first = group.first().is_some_and(|own| own.task == first.task);
            if !is_first || !(3..=MOST_IN_CHAINS).contains(&group.len()) {
                continue;
            }
            let better = self.chain_in(&group, tries);
            if better.is_some() {
                return better;
            }
        }
        None
    }

    /// The same among those of one group.
    fn chain_in(&self, group: &[&Side<'_>], tries: &mut usize) -> Option<(Merit, Vec<CpuSet>)> {
        let near_of =
            |side: &Side<'_>, cpus: &CpuSet| side.near.map_or(0, |near| near.nearest.common(cpus));
        let gifts: Vec<Vec<Gift>> = group
            .iter()
            .map(|side| {
                let gift = |cpus: CpuSet| Gift {
                    near: group.iter().map(|side| near_of(side, &cpus)).collect(),
                    cpus,
                };
                self.parts_of(side, group).into_iter().map(gift).collect()
            })
            .collect();
        let places = || group.iter().copied().zip(&gifts).enumerate();
        let shares = |x: &Side<'_>, y: &Side<'_>| x.cpus.intersects(&y.cpus);
        for (a, (first, from_first)) in places() {
            let others = |(b, (side, _)): &(usize, (&Side<'_>, _))| *b != a && !shares(first, side);
            for (b, (second, from_second)) in places().filter(others) {
                for given in from_first.iter().filter(|gift| gift.gain(a, b) > 0) {
                    let thirds = places().filter(others);
                    let thirds = thirds.filter(|(c, (side, _))| *c != b && !shares(second, side));
                    for (c, (third, from_third)) in thirds {
                        for (passed, back) in pairs(from_second, from_third) {
                            let gain = given.gain(a, b) + passed.gain(b, c) + back.gain(c, a);
                            let moves = [
                                (first, &given.cpus, &back.cpus),
                                (second, &passed.cpus, &given.cpus),
                                (third, &back.cpus, &passed.cpus),
                            ];
                            if gain <= 0 || is_less_even(&moves) {
                                continue;
                            }
                            *tries += 1;
                            if *tries > MOST_CHAINS {
                                return None;
                            }
                            let better = self.exchange(&moves);
                            if better.is_some() {
                                return better;
                            }
                        }
                    }
                }
            }
        }
        None
    }
}

/// What a side of a chain can give: the CPUs, and how many of them are near each of the group.
struct Gift {
    cpus: CpuSet,
    near: SmallVec<[usize; MOST_IN_CHAINS]>,
}

impl Gift {
    /// How many more of them are near `to` than near `from`.
    fn gain(&self, from: usize, to: usize) -> isize {
        let near = |place: usize| self.near.get(place).copied().unwrap_or(0).cast_signed();
        near(to) - near(from)
    }
}

/// Each of `ones` with each of `others`.
fn pairs<'g>(ones: &'g [Gift], others: &'g [Gift]) -> impl Iterator<Item = (&'g Gift, &'g Gift)> {
    ones.iter()
        .flat_map(move |one| others.iter().map(move |other| (one, other)))
}

/// Whether the tasks come out with CPUs that are less even, which no split that is as good does.
fn is_less_even(moves: &[Move<'_>]) -> bool {
    let tasks = || moves.iter().filter(|(side, ..)| side.task.is_some());
    let before: usize = tasks().map(|(side, ..)| side.cpus.len().pow(2)).sum();
    let after = tasks().map(|(side, gives, gets)| {
        let held = side.cpus.len() + gets.len();
        held.saturating_sub(gives.len()).pow(2)
    });
    after.sum::<usize>() > before
}

/// The tasks that take part, and what nobody has.
fn sides<'a>(pool: &Pool, wants: Wants<'a>, plan: &[CpuSet]) -> Vec<Side<'a>> {
    let mut free = pool.cpus.clone();
    for cpus in plan {
        free = free.difference(cpus);
    }
    let tasks = plan.iter().zip(wants.near).zip(wants.takes_part);
    let tasks = tasks
        .enumerate()
        .filter(|(_, (_, takes_part))| **takes_part);
    let tasks = tasks.map(|(task, ((cpus, near), _))| Side {
        task: Some(task),
        near: Some(near),
        cpus: cpus.clone(),
    });
    let free = (!free.is_empty()).then_some(Side {
        task: None,
        near: None,
        cpus: free,
    });
    tasks.chain(free).collect()
}

/// What makes two cores alike to some sides: how many CPUs of each every side has, are near its GPUs and in each class of faster
/// ones, and whether several tasks have some.
type Likeness = (SmallVec<[usize; 8]>, bool);

impl Split<'_> {
    /// What `own` can give to others of `sides`: all, nothing, what is below each cache, some of the cores there that are alike, and small
    /// cores that are together as large as the largest.
    fn parts_of(&self, own: &Side<'_>, sides: &[&Side<'_>]) -> Vec<CpuSet> {
        let pool = self.pool;
        let mut parts = vec![own.cpus.clone(), CpuSet::new()];
        let mut add = |part: CpuSet| {
            if !parts.contains(&part) {
                parts.push(part);
            }
        };
        let threads = pool.threads() as usize;
        for cell in pool.areas.iter().flat_map(|area| &area.cells) {
            if !cell.cpus.intersects(&own.cpus) {
                continue;
            }
            add(cell.cpus.intersection(&own.cpus));
            let mut small = CpuSet::new();
            // Of cores that are alike it is only a matter of how many.
            let mut alike: Vec<(Likeness, CpuSet)> = Vec::new();
            for core in &cell.cores {
                let mine = core.intersection(&own.cpus);
                if mine.is_empty() {
                    continue;
                }
                // Those that are one core's part alone are it.
                if !pool.faster.is_empty() && mine.len() < threads {
                    small.extend_with(&mine);
                    if small.len() >= threads {
                        add(std::mem::take(&mut small));
                    }
                }
                let near = sides.iter().filter_map(|side| side.near);
                let near = near.map(|near| &near.nearest).chain(&pool.faster);
                let mut counts: SmallVec<[usize; 8]> = near.map(|set| mine.common(set)).collect();
                counts.extend(sides.iter().map(|side| core.common(&side.cpus)));
                let likeness = (counts, mine.intersects(&self.shared));
                let known = alike.iter_mut().find(|(known, _)| *known == likeness);
                if let Some((_, some)) = known {
                    some.extend_with(&mine);
                    add(some.clone());
                } else {
                    add(mine.clone());
                    alike.push((likeness, mine));
                }
            }
        }
        parts
    }
}
