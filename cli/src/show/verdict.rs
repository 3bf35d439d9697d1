//! What the page means, in sentences.

use topology::machine::{Machine, MigInstance, NodeKind};
use topology::set::NodeSet;
use topology::vendor::GpuVendor;
use topology::visible::runtime_order;
use topology::words;

use super::nics;
use super::sockets::{self, GpuSet, number};
use crate::command::CommandError;
use crate::hardware::{self, join, times_local, times_measured};
use crate::links;
use crate::out::Out;
use crate::paper::Ink;

/// Prints the sentences; each stands on its own.
pub(super) fn print(out: &mut Out, machine: &Machine, width: usize) -> Result<(), CommandError> {
    let none = || words::no_gpu_on_host(hardware::host(machine));
    let sentences: Vec<String> = [
        machine.gpus.is_empty().then(none).into_iter().collect(),
        distances(machine),
        sockets::divided(machine).into_iter().collect(),
        counted(machine),
        sockets::sentences(machine),
        nearest(machine),
        nics::sentences(machine),
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
    for sentence in &sentences {
        out.sentence(sentence, Ink::Plain, width)?;
    }
    Ok(())
}

/// How firmware rates memory access between the two nodes that are farthest from each other.
pub(crate) fn distances(machine: &Machine) -> Vec<String> {
    let nodes = machine.cpu_nodes();
    let farthest = nodes
        .iter()
        .flat_map(|a| nodes.iter().map(move |b| (a, b)))
        .filter(|(a, b)| a < b)
        .filter_map(|(a, b)| Some((machine.distance(a, b)?, a, b)))
        .max_by_key(|(distance, a, b)| (*distance, std::cmp::Reverse((*a, *b))));
    let measured = farthest.and_then(|(distance, a, b)| measured(machine, distance, a, b));
    if let Some(sentence) = measured {
        return vec![sentence];
    }
    if nodes.len() > 1 && has_default_distances(machine) {
        return vec![
            "Each NUMA node is at distance 20 from the others, which Linux also says where firmware rates nothing (no SLIT); \
             run `gpu-numa measure` for real figures."
                .to_owned(),
        ];
    }
    match farthest {
        Some((distance, a, b)) if distance > 10 => vec![format!(
            "Firmware rates memory access from node {a} to node {b} at {}x local latency (SLIT {distance}); \
             run `gpu-numa measure` for real figures.",
            times_local(distance)
        )],
        Some(_) => Vec::new(),
        None if nodes.len() > 1 => vec![
            "The distances between NUMA nodes are not known; run `gpu-numa measure` on the host."
                .to_owned(),
        ],
        None => Vec::new(),
    }
}

/// Whether the distances are those that Linux makes up where firmware gives none: 10 to itself, 20 to each other node.
fn has_default_distances(machine: &Machine) -> bool {
    let nodes = &machine.numa_nodes;
    nodes.iter().all(|node| {
        let others = nodes.iter().filter(|other| other.id != node.id);
        others
            .map(|other| node.distances.get(&other.id))
            .all(|distance| distance == Some(&20))
    })
}

/// What was measured of memory on node `b` from node `a`; none where it was not.
fn measured(machine: &Machine, distance: u32, a: u32, b: u32) -> Option<String> {
    let (local, far) = machine.latency_pair(a, b)?;
    Some(format!(
        "Memory of node {b} takes {} times as long as local memory from node {a}, as measured here ({far} ns, \
         {local} ns); firmware says {}x (SLIT {distance}).",
        times_measured((local, far)),
        times_local(distance)
    ))
}

/// Which GPUs programs count otherwise than they are numbered here.
fn counted(machine: &Machine) -> Vec<String> {
    let number = |pci| machine.gpus.iter().position(|gpu| gpu.pci == pci);
    let of_vendor = |vendor: &'static GpuVendor| {
        let order = runtime_order(machine, vendor).into_iter();
        let numbers: Vec<usize> = order.filter_map(|gpu| number(gpu.pci)).collect();
        let is_as_here = numbers.iter().copied().eq(0..numbers.len());
        let names: Vec<String> = numbers.iter().map(|gpu| format!("GPU{gpu}")).collect();
        let (first, rest) = names.split_first().filter(|_| !is_as_here)?;
        let variable = vendor.variables.visible;
        Some(match rest {
            [] => format!("{variable} counts otherwise than here: its 0 is {first}."),
            rest => format!(
                "{variable} counts otherwise than here: its 0 is {first}, then come {}.",
                join(rest)
            ),
        })
    };
    machine.launch_vendors().filter_map(of_vendor).collect()
}

/// The CPUs that are nearer to a GPU than the rest of its node.
fn nearest(machine: &Machine) -> Vec<String> {
    let gpus = machine.gpus.iter().enumerate();
    let own: Vec<String> = gpus
        .filter_map(|(index, gpu)| {
            let cpus = gpu.locality.nearest_cpus.as_ref()?;
            Some(format!("GPU{index} {cpus}"))
        })
        .collect();
    if own.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "CPUs that are nearer to a GPU than the rest of its NUMA node, which `exclusive` gives first and `l3` alone: {}.",
        own.join("; ")
    )]
}

/// Which GPUs cannot read each other's memory, according to NVML.
fn p2p(machine: &Machine) -> Vec<String> {
    let name = |pci| machine.gpus.iter().position(|gpu| gpu.pci == pci);
    let mut without: Vec<(&str, Vec<String>)> = Vec::new();
    for own in machine.p2p.iter().filter(|own| own.state != "ok") {
        let (Some(a), Some(b)) = (name(own.a), name(own.b)) else {
            continue;
        };
        let pair = format!("GPU{a} with GPU{b}");
        match without.iter_mut().find(|(state, _)| *state == own.state) {
            Some((_, pairs)) => pairs.push(pair),
            None => without.push((&own.state, vec![pair])),
        }
    }
    if without.is_empty() && !machine.p2p.is_empty() {
        return vec!["All GPUs can read each other's memory (P2P, according to NVML).".to_owned()];
    }
    without
        .iter()
        .map(|(state, pairs)| {
            let which = if pairs.len() == machine.p2p.len() && pairs.len() > 1 {
                "any two GPUs".to_owned()
            } else {
                join(pairs)
            };
            format!(
                "No P2P for {which}: {state} (according to NVML); copies between them go through host memory."
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
                "GPU{index}'s PCIe link runs at {now} instead of {best}: run `gpu-numa doctor`."
            ))
        })
        .collect()
}

/// Cards that are newer than their slots, which is no fault.
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
        format!("GPU{gpus}: gen{card} card in a gen{slot} slot, so the link runs at gen{slot}.")
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
    let evidence = format!("(`gpu-numa show --explain GPU{first}` lists the evidence)");
    vec![if machine.has_node_of_one_package() {
        format!(
            "GPU{lost}: NUMA node unknown {evidence}; if you know the node, write it into /{}.",
            topology::sysfs::OVERRIDE_FILE
        )
    } else {
        format!(
            "GPU{lost}: NUMA nodes here hold CPUs of several sockets, so which CPUs are near is unknown {evidence}."
        )
    }]
}

/// The MIG instances of each GPU; they are on its NUMA node.
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
            format!(
                "GPU{index} is divided into MIG instances: {}.",
                names.join(", ")
            )
        })
        .collect()
}

/// ` (250 on GPU0, 251 on GPU1)`, where NVML says which GPU's memory a node is.
fn owners(machine: &Machine, nodes: &NodeSet) -> String {
    let named = machine.gpus.iter().enumerate().filter_map(|(index, gpu)| {
        let node = gpu.nvml_place.as_ref()?.numa_node?;
        nodes
            .contains(node)
            .then(|| format!("{node} on GPU{index}"))
    });
    let named: Vec<String> = named.collect();
    if named.is_empty() {
        String::new()
    } else {
        format!(" ({})", named.join(", "))
    }
}

/// `NUMA node 4 is`, `NUMA nodes 4-6 are`.
fn named(nodes: &NodeSet) -> String {
    if nodes.len() == 1 {
        format!("NUMA node {nodes} is")
    } else {
        format!("NUMA nodes {nodes} are")
    }
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
        let (nodes, owners) = (named(&gpu), owners(machine, &gpu));
        sentences.push(format!(
            "{nodes} GPU memory{owners}; tasks are never bound there."
        ));
    }
    if !other.is_empty() {
        let nodes = named(&other);
        sentences.push(format!(
            "{nodes} memory without CPUs; tasks are never bound there."
        ));
    }
    let offline = of(NodeKind::Offline);
    if !offline.is_empty() {
        let nodes = named(&offline);
        sentences.push(format!(
            "{nodes} on a socket whose CPUs are all offline; tasks for its GPUs get CPUs of another socket."
        ));
    }
    sentences
}
