//! What is kept from jobs: CPUs by the kernel's `isolcpus` and `nohz_full`, and by CoreSpecCount and CpuSpecList; memory by
//! MemSpecLimit.

use slurm_config::cores::{CoreMap, CoreSet};
use slurm_config::node::Node;
use slurm_config::parameters::takes_first_cores;
use topology::machine::{Gpu, Machine};
use topology::set::CpuSet;

use super::layout::list_of;
use super::report::{DoctorReport, Harm};
use super::world::World;
use crate::hardware::gpu_name;

pub(crate) fn check(world: &World<'_>, report: &mut DoctorReport) {
    let node = world.slurm.as_ref().and_then(|slurm| slurm.node.as_ref());
    let map = world.map_of(world.release);
    let own = node.and_then(|node| of_slurm(world, node, map.as_ref()?, report));
    if let Some((evidence, kept)) = &own {
        check_gpus(world, evidence, kept, report);
    }
    if let Some(node) = node {
        check_count(node, report);
        check_memory(node, report);
    }
    let Some(tree) = &world.tree else { return };
    // `housekeeping` in kernel/sched/isolation.c: only the first is left out of load balancing.
    let isolated = list_of(tree, "/sys/devices/system/cpu/isolated");
    let ticks = list_of(tree, "/sys/devices/system/cpu/nohz_full");
    if let Some((evidence, kept)) = &own {
        check_quiet(evidence, kept, &ticks, report);
    }
    let kept = own.map(|(_, kept)| kept).unwrap_or_default();
    check_isolated(world, &isolated.difference(&kept), &kept, report);
    if !ticks.is_subset(&kept) && isolated.is_empty() && !world.machine.gpus.is_empty() {
        report.skip(format!(
            "nohz_full={ticks}: the kernel runs and moves threads on these CPUs as on others and leaves out only the tick, so Slurm and this plugin \
             take them like others; whether jobs should have them is the site's choice"
        ));
    }
}

/// What the node's line keeps from jobs: the evidence, and the CPUs.
fn of_slurm(
    world: &World<'_>,
    node: &Node,
    map: &CoreMap,
    report: &mut DoctorReport,
) -> Option<(String, CpuSet)> {
    let value = |key: &'static str| Some((key, node.whole.get(&key.to_ascii_lowercase())?));
    let (key, value) = value("CpuSpecList").or_else(|| value("CoreSpecCount"))?;
    let evidence = format!("{}: {key}={value}", node.line.place());
    let Some(cores) = kept_cores(world, node, map) else {
        report.skip(format!(
            "{evidence}: no number of cores, or no list of the line's CPUs"
        ));
        return None;
    };
    let cpus = map.cpus_of(&cores);
    (!cpus.is_empty()).then(|| (format!("{evidence} keeps CPUs {cpus} from jobs"), cpus))
}

/// The cores that the node's line keeps from jobs; None where it keeps none or they cannot be read.
pub(super) fn kept_cores(world: &World<'_>, node: &Node, map: &CoreMap) -> Option<CoreSet> {
    if let Some(list) = cpu_spec_list(node) {
        return Some(map.reserved_by_list(&list));
    }
    let count = usize::try_from(node.core_spec_count()?);
    let slurm = world.slurm.as_ref();
    let takes_first = slurm.is_some_and(|slurm| takes_first_cores(&slurm.conf));
    Some(map.reserved_by_count(count.unwrap_or(usize::MAX), takes_first))
}

/// `CpuSpecList=`, Slurm's own numbers of CPUs, which goes before CoreSpecCount; None where it is missing, no list, or has a CPU beyond the
/// line's last one, with which Slurm ignores it (`_parse_nodename`, common/read_config.c).
fn cpu_spec_list(node: &Node) -> Option<CoreSet> {
    let list: CoreSet = node.whole.get("cpuspeclist")?.parse().ok()?;
    let cpus = node.geometry().shape().cpus;
    let is_there = list.last().is_none_or(|last| u64::from(last) < cpus);
    is_there.then_some(list)
}

/// CPUs that the kernel keeps its own work off, and Slurm the jobs.
fn check_quiet(evidence: &str, kept: &CpuSet, ticks: &CpuSet, report: &mut DoctorReport) {
    let both = kept.intersection(ticks);
    if both.is_empty() {
        return;
    }
    report.find(
        "reserved-cpus",
        Harm::SlowsJobs,
        format!("{evidence}, and nohz_full={ticks} has CPUs {both} of them"),
        "the kernel moves its own work off the CPUs of nohz_full to the others: jobs get the CPUs with that work, and the quiet ones \
         are kept from them",
        "CpuSpecList= and nohz_full= without a CPU in common: nohz_full= with the CPUs that jobs get",
    );
}

/// `CoreSpecCount=` that Slurm resets ([`Node::core_spec_count`]).
fn check_count(node: &Node, report: &mut DoctorReport) {
    let given = node.whole.get("corespeccount");
    let Some(count) = given.and_then(slurm_config::values::number) else {
        return;
    };
    let cores = node.geometry().shape().cores();
    if count < cores || cpu_spec_list(node).is_some() {
        return;
    }
    let place = node.line.place();
    report.find(
        "reserved-cpus",
        Harm::WeakensBinding,
        format!("{place}: CoreSpecCount={count} is not less than the {cores} cores of the line"),
        format!(
            "Slurm keeps one core from jobs (\"CoreSpecCount={count} is invalid, reset to 1\", which each of its commands prints)"
        ),
        format!("{place}: CoreSpecCount= with fewer cores than the line has"),
    );
}

/// `MemSpecLimit=` that Slurm resets (`_check_callback` of a node's line, common/read_config.c).
fn check_memory(node: &Node, report: &mut DoctorReport) {
    let Some(kept) = node.mem_spec_limit_mib() else {
        return;
    };
    let whole = node.real_memory_mib();
    // 1 MiB where the line does not say.
    if kept < whole.unwrap_or(1) {
        return;
    }
    let place = node.line.place();
    report.find(
        "reserved-memory",
        Harm::WeakensBinding,
        match whole {
            Some(whole) => format!("{place}: MemSpecLimit={kept} is not less than RealMemory={whole}"),
            None => format!("{place}: MemSpecLimit={kept}, but no RealMemory=, which is 1 then"),
        },
        "Slurm keeps no memory from jobs (\"MemSpecLimit=... is invalid, reset to 0\"): jobs that fill a node's memory leave none for the system",
        format!("{place}: RealMemory= as `slurmd -C` prints it, and a smaller MemSpecLimit="),
    );
}

/// GPUs whose local CPUs no job can have.
fn check_gpus(world: &World<'_>, evidence: &str, kept: &CpuSet, report: &mut DoctorReport) {
    let gpus = world.machine.gpus.iter();
    let lost = gpus.filter(|gpu| {
        let near = gpu.locality.near_cpus();
        near.is_some_and(|cpus| cpus.is_subset(kept))
    });
    let lost: Vec<&Gpu> = lost.collect();
    if lost.is_empty() {
        return;
    }
    if world.machine.online.is_subset(kept) {
        report.find(
            "reserved-cpus",
            Harm::StopsJobs,
            format!("{evidence}, which are all that there are"),
            "no job runs here (\"Requested node configuration is not available\")",
            "CpuSpecList= with some cores of each socket, none of them all of a GPU's NUMA node",
        );
        return;
    }
    let place = place_of_tasks(world.machine, kept, &lost);
    report.find(
        "reserved-cpus",
        Harm::StopsBinding,
        format!(
            "{evidence}, which are all that are near {}",
            names_of(world.machine, &lost)
        ),
        format!("no job has a CPU near these GPUs: {place}, and strict policies refuse them"),
        "CpuSpecList= with some cores of each socket, none of them all of a GPU's NUMA node",
    );
}

fn names_of(machine: &Machine, gpus: &[&Gpu]) -> String {
    let names = gpus.iter().map(|gpu| gpu_name(machine, gpu.pci));
    names.collect::<Vec<String>>().join(", ")
}

/// Where the tasks with `gpus` run, near which no CPU is left: a socket of several NUMA nodes may have CPUs on another of them.
fn place_of_tasks(machine: &Machine, kept: &CpuSet, gpus: &[&Gpu]) -> String {
    let free = machine.online.difference(kept);
    let has_own_socket = |gpu: &&Gpu| {
        let near = gpu.locality.near_cpus();
        let mut packages = machine.packages.iter();
        packages.any(|own| {
            own.cpus.intersects(&free) && near.is_some_and(|near| own.cpus.intersects(near))
        })
    };
    let (beside, across): (Vec<&Gpu>, Vec<&Gpu>) = gpus.iter().copied().partition(has_own_socket);
    let on_socket = "on another NUMA node of the same socket at best";
    let over_link = "on the other side of the socket link";
    match (beside.is_empty(), across.is_empty()) {
        (_, true) => format!("its tasks run {on_socket}"),
        (true, false) => format!("its tasks run {over_link}"),
        (false, false) => format!(
            "its tasks run {on_socket} ({}) or {over_link} ({})",
            names_of(machine, &beside),
            names_of(machine, &across)
        ),
    }
}

/// CPUs between which the kernel does not move threads, where jobs get them.
fn check_isolated(world: &World<'_>, isolated: &CpuSet, kept: &CpuSet, report: &mut DoctorReport) {
    let near = world
        .machine
        .gpus
        .iter()
        .filter_map(|gpu| gpu.locality.cpus.as_ref());
    let touched = near.fold(CpuSet::new(), |mut all, cpus| {
        all.extend_with(&cpus.intersection(isolated));
        all
    });
    if touched.is_empty() {
        return;
    }
    let all = isolated.union(kept);
    let gpus = world.machine.gpus.iter();
    let lost = gpus.filter(|gpu| {
        let near = gpu.locality.cpus.as_ref();
        near.is_some_and(|cpus| cpus.is_subset(&all) && cpus.intersects(isolated))
    });
    let lost: Vec<&Gpu> = lost.collect();
    let beside = if kept.is_empty() {
        ""
    } else {
        " but those that the node's line keeps from jobs"
    };
    let (harm, alone) = if lost.is_empty() {
        (Harm::SlowsJobs, String::new())
    } else {
        let names = names_of(world.machine, &lost);
        let alone = format!("; no others are near {names}{beside}");
        (Harm::WeakensBinding, alone)
    };
    report.find(
        "reserved-cpus",
        harm,
        format!(
            "/sys/devices/system/cpu/isolated: CPUs {touched} near GPUs are isolated (isolcpus){alone}"
        ),
        "the kernel does not move threads between isolated CPUs: the threads of a task that is bound to several of them all run on \
         one",
        if leaves_some(world.machine, isolated, kept) {
            "the kernel's command line: remove isolcpus for these CPUs; or keep them from jobs with CpuSpecList= on the node's line"
        } else {
            "the kernel's command line: remove isolcpus for these CPUs"
        },
    );
}

/// Whether each GPU near isolated CPUs has a CPU near it once jobs get none of their cores: CpuSpecList= takes whole ones
/// ([`CoreMap::reserved_by_list`]).
fn leaves_some(machine: &Machine, isolated: &CpuSet, kept: &CpuSet) -> bool {
    let mut taken = isolated.union(kept);
    for core in machine
        .cores
        .iter()
        .filter(|core| core.intersects(isolated))
    {
        taken.extend_with(core);
    }
    let near = machine
        .gpus
        .iter()
        .filter_map(|gpu| gpu.locality.near_cpus());
    near.filter(|cpus| cpus.intersects(isolated))
        .all(|cpus| !cpus.is_subset(&taken))
}
