//! Why a strict policy refuses, and what would fit.

use super::{Verb, Voice, phrases};
use crate::binding::{Advice, CpusLeft, Misfit, Refusal};
use crate::names::GpuNames;
use crate::option::Policy;

/// What is wrong: the task, its GPU and node, and the CPUs that there are.
pub fn refusal_reason(refusal: &Refusal, named: GpuNames<'_>, voice: Voice) -> String {
    let task = refusal.task;
    let has = phrases::cpus(&refusal.step.cpus);
    let on = phrases::nodes(&refusal.step.nodes);
    match (&refusal.misfit, voice) {
        (Misfit::UnknownNode { gpu, .. }, Voice::Step) => {
            let gpu = named.name(*gpu);
            format!("the NUMA node of task {task}'s {gpu} is unknown; the step has {has}, on {on}")
        }
        (Misfit::UnknownNode { gpu, .. }, Voice::Process) => {
            let gpu = named.name(*gpu);
            format!("the NUMA node of {gpu} is unknown; this process may use {has}, on {on}")
        }
        (Misfit::NoLocalCpu { gpu, nodes }, Voice::Step) => {
            let (gpu, nodes) = (named.name(*gpu), phrases::nodes(nodes));
            format!("task {task}'s {gpu} is on {nodes}, but the step only has {has}, on {on}")
        }
        (Misfit::NoLocalCpu { gpu, nodes }, Voice::Process) => {
            let (gpu, nodes) = (named.name(*gpu), phrases::nodes(nodes));
            format!("{gpu} is on {nodes}, but this process may only use {has}, on {on}")
        }
        (Misfit::NoSharedNode { gpus }, Voice::Step) => {
            let gpus = phrases::gpus_with_nodes(gpus, named);
            format!("task {task}'s {gpus} share no node; the step has {has}, on {on}")
        }
        (Misfit::NoSharedNode { gpus }, Voice::Process) => {
            let gpus = phrases::gpus_with_nodes(gpus, named);
            format!("{gpus} share no node; this process may use {has}, on {on}")
        }
        (
            Misfit::LeftFar {
                gpus,
                nodes,
                cpus,
                why,
            },
            _,
        ) => {
            let (gpus, nodes) = (phrases::gpus(gpus, named), phrases::nodes(nodes));
            let cpus = phrases::cpus(cpus);
            match why {
                CpusLeft::UserCpus => format!(
                    "the user's --cpu-bind gives task {task} {cpus}, none of them on {nodes} of {gpus}"
                ),
                CpusLeft::UserMemory => format!(
                    "task {task} has {cpus}, near the memory that the user's --mem-bind names and not on {nodes} of {gpus}"
                ),
                CpusLeft::NotOwned => format!(
                    "task {task} has {cpus}, none of them on {nodes} of {gpus}, and which CPUs are the step's is unknown"
                ),
            }
        }
        (
            Misfit::UserMemory {
                gpus,
                nodes,
                memory,
            },
            _,
        ) => {
            let (gpus, nodes) = (phrases::gpus(gpus, named), phrases::nodes(nodes));
            let memory = phrases::nodes(memory);
            format!(
                "the user's --mem-bind takes the memory of task {task} from {memory}, and {gpus} on {nodes} has other memory near"
            )
        }
        (
            Misfit::TooFewLocal {
                gpus,
                nodes,
                asked,
                local,
            },
            _,
        ) => {
            let (gpus, nodes) = (phrases::gpus(gpus, named), phrases::nodes(nodes));
            let local = phrases::cpu_count(*local);
            match voice {
                Voice::Step => format!(
                    "task {task} asked for {asked} CPUs, but the step ({has}) has only {local} on {nodes} of {gpus}"
                ),
                Voice::Process => format!(
                    "{asked} CPUs are asked for, but this process ({has}) may use only {local} on {nodes} of {gpus}"
                ),
            }
        }
        (
            Misfit::TooFewLeft {
                gpus,
                nodes,
                asked,
                local,
            },
            _,
        ) => {
            let (gpus, nodes) = (phrases::gpus(gpus, named), phrases::nodes(nodes));
            let asked = phrases::cpu_count(usize::try_from(*asked).unwrap_or(usize::MAX));
            let left = phrases::cpu_count(*local);
            match (voice, *local) {
                (Voice::Step, 0) => format!(
                    "task {task} asked for {asked}, but the other tasks need all that the step ({has}) has on {nodes} of {gpus}"
                ),
                (Voice::Step, _) => format!(
                    "task {task} asked for {asked}, but the other tasks leave it {left} of what the step ({has}) has on {nodes} of {gpus}"
                ),
                (Voice::Process, 0) => format!(
                    "rank {task} needs {asked}, but the other ranks need all CPUs (of {has}) on {nodes} of {gpus}"
                ),
                (Voice::Process, _) => format!(
                    "rank {task} needs {asked}, but the other ranks leave it {left} (of {has}) on {nodes} of {gpus}"
                ),
            }
        }
    }
}

/// The line of a refused step with `tasks` tasks on `host`; `step` is its name, `12.0`.
pub fn step_refused_line(
    step: &str,
    host: &str,
    policy: Policy,
    tasks: usize,
    refusal: &Refusal,
    gpus: GpuNames<'_>,
) -> String {
    let policy = policy.word();
    let reason = refusal_reason(refusal, gpus, Voice::Step);
    if tasks > 1 {
        format!("step {step} refused on {host} ({policy}, all {tasks} tasks here): {reason}")
    } else {
        format!("step {step} refused on {host} ({policy}): {reason}")
    }
}

/// The line of a plan that is refused, or of a process that is not started.
pub fn refused_line(policy: Policy, refusal: &Refusal, gpus: GpuNames<'_>, voice: Voice) -> String {
    let policy = policy.word();
    let reason = refusal_reason(refusal, gpus, voice);
    format!("refused ({policy}): {reason}")
}

/// What would fit under Slurm, and how to run all the same; nothing is said to fit that was not tried.
pub fn advice_line(refusal: &Refusal, advice: &Advice, verb: Verb) -> String {
    let fits = match &refusal.misfit {
        Misfit::UnknownNode { gpu, can_be_named } => can_be_named.then(|| format!(
            "its NUMA node named in /etc/gpu-numa-bind/localities (\"{gpu} N\", N the node's number)"
        )),
        Misfit::LeftFar { why, .. } => match why {
            CpusLeft::UserCpus => Some(
                "without your --cpu-bind, or with override added to --gpu-numa-bind".to_owned(),
            ),
            CpusLeft::UserMemory => {
                Some("without your --mem-bind, or with --mem-bind=local".to_owned())
            }
            CpusLeft::NotOwned => None,
        },
        Misfit::UserMemory { .. } => {
            Some("without your --mem-bind, or with --mem-bind=local".to_owned())
        }
        Misfit::NoLocalCpu { .. }
        | Misfit::NoSharedNode { .. }
        | Misfit::TooFewLocal { .. }
        | Misfit::TooFewLeft { .. } => phrases::ways(advice, verb),
    };
    match fits {
        Some(fits) => format!(
            "would fit: {fits}; to run as it is: --gpu-numa-bind=best-effort; add --kill-on-bad-exit=1 so that a \
             refused host ends the whole step"
        ),
        None => "to run as it is: --gpu-numa-bind=best-effort; add --kill-on-bad-exit=1 so that a refused host ends the \
                 whole step"
            .to_owned(),
    }
}
