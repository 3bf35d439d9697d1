//! What holds for all tasks of a step on this host, gathered in slurmstepd before the fork.
//!
//! Never fails and never blocks: what cannot be had is noted and said later from a task.

use ffi::spank::{Spank, sys};
use launch::environment::Marks;
use launch::host::{KnownHost, UnknownHost, read_host};
use launch::nccl::StepFiles;
use launch::observe::{self, GivenCores};
use launch::shared::page::Page;
use launch::site::{Asked, SiteConfig, VARIABLE};
use once_cell::sync::OnceCell;
use slurm_config::cores::{CoreMap, CoreSet, SocketKind};
use topology::binding::KernelVersion;
use topology::machine::Machine;
use topology::option::{Policy, Width};
use topology::set::CpuSet;
use topology::words::{self, Verb};

use crate::{ALLOCATOR, option};

/// In a box, so that the plugin has no room for it where nobody asks for one.
static STEP: OnceCell<Box<Step>> = OnceCell::new();

/// How much of the reserve a step is gathered in: more than that takes on most hosts.
const STEP_BYTES: usize = 256 << 10;

/// What kind of step it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepKind {
    /// An ordinary step of srun.
    Ordinary,
    /// A batch script's own step, or salloc's interactive one.
    Script,
}

/// A step on this host.
#[derive(Debug)]
pub(crate) struct Step {
    /// What is asked for; none where binding is off, and only inherited marks are to be cleared.
    pub(crate) bind: Option<Bind>,
    /// The user's strict policy where the site has turned binding off.
    pub(crate) lost_policy: Option<Policy>,
    /// Whose step it is.
    pub(crate) kind: StepKind,
    /// Whether a strict policy may refuse it.
    pub(crate) may_refuse: bool,
    /// The job's id; 0 where Slurm does not say.
    pub(crate) job: u32,
    /// Step id as Slurm numbers it.
    pub(crate) id: u32,
    /// By which command the job was submitted.
    pub(crate) verb: Verb,
    /// Whether other steps of the job may speak on the same terminal or into the same file.
    pub(crate) is_one_of_several: bool,
    /// Hosts of the job.
    pub(crate) hosts: u32,
    /// The job's tasks on this host, where the step is a script's own; else 1.
    pub(crate) script_tasks: u32,
    /// CPUs that each task asked for.
    pub(crate) cpus_asked: u32,
    /// Whether Slurm says that the step has GPUs on this host.
    pub(crate) has_gpus: bool,
    /// The step's GPU list, none where it has none; its numbers are the host's only here, before the fork.
    pub(crate) gpu_list: Option<String>,
    /// The cores that Slurm gave the step; none where it does not say.
    pub(crate) cores: Option<GivenCores>,
    /// The running kernel.
    pub(crate) kernel: KernelVersion,
    /// When it was gathered, in microseconds of the monotonic clock.
    pub(crate) prepared_micros: u64,
    /// Tasks on this host.
    pub(crate) tasks: usize,
    /// The page of its tasks; none for a single task, and where the kernel had no memory for it.
    pub(crate) page: Option<Page>,
    /// Variables that our batch step left in the environment.
    pub(crate) marks: Marks,
}

/// What is asked for, and the machine that it is asked of.
#[derive(Debug)]
pub(crate) struct Bind {
    /// What is asked for.
    pub(crate) asked: Asked,
    /// The host, or why nothing is known of it.
    pub(crate) host: Result<KnownHost, UnknownHost>,
    /// The files that may be named to NCCL.
    pub(crate) files: StepFiles,
}

impl Bind {
    fn read(site: &SiteConfig, asked: Asked, hosts: u32) -> Self {
        let host = read_host(&site.directory);
        let binds = asked.settings.policy != Policy::None;
        let with_gpus = host
            .as_ref()
            .ok()
            .filter(|host| binds && !host.machine.gpus.is_empty());
        let find = |host: &KnownHost| {
            let folder = host.folder.as_deref();
            let nccl = asked.settings.nccl;
            StepFiles::find(&host.machine, folder, hosts, nccl, asked.site_nccl)
        };
        let files = with_gpus.map(find).unwrap_or_default();
        Self { asked, host, files }
    }
}

impl Step {
    /// Slurm's name of this host, as a task's environment has it, else the kernel's.
    pub(crate) fn name_here(&self, spank: &Spank<'_>) -> String {
        let name = spank.env("SLURMD_NODENAME").filter(|name| !name.is_empty());
        let of_kernel = || launch::host::name().unwrap_or_else(|| "this host".to_owned());
        name.map_or_else(of_kernel, |name| topology::option::printable(&name))
    }

    /// How many GPUs Slurm says that the step has on this host; 0 where it does not say.
    pub(crate) fn gpus(&self) -> usize {
        let list = self.gpu_list.as_deref().unwrap_or_default();
        // Numbers, or UUIDs where gres.conf has Flags=env_uuid or MIG instances.
        let names = || list.split(',').filter(|name| !name.is_empty()).count();
        list.parse::<CpuSet>()
            .map_or_else(|_| names(), |set| set.len())
    }
}

/// The step of this process; none where there is nothing to do.
pub(crate) fn current() -> Option<&'static Step> {
    STEP.get().map(Box::as_ref)
}

/// What was found out before the fork, whether or not there is anything to do.
pub(crate) struct Prepared {
    /// The policy and the width asked for; none where binding was not.
    pub(crate) asked: Option<(Policy, Width)>,
    /// When it began, in microseconds of the monotonic clock.
    pub(crate) started_micros: u64,
}

/// Gathers the step of this process, where binding is asked for or an outer step left something to clear.
pub(crate) fn prepare(spank: &Spank<'_>) -> Prepared {
    let started_micros = ffi::linux::process::monotonic_micros();
    let asked = option::resolve(spank.env(VARIABLE).as_deref());
    let settings = asked.as_ref().map(|asked| asked.settings);
    let read = || read_step(spank, option::config(), asked).map(Box::new);
    let _ = STEP.get_or_try_init(|| read().ok_or(()));
    Prepared {
        asked: settings.map(|settings| (settings.policy, settings.width)),
        started_micros,
    }
}

/// Gathers what holds for a step of which this is `asked`; none where there is nothing to do.
pub(crate) fn read_step(
    spank: &Spank<'_>,
    site: &SiteConfig,
    asked: Option<Asked>,
) -> Option<Step> {
    let lost_policy = asked.as_ref().and_then(|asked| asked.lost_policy);
    let asked = asked.filter(|asked| asked.settings.policy != Policy::Off);
    let marks = Marks::read(spank);
    if asked.is_none() && marks.is_empty() && lost_policy.is_none() {
        return None;
    }
    ALLOCATOR.begin_with(STEP_BYTES);
    let id = spank.step_id().unwrap_or(0);
    let kind = match id {
        sys::STEP_BATCH | sys::STEP_INTERACTIVE => StepKind::Script,
        _ => StepKind::Ordinary,
    };
    let hosts = read_hosts(spank);
    let bind = asked.map(|asked| Bind::read(site, asked, hosts));
    let host = bind.as_ref().and_then(|bind| bind.host.as_ref().ok());
    if let Some(fault) = host.and_then(|host| host.fault.as_ref()) {
        tracing::info!("{}", words::no_snapshot(fault));
    }
    let tasks = usize::try_from(spank.local_tasks().unwrap_or(1)).unwrap_or(1);
    let page = host
        .filter(|host| tasks > 1 && !host.machine.gpus.is_empty())
        .and_then(|host| match Page::map(tasks, &host.machine) {
            Ok(page) => Some(page),
            Err(error) => {
                tracing::warn!("{}", words::no_page_line(&error));
                None
            }
        });
    let gpu_list = spank.env("SLURM_STEP_GPUS").or_else(|| {
        (kind == StepKind::Script)
            .then(|| spank.env("SLURM_JOB_GPUS"))
            .flatten()
    });
    let script_tasks = match kind {
        StepKind::Ordinary => 1,
        StepKind::Script => read_job_tasks(spank),
    };
    let verb = read_verb(spank, id);
    let is_het = number_of(spank, "SLURM_HET_SIZE").is_some_and(|components| components > 1);
    let cores = read_cores(spank, host.map(|host| &host.machine));
    Some(Step {
        bind,
        lost_policy,
        kind,
        may_refuse: kind == StepKind::Ordinary || site.strict_batch,
        job: spank.job_id().unwrap_or(0),
        id,
        verb,
        is_one_of_several: kind == StepKind::Script || id > 0 || verb == Verb::Sbatch || is_het,
        // Not by SLURM_GPUS_ON_NODE: a step without GPUs inherits that of its job.
        has_gpus: gpu_list.as_ref().is_some_and(|list| !list.is_empty()),
        hosts,
        script_tasks,
        cpus_asked: cpus_per_task(spank, kind)
            .saturating_mul(script_tasks)
            .clamp(1, 65_536),
        gpu_list,
        cores,
        kernel: observe::kernel(),
        prepared_micros: ffi::linux::process::monotonic_micros(),
        tasks,
        page,
        marks,
    })
}

/// The cores that Slurm gave the step: abstract numbers, socket by socket (`format_core_allocs`, 22.05 to 26.05).
fn read_cores(spank: &Spank<'_>, machine: Option<&Machine>) -> Option<GivenCores> {
    let cores: CoreSet = spank.step_cores()?.parse().ok()?;
    let count = Some(cores.len()).filter(|count| *count > 0)?;
    // Where a number is beyond the machine's last core, Slurm counts in another way.
    let map = machine
        .and_then(|machine| CoreMap::new(machine, SocketKind::Package))
        .filter(|map| cores.is_subset(&map.all_cores()));
    Some(GivenCores {
        count,
        cpus: map.map(|map| map.cpus_of(&cores)),
    })
}

/// By which command the job was submitted: a batch script has ENVIRONMENT (`env_array_for_batch_job`, env.c, 22.05 to
/// 26.05), and its steps inherit it unless their srun exports nothing.
fn read_verb(spank: &Spank<'_>, id: u32) -> Verb {
    match id {
        sys::STEP_BATCH => Verb::Sbatch,
        sys::STEP_INTERACTIVE => Verb::Salloc,
        _ if spank.env("ENVIRONMENT").as_deref() == Some("BATCH") => Verb::Sbatch,
        0 if has_own_allocation(spank) => Verb::Srun,
        _ => Verb::Earlier,
    }
}

/// Whether the step's srun made the allocation.
///
/// Inside an allocation srun gives its components numbers, also where there is one, and exports that whatever `--export` says
/// (`_set_env_vars`, srun_job.c, 22.05 to 26.05; not for components of a step whose job has one, which have some hosts each).
/// So does an srun that makes a heterogeneous job; that one names each component's job too, and salloc and sbatch do so by another
/// name as well (`_set_env_vars2`; `env_array_overwrite_het_fmt`, env.c).
fn has_own_allocation(spank: &Spank<'_>) -> bool {
    let has = |name| spank.env(name).is_some();
    if has("SLURM_JOB_CPUS_PER_NODE_PACK_GROUP_0") {
        return has("SLURM_JOB_ID_PACK_GROUP_0") && !has("SLURM_JOB_ID_HET_GROUP_0");
    }
    let of_job = number_of(spank, "SLURM_JOB_NUM_NODES");
    let of_step = spank.host_count();
    of_job.zip(of_step).is_none_or(|(job, step)| step >= job)
}

/// `--cpus-per-task`.
///
/// A batch script's own step has it in the environment only: Slurm gives its one task all CPUs of the
/// host and calls that its CPUs per task (`batch_stepd_step_rec_create`, 22.05).
fn cpus_per_task(spank: &Spank<'_>, kind: StepKind) -> u32 {
    match kind {
        StepKind::Ordinary => spank.cpus_per_task().unwrap_or(1),
        StepKind::Script => number_of(spank, "SLURM_CPUS_PER_TASK").unwrap_or(1),
    }
}

/// Hosts of the job.  The step may have fewer, and a batch script's own step names none.
fn read_hosts(spank: &Spank<'_>) -> u32 {
    let of_job = number_of(spank, "SLURM_JOB_NUM_NODES").unwrap_or(1);
    let components = number_of(spank, "SLURM_HET_SIZE").unwrap_or(1);
    spank.host_count().unwrap_or(1).max(of_job).max(components)
}

fn number_of(spank: &Spank<'_>, name: &str) -> Option<u32> {
    spank.env(name)?.trim().parse().ok()
}

/// The job's tasks on this host.
fn read_job_tasks(spank: &Spank<'_>) -> u32 {
    let index = spank.host_index().unwrap_or(0);
    spank
        .env("SLURM_TASKS_PER_NODE")
        .and_then(|text| nth_of_repeats(&text, index))
        .unwrap_or(1)
}

/// The `index`th number of a list such as `4(x2),3`.
fn nth_of_repeats(text: &str, index: u32) -> Option<u32> {
    let mut before = 0u32;
    for part in text.split(',') {
        let (value, times) = match part.split_once("(x") {
            Some((value, times)) => (value, times.strip_suffix(')')?.parse().ok()?),
            None => (part, 1),
        };
        before = before.saturating_add(times);
        if index < before {
            return value.trim().parse().ok();
        }
    }
    None
}
