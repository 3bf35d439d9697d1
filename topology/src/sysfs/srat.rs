//! ACPI's System Resource Affinity Table: which proximity domain a PCI device is in.
//!
//! ACPI 6.4, 5.2.16.  Linux numbers its nodes in the order in which it first meets a domain
//! (`drivers/acpi/numa/srat.c`, `acpi_map_pxm_to_node`), and that order was changed over the years, so
//! a domain's node counts as known only where every order gives the same.

use std::collections::BTreeMap;

use super::bytes::{u8_at, u16_at, u32_at};
use crate::firmware::Initiator;
use crate::machine::NumaNode;
use crate::pci::PciAddress;

/// Where the structures begin.
const HEADER_BYTES: usize = 48;
/// Structures taken at most: a processor each, some memory, some devices.
const MAX_STRUCTURES: usize = 64 * 1024;

/// What names a domain, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Apic,
    X2Apic,
    Gicc,
    Memory,
    Initiator,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Srat {
    named: Vec<(Names, u32)>,
    devices: Vec<(PciAddress, u32)>,
}

impl Srat {
    /// Reads a table; what is cut short or switched off is left out.
    pub(super) fn parse(table: &[u8]) -> Option<Self> {
        let mut rest = table
            .strip_prefix(b"SRAT")
            .and_then(|_| table.get(HEADER_BYTES..))?;
        let mut srat = Self::default();
        for _ in 0..MAX_STRUCTURES {
            let length = usize::from(u8_at(rest, 1).unwrap_or(0));
            let Some((structure, after)) = rest.split_at_checked(length).filter(|_| length >= 2)
            else {
                break;
            };
            let _ = srat.add(structure);
            rest = after;
        }
        Some(srat)
    }

    fn add(&mut self, structure: &[u8]) -> Option<()> {
        let enabled = |at| u32_at(structure, at).filter(|flags| flags & 1 == 1);
        let named = match u8_at(structure, 0)? {
            0 => {
                enabled(4)?;
                let high = u32_at(structure, 8)? & 0xffff_ff00;
                (Names::Apic, high | u32::from(u8_at(structure, 2)?))
            }
            1 => {
                enabled(28)?;
                (Names::Memory, u32_at(structure, 2)?)
            }
            2 => {
                enabled(12)?;
                (Names::X2Apic, u32_at(structure, 4)?)
            }
            3 => {
                enabled(10)?;
                (Names::Gicc, u32_at(structure, 2)?)
            }
            5 => {
                enabled(24)?;
                let domain = u32_at(structure, 4)?;
                if u8_at(structure, 3)? == 1 {
                    self.devices.push((handle(structure)?, domain));
                }
                (Names::Initiator, domain)
            }
            _ => return None,
        };
        self.named.push(named);
        Some(())
    }

    /// The devices with their domain's node, against the nodes that Linux has.
    pub(super) fn initiators(&self, nodes: &[NumaNode]) -> Vec<Initiator> {
        let map = self.nodes_of_domains(nodes);
        self.devices
            .iter()
            .map(|(device, domain)| Initiator {
                device: *device,
                domain: *domain,
                node: map.get(domain).copied(),
            })
            .collect()
    }

    /// The node of each domain, where it is certain; nothing when the table does not fit the nodes.
    fn nodes_of_domains(&self, nodes: &[NumaNode]) -> BTreeMap<u32, u32> {
        use Names::{Apic, Gicc, Initiator, Memory, X2Apic};
        // Since 4.x in table order; before that a kind after the other; before 5.10 no initiators.
        let orders = [
            self.numbered(&[&[Apic, X2Apic, Gicc, Initiator], &[Memory]]),
            self.numbered(&[&[Apic, X2Apic, Gicc], &[Memory], &[Initiator]]),
            self.numbered(&[&[X2Apic], &[Apic], &[Gicc], &[Memory], &[Initiator]]),
            self.numbered(&[&[Apic], &[X2Apic], &[Gicc], &[Memory], &[Initiator]]),
        ];
        let [mut map, others @ ..] = orders;
        map.retain(|domain, node| others.iter().all(|other| other.get(domain) == Some(node)));
        let with_cpus = |domain: u32| {
            self.named
                .iter()
                .any(|(names, named)| *named == domain && matches!(names, Apic | X2Apic | Gicc))
        };
        let fits = nodes
            .iter()
            .filter(|node| !node.cpus.is_empty())
            .all(|node| {
                map.iter()
                    .find(|(_, id)| **id == node.id)
                    .is_none_or(|(domain, _)| with_cpus(*domain))
            });
        map.retain(|_, id| fits && nodes.iter().any(|node| node.id == *id));
        map
    }

    /// Domains numbered as they first appear, one group of kinds after the other.
    fn numbered(&self, groups: &[&[Names]]) -> BTreeMap<u32, u32> {
        let mut map = BTreeMap::new();
        for group in groups {
            for (_, domain) in self.named.iter().filter(|(names, _)| group.contains(names)) {
                let next = u32::try_from(map.len()).unwrap_or(u32::MAX);
                map.entry(*domain).or_insert(next);
            }
        }
        map
    }
}

/// The PCI device handle: segment, bus, then device and function in one byte.
fn handle(structure: &[u8]) -> Option<PciAddress> {
    let devfn = u8_at(structure, 11)?;
    Some(PciAddress {
        domain: u32::from(u16_at(structure, 8)?),
        bus: u8_at(structure, 10)?,
        device: devfn >> 3,
        function: devfn & 7,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::machine::NodeKind;
    use crate::set::CpuSet;

    /// A table of these structures.
    pub(in crate::sysfs) fn table(structures: &[Vec<u8>]) -> Vec<u8> {
        let mut table = b"SRAT".to_vec();
        table.resize(HEADER_BYTES, 0);
        table.extend(structures.concat());
        table
    }

    pub(in crate::sysfs) fn apic(id: u8, domain: u8) -> Vec<u8> {
        let mut bytes = vec![0, 16, domain, id, 1];
        bytes.resize(16, 0);
        bytes
    }

    fn x2apic(id: u8, domain: u8) -> Vec<u8> {
        let mut bytes = vec![2, 24, 0, 0, domain, 0, 0, 0, id, 0, 0, 0, 1];
        bytes.resize(24, 0);
        bytes
    }

    pub(in crate::sysfs) fn initiator(bus: u8, devfn: u8, domain: u8, enabled: u8) -> Vec<u8> {
        let mut bytes = vec![5, 32, 0, 1, domain, 0, 0, 0, 0, 0, bus, devfn];
        bytes.resize(24, 0);
        bytes.extend([enabled, 0, 0, 0, 0, 0, 0, 0]);
        bytes
    }

    fn node(id: u32, cpus: &str) -> NumaNode {
        NumaNode {
            id,
            package: None,
            cpus: cpus.parse().unwrap_or_else(|_| CpuSet::new()),
            memory_bytes: None,
            kind: NodeKind::Dram,
            distances: BTreeMap::new(),
        }
    }

    fn nodes_in(structures: &[Vec<u8>], nodes: &[NumaNode]) -> Vec<Option<u32>> {
        let srat = Srat::parse(&table(structures)).unwrap();
        let found = srat.initiators(nodes);
        found.iter().map(|initiator| initiator.node).collect()
    }

    #[test]
    fn an_initiator_is_in_its_domain_s_node() {
        let structures = [
            apic(0, 4),
            apic(1, 9),
            initiator(0x81, 0x0a, 9, 1),
            initiator(0x21, 0, 4, 0),
        ];
        let srat = Srat::parse(&table(&structures)).unwrap();
        let nodes = [node(0, "0"), node(1, "1")];
        let found = srat.initiators(&nodes);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].device.to_string(), "0000:81:01.2");
        assert_eq!((found[0].domain, found[0].node), (9, Some(1)));
    }

    #[test]
    fn a_domain_that_kernels_number_differently_has_no_node() {
        // By type, the x2APIC domain comes first; by place in the table, the other.
        let structures = [apic(0, 0), x2apic(1, 1), initiator(0x81, 0, 1, 1)];
        let nodes = [node(0, "0"), node(1, "1")];
        assert_eq!(nodes_in(&structures, &nodes), [None]);
    }

    #[test]
    fn a_table_that_does_not_fit_the_nodes_says_nothing() {
        let structures = [apic(0, 0), initiator(0x81, 0, 1, 1)];
        assert_eq!(nodes_in(&structures, &[node(0, "0"), node(1, "1")]), [None]);
        assert_eq!(nodes_in(&structures, &[node(0, "0")]), [None]);
        assert_eq!(
            nodes_in(&structures, &[node(0, "0"), node(1, "")]),
            [Some(1)]
        );
    }

    proptest::proptest! {
        #[test]
        fn odd_bytes_never_panic(bytes in proptest::collection::vec(0u8..=255, 0..300)) {
            let _ = Srat::parse(&bytes);
            let table = table(&[bytes]);
            let _ = Srat::parse(&table).map(|srat| srat.initiators(&[]));
        }

        #[test]
        fn structures_of_odd_contents_never_panic(
            kinds in proptest::collection::vec((0u8..7, 0u8..48, 0u8..4), 0..20)
        ) {
            let structures: Vec<_> = kinds
                .iter()
                .map(|(kind, length, fill)| {
                    let mut bytes = vec![*kind, *length];
                    bytes.resize(usize::from(*length).max(2), *fill);
                    bytes
                })
                .collect();
            let srat = Srat::parse(&table(&structures)).unwrap();
            let _ = srat.initiators(&[node(0, "0"), node(1, "1")]);
        }
    }
}
