//! Environment of a bound task: NCCL's topology file, CUDA's device order, our report.
//!
//! What we set is also written into [`MARKS`], so that a step inside our own batch step can tell our
//! values from the user's and replace or remove them.

use std::path::{Path, PathBuf};

use ffi::linux::file::{FileError, is_roots_file, read_own_text};
use ffi::spank::Spank;
use topology::binding::{StepPlan, TaskPlan};
use topology::option::{Nccl, Policy};
use topology::snapshot::nccl_file;

use crate::option::Asked;
use crate::report;
use crate::snapshot::Host;
use crate::step::Step;

/// Names what we set: `NAME=value` items with a newline between.
const MARKS: &str = "GPU_NUMA_BIND_SET";
const TOPO_FILE: &str = "NCCL_TOPO_FILE";
const DEVICE_ORDER: &str = "CUDA_DEVICE_ORDER";
const REPORT: &str = "GPU_NUMA_BIND_REPORT";
/// The longest NCCL configuration file that is read, in bytes.
const LONGEST_CONF: u64 = 64 << 10;

/// Variables that an outer step of ours set and that still hold its value.
pub(crate) type Marks = Vec<String>;

/// The names that our outer step set and nobody changed since.
pub(crate) fn read_marks(spank: &Spank<'_>) -> Marks {
    let Some(marks) = spank.env(MARKS) else {
        return Marks::new();
    };
    let ours = [TOPO_FILE, DEVICE_ORDER];
    let mut names: Marks = marks
        .lines()
        .filter_map(|mark| mark.split_once('='))
        .filter(|(name, value)| ours.contains(name) && spank.env(name).as_deref() == Some(*value))
        .map(|(name, _)| name.to_owned())
        .collect();
    names.extend([MARKS.to_owned(), REPORT.to_owned()]);
    names
}

/// Removes what an outer step of ours left.
pub(crate) fn clear_marks(spank: &Spank<'_>, marks: &Marks) {
    for name in marks {
        let _ = spank.remove_env(name);
    }
}

/// Sets the variables of a bound task.
pub(crate) fn set(
    spank: &Spank<'_>,
    step: &Step,
    asked: &Asked,
    host: &Host,
    host_name: &str,
    plan: &StepPlan,
    own: &TaskPlan,
) {
    let has_gpus = plan.tasks.iter().any(|task| !task.gpus.is_empty());
    if !has_gpus || asked.settings.policy == Policy::None {
        return;
    }
    let mut marks = Vec::new();
    let mut set = |name: &str, value: &str| {
        if spank.set_env(name, value).is_ok() {
            marks.push(format!("{name}={value}"));
        }
    };
    if spank.env(DEVICE_ORDER).is_none() {
        set(DEVICE_ORDER, "PCI_BUS_ID");
    }
    if let Some(file) = topo_file(step, asked, host)
        && !is_answered(spank)
    {
        set(TOPO_FILE, &file.to_string_lossy());
    }
    // Even an empty one tells an inner step that the report is ours.
    let _ = spank.set_env(MARKS, &marks.join("\n"));
    if let Some(json) = report::to_json(step, host_name, own) {
        let _ = spank.set_env(REPORT, &json);
    }
}

/// The file that fits this job, where there is one and it may be used.
fn topo_file(step: &Step, asked: &Asked, host: &Host) -> Option<PathBuf> {
    if asked.settings.nccl == Nccl::Off {
        return None;
    }
    let despite_efa = asked.site_nccl == Some(Nccl::Topo);
    let name = nccl_file(&host.machine, step.hosts, despite_efa)?;
    let file = host.folder.as_ref()?.join(name);
    is_roots_file(&file).then_some(file)
}

/// Whether somebody else already answers for the topology: the user, a configuration file of NCCL (its
/// order: misc/param.cc, 2.30), or the fabric manager of a virtual machine.
fn is_answered(spank: &Spank<'_>) -> bool {
    if spank.env(TOPO_FILE).is_some() {
        return true;
    }
    let own = spank
        .env("NCCL_CONF_FILE")
        .or_else(|| spank.env("HOME").map(|home| format!("{home}/.nccl.conf")));
    own.is_some_and(|path| names_topo_file(Path::new(&path)))
        || names_topo_file(Path::new("/etc/nccl.conf"))
        || Path::new("/var/run/nvidia-topologyd/virtualTopology.xml").exists()
}

/// Whether an NCCL configuration file sets the topology; one that cannot be read to its end might.
fn names_topo_file(path: &Path) -> bool {
    match read_own_text(path, LONGEST_CONF) {
        Ok(text) => text.lines().any(|line| line.starts_with("NCCL_TOPO_FILE=")),
        Err(FileError::TooLarge { .. } | FileError::NotText(_)) => true,
        Err(_) => false,
    }
}
