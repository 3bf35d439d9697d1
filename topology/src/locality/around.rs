//! Rungs that look at what is around a device: its bridges, their other devices, host bridges.

use std::iter;

use super::{
    Evidence, Facts, Grounds, NoEvidence, RungAnswer, firmware, nodes_of_package, package_of,
    with_cpus,
};
use crate::firmware::{Firmware, RootBus};
use crate::machine::Machine;
use crate::pci::{PciAddress, PciDevice};
use crate::set::NodeSet;

/// The bridges above a device, nearest first; bounded, for a source may hold a ring.
fn bridges_above<'a>(
    machine: &'a Machine,
    device: &PciDevice,
) -> impl Iterator<Item = PciAddress> + 'a {
    let above = |bridge: &PciAddress| machine.device(*bridge).and_then(|device| device.parent);
    iter::successors(device.parent, above).take(32)
}

/// The nodes with CPUs that the nodes of `named` stand for, one entry each, those without any left out.
fn places(machine: &Machine, named: &NodeSet) -> Vec<NodeSet> {
    named
        .iter()
        .filter_map(|id| with_cpus(machine, id).ok())
        .collect()
}

/// The nearest bridge that firmware places, itself or by a function below it.
///
/// Below one root port everything is in one place; below one host bridge that is only sure of real
/// ones, so this ends at the root port.
pub(super) fn by_siblings(facts: &Facts<'_>) -> RungAnswer {
    let machine = facts.machine;
    let below = &firmware(facts)?.below;
    for bridge in bridges_above(machine, facts.device) {
        let Some(named) = below.get(&bridge) else {
            continue;
        };
        let places = places(machine, named);
        let Some(first) = places.first() else {
            continue;
        };
        if places.iter().any(|place| place != first) {
            return Err(NoEvidence::SiblingsDisagree {
                bridge,
                named: named.clone(),
            });
        }
        return Ok(Evidence {
            because: Grounds::Siblings {
                bridge,
                named: named.clone(),
            },
            nodes: first.clone(),
        });
    }
    Err(NoEvidence::SiblingsSilent)
}

/// A generic initiator, or the proximity domain of the host bridge; none when the two disagree.
pub(super) fn by_acpi(facts: &Facts<'_>) -> RungAnswer {
    let firmware = firmware(facts)?;
    let initiator = initiator(facts, firmware)?;
    let bridge = facts
        .device
        .root_bus
        .and_then(|bus| firmware.root_buses.iter().find(|root| root.bus == bus))
        .and_then(|root| Some((root, proximity(facts.machine, root)?)));
    match (initiator, bridge) {
        (Some(found), Some((root, nodes))) if !found.nodes.intersects(&nodes) => {
            Err(NoEvidence::AcpiContradiction {
                srat: Box::new(found.because),
                bridge: name(root),
                nodes,
            })
        }
        (Some(found), _) => Ok(found),
        (None, Some((root, nodes))) => Ok(Evidence {
            because: Grounds::HostBridge {
                bridge: name(root),
                nodes: nodes.clone(),
            },
            nodes,
        }),
        (None, None) => Err(NoEvidence::AcpiSilent),
    }
}

/// The SRAT's entries for the device or, failing that, for the nearest bridge above it.
///
/// A GPU with memory nodes of its own has an entry for each; they must all lead to one place.
fn initiator(facts: &Facts<'_>, firmware: &Firmware) -> Result<Option<Evidence>, NoEvidence> {
    let device = facts.device.address;
    let above = bridges_above(facts.machine, facts.device);
    for address in iter::once(device).chain(above) {
        let mut found: Option<Evidence> = None;
        let listed = firmware.initiators.iter();
        for initiator in listed.filter(|initiator| initiator.device == address) {
            let domain = initiator.domain;
            let node = initiator.node;
            let node = node.ok_or(NoEvidence::DomainUncertain(domain))?;
            let nodes = with_cpus(facts.machine, node)?;
            let first = found.get_or_insert_with(|| Evidence {
                because: Grounds::Initiator {
                    device: address,
                    domain,
                    nodes: nodes.clone(),
                },
                nodes: nodes.clone(),
            });
            if first.nodes != nodes {
                return Err(NoEvidence::InitiatorTwice {
                    device: address,
                    first: first.nodes.clone(),
                    second: nodes,
                });
            }
        }
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The nodes of a host bridge's `_PXM`, as far as `/sys` shows them.
pub(super) fn proximity(machine: &Machine, root: &RootBus) -> Option<NodeSet> {
    let own = root.numa_node.and_then(|raw| u32::try_from(raw).ok());
    if let Some(id) = own.filter(|id| machine.node(*id).is_some()) {
        return with_cpus(machine, id).ok();
    }
    let cpus = root.cpus.as_ref()?.intersection(&machine.online);
    let nodes = machine.nodes_of(&cpus);
    (!nodes.is_empty() && nodes != machine.cpu_nodes()).then_some(nodes)
}

/// `pci0000:20`, as sysfs names a host bridge.
pub(super) fn name(root: &RootBus) -> String {
    format!("pci{:04x}:{:02x}", root.bus.0, root.bus.1)
}

/// A host bridge that firmware places.
struct Placed {
    bus: (u32, u8),
    name: String,
    nodes: NodeSet,
    /// The package; without packages the node, where there is but one.
    group: Option<u32>,
}

impl Placed {
    fn new(machine: &Machine, root: &RootBus) -> Option<Self> {
        let mut nodes = NodeSet::new();
        for place in places(machine, &root.nodes) {
            nodes.extend_with(&place);
        }
        if nodes.is_empty() {
            nodes = proximity(machine, root)?;
        }
        let group = if machine.packages.is_empty() {
            nodes.first().filter(|_| nodes.len() == 1)
        } else {
            package_of(machine, &nodes)
        };
        Some(Self {
            bus: root.bus,
            name: name(root),
            nodes,
            group,
        })
    }
}

/// Every host bridge that firmware places; none when that is not a map of all packages.
fn placed(machine: &Machine, firmware: &Firmware) -> Result<Vec<Placed>, NoEvidence> {
    let all: Vec<Placed> = firmware
        .root_buses
        .iter()
        .filter_map(|root| Placed::new(machine, root))
        .collect();
    if all.is_empty() {
        return Err(NoEvidence::NoBridgePlaced);
    }
    if let Some(both) = all.iter().find(|placed| placed.group.is_none()) {
        return Err(NoEvidence::BridgeOnSeveral {
            bridge: both.name.clone(),
            nodes: both.nodes.clone(),
        });
    }
    let packages: NodeSet = if machine.packages.is_empty() {
        machine.cpu_nodes()
    } else {
        let with_cpus = machine.packages.iter().filter(|p| !p.cpus.is_empty());
        with_cpus.map(|package| package.id).collect()
    };
    let seen: NodeSet = all.iter().filter_map(|placed| placed.group).collect();
    if seen != packages {
        return Err(NoEvidence::BridgesOnSome {
            seen,
            all: packages,
        });
    }
    Ok(all)
}

/// The device's own host bridge where functions elsewhere below it have a node, else the host bridges
/// on both sides, where they agree and bus numbers follow the packages.
///
/// Some machines deal their buses to the packages in turn; where the known bridges show that, or do
/// not show every package, bus order says nothing.  A device right on a root bus may be a virtual
/// machine's, whose one host bridge stands for no place.
pub(super) fn by_bus(facts: &Facts<'_>) -> RungAnswer {
    let machine = facts.machine;
    let all = placed(machine, firmware(facts)?)?;
    let bus = facts.device.root_bus;
    let bus = bus.ok_or(NoEvidence::NotRecorded("root bus"))?;
    let own = all.iter().find(|placed| placed.bus == bus);
    if let Some(own) = own.filter(|_| facts.device.parent.is_some()) {
        return Ok(Evidence {
            because: Grounds::OwnBus {
                bridge: own.name.clone(),
                nodes: own.nodes.clone(),
            },
            nodes: own.nodes.clone(),
        });
    }
    let mut row: Vec<&Placed> = all.iter().filter(|other| other.bus.0 == bus.0).collect();
    row.sort_by_key(|placed| placed.bus);
    if !is_in_runs(row.iter().map(|placed| placed.group)) {
        return Err(NoEvidence::BusesAlternate);
    }
    let lower = row.iter().rfind(|placed| placed.bus < bus);
    let upper = row.iter().find(|placed| placed.bus > bus);
    let (lower, upper) = lower.zip(upper).ok_or(NoEvidence::NoNeighbours)?;
    let (low, high) = (lower.name.clone(), upper.name.clone());
    let disagree = || NoEvidence::NeighboursDisagree {
        low: lower.name.clone(),
        low_nodes: lower.nodes.clone(),
        high: upper.name.clone(),
        high_nodes: upper.nodes.clone(),
    };
    if lower.group != upper.group || own.is_some_and(|own| own.group != lower.group) {
        return Err(disagree());
    }
    let by_node = is_in_runs(row.iter().map(|placed| &placed.nodes));
    let nodes = if lower.nodes == upper.nodes && by_node {
        lower.nodes.clone()
    } else {
        let group = lower.group.ok_or_else(disagree)?;
        nodes_of_package(machine, group)
    };
    Ok(Evidence {
        because: Grounds::Neighbours {
            low,
            high,
            nodes: nodes.clone(),
        },
        nodes,
    })
}

/// Whether equal items stand together.
fn is_in_runs<T: PartialEq>(items: impl Iterator<Item = T>) -> bool {
    let mut runs: Vec<T> = Vec::new();
    for item in items {
        if runs.last() == Some(&item) {
            continue;
        }
        if runs.contains(&item) {
            return false;
        }
        runs.push(item);
    }
    true
}
