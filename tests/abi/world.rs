//! Made-up machines: the snapshot that the plugin reads, and the files of `/sys` and `/dev` that agree.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nccl_topo::emit::Form;
use tempfile::TempDir;
use topology::machine::NumaSource;
use topology::machine::{Gpu, Locality, Machine, MinorSource, NodeKind, NumaNode, Package};
use topology::pci::{PciAddress, PciDevice};
use topology::set::{CpuSet, NodeSet};
use topology::snapshot::{HostNow, NODE_FILE, Snapshot};

/// A machine and the folder of its files, which goes with it.
pub(crate) struct World {
    pub(crate) machine: Machine,
    /// Its CPUs are made up too, and so is the kernel that binds to them.
    pub(crate) is_made_up: bool,
    folder: TempDir,
}

impl World {
    /// This host's own CPUs, as two nodes with a GPU each: GPU 0 on the lower half of the CPUs.
    pub(crate) fn with_real_cpus() -> Self {
        let online = host_now().online;
        assert!(online.len() >= 2, "needs two CPUs; here are {online}");
        let cpus: Vec<u32> = online.iter().collect();
        let (low, high) = cpus.split_at(cpus.len() / 2);
        let halves = [low, high].map(|half| half.iter().copied().collect::<CpuSet>());
        let cores = online.iter().map(|cpu| CpuSet::from_range(cpu, cpu));
        let machine = machine(&halves, 2, cores.collect(), &[0, 1]);
        Self::new(machine, false)
    }

    /// Packages of nodes of cores of threads, a GPU on each node.  CPUs are numbered as Linux does:
    /// all first threads, then all second ones.
    pub(crate) fn made_up(packages: u32, nodes: u32, cores: u32, threads: u32) -> Self {
        let all_nodes = packages * nodes;
        let all_cores = all_nodes * cores;
        let core = |index| -> CpuSet { (0..threads).map(|t| index + t * all_cores).collect() };
        let node_cpus: Vec<CpuSet> = (0..all_nodes)
            .map(|node| {
                let mut cpus = CpuSet::new();
                for index in node * cores..(node + 1) * cores {
                    cpus.extend_with(&core(index));
                }
                cpus
            })
            .collect();
        let on: Vec<u32> = (0..all_nodes).collect();
        let machine = machine(
            &node_cpus,
            packages as usize,
            (0..all_cores).map(core).collect(),
            &on,
        );
        Self::new(machine, true)
    }

    fn new(machine: Machine, is_made_up: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o755);
        let world = Self {
            machine,
            is_made_up,
            folder,
        };
        for part in ["snapshot", "devices"] {
            fs::create_dir(world.path(part)).unwrap();
            set_mode(&world.path(part), 0o755);
        }
        world.write_snapshot(&world.snapshot());
        world.write_sysfs();
        for file in Form::ALL.map(Form::file_name) {
            world.write(&format!("snapshot/{file}"), "<system version=\"1\"/>\n");
        }
        world.write("online", &format!("{}\n", world.machine.online));
        let nodes: NodeSet = world
            .machine
            .numa_nodes
            .iter()
            .map(|node| node.id)
            .collect();
        world.write("status", &format!("Mems_allowed_list:\t{nodes}\n"));
        world
    }

    /// The PCI devices and NUMA nodes as `/sys` has them.
    fn write_sysfs(&self) {
        let put = |name: String, text: &str| {
            let path = self.path(&name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        };
        for gpu in &self.machine.gpus {
            let node = gpu.locality.numa_nodes.as_ref().unwrap();
            for (file, text) in [
                ("class", "0x030200"),
                ("vendor", "0x10de"),
                ("device", "0x2330"),
                ("numa_node", &node.to_string()),
            ] {
                put(format!("devices/{}/{file}", gpu.pci), text);
            }
        }
        for node in &self.machine.numa_nodes {
            let distances: Vec<String> = node.distances.values().map(u32::to_string).collect();
            put(
                format!("node/node{}/cpulist", node.id),
                &node.cpus.to_string(),
            );
            put(
                format!("node/node{}/distance", node.id),
                &distances.join(" "),
            );
            let memory = format!("Node {} MemTotal: 67108864 kB", node.id);
            put(format!("node/node{}/meminfo", node.id), &memory);
        }
        let last = self.machine.numa_nodes.len() - 1;
        for list in ["online", "has_cpu", "has_memory", "possible"] {
            put(format!("node/{list}"), &format!("0-{last}"));
        }
    }

    /// The world's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the world's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that everybody may read, and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        set_mode(&path, 0o644);
        path
    }

    /// The path of the snapshot's machine.
    pub(crate) fn node_file(&self) -> PathBuf {
        self.path("snapshot").join(NODE_FILE)
    }

    /// The path of NCCL's file for one host.
    pub(crate) fn nccl_file(&self) -> String {
        self.path("snapshot")
            .join(Form::SingleHost.file_name())
            .display()
            .to_string()
    }

    /// A fresh snapshot.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let now = HostNow {
            online: self.machine.online.clone(),
            ..host_now()
        };
        Snapshot::new(self.machine.clone(), &now, 1)
    }

    /// Replaces the snapshot.
    pub(crate) fn write_snapshot(&self, snapshot: &Snapshot) {
        self.write("snapshot/node.json", &snapshot.to_json().unwrap());
    }

    /// The CPUs of a GPU's node, as a kernel list.
    pub(crate) fn cpus_of_gpu(&self, gpu: usize) -> CpuSet {
        self.machine.gpus[gpu].locality.cpus.clone().unwrap()
    }

    /// The minor of the `gpu`th GPU by address.
    pub(crate) fn minor(&self, gpu: usize) -> u32 {
        self.machine.gpus[gpu].minor.unwrap()
    }
}

/// Boot, driver and CPUs of this very host.
fn host_now() -> HostNow {
    topology::sysfs::read_now(Path::new("/"), &[])
}

/// Gives a file to an ordinary user.
pub(crate) fn give_to_user(path: &Path) {
    chown(path, Some(65_534), None).expect("these tests need root");
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn machine(
    node_cpus: &[CpuSet],
    packages: usize,
    cores: Vec<CpuSet>,
    gpu_nodes: &[u32],
) -> Machine {
    let mut online = CpuSet::new();
    for cpus in node_cpus {
        online.extend_with(cpus);
    }
    let each = node_cpus.len() / packages;
    let package_of = |node: usize| u32::try_from(node / each).unwrap();
    let id = |node: usize| u32::try_from(node).unwrap();
    let distance = |a: usize, b: usize| match (a == b, package_of(a) == package_of(b)) {
        (true, _) => 10,
        (false, true) => 12,
        (false, false) => 21,
    };
    let numa_nodes: Vec<NumaNode> = node_cpus
        .iter()
        .enumerate()
        .map(|(node, cpus)| NumaNode {
            id: id(node),
            package: Some(package_of(node)),
            cpus: cpus.clone(),
            memory_bytes: Some(64 << 30),
            kind: NodeKind::Dram,
            distances: (0..node_cpus.len())
                .map(|to| (id(to), distance(node, to)))
                .collect(),
        })
        .collect();
    let packages = (0..packages)
        .map(|package| {
            let mut whole = Package {
                id: id(package),
                cpus: CpuSet::new(),
                numa_nodes: NodeSet::new(),
            };
            for (node, cpus) in node_cpus.iter().enumerate().skip(package * each).take(each) {
                whole.cpus.extend_with(cpus);
                whole.numa_nodes.insert(id(node));
            }
            whole
        })
        .collect();
    let last = id(gpu_nodes.len()) - 1;
    let gpus = (0..)
        .zip(gpu_nodes)
        .map(|(index, node)| Gpu {
            // Against PCI order, as real hosts have it at times.
            minor: Some(last - index),
            minor_source: MinorSource::Driver,
            uuid: Some(format!("GPU-{index:08x}-aaaa")),
            // All to all, so that no pair has only the socket link.
            nvlinks: (0..=last)
                .filter(|other| *other != index)
                .map(|other| (pci(other), 4))
                .collect(),
            locality: Locality {
                package: Some(package_of(*node as usize)),
                numa_nodes: Some(std::iter::once(*node).collect()),
                numa_source: NumaSource::NumaNode,
                cpus: Some(node_cpus[*node as usize].clone()),
            },
            ..Gpu::of(&PciDevice::new(pci(index), 0x03_0200, 0x10de, 0x2330))
        })
        .collect();
    Machine {
        online,
        packages,
        numa_nodes,
        cores,
        gpus,
        nvlink_visible: true,
        ..Machine::default()
    }
}

/// The address of the `index`th GPU.
pub(crate) fn pci(index: u32) -> PciAddress {
    format!("0000:{:02x}:00.0", 0x23 + 0x10 * index)
        .parse()
        .unwrap()
}
