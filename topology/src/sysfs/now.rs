//! What a host says now, to compare a snapshot with: a handful of small files.

use std::path::Path;

use super::files::Root;
use crate::machine::Machine;
use crate::pci::PciAddress;
use crate::snapshot::{HostNow, Snapshot, Stale};
use crate::vendor::VENDORS;

/// Reads boot id, driver version and online CPUs below `root`, which GPUs of `machine` are there, and which others
/// the driver has.
pub fn read_now(root: &Path, machine: &Machine) -> HostNow {
    let root = Root(root);
    let gpus: Vec<PciAddress> = machine.gpus.iter().map(|gpu| gpu.pci).collect();
    // What a driver lists is there, and need not be looked for one by one.
    let folders = VENDORS.iter().filter_map(|vendor| vendor.driver.gpus);
    let listed = folders.flat_map(|folder| root.entries(folder));
    let listed: Vec<PciAddress> = listed.filter_map(|name| name.parse().ok()).collect();
    let unlisted = gpus.iter().filter(|gpu| !listed.contains(gpu));
    let unlisted: Vec<String> = unlisted.map(ToString::to_string).collect();
    let mut found = if unlisted.is_empty() {
        Vec::new()
    } else {
        root.which_are_in("sys/bus/pci/devices", &unlisted)
    }
    .into_iter();
    let is_there = |gpu: &&PciAddress| listed.contains(gpu) || found.next() == Some(true);
    let appeared = listed.iter().filter(|gpu| !gpus.contains(gpu));
    HostNow {
        boot_id: line(root, "proc/sys/kernel/random/boot_id"),
        driver: driver_of(root),
        online: super::cpu::read_online(root).unwrap_or_default(),
        gpus: gpus
            .iter()
            .filter(is_there)
            .chain(appeared)
            .copied()
            .collect(),
        generation: generation_of(root, machine),
    }
}

/// How often a driver has listed the machine's GPUs anew; none where none says so.
fn generation_of(root: Root<'_>, machine: &Machine) -> Option<String> {
    let mut files = VENDORS.iter().filter_map(|vendor| {
        let has_some = machine.gpus.iter().any(|gpu| gpu.vendor == vendor.id);
        vendor.driver.generation.filter(|_| has_some)
    });
    files.find_map(|file| line(root, file))
}

fn line(root: Root<'_>, path: &str) -> Option<String> {
    root.text(path)
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}

/// The version of the driver of GPUs that are bound at launch, below `root`; none where none is loaded.
pub fn read_driver(root: &Path) -> Option<String> {
    driver_of(Root(root))
}

fn driver_of(root: Root<'_>) -> Option<String> {
    let mut bound = VENDORS.iter().filter(|vendor| vendor.is_bound_at_launch);
    bound.find_map(|vendor| vendor.version_files().find_map(|file| line(root, &file)))
}

/// The machine of a snapshot, where that is still the machine below `root`.
///
/// # Errors
/// [`Stale`] by what changed.
pub fn current(root: &Path, snapshot: Snapshot) -> Result<Machine, Stale> {
    match snapshot.staleness(&read_now(root, &snapshot.machine)) {
        Some(stale) => Err(stale),
        None => Ok(snapshot.machine),
    }
}
