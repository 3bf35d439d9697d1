//! The machine as a step's host is: from the snapshot, failing that from `/sys`.

use std::path::{Path, PathBuf};

use ffi::linux::file::{FileError, read_roots_text};
use topology::machine::Machine;
use topology::snapshot::{MAX_BYTES, NODE_FILE, Snapshot};
use topology::sysfs;

/// A machine and where it is from.
#[derive(Debug)]
pub(crate) struct Host {
    /// The machine.
    pub(crate) machine: Machine,
    /// The folder whose NCCL files fit it; absent when it was read from `/sys`.
    pub(crate) folder: Option<PathBuf>,
    /// Why the snapshot was not used, when there is one; for the log.
    pub(crate) remark: Option<String>,
}

/// Reads the host.
///
/// # Errors
/// One line when neither the snapshot nor `/sys` gives a machine.
pub(crate) fn read_host(folder: &Path) -> Result<Host, String> {
    let remark = match read_snapshot(&folder.join(NODE_FILE)) {
        Ok(Some(machine)) => {
            return Ok(Host {
                machine,
                folder: Some(folder.to_owned()),
                remark: None,
            });
        }
        Ok(None) => None,
        Err(why) => Some(format!(
            "{why}; reading /sys instead (gpu-numa snapshot writes a new one)"
        )),
    };
    let root = Path::new("/");
    let (overrides, _) = sysfs::read_overrides(root);
    match sysfs::read_machine(root, &overrides) {
        Ok(machine) => Ok(Host {
            machine,
            folder: None,
            remark,
        }),
        Err(error) => Err(format!("{error}; {}", remark.unwrap_or_default())),
    }
}

/// The snapshot's machine; absent when there is none.
fn read_snapshot(path: &Path) -> Result<Option<Machine>, String> {
    let text = match read_roots_text(path, MAX_BYTES) {
        Ok(text) => text,
        Err(FileError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    };
    let snapshot =
        Snapshot::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let gpus: Vec<_> = snapshot.machine.gpus.iter().map(|gpu| gpu.pci).collect();
    let now = sysfs::read_now(Path::new("/"), &gpus);
    match snapshot.staleness(&now) {
        Some(stale) => Err(format!("{}: stale: {stale}", path.display())),
        None => Ok(Some(snapshot.machine)),
    }
}
