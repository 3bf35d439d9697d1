//! Which GPUs share a socket, what lies between the others, and what to ask Slurm for.

use std::collections::BTreeMap;

use topology::machine::{Gpu, Machine};
use topology::path::{crosses_socket, nvlinks};
use topology::set::IndexSet;

use super::gpu_link;

/// Marks a set of GPU numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum GpuIndex {}

/// A set of GPU numbers.
pub(super) type GpuSet = IndexSet<GpuIndex>;

/// Number `index` of a GPU in a set.
pub(super) fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// The sentences; none for fewer than two GPUs.
pub(super) fn sentences(machine: &Machine) -> Vec<String> {
    if machine.gpus.len() < 2 {
        return Vec::new();
    }
    let by_package = groups(machine, |index| machine.gpus.get(index)?.locality.package);
    let placed: usize = by_package.iter().map(GpuSet::len).sum();
    match by_package.as_slice() {
        [] => by_node(machine),
        [all] if placed == machine.gpus.len() => {
            let first = format!("GPU{all}: all on one socket.");
            std::iter::once(first)
                .chain(within(machine))
                .chain(each(machine))
                .collect()
        }
        [_] => Vec::new(),
        _ => across(machine, &by_package)
            .into_iter()
            .chain(within(machine))
            .chain(each(machine))
            .collect(),
    }
}

/// GPUs by the first of their nodes.
fn node_groups(machine: &Machine) -> Vec<GpuSet> {
    groups(machine, |index| {
        machine
            .gpus
            .get(index)?
            .locality
            .numa_nodes
            .as_ref()?
            .first()
    })
}

/// Which GPUs share a node, where sockets hold several with GPUs.
fn within(machine: &Machine) -> Option<String> {
    let nodes = node_groups(machine);
    let packages = groups(machine, |index| machine.gpus.get(index)?.locality.package);
    let is_split = packages
        .iter()
        .any(|package| nodes.iter().filter(|node| node.is_subset(package)).count() > 1);
    if !is_split {
        return None;
    }
    let names: Vec<String> = nodes.iter().map(|group| format!("GPU{group}")).collect();
    Some(if nodes.iter().all(|group| group.len() == 1) {
        "A socket is several NUMA nodes, and each GPU has one of its own.".to_owned()
    } else {
        format!(
            "A socket is several NUMA nodes: {} each share one.",
            join(&names)
        )
    })
}

/// How a task a GPU gets its GPU's node; nothing where there is one node for all, or GPUs that are not bound to.
fn each(machine: &Machine) -> Option<String> {
    let several = node_groups(machine).len() > 1;
    (several && machine.gpus.iter().all(Gpu::is_bound_at_launch)).then(|| {
        format!(
            "A task a GPU, each on its own GPU's node: srun -n{} --gpus-per-task=1 --gpu-numa-bind.",
            machine.gpus.len()
        )
    })
}

fn groups(machine: &Machine, key: impl Fn(usize) -> Option<u32>) -> Vec<GpuSet> {
    let mut groups: BTreeMap<u32, GpuSet> = BTreeMap::new();
    for index in 0..machine.gpus.len() {
        if let Some(key) = key(index) {
            groups.entry(key).or_default().insert(number(index));
        }
    }
    let mut groups: Vec<GpuSet> = groups.into_values().collect();
    groups.sort_by_key(GpuSet::first);
    groups
}

/// Where packages are not recorded: which GPUs share a node.
fn by_node(machine: &Machine) -> Vec<String> {
    let groups = node_groups(machine);
    if groups.len() < 2 {
        return Vec::new();
    }
    let names: Vec<String> = groups.iter().map(|group| format!("GPU{group}")).collect();
    vec![format!(
        "{} each share a NUMA node; which nodes share a socket is not recorded.",
        join(&names)
    )]
}

/// What joins pairs of GPUs of different sockets.
#[derive(Default)]
struct Between {
    linked: Vec<String>,
    crossing: usize,
    hidden: usize,
}

fn across(machine: &Machine, groups: &[GpuSet]) -> Vec<String> {
    let names: Vec<String> = groups.iter().map(|group| format!("GPU{group}")).collect();
    let alone: bool = groups.iter().all(|group| group.len() == 1);
    let first = if alone {
        format!("{} are on sockets of their own.", join(&names))
    } else {
        format!("{} each stay inside a socket.", join(&names))
    };
    let any = match groups {
        [a, b] if alone => format!("GPU{a} with GPU{b}"),
        [a, b] => format!("Any of {a} with any of {b}"),
        _ => "Any two of different groups".to_owned(),
    };
    let between = between(machine, groups);
    let link = gpu_link(machine);
    let total = between.linked.len() + between.crossing + between.hidden;
    let second = if between.linked.len() == total {
        format!("{any}: {link} joins them, no copy crosses the socket link.")
    } else if between.linked.is_empty() && between.hidden == 0 {
        format!("{any} crosses the socket link{}.", ask(groups))
    } else if between.linked.is_empty() {
        format!(
            "{any} crosses the socket link unless {link} joins them, which could not be seen{}.",
            ask(groups)
        )
    } else {
        format!(
            "{any} crosses the socket link, but for {}, which {link} joins{}.",
            join(&between.linked),
            ask(groups)
        )
    };
    vec![format!("{first} {second}")]
}

fn between(machine: &Machine, groups: &[GpuSet]) -> Between {
    let mut between = Between::default();
    let gpu = |index: u32| machine.gpus.get(usize::try_from(index).ok()?);
    for (place, group) in groups.iter().enumerate() {
        for other in groups.iter().skip(place + 1) {
            for (a, b) in group.iter().flat_map(|a| other.iter().map(move |b| (a, b))) {
                let (Some(x), Some(y)) = (gpu(a), gpu(b)) else {
                    continue;
                };
                match (
                    nvlinks(machine, x.pci, y.pci),
                    crosses_socket(machine, x.pci, y.pci),
                ) {
                    (1.., _) => between.linked.push(format!("{a} with {b}")),
                    (0, Some(true)) => between.crossing += 1,
                    (0, Some(false) | None) => between.hidden += 1,
                }
            }
        }
    }
    between
}

/// What to ask Slurm for so that a job stays inside a socket.
fn ask(groups: &[GpuSet]) -> String {
    match groups.iter().map(GpuSet::len).max() {
        Some(2) => ": ask for 2 GPUs with --gpus-per-socket=2 --sockets-per-node=1".to_owned(),
        Some(most) if most > 2 => {
            format!(
                ": ask for {most} GPUs with --gpus-per-socket={most} --sockets-per-node=1, or for fewer with a \
                 smaller number"
            )
        }
        Some(_) | None => ": a job of one GPU a host is free of it".to_owned(),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn join(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}
