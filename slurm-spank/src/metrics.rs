//! What a step adds to the host's counters, where the site has a table of them (`launch::metrics`), and what the line at its end
//! says of its tasks (`summary.rs`).
//!
//! The daemon counts, as root, when the step has ended (`slurm_spank_exit`): one open, one map, no wait.  From the tasks it has no
//! more than two words each in a page of their own (`launch::shared::outcomes`), and how many there are it knows from Slurm.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ffi::linux::process::monotonic_micros;
use ffi::spank::Spank;
use launch::apply::{Refused, to_set};
use launch::metrics::{add, is_counting};
use launch::shared::outcomes::Outcomes;
use once_cell::sync::OnceCell;
use topology::binding::{TaskPlan, Verdict};
use topology::metrics::{Counts, Source, StepCount, TaskTold, TaskVerdict};
use topology::nics::NicPath;
use topology::option::Policy;
use topology::words::{self, StepEnd};

use crate::option;
use crate::step::{self, Prepared, Step};

/// More tasks than Slurm starts on a host (`MAX_TASKS_PER_NODE`, slurm.h, 22.05 to 26.05: 512 unless slurm.conf says otherwise).
const MAX_TASKS: usize = 65_536;

static COUNTED: OnceCell<Counted> = OnceCell::new();

/// A step that is counted, or has a line at its end.
#[derive(Debug)]
struct Counted {
    step: StepCount,
    /// Whether the host has counters.
    is_for_table: bool,
    tasks: usize,
    /// None where the kernel had no memory for it: its tasks then tell nothing.
    outcomes: Option<Outcomes>,
}

/// Has this process's step counted, before the fork, where the site counts or wants a line at its end.
pub(crate) fn watch(spank: &Spank<'_>, prepared: &Prepared, has_line_at_end: bool) {
    let is_for_table = is_counting(&option::config().directory);
    if !is_for_table && !has_line_at_end {
        return;
    }
    let tasks = usize::try_from(spank.local_tasks().unwrap_or(1)).unwrap_or(1);
    let (asked, step) = (prepared.asked, step::current());
    let has_tasks_to_tell = asked.is_some_and(|(policy, _)| policy != Policy::Off);
    let outcomes = has_tasks_to_tell.then(|| Outcomes::map(tasks).ok());
    let took = monotonic_micros().saturating_sub(prepared.started_micros);
    let count = StepCount {
        asked,
        has_gpus: match step {
            Some(step) => step.has_gpus,
            None => {
                let list = spank.env("SLURM_STEP_GPUS");
                list.is_some_and(|list| !list.is_empty())
            }
        },
        source: source(step),
        init_micros: u32::try_from(took).unwrap_or(u32::MAX),
    };
    let _ = COUNTED.set(Counted {
        step: count,
        is_for_table,
        tasks: tasks.min(MAX_TASKS),
        outcomes: outcomes.flatten(),
    });
}

fn source(step: Option<&Step>) -> Source {
    let host = step
        .and_then(|step| step.bind.as_ref())
        .map(|bind| &bind.host);
    match host {
        Some(Ok(host)) if host.folder.is_some() => Source::Snapshot,
        Some(Ok(_)) => Source::Sys,
        Some(Err(_)) | None => Source::Unknown,
    }
}

/// Adds the step to the host's counters, in the daemon and after its tasks have ended.
pub(crate) fn settle() {
    let Some(counted) = COUNTED.get().filter(|counted| counted.is_for_table) else {
        return;
    };
    let counts = Counts::of_step(&counted.step, counted.told());
    match add(&option::config().directory, &counts) {
        // The site stopped counting while the step ran.
        Err(error) if error.is_missing() => {}
        Err(error) => tracing::info!("{}", words::not_counted(&error)),
        Ok(()) => {}
    }
}

impl Counted {
    /// What each task told; none for one that told nothing.
    fn told(&self) -> impl Iterator<Item = Option<TaskTold>> {
        let told = |task| self.outcomes.as_ref().and_then(|page| page.read(task));
        (0..self.tasks).map(told)
    }
}

/// What is known of the tasks of a step that ended, and how many they were; none where nothing was asked of them.
pub(crate) fn end_of_step() -> Option<(StepEnd, usize)> {
    let counted = COUNTED.get()?;
    Some((StepEnd::of(counted.told()), counted.tasks))
}

/// When this task's hook began, in microseconds of the monotonic clock.
static STARTED: AtomicU64 = AtomicU64::new(0);
/// What the kernel refused this task: CPUs, memory.
static REFUSED: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

fn page() -> Option<&'static Outcomes> {
    COUNTED.get()?.outcomes.as_ref()
}

/// Whether anything is counted, so that what is only for that need be looked for.
pub(crate) fn is_on() -> bool {
    page().is_some()
}

/// The hook of this task begins.
pub(crate) fn start() {
    if is_on() {
        STARTED.store(monotonic_micros(), Ordering::Relaxed);
    }
}

/// What was decided for a task: its own, or, by the one that decides for all, another's.
pub(crate) fn decide(policy: Policy, plan: &TaskPlan, nic: Option<NicPath>) {
    let Some(page) = page() else { return };
    let (cpus, memory) = to_set(policy, plan);
    let told = TaskTold {
        is_bound: cpus.is_some(),
        memory: memory.map(|(policy, _)| policy),
        nic: nic.unwrap_or(NicPath::Unknown),
        ..told(if plan.gpus.is_empty() {
            TaskVerdict::NoGpu
        } else {
            TaskVerdict::Gpus(plan.verdict)
        })
    };
    page.decide(plan.task, &told);
}

/// A task that saw none of the GPUs that Slurm gave the step, where it gave any.
pub(crate) fn decide_unseen(task: usize, step_has_gpus: bool) {
    let verdict = if step_has_gpus {
        TaskVerdict::Gpus(Verdict::Unbound)
    } else {
        TaskVerdict::NoGpu
    };
    if let Some(page) = page() {
        page.decide(task, &told(verdict));
    }
}

/// What the kernel refused to set for this task.
pub(crate) fn note(refused: &Refused) {
    // Writing here would cost each task of a host that counts nothing a page of its own.
    if !is_on() {
        return;
    }
    let all = [refused.cpus.is_some(), refused.memory.is_some()];
    for (own, is_refused) in REFUSED.iter().zip(all) {
        own.store(is_refused, Ordering::Relaxed);
    }
}

/// The step is refused, and this task is about to end.
pub(crate) fn refuse(task: usize) {
    if let Some(page) = page() {
        page.decide(task, &told(TaskVerdict::Gpus(Verdict::Refused)));
        finish(task);
    }
}

/// The hook of this task came to its end.
pub(crate) fn finish(task: usize) {
    let Some(page) = page() else { return };
    let took = monotonic_micros().saturating_sub(STARTED.load(Ordering::Relaxed));
    let [cpus_refused, memory_refused] = REFUSED.each_ref().map(|own| own.load(Ordering::Relaxed));
    let told = TaskTold {
        cpus_refused,
        memory_refused,
        micros: u32::try_from(took).unwrap_or(u32::MAX),
        ..told(TaskVerdict::NoGpu)
    };
    page.finish(task, &told);
}

/// A task for which nothing was set.
fn told(verdict: TaskVerdict) -> TaskTold {
    TaskTold {
        verdict,
        is_bound: false,
        memory: None,
        nic: NicPath::Unknown,
        cpus_refused: false,
        memory_refused: false,
        micros: 0,
    }
}
