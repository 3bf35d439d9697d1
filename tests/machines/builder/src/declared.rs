//! The form of `tests/machines/NAME.toml`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::models::{self, Model};
use crate::values::{Address, Bytes, Indexes, RootBus, Way};

/// The memory of a machine that declares no nodes, in bytes.
pub(crate) const MEMORY_WITHOUT_NUMA: u64 = 64 << 30;

/// A machine, as `tests/machines/NAME.toml` declares it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// The file's name without `.toml`.
    #[serde(skip)]
    pub name: String,
    /// The machine, and what is odd about it, in a sentence.
    pub about: String,
    /// What the kernel's files are like.
    #[serde(default)]
    pub quirks: BTreeSet<Quirk>,
    /// `/proc/sys/kernel/hostname`.
    #[serde(default = "host_name")]
    pub hostname: String,
    /// The board's name, as firmware has it.
    pub board: Option<String>,
    /// What `/proc/cpuinfo` says.
    pub processor: Processor,
    /// Cores, in groups that share package, node and threads.
    pub cores: Vec<Cores>,
    /// CPUs that are there and not online.
    #[serde(default)]
    pub offline: Indexes,
    /// NUMA nodes, by id; none for a kernel without NUMA.
    #[serde(default)]
    pub nodes: Vec<Node>,
    /// SLIT: a row for each of `nodes`; none where firmware has no table.
    #[serde(default)]
    pub slit: Vec<Vec<u32>>,
    /// The models of devices that do not name their own.
    #[serde(default)]
    pub models: Models,
    /// Host bridges and the devices below them.
    #[serde(default, rename = "bridge")]
    pub bridges: Vec<HostBridge>,
    /// Who is joined by NVLink, as NVML tells; none where NVML is not asked.
    #[serde(default)]
    pub nvlink: Option<NvLink>,
    /// NVIDIA's driver; none where it is not loaded.
    #[serde(default)]
    pub driver: Option<Driver>,
    /// AMD's drivers; none where they are not loaded.
    #[serde(default)]
    pub amdgpu: Option<Amdgpu>,
    /// Intel's driver; none where it is not loaded.
    #[serde(default)]
    pub xe: Option<Xe>,
    /// ACPI's SRAT, which only root can read; none for the others.
    #[serde(default)]
    pub srat: Option<Srat>,
    /// SMBIOS; none where it cannot be read.
    #[serde(default)]
    pub dmi: Option<Dmi>,
    /// Further files by path from the root: Slurm's and NCCL's configuration, the site's word.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// What is true of it.
    pub truth: Truth,
}

fn host_name() -> String {
    "gpu1".to_owned()
}

/// How a kernel's files differ from those of a new one on x86.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quirk {
    /// Sets stand in masks only, and cores and packages under their names before Linux 5.3.
    MasksOnly,
    /// Lists end with a NUL byte.
    NulEndedLists,
    /// There is no `/sys/bus/pci`.
    NoBusFolder,
    /// There are no folders of caches.
    NoCaches,
    /// There is no `online` list of CPUs, only each CPU's own file.
    NoOnlineList,
    /// The devices have no `local_cpulist` and no `local_cpus`.
    NoLocalCpus,
    /// SMBIOS is there as single entries, not as a table.
    DmiEntries,
}

/// What `/proc/cpuinfo` says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// `x86_64`, `arm64` or `ppc64`.
    pub arch: String,
    /// CPUID vendor, on x86.
    pub vendor: Option<String>,
    /// CPUID family, on x86.
    pub family: Option<u32>,
    /// CPUID model, on x86.
    pub model: Option<u32>,
}

/// A run of cores that share package, node and number of threads.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cores {
    /// `physical_package_id`; -1 where firmware names none.
    pub package: i32,
    /// Their NUMA node; none on a kernel without NUMA.
    pub node: Option<u32>,
    /// Their CPUs, offline ones included.
    pub cpus: Indexes,
    /// CPUs of a core.
    #[serde(default = "one")]
    pub threads: usize,
    /// Which CPUs of the list are one core's.
    #[serde(default)]
    pub siblings: Siblings,
    /// Cores that share a second-level cache.
    #[serde(default = "one")]
    pub cores_per_l2: usize,
    /// Cores that share a third-level cache; 0 where there is none.  All of the group, where not said.
    pub cores_per_l3: Option<usize>,
    /// Cores that share a die; none where the kernel names no dies.
    pub cores_per_die: Option<usize>,
    /// Cores that share a cluster; none where the kernel names no clusters.
    pub cores_per_cluster: Option<usize>,
    /// The highest frequency that cpufreq gives; none where it is not recorded.
    pub max_mhz: Option<u32>,
    /// The highest performance on firmware's scale (ACPI CPPC); none where it is not recorded.
    pub highest_perf: Option<u32>,
}

fn one() -> usize {
    1
}

/// How the threads of a core are numbered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Siblings {
    /// All first threads, then all second ones: x86 firmware's usual order.
    #[default]
    Apart,
    /// One core's after the other's: POWER, QEMU, hybrid processors.
    Together,
}

impl Cores {
    /// The CPUs of each core.
    pub(crate) fn groups(&self) -> Vec<BTreeSet<u32>> {
        let cpus = &self.cpus.0;
        let count = cpus.len() / self.threads.max(1);
        let of = |core: usize, thread: usize| match self.siblings {
            Siblings::Apart => cpus[core + thread * count],
            Siblings::Together => cpus[core * self.threads + thread],
        };
        let core = |core| (0..self.threads).map(|thread| of(core, thread)).collect();
        (0..count).map(core).collect()
    }
}

/// A NUMA node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// N of `nodeN`.
    pub id: u32,
    /// Its memory; `0` for none, nothing where not recorded.
    pub memory: Option<Bytes>,
    /// The GPU whose own memory it is, as its driver says.
    pub of_gpu: Option<Address>,
}

/// Names of models, for devices that name none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// Of GPUs.
    pub gpu: Option<String>,
    /// Of NICs.
    pub nic: Option<String>,
    /// Of ports below root ports.
    pub switch: Option<String>,
    /// Of root ports.
    pub port: Option<String>,
}

/// A host bridge and what is below it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostBridge {
    /// Its root bus.
    pub bus: RootBus,
    /// The device behind which it is (Intel VMD).
    pub behind: Option<Way>,
    /// The `numa_node` of all functions below it that do not have their own; -1 where firmware names none.
    #[serde(default = "no_node")]
    pub node: i32,
    /// The node of its `_PXM`, which shows in `cpulistaffinity`; `node`, where not said.
    pub proximity: Option<i32>,
    /// Its own `numa_node` file, which most kernels do not have.
    pub numa_node_file: Option<i32>,
    /// GPUs.
    #[serde(default)]
    pub gpus: Vec<Device>,
    /// NICs.
    #[serde(default)]
    pub nics: Vec<Device>,
    /// Disks and whatever else.
    #[serde(default)]
    pub others: Vec<Device>,
    /// Ports that differ from the rest; all others are there because something is below them.
    #[serde(default)]
    pub ports: Vec<Port>,
}

fn no_node() -> i32 {
    -1
}

/// A PCI function.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The way to it from the root bus, through the ports above it.
    pub at: Way,
    /// Its model, a name of `builder/src/models.rs`.
    pub model: Option<String>,
    /// Its `numa_node`; the host bridge's, where not said.
    pub node: Option<i32>,
    /// Its `local_cpulist`; as the kernel makes it from `numa_node`, where not said.
    pub local_cpulist: Option<Indexes>,
    /// The link's speed now, in GT/s; the highest, where not said.
    pub speed_now: Option<f64>,
    /// The link's width now; the highest, where not said.
    pub width_now: Option<u32>,
    /// The link's highest speed, in GT/s, where it is not the model's.
    pub speed: Option<f64>,
    /// The link's highest width, where it is not the model's.
    pub width: Option<u32>,
    /// Whether the kernel does not know its highest speed and width.
    #[serde(default)]
    pub no_maximum: bool,
    /// A NIC's interfaces: those of InfiniBand and RDMA (`mlx5_0`), then those of the network.
    #[serde(default)]
    pub names: Vec<String>,
    /// A GPU's minor number; its place among the driver's GPUs in PCI order, where not said.
    pub minor: Option<u32>,
    /// Whether the driver does not have it.
    #[serde(default)]
    pub not_in_driver: bool,
    /// The function whose virtual one it is.
    pub virtual_of: Option<Address>,
}

/// A port that differs from the rest.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Which one.
    pub at: Address,
    /// Its `numa_node`.
    pub node: Option<i32>,
    /// The width of its link now.
    pub width_now: Option<u32>,
    /// The highest speed of its link, in GT/s.
    pub speed: Option<f64>,
}

/// NVLinks, as the two ends tell NVML.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvLink {
    /// NVSwitches, each with the number of links from every GPU to it.
    #[serde(default)]
    pub switches: Vec<(Address, u32)>,
    /// Pairs of GPUs joined without a switch, with the number of links.
    #[serde(default)]
    pub direct: Vec<(Address, Address, u32)>,
    /// GPUs without a link.
    #[serde(default)]
    pub without: Vec<Address>,
}

/// NVIDIA's driver.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// Its release.
    pub version: String,
    /// Whether it is only seen by its files in `/dev`, without `/proc/driver/nvidia`.
    #[serde(default)]
    pub files_only: bool,
    /// MIG instances, as NVML tells them.
    #[serde(default)]
    pub mig: Vec<Mig>,
}

/// AMD's drivers: amdgpu, and KFD with its topology.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amdgpu {
    /// How many parts each GPU is divided into.
    #[serde(default = "one")]
    pub parts: usize,
    /// `current_compute_partition`; none for models that cannot be divided.
    pub compute: Option<String>,
    /// KFD writes the number of a part above the address, as AMD's own releases of the driver have done, and not in the
    /// function's bits.
    #[serde(default)]
    pub numbers_above: bool,
    /// KFD knows a unique id for each part (Linux 6.18), and not that of the whole GPU.
    #[serde(default)]
    pub part_ids: bool,
    /// `current_memory_partition`; none for models that cannot be divided.
    pub memory: Option<String>,
    /// The GPUs in the order in which the driver found them; by address, where not said.
    #[serde(default)]
    pub found: Vec<Address>,
    /// Pairs of GPUs that xGMI joins, with the number of links; all other pairs are joined over others.
    #[serde(default)]
    pub xgmi: Vec<(Address, Address, u32)>,
    /// The number of links between every two GPUs.
    pub xgmi_mesh: Option<u32>,
}

impl Amdgpu {
    /// The render nodes that the driver makes for each GPU: one for each part that a GPU can be divided into, whether it is or not.
    pub(crate) fn files_each(&self) -> u32 {
        if self.compute.is_some() { 8 } else { 1 }
    }
}

/// Intel's driver.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Xe {
    /// The number of the first GPU's render node.
    pub first: u32,
}

/// A part of a GPU in KFD's topology.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) gpu: Function,
    pub(crate) node: u32,
    /// Which of its GPU's parts it is, from 0.
    pub(crate) number: u32,
    pub(crate) minor: u32,
}

/// A MIG instance.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mig {
    /// The GPU it is a part of.
    pub gpu: Address,
    /// Its UUID.
    pub uuid: String,
    /// Its GPU instance and the compute instance within.
    pub instance: (u32, u32),
}

/// ACPI's System Resource Affinity Table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Srat {
    /// The proximity domains of the nodes with CPUs, in the order of the table.
    pub domains: Vec<u32>,
    /// Devices as generic initiators, each with its domain.
    pub initiators: Vec<(Address, u32)>,
}

/// SMBIOS.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dmi {
    /// What the populated processors are called.
    #[serde(default)]
    pub processors: Vec<String>,
    /// Slots: what each is called, and the function it names.
    pub slots: Vec<(String, Address)>,
}

/// What is true of the machine, worked out by people from the declaration and not by the product.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// Where each GPU is, in PCI order.
    #[serde(default)]
    pub gpus: Vec<Place>,
    /// Where NICs are that are elsewhere than on the node with CPUs that their `numa_node` names.
    #[serde(default)]
    pub nics: Vec<Place>,
    /// For each GPU a row with a word for each: the path as `nvidia-smi topo -m` names it, `-` where it is not
    /// known, `X` for itself; before it `NV4/` where NVLinks join the two; after it `!` where traffic crosses the
    /// link between packages, `?` where that is not known.
    #[serde(default)]
    pub pairs: Vec<String>,
    /// The fewest crossings of a ring over all NVIDIA GPUs, NVLinks known; none where that is not known.
    pub ring_crossings: Option<u32>,
    /// NCCL's file: `package` or `node` for what a `<cpu>` of the file for several hosts stands for, else the
    /// reason why there is none (a variant of `NotEmitted`).
    pub nccl: String,
    /// The checks of `gpu-numa doctor` that find something.
    #[serde(default)]
    pub doctor: BTreeSet<String>,
    /// Remarks on what could not be read: how each begins.
    #[serde(default)]
    pub remarks: Vec<String>,
}

/// Where a device is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Which one.
    pub at: Address,
    /// Its package; none where it is not known, or where its nodes are in several.
    pub package: Option<u32>,
    /// Its nearest nodes with CPUs; none where they are not known.
    pub nodes: Option<Indexes>,
    /// The rung of the ladder that answers, as `numa_source` names it.
    pub by: String,
    /// Those of its nodes' CPUs that are nearer to it than the others; none where nothing says so.
    pub nearest: Option<Indexes>,
    /// The nodes whose memory a task on it gets, where they are others than `nodes`.
    pub memory: Option<Indexes>,
}

/// What a device is on the machine, with what it takes from its host bridge and its model.
#[derive(Debug, Clone)]
pub(crate) struct Function {
    pub(crate) address: Address,
    pub(crate) parent: Option<Address>,
    pub(crate) root_bus: RootBus,
    /// From `sys/devices` on.
    pub(crate) folder: String,
    pub(crate) model: &'static Model,
    pub(crate) role: Role,
    pub(crate) node: i32,
    pub(crate) local_cpulist: Option<BTreeSet<u32>>,
    pub(crate) link: Option<Link>,
    /// As declared; none for a port.
    pub(crate) device: Option<Device>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Gpu,
    Nic,
    Other,
    Port,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) best: Option<(f64, u32)>,
    pub(crate) now: (f64, u32),
}

impl Declared {
    /// Reads a declaration; `name` is the machine's.
    ///
    /// # Errors
    /// The text is no declaration, or one that contradicts itself.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut declared: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        name.clone_into(&mut declared.name);
        declared.check()?;
        Ok(declared)
    }

    fn check(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for group in &self.cores {
            let cpus = &group.cpus.0;
            if group.threads == 0 || cpus.len() % group.threads != 0 {
                return Err(format!("{} CPUs in cores of {}", cpus.len(), group.threads));
            }
            if let Some(cpu) = cpus.iter().find(|cpu| !seen.insert(**cpu)) {
                return Err(format!("CPU {cpu} is in two cores"));
            }
            if let Some(node) = group.node.filter(|node| self.node(*node).is_none()) {
                return Err(format!("there is no node {node}"));
            }
        }
        let is_square = self.slit.iter().all(|row| row.len() == self.nodes.len());
        if !self.slit.is_empty() && (self.slit.len() != self.nodes.len() || !is_square) {
            return Err("the SLIT does not fit the nodes".to_owned());
        }
        let gpus: Vec<Address> = self.gpus().iter().map(|gpu| gpu.address).collect();
        let placed: Vec<Address> = self.truth.gpus.iter().map(|place| place.at).collect();
        if gpus != placed {
            return Err(format!("the truth is of {placed:?}, the GPUs are {gpus:?}"));
        }
        let rows = &self.truth.pairs;
        if rows.len() != gpus.len()
            || rows
                .iter()
                .any(|row| row.split_whitespace().count() != gpus.len())
        {
            return Err("the truth has not a word for each pair of GPUs".to_owned());
        }
        Ok(())
    }

    pub(crate) fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }

    pub(crate) fn node(&self, id: u32) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// All CPUs, offline ones included.
    pub(crate) fn present(&self) -> BTreeSet<u32> {
        self.cores
            .iter()
            .flat_map(|group| group.cpus.set())
            .collect()
    }

    /// Its CPUs that are online.
    pub fn online(&self) -> BTreeSet<u32> {
        &self.present() - &self.offline.set()
    }

    /// The online CPUs of a node.
    pub(crate) fn cpus_of_node(&self, id: u32) -> BTreeSet<u32> {
        let groups = self.cores.iter().filter(|group| group.node == Some(id));
        let all: BTreeSet<u32> = groups.flat_map(|group| group.cpus.set()).collect();
        &all & &self.online()
    }

    /// The online CPUs of a package.
    pub(crate) fn cpus_of_package(&self, id: i32) -> BTreeSet<u32> {
        let groups = self.cores.iter().filter(|group| group.package == id);
        let all: BTreeSet<u32> = groups.flat_map(|group| group.cpus.set()).collect();
        &all & &self.online()
    }

    /// Every PCI function, by address.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut all: BTreeMap<Address, Function> = BTreeMap::new();
        for bridge in &self.bridges {
            let lists = [
                (Role::Gpu, &bridge.gpus),
                (Role::Nic, &bridge.nics),
                (Role::Other, &bridge.others),
            ];
            for (role, devices) in lists {
                for device in devices {
                    self.add_device(bridge, role, device, &mut all);
                }
            }
        }
        all.into_values().collect()
    }

    /// The GPUs, by address.
    pub(crate) fn gpus(&self) -> Vec<Function> {
        let mut all = self.functions();
        all.retain(|function| function.role == Role::Gpu);
        all
    }

    /// The GPUs that NVIDIA's driver has, by address, with their minor numbers.
    pub(crate) fn driver_gpus(&self) -> Vec<(Function, u32)> {
        let all = self.gpus().into_iter().filter(|gpu| {
            let is_left_out = gpu
                .device
                .as_ref()
                .is_some_and(|device| device.not_in_driver);
            gpu.model.ids.0 == 0x10de && !is_left_out
        });
        (0..)
            .zip(all)
            .map(|(place, gpu)| {
                let own = gpu.device.as_ref().and_then(|device| device.minor);
                (gpu, own.unwrap_or(place))
            })
            .collect()
    }

    /// The NUMA nodes with CPUs, which KFD lists before the GPUs.
    pub(crate) fn cpu_nodes(&self) -> Vec<u32> {
        let ids = self.nodes.iter().map(|node| node.id);
        ids.filter(|id| !self.cpus_of_node(*id).is_empty())
            .collect()
    }

    /// The GPUs of AMD's driver, or their parts, in the order of KFD's topology.
    pub(crate) fn kfd_parts(&self) -> Vec<Part> {
        let Some(amdgpu) = &self.amdgpu else {
            return Vec::new();
        };
        let mut gpus = self.gpus();
        gpus.retain(|gpu| gpu.model.ids.0 == 0x1002);
        let place = |gpu: &Function| amdgpu.found.iter().position(|found| *found == gpu.address);
        gpus.sort_by_key(place);
        let parts = (0..).zip(gpus).flat_map(|(index, gpu)| {
            let own = (0..).take(amdgpu.parts);
            own.map(move |number| (index, number, gpu.clone()))
        });
        let first = u32::try_from(self.cpu_nodes().len()).expect("few nodes");
        let files = amdgpu.files_each();
        (first..)
            .zip(parts)
            .map(|(node, (index, number, gpu))| Part {
                gpu,
                node,
                number,
                minor: 128 + index * files + number,
            })
            .collect()
    }

    /// The GPUs of Intel's driver with the numbers of their render nodes.
    pub(crate) fn xe_gpus(&self) -> Vec<(Function, u32)> {
        let Some(xe) = &self.xe else {
            return Vec::new();
        };
        let own = self.gpus().into_iter();
        own.filter(|gpu| gpu.model.ids.0 == 0x8086)
            .zip(xe.first..)
            .collect()
    }

    /// How many xGMI links join two GPUs; 0 where only other GPUs do, none where nothing does.
    pub(crate) fn xgmi_links(&self, a: Address, b: Address) -> Option<u32> {
        let amdgpu = self.amdgpu.as_ref()?;
        if let Some(count) = amdgpu.xgmi_mesh {
            return Some(count);
        }
        let is_pair =
            |(x, y, _): &&(Address, Address, u32)| (*x, *y) == (a, b) || (*x, *y) == (b, a);
        let found = amdgpu.xgmi.iter().find(is_pair);
        (!amdgpu.xgmi.is_empty()).then(|| found.map_or(0, |(_, _, count)| *count))
    }

    fn add_device(
        &self,
        bridge: &HostBridge,
        role: Role,
        device: &Device,
        all: &mut BTreeMap<Address, Function>,
    ) {
        let mut folder = "sys/devices".to_owned();
        let mut parent = None;
        if let Some(behind) = &bridge.behind {
            let first = behind.0[0];
            let root_bus = RootBus {
                domain: first.domain,
                bus: first.bus,
            };
            folder += &format!("/pci{root_bus}");
            for address in &behind.0 {
                folder += &format!("/{address}");
                let port = self.port(bridge, *address, parent, &folder);
                let model = model("vmd");
                all.entry(*address).or_insert(Function {
                    root_bus,
                    model,
                    link: None,
                    role: Role::Other,
                    ..port
                });
                parent = Some(*address);
            }
        }
        folder += &format!("/pci{}", bridge.bus);
        let (last, above) = device.at.0.split_last().expect("a way is never empty");
        for address in above {
            let address = Address {
                domain: bridge.bus.domain,
                ..*address
            };
            folder += &format!("/{address}");
            let port = self.port(bridge, address, parent, &folder);
            all.entry(address).or_insert(port);
            parent = Some(address);
        }
        let address = Address {
            domain: bridge.bus.domain,
            ..*last
        };
        let node = device.node.unwrap_or(bridge.node);
        let model = model(self.model_name(role, device));
        let function = Function {
            address,
            parent,
            root_bus: bridge.bus,
            folder: format!("{folder}/{address}"),
            model,
            role,
            node,
            local_cpulist: self.local_cpulist(node, device.local_cpulist.as_ref()),
            link: link(model, device),
            device: Some(device.clone()),
        };
        let twice = all.insert(address, function);
        assert!(
            twice.is_none(),
            "{}: {address} is declared twice",
            self.name
        );
    }

    fn port(
        &self,
        bridge: &HostBridge,
        address: Address,
        parent: Option<Address>,
        folder: &str,
    ) -> Function {
        let own = bridge.ports.iter().find(|port| port.at == address);
        let is_root = parent.is_none_or(|parent| parent.domain != address.domain);
        let name = if is_root {
            &self.models.port
        } else {
            &self.models.switch
        };
        let name = name.as_deref();
        let model = model(name.unwrap_or_else(|| panic!("{}: {address} has no model", self.name)));
        let node = own.and_then(|port| port.node).unwrap_or(bridge.node);
        let best = model
            .link
            .map(|(speed, width)| (own.and_then(|port| port.speed).unwrap_or(speed), width));
        let link = best.map(|(speed, width)| Link {
            best,
            now: (speed, own.and_then(|port| port.width_now).unwrap_or(width)),
        });
        Function {
            address,
            parent,
            root_bus: bridge.bus,
            folder: folder.to_owned(),
            model,
            role: Role::Port,
            node,
            local_cpulist: self.local_cpulist(node, None),
            link,
            device: None,
        }
    }

    fn model_name<'a>(&'a self, role: Role, device: &'a Device) -> &'a str {
        let default = match role {
            Role::Gpu => &self.models.gpu,
            Role::Nic => &self.models.nic,
            Role::Other | Role::Port => &None,
        };
        let name = device.model.as_ref().or(default.as_ref());
        name.unwrap_or_else(|| panic!("{}: {:?} has no model", self.name, device.at))
    }

    /// As `drivers/pci/pci-sysfs.c` has it: the CPUs of the node, or all that are online where there is none.
    fn local_cpulist(&self, node: i32, own: Option<&Indexes>) -> Option<BTreeSet<u32>> {
        if self.has(Quirk::NoLocalCpus) {
            return None;
        }
        let of_node = || match u32::try_from(node) {
            Ok(node) => self.cpus_of_node(node),
            Err(_) => self.online(),
        };
        Some(own.map_or_else(of_node, Indexes::set))
    }
}

fn model(name: &str) -> &'static Model {
    models::named(name).unwrap_or_else(|| panic!("there is no model \"{name}\""))
}

fn link(model: &Model, device: &Device) -> Option<Link> {
    let (speed, width) = model.link?;
    let best = (device.speed.unwrap_or(speed), device.width.unwrap_or(width));
    Some(Link {
        best: (!device.no_maximum).then_some(best),
        now: (
            device.speed_now.unwrap_or(best.0),
            device.width_now.unwrap_or(best.1),
        ),
    })
}
