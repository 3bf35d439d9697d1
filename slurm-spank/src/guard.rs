//! What becomes of a panic: one line in Slurm's log, and the job goes on as Slurm made it, or without what that hook does.

use std::ffi::c_int;

use ffi::spank::log::{To, write_line};
use launch::observe::Came;
use launch::variables::{Recorded, TaskEnvironment};
use topology::words;

use crate::step::Step;

/// What every hook returns.
const SUCCESS: c_int = 0;

/// Runs what must run when the plugin is loaded: by every srun, sbatch and salloc.
///
/// Nothing in it allocates or panics, so that no panic hook is set up for it, which is most of what it would cost.  Were it
/// to panic, the release would not be filled in, and Slurm would refuse the plugin.
pub(crate) fn load(body: impl FnOnce()) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
}

/// Runs a hook; it succeeds for Slurm whatever happens.
pub(crate) fn hook(name: &str, body: impl FnOnce()) -> c_int {
    let _ = run(name, body);
    SUCCESS
}

/// Runs an option's callback; a panic counts as an accepted option.
pub(crate) fn callback(body: impl FnOnce() -> c_int) -> c_int {
    run("option", body).unwrap_or(SUCCESS)
}

/// Runs the task's hook in a step that has something to do; after a panic the task has again the affinity, the memory
/// policy and the environment it came with.
///
/// Where there is nothing to do there is no step, and nothing is looked at.
pub(crate) fn task_hook<E: TaskEnvironment>(
    environment: &E,
    step: Option<&Step>,
    body: impl FnOnce(&Step, &Came, &Recorded<'_, E>),
) -> c_int {
    let Some(step) = step else {
        return SUCCESS;
    };
    let (came, environment) = (Came::read(), Recorded::new(environment));
    if run("task_init", || body(step, &came, &environment)).is_none() {
        came.restore();
        environment.take_back();
    }
    SUCCESS
}

fn run<T>(name: &str, body: impl FnOnce() -> T) -> Option<T> {
    let result = ffi::guard::run(log_panic, body);
    if result.is_none() {
        let line = words::internal_fault(name);
        write_line(To::Error, &format!("gpu-numa-bind: {line}"));
    }
    result
}

fn log_panic(what: &str) {
    write_line(To::Info, &format!("gpu-numa-bind: {what}"));
}
