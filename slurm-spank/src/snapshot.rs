//! The machine as a step's host is: from the snapshot, failing that from `/sys`.

use std::fmt;
use std::path::{Path, PathBuf};

use ffi::linux::file::{FileError, read_roots_text};
use topology::machine::Machine;
use topology::snapshot::{MAX_BYTES, NODE_FILE};
use topology::sysfs;

/// A machine and where it is from.
#[derive(Debug)]
pub(crate) struct Host {
    /// The machine.
    pub(crate) machine: Machine,
    /// The folder whose NCCL files fit it; absent when it was read from `/sys`.
    pub(crate) folder: Option<PathBuf>,
    /// Why the snapshot is not used; absent when it is.
    pub(crate) remark: Option<Remark>,
}

/// Why a snapshot is not used.
#[derive(Debug)]
pub(crate) enum Remark {
    /// There is none: the site may not run the service.
    Missing(String),
    /// There is one that cannot be used, which somebody should mend.
    Unusable(String),
}

/// Reads the host.
///
/// # Errors
/// One line when neither the snapshot nor `/sys` gives a machine.
pub(crate) fn read_host(folder: &Path) -> Result<Host, String> {
    let file = folder.join(NODE_FILE);
    let remark = match read_snapshot(&file) {
        Ok(Some(machine)) => {
            return Ok(Host {
                machine,
                folder: Some(folder.to_owned()),
                remark: None,
            });
        }
        Ok(None) => Remark::Missing(format!("no {}", file.display())),
        Err(why) => Remark::Unusable(why),
    };
    let root = Path::new("/");
    let (overrides, _) = sysfs::read_overrides(root);
    match sysfs::read_machine(root, &overrides) {
        Ok(machine) => Ok(Host {
            machine,
            folder: None,
            remark: Some(remark),
        }),
        Err(error) => {
            let (Remark::Missing(why) | Remark::Unusable(why)) = remark;
            Err(format!("{why}, and {error}"))
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(why) | Self::Unusable(why) => {
                write!(
                    f,
                    "{why}; reading /sys instead, NCCL_TOPO_FILE is not set (gpu-numa snapshot writes it)"
                )
            }
        }
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
    let machine = sysfs::read_current(Path::new("/"), &text);
    machine
        .map(Some)
        .map_err(|error| format!("{}: {error}", path.display()))
}
