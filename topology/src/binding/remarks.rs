//! What else is worth saying of a host's plan, as values: how its tasks came out together, GPUs that only the socket
//! link joins, a task whose GPUs are far apart.

use std::collections::BTreeSet;

use super::plan::{StepPlan, TaskCase, TaskPlan, Verdict};
use super::request::{CpusLeft, StepRequest};
use crate::crossings::{fewest, groups, packages_of};
use crate::machine::{Machine, MemoryRating};
use crate::option::{Policy, Width};
use crate::path::{are_apart, crosses_socket};
use crate::pci::PciAddress;
use crate::set::{CpuSet, NodeSet};
use crate::vendor::GpuVendor;

/// How the tasks of a host came out together; only those with GPUs count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Summary {
    /// No task has a GPU.
    NoGpu,
    /// No task's CPUs are to be changed.
    CpusLeft {
        /// Why, of the first task.
        why: CpusLeft,
        /// The nodes of each task's GPUs; empty where unknown.
        nodes: Vec<NodeSet>,
        /// How many tasks get a memory policy.
        memory: usize,
        /// Whether the policy `none` keeps all this from being done.
        is_dry_run: bool,
    },
    /// No task is bound.
    Unbound {
        /// The nodes of each task's GPUs; empty where unknown.
        nodes: Vec<NodeSet>,
    },
    /// Some task is bound.
    Bound {
        /// The nodes of each task's GPUs; empty where unknown.
        nodes: Vec<NodeSet>,
        /// How many tasks have CPUs of their GPUs' nodes only, or of their sockets where `is_by_socket`.
        local: usize,
        /// Whether CPUs of the GPUs' sockets were asked for, and these are wider than their nodes.
        is_by_socket: bool,
        /// Of the tasks that no CPU was left for near their GPUs, the nodes of these.
        far: Vec<(usize, NodeSet)>,
        /// Of the tasks that only some were left for, the nodes of their GPUs.
        partial: Vec<(usize, NodeSet)>,
        /// How many tasks get a memory policy.
        memory: usize,
        /// The fewest CPUs that a task has, of those whose CPUs are known; 0 where no task's are.
        fewest_cpus: usize,
        /// The most CPUs that a task has, in the same way.
        most_cpus: usize,
        /// How many tasks' CPUs are known.
        known_cpus: usize,
        /// Whether some of these have a CPU in common.
        are_shared: bool,
        /// How many tasks keep their CPUs because these are near the memory that the user chose.
        at_memory: usize,
        /// Whether tasks that see the same GPUs are taken to use a share each.
        is_mapped: bool,
        /// Whether the policy `none` keeps all this from being done.
        is_dry_run: bool,
    },
}

/// Whether a CPU is in two of the sets.
fn have_common<'a>(sets: impl Iterator<Item = &'a CpuSet>) -> bool {
    let mut seen = CpuSet::new();
    for cpus in sets {
        if cpus.intersects(&seen) {
            return true;
        }
        seen.extend_with(cpus);
    }
    false
}

/// How the tasks of a host came out together.
pub fn summarize(machine: &Machine, step: &StepRequest, plan: &StepPlan) -> Summary {
    let tasks = || plan.tasks.iter().filter(|task| !task.gpus.is_empty());
    let nodes: Vec<NodeSet> = tasks()
        .map(|task| machine.nodes_of_gpus(&task.gpus))
        .collect();
    if nodes.is_empty() {
        return Summary::NoGpu;
    }
    let is_dry_run = step.settings.policy == Policy::None;
    // Where a GPU's node has no memory for the task, another node's is no memory of the GPU.
    let is_at_gpus = |task: &&TaskPlan| {
        let nodes = machine.nodes_of_gpus(&task.gpus);
        task.memory.is_change() && task.memory.nodes.is_subset(&nodes)
    };
    let memory = tasks().filter(is_at_gpus).count();
    let left = |task: &TaskPlan| {
        if let TaskCase::CpusLeft { why, .. } = task.case {
            Some(why)
        } else {
            None
        }
    };
    if let Some(why) = tasks().find_map(left)
        && tasks().all(|task| left(task).is_some() || !task.bind_cpus)
    {
        return Summary::CpusLeft {
            why,
            nodes,
            memory,
            is_dry_run,
        };
    }
    let is_by_socket = step.settings.width == Width::Socket
        && tasks().any(|task| {
            let nodes = machine.nodes_of_gpus(&task.gpus);
            machine.cpus_of(&nodes) != cpus_of_sockets(machine, &nodes)
        });
    let is_local = |task: &&TaskPlan| {
        let is_in_sockets = || {
            let nodes = machine.nodes_of_gpus(&task.gpus);
            task.cpus.is_subset(&cpus_of_sockets(machine, &nodes))
        };
        matches!(task.verdict, Verdict::Local | Verdict::Spanning)
            || is_by_socket && matches!(task.case, TaskCase::Placed { .. }) && is_in_sockets()
    };
    // Those with a CPU near some of their GPUs only are short of a place, not of CPUs: their own line says of which.
    let short_of = |verdict: Verdict| -> Vec<(usize, NodeSet)> {
        let short = tasks().filter(|task| task.verdict == verdict && !is_local(task));
        short
            .filter_map(|task| {
                let TaskCase::Placed {
                    gpu_nodes,
                    local_cpus,
                    ..
                } = &task.case
                else {
                    return None;
                };
                (*local_cpus < task.cpus.len()).then(|| (task.task, gpu_nodes.clone()))
            })
            .collect()
    };
    let local = tasks().filter(is_local).count();
    let is_left = |task: &TaskPlan| !task.bind_cpus && !task.memory.is_change();
    if local == 0 && !is_dry_run && tasks().all(is_left) {
        return Summary::Unbound { nodes };
    }
    // Of a task that is left with an unknown mask, what it may use is no width.
    let is_known = |task: &&TaskPlan| {
        let request = step.tasks.get(task.task);
        task.bind_cpus || request.is_some_and(|request| request.slurm_cpus.is_some())
    };
    let widths = || tasks().filter(is_known).map(|task| task.cpus.len());
    Summary::Bound {
        nodes,
        local,
        is_by_socket,
        far: short_of(Verdict::Remote),
        partial: short_of(Verdict::Partial),
        memory,
        fewest_cpus: widths().min().unwrap_or(0),
        most_cpus: widths().max().unwrap_or(0),
        known_cpus: widths().count(),
        are_shared: have_common(tasks().filter(is_known).map(|task| &task.cpus)),
        at_memory: tasks()
            .filter(|task| left(task) == Some(CpusLeft::UserMemory))
            .count(),
        is_mapped: plan.is_mapped,
        is_dry_run,
    }
}

/// The CPUs of the packages that `nodes` are of, and of `nodes`.
fn cpus_of_sockets(machine: &Machine, nodes: &NodeSet) -> CpuSet {
    let mut cpus = machine.cpus_of(nodes);
    let packages = machine.packages.iter();
    for package in packages.filter(|package| package.numa_nodes.intersects(nodes)) {
        cpus.extend_with(&package.cpus);
    }
    cpus
}

/// The GPUs of all tasks, each once, by address.
fn gpus_of(plan: &StepPlan) -> Vec<PciAddress> {
    let mut gpus: Vec<PciAddress> = Vec::with_capacity(plan.tasks.len());
    for task in &plan.tasks {
        gpus.extend(&task.gpus);
    }
    gpus.sort_unstable();
    gpus.dedup();
    gpus
}

/// The first two GPUs of a job on this host that have no path but the socket link; none where there are none, or
/// where NVLink may join them and could not be seen.  GPUs of two makers have no collective in common.
pub fn first_crossing(machine: &Machine, plan: &StepPlan) -> Option<(PciAddress, PciAddress)> {
    first_two(plan, |a, b| {
        let are_of_one_maker = maker_of(machine, a) == maker_of(machine, b);
        Some(are_of_one_maker && crosses_socket(machine, a, b)?)
    })
}

fn maker_of(machine: &Machine, gpu: PciAddress) -> Option<&'static GpuVendor> {
    machine.gpu(gpu)?.maker()
}

/// The first two GPUs of a job on this host that are at different packages, whether NVLink joins them or not.
pub fn first_apart(machine: &Machine, plan: &StepPlan) -> Option<(PciAddress, PciAddress)> {
    first_two(plan, |a, b| are_apart(machine, a, b))
}

fn first_two(
    plan: &StepPlan,
    is_so: impl Fn(PciAddress, PciAddress) -> Option<bool>,
) -> Option<(PciAddress, PciAddress)> {
    let gpus = gpus_of(plan);
    gpus.iter().enumerate().find_map(|(index, a)| {
        let mut later = gpus.iter().skip(index + 1);
        later
            .find(|b| is_so(*a, **b) == Some(true))
            .map(|b| (*a, *b))
    })
}

/// Two GPUs of a job that only the socket link joins, and what a ring over all of the job's pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketLink {
    /// One GPU.
    pub a: PciAddress,
    /// The other.
    pub b: PciAddress,
    /// Who made both; none for one that this program does not know.
    pub maker: Option<&'static GpuVendor>,
    /// The rating of memory between their nodes; none where it is not known.
    pub rating: Option<MemoryRating>,
    /// How often a ring over the job's GPUs of that maker on this host must cross a socket link.
    pub crossings: u32,
}

/// What [`first_crossing`] means for a job on `hosts` hosts.
pub fn find_socket_link(machine: &Machine, plan: &StepPlan, hosts: u32) -> Option<SocketLink> {
    let (a, b) = first_crossing(machine, plan)?;
    let rating = own_node(machine, a)
        .zip(own_node(machine, b))
        .and_then(|(a, b)| machine.rating(a, b));
    let maker = maker_of(machine, a);
    let gpus = gpus_of(plan).into_iter();
    let packages = packages_of(machine, gpus.filter(|gpu| maker_of(machine, *gpu) == maker));
    Some(SocketLink {
        a,
        b,
        maker,
        rating,
        crossings: fewest(groups(machine, &packages, &packages), hosts == 1),
    })
}

/// The first node of a GPU.
fn own_node(machine: &Machine, gpu: PciAddress) -> Option<u32> {
    machine.gpu(gpu)?.locality.numa_nodes.as_ref()?.first()
}

/// A task whose GPUs are on several nodes, so that it is bound to all of these, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanning {
    /// Its local id.
    pub task: usize,
    /// How many GPUs it has.
    pub gpus: usize,
    /// Whether these are its share, by local id, of the GPUs that it sees.
    pub is_share: bool,
    /// What they are spread over.
    pub over: SpanningOver,
    /// Whether nothing is changed.
    pub is_dry_run: bool,
}

/// What GPUs are spread over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanningOver {
    /// These nodes of one socket.
    Nodes(NodeSet),
    /// So many sockets.
    Sockets(usize),
}

/// The first task whose GPUs are on several nodes.
pub fn find_spanning(machine: &Machine, plan: &StepPlan) -> Option<Spanning> {
    let task = plan
        .tasks
        .iter()
        .find(|task| task.verdict == Verdict::Spanning && task.gpus.len() > 1)?;
    let packages: BTreeSet<Option<u32>> = task
        .gpus
        .iter()
        .map(|gpu| machine.gpu(*gpu).and_then(|gpu| gpu.locality.package))
        .collect();
    Some(Spanning {
        task: task.task,
        gpus: task.gpus.len(),
        is_share: task.is_share,
        is_dry_run: task.is_dry_run,
        over: match packages.len() {
            1 => SpanningOver::Nodes(machine.nodes_of_gpus(&task.gpus)),
            sockets => SpanningOver::Sockets(sockets),
        },
    })
}

/// CPUs of a step that the kernel says are faster than its others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FasterCpus {
    /// They.
    pub cpus: CpuSet,
    /// How many of them each task has, in the order of the plan.
    pub held: Vec<usize>,
}

/// The faster CPUs of a step ([`Machine::faster`]), the fastest first; none where all are alike, or there is no task.
pub fn find_faster(machine: &Machine, step_cpus: &CpuSet, plan: &StepPlan) -> Vec<FasterCpus> {
    if plan.tasks.is_empty() {
        return Vec::new();
    }
    let faster = machine.faster(step_cpus).into_iter();
    faster
        .map(|cpus| FasterCpus {
            held: plan
                .tasks
                .iter()
                .map(|task| task.cpus.common(&cpus))
                .collect(),
            cpus,
        })
        .collect()
}
