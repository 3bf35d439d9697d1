//! What is to be decided: a step on one host and its tasks.

use super::kernel::KernelVersion;
use super::kernel::MemoryPolicy;
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
    /// Whether other jobs surely have none of [`StepRequest::step_cpus`]; where that is not known no task is narrowed
    /// to some of them.
    pub owns_cpus: bool,
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
    /// Whether it may open every GPU of the host, so that no device cgroup makes its programs number them otherwise.
    pub sees_all_gpus: bool,
    /// The mask that Slurm gave it; not known when planning without Slurm.
    pub slurm_cpus: Option<CpuSet>,
    /// The user chose its CPUs (a `--cpu-bind` that can be told from Slurm's default).
    pub user_cpu_bind: bool,
    /// The memory policy that the user chose (`--mem-bind`); none where it is the default policy.
    pub user_memory: Option<UserMemory>,
}

/// A memory policy that was there before the task is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserMemory {
    /// Its kind.
    pub policy: MemoryPolicy,
    /// Its nodes.
    pub nodes: NodeSet,
    /// Whether these are those of the task's CPUs (`--mem-bind=local`) and not chosen by number.
    pub is_local: bool,
}

/// Why a task keeps the CPUs that it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpusLeft {
    /// The user chose them (`--cpu-bind`).
    UserCpus,
    /// They are near the memory that the user chose by number (`--mem-bind=map_mem` and others), and its GPUs are not.
    UserMemory,
    /// Which CPUs are the step's is not known.
    NotOwned,
}
