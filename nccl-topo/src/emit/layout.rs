//! Which `<cpu>` elements there are and what hangs below each.

use std::collections::{BTreeMap, BTreeSet};

use topology::machine::{Locality, Machine};
use topology::pci::{PciAddress, PciDevice};
use topology::set::{CpuSet, NodeSet};

use super::devices::{Devices, Leaf, MadeUp};
use super::refusal::NotEmitted;
use super::values::{affinity, processor_attributes};
use crate::element::Element;
use crate::link::LinkMaximum;

/// Which job the file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All ranks on this host: one `<cpu>` a package, unless NCCL's rings and trees cross less often with one a node.
    SingleHost,
    /// Ranks on several hosts.  Where a GPU shares no switch with a NIC, NCCL chooses among all NICs of the
    /// GPU's `<cpu>`, so there a package with several NUMA nodes gets a `<cpu>` each, unless NCCL's rings and trees
    /// would cross between packages more often for it.
    MultiHost,
}

/// The `<cpu>` elements in order, each with what is directly below it.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) cpus: Vec<Cpu>,
    /// What each stands for.
    pub(super) grouping: Grouping,
}

/// A `<cpu>`.
#[derive(Debug, Clone)]
pub(super) struct Cpu {
    /// The package it is, or is in.
    pub(super) package: u32,
    /// The NUMA nodes with CPUs that it stands for.
    pub(super) nodes: NodeSet,
    /// Its number for NCCL: the lowest of `nodes`.
    pub(super) numaid: u32,
    /// Its online CPUs.
    pub(super) cpus: CpuSet,
    /// What is directly below it, by address.
    pub(super) tops: BTreeSet<PciAddress>,
}

/// What a `<cpu>` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grouping {
    /// A package.
    Packages,
    /// A NUMA node, in the order of packages, and why.
    NumaNodes(WhyNodes),
}

/// Why a `<cpu>` is a NUMA node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhyNodes {
    /// So that NCCL sees which NIC is near a GPU.
    Nics,
    /// Because NCCL's rings and trees cross between packages less often with it.
    Crossings,
}

impl Layout {
    /// The elements that are best for `form` whatever NCCL's search makes of them, and others that are true as well.
    pub(super) fn of(
        machine: &Machine,
        devices: &Devices<'_>,
        form: Form,
    ) -> Result<(Self, Option<Self>), NotEmitted> {
        let packages = place(devices, |leaf| package_of(machine, leaf))?;
        let cpus = packages
            .iter()
            .map(|(package, tops)| package_cpu(machine, *package, tops))
            .collect::<Result<Vec<_>, _>>()?;
        let suffers = form == Form::MultiHost && nic_choice_suffers(devices, &cpus);
        let why = if suffers {
            WhyNodes::Nics
        } else {
            WhyNodes::Crossings
        };
        let nodes = Self::by_numa_node(machine, devices, &cpus, why);
        let packages = Self {
            cpus,
            grouping: Grouping::Packages,
        };
        Ok(match nodes {
            Some(nodes) if suffers => (nodes, Some(packages)),
            nodes => (packages, nodes),
        })
    }

    /// The same elements with those of another package in front.
    ///
    /// NCCL puts a network device without a PCI device, as a socket's, below the first `<cpu>` of the file (`graph/xml.cc`
    /// `ncclTopoFillNet`), so that this one is in every rank's tree and comes first in NCCL's order.  Its search begins
    /// there, and takes what comes after in order.
    pub(super) fn with_another_package_first(&self) -> Vec<Self> {
        let mut packages: Vec<u32> = self.cpus.iter().map(|cpu| cpu.package).collect();
        packages.dedup();
        let others = packages.into_iter().skip(1);
        let reordered = others.map(|package| {
            let is_of = |cpu: &&Cpu| cpu.package == package;
            let (front, rest): (Vec<&Cpu>, Vec<_>) = self.cpus.iter().partition(is_of);
            Self {
                cpus: front.into_iter().chain(rest).cloned().collect(),
                grouping: self.grouping,
            }
        });
        reordered.collect()
    }

    /// Whether each `<cpu>` is a NUMA node and not a package.
    pub(super) fn is_by_numa_node(&self) -> bool {
        self.grouping != Grouping::Packages
    }

    /// A `<cpu>` for each NUMA node with devices; a package of whose devices some are not known to be at one node of it
    /// stays whole.  None where no package has devices at several nodes.
    fn by_numa_node(
        machine: &Machine,
        devices: &Devices<'_>,
        packages: &[Cpu],
        why: WhyNodes,
    ) -> Option<Self> {
        let split = |package: &Cpu| -> Option<Vec<Cpu>> {
            let mut nodes = BTreeMap::<u32, BTreeSet<PciAddress>>::new();
            for leaf in &devices.leaves {
                let top = devices.top(leaf.device.address);
                if !package.tops.contains(&top) {
                    continue;
                }
                let node = node_of(leaf).ok()?;
                let own = package.nodes.contains(node)
                    || machine.node(node)?.package == Some(package.package);
                let elsewhere = nodes
                    .iter()
                    .any(|(other, tops)| *other != node && tops.contains(&top));
                if !own || elsewhere {
                    return None;
                }
                nodes.entry(node).or_default().insert(top);
            }
            let cpus = nodes.into_iter().map(|(id, tops)| Cpu {
                package: package.package,
                nodes: NodeSet::single(id),
                numaid: id,
                cpus: machine.cpus_of(&NodeSet::single(id)),
                tops,
            });
            Some(cpus.collect())
        };
        let whole = |package: &Cpu| Cpu {
            package: package.package,
            nodes: package.nodes.clone(),
            numaid: package.numaid,
            cpus: package.cpus.clone(),
            tops: package.tops.clone(),
        };
        let cpus: Vec<Cpu> = packages
            .iter()
            .flat_map(|package| split(package).unwrap_or_else(|| vec![whole(package)]))
            .collect();
        (cpus.len() > packages.len()).then_some(Self {
            cpus,
            grouping: Grouping::NumaNodes(why),
        })
    }
}

/// Sorts what is directly below the `<cpu>` elements by the key of the devices below.
fn place(
    devices: &Devices<'_>,
    key: impl Fn(&Leaf<'_>) -> Result<u32, NotEmitted>,
) -> Result<BTreeMap<u32, BTreeSet<PciAddress>>, NotEmitted> {
    let mut keys = BTreeMap::new();
    for leaf in &devices.leaves {
        let top = devices.top(leaf.device.address);
        let found = key(leaf)?;
        if *keys.entry(top).or_insert(found) != found {
            return Err(NotEmitted::SwitchTornApart { switch: top });
        }
    }
    let mut places = BTreeMap::<_, BTreeSet<_>>::new();
    for (top, key) in keys {
        places.entry(key).or_default().insert(top);
    }
    Ok(places)
}

/// The package of a device: the one that was found, or the only one there is.
fn package_of(machine: &Machine, leaf: &Leaf<'_>) -> Result<u32, NotEmitted> {
    let Locality {
        package,
        numa_nodes,
        ..
    } = leaf.locality;
    let device = leaf.device.address;
    match (package, machine.packages.as_slice(), numa_nodes) {
        (Some(package), _, _) => Ok(*package),
        (None, [only], _) => Ok(only.id),
        (None, _, None) => Err(NotEmitted::LocalityUnknown { device }),
        (None, _, Some(nodes)) => Err(NotEmitted::SeveralPackages {
            device,
            nodes: nodes.to_string(),
        }),
    }
}

/// The one NUMA node of a device.
fn node_of(leaf: &Leaf<'_>) -> Result<u32, NotEmitted> {
    let nodes = leaf.locality.numa_nodes.as_ref();
    nodes
        .filter(|nodes| nodes.len() == 1)
        .and_then(NodeSet::first)
        .ok_or(NotEmitted::LocalityUnknown {
            device: leaf.device.address,
        })
}

fn package_cpu(machine: &Machine, id: u32, tops: &BTreeSet<PciAddress>) -> Result<Cpu, NotEmitted> {
    let package = machine.packages.iter().find(|package| package.id == id);
    let package = package.ok_or(NotEmitted::NoNumaNode { package: id })?;
    let with_cpus = package.numa_nodes.intersection(&machine.cpu_nodes());
    // All of its CPUs may be offline; its devices are there all the same.
    let nodes = if with_cpus.is_empty() {
        package.numa_nodes.clone()
    } else {
        with_cpus
    };
    Ok(Cpu {
        package: id,
        numaid: nodes
            .first()
            .ok_or(NotEmitted::NoNumaNode { package: id })?,
        nodes,
        cpus: package.cpus.clone(),
        tops: tops.clone(),
    })
}

/// Whether a package with several NUMA nodes would hide from NCCL which NIC is near a GPU: where the two
/// share no switch, all NICs of a `<cpu>` are equally near, and NCCL deals them by number.
///
/// Nothing is hidden where a GPU has no NIC on its own node, or where all NICs of its package are there.
fn nic_choice_suffers(devices: &Devices<'_>, cpus: &[Cpu]) -> bool {
    let suffers = |gpu: &Leaf<'_>| {
        let address = gpu.device.address;
        let mut nics = devices.nics();
        if nics.any(|nic| devices.share_switch(address, nic.device.address)) {
            return false;
        }
        let holds = |cpu: &&Cpu| cpu.tops.contains(&devices.top(address));
        let Some(cpu) = cpus.iter().find(holds) else {
            return false;
        };
        let of_package = devices
            .nics()
            .filter(|nic| cpu.tops.contains(&devices.top(nic.device.address)));
        let (near, far): (Vec<&Leaf<'_>>, Vec<_>) =
            of_package.partition(|nic| nic.locality.numa_nodes == gpu.locality.numa_nodes);
        !near.is_empty() && !far.is_empty()
    };
    cpus.iter().any(|cpu| cpu.nodes.len() > 1) && devices.gpus().any(suffers)
}

/// The GPUs in document order.
pub(super) fn gpu_order(devices: &Devices<'_>, layout: &Layout) -> Vec<PciAddress> {
    let mut order = Vec::new();
    for cpu in &layout.cpus {
        for top in &cpu.tops {
            gpus_below(devices, *top, &mut order);
        }
    }
    order
}

fn gpus_below(devices: &Devices<'_>, address: PciAddress, order: &mut Vec<PciAddress>) {
    if devices.gpus().any(|gpu| gpu.device.address == address) {
        order.push(address);
    }
    for (child, _) in devices
        .parents
        .iter()
        .filter(|(_, parent)| **parent == address)
    {
        gpus_below(devices, *child, order);
    }
}

/// The whole document.
pub(super) fn system(
    machine: &Machine,
    devices: &Devices<'_>,
    layout: &Layout,
) -> Result<Element, NotEmitted> {
    check_gpu_links(machine, devices, layout)?;
    let processor = processor_attributes(machine.processor.as_ref())?;
    let mut system = Element::new("system").with("version", "1");
    for cpu in &layout.cpus {
        let mut element = Element::new("cpu")
            .with("numaid", cpu.numaid.to_string())
            // Left out, NCCL would fill in the CPUs of node `numaid` alone; empty, it pins nothing.
            .with("affinity", affinity(&cpu.cpus).unwrap_or_default());
        for (key, value) in &processor {
            element = element.with(key, value.as_str());
        }
        for top in &cpu.tops {
            element.children.extend(pci_element(machine, devices, *top));
        }
        if layout.is_by_numa_node() {
            // Keeps the element in every rank's tree, so that the order of the file holds (recipe, 4).
            element.children.push(Element::new("nic").with("keep", "1"));
        }
        system.children.push(element);
    }
    Ok(system)
}

/// Refuses a GPU whose link is not known where a speed taken too low would make NCCL cross packages.
fn check_gpu_links(
    machine: &Machine,
    devices: &Devices<'_>,
    layout: &Layout,
) -> Result<(), NotEmitted> {
    match links_between_packages(machine, devices, layout)
        .find(|(_, link)| link.speed_gts.is_none())
    {
        Some((device, _)) => Err(NotEmitted::LinkUnknown { device }),
        None => Ok(()),
    }
}

/// The links from GPUs to their packages, where there are several packages with GPUs.
pub(super) fn links_between_packages<'a>(
    machine: &'a Machine,
    devices: &'a Devices<'_>,
    layout: &Layout,
) -> impl Iterator<Item = (PciAddress, LinkMaximum)> + 'a {
    let packages: BTreeSet<_> = devices
        .gpus()
        .map(|gpu| devices.top(gpu.device.address))
        .filter_map(|top| layout.cpus.iter().find(|cpu| cpu.tops.contains(&top)))
        .map(|cpu| cpu.package)
        .collect();
    let gpus = devices.gpus().filter(move |_| packages.len() > 1);
    gpus.flat_map(|gpu| devices.chain(gpu.device.address))
        .filter_map(|address| {
            let device = devices.recorded.get(&address)?;
            Some((address, LinkMaximum::of(machine, device)))
        })
}

fn pci_element(machine: &Machine, devices: &Devices<'_>, address: PciAddress) -> Option<Element> {
    if let Some(made_up) = devices.made_up.get(&address) {
        return Some(made_up_element(machine, devices, address, made_up));
    }
    let device: &PciDevice = devices.recorded.get(&address)?;
    let (subsystem_vendor, subsystem_device) = device.subsystem.unwrap_or_default();
    let link = LinkMaximum::of(machine, device);
    let mut element = Element::new("pci")
        .with("busid", address.to_string())
        .with("class", format!("0x{:06x}", device.class))
        .with("vendor", format!("0x{:04x}", device.vendor))
        .with("device", format!("0x{:04x}", device.device))
        .with("subsystem_vendor", format!("0x{subsystem_vendor:04x}"))
        .with("subsystem_device", format!("0x{subsystem_device:04x}"))
        .with("link_speed", link.speed_word())
        .with("link_width", link.width_word());
    element.children = devices
        .parents
        .iter()
        .filter(|(_, parent)| **parent == address)
        .filter_map(|(child, _)| pci_element(machine, devices, *child))
        .collect();
    Some(element)
}

/// A switch that the site names, with the widest of the links below it as its own.
fn made_up_element(
    machine: &Machine,
    devices: &Devices<'_>,
    address: PciAddress,
    made_up: &MadeUp<'_>,
) -> Element {
    let widest = made_up
        .below
        .iter()
        .filter_map(|below| devices.recorded.get(below))
        .map(|below| LinkMaximum::of(machine, below))
        .reduce(|a, b| if b.wider_than(a) { b } else { a });
    let mut element = Element::new("pci")
        .with("busid", address.to_string())
        .with("class", "0x060400")
        .with("vendor", "0x0000")
        .with("device", "0x0000")
        .with("subsystem_vendor", "0x0000")
        .with("subsystem_device", "0x0000")
        .with("link_speed", widest.map_or("", LinkMaximum::speed_word))
        .with(
            "link_width",
            widest.map(LinkMaximum::width_word).unwrap_or_default(),
        );
    element.children = made_up
        .below
        .iter()
        .filter_map(|below| pci_element(machine, devices, *below))
        .collect();
    element
}
