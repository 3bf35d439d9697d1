//! Rungs that need nothing but the device's own files and the machine's nodes.

use super::{
    Evidence, Facts, Grounds, NoEvidence, RungAnswer, SiteWord, nearest_with_cpus, with_cpus,
};
use crate::machine::{Machine, NodeKind, NumaNode};
use crate::set::NodeSet;

pub(super) fn by_override(facts: &Facts<'_>) -> RungAnswer {
    let nodes = facts.overrides.named.get(&facts.device.address);
    let nodes = nodes.ok_or(NoEvidence::NotNamed)?;
    by_site(facts, nodes, SiteWord::Named)
}

pub(super) fn by_measured(facts: &Facts<'_>) -> RungAnswer {
    let nodes = facts.overrides.measured.get(&facts.device.address);
    let nodes = nodes.ok_or(NoEvidence::NotMeasured)?;
    by_site(facts, nodes, SiteWord::Measured)
}

fn by_site(facts: &Facts<'_>, nodes: &NodeSet, word: SiteWord) -> RungAnswer {
    let known = nodes.intersection(&facts.machine.cpu_nodes());
    if known.is_empty() {
        return Err(NoEvidence::SiteNode(word, nodes.clone()));
    }
    Ok(Evidence {
        because: Grounds::Site(word, known.clone()),
        nodes: known,
    })
}

/// NVML's answer, where all that it says agrees.
///
/// Where NVML does not know it gives all nodes and CPUs, which is no answer.  Both affinities come from the
/// kernel on most hosts; where a hypervisor hides `numa_node` the driver may still know.
pub(super) fn by_nvml(facts: &Facts<'_>) -> RungAnswer {
    let machine = facts.machine;
    let gpu = machine.gpu(facts.device.address);
    let place = gpu.and_then(|gpu| gpu.nvml_place.as_ref());
    let place = place.ok_or(NoEvidence::NvmlSilent)?;
    let mut words: Vec<(String, NodeSet)> = Vec::new();
    if let Some(id) = place.numa_node {
        words.push((format!("node {id}"), with_cpus(machine, id)?));
    }
    if let Some(nodes) = &place.memory_nodes {
        let near = nodes.intersection(&machine.cpu_nodes());
        words.push((format!("memory of node {nodes}"), near));
    }
    if let Some(cpus) = &place.cpus {
        let near = machine.nodes_of(&cpus.intersection(&machine.online));
        words.push((format!("CPUs {cpus}"), near));
    }
    words.retain(|(_, nodes)| !nodes.is_empty() && *nodes != machine.cpu_nodes());
    let said: Vec<&str> = words.iter().map(|(said, _)| said.as_str()).collect();
    let said = said.join(" and ");
    let nodes = words.iter().map(|(_, nodes)| nodes.clone());
    let nodes = nodes.reduce(|a, b| a.intersection(&b));
    let nodes = nodes.ok_or(NoEvidence::NvmlTooBroad)?;
    if nodes.is_empty() {
        return Err(NoEvidence::NvmlContradiction(said));
    }
    Ok(Evidence {
        because: Grounds::Nvml {
            said,
            nodes: nodes.clone(),
        },
        nodes,
    })
}

/// The node that KFD's direct link of the GPU leads to, which is its `numa_node` as the driver found it.
pub(super) fn by_kfd(facts: &Facts<'_>) -> RungAnswer {
    let machine = facts.machine;
    let gpu = machine.gpu(facts.device.address);
    let kfd = gpu.and_then(|gpu| gpu.kfd.as_ref());
    let id = kfd.ok_or(NoEvidence::NotInKfd)?.numa_node;
    let id = id.ok_or(NoEvidence::KfdSilent)?;
    if machine.node(id).is_none() {
        return Err(NoEvidence::NoSuchNode(id));
    }
    let nodes = with_cpus(machine, id)?;
    Ok(Evidence {
        because: Grounds::Kfd(nodes.clone()),
        nodes,
    })
}

pub(super) fn by_only_node(facts: &Facts<'_>) -> RungAnswer {
    let nodes = facts.machine.cpu_nodes();
    if nodes.len() != 1 {
        return Err(NoEvidence::SeveralNodes(nodes));
    }
    let offline = facts.machine.offline_nodes();
    if !offline.is_empty() {
        return Err(NoEvidence::OfflineNodes(offline));
    }
    let unrecorded = facts.machine.unrecorded_nodes();
    if !unrecorded.is_empty() {
        return Err(NoEvidence::UnrecordedNodes(unrecorded));
    }
    let others = facts.machine.cpus_of_no_node();
    if !others.is_empty() {
        return Err(NoEvidence::CpusOfNoNode(others));
    }
    Ok(Evidence {
        because: Grounds::OnlyNode(nodes.clone()),
        nodes,
    })
}

pub(super) fn by_numa_node(facts: &Facts<'_>) -> RungAnswer {
    let raw = facts.device.numa_node;
    let raw = raw.ok_or(NoEvidence::NotRecorded("numa_node"))?;
    let id = u32::try_from(raw).map_err(|_| NoEvidence::NoNodeNamed(raw))?;
    let node = facts.machine.node(id);
    let node = node.ok_or(NoEvidence::NoSuchNode(id))?;
    if node.cpus.is_empty() && !is_on_offline_socket(facts.machine, node) {
        return Err(NoEvidence::NodeWithoutCpus(id));
    }
    Ok(Evidence {
        because: Grounds::NumaNode(id),
        nodes: NodeSet::single(id),
    })
}

/// Whether all CPUs of the node's socket are offline: those of another socket are not near in its place.
fn is_on_offline_socket(machine: &Machine, node: &NumaNode) -> bool {
    let mut others = machine.numa_nodes.iter();
    node.kind == NodeKind::Offline
        && node.package.is_some()
        && others.all(|other| other.cpus.is_empty() || other.package != node.package)
}

/// A GPU or NIC beside memory of its own, or beside a node whose CPUs are offline while others of its socket are not.
pub(super) fn by_nearest_node(facts: &Facts<'_>) -> RungAnswer {
    let raw = facts
        .device
        .numa_node
        .and_then(|raw| u32::try_from(raw).ok());
    let node = raw.and_then(|id| facts.machine.node(id));
    let node = node.ok_or(NoEvidence::NoNearNode)?;
    if !node.cpus.is_empty() {
        return Err(NoEvidence::NodeHasCpus(node.id));
    }
    if is_on_offline_socket(facts.machine, node) {
        return Err(NoEvidence::SocketOffline(node.id));
    }
    let nodes = nearest_with_cpus(facts.machine, node.id)?;
    Ok(Evidence {
        because: Grounds::Nearest {
            numa_node: node.id,
            nearest: nodes.clone(),
        },
        nodes,
    })
}

pub(super) fn by_local_cpulist(facts: &Facts<'_>) -> RungAnswer {
    let cpus = facts.device.local_cpus.as_ref();
    let cpus = cpus.ok_or(NoEvidence::NotRecorded("local_cpulist"))?;
    let online = cpus.intersection(&facts.machine.online);
    let nodes = facts.machine.nodes_of(&online);
    if nodes.is_empty() && !online.is_empty() {
        return Err(NoEvidence::CpusOfNoNode(online));
    }
    if nodes.is_empty() {
        return Err(NoEvidence::NoLocalCpu(cpus.clone()));
    }
    if nodes == facts.machine.cpu_nodes() {
        return Err(NoEvidence::AllCpusLocal(cpus.clone()));
    }
    Ok(Evidence {
        because: Grounds::LocalCpulist {
            cpus: cpus.clone(),
            nodes: nodes.clone(),
        },
        nodes,
    })
}

pub(super) fn by_hwloc(facts: &Facts<'_>) -> RungAnswer {
    let nodes = facts.device.attached_nodes.as_ref();
    let nodes = nodes.ok_or(NoEvidence::NotAttached)?;
    let mut all = facts.machine.cpu_nodes();
    all.extend_with(&facts.machine.unrecorded_nodes());
    let with_cpus = nodes.intersection(&all);
    if with_cpus.is_empty() {
        return Err(NoEvidence::AttachedToMemory(nodes.clone()));
    }
    // What holds the device has CPUs beside those of its nodes, and the device may be near those.
    let local = facts.device.local_cpus.as_ref();
    let others = local.map(|cpus| cpus.intersection(&facts.machine.cpus_of_no_node()));
    if let Some(others) = others.filter(|others| !others.is_empty()) {
        return Err(NoEvidence::CpusOfNoNode(others));
    }
    if with_cpus == all && facts.machine.cpus_of_no_node().is_empty() {
        return Err(NoEvidence::AttachedToAll(nodes.clone()));
    }
    Ok(Evidence {
        because: Grounds::Attached(with_cpus.clone()),
        nodes: with_cpus,
    })
}

/// All nodes, when there is but one package: true of every device, and enough to tell sockets apart.
pub(super) fn by_only_package(facts: &Facts<'_>) -> RungAnswer {
    let machine = facts.machine;
    let [package] = machine.packages.as_slice() else {
        return Err(NoEvidence::PackageCount(machine.packages.len()));
    };
    let nodes = machine.cpu_nodes();
    if package.cpus != machine.online
        || package.numa_nodes.intersection(&nodes) != nodes
        || !machine.cpus_of_no_node().is_empty()
    {
        return Err(NoEvidence::PackageNotWhole(package.id));
    }
    Ok(Evidence {
        because: Grounds::OnlyPackage {
            package: package.id,
            nodes: nodes.clone(),
        },
        nodes,
    })
}
