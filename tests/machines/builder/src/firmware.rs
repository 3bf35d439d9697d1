//! Firmware's tables as bytes.

use crate::declared::{Dmi, Srat};
use crate::values::Address;

/// ACPI's SRAT (ACPI 6.4, 5.2.16): a processor for each domain in their order, then the initiators.
pub(crate) fn srat(srat: &Srat) -> Vec<u8> {
    let mut table = b"SRAT".to_vec();
    table.resize(48, 0);
    for (id, domain) in (0..).zip(&srat.domains) {
        // Processor Local x2APIC Affinity: type 2, 24 bytes.
        table.extend([2, 24, 0, 0]);
        table.extend(domain.to_le_bytes());
        table.extend(u32::to_le_bytes(id));
        table.extend(1_u32.to_le_bytes());
        table.extend([0; 8]);
    }
    for (device, domain) in &srat.initiators {
        // Generic Initiator Affinity: type 5, 32 bytes, handle type 1 for PCI.
        table.extend([5, 32, 0, 1]);
        table.extend(domain.to_le_bytes());
        table.extend(u16::try_from(device.domain).unwrap_or(0).to_le_bytes());
        table.extend([device.bus, device.devfn()]);
        table.extend([0; 12]);
        table.extend(1_u32.to_le_bytes());
        table.extend([0; 4]);
    }
    table
}

/// SMBIOS (DSP0134 3.6) structures: processors (7.5), slots (7.10), the end.
pub(crate) fn dmi(dmi: &Dmi) -> Vec<Vec<u8>> {
    let processors = dmi.processors.iter().map(|name| processor(name));
    let slots = dmi.slots.iter().map(|(name, address)| slot(name, *address));
    let end = vec![127, 4, 0, 0, 0, 0];
    processors.chain(slots).chain([end]).collect()
}

/// Status 0x41: populated and enabled.
fn processor(name: &str) -> Vec<u8> {
    let mut bytes = vec![4, 0x30, 0, 0, 1, 3];
    bytes.resize(0x30, 0);
    bytes[0x18] = 0x41;
    finish(bytes, name)
}

fn slot(name: &str, address: Address) -> Vec<u8> {
    let segment = u16::try_from(address.domain).unwrap_or(0).to_le_bytes();
    let mut bytes = vec![9, 0x13, 0, 0, 1, 0xb6, 0x0d, 4, 4, 1, 0, 0x0c, 1];
    bytes.extend(segment);
    bytes.extend([address.bus, address.devfn(), 8, 0]);
    finish(bytes, name)
}

/// The strings of a structure end with two NULs.
fn finish(mut bytes: Vec<u8>, name: &str) -> Vec<u8> {
    bytes.extend(name.bytes().chain([0, 0]));
    bytes
}
