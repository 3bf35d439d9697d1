//! A plan put into effect on the calling thread.

use ffi::errno::Errno;
use ffi::linux::affinity::apply_affinity;
use ffi::linux::mempolicy::{Mode, apply_policy};
use topology::binding::{MemoryPlan, MemoryPolicy, TaskPlan};
use topology::option::Policy;

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
    let mut refused = Refused::default();
    if policy == Policy::None {
        return refused;
    }
    if plan.bind_cpus {
        refused.cpus = apply_affinity(0, plan.cpus.words()).err();
    }
    if plan.bind_memory {
        let mode = mode_of(plan.memory.policy);
        refused.memory = apply_policy(mode, plan.memory.nodes.words()).err();
    }
    refused
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
