//! Whole machines: snapshots, what `--from` takes, trees of `/sys`; and what is planned and emitted on them.

use std::path::Path;
use std::sync::LazyLock;

use discovery::{Source, read_machine_with};
use nccl_topo::emit::{Form, emit};
use nccl_topo::reader::Problem;
use slurm_config::cores::{CoreMap, SocketKind};
use topology::allowed::{StepView, find_step_cpus};
use topology::binding::{MemoryPolicy, StepRequest, TaskRequest, UserMemory, plan_step};
use topology::machine::{MAX_PARTS, Machine};
use topology::names::GpuNames;
use topology::option::{Items, Settings};
use topology::path::{crosses_socket, pci_path};
use topology::set::{CpuSet, NodeSet};
use topology::snapshot::Snapshot;
use topology::sysfs;
use topology::words::{Voice, task_message};

use crate::input::{Choices, split};
use crate::tree;

/// Two packages with a GPU each.
const TWO_GPUS: &str = include_str!("../seeds/snapshot/two-gpus");
/// A package with two nodes and a GPU of AMD's on each.
const TWO_OF_AMD: &[u8] = include_bytes!("../seeds/tree/trento-1s2g-tiny");
/// No program: what hwloc would be asked fails at once.
const NOBODY: &str = "/nonexistent/gpu-numa";
/// Of a machine with more GPUs so many are looked at.
const GPUS: usize = 16;

pub(crate) fn two_gpus() -> Machine {
    static MACHINE: LazyLock<Machine> = LazyLock::new(|| {
        Snapshot::parse(TWO_GPUS)
            .expect("the seed is a snapshot")
            .machine
    });
    MACHINE.clone()
}

/// `node.json`: root reads it; whatever is in it, a task's CPUs are the step's.
pub(crate) fn snapshot(bytes: &[u8]) {
    let (text, mut choices) = split(bytes);
    if let Some(snapshot) = Snapshot::parse_head(&text) {
        check(&snapshot.machine, &mut choices);
    }
    let of_launch = Snapshot::parse_for_launch(&text);
    if let Ok(snapshot) = &of_launch {
        check(&snapshot.machine, &mut choices);
    }
    let Ok(snapshot) = Snapshot::parse(&text) else {
        return;
    };
    // A head with the checksum of what follows is its writer's word.
    assert!(of_launch.is_ok(), "a launch reads whatever is a snapshot");
    let json = snapshot.to_json().unwrap();
    let again = Snapshot::parse(&json).unwrap();
    assert_eq!(again.to_json().unwrap(), json);
    let of_launch = Snapshot::parse_for_launch(&json).unwrap();
    assert_eq!(of_launch.machine, again.machine.for_launch());
    assert_eq!(of_launch.boot_id, again.boot_id);
    check(&snapshot.machine, &mut choices);
}

/// A file for `--from`: hwloc's or NCCL's XML, a snapshot, what `show --json` printed.
pub(crate) fn from(bytes: &[u8]) {
    let (text, mut choices) = split(bytes);
    let folder = tree::folder();
    let path = folder.path().join("file");
    std::fs::write(&path, text.as_bytes()).unwrap();
    read(&path, &mut choices);
}

/// A recorded filesystem root: `/sys`, `/proc`, `/dev`, the site's files.
pub(crate) fn tree(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0xff);
    let choices = parts.next().unwrap_or_default();
    let folder = tree::folder();
    tree::write(parts.next().unwrap_or_default(), folder.path());
    let (overrides, _) = sysfs::read_overrides(folder.path());
    if let Ok(machine) = sysfs::read_machine(folder.path(), &overrides) {
        check(&machine, &mut Choices(choices));
    }
    let snapshot = Snapshot::parse_for_launch(TWO_GPUS).expect("the seed is a snapshot");
    let _ = sysfs::current(folder.path(), snapshot);
}

/// What AMD's compute driver says of the GPUs of [`TWO_OF_AMD`], as records below its folder, whose names begin with `topology/` or
/// `proc/`: a recording may hold anything there.
pub(crate) fn kfd(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0xff);
    let choices = parts.next().unwrap_or_default();
    let folder = tree::folder();
    tree::write(two_of_amd(), folder.path());
    let own = folder.path().join("sys/class/kfd/kfd");
    std::fs::remove_dir_all(&own).expect("the seed has the driver's folder");
    let (overrides, _) = sysfs::read_overrides(folder.path());
    let read = || sysfs::read_machine(folder.path(), &overrides);
    let before = read().expect("the seed is a machine");
    tree::write(parts.next().unwrap_or_default(), &own);
    let machine = read().expect("the driver's folder is no part of what a machine needs");
    check_kfd(&before, &machine);
    for pid in 0..4 {
        for gpu in sysfs::gpus_used_by(folder.path(), &machine, pid) {
            assert!(machine.gpu(gpu).is_some(), "{gpu}");
        }
    }
    let mut snapshot = Snapshot::parse(TWO_GPUS).expect("the seed is a snapshot");
    snapshot.machine = machine;
    let of_launch = Snapshot::parse_for_launch(&snapshot.to_json().unwrap()).unwrap();
    assert_eq!(of_launch.machine, snapshot.machine.clone().for_launch());
    check(&snapshot.machine, &mut Choices(choices));
}

/// The records of [`TWO_OF_AMD`].
fn two_of_amd() -> &'static [u8] {
    let at = TWO_OF_AMD.iter().position(|byte| *byte == 0xff);
    at.map_or(TWO_OF_AMD, |at| &TWO_OF_AMD[at + 1..])
}

/// The driver adds to GPUs that are there, and all that it says of them is within bounds.
fn check_kfd(before: &Machine, machine: &Machine) {
    let addresses = |machine: &Machine| machine.gpus.iter().map(|gpu| gpu.pci).collect::<Vec<_>>();
    assert_eq!(addresses(before), addresses(machine));
    assert_eq!(before.online, machine.online);
    for gpu in &machine.gpus {
        let others = gpu
            .nvlinks
            .keys()
            .chain(gpu.kfd.iter().flat_map(|kfd| &kfd.beyond));
        for other in others {
            assert!(
                *other != gpu.pci && machine.gpu(*other).is_some(),
                "{other}"
            );
        }
        assert!(gpu.nvlinks.values().all(|links| (1..=16).contains(links)));
        let kfd = gpu.kfd.clone().unwrap_or_default();
        assert!(kfd.nodes.len() <= MAX_PARTS && gpu.parts() >= 1);
        assert!(
            kfd.beyond
                .iter()
                .all(|other| !gpu.nvlinks.contains_key(other))
        );
        for part in &kfd.nodes {
            assert!(part.minor.is_none_or(|minor| (1..=0xffff).contains(&minor)));
            // `GPU-` and 16 digits, as the runtime writes it.
            assert!(part.uuid.as_ref().is_none_or(|uuid| uuid.len() == 20));
        }
        for node in gpu.locality.numa_nodes.iter().flat_map(NodeSet::iter) {
            assert!(machine.node(node).is_some(), "{node}");
        }
    }
}

fn read(path: &Path, choices: &mut Choices<'_>) {
    let source = Source::Path(path.to_owned());
    match read_machine_with(&source, Path::new(NOBODY)) {
        Ok(machine) => check(&machine, choices),
        Err(error) => drop(topology::option::one_line(&error.to_string())),
    }
}

/// What holds on every machine.
pub(crate) fn check(machine: &Machine, choices: &mut Choices<'_>) {
    let json = serde_json::to_string(machine).unwrap();
    let again: Machine = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), json);
    for form in [Form::SingleHost, Form::MultiHost] {
        if let Ok(emitted) = emit(machine, form) {
            let reading = nccl_topo::reader::read(&emitted.xml);
            // A processor that NCCL does not know is written all the same: it is what NCCL itself would find.
            let is_strange = |problem: &Problem| !matches!(problem, Problem::BadValue { key, .. } if key == "vendor");
            let all_well = !reading
                .violations
                .iter()
                .any(|one| is_strange(&one.problem));
            assert!(all_well && reading.system.is_some(), "{}", emitted.xml);
        }
    }
    for a in machine.gpus.iter().take(GPUS) {
        for b in machine.gpus.iter().take(GPUS) {
            let _ = pci_path(machine, a.pci, b.pci);
            let (there, back) = (
                crosses_socket(machine, a.pci, b.pci),
                crosses_socket(machine, b.pci, a.pci),
            );
            assert_eq!(there, back, "{} and {}", a.pci, b.pci);
        }
    }
    for kind in [SocketKind::Package, SocketKind::NumaNode, SocketKind::L3] {
        if let Some(map) = CoreMap::new(machine, kind) {
            let cores = map.cores_of(&machine.online);
            assert_eq!(map.cores_of(&map.cpus_of(&cores)), cores);
        }
    }
    let tasks = tasks(choices, machine);
    check_plan(machine, choices, tasks);
}

/// A task that is bound has CPUs, all of them the step's, and memory where the step may have it.
pub(crate) fn check_plan(machine: &Machine, choices: &mut Choices<'_>, tasks: Vec<TaskRequest>) {
    let cpuset = match choices.below(4) {
        0 => machine.online.clone(),
        _ => CpuSet::from_range(choices.below(8) as u32, choices.below(16) as u32),
    };
    let view = StepView {
        cpuset: cpuset.clone(),
        ..StepView::default()
    };
    let step_cpus = find_step_cpus(machine, &view).cpus;
    assert!(step_cpus.difference(&cpuset).is_empty());
    let step = StepRequest {
        settings: settings(choices),
        step_cpus: step_cpus.clone(),
        asked: 1 + choices.below(5) as u32,
        tasks,
        kernel: choices.pick(&["5.15", "5.14", "3.10"]).parse().unwrap(),
        allowed_nodes: None,
        may_refuse: choices.below(2) == 0,
        owns_cpus: choices.below(8) != 0,
    };
    let plan = plan_step(machine, &step);
    assert_eq!(plan.tasks.len(), step.tasks.len());
    let names = GpuNames::of_step(machine, &step);
    for task in &plan.tasks {
        let said = task_message(task, names, Voice::Step);
        assert!(!said.chars().any(char::is_control), "{said:?}");
        // Whose the CPUs of a process without Slurm are is never unknown.
        if step.owns_cpus {
            let said = task_message(task, names, Voice::Process);
            assert!(!said.contains("Slurm") && !said.contains("step"), "{said}");
        }
        if task.bind_cpus {
            assert!(
                !task.cpus.is_empty() && task.cpus.difference(&step_cpus).is_empty(),
                "{} of {step_cpus}",
                task.cpus
            );
        }
        if task.bind_memory {
            let with_memory = |id| machine.node(id).is_some_and(|node| !node.cpus.is_empty());
            assert!(
                task.memory.nodes.iter().all(with_memory),
                "{:?}",
                task.memory
            );
        }
    }
}

fn settings(choices: &mut Choices<'_>) -> Settings {
    let policy = *choices.pick(&["best-effort", "restricted", "single-numa-node", "none"]);
    let width = *choices.pick(&["exclusive", "node", "socket", "l3"]);
    let memory = *choices.pick(&["mem=preferred", "mem=bind", "mem=interleave", "mem=none"]);
    let map = *choices.pick(&["map=auto", "map=visible", "map=localid"]);
    Settings::from(&Items::parse(&format!("{policy},{width},{memory},{map}")).unwrap())
}

pub(crate) fn tasks(choices: &mut Choices<'_>, machine: &Machine) -> Vec<TaskRequest> {
    let all: Vec<_> = machine.gpus.iter().map(|gpu| gpu.pci).take(GPUS).collect();
    (0..1 + choices.below(6))
        .map(|_| {
            let (seen, own) = (choices.byte(), choices.byte());
            let sees = |index: usize| seen == 0 || seen >> (index % 8) & 1 == 1;
            TaskRequest {
                visible: (0..)
                    .zip(&all)
                    .filter(|(index, _)| sees(*index))
                    .map(|(_, gpu)| *gpu)
                    .collect(),
                sees_all_gpus: seen & 1 == 0,
                slurm_cpus: (own & 4 != 0).then(|| CpuSet::single(u32::from(own >> 3))),
                user_cpu_bind: own & 1 != 0,
                user_memory: (own & 2 != 0).then(|| UserMemory {
                    policy: MemoryPolicy::Bind,
                    nodes: NodeSet::single(u32::from(own >> 6)),
                    is_local: own & 16 != 0,
                }),
            }
        })
        .collect()
}
