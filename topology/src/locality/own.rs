//! Rungs that need nothing but the device's own files and the machine's nodes.

use super::{Evidence, Facts, Finding, nearest_with_cpus, with_cpus};
use crate::set::NodeSet;

pub(super) fn by_override(facts: &Facts<'_>) -> Finding {
    let nodes = facts.overrides.named.get(&facts.device.address);
    let nodes = nodes.ok_or("the site names no node for it")?;
    by_site(facts, nodes, "the site's override file says")
}

pub(super) fn by_measured(facts: &Facts<'_>) -> Finding {
    let nodes = facts.overrides.measured.get(&facts.device.address);
    let nodes = nodes.ok_or("the site's override file has no measurement of it")?;
    by_site(facts, nodes, "the site measured")
}

fn by_site(facts: &Facts<'_>, nodes: &NodeSet, says: &str) -> Finding {
    let known = nodes.intersection(&facts.machine.cpu_nodes());
    if known.is_empty() {
        return Err(format!("{says} node {nodes}, which has no CPU here"));
    }
    Ok(Evidence {
        because: format!("{says} node {known}"),
        nodes: known,
    })
}

/// NVML's word, where all that it says agrees.
///
/// Without a word of its own NVML gives all nodes and CPUs; that is none.  Both affinities come from the
/// kernel on most hosts; where a hypervisor hides `numa_node` the driver may still know.
pub(super) fn by_nvml(facts: &Facts<'_>) -> Finding {
    let machine = facts.machine;
    let gpu = machine.gpu(facts.device.address);
    let place = gpu.and_then(|gpu| gpu.nvml_place.as_ref());
    let place = place.ok_or("NVML was not there to be asked, or has no word on it")?;
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
    let nodes = nodes.ok_or("NVML names nothing narrower than the machine")?;
    if nodes.is_empty() {
        return Err(format!("NVML contradicts itself: {said}"));
    }
    Ok(Evidence {
        because: format!("NVML says {said}, which is node {nodes}"),
        nodes,
    })
}

pub(super) fn by_only_node(facts: &Facts<'_>) -> Finding {
    let nodes = facts.machine.cpu_nodes();
    if nodes.len() != 1 {
        return Err(format!("CPUs are on nodes {nodes}"));
    }
    Ok(Evidence {
        because: format!("node {nodes} is the only one with CPUs"),
        nodes,
    })
}

pub(super) fn by_numa_node(facts: &Facts<'_>) -> Finding {
    let raw = facts.device.numa_node.ok_or("numa_node is not recorded")?;
    let id =
        u32::try_from(raw).map_err(|_| format!("firmware names no node (numa_node is {raw})"))?;
    let node = facts
        .machine
        .node(id)
        .ok_or_else(|| format!("numa_node is {id}, no node of this machine"))?;
    if node.cpus.is_empty() {
        return Err(format!("numa_node is {id}, a node without CPUs"));
    }
    let nodes = NodeSet::single(id);
    Ok(Evidence {
        because: format!("numa_node is {id}"),
        nodes,
    })
}

/// A GPU or NIC beside memory of its own, or a node whose CPUs are all offline.
pub(super) fn by_nearest_node(facts: &Facts<'_>) -> Finding {
    let raw = facts
        .device
        .numa_node
        .and_then(|raw| u32::try_from(raw).ok());
    let node = raw.and_then(|id| facts.machine.node(id));
    let node = node
        .filter(|node| node.cpus.is_empty())
        .ok_or("numa_node names no node without CPUs")?;
    let nodes = nearest_with_cpus(facts.machine, node.id)?;
    Ok(Evidence {
        because: format!(
            "numa_node is {}, a node without CPUs; node {nodes} is nearest by SLIT",
            node.id
        ),
        nodes,
    })
}

pub(super) fn by_local_cpulist(facts: &Facts<'_>) -> Finding {
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

pub(super) fn by_hwloc(facts: &Facts<'_>) -> Finding {
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

/// All nodes, when there is but one package: true of every device, and enough to tell sockets apart.
pub(super) fn by_only_package(facts: &Facts<'_>) -> Finding {
    let machine = facts.machine;
    let [package] = machine.packages.as_slice() else {
        return Err(format!("there are {} packages", machine.packages.len()));
    };
    let nodes = machine.cpu_nodes();
    if package.cpus != machine.online || package.numa_nodes.intersection(&nodes) != nodes {
        return Err(format!("package {} does not hold every CPU", package.id));
    }
    Ok(Evidence {
        because: format!(
            "package {} is the only one; any of nodes {nodes}",
            package.id
        ),
        nodes,
    })
}
