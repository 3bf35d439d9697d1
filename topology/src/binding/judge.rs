//! How well a task is placed, and when a step is refused.

use super::memory::{MemoryLeft, memory_nodes};
use super::near::Near;
use super::plan::{Misfit, Place, Refusal, TaskPlan, Verdict};
use super::request::StepRequest;
use crate::machine::Machine;
use crate::option::{Policy, Width};
use crate::pci::PciAddress;
use crate::set::{CpuSet, NodeSet};

/// How well a process that uses all of `gpus` is placed on `cpus`, as a plan would judge it; none where it has no GPU, or
/// the NUMA node of one is unknown.
pub fn judge_cpus(machine: &Machine, gpus: &[PciAddress], cpus: &CpuSet) -> Option<Verdict> {
    let nodes_of = |gpu: &PciAddress| machine.gpu(*gpu)?.locality.numa_nodes.as_ref();
    let each: Option<Vec<&NodeSet>> = gpus.iter().map(nodes_of).collect();
    let each = each.filter(|each| !each.is_empty())?;
    Some(verdict(machine, &each, cpus))
}

/// The verdict for a task that is bound to `cpus`.
pub(super) fn judge(machine: &Machine, near: &Near, cpus: &CpuSet) -> Verdict {
    let each: Vec<&NodeSet> = near.gpu_nodes.iter().flatten().collect();
    verdict(machine, &each, cpus)
}

/// The verdict on `cpus`, where `each` are the nodes of every GPU.
fn verdict(machine: &Machine, each: &[&NodeSet], cpus: &CpuSet) -> Verdict {
    let near = each.iter().map(|nodes| machine.cpus_of(nodes));
    let near: Vec<CpuSet> = near.collect();
    let mut local = CpuSet::new();
    for of_gpu in &near {
        local.extend_with(of_gpu);
    }
    if !cpus.intersects(&local) {
        Verdict::Remote
    } else if !cpus.is_subset(&local) || near.iter().any(|of_gpu| !of_gpu.intersects(cpus)) {
        Verdict::Partial
    } else if each.windows(2).any(|pair| pair.first() != pair.last()) {
        Verdict::Spanning
    } else {
        Verdict::Local
    }
}

/// The GPUs, of those whose node is known, that none of `cpus` is local to.
pub(super) fn far_gpus<'a>(
    machine: &'a Machine,
    near: &'a Near,
    cpus: &'a CpuSet,
) -> impl Iterator<Item = PciAddress> + 'a {
    let is_far = |nodes: &NodeSet| !machine.cpus_of(nodes).intersects(cpus);
    let known = near.gpus.iter().zip(&near.gpu_nodes);
    known
        .filter(move |(_, nodes)| nodes.as_ref().is_some_and(is_far))
        .map(|(gpu, _)| *gpu)
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
            Some(Refusal {
                task,
                misfit: find_misfit(machine, step, near, plan, strict)?,
                step: place_of_step(machine, step),
            })
        })
}

/// The step's CPUs and their nodes.
pub(super) fn place_of_step(machine: &Machine, step: &StepRequest) -> Place {
    Place {
        cpus: step.step_cpus.clone(),
        nodes: machine.nodes_of(&step.step_cpus),
    }
}

fn find_misfit(
    machine: &Machine,
    step: &StepRequest,
    near: &Near,
    plan: &TaskPlan,
    strict: bool,
) -> Option<Misfit> {
    if let Some(gpu) = near.first_unknown() {
        let can_be_named = machine.has_node_of_one_package();
        return Some(Misfit::UnknownNode { gpu, can_be_named });
    }
    let known = near.gpus.iter().zip(&near.gpu_nodes);
    let gpus: Vec<_> = known
        .map(|(gpu, nodes)| (*gpu, nodes.clone().unwrap_or_default()))
        .collect();
    let far_of = |cpus: &CpuSet| {
        let far = far_gpus(machine, near, cpus).next()?;
        gpus.iter().find(|(gpu, _)| *gpu == far).cloned()
    };
    if let Some((gpu, nodes)) = far_of(&step.step_cpus) {
        return Some(Misfit::NoLocalCpu { gpu, nodes });
    }
    if gpus.is_empty() {
        return None;
    }
    if let Some(why) = near.left.filter(|_| !plan.cpus.intersects(&near.cpus)) {
        return Some(Misfit::LeftFar {
            gpus: near.gpus.clone(),
            nodes: near.nodes.clone(),
            cpus: plan.cpus.clone(),
            why,
        });
    }
    // Where the step is split, others may have taken all that is local to a GPU.
    let is_split = step.settings.width == Width::Exclusive && near.left.is_none();
    if let Some((gpu, nodes)) = far_of(&plan.cpus).filter(|_| is_split) {
        return Some(Misfit::TooFewLeft {
            gpus: vec![gpu],
            nodes,
            asked: step.asked,
            local: 0,
        });
    }
    if !strict {
        return None;
    }
    let named = &plan.memory.nodes;
    let is_users = plan.memory.left == Some(MemoryLeft::UserBound);
    if is_users && !named.intersects(&memory_nodes(machine, &near.nodes)) {
        return Some(Misfit::UserMemory {
            gpus: near.gpus.clone(),
            nodes: near.nodes.clone(),
            memory: named.clone(),
        });
    }
    let each = gpus.iter().map(|(_, nodes)| nodes.clone());
    let shared = each.reduce(|a, b| a.intersection(&b));
    if shared.is_some_and(|nodes| nodes.is_empty()) {
        return Some(Misfit::NoSharedNode { gpus });
    }
    let asked = step.asked;
    let (gpus, nodes) = (near.gpus.clone(), near.nodes.clone());
    let local = near.cpus.len();
    if local < asked as usize {
        return Some(Misfit::TooFewLocal {
            gpus,
            nodes,
            asked,
            local,
        });
    }
    // Only where the step is split can others have taken what is local.
    let local = plan.cpus.intersection(&near.cpus).len();
    let is_short = step.settings.width == Width::Exclusive && local < asked as usize;
    is_short.then_some(Misfit::TooFewLeft {
        gpus,
        nodes,
        asked,
        local,
    })
}
