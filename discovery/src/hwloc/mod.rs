//! What hwloc says, as raw facts.  Runs in the child process only, but for [`version_3`].

mod devices;
mod nvlink;
pub(crate) mod version_3;

use std::collections::BTreeMap;
use std::ffi::CStr;

use hwlocality::Topology;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::distance::DistancesKind;
use hwlocality::object::types::ObjectType;
use hwlocality::topology::builder::{BuildFlags, TopologyBuilder, TypeFilter};
use serde::{Deserialize, Serialize};
use topology::machine::{Machine, NodeKind, NumaNode, Processor};
use topology::set::{CpuSet, IndexSet, MAX_INDEX, NodeSet};

use crate::error::ProbeError;

/// hwloc's view: the whole machine, and what of it the reader's cgroup allows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct HwlocAnswer {
    /// Raw facts, devices not placed.
    pub(crate) machine: Machine,
    /// CPUs that are allowed.
    pub(crate) allowed_cpus: CpuSet,
    /// Nodes that are allowed.
    pub(crate) allowed_nodes: NodeSet,
}

/// Reads what the environment names: this machine, or `HWLOC_FSROOT`.
pub(crate) fn read_environment() -> Result<HwlocAnswer, ProbeError> {
    load(Ok)
}

/// Reads an XML text.
pub(crate) fn read_xml(xml: &str) -> Result<HwlocAnswer, ProbeError> {
    load(|builder| builder.from_xml(xml).map_err(in_its_words))
}

fn load(
    from: impl FnOnce(TopologyBuilder) -> Result<TopologyBuilder, ProbeError>,
) -> Result<HwlocAnswer, ProbeError> {
    let builder = Topology::builder()
        .with_flags(BuildFlags::INCLUDE_DISALLOWED)
        .map_err(in_its_words)?
        .with_io_type_filter(TypeFilter::KeepAll)
        .map_err(in_its_words)?;
    let topology = from(builder)?.build().map_err(|_| ProbeError::NoTopology)?;
    Ok(HwlocAnswer {
        machine: convert(&topology),
        allowed_cpus: set(topology.allowed_cpuset().into_iter().map(usize::from)),
        allowed_nodes: set(topology.allowed_nodeset().into_iter().map(usize::from)),
    })
}

fn in_its_words(error: impl std::fmt::Display) -> ProbeError {
    ProbeError::Library(error.to_string())
}

/// A set of hwloc's indexes; hwloc's sets may be infinite.
fn set<K>(indexes: impl Iterator<Item = usize>) -> IndexSet<K> {
    indexes
        .map_while(|index| u32::try_from(index).ok())
        .take_while(|index| *index <= MAX_INDEX)
        .collect()
}

fn cpus_of(object: &TopologyObject) -> CpuSet {
    object
        .cpuset()
        .map_or_else(CpuSet::new, |cpus| set(cpus.into_iter().map(usize::from)))
}

fn index_of(object: &TopologyObject) -> Option<u32> {
    u32::try_from(object.os_index()?)
        .ok()
        .filter(|index| *index <= MAX_INDEX)
}

fn text(value: Option<&CStr>) -> Option<String> {
    value
        .map(|value| topology::text::plain(&value.to_string_lossy()))
        .filter(|value| !value.is_empty())
}

fn convert(topology: &Topology) -> Machine {
    let online: CpuSet = set(topology.cpuset().into_iter().map(usize::from));
    let mut packages: BTreeMap<u32, CpuSet> = BTreeMap::new();
    for package in topology.objects_with_type(ObjectType::Package) {
        if let Some(id) = index_of(package) {
            packages
                .entry(id)
                .or_default()
                .extend_with(&cpus_of(package));
        }
    }
    let (packages, numa_nodes) = topology::sysfs::join_packages(packages, nodes(topology));
    let mut machine = Machine {
        hostname: text(topology.root_object().info("HostName"))
            .and_then(|name| topology::text::host_name(&name)),
        cores: cores(topology, &online),
        third_level_caches: third_level_caches(topology),
        dies: sorted_cpus(dies(topology)),
        clusters: sorted_cpus(clusters(topology)),
        last_level_caches: last_level_caches(topology),
        processor: processor(topology),
        online,
        packages,
        numa_nodes,
        ..Machine::default()
    };
    devices::add_devices(topology, &mut machine);
    nvlink::add_nvlinks(topology, &mut machine);
    machine
}

/// The NUMA nodes, each with the CPUs that no earlier one has.
///
/// hwloc gives a node of special memory (HBM, NVM, a GPU's) the CPUs it is near to; here they belong to
/// the ordinary node, and the special one has none.
fn nodes(topology: &Topology) -> Vec<NumaNode> {
    let distances = distances(topology);
    let mut objects: Vec<_> = topology
        .objects_with_type(ObjectType::NUMANode)
        .filter_map(|object| Some((object.subtype().is_some(), index_of(object)?, object)))
        .collect();
    objects.sort_by_key(|(special, id, _)| (*special, *id));
    let mut taken = CpuSet::new();
    let mut nodes = BTreeMap::new();
    for (_, id, object) in objects {
        let near = cpus_of(object);
        let cpus = if near.intersects(&taken) {
            CpuSet::new()
        } else {
            near
        };
        taken.extend_with(&cpus);
        let memory = match object.attributes() {
            Some(ObjectAttributes::NUMANode(numa)) => numa.local_memory(),
            Some(_) | None => None,
        };
        let kind = match text(object.subtype()).as_deref() {
            Some("GPUMemory") => NodeKind::Gpu,
            _ if cpus.is_empty() => NodeKind::Cpuless,
            _ => NodeKind::Dram,
        };
        nodes.entry(id).or_insert(NumaNode {
            id,
            package: None,
            cpus,
            memory_bytes: Some(memory.map_or(0, std::num::NonZero::get)),
            kind,
            distances: distances.get(&id).cloned().unwrap_or_default(),
        });
    }
    nodes.into_values().collect()
}

/// The firmware's distances between NUMA nodes, by node.
fn distances(topology: &Topology) -> BTreeMap<u32, BTreeMap<u32, u32>> {
    let mut all: BTreeMap<u32, BTreeMap<u32, u32>> = BTreeMap::new();
    let kind = DistancesKind::FROM_OS | DistancesKind::MEANS_LATENCY;
    for matrix in topology.distances(Some(kind)).unwrap_or_default() {
        let ids: Vec<_> = matrix
            .objects()
            .map(|object| {
                index_of(object.filter(|object| object.object_type() == ObjectType::NUMANode)?)
            })
            .collect();
        if !all.is_empty() || ids.iter().any(Option::is_none) {
            continue;
        }
        for ((from, to), value) in matrix.enumerate_distances() {
            let (from, to) = (
                ids.get(from).copied().flatten(),
                ids.get(to).copied().flatten(),
            );
            let value = u32::try_from(value).ok().filter(|value| *value >= 10);
            if let (Some(from), Some(to), Some(value)) = (from, to, value) {
                all.entry(from).or_default().insert(to, value);
            }
        }
    }
    all
}

/// Cores, and each CPU on its own that belongs to none.
fn cores(topology: &Topology, online: &CpuSet) -> Vec<CpuSet> {
    let mut rest = online.clone();
    let mut cores = Vec::new();
    for core in topology.objects_with_type(ObjectType::Core) {
        let cpus = cpus_of(core).intersection(&rest);
        rest = rest.difference(&cpus);
        if !cpus.is_empty() {
            cores.push(cpus);
        }
    }
    cores.extend(rest.iter().map(CpuSet::single));
    cores.sort();
    cores
}

fn last_level_caches(topology: &Topology) -> Vec<CpuSet> {
    use ObjectType::{L1Cache, L2Cache, L3Cache, L4Cache, L5Cache};
    let mut caches: Vec<CpuSet> = [L5Cache, L4Cache, L3Cache, L2Cache, L1Cache]
        .into_iter()
        .map(|level| {
            topology
                .objects_with_type(level)
                .map(cpus_of)
                .collect::<Vec<_>>()
        })
        .find(|caches| !caches.is_empty())
        .unwrap_or_default();
    caches.sort();
    caches
}

/// The third-level caches, where these are not the last-level ones.
fn third_level_caches(topology: &Topology) -> Option<Vec<CpuSet>> {
    let third = sorted_cpus(topology.objects_with_type(ObjectType::L3Cache));
    Some(third).filter(|own| *own != last_level_caches(topology))
}

/// The dies of packages that have several; hwloc keeps no others.
///
/// hwlocality knows their type only where it is built for hwloc 2.1 and later, and calls it unknown else.
fn dies(topology: &Topology) -> impl Iterator<Item = &TopologyObject> {
    topology.normal_objects().filter(|object| {
        matches!(object.object_type(), ObjectType::Unknown(_))
            && object.to_string().starts_with("Die")
    })
}

/// The groups that are the kernel's clusters of cores.
fn clusters(topology: &Topology) -> impl Iterator<Item = &TopologyObject> {
    topology
        .objects_with_type(ObjectType::Group)
        .filter(|group| text(group.subtype()).as_deref() == Some("Cluster"))
}

/// The CPUs of each object.
fn sorted_cpus<'a>(objects: impl Iterator<Item = &'a TopologyObject>) -> Vec<CpuSet> {
    let mut sets: Vec<CpuSet> = objects.map(cpus_of).collect();
    sets.sort();
    sets
}

/// The processor in NCCL's words, from the infos hwloc keeps on packages (v2) and the machine (v1).
fn processor(topology: &Topology) -> Option<Processor> {
    let root = topology.root_object();
    let package = topology.objects_with_type(ObjectType::Package).next();
    let info = |name: &str| {
        text(package.and_then(|package| package.info(name))).or_else(|| text(root.info(name)))
    };
    let arch = match info("Architecture")?.as_str() {
        "x86_64" => "x86_64",
        "aarch64" => "arm64",
        "ppc64" | "ppc64le" => "ppc64",
        _ => return None,
    };
    Some(Processor {
        arch: arch.to_owned(),
        vendor: info("CPUVendor").map(|vendor| topology::text::plain(&vendor)),
        family: info("CPUFamilyNumber").and_then(|text| text.parse().ok()),
        model: info("CPUModelNumber").and_then(|text| text.parse().ok()),
    })
}
