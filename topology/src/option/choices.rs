//! What each kind of item chooses.

use serde::{Deserialize, Serialize};

/// When a step is refused rather than bound badly; named after Kubernetes' Topology Manager.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Nothing at all, also against a site's `always=`.
    Off,
    /// Change nothing, report what would be done.
    None,
    /// Bind to what is local; where nothing is, leave the task as Slurm made it, or on its GPU's socket.
    #[default]
    BestEffort,
    /// Refuse a step when a GPU of a task has no local CPU in the step, or an unknown locality.
    Restricted,
    /// As restricted, and refuse when a task's GPUs share no NUMA node or fewer local CPUs than asked
    /// are there.
    SingleNumaNode,
}

impl Policy {
    /// Whether it may refuse a step.
    pub fn is_strict(self) -> bool {
        matches!(self, Self::Restricted | Self::SingleNumaNode)
    }
}

/// How wide a task is bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Width {
    /// The step's CPUs split disjointly over the tasks of the host, whole cores.
    #[default]
    Exclusive,
    /// All the step's CPUs local to the task's GPUs, shared with tasks alike.
    Node,
    /// All the step's CPUs in the packages of the task's GPUs.
    Socket,
    /// The CPUs of one last-level cache near the GPU.
    L3,
}

/// Which memory policy a task gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Memory {
    /// `mem=preferred`.
    #[default]
    Preferred,
    /// `mem=bind`.
    Bind,
    /// `mem=interleave`.
    Interleave,
    /// `mem=none`: leave it.
    None,
}

/// Which of the GPUs that a task sees it is taken to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Map {
    /// Where all tasks see the same GPUs, task k takes the k-th block of them if these come out even, else the GPU of its local id.
    #[default]
    Auto,
    /// All that it sees.
    Visible,
    /// Always by local id, modulo.
    Localid,
}

/// What is done for NCCL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Nccl {
    /// The topology file; the profiler plugin where two GPUs of the job have no path but the socket link.
    #[default]
    On,
    /// The topology file alone, also on hosts with EFA.
    Topo,
    /// File and plugin always.
    Log,
    /// Neither.
    Off,
}

/// What is done with the NICs nearest to a task's GPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Nic {
    /// They are named in the report, and in the task's line where there is one.
    #[default]
    Report,
    /// Also given to the libraries that take them per process (`launch::nics`).
    On,
    /// Nothing.
    Off,
}

/// Whether the programs' own bindings are asked to keep still.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Frameworks {
    /// The variables by which they take it, where they are unset (`launch::frameworks`).
    #[default]
    On,
    /// None of them.
    Off,
}

/// How much is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Verbosity {
    /// One line per host and step, and problems.
    #[default]
    Line,
    /// One line per task.
    Verbose,
    /// Problems only.
    Quiet,
}
