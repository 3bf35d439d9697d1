//! What AMD's kernel drivers say of its GPUs: amdgpu in each GPU's PCI folder, KFD in the topology of what computes.
//!
//! KFD lists first the NUMA nodes with CPUs, then GPUs, or the parts of a GPU that is divided, in the order in which the
//! driver found them (amdkfd, kfd_topology.c, `node_show` and `iolink_show`, Linux 5.10 to 6.14).  A process reads only the
//! nodes of GPUs that its device cgroup lets it open (`kfd_devcgroup_check_permission`).
//!
//! KFD also lists the processes that have opened it, by their numbers in the first process namespace, and the queues of each,
//! with the GPU that each is on (kfd_process.c, `kfd_create_process_sysfs` and `kfd_procfs_add_queue`, from Linux 5.9 on).  The
//! runtime makes a queue on a GPU when a program first uses it, so this is the use itself; `rocm-smi --showpidgpus` reads it too.

use std::collections::{BTreeMap, BTreeSet};

use super::files::Root;
use crate::machine::{Gpu, KfdGpu, KfdNode, MAX_PARTS, Machine, MinorSource};
use crate::pci::PciAddress;
use crate::text;
use crate::vendor::{GpuVendor, VENDORS};

/// Nodes that are looked at: 64 GPUs in eight parts each, and as many NUMA nodes.
const MAX_NODES: usize = 1024;
/// Links that are looked at on all nodes together: each part of 64 has one to each other, and to its CPUs.
const MAX_LINKS: usize = 8 * 1024;
/// What is read of one file: the longest of Linux 6.14 has some 1,500 bytes.
const MAX_BYTES: u64 = 8 * 1024;
/// `CRAT_IOLINK_TYPE_XGMI` (amdkfd, kfd_crat.h).
const XGMI: u64 = 11;
/// `KFD_CRAT_XGMI_WEIGHT` (kfd_crat.c): a link of one hop; more hops weigh a multiple of it.
const ONE_HOP: u64 = 15;
/// The weight between parts of different GPUs (kfd_crat.c, `kfd_fill_gpu_xgmi_link_to_gpu`), of which the hops are not known.
const BETWEEN_PARTS: u64 = 2 * 13 + ONE_HOP;
/// More links between two GPUs than any model has are a mistake of the source.
const MAX_COUNT: u64 = 16;

/// `KFD_MAX_NUM_OF_QUEUES_PER_PROCESS` (amdkfd, kfd_priv.h).
const MAX_QUEUES: usize = 1024;
/// Further contexts of a process that are looked at; libraries make one or two.
const MAX_CONTEXTS: usize = 64;

/// A node of the topology.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    /// A NUMA node's CPUs.
    Cpus,
    /// A GPU, or a part of one.
    Gpu(PciAddress, KfdNode),
}

/// A file of lines `name value`, values in decimal.
struct Properties(String);

impl Properties {
    fn read(root: Root<'_>, path: &str) -> Option<Self> {
        root.text_up_to(path, MAX_BYTES).map(Self)
    }

    /// A value; 0, as KFD writes what it does not know, where it is not there.
    fn get(&self, name: &str) -> u64 {
        let mut lines = self.0.lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(key, _)| *key == name);
        found
            .and_then(|(_, value)| value.trim().parse().ok())
            .unwrap_or(0)
    }

    /// A device file's number, or a node's; none for 0 and what is no such number.
    fn number(&self, name: &str) -> Option<u32> {
        let number = u32::try_from(self.get(name)).ok();
        number.filter(|number| (1..=0xffff).contains(number))
    }
}

/// Adds what the drivers of `vendor` say to its GPUs, whose PCI folders are `folders`.
pub(super) fn add(
    root: Root<'_>,
    vendor: &GpuVendor,
    folders: &BTreeMap<PciAddress, String>,
    gpus: &mut [Gpu],
) {
    let mut own: Vec<&mut Gpu> = gpus
        .iter_mut()
        .filter(|gpu| gpu.vendor == vendor.id)
        .collect();
    if own.is_empty() {
        return;
    }
    if let Some(files) = vendor.driver.device_files {
        let prefix = vendor.device_file.rsplit('/').next().unwrap_or_default();
        for gpu in &mut own {
            if let Some(folder) = folders.get(&gpu.pci) {
                add_own_files(root, folder, &format!("{folder}/{files}"), prefix, gpu);
            }
        }
    }
    if let Some(folder) = vendor.driver.topology {
        add_topology(root, folder, &mut own);
    }
}

/// What amdgpu says in the GPU's PCI folder (amdgpu_pm.c, amdgpu_gfx.c, amdgpu_gmc.c, amdgpu_device.c).
fn add_own_files(root: Root<'_>, folder: &str, files: &str, prefix: &str, gpu: &mut Gpu) {
    if let Some(minor) = root.numbered(files, prefix).first() {
        (gpu.minor, gpu.minor_source) = (Some(*minor), MinorSource::Driver);
    }
    let line = |name: &str| {
        let text = root.text_up_to(&format!("{folder}/{name}"), MAX_BYTES)?;
        Some(text::plain(text.lines().next()?.trim())).filter(|text| !text.is_empty())
    };
    gpu.name = line("product_name").or(gpu.name.take());
    let unique = line("unique_id").and_then(|text| u64::from_str_radix(&text, 16).ok());
    gpu.uuid = unique.and_then(uuid).or(gpu.uuid.take());
    let kfd = KfdGpu {
        compute_partition: line("current_compute_partition").filter(|mode| is_mode(mode)),
        memory_partition: line("current_memory_partition").filter(|mode| is_mode(mode)),
        ..KfdGpu::default()
    };
    gpu.kfd = Some(kfd).filter(|kfd| *kfd != KfdGpu::default());
}

/// `SPX` or `NPS4`: amdgpu writes `UNKNOWN` where the GPU cannot be divided (amdgpu_gfx.c, `amdgpu_gfx_get_current_compute_partition`).
fn is_mode(mode: &str) -> bool {
    mode != "UNKNOWN" && mode.len() <= 8
}

/// As the runtime writes it (ROCR-Runtime, core/runtime/amd_gpu_agent.cpp, `HSA_AMD_AGENT_INFO_UUID`); none for 0, which stands for none.
pub fn uuid(unique_id: u64) -> Option<String> {
    (unique_id != 0).then(|| format!("GPU-{unique_id:016x}"))
}

fn add_topology(root: Root<'_>, folder: &str, gpus: &mut [&mut Gpu]) {
    let owners = gpus.iter().filter_map(|gpu| Some((gpu.minor?, gpu.pci)));
    let owners: BTreeMap<u32, PciAddress> = owners.collect();
    // The driver's own folder says whose a render node is; the further parts of a divided GPU have theirs elsewhere.
    let is_another_s = |address: PciAddress, part: &KfdNode| {
        let owner = part.minor.and_then(|minor| owners.get(&minor));
        owner.is_some_and(|owner| *owner != address)
    };
    let mut nodes = BTreeMap::new();
    for number in root.numbered(folder, "").into_iter().take(MAX_NODES) {
        let node = read_node(root, &format!("{folder}/{number}"), number);
        // What is no GPU of the machine's joins none.
        let node = match node {
            Some(Node::Gpu(location, part)) => {
                let address = own_address(gpus, location);
                let address = address.filter(|address| !is_another_s(*address, &part));
                address.map(|address| Node::Gpu(address, part))
            }
            Some(Node::Cpus) | None => node,
        };
        nodes.extend(node.map(|node| (number, node)));
    }
    let address = |number: u32| match nodes.get(&number) {
        Some(Node::Gpu(address, _)) => Some(*address),
        Some(Node::Cpus) | None => None,
    };
    for node in nodes.values() {
        let Node::Gpu(address, part) = node else {
            continue;
        };
        let Some(gpu) = gpus.iter_mut().find(|gpu| gpu.pci == *address) else {
            continue;
        };
        let kfd = gpu.kfd.get_or_insert_default();
        if kfd.nodes.len() < MAX_PARTS {
            kfd.nodes.push(part.clone());
        }
        if gpu.minor.is_none() && part.minor.is_some() {
            (gpu.minor, gpu.minor_source) = (part.minor, MinorSource::Driver);
        }
        if gpu.uuid.is_none() {
            gpu.uuid.clone_from(&part.uuid);
        }
    }
    let mut left = MAX_LINKS;
    for gpu in gpus {
        let own: Vec<u32> = gpu
            .kfd
            .iter()
            .flat_map(|kfd| &kfd.nodes)
            .map(|part| part.node)
            .collect();
        for number in own {
            let links = format!("{folder}/{number}/io_links");
            for link in root.numbered(&links, "").into_iter().take(left) {
                left -= 1;
                if let Some(link) = Properties::read(root, &format!("{links}/{link}/properties")) {
                    add_link(gpu, &link, &nodes, address);
                }
            }
        }
    }
}

/// The address of the GPU whose node says that it is at `location`.
///
/// Linux puts the number of the part of a divided GPU over the function's, so that part 3 of 05:00.0 says 05:00.3 (kfd_topology.c,
/// `kfd_topology_add_device`, 6.5 on); AMD's own releases of the driver have had it in bits 28 to 31.  So where no GPU is
/// at the location itself, it is that of the same device whose function's bits are all in it.
fn own_address(gpus: &[&mut Gpu], location: PciAddress) -> Option<PciAddress> {
    if gpus.iter().any(|gpu| gpu.pci == location) {
        return Some(location);
    }
    let is_part_of = |own: &PciAddress| {
        let function = own.function & location.function;
        PciAddress {
            function,
            ..location
        } == *own
    };
    let mut found = gpus.iter().map(|gpu| gpu.pci).filter(is_part_of);
    found.next().filter(|_| found.next().is_none())
}

/// A node; none where it may not be read, and where it is neither CPUs nor a GPU.
fn read_node(root: Root<'_>, folder: &str, number: u32) -> Option<Node> {
    let properties = Properties::read(root, &format!("{folder}/properties"))?;
    if properties.get("simd_count") == 0 {
        return (properties.get("cpu_cores_count") > 0).then_some(Node::Cpus);
    }
    // The number of a part is in bits 28 to 31, or in those of the function ([`own_address`]).
    let location = properties.get("location_id") & 0xffff;
    let [_, _, _, _, _, _, bus, function] = location.to_be_bytes();
    let address = PciAddress {
        domain: u32::try_from(properties.get("domain")).ok()?,
        bus,
        device: function >> 3,
        function: function & 7,
    };
    let part = KfdNode {
        node: number,
        minor: properties.number("drm_render_minor"),
        uuid: uuid(properties.get("unique_id")),
    };
    Some(Node::Gpu(address, part))
}

/// Adds what a link of one of the GPU's nodes says: its NUMA node, or another GPU that xGMI joins it to.
fn add_link(
    gpu: &mut Gpu,
    link: &Properties,
    nodes: &BTreeMap<u32, Node>,
    address: impl Fn(u32) -> Option<PciAddress>,
) {
    let Ok(to) = u32::try_from(link.get("node_to")) else {
        return;
    };
    let Some(kfd) = &mut gpu.kfd else { return };
    if nodes.get(&to) == Some(&Node::Cpus) {
        // A NUMA node's number, not that of a node of KFD's (kfd_crat.c, `kfd_fill_gpu_direct_io_link_to_cpu`).
        kfd.numa_node = Some(to).filter(|node| *node > 0).or(kfd.numa_node);
        return;
    }
    let Some(other) = address(to).filter(|other| *other != gpu.pci) else {
        return;
    };
    if link.get("type") != XGMI {
        return;
    }
    let weight = link.get("weight");
    if weight <= ONE_HOP || weight == BETWEEN_PARTS {
        // All links to the peer against one of them (ROCR-Runtime, core/runtime/amd_topology.cpp, `gang_factor`).
        let (all, one) = (link.get("max_bandwidth"), link.get("min_bandwidth"));
        let count = all.checked_div(one).unwrap_or(1).clamp(1, MAX_COUNT);
        let count = u32::try_from(count).unwrap_or(1);
        let known = gpu.nvlinks.entry(other).or_insert(count);
        *known = count.max(*known);
        kfd.beyond.retain(|known| *known != other);
    } else if !gpu.nvlinks.contains_key(&other) && !kfd.beyond.contains(&other) {
        kfd.beyond.push(other);
        kfd.beyond.sort_unstable();
    }
}

/// The GPUs of `machine` on which process `pid` has queues, by its number in the first process namespace.
pub(super) fn used_by(root: Root<'_>, machine: &Machine, pid: u32) -> Vec<PciAddress> {
    let mut used = Vec::new();
    for vendor in &VENDORS {
        let (Some(nodes), Some(processes)) = (vendor.driver.topology, vendor.driver.processes)
        else {
            continue;
        };
        let folder = format!("{processes}/{pid}");
        if !root.is_dir(&folder) {
            continue;
        }
        let on = read_queues(root, &folder);
        let own = machine.gpus.iter().filter(|gpu| gpu.vendor == vendor.id);
        used.extend(own.filter_map(|gpu| {
            let mut parts = gpu.kfd.iter().flat_map(|kfd| &kfd.nodes);
            let is_used = parts.any(|part| {
                let id = number_in(root, &format!("{nodes}/{}/gpu_id", part.node));
                id.is_some_and(|id| on.contains(&id))
            });
            is_used.then_some(gpu.pci)
        }));
    }
    used
}

/// The ids of the GPUs on which the process of `folder` has queues, in its own context and in those that libraries made
/// (`context_N`, Linux 6.19).
fn read_queues(root: Root<'_>, folder: &str) -> BTreeSet<u64> {
    let contexts = root.numbered(folder, "context_").into_iter();
    let contexts = contexts
        .take(MAX_CONTEXTS)
        .map(|own| format!("{folder}/context_{own}"));
    let mut on = BTreeSet::new();
    for context in std::iter::once(folder.to_owned()).chain(contexts) {
        let queues = format!("{context}/queues");
        for queue in root.numbered(&queues, "").into_iter().take(MAX_QUEUES) {
            on.extend(number_in(root, &format!("{queues}/{queue}/gpuid")));
        }
    }
    on
}

/// A file that holds one number; none for 0, which stands for none, as of a node of CPUs.
fn number_in(root: Root<'_>, path: &str) -> Option<u64> {
    let text = root.text_up_to(path, MAX_BYTES)?;
    text.parse().ok().filter(|number| *number != 0)
}
