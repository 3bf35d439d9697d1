//! A plan put into effect on the calling thread.

use ffi::errno::Errno;
use ffi::linux::affinity::apply_affinity;
use ffi::linux::mempolicy::{Mode, apply_policy};
use topology::binding::{MemoryPlan, MemoryPolicy, TaskPlan};
use topology::option::Policy;
use topology::set::{CpuSet, NodeSet};

/// What the kernel refused; what it refused stays as it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// Why it did not set the affinity; none where it did, or there was nothing to set.
    pub cpus: Option<Errno>,
    /// Why it did not set the memory policy; none where it did, or there was nothing to set.
    pub memory: Option<Errno>,
}

impl Refused {
    /// The plan as it took effect.
    pub fn took(self, plan: &TaskPlan) -> TaskPlan {
        let mut took = plan.clone();
        took.bind_cpus &= self.cpus.is_none();
        if self.memory.is_some() {
            took.memory = MemoryPlan::unchanged();
        }
        took
    }
}

/// Sets affinity and memory policy as `plan` says; the policy `none` changes nothing.
pub fn apply_plan(policy: Policy, plan: &TaskPlan) -> Refused {
    let (cpus, memory) = to_set(policy, plan);
    apply(cpus, memory)
}

/// The CPUs, and the memory policy with its nodes, that `plan` sets under `policy`; none of what stays as it is.
pub fn to_set(
    policy: Policy,
    plan: &TaskPlan,
) -> (Option<&CpuSet>, Option<(MemoryPolicy, &NodeSet)>) {
    let acts = policy != Policy::None;
    let memory = (plan.memory.policy, &plan.memory.nodes);
    (
        (acts && plan.bind_cpus).then_some(&plan.cpus),
        (acts && plan.bind_memory).then_some(memory),
    )
}

/// Sets affinity and memory policy, of which none stays as it is.
pub fn apply(cpus: Option<&CpuSet>, memory: Option<(MemoryPolicy, &NodeSet)>) -> Refused {
    Refused {
        cpus: cpus.and_then(|cpus| apply_affinity(0, cpus.words()).err()),
        memory: memory
            .and_then(|(policy, nodes)| apply_policy(mode_of(policy), nodes.words()).err()),
    }
}

/// The kernel's mode for a policy.
fn mode_of(policy: MemoryPolicy) -> Mode {
    match policy {
        MemoryPolicy::Default => Mode::Default,
        MemoryPolicy::Preferred => Mode::Preferred,
        MemoryPolicy::PreferredMany => Mode::PreferredMany,
        MemoryPolicy::Bind => Mode::Bind,
        MemoryPolicy::Interleave => Mode::Interleave,
    }
}
