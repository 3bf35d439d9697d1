//! Environment of a bound task: NCCL's topology file and profiler, CUDA's device order, our report.
//!
//! What we set is also written into [`MARKS`], so that a step inside our own batch step can tell our
//! values from the user's and replace or remove them.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use ffi::linux::file::{FileError, is_roots_file, read_own_text};
use ffi::linux::process::own_library;
use ffi::spank::Spank;
use topology::binding::{StepPlan, TaskPlan, first_crossing};
use topology::option::{Nccl, Policy};
use topology::snapshot::nccl_file;

use crate::option::Asked;
use crate::report;
use crate::snapshot::Host;
use crate::step::Step;

/// Names what we set: `NAME=value` items with a newline between.
const MARKS: &str = "GPU_NUMA_BIND_SET";
const TOPO_FILE: &str = "NCCL_TOPO_FILE";
const PROFILER: &str = "NCCL_PROFILER_PLUGIN";
const DEVICE_ORDER: &str = "CUDA_DEVICE_ORDER";
const REPORT: &str = "GPU_NUMA_BIND_REPORT";
/// The profiler plugin's file, beside this one.
const PROFILER_FILE: &str = "libnccl-profiler-gpu-numa.so";
/// The longest NCCL configuration file that is read, in bytes.
const LONGEST_CONF: u64 = 64 << 10;

/// Variables that an outer step of ours set and that still hold its value.
pub(crate) type Marks = Vec<String>;

/// The names that our outer step set and nobody changed since.
pub(crate) fn read_marks(spank: &Spank<'_>) -> Marks {
    let Some(marks) = spank.env(MARKS) else {
        return Marks::new();
    };
    let ours = [TOPO_FILE, PROFILER, DEVICE_ORDER];
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
    let answered = Answered::default();
    if let Some(file) = topo_file(step, asked, host)
        && !answered.topology(spank)
    {
        set(TOPO_FILE, &file.to_string_lossy());
    }
    if let Some(file) = profiler(asked, host, plan)
        && !answered.names(spank, PROFILER)
    {
        set(PROFILER, &file.to_string_lossy());
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

/// NCCL's profiler plugin, where it is installed beside this one and there is something to tell: always where
/// the user asks for it, else where two GPUs of the job here have no path but the socket link.
fn profiler(asked: &Asked, host: &Host, plan: &StepPlan) -> Option<PathBuf> {
    let wanted = match asked.settings.nccl {
        Nccl::Log => true,
        Nccl::On => first_crossing(&host.machine, plan).is_some(),
        Nccl::Topo | Nccl::Off => false,
    };
    let file = || Some(own_library()?.parent()?.join(PROFILER_FILE));
    wanted.then(file)?.filter(|file| is_roots_file(file))
}

/// NCCL's configuration files, as the user's NCCL will read them.
///
/// Read only where we have something to set that the environment leaves open: they may be on a file system that does
/// not answer, which nothing here could end.
#[derive(Default)]
struct Answered(OnceCell<Vec<String>>);

impl Answered {
    /// The texts of those that there are: the user's own, then the host's (`misc/param.cc` `initEnvFunc`, 2.30).  One
    /// that cannot be read to its end might name anything.
    fn texts(&self, spank: &Spank<'_>) -> &[String] {
        self.0.get_or_init(|| {
            let named = spank.env("NCCL_CONF_FILE").filter(|path| !path.is_empty());
            let own = named.or_else(|| spank.env("HOME").map(|home| format!("{home}/.nccl.conf")));
            let files = own.into_iter().chain(["/etc/nccl.conf".to_owned()]);
            let texts =
                files.filter_map(|path| match read_own_text(Path::new(&path), LONGEST_CONF) {
                    Ok(text) => Some(text),
                    Err(FileError::TooLarge { .. } | FileError::NotText(_)) => {
                        Some(format!("{TOPO_FILE}=\n{PROFILER}=\n"))
                    }
                    Err(_) => None,
                });
            texts.collect()
        })
    }

    /// Whether the user or a file sets a variable.
    fn names(&self, spank: &Spank<'_>, variable: &str) -> bool {
        let sets = |line: &str| {
            let value = line.strip_prefix(variable);
            value.is_some_and(|value| value.starts_with('='))
        };
        spank.env(variable).is_some() || self.texts(spank).iter().any(|text| text.lines().any(sets))
    }

    /// Whether somebody else already answers for the topology, the fabric manager of a virtual machine too.
    fn topology(&self, spank: &Spank<'_>) -> bool {
        Path::new("/var/run/nvidia-topologyd/virtualTopology.xml").exists()
            || self.names(spank, TOPO_FILE)
    }
}
