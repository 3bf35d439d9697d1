//! `/etc/nccl.conf` and RCCL's `/etc/rccl.conf`: whether the files that they give to these libraries fit the host.

use nccl_topo::compare::compare;
use nccl_topo::reader;
use nccl_topo::rules::Rules;
use topology::machine::Gpu;
use topology::vendor::Collectives;

use super::report::{DoctorReport, Harm};
use super::tree::{Tree, TreeError};
use super::world::World;

/// NCCL's configuration for all users (`misc/param.cc`, 2.30).
const PATH: &str = "/etc/nccl.conf";
/// RCCL's, in the same form (rccl, `misc/param.cc` `initEnv`, ROCm 5.2.3 to 6.2, and 7.2 when run; before these it reads [`PATH`]).
const RCCL_PATH: &str = "/etc/rccl.conf";
/// The only version of a topology file that RCCL reads (rccl, `graph/xml.h`, ROCm 4.0 to 6.2, and 7.2 when run).
const RCCL_VERSION: &str = "2";

pub(crate) fn check(world: &World<'_>, report: &mut DoctorReport) {
    let Some(tree) = &world.tree else { return };
    check_rccl(world, tree, report);
    if world.machine.nccl_gpus().next().is_none() {
        return;
    }
    let Some(text) = tree.text(PATH) else { return };
    for (number, line) in (1..).zip(text.lines()) {
        let Some((key, file)) = line.trim().split_once('=') else {
            continue;
        };
        let quoted = format!("{PATH}:{number}: {key}={file}");
        if !matches!(key, "NCCL_TOPO_FILE" | "NCCL_GRAPH_FILE") {
            continue;
        }
        let missing = "NCCL detects the topology itself, and the plugin does not set NCCL_TOPO_FILE, because the site has";
        let Some(text) = text_of(tree, PATH, &quoted, file, missing, report) else {
            continue;
        };
        if key == "NCCL_TOPO_FILE" {
            check_topology(world, &quoted, file, &text, report);
        } else {
            check_graph(world, &quoted, &text, report);
        }
    }
}

/// The text of a file that NCCL is told to read; None after a finding or a remark.
fn text_of(
    tree: &Tree,
    conf: &str,
    quoted: &str,
    file: &str,
    missing: &str,
    report: &mut DoctorReport,
) -> Option<String> {
    match tree.read(file) {
        Ok(text) => Some(text),
        Err(TreeError::Missing(_)) => {
            report.find(
                "nccl-conf",
                Harm::SlowsJobs,
                format!("{quoted}: no such file"),
                missing,
                format!("{conf}: remove the line"),
            );
            None
        }
        Err(why) => {
            report.skip(format!("{quoted}: {why}"));
            None
        }
    }
}

/// On a host with GPUs that RCCL joins: it ends a job at a topology file of another version, such as NCCL's (rccl, `graph/xml.cc`,
/// `ncclTopoXmlLoadSystem`).
fn check_rccl(world: &World<'_>, tree: &Tree, report: &mut DoctorReport) {
    let mut makers = world.machine.gpus.iter().filter_map(Gpu::maker);
    if !makers.any(|maker| matches!(maker.collectives, Collectives::Rccl(_))) {
        return;
    }
    let Some(text) = tree.text(RCCL_PATH) else {
        return;
    };
    for (number, line) in (1..).zip(text.lines()) {
        let Some(file) = line.strip_prefix("NCCL_TOPO_FILE=") else {
            continue;
        };
        let quoted = format!("{RCCL_PATH}:{number}: {line}");
        let missing = "RCCL detects the topology itself";
        let Some(text) = text_of(tree, RCCL_PATH, &quoted, file, missing, report) else {
            continue;
        };
        let mut systems = text.split("<system").skip(1).filter_map(|rest| {
            let attributes = rest.split('>').next()?;
            attributes.split("version=\"").nth(1)?.split('"').next()
        });
        match systems.next() {
            Some(RCCL_VERSION) => report.skip(format!("{quoted}: whether the file is of this host")),
            version => report.find(
                "nccl-conf",
                Harm::StopsJobs,
                match version {
                    Some(version) => format!("{quoted}: the file is of version {version}"),
                    None => format!("{quoted}: the file has no version"),
                },
                format!("RCCL takes version {RCCL_VERSION} alone and ends each program that has several GPUs at another (NCCL's is 1)"),
                format!("{RCCL_PATH}: remove the line; RCCL detects the topology itself"),
            ),
        }
    }
}

fn check_topology(
    world: &World<'_>,
    quoted: &str,
    file: &str,
    text: &str,
    report: &mut DoctorReport,
) {
    // Which NCCL a job has is not known here: one of those in use that something is wrong for is enough.
    let of_version = |rules: &Rules| {
        let reading = reader::read_for(text, rules);
        let problems: Vec<String> = match &reading.system {
            Some(system) => compare(system, world.machine, rules)
                .iter()
                .map(|difference| difference.kind.to_string())
                .collect(),
            None => reading
                .violations
                .iter()
                .map(|violation| violation.problem.to_string())
                .collect(),
        };
        (reading.system.is_some(), problems)
    };
    let mut versions = Rules::in_use().map(|rules| (rules, of_version(rules)));
    let Some((rules, (is_taken, problems))) =
        versions.find(|(_, (_, problems))| !problems.is_empty())
    else {
        return;
    };
    let version = if rules == Rules::assumed() {
        String::new()
    } else {
        format!("for NCCL {}, ", rules.from.series())
    };
    let Some(first) = problems.first() else {
        return;
    };
    let verb = if is_taken {
        "does not fit this host"
    } else {
        "NCCL refuses the file"
    };
    report.find(
        "nccl-conf",
        Harm::SlowsJobs,
        format!("{version}{quoted} {verb}: {first} ({} differences in all)", problems.len()),
        "NCCL plans its channels for another host, or fails; the plugin does not set NCCL_TOPO_FILE, because the site has",
        format!("{PATH}: remove the line (`gpu-numa nccl check {file}` lists what differs)"),
    );
}

/// A graph file names GPUs by number, which must all be there.
fn check_graph(world: &World<'_>, quoted: &str, text: &str, report: &mut DoctorReport) {
    let there = world.machine.nccl_gpus().count();
    let numbers = text.split("<gpu").skip(1).filter_map(|rest| {
        let value = rest.split("dev=\"").nth(1)?;
        value.split('"').next()?.parse::<usize>().ok()
    });
    let named = numbers.max().map_or(0, |last| last + 1);
    if named <= there && named > 0 {
        report.skip(format!(
            "{quoted}: whether these channels are the best for this host"
        ));
        return;
    }
    report.find(
        "nccl-conf",
        Harm::SlowsJobs,
        if named == 0 {
            format!("{quoted}: the file has no channel")
        } else {
            format!("{quoted}: the file is for {named} GPUs, this host has {there}")
        },
        "NCCL takes its channels from the file instead of searching for them: with those of another host it fails or is slow",
        format!("{PATH}: remove the line"),
    );
}
