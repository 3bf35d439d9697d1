//! The line of one task.

use super::{Voice, launch::of_task, phrases, refusal};
use crate::binding::{Cost, CpusLeft, Place, TaskCase, TaskPlan, Verdict};
use crate::names::GpuNames;
use crate::nics::NicDocument;
use crate::pci::PciAddress;
use crate::set::NodeSet;

/// The line of a task with its host and number, as `verbose` and trouble are reported.
pub fn task_line(host: &str, plan: &TaskPlan, gpus: GpuNames<'_>, voice: Voice) -> String {
    of_task(host, plan.task, &task_message(plan, gpus, voice))
}

/// The same with the NICs nearest to its GPUs, where any are known.
pub fn task_line_with_nics(
    host: &str,
    plan: &TaskPlan,
    gpus: GpuNames<'_>,
    nics: Option<&NicDocument>,
    voice: Voice,
) -> String {
    let line = task_line(host, plan, gpus, voice);
    match nics.and_then(phrases::nics) {
        Some(nics) => format!("{line}; {nics}"),
        None => line,
    }
}

/// The line of a task without its host and number: the `message` of JSON documents.
pub fn task_message(plan: &TaskPlan, gpus: GpuNames<'_>, voice: Voice) -> String {
    match (&plan.case, voice) {
        (TaskCase::Off, Voice::Step) => "off: left as Slurm made it".to_owned(),
        (TaskCase::Off, Voice::Process) => "off: left as it is".to_owned(),
        (TaskCase::NoGpu, Voice::Step) => "sees no GPU; left as Slurm made it".to_owned(),
        (TaskCase::NoGpu, Voice::Process) => "sees no GPU; left as it is".to_owned(),
        (TaskCase::UnknownNode { gpu, can_be_named }, _) => {
            unknown_node(&gpus.name(*gpu), *can_be_named, Fate::of(plan), voice)
        }
        (
            TaskCase::Far {
                gpu_nodes,
                step,
                cost,
            },
            _,
        ) => far(plan, gpus, gpu_nodes, step, *cost, voice),
        (TaskCase::CpusLeft { gpu_nodes, why }, _) => cpus_left(plan, gpus, gpu_nodes, *why),
        (TaskCase::Crowded { gpu_nodes }, _) => crowded(plan, gpus, gpu_nodes, voice),
        (
            TaskCase::Placed {
                gpu_nodes,
                local_cpus,
                far_gpus,
            },
            _,
        ) => placed(plan, gpus, gpu_nodes, *local_cpus, far_gpus),
        (TaskCase::Refused(refused), _) => refusal::refusal_reason(refused, gpus, voice),
    }
}

/// What becomes of a task that no CPU is known to be local to.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It keeps its CPUs.
    Left,
    /// It makes way for a task that can be local.
    Moved,
    /// It would make way, but nothing is changed.
    WouldMove,
}

impl Fate {
    fn of(plan: &TaskPlan) -> (Self, String) {
        let fate = match (plan.bind_cpus, plan.is_dry_run) {
            (false, _) => Self::Left,
            (true, false) => Self::Moved,
            (true, true) => Self::WouldMove,
        };
        (fate, phrases::cpus(&plan.cpus))
    }
}

fn unknown_node(
    gpu: &str,
    can_be_named: bool,
    (fate, cpus): (Fate, String),
    voice: Voice,
) -> String {
    let became = match (fate, voice) {
        (Fate::Left, Voice::Step) => "left as Slurm made it".to_owned(),
        (Fate::Left, Voice::Process) => "left as it is".to_owned(),
        (Fate::Moved, _) => format!("moved to {cpus}"),
        (Fate::WouldMove, _) => format!("would be moved to {cpus}"),
    };
    let cure = if can_be_named {
        " (name the node in /etc/gpu-numa-bind/localities)"
    } else {
        ""
    };
    format!("the NUMA node of {gpu} is unknown; {became}{cure}")
}

fn far(
    plan: &TaskPlan,
    names: GpuNames<'_>,
    gpu_nodes: &NodeSet,
    step: &Place,
    cost: Cost,
    voice: Voice,
) -> String {
    let gpus = phrases::gpus(&plan.gpus, names);
    let is_one = plan.gpus.len() == 1;
    let gpu_nodes = phrases::nodes(gpu_nodes);
    let (step_cpus, step_nodes) = (phrases::cpus(&step.cpus), phrases::nodes(&step.nodes));
    let cost = cost_words(cost);
    let (fate, cpus) = Fate::of(plan);
    match (voice, is_one, fate) {
        (Voice::Step, true, Fate::Left) => format!(
            "{gpus} is on {gpu_nodes}, but the step only has {step_cpus}, on {step_nodes}; left as Slurm made it ({cost})"
        ),
        (Voice::Step, false, Fate::Left) => format!(
            "{gpus} are on {gpu_nodes}, but the step only has {step_cpus}, on {step_nodes}; left as Slurm made it ({cost})"
        ),
        (Voice::Step, true, Fate::Moved) => format!(
            "{gpus} is on {gpu_nodes}, but the step only has {step_cpus}, on {step_nodes}; moved to {cpus} ({cost})"
        ),
        (Voice::Step, false, Fate::Moved) => format!(
            "{gpus} are on {gpu_nodes}, but the step only has {step_cpus}, on {step_nodes}; moved to {cpus} ({cost})"
        ),
        (Voice::Step, true, Fate::WouldMove) => format!(
            "{gpus} is on {gpu_nodes}, but the step only has {step_cpus}, on {step_nodes}; would be moved to {cpus} ({cost})"
        ),
        (Voice::Step, false, Fate::WouldMove) => format!(
            "{gpus} are on {gpu_nodes}, but the step only has {step_cpus}, on {step_nodes}; would be moved to {cpus} ({cost})"
        ),
        (Voice::Process, true, Fate::Left) => format!(
            "{gpus} is on {gpu_nodes}, but this process may only use {step_cpus}, on {step_nodes}; left as it is ({cost})"
        ),
        (Voice::Process, false, Fate::Left) => format!(
            "{gpus} are on {gpu_nodes}, but this process may only use {step_cpus}, on {step_nodes}; left as it is ({cost})"
        ),
        (Voice::Process, true, Fate::Moved) => format!(
            "{gpus} is on {gpu_nodes}, but this process may only use {step_cpus}, on {step_nodes}; moved to {cpus} ({cost})"
        ),
        (Voice::Process, false, Fate::Moved) => format!(
            "{gpus} are on {gpu_nodes}, but this process may only use {step_cpus}, on {step_nodes}; moved to {cpus} ({cost})"
        ),
        (Voice::Process, true, Fate::WouldMove) => format!(
            "{gpus} is on {gpu_nodes}, but this process may only use {step_cpus}, on {step_nodes}; would be moved to {cpus} ({cost})"
        ),
        (Voice::Process, false, Fate::WouldMove) => format!(
            "{gpus} are on {gpu_nodes}, but this process may only use {step_cpus}, on {step_nodes}; would be moved to {cpus} ({cost})"
        ),
    }
}

fn cost_words(cost: Cost) -> String {
    match (cost.crosses_socket, cost.rating.map(phrases::rating)) {
        (true, Some(rating)) => {
            format!("every copy crosses the socket link; memory across it: {rating}")
        }
        (true, None) => "every copy crosses the socket link".to_owned(),
        (false, Some(rating)) => format!("every copy leaves the node; memory beyond it: {rating}"),
        (false, None) => "every copy leaves the node".to_owned(),
    }
}

/// The task's GPUs, which may be its share of more.
fn own_gpus(plan: &TaskPlan, names: GpuNames<'_>) -> String {
    let gpus = phrases::gpus(&plan.gpus, names);
    if plan.is_share {
        format!("{gpus} (its share by local id)")
    } else {
        gpus
    }
}

fn cpus_left(plan: &TaskPlan, names: GpuNames<'_>, gpu_nodes: &NodeSet, why: CpusLeft) -> String {
    let (gpus, nodes) = (own_gpus(plan, names), phrases::nodes(gpu_nodes));
    let (cpus, memory) = (
        phrases::cpus(&plan.cpus),
        phrases::memory(&plan.memory, gpu_nodes),
    );
    match why {
        CpusLeft::UserCpus => {
            format!("{gpus} {nodes}, {cpus} left to the user's --cpu-bind, {memory}")
        }
        CpusLeft::UserMemory => {
            format!("{gpus} {nodes}, {cpus} left near the user's memory, {memory}")
        }
        CpusLeft::NotOwned => format!(
            "{gpus} {nodes}, {cpus} left as Slurm made it (which of them are the step's is unknown), {memory}"
        ),
    }
}

fn crowded(plan: &TaskPlan, names: GpuNames<'_>, gpu_nodes: &NodeSet, voice: Voice) -> String {
    let (gpus, nodes) = (own_gpus(plan, names), phrases::nodes(gpu_nodes));
    let memory = phrases::memory(&plan.memory, gpu_nodes);
    match voice {
        Voice::Step => format!(
            "{gpus} {nodes}: other tasks have all of the step's CPUs there; left as Slurm made it, {memory}"
        ),
        Voice::Process => {
            format!("{gpus} {nodes}: other ranks have all the CPUs there; left as it is, {memory}")
        }
    }
}

fn placed(
    plan: &TaskPlan,
    names: GpuNames<'_>,
    gpu_nodes: &NodeSet,
    local: usize,
    far_gpus: &[PciAddress],
) -> String {
    let (gpus, nodes) = (own_gpus(plan, names), phrases::nodes(gpu_nodes));
    let (cpus, memory) = (
        phrases::cpus(&plan.cpus),
        phrases::memory(&plan.memory, gpu_nodes),
    );
    let all = phrases::cpu_count(plan.cpus.len());
    match (plan.verdict, plan.is_dry_run) {
        (Verdict::Spanning, false) => {
            format!("{gpus} {nodes}, {cpus}, {memory}: spanning (its GPUs are on several nodes)")
        }
        (Verdict::Spanning, true) => format!(
            "{gpus} {nodes}, {cpus}, {memory}: spanning (its GPUs are on several nodes; policy none changes nothing)"
        ),
        (Verdict::Partial, false) if !far_gpus.is_empty() => {
            let far = phrases::gpus(far_gpus, names);
            format!(
                "{gpus} {nodes}, {cpus}, {memory}: partial ({local} of {all} local, none of them to {far})"
            )
        }
        (Verdict::Partial, true) if !far_gpus.is_empty() => {
            let far = phrases::gpus(far_gpus, names);
            format!(
                "{gpus} {nodes}, {cpus}, {memory}: partial ({local} of {all} local, none of them to {far}; policy none changes nothing)"
            )
        }
        (Verdict::Partial, false) => {
            format!("{gpus} {nodes}, {cpus}, {memory}: partial ({local} of {all} local)")
        }
        (Verdict::Partial, true) => format!(
            "{gpus} {nodes}, {cpus}, {memory}: partial ({local} of {all} local; policy none changes nothing)"
        ),
        (Verdict::Remote, false) => {
            format!("{gpus} {nodes}, {cpus}, {memory}: remote (0 of {all} local)")
        }
        (Verdict::Remote, true) => format!(
            "{gpus} {nodes}, {cpus}, {memory}: remote (0 of {all} local; policy none changes nothing)"
        ),
        (Verdict::Local, false) if plan.memory.is_far => {
            format!("{gpus} {nodes}, {cpus}, {memory}: CPUs local, memory not")
        }
        (Verdict::Local, true) if plan.memory.is_far => format!(
            "{gpus} {nodes}, {cpus}, {memory}: CPUs local, memory not (policy none changes nothing)"
        ),
        (Verdict::Local | Verdict::Unbound | Verdict::Refused, false) => {
            format!("{gpus} {nodes}, {cpus}, {memory}: local")
        }
        (Verdict::Local | Verdict::Unbound | Verdict::Refused, true) => {
            format!("{gpus} {nodes}, {cpus}, {memory}: local (policy none changes nothing)")
        }
    }
}
