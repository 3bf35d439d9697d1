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

/// Devices below one home that are wider than this together stand in several rows, of about one length.
const SHELF: f64 = 1440.0;

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
    /// The row of its home in which it stands.
    pub(crate) shelf: usize,
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

impl Home<'_> {
    /// Its devices, row by row.
    pub(crate) fn shelves(&self) -> impl Iterator<Item = &[End]> {
        self.ends.chunk_by(|one, next| one.shelf == next.shelf)
    }
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
    let widths = shelve(&mut ends);
    let widest = widths.iter().copied().fold(0.0, f64::max);
    let width = widest.max(NODE_WIDTH).max(node.map_or(0.0, width_of_cpus));
    // Devices stand in the middle below a node that is wider than they.
    for end in &mut ends {
        let own = widths.get(end.shelf).copied().unwrap_or(width);
        end.x += (width - own) / 2.0;
    }
    Home {
        node,
        name,
        ends,
        width,
    }
}

/// Puts devices into rows of about one length, those of a root complex into one row where it holds them; the width of each row.
fn shelve(ends: &mut [End]) -> Vec<f64> {
    let mut roots: Vec<&mut [End]> = Vec::new();
    for of_root in ends.chunk_by_mut(|one, next| one.root == next.root) {
        if width_of(of_root) > SHELF {
            roots.extend(of_root.chunks_mut(1));
        } else {
            roots.push(of_root);
        }
    }
    let all: f64 = roots.iter().map(|root| width_of(root)).sum();
    let length = all / (all / SHELF).ceil().max(1.0);
    let mut rows: Vec<f64> = Vec::new();
    let (mut before, mut above) = (0.0, None);
    for of_root in roots {
        let (own, root) = (width_of(of_root), of_root.first().and_then(|end| end.root));
        // One whose middle is beyond the end of the row is in the next.
        let ends_row =
            before + own / 2.0 > length * f64::from(u32::try_from(rows.len()).unwrap_or(1));
        if rows.is_empty() || ends_row {
            rows.push(0.0);
            above = None;
        }
        let shelf = rows.len() - 1;
        let Some(x) = rows.last_mut() else { continue };
        if above.is_some_and(|above| above != root) {
            *x += GAP;
        }
        above = Some(root);
        for end in of_root {
            (end.x, end.shelf) = (*x, shelf);
            *x += end.width;
        }
        before += own;
    }
    rows
}

fn width_of(ends: &[End]) -> f64 {
    ends.iter().map(|end| end.width).sum()
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
                shelf: 0,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(roots: &[u8]) -> Vec<End> {
        let all = (0_u8..).zip(roots).map(|(number, root)| End {
            what: What::Gpu(usize::from(number)),
            pci: "0000:01:00.0".parse().unwrap(),
            root: Some((0, *root)),
            switches: Vec::new(),
            shelf: 0,
            x: 0.0,
            width: GPU_WIDTH,
        });
        all.collect()
    }

    fn rows(roots: &[u8]) -> Vec<usize> {
        let mut ends = ends(roots);
        let widths = shelve(&mut ends);
        assert!(
            widths
                .iter()
                .all(|width| *width <= SHELF + GPU_WIDTH + GAP * 16.0)
        );
        let row = |shelf| ends.iter().filter(|end| end.shelf == shelf).count();
        (0..widths.len()).map(row).collect()
    }

    #[test]
    fn more_devices_than_a_page_holds_stand_in_rows() {
        assert_eq!(rows(&[]), [0; 0]);
        assert_eq!(rows(&[0; 8]), [8]);
        // A root complex is kept whole where a row holds it.
        assert_eq!(rows(&[0; 16]), [8, 8]);
        assert_eq!(
            rows(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]),
            [10, 6]
        );
        let each: Vec<u8> = (0..32).collect();
        assert_eq!(rows(&each), [11, 10, 11]);
    }
}
