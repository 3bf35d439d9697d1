//! gres.conf against the node's line and the machine: keys, AutoDetect, device files, counts, types and order.

use std::collections::BTreeSet;

use slurm_config::config::Line;
use slurm_config::gres::{GresLine, LineFault, NodeGres, fault_of, first_out_of_order, is_off};
use slurm_config::mig::is_mig_type;
use slurm_config::node::Node;
use slurm_config::registration::{Fatal, Registration, is_part_of, type_of_name};
use slurm_config::rules::{self, Series};
use topology::machine::{Gpu, Machine};
use topology::pci::PciAddress;
use topology::vendor::{GpuVendor, ListRules};
use topology::visible::runtime_order;

use super::detection::{Obstacle, library_of, obstacle};
use super::devices::{self, Beside, DeviceFile};
use super::forecast;
use super::gres_cores::{self, CutLines};
use super::gres_flags;
use super::keys;
use super::mig;
use super::report::{DoctorReport, Harm};
use super::slurm::Slurm;
use super::world::World;
use crate::hardware::gpu_name;
use crate::hardware::model;

/// What follows where slurmd knows no device file (`_find_fileless_gres`, interfaces/gres.c).
const NO_DEVICE_FILE: &str = "slurmd leaves out GPUs without a device file, and slurmctld drains the node (\"gres/gpu count reported lower \
                              than configured\")";

/// What to do where no method of AutoDetect that every release has finds all GPUs.
const LINES_ALONE: &str = "AutoDetect=off and the lines that `gpu-numa gres-conf` prints";

/// Checks gres.conf; returns the lines whose cores this Slurm does not take, which are for `sockets` to report.
pub(super) fn check(world: &World<'_>, report: &mut DoctorReport) -> Option<CutLines> {
    let slurm = world.slurm.as_ref()?;
    // Without this node's line it is not known which lines are for this host; `node` says so.
    let node = slurm.node.as_ref()?;
    if world.machine.gpus.is_empty() || node.gres_count("gpu").is_none() {
        return None;
    }
    let path = slurm.beside("gres.conf");
    let Some(lines) = &slurm.gres else {
        report_none(
            world,
            format!("{path}: no such file, but the node's line has Gres=gpu"),
            &path,
            report,
        );
        return None;
    };
    let gres = NodeGres::of(lines, &node.name, "gpu");
    if gres.lines.is_empty() && !gres.detects() {
        report_none(
            world,
            format!(
                "{path}: no Name=gpu line and no AutoDetect for {}",
                node.name
            ),
            &path,
            report,
        );
        return None;
    }
    check_keys(lines, report);
    gres_flags::check(world, node, &gres, report);
    check_detection(world, slurm, &gres, report);
    check_cloud(world, node, &gres, report);
    check_names(world, &gres, report);
    for line in &gres.lines {
        check_files(world, &gres, line, report);
    }
    check_missing(world, &gres, report);
    mig::check(world, slurm, &gres, report);
    check_ignored(&gres, report);
    check_lines(world, node, &gres, report);
    if gres.detects() {
        check_detected_types(world, node, &gres, report);
        check_detected_order(world.machine, &gres, report);
    } else {
        check_count(world, node, &gres, report);
        check_types(world, node, &gres, report);
        check_order(world.machine, &gres, report);
    }
    check_numbers(world, node, &gres, report);
    gres_cores::check(world, slurm, &gres, report)
}

fn report_none(world: &World<'_>, evidence: String, path: &str, report: &mut DoctorReport) {
    report.find(
        "gres-conf",
        Harm::StopsJobs,
        evidence,
        NO_DEVICE_FILE,
        format!("{path}: {}", detection_or_lines(world.machine)),
    );
}

/// Whether the GPUs are of several vendors, of which every method of AutoDetect but `full` finds one's.
fn is_of_several_vendors(machine: &Machine) -> bool {
    let makers = machine.gpus.iter().filter_map(Gpu::maker);
    let ids: BTreeSet<u16> = makers.map(|maker| maker.id).collect();
    ids.len() > 1
}

/// How slurmd gets to know the GPUs.
fn detection_or_lines(machine: &Machine) -> String {
    if is_of_several_vendors(machine) {
        return LINES_ALONE.to_owned();
    }
    format!(
        "AutoDetect={}{}",
        devices::autodetect_of(machine),
        or_lines(machine)
    )
}

/// The other way than AutoDetect, where `gres-conf` prints lines for this vendor's GPUs.
fn or_lines(machine: &Machine) -> &'static str {
    let mut makers = machine.gpus.iter().filter_map(Gpu::maker);
    if makers.any(|maker| maker.is_bound_at_launch) {
        ", or the lines that `gpu-numa gres-conf` prints"
    } else {
        ""
    }
}

/// Lines that slurmctld passes over, where it drains the node.
fn check_names(world: &World<'_>, gres: &NodeGres<'_>, report: &mut DoctorReport) {
    if forecast::is_accepted(world) {
        return;
    }
    for name in ["gpu", "shard", "mps"] {
        let mut lines = gres.every.iter().filter(|line| line.is_misspelt(name));
        let Some(first) = lines.next() else {
            continue;
        };
        let others: Vec<String> = lines.map(|line| line.line.place()).collect();
        let others = if others.is_empty() {
            String::new()
        } else {
            format!(" (and {})", others.join(", "))
        };
        report.find(
            "gres-key",
            Harm::StopsJobs,
            format!("{}{others}: the GRES is called {name}", first.line.quote("Name")),
            "slurmctld compares names letter by letter and passes over what the line declares (\"duplicate plugin ID\"): it finds too few and \
             drains the node",
            format!("{}{others}: Name={name}", first.line.place()),
        );
    }
}

/// What slurmd cannot read, on any host's line.
fn check_keys(lines: &[Line], report: &mut DoctorReport) {
    let faults = lines
        .iter()
        .filter_map(|line| Some((fault_of(line)?, line.place())));
    for (fault, place) in faults {
        let change = match &fault {
            LineFault::UnknownKey(_) => format!(
                "{place}: expected Name=, Type=, File=, MultipleFiles=, Cores=, Count=, Links=, Flags= or AutoDetect=, behind NodeName= if any"
            ),
            LineFault::Stray(_) => keys::without_blank(&place),
            LineFault::First(_) => {
                format!("{place}: Name=gpu first, or NodeName= and then Name=gpu")
            }
            LineFault::NodeNameBehind(_) => format!("{place}: NodeName= first"),
            LineFault::AfterAutoDetect => format!("{place}: AutoDetect= on a line of its own"),
        };
        report.find(
            "gres-key",
            Harm::StopsJobs,
            format!("{place}: {fault}"),
            "slurmd stops at a line that it cannot read, and the node is down",
            change,
        );
    }
}

/// Whether AutoDetect can find these GPUs on this host.
fn check_detection(
    world: &World<'_>,
    slurm: &Slurm,
    gres: &NodeGres<'_>,
    report: &mut DoctorReport,
) {
    let Some((value, line)) = gres.autodetect.filter(|(value, _)| !is_off(value)) else {
        return;
    };
    let known = world.release.map_or_else(
        || rules::first_with_autodetect(value),
        |release| Some(Series::of(release)),
    );
    let method = known.and_then(|series| series.autodetect_of(value));
    let missed = method.and_then(|method| missed_by(world.machine, method));
    let problem = match (method, missed) {
        (None, _) => match rules::first_with_autodetect(value) {
            Some(first) => format!("Slurm has from {} on", first.release()),
            None => format!(
                "Slurm does not know; expected {} or off",
                Series::newest().autodetect.join(", ")
            ),
        },
        (Some(_), Some(vendor)) => format!("does not find {vendor}'s GPUs"),
        (Some(method), None) => {
            let release = world.release.unwrap_or_else(|| Series::newest().release());
            if let Some(own) = obstacle(world, slurm, method, release) {
                report_obstacle(world, line, method, &own, report);
            }
            return;
        }
    };
    report.find(
        "gres-autodetect",
        Harm::StopsJobs,
        format!("{}, which {problem}", line.quote("AutoDetect")),
        "slurmd finds no GPU or does not start, and the node is drained",
        format!("{}: {}", line.place(), detection_or_lines(world.machine)),
    );
}

fn report_obstacle(
    world: &World<'_>,
    line: &Line,
    method: &str,
    own: &Obstacle,
    report: &mut DoctorReport,
) {
    let (problem, change) = match own {
        Obstacle::NoPlugin(folder) => (
            format!(
                "needs gpu_{method}.so, which is missing in {folder}: this Slurm was built without {}",
                library_of(method).unwrap_or_default()
            ),
            format!("install Slurm's plugin gpu_{method}.so"),
        ),
        Obstacle::OtherName(found, name) => (
            format!("looks for {name}, and the host has {found} alone"),
            format!("a link {name} beside {found}"),
        ),
    };
    let (harm, effect) = if forecast::is_accepted(world) {
        (
            Harm::StopsBinding,
            "slurmd finds no GPU and goes by the lines of gres.conf alone",
        )
    } else {
        (
            Harm::StopsJobs,
            "slurmd finds no GPU or does not start, and the node is drained",
        )
    };
    report.find(
        "gres-autodetect",
        harm,
        format!("{}, which {problem}", line.quote("AutoDetect")),
        effect,
        if is_of_several_vendors(world.machine) {
            format!("{}: {LINES_ALONE}", line.place())
        } else {
            format!("{}: {change}{}", line.place(), or_lines(world.machine))
        },
    );
}

/// The vendor of the machine's GPUs where a method of AutoDetect finds none of them.
fn missed_by(machine: &Machine, method: &str) -> Option<&'static str> {
    let mut makers = machine.gpus.iter().filter_map(Gpu::maker);
    let first = makers.clone().next()?;
    let is_found =
        rules::tries_every_method(method) || makers.any(|maker| maker.autodetect.contains(&method));
    (!is_found).then_some(first.name)
}

/// A line's device files: whether there are any, whether the host has them, and whether `Count=` agrees.
fn check_files(
    world: &World<'_>,
    gres: &NodeGres<'_>,
    line: &GresLine<'_>,
    report: &mut DoctorReport,
) {
    let machine = world.machine;
    let place = line.line.place();
    let files = line.files();
    if files.is_empty() && !line.is_of_several_files() && !gres.detects() {
        report.find(
            "gres-file",
            Harm::StopsJobs,
            format!("{place}: a line for GPUs without File="),
            NO_DEVICE_FILE,
            format!("{place}: File=/dev/nvidia0 and so on, as `gpu-numa gres-conf` prints it"),
        );
    }
    if let Some(count) = line.count()
        && !files.is_empty()
        && count != files.len() as u64
    {
        report.find(
            "gres-count",
            Harm::StopsJobs,
            format!("{place}: Count={count}, but File= names {}", files.len()),
            "slurmd refuses the line",
            format!("{place}: Count={}, or no Count=", files.len()),
        );
    }
    let mut by_order = None;
    let mut missing: Vec<String> = Vec::new();
    // There, and nothing behind them.
    let mut idle: Vec<&str> = Vec::new();
    let mut beside: Vec<(&str, Beside)> = Vec::new();
    for file in &files {
        // `check_missing` says of these that they are not there.
        if world.has_device_file(file) == Some(false) {
            continue;
        }
        let found = devices::of_file(machine, file);
        if found == DeviceFile::Unknown
            && let Some(own) = devices::beside(machine, file)
        {
            beside.push((file.as_str(), own));
            continue;
        }
        match found {
            DeviceFile::Gpu(gpu) => {
                by_order = by_order.or(gpu.minor.is_none().then_some(gpu));
                check_driver(world, line, file, gpu, report);
            }
            DeviceFile::Missing if world.has_device_file(file).is_some() => {
                idle.push(file.as_str());
            }
            DeviceFile::Missing => missing.push(file.clone()),
            DeviceFile::Unknown if forecast::is_pattern(file) => missing.push(file.clone()),
            DeviceFile::Unknown => report.skip(format!("{place}: which GPU {file} is")),
        }
    }
    if !missing.is_empty() {
        report_missing(world, gres, line, &missing, report);
    }
    if !idle.is_empty() {
        let names = idle.join(", ");
        report.find(
            "gres-file",
            Harm::StopsBinding,
            line.line.quote("File"),
            format!("no GPU is behind {names}: Slurm counts one for each, and a task that is given it sees none"),
            format!("{place}: the files of the GPUs, as `gpu-numa gres-conf` prints them, and as many in Gres="),
        );
    }
    report_beside(line, &beside, report);
    if let Some(gpu) = by_order {
        report.skip(format!(
            "device numbers: {}",
            devices::assumption(machine, gpu)
        ));
    }
}

/// One finding for each kind of file on a line that is no GPU's own.
///
/// Slurm denies a job the files of all lines but those of what it was given, and leaves every other file open
/// (`gres_g_get_devices`, interfaces/gres.c; `task_cgroup_devices.c`, the same from 22.05 on).
fn report_beside(line: &GresLine<'_>, files: &[(&str, Beside)], report: &mut DoctorReport) {
    let place = line.line.place();
    let mut kinds: Vec<Beside> = Vec::new();
    for (_, kind) in files {
        if !kinds.contains(kind) {
            kinds.push(*kind);
        }
    }
    for kind in kinds {
        let own = files.iter().filter(|(_, own)| *own == kind);
        let names = own.map(|(file, _)| *file).collect::<Vec<_>>().join(", ");
        let (Beside::Shared(maker) | Beside::Display(maker)) = kind;
        let effect = match kind {
            Beside::Shared(_) => format!(
                "{names} is one file for all of {}'s GPUs: Slurm counts a GPU for it, and where devices are fenced a job that is \
                 not given it sees no GPU at all",
                maker.name
            ),
            Beside::Display(_) => format!(
                "programs that compute do not open {names} but /{}* of {}'s GPUs, which Slurm does not fence then: every job can \
                 open every GPU, and with ConstrainDevices=yes Slurm numbers each job's from 0, so all use the first",
                maker.device_file, maker.name
            ),
        };
        report.find(
            "gres-file",
            Harm::StopsBinding,
            line.line.quote("File"),
            effect,
            format!(
                "{place}: File={} and so on, as `gpu-numa gres-conf` prints them",
                maker.device_path(maker.first_number)
            ),
        );
    }
}

/// One finding for the device files of a line that the host does not have.
fn report_missing(
    world: &World<'_>,
    gres: &NodeGres<'_>,
    line: &GresLine<'_>,
    missing: &[String],
    report: &mut DoctorReport,
) {
    let (names, place) = (missing.join(", "), line.line.place());
    let mut files = missing.iter();
    let is_of_gpu =
        files.any(|file| matches!(devices::of_file(world.machine, file), DeviceFile::Gpu(_)));
    // The driver numbers no GPU that it does not have: which of them a file was of is not known.
    let is_lost = |gpu: &&Gpu| world.is_left_by_driver(gpu) || world.other_driver(gpu).is_some();
    let is_its = |gpu: &&Gpu| {
        let number = |file: &String| gpu.maker()?.device_number(file);
        missing.iter().all(|file| number(file).is_some())
    };
    let gpus = world.machine.gpus.iter();
    let lost: Vec<&Gpu> = gpus.filter(is_lost).filter(is_its).collect();
    let is_of_lost = !is_of_gpu && !lost.is_empty() && missing.len() <= lost.len();
    // A part of a GPU is no part without one of its files.
    let (key, change) = if line.is_of_several_files() {
        let change = "all files of a part that is there (for MIG /proc/driver/nvidia-caps/mig-minors has the numbers), or no such line";
        ("MultipleFiles", format!("{place}: {change}"))
    } else if is_of_gpu {
        // The line may be of many nodes, and this one's GPU is there.
        let made = how_files_are_made(world.machine);
        (
            "File",
            format!(
                "{made}; only if the GPU is broken, a line of this node's own without {names}, and as many in its Gres= (now {place})"
            ),
        )
    } else if is_of_lost {
        let lost: Vec<String> = lost
            .iter()
            .map(|gpu| gpu_name(world.machine, gpu.pci))
            .collect();
        let change = format!(
            "give the driver back {}; until then a line of this node's own without {names}, and as many in its Gres= (now {place})",
            lost.join(", ")
        );
        ("File", change)
    } else {
        let written: Option<Vec<String>> = missing
            .iter()
            .map(|file| devices::in_brackets(file))
            .collect();
        // Without them the line would have none, and a GPU that no other line names no device.
        let is_whole = line.files().iter().all(|file| missing.contains(file));
        let change = match written {
            Some(files) => format!("{place}: File={}", files.join(",")),
            None if is_whole && !unnamed_files(world, gres).is_empty() => {
                format!("{place}: the files of the GPUs, as `gpu-numa gres-conf` prints them")
            }
            None => format!("{place}: remove {names}"),
        };
        ("File", change)
    };
    let evidence = line.line.quote(key);
    let effect = format!(
        "the host has no {names}: slurmd waits 20 seconds for a file and does not start (\"can't stat gres.conf file\")"
    );
    if is_of_gpu || is_of_lost {
        report.find_of_gpu("gres-file", evidence, effect, change);
    } else {
        report.find("gres-file", Harm::StopsJobs, evidence, effect, change);
    }
}

/// What makes the device files of GPUs that have none.
fn how_files_are_made(machine: &Machine) -> String {
    match devices::modules_of(machine).as_deref() {
        Some("nvidia") => "is the GPUs' driver loaded? load it before slurmd starts (modprobe nvidia; nvidia-modprobe -c 0 or \
                           nvidia-persistenced makes the files)"
            .to_owned(),
        Some(module) => format!("is the GPUs' driver loaded? load it before slurmd starts (modprobe {module})"),
        None => "is the GPUs' driver loaded? load it before slurmd starts".to_owned(),
    }
}

/// Device files that `/dev` does not have; where it has none at all, the driver may not be loaded.
fn check_missing(world: &World<'_>, gres: &NodeGres<'_>, report: &mut DoctorReport) {
    let lines = gres.lines.iter();
    let named: Vec<(String, &GresLine<'_>)> = lines
        .flat_map(|line| {
            let all = line.files().into_iter().chain(line.several_files());
            all.map(move |file| (file, line))
        })
        .collect();
    let is_gone = |file: &str| world.has_device_file(file) == Some(false);
    if named.is_empty() || named.iter().all(|(file, _)| !is_gone(file)) {
        return;
    }
    if named.iter().all(|(file, _)| is_gone(file)) && !devices::knows_some(world.machine) {
        let mut places: Vec<String> = named.iter().map(|(_, line)| line.line.place()).collect();
        places.dedup();
        let mut files: Vec<&str> = named.iter().map(|(file, _)| file.as_str()).collect();
        files.dedup();
        let evidence = format!("{}: {}: no such file", places.join(", "), files.join(", "));
        let effect =
            "slurmd waits 20 seconds for a file and does not start (\"can't stat gres.conf file\")";
        let change = how_files_are_made(world.machine);
        // Where no GPU is on the bus either, the lines may be another host's.
        if world.machine.gpus.is_empty() {
            report.find("gres-file", Harm::StopsJobs, evidence, effect, change);
        } else {
            report.find_of_gpu("gres-file", evidence, effect, change);
        }
        return;
    }
    for line in &gres.lines {
        let all = line.files().into_iter().chain(line.several_files());
        let missing: Vec<String> = all.filter(|file| is_gone(file)).collect();
        if !missing.is_empty() {
            report_missing(world, gres, line, &missing, report);
        }
    }
}

/// A GPU that another kernel driver has, which programs cannot use.
fn check_driver(
    world: &World<'_>,
    line: &GresLine<'_>,
    file: &str,
    gpu: &Gpu,
    report: &mut DoctorReport,
) {
    if let Some(driver) = world.other_driver(gpu) {
        let place = line.line.place();
        report.find_of_gpu(
            "gres-file",
            format!(
                "{place}: {file} is {}, which the kernel driver {driver} has",
                gpu_name(world.machine, gpu.pci)
            ),
            "no program can use this GPU, and jobs that get it fail",
            format!("{place}: remove {file}, or give the GPU back to its vendor's driver"),
        );
    }
}

/// AutoDetect for a node that slurmctld must know before it has started; it reads the same gres.conf, or has none of its own.
fn check_cloud(world: &World<'_>, node: &Node, gres: &NodeGres<'_>, report: &mut DoctorReport) {
    if !node.is_cloud() {
        return;
    }
    let Some((_, line)) = gres.autodetect.filter(|_| gres.detects()) else {
        report.skip(format!(
            "{}: NodeName={} has State=CLOUD: whether slurmctld's own gres.conf has the lines for it; without them slurmctld drains a node \
             that it starts for a job (\"gres/gpu count changed and jobs are using them\")",
            node.line.place(),
            node.name
        ));
        return;
    };
    let (harm, effect) = match world.release {
        Some(release) if rules::stops_at_detection_of_clouds(release) => (
            Harm::StopsJobs,
            "slurmctld reads gres.conf for such a node, cannot detect there, and does not start (\"Cannot use AutoDetect on cloud node\"): \
             no job of the cluster runs"
                .to_owned(),
        ),
        release => (
            Harm::StopsBinding,
            format!(
                "slurmctld reads gres.conf for such a node before it starts, and cannot detect there (\"Cannot use AutoDetect on \
                 cloud/dynamic node\"): until the node has registered it does not know which cores are near its GPUs{}",
                match release {
                    Some(_) => String::new(),
                    None => format!(
                        ", and before {} it does not start",
                        rules::DETECTION_OF_CLOUDS
                    ),
                }
            ),
        ),
    };
    report.find(
        "gres-autodetect",
        harm,
        format!(
            "{}, but NodeName={} has State=CLOUD",
            line.quote("AutoDetect"),
            node.name
        ),
        effect,
        format!(
            "{}: NodeName={} AutoDetect=off, and the lines that `gpu-numa gres-conf` prints on such a node",
            line.place(),
            node.name
        ),
    );
}

/// AutoDetect= where slurmd does not look for it.
fn check_ignored(gres: &NodeGres<'_>, report: &mut DoctorReport) {
    for line in &gres.ignored {
        let value = line.get("autodetect").unwrap_or_default();
        report.find(
            "gres-autodetect",
            Harm::StopsBinding,
            format!("{} behind Name=", line.quote("AutoDetect")),
            "slurmd ignores it (\"In-line AutoDetect requires NodeName to take effect\")",
            format!("{}: AutoDetect={value} on a line of its own", line.place()),
        );
    }
}

/// What slurmd refuses in the lines together, such as two without File= and Type=.
fn check_lines(world: &World<'_>, node: &Node, gres: &NodeGres<'_>, report: &mut DoctorReport) {
    let series = world.release.map_or_else(Series::newest, Series::of);
    let shared = world.slurm.as_ref().map(forecast::shared_by);
    let shared = shared.unwrap_or_default();
    let Err(fatal) = Registration::of(gres, node, None, series, &shared) else {
        return;
    };
    let join = |lines: &[GresLine<'_>]| {
        let places: Vec<String> = lines.iter().map(|line| line.line.place()).collect();
        places.join(", ")
    };
    let places = join(&gres.lines);
    let gpus = node.gres_count("gpu").unwrap_or_default();
    let (check, evidence, change) = match &fatal {
        // `check_files` says so.
        Fatal::Count { .. } => return,
        // What AutoDetect finds may be shared.
        Fatal::SharedAlone { .. } if gres.detects() => return,
        Fatal::MixedGres => (
            "gres-type",
            format!("{}: {fatal}", node.line.place()),
            format!(
                "{}: a type for each GPU of Gres=, or for none",
                node.line.place()
            ),
        ),
        Fatal::Duplicate if gres.detects() => (
            "gres-conf",
            format!("{places}: {fatal}"),
            format!("{places}: remove these lines; AutoDetect needs none"),
        ),
        Fatal::Duplicate
        | Fatal::SomeFiles
        | Fatal::SomeTypes
        | Fatal::BothFiles
        | Fatal::OneOfSeveral => (
            "gres-conf",
            format!("{places}: {fatal}"),
            format!("one line for each of {gpus} GPUs, as `gpu-numa gres-conf` prints them"),
        ),
        Fatal::NoCount { .. } => (
            "gres-count",
            format!("{}: {fatal}", join(&gres.every)),
            "Count= with a number, or no Count= where File= is given".to_owned(),
        ),
        Fatal::Detections => {
            let place = gres.conflict.map(Line::place).unwrap_or_default();
            (
                "gres-autodetect",
                format!("{place}: {fatal}"),
                format!("{place}: remove one of them"),
            )
        }
        Fatal::Flags { .. } | Fatal::FlagsAndNone => (
            "gres-conf",
            format!("{}: {fatal}", join(&gres.every)),
            "the same Flags= on every line of a GRES, or on its first line alone".to_owned(),
        ),
        Fatal::SameFile { file } => (
            "gres-file",
            format!("{places}: {fatal}"),
            change_of_same_file(world, gres, file),
        ),
        Fatal::SharedLines { name }
        | Fatal::SharedShort { name, .. }
        | Fatal::SharedAlone { name } => (
            "gres-count",
            format!("{}: {fatal}", node.line.place()),
            format!(
                "gres.conf: one line Name={name} with the Count= of the node's line, beside lines that give the GPUs' files \
                 (`gpu-numa gres-conf --shards` prints such lines)"
            ),
        ),
    };
    report.find(
        check,
        Harm::StopsJobs,
        evidence,
        "slurmd does not start, and the node is down",
        change,
    );
}

/// The device files of GPUs that no line names.
fn unnamed_files(world: &World<'_>, gres: &NodeGres<'_>) -> Vec<String> {
    let named: Vec<String> = gres.lines.iter().flat_map(GresLine::files).collect();
    let all = world
        .given()
        .filter_map(|gpu| devices::file_of(world.machine, gpu));
    all.filter(|own| !named.contains(own)).collect()
}

/// What to write instead of a device file that is given twice: without it the node may have too few GPUs.
fn change_of_same_file(world: &World<'_>, gres: &NodeGres<'_>, file: &str) -> String {
    let unnamed = unnamed_files(world, gres);
    let having = gres
        .lines
        .iter()
        .filter(|line| line.files().iter().any(|own| own == file));
    let mut places: Vec<String> = having.map(|line| line.line.place()).collect();
    places.dedup();
    let places = places.join(", ");
    match unnamed.as_slice() {
        [] => format!("{places}: remove {file} from one of them"),
        [other] => {
            format!("{places}: {other}, which no line names, instead of {file} in one of them")
        }
        others => format!(
            "{places}: one of {}, which no line names, instead of {file} in one of them",
            others.join(", ")
        ),
    }
}

/// Types that are no part of any name that AutoDetect finds.
fn check_detected_types(
    world: &World<'_>,
    node: &Node,
    gres: &NodeGres<'_>,
    report: &mut DoctorReport,
) {
    let names: Vec<Option<String>> = world
        .given()
        .map(|gpu| gpu.name.as_deref().map(type_of_name))
        .collect();
    let lines = gres.lines.iter().filter_map(|line| {
        let kind = line.kind()?.to_owned();
        Some((kind, line.line.quote("Type")))
    });
    let items = node.gres("gpu").into_iter().filter_map(|(kind, _)| {
        let kind = kind?;
        let place = format!("{}: Gres=gpu:{kind}", node.line.place());
        Some((kind, place))
    });
    for (kind, evidence) in lines.chain(items) {
        // A MIG profile is in the name of an instance, not in the card's.
        if is_mig_type(&kind) {
            continue;
        }
        let known: Vec<&String> = names.iter().flatten().collect();
        if known.iter().any(|name| is_part_of(&kind, name)) {
            continue;
        }
        if known.len() < names.len() {
            report.skip(format!(
                "{evidence}: the names of the GPUs are not recorded"
            ));
            continue;
        }
        let mut found: Vec<&str> = known.iter().map(|name| name.as_str()).collect();
        found.dedup();
        // A GPU with a file of its own is kept beside those that were found (`_merge_system_gres_conf`).
        let mut own = gres
            .lines
            .iter()
            .filter(|line| line.kind() == Some(kind.as_str()));
        let is_kept = own.any(|line| !line.files().is_empty());
        let (harm, effect) = if is_kept {
            (
                Harm::SlowsJobs,
                "slurmd keeps the GPUs of the line without the cores and links that it detects, so Slurm does not know which cores \
                 are near them",
            )
        } else {
            (
                Harm::StopsJobs,
                "slurmd leaves the GPUs out whose type it does not find, and slurmctld drains the node",
            )
        };
        report.find(
            "gres-type",
            harm,
            format!("{evidence} is no part of {}, which AutoDetect finds", found.join(", ")),
            effect,
            "a type that is a part of the name, such as the one that `gpu-numa gres-conf` prints, in gres.conf and in Gres=",
        );
    }
}

/// Numbers that may name another GPU than the job was given, and how to do without them.
fn check_numbers(world: &World<'_>, node: &Node, gres: &NodeGres<'_>, report: &mut DoctorReport) {
    let has = world
        .release
        .is_some_and(|release| Series::of(release).has_env_uuid);
    let Some((_, line)) = gres.autodetect.filter(|_| has && gres.detects()) else {
        return;
    };
    let models: BTreeSet<String> = world.given().map(model).collect();
    let is_set = gres.lines.iter().any(|own| own.has_flag("env_uuid"));
    if models.len() < 2 || is_set {
        return;
    }
    report.find(
        "gres-order",
        Harm::WeakensBinding,
        format!("{}: GPUs of {} models, given to jobs by number", line.place(), models.len()),
        "CUDA numbers GPUs by speed unless CUDA_DEVICE_ORDER=PCI_BUS_ID is set, and Slurm by PCI address: where devices are not \
         fenced, CUDA_VISIBLE_DEVICES names another GPU than the job was given",
        format!("{}, which puts UUIDs in CUDA_VISIBLE_DEVICES", uuid_lines(node, gres, &line.file)),
    );
}

/// Where `Flags=env_uuid` goes: on the lines that there are, for slurmd takes no line without a file or a type beside
/// lines with one, else on a line for each type of the node's `Gres=`.
fn uuid_lines(node: &Node, gres: &NodeGres<'_>, file: &str) -> String {
    if !gres.lines.is_empty() {
        let places: Vec<String> = gres.lines.iter().map(|line| line.line.place()).collect();
        return format!("{}: Flags=env_uuid", places.join(", "));
    }
    let kinds = node.gres("gpu").into_iter().filter_map(|(kind, _)| kind);
    let lines: Vec<String> = kinds
        .map(|kind| format!("Name=gpu Type={kind} Flags=env_uuid"))
        .collect();
    if lines.is_empty() {
        format!("{file}: Name=gpu Flags=env_uuid")
    } else {
        format!("{file}: {}", lines.join(" and "))
    }
}

/// How many GPUs the lines declare, against the node's `Gres=`.
fn check_count(world: &World<'_>, node: &Node, gres: &NodeGres<'_>, report: &mut DoctorReport) {
    let wanted = node.gres_count("gpu").unwrap_or(0);
    let there = world.given_count() as u64;
    let declared = forecast::gpus_of_lines(world, gres);
    if declared < wanted && (wanted <= there || node.counts_mig("gpu")) {
        report.find(
            "gres-count",
            Harm::StopsJobs,
            format!(
                "{}: Gres= declares {wanted} GPUs, gres.conf has {declared}",
                node.line.place()
            ),
            "slurmctld drains the node (\"gres/gpu count reported lower than configured\")",
            "gres.conf and the node's Gres=: what `gpu-numa gres-conf` prints",
        );
    }
}

/// Types that the node's line declares and no line of gres.conf has, letter by letter.
fn check_types(world: &World<'_>, node: &Node, gres: &NodeGres<'_>, report: &mut DoctorReport) {
    // A number that stands before the type is none of its own for slurmctld.
    if forecast::is_accepted(world) && node.restricted_cores_per_gpu().is_none() {
        return;
    }
    let known: Vec<&str> = gres.lines.iter().filter_map(GresLine::kind).collect();
    let declared = node.gres("gpu");
    for kind in declared.iter().filter_map(|(kind, _)| kind.as_deref()) {
        if gres.lines.is_empty() || known.contains(&kind) {
            continue;
        }
        let mut shown = known.clone();
        shown.dedup();
        let evidence = if known.is_empty() {
            format!(
                "{}: Gres=gpu:{kind}, but gres.conf's lines have no Type=",
                node.line.place()
            )
        } else {
            format!(
                "{}: Gres=gpu:{kind}, but gres.conf has Type={}",
                node.line.place(),
                shown.join(", Type=")
            )
        };
        report.find(
            "gres-type",
            Harm::StopsJobs,
            evidence,
            "slurmctld finds too few GPUs of that type on the node and drains it; types are compared letter by letter",
            format!("{}: the same type in both files, or in neither", node.line.place()),
        );
    }
}

/// The order in which AutoDetect finds GPUs against the one in which the vendor's runtime counts.
///
/// Slurm keeps that of the library that it asks (gpu_rsmi.c, `_get_system_gpu_list_rsmi`; gres_gpu.c, `_sort_gpu_by_links_order`), and
/// ROCm SMI sorts by PCI address (rocm_smi_main.cc, `DiscoverAmdgpuDevices`), while ROCm counts as KFD lists them.
fn check_detected_order(machine: &Machine, gres: &NodeGres<'_>, report: &mut DoctorReport) {
    let Some((_, line)) = gres.autodetect else {
        return;
    };
    for vendor in machine.launch_vendors() {
        let counted = runtime_order(machine, vendor)
            .into_iter()
            .map(|gpu| gpu.pci);
        let found = machine.gpus.iter().filter(|gpu| gpu.vendor == vendor.id);
        let mut pairs = found.map(|gpu| gpu.pci).zip(counted);
        let Some((number, (found, counted))) =
            pairs.by_ref().enumerate().find(|(_, (a, b))| a != b)
        else {
            continue;
        };
        report.find(
            "gres-order",
            Harm::WeakensBinding,
            format!(
                "{}: AutoDetect numbers GPUs by PCI address, so {found} is GPU {number}, and KFD's topology has {counted} there",
                line.place()
            ),
            "ROCm counts in the order of KFD's topology: where devices are not fenced, ROCR_VISIBLE_DEVICES names another GPU than \
             the job was given",
            LINES_ALONE.to_owned(),
        );
    }
}

/// Device files against the order in which the vendor's runtime counts: PCI addresses for CUDA under PCI_BUS_ID, KFD's
/// topology for ROCm.
fn check_order(machine: &Machine, gres: &NodeGres<'_>, report: &mut DoctorReport) {
    for vendor in machine.launch_vendors() {
        check_order_of(machine, vendor, gres, report);
    }
}

fn check_order_of(
    machine: &Machine,
    vendor: &'static GpuVendor,
    gres: &NodeGres<'_>,
    report: &mut DoctorReport,
) {
    if !devices::knows_minors(machine, vendor.id) {
        return;
    }
    let order = runtime_order(machine, vendor);
    let place_of = |pci: PciAddress| order.iter().position(|gpu| gpu.pci == pci);
    let gpus: Vec<(String, PciAddress, String)> = gres
        .lines
        .iter()
        .flat_map(|line| {
            let found = devices::of_line(machine, line).into_iter();
            let own = found.filter(|(_, gpu)| gpu.vendor == vendor.id);
            own.map(|(file, gpu)| (file, gpu.pci, line.line.place()))
        })
        .collect();
    let places: Vec<usize> = gpus
        .iter()
        .filter_map(|(_, pci, _)| place_of(*pci))
        .collect();
    let wrong = first_out_of_order(&places);
    let pair = wrong.and_then(|(before, after)| Some((gpus.get(before)?, gpus.get(after)?)));
    if let Some((before, after)) = pair {
        report.find(
            "gres-order",
            Harm::WeakensBinding,
            format!(
                "{}: {} ({}) comes before {} ({})",
                before.2, before.0, before.1, after.0, after.1
            ),
            match vendor.variables.list {
                ListRules::Cuda | ListRules::LevelZero => {
                    "Slurm numbers GPUs in the order of these lines and CUDA in PCI order: where devices are not fenced, \
                     CUDA_VISIBLE_DEVICES names another GPU than the job was given"
                }
                ListRules::Rocr => {
                    "Slurm numbers GPUs in the order of these lines and ROCm in that of KFD's topology: where devices are not \
                     fenced, ROCR_VISIBLE_DEVICES names another GPU than the job was given"
                }
            },
            match vendor.variables.list {
                ListRules::Cuda | ListRules::LevelZero => {
                    "gres.conf: the lines in PCI order, as `gpu-numa gres-conf` prints them"
                }
                ListRules::Rocr => {
                    "gres.conf: the lines in the order in which `gpu-numa gres-conf` prints them"
                }
            },
        );
    }
}
