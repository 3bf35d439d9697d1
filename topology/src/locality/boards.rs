//! Boards whose GPUs hang from single last-level caches, which no table of firmware says.

use std::ops::RangeInclusive;

use crate::machine::Machine;
use crate::pci::PciAddress;
use crate::set::CpuSet;

/// A board.
struct Board {
    /// As `sys/class/dmi/id/board_name` has it.
    name: &'static str,
    /// Buses of domain 0, each with a CPU below the cache that what is on them hangs from.
    buses: &'static [(RangeInclusive<u8>, u32)],
}

/// The boards that are known.
const BOARDS: &[Board] = &[
    // Frontier and LUMI: Trento has an xGMI port for each CCD, and firmware names the node of two
    // (hwloc, hwloc/pci-common.c, `hwloc__pci_find_busid_parent_quirk`, 2.10 to 2.12).
    Board {
        name: "HPE CRAY EX235A",
        buses: &[
            (0xd0..=0xd1, 0),
            (0xd4..=0xd6, 8),
            (0xc8..=0xc9, 16),
            (0xcc..=0xce, 24),
            (0xd8..=0xd9, 32),
            (0xdc..=0xde, 40),
            (0xc0..=0xc1, 48),
            (0xc4..=0xc6, 56),
        ],
    },
];

/// The cache that the device at `address` hangs from; none where the board is none of the table's, and where caches are not
/// recorded.
pub(super) fn cache_of(machine: &Machine, address: PciAddress) -> Option<&CpuSet> {
    let name = machine.board.as_deref()?;
    let board = BOARDS.iter().find(|board| board.name == name)?;
    let mut buses = board.buses.iter();
    let (_, cpu) = buses.find(|(buses, _)| address.domain == 0 && buses.contains(&address.bus))?;
    let mut caches = machine.last_level_caches.iter();
    caches.find(|cache| cache.contains(*cpu))
}
