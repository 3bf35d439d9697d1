//! What the page means, in sentences.

use topology::machine::{Machine, MigInstance, NodeKind};
use topology::set::NodeSet;

use super::links;
use super::sockets::{self, GpuSet, number};
use crate::command::CommandError;
use crate::out::Out;
use crate::paper::wrap;

/// Prints the sentences; each stands on its own.
pub(super) fn print(out: &mut Out, machine: &Machine, width: usize) -> Result<(), CommandError> {
    let sentences: Vec<String> = [
        distances(machine),
        sockets::sentences(machine),
        p2p(machine),
        reduced_links(machine),
        older_slots(machine),
        unknown(machine),
        special_nodes(machine),
        mig(machine),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !sentences.is_empty() {
        out.line("")?;
    }
    for line in sentences.iter().flat_map(|sentence| wrap(sentence, width)) {
        out.line(line)?;
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
            vec!["Firmware's distances between nodes are not known: `gpu-numa measure`.".to_owned()]
        }
        None => Vec::new(),
    }
}

/// Which GPUs do not read each other's memory, where NVML says.
fn p2p(machine: &Machine) -> Vec<String> {
    let name = |pci| machine.gpus.iter().position(|gpu| gpu.pci == pci);
    let mut without: Vec<(&str, Vec<String>)> = Vec::new();
    for own in machine.p2p.iter().filter(|own| own.state != "ok") {
        let (Some(a), Some(b)) = (name(own.a), name(own.b)) else {
            continue;
        };
        let pair = format!("{a} with {b}");
        match without.iter_mut().find(|(state, _)| *state == own.state) {
            Some((_, pairs)) => pairs.push(pair),
            None => without.push((&own.state, vec![pair])),
        }
    }
    if without.is_empty() && !machine.p2p.is_empty() {
        return vec!["All GPUs read each other's memory (P2P, by NVML).".to_owned()];
    }
    without
        .iter()
        .map(|(state, pairs)| {
            let which = if pairs.len() == machine.p2p.len() && pairs.len() > 1 {
                "any two GPUs".to_owned()
            } else {
                format!("GPU{}", sockets::join(pairs))
            };
            format!(
                "No P2P for {which}: {state} (NVML); their copies go through the host's memory."
            )
        })
        .collect()
}

fn reduced_links(machine: &Machine) -> Vec<String> {
    machine
        .gpus
        .iter()
        .enumerate()
        .filter_map(|(index, gpu)| {
            let link = links::of(machine, gpu.pci);
            let (now, best) = (links::reduced(&link)?, links::best(&link)?);
            Some(format!(
                "GPU{index} runs at {now} of {best}: see `gpu-numa doctor`."
            ))
        })
        .collect()
}

/// Cards that are newer than their slots: no fault, and no use to look for one.
fn older_slots(machine: &Machine) -> Vec<String> {
    let mut cards: Vec<((u32, u32), GpuSet)> = Vec::new();
    for (index, gpu) in machine.gpus.iter().enumerate() {
        let Some(generations) = links::older_slot(machine, gpu.pci) else {
            continue;
        };
        match cards.iter_mut().find(|(known, _)| *known == generations) {
            Some((_, gpus)) => gpus.insert(number(index)),
            None => cards.push((generations, GpuSet::single(number(index)))),
        }
    }
    let sentence = |((card, slot), gpus): &((u32, u32), GpuSet)| {
        format!("GPU{gpus}: a gen{card} card below a gen{slot} port.")
    };
    cards.iter().map(sentence).collect()
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

/// The MIG instances of each GPU, which are where their GPU is.
fn mig(machine: &Machine) -> Vec<String> {
    let instance = |mig: &MigInstance| match (mig.gpu_instance, mig.compute_instance) {
        (Some(gpu), Some(compute)) => format!("{} (gi {gpu} ci {compute})", mig.uuid),
        _ => mig.uuid.clone(),
    };
    let divided = machine
        .gpus
        .iter()
        .enumerate()
        .filter(|(_, gpu)| !gpu.mig.is_empty());
    divided
        .map(|(index, gpu)| {
            let names: Vec<String> = gpu.mig.iter().map(instance).collect();
            format!("GPU{index} is divided by MIG: {}.", names.join(", "))
        })
        .collect()
}

/// ` (250 of GPU0, 251 of GPU1)`, where NVML says whose it is.
fn owners(machine: &Machine, nodes: &NodeSet) -> String {
    let named = machine.gpus.iter().enumerate().filter_map(|(index, gpu)| {
        let node = gpu.nvml_place.as_ref()?.numa_node?;
        nodes
            .contains(node)
            .then(|| format!("{node} of GPU{index}"))
    });
    let named: Vec<String> = named.collect();
    if named.is_empty() {
        String::new()
    } else {
        format!(" ({})", named.join(", "))
    }
}

/// `Node 4`, `Nodes 4-6`.
fn nodes(set: &NodeSet) -> String {
    let plural = if set.len() == 1 { "" } else { "s" };
    format!("Node{plural} {set}")
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
        let owners = owners(machine, &gpu);
        sentences.push(format!(
            "{}: the GPUs' own memory{owners}, never bound to.",
            nodes(&gpu)
        ));
    }
    if !other.is_empty() {
        sentences.push(format!(
            "{}: memory without CPUs, never bound to.",
            nodes(&other)
        ));
    }
    sentences
}
