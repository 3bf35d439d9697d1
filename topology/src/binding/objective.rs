//! What makes one split of a step's CPUs better than another: the order that `exclusive` follows.
//!
//! From the first to the last, and a later one never at the cost of an earlier one:
//!
//! 1. under a strict policy ([`Policy::is_strict`](crate::option::Policy::is_strict)), tasks with a CPU near each of their
//!    GPUs;
//! 2. CPUs that were asked for;
//! 3. local CPUs in total;
//! 4. tasks wholly local;
//! 5. tasks on one NUMA node, then on one package;
//! 6. of the CPUs that were asked for, those on a package of the task's GPUs, then the least distance from each task's farthest
//!    CPU to its GPUs;
//! 7. where there are more local CPUs than were asked for: as many for each, up to an even share in whole cores;
//! 8. tasks below one last-level cache that several cores share;
//! 9. tasks that share no core;
//! 10. what is left then goes to all alike: the least sum of squares, in cores' worth; few caches for each; the least sum
//!     of squares of CPUs.
//!
//! Where Slurm's own split is as good in all of these, it is kept; else tasks come out with as much of what Slurm gave
//! them as that leaves.

use std::cmp::Reverse;
use std::ops::{AddAssign, SubAssign};

use super::near::Near;
use super::pool::{Area, Pool};
use crate::machine::Machine;
use crate::set::{CpuSet, NodeSet};

/// How good a split is, or one task of it; the greater, the better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Merit {
    /// Tasks with a CPU near each of their GPUs that the pool has one near to, where the policy wants that; else 0.
    reached: usize,
    /// CPUs that were asked for.
    asked: usize,
    /// Local CPUs.
    local: usize,
    /// Tasks whose CPUs are all local and touch every GPU of theirs.
    whole: usize,
    /// Tasks on one NUMA node.  Those whose GPUs are on several are not counted: they belong on all of them.
    one_node: usize,
    /// Tasks on one package, in the same way.
    one_package: usize,
    /// CPUs that were asked for and are local or on a package of the task's GPUs.
    at_home: usize,
    /// How far the farthest CPU of each is ([`Far::distance`]), in all.
    farthest: Reverse<usize>,
    /// Local CPUs up to an even share for each.
    fair: usize,
    /// Tasks below one last-level cache, in the same way as those on one node.
    one_cache: usize,
    /// Tasks that share no core with another.
    whole_cores: usize,
    /// The squares of the CPUs of each, in cores' worth.
    uneven_cores: Reverse<usize>,
    /// The caches that each has CPUs below.
    caches: Reverse<usize>,
    /// The squares of the CPUs of each.
    uneven_cpus: Reverse<usize>,
}

/// What the order looks at in the CPUs of one task.
#[derive(Clone, Copy)]
pub(super) struct Facts {
    /// How many it has.
    pub(super) held: usize,
    /// Its even share ([`fair_shares`]).
    pub(super) fair: usize,
    /// How many of them are local.
    pub(super) local: usize,
    /// Whether one is near each of its GPUs that the pool has a CPU near to.
    pub(super) touches_all: bool,
    /// Whether its GPUs are on different nodes.
    pub(super) is_spanning: bool,
    /// How many of them are local or on a package of its GPUs.
    pub(super) at_home: usize,
    /// How far the farthest of them is ([`Far::distance`]); 0 where all are local.
    pub(super) farthest: usize,
    /// Whether all are on one node, on one package.
    pub(super) is_on_one: [bool; 2],
    /// Below how many caches they are.
    pub(super) caches: usize,
    /// Whether another task has a CPU of a core of its.
    pub(super) shares_core: bool,
}

/// What the tasks of a split want.
#[derive(Clone, Copy)]
pub(super) struct Wants<'a> {
    /// Says how far nodes are apart.
    pub(super) machine: &'a Machine,
    /// What is near each task.
    pub(super) near: &'a [Near],
    /// Whether each task takes part in the split.
    pub(super) takes_part: &'a [bool],
    /// The even share of each ([`fair_shares`]).
    pub(super) fair: &'a [usize],
    /// CPUs that each asked for.
    pub(super) asked: usize,
    /// CPUs of a core.
    pub(super) threads: usize,
    /// Whether each must have a CPU near each of its GPUs.
    pub(super) must_reach: bool,
}

/// Where an area that is not local to a task is, seen from its GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Far {
    /// Whether it is on a package of theirs.
    pub(super) is_home: bool,
    /// From the nearest of them ([`Machine::nearness`]); 255, more than firmware gives, where either node is not known.
    pub(super) distance: usize,
}

impl Far {
    /// Of CPUs on `node` and `package`, none where not known, seen from GPUs on `nodes`.
    pub(super) fn of(
        machine: &Machine,
        nodes: &NodeSet,
        node: Option<u32>,
        package: Option<u32>,
    ) -> Self {
        const UNKNOWN: u32 = 255;
        let package_of = |node: u32| machine.node(node).and_then(|node| node.package);
        let distance = |here: u32| nodes.iter().map(move |node| machine.nearness(node, here));
        let least = node.and_then(|here| distance(here).min());
        Self {
            is_home: package.is_some() && nodes.iter().any(|node| package_of(node) == package),
            distance: least.map_or(UNKNOWN, |least| least.min(UNKNOWN)) as usize,
        }
    }
}

impl<'a> Wants<'a> {
    /// Where `area` is, seen from the GPUs of a task; none where it is local to it.
    pub(super) fn far(&self, near: &Near, area: &Area) -> Option<Far> {
        (!area.is_of(&near.nodes))
            .then(|| Far::of(self.machine, &near.nodes, area.node, area.package))
    }

    /// What is near those who take part.
    pub(super) fn takers(&self) -> impl Iterator<Item = &'a Near> + use<'a> {
        self.takers_with_shares().map(|(near, _)| near)
    }

    /// The same, each with its even share.
    pub(super) fn takers_with_shares(&self) -> impl Iterator<Item = (&'a Near, usize)> + use<'a> {
        let tasks = self.near.iter().zip(self.fair).zip(self.takes_part);
        tasks
            .filter(|(_, takes_part)| **takes_part)
            .map(|((near, fair), _)| (near, *fair))
    }

    /// What one task adds to the merit of a split.
    pub(super) fn merit_of(&self, facts: Facts) -> Merit {
        if facts.held == 0 {
            return Merit::default();
        }
        let is_counted = |is_on_one: bool| usize::from(!facts.is_spanning && is_on_one);
        let [one_node, one_package] = facts.is_on_one.map(is_counted);
        Merit {
            reached: usize::from(self.must_reach && facts.local > 0 && facts.touches_all),
            asked: facts.held.min(self.asked),
            local: facts.local,
            whole: usize::from(facts.local == facts.held && facts.touches_all),
            one_node,
            one_package,
            at_home: facts.at_home.min(self.asked),
            farthest: Reverse(facts.farthest),
            fair: facts.local.min(facts.fair),
            one_cache: is_counted(facts.caches == 1),
            whole_cores: usize::from(!facts.shares_core),
            uneven_cores: Reverse(facts.held.div_ceil(self.threads).pow(2)),
            caches: Reverse(facts.caches),
            uneven_cpus: Reverse(facts.held.pow(2)),
        }
    }

    /// A merit that no split of `pool` exceeds where each task has at least `least` CPUs.
    pub(super) fn bound(&self, pool: &Pool, least: usize) -> Merit {
        let takers = self.takers().count();
        let together = self.takers().filter(|near| !near.is_spanning()).count();
        let mut near_somebody = CpuSet::new();
        for near in self.takers() {
            near_somebody.extend_with(&near.cpus);
        }
        let local = near_somebody.intersection(&pool.cpus).len();
        let groups = groups(self.takers());
        let (cores, cpus) = self.even_shares(pool, &groups, least.max(1));
        let widest = pool.widest_cell();
        // Of the last core's worth one CPU may be all.
        let caches = |share: &Share| {
            let cpus = share.each.saturating_sub(1) * self.threads + 1;
            cpus.div_ceil(widest)
        };
        let has_room =
            |(near, fair): &(&Near, usize)| !near.is_spanning() && least.max(*fair) <= widest;
        let below_one = self.takers_with_shares().filter(has_room).count();
        // Where a group has more caches than tasks, one of them has CPUs below several, if all that is local is dealt.
        let wide_groups = groups
            .iter()
            .filter(|group| group.cells(pool) > group.tasks);
        let whole = self.most_whole(pool, least.max(1), local);
        Merit {
            reached: if self.must_reach {
                takers.min(local)
            } else {
                0
            },
            asked: pool.cpus.len().min(takers * self.asked),
            local,
            whole,
            one_node: together,
            one_package: together,
            at_home: self.most_at_home(pool),
            farthest: Reverse((takers - whole.min(takers)) * self.least_distance(pool)),
            fair: self.takers_with_shares().map(|(_, fair)| fair).sum(),
            one_cache: below_one.min(takers - wide_groups.count()),
            whole_cores: takers,
            uneven_cores: Reverse(cores.iter().map(Share::squares).sum()),
            caches: Reverse(cores.iter().map(|share| share.tasks * caches(share)).sum()),
            uneven_cpus: Reverse(cpus.iter().map(Share::squares).sum()),
        }
    }

    /// The takers by the nodes of their GPUs: one of each, and how many they are.
    fn alike(&self) -> Vec<(&'a Near, usize)> {
        let mut alike: Vec<(&Near, usize)> = Vec::new();
        for near in self.takers() {
            match alike
                .iter_mut()
                .find(|(known, _)| known.nodes == near.nodes)
            {
                Some((_, tasks)) => *tasks += 1,
                None => alike.push((near, 1)),
            }
        }
        alike
    }

    /// No more CPUs that were asked for than these can be local or on a package of the task's GPUs.
    fn most_at_home(&self, pool: &Pool) -> usize {
        let alike = self.alike();
        let mut packages: Vec<(Option<u32>, usize, usize)> = Vec::new();
        for area in &pool.areas {
            let known = packages.iter_mut().find(|(package, ..)| {
                // Areas of no known package are each for themselves.
                package.is_some() && *package == area.package
            });
            if let Some((_, cpus, _)) = known {
                *cpus += area.cpus.len();
                continue;
            }
            let at_home = |near: &Near| self.far(near, area).is_none_or(|far| far.is_home);
            let tasks = alike.iter().filter(|(near, _)| at_home(near));
            packages.push((
                area.package,
                area.cpus.len(),
                tasks.map(|(_, tasks)| tasks).sum(),
            ));
        }
        let most = packages
            .iter()
            .map(|(_, cpus, tasks)| (tasks * self.asked).min(*cpus));
        most.sum()
    }

    /// A task that is not wholly local has a CPU no nearer than this; 0 where it may be for want of CPUs near one of its GPUs
    /// only.
    fn least_distance(&self, pool: &Pool) -> usize {
        if self.takers().any(Near::is_spanning) {
            return 0;
        }
        let alike = self.alike();
        let far = alike
            .iter()
            .flat_map(|(near, _)| pool.areas.iter().filter_map(|area| self.far(near, area)));
        far.map(|far| far.distance).min().unwrap_or(0)
    }

    /// The shares of the tasks where all that is local is dealt, as evenly as can be among those of a group: in cores'
    /// worth and in CPUs.
    fn even_shares(&self, pool: &Pool, groups: &[Group], least: usize) -> (Vec<Share>, Vec<Share>) {
        let (mut cores, mut cpus) = (Vec::new(), Vec::new());
        for group in groups {
            let (local, tasks) = (group.cpus(pool), group.tasks);
            let least_cores = tasks * least.div_ceil(self.threads);
            cores.extend(Share::even(
                local.div_ceil(self.threads).max(least_cores),
                tasks,
            ));
            cpus.extend(Share::even(local.max(tasks * least), tasks));
        }
        (cores, cpus)
    }

    /// No more tasks than these can be wholly local with `least` CPUs each, of `local` ones.
    fn most_whole(&self, pool: &Pool, least: usize, local: usize) -> usize {
        let takers = self.takers().count();
        if self.takers().any(|near| near.nodes.len() != 1) {
            return takers.min(local / least);
        }
        // Each has one node, so what is left of a node helps nobody elsewhere.
        let seats = pool.areas.iter().map(|area| {
            self.takers()
                .filter(|near| area.is_of(&near.nodes))
                .count()
                .min(area.cpus.len() / least)
        });
        seats.sum()
    }
}

/// Tasks that have nodes in common, one with the next.
struct Group {
    nodes: NodeSet,
    tasks: usize,
}

impl Group {
    fn areas<'p>(&self, pool: &'p Pool) -> impl Iterator<Item = &'p Area> {
        pool.areas.iter().filter(|area| area.is_of(&self.nodes))
    }

    /// How many of the pool's CPUs are near them.
    fn cpus(&self, pool: &Pool) -> usize {
        self.areas(pool).map(|area| area.cpus.len()).sum()
    }

    /// Below how many caches these are.
    fn cells(&self, pool: &Pool) -> usize {
        self.areas(pool).map(|area| area.cells.len()).sum()
    }
}

/// The groups of some tasks.
fn groups<'a>(takers: impl Iterator<Item = &'a Near>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for near in takers {
        let has = |group: &&mut Group| {
            near.nodes.is_subset(&group.nodes) && (!near.nodes.is_empty() || group.nodes.is_empty())
        };
        if let Some(group) = groups.iter_mut().find(has) {
            group.tasks += 1;
            continue;
        }
        let mut joined = Group {
            nodes: near.nodes.clone(),
            tasks: 1,
        };
        groups.retain(|group| {
            let is_apart = !group.nodes.intersects(&near.nodes);
            if !is_apart {
                joined.nodes.extend_with(&group.nodes);
                joined.tasks += group.tasks;
            }
            is_apart
        });
        groups.push(joined);
    }
    groups
}

/// The CPUs of as many whole cores as each task has where what is local to a group is dealt evenly; 0 for those that do
/// not take part.
pub(super) fn fair_shares(pool: &Pool, near: &[Near], takes_part: &[bool]) -> Vec<usize> {
    let tasks = || near.iter().zip(takes_part);
    let takers = tasks().filter(|(_, takes_part)| **takes_part);
    let groups = groups(takers.map(|(near, _)| near));
    let threads = pool.threads() as usize;
    let shares: Vec<usize> = groups
        .iter()
        .map(|group| group.cpus(pool) / threads / group.tasks.max(1) * threads)
        .collect();
    let fair = tasks().map(|(near, takes_part)| {
        let mut known = groups.iter().zip(&shares);
        let mine = known.find(|(group, _)| near.nodes.intersects(&group.nodes));
        mine.filter(|_| *takes_part).map_or(0, |(_, share)| *share)
    });
    fair.collect()
}

/// Tasks with as much each.
struct Share {
    tasks: usize,
    each: usize,
}

impl Share {
    /// `total` over so many tasks, as evenly as can be.
    fn even(total: usize, tasks: usize) -> [Self; 2] {
        let each = total.checked_div(tasks).unwrap_or(0);
        let more = total - each * tasks;
        [(more, each + 1), (tasks - more, each)].map(|(tasks, each)| Self { tasks, each })
    }

    fn squares(&self) -> usize {
        self.tasks * self.each.pow(2)
    }
}

impl Merit {
    /// The merit of `plan`, the CPUs of each task, within `pool`.
    pub(super) fn of(pool: &Pool, wants: Wants<'_>, plan: &[CpuSet]) -> Self {
        let mut merit = Self::default();
        let shared = pool.cores_of_several(&plan.iter().collect::<Vec<_>>());
        let tasks = wants.near.iter().zip(wants.fair);
        for (((near, fair), takes_part), cpus) in tasks.zip(wants.takes_part).zip(plan) {
            if *takes_part && !cpus.is_empty() {
                let spread = pool.spread(cpus);
                let local = cpus.common(&near.cpus);
                let (mut at_home, mut farthest) = (local, 0);
                let areas = spread.areas.iter().filter_map(|area| pool.areas.get(*area));
                for (area, far) in areas.filter_map(|area| Some((area, wants.far(near, area)?))) {
                    farthest = farthest.max(far.distance);
                    if far.is_home {
                        at_home += cpus.common(&area.cpus);
                    }
                }
                merit += wants.merit_of(Facts {
                    held: cpus.len(),
                    fair: *fair,
                    local,
                    at_home,
                    farthest,
                    touches_all: near.touches_all(pool, &spread.areas),
                    is_spanning: near.is_spanning(),
                    is_on_one: [spread.areas.len() == 1, spread.packages.len() == 1],
                    caches: spread.caches.len(),
                    shares_core: cpus.intersects(&shared),
                });
            }
        }
        merit
    }

    /// Its parts, the first of the order first.
    fn parts(&mut self) -> [&mut usize; 14] {
        [
            &mut self.reached,
            &mut self.asked,
            &mut self.local,
            &mut self.whole,
            &mut self.one_node,
            &mut self.one_package,
            &mut self.at_home,
            &mut self.farthest.0,
            &mut self.fair,
            &mut self.one_cache,
            &mut self.whole_cores,
            &mut self.uneven_cores.0,
            &mut self.caches.0,
            &mut self.uneven_cpus.0,
        ]
    }
}

impl AddAssign for Merit {
    fn add_assign(&mut self, mut other: Self) {
        for (mine, more) in self.parts().into_iter().zip(other.parts()) {
            *mine += *more;
        }
    }
}

impl SubAssign for Merit {
    fn sub_assign(&mut self, mut other: Self) {
        for (mine, less) in self.parts().into_iter().zip(other.parts()) {
            *mine = mine.saturating_sub(*less);
        }
    }
}
