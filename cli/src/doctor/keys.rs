//! What Slurm cannot read in slurm.conf and cgroup.conf: includes, keys, values, and names of plugins.

use slurm_config::cluster::ClusterFault;
use slurm_config::config::Line;
use slurm_config::demands::{Breach, Need, Stops, Wanted};
use slurm_config::keys::{ConfFile, KeyFault, fault_of};
use slurm_config::plugins::{self, Names, Unknown};
use slurm_config::release::Release;

use super::foretold::ForecastOutcome;
use super::needs;
use super::report::{DoctorReport, Harm};
use super::slurm::Slurm;
use super::world::World;

/// Lines that Slurm cannot read are reported up to here: its daemons stop at the first, and a reader well before this one.
const MOST_FAULTY_LINES: usize = 255;

pub(crate) fn check(world: &World<'_>, report: &mut DoctorReport) {
    let Some(slurm) = &world.slurm else { return };
    check_includes(slurm, report);
    let mut faulty = lines(slurm).filter_map(|(file, line)| {
        let fault = fault_of(line, file, world.release)?;
        Some((file, line, fault))
    });
    for (file, line, fault) in faulty.by_ref().take(MOST_FAULTY_LINES) {
        report_line(file, line, &fault, report);
    }
    if let Some((_, line, _)) = faulty.next() {
        report.skip(format!(
            "{} and the lines after it: {MOST_FAULTY_LINES} lines before them are wrong",
            line.place()
        ));
    }
    check_command_line(slurm, world.release, report);
    let names = names_of_plugins(slurm, world.release);
    for unknown in &names.unknown {
        report_plugin(unknown, report);
    }
    let needs = slurm.needs(world.release);
    for open in needs::open(slurm, &needs, &names.unseen) {
        report.skip(open);
    }
    if let Some(open) = needs::open_topology(slurm, world.release, &needs) {
        report.skip(open);
    }
    for need in needs::missing(slurm, needs) {
        report_need(&need, report);
    }
    for breach in slurm.breaches(world.release) {
        report_breach(&breach, report);
    }
    for fault in slurm.cluster_faults(world.release) {
        report_cluster(&fault, world.release, report);
    }
    if slurm.is_excerpt() {
        report.skip(format!(
            "{}: it has no SlurmctldHost=, without which no daemon of Slurm starts: taken for a part of the file",
            slurm.path
        ));
    }
}

/// The lines that are checked by the same rules, with their files.
fn lines(slurm: &Slurm) -> impl Iterator<Item = (ConfFile, &Line)> {
    let cgroup = slurm.cgroup.iter().flatten();
    let slurm = slurm.conf.iter().map(|line| (ConfFile::Slurm, line));
    slurm.chain(cgroup.map(|line| (ConfFile::Cgroup, line)))
}

/// What is wrong with the words by which a node registers itself (`_create_nodes`, slurmd/slurmd.c: those of a NodeName line).
fn fault_of_itself(slurm: &Slurm, release: Option<Release>) -> Option<(Line, KeyFault)> {
    let node = slurm.node.as_ref().filter(|node| node.is_dynamic())?;
    let line = node.words();
    let fault = fault_of(&line, ConfFile::Slurm, release)?;
    Some((line, fault))
}

/// slurmd's own command line: its options, and the words of a node that registers itself.
fn check_command_line(slurm: &Slurm, release: Option<Release>, report: &mut DoctorReport) {
    let unknown = release.and_then(|release| Some((slurm.options.unknown_to(release)?, release)));
    if let Some(((option, since), release)) = unknown {
        report.find(
            "slurmd-options",
            Harm::StopsJobs,
            format!("slurmd is started with --{option}, an option from {since} on"),
            format!("slurmd of {release} prints how it is called and does not start, and the node is down"),
            format!("slurmd without --{option} while it is of this Slurm"),
        );
    }
    if let Some((line, fault)) = fault_of_itself(slurm, release) {
        report.find(
            "node-line",
            Harm::StopsJobs,
            format!("{}: {fault}", line.file),
            "slurmd does not start (\"failed to create dynamic node\"), and the node is down",
            change_of(&line.file, &fault),
        );
    }
}

/// The first thing at which slurmd of `release` stops before it has read what it is to register, or slurmctld before it can be
/// asked; None where they read all.
pub(super) fn stop(slurm: &Slurm, release: Release) -> Option<(ForecastOutcome, String)> {
    let stops_slurmd = |why: String| (ForecastOutcome::NoStart, why);
    if let Some(own) = slurm.unincluded.first() {
        return Some(stops_slurmd(own.to_string()));
    }
    if let Some((option, since)) = slurm.options.unknown_to(release) {
        return Some(stops_slurmd(format!(
            "--{option} is an option of slurmd from {since} on"
        )));
    }
    let fault = lines(slurm).find_map(|(file, line)| {
        let fault = fault_of(line, file, Some(release))?;
        Some(stops_slurmd(format!("{}: {fault}", line.place())))
    });
    let of_itself = || {
        let (line, fault) = fault_of_itself(slurm, Some(release))?;
        Some(stops_slurmd(format!("{}: {fault}", line.place())))
    };
    let stop = fault.or_else(of_itself).or_else(|| {
        let mut unknown = names_of_plugins(slurm, Some(release)).unknown;
        unknown.sort_by_key(|own| own.stops == Stops::Slurmctld);
        let mut unknown = unknown.iter();
        unknown.find_map(|own| outcome_of(own.stops, evidence_of(own)))
    });
    let stop = stop.or_else(|| {
        let mut breaches = slurm.breaches(Some(release));
        breaches.sort_by_key(|own| own.stops == Stops::Slurmctld);
        let mut breaches = breaches.iter();
        breaches.find_map(|own| outcome_of(own.stops, own.to_string()))
    });
    let stop = stop.or_else(|| {
        let mut missing = needs::missing(slurm, slurm.needs(Some(release)));
        missing.sort_by_key(|own| own.stops == Stops::Slurmctld);
        let mut missing = missing.iter();
        missing.find_map(|own| outcome_of(own.stops, evidence_of_need(own)))
    });
    stop.or_else(|| {
        let faults = slurm.cluster_faults(Some(release));
        let first = faults.first()?;
        Some(if first.stops_slurmd(Some(release)) {
            stops_slurmd(first.to_string())
        } else {
            stops_slurmctld(&first.to_string())
        })
    })
}

/// What becomes of a node where `stops` do not start; None where its daemons start and it registers.
fn outcome_of(stops: Stops, why: String) -> Option<(ForecastOutcome, String)> {
    match stops {
        Stops::All | Stops::Slurmd => Some((ForecastOutcome::NoStart, why)),
        Stops::Slurmctld => Some(stops_slurmctld(&why)),
        Stops::Submission | Stops::Srun | Stops::EverySrun => None,
    }
}

/// Nothing is known of a node whose slurmctld does not start.
fn stops_slurmctld(why: &str) -> (ForecastOutcome, String) {
    let why = format!("slurmctld does not start ({why})");
    (ForecastOutcome::Unknown, why)
}

/// What follows where slurmctld alone does not start.
const NO_SLURMCTLD: &str = "slurmctld does not start, and no job of the cluster runs";
/// What follows where nothing of Slurm reads the file.
const NO_DAEMON: &str =
    "Slurm reads no further: its daemons do not start, and every command ends with an error";

/// A demand on slurm.conf as a whole that is not met.
fn report_breach(breach: &Breach<'_>, report: &mut DoctorReport) {
    report.find(
        "slurm-conf",
        Harm::StopsJobs,
        breach.to_string(),
        effect_of(breach.stops),
        breach.change.clone(),
    );
}

fn effect_of(stops: Stops) -> &'static str {
    match stops {
        Stops::All => NO_DAEMON,
        Stops::Slurmctld => NO_SLURMCTLD,
        Stops::Slurmd => "slurmd does not start, and the node is down",
        Stops::Submission => {
            "every srun, salloc, sbatch and scrontab ends with an error (\"cannot create cli_filter context\"); the daemons start"
        }
        Stops::Srun => {
            "every srun without --mpi= ends with an error (\"MPI: Cannot create context\"); the daemons start"
        }
        Stops::EverySrun => {
            "every srun ends with an error (\"Unable to load launch plugin\"); the daemons start, and sbatch and salloc run"
        }
    }
}

/// `slurm.conf:3: missing: the user slrum of SlurmUser=`.
fn evidence_of_need(need: &Need<'_>) -> String {
    format!("{}: missing: {}", need.line.place(), needs::words_of(need))
}

/// Something of the host without which a daemon does not start.
fn report_need(need: &Need<'_>, report: &mut DoctorReport) {
    let place = need.line.place();
    report.find(
        "slurm-conf",
        Harm::StopsJobs,
        evidence_of_need(need),
        effect_of(need.stops),
        match need.wanted {
            Wanted::User => format!("{place}: {}= with a user of this host", need.key),
            Wanted::Folder => format!("{place}: {}= with the folder of Slurm's plugins", need.key),
            Wanted::FileBeside(files) => {
                let files = files.join(" or ");
                format!(
                    "{place}: write {files} beside slurm.conf, or no {}=",
                    need.key
                )
            }
            Wanted::TopologyLine(key) => {
                format!(
                    "{place}: write a line {key}= into topology.conf, or no {}=",
                    need.key
                )
            }
            Wanted::Database
            | Wanted::JwtKey
            | Wanted::SlurmKey(_)
            | Wanted::Qos
            | Wanted::StartedBy
            | Wanted::Topology => {
                format!("{place}: no {}=", need.key)
            }
        },
    );
}

/// What slurmctld refuses.
fn report_cluster(fault: &ClusterFault<'_>, release: Option<Release>, report: &mut DoctorReport) {
    let place = fault.line().place();
    let change = match fault {
        ClusterFault::UnknownNodes { node, .. } => {
            format!("{place}: Nodes= without {node}, or a NodeName line for it")
        }
        ClusterFault::NothingToGive(_) => {
            format!(
                "{place}: SelectTypeParameters=CR_Core_Memory, or CR_Core, beside the other words"
            )
        }
        ClusterFault::MoreToGive(_) => {
            format!(
                "{place}: SelectTypeParameters=CR_Memory or none, or SelectType=select/cons_tres"
            )
        }
    };
    report.find(
        "slurm-conf",
        Harm::StopsJobs,
        fault.to_string(),
        if fault.stops_slurmd(release) {
            "no daemon of Slurm starts, and no job of the cluster runs"
        } else {
            NO_SLURMCTLD
        },
        change,
    );
}

/// The names of plugins that neither the release nor the host has, and those of which nothing is known.
fn names_of_plugins(slurm: &Slurm, release: Option<Release>) -> Names<'_> {
    let folders = slurm.plugin_folders();
    let has_file = |file: &str| {
        let mut folders = folders.iter();
        let has = |folder: &String| slurm.host_has(&format!("{folder}/{file}"));
        (folders.len() > 0).then(|| folders.any(has))
    };
    let cgroup = slurm.cgroup.as_deref().unwrap_or_default();
    plugins::names(&slurm.conf, cgroup, release, &has_file)
}

fn check_includes(slurm: &Slurm, report: &mut DoctorReport) {
    for own in &slurm.unincluded {
        let (effect, change) = if own.lacks_cluster() {
            (
                NO_DAEMON,
                format!(
                    "{}: the file's name in full, or ClusterName= before the line",
                    own.place
                ),
            )
        } else if own.is_pattern() {
            (
                NO_DAEMON,
                format!("{}: one Include for each file", own.place),
            )
        } else {
            (
                "each daemon and command waits a minute for the file (\"cannot stat file\") and then ends",
                format!("{}: remove the line, or make the file", own.place),
            )
        };
        report.find(
            "slurm-conf",
            Harm::StopsJobs,
            own.to_string(),
            effect,
            change,
        );
    }
}

/// `PLACE: Key=Value without a blank ...`, for words that are no pair.
pub(super) fn without_blank(place: &str) -> String {
    format!("{place}: Key=Value without a blank in the value, or with the value in quotes")
}

fn report_line(file: ConfFile, line: &Line, fault: &KeyFault, report: &mut DoctorReport) {
    let place = line.place();
    let (check, effect) = match file {
        ConfFile::Slurm => ("slurm-conf", NO_DAEMON),
        ConfFile::Cgroup => (
            "cgroup",
            "slurmd does not start (\"Could not open/read/parse cgroup.conf file\"), and the node is down",
        ),
    };
    let change = match fault {
        KeyFault::OtherRelease { .. } => {
            format!(
                "{place}: remove the key while {} is read by this Slurm",
                line.file
            )
        }
        KeyFault::Stray(_)
        | KeyFault::Behind { .. }
        | KeyFault::Unknown { .. }
        | KeyFault::Removed(_)
        | KeyFault::FrontEnd(_)
        | KeyFault::BadValue { .. } => change_of(&place, fault),
    };
    report.find(
        check,
        Harm::StopsJobs,
        format!("{place}: {fault}"),
        effect,
        change,
    );
}

/// What makes a line one that Slurm reads.
fn change_of(place: &str, fault: &KeyFault) -> String {
    match fault {
        KeyFault::Stray(words) if words.to_ascii_lowercase().starts_with("include") => {
            format!("{place}: Include at the beginning of the line, and one file behind it")
        }
        KeyFault::Stray(_) => without_blank(place),
        KeyFault::Behind { .. } => format!("{place}: one key on a line"),
        KeyFault::Unknown {
            belongs_in: Some(file),
            ..
        } => format!("{place}: move the line to {file}"),
        KeyFault::Unknown {
            meant: Some(meant), ..
        } => format!("{place}: {meant}= (in any case), or remove the key"),
        KeyFault::Unknown { meant: None, .. } | KeyFault::Removed(_) | KeyFault::FrontEnd(_) => {
            format!("{place}: remove the key")
        }
        KeyFault::OtherRelease { .. } => format!("{place}: remove the key under this Slurm"),
        KeyFault::BadValue { expected, .. } => format!("{place}: {expected}"),
    }
}

/// `slurm.conf:3: TaskPlugin=task/afinity: Slurm has no such plugin`.
fn evidence_of(unknown: &Unknown<'_>) -> String {
    let Unknown {
        line, key, name, ..
    } = unknown;
    format!("{}: {key}={name}: Slurm has no such plugin", line.place())
}

fn report_plugin(unknown: &Unknown<'_>, report: &mut DoctorReport) {
    let check = match unknown.key {
        "TaskPlugin" => "task-plugin",
        "CgroupPlugin" => "cgroup",
        _ => "slurm-conf",
    };
    report.find(
        check,
        Harm::StopsJobs,
        evidence_of(unknown),
        format!(
            "{}; names of plugins are compared letter by letter",
            match unknown.stops {
                // What this host has of it.
                Stops::All | Stops::Slurmd => effect_of(Stops::Slurmd),
                Stops::Slurmctld => "slurmctld does not start",
                Stops::Submission | Stops::Srun | Stops::EverySrun => effect_of(unknown.stops),
            }
        ),
        if unknown.expected.is_empty() {
            format!(
                "{}: install the plugin, or remove its name",
                unknown.line.place()
            )
        } else {
            format!(
                "{}: {}= with {}",
                unknown.line.place(),
                unknown.key,
                unknown.expected.join(", ")
            )
        },
    );
}
