//! NCCL's graph of a machine (`topo.cc`): places, and links with a bandwidth each way.

use super::path_type::PathType;
use crate::processor::{LOCAL_BANDWIDTH_GB_S, Processor};
use crate::rules::Rules;

/// What NCCL takes two parts of a GPU to send each other (`graph/topo.h` `MLOPART_LOC_BW`).
const BETWEEN_PARTS_GB_S: f32 = 2618.0;

/// The index of a place in its graph.
pub type NodeId = usize;

/// What a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceKind {
    /// A rank's view of a GPU.
    Gpu,
    /// A GPU as a device.
    Dev,
    /// A PCI switch.
    Pci,
    /// All NVSwitches of the host.
    NvSwitch,
    /// A `<cpu>`.
    Cpu,
    /// What the parts of a GPU share of its links to a processor on its module.
    C2cBridge,
    /// A network adapter.
    Nic,
    /// A network device of an adapter, as a rank may use it.
    Net,
    /// A GPU that is not in the part of the host that a rank sees.
    Gone,
}

/// A network device (`topo.cc` `ncclTopoAddNet`).
#[derive(Debug, Clone, PartialEq)]
pub struct Net {
    /// Its number among the host's.
    pub dev: usize,
    /// Its name.
    pub name: String,
    /// What tells adapters apart: the GUID, or a number of its own.
    pub asic: u64,
    /// The port of the adapter.
    pub port: i64,
    /// In GB/s.
    pub bandwidth_gb_s: f32,
    /// Whether it reads and writes GPU memory.
    pub gdr: bool,
    /// The rail that a plugin says it is on.
    pub rail: Option<i64>,
    /// The plane of the network that a plugin says it is on.
    pub plane: Option<i64>,
}

/// What a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkType {
    /// Inside a device; between two halves of a switch.
    Local,
    /// NVLink.
    NvLink,
    /// Chip to chip.
    C2c,
    /// PCI.
    Pci,
    /// Between two `<cpu>`.
    Sys,
    /// From an adapter to its network device.
    Net,
}

impl LinkType {
    /// The path type of this link alone.
    pub(super) fn path_type(self) -> PathType {
        match self {
            // Only the way from adapter to GPU counts (`ncclTopoSetPaths`).
            Self::Local | Self::Net => PathType::Loc,
            Self::NvLink => PathType::Nvl,
            Self::C2c => PathType::C2c,
            Self::Pci => PathType::Pix,
            Self::Sys => PathType::Sys,
        }
    }
}

/// A link to another place; each direction is one of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// Where it leads.
    pub to: NodeId,
    /// What it is.
    pub kind: LinkType,
    /// In GB/s.
    pub bandwidth_gb_s: f32,
}

/// A place and the links that leave it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: PlaceKind,
    /// Its links, in the order in which NCCL tries them.
    pub links: Vec<Link>,
    /// Vendor, device and subsystem ids of a switch, 16 bits each.
    pub ids: u64,
    /// The processor of a CPU.
    pub processor: Option<Processor>,
    /// The `numaid` of a CPU, by which NCCL finds it; 0 elsewhere.
    pub numaid: i64,
    /// Compute capability of a GPU, major times 10 plus minor.
    pub compute_capability: u32,
    /// The device of a GPU.
    pub device: Option<NodeId>,
    /// Whether a GPU takes data from network devices directly.
    pub gdr: bool,
    /// The number of a GPU in NVML's order.
    pub number: usize,
    /// What a network device is.
    pub net: Option<Net>,
}

/// The graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    rules: &'static Rules,
    nodes: Vec<Node>,
}

impl Graph {
    /// An empty graph, for an NCCL with these rules.
    pub fn new(rules: &'static Rules) -> Self {
        Self {
            rules,
            nodes: Vec::new(),
        }
    }

    /// The rules of the NCCL that it is for.
    pub fn rules(&self) -> &'static Rules {
        self.rules
    }

    /// The processor of the first `<cpu>`, which NCCL takes for that of all; none where there is no `<cpu>`.
    pub fn processor(&self) -> Option<Processor> {
        let cpu = self.of_kind(PlaceKind::Cpu).next()?;
        self.node(cpu)?.processor
    }

    /// The place with this index.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// How many places there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no place.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The places of one kind, in the order in which they were added.
    pub fn of_kind(&self, kind: PlaceKind) -> impl Iterator<Item = NodeId> + '_ {
        (0..)
            .zip(&self.nodes)
            .filter(move |(_, node)| node.kind == kind)
            .map(|(id, _)| id)
    }

    fn add(&mut self, kind: PlaceKind) -> NodeId {
        let id = self.nodes.len();
        self.nodes.push(Node {
            kind,
            links: Vec::new(),
            ids: 0,
            processor: None,
            numaid: 0,
            compute_capability: 0,
            device: None,
            gdr: true,
            number: 0,
            net: None,
        });
        id
    }

    /// Adds a `<cpu>` of this `numaid`.
    pub fn add_cpu(&mut self, processor: Processor, numaid: i64) -> NodeId {
        let id = self.add(PlaceKind::Cpu);
        if let Some(node) = self.nodes.get_mut(id) {
            node.processor = Some(processor);
            node.numaid = numaid;
        }
        id
    }

    /// Adds a switch below `above`.
    pub fn add_switch(&mut self, above: NodeId, ids: u64, bandwidth_gb_s: f32) -> NodeId {
        let id = self.add(PlaceKind::Pci);
        if let Some(node) = self.nodes.get_mut(id) {
            node.ids = ids;
        }
        self.connect_both(id, above, LinkType::Pci, bandwidth_gb_s);
        id
    }

    /// Adds a GPU with its device below `above`; gives the GPU.
    pub fn add_gpu(
        &mut self,
        above: NodeId,
        compute_capability: u32,
        bandwidth_gb_s: f32,
    ) -> NodeId {
        let device = self.add(PlaceKind::Dev);
        self.connect_both(device, above, LinkType::Pci, bandwidth_gb_s);
        let gpu = self.add(PlaceKind::Gpu);
        self.connect_both(device, gpu, LinkType::Local, LOCAL_BANDWIDTH_GB_S);
        for id in [device, gpu] {
            if let Some(node) = self.nodes.get_mut(id) {
                node.compute_capability = compute_capability;
            }
        }
        if let Some(node) = self.nodes.get_mut(gpu) {
            node.device = Some(device);
        }
        gpu
    }

    /// Joins the devices of two parts of a GPU.
    pub fn join_parts(&mut self, one: NodeId, other: NodeId) {
        self.connect_both(one, other, LinkType::Local, BETWEEN_PARTS_GB_S);
    }

    /// What the parts of a GPU share of its links to the CPU at `cpu`.
    pub fn add_c2c_bridge(&mut self, cpu: NodeId, bandwidth_gb_s: f32) -> NodeId {
        let id = self.add(PlaceKind::C2cBridge);
        self.connect_both(id, cpu, LinkType::C2c, bandwidth_gb_s);
        id
    }

    /// Sets what is known of a GPU besides its place: its number in NVML's order, and whether it takes data from
    /// network devices directly.
    pub fn describe_gpu(&mut self, gpu: NodeId, number: usize, gdr: bool) {
        if let Some(node) = self.nodes.get_mut(gpu) {
            node.number = number;
            node.gdr = gdr;
        }
    }

    /// Adds an adapter below `above`.
    pub fn add_nic(&mut self) -> NodeId {
        self.add(PlaceKind::Nic)
    }

    /// Adds a network device to an adapter.
    pub fn add_net(&mut self, nic: NodeId, net: Net) -> NodeId {
        let id = self.add(PlaceKind::Net);
        let bandwidth = net.bandwidth_gb_s;
        if let Some(node) = self.nodes.get_mut(id) {
            node.net = Some(net);
        }
        self.connect_both(nic, id, LinkType::Net, bandwidth);
        id
    }

    /// The graph as a rank has it that sees only some of the GPUs (`paths.cc` `ncclTopoTrimSystem`): their devices
    /// stay, where this version has devices apart from GPUs.
    #[must_use]
    pub fn without(&self, gone: impl Fn(NodeId) -> bool) -> Self {
        let mut graph = self.clone();
        let mut removed = Vec::new();
        for (id, node) in (0..).zip(&mut graph.nodes) {
            if node.kind == PlaceKind::Gpu && gone(id) {
                node.kind = PlaceKind::Gone;
                node.links.clear();
                removed.push(id);
                if !self.rules.gpus_have_devices {
                    removed.extend(node.device);
                }
            }
        }
        for id in &removed {
            if let Some(node) = graph.nodes.get_mut(*id) {
                node.kind = PlaceKind::Gone;
                node.links.clear();
            }
        }
        for node in &mut graph.nodes {
            node.links.retain(|link| !removed.contains(&link.to));
        }
        graph
    }

    /// The place that stands for all NVSwitches.
    pub fn nvswitch(&mut self) -> NodeId {
        let found = self.of_kind(PlaceKind::NvSwitch).next();
        found.unwrap_or_else(|| self.add(PlaceKind::NvSwitch))
    }

    /// Adds a link, or its bandwidth to the one of this kind that is there; wider links come first.
    pub fn connect(&mut self, from: NodeId, to: NodeId, kind: LinkType, bandwidth_gb_s: f32) {
        let Some(node) = self.nodes.get_mut(from) else {
            return;
        };
        let same = |link: &Link| link.to == to && link.kind == kind;
        let mut link = Link {
            to,
            kind,
            bandwidth_gb_s,
        };
        let mut place = node.links.len();
        if let Some(at) = node.links.iter().position(same) {
            link.bandwidth_gb_s += node.links.remove(at).bandwidth_gb_s;
            place = at;
        }
        let narrower = |before: &Link| before.bandwidth_gb_s < link.bandwidth_gb_s;
        while place > 0 && node.links.get(place - 1).is_some_and(narrower) {
            place -= 1;
        }
        node.links.insert(place, link);
    }

    /// [`Graph::connect`] each way.
    pub fn connect_both(&mut self, a: NodeId, b: NodeId, kind: LinkType, bandwidth_gb_s: f32) {
        self.connect(a, b, kind, bandwidth_gb_s);
        self.connect(b, a, kind, bandwidth_gb_s);
    }

    /// The CPU that a device or switch is below.
    pub fn local_cpu(&self, from: NodeId) -> Option<NodeId> {
        let mut at = from;
        let mut came = None;
        // The tree is no deeper than there are places.
        for _ in 0..=self.nodes.len() {
            let node = self.nodes.get(at)?;
            if node.kind == PlaceKind::Cpu {
                return Some(at);
            }
            let above = |link: &&Link| {
                link.kind == LinkType::Pci
                    && Some(link.to) != came
                    && link.to < at
                    && self
                        .kind(link.to)
                        .is_some_and(|kind| matches!(kind, PlaceKind::Pci | PlaceKind::Cpu))
            };
            let next = node.links.iter().find(above)?.to;
            came = Some(at);
            at = next;
        }
        None
    }

    pub(super) fn kind(&self, id: NodeId) -> Option<PlaceKind> {
        self.nodes.get(id).map(|node| node.kind)
    }

    /// Ends the building, as `ncclTopoGetSystemFromXml` does: two-level Broadcom switches become one, all
    /// CPUs are joined, and the link to the place above comes last.
    pub fn finish(&mut self) {
        self.flatten_broadcom();
        self.connect_cpus();
        let cpus: Vec<_> = self.of_kind(PlaceKind::Cpu).collect();
        for cpu in cpus {
            self.sort(cpu, None, 0);
        }
    }

    /// `ncclTopoFlattenBcmSwitches`.
    fn flatten_broadcom(&mut self) {
        let switches: Vec<_> = self.of_kind(PlaceKind::Pci).collect();
        for switch in switches {
            let ids = |graph: &Self, id: NodeId| graph.nodes.get(id).map_or(0, |node| node.ids);
            let Some(generation) = broadcom_generation(ids(self, switch), false) else {
                continue;
            };
            let links = self
                .nodes
                .get(switch)
                .map(|node| node.links.clone())
                .unwrap_or_default();
            let (subs, kept): (Vec<_>, Vec<_>) = links.into_iter().partition(|link| {
                self.kind(link.to) == Some(PlaceKind::Pci)
                    && broadcom_generation(ids(self, link.to), true) == Some(generation)
            });
            if let Some(node) = self.nodes.get_mut(switch) {
                node.links = kept;
                node.ids |= 0xffff;
            }
            for sub in subs {
                self.absorb(switch, sub.to);
            }
        }
    }

    /// Hangs what is below `sub` below `switch`, and cuts `sub` off.
    fn absorb(&mut self, switch: NodeId, sub: NodeId) {
        let Some(node) = self.nodes.get_mut(sub) else {
            return;
        };
        node.ids |= 0xffff;
        let links = std::mem::take(&mut node.links);
        for link in links.into_iter().filter(|link| link.to != switch) {
            if let Some(node) = self.nodes.get_mut(switch) {
                node.links.push(link);
            }
            let back = self
                .nodes
                .get_mut(link.to)
                .into_iter()
                .flat_map(|node| &mut node.links);
            if let Some(back) = back.into_iter().find(|back| back.to == sub) {
                back.to = switch;
            }
        }
        for node in &mut self.nodes {
            node.links.retain(|link| link.to != sub);
        }
    }

    /// `ncclTopoConnectCpus`.
    fn connect_cpus(&mut self) {
        let cpus: Vec<_> = self.of_kind(PlaceKind::Cpu).collect();
        for from in &cpus {
            let processor = self.nodes.get(*from).and_then(|node| node.processor);
            let processor = processor.unwrap_or(Processor::Other);
            let bandwidth = processor.socket_link_gb_s(self.rules);
            for to in cpus.iter().filter(|to| *to != from) {
                self.connect(*from, *to, LinkType::Sys, bandwidth);
            }
        }
    }

    /// `ncclTopoSort`.
    fn sort(&mut self, id: NodeId, above: Option<NodeId>, depth: usize) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        if let Some(at) = above.and_then(|up| node.links.iter().position(|link| link.to == up)) {
            let up = node.links.remove(at);
            node.links.push(up);
        }
        let down = |link: &&Link| link.kind == LinkType::Pci && Some(link.to) != above;
        let below: Vec<_> = node.links.iter().filter(down).map(|link| link.to).collect();
        if depth < self.nodes.len() {
            for child in below {
                self.sort(child, Some(id), depth + 1);
            }
        }
    }
}

/// The generation of a Broadcom switch that shows itself as two levels (`topo.cc` `getBcmGen`); `lower` for
/// the second level.
fn broadcom_generation(ids: u64, lower: bool) -> Option<u8> {
    let gen5 = if lower {
        0x1000_c030_1000_1000
    } else {
        0x1000_c030_1000_0000
    };
    match ids & !0xfff {
        0x1000_c010_1000_a000 => Some(4),
        ids if ids == gen5 => Some(5),
        _ => None,
    }
}
