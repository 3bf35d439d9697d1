//! What a host says now, to compare a snapshot with: a handful of small files.

use std::path::Path;

use super::files::Root;
use crate::pci::PciAddress;
use crate::snapshot::HostNow;

/// Reads boot id, driver version and online CPUs below `root`, and which of `gpus` are there.
pub fn read_now(root: &Path, gpus: &[PciAddress]) -> HostNow {
    let root = Root(root);
    let line = |path: &str| {
        root.text(path)
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
    };
    let is_there = |gpu: &&PciAddress| {
        root.path(&format!("sys/bus/pci/devices/{gpu}")).exists()
            || root
                .path(&format!("proc/driver/nvidia/gpus/{gpu}"))
                .exists()
    };
    HostNow {
        boot_id: line("proc/sys/kernel/random/boot_id"),
        driver: line("sys/module/nvidia/version"),
        online: super::cpu::read_online(root).unwrap_or_default(),
        gpus: gpus.iter().filter(is_there).copied().collect(),
    }
}
