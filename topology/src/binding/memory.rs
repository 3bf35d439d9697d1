//! Which memory policy a task gets.

use serde::Serialize;

use super::kernel::{KernelVersion, MemoryPolicy};
use super::request::{StepRequest, UserMemory};
use crate::machine::{Machine, NodeKind};
use crate::option::Memory;
use crate::set::{CpuSet, NodeSet};

/// Why a task's memory policy is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLeft {
    /// The user set one (`--mem-bind`), which stays.
    UserBound,
    /// `mem=none`, or nothing of the task is changed, or the kernel would not set it.
    Unchanged,
    /// The default policy fits best: the GPUs are near every node with memory, or near none that may be used, or
    /// several nodes cannot be preferred by this kernel.
    DefaultFits,
}

/// A task's memory policy and its nodes; no nodes under the default policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MemoryPlan {
    /// The policy.
    pub policy: MemoryPolicy,
    /// Its nodes.
    pub nodes: NodeSet,
    /// Why it is left as it is; none where another is to be set.
    #[serde(skip)]
    pub left: Option<MemoryLeft>,
    /// Whether it is the user's `--mem-bind=local`, kept in its sense with the task's new CPUs.
    #[serde(skip)]
    pub follows_cpus: bool,
    /// Whether it is the user's and names no node that serves the GPUs.
    #[serde(skip)]
    pub is_far: bool,
}

impl MemoryPlan {
    /// Memory left as it is.
    pub fn unchanged() -> Self {
        Self::left(MemoryLeft::Unchanged)
    }

    /// The default policy, and why.
    pub fn left(why: MemoryLeft) -> Self {
        Self {
            policy: MemoryPolicy::Default,
            nodes: NodeSet::new(),
            left: Some(why),
            follows_cpus: false,
            is_far: false,
        }
    }

    /// The user's own, which stays.
    pub fn of_user(user: &UserMemory) -> Self {
        Self {
            policy: user.policy,
            nodes: user.nodes.clone(),
            left: Some(MemoryLeft::UserBound),
            follows_cpus: false,
            is_far: false,
        }
    }

    /// Whether a policy other than the one that the task came with is to be set.
    pub fn is_change(&self) -> bool {
        self.left.is_none()
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
        Memory::None => return MemoryPlan::unchanged(),
        _ if nodes.is_empty() => MemoryPolicy::Default,
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
        return MemoryPlan::left(MemoryLeft::DefaultFits);
    }
    MemoryPlan {
        policy,
        nodes,
        left: None,
        follows_cpus: false,
        is_far: false,
    }
}

/// The user's `--mem-bind=local` for a task that moves to `cpus`.
///
/// Slurm binds to the nodes of the task's CPUs, or prefers the first of them (`get_memset` and `_numa_set_preferred`,
/// task/affinity, 22.05 to 26.05); of several nodes one of the GPUs' is preferred here.
pub(super) fn follow_cpus(
    machine: &Machine,
    step: &StepRequest,
    user: &UserMemory,
    cpus: &CpuSet,
    gpu_nodes: &NodeSet,
) -> MemoryPlan {
    let usable = usable_nodes(machine, step.allowed_nodes.as_ref());
    let here = machine.nodes_of(cpus);
    let mut nodes: NodeSet = here
        .iter()
        .filter_map(|node| nearest_with_memory(machine, node, &usable))
        .collect();
    if user.policy == MemoryPolicy::Preferred {
        let near = nodes.intersection(gpu_nodes);
        let first = near.first().or_else(|| nodes.first());
        nodes = first.map(NodeSet::single).unwrap_or_default();
    }
    if nodes.is_empty() || nodes == user.nodes {
        return MemoryPlan::of_user(user);
    }
    MemoryPlan {
        policy: user.policy,
        nodes,
        left: None,
        follows_cpus: true,
        is_far: false,
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

/// The nodes whose memory is as near as that of `right`: those, and nodes without CPUs (a GPU's own memory, CXL, HBM) to which no
/// other node with CPUs is nearer.
pub fn as_near_nodes(machine: &Machine, right: &NodeSet) -> NodeSet {
    let with_cpus = machine.cpu_nodes();
    let is_near = |node: u32| {
        let nearest = with_cpus
            .iter()
            .map(|own| machine.nearness(own, node))
            .min();
        right
            .iter()
            .any(|own| Some(machine.nearness(own, node)) == nearest)
    };
    let mut all = right.clone();
    for node in &machine.numa_nodes {
        if node.cpus.is_empty() && node.kind != NodeKind::Offline && is_near(node.id) {
            all.insert(node.id);
        }
    }
    all
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
    // As it is mostly: a launch asks for each task.
    if usable.contains(node) {
        return Some(node);
    }
    usable
        .iter()
        .min_by_key(|other| (machine.nearness(node, *other), *other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::NumaNode;
    use std::collections::BTreeMap;

    fn node(id: u32, kind: NodeKind, cpus: &str, memory_bytes: u64) -> NumaNode {
        NumaNode {
            id,
            package: None,
            cpus: cpus.parse().unwrap(),
            memory_bytes: Some(memory_bytes),
            kind,
            distances: BTreeMap::new(),
        }
    }

    #[test]
    fn a_node_without_cpus_is_as_near_as_the_node_next_to_it() {
        const GIB: u64 = 1 << 30;
        let with = |id, kind, cpus: &str, distances: &[u32]| NumaNode {
            distances: (0..).zip(distances.iter().copied()).collect(),
            ..node(id, kind, cpus, GIB)
        };
        let machine = Machine {
            numa_nodes: vec![
                with(0, NodeKind::Dram, "0-1", &[10, 40, 80, 120]),
                with(1, NodeKind::Dram, "2-3", &[40, 10, 120, 80]),
                with(2, NodeKind::Gpu, "", &[80, 120, 10, 160]),
                with(3, NodeKind::Cpuless, "", &[120, 80, 160, 10]),
            ],
            ..Machine::default()
        };
        let near = |node| as_near_nodes(&machine, &NodeSet::single(node)).to_string();
        assert_eq!((near(0), near(1)), ("0,2".to_owned(), "1,3".to_owned()));
    }

    #[test]
    fn memory_is_only_of_processors_with_cpus_and_some_to_give() {
        const GIB: u64 = 1 << 30;
        let others = [
            node(1, NodeKind::Cpuless, "", GIB),
            node(1, NodeKind::Cpuless, "2-3", GIB),
            node(1, NodeKind::Gpu, "", GIB),
            // As a file may have it whose writer gave GPU memory the CPUs near it.
            node(1, NodeKind::Gpu, "2-3", GIB),
            // All its CPUs are offline.
            node(1, NodeKind::Dram, "", GIB),
            node(1, NodeKind::Dram, "2-3", 0),
        ];
        for other in others {
            let said = format!("{other:?}");
            let numa_nodes = vec![node(0, NodeKind::Dram, "0-1", GIB), other];
            let machine = Machine {
                numa_nodes,
                ..Machine::default()
            };
            let given = memory_nodes(&machine, &NodeSet::single(1));
            assert_eq!(given, NodeSet::single(0), "{said}");
        }
    }
}
