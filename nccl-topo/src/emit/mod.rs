//! The corrected topology file of a machine.
//!
//! One `<cpu>` stands for a package, not for a NUMA node: NCCL takes every pair of `<cpu>` elements to be
//! two sockets (`graph/topo.cc` `ncclTopoConnectCpus`), so a host with several NUMA nodes a package, or
//! with devices that firmware gives no node, is seen wrongly.  Under it stand the PCI devices that NCCL
//! itself would record, with the links' highest speeds.
//!
//! Left to NCCL: `<gpu>`, `<nvlink>`, `<c2c>`, `<net>`.  A `<gpu>` given is believed with a stale `dev`,
//! an `<nvlink>` stops the search for others, a `<net>` keeps its `<cpu>` from being filled.
//!
//! **Invariant:** a machine of which something needed is not known gives no file.  A wrong file is worse
//! than none: NCCL believes it, or the job dies.

use topology::machine::Machine;
use topology::pci::{PciAddress, VENDOR_NVIDIA};

use crate::element::{Element, MAX_FILE_ELEMENTS, MAX_FUSED_ELEMENTS};
use crate::predict;

mod devices;
mod explain;
mod layout;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;
mod values;

use devices::{Devices, Functions};
use layout::Layout;

/// Which job the file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All ranks on this host: one `<cpu>` a package.
    SingleHost,
    /// Ranks on several hosts.  Where a GPU shares no switch with a NIC, NCCL chooses among all NICs of the
    /// GPU's `<cpu>`, so there a package with several NUMA nodes gets a `<cpu>` each.
    MultiHost,
}

/// The file, and what in it differs from what NCCL would find by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// The text of the file.
    pub xml: String,
    /// Each correction, in a fixed order.
    pub corrections: Vec<Correction>,
    /// The NVIDIA GPUs in document order: the order in which NCCL numbers them.
    pub gpus: Vec<PciAddress>,
    /// Whether a `<cpu>` is a NUMA node ([`Form::MultiHost`] where it matters) and not a package.
    pub by_numa_node: bool,
}

/// Something that the file says and NCCL would not have found, or not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// The device it is about; absent where it is about the whole machine or a package.
    pub device: Option<PciAddress>,
    /// What the file says.
    pub what: String,
    /// What was read, and what NCCL makes of it without the file.
    pub evidence: String,
}

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

/// The topology file of `machine`, whose devices are placed
/// ([`locate_all`](topology::locality::locate_all)).
///
/// # Errors
///
/// A [`NotEmitted`] says what is missing for a true file; the answer to all of them is to set no
/// `NCCL_TOPO_FILE`.
pub fn emit(machine: &Machine, form: Form) -> Result<Emitted, NotEmitted> {
    if !machine.gpus.iter().any(|gpu| gpu.vendor == VENDOR_NVIDIA) {
        return Err(if machine.gpus.is_empty() {
            NotEmitted::NoNvidiaGpu
        } else {
            NotEmitted::OtherVendor
        });
    }
    let mut functions = Functions::All;
    let mut built = build(machine, form, functions)?;
    if built.over_limit().is_some() {
        functions = Functions::OnePerNic;
        built = build(machine, form, functions)?;
    }
    if let Some((elements, limit)) = built.over_limit() {
        return Err(NotEmitted::TooLarge { elements, limit });
    }
    values::check_writable(&built.system)?;
    let xml = built.system.to_xml();
    built.check_least_links(machine, &xml)?;
    Ok(Emitted {
        xml,
        corrections: explain::corrections(machine, &built.devices, &built.layout),
        gpus: layout::gpu_order(&built.devices, &built.layout),
        by_numa_node: built.layout.by_numa_node,
    })
}

struct Built<'m> {
    devices: Devices<'m>,
    layout: Layout,
    system: Element,
}

fn build(machine: &Machine, form: Form, functions: Functions) -> Result<Built<'_>, NotEmitted> {
    let devices = Devices::collect(machine, functions)?;
    let layout = Layout::of(machine, &devices, form)?;
    let system = layout::system(machine, &devices, &layout)?;
    Ok(Built {
        devices,
        layout,
        system,
    })
}

impl Built<'_> {
    /// Refuses links of which only the least is known where NCCL's search shows that this is too little.
    fn check_least_links(&self, machine: &Machine, xml: &str) -> Result<(), NotEmitted> {
        let slowest = layout::links_between_packages(machine, &self.devices, &self.layout)
            .filter(|(_, link)| link.is_least)
            .reduce(|a, b| if a.1.wider_than(b.1) { b } else { a });
        let Some((device, link)) = slowest else {
            return Ok(());
        };
        if predict::ring_is_as_forced(machine, xml) {
            return Ok(());
        }
        Err(NotEmitted::LinkTooSlow {
            device,
            speed_gts: link.speed_gts.unwrap_or_default(),
            width: link.width.unwrap_or_default(),
        })
    }

    /// The count and the limit that it is over.
    fn over_limit(&self) -> Option<(usize, usize)> {
        let file = self.system.count();
        let fused = file + self.devices.added_by_nccl();
        if file > MAX_FILE_ELEMENTS {
            Some((file, MAX_FILE_ELEMENTS))
        } else if fused > MAX_FUSED_ELEMENTS {
            Some((fused, MAX_FUSED_ELEMENTS))
        } else {
            None
        }
    }
}
