//! The line of one task.

use std::fmt::{self, Display, Formatter, Write as _};

use super::phrases::{self, Said};
use super::{Voice, launch::of_task, refusal};
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
    // Few are longer than this.
    let mut text = String::with_capacity(192);
    let message = Said(|f: &mut Formatter<'_>| write_message(plan, gpus, voice, f));
    // A text has room for all that is written.
    let _ = write!(text, "{message}");
    text
}

fn write_message(
    plan: &TaskPlan,
    gpus: GpuNames<'_>,
    voice: Voice,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    match (&plan.case, voice) {
        (TaskCase::Off, Voice::Step) => f.write_str("off: left as Slurm made it"),
        (TaskCase::Off, Voice::Process) => f.write_str("off: left as it is"),
        (TaskCase::NoGpu, Voice::Step) => f.write_str("sees no GPU; left as Slurm made it"),
        (TaskCase::NoGpu, Voice::Process) => f.write_str("sees no GPU; left as it is"),
        (TaskCase::UnknownNode { gpu, can_be_named }, _) => {
            write_unknown_node(&gpus.name(*gpu), *can_be_named, plan, voice, f)
        }
        (
            TaskCase::Far {
                gpu_nodes,
                step,
                cost,
            },
            _,
        ) => {
            let cost = cost_words(*cost);
            write_far(plan, gpus, (gpu_nodes, step), &cost, voice, f)
        }
        (TaskCase::CpusLeft { gpu_nodes, why }, _) => {
            write_cpus_left(plan, gpus, gpu_nodes, *why, f)
        }
        (TaskCase::Crowded { gpu_nodes }, _) => write_crowded(plan, gpus, gpu_nodes, voice, f),
        (
            TaskCase::Placed {
                gpu_nodes,
                local_cpus,
                far_gpus,
            },
            _,
        ) => write_placed(plan, gpus, gpu_nodes, (*local_cpus, far_gpus), f),
        (TaskCase::Refused(refused), _) => {
            f.write_str(&refusal::refusal_reason(refused, gpus, voice))
        }
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
    fn of(plan: &TaskPlan) -> Self {
        match (plan.bind_cpus, plan.is_dry_run) {
            (false, _) => Self::Left,
            (true, false) => Self::Moved,
            (true, true) => Self::WouldMove,
        }
    }
}

fn write_unknown_node(
    gpu: &str,
    can_be_named: bool,
    plan: &TaskPlan,
    voice: Voice,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    write!(f, "the NUMA node of {gpu} is unknown; ")?;
    let cpus = phrases::cpus(&plan.cpus);
    match (Fate::of(plan), voice) {
        (Fate::Left, Voice::Step) => f.write_str("left as Slurm made it"),
        (Fate::Left, Voice::Process) => f.write_str("left as it is"),
        (Fate::Moved, _) => write!(f, "moved to {cpus}"),
        (Fate::WouldMove, _) => write!(f, "would be moved to {cpus}"),
    }?;
    f.write_str(if can_be_named {
        " (name the node in /etc/gpu-numa-bind/localities)"
    } else {
        ""
    })
}

fn write_far(
    plan: &TaskPlan,
    names: GpuNames<'_>,
    (gpu_nodes, step): (&NodeSet, &Place),
    cost: &str,
    voice: Voice,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    let gpus = phrases::gpus(&plan.gpus, names);
    let is_one = plan.gpus.len() == 1;
    let gpu_nodes = phrases::nodes(gpu_nodes);
    let (step_cpus, step_nodes) = (phrases::cpus(&step.cpus), phrases::nodes(&step.nodes));
    let (fate, cpus) = (Fate::of(plan), phrases::cpus(&plan.cpus));
    match (voice, is_one, fate) {
        (Voice::Step, true, Fate::Left) => write!(
            f,
            "{gpus} is on {gpu_nodes}, but the step only has {step_cpus}, on {step_nodes}; left as Slurm made it ({cost})"
        ),
        (Voice::Step, false, Fate::Left) => write!(
            f,
            "{gpus} are on {gpu_nodes}, but the step only has {step_cpus}, on {step_nodes}; left as Slurm made it ({cost})"
        ),
        (Voice::Step, true, Fate::Moved) => write!(
            f,
            "{gpus} is on {gpu_nodes}, but the step only has {step_cpus}, on {step_nodes}; moved to {cpus} ({cost})"
        ),
        (Voice::Step, false, Fate::Moved) => write!(
            f,
            "{gpus} are on {gpu_nodes}, but the step only has {step_cpus}, on {step_nodes}; moved to {cpus} ({cost})"
        ),
        (Voice::Step, true, Fate::WouldMove) => write!(
            f,
            "{gpus} is on {gpu_nodes}, but the step only has {step_cpus}, on {step_nodes}; would be moved to {cpus} ({cost})"
        ),
        (Voice::Step, false, Fate::WouldMove) => write!(
            f,
            "{gpus} are on {gpu_nodes}, but the step only has {step_cpus}, on {step_nodes}; would be moved to {cpus} ({cost})"
        ),
        (Voice::Process, true, Fate::Left) => write!(
            f,
            "{gpus} is on {gpu_nodes}, but this process may only use {step_cpus}, on {step_nodes}; left as it is ({cost})"
        ),
        (Voice::Process, false, Fate::Left) => write!(
            f,
            "{gpus} are on {gpu_nodes}, but this process may only use {step_cpus}, on {step_nodes}; left as it is ({cost})"
        ),
        (Voice::Process, true, Fate::Moved) => write!(
            f,
            "{gpus} is on {gpu_nodes}, but this process may only use {step_cpus}, on {step_nodes}; moved to {cpus} ({cost})"
        ),
        (Voice::Process, false, Fate::Moved) => write!(
            f,
            "{gpus} are on {gpu_nodes}, but this process may only use {step_cpus}, on {step_nodes}; moved to {cpus} ({cost})"
        ),
        (Voice::Process, true, Fate::WouldMove) => write!(
            f,
            "{gpus} is on {gpu_nodes}, but this process may only use {step_cpus}, on {step_nodes}; would be moved to {cpus} ({cost})"
        ),
        (Voice::Process, false, Fate::WouldMove) => write!(
            f,
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
fn own_gpus(plan: &TaskPlan, names: GpuNames<'_>) -> impl Display {
    Said(move |f: &mut Formatter<'_>| {
        phrases::gpus(&plan.gpus, names).fmt(f)?;
        f.write_str(if plan.is_share {
            " (its share by local id)"
        } else {
            ""
        })
    })
}

/// What the lines of a task with GPUs are made of: these, their nodes, its CPUs and its memory.
fn parts<'p>(
    plan: &'p TaskPlan,
    names: GpuNames<'p>,
    gpu_nodes: &'p NodeSet,
) -> (
    impl Display + 'p,
    impl Display + 'p,
    impl Display + 'p,
    impl Display + 'p,
) {
    (
        own_gpus(plan, names),
        phrases::nodes(gpu_nodes),
        phrases::cpus(&plan.cpus),
        phrases::memory(&plan.memory, gpu_nodes),
    )
}

fn write_cpus_left(
    plan: &TaskPlan,
    names: GpuNames<'_>,
    gpu_nodes: &NodeSet,
    why: CpusLeft,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    let (gpus, nodes, cpus, memory) = parts(plan, names, gpu_nodes);
    match why {
        CpusLeft::UserCpus => {
            write!(
                f,
                "{gpus} {nodes}, {cpus} left to the user's --cpu-bind, {memory}"
            )
        }
        CpusLeft::UserMemory => {
            write!(
                f,
                "{gpus} {nodes}, {cpus} left near the user's memory, {memory}"
            )
        }
        CpusLeft::NotOwned => write!(
            f,
            "{gpus} {nodes}, {cpus} left as Slurm made it (which of them are the step's is unknown), {memory}"
        ),
    }
}

fn write_crowded(
    plan: &TaskPlan,
    names: GpuNames<'_>,
    gpu_nodes: &NodeSet,
    voice: Voice,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    let (gpus, nodes, _, memory) = parts(plan, names, gpu_nodes);
    match voice {
        Voice::Step => write!(
            f,
            "{gpus} {nodes}: other tasks have all of the step's CPUs there; left as Slurm made it, {memory}"
        ),
        Voice::Process => {
            write!(
                f,
                "{gpus} {nodes}: other ranks have all the CPUs there; left as it is, {memory}"
            )
        }
    }
}

fn write_placed(
    plan: &TaskPlan,
    names: GpuNames<'_>,
    gpu_nodes: &NodeSet,
    (local, far_gpus): (usize, &[PciAddress]),
    f: &mut Formatter<'_>,
) -> fmt::Result {
    let (gpus, nodes, cpus, memory) = parts(plan, names, gpu_nodes);
    let all = phrases::cpu_count(plan.cpus.len());
    match (plan.verdict, plan.is_dry_run) {
        (Verdict::Spanning, false) => {
            write!(
                f,
                "{gpus} {nodes}, {cpus}, {memory}: spanning (its GPUs are on several nodes)"
            )
        }
        (Verdict::Spanning, true) => write!(
            f,
            "{gpus} {nodes}, {cpus}, {memory}: spanning (its GPUs are on several nodes; policy none changes nothing)"
        ),
        (Verdict::Partial, false) if !far_gpus.is_empty() => {
            let far = phrases::gpus(far_gpus, names);
            write!(
                f,
                "{gpus} {nodes}, {cpus}, {memory}: partial ({local} of {all} local, none of them to {far})"
            )
        }
        (Verdict::Partial, true) if !far_gpus.is_empty() => {
            let far = phrases::gpus(far_gpus, names);
            write!(
                f,
                "{gpus} {nodes}, {cpus}, {memory}: partial ({local} of {all} local, none of them to {far}; policy none changes nothing)"
            )
        }
        (Verdict::Partial, false) => {
            write!(
                f,
                "{gpus} {nodes}, {cpus}, {memory}: partial ({local} of {all} local)"
            )
        }
        (Verdict::Partial, true) => write!(
            f,
            "{gpus} {nodes}, {cpus}, {memory}: partial ({local} of {all} local; policy none changes nothing)"
        ),
        (Verdict::Remote, false) => {
            write!(
                f,
                "{gpus} {nodes}, {cpus}, {memory}: remote (0 of {all} local)"
            )
        }
        (Verdict::Remote, true) => write!(
            f,
            "{gpus} {nodes}, {cpus}, {memory}: remote (0 of {all} local; policy none changes nothing)"
        ),
        (Verdict::Local, false) if plan.memory.is_far => {
            write!(
                f,
                "{gpus} {nodes}, {cpus}, {memory}: CPUs local, memory not"
            )
        }
        (Verdict::Local, true) if plan.memory.is_far => write!(
            f,
            "{gpus} {nodes}, {cpus}, {memory}: CPUs local, memory not (policy none changes nothing)"
        ),
        (Verdict::Local | Verdict::Unbound | Verdict::Refused, false) => {
            write!(f, "{gpus} {nodes}, {cpus}, {memory}: local")
        }
        (Verdict::Local | Verdict::Unbound | Verdict::Refused, true) => {
            write!(
                f,
                "{gpus} {nodes}, {cpus}, {memory}: local (policy none changes nothing)"
            )
        }
    }
}
