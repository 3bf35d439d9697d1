//! The host itself: snapshot, kernel settings, where GPUs are, the driver.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use discovery::child::read_output;
use launch::host::{SnapshotFault, Trust};
use topology::machine::{Gpu, Machine, NodeKind, NumaSource};
use topology::pci::PciAddress;
use topology::set::NodeSet;
use topology::snapshot::{NODE_FILE, Snapshot};
use topology::sysfs::{self, OVERRIDE_FILE, SiteLineFault};

use super::report::{DoctorReport, Harm};
use super::slurm::Slurm;
use super::tree::Tree;
use super::world::World;
use crate::hardware::gpu_name;

pub(crate) fn check(world: &World<'_>, report: &mut DoctorReport) {
    check_localities(world, report);
    check_left(world, report);
    let Some(tree) = &world.tree else {
        report.skip("snapshot, kernel settings, ACS, containers: the source is a file, not a directory with the host's files");
        return;
    };
    check_overrides(world.machine, tree, report);
    check_snapshot(world, tree, report);
    check_kernel(world, tree, report);
    check_persistence(world, tree, report);
}

/// GPUs whose NUMA node firmware does not give.
fn check_localities(world: &World<'_>, report: &mut DoctorReport) {
    let machine = world.machine;
    if machine.cpu_nodes().len() < 2 {
        return;
    }
    let mut lost: Vec<String> = Vec::new();
    // By evidence: each GPU with its node.
    let mut inferred: Vec<(NumaSource, Vec<String>, Vec<String>)> = Vec::new();
    let mut is_minus_one = false;
    for gpu in &machine.gpus {
        let pci = gpu.pci;
        let names_none = machine
            .device(pci)
            .is_some_and(|device| device.numa_node == Some(-1));
        match (&gpu.locality.numa_nodes, gpu.locality.numa_source) {
            (_, NumaSource::Override | NumaSource::Measured) => {}
            (None, _) => {
                is_minus_one |= names_none;
                lost.push(gpu_name(machine, pci));
            }
            (Some(nodes), source) if names_none => {
                let place = format!("{} is on node {nodes}", gpu_name(machine, pci));
                let line = format!("{pci} {nodes}");
                match inferred.iter_mut().find(|(own, ..)| *own == source) {
                    Some((_, places, lines)) => {
                        places.push(place);
                        lines.push(line);
                    }
                    None => inferred.push((source, vec![place], vec![line])),
                }
            }
            (Some(_), _) => {}
        }
    }
    if !lost.is_empty() {
        let (unknown, that) = if lost.len() == 1 {
            ("NUMA node unknown", "this GPU")
        } else {
            ("NUMA nodes unknown", "these GPUs")
        };
        let minus_one = if is_minus_one {
            " (firmware gives numa_node -1)"
        } else {
            ""
        };
        report.find(
            "gpu-locality",
            Harm::StopsBinding,
            format!("{}: {unknown}{minus_one}", lost.join(", ")),
            format!("the plugin does not bind tasks with {that}, and strict policies refuse them"),
            format!(
                "/{OVERRIDE_FILE}: one line per GPU, such as \"0000:3b:00.0 1\", with its node (`gpu-numa measure` \
                 measures it); or firmware setup, so that ACPI gives the node"
            ),
        );
    }
    for (source, places, lines) in inferred {
        report.find(
            "gpu-locality",
            Harm::SlowsJobs,
            format!("numa_node is -1; by {} {}", source.words(), places.join(", ")),
            "the driver, NCCL and Slurm's AutoDetect do not know the node, and take memory and cores from any",
            format!(
                "firmware setup, so that ACPI gives the node; for the plugin, /{OVERRIDE_FILE} makes it certain: {}",
                lines.join("; ")
            ),
        );
    }
}

/// GPUs that their own driver does not have, while it has others of the host.
fn check_left(world: &World<'_>, report: &mut DoctorReport) {
    let gpus = world.machine.gpus.iter();
    let left: Vec<String> = gpus
        .filter(|gpu| world.is_left_by_driver(gpu) && world.other_driver(gpu).is_none())
        .map(|gpu| gpu_name(world.machine, gpu.pci))
        .collect();
    if left.is_empty() {
        return;
    }
    let (has_none, them) = if left.len() == 1 {
        ("the driver has others of this host and not this one", "it")
    } else {
        ("the driver has others of this host and not these", "them")
    };
    report.find(
        "gpu-driver",
        Harm::StopsBinding,
        format!("{}: {has_none}", left.join(", ")),
        format!("no device file: neither Slurm nor a program can use {them}, and the node has fewer GPUs than are built in"),
        format!(
            "see the driver's lines in `dmesg` for the address, and reset or replace {them}; until then a node line and gres.conf \
             that leave {them} out"
        ),
    );
}

fn check_overrides(machine: &Machine, tree: &Tree, report: &mut DoctorReport) {
    let (overrides, complaints) = sysfs::read_overrides(tree.base());
    let here: NodeSet = machine.numa_nodes.iter().map(|node| node.id).collect();
    for (pci, nodes) in overrides.named.iter().chain(&overrides.measured) {
        let absent = nodes.difference(&here);
        // A file for several kinds of hosts may name other hosts' devices.
        if machine.device(*pci).is_some() && !absent.is_empty() {
            report.find(
                "localities-file",
                Harm::StopsBinding,
                format!("/{OVERRIDE_FILE}: {pci} is to be on node {absent}, and this host has nodes {here}"),
                "the line has no effect",
                format!("/{OVERRIDE_FILE}: the node of {pci} (`gpu-numa measure` measures it)"),
            );
        }
    }
    for complaint in complaints {
        report.find(
            "localities-file",
            Harm::StopsBinding,
            complaint.to_string(),
            if matches!(complaint.fault, SiteLineFault::LocalityTwice(_)) {
                "the line before it for that device has no effect"
            } else {
                "the line has no effect"
            },
            format!("/{OVERRIDE_FILE}: one line per device, PCI address and node, such as \"0000:3b:00.0 1\""),
        );
    }
}

fn check_snapshot(world: &World<'_>, tree: &Tree, report: &mut DoctorReport) {
    if world.machine.gpus.is_empty() {
        return;
    }
    if !tree.exists("/run") {
        report.skip("the snapshot: /run is not in the recording");
        return;
    }
    let site = world.slurm.as_ref().map(Slurm::site).unwrap_or_default();
    let folder = site.directory;
    let fault = if world.is_live {
        let fault = launch::host::read_snapshot(&folder, Trust::Root).err();
        if let Some(gpu) = fault.as_ref().and_then(SnapshotFault::gone) {
            find_gone(gpu, report);
        }
        fault.map(|fault| (fault.to_string(), fault.is_stale()))
    } else {
        find_recorded_fault(tree, &folder.join(NODE_FILE).to_string_lossy(), report)
    };
    let Some((evidence, is_stale)) = fault else {
        return;
    };
    let remedy = if is_stale {
        "systemctl restart gpu-numa-bind.service (or run `gpu-numa snapshot`)"
    } else {
        "systemctl enable --now gpu-numa-bind.service (or run `gpu-numa snapshot`)"
    };
    let effect = if world.machine.has_nccl_gpus() {
        "the plugin reads /sys at every step instead, and NCCL gets no corrected topology file"
    } else {
        "the plugin reads /sys at every step instead"
    };
    report.find("snapshot", Harm::SlowsJobs, evidence, effect, remedy);
}

/// A GPU of this boot's snapshot that the kernel no longer lists.
fn find_gone(gpu: PciAddress, report: &mut DoctorReport) {
    report.find_of_gpu(
        "gpu-gone",
        format!("GPU {gpu} was there at boot and is gone"),
        "jobs that are given it fail",
        format!("look for {gpu} in the kernel's log; where it was taken out on purpose, run `gpu-numa snapshot`"),
    );
}

/// What is wrong with a recorded snapshot, and whether it is stale; who could write it is not recorded.
fn find_recorded_fault(
    tree: &Tree,
    path: &str,
    report: &mut DoctorReport,
) -> Option<(String, bool)> {
    let text = match tree.read(path) {
        Ok(text) => text,
        Err(why) => return Some((why.to_string(), false)),
    };
    let snapshot = match Snapshot::parse(&text) {
        Ok(snapshot) => snapshot,
        Err(why) => return Some((format!("{path}: {why}"), false)),
    };
    let mut now = sysfs::read_now(tree.base(), &snapshot.machine);
    if now.boot_id.is_none() {
        report.skip("whether the snapshot is of this boot: no boot id in the recording");
        now.boot_id.clone_from(&snapshot.boot_id);
    }
    if now.generation.is_none() && !tree.is_this_host() {
        now.generation.clone_from(&snapshot.generation);
    }
    let stale = snapshot.staleness(&now)?;
    Some((format!("{path}: stale: {stale}"), true))
}

fn check_kernel(world: &World<'_>, tree: &Tree, report: &mut DoctorReport) {
    let machine = world.machine;
    let has_gpu_memory = machine
        .numa_nodes
        .iter()
        .any(|node| node.kind == NodeKind::Gpu);
    if machine.gpus.is_empty() || (machine.cpu_nodes().len() < 2 && !has_gpu_memory) {
        return;
    }
    for (name, effect) in [
        (
            "kernel/numa_balancing",
            "the kernel unmaps pages of jobs to see which CPU uses them, and moves them: jobs whose memory is not bound stall, \
             and copies to a GPU wait for page faults",
        ),
        (
            "vm/zone_reclaim_mode",
            "the kernel frees pages of a full NUMA node before it takes memory from another: jobs stall while other nodes have free memory",
        ),
    ] {
        let path = format!("/proc/sys/{name}");
        match tree.text(&path) {
            None => report.skip(format!(
                "{path}: not {}",
                if world.is_live {
                    "there"
                } else {
                    "in the recording"
                }
            )),
            Some(value) if value == "0" => {}
            Some(value) => report.find(
                if name.starts_with("kernel") {
                    "numa-balancing"
                } else {
                    "zone-reclaim"
                },
                Harm::SlowsJobs,
                format!("{path}: {value}"),
                effect,
                format!(
                    "/etc/sysctl.d/gpu-numa-bind.conf: {} = 0",
                    name.replace('/', ".")
                ),
            ),
        }
    }
}

/// Persistence mode: the daemon's socket, else what nvidia-smi says.
fn check_persistence(world: &World<'_>, tree: &Tree, report: &mut DoctorReport) {
    let makers = world.machine.gpus.iter().filter_map(Gpu::maker);
    let mut sockets = makers.filter_map(|maker| maker.driver.persistence_socket);
    if sockets.all(|socket| tree.exists(&format!("/{socket}"))) {
        return;
    }
    let answers = if world.asks_driver {
        ask_persistence()
    } else {
        None
    };
    let Some(answers) = answers else {
        report.skip(if world.is_live && !world.asks_driver {
            "persistence mode: the driver is not asked here"
        } else if world.is_live {
            "persistence mode: nvidia-smi does not answer"
        } else {
            "persistence mode: only the driver knows it, and this is a recording"
        });
        return;
    };
    let off: Vec<&str> = answers
        .iter()
        .filter(|(_, mode)| *mode == "Disabled")
        .map(|(gpu, _)| gpu.as_str())
        .collect();
    if !off.is_empty() {
        report.find(
            "persistence-mode",
            Harm::SlowsJobs,
            format!("nvidia-smi: persistence mode is off on {}", off.join(", ")),
            "the driver shuts the GPU down between jobs: each job waits seconds for it to start, and ECC and clock settings are lost",
            "systemctl enable --now nvidia-persistenced",
        );
    }
}

/// How long nvidia-smi may take to wake the GPUs.
const NVIDIA_SMI_TIME: Duration = Duration::from_secs(10);

fn ask_persistence() -> Option<BTreeMap<String, String>> {
    let mut command = Command::new("nvidia-smi");
    command.args([
        "--query-gpu=pci.bus_id,persistence_mode",
        "--format=csv,noheader",
    ]);
    let printed = read_output(command, NVIDIA_SMI_TIME).ok()?;
    let answers = String::from_utf8_lossy(&printed)
        .lines()
        .filter_map(|line| {
            let (gpu, mode) = line.split_once(',')?;
            let mode = mode.trim();
            // What else it prints is what keeps it from answering.
            ["Enabled", "Disabled"]
                .contains(&mode)
                .then(|| (gpu.trim().to_owned(), mode.to_owned()))
        })
        .collect::<BTreeMap<_, _>>();
    (!answers.is_empty()).then_some(answers)
}
