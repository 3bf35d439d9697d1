//! A file as NCCL's graph, for a communicator of its GPUs.

use std::collections::BTreeMap;

use topology::machine::{Gpu, Machine};
use topology::pci::PciAddress;

use crate::element::{Element, GPU_CLASS, integer};
use crate::graph::{Graph, LinkType, Net, NodeId, PathType, Paths, Reach};
use crate::processor::{LOCAL_BANDWIDTH_GB_S, Processor};
use crate::reader::System;
use crate::rules::{Rules, pci_bandwidth_gb_s};

mod absent;
mod fill;
mod fuse;
pub mod nets;
pub mod parts;
#[cfg(test)]
mod tests;

use fuse::Joined;
use parts::Held;

pub use absent::{Completed, completed};
pub use fill::{Filled, filled, left_out};

/// The compute capability taken for GPUs whose file does not say, as major times 10 plus minor: A100's.
pub const COMPUTE_CAPABILITY: u32 = 80;

/// Class of an NVSwitch as the target of an NVLink.
const NVSWITCH: &str = "0x068000";

/// How NVML names an NVSwitch that is not visible (`graph/xml.cc`).
const NVSWITCH_ADDRESS: &str = "fffffff:ffff:ff";

/// Class of a GPU as the target of an NVLink.
const DIRECT: &str = "0x030200";

/// The most NVLinks that a GPU has, up to Blackwell.
const MOST_NVLINKS: u64 = 18;

/// The class of POWER9's NVLink bridge, which stands for the CPU.
const NVLINK_TO_CPU: &str = "0x068001";

/// What decides besides the file.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// The compute capability of GPUs whose file does not say, as 90 for 9.0.  It decides an NVLink's bandwidth
    /// and which bandwidths NCCL tries.
    pub compute_capability: u32,
    /// What the job's settings say of P2P, shared memory and the network.
    pub reach: Reach,
    /// The rules of the NCCL that reads the file.
    pub rules: &'static Rules,
}

impl Conditions {
    /// NCCL's own choice of P2P on a host that is kept whole, and the rules that are assumed.
    pub fn of_capability(compute_capability: u32) -> Self {
        Self {
            compute_capability,
            reach: Reach {
                is_whole: true,
                ..Reach::default()
            },
            rules: Rules::assumed(),
        }
    }

    /// The same with P2P, or without (`NCCL_P2P_DISABLE=1`).
    #[must_use]
    pub fn with_p2p(mut self, with_p2p: bool) -> Self {
        self.reach.p2p_limit = (!with_p2p).then_some(PathType::Loc);
        self
    }
}

/// What NCCL makes of a file.
#[derive(Debug, Clone)]
pub struct Model {
    /// The graph.
    pub graph: Graph,
    /// The communicator's GPUs in NCCL's order.
    pub gpus: Vec<ModelGpu>,
    /// The paths between them, in the same order.
    pub paths: Paths,
    /// What NCCL stops at, as `arch of <cpu numaid="0">`: it needs these attributes, and only ranks whose GPU is below the
    /// element fill them in ([`filled`]).  Empty where it reads the file; the rest is of no use where it does not.
    pub stops_at: Vec<String>,
    reach: Reach,
}

/// A part of a host that NCCL counts as a node of its own.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its GPUs, by their places in [`Model::gpus`].
    pub gpus: Vec<usize>,
    /// The graph without the other GPUs.
    pub graph: Graph,
    /// The paths in it, whose places are those of `gpus`.
    pub paths: Paths,
}

/// A GPU of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelGpu {
    /// Its `busid`.
    pub busid: String,
    /// The name of what its rank holds: the `busid`, or a part's ([`Held`]).
    pub name: String,
    /// Its rank.
    pub rank: usize,
    /// The `numaid` of the `<cpu>` it is under.
    pub numaid: i64,
    /// The index of that `<cpu>` in NCCL's order.
    pub cpu: usize,
}

/// The `busid`s of all GPUs of a file, in document order: every PCI device of class 03, with a `<gpu>` or
/// without.
pub fn gpus_of(system: &System) -> Vec<String> {
    parts::gpus_where(system, |_| true)
}

impl Model {
    /// The graph of `system` for a communicator of the GPUs, or parts of GPUs ([`Held`]), that `ranks` name, in that
    /// order; one that is not in the file is passed over.
    ///
    /// As in a job, each rank has the file without the other GPUs, and NCCL joins these trees in the order
    /// of ranks.  Network devices are those `<net>` of `system` that have a number, see [`nets::with_nets`].
    pub fn of(system: &System, ranks: &[String], conditions: Conditions) -> Self {
        let mut build = Build {
            graph: Graph::new(conditions.rules),
            gpus: Vec::new(),
            devices: BTreeMap::new(),
            switches: BTreeMap::new(),
            bridges: BTreeMap::new(),
            nics: BTreeMap::new(),
            numbers: numbers(system),
            ranks,
            compute_capability: conditions.compute_capability,
        };
        let Joined { root, stops_at } = fuse::joined(&system.root, ranks, conditions.rules);
        for (index, cpu) in root.named("cpu").enumerate() {
            build.cpu(index, cpu);
        }
        build.links(&root);
        let Build {
            mut graph, gpus, ..
        } = build;
        graph.finish();
        Self {
            paths: Paths::of(&graph, conditions.reach),
            graph,
            gpus,
            stops_at,
            reach: conditions.reach,
        }
    }

    /// The parts into which NCCL cuts the host, in the order of their lowest ranks, which is that of its nodes; mostly
    /// there is one.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = self.paths.parts();
        let lowest = |part: &Vec<usize>| {
            let ranks = part.iter().filter_map(|gpu| self.gpus.get(*gpu));
            ranks.map(|gpu| gpu.rank).min()
        };
        parts.sort_by_key(lowest);
        if parts.len() < 2 {
            let whole = |gpus| Part {
                gpus,
                graph: self.graph.clone(),
                paths: self.paths.clone(),
            };
            return parts.into_iter().map(whole).collect();
        }
        let places: Vec<NodeId> = self.paths.gpus().to_vec();
        let cut = |gpus: Vec<usize>| {
            let is_in = |id: NodeId| gpus.iter().any(|gpu| places.get(*gpu) == Some(&id));
            let graph = self.graph.without(|id| !is_in(id));
            Part {
                paths: Paths::of(&graph, self.reach),
                graph,
                gpus,
            }
        };
        parts.into_iter().map(cut).collect()
    }

    /// For a communicator of all GPUs of the file, in document order.
    pub fn of_all(system: &System) -> Self {
        let conditions = Conditions::of_capability(COMPUTE_CAPABILITY);
        Self::of(system, &gpus_of(system), conditions)
    }
}

/// The number of each GPU of a file in NVML's order: what its `<gpu>` says, which NCCL believes, else its place among
/// all by address.
fn numbers(system: &System) -> BTreeMap<String, usize> {
    let mut all = gpus_of(system);
    all.sort_unstable();
    let mut numbers: BTreeMap<String, usize> = all.into_iter().zip(0..).collect();
    system.root.walk(&mut |element| {
        let dev = element
            .named("gpu")
            .next()
            .and_then(|gpu| integer(gpu.get("dev")?));
        let dev = dev.and_then(|dev| usize::try_from(dev).ok());
        if let (Some(busid), Some(dev)) = (element.get("busid"), dev) {
            numbers.insert(busid.to_owned(), dev);
        }
    });
    numbers
}

/// A device of a GPU.
#[derive(Debug, Clone, Copy)]
struct Device {
    id: NodeId,
    /// The number of the part; none of a whole GPU.
    part: Option<i64>,
    compute_capability: u32,
}

struct Build<'r> {
    graph: Graph,
    gpus: Vec<ModelGpu>,
    /// Adapters, by the `numaid` of their `<cpu>` and their `busid`, empty for one right below the `<cpu>`.
    nics: BTreeMap<(i64, String), NodeId>,
    /// The number of each GPU in NVML's order.
    numbers: BTreeMap<String, usize>,
    /// The devices of GPUs, one for each of its parts, and switches, by `busid`.
    devices: BTreeMap<String, Vec<Device>>,
    switches: BTreeMap<String, NodeId>,
    /// What parts of a GPU share of its C2C links, by `busid`.
    bridges: BTreeMap<String, NodeId>,
    ranks: &'r [String],
    compute_capability: u32,
}

impl Build<'_> {
    fn cpu(&mut self, index: usize, cpu: &Element) {
        let numaid = integer(cpu.get("numaid").unwrap_or_default()).unwrap_or_default();
        let node = self.graph.add_cpu(Processor::of_element(cpu), numaid);
        let place = (index, numaid);
        for child in &cpu.children {
            match child.name.as_str() {
                "pci" => self.pci(child, node, place),
                "nic" => {
                    let key = (place.1, String::new());
                    self.nic(child, key, node, LOCAL_BANDWIDTH_GB_S);
                }
                _ => {}
            }
        }
    }

    /// A `<nic>` below `above`, which it is joined to where it is new (`ncclTopoAddNic`).
    fn nic(&mut self, nic: &Element, key: (i64, String), above: NodeId, bandwidth: f32) {
        let known = self.nics.get(&key).copied();
        let id = known.unwrap_or_else(|| self.graph.add_nic());
        for net in nic.named("net") {
            // One that no plugin reports has no number.
            let Some(dev) = net.get("dev").and_then(integer) else {
                continue;
            };
            if net.get("net").and_then(integer) == Some(0) {
                continue;
            }
            self.graph.add_net(id, net_of(net, dev));
        }
        if known.is_none() {
            self.graph.connect_both(id, above, LinkType::Pci, bandwidth);
            self.nics.insert(key, id);
        }
    }

    /// A `<pci>` below `above`; `place` is the index and `numaid` of its `<cpu>` (`ncclTopoAddPci`).
    fn pci(&mut self, pci: &Element, above: NodeId, place: (usize, i64)) {
        let busid = pci.get("busid").unwrap_or_default();
        let class = pci.get("class").unwrap_or_default();
        let width = integer(pci.get("link_width").unwrap_or_default()).unwrap_or_default();
        let speed = pci.get("link_speed").unwrap_or_default();
        let bandwidth = pci_bandwidth_gb_s(speed, u16::try_from(width).unwrap_or_default());
        if pci.is_gpu() {
            for gpu in pci.named("gpu") {
                self.gpu((busid, gpu), above, place, bandwidth);
            }
        } else if let Some(nic) = pci.named("nic").next() {
            self.nic(nic, (place.1, busid.to_owned()), above, bandwidth);
        } else if !class.starts_with("0x02") {
            let switch = self.graph.add_switch(above, ids(pci), bandwidth);
            self.switches.insert(busid.to_owned(), switch);
            for below in pci.named("pci") {
                self.pci(below, switch, place);
            }
        }
    }

    /// A `<gpu>` of a rank below `above` (`ncclTopoAddGpuSub`).
    fn gpu(
        &mut self,
        (busid, own): (&str, &Element),
        above: NodeId,
        place: (usize, i64),
        bandwidth: f32,
    ) {
        let rank = own.get("rank").and_then(integer);
        let rank = rank.and_then(|rank| usize::try_from(rank).ok());
        let Some((rank, name)) = rank.and_then(|rank| Some((rank, self.ranks.get(rank)?))) else {
            return;
        };
        let part = Held::of(name).part;
        let sm = own.get("sm").and_then(integer);
        let sm = sm.and_then(|sm| u32::try_from(sm).ok());
        let compute_capability = sm.unwrap_or(self.compute_capability);
        let gpu = self.graph.add_gpu(above, compute_capability, bandwidth);
        let number = self.numbers.get(busid).copied().unwrap_or(rank);
        // Adapters reach no memory of a part (`ncclTopoCheckGdr`, `NCCL_NET_GDR_MLOPART`).
        let has_gdr = own.get("gdr") != Some("0") && part.is_none();
        self.graph.describe_gpu(gpu, number, has_gdr);
        if let Some(id) = self.graph.node(gpu).and_then(|gpu| gpu.device) {
            let devices = self.devices.entry(busid.to_owned()).or_default();
            for other in devices.iter() {
                self.graph.join_parts(id, other.id);
            }
            devices.push(Device {
                id,
                part,
                compute_capability,
            });
        }
        self.gpus.push(ModelGpu {
            busid: busid.to_owned(),
            name: name.clone(),
            rank,
            cpu: place.0,
            numaid: place.1,
        });
    }

    /// NVLinks, then C2C, then links between switches, as NCCL's three passes.
    fn links(&mut self, root: &Element) {
        for pass in ["nvlink", "c2c", "pcilink"] {
            let mut found = Vec::new();
            collect(root, pass, ("", None), &mut found);
            for (holder, link) in found {
                match pass {
                    "nvlink" => self.nvlink(holder, link),
                    "c2c" => self.c2c(holder, link),
                    _ => self.pcilink(holder.0, link),
                }
            }
        }
    }

    /// The device that an element of a rank's `<gpu>` is of, and how many the GPU has.
    fn device(&self, (busid, part): Holder) -> Option<(Device, f32)> {
        let devices = self.devices.get(busid)?;
        let own = devices.iter().find(|device| device.part == part)?;
        Some((*own, shares(devices.len())))
    }

    fn nvlink(&mut self, holder: Holder, link: &Element) {
        let Some((own, parts)) = self.device(holder) else {
            return;
        };
        let device = own.id;
        let target = link.get("target").unwrap_or_default();
        let remote = self.devices.get(target).cloned();
        let bandwidth = count(link) * self.graph.rules().nvlink_gb_s(own.compute_capability);
        // Where the file gives none, NCCL fills it in from the device, and takes an NVSwitch where there is none; one that
        // does not (`Rules::nvlinks_need_class`) has no such file.
        let filled_in = if remote.is_some() {
            GPU_CLASS
        } else {
            NVSWITCH
        };
        let class = link.get("tclass").unwrap_or(filled_in);
        if class.starts_with(GPU_CLASS) {
            let remotes = remote.unwrap_or_default();
            for remote in &remotes {
                let share = bandwidth / shares(remotes.len()) / parts;
                self.graph
                    .connect(device, remote.id, LinkType::NvLink, share);
            }
            return;
        }
        let far = if class.starts_with(NVLINK_TO_CPU) {
            self.graph.local_cpu(device)
        } else {
            Some(self.graph.nvswitch())
        };
        if let Some(far) = far {
            self.graph
                .connect_both(device, far, LinkType::NvLink, bandwidth / parts);
        }
    }

    fn c2c(&mut self, holder: Holder, link: &Element) {
        let Some((own, _)) = self.device(holder) else {
            return;
        };
        let each = integer(link.get("bw").unwrap_or_default()).unwrap_or_default();
        let each = whole_number(each);
        let bandwidth = each * count(link) / 1000.0;
        let Some(cpu) = self.graph.local_cpu(own.id) else {
            return;
        };
        let is_whole = self.devices.get(holder.0).is_some_and(|all| all.len() == 1);
        // The parts of a GPU share its links.
        let end = if is_whole {
            cpu
        } else if let Some(bridge) = self.bridges.get(holder.0) {
            *bridge
        } else {
            let bridge = self.graph.add_c2c_bridge(cpu, bandwidth);
            self.bridges.insert(holder.0.to_owned(), bridge);
            bridge
        };
        self.graph
            .connect_both(own.id, end, LinkType::C2c, bandwidth);
    }

    fn pcilink(&mut self, busid: &str, link: &Element) {
        let target = link.get("target").unwrap_or_default();
        let ends = self.switches.get(busid).zip(self.switches.get(target));
        if let Some((from, to)) = ends.map(|(from, to)| (*from, *to)) {
            self.graph
                .connect(from, to, LinkType::Local, LOCAL_BANDWIDTH_GB_S);
        }
    }
}

/// What holds a link: the `busid` of a device, and the part of a GPU.
type Holder<'e> = (&'e str, Option<i64>);

/// All elements named `name` with what holds them, in document order.
fn collect<'e>(
    element: &'e Element,
    name: &str,
    (busid, part): Holder<'e>,
    found: &mut Vec<(Holder<'e>, &'e Element)>,
) {
    if element.name == name {
        found.push(((busid, part), element));
        return;
    }
    let busid = element.get("busid").unwrap_or(busid);
    let own = element.get("mlopart").and_then(integer);
    let part = own.filter(|part| *part >= 0).or(part);
    for child in &element.children {
        collect(child, name, (busid, part), found);
    }
}

/// Among how many devices a link is divided.
fn shares(devices: usize) -> f32 {
    f32::from(u16::try_from(devices.max(1)).unwrap_or(u16::MAX))
}

/// A number of MB/s or Mbit/s; below 2^24 it has no rounding, and no link carries as much.
fn whole_number(number: i64) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "as NCCL stores it")]
    let number = number as f32;
    number
}

/// What a `<net>` says (`ncclTopoAddNet`).
fn net_of(net: &Element, dev: i64) -> Net {
    let number = |key| net.get(key).and_then(integer);
    let dev = usize::try_from(dev).unwrap_or_default();
    let guid = net
        .get("guid")
        .and_then(|guid| u64::from_str_radix(guid.strip_prefix("0x").unwrap_or(guid), 16).ok());
    // Some adapters say -1.
    let speed = number("speed").filter(|speed| *speed > 0).unwrap_or(10_000);
    Net {
        dev,
        name: net.get("name").unwrap_or_default().to_owned(),
        asic: guid.unwrap_or(u64::MAX - dev as u64),
        port: number("port").unwrap_or_default(),
        bandwidth_gb_s: whole_number(speed) / 8000.0,
        gdr: number("gdr").unwrap_or_default() != 0,
        rail: number("rail").filter(|rail| *rail >= 0),
        plane: number("plane").filter(|plane| *plane >= 0),
    }
}

fn count(link: &Element) -> f32 {
    let count = integer(link.get("count").unwrap_or_default()).unwrap_or_default();
    f32::from(u16::try_from(count).unwrap_or_default())
}

/// The four ids in one number (`ncclTopoGetIntDevice`).
fn ids(pci: &Element) -> u64 {
    let keys = ["vendor", "device", "subsystem_vendor", "subsystem_device"];
    keys.iter().fold(0, |ids, key| {
        let id = integer(pci.get(key).unwrap_or_default()).unwrap_or_default();
        (ids << 16) | u64::try_from(id & 0xffff).unwrap_or_default()
    })
}

/// The file with the NVLinks and the links to processors that NCCL would find by itself on `machine`: at GPUs whose element
/// names none.
#[must_use]
pub fn with_links(system: &System, machine: &Machine) -> System {
    let mut system = system.clone();
    add_links(&mut system.root, machine);
    system
}

fn add_links(element: &mut Element, machine: &Machine) {
    let own = element.get("busid").and_then(|busid| busid.parse().ok());
    if let Some(gpu) = own.and_then(|own| machine.gpu(own)) {
        let links = [nvlinks(gpu), processor_links(gpu)];
        for links in links.into_iter().filter(|links| !links.is_empty()) {
            add_where_none(element.child("gpu"), links);
        }
    }
    for child in &mut element.children {
        add_links(child, machine);
    }
}

/// Adds elements of one name to a `<gpu>` that has none of that name.
fn add_where_none(gpu: &mut Element, elements: Vec<Element>) {
    let is_known = |one: &Element| gpu.children.iter().any(|child| child.name == one.name);
    if !elements.first().is_some_and(is_known) {
        gpu.children.extend(elements);
    }
}

/// As NCCL writes the NVLinks of a GPU.
fn nvlinks(gpu: &Gpu) -> Vec<Element> {
    let nvlink = |target: String, count: u32, class: &str| {
        Element::new("nvlink")
            .with("target", target)
            .with("count", count.to_string())
            .with("tclass", class)
    };
    match through_switch(&gpu.nvlinks) {
        Some(count) => vec![nvlink(NVSWITCH_ADDRESS.to_owned(), count, NVSWITCH)],
        None => gpu
            .nvlinks
            .iter()
            .map(|(to, count)| nvlink(to.to_string(), *count, DIRECT))
            .collect(),
    }
}

/// As NCCL writes the links of a GPU to a processor on its module; as one, for only what all carry together matters.
fn processor_links(gpu: &Gpu) -> Vec<Element> {
    let gb_s = gpu.model().and_then(|model| model.processor_link_gb_s);
    let link = |gb_s| {
        Element::new("c2c")
            .with("bw", (u32::from(gb_s) * 1000).to_string())
            .with("count", "1")
    };
    gb_s.map(link).into_iter().collect()
}

/// The links of a GPU to an NVSwitch: as many lead to each other GPU, and more in all than a GPU has.  None where the
/// links are direct.
fn through_switch(links: &BTreeMap<PciAddress, u32>) -> Option<u32> {
    let first = links.values().next().copied()?;
    let all: u64 = links.values().map(|count| u64::from(*count)).sum();
    let is_even = links.values().all(|count| *count == first);
    (is_even && all > MOST_NVLINKS).then_some(first)
}
