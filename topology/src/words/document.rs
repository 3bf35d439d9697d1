//! A task's plan as JSON documents have it.

use serde::Serialize;

use super::{Voice, task_message};
use crate::binding::{MemoryPlan, TaskPlan, Verdict};
use crate::names::GpuNames;
use crate::pci::PciAddress;
use crate::set::CpuSet;

/// One task of `gpu-numa plan --json`, and the body of `GPU_NUMA_BIND_REPORT`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TaskDocument<'a> {
    /// Local task id.
    pub task: usize,
    /// The GPUs that it is taken to use.
    pub gpus: &'a [PciAddress],
    /// Its CPUs.
    pub cpus: &'a CpuSet,
    /// Its memory policy.
    pub memory: &'a MemoryPlan,
    /// How well it is placed.
    pub verdict: Verdict,
    /// One line for a person.
    pub message: String,
}

impl<'a> TaskDocument<'a> {
    /// The document of a plan.
    pub fn new(plan: &'a TaskPlan, gpus: GpuNames<'_>, voice: Voice) -> Self {
        Self {
            task: plan.task,
            gpus: &plan.gpus,
            cpus: &plan.cpus,
            memory: &plan.memory,
            verdict: plan.verdict,
            message: task_message(plan, gpus, voice),
        }
    }
}
