//! A declaration as the model that the product is to make of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;
use topology::machine::NumaSource;
use topology::machine::{
    Gpu, KfdGpu, KfdNode, Locality, Machine, MigInstance, MinorSource, Nic, NodeKind, NumaNode,
    Package, Processor, RdmaPort,
};
use topology::nvlink::Links;
use topology::pci::{Link, PciAddress, PciDevice};
use topology::set::NodeSet;

use crate::declared::{Declared, Function, MEMORY_WITHOUT_NUMA, Place, Quirk, Role};
use crate::root::{amd_part_uuid, amd_uuid, uuid};
use crate::values::Address;

pub(crate) fn build(declared: &Declared) -> Machine {
    let online = declared.online();
    Machine {
        hostname: Some(declared.hostname.clone()),
        board: declared.board.clone(),
        packages: packages(declared),
        numa_nodes: numa_nodes(declared),
        cores: groups(
            declared.cores.iter().flat_map(|group| group.groups()),
            &online,
        ),
        last_level_caches: last_level_caches(declared, &online),
        third_level_caches: third_level_caches(declared, &online),
        dies: dies(declared, &online),
        clusters: clusters(declared, &online),
        speed_classes: speed_classes(declared, &online),
        processor: processor(declared),
        pci: kept(declared).iter().map(device).collect(),
        gpus: gpus(declared),
        nics: nics(declared),
        online: online.iter().copied().collect(),
        ..Machine::default()
    }
}

fn processor(declared: &Declared) -> Option<Processor> {
    let own = &declared.processor;
    let is_told = own.arch != "x86_64" || (own.vendor.is_some() && own.family.is_some());
    is_told.then(|| Processor {
        arch: own.arch.clone(),
        vendor: own.vendor.clone(),
        family: own.family,
        model: own.model,
    })
}

/// The packages that CPUs of a node, or of the whole machine, are in.
fn packages_of(declared: &Declared, cpus: &BTreeSet<u32>) -> BTreeSet<u32> {
    let groups = declared.cores.iter();
    let touched = groups.filter(|group| !group.cpus.set().is_disjoint(cpus));
    touched
        .filter_map(|group| u32::try_from(group.package).ok())
        .collect()
}

/// The nodes: one with everything where the kernel has none.
fn nodes(declared: &Declared) -> Vec<(u32, BTreeSet<u32>)> {
    if declared.nodes.is_empty() {
        return vec![(0, declared.online())];
    }
    let ids = declared.nodes.iter().map(|node| node.id);
    ids.map(|id| (id, declared.cpus_of_node(id))).collect()
}

fn packages(declared: &Declared) -> Vec<Package> {
    let package = |id: u32| {
        let cpus = declared.cpus_of_package(i32::try_from(id).unwrap_or(-1));
        let with_cpus = nodes(declared);
        let own = with_cpus
            .iter()
            .filter(|(_, node)| !node.is_disjoint(&cpus));
        Package {
            id,
            numa_nodes: own.map(|(id, _)| *id).collect(),
            cpus: cpus.into_iter().collect(),
        }
    };
    // A package whose CPUs are all offline has no number; it gets the lowest that is free.
    let online = packages_of(declared, &declared.online());
    let mut all: Vec<Package> = online.iter().copied().map(package).collect();
    let free = (0..).filter(|id| !online.contains(id));
    all.extend(
        offline_packages(declared)
            .zip(free)
            .map(|(nodes, id)| Package {
                id,
                numa_nodes: nodes,
                ..package(u32::MAX)
            }),
    );
    all.sort_by_key(|package| package.id);
    all
}

/// The nodes of each package whose CPUs are all offline.
fn offline_packages(declared: &Declared) -> impl Iterator<Item = NodeSet> {
    let online = packages_of(declared, &declared.online());
    let mut nodes = BTreeMap::<i32, NodeSet>::new();
    let groups = declared.cores.iter().filter(|group| {
        u32::try_from(group.package).is_ok_and(|package| !online.contains(&package))
    });
    for group in groups {
        nodes
            .entry(group.package)
            .or_default()
            .extend_with(&group.node.into_iter().collect());
    }
    nodes.into_values()
}

fn numa_nodes(declared: &Declared) -> Vec<NumaNode> {
    let all = packages(declared);
    let node = |(id, cpus): (u32, BTreeSet<u32>)| {
        let own = declared.node(id);
        let row = declared.nodes.iter().position(|node| node.id == id);
        let row = row.and_then(|row| declared.slit.get(row));
        let ids = declared.nodes.iter().map(|node| node.id);
        let packages = packages_of(declared, &cpus);
        let is_offline =
            |package: &&Package| package.cpus.is_empty() && package.numa_nodes.contains(id);
        let offline = all.iter().find(is_offline).map(|package| package.id);
        let online = packages.first().copied().filter(|_| packages.len() == 1);
        NumaNode {
            id,
            package: offline.or(online),
            memory_bytes: match own {
                Some(node) => node.memory.map(|memory| memory.0),
                None => Some(MEMORY_WITHOUT_NUMA),
            },
            kind: match own {
                _ if !cpus.is_empty() => NodeKind::Dram,
                Some(node) if node.of_gpu.is_some() => NodeKind::Gpu,
                _ if offline.is_some() => NodeKind::Offline,
                _ => NodeKind::Cpuless,
            },
            distances: row.map_or_else(BTreeMap::new, |row| ids.zip(row.iter().copied()).collect()),
            cpus: cpus.into_iter().collect(),
        }
    };
    nodes(declared).into_iter().map(node).collect()
}

/// The online CPUs of each group, by their lowest.
fn groups(
    groups: impl Iterator<Item = BTreeSet<u32>>,
    online: &BTreeSet<u32>,
) -> Vec<topology::set::CpuSet> {
    let mut all: Vec<BTreeSet<u32>> = groups.map(|group| &group & online).collect();
    all.retain(|group| !group.is_empty());
    all.sort_by_key(|group| group.first().copied());
    all.into_iter()
        .map(|group| group.into_iter().collect())
        .collect()
}

fn last_level_caches(declared: &Declared, online: &BTreeSet<u32>) -> Vec<topology::set::CpuSet> {
    if declared.has(Quirk::NoCaches) {
        return Vec::new();
    }
    let of_group = |group: &crate::declared::Cores| -> Vec<BTreeSet<u32>> {
        let cores = group.groups();
        let per = match group.cores_per_l3 {
            Some(0) => group.cores_per_l2,
            Some(per) => per,
            None => cores.len(),
        };
        let cache = |chunk: &[BTreeSet<u32>]| chunk.iter().flatten().copied().collect();
        cores.chunks(per).map(cache).collect()
    };
    groups(declared.cores.iter().flat_map(of_group), online)
}

/// The third-level caches, where one group's last level is another.
fn third_level_caches(
    declared: &Declared,
    online: &BTreeSet<u32>,
) -> Option<Vec<topology::set::CpuSet>> {
    let mut groups = declared.cores.iter();
    let has_lower = groups.any(|group| group.cores_per_l3 == Some(0));
    let third = || {
        chunks_of(declared, online, |group| {
            let per = group.cores_per_l3.unwrap_or_else(|| group.groups().len());
            (per > 0).then_some(per)
        })
    };
    (has_lower && !declared.has(Quirk::NoCaches)).then(third)
}

/// The dies of several CPUs that are no package.
fn dies(declared: &Declared, online: &BTreeSet<u32>) -> Vec<topology::set::CpuSet> {
    let packages = packages(declared);
    let mut all = chunks_of(declared, online, |group| group.cores_per_die);
    all.retain(|own| own.len() > 1 && packages.iter().all(|package| package.cpus != *own));
    all
}

/// The clusters of several CPUs that are no core, die or package.
fn clusters(declared: &Declared, online: &BTreeSet<u32>) -> Vec<topology::set::CpuSet> {
    let packages = packages(declared);
    let cores = declared.cores.iter().flat_map(|group| group.groups());
    let cores = groups(cores, online);
    let mut others = dies(declared, online);
    others.extend(cores);
    others.extend(packages.into_iter().map(|package| package.cpus));
    let mut all = chunks_of(declared, online, |group| group.cores_per_cluster);
    all.retain(|own| own.len() > 1 && !others.contains(own));
    all
}

/// The runs of so many cores of each group.
fn chunks_of(
    declared: &Declared,
    online: &BTreeSet<u32>,
    per: impl Fn(&crate::declared::Cores) -> Option<usize>,
) -> Vec<topology::set::CpuSet> {
    let chunks = declared.cores.iter().flat_map(|group| {
        let cores = group.groups();
        let chunks = cores.chunks(per(group).unwrap_or(cores.len()).max(1));
        let sets = chunks.map(|chunk| chunk.iter().flatten().copied().collect());
        let sets: Vec<BTreeSet<u32>> = sets.collect();
        if per(group).is_some() {
            sets
        } else {
            Vec::new()
        }
    });
    groups(chunks, online)
}

/// The CPUs by their highest frequency, the fastest first; none where all have the same, or one is not recorded.  Declared kinds of
/// cores differ by more than the reader's margin.
fn speed_classes(declared: &Declared, online: &BTreeSet<u32>) -> Vec<topology::set::CpuSet> {
    let mut classes: BTreeMap<std::cmp::Reverse<u32>, BTreeSet<u32>> = BTreeMap::new();
    for group in &declared.cores {
        let Some(mhz) = group.max_mhz else {
            return Vec::new();
        };
        let class = classes.entry(std::cmp::Reverse(mhz)).or_default();
        class.extend(group.cpus.set().intersection(online));
    }
    let classes = classes.into_values().filter(|class| !class.is_empty());
    let classes: Vec<_> = classes.map(|class| class.into_iter().collect()).collect();
    if classes.len() < 2 {
        Vec::new()
    } else {
        classes
    }
}

/// GPUs, NICs and what is above them.
fn kept(declared: &Declared) -> Vec<Function> {
    let all = declared.functions();
    let parents: BTreeMap<Address, Option<Address>> = all
        .iter()
        .map(|function| (function.address, function.parent))
        .collect();
    let mut wanted: BTreeSet<Address> = BTreeSet::new();
    for function in &all {
        if matches!(function.role, Role::Gpu | Role::Nic) {
            let parent = |address: &Address| *parents.get(address)?;
            wanted.extend(std::iter::successors(Some(function.address), parent));
        }
    }
    all.into_iter()
        .filter(|function| wanted.contains(&function.address))
        .collect()
}

fn device(function: &Function) -> PciDevice {
    let link = function.link;
    let best = link.and_then(|link| link.best);
    PciDevice {
        parent: function.parent.map(Address::pci),
        root_bus: Some((function.root_bus.domain, function.root_bus.bus)),
        link: Link {
            max_speed_gts: best.map(|(speed, _)| speed),
            max_width: best.map(|(_, width)| width),
            current_speed_gts: link.map(|link| link.now.0),
            current_width: link.map(|link| link.now.1),
            ..Link::default()
        },
        numa_node: Some(function.node),
        local_cpus: function
            .local_cpulist
            .as_ref()
            .map(|cpus| cpus.iter().copied().collect()),
        ..PciDevice::new(
            function.address.pci(),
            function.model.class,
            function.model.ids.0,
            function.model.ids.1,
        )
    }
}

fn gpus(declared: &Declared) -> Vec<Gpu> {
    let in_driver = declared.driver_gpus();
    let mut minors: Vec<u32> = in_driver.iter().map(|(_, minor)| *minor).collect();
    minors.sort_unstable();
    let gpu = |(function, place): (Function, &Place)| {
        let own = in_driver
            .iter()
            .position(|(gpu, _)| gpu.address == function.address);
        let mut gpu = Gpu {
            locality: locality(declared, place),
            ..Gpu::of(&device(&function))
        };
        match (&declared.driver, own) {
            (Some(driver), Some(own)) if driver.files_only => {
                // Without the driver's numbers, device files are taken to follow PCI order.
                gpu.minor = Some(minors[own]);
                gpu.minor_source = MinorSource::DeviceOrder;
            }
            (Some(_), Some(own)) => {
                gpu.minor = Some(in_driver[own].1);
                gpu.minor_source = MinorSource::Driver;
                gpu.uuid = Some(uuid(&function));
                gpu.name = Some(function.model.product.to_owned());
            }
            (_, _) => {}
        }
        add_kfd(declared, &function, &mut gpu);
        let mut of_xe = declared.xe_gpus().into_iter();
        if let Some((_, number)) = of_xe.find(|(own, _)| own.address == function.address) {
            (gpu.minor, gpu.minor_source) = (Some(number), MinorSource::Driver);
        }
        gpu
    };
    declared
        .gpus()
        .into_iter()
        .zip(&declared.truth.gpus)
        .map(gpu)
        .collect()
}

/// Adds what AMD's drivers say of a GPU of theirs.
fn add_kfd(declared: &Declared, function: &Function, gpu: &mut Gpu) {
    let (Some(amdgpu), parts) = (&declared.amdgpu, declared.kfd_parts()) else {
        return;
    };
    let own = parts
        .iter()
        .filter(|part| part.gpu.address == function.address);
    let nodes: Vec<KfdNode> = own
        .map(|part| KfdNode {
            node: part.node,
            minor: Some(part.minor),
            uuid: Some(amd_part_uuid(amdgpu, part)),
        })
        .collect();
    let Some(first) = nodes.first() else { return };
    (gpu.minor, gpu.minor_source) = (first.minor, MinorSource::Driver);
    gpu.uuid = Some(amd_uuid(function));
    gpu.name = Some(function.model.product.to_owned()).filter(|name| !name.is_empty());
    let mut kfd = KfdGpu {
        numa_node: u32::try_from(function.node).ok().filter(|node| *node > 0),
        compute_partition: amdgpu.compute.clone(),
        memory_partition: amdgpu.memory.clone(),
        nodes,
        ..KfdGpu::default()
    };
    for other in declared
        .gpus()
        .iter()
        .filter(|other| other.address != function.address && other.model.ids.0 == 0x1002)
    {
        match declared.xgmi_links(function.address, other.address) {
            Some(0) => kfd.beyond.push(other.address.pci()),
            // Between parts KFD does not say how many links there are.
            Some(_) if amdgpu.parts > 1 => drop(gpu.nvlinks.insert(other.address.pci(), 1)),
            Some(count) => drop(gpu.nvlinks.insert(other.address.pci(), count)),
            None => {}
        }
    }
    gpu.kfd = Some(kfd);
}

fn nics(declared: &Declared) -> Vec<Nic> {
    let all = declared
        .functions()
        .into_iter()
        .filter(|function| function.role == Role::Nic);
    let nic = |function: Function| {
        let place = declared
            .truth
            .nics
            .iter()
            .find(|place| place.at == function.address);
        let mut names = function
            .device
            .map(|device| device.names)
            .unwrap_or_default();
        names.sort_by_key(|name| !name.starts_with("mlx"));
        Nic {
            pci: function.address.pci(),
            vendor: function.model.ids.0,
            device: function.model.ids.1,
            ports: names
                .iter()
                .filter(|name| crate::root::is_rdma(name))
                .map(|name| RdmaPort {
                    device: name.clone(),
                    port: 1,
                    speed_mbit_s: None,
                })
                .collect(),
            names,
            aside: None,
            locality: match place {
                Some(place) => locality(declared, place),
                None => by_numa_node(declared, function.node),
            },
        }
    };
    all.map(nic).collect()
}

fn locality(declared: &Declared, place: &Place) -> Locality {
    let named: Result<NumaSource, ValueError> =
        NumaSource::deserialize(place.by.as_str().into_deserializer());
    let numa_source =
        named.unwrap_or_else(|_| panic!("{}: \"{}\" is no rung", declared.name, place.by));
    let with_cpus = nodes(declared);
    Locality {
        package: place.package,
        numa_nodes: place
            .nodes
            .as_ref()
            .map(|nodes| nodes.0.iter().copied().collect()),
        numa_source,
        nearest_cpus: place
            .nearest
            .as_ref()
            .map(|cpus| cpus.0.iter().copied().collect()),
        cpus: place.nodes.as_ref().map(|nodes| {
            let own = with_cpus.iter().filter(|(id, _)| nodes.0.contains(id));
            own.flat_map(|(_, cpus)| cpus.iter().copied()).collect()
        }),
    }
}

/// Where a device is whose firmware says so, and rightly.
fn by_numa_node(declared: &Declared, node: i32) -> Locality {
    let with_cpus: Vec<_> = nodes(declared)
        .into_iter()
        .filter(|(_, cpus)| !cpus.is_empty())
        .collect();
    let only = with_cpus.first().filter(|_| with_cpus.len() == 1);
    let named = with_cpus
        .iter()
        .find(|(id, _)| i32::try_from(*id) == Ok(node));
    let Some((id, cpus)) = only.or(named) else {
        return Locality::default();
    };
    let packages = packages_of(declared, cpus);
    Locality {
        package: packages.first().copied().filter(|_| packages.len() == 1),
        numa_nodes: Some(NodeSet::single(*id)),
        numa_source: if only.is_some() {
            NumaSource::OneNode
        } else {
            NumaSource::NumaNode
        },
        nearest_cpus: None,
        cpus: Some(cpus.iter().copied().collect()),
    }
}

/// What each GPU tells NVML of its links: to which end, and how many.
pub(crate) fn said(declared: &Declared) -> BTreeMap<PciAddress, Links> {
    let Some(nvlink) = &declared.nvlink else {
        return BTreeMap::new();
    };
    let gpus = declared.gpus();
    let own = |gpu: &Function| -> Links {
        let at = gpu.address;
        if nvlink.without.contains(&at) {
            return Links::new();
        }
        let switches = nvlink.switches.iter();
        let switched = switches.map(|(switch, links)| (switch.pci(), *links));
        let direct = nvlink.direct.iter().filter_map(|(a, b, count)| match at {
            _ if at == *a => Some((b.pci(), *count)),
            _ if at == *b => Some((a.pci(), *count)),
            _ => None,
        });
        switched.chain(direct).collect()
    };
    gpus.iter()
        .filter(|gpu| gpu.model.ids.0 == 0x10de)
        .map(|gpu| (gpu.address.pci(), own(gpu)))
        .collect()
}

/// Adds what NVML tells: links, by the pairs of the truth, and MIG instances.
pub(crate) fn add_nvml(declared: &Declared, machine: &mut Machine) {
    machine.nvlink_visible = declared.nvlink.is_some();
    let addresses: Vec<PciAddress> = machine.gpus.iter().map(|gpu| gpu.pci).collect();
    for (gpu, row) in machine.gpus.iter_mut().zip(&declared.truth.pairs) {
        for (other, word) in addresses.iter().zip(row.split_whitespace()) {
            if let Some((links, _)) = word.split_once('/') {
                let count = links
                    .strip_prefix("NV")
                    .and_then(|count| count.parse().ok());
                gpu.nvlinks.insert(*other, count.expect("NV and a number"));
            }
        }
        let driver = declared.driver.iter().flat_map(|driver| &driver.mig);
        for mig in driver.filter(|mig| mig.gpu.pci() == gpu.pci) {
            gpu.mig.push(MigInstance {
                uuid: mig.uuid.clone(),
                gpu_instance: Some(mig.instance.0),
                compute_instance: Some(mig.instance.1),
            });
        }
    }
}
