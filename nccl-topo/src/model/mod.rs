//! A file as NCCL's graph, for a communicator of its GPUs.

use std::collections::BTreeMap;

use crate::element::{Element, GPU_CLASS, integer};
use crate::graph::{Graph, LinkType, NodeId, PathType, Paths};
use crate::processor::{LOCAL_BANDWIDTH_GB_S, Processor};
use crate::reader::System;
use crate::rules::{Rules, pci_bandwidth_gb_s};

mod fuse;
#[cfg(test)]
mod tests;

/// The compute capability taken for GPUs whose file does not say, as major times 10 plus minor: A100's.
pub const COMPUTE_CAPABILITY: u32 = 80;

/// Class of an NVSwitch as the target of an NVLink.
const NVSWITCH: &str = "0x068000";

/// The class of POWER9's NVLink bridge, which stands for the CPU.
const NVLINK_TO_CPU: &str = "0x068001";

/// What decides besides the file.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// The compute capability of GPUs whose file does not say, as 90 for 9.0.  It decides an NVLink's bandwidth
    /// and which bandwidths NCCL tries.
    pub compute_capability: u32,
    /// The farthest path type that the job allows P2P over (`NCCL_P2P_LEVEL`); none is NCCL's own choice.
    pub p2p_limit: Option<PathType>,
    /// The rules of the NCCL that reads the file.
    pub rules: &'static Rules,
}

impl Conditions {
    /// NCCL's own choice of P2P, and the rules that are assumed.
    pub fn of_capability(compute_capability: u32) -> Self {
        Self {
            compute_capability,
            p2p_limit: None,
            rules: Rules::assumed(),
        }
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
}

/// A GPU of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelGpu {
    /// Its `busid`.
    pub busid: String,
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
    let mut found = Vec::new();
    system.root.walk(&mut |element| {
        if element.is_gpu() {
            found.extend(element.get("busid").map(str::to_owned));
        }
    });
    found
}

impl Model {
    /// The graph of `system` for a communicator of the GPUs at `ranks`, in that order; a `busid` that is not
    /// in the file is passed over.
    ///
    /// As in a job, each rank has the file without the other GPUs, and NCCL joins these trees in the order
    /// of ranks.  NICs count where the file names a `<net>`.
    pub fn of(system: &System, ranks: &[String], conditions: Conditions) -> Self {
        let mut build = Build {
            graph: Graph::new(conditions.rules),
            gpus: Vec::new(),
            devices: BTreeMap::new(),
            switches: BTreeMap::new(),
            ranks,
            compute_capability: conditions.compute_capability,
        };
        let root = fuse::joined(&system.root, ranks);
        for (index, cpu) in root.named("cpu").enumerate() {
            build.cpu(index, cpu);
        }
        build.links(&root);
        let Build {
            mut graph, gpus, ..
        } = build;
        graph.finish();
        Self {
            paths: Paths::of(&graph, conditions.p2p_limit),
            graph,
            gpus,
        }
    }

    /// For a communicator of all GPUs of the file, in document order.
    pub fn of_all(system: &System) -> Self {
        let conditions = Conditions::of_capability(COMPUTE_CAPABILITY);
        Self::of(system, &gpus_of(system), conditions)
    }
}

struct Build<'r> {
    graph: Graph,
    gpus: Vec<ModelGpu>,
    /// Devices of GPUs, with their compute capability, and switches, by `busid`.
    devices: BTreeMap<String, (NodeId, u32)>,
    switches: BTreeMap<String, NodeId>,
    ranks: &'r [String],
    compute_capability: u32,
}

impl Build<'_> {
    fn cpu(&mut self, index: usize, cpu: &Element) {
        let node = self.graph.add_cpu(Processor::of_element(cpu));
        let numaid = integer(cpu.get("numaid").unwrap_or_default());
        let place = (index, numaid.unwrap_or_default());
        for pci in cpu.named("pci") {
            self.pci(pci, node, place);
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
            if let Some(rank) = self.ranks.iter().position(|rank| rank == busid) {
                self.gpu(pci, above, place, (rank, bandwidth));
            }
        } else if !class.starts_with("0x02") && pci.named("nic").next().is_none() {
            let switch = self.graph.add_switch(above, ids(pci), bandwidth);
            self.switches.insert(busid.to_owned(), switch);
            for below in pci.named("pci") {
                self.pci(below, switch, place);
            }
        }
    }

    fn gpu(&mut self, pci: &Element, above: NodeId, place: (usize, i64), own: (usize, f32)) {
        let busid = pci.get("busid").unwrap_or_default();
        let sm = pci.named("gpu").next().and_then(|gpu| gpu.get("sm"));
        let capability = sm.and_then(integer).and_then(|sm| u32::try_from(sm).ok());
        let capability = capability.unwrap_or(self.compute_capability);
        let (rank, bandwidth) = own;
        let gpu = self.graph.add_gpu(above, capability, bandwidth);
        if let Some(device) = self.graph.node(gpu).and_then(|gpu| gpu.device) {
            self.devices.insert(busid.to_owned(), (device, capability));
        }
        self.gpus.push(ModelGpu {
            busid: busid.to_owned(),
            rank,
            cpu: place.0,
            numaid: place.1,
        });
    }

    /// NVLinks, then C2C, then links between switches, as NCCL's three passes.
    fn links(&mut self, root: &Element) {
        for pass in ["nvlink", "c2c", "pcilink"] {
            let mut found = Vec::new();
            collect(root, pass, "", &mut found);
            for (busid, link) in found {
                match pass {
                    "nvlink" => self.nvlink(busid, link),
                    "c2c" => self.c2c(busid, link),
                    _ => self.pcilink(busid, link),
                }
            }
        }
    }

    fn nvlink(&mut self, busid: &str, link: &Element) {
        let Some((device, capability)) = self.devices.get(busid).copied() else {
            return;
        };
        let target = link.get("target").unwrap_or_default();
        let remote = self.devices.get(target).map(|(remote, _)| *remote);
        let bandwidth = count(link) * self.graph.rules().nvlink_gb_s(capability);
        // Where the file gives none, NCCL fills it in from the device, and takes an NVSwitch where there is none.
        let filled_in = if remote.is_some() {
            GPU_CLASS
        } else {
            NVSWITCH
        };
        let class = link.get("tclass").unwrap_or(filled_in);
        if class.starts_with(GPU_CLASS) {
            if let Some(remote) = remote {
                self.graph
                    .connect(device, remote, LinkType::NvLink, bandwidth);
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
                .connect_both(device, far, LinkType::NvLink, bandwidth);
        }
    }

    fn c2c(&mut self, busid: &str, link: &Element) {
        let Some((device, _)) = self.devices.get(busid).copied() else {
            return;
        };
        let each = integer(link.get("bw").unwrap_or_default()).unwrap_or_default();
        let each = f32::from(u16::try_from(each).unwrap_or(u16::MAX));
        if let Some(cpu) = self.graph.local_cpu(device) {
            self.graph
                .connect_both(device, cpu, LinkType::C2c, each * count(link) / 1000.0);
        }
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

/// All elements named `name` with the `busid` of the device that holds them, in document order.
fn collect<'e>(
    element: &'e Element,
    name: &str,
    busid: &'e str,
    found: &mut Vec<(&'e str, &'e Element)>,
) {
    if element.name == name {
        found.push((busid, element));
        return;
    }
    let busid = element.get("busid").unwrap_or(busid);
    for child in &element.children {
        collect(child, name, busid, found);
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
