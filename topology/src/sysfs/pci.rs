//! The PCI side: GPUs, NICs and the bridges above them.

use std::collections::{BTreeMap, BTreeSet};

use super::files::Root;
use crate::machine::{NicAside, RdmaPort};
use crate::pci::{DeviceKind, Link, PciAddress, PciDevice};
use crate::set::NodeSet;
use crate::text;
use crate::vendor::may_be_gpu;

const DEVICES: &str = "sys/bus/pci/devices";
/// How deep `pciDDDD:BB` directories are searched when `/sys/bus/pci` is not there.
const MAX_DEPTH: usize = 24;

/// A device as found: its directory, and what that directory's path says.
#[derive(Debug, Clone, Default)]
struct Place {
    /// Relative to the root.
    dir: String,
    parent: Option<PciAddress>,
    root_bus: Option<(u32, u8)>,
}

/// PCI devices and the names of NICs.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// GPUs, NICs and bridges above them, by address.
    pub(super) devices: BTreeMap<PciAddress, PciDevice>,
    /// The folders of the GPUs, relative to the root.
    pub(super) gpu_folders: BTreeMap<PciAddress, String>,
    /// Interface names of the NICs.
    pub(super) nic_names: BTreeMap<PciAddress, Vec<String>>,
    /// Ports of the NICs' RDMA devices.
    pub(super) nic_ports: BTreeMap<PciAddress, Vec<RdmaPort>>,
    /// NICs that jobs send no data by.
    pub(super) nics_aside: BTreeMap<PciAddress, NicAside>,
}

/// Reads what is under `/sys`; where no vendor is recorded a device is of the vendor whose driver has it.
pub(super) fn read(
    root: Root<'_>,
    drivers: &BTreeMap<PciAddress, super::driver::DriverGpu>,
) -> Found {
    let places = find(root);
    let mut found = Found::default();
    let mut parts = Vec::new();
    for (address, place) in &places {
        let class = root.hex(&format!("{}/class", place.dir)).unwrap_or(0);
        let vendor = read_id(root, &format!("{}/vendor", place.dir))
            .or_else(|| Some(drivers.get(address)?.vendor))
            .unwrap_or(0);
        // Of a host's hundreds of functions few are asked which model they are.
        let model = if may_be_gpu(class) {
            read_id(root, &format!("{}/device", place.dir)).unwrap_or(0)
        } else {
            0
        };
        match PciDevice::new(*address, class, vendor, model).kind() {
            DeviceKind::Gpu if whole_of(root, place, &places).is_some() => continue,
            DeviceKind::Gpu => {
                found.gpu_folders.insert(*address, place.dir.clone());
            }
            DeviceKind::Nic => {
                let ports = read_nic_ports(root, &place.dir);
                let whole = whole_of(root, place, &places);
                // One with a port that is up is this host's to use, as NCCL does.
                if ports.is_empty() && whole.is_some() {
                    continue;
                }
                parts.extend(whole.map(|whole| (*address, whole)));
                let names = read_nic_names(root, &place.dir);
                if ports.is_empty() && is_down(root, &place.dir) {
                    found.nics_aside.insert(*address, NicAside::Down);
                }
                found.nic_names.insert(*address, names);
                found.nic_ports.insert(*address, ports);
            }
            DeviceKind::Bridge | DeviceKind::Other => continue,
        }
        let device = read_device(root, *address, place, class, vendor);
        found.devices.insert(*address, device);
    }
    for (part, whole) in parts {
        let is_up = found
            .nic_ports
            .get(&whole)
            .is_some_and(|ports| !ports.is_empty());
        if is_up {
            found.nics_aside.insert(part, NicAside::VirtualFunction);
        }
    }
    add_bridges(root, &places, &mut found);
    found
}

/// The device that it is a virtual function of, if that is there too, as on a host that gives parts of its GPUs and NICs to
/// virtual machines; inside such a machine the part is a GPU or a NIC.
fn whole_of(
    root: Root<'_>,
    place: &Place,
    places: &BTreeMap<PciAddress, Place>,
) -> Option<PciAddress> {
    let physical = root.link(&format!("{}/physfn", place.dir));
    let name = physical
        .as_deref()
        .and_then(|path| path.file_name()?.to_str());
    let address = name.and_then(|name| name.parse::<PciAddress>().ok());
    address.filter(|address| places.contains_key(address))
}

/// Adds whatever is above a device that was kept.
fn add_bridges(root: Root<'_>, places: &BTreeMap<PciAddress, Place>, found: &mut Found) {
    let mut todo: Vec<PciAddress> = found.devices.values().filter_map(|d| d.parent).collect();
    while let Some(address) = todo.pop() {
        let Some(place) = places.get(&address) else {
            continue;
        };
        if found.devices.contains_key(&address) {
            continue;
        }
        let class = root.hex(&format!("{}/class", place.dir)).unwrap_or(0);
        let vendor = read_id(root, &format!("{}/vendor", place.dir)).unwrap_or(0);
        let device = read_device(root, address, place, class, vendor);
        todo.extend(device.parent);
        found.devices.insert(address, device);
    }
}

/// What the functions around some devices say of nodes, and the root bus of each function.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// As [`crate::firmware::Firmware::below`].
    pub(super) below: BTreeMap<PciAddress, NodeSet>,
    /// The nodes that functions name, by root bus.
    pub(super) root_buses: BTreeMap<(u32, u8), NodeSet>,
    /// The root bus of every function.
    pub(super) root_bus_of: BTreeMap<PciAddress, (u32, u8)>,
}

/// Reads the `numa_node` of every PCI function, for the bridges of `kept` and for every root bus.
pub(super) fn read_around(root: Root<'_>, kept: &[PciDevice]) -> Around {
    let bridges: BTreeSet<PciAddress> = kept.iter().filter_map(|device| device.parent).collect();
    let places = find(root);
    let mut around = Around::default();
    for (address, place) in &places {
        let named: Option<u32> = root.number(&format!("{}/numa_node", place.dir));
        if let Some(bus) = place.root_bus {
            around.root_bus_of.insert(*address, bus);
            let nodes = around.root_buses.entry(bus).or_default();
            named.into_iter().for_each(|node| nodes.insert(node));
        }
        let mut at = Some(*address);
        for _ in 0..MAX_DEPTH {
            let (Some(bridge), Some(node)) = (at, named) else {
                break;
            };
            if bridges.contains(&bridge) {
                around.below.entry(bridge).or_default().insert(node);
            }
            at = places.get(&bridge).and_then(|place| place.parent);
        }
    }
    around
}

/// Every PCI function, from `/sys/bus/pci/devices`, failing that from `/sys/devices/pci*`.
fn find(root: Root<'_>) -> BTreeMap<PciAddress, Place> {
    let listed: BTreeMap<_, _> = root
        .entries(DEVICES)
        .iter()
        .filter_map(|name| Some((name.parse().ok()?, place_of(root, name))))
        .collect();
    if !listed.is_empty() {
        return listed;
    }
    let mut walked = BTreeMap::new();
    for name in root.entries("sys/devices") {
        if parse_root_bus(&name).is_some() {
            walk(root, &format!("sys/devices/{name}"), MAX_DEPTH, &mut walked);
        }
    }
    walked
}

/// The real directory of `/sys/bus/pci/devices/NAME`, taken from the text of that link.
///
/// A link that leads elsewhere than into `/sys/devices` is not followed.
fn place_of(root: Root<'_>, name: &str) -> Place {
    let entry = format!("{DEVICES}/{name}");
    let target = root.link(&entry);
    let target = target.as_deref().and_then(|path| path.to_str());
    match target.and_then(|text| text.split_once("devices/")) {
        Some((up, path)) if up.trim_start_matches("../").is_empty() && !path.contains("..") => {
            parse_path(format!("sys/devices/{path}"))
        }
        Some(_) | None => Place {
            dir: entry,
            ..Place::default()
        },
    }
}

fn walk(root: Root<'_>, dir: &str, depth: usize, found: &mut BTreeMap<PciAddress, Place>) {
    for name in root.entries(dir) {
        let path = format!("{dir}/{name}");
        let inner = name.parse::<PciAddress>();
        let is_dir = root.kind(&path).is_some_and(|kind| kind.is_dir());
        if !is_dir || (inner.is_err() && parse_root_bus(&name).is_none()) {
            continue;
        }
        if let Ok(address) = inner {
            found.insert(address, parse_path(path.clone()));
        }
        if depth > 0 {
            walk(root, &path, depth - 1, found);
        }
    }
}

/// Parent and root bus from `sys/devices/pci0000:20/0000:20:00.0/0000:21:00.0`.
///
/// Behind Intel VMD a second `pci10000:00` follows further down; the last one counts.
fn parse_path(dir: String) -> Place {
    let mut above: Vec<PciAddress> = dir
        .split('/')
        .filter_map(|part| part.parse().ok())
        .collect();
    above.pop();
    let root_bus = dir.split('/').rev().find_map(parse_root_bus);
    Place {
        parent: above.pop(),
        root_bus,
        dir,
    }
}

/// Domain and bus of `pci0000:20`.
fn parse_root_bus(name: &str) -> Option<(u32, u8)> {
    let (domain, bus) = name.strip_prefix("pci")?.split_once(':')?;
    Some((
        u32::from_str_radix(domain, 16).ok()?,
        u8::from_str_radix(bus, 16).ok()?,
    ))
}

fn read_id(root: Root<'_>, file: &str) -> Option<u16> {
    u16::try_from(root.hex(file)?).ok()
}

fn read_device(
    root: Root<'_>,
    address: PciAddress,
    place: &Place,
    class: u32,
    vendor: u16,
) -> PciDevice {
    let file = |name: &str| format!("{}/{name}", place.dir);
    let subsystem = read_id(root, &file("subsystem_vendor"))
        .zip(read_id(root, &file("subsystem_device")))
        .filter(|ids| *ids != (0, 0));
    PciDevice {
        address,
        parent: place.parent,
        root_bus: place.root_bus,
        class,
        vendor,
        device: read_id(root, &file("device")).unwrap_or(0),
        subsystem,
        link: Link {
            max_speed_gts: root
                .text(&file("max_link_speed"))
                .and_then(|t| parse_speed(&t)),
            max_width: root
                .text(&file("max_link_width"))
                .and_then(|t| parse_width(&t)),
            current_speed_gts: root
                .text(&file("current_link_speed"))
                .and_then(|t| parse_speed(&t)),
            current_width: root
                .text(&file("current_link_width"))
                .and_then(|t| parse_width(&t)),
            ..Link::default()
        },
        numa_node: root.number(&file("numa_node")),
        local_cpus: root.set(&file("local_cpulist"), &file("local_cpus")),
        attached_nodes: None,
        attached_cpus: None,
    }
}

/// GT/s of `32.0 GT/s PCIe`, `8 GT/s`; none for `Unknown speed`.
pub fn parse_speed(text: &str) -> Option<f64> {
    let (number, unit) = text.trim().split_once(' ')?;
    let speed: f64 = number.parse().ok()?;
    (unit.starts_with("GT/s") && speed.is_finite() && speed > 0.0).then_some(speed)
}

/// Lanes; Linux writes 0 and 255 for unknown.
pub fn parse_width(text: &str) -> Option<u32> {
    text.trim()
        .parse()
        .ok()
        .filter(|lanes| (1..=32).contains(lanes))
}

/// RDMA devices, Slingshot's (`cxi0`), and interfaces.
fn read_nic_names(root: Root<'_>, dir: &str) -> Vec<String> {
    let mut names = root.entries(&format!("{dir}/infiniband"));
    names.extend(root.entries(&format!("{dir}/cxi")));
    names.extend(interfaces(root, dir).into_iter().map(|(_, name)| name));
    names.iter().map(|name| text::plain(name)).collect()
}

/// The interfaces of a NIC, each with the folder that it is in: a virtio device stands between one of these and its function.
fn interfaces(root: Root<'_>, dir: &str) -> Vec<(String, String)> {
    let virtio = root.entries(dir).into_iter();
    let virtio = virtio.filter(|name| name.starts_with("virtio"));
    let folders = virtio.map(|name| format!("{dir}/{name}/net"));
    std::iter::once(format!("{dir}/net"))
        .chain(folders)
        .flat_map(|folder| {
            let names = root.entries(&folder).into_iter();
            names.map(move |name| (folder.clone(), name))
        })
        .collect()
}

/// Whether the kernel says of a NIC without an RDMA port that is up that it is down: of its RDMA device's ports, or of all of
/// its interfaces (`operstate`; drivers that do not tell write `unknown`).
fn is_down(root: Root<'_>, dir: &str) -> bool {
    let states: Vec<Option<String>> = interfaces(root, dir)
        .iter()
        .map(|(folder, name)| root.text(&format!("{folder}/{name}/operstate")))
        .collect();
    let is_off = |state: &Option<String>| {
        let state = state.as_deref().map(str::trim);
        matches!(state, Some("down" | "lowerlayerdown" | "notpresent"))
    };
    let has_device = !root.entries(&format!("{dir}/infiniband")).is_empty();
    states.iter().all(is_off) && (has_device || !states.is_empty())
}

/// The ports of a NIC's RDMA devices that are up, or of which it is not recorded whether they are; port 1 of a
/// device without a record of its ports.
fn read_nic_ports(root: Root<'_>, dir: &str) -> Vec<RdmaPort> {
    let mut ports = Vec::new();
    for device in root.entries(&format!("{dir}/infiniband")) {
        let folder = format!("{dir}/infiniband/{device}/ports");
        let mut numbers = root.numbered(&folder, "");
        if numbers.is_empty() {
            numbers.push(1);
        }
        for port in numbers {
            let state = root.text(&format!("{folder}/{port}/state"));
            let is_down = state.is_some_and(|state| !state.contains("ACTIVE"));
            if is_down {
                continue;
            }
            let rate = root.text(&format!("{folder}/{port}/rate"));
            ports.push(RdmaPort {
                device: device.clone(),
                port,
                speed_mbit_s: rate.as_deref().and_then(parse_rate),
            });
        }
    }
    ports
}

/// Mbit/s of `400 Gb/sec (4X NDR)`, `2.5 Gb/sec (1X SDR)`; absent for what is no rate.
fn parse_rate(text: &str) -> Option<u32> {
    let (number, _) = text.trim().split_once(" Gb/sec")?;
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u32 = whole.parse().ok()?;
    let tenths: u32 = tenths.get(..1)?.parse().ok()?;
    let mbit = whole.checked_mul(1000)?.checked_add(tenths * 100)?;
    (mbit > 0).then_some(mbit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_gives_parent_and_root_bus() {
        let place = parse_path("sys/devices/pci0000:20/0000:20:00.0/0000:21:00.0".to_owned());
        assert_eq!(place.parent, "0000:20:00.0".parse().ok());
        assert_eq!(place.root_bus, Some((0, 0x20)));
        let top = parse_path("sys/devices/pci0000:20/0000:20:00.0".to_owned());
        assert_eq!(top.parent, None);
    }

    #[test]
    fn behind_vmd_the_inner_root_bus_counts() {
        let place = parse_path(
            "sys/devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0"
                .to_owned(),
        );
        assert_eq!(place.root_bus, Some((0x10000, 0xe0)));
        assert_eq!(place.parent, "10000:e0:06.0".parse().ok());
    }

    #[test]
    fn links_are_read_in_every_spelling() {
        assert_eq!(parse_speed("32.0 GT/s PCIe"), Some(32.0));
        assert_eq!(parse_speed("8 GT/s"), Some(8.0));
        assert_eq!(parse_speed("Unknown speed"), None);
        assert_eq!(parse_rate("400 Gb/sec (4X NDR)"), Some(400_000));
        assert_eq!(parse_rate("2.5 Gb/sec (1X SDR)"), Some(2_500));
        assert_eq!(parse_rate("-1"), None);
        assert_eq!(
            (parse_width("16"), parse_width("0"), parse_width("255")),
            (Some(16), None, None)
        );
    }
}
