//! Rungs that need nothing but the device's own files and the machine's nodes.

use super::{Evidence, Facts, Finding, nearest_with_cpus};
use crate::set::NodeSet;

pub(super) fn by_override(facts: &Facts<'_>) -> Finding {
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
