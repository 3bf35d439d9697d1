//! What fills the gaps of a template: names and numbers with their label.
//!
//! What a task's line is made of writes itself into that line: a launch makes a line for each task, and a text for each gap
//! would take most of that.

use std::fmt::{self, Display, Formatter};

use super::Verb;
use crate::binding::{Advice, MemoryLeft, MemoryPlan, MemoryPolicy, WholeHost};
use crate::machine::MemoryRating;
use crate::names::GpuNames;
use crate::nics::{NicDocument, NicPath};
use crate::pci::PciAddress;
use crate::set::{CpuSet, NodeSet};

/// The most tasks whose nodes are listed one by one.
const MOST_LISTED: usize = 16;

/// What is written by a function.
pub(super) struct Said<F>(pub(super) F);

impl<F: Fn(&mut Formatter<'_>) -> fmt::Result> Display for Said<F> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0(f)
    }
}

/// `A`, `A and B`, `A, B and C`.
fn list<T>(items: &[T], write: impl Fn(&T, &mut Formatter<'_>) -> fmt::Result) -> impl Display {
    Said(move |f: &mut Formatter<'_>| {
        for (index, item) in items.iter().enumerate() {
            f.write_str(match (index, items.len() - index) {
                (0, _) => "",
                (_, 1) => " and ",
                _ => ", ",
            })?;
            write(item, f)?;
        }
        Ok(())
    })
}

/// `NIC A`, `NICs A and B`, `NIC A (over the socket link)`; none where none is known.
pub(super) fn nics(nics: &NicDocument) -> Option<String> {
    let label = match nics.names.len() {
        0 => return None,
        1 => "NIC",
        _ => "NICs",
    };
    let names = list(&nics.names, Display::fmt);
    if nics.path == NicPath::SocketLink.word() {
        Some(format!("{label} {names} (over the socket link)"))
    } else {
        Some(format!("{label} {names}"))
    }
}

/// `GPU0 A`, `GPU0 A and GPU1 B`; without numbers `GPU A`, `GPUs A and B`.
pub(super) fn gpus(gpus: &[PciAddress], named: GpuNames<'_>) -> impl Display {
    Said(move |f: &mut Formatter<'_>| {
        f.write_str(named.before(gpus))?;
        list(gpus, |gpu, f| named.label(*gpu).fmt(f)).fmt(f)
    })
}

/// `GPU0 A (node 0) and GPU1 B (node 1)`; without numbers `GPUs A (node 0) and B (node 1)`.
pub(super) fn gpus_with_nodes(gpus: &[(PciAddress, NodeSet)], named: GpuNames<'_>) -> String {
    let each = list(gpus, |(gpu, known), f| {
        write!(f, "{} ({})", named.label(*gpu), nodes(known))
    });
    let all: Vec<PciAddress> = gpus.iter().map(|(gpu, _)| *gpu).collect();
    format!("{}{each}", named.before(&all))
}

/// `node 0`, `nodes 0-1`.
pub(super) fn nodes(nodes: &NodeSet) -> impl Display {
    Said(move |f: &mut Formatter<'_>| {
        f.write_str(if nodes.len() == 1 { "node " } else { "nodes " })?;
        nodes.fmt(f)
    })
}

/// `nodes 0 0 1 1`: the nodes of each task's GPUs, of the first sixteen tasks; `?` where they are unknown.
pub(super) fn nodes_of_tasks(tasks: &[NodeSet]) -> String {
    let each = tasks.iter().take(MOST_LISTED).map(|nodes| {
        if nodes.is_empty() {
            "?".to_owned()
        } else {
            nodes.to_string()
        }
    });
    let list = each.collect::<Vec<_>>().join(" ");
    let label = if list.contains([' ', '-', ',']) {
        "nodes"
    } else {
        "node"
    };
    let more = if tasks.len() > MOST_LISTED {
        " ..."
    } else {
        ""
    };
    format!("{label} {list}{more}")
}

/// `task 1`, `tasks 2 and 3`, and the nodes that they have in common; at most sixteen tasks of each.
pub(super) fn tasks_by_nodes(tasks: &[(usize, NodeSet)]) -> Vec<(String, String)> {
    let mut groups: Vec<(&NodeSet, Vec<String>)> = Vec::new();
    for (task, nodes) in tasks {
        match groups.iter_mut().find(|(known, _)| *known == nodes) {
            Some((_, tasks)) => tasks.push(task.to_string()),
            None => groups.push((nodes, vec![task.to_string()])),
        }
    }
    let groups = groups.into_iter().map(|(of, tasks)| {
        let more = tasks.len().saturating_sub(MOST_LISTED);
        let tasks = match (tasks.as_slice(), more) {
            ([only], _) => format!("task {only}"),
            (all, 0) => format!("tasks {}", list(all, Display::fmt)),
            (all, more) => {
                let first: Vec<&str> = all.iter().take(MOST_LISTED).map(String::as_str).collect();
                format!("tasks {} and {more} more", first.join(", "))
            }
        };
        (tasks, nodes(of).to_string())
    });
    groups.collect()
}

/// `CPU 1`, `CPUs 0-3`.
pub(super) fn cpus(cpus: &CpuSet) -> impl Display {
    Said(move |f: &mut Formatter<'_>| {
        f.write_str(if cpus.len() == 1 { "CPU " } else { "CPUs " })?;
        cpus.fmt(f)
    })
}

/// `1 CPU`, `4 CPUs`.
pub(super) fn cpu_count(count: usize) -> String {
    if count == 1 {
        "1 CPU".to_owned()
    } else {
        format!("{count} CPUs")
    }
}

/// `2 CPUs each`, `2 to 4 CPUs`, and of one task `2 CPUs`.
pub(super) fn widths(tasks: usize, fewest: usize, most: usize) -> String {
    if fewest != most {
        format!("{fewest} to {}", cpu_count(most))
    } else if tasks > 1 {
        format!("{} each", cpu_count(fewest))
    } else {
        cpu_count(fewest)
    }
}

/// `memory prefers node 0` and its kind, of a task with GPUs on `gpu_nodes`.
pub(super) fn memory(plan: &MemoryPlan, gpu_nodes: &NodeSet) -> impl Display {
    Said(move |f: &mut Formatter<'_>| write_memory(plan, gpu_nodes, f))
}

fn write_memory(plan: &MemoryPlan, gpu_nodes: &NodeSet, f: &mut Formatter<'_>) -> fmt::Result {
    let without = gpu_nodes.difference(&plan.nodes);
    // Ours alone: the user's own goes by the CPUs, or by what was typed.
    if plan.is_change() && !plan.follows_cpus && !without.is_empty() {
        return write_nearest_memory(plan.policy, &plan.nodes, &without, f);
    }
    let nodes = nodes(&plan.nodes);
    match (plan.policy, plan.left) {
        (MemoryPolicy::Default, Some(MemoryLeft::Unchanged)) => f.write_str("memory left as it is"),
        (MemoryPolicy::Default, Some(MemoryLeft::UserBound)) => {
            f.write_str("memory left to the user's --mem-bind")
        }
        (MemoryPolicy::Default, Some(MemoryLeft::DefaultFits) | None) => {
            f.write_str("memory by the default policy")
        }
        (MemoryPolicy::Preferred | MemoryPolicy::PreferredMany, None) if plan.follows_cpus => {
            write!(f, "memory prefers {nodes} (the user's --mem-bind=local)")
        }
        (_, None) if plan.follows_cpus => {
            write!(f, "memory bound to {nodes} (the user's --mem-bind=local)")
        }
        (MemoryPolicy::Preferred | MemoryPolicy::PreferredMany, None) => {
            write!(f, "memory prefers {nodes}")
        }
        (MemoryPolicy::Bind, None) => write!(f, "memory bound to {nodes}"),
        (MemoryPolicy::Interleave, None) => write!(f, "memory interleaved over {nodes}"),
        (MemoryPolicy::Preferred | MemoryPolicy::PreferredMany, Some(_)) => {
            write!(f, "memory prefers {nodes} by the user's --mem-bind")
        }
        (MemoryPolicy::Bind, Some(_)) => {
            write!(f, "memory bound to {nodes} by the user's --mem-bind")
        }
        (MemoryPolicy::Interleave, Some(_)) => {
            write!(f, "memory interleaved over {nodes} by the user's policy")
        }
    }
}

/// Memory near GPUs on nodes that have none for the task, `without`.
fn write_nearest_memory(
    policy: MemoryPolicy,
    on: &NodeSet,
    without: &NodeSet,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    let (nodes, without) = (nodes(on), nodes(without));
    match policy {
        MemoryPolicy::Preferred | MemoryPolicy::PreferredMany | MemoryPolicy::Default => {
            write!(f, "memory prefers {nodes} (none for it on {without})")
        }
        MemoryPolicy::Bind => write!(f, "memory bound to {nodes} (none for it on {without})"),
        MemoryPolicy::Interleave => {
            write!(
                f,
                "memory interleaved over {nodes} (none for it on {without})"
            )
        }
    }
}

/// `--cpus-per-task=2`, `A, or B`; none where nothing is known to help.
pub(super) fn ways(advice: &Advice, verb: Verb) -> Option<String> {
    let job = match verb {
        Verb::Srun => "srun ",
        Verb::Sbatch => "sbatch ",
        Verb::Salloc => "salloc ",
        Verb::Earlier => "sbatch or salloc ",
        Verb::Any => "",
    };
    let mut ways = Vec::new();
    if let Some(cpus) = advice.cpus_per_task {
        ways.push(format!("--cpus-per-task={cpus}"));
    }
    if advice.one_gpu {
        ways.push("--gpus-per-task=1".to_owned());
    }
    if advice.enforce_binding {
        ways.push(format!("{job}--gres-flags=enforce-binding"));
    }
    // An `srun` that makes its own allocation has all of the host with --exclusive, and its step does not.
    // An `srun` takes the job's --cpus-per-task for its own (SLURM_CPUS_PER_TASK, src/srun/opt.c).
    let whole = match verb {
        Verb::Sbatch => "sbatch --exclusive",
        Verb::Srun | Verb::Salloc => "salloc --exclusive",
        Verb::Earlier | Verb::Any => "sbatch or salloc --exclusive",
    };
    match advice.whole_host {
        Some(WholeHost::Shell) => ways.push(whole.to_owned()),
        Some(WholeHost::Step) => ways.push(format!(
            "{whole} and srun, both without --cpus-per-task, --cpus-per-gpu or --exact"
        )),
        None => {}
    }
    if ways.is_empty() {
        return None;
    }
    // Slurm goes by what gres.conf says of a GPU's cores, which is not seen from within a step.
    let needs_cores = ways.len() > 1 || advice.whole_host != Some(WholeHost::Shell);
    let condition = if needs_cores {
        ", if Cores= in gres.conf is right"
    } else {
        ""
    };
    Some(format!("{}{condition}", ways.join(", or ")))
}

/// `SLIT 21, by firmware 2.1x local latency`.
pub(super) fn rating(rating: MemoryRating) -> String {
    let times = format!("{}x", rating.times());
    match rating {
        MemoryRating::Measured { .. } => format!("{times} local latency, as measured"),
        MemoryRating::Firmware { slit } => {
            format!("SLIT {slit}, by firmware {times} local latency")
        }
    }
}
