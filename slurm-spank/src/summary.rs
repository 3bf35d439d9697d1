//! The line at the end of a step, where the site wants one (`summary` in plugstack.conf).
//!
//! Slurm has reaped a task before it calls `slurm_spank_task_exit` (`_wait_for_any_task`, slurmstepd/mgr.c), so
//! nothing of the process can be looked at any more.  What is said is how each task was started, and what the NCCL plugin counted.
//! It is said when the last task has ended: at `slurm_spank_exit` the user's stderr is closed.

use std::sync::atomic::{AtomicUsize, Ordering};

use ffi::spank::Spank;
use launch::shared::totals::{StepTotals, VARIABLE};
use launch::variables::TaskEnvironment;
use once_cell::sync::OnceCell;
use topology::option::Policy;
use topology::words::step_end_line;

use crate::report::{say, step_label};
use crate::step::{self, Step, StepKind};
use crate::{metrics, option};

/// What NCCL moved; none where the kernel has no memory for it.
static TOTALS: OnceCell<StepTotals> = OnceCell::new();
/// Tasks of this process's step that ended.
static ENDED: AtomicUsize = AtomicUsize::new(0);

/// Whether this process's step is to have a line: not one whose tasks are shells that start steps of their own.
pub(crate) fn is_wanted() -> bool {
    option::config().summary && wanting().is_some()
}

/// The step that is to have a line, and under which policy.
fn wanting() -> Option<(&'static Step, Policy)> {
    let step = step::current()?;
    let bind = step.bind.as_ref()?;
    let starts_steps = step.kind == StepKind::Script && step.script_tasks > 1;
    let has_gpus = bind
        .host
        .as_ref()
        .is_ok_and(|host| !host.machine.gpus.is_empty());
    (has_gpus && !starts_steps).then_some((step, bind.asked.settings.policy))
}

/// Makes the words that NCCL's plugin adds to, before the fork.
pub(crate) fn prepare() {
    if is_wanted() {
        // Where there is none, the line says nothing of NCCL.
        let _ = TOTALS.get_or_try_init(StepTotals::make);
    }
}

/// In a task that is about to run its program: has that find the words.
pub(crate) fn hand_down(environment: &impl TaskEnvironment) {
    if let Some(totals) = TOTALS.get()
        && let Ok(path) = totals.hand_down(std::process::id())
    {
        environment.set(VARIABLE, &path);
    }
}

/// A task ended; with the last one the line is said.
pub(crate) fn task_ended(spank: &Spank<'_>) {
    if !option::config().summary {
        return;
    }
    let ended = ENDED.fetch_add(1, Ordering::Relaxed) + 1;
    let (Some((step, policy)), Some((end, tasks))) = (wanting(), metrics::end_of_step()) else {
        return;
    };
    if ended != tasks {
        return;
    }
    let nccl = TOTALS.get().and_then(StepTotals::read);
    let line = step_end_line(&step_label(step, spank), &end, nccl, policy == Policy::None);
    if let Some(line) = line {
        say(&line);
    }
}
