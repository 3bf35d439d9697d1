//! Reads a machine, live or recorded, every fact with where it came from.
//!
//! Architecture invariant: C libraries (hwloc, NVML) run in a short-lived child process of the same
//! program only ([`probe`]), because hwloc takes its root from the process's environment, may stop the
//! process on odd input, and a driver may hang.  A child that fails costs its facts and a remark.

#![forbid(unsafe_code)]

pub mod child;
mod error;
mod hwloc;
mod merge;
mod nccl_xml;
mod nvml;
pub mod probe;
mod source;

use std::collections::BTreeMap;
use std::path::Path;

pub use error::{ACCEPTED, AskError, DiscoveryError, ProbeError};
pub use nccl_xml::NcclXmlError;
pub use source::Source;

use merge::Place;
use roxmltree::{Document, ParsingOptions};
use source::Content;
use topology::locality::Overrides;
use topology::machine::{MOST_GPUS, Machine};
use topology::pci::PciAddress;
use topology::snapshot::Snapshot;

/// The schema of a machine as `gpu-numa show --json` prints it.
pub const MACHINE_SCHEMA: &str = "gpu-numa/machine/1";

/// Reads a machine with this program itself as the child that asks hwloc and NVML.
///
/// The program's `main` must hand its hidden subcommand to [`probe::answer`].
///
/// # Errors
/// [`DiscoveryError`], by what is wrong with the source; trouble with a part of a machine is a remark.
pub fn read_machine(source: &Source) -> Result<Machine, DiscoveryError> {
    read_machine_with(source, Path::new("/proc/self/exe"))
}

/// Reads this machine as it is: NVML, which loads the driver where it is not, is asked only where it is.
///
/// # Errors
/// As [`read_machine`].
pub fn read_this_machine_as_it_is() -> Result<Machine, DiscoveryError> {
    let program = Path::new("/proc/self/exe");
    merge::read_root(Path::new("/"), Place::LiveAsItIs, program)
}

/// Reads this machine without asking the driver of its GPUs, which may take seconds: no NVLink, MIG instances or names.
///
/// # Errors
/// As [`read_machine`].
pub fn read_this_machine_without_driver() -> Result<Machine, DiscoveryError> {
    let program = Path::new("/proc/self/exe");
    merge::read_root(Path::new("/"), Place::LiveWithoutDriver, program)
}

/// The processes that NVML lists on each GPU; none where it cannot be asked, or numbers processes otherwise than the
/// caller: in a container it gives the host's numbers.  `machine` is this one.
pub fn read_gpu_processes(machine: &Machine) -> BTreeMap<PciAddress, Vec<u32>> {
    // PROC_PID_INIT_INO (include/linux/proc_ns.h): the first process namespace.
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    if namespace != Path::new("pid:[4026531836]") {
        return BTreeMap::new();
    }
    let devices = merge::driver_files(machine);
    probe::ask_gpu_processes(Path::new("/proc/self/exe"), &devices).unwrap_or_default()
}

/// Reads a machine with `program` as the child that asks hwloc and NVML.
///
/// # Errors
/// As [`read_machine`].
pub fn read_machine_with(source: &Source, program: &Path) -> Result<Machine, DiscoveryError> {
    let path = match source {
        Source::ThisMachine => return merge::read_root(Path::new("/"), Place::Live, program),
        Source::Path(path) => path,
    };
    let machine = read_path(path, program)?;
    if machine.gpus.len() > MOST_GPUS {
        return Err(DiscoveryError::TooManyGpus {
            path: path.clone(),
            count: machine.gpus.len(),
            most: MOST_GPUS,
        });
    }
    Ok(machine)
}

fn read_path(path: &Path, program: &Path) -> Result<Machine, DiscoveryError> {
    match source::open(path)? {
        Content::Root => merge::read_root(path, Place::Recorded, program),
        Content::HwlocXml(text) => read_hwloc_xml(path, text, program),
        Content::NcclXml(text) => {
            nccl_xml::parse_machine(&text).map_err(|error| DiscoveryError::NcclXml {
                path: path.to_owned(),
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

/// The version of the GPUs' driver of `source`; none where no driver is loaded, and for files that do not have it.
pub fn read_driver(source: &Source) -> Option<String> {
    match source {
        Source::ThisMachine => topology::sysfs::read_driver(Path::new("/")),
        Source::Path(path) if path.is_dir() => topology::sysfs::read_driver(path),
        Source::Path(path) => match source::open(path).ok()? {
            Content::Json(text) => Snapshot::parse(&text).ok()?.driver,
            Content::Root | Content::HwlocXml(_) | Content::NcclXml(_) => None,
        },
    }
}

/// Nodes of an hwloc XML at most; one of 4,096 CPUs has some 50,000.
const MAX_HWLOC_NODES: u32 = 1 << 22;

/// The text in a version that this program's hwloc reads.  What is not XML is left to hwloc, which says so.
fn as_readable(path: &Path, text: String) -> Result<String, DiscoveryError> {
    let options = ParsingOptions {
        allow_dtd: true,
        nodes_limit: MAX_HWLOC_NODES,
        ..ParsingOptions::default()
    };
    let Ok(document) = Document::parse_with_options(&text, options) else {
        return Ok(text);
    };
    // Version 1 files have none.
    let version = document.root_element().attribute("version");
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    match (version, major) {
        (Some(version), Some(4..)) => Err(DiscoveryError::HwlocTooNew {
            path: path.to_owned(),
            version: version.to_owned(),
        }),
        (_, Some(3)) => Ok(hwloc::version_3::as_version_2(&document)),
        _ => Ok(text),
    }
}

fn read_hwloc_xml(path: &Path, text: String, program: &Path) -> Result<Machine, DiscoveryError> {
    let text = as_readable(path, text)?;
    let answer = probe::ask_hwloc_xml(program, text).map_err(|error| DiscoveryError::Hwloc {
        path: path.to_owned(),
        error,
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
    let json = |error| DiscoveryError::Json {
        path: path.to_owned(),
        error,
    };
    let schema = serde_json::from_str::<Schema>(text).map_err(json)?;
    if schema.schema == MACHINE_SCHEMA {
        return serde_json::from_str(text).map_err(json);
    }
    let snapshot = Snapshot::parse(text).map_err(|error| DiscoveryError::Snapshot {
        path: path.to_owned(),
        error,
    })?;
    Ok(snapshot.machine)
}
