//! Why no file is written.

use topology::pci::PciAddress;

/// Why no file can be written that is true: NCCL is left to itself.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotEmitted {
    /// There is no NVIDIA GPU.
    #[error("no NVIDIA GPU here; NCCL has nothing to find")]
    NoNvidiaGpu,
    /// There are GPUs, none of them NVIDIA's.
    #[error("the GPUs here are not NVIDIA's; RCCL reads no file of this kind")]
    OtherVendor,
    /// A GPU's or NIC's place is not known.
    #[error("{device}: nobody says which package it is at; NCCL is left to itself")]
    LocalityUnknown {
        /// The device.
        device: PciAddress,
    },
    /// A GPU's or NIC's nearest nodes are in several packages.
    #[error("{device}: its nearest nodes {nodes} are in several packages; NCCL is left to itself")]
    SeveralPackages {
        /// The device.
        device: PciAddress,
        /// The nodes, as a list.
        nodes: String,
    },
    /// Devices below one switch are at different packages.
    #[error(
        "{switch}: the devices below it are said to be at different packages; NCCL is left to itself"
    )]
    SwitchTornApart {
        /// The upstream port of the switch.
        switch: PciAddress,
    },
    /// A device, or a bridge above one, is not in the record.
    #[error("{device}: not in the record of PCI devices; NCCL is left to itself")]
    DeviceNotRecorded {
        /// The device or bridge.
        device: PciAddress,
    },
    /// The bridges above a device form a circle in the record.
    #[error("{device}: the bridges above it have no end; NCCL is left to itself")]
    EndlessBridges {
        /// The device.
        device: PciAddress,
    },
    /// A package has no NUMA node with CPUs, so it has no `numaid`.
    #[error("package {package} has no NUMA node with CPUs; NCCL is left to itself")]
    NoNumaNode {
        /// The package.
        package: u32,
    },
    /// What NCCL must know of the processors is not recorded.
    #[error("the processors' {missing} is not recorded; NCCL is left to itself")]
    ProcessorUnknown {
        /// `arch`, `vendor`, `family` or `model`.
        missing: &'static str,
    },
    /// The highest speed of a link between a GPU and its package is not recorded, on a host where GPUs are
    /// at several packages: a speed taken too low makes NCCL prefer the socket link (facts of the recipe:
    /// 8 of 8 hops cross).
    #[error("{device}: the highest speed of its link is not recorded; NCCL is left to itself")]
    LinkUnknown {
        /// The GPU, or a switch above one.
        device: PciAddress,
    },
    /// So it is, and on what is recorded, the speed when it was read, NCCL's ring would cross packages more
    /// often than the GPUs force it to.
    #[error(
        "{device}: the highest speed of its link is not recorded, and were it {speed_gts} GT/s x{width} as when \
         it was read, NCCL's ring would cross packages more often than it must; NCCL is left to itself"
    )]
    LinkTooSlow {
        /// The GPU, or a switch above one.
        device: PciAddress,
        /// Its speed when read, in GT/s.
        speed_gts: f64,
        /// Its width then, in lanes.
        width: u32,
    },
    /// NCCL has no room for so many elements.
    #[error("{elements} elements, and NCCL has room for {limit}; NCCL is left to itself")]
    TooLarge {
        /// How many there would be.
        elements: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A value that NCCL's reader cannot take.
    #[error("\"{value}\" cannot be written for NCCL's reader; NCCL is left to itself")]
    Unwritable {
        /// The value.
        value: String,
    },
}
