//! How well a task is placed, and when a step is refused.

use super::message;
use super::{Near, StepRequest, TaskPlan, Verdict};
use crate::machine::Machine;
use crate::option::{Policy, Width};
use crate::pci::PciAddress;
use crate::set::{CpuSet, NodeSet};

/// Why a step is refused, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The task that cannot be bound as asked.
    pub task: usize,
    /// What is wrong: GPU, node and the step's CPUs named.
    pub reason: String,
    /// What would fit, and how to run all the same.
    pub advice: String,
}

/// The verdict for a task that is bound to `cpus`.
pub(super) fn judge(near: &Near, cpus: &CpuSet) -> Verdict {
    if !cpus.intersects(&near.cpus) {
        Verdict::Remote
    } else if !cpus.is_subset(&near.cpus) {
        Verdict::Partial
    } else if near.is_spanning() {
        Verdict::Spanning
    } else {
        Verdict::Local
    }
}

/// Whether a strict policy refuses the step, by its first task that does not fit.
pub(super) fn refuse(
    machine: &Machine,
    step: &StepRequest,
    near: &[Near],
    plans: &[TaskPlan],
) -> Option<Refusal> {
    let strict = match step.settings.policy {
        Policy::Restricted => false,
        Policy::SingleNumaNode => true,
        Policy::Off | Policy::None | Policy::BestEffort => return None,
    };
    if !step.may_refuse {
        return None;
    }
    near.iter()
        .zip(plans)
        .enumerate()
        .find_map(|(task, (near, plan))| {
            let misfit = misfit(machine, step, near, plan, strict)?;
            let reason = message::refusal_reason(machine, step, task, near, &misfit);
            Some(Refusal {
                task,
                reason,
                advice: message::refusal_advice(&misfit),
            })
        })
}

/// What of a task does not fit a strict policy.
pub(super) enum Misfit {
    /// A GPU's locality is not known.
    Unknown(PciAddress),
    /// A GPU has no local CPU in the step.
    NoLocalCpu(PciAddress, NodeSet),
    /// The GPUs share no node.
    NoSharedNode,
    /// Fewer local CPUs than asked.
    TooFew(usize),
}

fn misfit(
    machine: &Machine,
    step: &StepRequest,
    near: &Near,
    plan: &TaskPlan,
    strict: bool,
) -> Option<Misfit> {
    if let Some(gpu) = near.first_unknown() {
        return Some(Misfit::Unknown(gpu));
    }
    for (gpu, nodes) in near.gpus.iter().zip(&near.gpu_nodes) {
        let nodes = nodes.clone().unwrap_or_default();
        if !machine.cpus_of(&nodes).intersects(&step.step_cpus) {
            return Some(Misfit::NoLocalCpu(*gpu, nodes));
        }
    }
    if !strict || near.gpus.is_empty() {
        return None;
    }
    let shared = near
        .gpu_nodes
        .iter()
        .flatten()
        .cloned()
        .reduce(|a, b| a.intersection(&b));
    if shared.is_some_and(|nodes| nodes.is_empty()) {
        return Some(Misfit::NoSharedNode);
    }
    let local = match step.settings.width {
        Width::Exclusive => plan.cpus.intersection(&near.cpus).len(),
        Width::Node | Width::Socket | Width::L3 => near.cpus.len(),
    };
    (local < step.asked as usize).then_some(Misfit::TooFew(local))
}
