//! Where everything of a machine stands: packages, in each its NUMA nodes, below each its devices.
//!
//! A fixed grid: widths come from counting devices, nothing is optimised.

use std::collections::BTreeMap;

use topology::machine::{Locality, Machine, NodeKind, NumaNode};
use topology::pci::PciAddress;

use super::svg;

/// A GPU's column.
pub(crate) const GPU_WIDTH: f64 = 104.0;
/// A NIC's column.
pub(crate) const NIC_WIDTH: f64 = 82.0;
/// The least width of a NUMA node.
const NODE_WIDTH: f64 = 132.0;
/// The most that a node is widened for its list of CPUs.
const MAX_LIST: f64 = 260.0;
/// Between root complexes, and at the sides of a node.
pub(crate) const GAP: f64 = 10.0;

/// Bridges above a device at most; real machines have a dozen.
const MAX_BRIDGES: usize = 32;

/// What stands at the end of a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The machine's GPU of this number.
    Gpu(usize),
    /// The machine's NIC of this number.
    Nic(usize),
}

/// A GPU or NIC and what is above it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct End {
    pub(crate) what: What,
    pub(crate) pci: PciAddress,
    /// Its root complex; None where not recorded.
    pub(crate) root: Option<(u32, u8)>,
    /// Switches above it, outermost first.
    pub(crate) switches: Vec<PciAddress>,
    /// Left edge, from its home's.
    pub(crate) x: f64,
    pub(crate) width: f64,
}

/// What devices hang below: a NUMA node, or what is known instead.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Home<'a> {
    /// None where the devices' node is not known, or is one of several.
    pub(crate) node: Option<&'a NumaNode>,
    /// `node 0`, `nodes 0-3`, `node unknown`.
    pub(crate) name: String,
    pub(crate) ends: Vec<End>,
    pub(crate) width: f64,
}

/// A package, or what is in none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Band<'a> {
    pub(crate) package: Option<u32>,
    pub(crate) name: String,
    pub(crate) homes: Vec<Home<'a>>,
    pub(crate) width: f64,
}

/// The bands of a machine, packages first; nodes without one share a band if they fit into `room`.
pub(crate) fn bands(machine: &Machine, room: f64) -> Vec<Band<'_>> {
    let mut ends = Ends::new(machine);
    let mut bands = Vec::new();
    for package in &machine.packages {
        let nodes = machine
            .numa_nodes
            .iter()
            .filter(|node| node.package == Some(package.id));
        let mut homes: Vec<Home<'_>> = nodes.map(|node| home_of(node, &mut ends)).collect();
        homes.extend(ends.take_groups(|locality| locality.package == Some(package.id)));
        bands.push(band(
            Some(package.id),
            format!("socket {}", package.id),
            homes,
        ));
    }
    let loose = machine
        .numa_nodes
        .iter()
        .filter(|node| node.package.is_none() && !node.cpus.is_empty());
    let homes: Vec<Home<'_>> = loose.map(|node| home_of(node, &mut ends)).collect();
    let name = "socket not recorded";
    if homes.iter().map(|home| home.width).sum::<f64>() > room {
        bands.extend(
            homes
                .into_iter()
                .map(|home| band(None, name.to_owned(), vec![home])),
        );
    } else if !homes.is_empty() {
        bands.push(band(None, name.to_owned(), homes));
    }
    let lost = ends.take_groups(|_| true);
    if !lost.is_empty() {
        bands.push(band(None, "location unknown".to_owned(), lost));
    }
    bands
}

/// Nodes that are only memory.
pub(crate) fn memory_only(machine: &Machine) -> Vec<&NumaNode> {
    machine
        .numa_nodes
        .iter()
        .filter(|node| node.cpus.is_empty() && node.kind != NodeKind::Dram)
        .collect()
}

fn band(package: Option<u32>, name: String, homes: Vec<Home<'_>>) -> Band<'_> {
    let width = homes.iter().map(|home| home.width + GAP).sum::<f64>() + GAP;
    Band {
        package,
        name,
        homes,
        width: width.max(NODE_WIDTH),
    }
}

fn home_of<'a>(node: &'a NumaNode, ends: &mut Ends<'_>) -> Home<'a> {
    let own = ends.take(|locality| {
        // A device on a socket whose CPUs are all offline is not where its nearest CPUs are.
        let is_here = node.package.is_none() || locality.package == node.package;
        let nodes = locality.numa_nodes.as_ref();
        is_here && nodes.is_some_and(|nodes| nodes.len() == 1 && nodes.contains(node.id))
    });
    home(Some(node), format!("node {}", node.id), own)
}

/// What a node's list of CPUs takes, as far as a page holds that.
fn width_of_cpus(node: &NumaNode) -> f64 {
    let list = format!("CPUs {}", node.cpus);
    (svg::width(&list, 10.0) + 2.0 * GAP).min(MAX_LIST)
}

fn home<'a>(node: Option<&'a NumaNode>, name: String, mut ends: Vec<End>) -> Home<'a> {
    ends.sort_by(|a, b| (a.root, &a.switches, a.pci).cmp(&(b.root, &b.switches, b.pci)));
    let mut x = 0.0;
    let mut before: Option<Option<(u32, u8)>> = None;
    for end in &mut ends {
        if before.is_some_and(|root| root != end.root) {
            x += GAP;
        }
        before = Some(end.root);
        end.x = x;
        x += end.width;
    }
    let width = x.max(NODE_WIDTH).max(node.map_or(0.0, width_of_cpus));
    // Devices stand in the middle below a node that is wider than they.
    let shift = (width - x) / 2.0;
    ends.iter_mut().for_each(|end| end.x += shift);
    Home {
        node,
        name,
        ends,
        width,
    }
}

/// Devices that have no home yet.
struct Ends<'a> {
    left: Vec<(End, &'a Locality)>,
}

impl<'a> Ends<'a> {
    fn new(machine: &'a Machine) -> Self {
        let gpus = machine
            .gpus
            .iter()
            .enumerate()
            .map(|(index, gpu)| (What::Gpu(index), gpu.pci, &gpu.locality));
        let nics = machine
            .nics
            .iter()
            .enumerate()
            .map(|(index, nic)| (What::Nic(index), nic.pci, &nic.locality));
        let left = gpus.chain(nics).map(|(what, pci, locality)| {
            let end = End {
                what,
                pci,
                root: machine.device(pci).and_then(|device| device.root_bus),
                switches: switches_above(machine, pci),
                x: 0.0,
                width: if matches!(what, What::Gpu(_)) {
                    GPU_WIDTH
                } else {
                    NIC_WIDTH
                },
            };
            (end, locality)
        });
        Self {
            left: left.collect(),
        }
    }

    fn take(&mut self, is_wanted: impl Fn(&Locality) -> bool) -> Vec<End> {
        let (taken, left) = std::mem::take(&mut self.left)
            .into_iter()
            .partition(|(_, locality)| is_wanted(locality));
        self.left = left;
        let taken: Vec<(End, &Locality)> = taken;
        taken.into_iter().map(|(end, _)| end).collect()
    }

    /// A home for each set of nodes among those wanted.
    fn take_groups<'b>(&mut self, is_wanted: impl Fn(&Locality) -> bool) -> Vec<Home<'b>> {
        let mut groups: BTreeMap<String, Vec<End>> = BTreeMap::new();
        let (taken, left) = std::mem::take(&mut self.left)
            .into_iter()
            .partition(|(_, locality)| is_wanted(locality));
        self.left = left;
        let taken: Vec<(End, &Locality)> = taken;
        for (end, locality) in taken {
            let name = match &locality.numa_nodes {
                Some(nodes) if nodes.len() == 1 => format!("CPUs of node {nodes}"),
                Some(nodes) => format!("one of nodes {nodes}"),
                None => "node unknown".to_owned(),
            };
            groups.entry(name).or_default().push(end);
        }
        groups
            .into_iter()
            .map(|(name, ends)| home(None, name, ends))
            .collect()
    }
}

/// The upstream ports of switches above a device, outermost first.
///
/// A bridge is one when several kept devices hang below it.  Else bridges come in turn, root port, upstream
/// port, downstream port, upstream port, and so on.
fn switches_above(machine: &Machine, pci: PciAddress) -> Vec<PciAddress> {
    let mut chain = Vec::new();
    let mut next = machine.device(pci).and_then(|device| device.parent);
    while let Some(address) = next.filter(|_| chain.len() < MAX_BRIDGES) {
        chain.push(address);
        next = machine.device(address).and_then(|device| device.parent);
    }
    chain.reverse();
    let last = chain.len().saturating_sub(1);
    let is_switch = |(place, address): &(usize, &PciAddress)| {
        let below = machine
            .pci
            .iter()
            .filter(|device| device.parent == Some(**address))
            .count();
        below > 1 || (place % 2 == 1 && *place < last)
    };
    chain
        .iter()
        .enumerate()
        .filter(is_switch)
        .map(|(_, address)| *address)
        .collect()
}
