//! What is to be decided: a step on one host and its tasks.

use super::kernel::KernelVersion;
use crate::option::Settings;
use crate::pci::PciAddress;
use crate::set::{CpuSet, NodeSet};

/// A step on one host, as far as its binding goes.
#[derive(Debug, Clone)]
pub struct StepRequest {
    /// The option's items, every kind decided.
    pub settings: Settings,
    /// The CPUs that the step may use.
    pub step_cpus: CpuSet,
    /// CPUs (hardware threads) that each task asked for, at least 1.
    pub asked: u32,
    /// The tasks on this host by local id.
    pub tasks: Vec<TaskRequest>,
    /// The kernel that will set the memory policies.
    pub kernel: KernelVersion,
    /// Nodes that the cpuset lets memory come from; none where all may be used.
    pub allowed_nodes: Option<NodeSet>,
    /// Whether a strict policy may refuse; false for a batch script's own step.
    pub may_refuse: bool,
}

/// A task, as far as its binding goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskRequest {
    /// The GPUs that it sees, by PCI address, in the order of its own numbering.
    pub visible: Vec<PciAddress>,
    /// The mask that Slurm gave it; not known when planning without Slurm.
    pub slurm_cpus: Option<CpuSet>,
    /// The user chose its CPUs (`--cpu-bind=none` or `map_cpu`).
    pub user_cpu_bind: bool,
    /// The user chose its memory policy (`--mem-bind`).
    pub user_mem_bind: bool,
}
