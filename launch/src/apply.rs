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

#[cfg(test)]
mod tests {
    use ffi::linux::affinity::read_affinity;
    use ffi::linux::mempolicy::read_policy;
    use topology::binding::{TaskCase, Verdict};

    use super::*;

    fn plan() -> TaskPlan {
        TaskPlan {
            task: 0,
            gpus: Vec::new(),
            is_share: false,
            cpus: "3".parse().unwrap(),
            memory: MemoryPlan {
                policy: MemoryPolicy::Bind,
                nodes: NodeSet::single(1),
                ..MemoryPlan::unchanged()
            },
            verdict: Verdict::Local,
            case: TaskCase::Off,
            is_dry_run: false,
            lacks_local_cpus: false,
            is_trouble: false,
            bind_cpus: true,
            bind_memory: true,
        }
    }

    #[test]
    fn what_is_set_is_what_the_plan_binds_and_under_none_nothing() {
        let mut plan = plan();
        assert_eq!(to_set(Policy::None, &plan), (None, None));
        let (cpus, memory) = to_set(Policy::BestEffort, &plan);
        assert_eq!(cpus, Some(&plan.cpus));
        assert_eq!(memory, Some((MemoryPolicy::Bind, &plan.memory.nodes)));
        plan.bind_cpus = false;
        assert_eq!(to_set(Policy::BestEffort, &plan).0, None);
        plan.bind_memory = false;
        assert_eq!(to_set(Policy::BestEffort, &plan).1, None);
    }

    #[test]
    fn what_the_kernel_refused_did_not_take() {
        let plan = plan();
        let all = Refused::default().took(&plan);
        assert!(all.bind_cpus && all.memory == plan.memory);
        let refused = Refused {
            cpus: Some(Errno(22)),
            memory: Some(Errno(22)),
        };
        let none = refused.took(&plan);
        assert!(!none.bind_cpus && none.memory == MemoryPlan::unchanged());
    }

    /// Asks the kernel what a thread has.
    #[test]
    fn the_kernel_has_what_was_set() {
        let cpu = read_affinity(0).map(|words| CpuSet::from_words(&words));
        let cpu = CpuSet::single(cpu.unwrap().first().unwrap());
        let node = NodeSet::single(0);
        let (cpu, node) = (&cpu, &node);
        let kinds = [
            (MemoryPolicy::Default, Mode::Default),
            (MemoryPolicy::Preferred, Mode::Preferred),
            (MemoryPolicy::PreferredMany, Mode::PreferredMany),
            (MemoryPolicy::Bind, Mode::Bind),
            (MemoryPolicy::Interleave, Mode::Interleave),
        ];
        std::thread::scope(|scope| {
            for (policy, mode) in kinds {
                scope.spawn(move || {
                    let refused = apply(Some(cpu), Some((policy, node)));
                    let has = read_affinity(0).map(|words| CpuSet::from_words(&words));
                    assert_eq!(has.unwrap(), *cpu);
                    // Linux 5.15 is the first that knows it.
                    if refused.memory.is_some() && policy == MemoryPolicy::PreferredMany {
                        return;
                    }
                    assert_eq!(refused, Refused::default(), "{policy:?}");
                    let own = read_policy().unwrap();
                    assert_eq!(own.mode(), mode);
                    let nodes = NodeSet::from_words(own.nodes());
                    assert_eq!(
                        nodes.contains(0),
                        policy != MemoryPolicy::Default,
                        "{policy:?}"
                    );
                });
            }
        });
    }
}
