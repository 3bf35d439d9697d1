//! What NCCL makes of a machine: its graph, and the paths between GPUs.
//!
//! Facts are those of NCCL 2.30.7 (tag v2.30.7-1, below `src/graph/`).  The words are NCCL's, not
//! nvidia-smi's: SYS means "under another `<cpu>` element", which is a NUMA node unless a topology file
//! says otherwise.
//!
//! Modelled: one host, one rank a GPU, no network, P2P working wherever NCCL allows it.  Not modelled:
//! GPUs in parts (`mlopart`), and two `<cpu>` elements with one number.

use std::fmt;

mod nodes;
mod paths;
mod search;

pub use nodes::{Graph, Kind, Link, LinkType, Node, NodeId, Processor};
pub use paths::{Hop, Path, Paths};
pub use search::{Channels, Search, hops};

/// How NCCL gets from one place to another, nearest first (`include/graph.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathType {
    /// The same GPU.
    Loc,
    /// NVLink.
    Nvl,
    /// NVLink through another GPU.
    Nvb,
    /// Chip to chip (Grace Hopper).
    C2c,
    /// At most one PCI switch.
    Pix,
    /// Several PCI switches, no CPU.
    Pxb,
    /// To a NIC over C2C and a CPU.
    P2c,
    /// To a NIC through another GPU.
    Pxn,
    /// Through a CPU.
    Phb,
    /// From one `<cpu>` to another.
    Sys,
    /// Through the network.
    Net,
    /// Not at all.
    Dis,
}

impl fmt::Display for PathType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Loc => "LOC",
            Self::Nvl => "NVL",
            Self::Nvb => "NVB",
            Self::C2c => "C2C",
            Self::Pix => "PIX",
            Self::Pxb => "PXB",
            Self::P2c => "P2C",
            Self::Pxn => "PXN",
            Self::Phb => "PHB",
            Self::Sys => "SYS",
            Self::Net => "NET",
            Self::Dis => "DIS",
        })
    }
}

/// Bandwidth inside a GPU or a CPU, in GB/s (`topo.h` `LOC_BW`).
pub const LOCAL_BANDWIDTH_GB_S: f32 = 5000.0;

/// The bandwidth of an NVLink of a GPU of this compute capability, in GB/s (`topo.h`).
pub fn nvlink_bandwidth_gb_s(compute_capability: u32) -> f32 {
    match compute_capability {
        100.. => 40.1,
        90..=99 => 20.6,
        86 => 12.0,
        60..=69 => 18.0,
        0..=59 | 70..=85 | 87..=89 => 20.0,
    }
}

/// The bandwidth of a PCI link, in GB/s, from its file's values (`topo.cc` `ncclTopoAddPci`).
///
/// A width of 0 counts as 16 lanes, a speed that NCCL does not list as 8 GT/s.
pub fn pci_bandwidth_gb_s(speed: &str, width: u16) -> f32 {
    /// In tenths of a Gbit/s a lane; the first that the value begins with counts.
    const SPEEDS: [(&str, f32); 11] = [
        ("2.5 GT/s", 15.0),
        ("5 GT/s", 30.0),
        ("8 GT/s", 60.0),
        ("16 GT/s", 120.0),
        ("32 GT/s", 240.0),
        ("2.5 GT/s PCIe", 15.0),
        ("5.0 GT/s PCIe", 30.0),
        ("8.0 GT/s PCIe", 60.0),
        ("16.0 GT/s PCIe", 120.0),
        ("32.0 GT/s PCIe", 240.0),
        ("64.0 GT/s PCIe", 480.0),
    ];
    let listed = SPEEDS.iter().find(|(start, _)| speed.starts_with(start));
    let lane = listed.map_or(60.0, |(_, lane)| *lane);
    let width = if width == 0 { 16 } else { width };
    f32::from(width) * lane / 80.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_generations_have_nccls_bandwidths() {
        for (speed, width, expected) in [
            ("2.5 GT/s PCIe", 16, 3.0),
            ("8 GT/s", 16, 12.0),
            ("16.0 GT/s PCIe", 8, 12.0),
            ("32.0 GT/s PCIe", 0, 48.0),
            ("64.0 GT/s PCIe", 16, 96.0),
            ("16.0 GT/s", 16, 12.0),
            ("", 0, 12.0),
        ] {
            assert!(
                (pci_bandwidth_gb_s(speed, width) - expected).abs() < 1e-6,
                "{speed}"
            );
        }
    }
}
