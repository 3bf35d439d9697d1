//! PCI devices as hwloc hangs them.

use std::collections::BTreeMap;

use hwlocality::Topology;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::{
    BridgeAttributes, DownstreamAttributes, ObjectAttributes, PCIDeviceAttributes,
    UpstreamAttributes,
};
use hwlocality::object::types::{BridgeType, ObjectType};
use topology::machine::{Gpu, KfdGpu, KfdNode, Locality, MAX_PARTS, Machine, Nic};
use topology::pci::{CLASS_BRIDGE, DeviceKind, Link, PciAddress, PciDevice};
use topology::set::NodeSet;

use super::{set, text};

/// PCI devices that matter and the bridges above them.
pub(super) fn add_devices(topology: &Topology, machine: &mut Machine) {
    let mut devices: BTreeMap<PciAddress, PciDevice> = BTreeMap::new();
    for object in topology.objects_with_type(ObjectType::PCIDevice) {
        let Some(ObjectAttributes::PCIDevice(pci)) = object.attributes() else {
            continue;
        };
        let device = device(object, pci);
        match device.kind() {
            DeviceKind::Gpu => machine.gpus.push(gpu(object, &device)),
            DeviceKind::Nic => machine.nics.push(Nic {
                pci: device.address,
                vendor: device.vendor,
                device: device.device,
                names: os_devices(object)
                    .filter_map(|os| text(os.name()))
                    .collect(),
                ports: Vec::new(),
                aside: None,
                locality: Locality::default(),
            }),
            DeviceKind::Bridge | DeviceKind::Other => continue,
        }
        devices.insert(device.address, device);
        for bridge in object.ancestors() {
            if let Some((bridge, pci)) = upstream(bridge) {
                devices
                    .entry(address(pci))
                    .or_insert_with(|| self::device(bridge, pci));
            }
        }
    }
    let bridges = topology.objects_with_type(ObjectType::Bridge);
    let odd = bridges
        .filter_map(as_bridge)
        .filter(|bridge| !leads_to_pci(bridge))
        .count();
    if odd > 0 {
        machine.remarks.push(format!(
            "hwloc: bridges that lead to no PCI bus: {odd}; the root buses below them are left out"
        ));
    }
    machine.pci = devices.into_values().collect();
    machine.gpus.sort_by_key(|gpu| gpu.pci);
    machine.gpus.dedup_by_key(|gpu| gpu.pci);
    machine.nics.sort_by_key(|nic| nic.pci);
    machine.nics.dedup_by_key(|nic| nic.pci);
}

fn as_bridge(object: &TopologyObject) -> Option<&BridgeAttributes> {
    match object.attributes() {
        Some(ObjectAttributes::Bridge(bridge)) => Some(bridge),
        Some(_) | None => None,
    }
}

/// Whether a PCI bus is below the bridge.  A file may say otherwise, and then hwlocality 1.0.0-alpha.13 panics when it is
/// asked what is (docs/hwlocality.patch).
fn leads_to_pci(bridge: &BridgeAttributes) -> bool {
    bridge.downstream_type() == BridgeType::PCI
}

/// The PCI side of a bridge that is a PCI device itself.
fn upstream(object: &TopologyObject) -> Option<(&TopologyObject, &PCIDeviceAttributes)> {
    match as_bridge(object)?.upstream_attributes() {
        Some(UpstreamAttributes::PCI(pci)) => Some((object, pci)),
        None => None,
    }
}

pub(super) fn address(pci: &PCIDeviceAttributes) -> PciAddress {
    PciAddress {
        domain: u32::from(pci.domain()),
        bus: pci.bus_id(),
        device: pci.bus_device(),
        function: pci.function(),
    }
}

fn device(object: &TopologyObject, pci: &PCIDeviceAttributes) -> PciDevice {
    let parent = object
        .ancestors()
        .find_map(upstream)
        .map(|(_, pci)| address(pci));
    let is_bridge = object.object_type() == ObjectType::Bridge;
    let subsystem = (pci.subvendor_id(), pci.subdevice_id());
    let bandwidth = f64::from(pci.link_speed());
    let holder = object
        .first_non_io_ancestor()
        .filter(|holder| holder.object_type() != ObjectType::Machine);
    let attached_nodes: Option<NodeSet> = holder
        .and_then(TopologyObject::nodeset)
        .map(|nodes| set(nodes.into_iter().map(usize::from)));
    PciDevice {
        address: address(pci),
        parent,
        root_bus: object.ancestors().find_map(host_bus),
        class: if is_bridge {
            CLASS_BRIDGE
        } else {
            u32::from(pci.class_id()) << 8
        },
        vendor: pci.vendor_id(),
        device: pci.device_id(),
        subsystem: (subsystem != (0, 0)).then_some(subsystem),
        link: Link {
            current_bandwidth_gb_s: (bandwidth.is_finite() && bandwidth > 0.0).then_some(bandwidth),
            ..Link::default()
        },
        numa_node: None,
        local_cpus: attached_nodes
            .as_ref()
            .filter(|nodes| nodes.is_empty())
            .and(holder)
            .map(super::cpus_of),
        attached_nodes: attached_nodes.filter(|nodes| !nodes.is_empty()),
        attached_cpus: holder
            .filter(|holder| holder.object_type().is_cpu_cache())
            .map(super::cpus_of),
    }
}

/// Domain and bus below a host bridge.
fn host_bus(object: &TopologyObject) -> Option<(u32, u8)> {
    let bridge = as_bridge(object)?;
    if bridge.upstream_attributes().is_some() || !leads_to_pci(bridge) {
        return None;
    }
    let Some(DownstreamAttributes::PCI(bus)) = bridge.downstream_attributes() else {
        return None;
    };
    Some((u32::from(bus.domain()), bus.secondary_bus()))
}

fn os_devices(object: &TopologyObject) -> impl Iterator<Item = &TopologyObject> {
    object
        .io_children()
        .filter(|child| child.object_type() == ObjectType::OSDevice)
}

fn gpu(object: &TopologyObject, device: &PciDevice) -> Gpu {
    let info = |name: &str| os_devices(object).find_map(|os| text(os.info(name)));
    let mut gpu = Gpu {
        uuid: info("NVIDIAUUID").filter(|uuid| uuid.starts_with("GPU-")),
        name: info("GPUModel"),
        ..Gpu::of(device)
    };
    if gpu
        .maker()
        .is_some_and(|maker| maker.driver.topology.is_some())
    {
        add_parts(object, &mut gpu);
    }
    gpu
}

/// What hwloc says of an AMD GPU where ROCm's SMI library was asked: its unique id, and one device for each part of a GPU
/// that is divided (hwloc, topology-rsmi.c; "AMDUUID" is `rsmi_dev_unique_id_get` in hexadecimal).
fn add_parts(object: &TopologyObject, gpu: &mut Gpu) {
    let is_rsmi = |os: &&TopologyObject| text(os.subtype()).is_some_and(|kind| kind == "RSMI");
    let parts: Vec<Option<String>> = os_devices(object)
        .filter(is_rsmi)
        .take(MAX_PARTS)
        .map(|os| uuid_of(&text(os.info("AMDUUID"))?))
        .collect();
    if gpu.uuid.is_none() {
        gpu.uuid = parts.first().cloned().flatten();
    }
    if parts.len() > 1 {
        let nodes = parts.into_iter().map(|uuid| KfdNode {
            uuid,
            ..KfdNode::default()
        });
        gpu.kfd = Some(KfdGpu {
            nodes: nodes.collect(),
            ..KfdGpu::default()
        });
    }
}

/// A unique id as AMD's runtime writes it; none for 0, which stands for none, and for the ids of another kind that AMD SMI makes.
fn uuid_of(hexadecimal: &str) -> Option<String> {
    let number = u64::from_str_radix(hexadecimal, 16).ok()?;
    topology::sysfs::kfd_uuid(number)
}
