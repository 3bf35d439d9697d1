//! A machine: packages, NUMA nodes, cores, GPUs, NICs and the bridges above them.

pub(crate) mod bounds;
mod fields;
mod gpu;
pub(crate) mod launch;
mod nic;
pub(crate) mod speed;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use bounds::MOST_GPUS;
pub use gpu::{Gpu, KfdGpu, KfdNode, MigInstance, MinorSource, NvmlPlace};
pub use nic::{Nic, NicAside, RdmaPort};

use crate::firmware::Firmware;
use crate::pci::{PciAddress, PciDevice};
use crate::set::{CpuSet, NodeSet};
use crate::text;
use crate::vendor::{GpuVendor, VENDORS};

/// Into how many parts a GPU may be divided: AMD's MI300X into eight; more is a mistake of the source.
pub const MAX_PARTS: usize = 64;

/// A machine as read and understood.
///
/// Numbers are OS indexes.  The lists are sorted: packages and NUMA nodes by id, cores by lowest CPU,
/// PCI devices, GPUs and NICs by address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Machine {
    /// Host name; none where the source does not say.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "text::read_host_name"
    )]
    pub hostname: Option<String>,
    /// CPUs that are online, never cut by a cgroup or by the reader's own cpuset.
    pub online: CpuSet,
    /// Physical packages (sockets).
    #[serde(deserialize_with = "bounds::read_list")]
    pub packages: Vec<Package>,
    /// NUMA nodes, those without CPUs included.
    #[serde(deserialize_with = "bounds::read_list")]
    pub numa_nodes: Vec<NumaNode>,
    /// The online CPUs of each core; one CPU each where the source knows no cores.
    #[serde(deserialize_with = "bounds::read_list")]
    pub cores: Vec<CpuSet>,
    /// The online CPUs of each last-level cache that is shared; empty where not recorded.
    #[serde(deserialize_with = "bounds::read_list")]
    pub last_level_caches: Vec<CpuSet>,
    /// The online CPUs of each third-level cache, where these are not the last-level ones; None where they are or it is not known.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::read_some_list"
    )]
    pub third_level_caches: Option<Vec<CpuSet>>,
    /// The online CPUs of each die of several CPUs that is not a whole package; empty where there is none or it is not known.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounds::read_list"
    )]
    pub dies: Vec<CpuSet>,
    /// The online CPUs of each cluster of cores (`cluster_cpus`), such as those below one second-level cache, that is neither a whole
    /// die nor a whole package; empty where there is none or it is not known.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounds::read_list"
    )]
    pub clusters: Vec<CpuSet>,
    /// The online CPUs by how fast the kernel says that they are, the fastest first ([`crate::sysfs::read_speed_classes`]);
    /// empty where all are alike or it is not known.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounds::read_list"
    )]
    pub speed_classes: Vec<CpuSet>,
    /// What the processors are; none where not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processor: Option<Processor>,
    /// The board's name in firmware (`sys/class/dmi/id/board_name`); none where not recorded.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "text::read_some_plain"
    )]
    pub board: Option<String>,
    /// What `gpu-numa measure --save` measured on this host; empty where nobody did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latencies: Vec<MeasuredLatency>,
    /// GPUs, NICs and the bridges above them.
    pub pci: Vec<PciDevice>,
    /// GPUs.
    #[serde(deserialize_with = "bounds::read_list")]
    pub gpus: Vec<Gpu>,
    /// NICs.
    #[serde(deserialize_with = "bounds::read_list")]
    pub nics: Vec<Nic>,
    /// Switches that the site names and the machine does not show.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hidden_switches: Vec<HiddenSwitch>,
    /// What firmware says of buses and slots; read only where a device's `numa_node` names no node
    /// with CPUs, none elsewhere and in sources without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    /// Whether the source could have shown NVLink (NVML answered); when not, "no NVLink" is not known.
    pub nvlink_visible: bool,
    /// Whether GPUs read each other's memory, a pair once; empty where NVML did not say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub p2p: Vec<P2pState>,
    /// What could not be read, in words a person can use; empty when all went well.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "text::read_sentences"
    )]
    pub remarks: Vec<String>,
}

/// Whether two GPUs read each other's memory (`nvmlDeviceGetP2PStatus`, reads).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct P2pState {
    /// One GPU.
    pub a: PciAddress,
    /// The other.
    pub b: PciAddress,
    /// `ok`, or what keeps them from it, in NVML's words.
    #[serde(deserialize_with = "text::read_plain")]
    pub state: String,
}

/// How long an access to memory takes, as measured on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MeasuredLatency {
    /// The node of the CPUs.
    pub cpu_node: u32,
    /// The node of the memory.
    pub memory_node: u32,
    /// The latency, in nanoseconds.
    pub nanoseconds: u32,
}

/// How much longer an access to memory of another node takes than one to a node's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryRating {
    /// As `gpu-numa measure --save` found it.
    Measured {
        /// Tenths of a local access.
        tenths: u32,
    },
    /// As firmware says (SLIT), which is not what a copy costs.
    Firmware {
        /// Tenths of a local access.
        slit: u32,
    },
}

impl MemoryRating {
    /// In tenths of a local access.
    pub fn tenths(self) -> u32 {
        match self {
            Self::Measured { tenths } => tenths,
            Self::Firmware { slit } => slit,
        }
    }

    /// Of measured latencies of a node's own memory and of another's, rounded to the nearest tenth; none where the former
    /// is zero.
    pub fn measured(local: u32, far: u32) -> Option<Self> {
        let (local, far) = (u64::from(local), u64::from(far));
        let tenths = (far * 10 + local / 2).checked_div(local)?;
        Some(Self::Measured {
            tenths: u32::try_from(tenths).unwrap_or(u32::MAX),
        })
    }

    /// `2.1`, how many times a local access it takes: as every line, page and picture writes it.
    pub fn times(self) -> String {
        let tenths = self.tenths();
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

/// A PCI switch that a hypervisor hides and the site names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HiddenSwitch {
    /// The GPUs and NICs below it, two at least.
    pub devices: Vec<PciAddress>,
    /// File and line that say so.
    #[serde(deserialize_with = "text::read_plain")]
    pub said_by: String,
}

/// A physical package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Package {
    /// Linux's `physical_package_id`; for a package whose CPUs are all offline, which Linux does not number,
    /// the lowest number that no other has.
    pub id: u32,
    /// Its online CPUs; empty where all are offline.
    pub cpus: CpuSet,
    /// The NUMA nodes whose CPUs, online or offline, are in it.
    pub numa_nodes: NodeSet,
}

/// What memory a NUMA node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// Memory of processors.
    Dram,
    /// A GPU's own memory (Grace Hopper, POWER9 with V100).
    Gpu,
    /// A node without CPUs that is not known to be a GPU's: CXL, HBM, persistent memory.
    Cpuless,
    /// Memory of a package whose CPUs are all offline.
    Offline,
    /// A node that the source names without saying whether it has CPUs, and which: a `<cpu>` of an NCCL file without
    /// affinity.
    Unrecorded,
}

/// A NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NumaNode {
    /// OS index: N of `/sys/devices/system/node/nodeN`.
    pub id: u32,
    /// The package of its CPUs, which may be offline; none for a node without CPUs and where not recorded.
    pub package: Option<u32>,
    /// Its online CPUs.
    pub cpus: CpuSet,
    /// Its memory, in bytes; none where not recorded, 0 where it has none.
    pub memory_bytes: Option<u64>,
    /// What its memory is.
    pub kind: NodeKind,
    /// SLIT distance to each node by its id, 10 being local; empty where not recorded.
    #[serde(default)]
    pub distances: BTreeMap<u32, u32>,
}

impl NumaNode {
    /// Whether memory can be taken from it; a node whose size is not recorded counts as having some.
    pub fn has_memory(&self) -> bool {
        self.memory_bytes != Some(0)
    }
}

/// What the processors are, as NCCL's topology file wants to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Processor {
    /// `x86_64`, `arm64` or `ppc64` (NCCL's words).
    #[serde(deserialize_with = "text::read_plain")]
    pub arch: String,
    /// CPUID vendor (`GenuineIntel`, `AuthenticAMD`); none outside x86.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "text::read_some_plain"
    )]
    pub vendor: Option<String>,
    /// Family as `/proc/cpuinfo` gives it (decimal, extended family added); none outside x86.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<u32>,
    /// Model as `/proc/cpuinfo` gives it (decimal, extended model included); none outside x86.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<u32>,
}

/// Where a device is: the answer of the evidence ladder in [`crate::locality`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Locality {
    /// The package it is attached to; `null` when unknown, or when its nodes lie in several.
    pub package: Option<u32>,
    /// The NUMA nodes with CPUs it is nearest to, or its own where all CPUs of its socket are offline; `null` when unknown,
    /// also where `cpus` is known: the source then has a place for the device but no number for its node.
    pub numa_nodes: Option<NodeSet>,
    /// The evidence that answered.
    pub numa_source: NumaSource,
    /// The online CPUs that it is near to, none where all of its socket are offline; `null` when unknown.
    pub cpus: Option<CpuSet>,
    /// Those of `cpus` that are nearer than the others, such as the ones below the last-level cache that it hangs from; none
    /// where the source tells no fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest_cpus: Option<CpuSet>,
}

impl Locality {
    /// The CPUs near the device; None where there is none, or it is unknown.
    pub fn near_cpus(&self) -> Option<&CpuSet> {
        self.cpus.as_ref().filter(|cpus| !cpus.is_empty())
    }
}

/// Which evidence gave a device's NUMA nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NumaSource {
    /// The site's override file.
    Override,
    /// Firmware's answer as Linux has it in the device's `numa_node`.
    NumaNode,
    /// The node that its direct link leads to in the topology of AMD's compute driver.
    Kfd,
    /// `numa_node` names a node without CPUs; its nearest ones with CPUs by SLIT.
    NearestNode,
    /// The device's `local_cpulist`, narrower than the machine.
    LocalCpulist,
    /// The object below which hwloc, or an NCCL file, hangs the device.
    Hwloc,
    /// The machine has one NUMA node with CPUs, so there is nothing to find out.
    OneNode,
    /// What firmware says of the bridge above it, or of other devices below that bridge.
    Siblings,
    /// ACPI: a generic initiator of the SRAT, or the host bridge's `_PXM`.
    Acpi,
    /// SMBIOS: the CPU in the designation of a slot below the same host bridge.
    Dmi,
    /// The host bridges on both sides in bus order, where they agree.
    Bus,
    /// NVIDIA's NVML: the node of the GPU's memory, or its memory or CPU affinity.
    Nvml,
    /// What the site measured, and says so in its override file.
    Measured,
    /// The machine has one package; which of its nodes is not known.
    OnePackage,
    /// Unknown: no evidence.
    #[default]
    Unknown,
}

impl NumaSource {
    /// Whether it is inferred: neither the kernel, nor the site, nor the source itself places this device.
    pub fn is_inferred(self) -> bool {
        match self {
            Self::Override
            | Self::NumaNode
            | Self::LocalCpulist
            | Self::Hwloc
            | Self::Kfd
            | Self::OneNode
            | Self::Measured
            | Self::OnePackage
            | Self::Unknown => false,
            Self::NearestNode
            | Self::Siblings
            | Self::Acpi
            | Self::Dmi
            | Self::Bus
            | Self::Nvml => true,
        }
    }

    /// The evidence in words, to follow "by".
    pub fn words(self) -> &'static str {
        match self {
            Self::Override => "the site's override file",
            Self::NumaNode => "its numa_node",
            Self::NearestNode => "the node with CPUs that is nearest to its numa_node",
            Self::LocalCpulist => "its local_cpulist",
            Self::Hwloc => "where hwloc attaches it",
            Self::Kfd => "KFD's topology",
            Self::OneNode => "being the only one with CPUs",
            Self::Siblings => "the devices below the same bridge",
            Self::Acpi => "ACPI",
            Self::Dmi => "the SMBIOS slot records",
            Self::Bus => "the host bridges on both sides",
            Self::Nvml => "NVML",
            Self::Measured => "the site's measurement",
            Self::OnePackage => "being in the only socket",
            Self::Unknown => "nothing",
        }
    }
}

impl Machine {
    /// The measured latency of memory on one node from CPUs of another, in nanoseconds; none where it was not measured.
    fn latency(&self, cpu_node: u32, memory_node: u32) -> Option<u32> {
        let mut known = self.latencies.iter();
        let pair = known.find(|own| (own.cpu_node, own.memory_node) == (cpu_node, memory_node))?;
        Some(pair.nanoseconds)
    }

    /// The measured latency of a node's own memory and of another node's, in nanoseconds; none where one was not measured.
    pub fn latency_pair(&self, cpu_node: u32, memory_node: u32) -> Option<(u32, u32)> {
        self.latency(cpu_node, cpu_node)
            .zip(self.latency(cpu_node, memory_node))
    }

    /// How much longer CPUs of a node take to another node's memory than to their own: as measured, else as firmware
    /// says; none where neither is known.
    pub fn rating(&self, cpu_node: u32, memory_node: u32) -> Option<MemoryRating> {
        let measured = self.latency_pair(cpu_node, memory_node);
        let firmware = || {
            self.distance(cpu_node, memory_node)
                .map(|slit| MemoryRating::Firmware { slit })
        };
        measured
            .and_then(|(local, far)| MemoryRating::measured(local, far))
            .or_else(firmware)
    }

    /// The GPU at `address`.
    pub fn gpu(&self, address: PciAddress) -> Option<&Gpu> {
        self.gpus.iter().find(|gpu| gpu.pci == address)
    }

    /// The GPUs that NCCL runs on.
    pub fn nccl_gpus(&self) -> impl Iterator<Item = &Gpu> {
        self.gpus.iter().filter(|gpu| gpu.has_nccl())
    }

    /// Whether it has such a GPU.
    pub fn has_nccl_gpus(&self) -> bool {
        self.nccl_gpus().next().is_some()
    }

    /// Whether the source could not show the links of a GPU that may have some; also where it shows that xGMI leads from it to
    /// others, and not how many links there are.
    pub fn hides_links_of(&self, gpu: &Gpu) -> bool {
        let has_node = |kfd: &KfdGpu| kfd.nodes.iter().any(|part| part.node > 0);
        let is_shown = gpu.kfd.as_ref().is_some_and(has_node);
        gpu.may_link() && !self.nvlink_visible && !is_shown
    }

    /// The vendors of GPUs that are bound at launch.
    pub fn launch_vendors(&self) -> impl Iterator<Item = &'static GpuVendor> {
        let bound = VENDORS.iter().filter(|vendor| vendor.is_bound_at_launch);
        bound.filter(|vendor| self.gpus.iter().any(|gpu| gpu.vendor == vendor.id))
    }

    /// The vendor whose variables and device files say which GPUs a task has: that of the first GPU that is
    /// bound at launch.
    pub fn launch_vendor(&self) -> &'static GpuVendor {
        let [first, ..] = &VENDORS;
        let bound = self.gpus.iter().find(|gpu| gpu.is_bound_at_launch());
        bound.and_then(Gpu::maker).unwrap_or(first)
    }

    /// The one GPU that `entry` names as `CUDA_VISIBLE_DEVICES` does: its UUID or that of a MIG instance of
    /// it, or the beginning of one, in any case; none when that fits none, or several.
    pub fn gpu_of_uuid(&self, entry: &str) -> Option<&Gpu> {
        one_of_uuid(self.gpus.iter(), entry)
    }

    /// The PCI device at `address`.
    pub fn device(&self, address: PciAddress) -> Option<&PciDevice> {
        self.pci.iter().find(|device| device.address == address)
    }

    /// The NUMA node with OS index `id`.
    pub fn node(&self, id: u32) -> Option<&NumaNode> {
        self.numa_nodes.iter().find(|node| node.id == id)
    }

    /// The nodes whose CPUs are all offline.
    pub fn offline_nodes(&self) -> NodeSet {
        let offline = self
            .numa_nodes
            .iter()
            .filter(|node| node.kind == NodeKind::Offline);
        offline.map(|node| node.id).collect()
    }

    /// The nodes whose CPUs are not recorded.
    pub fn unrecorded_nodes(&self) -> NodeSet {
        let unrecorded = self
            .numa_nodes
            .iter()
            .filter(|node| node.kind == NodeKind::Unrecorded);
        unrecorded.map(|node| node.id).collect()
    }

    /// The online CPUs that lie in none of the nodes; hwloc before 2.5 leaves out nodes without memory, not their CPUs.
    pub fn cpus_of_no_node(&self) -> CpuSet {
        let mut rest = self.online.clone();
        for node in &self.numa_nodes {
            rest = rest.difference(&node.cpus);
        }
        rest
    }

    /// The NUMA nodes that have CPUs.
    pub fn cpu_nodes(&self) -> NodeSet {
        self.numa_nodes
            .iter()
            .filter(|node| !node.cpus.is_empty())
            .map(|node| node.id)
            .collect()
    }

    /// The online CPUs of `nodes`.
    pub fn cpus_of(&self, nodes: &NodeSet) -> CpuSet {
        let mut cpus = CpuSet::new();
        for node in self
            .numa_nodes
            .iter()
            .filter(|node| nodes.contains(node.id))
        {
            cpus.extend_with(&node.cpus);
        }
        cpus
    }

    /// Whether NUMA node `id` holds CPUs of several packages (`numa=off`, interleaved memory), so that a device near the
    /// node is near some of its CPUs only, and which is unknown.
    ///
    /// A package of one core does not count: a hypervisor that gives no topology makes each CPU a package.
    pub fn is_over_packages(&self, id: u32) -> bool {
        let cpus = self.cpus_of(&NodeSet::single(id));
        let is_real = |package: &&Package| {
            let cores = self.cores.iter();
            let mut own = cores.filter(|core| core.intersects(&package.cpus));
            own.nth(1).is_some()
        };
        let packages = self.packages.iter();
        let on = packages.filter(|package| package.cpus.intersects(&cpus));
        on.filter(is_real).nth(1).is_some()
    }

    /// Whether naming a device's NUMA node can tell which CPUs are near it.
    pub fn has_node_of_one_package(&self) -> bool {
        self.cpu_nodes().iter().any(|id| !self.is_over_packages(id))
    }

    /// The NUMA nodes of `gpus`, of those whose place is known.
    pub fn nodes_of_gpus(&self, gpus: &[PciAddress]) -> NodeSet {
        let mut nodes = NodeSet::new();
        for gpu in gpus.iter().filter_map(|address| self.gpu(*address)) {
            if let Some(known) = &gpu.locality.numa_nodes {
                nodes.extend_with(known);
            }
        }
        nodes
    }

    /// The NUMA nodes that hold a CPU of `cpus`.
    pub fn nodes_of(&self, cpus: &CpuSet) -> NodeSet {
        self.numa_nodes
            .iter()
            .filter(|node| node.cpus.intersects(cpus))
            .map(|node| node.id)
            .collect()
    }

    /// SLIT distance from node `a` to node `b`; none where firmware gives none.
    pub fn distance(&self, a: u32, b: u32) -> Option<u32> {
        self.node(a)
            .and_then(|node| node.distances.get(&b))
            .copied()
    }

    /// Distance from `a` to `b` for choosing the nearest: SLIT, else 10 within a node, 20 within a
    /// package and 30 beyond.
    pub fn nearness(&self, a: u32, b: u32) -> u32 {
        self.distance(a, b).unwrap_or_else(|| {
            let package = |id| self.node(id).and_then(|node| node.package);
            match (package(a), package(b)) {
                _ if a == b => 10,
                (Some(x), Some(y)) if x == y => 20,
                _ => 30,
            }
        })
    }

    /// Whether every CPU of the machine lies in one NUMA node.
    pub fn has_one_cpu_node(&self) -> bool {
        self.cpu_nodes().len() == 1
    }
}

/// As [`Machine::gpu_of_uuid`], among `gpus`.
pub(crate) fn one_of_uuid<'g>(
    gpus: impl IntoIterator<Item = &'g Gpu>,
    entry: &str,
) -> Option<&'g Gpu> {
    let entry = plain_uuid(entry);
    let is_uuid = |kind: &str| entry.len() > kind.len() && entry.starts_with(kind);
    if !is_uuid("gpu-") && !is_uuid("mig-") {
        return None;
    }
    let begins = |uuid: &str| plain_uuid(uuid).starts_with(&entry);
    let mut matching = gpus.into_iter().filter(|gpu| {
        let mut parts = gpu.kfd.iter().flat_map(|kfd| &kfd.nodes);
        gpu.uuid.as_deref().is_some_and(begins)
            || parts.any(|part| part.uuid.as_deref().is_some_and(begins))
            || gpu.mig.iter().any(|instance| begins(&instance.uuid))
    });
    match (matching.next(), matching.next()) {
        (Some(gpu), None) => Some(gpu),
        _ => None,
    }
}

/// A UUID in lower case; of `MIG-GPU-<uuid>/<gi>/<ci>`, the form of drivers before R470, that of the GPU.
fn plain_uuid(uuid: &str) -> String {
    let uuid = uuid.to_ascii_lowercase();
    match uuid.strip_prefix("mig-gpu-") {
        Some(rest) => format!("gpu-{}", rest.split('/').next().unwrap_or(rest)),
        None => uuid,
    }
}

/// Four lower-case hex digits in JSON for a PCI id.
mod hex4 {
    use serde::{Deserializer, Serializer};

    use crate::text::from_text;

    /// A PCI id.
    struct Id(u16);

    impl std::str::FromStr for Id {
        type Err = std::num::ParseIntError;

        fn from_str(text: &str) -> Result<Self, Self::Err> {
            u16::from_str_radix(text, 16).map(Self)
        }
    }

    pub(super) fn serialize<S: Serializer>(id: &u16, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{id:04x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
        from_text(deserializer).map(|Id(id)| id)
    }
}
