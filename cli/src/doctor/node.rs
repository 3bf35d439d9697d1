//! slurm.conf's line for this host against the machine.

use std::collections::BTreeSet;

use slurm_config::cores::{Counts, SocketKind};
use slurm_config::gres::{GresLine, NodeGres};
use slurm_config::keys::of_node_line;
use slurm_config::node::{Node, real_memory_to_write};
use slurm_config::parameters::{unknown_words, word_of};
use slurm_config::rules::{COUNTS_THE_MACHINES_THREADS, counts_the_machines_threads};

use super::forecast;
use super::kinds;
use super::report::{DoctorReport, Harm};
use super::slurm::Slurm;
use super::world::World;
use crate::hardware::gpu_name;

pub(crate) fn check(world: &World<'_>, report: &mut DoctorReport) {
    let Some(slurm) = &world.slurm else { return };
    let Some(node) = &slurm.node else {
        report_no_line(world, slurm, report);
        return;
    };
    check_twice(slurm, report);
    check_gres_conf(node, report);
    check_parameters(slurm, node, report);
    check_gres(world, slurm, node, report);
    if world.parameters().overrides_machine() {
        report.skip(
            "sockets, cores and memory: with SlurmdParameters=config_overrides Slurm believes its configuration, not the machine",
        );
        return;
    }
    check_memory(world, node, report);
    check_disk(world, node, report);
    let Some(counts) = world.counts(world.release) else {
        return;
    };
    if world.map_of(world.release).is_none() {
        report.skip("core numbers: the machine's sockets differ, so which cores Slurm's numbers are is unknown");
    }
    check_geometry(world, slurm, node, counts, report);
}

/// That no line is the host's; a host without GPUs, such as a login host, needs none.
fn report_no_line(world: &World<'_>, slurm: &Slurm, report: &mut DoctorReport) {
    let host = world.machine.hostname.as_deref();
    if let Some(host) = host.filter(|_| !world.machine.gpus.is_empty() && !slurm.is_running) {
        let name = slurm.options.node_name().map_or_else(
            || format!("a NodeName line for {host}"),
            |name| format!("a NodeName line for {name}, which slurmd is told with -N"),
        );
        report.find(
            "node-line",
            Harm::StopsJobs,
            format!("{}: no NodeName= names {}", slurm.path, slurm.options.node_name().unwrap_or(host)),
            "slurmd does not start here (\"Unable to determine this slurmd's NodeName\"), and no job runs on these GPUs",
            format!("{}: {name}, as `gpu-numa gres-conf` prints it, or slurmd -Z for a dynamic node", slurm.path),
        );
    }
    report.skip(format!(
        "the node line and gres.conf: {} has no NodeName line for {}",
        slurm.path,
        host.unwrap_or("this host, whose name is unknown")
    ));
}

/// A node that two lines name, whichever it is.
fn check_twice(slurm: &Slurm, report: &mut DoctorReport) {
    let Some((evidence, name, line)) = slurm.named_twice() else {
        return;
    };
    report.find(
        "node-line",
        Harm::StopsJobs,
        evidence,
        "slurmctld and slurmd do not start (\"Duplicated NodeHostName\")",
        format!(
            "{}: without {name}, or the earlier line without it",
            line.place()
        ),
    );
}

/// `GresConf=` on a line of slurm.conf (`_parse_nodename`, common/read_config.c; `create_dynamic_nodes`,
/// slurmctld/node_mgr.c, 25.11 on).
fn check_gres_conf(node: &Node, report: &mut DoctorReport) {
    if node.line.get("gresconf").is_none() || node.is_dynamic() {
        return;
    }
    report.find(
        "node-line",
        Harm::StopsBinding,
        node.line.quote("GresConf"),
        "Slurm reads GresConf= where scontrol creates a cloud node, and takes nothing from it on a line of slurm.conf",
        "what it says as lines of gres.conf",
    );
}

/// Words for slurmd that it does not look for; it says nothing of them.
fn check_parameters(slurm: &Slurm, node: &Node, report: &mut DoctorReport) {
    let of_cluster = slurm.value("slurmdparameters");
    let of_node = node
        .whole
        .get("parameters")
        .map(|value| (value, &node.line));
    let given = [("SlurmdParameters", of_cluster), ("Parameters", of_node)];
    for (key, (value, line)) in given.into_iter().filter_map(|(key, own)| Some((key, own?))) {
        for (word, meant) in unknown_words(value) {
            let place = line.place();
            report.find(
                "slurmd-parameters",
                Harm::WeakensBinding,
                format!("{place}: {key}={value} has {word}"),
                "slurmd does not know the word and passes over it without a line in its log",
                match meant {
                    Some(meant) => format!("{place}: {meant} instead of {word}"),
                    None => format!("{place}: remove {word}"),
                },
            );
        }
    }
}

/// Whether the GPUs can be asked for at all.
fn check_gres(world: &World<'_>, slurm: &Slurm, node: &Node, report: &mut DoctorReport) {
    let there = world.given_count();
    let others = world.machine.gpus.iter().filter_map(|gpu| {
        let name = gpu_name(world.machine, gpu.pci);
        if world.is_left_by_driver(gpu) {
            return Some(format!("its driver does not have {name}"));
        }
        let driver = world.other_driver(gpu)?;
        Some(format!("{driver} has {name}"))
    });
    let others: Vec<String> = others.collect();
    let beside = if others.is_empty() {
        String::new()
    } else {
        format!(" that Slurm can give ({})", others.join(", "))
    };
    if there == 0 {
        return;
    }
    check_types(slurm, node, there, report);
    // Whatever their type is called, devices of several files are parts of GPUs.
    let lines = slurm.gres.as_deref().unwrap_or_default();
    let has_parts = NodeGres::of(lines, &node.name, "gpu")
        .lines
        .iter()
        .any(GresLine::is_of_several_files);
    let is_by_gpu = !has_parts
        && !node.counts_mig("gpu")
        && world.machine.gpus.iter().all(|gpu| gpu.mig.is_empty());
    match node.gres_count("gpu") {
        None => report.find(
            "gres-count",
            Harm::StopsJobs,
            format!(
                "{}: NodeName={} has no Gres=gpu, but the host has {there} GPUs",
                node.line.place(),
                node.name
            ),
            "no job can ask for a GPU here, so no task is bound to one",
            gres_change(world, node, there),
        ),
        Some(count) if is_by_gpu && count > there as u64 => {
            let evidence = format!(
                "{}: NodeName={} declares {count} GPUs, the host has {there}{beside}",
                node.line.place(),
                node.name
            );
            let effect =
                "slurmctld drains the node (\"gres/gpu count reported lower than configured\")";
            let change = gres_change(world, node, there);
            // What is missing is there and lost, not miscounted.
            if !others.is_empty() && count == (there + others.len()) as u64 {
                report.find_of_gpu("gres-count", evidence, effect, change);
            } else {
                report.find("gres-count", Harm::StopsJobs, evidence, effect, change);
            }
        }
        Some(count) if is_by_gpu && count < there as u64 => {
            let drains = forecast::detects_more(world);
            report.find(
                "gres-count",
                if drains {
                    Harm::StopsJobs
                } else {
                    Harm::SlowsJobs
                },
                format!(
                    "{}: NodeName={} declares {}, the host has {there}",
                    node.line.place(),
                    node.name,
                    topology::quantity::count(usize::try_from(count).unwrap_or(usize::MAX), "GPU")
                ),
                if drains {
                    "AutoDetect gives each GPU links to all that it finds, and slurmctld drains a node with links to more GPUs than \
                     its line has (\"Invalid GRES Links value\")"
                } else {
                    "the other GPUs are never given to a job"
                },
                gres_change(world, node, there),
            );
        }
        Some(_) => {}
    }
}

/// What of the host's GPUs and of the node's `Gres=` GresTypes does not name: slurmctld compares names as they are written, and leaves
/// out the others (`gres_name_filter`, interfaces/gres.c).
fn check_types(slurm: &Slurm, node: &Node, there: usize, report: &mut DoctorReport) {
    let types = slurm.value("grestypes");
    let value = types.map_or("", |(value, _)| value);
    let known = value.split(',').map(str::trim);
    let known: Vec<&str> = known.filter(|word| !word.is_empty()).collect();
    let items = node.gres_items();
    let names = items
        .iter()
        .filter_map(|item| item.split([':', '(']).next().filter(|name| *name != "gpu"));
    let mut missing: Vec<&str> = names.filter(|name| !known.contains(name)).collect();
    let mut seen = BTreeSet::new();
    missing.retain(|name| seen.insert(*name));
    let has_gpu = slurm.has_gpu_type();
    if has_gpu && missing.is_empty() {
        return;
    }
    // One that is there in another case is replaced.
    let is_replaced = |word: &str| {
        let mut new = std::iter::once(&"gpu").chain(&missing);
        new.any(|own| own.eq_ignore_ascii_case(word))
    };
    let mut all = vec!["gpu"];
    all.extend(known.iter().filter(|word| !is_replaced(word)));
    all.extend(&missing);
    let place = types.map_or_else(|| slurm.path.clone(), |(_, line)| line.place());
    let change = format!("{place}: GresTypes={}", all.join(","));
    if !has_gpu {
        let evidence = match types {
            Some((_, line)) => line.quote("GresTypes"),
            None => format!(
                "{}: no GresTypes, but the host has {there} GPUs",
                slurm.path
            ),
        };
        let effect = "no job can ask for a GPU, so no task is bound to one";
        report.find("gres-types", Harm::StopsJobs, evidence, effect, change);
        return;
    }
    let missing = missing.join(", ");
    report.find(
        "gres-types",
        Harm::StopsBinding,
        format!("{}: Gres= has {missing}, which GresTypes={value} does not name", node.line.place()),
        format!(
            "slurmctld leaves it out (\"Invalid GRES configured on node {}\"), and refuses jobs that ask for it",
            node.name
        ),
        change,
    );
}

/// `Gres=` with the GPUs that there are.
fn gres_change(world: &World<'_>, node: &Node, there: usize) -> String {
    let place = node.line.place();
    kinds::gres_value(world, node).map_or_else(
        || {
            format!(
                "{place}: Gres= with {} in all, of the types that there are (not recorded here)",
                topology::quantity::count(there, "GPU")
            )
        },
        |value| {
            // Advice is tried: the lines of gres.conf may be too few for it.
            let more = if forecast::accepts_gres(world, node, &value) {
                ""
            } else {
                ", and in gres.conf the lines that `gpu-numa gres-conf` prints"
            };
            format!("{place}: Gres={value}{more}")
        },
    )
}

/// What follows from a line that has more CPUs than the machine.
const TOO_FEW: (Harm, &str) = (
    Harm::StopsJobs,
    "the machine has fewer CPUs than the line says, and slurmctld drains the node (\"Low CPUs\")",
);

/// Whether the machine has fewer CPUs than the line says.
fn is_short(node: &Node, counts: Counts) -> bool {
    (counts.cpus as u64) < node.geometry().shape().cpus
}

fn check_geometry(
    world: &World<'_>,
    slurm: &Slurm,
    node: &Node,
    counts: Counts,
    report: &mut DoctorReport,
) {
    let given = node.geometry();
    let is = [
        ("Sockets", given.sockets, counts.sockets),
        (
            "CoresPerSocket",
            given.cores_per_socket,
            counts.cores_per_socket,
        ),
        (
            "ThreadsPerCore",
            given.threads_per_core,
            counts.threads_per_core,
        ),
    ];
    let fits = of_node_line(&node.pairs_of(
        counts.sockets,
        counts.cores_per_socket,
        counts.threads_per_core,
    ));
    let cpus = wrong_cpus(node, counts);
    let cpus_fit = cpus
        .as_ref()
        .map_or_else(String::new, |_| format!("CPUs={} ", counts.cpus));
    let change = format!("{}: {cpus_fit}{fits}", node.line.place());
    let wrong: Vec<String> = is
        .iter()
        .filter_map(|(key, given, real)| {
            let given = (*given)?;
            (given != *real as u64).then(|| format!("{key}={given} (the machine has {real})"))
        })
        .collect();
    let has_fewer = |threads: u64| threads < counts.threads_per_core as u64;
    let leaves_threads = wrong.len() == 1 && given.threads_per_core.is_some_and(has_fewer);
    if leaves_threads && cpus.is_none() && world.release.is_some_and(counts_the_machines_threads) {
        // Jobs get the first threads of each core, as whoever wrote it wants.
        return;
    }
    if !wrong.is_empty() && world.hwloc.is_none() && fits_nodes(world, node) {
        report.skip(format!(
            "{}: NodeName={}: {}: a Slurm that was built with hwloc 1 takes NUMA nodes for sockets, and with which it was built is not \
             recorded",
            node.line.place(),
            node.name,
            wrong.join(", ")
        ));
    } else if !wrong.is_empty() {
        // One mistake is one finding.
        let all: Vec<String> = cpus.into_iter().chain(wrong).collect();
        let (harm, effect) = if is_short(node, counts) {
            let (harm, effect) = TOO_FEW;
            (harm, effect.to_owned())
        } else if leaves_threads {
            let since = COUNTS_THE_MACHINES_THREADS;
            (
                Harm::StopsBinding,
                format!(
                    "Slurm before {since} gives jobs every thread of some cores and leaves other cores idle; from {since} on as many threads of \
                     each core as the line says"
                ),
            )
        } else {
            (
                Harm::StopsBinding,
                "Slurm's cores and sockets are not the machine's: it gives jobs cores on the wrong side of the socket link"
                    .to_owned(),
            )
        };
        report.find(
            "node-line",
            harm,
            format!(
                "{}: NodeName={}: {}",
                node.line.place(),
                node.name,
                all.join(", ")
            ),
            effect,
            change,
        );
        return;
    } else if node.takes_machines_shape() {
        check_counted_first(world, slurm, node, report);
    } else if given.sockets.is_none() && given.cores_per_socket.is_none() && counts.sockets > 1 {
        report.find(
            "node-line",
            Harm::StopsBinding,
            format!(
                "{}: NodeName={} names no sockets or cores{}",
                node.line.place(),
                node.name,
                given
                    .cpus
                    .map_or_else(String::new, |cpus| format!(", only CPUs={cpus}"))
            ),
            "Slurm takes each CPU for a socket, so it does not know which cores are near a GPU",
            change,
        );
    }
    check_cpus(slurm, node, counts, report);
}

/// Words that make something else a socket, for a node that registers itself and whose sockets slurmd has counted by then.
fn check_counted_first(world: &World<'_>, slurm: &Slurm, node: &Node, report: &mut DoctorReport) {
    let told = slurm.all_parameters(world.release).socket_kind();
    let Some((word, counts)) = word_of(told).zip(world.counts_with(told)) else {
        return;
    };
    if told == world.socket_kind() {
        return;
    }
    let shape = of_node_line(&node.pairs_of(
        counts.sockets,
        counts.cores_per_socket,
        counts.threads_per_core,
    ));
    report.find(
        "node-line",
        Harm::StopsBinding,
        format!("slurmd -Z is told {word}, and --conf names no sockets or cores"),
        "slurmd counts the machine before it looks at that: the node registers with its packages for sockets",
        format!("{}: {shape}, beside {word}", node.line.file),
    );
}

/// Whether a line's sockets and cores are those of the machine with NUMA nodes for sockets.
fn fits_nodes(world: &World<'_>, node: &Node) -> bool {
    let shape = node.geometry().shape();
    let map = world.core_map(SocketKind::NumaNode).map(|map| map.shape());
    let packages = world.machine.packages.len() as u64;
    map.is_some_and(|map| {
        map.sockets > packages
            && (map.sockets, map.cores_per_socket) == (shape.sockets, shape.cores_per_socket)
    })
}

/// `RealMemory=` (in MiB) against what slurmd will report.
fn check_memory(world: &World<'_>, node: &Node, report: &mut DoctorReport) {
    let Some(given) = node.real_memory_mib() else {
        return;
    };
    let Some(there) = world.real_memory_mib() else {
        report.skip(format!(
            "{}: RealMemory={given}: /proc/meminfo is not recorded",
            node.line.place()
        ));
        return;
    };
    if !world.takes_memory(given, there) {
        report.find(
            "node-line",
            Harm::StopsJobs,
            format!(
                "{}: NodeName={}: RealMemory={given} (the machine has {there})",
                node.line.place(),
                node.name
            ),
            "slurmctld drains the node (\"Low RealMemory\")",
            format!(
                "{}: RealMemory={}, which leaves room for the next kernel, or less",
                node.line.place(),
                real_memory_to_write(there)
            ),
        );
    }
}

/// `TmpDisk=` (in MiB) against what slurmd will report.
fn check_disk(world: &World<'_>, node: &Node, report: &mut DoctorReport) {
    let Some(given) = node.tmp_disk_mib() else {
        return;
    };
    let (path, place) = (world.tmp_fs(), node.line.place());
    let Some(there) = world.tmp_disk_mib() else {
        report.skip(format!(
            "{place}: TmpDisk={given}: the size of {path} is not recorded"
        ));
        return;
    };
    if given > there {
        report.find(
            "node-line",
            Harm::StopsJobs,
            format!(
                "{place}: NodeName={}: TmpDisk={given} ({path} has {there})",
                node.name
            ),
            "slurmctld drains the node (\"Low TmpDisk\")",
            format!("{place}: TmpDisk={there}, or less; or TmpFS= with the path of the disk that is meant"),
        );
    }
}

/// `CPUs=` where it counts neither the machine's threads nor its cores: `CPUs=32 (the machine has 16, or 8 cores)`.
fn wrong_cpus(node: &Node, counts: Counts) -> Option<String> {
    let given = node.geometry().cpus?;
    let cores = counts.sockets * counts.cores_per_socket;
    let is_wrong = given != counts.cpus as u64 && given != cores as u64;
    is_wrong.then(|| {
        format!(
            "CPUs={given} (the machine has {}, or {cores} cores)",
            counts.cpus
        )
    })
}

fn check_cpus(slurm: &Slurm, node: &Node, counts: Counts, report: &mut DoctorReport) {
    let Some(wrong) = wrong_cpus(node, counts) else {
        return;
    };
    let (harm, effect) = if is_short(node, counts) {
        TOO_FEW
    } else {
        (
            Harm::StopsBinding,
            "slurmd and slurmctld count different numbers of CPUs",
        )
    };
    report.find(
        "node-line",
        harm,
        format!("{}: NodeName={}: {wrong}", node.line.place(), node.name),
        effect,
        format!("{}: CPUs={}", slurm.path, counts.cpus),
    );
}
