//! Where a device is, by evidence.
//!
//! [`LADDER`] is one ordered table of rungs.  A rung is a function from [`Facts`] to a [`RungAnswer`]; the
//! first that answers decides, and its name stands beside the answer as [`NumaSource`].  A new rung is a
//! line in the table, a function, and the words for what it finds in [`evidence`].
//!
//! No rung guesses.  Where a rung's own evidence contradicts itself, or fits several packages, it says
//! so and gives none; where only the package is certain, the answer is all of its nodes with CPUs.

mod around;
mod boards;
mod evidence;
mod own;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::firmware::Firmware;
use crate::machine::{Locality, Machine, NumaSource, Package};
use crate::pci::{PciAddress, PciDevice};
use crate::set::{CpuSet, NodeSet};

pub use evidence::{Evidence, Grounds, NoEvidence, RungAnswer, SiteWord};

/// What a rung may look at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The device.
    pub device: &'a PciDevice,
    /// The machine it is in, whose GPUs and NICs may not be placed yet.
    pub machine: &'a Machine,
    /// What the site's override file says.
    pub overrides: &'a Overrides,
}

/// Nodes of devices that the site names itself, by PCI address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// What the site names: above all evidence.
    pub named: BTreeMap<PciAddress, NodeSet>,
    /// What the site measured (`gpu-numa measure` offers it), below all that firmware and NVML say.
    pub measured: BTreeMap<PciAddress, NodeSet>,
}

impl Overrides {
    /// A file that names no device.
    pub fn new() -> Self {
        Self::default()
    }
}

/// One rung: its name and its function.
pub type Rung = (NumaSource, fn(&Facts<'_>) -> RungAnswer);

/// The rungs in order of trust.
pub const LADDER: &[Rung] = &[
    (NumaSource::Override, own::by_override),
    (NumaSource::OneNode, own::by_only_node),
    (NumaSource::NumaNode, own::by_numa_node),
    (NumaSource::NearestNode, own::by_nearest_node),
    (NumaSource::LocalCpulist, own::by_local_cpulist),
    (NumaSource::Hwloc, own::by_hwloc),
    (NumaSource::Kfd, own::by_kfd),
    (NumaSource::Siblings, around::by_siblings),
    (NumaSource::Acpi, around::by_acpi),
    (NumaSource::Dmi, slots::by_dmi),
    (NumaSource::Bus, around::by_bus),
    (NumaSource::Nvml, own::by_nvml),
    (NumaSource::Measured, own::by_measured),
    (NumaSource::OnePackage, own::by_only_package),
];

/// Climbs the ladder for one device.
pub fn locate(facts: &Facts<'_>) -> Locality {
    if let Some(place) = off_the_nodes(facts) {
        return place;
    }
    let (source, nodes) = LADDER
        .iter()
        .find_map(|rung| Some((rung.0, Some(ask(rung, facts).ok()?.nodes))))
        .unwrap_or((NumaSource::Unknown, None));
    let machine = facts.machine;
    let package = nodes.as_ref().and_then(|nodes| package_of(machine, nodes));
    let unrecorded = machine.unrecorded_nodes();
    let cpus = nodes
        .as_ref()
        .filter(|nodes| !nodes.intersects(&unrecorded))
        .map(|nodes| machine.cpus_of(nodes));
    Locality {
        package,
        numa_nodes: nodes,
        numa_source: source,
        nearest_cpus: cpus
            .as_ref()
            .and_then(|cpus| nearest(facts, cpus))
            .map(|(cpus, _)| cpus),
        cpus,
    }
}

/// The CPUs that are nearer to a device than the rest of `near`: as the table of boards has it, else as its `local_cpulist`,
/// or hwloc, says; and which of these does, for a person.
fn nearest(facts: &Facts<'_>, near: &CpuSet) -> Option<(CpuSet, &'static str)> {
    let narrower = |cpus: &CpuSet, by: &'static str| {
        let online = cpus.intersection(&facts.machine.online);
        let is_fewer = !online.is_empty() && online.len() < near.len();
        (is_fewer && online.is_subset(near)).then_some((online, by))
    };
    let of_board = boards::cache_of(facts.machine, facts.device.address);
    let told = facts.device.local_cpus.as_ref();
    let by_hwloc = || {
        // A cache is whole here, whatever of it hwloc was let see.
        let attached = facts.device.attached_cpus.as_ref()?;
        let mut caches = facts.machine.last_level_caches.iter();
        caches.find(|cache| attached.is_subset(cache) && !attached.is_empty())
    };
    of_board
        .and_then(|cpus| {
            narrower(
                cpus,
                "which cache each device of this board hangs from is known",
            )
        })
        .or_else(|| told.and_then(|cpus| narrower(cpus, "its local_cpulist names these alone")))
        .or_else(|| by_hwloc().and_then(|cpus| narrower(cpus, "hwloc attaches it to their cache")))
}

/// The CPUs that are nearer to a device than the rest of its NUMA node, and how that is known, for `show --explain`.
pub fn explain_nearest(facts: &Facts<'_>) -> Option<(CpuSet, &'static str)> {
    nearest(facts, locate(facts).cpus.as_ref()?)
}

/// The place of a device some of whose near CPUs are in no node that the source names: its near CPUs, and no node.
///
/// hwloc up to 2.4 leaves out NUMA nodes without memory, and keeps the CPUs of the object that holds the device.
fn off_the_nodes(facts: &Facts<'_>) -> Option<Locality> {
    let machine = facts.machine;
    if facts.overrides.named.contains_key(&facts.device.address) {
        return None;
    }
    let cpus = facts
        .device
        .local_cpus
        .as_ref()?
        .intersection(&machine.online);
    if cpus == machine.online || !cpus.intersects(&machine.cpus_of_no_node()) {
        return None;
    }
    let holds = |package: &&Package| cpus.is_subset(&package.cpus);
    Some(Locality {
        package: machine
            .packages
            .iter()
            .find(holds)
            .map(|package| package.id),
        numa_nodes: None,
        numa_source: NumaSource::LocalCpulist,
        nearest_cpus: None,
        cpus: Some(cpus),
    })
}

/// Every rung's answer for one device, in order, for `show --explain`.
pub fn explain(facts: &Facts<'_>) -> Vec<(NumaSource, RungAnswer)> {
    LADDER
        .iter()
        .map(|rung| (rung.0, ask(rung, facts)))
        .collect()
}

/// What a rung says, where its nodes tell which CPUs are near: a node over several packages does not, unless the site
/// itself names it.
fn ask((source, rung): &Rung, facts: &Facts<'_>) -> RungAnswer {
    let found = rung(facts)?;
    if *source == NumaSource::Override {
        return Ok(found);
    }
    let over_several = found
        .nodes
        .iter()
        .find(|id| facts.machine.is_over_packages(*id));
    over_several.map_or(Ok(found), |node| {
        Err(NoEvidence::NodeOfSeveralSockets(node))
    })
}

/// Places every GPU and NIC of `machine`.
pub fn locate_all(machine: &mut Machine, overrides: &Overrides) {
    let place = |address: PciAddress| {
        machine
            .device(address)
            .map(|device| {
                locate(&Facts {
                    device,
                    machine,
                    overrides,
                })
            })
            .unwrap_or_default()
    };
    let gpus: Vec<_> = machine.gpus.iter().map(|gpu| place(gpu.pci)).collect();
    let nics: Vec<_> = machine.nics.iter().map(|nic| place(nic.pci)).collect();
    for (gpu, locality) in machine.gpus.iter_mut().zip(gpus) {
        gpu.locality = locality;
    }
    for (nic, locality) in machine.nics.iter_mut().zip(nics) {
        nic.locality = locality;
    }
}

/// The package that all of `nodes` are in.
fn package_of(machine: &Machine, nodes: &NodeSet) -> Option<u32> {
    let mut packages = nodes
        .iter()
        .map(|id| machine.node(id).and_then(|node| node.package));
    let first = packages.next().flatten()?;
    packages.all(|other| other == Some(first)).then_some(first)
}

/// The nodes with CPUs of a package.
fn nodes_of_package(machine: &Machine, id: u32) -> NodeSet {
    machine
        .packages
        .iter()
        .filter(|package| package.id == id)
        .flat_map(|package| package.numa_nodes.iter())
        .collect::<NodeSet>()
        .intersection(&machine.cpu_nodes())
}

/// What firmware says beyond the device's own files.
fn firmware<'a>(facts: &Facts<'a>) -> Result<&'a Firmware, NoEvidence> {
    let firmware = facts.machine.firmware.as_ref();
    firmware.ok_or(NoEvidence::FirmwareNotRead)
}

/// The nodes with CPUs that node `id` stands for: itself, or its nearest by SLIT.
fn with_cpus(machine: &Machine, id: u32) -> Result<NodeSet, NoEvidence> {
    let own = NodeSet::single(id).intersection(&machine.cpu_nodes());
    if own.is_empty() {
        nearest_with_cpus(machine, id)
    } else {
        Ok(own)
    }
}

/// The nodes with CPUs that are nearest to node `id`, all of them when tied.
///
/// 10 is a node's distance to itself and 255 is "unreachable" (ACPI 6.4, 5.2.17); a table with less
/// than that between two nodes is not believed.
fn nearest_with_cpus(machine: &Machine, id: u32) -> Result<NodeSet, NoEvidence> {
    let candidates = machine.cpu_nodes();
    let distance = |to: u32| {
        machine
            .distance(id, to)
            .or_else(|| machine.distance(to, id))
            .filter(|distance| (11..255).contains(distance))
    };
    let distances: Option<Vec<(u32, u32)>> = candidates
        .iter()
        .filter(|to| machine.distance(id, *to) != Some(255))
        .map(|to| Some((distance(to)?, to)))
        .collect();
    let distances = distances.ok_or_else(|| NoEvidence::NoDistances {
        from: id,
        to: candidates.clone(),
    })?;
    let least = distances.iter().map(|(distance, _)| *distance).min();
    let nearest: NodeSet = distances
        .iter()
        .filter(|(distance, _)| Some(*distance) == least)
        .map(|(_, to)| *to)
        .collect();
    if nearest.is_empty() || (nearest == candidates && package_of(machine, &nearest).is_none()) {
        return Err(if nearest.is_empty() {
            NoEvidence::NoDistances {
                from: id,
                to: candidates,
            }
        } else {
            NoEvidence::EqualDistances {
                from: id,
                to: candidates,
            }
        });
    }
    Ok(nearest)
}
