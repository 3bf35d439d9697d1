//! SMBIOS: slots and onboard devices with their bus address, and what processors are called.
//!
//! DSP0134 3.6, 7.5 (processor), 7.10 (slot) and 7.42 (onboard device).

use super::bytes::{u8_at, u16_at};
use crate::firmware::Slot;
use crate::pci::PciAddress;

/// Structures taken at most.
const MAX_STRUCTURES: usize = 4096;
/// The longest designation kept.
const MAX_TEXT_BYTES: usize = 80;

const PROCESSOR: u8 = 4;
const SLOT: u8 = 9;
const ONBOARD: u8 = 41;
const END: u8 = 127;

/// The structure types that [`Dmi::parse`] takes something from.
pub(super) const TYPES: [u8; 3] = [PROCESSOR, SLOT, ONBOARD];

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Dmi {
    /// Slots and onboard devices with a bus address.
    pub(super) slots: Vec<Slot>,
    /// Socket designations of populated processors.
    pub(super) processors: Vec<String>,
}

impl Dmi {
    /// Takes structures one after the other; what is cut short ends it.
    pub(super) fn parse(&mut self, table: &[u8]) {
        let mut rest = table;
        for _ in 0..MAX_STRUCTURES {
            let length = usize::from(u8_at(rest, 1).unwrap_or(0));
            let Some((formatted, after)) = rest.split_at_checked(length).filter(|_| length >= 4)
            else {
                return;
            };
            let end = after.windows(2).position(|pair| pair == [0, 0]);
            let (strings, after) = after.split_at(end.unwrap_or(after.len()));
            match u8_at(formatted, 0) {
                Some(PROCESSOR) => self.add_processor(formatted, strings),
                Some(SLOT) => self.add_slot(formatted, strings, 0x0d),
                Some(ONBOARD) => self.add_slot(formatted, strings, 0x07),
                Some(END) | None => return,
                Some(_) => {}
            }
            rest = after.get(2..).unwrap_or_default();
        }
    }

    /// Bit 6 of the status says that the socket is populated; early structures have no status.
    fn add_processor(&mut self, formatted: &[u8], strings: &[u8]) {
        let is_populated = u8_at(formatted, 0x18).is_none_or(|status| status & 0x40 != 0);
        if let Some(name) = designation(formatted, strings).filter(|_| is_populated) {
            self.processors.push(name);
        }
    }

    /// Segment group, bus, device and function stand at `at`; all ones, or all zero, is "none".
    fn add_slot(&mut self, formatted: &[u8], strings: &[u8], at: usize) {
        let address = || {
            let (bus, devfn) = (u8_at(formatted, at + 2)?, u8_at(formatted, at + 3)?);
            let is_given = (bus, devfn) != (0xff, 0xff) && (bus, devfn) != (0, 0);
            is_given.then_some(PciAddress {
                domain: u32::from(u16_at(formatted, at)?),
                bus,
                device: devfn >> 3,
                function: devfn & 7,
            })
        };
        if let Some((designation, address)) = designation(formatted, strings).zip(address()) {
            self.slots.push(Slot {
                designation,
                address,
                root_bus: None,
            });
        }
    }
}

/// The string whose number is the first byte after the header, in printable ASCII.
fn designation(formatted: &[u8], strings: &[u8]) -> Option<String> {
    let number = usize::from(u8_at(formatted, 4)?).checked_sub(1)?;
    let bytes = strings.split(|byte| *byte == 0).nth(number)?;
    let text: String = bytes
        .iter()
        .take(MAX_TEXT_BYTES)
        .map(|byte| {
            if (b' '..=b'~').contains(byte) {
                char::from(*byte)
            } else {
                '?'
            }
        })
        .collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::sysfs) fn slot(designation: &str, bus: u8, devfn: u8) -> Vec<u8> {
        let mut bytes = vec![9, 0x13, 0, 9, 1, 0xb6, 0x0d, 4, 4, 1, 0, 0x0c, 1, 0, 0];
        bytes.extend([bus, devfn, 8, 0]);
        bytes.extend(designation.bytes().chain([0, 0]));
        bytes
    }

    fn processor(designation: &str, status: u8) -> Vec<u8> {
        let mut bytes = vec![4, 0x1a, 0, 4, 1];
        bytes.resize(0x1a, 0);
        bytes[0x18] = status;
        bytes.extend(designation.bytes().chain([0, 0]));
        bytes
    }

    #[test]
    fn slots_and_populated_processors_are_read() {
        let onboard = [41u8, 11, 0, 0x29, 2, 0x85, 1, 0, 0, 0x3b, 0x00];
        let mut table = processor("CPU1", 0x41);
        table.extend(processor("CPU2", 0x00));
        table.extend([130, 4, 0, 0, 0, 0]);
        table.extend(slot("CPU1 SLOT1\t", 0x26, 0x09));
        table.extend(slot("EMPTY", 0xff, 0xff));
        table.extend(onboard.iter().chain(b"vendor\0NIC1\0\0"));
        table.extend([127, 4, 0, 0, 0, 0]);
        table.extend(slot("after the end", 1, 0));
        let mut dmi = Dmi::default();
        dmi.parse(&table);
        assert_eq!(dmi.processors, ["CPU1"]);
        let found: Vec<_> = dmi
            .slots
            .iter()
            .map(|slot| format!("{} {}", slot.designation, slot.address))
            .collect();
        assert_eq!(found, ["CPU1 SLOT1? 0000:26:01.1", "NIC1 0000:3b:00.0"]);
    }

    #[test]
    fn a_table_cut_short_gives_what_is_whole() {
        let table = [slot("CPU1", 0x26, 8), slot("CPU2", 0xa6, 8)].concat();
        for end in 0..table.len() {
            let mut dmi = Dmi::default();
            dmi.parse(&table[..end]);
            assert!(dmi.slots.len() <= 2);
        }
        let mut dmi = Dmi::default();
        dmi.parse(&table[..30]);
        assert_eq!(dmi.slots.len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn odd_bytes_never_panic(
            bytes in proptest::collection::vec(0u8..=255, 0..200),
            kind in 0usize..3,
            length in 0u8..40,
        ) {
            Dmi::default().parse(&bytes);
            let mut structure = vec![TYPES[kind], length];
            structure.extend(bytes);
            Dmi::default().parse(&structure);
        }
    }
}
