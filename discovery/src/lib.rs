//! Reads a machine, live or recorded, every fact with where it came from.
//!
//! Architecture invariant: C libraries (hwloc, NVML) run in a short-lived child process of the same
//! program only ([`child`]), because hwloc takes its root from the process's environment, may stop the
//! process on odd input, and a driver may hang.  A child that fails costs its facts and a remark.

#![forbid(unsafe_code)]

pub mod child;
mod hwloc;
mod hwloc_nvlink;
mod hwloc_v3;
mod merge;
mod nccl_xml;
mod nvml;
mod source;

use std::path::{Path, PathBuf};

pub use nccl_xml::NcclXmlError;
pub use source::Source;

use source::Content;
use topology::locality::Overrides;
use topology::machine::Machine;
use topology::snapshot::Snapshot;
use topology::sysfs::SysfsError;

/// What `--from` takes, for messages.
pub const ACCEPTED: &str =
    "expected a directory holding sys/, an hwloc XML, an NCCL XML or a snapshot (node.json)";

/// The schema of a machine as `gpu-numa show --json` prints it.
pub const MACHINE_SCHEMA: &str = "gpu-numa/machine/1";

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The path cannot be opened or read.
    #[error("{path}: {error}; {ACCEPTED}")]
    Unreadable {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A directory that is no filesystem root.
    #[error("{0} holds no sys/; {ACCEPTED}")]
    NoRoot(PathBuf),
    /// A root without CPUs.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    /// A device, FIFO or socket.
    #[error("{0} is neither a directory nor a regular file; {ACCEPTED}")]
    NoFile(PathBuf),
    /// A file beyond 64 MiB.
    #[error("{path} is larger than {limit_mib} MiB; {ACCEPTED}")]
    TooLarge {
        /// The path as given.
        path: PathBuf,
        /// The limit.
        limit_mib: u64,
    },
    /// A file of no known format.
    #[error("{0} is of no known format; {ACCEPTED}")]
    UnknownFormat(PathBuf),
    /// An hwloc XML of version 4 or later.
    #[error(
        "{path}: an hwloc {version} XML; versions 1 to 3 can be read \
         (re-export it with `lstopo --export-xml-flags v2`)"
    )]
    HwlocTooNew {
        /// The path as given.
        path: PathBuf,
        /// What its `<topology version=...>` says.
        version: String,
    },
    /// hwloc did not take an XML.
    #[error("{path}: hwloc cannot read it: {why}")]
    Hwloc {
        /// The path as given.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// An NCCL XML with an error.
    #[error("{path}:{error}")]
    NcclXml {
        /// The path as given.
        path: PathBuf,
        /// Line and fault.
        error: NcclXmlError,
    },
    /// A snapshot with an error.
    #[error("{path}: {why}")]
    Snapshot {
        /// The path as given.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
}

/// Reads a machine with this program itself as the child that asks hwloc and NVML.
///
/// The program's `main` must hand its hidden subcommand to [`child::answer`].
///
/// # Errors
/// [`DiscoveryError`], by what is wrong with the source; trouble with a part of a machine is a remark.
pub fn read_machine(source: &Source) -> Result<Machine, DiscoveryError> {
    read_machine_with(source, Path::new("/proc/self/exe"))
}

/// Reads a machine with `program` as the child that asks hwloc and NVML.
///
/// # Errors
/// As [`read_machine`].
pub fn read_machine_with(source: &Source, program: &Path) -> Result<Machine, DiscoveryError> {
    let path = match source {
        Source::ThisMachine => return merge::read_root(Path::new("/"), true, program),
        Source::Path(path) => path,
    };
    match source::open(path)? {
        Content::Root => merge::read_root(path, false, program),
        Content::HwlocXml(text) => read_hwloc_xml(path, text, program),
        Content::NcclXml(text) => {
            nccl_xml::parse_machine(&text).map_err(|error| DiscoveryError::NcclXml {
                path: path.clone(),
                error,
            })
        }
        Content::Json(text) => read_json(path, &text),
    }
}

/// The site's override file of `source`; empty for a file, which has none.
pub fn read_overrides(source: &Source) -> Overrides {
    match source {
        Source::ThisMachine => topology::sysfs::read_overrides(Path::new("/")).0,
        Source::Path(path) => topology::sysfs::read_overrides(path).0,
    }
}

fn read_hwloc_xml(path: &Path, text: String, program: &Path) -> Result<Machine, DiscoveryError> {
    let text = match source::hwloc_version(&text) {
        Some(version) if version.major > 3 => {
            return Err(DiscoveryError::HwlocTooNew {
                path: path.to_owned(),
                version: version.text,
            });
        }
        Some(version) if version.major == 3 => hwloc_v3::as_version_2(&text, &version.text),
        Some(_) | None => text,
    };
    let answer = child::ask_hwloc_xml(program, text).map_err(|error| DiscoveryError::Hwloc {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    let mut machine = answer.machine;
    topology::locality::locate_all(&mut machine, &Overrides::new());
    Ok(machine)
}

/// A snapshot, or what `gpu-numa show --json` prints.
fn read_json(path: &Path, text: &str) -> Result<Machine, DiscoveryError> {
    #[derive(serde::Deserialize)]
    struct Schema {
        #[serde(default)]
        schema: String,
    }
    let bad = |why: String| DiscoveryError::Snapshot {
        path: path.to_owned(),
        why,
    };
    let schema = serde_json::from_str::<Schema>(text).map_err(|error| bad(error.to_string()))?;
    if schema.schema == MACHINE_SCHEMA {
        return serde_json::from_str(text).map_err(|error| bad(error.to_string()));
    }
    let snapshot = Snapshot::parse(text).map_err(|error| bad(error.to_string()))?;
    Ok(snapshot.machine)
}
