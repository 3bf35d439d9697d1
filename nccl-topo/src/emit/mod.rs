//! The corrected topology file of a machine.
//!
//! One `<cpu>` stands for a package, not for a NUMA node, unless its search does better with that: NCCL takes every pair of `<cpu>` elements to be
//! two sockets (`graph/topo.cc` `ncclTopoConnectCpus`), so a host with several NUMA nodes a package, or
//! with devices that firmware gives no node, is seen wrongly.  Under it stand the PCI devices that NCCL
//! itself would record, with the links' highest speeds.
//!
//! Left to NCCL: `<gpu>`, `<nvlink>`, `<c2c>`, `<net>`.  A `<gpu>` given is believed with a stale `dev`,
//! an `<nvlink>` stops the search for others, a `<net>` keeps its `<cpu>` from being filled.
//!
//! **Invariant:** a machine of which something needed is not known gives no file.  A wrong file is worse
//! than none: NCCL believes it, or the job dies.

use std::collections::BTreeMap;

use topology::machine::Machine;
use topology::pci::PciAddress;

use crate::element::{Element, MAX_FILE_ELEMENTS, MAX_FUSED_ELEMENTS};
use crate::graph::Searches;
use crate::model::nets::rdma_ports;
use crate::outcome::{Outcome, ring_is_as_forced, worst_outcome};
use crate::rules::Rules;

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
    /// Whether a `<cpu>` is a NUMA node (for the choice of NICs, or for fewer crossings) and not a package.
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
    emit_with(machine, form, &Searches::default())
}

/// [`emit`] with the searches that were made of this machine, so that they are not made again.
///
/// # Errors
///
/// As [`emit`].
pub fn emit_with(
    machine: &Machine,
    form: Form,
    searches: &Searches,
) -> Result<Emitted, NotEmitted> {
    if !machine.has_nccl_gpus() {
        return Err(if machine.gpus.is_empty() {
            NotEmitted::NoNvidiaGpu
        } else {
            NotEmitted::OtherVendor
        });
    }
    let mut devices = collect(machine, form, Functions::All)?;
    let mut built = build(machine, &devices, form)?;
    if built.first.over_limit(&devices).is_some() {
        devices = collect(machine, form, Functions::OnePerNic)?;
        built = build(machine, &devices, form)?;
    }
    if let Some((elements, limit)) = built.first.over_limit(&devices) {
        return Err(NotEmitted::TooLarge { elements, limit });
    }
    built.other = built
        .other
        .filter(|other| other.over_limit(&devices).is_none());
    built
        .reordered
        .retain(|other| other.over_limit(&devices).is_none());
    let Built { layout, system } = built.best(machine, form, searches);
    values::check_writable(&system)?;
    let xml = system.to_xml();
    check_least_links(machine, &devices, &layout, &xml, searches)?;
    Ok(Emitted {
        xml,
        corrections: explain::corrections(machine, &devices, &layout),
        gpus: layout::gpu_order(&devices, &layout),
        by_numa_node: layout.is_by_numa_node(),
    })
}

/// The devices that the file for `form` names.
fn collect(machine: &Machine, form: Form, functions: Functions) -> Result<Devices<'_>, NotEmitted> {
    let mut devices = Devices::collect(machine, functions)?;
    if form == Form::SingleHost {
        devices.leave_out_nics_of_unknown_place(machine);
    }
    Ok(devices)
}

/// A file that is true.
struct Built {
    layout: Layout,
    system: Element,
}

/// The files that are true: the better one as far as NCCL's search does not matter, and others.
struct Choice {
    first: Built,
    /// With other `<cpu>` elements.
    other: Option<Built>,
    /// The same two with another package first.
    reordered: Vec<Built>,
}

fn build(machine: &Machine, devices: &Devices<'_>, form: Form) -> Result<Choice, NotEmitted> {
    let (first, other) = Layout::of(machine, devices, form)?;
    let built = |layout: Layout| {
        let system = layout::system(machine, devices, &layout)?;
        Ok(Built { layout, system })
    };
    let both = std::iter::once(&first).chain(&other);
    let reordered = both.flat_map(Layout::with_another_package_first);
    let mut reordered = reordered.map(built).collect::<Result<Vec<_>, _>>()?;
    let (first, other) = (built(first)?, other.map(built).transpose()?);
    // Between packages that are alike it makes no difference which is first.
    let numbers = net_numbers(machine);
    let before = std::iter::once(&first).chain(&other);
    let before: Vec<String> = before.map(|built| shape(&built.system, &numbers)).collect();
    reordered.retain(|one| !before.contains(&shape(&one.system, &numbers)));
    Ok(Choice {
        reordered,
        first,
        other,
    })
}

/// NCCL's numbers of the network devices of each adapter.
fn net_numbers(machine: &Machine) -> BTreeMap<String, Vec<usize>> {
    let mut numbers = BTreeMap::<_, Vec<_>>::new();
    for (number, port) in rdma_ports(machine).into_iter().enumerate() {
        let adapter = port.pci.map(|pci| pci.to_string()).unwrap_or_default();
        numbers.entry(adapter).or_default().push(number);
    }
    numbers
}

/// What of an element decides NCCL's search: not its names and addresses, but the numbers of its network devices.
fn shape(element: &Element, numbers: &BTreeMap<String, Vec<usize>>) -> String {
    let values = ["class", "link_speed", "link_width"].map(|key| element.get(key));
    let values: Vec<&str> = values.into_iter().flatten().collect();
    let nets = element.get("busid").and_then(|busid| numbers.get(busid));
    let children = element.children.iter();
    let children: Vec<String> = children.map(|child| shape(child, numbers)).collect();
    format!("{} {values:?} {nets:?} {children:?}", element.name)
}

impl Choice {
    /// The one on which NCCL's rings and trees cross between packages less often; the first where it is the same.
    fn best(self, machine: &Machine, form: Form, searches: &Searches) -> Built {
        // NVLinks would have to be in it, and decide the ring wherever they lead.
        let matters = machine.gpus.iter().all(|gpu| gpu.nvlinks.is_empty());
        let mut others = self.other.into_iter().chain(self.reordered).peekable();
        if !matters || others.peek().is_none() {
            return self.first;
        }
        let hosts: &[u32] = match form {
            Form::SingleHost => &[1],
            Form::MultiHost => &[1, 2],
        };
        let rules: Vec<_> = Rules::in_use().collect();
        let badness = |built: &Built| {
            let outcome = worst_outcome(machine, &built.system.to_xml(), hosts, &rules, searches);
            outcome.map(|outcome| outcome.badness())
        };
        let Some(mut least) = badness(&self.first) else {
            return self.first;
        };
        let mut best = self.first;
        while least > Outcome::GOOD
            && let Some(other) = others.next()
        {
            if let Some(less) = badness(&other).filter(|bad| *bad < least) {
                (least, best) = (less, other);
            }
        }
        best
    }
}

/// Refuses links of which only the least is known where NCCL's search shows that this is too little.
fn check_least_links(
    machine: &Machine,
    devices: &Devices<'_>,
    layout: &Layout,
    xml: &str,
    searches: &Searches,
) -> Result<(), NotEmitted> {
    let slowest = layout::links_between_packages(machine, devices, layout)
        .filter(|(_, link)| link.is_least)
        .reduce(|a, b| if a.1.wider_than(b.1) { b } else { a });
    let Some((device, link)) = slowest else {
        return Ok(());
    };
    if ring_is_as_forced(machine, xml, searches) {
        return Ok(());
    }
    Err(NotEmitted::LinkTooSlow {
        device,
        speed_gts: link.speed_gts.unwrap_or_default(),
        width: link.width.unwrap_or_default(),
    })
}

impl Built {
    /// The count and the limit that it is over.
    fn over_limit(&self, devices: &Devices<'_>) -> Option<(usize, usize)> {
        let file = self.system.count();
        let fused = file + devices.added_by_nccl();
        if file > MAX_FILE_ELEMENTS {
            Some((file, MAX_FILE_ELEMENTS))
        } else if fused > MAX_FUSED_ELEMENTS {
            Some((fused, MAX_FUSED_ELEMENTS))
        } else {
            None
        }
    }
}
