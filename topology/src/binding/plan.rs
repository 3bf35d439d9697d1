//! What is decided: a plan for each task of a step on one host, as values without words.

use serde::Serialize;

use super::memory::MemoryPlan;
use super::request::CpusLeft;
use crate::machine::MemoryRating;
use crate::pci::PciAddress;
use crate::set::{CpuSet, NodeSet};

/// How well a task is placed; the first that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The step is refused.
    Refused,
    /// Left as Slurm made it.
    Unbound,
    /// No CPU of it is local.
    Remote,
    /// Some CPUs of it are not local, or some of its GPUs have no CPU of it.
    Partial,
    /// All CPUs are local to one of its GPUs, which are on several nodes.
    Spanning,
    /// All CPUs are local.
    Local,
}

/// What one task gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPlan {
    /// Local task id.
    pub task: usize,
    /// The GPUs that it is taken to use.
    pub gpus: Vec<PciAddress>,
    /// Whether these are its share, by local id, of the GPUs that it sees.
    pub is_share: bool,
    /// Its CPUs: those to bind to, or, where it is left as Slurm made it, those it has.
    pub cpus: CpuSet,
    /// Its memory policy.
    pub memory: MemoryPlan,
    /// How well it is placed.
    pub verdict: Verdict,
    /// What led to this plan.
    pub case: TaskCase,
    /// Whether the policy `none` keeps all this from being done.
    pub is_dry_run: bool,
    /// Whether the step has no CPU, or fewer than asked, near its GPUs.
    pub lacks_local_cpus: bool,
    /// Whether it has GPUs and neither it nor its user chose to leave it less than local.
    pub is_trouble: bool,
    /// Whether the affinity is to be set.
    pub bind_cpus: bool,
    /// Whether the memory policy is to be set.
    pub bind_memory: bool,
}

/// What led to a task's plan, with the facts that a person needs to follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskCase {
    /// The policy is `off`.
    Off,
    /// It sees no GPU.
    NoGpu,
    /// The NUMA node of a GPU of it is unknown, so that no CPU is known to be local.
    UnknownNode {
        /// The first such GPU.
        gpu: PciAddress,
        /// Whether the site can name one that tells which CPUs are near.
        can_be_named: bool,
    },
    /// The step has no CPU on the nodes of its GPUs.
    Far {
        /// The nodes of its GPUs.
        gpu_nodes: NodeSet,
        /// What the step has.
        step: Place,
        /// How far apart they are.
        cost: Cost,
    },
    /// Its CPUs are not to be changed.
    CpusLeft {
        /// The nodes of its GPUs.
        gpu_nodes: NodeSet,
        /// Why.
        why: CpusLeft,
    },
    /// The step has CPUs near its GPUs, and other tasks took them all.
    Crowded {
        /// The nodes of its GPUs.
        gpu_nodes: NodeSet,
    },
    /// It gets CPUs, as many as there were near its GPUs; [`TaskPlan::verdict`] says how local they are.
    Placed {
        /// The nodes of its GPUs.
        gpu_nodes: NodeSet,
        /// How many of its CPUs are on these.
        local_cpus: usize,
        /// The GPUs whose nodes it has no CPU of.
        far_gpus: Vec<PciAddress>,
    },
    /// The whole step is refused.
    Refused(Refusal),
}

/// CPUs and the NUMA nodes that they are on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The CPUs.
    pub cpus: CpuSet,
    /// Their nodes.
    pub nodes: NodeSet,
}

/// How far the CPUs of a far task are from its GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Whether it surely crosses the socket link; otherwise it leaves the GPU's node.
    pub crosses_socket: bool,
    /// The least rating of memory between the nodes; none where it is not known.
    pub rating: Option<MemoryRating>,
}

/// Why a step is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The first task that cannot be bound as asked.
    pub task: usize,
    /// What of that task does not fit.
    pub misfit: Misfit,
    /// What the step has.
    pub step: Place,
}

/// What of a task does not fit a strict policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// The NUMA node of a GPU is unknown.
    UnknownNode {
        /// The GPU.
        gpu: PciAddress,
        /// Whether the site can name one that tells which CPUs are near.
        can_be_named: bool,
    },
    /// A GPU has no local CPU in the step.
    NoLocalCpu {
        /// The GPU.
        gpu: PciAddress,
        /// Its nodes.
        nodes: NodeSet,
    },
    /// The GPUs share no node.
    NoSharedNode {
        /// Each GPU and its nodes.
        gpus: Vec<(PciAddress, NodeSet)>,
    },
    /// The step has fewer CPUs near the GPUs than the task asked for.
    TooFewLocal {
        /// The GPUs.
        gpus: Vec<PciAddress>,
        /// Their nodes.
        nodes: NodeSet,
        /// CPUs that the task asked for.
        asked: u32,
        /// CPUs of the step on these nodes, at least 1 and fewer than asked.
        local: usize,
    },
    /// The user's own choice leaves a task no CPU near its GPUs.
    LeftFar {
        /// The GPUs.
        gpus: Vec<PciAddress>,
        /// Their nodes.
        nodes: NodeSet,
        /// The task's CPUs.
        cpus: CpuSet,
        /// Whose choice it was.
        why: CpusLeft,
    },
    /// The user's own memory policy names none of the nodes that serve the GPUs.
    UserMemory {
        /// The GPUs.
        gpus: Vec<PciAddress>,
        /// Their nodes.
        nodes: NodeSet,
        /// The nodes that the policy names.
        memory: NodeSet,
    },
    /// The step has enough CPUs near the GPUs, but too few once the other tasks have theirs.
    TooFewLeft {
        /// The GPUs.
        gpus: Vec<PciAddress>,
        /// Their nodes.
        nodes: NodeSet,
        /// CPUs that the task asked for.
        asked: u32,
        /// CPUs on these nodes that are left for it, fewer than asked.
        local: usize,
    },
}

/// What a step gets on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPlan {
    /// One plan per task, by local id.
    pub tasks: Vec<TaskPlan>,
    /// Why the step is refused; none when it is not.
    pub refusal: Option<Refusal>,
    /// Whether tasks that see the same GPUs are taken to use a share each.
    pub is_mapped: bool,
}

impl StepPlan {
    /// Whether another launch could give a task local CPUs that it lacks.
    pub fn lacks_local_cpus(&self) -> bool {
        self.tasks.iter().any(|task| task.lacks_local_cpus)
    }
}
