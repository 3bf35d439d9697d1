//! Slurm's abstract core numbers, which gres.conf's `Cores=` counts.
//!
//! slurmd numbers cores socket by socket in hwloc's logical order (`xcpuinfo_hwloc_topo_get`, xcpuinfo.c,
//! 22.05 to 26.05): a machine's core 5 is seldom CPU 5.  What counts as a socket is a package, or a NUMA node or
//! last-level cache where slurmd's parameters say so ([`crate::parameters`]).

use topology::machine::Machine;
use topology::set::{CpuSet, IndexSet};

use crate::node::{Node, Shape};
use crate::objects::{NodeSockets, Objects, third_level_caches};

/// Marks a set of Slurm's core numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlurmCore {}

/// A set of Slurm's core numbers.
pub type CoreSet = IndexSet<SlurmCore>;

/// What Slurm takes for a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// A physical package, its default.
    Package,
    /// `numa_node_as_socket`.
    NumaNode,
    /// `l3cache_as_socket`: a third-level cache, and the machine where it has none.
    L3,
}

/// What `slurmd -C` prints of a machine, in whole numbers also where its sockets or cores differ
/// (`xcpuinfo_hwloc_topo_get`, slurmd/common/xcpuinfo.c, 22.05 to 26.05).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// `CPUs=`.
    pub cpus: usize,
    /// `Boards=`: groups of sockets near each other by their distances; None where hwloc's objects are not known.
    pub boards: Option<usize>,
    /// All sockets; `SocketsPerBoard=` is these by the boards, rounded down.
    pub sockets: usize,
    /// `CoresPerSocket=`: all cores by all sockets, rounded down.
    pub cores_per_socket: usize,
    /// `ThreadsPerCore=`: all CPUs by all cores, rounded down.
    pub threads_per_core: usize,
}

/// The cores of each socket, each as its CPUs; a core that no socket holds is not there.
pub(crate) type Sockets = Vec<Vec<CpuSet>>;

/// The machine as Slurm counts it: each socket's cores, each core's CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreMap {
    sockets: Sockets,
}

/// Whether slurmd does not start where it takes `kind` for a socket of this machine, because hwloc has groups of several kinds and the
/// NUMA nodes hang on some ("can not handle nobj[SOCKET] = -1").
pub fn stops_slurmd(machine: &Machine, kind: SocketKind) -> bool {
    let objects = (kind == SocketKind::NumaNode).then(|| Objects::of(machine));
    objects
        .flatten()
        .is_some_and(|own| own.node_sockets == Some(NodeSockets::Stops))
}

/// A machine's cores in Slurm's order, without those that have a CPU of `left_out`; None where what slurmd counts is not known, or
/// nothing, as it does not start.
pub(crate) fn sockets_of_machine(
    machine: &Machine,
    kind: SocketKind,
    left_out: &CpuSet,
) -> Option<Sockets> {
    let of_objects = match kind {
        SocketKind::NumaNode => match Objects::of(machine)?.node_sockets {
            Some(NodeSockets::Sets(sets)) => sets,
            Some(NodeSockets::Stops) => return None,
            // Without nodes it stays with packages.
            None => machine
                .packages
                .iter()
                .map(|package| package.cpus.clone())
                .collect(),
        },
        SocketKind::L3 => Objects::of(machine).map_or_else(
            || third_level_caches(machine).to_vec(),
            |objects| objects.caches,
        ),
        SocketKind::Package => Vec::new(),
    };
    let of_objects: Vec<&CpuSet> = of_objects.iter().collect();
    let packages: Vec<&CpuSet> = machine
        .packages
        .iter()
        .map(|package| &package.cpus)
        .collect();
    let with_cpus = machine
        .numa_nodes
        .iter()
        .filter(|node| !node.cpus.is_empty());
    let nodes: Vec<&CpuSet> = with_cpus.map(|node| &node.cpus).collect();
    let caches: Vec<&CpuSet> = third_level_caches(machine).iter().collect();
    let homes = match kind {
        SocketKind::Package => &packages,
        SocketKind::NumaNode | SocketKind::L3 => &of_objects,
    };
    let lowest = |sets: &[&CpuSet], core: &CpuSet| {
        let home = sets.iter().find(|set| set.intersects(core));
        home.and_then(|set| set.first())
    };
    let dies: Vec<&CpuSet> = machine.dies.iter().collect();
    let clusters: Vec<&CpuSet> = machine.clusters.iter().collect();
    let holders = [&packages, &dies, &nodes, &caches, &clusters];
    // hwloc's order: whatever holds a core comes by its lowest CPU, outermost first.
    let order = |core: &CpuSet| {
        let mut held: Vec<&CpuSet> = Vec::new();
        for sets in holders {
            held.extend(sets.iter().find(|set| set.intersects(core)));
        }
        held.sort_by_key(|set| std::cmp::Reverse(set.len()));
        let mut lowest: Vec<Option<u32>> = held.iter().map(|set| set.first()).collect();
        lowest.push(core.first());
        lowest
    };
    let kept = machine.cores.iter();
    let mut cores: Vec<&CpuSet> = kept.filter(|core| !core.intersects(left_out)).collect();
    cores.sort_by_cached_key(|core| order(core));
    let mut sockets: Vec<(Option<u32>, Vec<CpuSet>)> = Vec::new();
    for core in cores {
        let home = lowest(homes, core);
        // Without any socket the machine is one; beside sockets a core in none is in none.
        if home.is_none() && !homes.is_empty() {
            continue;
        }
        match sockets.iter_mut().find(|(known, _)| *known == home) {
            Some((_, own)) => own.push(core.clone()),
            None => sockets.push((home, vec![core.clone()])),
        }
    }
    Some(sockets.into_iter().map(|(_, cores)| cores).collect())
}

impl Counts {
    /// Counts a machine of which slurmd leaves the cores with a CPU of `left_out` aside; None where it has no core.
    pub fn of(machine: &Machine, kind: SocketKind, left_out: &CpuSet) -> Option<Self> {
        let sockets = sockets_of_machine(machine, kind, left_out)?;
        // Those that no socket holds count, too.
        let all = machine.cores.iter();
        let all = all.filter(|core| !core.intersects(left_out));
        let (cores, cpus) = all.fold((0_usize, 0_usize), |(cores, cpus), core| {
            (cores + 1, cpus + core.len())
        });
        Some(Self {
            cpus,
            boards: Objects::of(machine).map(|own| own.boards),
            sockets: sockets.len(),
            cores_per_socket: cores.checked_div(sockets.len())?,
            threads_per_core: cpus.checked_div(cores)?,
        })
    }
}

impl CoreMap {
    /// The keys and values with which the line of `node` declares its sockets ([`Node::pairs_of`]).
    pub fn socket_pairs(&self, node: &Node) -> Vec<(String, String)> {
        node.pairs_of(
            self.sockets(),
            self.cores_per_socket(),
            self.threads_per_core(),
        )
    }

    /// Counts a machine; None where its sockets differ or a core is in none, because Slurm's numbers then have holes.
    pub fn new(machine: &Machine, kind: SocketKind) -> Option<Self> {
        Self::without(machine, kind, &CpuSet::new())
    }

    /// Counts a machine of which slurmd leaves the cores with a CPU of `left_out` aside.
    pub fn without(machine: &Machine, kind: SocketKind, left_out: &CpuSet) -> Option<Self> {
        let sockets = sockets_of_machine(machine, kind, left_out)?;
        let first = sockets.first()?;
        let threads = first.first().map(CpuSet::len);
        let all = machine.cores.iter();
        let all = all.filter(|core| !core.intersects(left_out)).count();
        let held: usize = sockets.iter().map(Vec::len).sum();
        let alike = held == all
            && sockets.iter().all(|cores| {
                cores.len() == first.len() && cores.iter().all(|core| Some(core.len()) == threads)
            });
        alike.then_some(Self { sockets })
    }

    /// `Sockets=`.
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// `CoresPerSocket=`.
    pub fn cores_per_socket(&self) -> usize {
        self.sockets.first().map_or(0, Vec::len)
    }

    /// `ThreadsPerCore=`.
    pub fn threads_per_core(&self) -> usize {
        let first = self.sockets.first().and_then(|cores| cores.first());
        first.map_or(0, CpuSet::len)
    }

    /// The numbers of a node's line that fit.
    pub fn shape(&self) -> Shape {
        Shape {
            cpus: (self.cores() * self.threads_per_core()) as u64,
            sockets: self.sockets() as u64,
            cores_per_socket: self.cores_per_socket() as u64,
            threads_per_core: self.threads_per_core() as u64,
        }
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.sockets() * self.cores_per_socket()
    }

    /// Every core's number.
    pub fn all_cores(&self) -> CoreSet {
        (0..)
            .zip(self.sockets.iter().flatten())
            .map(|(number, _)| number)
            .collect()
    }

    /// How many sockets have a core of `cores`.
    pub fn sockets_of(&self, cores: &CoreSet) -> usize {
        let numbers = (0..).zip(self.sockets.iter().flatten());
        let mut sockets: Vec<usize> = numbers
            .enumerate()
            .filter(|(_, (number, _))| cores.contains(*number))
            .map(|(position, _)| position / self.cores_per_socket().max(1))
            .collect();
        sockets.dedup();
        sockets.len()
    }

    /// The cores that `CoreSpecCount=count` takes from jobs: the last of each socket, the last socket first, or the other way round
    /// where it takes the first ([`crate::parameters::takes_first_cores`]; `_select_spec_cores`, slurmd/slurmd.c, 22.05 to 26.05).
    pub fn reserved_by_count(&self, count: usize, takes_first: bool) -> CoreSet {
        let (per_socket, sockets) = (self.cores_per_socket(), self.sockets());
        let number = |place: usize, of: usize| if takes_first { place } else { of - 1 - place };
        let order = (0..per_socket).flat_map(|core| {
            (0..sockets)
                .map(move |socket| number(socket, sockets) * per_socket + number(core, per_socket))
        });
        order
            .take(count)
            .filter_map(|core| u32::try_from(core).ok())
            .collect()
    }

    /// The cores that `CpuSpecList=` takes from jobs; `cpus` are Slurm's own numbers of CPUs, threads by cores.
    pub fn reserved_by_list(&self, cpus: &CoreSet) -> CoreSet {
        let threads = u32::try_from(self.threads_per_core()).unwrap_or(u32::MAX);
        cpus.iter()
            .filter_map(|cpu| cpu.checked_div(threads))
            .collect()
    }

    /// The CPUs of `cores`; those beyond the last core have none.
    pub fn cpus_of(&self, cores: &CoreSet) -> CpuSet {
        let mut cpus = CpuSet::new();
        for (number, core) in (0..).zip(self.sockets.iter().flatten()) {
            if cores.contains(number) {
                cpus.extend_with(core);
            }
        }
        cpus
    }

    /// The cores that have a CPU of `cpus`.
    pub fn cores_of(&self, cpus: &CpuSet) -> CoreSet {
        (0..)
            .zip(self.sockets.iter().flatten())
            .filter(|(_, core)| core.intersects(cpus))
            .map(|(number, _)| number)
            .collect()
    }

    /// `cores` grown to whole sockets.
    pub fn whole_sockets(&self, cores: &CoreSet) -> CoreSet {
        let size = u32::try_from(self.cores_per_socket())
            .unwrap_or(u32::MAX)
            .max(1);
        let mut whole = CoreSet::new();
        for core in cores.iter() {
            let start = core / size * size;
            whole.extend_with(&CoreSet::from_range(start, start + (size - 1)));
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::machine::{NodeKind, NumaNode, Package};
    use topology::set::NodeSet;

    fn set(list: &str) -> CpuSet {
        list.parse().unwrap()
    }

    /// Two packages whose CPUs alternate, with hyper-threads 8 above: even CPUs are package 0.
    fn machine() -> Machine {
        let (even, odd) = (set("0,2,4,6,8,10,12,14"), set("1,3,5,7,9,11,13,15"));
        let package = |id, cpus: &CpuSet| Package {
            id,
            cpus: cpus.clone(),
            numa_nodes: NodeSet::single(id),
        };
        Machine {
            packages: vec![package(0, &even), package(1, &odd)],
            cores: (0..8)
                .map(|cpu| [cpu, cpu + 8].into_iter().collect())
                .collect(),
            numa_nodes: [("0,4,8,12"), ("2,6,10,14"), ("1,5,9,13"), ("3,7,11,15")]
                .iter()
                .zip(0..)
                .map(|(list, id)| NumaNode {
                    id,
                    package: Some(id / 2),
                    cpus: set(list),
                    memory_bytes: None,
                    kind: NodeKind::Dram,
                    distances: std::collections::BTreeMap::new(),
                })
                .collect(),
            ..Machine::default()
        }
    }

    #[test]
    fn cores_are_counted_socket_by_socket_and_node_by_node() {
        let map = CoreMap::new(&machine(), SocketKind::Package).unwrap();
        assert_eq!(
            (
                map.sockets(),
                map.cores_per_socket(),
                map.threads_per_core()
            ),
            (2, 4, 2)
        );
        let cpus = map.cpus_of(&"0-1".parse().unwrap());
        assert_eq!(cpus.to_string(), "0,4,8,12");
        assert_eq!(map.cores_of(&set("1,3")).to_string(), "4,6");
        assert_eq!(map.whole_sockets(&"5".parse().unwrap()).to_string(), "4-7");
        let nodes = CoreMap::new(&machine(), SocketKind::NumaNode).unwrap();
        assert_eq!((nodes.sockets(), nodes.cores_per_socket()), (4, 2));
        assert_eq!(nodes.all_cores().to_string(), "0-7");
        let sockets = |list: &str| nodes.sockets_of(&list.parse().unwrap());
        assert_eq!((sockets("0-1"), sockets("1-2"), sockets("0,7")), (1, 2, 2));
        assert_eq!(nodes.sockets_of(&CoreSet::new()), 0);
    }

    /// As a real `slurmd -C` printed for a host of which one socket lacks a core: whole numbers, rounded down.
    #[test]
    fn sockets_that_differ_have_no_numbers_and_are_counted_in_whole_ones() {
        let mut machine = machine();
        machine.cores.pop();
        assert_eq!(CoreMap::new(&machine, SocketKind::Package), None);
        let counts = Counts::of(&machine, SocketKind::Package, &CpuSet::new()).unwrap();
        let expected = Counts {
            cpus: 14,
            boards: Some(1),
            sockets: 2,
            cores_per_socket: 3,
            threads_per_core: 2,
        };
        assert_eq!(counts, expected);
        let none = Counts::of(&Machine::default(), SocketKind::Package, &CpuSet::new());
        assert_eq!(none, None);
    }

    #[test]
    fn reserved_cores_are_the_last_of_each_socket_or_those_of_the_list() {
        let map = CoreMap::new(&machine(), SocketKind::Package).unwrap();
        assert_eq!(map.reserved_by_count(1, false).to_string(), "7");
        assert_eq!(map.reserved_by_count(3, false).to_string(), "3,6-7");
        assert_eq!(map.reserved_by_count(99, false).to_string(), "0-7");
        assert_eq!(map.reserved_by_count(1, true).to_string(), "0");
        assert_eq!(map.reserved_by_count(3, true).to_string(), "0-1,4");
        let list = map.reserved_by_list(&"0-1,9".parse().unwrap());
        assert_eq!(list.to_string(), "0,4");
    }

    #[test]
    fn cores_that_slurmd_leaves_out_have_no_numbers() {
        // Two cores of each package, those with CPUs 4 and above, are left out.
        let map = CoreMap::without(&machine(), SocketKind::Package, &set("4-7")).unwrap();
        assert_eq!((map.sockets(), map.cores_per_socket()), (2, 2));
        assert_eq!(map.cpus_of(&map.all_cores()).to_string(), "0-3,8-11");
        // The odd ones alone: sockets differ.
        assert_eq!(
            CoreMap::without(&machine(), SocketKind::Package, &set("4")),
            None
        );
    }
}
