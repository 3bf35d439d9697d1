//! Which memory policy a task gets.

use std::str::FromStr;

use serde::Serialize;

use super::StepRequest;
use crate::machine::{Machine, NodeKind};
use crate::option::Memory;
use crate::set::NodeSet;

/// A Linux release, as far as memory policies go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// 6 of 6.1.
    pub major: u32,
    /// 1 of 6.1.
    pub minor: u32,
}

impl KernelVersion {
    /// The first with `MPOL_PREFERRED_MANY` (commit b27abaccf8e8, Linux 5.15).
    pub const PREFERRED_MANY: Self = Self {
        major: 5,
        minor: 15,
    };
}

/// A text that is no kernel release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no kernel release; expected MAJOR.MINOR as in 5.15")]
pub struct ParseKernelError(String);

/// Takes `5.15` and anything that starts so, as `uname -r` does.
impl FromStr for KernelVersion {
    type Err = ParseKernelError;

    fn from_str(text: &str) -> Result<Self, ParseKernelError> {
        let number = |part: Option<&str>| {
            let part = part?;
            let digits = part
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(part.len());
            part.get(..digits)?.parse().ok()
        };
        let mut parts = text.split('.');
        match (number(parts.next()), number(parts.next())) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(ParseKernelError(crate::option::printable(text))),
        }
    }
}

/// A memory policy by Linux's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryPolicy {
    /// The default policy; also where it is left as it is.
    Default,
    /// `MPOL_PREFERRED`.
    Preferred,
    /// `MPOL_PREFERRED_MANY`.
    PreferredMany,
    /// `MPOL_BIND`.
    Bind,
    /// `MPOL_INTERLEAVE`.
    Interleave,
}

impl MemoryPolicy {
    /// Its number in `linux/mempolicy.h`.
    pub fn number(self) -> i32 {
        match self {
            Self::Default => 0,
            Self::Preferred => 1,
            Self::Bind => 2,
            Self::Interleave => 3,
            Self::PreferredMany => 5,
        }
    }
}

/// A memory policy and its nodes; no nodes under the default policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// The policy.
    pub policy: MemoryPolicy,
    /// Its nodes.
    pub nodes: NodeSet,
}

impl MemoryPlan {
    /// The default policy: memory is left as it is.
    pub fn unchanged() -> Self {
        Self {
            policy: MemoryPolicy::Default,
            nodes: NodeSet::new(),
        }
    }

    /// Whether anything is to be set.
    pub fn is_change(&self) -> bool {
        self.policy != MemoryPolicy::Default
    }
}

/// The policy for a task whose GPUs are on `gpu_nodes`.
pub(super) fn plan_memory(
    machine: &Machine,
    step: &StepRequest,
    gpu_nodes: &NodeSet,
) -> MemoryPlan {
    let usable = usable_nodes(machine, step.allowed_nodes.as_ref());
    let nodes: NodeSet = gpu_nodes
        .iter()
        .filter_map(|node| nearest_with_memory(machine, node, &usable))
        .collect();
    let policy = match step.settings.memory {
        _ if nodes.is_empty() => MemoryPolicy::Default,
        Memory::None => MemoryPolicy::Default,
        Memory::Bind => MemoryPolicy::Bind,
        Memory::Interleave => MemoryPolicy::Interleave,
        Memory::Preferred if nodes == usable => MemoryPolicy::Default,
        Memory::Preferred if step.kernel >= KernelVersion::PREFERRED_MANY => {
            MemoryPolicy::PreferredMany
        }
        Memory::Preferred if nodes.len() == 1 => MemoryPolicy::Preferred,
        Memory::Preferred => MemoryPolicy::Default,
    };
    if policy == MemoryPolicy::Default {
        MemoryPlan::unchanged()
    } else {
        MemoryPlan { policy, nodes }
    }
}

/// The nodes that memory near GPUs on `gpu_nodes` comes from: those, or the nearest with memory.
pub fn memory_nodes(machine: &Machine, gpu_nodes: &NodeSet) -> NodeSet {
    let usable = usable_nodes(machine, None);
    gpu_nodes
        .iter()
        .filter_map(|node| nearest_with_memory(machine, node, &usable))
        .collect()
}

/// Nodes that a task's memory may go to: with CPUs and memory, no GPU's own, and allowed.
fn usable_nodes(machine: &Machine, allowed: Option<&NodeSet>) -> NodeSet {
    machine
        .numa_nodes
        .iter()
        .filter(|node| node.kind == NodeKind::Dram && !node.cpus.is_empty() && node.has_memory())
        .filter(|node| allowed.is_none_or(|allowed| allowed.contains(node.id)))
        .map(|node| node.id)
        .collect()
}

fn nearest_with_memory(machine: &Machine, node: u32, usable: &NodeSet) -> Option<u32> {
    usable
        .iter()
        .min_by_key(|other| (*other != node, machine.nearness(node, *other), *other))
}
