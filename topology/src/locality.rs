//! Where a device is, by evidence.
//!
//! [`LADDER`] is one ordered table of rungs.  A rung is a function from [`Facts`] to [`Evidence`]; the
//! first that answers decides, and its name stands beside the answer as [`NumaSource`].  A new rung is a
//! new line in the table and a new function, nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::machine::{Locality, Machine};
use crate::pci::{PciAddress, PciDevice};
use crate::set::NodeSet;

/// Which evidence gave a device's NUMA nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumaSource {
    /// The site's override file.
    Override,
    /// Firmware's answer as Linux has it in the device's `numa_node`.
    NumaNode,
    /// The device's `local_cpulist`, narrower than the machine.
    LocalCpulist,
    /// The object below which hwloc, or an NCCL file, hangs the device.
    Hwloc,
    /// The machine has one NUMA node with CPUs, so there is nothing to find out.
    OneNode,
    /// Nobody says.
    #[default]
    Unknown,
}

/// What a rung may look at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The device.
    pub device: &'a PciDevice,
    /// The machine it is in, whose GPUs and NICs may not be placed yet.
    pub machine: &'a Machine,
    /// The site's word.
    pub overrides: &'a Overrides,
}

/// Nodes of a device that the site names itself, by PCI address.
pub type Overrides = BTreeMap<PciAddress, NodeSet>;

/// What a rung found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The nodes with CPUs that the device is nearest to.
    pub nodes: NodeSet,
    /// What was read and how it was understood, for a person.
    pub because: String,
}

/// What a rung says: evidence, or why it has none.
pub type Finding = Result<Evidence, String>;

/// One rung: its name and its function.
pub type Rung = (NumaSource, fn(&Facts<'_>) -> Finding);

/// The rungs in order of trust.
pub const LADDER: &[Rung] = &[
    (NumaSource::Override, by_override),
    (NumaSource::OneNode, by_only_node),
    (NumaSource::NumaNode, by_numa_node),
    (NumaSource::LocalCpulist, by_local_cpulist),
    (NumaSource::Hwloc, by_hwloc),
];

/// Climbs the ladder for one device.
pub fn locate(facts: &Facts<'_>) -> Locality {
    let (source, nodes) = LADDER
        .iter()
        .find_map(|(source, rung)| rung(facts).ok().map(|found| (*source, Some(found.nodes))))
        .unwrap_or((NumaSource::Unknown, None));
    let machine = facts.machine;
    let package = nodes.as_ref().and_then(|nodes| {
        let mut packages = nodes
            .iter()
            .map(|id| machine.node(id).and_then(|node| node.package));
        let first = packages.next().flatten()?;
        packages.all(|other| other == Some(first)).then_some(first)
    });
    let cpus = nodes.as_ref().map(|nodes| machine.cpus_of(nodes));
    Locality {
        package,
        numa_nodes: nodes,
        numa_source: source,
        cpus,
    }
}

/// Every rung's answer for one device, in order, for `show --explain`.
pub fn explain(facts: &Facts<'_>) -> Vec<(NumaSource, Finding)> {
    LADDER
        .iter()
        .map(|(source, rung)| (*source, rung(facts)))
        .collect()
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

fn by_override(facts: &Facts<'_>) -> Finding {
    let address = facts.device.address;
    let nodes = facts
        .overrides
        .get(&address)
        .ok_or("the site names no node for it")?;
    let known = nodes.intersection(&facts.machine.cpu_nodes());
    if known.is_empty() {
        return Err(format!(
            "the site names node {nodes}, which has no CPU here"
        ));
    }
    Ok(Evidence {
        because: format!("the site's override file says node {known}"),
        nodes: known,
    })
}

fn by_only_node(facts: &Facts<'_>) -> Finding {
    let nodes = facts.machine.cpu_nodes();
    if nodes.len() != 1 {
        return Err(format!("CPUs are on nodes {nodes}"));
    }
    Ok(Evidence {
        because: format!("node {nodes} is the only one with CPUs"),
        nodes,
    })
}

fn by_numa_node(facts: &Facts<'_>) -> Finding {
    let raw = facts.device.numa_node.ok_or("numa_node is not recorded")?;
    let id =
        u32::try_from(raw).map_err(|_| format!("firmware names no node (numa_node is {raw})"))?;
    let nodes = NodeSet::single(id).intersection(&facts.machine.cpu_nodes());
    if nodes.is_empty() {
        return Err(format!("numa_node is {id}, a node without CPUs"));
    }
    Ok(Evidence {
        because: format!("numa_node is {id}"),
        nodes,
    })
}

fn by_local_cpulist(facts: &Facts<'_>) -> Finding {
    let cpus = facts
        .device
        .local_cpus
        .as_ref()
        .ok_or("local_cpulist is not recorded")?;
    let online = cpus.intersection(&facts.machine.online);
    let nodes = facts.machine.nodes_of(&online);
    if nodes.is_empty() || nodes == facts.machine.cpu_nodes() {
        return Err(format!(
            "local_cpulist is \"{cpus}\", no narrower than the machine"
        ));
    }
    Ok(Evidence {
        because: format!("local_cpulist is {cpus}, on node {nodes}"),
        nodes,
    })
}

fn by_hwloc(facts: &Facts<'_>) -> Finding {
    let nodes = facts
        .device
        .attached_nodes
        .as_ref()
        .ok_or("no object below the machine holds it")?;
    let with_cpus = nodes.intersection(&facts.machine.cpu_nodes());
    if with_cpus.is_empty() || with_cpus == facts.machine.cpu_nodes() {
        return Err(format!(
            "it is attached to nodes {nodes}, no narrower than the machine"
        ));
    }
    Ok(Evidence {
        because: format!("it is attached to node {with_cpus}"),
        nodes: with_cpus,
    })
}
