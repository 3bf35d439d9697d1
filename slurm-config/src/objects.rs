//! What hwloc makes of a machine, as far as slurmd counts it: what its NUMA nodes hang on, and the groups that it makes up.
//!
//! Read in hwloc's topology.c, distances.c and topology-linux.c (2.x, the same for what is said here): packages, dies, third-level
//! caches, which are the only ones that slurmd keeps, and cores nest by their CPUs; the kernel's clusters of cores are groups; a NUMA
//! node hangs on the highest of them with just its CPUs, else on a group that is made for it; then
//! nodes at the least SLIT distance from each other are grouped, and such groups again.  A group with the CPUs of something
//! else is not kept, nor is a level of groups of which each is the only part of what is above it.
//!
//! Not known here, and taken for missing: the node that firmware calls near one without CPUs.

use std::ptr;

use topology::machine::Machine;
use topology::set::CpuSet;

/// More NUMA nodes than any Linux machine has; beyond them nothing is foretold.
const MAX_NODES: usize = 256;

/// More cores, caches or packages than a machine has, and as many as are put in their places in a moment.
const MAX_PARTS: usize = 4096;

/// An object's type; hwloc puts those that are equal on one level.  Outermost first where they have the same CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Machine,
    /// Of cores, as the kernel has them.
    Cluster,
    /// Of nodes near each other, by the round in which it was made.
    Near(u32),
    /// For a NUMA node with other CPUs than anything else.
    OfNode,
    Package,
    Die,
    Cache,
    Core,
}

impl Kind {
    fn is_group(self) -> bool {
        match self {
            Self::Cluster | Self::Near(_) | Self::OfNode => true,
            Self::Machine | Self::Package | Self::Die | Self::Cache | Self::Core => false,
        }
    }

    /// Its turn among the objects of a CPU (`look_sysfscpu`).
    fn turn(self) -> u32 {
        match self {
            Self::Core => 0,
            Self::Package => 1,
            Self::Cluster => 2,
            Self::Die => 3,
            Self::Machine | Self::Near(_) | Self::OfNode | Self::Cache => 4,
        }
    }
}

#[derive(Debug)]
struct Object {
    kind: Kind,
    cpus: CpuSet,
    has_node: bool,
    children: Vec<Object>,
}

/// CPUs of two objects that have some in common and some each.
#[derive(Debug)]
struct Overlap;

impl Object {
    fn new(kind: Kind, cpus: CpuSet) -> Self {
        Self {
            kind,
            cpus,
            has_node: false,
            children: Vec::new(),
        }
    }

    /// Puts `new` among the objects below (`hwloc___insert_object_by_cpuset`).
    fn insert(&mut self, mut new: Self) -> Result<(), Overlap> {
        let mut inside = Vec::new();
        for (place, child) in self.children.iter_mut().enumerate() {
            if !child.cpus.intersects(&new.cpus) {
                continue;
            }
            let (is_in, holds) = (
                new.cpus.is_subset(&child.cpus),
                child.cpus.is_subset(&new.cpus),
            );
            if is_in && holds {
                if new.kind.is_group() {
                    if child.kind.is_group() {
                        child.kind = child.kind.min(new.kind);
                    }
                    return Ok(());
                }
                if child.kind == new.kind {
                    return Ok(());
                }
                if child.kind.is_group() {
                    child.kind = new.kind;
                    return Ok(());
                }
                if child.kind < new.kind {
                    return child.insert(new);
                }
            } else if is_in {
                return child.insert(new);
            } else if !holds {
                return Err(Overlap);
            }
            inside.push(place);
        }
        for place in inside.into_iter().rev() {
            new.children.insert(0, self.children.remove(place));
        }
        let first = new.cpus.first();
        let after = |own: &Self| own.cpus.is_empty() || own.cpus.first() > first;
        let place = self.children.iter().position(after);
        self.children
            .insert(place.unwrap_or(self.children.len()), new);
        Ok(())
    }

    /// Hangs a NUMA node with `cpus` on the object for it (`hwloc__find_insert_memory_parent`).
    fn hang(&mut self, cpus: &CpuSet) {
        let holder = self
            .children
            .iter_mut()
            .find(|child| cpus.is_subset(&child.cpus));
        match holder {
            Some(child) if child.cpus == *cpus => child.has_node = true,
            Some(child) => child.hang(cpus),
            None => {
                let mut group = Self::new(Kind::OfNode, cpus.clone());
                group.has_node = true;
                if self.insert(group).is_err() {
                    self.has_node = true;
                }
            }
        }
    }

    /// Whether there is one of `kind` below.
    fn holds(&self, kind: Kind) -> bool {
        let mut children = self.children.iter();
        children.any(|child| child.kind == kind || child.holds(kind))
    }

    /// The object on which the first NUMA node hangs.
    fn first_with_node(&self) -> Option<&Self> {
        let below = self.children.iter().find_map(Self::first_with_node);
        below.or(self.has_node.then_some(self))
    }
}

/// A level of objects of one kind.
struct Level<'a> {
    kind: Kind,
    objects: Vec<&'a Object>,
}

/// The levels below `root`, outermost first (`hwloc_connect_levels`).
fn levels_of(root: &Object) -> Vec<Level<'_>> {
    let mut levels = vec![Level {
        kind: root.kind,
        objects: vec![root],
    }];
    let mut open: Vec<&Object> = root.children.iter().collect();
    while let Some(first) = open.first() {
        let mut kind = first.kind;
        for object in &open {
            if object.kind != kind && object.holds(kind) {
                kind = object.kind;
            }
        }
        let mut objects = Vec::new();
        let mut next = Vec::new();
        for object in open {
            if object.kind == kind {
                objects.push(object);
                next.extend(&object.children);
            } else {
                next.push(object);
            }
        }
        levels.push(Level { kind, objects });
        open = next;
    }
    levels
}

/// Whether each object of `below` is the only one of another above.
fn are_one_each(above: &[&Object], below: &[&Object]) -> bool {
    let mut pairs = above.iter().zip(below);
    above.len() == below.len()
        && pairs.all(|(above, below)| match above.children.as_slice() {
            [only] => ptr::eq(only, *below),
            [] | [..] => false,
        })
}

/// A level after those that say nothing are gone: its kind, its objects, and all that were merged into them.
struct Kept<'a> {
    kind: Kind,
    /// Those that are there.
    own: Vec<&'a Object>,
    /// The outermost of those that were merged, by which the level is known from above.
    outer: Vec<&'a Object>,
    merged: Vec<&'a Object>,
}

/// Without levels of groups that are the same as their neighbours (`hwloc_filter_levels_keep_structure`).
fn kept_levels(levels: Vec<Level<'_>>) -> Vec<Kept<'_>> {
    let mut kept: Vec<Kept<'_>> = Vec::new();
    for Level { kind, objects } in levels.into_iter().rev() {
        let below = kept.last_mut();
        let same = below.filter(|below| {
            (kind.is_group() || below.kind.is_group()) && are_one_each(&objects, &below.outer)
        });
        match same {
            Some(below) => {
                if below.kind.is_group() {
                    below.kind = kind;
                    below.own.clone_from(&objects);
                }
                below.merged.extend(&objects);
                below.outer = objects;
            }
            None => kept.push(Kept {
                kind,
                own: objects.clone(),
                outer: objects.clone(),
                merged: objects,
            }),
        }
    }
    kept.reverse();
    kept
}

/// The numbers of groups of nodes that are at the least distance from each other, 0 for those that are in none, and how many groups
/// there are (`hwloc__find_groups_by_min_distance`).
fn nearest(values: &[Vec<u64>]) -> (Vec<usize>, usize) {
    let value = |a: usize, b: usize| values.get(a).and_then(|row| row.get(b)).copied();
    let number = values.len();
    let pairs = (0..number).flat_map(|a| (0..number).map(move |b| (a, b)));
    let least = pairs
        .filter(|(a, b)| a != b)
        .filter_map(|(a, b)| value(a, b))
        .min();
    let mut ids = vec![0; number];
    let (mut id, mut is_any_alone) = (1, false);
    for start in 0..number {
        if ids.get(start) != Some(&0) {
            continue;
        }
        let mut members = vec![start];
        let mut from = Some(start);
        while let Some(first) = from.take() {
            for a in first..number {
                if !members.contains(&a) {
                    continue;
                }
                for b in 0..number {
                    let is_free = ids.get(b) == Some(&0) && !members.contains(&b);
                    if is_free && value(a, b) == least {
                        members.push(b);
                        from = from.or(Some(b));
                    }
                }
            }
        }
        if members.len() == 1 {
            is_any_alone = true;
            continue;
        }
        for member in members {
            if let Some(own) = ids.get_mut(member) {
                *own = id;
            }
        }
        id += 1;
    }
    if id == 2 && !is_any_alone {
        return (ids, 0);
    }
    (ids, id - 1)
}

/// Groups of `sets` by their distances, and groups of such groups (`hwloc__groups_by_distances`); None where one has no CPU.
fn group(root: &mut Object, sets: &[CpuSet], values: &[Vec<u64>], round: u32) -> Option<()> {
    if sets.len() <= 2 {
        return Some(());
    }
    let (ids, number) = nearest(values);
    let of = |id: usize| {
        (0..ids.len())
            .filter(move |place| *place < sets.len())
            .filter({
                let ids = &ids;
                move |place| ids.get(*place) == Some(&id)
            })
    };
    let mut unions = Vec::new();
    let mut fits = true;
    for id in 1..=number {
        let mut cpus = CpuSet::new();
        for place in of(id) {
            cpus.extend_with(sets.get(place)?);
        }
        if cpus.is_empty() {
            return None;
        }
        fits &= root
            .insert(Object::new(Kind::Near(round), cpus.clone()))
            .is_ok();
        unions.push(cpus);
    }
    if !fits {
        return Some(());
    }
    let mean = |a: usize, b: usize| {
        let all = of(a).flat_map(|a| of(b).map(move |b| (a, b)));
        let all = all.filter_map(|(a, b)| values.get(a)?.get(b).copied());
        let (sum, count) = all.fold((0, 0), |(sum, count): (u64, u64), own| {
            (sum + own, count + 1)
        });
        sum.checked_div(count).unwrap_or(0)
    };
    let means: Vec<Vec<u64>> = (1..=number)
        .map(|a| (1..=number).map(|b| mean(a, b)).collect())
        .collect();
    group(root, &unions, &means, round + 1)
}

/// The SLIT of a machine's nodes by their ids; None where it is not recorded or hwloc takes it for nonsense.
fn distances(machine: &Machine) -> Option<Vec<Vec<u64>>> {
    let nodes = &machine.numa_nodes;
    let row = |from: &topology::machine::NumaNode| -> Option<Vec<u64>> {
        let to = nodes.iter().map(|to| from.distances.get(&to.id).copied());
        to.map(|value| value.map(u64::from)).collect()
    };
    let rows: Vec<Vec<u64>> = nodes.iter().map(row).collect::<Option<_>>()?;
    let value = |a: usize, b: usize| rows.get(a).and_then(|row| row.get(b));
    let is_sound = (0..rows.len()).all(|a| {
        let mut after = a + 1..rows.len();
        after.all(|b| value(a, b) == value(b, a) && value(a, b) > value(a, a))
    });
    is_sound.then_some(rows)
}

/// What slurmd counts with `numa_node_as_socket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeSockets {
    /// These sets of CPUs.
    Sets(Vec<CpuSet>),
    /// hwloc has groups of several kinds, and slurmd does not start ("can not handle nobj[SOCKET] = -1").
    Stops,
}

/// What slurmd reads off hwloc's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Objects {
    /// How many groups are below the machine itself, which slurmd takes for boards; 1 where there are none.
    pub(crate) boards: usize,
    /// All objects of the kind on which the first NUMA node hangs (`xcpuinfo_hwloc_topo_get`); None for a machine without nodes.
    pub(crate) node_sockets: Option<NodeSockets>,
    /// The third-level caches: those that overlap nothing.
    pub(crate) caches: Vec<CpuSet>,
}

/// The caches of the third level: the last-level ones where nothing else is said.
pub(crate) fn third_level_caches(machine: &Machine) -> &[CpuSet] {
    let own = machine.third_level_caches.as_ref();
    own.unwrap_or(&machine.last_level_caches)
}

impl Objects {
    /// Those of a machine; None where they are not known.
    pub(crate) fn of(machine: &Machine) -> Option<Self> {
        let nodes = &machine.numa_nodes;
        let third_level = third_level_caches(machine);
        let parts = [
            machine.cores.len(),
            third_level.len(),
            machine.packages.len(),
            machine.dies.len(),
            machine.clusters.len(),
        ];
        let parts: usize = parts.iter().sum();
        if nodes.len() > MAX_NODES || parts > MAX_PARTS {
            return None;
        }
        let mut cpus = CpuSet::new();
        machine.cores.iter().for_each(|core| cpus.extend_with(core));
        // hwloc has a package also where the kernel gives it no number, as on some virtual machines; none of these is recorded.
        let unnumbered = machine.packages.is_empty().then(|| cpus.clone());
        let mut root = Object::new(Kind::Machine, cpus);
        let packages = machine.packages.iter().map(|package| &package.cpus);
        let packages = packages.chain(&unnumbered);
        let mut objects: Vec<(Kind, &CpuSet)> =
            packages.map(|cpus| (Kind::Package, cpus)).collect();
        objects.extend(machine.dies.iter().map(|cpus| (Kind::Die, cpus)));
        objects.extend(third_level.iter().map(|cpus| (Kind::Cache, cpus)));
        objects.extend(machine.cores.iter().map(|cpus| (Kind::Core, cpus)));
        objects.extend(machine.clusters.iter().map(|cpus| (Kind::Cluster, cpus)));
        objects.retain(|(_, cpus)| !cpus.is_empty());
        // CPU by CPU, each of a kind with its first one.
        objects.sort_by_key(|(kind, cpus)| (cpus.first(), kind.turn()));
        for (kind, cpus) in objects {
            // What overlaps something that is there is left out.
            let _is_left_out = root.insert(Object::new(kind, cpus.clone())).is_err();
        }
        let mut ordered: Vec<&CpuSet> = nodes.iter().map(|node| &node.cpus).collect();
        ordered.sort_by_key(|cpus| cpus.is_empty());
        for cpus in ordered {
            if cpus.is_empty() {
                let mut group = Object::new(Kind::OfNode, CpuSet::new());
                group.has_node = true;
                root.children.push(group);
            } else {
                root.hang(cpus);
            }
        }
        if let Some(values) = distances(machine) {
            let sets: Vec<CpuSet> = nodes.iter().map(|node| node.cpus.clone()).collect();
            group(&mut root, &sets, &values, 0)?;
        }
        let levels = kept_levels(levels_of(&root));
        let holder = root.first_with_node();
        let has = |level: &Kept<'_>, object: &Object| {
            level.merged.iter().any(|own| ptr::eq(*own, object))
        };
        // What is merged with the machine itself is no child of it.
        let mut child = root.children.first();
        while let Some(own) = child.filter(|own| levels.first().is_some_and(|top| has(top, own))) {
            child = own.children.first();
        }
        let boards = child.and_then(|child| levels.iter().find(|level| has(level, child)));
        let boards = boards.filter(|level| level.kind.is_group());
        let kind = holder.and_then(|holder| levels.iter().find(|level| has(level, holder)));
        let sets = |level: &Kept<'_>| -> Vec<CpuSet> {
            level.own.iter().map(|own| own.cpus.clone()).collect()
        };
        let node_sockets = kind.map(|level| {
            let groups = levels.iter().filter(|level| level.kind.is_group()).count();
            if level.kind.is_group() && groups > 1 {
                NodeSockets::Stops
            } else {
                NodeSockets::Sets(sets(level))
            }
        });
        let caches = levels.iter().filter(|level| level.kind == Kind::Cache);
        Some(Self {
            boards: boards.map_or(1, |level| level.own.len()),
            node_sockets,
            caches: caches.flat_map(sets).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::machine::{NodeKind, NumaNode, Package};
    use topology::set::NodeSet;

    /// Packages of nodes of caches of so many cores of one thread, with the distance that `slit` gives two nodes.
    fn machine(packages: &[&[&[u32]]], slit: impl Fn(u32, u32) -> u32) -> Machine {
        let mut machine = Machine::default();
        let (mut next, mut id) = (0, 0);
        for package in packages {
            let first = next;
            for node in *package {
                let start = next;
                for size in *node {
                    let cache: CpuSet = (next..next + size).collect();
                    machine.cores.extend(cache.iter().map(CpuSet::single));
                    machine.last_level_caches.push(cache);
                    next += size;
                }
                machine.numa_nodes.push(NumaNode {
                    id,
                    package: None,
                    cpus: (start..next).collect(),
                    memory_bytes: None,
                    kind: NodeKind::Dram,
                    distances: std::collections::BTreeMap::new(),
                });
                id += 1;
            }
            machine.packages.push(Package {
                id: first,
                cpus: (first..next).collect(),
                numa_nodes: NodeSet::new(),
            });
        }
        for node in &mut machine.numa_nodes {
            let own = node.id;
            node.distances = (0..id)
                .map(|to| (to, if to == own { 10 } else { slit(own, to) }))
                .collect();
        }
        machine
    }

    /// As real slurmds counted such machines, by hwloc 2.9 and 2.13 (`tests/slurm/counts`).
    #[test]
    fn dies_and_clusters_are_objects_and_what_overlaps_is_left_out() {
        let flat = |_, _| 20;
        let set = |list: &str| list.parse::<CpuSet>().unwrap();
        let node: &[&[u32]] = &[&[2, 2], &[2, 2]];
        let mut own = machine(&[node, node], flat);
        // Nodes hang on dies, and other nodes then on groups.
        own.dies = vec![set("0-3"), set("4-7")];
        assert_eq!(counted(&own), (1, Some(2)));
        // A cluster with a die's CPUs is that die, one with a cache's that cache; one over two of a node's caches is a group.
        own.dies.clear();
        own.clusters = vec![set("0-3"), set("4-5")];
        assert_eq!(counted(&own), (1, None));
        // It is there before the caches of its first CPU, so that a cache that it cuts is not.
        own.clusters = vec![set("0-2")];
        assert_eq!(Objects::of(&own).unwrap().caches.len(), 7);
        own.third_level_caches = Some(vec![set("0-3")]);
        assert_eq!(Objects::of(&own).unwrap().caches, [set("0-3")]);
    }

    /// Boards and sockets; no sockets where slurmd stops.  Each as a real slurmd 25.11 counted such a machine.
    fn counted(machine: &Machine) -> (usize, Option<usize>) {
        let own = Objects::of(machine).unwrap();
        let sockets = match own.node_sockets {
            Some(NodeSockets::Sets(sets)) => {
                Some(sets.iter().filter(|set| !set.is_empty()).count())
            }
            Some(NodeSockets::Stops) | None => None,
        };
        (own.boards, sockets)
    }

    #[test]
    fn sockets_are_what_the_first_node_hangs_on() {
        let flat = |_, _| 20;
        let half: &[&[u32]] = &[&[4], &[4]];
        let whole: &[&[u32]] = &[&[8]];
        // Groups for nodes of several caches, caches for nodes of one, packages for nodes alone in one.
        let groups: &[&[u32]] = &[&[2, 2], &[2, 2]];
        assert_eq!(counted(&machine(&[groups, groups], flat)), (1, Some(4)));
        assert_eq!(counted(&machine(&[half, half], flat)), (1, Some(4)));
        assert_eq!(counted(&machine(&[whole, whole], flat)), (1, Some(2)));
        // The first node decides for all.
        assert_eq!(counted(&machine(&[whole, half], flat)), (1, Some(2)));
        let mixed: &[&[u32]] = &[&[2], &[2, 2]];
        let both: &[&[u32]] = &[&[2, 2], &[2, 2]];
        assert_eq!(counted(&machine(&[mixed, both], flat)), (1, Some(7)));
    }

    #[test]
    fn near_nodes_are_grouped() {
        let node: &[&[u32]] = &[&[2]];
        let pairs = |a: u32, b: u32| if a / 2 == b / 2 { 12 } else { 21 };
        assert_eq!(counted(&machine(&[node; 4], pairs)), (2, Some(4)));
        let fours = |a: u32, b: u32| if a / 4 == b / 4 { 12 } else { 21 };
        assert_eq!(counted(&machine(&[node; 8], fours)), (2, Some(8)));
        // Groups that are the packages are none; those within one make a level more.
        let two: &[&[u32]] = &[&[1, 1], &[1, 1]];
        assert_eq!(counted(&machine(&[two, two], pairs)), (1, Some(4)));
        let four: &[&[u32]] = &[&[1, 1], &[1, 1], &[1, 1], &[1, 1]];
        assert_eq!(counted(&machine(&[four], pairs)), (1, None));
    }
}
