//! The binding decision: which CPUs and which memory policy each task of a step gets on one host.
//!
//! [`plan_step`] is a pure function of the machine and the step, so every task of a step that knows the
//! same facts comes to the same plan, and `gpu-numa plan` shows what the plugin will do.  Plans and remarks are
//! values; [`crate::words`] puts them into words, and nothing here knows of it.
//!
//! Invariants: a task's CPUs are never empty and never outside the step's, but for a task left as Slurm
//! made it; under [`Width::Exclusive`](crate::option::Width::Exclusive) they are disjoint wherever the step has a
//! CPU for each task besides those of tasks that are left alone.
//!
//! The modules build on each other in this order: `request` and `memory` and `plan` (values), `pool`, `near`, `gpus`,
//! `objective` (what is better), `flow`, `place`, `cores`,
//! `deal`, `trade`, `width`, `split`, `judge`, `decide`, `advice`, `remarks`.

mod advice;
mod cores;
mod deal;
mod decide;
mod flow;
mod gpus;
mod judge;
mod kernel;
mod memory;
mod near;
mod nearer;
mod objective;
mod place;
mod plan;
mod pool;
mod remarks;
mod request;
mod split;
mod trade;
mod width;

pub use advice::{Advice, LaunchedBy, WholeHost, advise};
pub use decide::{plan_alone, plan_step};
pub use judge::judge_cpus;
pub use kernel::{KernelVersion, MemoryPolicy, ParseKernelError};
pub use memory::{MemoryLeft, MemoryPlan, as_near_nodes, memory_nodes};
pub use plan::{Cost, Misfit, Place, Refusal, StepPlan, TaskCase, TaskPlan, Verdict};
pub use remarks::{
    FasterCpus, SocketLink, Spanning, SpanningOver, Summary, find_faster, find_socket_link,
    find_spanning, first_apart, first_crossing, summarize,
};
pub use request::{CpusLeft, StepRequest, TaskRequest, UserMemory};
