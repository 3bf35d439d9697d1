//! gres.conf against the machine: each GPU's device file and its cores.

use slurm_config::config::Line;
use slurm_config::cores::{CoreMap, CoreSet};
use slurm_config::hostlist;
use topology::machine::{Gpu, Machine};
use topology::set::{CpuSet, NodeSet};

use super::report::{Harm, Report};
use super::slurm::Slurm;
use super::{World, gres_lines};

/// Device files of one host at most.
pub(super) const MAX_FILES: usize = 256;

pub(crate) fn check(world: &World<'_>, report: &mut Report) {
    let Some(slurm) = &world.slurm else { return };
    // Without our node's line nothing tells which lines are for this host; said by `node`.
    let Some(node) = &slurm.node else { return };
    let machine = world.machine;
    if machine.gpus.is_empty() || node.gres_count("gpu").is_none() {
        return;
    }
    let path = slurm.beside("gres.conf");
    let Some(lines) = &slurm.gres else {
        report.find(
            "gres-conf",
            Harm::StopsBinding,
            format!("{path}: not there, but the node's line has Gres=gpu"),
            "slurmd knows no device file of a GPU: nothing is fenced and CUDA_VISIBLE_DEVICES is not set",
            format!(
                "{path}: AutoDetect={}, or the lines of `gpu-numa gres-conf`",
                detection_of(world.machine)
            ),
        );
        return;
    };
    let ours: Vec<&Line> = lines
        .iter()
        .filter(|line| {
            line.get("nodename")
                .is_none_or(|list| hostlist::contains(list, &node.name))
        })
        .collect();
    let detect = ours
        .iter()
        .rev()
        .find_map(|line| Some((line.get("autodetect")?, *line)));
    let detects = detect.map(|(value, _)| value).is_some_and(|value| {
        !["off", "none", ""]
            .iter()
            .any(|off| value.eq_ignore_ascii_case(off))
    });
    let of_gpus: Vec<&Line> = ours
        .into_iter()
        .filter(|line| {
            line.get("name")
                .is_some_and(|name| name.eq_ignore_ascii_case("gpu"))
        })
        .collect();
    if of_gpus.is_empty() && !detects {
        report.find(
            "gres-conf",
            Harm::StopsBinding,
            format!("{path}: no Name=gpu line and no AutoDetect for {}", node.name),
            "slurmd knows no device file of a GPU: nothing is fenced and CUDA_VISIBLE_DEVICES is not set",
            format!(
                "{path}: AutoDetect={}, or the lines of `gpu-numa gres-conf`",
                detection_of(world.machine)
            ),
        );
        return;
    }
    let map = if slurm.overrides_machine() {
        None
    } else {
        CoreMap::new(machine, slurm.socket_kind())
    };
    gres_lines::check_keys(lines, report);
    if let Some((value, line)) = detect {
        gres_lines::check_detection(world, slurm, value, line, report);
    }
    gres_lines::check_counts(world, node, &of_gpus, detects, report);
    gres_lines::check_order(world.machine, &of_gpus, detects, report);
    let coreless: Vec<Coreless> = of_gpus
        .into_iter()
        .filter_map(|line| check_line(world, slurm, line, map.as_ref(), detects, report))
        .collect();
    report_coreless(&coreless, report);
}

/// A line without `Cores=` that should have it.
struct Coreless {
    place: String,
    files: String,
    change: String,
}

/// One finding for all of them.
fn report_coreless(lines: &[Coreless], report: &mut Report) {
    if lines.is_empty() {
        return;
    }
    let join = |part: &dyn Fn(&Coreless) -> &str, between: &str| {
        let parts: Vec<&str> = lines.iter().map(part).collect();
        parts.join(between)
    };
    report.find(
        "gres-cores",
        Harm::SlowsJobs,
        format!(
            "{}: no Cores= for {}",
            join(&|line| &line.place, ", "),
            join(&|line| &line.files, ", ")
        ),
        "Slurm does not know which cores are near the GPU and gives jobs any; --gres-flags=enforce-binding does nothing",
        join(&|line| &line.change, "; "),
    );
}

/// Looks a line over; gives it back where it lacks `Cores=`.
fn check_line(
    world: &World<'_>,
    slurm: &Slurm,
    line: &Line,
    map: Option<&CoreMap>,
    detects: bool,
    report: &mut Report,
) -> Option<Coreless> {
    let machine = world.machine;
    let files = line
        .get("file")
        .map(|list| hostlist::expand(list, MAX_FILES))
        .unwrap_or_default();
    let mut gpus = Vec::new();
    for file in &files {
        let Some(minor) = minor_of(machine, file) else {
            report.skip(format!("{}: {file}: which GPU that is", line.place()));
            continue;
        };
        match by_minor(machine, minor) {
            Some(gpu) => gpus.push((file.clone(), gpu)),
            None if knows_minors(machine) || is_beyond(machine, minor) => report.find(
                "gres-file",
                Harm::StopsJobs,
                line.quote("File"),
                format!("the host has no {file}: slurmd does not start, or the node is drained"),
                format!("{}: take {file} out", line.place()),
            ),
            None => report.skip(format!("{}: {file}: which GPU that is", line.place())),
        }
    }
    if !knows_minors(machine) && !gpus.is_empty() {
        report.skip(format!(
            "device numbers: driver not loaded; assuming that {} and on follow PCI order",
            machine.launch_vendor().device_path(0)
        ));
    }
    let cores = line.get("cores").or_else(|| line.get("cpus"));
    let Some(cores) = cores else {
        // Of a GPU that nobody can place there is nothing to write.
        let is_known = gpus.iter().any(|(_, gpu)| gpu.locality.cpus.is_some());
        let counts = !detects && is_known && machine.cpu_nodes().len() > 1;
        return counts.then(|| Coreless {
            place: line.place(),
            files: line.get("file").unwrap_or_default().to_owned(),
            change: proposal(line, map, &gpus, slurm),
        });
    };
    let map = map?;
    match cores.parse::<CoreSet>() {
        Ok(cores) => check_cores(machine, slurm, line, map, &cores, &gpus, detects, report),
        Err(error) => report.find(
            "gres-cores",
            Harm::StopsBinding,
            line.quote("Cores"),
            format!("slurmd refuses the file: {error}"),
            proposal(line, Some(map), &gpus, slurm),
        ),
    }
    None
}

/// One line's cores against the GPUs that it is for.
#[allow(
    clippy::too_many_arguments,
    reason = "a line, what it is held against, and where to say so"
)]
fn check_cores(
    machine: &Machine,
    slurm: &Slurm,
    line: &Line,
    map: &CoreMap,
    cores: &CoreSet,
    gpus: &[(String, &Gpu)],
    detects: bool,
    report: &mut Report,
) {
    let change = proposal(line, Some(map), gpus, slurm);
    let total = u32::try_from(map.cores()).unwrap_or(u32::MAX);
    let evidence = line.quote(if line.get("cores").is_some() {
        "Cores"
    } else {
        "CPUs"
    });
    if cores.last().is_some_and(|last| last >= total) {
        let hint = if map.threads_per_core() > 1 {
            "; Cores= counts cores, not CPUs"
        } else {
            ""
        };
        report.find(
            "gres-cores",
            Harm::StopsBinding,
            format!(
                "{evidence}, but the host has cores 0-{}{hint}",
                total.saturating_sub(1)
            ),
            "slurmd refuses the line, or the GPU gets cores that are not near it",
            change,
        );
        return;
    }
    if detects && differs_from_detected(map, cores, gpus) {
        report.find(
            "gres-autodetect",
            Harm::StopsJobs,
            format!("{evidence}, beside AutoDetect, which finds others"),
            "slurmd leaves out a GPU whose line differs from what it finds, and the node is drained for lack of it",
            format!("{}: take Cores= out", line.place()),
        );
        return;
    }
    for (file, gpu) in gpus {
        let (Some(local), Some(nodes)) = (&gpu.locality.cpus, &gpu.locality.numa_nodes) else {
            report.skip(format!(
                "{}: Cores= of {file}: nobody says where GPU {} is",
                line.place(),
                gpu.pci
            ));
            continue;
        };
        let Some(problem) = misplaced(machine, map, cores, local) else {
            continue;
        };
        report.find(
            "gres-cores",
            Harm::StopsBinding,
            format!(
                "{evidence}, {problem}; {file} is GPU {} on node {nodes}, CPUs {local}",
                gpu.pci
            ),
            "Slurm gives this GPU's jobs cores on the wrong side of the socket link",
            change.clone(),
        );
        return;
    }
    check_borders(slurm, line, map, cores, &change, report);
}

/// Whether cores are others than AutoDetect will find for one of the GPUs whose place is known.
fn differs_from_detected(map: &CoreMap, cores: &CoreSet, gpus: &[(String, &Gpu)]) -> bool {
    gpus.iter().any(|(_, gpu)| {
        let local = gpu.locality.cpus.as_ref().map(|cpus| map.cores_of(cpus));
        local.is_some_and(|local| *cores != local && *cores != map.whole_sockets(&local))
    })
}

/// What is wrong with cores for a GPU whose CPUs are `local`; sockets that hold one of those are right.
fn misplaced(machine: &Machine, map: &CoreMap, cores: &CoreSet, local: &CpuSet) -> Option<String> {
    let named = map.cpus_of(cores);
    let legal = map.cpus_of(&map.whole_sockets(&map.cores_of(local)));
    if !named.intersects(local) {
        Some(format!(
            "which is CPUs {named} of node {}",
            machine.nodes_of(&named)
        ))
    } else if !named.is_subset(&legal) {
        Some(format!(
            "which takes in CPUs {} of other sockets",
            named.difference(&legal)
        ))
    } else {
        None
    }
}

/// Releases from 24.11.7 refuse cores that are no whole sockets.
fn check_borders(
    slurm: &Slurm,
    line: &Line,
    map: &CoreMap,
    cores: &CoreSet,
    change: &str,
    report: &mut Report,
) {
    if map.whole_sockets(cores) == *cores {
        return;
    }
    match slurm.release.and_then(slurm_config::release::Release::wants_whole_sockets) {
        Some(true) => report.find(
            "gres-cores",
            Harm::StopsBinding,
            format!(
                "{}, which is no whole socket ({} cores each)",
                line.quote("Cores"),
                map.cores_per_socket()
            ),
            "Slurm 24.11.7 and later drain the node (\"GRES core specification doesn't match socket boundaries\")",
            change,
        ),
        Some(false) => {}
        None => report.skip(format!(
            "{}: Cores={cores} is no whole socket, which Slurm 24.11.7 and later refuse; which Slurm this is is not known (--slurm-release)",
            line.place()
        )),
    }
}

/// What the line should say.
fn proposal(line: &Line, map: Option<&CoreMap>, gpus: &[(String, &Gpu)], slurm: &Slurm) -> String {
    let localities: Vec<Option<&CpuSet>> = gpus
        .iter()
        .map(|(_, gpu)| gpu.locality.cpus.as_ref())
        .collect();
    let same = localities
        .windows(2)
        .all(|pair| pair.first() == pair.last());
    let nodes: Option<&NodeSet> = gpus
        .first()
        .and_then(|(_, gpu)| gpu.locality.numa_nodes.as_ref());
    match (map, localities.first().copied().flatten(), same) {
        (Some(map), Some(local), true) => {
            let cores = map.cores_of(local);
            let whole = slurm
                .release
                .and_then(slurm_config::release::Release::wants_whole_sockets);
            let cores = if whole == Some(false) {
                cores
            } else {
                map.whole_sockets(&cores)
            };
            let node = nodes.map_or_else(String::new, |nodes| format!("   (node {nodes})"));
            format!("{}: Cores={cores}{node}", line.place())
        }
        _ => format!(
            "{}: a line a GPU, as `gpu-numa gres-conf` prints them",
            line.place()
        ),
    }
}

/// The word of `AutoDetect=` that finds the machine's GPUs in every release of Slurm.
pub(super) fn detection_of(machine: &Machine) -> &'static str {
    let maker = machine.gpus.first().and_then(Gpu::maker);
    let words = maker.unwrap_or(machine.launch_vendor()).autodetect;
    words.first().copied().unwrap_or("off")
}

/// The number in a device file's name.
pub(super) fn minor_of(machine: &Machine, file: &str) -> Option<u32> {
    machine.launch_vendor().device_number(file)
}

pub(super) fn knows_minors(machine: &Machine) -> bool {
    machine.gpus.iter().any(|gpu| gpu.minor.is_some())
}

/// Whether the driver, which counts from 0 at boot, has no such number.
fn is_beyond(machine: &Machine, minor: u32) -> bool {
    let numbered = machine.gpus.iter().filter(|gpu| gpu.is_bound_at_launch());
    usize::try_from(minor).is_ok_and(|minor| minor >= numbered.count())
}

/// The GPU of a device file's number: as the driver numbers them, else in PCI order.
pub(super) fn by_minor(machine: &Machine, minor: u32) -> Option<&Gpu> {
    if knows_minors(machine) {
        return machine.gpus.iter().find(|gpu| gpu.minor == Some(minor));
    }
    machine.gpus.get(usize::try_from(minor).ok()?)
}
