//! The machine that this host is: from the snapshot where that can be used, else from `/sys`.

use std::path::{Path, PathBuf};

use ffi::linux::file::{
    FileError, is_roots_file, read_roots_pieces, read_roots_text, read_trusted_text,
};
use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::snapshot::{Head, MAX_BYTES, NODE_FILE, Snapshot, SnapshotError, Stale};
use topology::sysfs::{self, SysfsError};

use crate::observe::Devices;

/// This host's files.
const ROOT: &str = "/";
/// The longest NCCL topology file that is read, in bytes; NCCL takes at most 255 elements.
pub const LONGEST_TOPOLOGY: u64 = 1 << 20;

/// Whom a reader of the snapshot service's files trusts, and so what it compares them with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// A part of Slurm that runs as root: root's files in root's folder, and everything must be as the host is now.
    Root,
    /// A user's process, maybe in a container: files of root or of that user, of this boot.  Which GPUs and CPUs are
    /// there now is not compared: a container may show other ones.
    RootOrUser,
}

impl Trust {
    /// Reads a file of the snapshot service.
    ///
    /// # Errors
    /// [`FileError`] by what is wrong.
    pub fn read(self, path: &Path, limit: u64) -> Result<String, FileError> {
        match self {
            Self::Root => read_roots_text(path, limit),
            Self::RootOrUser => read_trusted_text(path, limit),
        }
    }

    /// Whether `path` is a file that is not empty and that no one else can have written.
    pub fn is_usable(self, path: &Path) -> bool {
        match self {
            Self::Root => is_roots_file(path),
            Self::RootOrUser => {
                read_trusted_text(path, LONGEST_TOPOLOGY).is_ok_and(|text| !text.is_empty())
            }
        }
    }
}

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFault {
    /// There is none: the site may not run the service.
    #[error("no {}", .0.display())]
    Missing(PathBuf),
    /// It cannot be read, or others could have written it.
    #[error(transparent)]
    File(FileError),
    /// It is no snapshot, or it is stale.
    #[error("{}: {error}", path.display())]
    Contents {
        /// The snapshot.
        path: PathBuf,
        /// What is wrong with it.
        error: SnapshotError,
    },
}

impl SnapshotFault {
    /// Whether somebody should look into it; a snapshot that is missing may be the site's choice.
    pub fn is_defect(&self) -> bool {
        !matches!(self, Self::Missing(_))
    }

    /// Whether it was right when it was written.
    pub fn is_stale(&self) -> bool {
        let Self::Contents { error, .. } = self else {
            return false;
        };
        matches!(error, SnapshotError::Stale(_))
    }

    /// The first GPU of the snapshot that is gone, where that is why it is not used; the snapshot is of this boot then.
    pub fn gone(&self) -> Option<PciAddress> {
        match self {
            Self::Contents {
                error: SnapshotError::Stale(Stale::Gpu(gpu)),
                ..
            } => Some(*gpu),
            Self::Missing(_) | Self::File(_) | Self::Contents { .. } => None,
        }
    }
}

/// Reads the snapshot in `folder` and says why it cannot be used where it cannot.
///
/// # Errors
/// [`SnapshotFault`] by what is wrong.
pub fn read_snapshot(folder: &Path, trust: Trust) -> Result<Machine, SnapshotFault> {
    read_parsed(folder, trust, Snapshot::parse)
}

/// The same as a part of Slurm reads it at each launch: the machine as [`Machine::for_launch`] keeps it.
fn read_for_launch(folder: &Path) -> Result<Machine, SnapshotFault> {
    let path = folder.join(NODE_FILE);
    let mut head = Head::default();
    let is_read = read_roots_pieces(&path, MAX_BYTES, |piece| head.take(piece)).is_ok();
    if let Some(snapshot) = is_read.then(|| head.snapshot()).flatten() {
        let machine = sysfs::current(Path::new(ROOT), snapshot);
        return machine.map_err(|stale| SnapshotFault::Contents {
            path,
            error: stale.into(),
        });
    }
    // Its whole text says what is wrong with it, or is JSON without a head.
    read_parsed(folder, Trust::Root, Snapshot::parse_for_launch)
}

fn read_parsed(
    folder: &Path,
    trust: Trust,
    parse: impl FnOnce(&str) -> Result<Snapshot, SnapshotError>,
) -> Result<Machine, SnapshotFault> {
    let path = folder.join(NODE_FILE);
    let text = match trust.read(&path, MAX_BYTES) {
        Ok(text) => text,
        Err(FileError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(SnapshotFault::Missing(path));
        }
        Err(error) => return Err(SnapshotFault::File(error)),
    };
    let machine = parse(&text).and_then(|snapshot| match trust {
        Trust::Root => Ok(sysfs::current(Path::new(ROOT), snapshot)?),
        Trust::RootOrUser if snapshot.boot_id == boot_id() => Ok(snapshot.machine),
        Trust::RootOrUser => Err(Stale::Boot.into()),
    });
    machine.map_err(|error| SnapshotFault::Contents { path, error })
}

/// Reads the machine from `/sys`, with the site's override file.
///
/// # Errors
/// [`SysfsError`] where `/sys` is not there.
pub fn read_sys() -> Result<Machine, SysfsError> {
    let root = Path::new(ROOT);
    let (overrides, _) = sysfs::read_overrides(root);
    sysfs::read_machine(root, &overrides)
}

/// A host's machine, and where that is from.
#[derive(Debug)]
pub struct KnownHost {
    /// The machine; of a snapshot, what [`Machine::for_launch`] keeps.
    pub machine: Machine,
    /// The device files of its GPUs.
    pub devices: Devices,
    /// The folder whose NCCL files fit it; none where it was read from `/sys`.
    pub folder: Option<PathBuf>,
    /// Why the snapshot is not used; none where it is.
    pub fault: Option<SnapshotFault>,
}

impl KnownHost {
    /// A machine from the snapshot in `folder`, or from `/sys` because of a fault of that.
    pub fn new(machine: Machine, folder: Option<PathBuf>, fault: Option<SnapshotFault>) -> Self {
        Self {
            devices: Devices::of(&machine),
            machine,
            folder,
            fault,
        }
    }
}

/// Why nothing is known of a host.
#[derive(Debug, thiserror::Error)]
#[error("{snapshot}, and {sysfs}")]
pub struct UnknownHost {
    /// Why the snapshot is not used.
    pub snapshot: SnapshotFault,
    /// Why `/sys` gave no machine.
    pub sysfs: SysfsError,
}

/// Reads the host as a part of Slurm sees it: the snapshot in `folder`, failing that `/sys`.
///
/// # Errors
/// [`UnknownHost`] where neither gives a machine.
pub fn read_host(folder: &Path) -> Result<KnownHost, UnknownHost> {
    let fault = match read_for_launch(folder) {
        Ok(machine) => {
            return Ok(KnownHost::new(machine, Some(folder.to_owned()), None));
        }
        Err(fault) => fault,
    };
    match read_sys() {
        Ok(machine) => Ok(KnownHost::new(machine, None, Some(fault))),
        Err(sysfs) => Err(UnknownHost {
            snapshot: fault,
            sysfs,
        }),
    }
}

/// The kernel's id of this boot; none where `/proc` is not there.
pub fn boot_id() -> Option<String> {
    sysfs::read_now(Path::new(ROOT), &Machine::default()).boot_id
}

/// The kernel's name of this host; none where `/proc` is not there.
pub fn name() -> Option<String> {
    sysfs::read_hostname(Path::new(ROOT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::snapshot::HostNow;

    #[test]
    fn a_gpu_is_gone_only_where_that_is_why_the_snapshot_is_not_used() {
        let fault = |stale: Stale| SnapshotFault::Contents {
            path: PathBuf::new(),
            error: stale.into(),
        };
        let gpu: PciAddress = "0000:23:00.0".parse().unwrap();
        assert_eq!(fault(Stale::Gpu(gpu)).gone(), Some(gpu));
        assert_eq!(fault(Stale::NewGpu(gpu)).gone(), None);
        assert_eq!(fault(Stale::Boot).gone(), None);
    }

    fn write_snapshot(folder: &Path, now: &HostNow) -> PathBuf {
        let text = Snapshot::new(Machine::default(), now, 1).to_json().unwrap();
        let path = folder.join(NODE_FILE);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_missing_snapshot_is_no_defect_and_one_of_another_boot_is() {
        let folder = tempfile::tempdir().unwrap();
        let fault = read_snapshot(folder.path(), Trust::RootOrUser).unwrap_err();
        assert!(!fault.is_defect(), "{fault}");
        write_snapshot(folder.path(), &HostNow::default());
        let fault = read_snapshot(folder.path(), Trust::RootOrUser).unwrap_err();
        assert!(fault.is_defect());
        assert!(
            fault
                .to_string()
                .ends_with("node.json: stale: it is from another boot")
        );
    }

    #[test]
    fn a_users_process_takes_a_snapshot_of_this_boot_whatever_else_changed() {
        let folder = tempfile::tempdir().unwrap();
        let now = HostNow {
            boot_id: boot_id(),
            driver: Some("no such driver".to_owned()),
            ..HostNow::default()
        };
        write_snapshot(folder.path(), &now);
        read_snapshot(folder.path(), Trust::RootOrUser).unwrap();
        assert!(read_snapshot(folder.path(), Trust::Root).is_err());
    }

    #[test]
    fn a_snapshot_that_others_can_write_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = write_snapshot(folder.path(), &HostNow::default());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        for trust in [Trust::Root, Trust::RootOrUser] {
            let fault = read_snapshot(folder.path(), trust).unwrap_err();
            assert!(
                matches!(fault, SnapshotFault::File(FileError::NotRoots { .. })),
                "{fault}"
            );
        }
    }

    #[test]
    fn without_a_snapshot_the_host_is_read_from_sys() {
        let folder = tempfile::tempdir().unwrap();
        // A folder of this user's own would be a defect: only root's are believed.
        let host = read_host(&folder.path().join("none")).unwrap();
        assert!(host.folder.is_none() && !host.machine.online.is_empty());
        let fault = host.fault.unwrap();
        assert!(!fault.is_defect(), "{fault:?}");
    }
}
