//! One machine from `/sys`, hwloc and NVML.
//!
//! `/sys` gives every detail.  hwloc decides which packages and memory-only nodes there are, and hangs
//! devices where the kernel does not.  NVML adds names, UUIDs, MIG instances and NVLink.

use std::collections::BTreeMap;
use std::path::Path;

use topology::locality::locate_all;
use topology::machine::{Gpu, Machine, MinorSource, NodeKind};
use topology::nvlink::set_nvlinks;
use topology::pci::{CLASS_3D, PciAddress, PciDevice};
use topology::set::{CpuSet, NodeSet};
use topology::sysfs;
use topology::text::{few, plain};
use topology::vendor::{GpuVendor, Library};
use tracing::debug;

use crate::error::AskError;
use crate::error::DiscoveryError;
use crate::hwloc::HwlocAnswer;
use crate::nvml::{NvmlAnswer, NvmlGpu};
use crate::probe::{self, HwlocQuestion};

/// Whose filesystem root it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A recorded one.
    Recorded,
    /// This machine's.
    Live,
    /// This machine's, for which nothing is to be loaded.
    LiveAsItIs,
    /// This machine's, for which no driver is to be asked.
    LiveWithoutDriver,
}

/// Reads a filesystem root.
pub(crate) fn read_root(
    root: &Path,
    place: Place,
    program: &Path,
) -> Result<Machine, DiscoveryError> {
    let live = place != Place::Recorded;
    // hwloc takes as long as our own reading does.
    let asked = HwlocQuestion::ask(program, (!live).then_some(root));
    let (overrides, complaints) = sysfs::read_overrides(root);
    let mut machine = sysfs::read_machine(root, &overrides)?;
    machine.speed_classes = sysfs::read_speed_classes(root, &machine.cores);
    let complaints = complaints.iter().map(ToString::to_string);
    machine.remarks.extend(few(complaints));
    match asked.answer() {
        Ok(answer) => add_hwloc(&mut machine, answer, live),
        Err(error) => {
            machine.remarks.push(format!(
                "hwloc: {error}; packages and nodes are as /sys has them"
            ));
        }
    }
    let has_gpus = machine.gpus.iter().any(is_nvmls);
    if place == Place::LiveAsItIs && !is_nvmls_driver_loaded(root) {
        // Where there is no GPU of its kind, nothing is missing.
        if has_gpus {
            machine.remarks.push(
                "NVML: not asked, for the driver is not loaded; NVLink and MIG instances are not seen, nor names and UUIDs"
                    .to_owned(),
            );
        }
    } else if live && place != Place::LiveWithoutDriver {
        match probe::ask_nvml(program, &driver_files(&machine)) {
            Ok(answer) => add_nvml(&mut machine, answer),
            Err(AskError::Refused(_)) if !has_gpus => {}
            Err(error) => machine.remarks.push(format!(
                "NVML: {error}; NVLink and MIG instances are not seen, nor names and UUIDs that the driver's \
                 files lack"
            )),
        }
    }
    locate_all(&mut machine, &overrides);
    Ok(machine)
}

/// Takes hwloc's packages, drops nodes that it does not list, and notes where it hangs devices.
fn add_hwloc(machine: &mut Machine, mut answer: HwlocAnswer, live: bool) {
    let theirs = std::mem::take(&mut answer.machine);
    debug!(
        packages = theirs.packages.len(),
        nodes = theirs.numa_nodes.len(),
        "hwloc answered"
    );
    if theirs.online.is_empty() {
        return;
    }
    machine.numa_nodes.retain(|node| {
        node.kind == NodeKind::Gpu || !node.cpus.is_empty() || theirs.node(node.id).is_some()
    });
    if !theirs.packages.is_empty() {
        let packages = theirs
            .packages
            .iter()
            .map(|package| (package.id, package.cpus.intersection(&machine.online)))
            .filter(|(_, cpus)| !cpus.is_empty())
            .collect::<BTreeMap<u32, CpuSet>>();
        let nodes = std::mem::take(&mut machine.numa_nodes);
        (machine.packages, machine.numa_nodes) = sysfs::join_packages(packages, nodes);
    }
    for device in &mut machine.pci {
        let seen = theirs.device(device.address);
        device.attached_nodes = seen.and_then(|seen| seen.attached_nodes.clone());
        device.attached_cpus = seen.and_then(|seen| seen.attached_cpus.clone());
    }
    if !live {
        cut_to_recorded_cgroup(machine, &answer);
    }
}

/// Leaves out what the recorder's own cgroup hid, as hwloc does, of a recording without devices.
///
/// Never on a live machine, and never where there is a GPU or NIC to place: its nodes and CPUs are not
/// a matter of who looks, and a machine cut to one node would make everything look local.
fn cut_to_recorded_cgroup(machine: &mut Machine, answer: &HwlocAnswer) {
    let nothing_allowed = answer.allowed_cpus.is_empty() || answer.allowed_nodes.is_empty();
    if nothing_allowed || !machine.gpus.is_empty() || !machine.nics.is_empty() {
        return;
    }
    let before = (machine.packages.len(), machine.numa_nodes.len());
    machine
        .numa_nodes
        .retain(|node| answer.allowed_nodes.contains(node.id));
    machine.packages.retain(|package| {
        package.cpus.intersects(&answer.allowed_cpus)
            || package.numa_nodes.intersects(&answer.allowed_nodes)
    });
    for package in &mut machine.packages {
        package.numa_nodes = package.numa_nodes.intersection(&answer.allowed_nodes);
    }
    for node in &mut machine.numa_nodes {
        node.distances
            .retain(|id, _| answer.allowed_nodes.contains(*id));
    }
    if before != (machine.packages.len(), machine.numa_nodes.len()) {
        machine.remarks.push(format!(
            "recorded in a cgroup that allows nodes {} and CPUs {}; of {} packages and {} nodes the others are left out",
            answer.allowed_nodes, answer.allowed_cpus, before.0, before.1
        ));
    }
}

fn is_nvmls(gpu: &Gpu) -> bool {
    gpu.is_listed_by(Library::Nvml)
}

/// The device files that NVML opens on this machine; none where one of them is missing, or it is not known which there are.
pub(crate) fn driver_files(machine: &Machine) -> Vec<String> {
    let Some(vendor) = GpuVendor::of_library(Library::Nvml) else {
        return Vec::new();
    };
    let gpus = machine.gpus.iter().filter(|gpu| is_nvmls(gpu));
    let of_gpus: Option<Vec<String>> = gpus
        .map(|gpu| gpu.minor.map(|minor| vendor.device_path(minor)))
        .collect();
    let mut control = vendor
        .driver
        .control_files
        .iter()
        .map(|file| format!("/{file}"));
    let (Some(mut files), Some(first)) = (of_gpus, control.next()) else {
        return Vec::new();
    };
    if files.is_empty() {
        return files;
    }
    files.push(first);
    let exists = |file: &String| Path::new(file).exists();
    if !files.iter().all(exists) {
        return Vec::new();
    }
    files.extend(control.filter(exists));
    files
}

/// Whether the driver that NVML speaks to is there.
fn is_nvmls_driver_loaded(root: &Path) -> bool {
    GpuVendor::of_library(Library::Nvml).is_some_and(|vendor| {
        // The folder of the module, or the driver's own.
        let mut modules = vendor.driver.modules.iter();
        let folder = vendor.driver.gpus;
        modules.any(|module| root.join("sys/module").join(module).exists())
            || folder.is_some_and(|folder| root.join(folder).exists())
    })
}

/// Adds the GPUs that NVML alone lists: where `/sys` is not the host's, as in some containers.
fn add_unlisted(machine: &mut Machine, gpus: &[NvmlGpu]) {
    let Some(vendor) = GpuVendor::of_library(Library::Nvml) else {
        return;
    };
    for nvml in gpus {
        if machine.device(nvml.pci).is_some() {
            continue;
        }
        let device = PciDevice::new(nvml.pci, CLASS_3D, vendor.id, nvml.device);
        machine.gpus.push(Gpu {
            only_in_nvml: true,
            ..Gpu::of(&device)
        });
        machine.remarks.push(format!(
            "GPU {} is listed by NVML, not by /sys; no bridges and no NUMA node of it are known there",
            nvml.pci
        ));
        machine.pci.push(device);
    }
    machine.pci.sort_by_key(|device| device.address);
    machine.gpus.sort_by_key(|gpu| gpu.pci);
}

/// Adds names, UUIDs, minors, MIG instances, NVLinks and NVML's word on places.
fn add_nvml(machine: &mut Machine, answer: NvmlAnswer) {
    add_unlisted(machine, &answer.gpus);
    let memory_nodes: NodeSet = answer
        .gpus
        .iter()
        .filter_map(|gpu| gpu.place.numa_node)
        .collect();
    for node in &mut machine.numa_nodes {
        if node.cpus.is_empty() && memory_nodes.contains(node.id) {
            node.kind = NodeKind::Gpu;
        }
    }
    let seen: BTreeMap<PciAddress, NvmlGpu> =
        answer.gpus.into_iter().map(|gpu| (gpu.pci, gpu)).collect();
    machine.remarks.extend(answer.remarks);
    machine.p2p = answer.p2p;
    let mut all_seen = true;
    for gpu in machine.gpus.iter_mut().filter(|gpu| is_nvmls(gpu)) {
        let Some(nvml) = seen.get(&gpu.pci) else {
            all_seen = false;
            continue;
        };
        if gpu.minor_source != MinorSource::Driver
            && let Some(minor) = nvml.minor
        {
            (gpu.minor, gpu.minor_source) = (Some(minor), MinorSource::Nvml);
        }
        gpu.uuid = nvml.uuid.clone().or(gpu.uuid.take());
        gpu.name = nvml.name.as_deref().map(plain).or(gpu.name.take());
        gpu.mig = nvml.mig.clone();
        gpu.nvml_place = Some(nvml.place.clone()).filter(|place| !place.is_empty());
    }
    let links = seen.values().map(|gpu| (gpu.pci, gpu.links.clone()));
    set_nvlinks(machine, &links.collect());
    machine.nvlink_visible = all_seen && answer.nvlink_asked && !seen.is_empty();
    if !all_seen {
        machine
            .remarks
            .push("NVML does not list every GPU; NVLink may be hidden".to_owned());
    }
}
