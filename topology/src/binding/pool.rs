//! The CPUs that a step's tasks are dealt, by NUMA node, last-level cache and core.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::machine::{Machine, NumaNode};
use crate::set::{CpuSet, NodeSet};

/// The CPUs that are dealt.
pub(super) struct Pool {
    /// All of them.
    pub(super) cpus: CpuSet,
    /// By NUMA node.
    pub(super) areas: Vec<Area>,
    /// The faster of them ([`Machine::faster`]); empty where all are alike.
    pub(super) faster: Vec<CpuSet>,
    /// The area and the cell of each CPU, by its number.
    places: Vec<(u32, u32)>,
    /// CPUs of its largest core, at least 1.
    threads: u32,
}

/// One NUMA node's part of a pool.
pub(super) struct Area {
    /// The node; none for CPUs that the machine has in none.
    pub(super) node: Option<u32>,
    /// Its package; none where that is not known.
    pub(super) package: Option<u32>,
    /// Its CPUs.
    pub(super) cpus: CpuSet,
    /// The same by last-level cache that several cores share; one where there is none.
    pub(super) cells: Vec<Cell>,
}

/// What of an area is below one last-level cache.
pub(super) struct Cell {
    /// All of them.
    pub(super) cpus: CpuSet,
    /// Its CPUs by core, none empty.
    pub(super) cores: Vec<CpuSet>,
}

/// Over which of each some CPUs are spread.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// Indexes of areas.
    pub(super) areas: SmallVec<[usize; 8]>,
    pub(super) packages: SmallVec<[Option<u32>; 4]>,
    /// Cells, which have numbers of their own throughout the pool.
    pub(super) caches: SmallVec<[u32; 8]>,
}

impl Pool {
    /// Cuts `cpus`.
    pub(super) fn new(machine: &Machine, cpus: &CpuSet) -> Self {
        let mut rest = cpus.clone();
        let mut cores = Vec::new();
        for core in &machine.cores {
            let mine = core.intersection(&rest);
            if !mine.is_empty() {
                rest = rest.difference(&mine);
                cores.push(mine);
            }
        }
        cores.extend(rest.iter().map(CpuSet::single));
        let threads = cores.iter().map(count).max().unwrap_or(1);
        // Cores lie in order, mostly: the node and cache of the last one are asked first.
        let mut last_node: Option<&NumaNode> = None;
        let mut node_of = |core: &CpuSet| {
            if last_node.is_none_or(|node| !node.cpus.intersects(core)) {
                let nodes = &machine.numa_nodes;
                last_node = nodes.iter().find(|node| node.cpus.intersects(core));
            }
            last_node.map(|node| node.id)
        };
        let caches = shared_caches(machine);
        let mut last_cache: Option<usize> = None;
        let mut cache_of = |core: &CpuSet| {
            let is_in = |cache: usize| caches.get(cache).is_some_and(|cpus| cpus.intersects(core));
            if !last_cache.is_some_and(is_in) {
                last_cache = (0..caches.len()).find(|cache| is_in(*cache));
            }
            last_cache
        };
        let mut areas: BTreeMap<Option<u32>, BTreeMap<Option<usize>, Vec<CpuSet>>> =
            BTreeMap::new();
        for core in cores {
            let cells = areas.entry(node_of(&core)).or_default();
            cells.entry(cache_of(&core)).or_default().push(core);
        }
        let areas = areas.into_iter().map(|(node, cells)| {
            let mut cpus = CpuSet::new();
            for core in cells.values().flatten() {
                cpus.extend_with(core);
            }
            let cells = cells.into_values().map(|mut cores| {
                cores.sort_by_cached_key(CpuSet::first);
                let mut cpus = CpuSet::new();
                for core in &cores {
                    cpus.extend_with(core);
                }
                Cell { cpus, cores }
            });
            let cells = cells.collect();
            let package = package_of(machine, node, &cpus);
            Area {
                node,
                package,
                cpus,
                cells,
            }
        });
        let mut pool = Self {
            cpus: cpus.clone(),
            faster: machine.faster(cpus),
            areas: areas.collect(),
            threads,
            places: vec![(0, 0); cpus.last().map_or(0, |last| last as usize + 1)],
        };
        let mut cell = 0;
        for (area, index) in pool.areas.iter().zip(0..) {
            for cpus in area.cells.iter().map(|cell| &cell.cpus) {
                for cpu in cpus.iter() {
                    if let Some(place) = pool.places.get_mut(cpu as usize) {
                        *place = (index, cell);
                    }
                }
                cell += 1;
            }
        }
        pool
    }

    /// The indexes of the areas of `nodes`.
    pub(super) fn areas_of(&self, nodes: &NodeSet) -> Vec<usize> {
        let areas = self.areas.iter().enumerate();
        let of_nodes = areas.filter(|(_, area)| area.is_of(nodes));
        of_nodes.map(|(index, _)| index).collect()
    }

    /// The most CPUs below one cache, at least 1.
    pub(super) fn widest_cell(&self) -> usize {
        let cells = self.areas.iter().flat_map(|area| &area.cells);
        cells.map(|cell| cell.cpus.len()).max().unwrap_or(1).max(1)
    }

    /// CPUs of its largest core, at least 1.
    pub(super) fn threads(&self) -> u32 {
        self.threads
    }

    /// Over what of it `cpus`, which are all of it, are spread.
    pub(super) fn spread(&self, cpus: &CpuSet) -> Spread {
        let mut spread = Spread::default();
        for cpu in cpus.iter() {
            let Some((area, cell)) = self.places.get(cpu as usize) else {
                continue;
            };
            if spread.caches.last() == Some(cell) || spread.caches.contains(cell) {
                continue;
            }
            spread.caches.push(*cell);
            let area = *area as usize;
            if !spread.areas.contains(&area) {
                spread.areas.push(area);
                let package = self.areas.get(area).and_then(|area| area.package);
                if !spread.packages.contains(&package) {
                    spread.packages.push(package);
                }
            }
        }
        spread
    }

    /// The CPUs of cores that several of `plan` have a CPU of.
    pub(super) fn cores_of_several(&self, plan: &[&CpuSet]) -> CpuSet {
        // By CPU, who has it: none, one, or several.
        let mut holders: Vec<Holder> = Vec::new();
        for (task, cpus) in plan.iter().enumerate() {
            let cpus = cpus.iter().map(|cpu| cpu as usize);
            for cpu in cpus {
                if cpu >= holders.len() {
                    holders.resize(cpu + 1, Holder::Nobody);
                }
                if let Some(holder) = holders.get_mut(cpu) {
                    *holder = holder.with(Holder::Task(task));
                }
            }
        }
        let mut several = CpuSet::new();
        let cells = self.areas.iter().flat_map(|area| &area.cells);
        for core in cells
            .flat_map(|cell| &cell.cores)
            .filter(|core| core.len() > 1)
        {
            let each = core.iter().filter_map(|cpu| holders.get(cpu as usize));
            if each.fold(Holder::Nobody, |all, holder| all.with(*holder)) == Holder::Several {
                several.extend_with(core);
            }
        }
        several
    }
}

/// Who has CPUs of a core.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    Task(usize),
    Several,
}

impl Holder {
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (one, Self::Nobody) | (Self::Nobody, one) => one,
            (Self::Task(a), Self::Task(b)) if a == b => self,
            (Self::Task(_) | Self::Several, Self::Task(_) | Self::Several) => Self::Several,
        }
    }
}

impl Area {
    /// Whether it is of one of `nodes`.
    pub(super) fn is_of(&self, nodes: &NodeSet) -> bool {
        self.node.is_some_and(|node| nodes.contains(node))
    }

    /// How many tasks could each have `size` CPUs of whole cores of it.
    pub(super) fn core_seats(&self, size: u32) -> u32 {
        self.cells
            .iter()
            .flat_map(|cell| &cell.cores)
            .fold((0, 0), |(seats, held), core| {
                let held = held + count(core);
                if held >= size {
                    (seats + 1, 0)
                } else {
                    (seats, held)
                }
            })
            .0
    }
}

/// The last-level caches that several cores share: on one that a core has to itself no task could be with two cores.
fn shared_caches(machine: &Machine) -> Vec<&CpuSet> {
    let widest = machine.cores.iter().map(CpuSet::len).max().unwrap_or(1);
    let is_of_one_core = |cache: &CpuSet| {
        cache.len() <= widest && machine.cores.iter().any(|core| cache.is_subset(core))
    };
    let caches = machine.last_level_caches.iter();
    caches.filter(|cache| !is_of_one_core(cache)).collect()
}

/// How many CPUs are in `cpus`.
pub(super) fn count(cpus: &CpuSet) -> u32 {
    u32::try_from(cpus.len()).unwrap_or(u32::MAX)
}

fn package_of(machine: &Machine, node: Option<u32>, cpus: &CpuSet) -> Option<u32> {
    let of_node = node.and_then(|node| machine.node(node)?.package);
    of_node.or_else(|| {
        let packages = &machine.packages;
        packages
            .iter()
            .find(|package| package.cpus.intersects(cpus))
            .map(|package| package.id)
    })
}
