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
use topology::pci::PciAddress;

use crate::element::{Element, MAX_FILE_ELEMENTS, MAX_FUSED_ELEMENTS};
use crate::outcome::ring_is_as_forced;

mod devices;
mod explain;
mod layout;
mod refusal;
#[cfg(test)]
mod tests;
mod values;

pub use explain::Correction;
pub use layout::Form;
pub use refusal::NotEmitted;

use devices::{Devices, Functions};
use layout::Layout;

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

/// The topology file of `machine`, whose devices are placed
/// ([`locate_all`](topology::locality::locate_all)).
///
/// # Errors
///
/// A [`NotEmitted`] says what is missing for a true file; the answer to all of them is to set no
/// `NCCL_TOPO_FILE`.
pub fn emit(machine: &Machine, form: Form) -> Result<Emitted, NotEmitted> {
    if machine.nccl_gpus().next().is_none() {
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
        if ring_is_as_forced(machine, xml) {
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
