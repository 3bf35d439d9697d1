//! slurmd's map of the machine's CPUs, by which the CPUs near a GPU that AutoDetect found become Slurm's numbers of cores.
//!
//! The map is of all CPUs that slurmd counts (`xcpuinfo_hwloc_topo_get`, slurmd/common/xcpuinfo.c, the same from 22.05 to
//! 26.05); what is then asked of it (`xcpuinfo_mac_to_abs`) goes by the sockets, cores and threads that slurmd registers. Where
//! these are the machine's and its sockets are alike, the cores are those of [`crate::cores::CoreMap`]; where the node's line
//! has fewer threads than the machine, or sockets differ, they are others.

use topology::machine::Machine;
use topology::set::CpuSet;

use crate::cores::{CoreSet, Counts, SocketKind, sockets_of_machine};
use crate::node::Shape;
use crate::objects::{Objects, third_level_caches};
use crate::release::Release;
use crate::rules;

/// More cores, and threads of one, than any machine has; a line may say more, and its node is drained for it.
const MAX_CORES: usize = 1 << 16;
const MAX_THREADS: usize = 16;

/// What slurmd takes each of the machine's CPUs for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMap {
    /// By slurmd's own number, the machine's CPU.
    forward: Vec<usize>,
    /// By the machine's number, slurmd's own.
    inverse: Vec<usize>,
    threads_per_core: usize,
}

impl BlockMap {
    /// The map of a machine of which slurmd leaves the cores with a CPU of `left_out` aside; None where what it counts is
    /// not known.
    pub fn of(machine: &Machine, kind: SocketKind, left_out: &CpuSet) -> Option<Self> {
        let counts = Counts::of(machine, kind, left_out)?;
        let sockets = sockets_of_machine(machine, kind, left_out)?;
        let mut forward: Vec<usize> = (0..counts.cpus).collect();
        let mut inverse = forward.clone();
        // hwloc finds no core below a cache that is not there, and the map stays as it began.
        let is_mapped = match kind {
            SocketKind::L3 => Objects::of(machine).map_or_else(
                || !third_level_caches(machine).is_empty(),
                |objects| !objects.caches.is_empty(),
            ),
            SocketKind::Package | SocketKind::NumaNode => true,
        };
        let cores = sockets.iter().flatten().filter(|_| is_mapped);
        for (number, core) in cores.enumerate() {
            for (thread, cpu) in core.iter().take(counts.threads_per_core).enumerate() {
                let own = number * counts.threads_per_core + thread;
                let cpu = cpu as usize;
                // A CPU beyond those that are counted has no place.
                if let (Some(to), Some(from)) = (forward.get_mut(own), inverse.get_mut(cpu)) {
                    (*to, *from) = (cpu, own);
                }
            }
        }
        Some(Self {
            forward,
            inverse,
            threads_per_core: counts.threads_per_core,
        })
    }

    /// `cpus` without those that slurmd has no place for.
    pub fn without_unplaced(&self, cpus: &CpuSet) -> CpuSet {
        let placed = cpus.iter();
        placed
            .filter(|cpu| self.forward.contains(&(*cpu as usize)))
            .collect()
    }

    /// Slurm's numbers of the cores with `cpus`, on a node of which slurmd of `release` registers `shape`; None where it does
    /// not convert them, because one is beyond the CPUs that it counts.
    pub fn cores_of(&self, cpus: &CpuSet, shape: Shape, release: Release) -> Option<CoreSet> {
        let number =
            |value: u64, most: usize| usize::try_from(value).map_or(most, |own| own.min(most));
        let total = self.inverse.len();
        if cpus.last().is_some_and(|last| last as usize >= total) {
            return None;
        }
        let threads = number(shape.threads_per_core, MAX_THREADS);
        let per_core = if !rules::counts_the_machines_threads(release) {
            threads
        } else if shape.is_cpus_alone(total as u64) {
            1
        } else {
            self.threads_per_core
        };
        let cores = number(shape.cores(), MAX_CORES);
        let place = |core: usize, thread: usize| (core * per_core + thread).checked_rem(total);
        let mut found = vec![false; total];
        let places =
            (0..cores).flat_map(|core| (0..threads).filter_map(move |thread| place(core, thread)));
        for cpu in places {
            let is_near = u32::try_from(cpu).is_ok_and(|cpu| cpus.contains(cpu));
            let own = self.inverse.get(cpu).filter(|_| is_near);
            if let Some(own) = own.and_then(|own| found.get_mut(*own)) {
                *own = true;
            }
        }
        let is_found = |core: &usize| {
            let mut places = (0..threads).filter_map(|thread| place(*core, thread));
            places.any(|cpu| found.get(cpu) == Some(&true))
        };
        let numbers = (0..cores).filter(is_found);
        Some(
            numbers
                .filter_map(|core| u32::try_from(core).ok())
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(list: &str) -> CpuSet {
        list.parse().unwrap()
    }

    fn shape(words: &str) -> Shape {
        let conf = crate::config::of_text(&format!("NodeName=a {words}\n"), "slurm.conf");
        crate::node::find(&conf, Some("a"))
            .unwrap()
            .geometry()
            .shape()
    }

    /// Two packages with a node each: the cores' first threads, then their second ones.
    fn machine(cores: [u32; 2]) -> Machine {
        let all = cores[0] + cores[1];
        let list = |first: u32, count: u32| {
            format!(
                "{first}-{},{}-{}",
                first + count - 1,
                first + all,
                first + all + count - 1
            )
        };
        let lists = [list(0, cores[0]), list(cores[0], cores[1])];
        let package = |id: u32| topology::machine::Package {
            id,
            cpus: set(&lists[id as usize]),
            numa_nodes: topology::set::NodeSet::single(id),
        };
        Machine {
            packages: vec![package(0), package(1)],
            cores: (0..all)
                .map(|cpu| [cpu, cpu + all].into_iter().collect())
                .collect(),
            ..Machine::default()
        }
    }

    fn cores(machine: &Machine, cpus: &str, words: &str, of: (u32, u32)) -> String {
        let map = BlockMap::of(machine, SocketKind::Package, &CpuSet::new()).unwrap();
        let found = map.cores_of(&set(cpus), shape(words), Release::from(of));
        found.map_or_else(|| "none".to_owned(), |found| found.to_string())
    }

    #[test]
    fn cores_are_the_machines_where_the_line_is() {
        let whole = "Sockets=2 CoresPerSocket=4 ThreadsPerCore=2";
        for of in [(22, 5), (23, 11), (25, 11)] {
            assert_eq!(cores(&machine([4, 4]), "0-3,8-11", whole, of), "0-3");
            assert_eq!(cores(&machine([4, 4]), "4-7,12-15", whole, of), "4-7");
        }
    }

    /// slurmd then looks at every second CPU of the machine (from 23.11 on), or at half of them.
    #[test]
    fn a_line_of_fewer_threads_gets_other_cores() {
        let single = "Sockets=2 CoresPerSocket=4 ThreadsPerCore=1";
        assert_eq!(cores(&machine([4, 4]), "0-3,8-11", single, (25, 11)), "0,2");
        assert_eq!(
            cores(&machine([4, 4]), "4-7,12-15", single, (25, 11)),
            "4,6"
        );
        assert_eq!(
            cores(&machine([4, 4]), "0-3,8-11", single, (22, 5)),
            "0,2,4,6"
        );
    }

    /// With CPUs= alone each CPU is a socket, and its number slurmd's own.
    #[test]
    fn cpus_alone_are_cores_by_their_own_numbers() {
        for of in [(22, 5), (25, 11)] {
            assert_eq!(cores(&machine([4, 4]), "0-3,8-11", "CPUs=16", of), "0-7");
        }
    }

    /// Six cores on two sockets, the first with two: three of each are numbered.
    #[test]
    fn sockets_that_differ_are_numbered_one_after_the_other() {
        let even = "Sockets=2 CoresPerSocket=3 ThreadsPerCore=2";
        assert_eq!(cores(&machine([2, 4]), "0-1,6-7", even, (25, 11)), "0-1");
        assert_eq!(cores(&machine([2, 4]), "2-5,8-11", even, (25, 11)), "2-5");
    }

    #[test]
    fn cpus_beyond_those_that_are_counted_are_not_converted() {
        let mut machine = machine([4, 4]);
        // CPU 1 and its sibling are offline.
        machine.cores.remove(1);
        let whole = "Sockets=2 CoresPerSocket=3 ThreadsPerCore=2";
        assert_eq!(cores(&machine, "4-7,12-15", whole, (25, 11)), "none");
        let map = BlockMap::of(&machine, SocketKind::Package, &CpuSet::new()).unwrap();
        assert_eq!(map.without_unplaced(&set("4-7,12-15")).last(), Some(13));
    }
}
