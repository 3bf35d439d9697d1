//! How near two places are.

use std::fmt;

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

impl PathType {
    /// All of them, nearest first.
    pub const ALL: [Self; 12] = [
        Self::Loc,
        Self::Nvl,
        Self::Nvb,
        Self::C2c,
        Self::Pix,
        Self::Pxb,
        Self::P2c,
        Self::Pxn,
        Self::Phb,
        Self::Sys,
        Self::Net,
        Self::Dis,
    ];

    /// Whether a path of this type goes through a CPU or PCI switches, so that between GPUs of different packages
    /// it crosses the socket link; NVLink and C2C do not.
    pub fn is_through_host(self) -> bool {
        self > Self::C2c
    }
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
