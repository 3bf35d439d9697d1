//! `gpu_numa_bind.so`: the SPANK plugin behind `sbatch --gpu-numa-bind`.
//!
//! This file is the table of entry points and nothing else: each export is a guard around a call in Rust
//! terms, and returns 0.  Only `slurm_spank_task_init` may end its (forked) process, to refuse a step.
//!
//! Architecture invariants: no hook returns an error (a plugin that does drains nodes), none opens a
//! path that a user chose as root, starts a thread, or loads a library; neither hwloc nor NVML nor
//! libslurm is linked.

mod guard;
mod log;
mod metrics;
mod option;
mod release;
mod report;
#[cfg(test)]
mod stand_in;
mod step;
mod summary;
mod task;
#[cfg(test)]
mod tests;

use std::ffi::{c_char, c_int, c_uint};
use std::sync::atomic::AtomicU32;

use ffi::reserve::{Reserve, WithReserve};
use ffi::spank::sys::SpankHandle;
use ffi::spank::{Spank, read_args, read_option_value};

/// So that a lack of memory is not the end of the host's process.
#[global_allocator]
static ALLOCATOR: WithReserve = WithReserve::new(&RESERVE);
static RESERVE: Reserve = Reserve::new();

/// The plugin's name, part of the option's name in the environment: the same in every release of ours.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name that Slurm looks up")]
pub static plugin_name: [u8; 14] = *b"gpu_numa_bind\0";

/// The plugin's type.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name that Slurm looks up")]
pub static plugin_type: [u8; 6] = *b"spank\0";

/// The Slurm release that this plugin says it is built for; filled when it is loaded, see [`release`].
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name that Slurm looks up")]
pub static plugin_version: AtomicU32 = AtomicU32::new(release::NONE);

/// What `SPANK_PLUGIN` defines besides; Slurm does not read it.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name that spank.h defines")]
pub static spank_plugin_version: c_uint = 1;

/// What Slurm from 25.05 on makes of an `init` that fails: the job fails and the node stays (`ESPANK_JOB_FAILURE`, slurm_errno.h;
/// `_do_call_stack`, common/spank.c).  No hook of ours fails; earlier releases do not look for it.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name that Slurm looks up")]
pub static slurm_spank_init_failure_mode: c_int = 3012;

/// Runs when the dynamic loader has mapped the plugin, before Slurm reads `plugin_version`.
#[used]
#[unsafe(link_section = ".init_array")]
static FILL_VERSION: extern "C" fn() = fill_version;

extern "C" fn fill_version() {
    guard::load(|| release::fill(&plugin_version));
}

/// Every context: registers the option.
///
/// # Safety
/// Called by Slurm with its own handle and arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slurm_spank_init(
    spank: SpankHandle,
    count: c_int,
    args: *mut *mut c_char,
) -> c_int {
    guard::hook("init", || {
        // SAFETY: Slurm's own handle and arguments, used within this hook.
        let (spank, args) = unsafe { (Spank::new(spank), read_args(count, args)) };
        option::register(&spank, &args, on_option);
    })
}

/// srun, sbatch, salloc: checks what the option leaves unsaid, where the user sees it.
///
/// # Safety
/// Called by Slurm with its own handle and arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slurm_spank_init_post_opt(
    _spank: SpankHandle,
    _count: c_int,
    _args: *mut *mut c_char,
) -> c_int {
    guard::hook("init_post_opt", option::check_where_typed)
}

/// slurmstepd, before the fork: all that is the same for the tasks of this host.
///
/// # Safety
/// Called by Slurm with its own handle and arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slurm_spank_user_init(
    spank: SpankHandle,
    _count: c_int,
    _args: *mut *mut c_char,
) -> c_int {
    guard::hook("user_init", || {
        // SAFETY: Slurm's own handle, used within this hook.
        let spank = unsafe { Spank::new(spank) };
        let prepared = step::prepare(&spank);
        metrics::watch(&spank, &prepared, summary::is_wanted());
        summary::prepare();
        if step::current().is_some() {
            ALLOCATOR.begin_tasks();
        }
    })
}

/// The task, inside its cgroups and as its user: binds, reports, or refuses.
///
/// # Safety
/// Called by Slurm with its own handle and arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slurm_spank_task_init(
    spank: SpankHandle,
    _count: c_int,
    _args: *mut *mut c_char,
) -> c_int {
    // SAFETY: Slurm's own handle, used within this hook.
    let spank = unsafe { Spank::new(spank) };
    guard::task_hook(&spank, step::current(), |step, came, environment| {
        task::run_in(&spank, step, came, environment)
    })
}

/// slurmstepd, each time that a task has ended: the line at the step's end, where the site wants one.
///
/// # Safety
/// Called by Slurm with its own handle and arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slurm_spank_task_exit(
    spank: SpankHandle,
    _count: c_int,
    _args: *mut *mut c_char,
) -> c_int {
    guard::hook("task_exit", || {
        // SAFETY: Slurm's own handle, used within this hook.
        summary::task_ended(&unsafe { Spank::new(spank) });
    })
}

/// slurmstepd, after the step: adds it to the host's counters, where the site has any.
///
/// # Safety
/// Called by Slurm with its own handle and arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slurm_spank_exit(
    _spank: SpankHandle,
    _count: c_int,
    _args: *mut *mut c_char,
) -> c_int {
    guard::hook("exit", metrics::settle)
}

/// The option's callback, where the user types it (`remote` 0) and in slurmstepd.
unsafe extern "C" fn on_option(_value: c_int, text: *const c_char, remote: c_int) -> c_int {
    // SAFETY: Slurm's own argument, used within this call.
    let text = unsafe { read_option_value(text) };
    guard::callback(|| option::take(text.as_deref().unwrap_or(""), remote != 0))
}
