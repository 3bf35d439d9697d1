//! The host as this process sees it, read once.

use std::path::{Path, PathBuf};

use ffi::linux::file::read_own_text;
use launch::host::{LONGEST_TOPOLOGY, Trust};
use nccl_topo::reader::{System, read};
use once_cell::sync::OnceCell;
use topology::machine::Machine;
use topology::snapshot::{DIRECTORY, NODE_FILE};

/// Where the snapshot is: beside the topology file that the environment names, else in its usual place.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceCell<PathBuf> = OnceCell::new();
    FOLDER.get_or_init(|| {
        let beside = std::env::var_os("NCCL_TOPO_FILE")
            .and_then(|file| Some(PathBuf::from(file).parent()?.to_owned()))
            .filter(|folder| folder.join(NODE_FILE).exists());
        beside.unwrap_or_else(|| PathBuf::from(DIRECTORY))
    })
}

/// The machine of the snapshot; none where there is none that root or this user wrote in this boot.
pub(crate) fn snapshot_machine() -> Option<&'static Machine> {
    static MACHINE: OnceCell<Option<Machine>> = OnceCell::new();
    let machine =
        MACHINE.get_or_init(|| launch::host::read_snapshot(folder(), Trust::RootOrUser).ok());
    machine.as_ref()
}

/// The machine, by the snapshot or by `/sys`.
pub(crate) fn machine() -> Option<&'static Machine> {
    static MACHINE: OnceCell<Option<Machine>> = OnceCell::new();
    snapshot_machine().or_else(|| {
        let read = || launch::host::read_sys().ok();
        MACHINE.get_or_init(read).as_ref()
    })
}

/// Reads a topology file as NCCL does, as this user; none where NCCL refuses it.
pub(crate) fn read_topology(path: &Path) -> Option<System> {
    let text = read_own_text(path, LONGEST_TOPOLOGY).ok()?;
    read(&text).system
}

/// A number for this boot, the same in all processes of the host.
pub(crate) fn boot_number() -> u32 {
    let boot = launch::host::boot_id().unwrap_or_default();
    let digits = boot.get(..8).unwrap_or_default();
    u32::from_str_radix(digits, 16).unwrap_or(0)
}

/// The host's name, up to its first dot.
pub(crate) fn name() -> String {
    let name = launch::host::name().unwrap_or_else(|| "host".to_owned());
    name.split('.').next().unwrap_or_default().to_owned()
}
