//! Made-up machines and steps.

use topology::binding::{KernelVersion, StepPlan, StepRequest, TaskRequest, Verdict};
use topology::machine::{Gpu, Locality, Machine, NodeKind, NumaNode, Package};
use topology::names::GpuNames;
use topology::option::{Items, Settings};
use topology::pci::{PciAddress, PciDevice};
use topology::set::{CpuSet, NodeSet};
use topology::words::{Voice, task_message};

/// A machine of packages x nodes x cores x threads, CPUs numbered as Linux does on Intel: all first
/// threads, then all second ones; a GPU on each node of `gpu_nodes`.
pub(crate) fn machine(
    packages: u32,
    nodes_each: u32,
    cores_each: u32,
    threads: u32,
    gpu_nodes: &[&str],
) -> Machine {
    let nodes = packages * nodes_each;
    let cores = nodes * cores_each;
    let mut machine = Machine {
        online: CpuSet::from_range(0, cores * threads - 1),
        ..Machine::default()
    };
    for core in 0..cores {
        machine
            .cores
            .push((0..threads).map(|thread| core + thread * cores).collect());
    }
    for id in 0..nodes {
        let mut cpus = CpuSet::new();
        for core in id * cores_each..(id + 1) * cores_each {
            cpus.extend_with(&machine.cores[core as usize]);
        }
        let package = id / nodes_each;
        let distances = (0..nodes)
            .map(|to| {
                (
                    to,
                    if to == id {
                        10
                    } else if to / nodes_each == package {
                        12
                    } else {
                        21
                    },
                )
            })
            .collect();
        machine.numa_nodes.push(NumaNode {
            id,
            package: Some(package),
            cpus,
            memory_bytes: Some(1 << 30),
            kind: NodeKind::Dram,
            distances,
        });
    }
    for id in 0..packages {
        let numa_nodes = NodeSet::from_range(id * nodes_each, (id + 1) * nodes_each - 1);
        machine.packages.push(Package {
            id,
            cpus: machine.cpus_of(&numa_nodes),
            numa_nodes,
        });
    }
    for (index, nodes) in gpu_nodes.iter().enumerate() {
        let known: Option<NodeSet> = (*nodes != "?").then(|| nodes.parse().unwrap());
        let device = PciDevice::new(gpu(index), 0x03_0200, 0x10de, 0x2330);
        machine.gpus.push(Gpu {
            locality: Locality {
                cpus: known.as_ref().map(|nodes| machine.cpus_of(nodes)),
                numa_nodes: known,
                ..Locality::default()
            },
            ..Gpu::of(&device)
        });
    }
    machine
}

/// The same machine with so many cores below each last-level cache.
pub(crate) fn with_caches(mut machine: Machine, cores: usize) -> Machine {
    let below = |cores: &[CpuSet]| {
        cores
            .iter()
            .fold(CpuSet::new(), |all, core| all.union(core))
    };
    machine.last_level_caches = machine.cores.chunks(cores).map(below).collect();
    machine
}

pub(crate) fn gpu(index: usize) -> PciAddress {
    format!("0000:{:02x}:00.0", 0x20 + index).parse().unwrap()
}

pub(crate) fn cpus(list: &str) -> CpuSet {
    list.parse().unwrap()
}

/// A step on all the machine's CPUs; `gpus[k]` is what task k sees.
pub(crate) fn step(machine: &Machine, option: &str, asked: u32, gpus: &[&[usize]]) -> StepRequest {
    StepRequest {
        settings: Settings::from(&Items::parse(option).unwrap()),
        step_cpus: machine.online.clone(),
        asked,
        tasks: gpus
            .iter()
            .map(|visible| TaskRequest {
                visible: visible.iter().map(|index| gpu(*index)).collect(),
                ..TaskRequest::default()
            })
            .collect(),
        kernel: KernelVersion { major: 6, minor: 1 },
        allowed_nodes: None,
        owns_cpus: true,
        may_refuse: true,
    }
}

pub(crate) fn with_masks(mut step: StepRequest, masks: &[&str]) -> StepRequest {
    for (task, mask) in step.tasks.iter_mut().zip(masks) {
        task.slurm_cpus = Some(cpus(mask));
    }
    step
}

pub(crate) fn lists(plan: &StepPlan) -> Vec<String> {
    plan.tasks
        .iter()
        .map(|task| task.cpus.to_string())
        .collect()
}

pub(crate) fn verdicts(plan: &StepPlan) -> Vec<Verdict> {
    plan.tasks.iter().map(|task| task.verdict).collect()
}

/// What a task of a Slurm step reads.
pub(crate) fn message(plan: &StepPlan, task: usize) -> String {
    task_message(&plan.tasks[task], GpuNames::ADDRESSES, Voice::Step)
}

pub(crate) const TWO_SOCKETS: &[&str] = &["0", "0", "1", "1"];
