//! slurm.conf's line for this host against the machine.

use slurm_config::config::has_word;
use slurm_config::cores::{CoreMap, SocketKind};
use slurm_config::node::Node;

use super::World;
use super::report::{Harm, Report};
use super::slurm::Slurm;

pub(crate) fn check(world: &World<'_>, report: &mut Report) {
    let Some(slurm) = &world.slurm else { return };
    let Some(node) = &slurm.node else {
        let host = world
            .machine
            .hostname
            .as_deref()
            .unwrap_or("this host, whose name is not known");
        report.skip(format!(
            "the node line and gres.conf: {} has no NodeName line for {host}",
            slurm.path
        ));
        return;
    };
    check_gres(world, slurm, node, report);
    check_memory(world, node, report);
    if slurm.overrides_machine() {
        report.skip("sockets and cores: SlurmdParameters=config_overrides has Slurm believe its configuration");
        return;
    }
    let Some(map) = CoreMap::new(world.machine, slurm.socket_kind()) else {
        report.skip("sockets and cores: the machine's sockets are not alike, so Slurm's core numbers cannot be told");
        return;
    };
    check_geometry(slurm, node, &map, report);
    check_socket_borders(world, slurm, report);
}

/// Whether the GPUs can be asked for at all.
fn check_gres(world: &World<'_>, slurm: &Slurm, node: &Node, report: &mut Report) {
    let there = world.machine.gpus.len();
    if there == 0 {
        return;
    }
    let types = slurm.value("grestypes");
    if !types.is_some_and(|(value, _)| has_word(value, "gpu")) {
        report.find(
            "gres-types",
            Harm::StopsJobs,
            types.map_or_else(
                || {
                    format!(
                        "{}: no GresTypes, but the host has {there} GPUs",
                        slurm.path
                    )
                },
                |(_, line)| line.quote("GresTypes"),
            ),
            "no job can ask for a GPU, so no task has one to be bound to",
            format!("{}: GresTypes=gpu", slurm.path),
        );
    }
    match node.gres_count("gpu") {
        None => report.find(
            "gres-count",
            Harm::StopsJobs,
            format!(
                "{}: NodeName={} has no Gres=gpu, but the host has {there} GPUs",
                node.line.place(),
                node.name
            ),
            "no job can ask for a GPU here, so no task has one to be bound to",
            format!("{}: add Gres=gpu:{there}", node.line.place()),
        ),
        Some(count)
            if count > there as u64 && world.machine.gpus.iter().all(|gpu| gpu.mig.is_empty()) =>
        {
            report.find(
                "gres-count",
                Harm::StopsJobs,
                format!(
                    "{}: NodeName={} declares {count} GPUs, the host has {there}",
                    node.line.place(),
                    node.name
                ),
                "slurmctld drains the node (\"gres/gpu count reported lower than configured\")",
                format!("{}: Gres=gpu:{there}", node.line.place()),
            );
        }
        Some(count)
            if count < there as u64 && world.machine.gpus.iter().all(|gpu| gpu.mig.is_empty()) =>
        {
            report.find(
                "gres-count",
                Harm::SlowsJobs,
                format!(
                    "{}: NodeName={} declares {}, the host has {there}",
                    node.line.place(),
                    node.name,
                    topology::quantity::count(usize::try_from(count).unwrap_or(usize::MAX), "GPU")
                ),
                "the GPUs beyond are never given to a job",
                format!("{}: Gres=gpu:{there}", node.line.place()),
            );
        }
        Some(_) => {}
    }
}

fn check_geometry(slurm: &Slurm, node: &Node, map: &CoreMap, report: &mut Report) {
    let given = node.geometry();
    let is = [
        ("Sockets", given.sockets, map.sockets()),
        (
            "CoresPerSocket",
            given.cores_per_socket,
            map.cores_per_socket(),
        ),
        (
            "ThreadsPerCore",
            given.threads_per_core,
            map.threads_per_core(),
        ),
    ];
    let fits = format!(
        "Sockets={} CoresPerSocket={} ThreadsPerCore={}",
        map.sockets(),
        map.cores_per_socket(),
        map.threads_per_core()
    );
    let change = format!("{}: {fits}", node.line.place());
    let wrong: Vec<String> = is
        .iter()
        .filter_map(|(key, given, real)| {
            let given = (*given)?;
            (given != *real as u64).then(|| format!("{key}={given} (the machine has {real})"))
        })
        .collect();
    if !wrong.is_empty() {
        report.find(
            "node-line",
            Harm::StopsBinding,
            format!("{}: NodeName={}: {}", node.line.place(), node.name, wrong.join(", ")),
            "Slurm counts cores and draws sockets otherwise than the machine: it drains the node where \
             it has fewer, and gives jobs cores on the wrong side of the socket link",
            change,
        );
    } else if given.sockets.is_none() && given.cores_per_socket.is_none() && map.sockets() > 1 {
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
            "Slurm takes every CPU for a socket of its own, so it knows no cores near a GPU",
            change,
        );
    }
    check_cpus(slurm, node, map, report);
}

/// `RealMemory=` (in MiB) against what the kernel has to give.
fn check_memory(world: &World<'_>, node: &Node, report: &mut Report) {
    let mut nodes = world
        .machine
        .numa_nodes
        .iter()
        .map(|node| node.memory_bytes);
    let bytes = nodes.try_fold(0, |sum: u64, bytes| Some(sum.saturating_add(bytes?)));
    let given = node.whole.get("realmemory");
    let given = given.and_then(|value| value.parse::<u64>().ok());
    let (Some(bytes), Some(given)) = (bytes.filter(|bytes| *bytes > 0), given) else {
        return;
    };
    let there = bytes >> 20;
    if given > there {
        report.find(
            "node-line",
            Harm::StopsJobs,
            format!(
                "{}: NodeName={}: RealMemory={given} (the machine has {there})",
                node.line.place(),
                node.name
            ),
            "slurmctld drains the node (\"Low RealMemory\")",
            format!("{}: RealMemory={there}, or less", node.line.place()),
        );
    }
}

/// `CPUs=`, which may count threads or cores.
fn check_cpus(slurm: &Slurm, node: &Node, map: &CoreMap, report: &mut Report) {
    let cpus = map.cores() * map.threads_per_core();
    if let Some(given) = node.geometry().cpus
        && given != cpus as u64
        && given != map.cores() as u64
    {
        report.find(
            "node-line",
            Harm::StopsBinding,
            format!(
                "{}: NodeName={}: CPUs={given} (the machine has {cpus}, or {} cores)",
                node.line.place(),
                node.name,
                map.cores()
            ),
            "slurmd and slurmctld disagree on how many CPUs there are; the node is drained where it has fewer",
            format!("{}: CPUs={cpus}", slurm.path),
        );
    }
}

/// NUMA nodes smaller than a package, which Slurm does not see as long as a package is its socket.
fn check_socket_borders(world: &World<'_>, slurm: &Slurm, report: &mut Report) {
    let machine = world.machine;
    let cpu_nodes = machine.cpu_nodes();
    let split = machine.packages.iter().find(|package| {
        let nodes = package.numa_nodes.intersection(&cpu_nodes);
        nodes.len() > 1
            && machine.gpus.iter().any(|gpu| {
                let own = gpu.locality.numa_nodes.as_ref();
                own.is_some_and(|own| own.intersects(&nodes) && !nodes.is_subset(own))
            })
    });
    let (Some(package), SocketKind::Package) = (split, slurm.socket_kind()) else {
        return;
    };
    let Some(map) = CoreMap::new(machine, SocketKind::NumaNode) else {
        return;
    };
    let given = slurm.value("slurmdparameters");
    let parameters = given.map_or_else(String::new, |(value, _)| format!("{value},"));
    report.find(
        "numa-node-as-socket",
        Harm::SlowsJobs,
        format!(
            "package {} is {} NUMA nodes ({}), and {}",
            package.id,
            package.numa_nodes.len(),
            package.numa_nodes,
            given.map_or_else(
                || format!("{} has no SlurmdParameters=numa_node_as_socket", slurm.path),
                |(_, line)| line.quote("SlurmdParameters"),
            )
        ),
        "Slurm chooses cores by package: it gives a job cores of the right socket and the wrong NUMA node, \
         and gres.conf cannot say better",
        format!(
            "{}: SlurmdParameters={parameters}numa_node_as_socket, and on the node's line Sockets={} CoresPerSocket={} \
             ThreadsPerCore={} (`gpu-numa gres-conf --numa-node-as-socket` prints both)",
            slurm.path,
            map.sockets(),
            map.cores_per_socket(),
            map.threads_per_core()
        ),
    );
}
