//! Why no file is written.

use topology::pci::PciAddress;

/// Why no file can be written that is true.  Without one, NCCL detects the machine by itself.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotEmitted {
    /// There is no NVIDIA GPU.
    #[error("no NVIDIA GPU found, so NCCL has nothing to use here")]
    NoNvidiaGpu,
    /// There are GPUs, none of them NVIDIA's.
    #[error(
        "the GPUs here are not NVIDIA's, and NCCL does not run on them; AMD's RCCL reads topology files of another format"
    )]
    OtherVendor,
    /// A GPU's or NIC's place is not known.
    #[error("{device}: its socket is unknown")]
    LocalityUnknown {
        /// The device.
        device: PciAddress,
    },
    /// A GPU's or NIC's nearest nodes are in several packages.
    #[error("{device}: its nearest NUMA nodes, {nodes}, belong to several sockets")]
    SeveralPackages {
        /// The device.
        device: PciAddress,
        /// The nodes, as a list.
        nodes: String,
    },
    /// Devices below one switch are at different packages.
    #[error("{switch}: the devices below this switch are reported at different sockets")]
    SwitchTornApart {
        /// The upstream port of the switch.
        switch: PciAddress,
    },
    /// A device, or a bridge above one, is not in the record.
    #[error("{device}: missing from the list of PCI devices")]
    DeviceNotRecorded {
        /// The device or bridge.
        device: PciAddress,
    },
    /// The bridges above a device form a circle in the record.
    #[error("{device}: the bridges above it form a loop")]
    EndlessBridges {
        /// The device.
        device: PciAddress,
    },
    /// A package has no NUMA node with CPUs, so it has no `numaid`.
    #[error("socket {package} has no NUMA node with CPUs")]
    NoNumaNode {
        /// The package.
        package: u32,
    },
    /// What NCCL must know of the processors is not recorded.
    #[error("the processor's {missing} is unknown")]
    ProcessorUnknown {
        /// `arch`, `vendor`, `family` or `model`.
        missing: &'static str,
    },
    /// The highest speed of a link between a GPU and its package is not recorded, on a host where GPUs are
    /// at several packages: a speed taken too low makes NCCL prefer the socket link (facts of the recipe:
    /// 8 of 8 hops cross).
    #[error("{device}: the maximum speed of its PCI link is unknown")]
    LinkUnknown {
        /// The GPU, or a switch above one.
        device: PciAddress,
    },
    /// The highest speed is not recorded, and with the speed when the machine was read NCCL's ring would cross
    /// packages more often than the GPUs force it to.
    #[error(
        "{device}: the maximum speed of its PCI link is unknown; at {speed_gts} GT/s x{width}, its speed when the \
         machine was read, NCCL's ring would cross between sockets more often than necessary"
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
    #[error("the file would have {elements} elements; NCCL accepts at most {limit}")]
    TooLarge {
        /// How many there would be.
        elements: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A value that NCCL's reader cannot take.
    #[error("NCCL cannot read the value \"{value}\"")]
    Unwritable {
        /// The value.
        value: String,
    },
}
