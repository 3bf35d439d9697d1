//! What people read of a decision: every line that the plugin, `gpu-numa plan` and `gpu-numa run` print of it.
//!
//! Each function takes values and gives one line.  A line is one template, written out whole, so that a line which
//! somebody pasted is found here by the words between its names and numbers; what fills the gaps (`GPUs A and B`,
//! `nodes 0-1`, `2 CPUs each`) is in `phrases`.  Who says a line, and when, is the callers' business.
//!
//! The decision ([`crate::binding`]) knows nothing of this module.

mod document;
mod end;
mod host;
mod launch;
mod phrases;
mod refusal;
mod task;
#[cfg(test)]
mod tests;

pub use document::TaskDocument;
pub use end::{NcclTotal, StepEnd, step_end_line};
pub use host::{
    faster_cpus_line, near_cpus_advice, no_gpu_on_host, no_gpu_seen, socket_link_line,
    spanning_line, summary_line,
};
pub use launch::{
    alone_line, argument_left_out, batch_line, cpus_refused, host_and_step, internal_fault,
    memory_refused, more_trouble_line, no_gpu_in_step, no_option_line, no_page_line, no_profiler,
    no_snapshot, not_counted, of_task, on_host, policy_turned_off, unknown_host_line, unread_conf,
    unseen_gpus_line, variable_left_out,
};
pub use refusal::{advice_line, refusal_reason, refused_line, step_refused_line};
pub use task::{task_line, task_line_with_nics, task_message};

/// To whom a line is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// To the user of a Slurm step.
    Step,
    /// To somebody who starts a process without Slurm, so that neither Slurm nor a step is mentioned.
    Process,
}

/// By which command a job was submitted, and would be again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `srun`, which made its own allocation.
    Srun,
    /// `sbatch`.
    Sbatch,
    /// `salloc`.
    Salloc,
    /// One before the step's srun, in whose allocation that runs: a task cannot tell `salloc` from `sbatch --export=NONE`.
    Earlier,
    /// None yet: a plan is for whichever will be typed.
    Any,
}
