//! Which GPUs share a socket, what lies between the others, and what to ask Slurm for.

use std::collections::BTreeMap;

use topology::machine::{Gpu, Machine};
use topology::path::{are_linked, crosses_socket};
use topology::set::{CpuSet, IndexSet};

use crate::hardware::{cut, join, link_names};

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
            let first = if has_one_place(machine) {
                format!(
                    "GPU{all}, all CPUs and all memory are on one socket with one NUMA node: there is nothing to bind."
                )
            } else {
                format!("GPU{all} are all on one socket.")
            };
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

/// Whether all CPUs and all memory are equally near to everything.
fn has_one_place(machine: &Machine) -> bool {
    machine.packages.len() == 1 && machine.numa_nodes.len() == 1
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
    let shared: Vec<String> = nodes
        .iter()
        .filter(|group| group.len() > 1)
        .map(|group| format!("GPU{group}"))
        .collect();
    Some(if shared.is_empty() {
        "NUMA nodes are smaller than sockets here: each GPU has a node of its own.".to_owned()
    } else {
        format!(
            "NUMA nodes are smaller than sockets here; GPUs on the same node: {}.",
            shared.join(", ")
        )
    })
}

/// How to run one task per GPU on its GPU's node; None where all GPUs share a node, or some are never bound to or have no
/// CPU near.
fn each(machine: &Machine) -> Option<String> {
    let several = node_groups(machine).len() > 1;
    let can_be_bound = |gpu: &Gpu| gpu.is_bound_at_launch() && !is_without_cpus(gpu);
    (several && machine.gpus.iter().all(can_be_bound)).then(|| {
        format!(
            "To run one task per GPU, each bound to its GPU's NUMA node:\nsrun -n{} --gpus-per-task=1 --gpu-numa-bind",
            machine.gpus.iter().map(Gpu::parts).sum::<usize>()
        )
    })
}

/// GPUs that are divided, which their runtime and Slurm count by their parts.
pub(super) fn divided(machine: &Machine) -> Option<String> {
    let of = |index: usize| machine.gpus.get(index).map_or(1, Gpu::parts);
    let groups = groups(machine, |index| u32::try_from(of(index)).ok());
    let divided = groups.iter().filter_map(|group| {
        let parts = of(usize::try_from(group.first()?).ok()?);
        (parts > 1).then(|| format!("GPU{group} into {parts} parts"))
    });
    let divided: Vec<String> = divided.collect();
    let all: usize = machine.gpus.iter().map(Gpu::parts).sum();
    (!divided.is_empty()).then(|| {
        format!(
            "Divided: {}. Programs and Slurm count each part as a GPU, so that there are {all}.",
            join(&divided)
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

/// Which GPUs share a node, where packages are not recorded.
fn by_node(machine: &Machine) -> Vec<String> {
    let groups = node_groups(machine);
    if groups.len() < 2 {
        return Vec::new();
    }
    let names: Vec<String> = groups.iter().map(|group| format!("GPU{group}")).collect();
    let why = match cut(machine) {
        Some((node, package)) => format!(
            "node {} and socket {} cut through each other, so which of them share a socket is unknown",
            node.id, package.id
        ),
        None => "which nodes share a socket is not recorded".to_owned(),
    };
    vec![format!(
        "{} are on different NUMA nodes; {why}.",
        join(&names)
    )]
}

/// What connects pairs of GPUs on different sockets.
#[derive(Default)]
struct Between {
    /// Pairs that NVLink or xGMI connects.
    linked: Vec<String>,
    /// What connects these: NVLink, xGMI.
    links: String,
    /// Pairs that are known to cross the socket link.
    crossing: usize,
    /// Pairs that may have a link which the source could not show.
    hidden: usize,
    /// What may connect those.
    hidden_links: String,
}

/// What lies between GPUs on different sockets, and how a job avoids it.
fn across(machine: &Machine, groups: &[GpuSet]) -> Vec<String> {
    let names: Vec<String> = groups.iter().map(|group| format!("GPU{group}")).collect();
    let names = join(&names);
    let between = between(machine, groups);
    let is_linked = !between.linked.is_empty();
    let is_all_linked = is_linked && between.crossing + between.hidden == 0;
    let sentence = if is_all_linked && machine.gpus.iter().all(Gpu::is_in_processor) {
        format!(
            "{names} are parts of the processors and share their memory; between them is the {} that links the sockets.",
            between.links
        )
    } else if is_all_linked {
        format!(
            "{names} are on different sockets; {} connects them, so their traffic stays off the socket link.",
            between.links
        )
    } else if is_linked {
        format!(
            "{names} are on different sockets and communicate across the socket link, except {}, which {} connects.",
            join(&between.linked),
            between.links
        )
    } else if between.hidden > 0 {
        format!(
            "{names} are on different sockets and communicate across the socket link unless {} connects them \
             (not visible here).",
            between.hidden_links
        )
    } else {
        format!("{names} are on different sockets and communicate across the socket link.")
    };
    let is_counted = !machine.gpus.iter().any(is_without_cpus);
    let advice = (!is_all_linked && is_counted).then(|| advice(groups));
    std::iter::once(sentence).chain(advice).collect()
}

fn between(machine: &Machine, groups: &[GpuSet]) -> Between {
    let mut between = Between::default();
    let (mut linked, mut hidden) = (Vec::new(), Vec::new());
    let gpu = |index: u32| machine.gpus.get(usize::try_from(index).ok()?);
    for (place, group) in groups.iter().enumerate() {
        for other in groups.iter().skip(place + 1) {
            for (a, b) in group.iter().flat_map(|a| other.iter().map(move |b| (a, b))) {
                let (Some(x), Some(y)) = (gpu(a), gpu(b)) else {
                    continue;
                };
                match (
                    are_linked(machine, x.pci, y.pci),
                    crosses_socket(machine, x.pci, y.pci),
                ) {
                    (true, _) => {
                        between.linked.push(format!("GPU{a} with GPU{b}"));
                        linked.push(x);
                    }
                    (false, Some(true)) => between.crossing += 1,
                    (false, Some(false) | None) => {
                        between.hidden += 1;
                        let of_both = [x, y].into_iter();
                        hidden.extend(of_both.filter(|gpu| machine.hides_links_of(gpu)));
                    }
                }
            }
        }
    }
    between.links = link_names(linked);
    between.hidden_links = link_names(hidden);
    between
}

/// Whether all CPUs of the GPU's socket are offline, which Slurm then does not count.
fn is_without_cpus(gpu: &Gpu) -> bool {
    let near = gpu.locality.cpus.as_ref();
    near.is_some_and(CpuSet::is_empty)
}

/// What to ask Slurm for so that a job stays on one socket.
fn advice(groups: &[GpuSet]) -> String {
    match groups.iter().map(GpuSet::len).max() {
        Some(most) if most > 1 => format!(
            "To keep a job of {most} GPUs on one socket, ask for:\n--gpus-per-socket={most} --sockets-per-node=1"
        ),
        Some(_) | None => "A job with one GPU pays for the link only where its CPUs are on another socket than the GPU.".to_owned(),
    }
}
