//! Reads a machine from `/sys` and `/proc` below a given root, with `std` alone.
//!
//! Also what the Slurm plugin does without a snapshot, inside root's slurmstepd: few files, each read
//! bounded, only regular files opened, nothing that can block, no panic whatever the tree holds.

mod bytes;
mod cpu;
mod dmi;
mod driver;
mod files;
mod firmware;
mod inside;
mod kfd;
mod latencies;
mod now;
mod overrides;
mod pci;
mod site;
mod speeds;
mod srat;
mod switches;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use cpu::CpuSide;
pub use files::parse_mask;
pub use inside::Inside;
pub use kfd::uuid as kfd_uuid;
pub use latencies::{LATENCY_FILE, write_latencies};
pub use now::{current, read_driver, read_now};
pub use overrides::{OVERRIDE_FILE, parse_overrides};
pub use pci::{parse_speed, parse_width};
pub use site::{SiteLineError, SiteLineFault};
pub use speeds::read_speed_classes;
pub use switches::{SWITCH_FILE, parse_switches};

use crate::locality::{Overrides, locate_all};
use crate::machine::{
    Gpu, HiddenSwitch, Locality, Machine, MinorSource, Nic, NodeKind, NumaNode, Package,
};
use crate::pci::{CLASS_3D, DeviceKind, PciAddress, PciDevice};
use crate::set::CpuSet;
use crate::text;
use crate::vendor::{GpuVendor, VENDORS};
use files::Root;

/// Why a root gave no machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SysfsError {
    /// There is no CPU to be found below the root.
    #[error("{0} holds no sys/devices/system; expected a filesystem root")]
    NoSystem(PathBuf),
}

/// The PCI side: devices, and which of them are GPUs and NICs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PciSide {
    /// Switches that the site names.
    pub hidden_switches: Vec<HiddenSwitch>,
    /// GPUs, NICs and the bridges above them, by address.
    pub devices: Vec<PciDevice>,
    /// GPUs by address, their localities not yet known.
    pub gpus: Vec<Gpu>,
    /// NICs by address, their localities not yet known.
    pub nics: Vec<Nic>,
    /// The board's name; none where not recorded.
    pub board: Option<String>,
    /// The NUMA nodes that are a GPU's own memory.
    pub gpu_memory_nodes: Vec<u32>,
    /// What was odd, for a person.
    pub remarks: Vec<String>,
}

/// Reads the machine below `root` and places its devices.
///
/// # Errors
/// [`SysfsError::NoSystem`] when there is no CPU to be found.
pub fn read_machine(root: &Path, overrides: &Overrides) -> Result<Machine, SysfsError> {
    let cpu = read_cpu_side(root)?;
    let pci = read_pci(root);
    let mut machine = Machine {
        hostname: read_hostname(root),
        online: cpu.online,
        packages: cpu.packages,
        numa_nodes: cpu.numa_nodes,
        cores: cpu.cores,
        last_level_caches: cpu.last_level_caches,
        third_level_caches: cpu.third_level_caches,
        dies: cpu.dies,
        clusters: cpu.clusters,
        processor: cpu.processor,
        remarks: cpu.remarks,
        ..Machine::default()
    };
    add_pci(&mut machine, pci);
    machine.firmware = firmware::read(Root(root), &machine);
    machine.latencies = latencies::read(Root(root));
    locate_all(&mut machine, overrides);
    Ok(machine)
}

/// The GPUs on which a process has work queues, as their compute driver lists them below `root`; empty where no driver lists
/// processes.
///
/// Processes are numbered as in the first process namespace: of this host (`/`) nothing is said to a process in another one.
pub fn gpus_used_by(root: &Path, machine: &Machine, pid: u32) -> Vec<PciAddress> {
    /// `PROC_PID_INIT_INO` (linux/proc_ns.h).
    const FIRST_NAMESPACE: &str = "pid:[4026531836]";
    let root = Root(root);
    let namespace = root.link("proc/self/ns/pid");
    if namespace.is_some_and(|own| own != Path::new(FIRST_NAMESPACE)) {
        return Vec::new();
    }
    kfd::used_by(root, machine, pid)
}

/// Puts a PCI side into a machine, and marks the nodes that are GPU memory.
pub fn add_pci(machine: &mut Machine, pci: PciSide) {
    machine.pci = pci.devices;
    machine.gpus = pci.gpus;
    machine.nics = pci.nics;
    machine.board = pci.board;
    machine.hidden_switches = pci.hidden_switches;
    machine.remarks.extend(pci.remarks);
    for node in &mut machine.numa_nodes {
        if node.cpus.is_empty() && pci.gpu_memory_nodes.contains(&node.id) {
            node.kind = NodeKind::Gpu;
        }
    }
}

/// Reads the CPU side below `root`.
///
/// # Errors
/// [`SysfsError::NoSystem`] when there is no CPU to be found.
pub fn read_cpu_side(root: &Path) -> Result<CpuSide, SysfsError> {
    cpu::read(Root(root)).ok_or_else(|| SysfsError::NoSystem(root.to_owned()))
}

/// Gives NUMA nodes their package and packages their nodes, by the CPUs they share.
pub fn join_packages(
    packages: BTreeMap<u32, CpuSet>,
    nodes: Vec<NumaNode>,
) -> (Vec<Package>, Vec<NumaNode>) {
    cpu::join(packages, nodes)
}

/// Reads the override file below `root`; the second value says what was wrong with it.
pub fn read_overrides(root: &Path) -> (Overrides, Vec<SiteLineError>) {
    overrides::read(Root(root))
}

/// The host's name: the kernel's, `/etc/hostname`, or what `hwloc-gather-topology` recorded; none where that is no name.
pub fn read_hostname(root: &Path) -> Option<String> {
    let root = Root(root);
    let recorded = || {
        let text = root.text("proc/hwloc-nofile-info")?;
        let name = text
            .lines()
            .find_map(|line| line.strip_prefix("HostName:"))?;
        Some(name.trim().to_owned())
    };
    root.text("proc/sys/kernel/hostname")
        .or_else(|| root.text("etc/hostname"))
        .or_else(recorded)
        .and_then(|name| text::host_name(&name))
}

/// Reads the PCI side below `root`: `/sys`, and what the GPUs' driver says in `/proc`.
pub fn read_pci(root: &Path) -> PciSide {
    let root = Root(root);
    let driver = driver::read(root);
    let mut found = pci::read(root, &driver);
    for (address, gpu) in &driver {
        found
            .devices
            .entry(*address)
            .or_insert_with(|| PciDevice::new(*address, CLASS_3D, gpu.vendor, 0));
    }
    let mut side = PciSide {
        board: root
            .text_up_to("sys/class/dmi/id/board_name", 256)
            .map(|name| text::plain(&name))
            .filter(|name| !name.is_empty()),
        gpu_memory_nodes: driver.values().filter_map(|gpu| gpu.memory_node).collect(),
        ..PciSide::default()
    };
    for device in found.devices.values() {
        match device.kind() {
            DeviceKind::Gpu => side.gpus.push(new_gpu(device, driver.get(&device.address))),
            DeviceKind::Nic => side.nics.push(Nic {
                pci: device.address,
                vendor: device.vendor,
                device: device.device,
                names: found.nic_names.remove(&device.address).unwrap_or_default(),
                ports: found.nic_ports.remove(&device.address).unwrap_or_default(),
                aside: found.nics_aside.get(&device.address).copied(),
                locality: Locality::default(),
            }),
            DeviceKind::Bridge | DeviceKind::Other => {}
        }
    }
    for vendor in &VENDORS {
        kfd::add(root, vendor, &found.gpu_folders, &mut side.gpus);
    }
    for vendor in VENDORS.iter().filter(|vendor| vendor.is_bound_at_launch) {
        if !driver::is_loaded(root, vendor) {
            number_by_device_files(root, vendor, &mut side.gpus);
        }
    }
    if !root.is_dir("sys/bus/pci/devices") && side.gpus.is_empty() {
        side.remarks
            .push("sys/bus/pci is not there; GPUs and NICs cannot be seen".to_owned());
    }
    side.devices = found.devices.into_values().collect();
    let (hidden, errors) = switches::read(root);
    side.hidden_switches = hidden;
    side.remarks.extend(errors.iter().map(ToString::to_string));
    side
}

fn new_gpu(device: &PciDevice, driver: Option<&driver::DriverGpu>) -> Gpu {
    let minor = driver.and_then(|gpu| gpu.minor);
    Gpu {
        minor,
        minor_source: if minor.is_some() {
            MinorSource::Driver
        } else {
            MinorSource::Unknown
        },
        uuid: driver.and_then(|gpu| gpu.uuid.clone()),
        name: driver.and_then(|gpu| gpu.model.clone()),
        ..Gpu::of(device)
    }
}

/// Without a driver to ask: when there are as many device files as GPUs of the vendor, their numbers follow
/// PCI order.  Not where a GPU's number is known already, or where GPUs of another vendor may have such files too.
fn number_by_device_files(root: Root<'_>, vendor: &GpuVendor, gpus: &mut [Gpu]) {
    let (folder, prefix) = vendor
        .device_file
        .rsplit_once('/')
        .unwrap_or(("", vendor.device_file));
    let minors = root.numbered(folder, prefix);
    let is_shared = vendor.driver.device_files.is_some();
    let has_others = gpus.iter().any(|gpu| gpu.vendor != vendor.id);
    let is_known = |gpu: &Gpu| gpu.vendor == vendor.id && gpu.minor.is_some();
    if is_shared && (has_others || gpus.iter().any(is_known)) {
        return;
    }
    let mut own: Vec<&mut Gpu> = gpus
        .iter_mut()
        .filter(|gpu| gpu.vendor == vendor.id)
        .collect();
    if minors.is_empty() || minors.len() != own.len() {
        return;
    }
    for (gpu, minor) in own.iter_mut().zip(minors) {
        gpu.minor = Some(minor);
        gpu.minor_source = MinorSource::DeviceOrder;
    }
}

#[cfg(test)]
mod tests;
