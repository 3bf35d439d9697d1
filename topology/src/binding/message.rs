//! What a person reads: one line each, the same in the plugin's reports and in `gpu-numa plan`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::verdict::Misfit;
use super::{
    MemoryPlan, MemoryPolicy, Near, StepPlan, StepRequest, TaskPlan, TaskRequest, Verdict,
};
use crate::crossings::{fewest, groups, packages_of};
use crate::machine::Machine;
use crate::option::{Memory, Policy};
use crate::path::crosses_socket;
use crate::pci::PciAddress;
use crate::set::{CpuSet, NodeSet};

/// `GPU A` or `GPUs A and B`, `GPUs A, B and C`.
fn gpu_list(gpus: &[PciAddress]) -> String {
    let names: Vec<String> = gpus.iter().map(ToString::to_string).collect();
    match names.split_last() {
        None => "no GPU".to_owned(),
        Some((only, [])) => format!("GPU {only}"),
        Some((last, rest)) => format!("GPUs {} and {last}", rest.join(", ")),
    }
}

fn node_list(nodes: &NodeSet) -> String {
    if nodes.len() == 1 {
        format!("node {nodes}")
    } else {
        format!("nodes {nodes}")
    }
}

fn cpu_list(cpus: &CpuSet) -> String {
    if cpus.len() == 1 {
        format!("CPU {cpus}")
    } else {
        format!("CPUs {cpus}")
    }
}

fn memory_words(step: &StepRequest, request: &TaskRequest, plan: &MemoryPlan) -> String {
    match plan.policy {
        MemoryPolicy::Preferred | MemoryPolicy::PreferredMany => {
            format!("memory prefers {}", node_list(&plan.nodes))
        }
        MemoryPolicy::Bind => format!("memory bound to {}", node_list(&plan.nodes)),
        MemoryPolicy::Interleave => format!("memory interleaved over {}", node_list(&plan.nodes)),
        MemoryPolicy::Default if request.user_mem_bind && !step.settings.override_user => {
            "memory left to the user's --mem-bind".to_owned()
        }
        MemoryPolicy::Default if step.settings.memory == Memory::None => "memory left".to_owned(),
        MemoryPolicy::Default => "memory by the default policy".to_owned(),
    }
}

/// The line of one task, without its prefix.
pub(super) fn task_message(
    machine: &Machine,
    step: &StepRequest,
    request: &TaskRequest,
    near: &Near,
    plan: &TaskPlan,
) -> String {
    let gpus = gpu_list(&near.gpus);
    if near.gpus.is_empty() {
        return "sees no GPU; left as Slurm made it".to_owned();
    }
    let done = if plan.bind_cpus {
        format!("moved to {}", cpu_list(&plan.cpus))
    } else {
        "left as Slurm made it".to_owned()
    };
    if let Some(unknown) = near.first_unknown() {
        return format!(
            "nothing says which NUMA node GPU {unknown} is on; {done} \
             (name its node in /etc/gpu-numa-bind/localities)"
        );
    }
    let are = if near.gpus.len() == 1 { "is" } else { "are" };
    if near.cpus.is_empty() {
        return format!(
            "{gpus} {are} on {}, but the step has CPUs {} of {} only; {}{}",
            node_list(&near.nodes),
            step.step_cpus,
            node_list(&machine.nodes_of(&step.step_cpus)),
            done,
            crossing_words(machine, step, near),
        );
    }
    let memory = memory_words(step, request, &plan.memory);
    let mut line = format!("{gpus} {}", node_list(&near.nodes));
    let cpus = cpu_list(&plan.cpus);
    if plan.verdict == Verdict::Unbound {
        let _ = write!(line, ", {cpus} left to the user's --cpu-bind, {memory}");
        return line;
    }
    let _ = write!(line, ", {cpus}, {memory}: {}", plan.verdict.word());
    let local = plan.cpus.intersection(&near.cpus).len();
    match plan.verdict {
        Verdict::Partial | Verdict::Remote => {
            let _ = write!(line, " ({local} of {} CPUs local)", plan.cpus.len());
        }
        Verdict::Spanning if near.gpus.len() > 1 => {
            line.push_str(" (its GPUs are on several nodes)")
        }
        Verdict::Refused | Verdict::Unbound | Verdict::Spanning | Verdict::Local => {}
    }
    if step.settings.policy == Policy::None {
        line.push_str(" (policy none: nothing is changed)");
    }
    line
}

/// What a task far from its GPU pays, in brackets; empty where firmware gives no distances.
fn crossing_words(machine: &Machine, step: &StepRequest, near: &Near) -> String {
    let here = machine.nodes_of(&step.step_cpus);
    let package = |node: u32| machine.node(node).and_then(|node| node.package);
    let crosses = near.nodes.iter().all(|a| {
        here.iter()
            .all(|b| matches!((package(a), package(b)), (Some(x), Some(y)) if x != y))
    });
    let distance = near
        .nodes
        .iter()
        .flat_map(|a| here.iter().map(move |b| (a, b)))
        .filter_map(|(a, b)| machine.distance(a, b))
        .min();
    let what = if crosses {
        "every copy crosses the socket link"
    } else {
        "every copy leaves the node"
    };
    match distance {
        Some(distance) => format!(" ({what}, distance {distance})"),
        None => format!(" ({what})"),
    }
}

/// A task's line with host and task named, as `verbose` and trouble are reported.
pub fn task_line(host: &str, plan: &TaskPlan) -> String {
    format!("{host} task {}: {}", plan.task, plan.message)
}

/// How to launch so that a task short of local CPUs would have them; absent where none is short.
pub fn launch_advice(plan: &StepPlan) -> Option<&'static str> {
    plan.tasks
        .iter()
        .any(|task| task.lacks_local_cpus)
        .then_some("ask for CPUs near the GPU: --gres-flags=enforce-binding, or --exclusive")
}

/// The one line of a host and step.
pub fn summary_line(host: &str, machine: &Machine, step: &StepRequest, plan: &StepPlan) -> String {
    let bound: Vec<&TaskPlan> = plan
        .tasks
        .iter()
        .filter(|task| !task.gpus.is_empty())
        .collect();
    let is_good = |task: &&&TaskPlan| matches!(task.verdict, Verdict::Local | Verdict::Spanning);
    let good = bound.iter().filter(is_good).count();
    let count = bound.len();
    let tasks = if count == 1 { "task" } else { "tasks" };
    let nodes = nodes_of_tasks(machine, &bound);
    let would = if step.settings.policy == Policy::None {
        " would be"
    } else {
        ""
    };
    let binds_memory = bound.iter().any(|task| task.memory.is_change());
    let whose = if count == 1 {
        "its GPUs'"
    } else {
        "their GPUs'"
    };
    if step.tasks.iter().any(|task| task.user_cpu_bind) && !step.settings.override_user {
        let memory = if binds_memory {
            format!("memory of {count} {tasks}{would} on {whose} {nodes}")
        } else {
            "memory left".to_owned()
        };
        return format!("{host}: CPUs left to the user's --cpu-bind; {memory}");
    }
    let is_left = |task: &&TaskPlan| !task.bind_cpus && !task.memory.is_change();
    if good == 0 && step.settings.policy != Policy::None && bound.iter().all(is_left) {
        let nodes = if bound.iter().all(|task| gpu_nodes(machine, task).is_empty()) {
            "nobody says where".to_owned()
        } else {
            nodes
        };
        return match count {
            0 => format!("{host}: no task has a GPU; each is left as Slurm made it"),
            1 => format!("{host}: the task is left as Slurm made it (its GPUs: {nodes})"),
            _ => format!(
                "{host}: none of {count} tasks is bound; each is left as Slurm made it (their GPUs: {nodes})"
            ),
        };
    }
    let what = if binds_memory {
        "CPUs and memory"
    } else {
        "CPUs"
    };
    let some = if good == count {
        String::new()
    } else {
        format!("{good} of ")
    };
    let mapped = if plan.is_mapped {
        "; task k is taken to use the k-th share of the GPUs it sees"
    } else {
        ""
    };
    let width = width_of_tasks(&bound);
    format!("{host}: {some}{count} {tasks}{would} on {whose} {what} ({nodes}), {width}{mapped}")
}

/// `nodes 0 0 1 1`: the nodes of each task's GPUs, of the first sixteen tasks.
fn nodes_of_tasks(machine: &Machine, tasks: &[&TaskPlan]) -> String {
    let each: Vec<String> = tasks
        .iter()
        .take(16)
        .map(|task| match gpu_nodes(machine, task) {
            unknown if unknown.is_empty() => "?".to_owned(),
            nodes => nodes.to_string(),
        })
        .collect();
    let list = each.join(" ");
    let label = if list.contains([' ', '-', ',']) {
        "nodes"
    } else {
        "node"
    };
    let more = if tasks.len() > each.len() { " ..." } else { "" };
    format!("{label} {list}{more}")
}

/// `2 CPUs each`, `2 to 4 CPUs`.
fn width_of_tasks(tasks: &[&TaskPlan]) -> String {
    let widths = || tasks.iter().map(|task| task.cpus.len());
    match (widths().min(), widths().max()) {
        (Some(low), Some(high)) if low == high && tasks.len() > 1 => {
            format!("{} each", cpu_count(low))
        }
        (Some(low), Some(high)) if low == high => cpu_count(low),
        (Some(low), Some(high)) => format!("{low} to {}", cpu_count(high)),
        _ => cpu_count(0),
    }
}

fn cpu_count(count: usize) -> String {
    if count == 1 {
        "1 CPU".to_owned()
    } else {
        format!("{count} CPUs")
    }
}

fn gpu_nodes(machine: &Machine, task: &TaskPlan) -> NodeSet {
    let mut nodes = NodeSet::new();
    for gpu in task.gpus.iter().filter_map(|address| machine.gpu(*address)) {
        if let Some(known) = &gpu.locality.numa_nodes {
            nodes.extend_with(known);
        }
    }
    nodes
}

/// The GPUs of all tasks, each once, by address.
fn gpus_of(plan: &StepPlan) -> Vec<PciAddress> {
    let gpus: BTreeSet<PciAddress> = plan
        .tasks
        .iter()
        .flat_map(|task| task.gpus.clone())
        .collect();
    gpus.into_iter().collect()
}

/// The first two GPUs of a job on this host that have no path but the socket link; absent where there are none,
/// or where NVLink may join them and could not be seen.
pub fn first_crossing(machine: &Machine, plan: &StepPlan) -> Option<(PciAddress, PciAddress)> {
    let gpus = gpus_of(plan);
    gpus.iter().enumerate().find_map(|(index, a)| {
        let mut later = gpus.iter().skip(index + 1);
        later
            .find(|b| crosses_socket(machine, *a, **b) == Some(true))
            .map(|b| (*a, *b))
    })
}

/// The line about GPUs of a job on `hosts` hosts that only the socket link joins; absent where there are none, or
/// where NVLink may join them and could not be seen.
pub fn socket_link_line(
    host: &str,
    machine: &Machine,
    plan: &StepPlan,
    hosts: u32,
) -> Option<String> {
    let (a, b) = first_crossing(machine, plan)?;
    let first_node = |gpu| {
        machine
            .gpu(gpu)
            .and_then(|gpu| gpu.locality.numa_nodes.as_ref()?.first())
    };
    let distance = first_node(a)
        .zip(first_node(b))
        .and_then(|(a, b)| machine.distance(a, b));
    let cost = distance.map_or_else(String::new, |distance| {
        let (times, tenths) = (distance / 10, distance % 10);
        format!(" (distance {distance}, {times}.{tenths}x a local access)")
    });
    let packages = packages_of(machine, gpus_of(plan));
    let ring = match fewest(groups(machine, &packages, &packages), hosts == 1) {
        0 => "NCCL's ring can go round it over NVLink".to_owned(),
        1 => "NCCL's ring will cross it once".to_owned(),
        2 => "NCCL's ring will cross it twice".to_owned(),
        more => format!("NCCL's ring will cross such links {more} times"),
    };
    Some(format!(
        "{host}: GPUs {a} and {b} have no path but the socket link{cost}; {ring}"
    ))
}

/// The line about the first task whose GPUs are on several nodes.
pub fn spanning_line(host: &str, machine: &Machine, plan: &StepPlan) -> Option<String> {
    let task = plan
        .tasks
        .iter()
        .find(|task| task.verdict == Verdict::Spanning && task.gpus.len() > 1)?;
    let packages: BTreeSet<Option<u32>> = task
        .gpus
        .iter()
        .map(|gpu| machine.gpu(*gpu).and_then(|gpu| gpu.locality.package))
        .collect();
    let places = match packages.len() {
        1 => format!("on {}", node_list(&gpu_nodes(machine, task))),
        sockets => format!("on {sockets} sockets"),
    };
    Some(format!(
        "{host} task {} sees {} GPUs {places} and is bound to CPUs of all of them; start its workers \
         with `gpu-numa run --per-rank -- ...`",
        task.task,
        task.gpus.len()
    ))
}

pub(super) fn refusal_reason(
    machine: &Machine,
    step: &StepRequest,
    task: usize,
    near: &Near,
    misfit: &Misfit,
) -> String {
    let here = format!(
        "the step has CPUs {} of {}",
        step.step_cpus,
        node_list(&machine.nodes_of(&step.step_cpus))
    );
    match misfit {
        Misfit::Unknown(gpu) => {
            format!("nothing says which NUMA node task {task}'s GPU {gpu} is on; {here}")
        }
        Misfit::NoLocalCpu(gpu, nodes) => {
            format!(
                "task {task}'s GPU {gpu} is on {}, but {here} only",
                node_list(nodes)
            )
        }
        Misfit::NoSharedNode => {
            let each: Vec<String> = near
                .gpus
                .iter()
                .zip(&near.gpu_nodes)
                .map(|(gpu, nodes)| {
                    format!(
                        "{gpu} ({})",
                        nodes
                            .as_ref()
                            .map_or_else(|| "node ?".to_owned(), node_list)
                    )
                })
                .collect();
            let listed = match each.split_last() {
                Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
                _ => each.join(""),
            };
            format!("task {task}'s GPUs {listed} share no node; {here}")
        }
        Misfit::TooFew(local) => format!(
            "task {task} asked for {} CPUs, but {local} are on {} of its {}; {here}",
            step.asked,
            node_list(&near.nodes),
            gpu_list(&near.gpus),
        ),
    }
}

pub(super) fn refusal_advice(misfit: &Misfit) -> String {
    let fits = match misfit {
        Misfit::Unknown(gpu) => {
            format!("the node named in /etc/gpu-numa-bind/localities (\"{gpu} 0\")")
        }
        Misfit::NoLocalCpu(..) => {
            "sbatch --gres-flags=enforce-binding, or sbatch --exclusive".to_owned()
        }
        Misfit::NoSharedNode => "sbatch --gpus-per-task=1, or sbatch --ntasks-per-socket=1 \
             --gpus-per-task=1 with more tasks"
            .to_owned(),
        Misfit::TooFew(local) => {
            let fewer = (*local).max(1);
            format!("sbatch --cpus-per-task={fewer}, or sbatch --exclusive")
        }
    };
    format!(
        "would fit: {fits}; to run as it is: --gpu-numa-bind=best-effort; \
         add --kill-on-bad-exit=1 so that a refused host ends the whole step"
    )
}
