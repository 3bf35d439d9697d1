//! How two PCI devices reach each other, in the words of `nvidia-smi topo -m`.

use std::fmt;

use crate::machine::{Locality, Machine};
use crate::pci::PciAddress;

/// The path between two devices, nearest first; not NCCL's, which has no NODE and another SYS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PciPath {
    /// At most a single PCIe switch or bridge.
    Pix,
    /// Several PCIe bridges, no host bridge.
    Pxb,
    /// A host bridge, the same for both.
    Phb,
    /// From host bridge to host bridge within a NUMA node.
    Node,
    /// Between NUMA nodes.
    Sys,
}

impl fmt::Display for PciPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pix => "PIX",
            Self::Pxb => "PXB",
            Self::Phb => "PHB",
            Self::Node => "NODE",
            Self::Sys => "SYS",
        })
    }
}

/// The PCI path from `a` to `b`; none where the localities do not tell.
///
/// A common bridge decides without localities: one step below it on both sides is a single switch (its
/// upstream port with a downstream port each).  Devices below one host bridge are PHB.  Beyond that their
/// NUMA nodes decide.
pub fn pci_path(machine: &Machine, a: PciAddress, b: PciAddress) -> Option<PciPath> {
    let (up_a, up_b) = (bridges_above(machine, a), bridges_above(machine, b));
    for (depth_a, bridge) in up_a.iter().enumerate() {
        if let Some(depth_b) = up_b.iter().position(|other| other == bridge) {
            let single = depth_a <= 1 && depth_b <= 1;
            return Some(if single { PciPath::Pix } else { PciPath::Pxb });
        }
    }
    let root_bus = |address| machine.device(address).and_then(|device| device.root_bus);
    if let (Some(x), Some(y)) = (root_bus(a), root_bus(b))
        && x == y
    {
        return Some(PciPath::Phb);
    }
    let (place_a, place_b) = (locality(machine, a)?, locality(machine, b)?);
    // A socket whose CPUs are all offline is another one, though its nearest CPUs are elsewhere.
    if let (Some(x), Some(y)) = (place_a.package, place_b.package)
        && x != y
    {
        return Some(PciPath::Sys);
    }
    let nodes_a = place_a.numa_nodes.as_ref()?;
    let nodes_b = place_b.numa_nodes.as_ref()?;
    Some(if nodes_a.intersects(nodes_b) {
        PciPath::Node
    } else {
        PciPath::Sys
    })
}

/// The bridges above a device, nearest first.
fn bridges_above(machine: &Machine, address: PciAddress) -> Vec<PciAddress> {
    let mut bridges = Vec::new();
    let mut next = machine.device(address).and_then(|device| device.parent);
    while let Some(bridge) = next {
        if bridges.contains(&bridge) {
            break;
        }
        bridges.push(bridge);
        next = machine.device(bridge).and_then(|device| device.parent);
    }
    bridges
}

/// Where the GPU or NIC at `address` is.
pub fn locality(machine: &Machine, address: PciAddress) -> Option<&Locality> {
    machine.gpu(address).map(|gpu| &gpu.locality).or_else(|| {
        let nic = machine.nics.iter().find(|nic| nic.pci == address)?;
        Some(&nic.locality)
    })
}

/// Active NVLinks between two GPUs; 0 when there are none or none could be seen.
///
/// A link has two ends: where only one of the GPUs told, or the two disagree, the larger number counts.
pub fn nvlinks(machine: &Machine, a: PciAddress, b: PciAddress) -> u32 {
    let told = |from, to| {
        let gpu = machine.gpu(from)?;
        gpu.nvlinks.get(&to).copied()
    };
    told(a, b).max(told(b, a)).unwrap_or(0)
}

/// Whether NVLink or xGMI joins two GPUs, be it over other GPUs.
pub fn are_linked(machine: &Machine, a: PciAddress, b: PciAddress) -> bool {
    nvlinks(machine, a, b) > 0 || is_beyond(machine, a, b) || is_beyond(machine, b, a)
}

/// Whether xGMI takes `from` to `to` over other GPUs.
fn is_beyond(machine: &Machine, from: PciAddress, to: PciAddress) -> bool {
    let kfd = machine.gpu(from).and_then(|gpu| gpu.kfd.as_ref());
    kfd.is_some_and(|kfd| kfd.beyond.contains(&to))
}

/// Whether two devices are at different packages, whatever joins them; none where that is not known.
pub fn are_apart(machine: &Machine, a: PciAddress, b: PciAddress) -> Option<bool> {
    let package_a = locality(machine, a)?.package?;
    let package_b = locality(machine, b)?.package?;
    Some(package_a != package_b)
}

/// Whether traffic between two devices crosses the link between packages; none where that is not known.
///
/// Not when they share a package or NVLink or xGMI joins them, be it over other GPUs.  In different packages it does, unless
/// both are GPUs of one maker that may have such links, and the source could not show those of either
/// ([`Machine::hides_links_of`]): KFD names no link to a GPU whose own node cannot be read.
pub fn crosses_socket(machine: &Machine, a: PciAddress, b: PciAddress) -> Option<bool> {
    // What takes least to know first: a launch asks for each two GPUs of a step.
    let are_apart = are_apart(machine, a, b);
    if are_apart == Some(false) || are_linked(machine, a, b) {
        return Some(false);
    }
    are_apart?;
    let may_hide = machine
        .gpu(a)
        .zip(machine.gpu(b))
        .filter(|(a, b)| a.vendor == b.vendor && a.may_link() && b.may_link())
        .is_some_and(|(a, b)| machine.hides_links_of(a) || machine.hides_links_of(b));
    (!may_hide).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Gpu, KfdGpu, KfdNode, Nic};
    use crate::pci::PciDevice;
    use crate::set::NodeSet;

    fn at(text: &str) -> PciAddress {
        text.parse().unwrap()
    }

    fn device(address: &str, parent: Option<&str>, bus: u8) -> PciDevice {
        PciDevice {
            parent: parent.map(at),
            root_bus: Some((0, bus)),
            ..PciDevice::new(at(address), 0x06_0400, 0, 0)
        }
    }

    fn gpu(address: &str, model: u16, package: u32, node: u32) -> Gpu {
        let device = PciDevice::new(at(address), 0x03_0200, 0x10de, model);
        Gpu {
            locality: Locality {
                package: Some(package),
                numa_nodes: Some(NodeSet::single(node)),
                ..Locality::default()
            },
            ..Gpu::of(&device)
        }
    }

    /// A switch (21) with GPUs 23 and 24 and a second level (30) with 33; 28 beside; 83 on the other socket.
    fn machine(model: u16) -> Machine {
        Machine {
            pci: vec![
                device("0000:20:00.0", None, 0x20),
                device("0000:21:00.0", Some("0000:20:00.0"), 0x20),
                device("0000:22:00.0", Some("0000:21:00.0"), 0x20),
                device("0000:22:01.0", Some("0000:21:00.0"), 0x20),
                device("0000:22:02.0", Some("0000:21:00.0"), 0x20),
                device("0000:23:00.0", Some("0000:22:00.0"), 0x20),
                device("0000:24:00.0", Some("0000:22:01.0"), 0x20),
                device("0000:30:00.0", Some("0000:22:02.0"), 0x20),
                device("0000:31:00.0", Some("0000:30:00.0"), 0x20),
                device("0000:33:00.0", Some("0000:31:00.0"), 0x20),
                device("0000:20:01.0", None, 0x20),
                device("0000:28:00.0", Some("0000:20:01.0"), 0x20),
                device("0000:43:00.0", None, 0x40),
                device("0000:83:00.0", None, 0x80),
            ],
            gpus: vec![
                gpu("0000:23:00.0", model, 0, 0),
                gpu("0000:24:00.0", model, 0, 0),
                gpu("0000:33:00.0", model, 0, 0),
                gpu("0000:28:00.0", model, 0, 0),
                gpu("0000:43:00.0", model, 0, 0),
                gpu("0000:83:00.0", model, 1, 1),
            ],
            ..Machine::default()
        }
    }

    #[test]
    fn every_path_type_is_told_apart() {
        let machine = machine(0x2330);
        for (other, path) in [
            ("0000:24:00.0", PciPath::Pix),
            ("0000:33:00.0", PciPath::Pxb),
            ("0000:28:00.0", PciPath::Phb),
            ("0000:43:00.0", PciPath::Node),
            ("0000:83:00.0", PciPath::Sys),
        ] {
            let there = pci_path(&machine, at("0000:23:00.0"), at(other));
            assert_eq!(there, Some(path), "{other}");
            assert_eq!(pci_path(&machine, at(other), at("0000:23:00.0")), there);
        }
    }

    #[test]
    fn an_unknown_locality_leaves_the_path_unknown_beyond_the_host_bridge() {
        let mut machine = machine(0x2330);
        machine.gpus[5].locality = Locality::default();
        assert_eq!(
            pci_path(&machine, at("0000:23:00.0"), at("0000:83:00.0")),
            None
        );
        assert_eq!(
            crosses_socket(&machine, at("0000:23:00.0"), at("0000:83:00.0")),
            None
        );
    }

    #[test]
    fn crossing_is_not_known_where_nvlink_may_hide() {
        let (a, b) = (at("0000:23:00.0"), at("0000:83:00.0"));
        let mut sxm = machine(0x2330);
        assert_eq!(crosses_socket(&sxm, a, b), None);
        assert_eq!(crosses_socket(&sxm, a, at("0000:24:00.0")), Some(false));
        sxm.nvlink_visible = true;
        assert_eq!(crosses_socket(&sxm, a, b), Some(true));
        sxm.gpus[0].nvlinks.insert(b, 18);
        // One end told: NVML of the other failed, or a file names one only.
        assert_eq!((nvlinks(&sxm, a, b), nvlinks(&sxm, b, a)), (18, 18));
        assert_eq!(crosses_socket(&sxm, a, b), Some(false));
        assert_eq!(crosses_socket(&sxm, b, a), Some(false));
        assert_eq!(crosses_socket(&machine(0x26b9), a, b), Some(true));
    }

    #[test]
    fn crossing_is_not_known_where_one_end_of_xgmi_may_hide() {
        let amd = |address: &str, package: u32, node: Option<u32>| Gpu {
            kfd: node.map(|node| KfdGpu {
                nodes: vec![KfdNode {
                    node,
                    ..KfdNode::default()
                }],
                ..KfdGpu::default()
            }),
            vendor: 0x1002,
            ..gpu(address, 0x74a1, package, package)
        };
        let crossing = |nodes: [Option<u32>; 2]| {
            let gpus = vec![
                amd("0000:23:00.0", 0, nodes[0]),
                amd("0000:83:00.0", 1, nodes[1]),
            ];
            let machine = Machine { gpus, ..machine(0) };
            crosses_socket(&machine, at("0000:23:00.0"), at("0000:83:00.0"))
        };
        assert_eq!(crossing([Some(1), Some(2)]), Some(true));
        assert_eq!(crossing([Some(1), None]), None);
        assert_eq!(crossing([None, None]), None);
    }

    #[test]
    fn a_nic_in_the_other_package_is_across() {
        let mut machine = machine(0x2330);
        let far = machine.gpus.pop().unwrap();
        machine.nics.push(Nic {
            pci: far.pci,
            vendor: 0x15b3,
            device: 0,
            ports: Vec::new(),
            aside: None,
            names: Vec::new(),
            locality: far.locality,
        });
        assert_eq!(
            crosses_socket(&machine, at("0000:23:00.0"), far.pci),
            Some(true)
        );
    }

    #[test]
    fn a_parent_cycle_ends() {
        let mut machine = machine(0x2330);
        machine.pci[0].parent = Some(at("0000:22:00.0"));
        assert_eq!(
            pci_path(&machine, at("0000:23:00.0"), at("0000:83:00.0")),
            Some(PciPath::Sys)
        );
    }
}
