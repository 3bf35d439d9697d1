//! Buses, ACPI's SRAT and SMBIOS, for devices that their own files do not place.

use super::dmi::{self, Dmi};
use super::files::Root;
use super::pci::{Around, read_around};
use super::srat::Srat;
use crate::firmware::{Firmware, RootBus};
use crate::machine::Machine;
use crate::pci::PciDevice;

const SRAT: &str = "sys/firmware/acpi/tables/SRAT";
const DMI_TABLE: &str = "sys/firmware/dmi/tables/DMI";
const DMI_ENTRIES: &str = "sys/firmware/dmi/entries";
/// What is read of one table at most; an SRAT has 24 bytes a processor.
const MAX_TABLE_BYTES: u64 = 1 << 20;
/// Single DMI entries read at most, where the whole table is not there.
const MAX_ENTRIES: usize = 1024;

/// Reads what the higher rungs of the ladder need, if any GPU or NIC needs them.
///
/// SRAT and SMBIOS are root's alone to read; to others they seem not to be there.
pub(super) fn read(root: Root<'_>, machine: &Machine) -> Option<Firmware> {
    let nodes = machine.cpu_nodes();
    let is_placed = |device: &PciDevice| {
        let node = device.numa_node.and_then(|node| u32::try_from(node).ok());
        node.is_some_and(|node| nodes.contains(node))
    };
    let gpus = machine.gpus.iter().map(|gpu| gpu.pci);
    let mut devices = gpus.chain(machine.nics.iter().map(|nic| nic.pci));
    let all_placed = devices.all(|pci| machine.device(pci).is_some_and(is_placed));
    if nodes.len() < 2 || all_placed {
        return None;
    }
    let around = read_around(root, &machine.pci);
    let Dmi {
        mut slots,
        processors,
    } = read_dmi(root);
    for slot in &mut slots {
        slot.root_bus = around.root_bus_of.get(&slot.address).copied();
    }
    let srat = root
        .bytes_up_to(SRAT, MAX_TABLE_BYTES)
        .and_then(|table| Srat::parse(&table));
    Some(Firmware {
        initiators: srat.map_or_else(Vec::new, |srat| srat.initiators(&machine.numa_nodes)),
        slots,
        processors,
        root_buses: read_root_buses(root, &around),
        below: around.below,
    })
}

fn read_root_buses(root: Root<'_>, around: &Around) -> Vec<RootBus> {
    let read = |(bus, nodes): (&(u32, u8), &_)| {
        let name = format!("{:04x}:{:02x}", bus.0, bus.1);
        let bridge = format!("sys/devices/pci{name}");
        let affinity = format!("{bridge}/pci_bus/{name}");
        RootBus {
            bus: *bus,
            nodes: Clone::clone(nodes),
            numa_node: root.number(&format!("{bridge}/numa_node")),
            cpus: root.set(
                &format!("{affinity}/cpulistaffinity"),
                &format!("{affinity}/cpuaffinity"),
            ),
        }
    };
    around.root_buses.iter().map(read).collect()
}

/// The whole table, else the single entries of the types that matter.
fn read_dmi(root: Root<'_>) -> Dmi {
    let mut dmi = Dmi::default();
    if let Some(table) = root.bytes_up_to(DMI_TABLE, MAX_TABLE_BYTES) {
        dmi.parse(&table);
        return dmi;
    }
    let of_a_type = |name: &&String| {
        let kind = name.split('-').next().and_then(|kind| kind.parse().ok());
        kind.is_some_and(|kind: u8| dmi::TYPES.contains(&kind))
    };
    let names = root.entries(DMI_ENTRIES);
    for name in names.iter().filter(of_a_type).take(MAX_ENTRIES) {
        if let Some(entry) = root.bytes_up_to(&format!("{DMI_ENTRIES}/{name}/raw"), 4096) {
            dmi.parse(&entry);
        }
    }
    dmi
}
