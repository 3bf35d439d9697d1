//! What the parts of a machine are called, in every page and picture.
//!
//! People are told "socket" for what code and JSON call a package.

use launch::observe::openable_by_process;
use topology::machine::{Gpu, Machine, MemoryRating, NumaNode, Package};
use topology::names::GpuNames;
use topology::path::{are_linked, nvlinks, pci_path};
use topology::pci::PciAddress;
use topology::quantity::{count, volume};
use topology::set::NodeSet;

use crate::models;

/// `gpu7`; of a recording without a host name, `machine`.
pub(crate) fn host(machine: &Machine) -> &str {
    machine.hostname.as_deref().unwrap_or("machine")
}

/// `2 sockets, 2 NUMA nodes, 16 CPUs; 4 GPUs, 2 NICs`.
pub(crate) fn summary(machine: &Machine) -> String {
    let sockets = if machine.packages.is_empty() {
        "sockets not recorded".to_owned()
    } else {
        count(machine.packages.len(), "socket")
    };
    let parts: usize = machine.gpus.iter().map(Gpu::parts).sum();
    let gpus = count(machine.gpus.len(), "GPU");
    let gpus = if parts > machine.gpus.len() {
        format!("{gpus} in {parts} parts")
    } else {
        gpus
    };
    format!(
        "{sockets}, {}, {}; {gpus}, {}",
        count(machine.numa_nodes.len(), "NUMA node"),
        count(machine.online.len(), "CPU"),
        count(machine.nics.len(), "NIC"),
    )
}

/// `node 0`, `nodes 0-1`.
pub(crate) fn nodes(nodes: &NodeSet) -> String {
    if nodes.len() == 1 {
        format!("node {nodes}")
    } else {
        format!("nodes {nodes}")
    }
}

/// A node's memory, `503.5 GiB`; `?` where its size is not recorded.
pub(crate) fn memory(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "?".to_owned(), volume)
}

/// `1.8`: how much longer far memory takes than local memory, by measured latencies.
pub(crate) fn times_measured((local, far): (u32, u32)) -> String {
    let rating = MemoryRating::measured(local, far);
    rating.map_or_else(|| "?".to_owned(), |rating| rating.times())
}

/// `2.1` of a SLIT distance of 21: how many times the local latency firmware says an access takes.
pub(crate) fn times_local(slit: u32) -> String {
    MemoryRating::Firmware { slit }.times()
}

/// A GPU's product name by its driver, else by its PCI ids; none where these have none.
pub(crate) fn product_name(gpu: &Gpu) -> Option<String> {
    gpu.name.clone().or_else(|| models::name(gpu))
}

/// The same, or its PCI ids.
pub(crate) fn model(gpu: &Gpu) -> String {
    product_name(gpu).unwrap_or_else(|| match gpu.device {
        0 => "model not recorded".to_owned(),
        device => format!("{:04x}:{device:04x}", gpu.vendor),
    })
}

/// `GPU0 0000:3b:00.0`; a GPU that the machine does not have, by its address.
pub(crate) fn gpu_label(machine: &Machine, pci: PciAddress) -> String {
    GpuNames::of_host(machine).label(pci).to_string()
}

/// `GPU0 0000:3b:00.0`; a GPU that the machine does not have, `GPU 0000:3b:00.0`.
pub(crate) fn gpu_name(machine: &Machine, pci: PciAddress) -> String {
    GpuNames::of_host(machine).name(pci)
}

/// What GPUs are called in a plan for programs that this process may start.
pub(crate) fn names_here(machine: &Machine) -> GpuNames<'_> {
    let openable = openable_by_process(machine).len();
    GpuNames::of_programs(machine, openable == machine.gpus.len())
}

/// `GPU0 0000:3b:00.0`, `NIC0 0000:25:00.0`; another device by its address.
pub(crate) fn device_label(machine: &Machine, pci: PciAddress) -> String {
    let nic = machine.nics.iter().position(|nic| nic.pci == pci);
    nic.map_or_else(|| gpu_label(machine, pci), |nic| format!("NIC{nic} {pci}"))
}

/// What connects these GPUs beside PCI Express, each name once: `NVLink`, `NVLink or xGMI`.
pub(crate) fn link_names<'m>(gpus: impl IntoIterator<Item = &'m Gpu>) -> String {
    let mut names: Vec<&str> = Vec::new();
    for maker in gpus.into_iter().filter_map(Gpu::maker) {
        if !names.contains(&maker.link_name) {
            names.push(maker.link_name);
        }
    }
    names.join(" or ")
}

/// The word for so many links of a GPU to others of its maker: `NV4`, `XGMI1`.
pub(crate) fn links_word(machine: &Machine, gpu: PciAddress, links: u32) -> String {
    let maker = machine.gpu(gpu).and_then(Gpu::maker);
    let mark = maker.unwrap_or(machine.launch_vendor()).link_mark;
    format!("{mark}{links}")
}

/// Whether the source shows that xGMI leads from a GPU to others.
fn reaches_some(gpu: &Gpu) -> bool {
    gpu.kfd.as_ref().is_some_and(|kfd| !kfd.beyond.is_empty())
}

/// What may connect GPUs and the source could not show; none where it shows all.
pub(crate) fn hidden_link(machine: &Machine) -> Option<String> {
    let hidden = machine
        .gpus
        .iter()
        .filter(|gpu| machine.hides_links_of(gpu) && !reaches_some(gpu));
    let names = link_names(hidden);
    (machine.gpus.len() > 1 && !names.is_empty()).then_some(names)
}

/// What is to be known where there may be links between NCCL's GPUs that the source could not show.
pub(crate) fn hidden_links(machine: &Machine) -> Option<String> {
    let hidden = machine
        .nccl_gpus()
        .filter(|gpu| machine.hides_links_of(gpu));
    let link = link_names(hidden);
    (machine.nccl_gpus().count() > 1 && !link.is_empty()).then(|| {
        format!(
            "{link} is not visible here (the driver was not asked). NCCL finds it by itself, and paths over {link} take the place of \
             those through the host."
        )
    })
}

/// The path between two devices in the words of their vendor's tool, `NV4`, `XGMI1`, `XGMI` (over other GPUs, or not known
/// how) or `PIX`; None where it is not known.
pub(crate) fn path(machine: &Machine, a: PciAddress, b: PciAddress) -> Option<String> {
    match nvlinks(machine, a, b) {
        0 if are_linked(machine, a, b) => {
            let maker = machine.gpu(a).and_then(Gpu::maker);
            maker.map(|maker| maker.link_mark.to_owned())
        }
        0 => pci_path(machine, a, b).map(|path| path.to_string()),
        links => Some(links_word(machine, a, links)),
    }
}

/// The GPU that a user names by number in PCI order (`0`, `GPU0`), by PCI address, with its domain or without, or by UUID, also of a MIG
/// instance (`GPU-5c89`, `MIG-...`).
pub(crate) fn find_gpu(machine: &Machine, name: &str) -> Option<PciAddress> {
    if let Some(number) = number_after("GPU", name).or_else(|| name.parse().ok()) {
        return machine.gpus.get(number).map(|gpu| gpu.pci);
    }
    match name.parse::<PciAddress>() {
        Ok(address) => machine.gpu(address).map(|gpu| gpu.pci),
        Err(_) => {
            let gpus = machine.gpus.iter().map(|gpu| gpu.pci);
            let by_uuid = || machine.gpu_of_uuid(name).map(|gpu| gpu.pci);
            of_short(gpus, name).or_else(by_uuid)
        }
    }
}

/// The one of `devices` that a PCI address names which lacks its domain, as `lspci` prints it (`3b:00.0`), its function
/// (`0000:3b:00`), or both (`3b:00`).
fn of_short(devices: impl Iterator<Item = PciAddress>, name: &str) -> Option<PciAddress> {
    let has_domain = name.matches(':').count() > 1;
    let has_function = name.contains('.');
    let domain = if has_domain { "" } else { "0000:" };
    let function = if has_function { "" } else { ".0" };
    let short: PciAddress = format!("{domain}{name}{function}").parse().ok()?;
    let mut named = devices.filter(|device| {
        *device
            == PciAddress {
                domain: if has_domain {
                    short.domain
                } else {
                    device.domain
                },
                function: if has_function {
                    short.function
                } else {
                    device.function
                },
                ..short
            }
    });
    match (named.next(), named.next()) {
        (Some(one), None) => Some(one),
        _ => None,
    }
}

/// The GPU or NIC that a user names: as [`find_gpu`] does, or a NIC by number (`NIC0`), or any device by address.
pub(crate) fn find_device(machine: &Machine, name: &str) -> Option<PciAddress> {
    if let Some(nic) = number_after("NIC", name) {
        return machine.nics.get(nic).map(|nic| nic.pci);
    }
    find_gpu(machine, name)
        .or_else(|| name.parse().ok())
        .or_else(|| of_short(machine.nics.iter().map(|nic| nic.pci), name))
}

/// 3 of `GPU3`, in any case.
fn number_after(kind: &str, name: &str) -> Option<usize> {
    let (head, digits) = name.split_at_checked(kind.len())?;
    head.eq_ignore_ascii_case(kind)
        .then(|| digits.parse().ok())?
}

/// The first NUMA node and socket that cut through each other: both have CPUs that the other does not have.
pub(crate) fn cut(machine: &Machine) -> Option<(&NumaNode, &Package)> {
    let nodes = machine.numa_nodes.iter();
    let pairs = nodes.flat_map(|node| machine.packages.iter().map(move |package| (node, package)));
    let mut cuts = pairs.filter(|(node, package)| {
        let (own, other) = (&node.cpus, &package.cpus);
        own.intersects(other) && !own.is_subset(other) && !other.is_subset(own)
    });
    cuts.next()
}

/// The first NUMA node that holds several whole sockets, and their ids.
pub(crate) fn spanning(machine: &Machine) -> Option<(&NumaNode, Vec<u32>)> {
    let held = |node: &NumaNode| -> Vec<u32> {
        let packages = machine.packages.iter();
        packages
            .filter(|package| !package.cpus.is_empty() && package.cpus.is_subset(&node.cpus))
            .map(|package| package.id)
            .collect()
    };
    let nodes = machine.numa_nodes.iter();
    let mut found = nodes.map(|node| (node, held(node)));
    found.find(|(_, packages)| packages.len() > 1)
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn join(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}
