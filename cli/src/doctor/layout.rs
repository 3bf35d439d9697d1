//! Contradictions of the machine itself: sockets against NUMA nodes, and a GPU without the links of its peers.

use topology::machine::{Gpu, Machine};
use topology::nvlink::unlinked;

use super::report::{DoctorReport, Harm};
use super::tree::Tree;
use super::world::World;
use crate::hardware::gpu_name;
use crate::hardware::{cut, join, spanning};

pub(crate) fn check(world: &World<'_>, report: &mut DoctorReport) {
    if world.machine.gpus.is_empty() {
        return;
    }
    check_cuts(world.machine, report);
    check_spans(world, report);
    check_lonely(world.machine, report);
}

/// NUMA nodes whose borders cut through sockets, as a hypervisor makes them.
fn check_cuts(machine: &Machine, report: &mut DoctorReport) {
    let Some((node, package)) = cut(machine) else {
        return;
    };
    report.find(
        "numa-layout",
        Harm::SlowsJobs,
        format!(
            "NUMA node {} has CPUs {}, socket {} has CPUs {}: each has CPUs that the other does not have",
            node.id, node.cpus, package.id, package.cpus
        ),
        "which NUMA nodes share a socket is unknown, and a whole socket, as Slurm gives it to a job, is near the memory of only \
         some of its CPUs",
        "the virtual machine's settings, so that each NUMA cell holds whole sockets (libvirt: <numa> <cell cpus=...> against \
         <topology sockets= cores= threads=>; QEMU: -numa against -smp); on hardware, firmware setup",
    );
}

/// One NUMA node over several sockets, where firmware or the kernel hides which memory is near.
fn check_spans(world: &World<'_>, report: &mut DoctorReport) {
    let Some((node, packages)) = spanning(world.machine) else {
        return;
    };
    let command_line = world
        .tree
        .as_ref()
        .and_then(|tree| tree.text("/proc/cmdline"));
    let has_off = command_line.is_some_and(|line| {
        line.split_whitespace()
            .any(|word| word == "numa=off" || word == "numa=noacpi")
    });
    let ids: Vec<String> = packages.iter().map(ToString::to_string).collect();
    report.find(
        "numa-layout",
        Harm::SlowsJobs,
        format!(
            "NUMA node {} holds sockets {}{}",
            node.id,
            join(&ids),
            if has_off { ", and /proc/cmdline has numa=off" } else { "" }
        ),
        "which socket and which memory are near a GPU is hidden: a task on all CPUs of this node may run on the other socket",
        if has_off {
            "the kernel's command line: remove numa=off"
        } else {
            "firmware setup: node interleaving off (AMD: NPS1 or more); in a virtual machine, a NUMA node for each socket"
        },
    );
}

/// A GPU without a link, where the others of its kind have one.
fn check_lonely(machine: &Machine, report: &mut DoctorReport) {
    if machine.gpus.iter().any(|gpu| machine.hides_links_of(gpu)) {
        return;
    }
    for alone in unlinked(machine) {
        let Some(maker) = machine.gpu(alone.pci).and_then(Gpu::maker) else {
            continue;
        };
        let (link, tool) = (maker.link_name, maker.link_tool);
        report.find(
            "gpu-link",
            Harm::SlowsJobs,
            format!(
                "{} has no active {link}; the other {} have",
                gpu_name(machine, alone.pci),
                alone.others
            ),
            "collectives over all GPUs run at the speed of the slowest path, through host memory",
            format!("the GPU and its {link} ({tool}, dmesg); drain the node until it is back"),
        );
    }
}

/// The CPUs that a kernel list of the host names; empty where there is none.
pub(crate) fn list_of(tree: &Tree, path: &str) -> topology::set::CpuSet {
    let text = tree.text(path).unwrap_or_default();
    text.parse().unwrap_or_default()
}
