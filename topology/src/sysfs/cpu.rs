//! The CPU side: CPUs, cores, caches, packages and NUMA nodes.

use std::collections::BTreeMap;

use super::files::Root;
use crate::machine::{NodeKind, NumaNode, Package, Processor};
use crate::set::{CpuSet, NodeSet};
use crate::text;

const CPUS: &str = "sys/devices/system/cpu";
const NODES: &str = "sys/devices/system/node";
/// SLIT's distance of a node to itself.
const LOCAL_DISTANCE: u32 = 10;
/// SLIT's distances from package to package: from Linux's own for two nodes that firmware does not tell apart
/// (`REMOTE_DISTANCE`, `include/linux/topology.h`) to below that of a GPU's memory (80).
const BETWEEN_PACKAGES: std::ops::Range<u32> = 20..80;

/// What `/sys/devices/system` and `/proc/cpuinfo` say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CpuSide {
    /// CPUs that are online.
    pub online: CpuSet,
    /// Packages by id.
    pub packages: Vec<Package>,
    /// NUMA nodes by id.
    pub numa_nodes: Vec<NumaNode>,
    /// The online CPUs of each core, by lowest CPU.
    pub cores: Vec<CpuSet>,
    /// The online CPUs of each last-level cache, by lowest CPU.
    pub last_level_caches: Vec<CpuSet>,
    /// The online CPUs of each third-level cache, where these are not the last-level ones.
    pub third_level_caches: Option<Vec<CpuSet>>,
    /// The online CPUs of each die of several CPUs that is not a whole package.
    pub dies: Vec<CpuSet>,
    /// The online CPUs of each cluster of cores that is neither a whole die nor a whole package.
    pub clusters: Vec<CpuSet>,
    /// What the processors are.
    pub processor: Option<Processor>,
    /// What was odd, for a person.
    pub remarks: Vec<String>,
}

/// Reads the CPU side; none when there are no CPUs to be found.
pub(super) fn read(root: Root<'_>) -> Option<CpuSide> {
    let online = read_online(root)?;
    let mut side = CpuSide {
        cores: read_groups(root, &online, core_of),
        last_level_caches: read_groups(root, &online, last_level_cache_of),
        processor: read_processor(root),
        online,
        ..CpuSide::default()
    };
    let third = read_groups(root, &side.online, third_level_cache_of);
    side.third_level_caches = Some(third).filter(|own| *own != side.last_level_caches);
    let packages = read_packages(root, &side.online);
    side.dies = read_groups(root, &side.online, |root, cpu| {
        group_of(root, cpu, "die_cpus")
    });
    let is_whole = |cpus: &CpuSet| packages.values().any(|package| package == cpus);
    side.dies.retain(|cpus| cpus.len() > 1 && !is_whole(cpus));
    side.clusters = read_groups(root, &side.online, |root, cpu| {
        group_of(root, cpu, "cluster_cpus")
    });
    let is_other = |cpus: &CpuSet| {
        let mut others = side.dies.iter().chain(&side.cores);
        is_whole(cpus) || others.any(|other| other == cpus)
    };
    side.clusters
        .retain(|cpus| cpus.len() > 1 && !is_other(cpus));
    side.numa_nodes = read_nodes(root, &side.online, &mut side.remarks);
    mark_offline(root, &side.online, &mut side.numa_nodes);
    (side.packages, side.numa_nodes) = join(packages, side.numa_nodes);
    Some(side)
}

/// Gives nodes their package and packages their nodes.
pub(super) fn join(
    packages: BTreeMap<u32, CpuSet>,
    mut nodes: Vec<NumaNode>,
) -> (Vec<Package>, Vec<NumaNode>) {
    for node in &mut nodes {
        let mut homes = packages
            .iter()
            .filter(|(_, cpus)| cpus.intersects(&node.cpus))
            .map(|(id, _)| *id);
        let first = homes.next();
        node.package = first.filter(|_| homes.next().is_none());
    }
    let offline = offline_packages(&nodes);
    let mut free = (0..).filter(|id| !packages.contains_key(id));
    let offline: Vec<Package> = offline
        .into_iter()
        .zip(free.by_ref())
        .map(|(numa_nodes, id)| Package {
            id,
            numa_nodes,
            cpus: CpuSet::new(),
        })
        .collect();
    for package in &offline {
        for node in nodes
            .iter_mut()
            .filter(|node| package.numa_nodes.contains(node.id))
        {
            node.package = Some(package.id);
        }
    }
    let mut packages: Vec<Package> = packages
        .into_iter()
        .map(|(id, cpus)| Package {
            id,
            numa_nodes: nodes
                .iter()
                .filter(|node| node.cpus.intersects(&cpus))
                .map(|node| node.id)
                .collect(),
            cpus,
        })
        .collect();
    packages.extend(offline);
    packages.sort_by_key(|package| package.id);
    (packages, nodes)
}

/// The nodes of each package whose CPUs are all offline: those that are nearer to each other than packages are.
fn offline_packages(nodes: &[NumaNode]) -> Vec<NodeSet> {
    let mut packages: Vec<(&NumaNode, NodeSet)> = Vec::new();
    for node in nodes.iter().filter(|node| node.kind == NodeKind::Offline) {
        let is_near = |first: &NumaNode| {
            let distance = first.distances.get(&node.id);
            distance.is_some_and(|distance| *distance < BETWEEN_PACKAGES.start)
        };
        match packages.iter_mut().find(|(first, _)| is_near(first)) {
            Some((_, own)) => own.insert(node.id),
            None => packages.push((node, NodeSet::single(node.id))),
        }
    }
    packages.into_iter().map(|(_, own)| own).collect()
}

/// Tells nodes whose CPUs are all offline from those that are memory alone.
///
/// Linux keeps the link from a node to each of its CPUs while they are offline (`drivers/base/node.c`,
/// `register_cpu_under_node`), but lists only those online.  Where no link of an offline CPU is recorded, a node
/// that is as far from all CPUs as packages are from each other is taken for one.
fn mark_offline(root: Root<'_>, online: &CpuSet, nodes: &mut [NumaNode]) {
    let present = root.text(&format!("{CPUS}/present"));
    let present = present.and_then(|text| text.parse::<CpuSet>().ok());
    let offline = present.unwrap_or_default().difference(online);
    if offline.is_empty() {
        return;
    }
    let linked = |id: u32| -> CpuSet {
        let cpus = root.numbered(&format!("{NODES}/node{id}"), "cpu");
        let cpus: CpuSet = cpus.into_iter().collect();
        cpus.intersection(&offline)
    };
    let homes: Vec<(u32, CpuSet)> = nodes
        .iter()
        .map(|node| (node.id, linked(node.id)))
        .collect();
    let is_linked = homes.iter().any(|(_, cpus)| !cpus.is_empty());
    let with_cpus: Vec<u32> = nodes
        .iter()
        .filter(|node| !node.cpus.is_empty())
        .map(|node| node.id)
        .collect();
    for node in nodes
        .iter_mut()
        .filter(|node| node.kind == NodeKind::Cpuless)
    {
        let has_cpus = homes
            .iter()
            .any(|(id, cpus)| *id == node.id && !cpus.is_empty());
        let is_far = with_cpus.iter().all(|to| {
            let distance = node.distances.get(to);
            distance.is_some_and(|distance| BETWEEN_PACKAGES.contains(distance))
        });
        if has_cpus || (!is_linked && is_far && node.memory_bytes != Some(0)) {
            node.kind = NodeKind::Offline;
        }
    }
}

/// The `online` list; before it existed, the `cpuN` directories whose own `online` file is not 0.
pub(super) fn read_online(root: Root<'_>) -> Option<CpuSet> {
    let listed = root
        .text(&format!("{CPUS}/online"))
        .and_then(|text| text.parse::<CpuSet>().ok());
    let online = listed.filter(|set| !set.is_empty()).unwrap_or_else(|| {
        root.numbered(CPUS, "cpu")
            .into_iter()
            .filter(|cpu| root.text(&format!("{CPUS}/cpu{cpu}/online")).as_deref() != Some("0"))
            .collect()
    });
    (!online.is_empty()).then_some(online)
}

/// The groups that `of` gives for the online CPUs, asking once for each group.
fn read_groups(
    root: Root<'_>,
    online: &CpuSet,
    of: impl Fn(Root<'_>, u32) -> Option<CpuSet>,
) -> Vec<CpuSet> {
    let mut seen = CpuSet::new();
    let mut groups = Vec::new();
    for cpu in online.iter() {
        if seen.contains(cpu) {
            continue;
        }
        let group = of(root, cpu).map(|set| set.intersection(online).difference(&seen));
        if let Some(group) = group.filter(|group| group.contains(cpu)) {
            seen.extend_with(&group);
            groups.push(group);
        }
    }
    groups
}

/// A CPU's core; a CPU on its own where nothing is recorded.
fn core_of(root: Root<'_>, cpu: u32) -> Option<CpuSet> {
    let topology = format!("{CPUS}/cpu{cpu}/topology");
    root.set(
        &format!("{topology}/core_cpus_list"),
        &format!("{topology}/core_cpus"),
    )
    .or_else(|| {
        root.set(
            &format!("{topology}/thread_siblings_list"),
            &format!("{topology}/thread_siblings"),
        )
    })
    .filter(|set: &CpuSet| set.contains(cpu))
    .or_else(|| Some(CpuSet::single(cpu)))
}

/// A CPU's group of a kind that Linux lists beside its core: `die_cpus` (from 5.2 on) or `cluster_cpus` (from 5.16 on).
fn group_of(root: Root<'_>, cpu: u32, kind: &str) -> Option<CpuSet> {
    let path = format!("{CPUS}/cpu{cpu}/topology/{kind}");
    root.set(&format!("{path}_list"), &path)
}

/// A CPU's cache of the highest level, instruction caches left aside.
fn last_level_cache_of(root: Root<'_>, cpu: u32) -> Option<CpuSet> {
    cache_of(root, cpu, |_| true)
}

/// A CPU's cache of the third level.
fn third_level_cache_of(root: Root<'_>, cpu: u32) -> Option<CpuSet> {
    cache_of(root, cpu, |level| level == 3)
}

/// A CPU's cache of the highest level that `is_wanted`, instruction caches left aside.
fn cache_of(root: Root<'_>, cpu: u32, is_wanted: fn(u32) -> bool) -> Option<CpuSet> {
    let caches = format!("{CPUS}/cpu{cpu}/cache");
    (0..16u32)
        .map(|index| format!("{caches}/index{index}"))
        .map_while(|cache| {
            let level: u32 = root.number(&format!("{cache}/level"))?;
            Some((level, cache))
        })
        .filter(|(level, cache)| {
            let kind = root.text(&format!("{cache}/type"));
            is_wanted(*level) && kind.as_deref() != Some("Instruction")
        })
        .max_by_key(|(level, _)| *level)
        .and_then(|(_, cache)| {
            root.set(
                &format!("{cache}/shared_cpu_list"),
                &format!("{cache}/shared_cpu_map"),
            )
        })
}

/// The online CPUs of each `physical_package_id`.
///
/// Linux writes -1 where firmware gives none; those CPUs stay without a package.
fn read_packages(root: Root<'_>, online: &CpuSet) -> BTreeMap<u32, CpuSet> {
    let mut packages: BTreeMap<u32, CpuSet> = BTreeMap::new();
    let mut seen = CpuSet::new();
    for cpu in online.iter() {
        if seen.contains(cpu) {
            continue;
        }
        let topology = format!("{CPUS}/cpu{cpu}/topology");
        let Some(id) = root.number::<u32>(&format!("{topology}/physical_package_id")) else {
            continue;
        };
        let siblings = root
            .set(
                &format!("{topology}/package_cpus_list"),
                &format!("{topology}/package_cpus"),
            )
            .or_else(|| {
                root.set(
                    &format!("{topology}/core_siblings_list"),
                    &format!("{topology}/core_siblings"),
                )
            })
            .filter(|set: &CpuSet| set.contains(cpu))
            .unwrap_or_else(|| CpuSet::single(cpu))
            .intersection(online)
            .difference(&seen);
        seen.extend_with(&siblings);
        packages.entry(id).or_default().extend_with(&siblings);
    }
    packages
}

/// The NUMA nodes; a kernel without NUMA counts as node 0 with everything.
///
/// A node whose CPUs an earlier one has is left out, as hwloc does (`topology-linux.c`,
/// `look_sysfsnode`, 2.9): such tables come from broken firmware.
fn read_nodes(root: Root<'_>, online: &CpuSet, remarks: &mut Vec<String>) -> Vec<NumaNode> {
    let ids = root.numbered(NODES, "node");
    let mut nodes: Vec<NumaNode> = Vec::new();
    let mut taken = CpuSet::new();
    for id in &ids {
        let dir = format!("{NODES}/node{id}");
        let listed: Option<CpuSet> = root.set(&format!("{dir}/cpulist"), &format!("{dir}/cpumap"));
        let Some(listed) = listed else {
            remarks.push(format!("NUMA node {id} has no cpulist; left out"));
            continue;
        };
        let cpus = listed.intersection(online);
        if cpus.intersects(&taken) {
            remarks.push(format!(
                "NUMA node {id} has CPUs ({cpus}) of an earlier node; left out"
            ));
            continue;
        }
        taken.extend_with(&cpus);
        nodes.push(NumaNode {
            id: *id,
            package: None,
            kind: kind_of(&cpus),
            cpus,
            memory_bytes: read_memory(root, &format!("{dir}/meminfo"), "Node"),
            distances: read_distances(root, &dir, &ids),
        });
    }
    let kept: NodeSet = nodes.iter().map(|node| node.id).collect();
    for node in &mut nodes {
        node.distances.retain(|id, _| kept.contains(*id));
    }
    if nodes.is_empty() {
        nodes.push(NumaNode {
            id: 0,
            package: None,
            cpus: online.clone(),
            memory_bytes: read_memory(root, "proc/meminfo", ""),
            kind: NodeKind::Dram,
            distances: BTreeMap::new(),
        });
    }
    nodes
}

/// The kind of a node that nothing says more of.
fn kind_of(cpus: &CpuSet) -> NodeKind {
    if cpus.is_empty() {
        NodeKind::Cpuless
    } else {
        NodeKind::Dram
    }
}

/// `distance` has a column for each online node in order (`drivers/base/node.c`, `node_read_distance`).
fn read_distances(root: Root<'_>, dir: &str, ids: &[u32]) -> BTreeMap<u32, u32> {
    let text = root.text(&format!("{dir}/distance")).unwrap_or_default();
    let values: Vec<u32> = text
        .split_whitespace()
        .map_while(|v| v.parse().ok())
        .collect();
    if values.len() != ids.len() {
        return BTreeMap::new();
    }
    ids.iter()
        .copied()
        .zip(values)
        // 10 is local and the least there is (ACPI 6.4, 5.2.17): less is a table that nobody filled in.
        .filter(|(_, distance)| *distance >= LOCAL_DISTANCE)
        .collect()
}

/// `MemTotal` in bytes; `first` is the word that a node's file has before its number.
fn read_memory(root: Root<'_>, file: &str, first: &str) -> Option<u64> {
    let text = root.text(file)?;
    let line = text.lines().find_map(|line| {
        let line = line.trim_start().strip_prefix(first)?;
        line.split_once("MemTotal:")
            .map(|(_, rest)| rest.to_owned())
    })?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The processor of the first record of `/proc/cpuinfo`.
///
/// Only its first 4 KiB: some kernels measure every CPU's clock while they write the file.
fn read_processor(root: Root<'_>) -> Option<Processor> {
    parse_cpuinfo(&root.text_up_to("proc/cpuinfo", 4096)?)
}

fn parse_cpuinfo(text: &str) -> Option<Processor> {
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    };
    let number = |name: &str| field(name).and_then(|value| value.parse().ok());
    if let (Some(vendor), Some(family)) = (field("vendor_id"), number("cpu family")) {
        return Some(Processor {
            arch: "x86_64".to_owned(),
            vendor: Some(text::plain(&vendor)),
            family: Some(family),
            model: number("model"),
        });
    }
    let arch = if field("CPU implementer").is_some() {
        "arm64"
    } else if field("cpu").is_some_and(|cpu| cpu.starts_with("POWER")) {
        "ppc64"
    } else {
        return None;
    };
    Some(Processor {
        arch: arch.to_owned(),
        vendor: None,
        family: None,
        model: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpuinfo_tells_the_architecture_by_its_words() {
        let intel = parse_cpuinfo(
            "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: x\n",
        )
        .unwrap();
        assert_eq!(
            (intel.arch.as_str(), intel.family, intel.model),
            ("x86_64", Some(6), Some(143))
        );
        let arm = parse_cpuinfo("processor\t: 0\nCPU implementer\t: 0x41\n").unwrap();
        assert_eq!((arm.arch.as_str(), arm.vendor), ("arm64", None));
        assert_eq!(
            parse_cpuinfo("cpu\t\t: POWER9, altivec supported\n")
                .unwrap()
                .arch,
            "ppc64"
        );
        assert_eq!(parse_cpuinfo("what: ever"), None);
    }
}
