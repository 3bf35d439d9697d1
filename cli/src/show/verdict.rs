//! What the page means, in sentences.

use std::collections::BTreeMap;

use topology::machine::{Machine, NodeKind};
use topology::path::{crosses_socket, nvlinks};
use topology::set::{IndexSet, NodeSet};

use super::links;
use crate::command::CommandError;
use crate::out::Out;

/// Marks a set of GPU numbers.
#[derive(Debug, Clone, Copy)]
enum GpuIndex {}

type GpuSet = IndexSet<GpuIndex>;

/// Prints the sentences; each stands on its own.
pub(crate) fn print(out: &mut Out, machine: &Machine) -> Result<(), CommandError> {
    let sentences: Vec<String> = [
        distances(machine),
        sockets(machine),
        reduced_links(machine),
        unknown(machine),
        special_nodes(machine),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !sentences.is_empty() {
        out.line("")?;
    }
    for sentence in sentences {
        out.line(sentence)?;
    }
    Ok(())
}

/// What the dearest copy between nodes costs.
fn distances(machine: &Machine) -> Vec<String> {
    let nodes = machine.cpu_nodes();
    let dearest = nodes
        .iter()
        .flat_map(|a| nodes.iter().map(move |b| (a, b)))
        .filter(|(a, b)| a < b)
        .filter_map(|(a, b)| Some((machine.distance(a, b)?, a, b)))
        .max_by_key(|(distance, a, b)| (*distance, std::cmp::Reverse((*a, *b))));
    match dearest {
        Some((distance, a, b)) if distance > 10 => vec![format!(
            "A copy between nodes {a} and {b} costs {:.1} times a local one (firmware's figure; \
             `gpu-numa measure` for yours).",
            f64::from(distance) / 10.0
        )],
        Some(_) => Vec::new(),
        None if nodes.len() > 1 => {
            vec!["Firmware gives no distances between nodes: `gpu-numa measure`.".to_owned()]
        }
        None => Vec::new(),
    }
}

/// Number `index` of a GPU in a set.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Which GPUs share a socket, and what lies between the others.
fn sockets(machine: &Machine) -> Vec<String> {
    let mut groups: BTreeMap<u32, GpuSet> = BTreeMap::new();
    for (index, gpu) in machine.gpus.iter().enumerate() {
        if let Some(package) = gpu.locality.package {
            groups.entry(package).or_default().insert(number(index));
        }
    }
    let groups: Vec<GpuSet> = groups.into_values().collect();
    let (Some(first), Some(second)) = (groups.first(), groups.get(1)) else {
        return match groups.first() {
            Some(all) if all.len() == machine.gpus.len() && all.len() > 1 => {
                vec!["All GPUs are on one socket.".to_owned()]
            }
            Some(_) | None => Vec::new(),
        };
    };
    let names = join(
        &groups
            .iter()
            .map(|group| format!("GPU{group}"))
            .collect::<Vec<_>>(),
    );
    let inside = format!(
        "{names} {} inside a socket.",
        if groups.len() == 2 {
            "each stay"
        } else {
            "stay"
        }
    );
    let between = if groups.len() == 2 {
        format!("Any of {first} with any of {second}")
    } else {
        "Any two of different groups".to_owned()
    };
    let per_socket = groups.iter().map(GpuSet::len).min().unwrap_or(1);
    let ask = if per_socket > 1 {
        format!(
            ": ask for {per_socket} GPUs with --gpus-per-socket={per_socket} --sockets-per-node=1"
        )
    } else {
        String::new()
    };
    let verdict = match between_groups(machine, first, second) {
        Between::NvLink => format!("{between}: NVLink joins them."),
        Between::SocketLink => format!("{between} crosses the socket link{ask}."),
        Between::NotSeen => format!(
            "{between} crosses the socket link unless NVLink joins them, which could not be seen{ask}."
        ),
    };
    vec![format!("{inside} {verdict}")]
}

/// What joins GPUs of different sockets.
enum Between {
    NvLink,
    SocketLink,
    NotSeen,
}

fn between_groups(machine: &Machine, first: &GpuSet, second: &GpuSet) -> Between {
    let gpu = |set: &GpuSet| machine.gpus.get(usize::try_from(set.first()?).ok()?);
    let (Some(a), Some(b)) = (gpu(first), gpu(second)) else {
        return Between::NotSeen;
    };
    if nvlinks(machine, a.pci, b.pci) > 0 {
        return Between::NvLink;
    }
    match crosses_socket(machine, a.pci, b.pci) {
        Some(true) => Between::SocketLink,
        Some(false) | None => Between::NotSeen,
    }
}

/// `a`, `a and b`, `a, b and c`.
fn join(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

fn reduced_links(machine: &Machine) -> Vec<String> {
    machine
        .gpus
        .iter()
        .enumerate()
        .filter_map(|(index, gpu)| {
            let link = &machine.device(gpu.pci)?.link;
            let (now, best) = (links::reduced(link)?, links::best(link)?);
            Some(format!(
                "GPU{index} runs at {now} of {best}: see `gpu-numa doctor`."
            ))
        })
        .collect()
}

fn unknown(machine: &Machine) -> Vec<String> {
    let lost: GpuSet = machine
        .gpus
        .iter()
        .enumerate()
        .filter(|(_, gpu)| gpu.locality.numa_nodes.is_none())
        .map(|(index, _)| number(index))
        .collect();
    let Some(first) = lost.first() else {
        return Vec::new();
    };
    vec![format!(
        "GPU{lost}: nobody says which NUMA node (`gpu-numa show --explain GPU{first}`); where you \
         know it, name it in /{}.",
        topology::sysfs::OVERRIDE_FILE
    )]
}

/// Nodes that tasks never get memory from.
fn special_nodes(machine: &Machine) -> Vec<String> {
    let of = |kind: NodeKind| -> NodeSet {
        machine
            .numa_nodes
            .iter()
            .filter(|node| node.kind == kind)
            .map(|node| node.id)
            .collect()
    };
    let mut sentences = Vec::new();
    let (gpu, other) = (of(NodeKind::Gpu), of(NodeKind::Cpuless));
    if !gpu.is_empty() {
        sentences.push(format!("Node {gpu}: the GPUs' own memory, never bound to."));
    }
    if !other.is_empty() {
        sentences.push(format!(
            "Node {other}: memory without CPUs, never bound to."
        ));
    }
    sentences
}
