//! Why a source gives no machine, and a library no answer.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use topology::snapshot::SnapshotError;
use topology::sysfs::SysfsError;

use crate::child::ChildError;
use crate::nccl_xml::NcclXmlError;

/// What `--from` takes, for messages.
pub const ACCEPTED: &str = "expected a directory holding sys/ or a tarball of one, an hwloc XML, an NCCL XML or a snapshot (node.json)";

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
    /// An XML that takes long to read, and is none of hwloc's or NCCL's.
    #[error("{path}:{line}: an element of more than {most} attributes; {ACCEPTED}")]
    TooManyAttributes {
        /// The path as given.
        path: PathBuf,
        /// Where the element begins, counted from 1.
        line: usize,
        /// The limit.
        most: usize,
    },
    /// More GPUs than a host has, with all their virtual functions.
    #[error("{path}: {count} GPUs; expected at most {most}")]
    TooManyGpus {
        /// The path as given.
        path: PathBuf,
        /// How many there are.
        count: usize,
        /// The limit.
        most: usize,
    },
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
    #[error("{path}: hwloc cannot read it: {error}")]
    Hwloc {
        /// The path as given.
        path: PathBuf,
        /// What went wrong.
        error: AskError,
    },
    /// An NCCL XML with an error.
    #[error("{path}:{error}")]
    NcclXml {
        /// The path as given.
        path: PathBuf,
        /// Line and fault.
        error: NcclXmlError,
    },
    /// A text that begins as JSON and is none, or not a machine's.
    #[error("{path}: {error}")]
    Json {
        /// The path as given.
        path: PathBuf,
        /// Where and what.
        error: serde_json::Error,
    },
    /// A snapshot with an error.
    #[error("{path}: {error}")]
    Snapshot {
        /// The path as given.
        path: PathBuf,
        /// What went wrong.
        error: SnapshotError,
    },
}

/// Why the process that asks a library has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ProbeError {
    /// The library's own words.
    #[error("{0}")]
    Library(String),
    /// The library is not there, or lacks something.
    #[error("it cannot be loaded ({0})")]
    NotLoaded(String),
    /// hwloc makes no topology of its input.
    #[error("it is truncated, or no hwloc XML")]
    NoTopology,
    /// The text to read did not come.
    #[error("its input cannot be read: {0}")]
    Input(String),
    /// The parent is another release.
    #[error("no such question")]
    NoSuchQuestion,
    /// A fault in this program.
    #[error("it panicked")]
    Panicked,
    /// A fault in this program.
    #[error("its answer has no JSON form")]
    NoJson,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The process gave none.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The process said why.
    #[error(transparent)]
    Refused(ProbeError),
}
