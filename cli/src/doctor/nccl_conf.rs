//! `/etc/nccl.conf` and RCCL's `/etc/rccl.conf`: whether the files that they give to these libraries fit the host.

use nccl_topo::compare::compare;
use nccl_topo::conf::{Setting, setting_of};
use nccl_topo::reader;
use nccl_topo::rules::Rules;
use nccl_topo::settings::{hexadecimal, number};
use topology::machine::Gpu;
use topology::vendor::Collectives;

use super::report::{DoctorReport, Harm};
use super::tree::{Tree, TreeError};
use super::world::World;

/// The only version of a topology file that RCCL reads (rccl, `graph/xml.h`, ROCm 4.0 to 6.2, and 7.2 when run).
const RCCL_VERSION: i64 = 2;
/// The only version of a graph file that either reads (`graph/xml.h`, `NCCL_GRAPH_XML_VERSION`).
const GRAPH_VERSION: i64 = 1;

/// Whose configuration file it is.
#[derive(Debug, Clone, Copy)]
enum ConfOf {
    Nccl,
    Rccl,
}

impl ConfOf {
    const fn name(self) -> &'static str {
        match self {
            Self::Nccl => "NCCL",
            Self::Rccl => "RCCL",
        }
    }

    /// Its configuration for all users.
    const fn path(self) -> &'static str {
        match self {
            // `misc/param.cc`, 2.30.
            Self::Nccl => "/etc/nccl.conf",
            // In the same form (rccl, `misc/param.cc` `initEnv`, ROCm 5.2.3 to 6.2, and 7.2 when run; before these it reads
            // NCCL's).
            Self::Rccl => "/etc/rccl.conf",
        }
    }
}

/// A line that names a file.
struct Named<'t> {
    library: ConfOf,
    /// The line with its place.
    quoted: String,
    file: &'t str,
}

impl Named<'_> {
    /// Its text; none after a finding or a remark.
    fn text(
        &self,
        tree: &Tree,
        harm: Harm,
        missing: &str,
        report: &mut DoctorReport,
    ) -> Option<String> {
        let read = if self.file.is_empty() {
            // No file has an empty name, which `read` takes for the root.
            Err(TreeError::Missing(String::new()))
        } else {
            tree.read(self.file)
        };
        match read {
            Ok(text) => Some(text),
            Err(TreeError::Missing(_)) => {
                self.find(harm, "no such file", missing, report);
                None
            }
            Err(why) => {
                self.skip(&why.to_string(), report);
                None
            }
        }
    }

    fn skip(&self, what: &str, report: &mut DoctorReport) {
        report.skip(format!("{}: {what}", self.quoted));
    }

    fn find(&self, harm: Harm, what: &str, effect: impl Into<String>, report: &mut DoctorReport) {
        report.find(
            "nccl-conf",
            harm,
            format!("{}: {what}", self.quoted),
            effect,
            format!("{}: remove the line", self.library.path()),
        );
    }
}

pub(crate) fn check(world: &World<'_>, report: &mut DoctorReport) {
    let Some(tree) = &world.tree else { return };
    let mut makers = world.machine.gpus.iter().filter_map(Gpu::maker);
    let has_rccl = makers.any(|maker| matches!(maker.collectives, Collectives::Rccl(_)));
    let has_nccl = world.machine.has_nccl_gpus();
    for (library, is_there) in [(ConfOf::Rccl, has_rccl), (ConfOf::Nccl, has_nccl)] {
        if let Some(text) = tree.text(library.path()).filter(|_| is_there) {
            check_conf(world, tree, library, &text, report);
        }
    }
}

fn check_conf(
    world: &World<'_>,
    tree: &Tree,
    library: ConfOf,
    text: &str,
    report: &mut DoctorReport,
) {
    for variable in ["NCCL_TOPO_FILE", "NCCL_GRAPH_FILE"] {
        let Some(Setting { line, value }) = setting_of(text, variable) else {
            continue;
        };
        let named = Named {
            library,
            quoted: format!("{}:{line}: {variable}={value}", library.path()),
            file: value,
        };
        match (variable, library) {
            ("NCCL_GRAPH_FILE", _) => check_graph(world, tree, &named, report),
            (_, ConfOf::Rccl) => check_rccl_topology(tree, &named, report),
            (_, ConfOf::Nccl) => check_topology(world, tree, &named, report),
        }
    }
}

/// RCCL ends a job at a topology file of another version, such as NCCL's, and of a form that NCCL's reader would not take
/// either (rccl, `graph/xml.cc`, `ncclTopoXmlLoadSystem`); where there is no `<system>` it goes by what it detects.
fn check_rccl_topology(tree: &Tree, named: &Named<'_>, report: &mut DoctorReport) {
    let missing = "RCCL detects the topology itself";
    let Some(text) = named.text(tree, Harm::SlowsJobs, missing, report) else {
        return;
    };
    let (what, why) = match reader::read_elements(&text) {
        Err(violation) => (
            format!("line {violation}"),
            "RCCL cannot read the file".to_owned(),
        ),
        Ok(elements) => {
            let Some(system) = elements.iter().find(|element| element.name == "system") else {
                return named.skip(
                    "the file has no <system>; RCCL detects the topology itself",
                    report,
                );
            };
            match system.get("version") {
                Some(version) if number(version) == RCCL_VERSION => {
                    return named.skip("whether the file is of this host", report);
                }
                Some(version) => (
                    format!("the file is of version \"{version}\""),
                    format!("RCCL takes version {RCCL_VERSION} alone (NCCL's is 1)"),
                ),
                None => (
                    "the file has no version".to_owned(),
                    format!("RCCL takes version {RCCL_VERSION} alone"),
                ),
            }
        }
    };
    let effect = format!("{why}, and each program that has several GPUs ends");
    named.find(Harm::StopsJobs, &what, effect, report);
}

fn check_topology(world: &World<'_>, tree: &Tree, named: &Named<'_>, report: &mut DoctorReport) {
    let missing = "NCCL detects the topology itself, and the plugin does not set NCCL_TOPO_FILE, because the site has";
    let Some(text) = named.text(tree, Harm::SlowsJobs, missing, report) else {
        return;
    };
    // Which NCCL a job has is not known here: one of those in use that something is wrong for is enough.
    let of_version = |rules: &Rules| {
        let reading = reader::read_for(&text, rules);
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
        format!("{version}{} {verb}: {first} ({} differences in all)", named.quoted, problems.len()),
        "NCCL plans its channels for another host, or fails; the plugin does not set NCCL_TOPO_FILE, because the site has",
        format!("{}: remove the line (`gpu-numa nccl check {}` lists what differs)", named.library.path(), named.file),
    );
}

/// Where the file cannot be opened, has another version or names a GPU that is not there, no communicator starts
/// (`graph/xml.cc` `ncclTopoGetXmlGraphFromFile`, `graph/search.cc` `ncclTopoGetChannelFromXml`, where `dev` is hexadecimal).
fn check_graph(world: &World<'_>, tree: &Tree, named: &Named<'_>, report: &mut DoctorReport) {
    let library = named.library.name();
    let stops = format!("{library} starts no communicator, which ends the program");
    let Some(text) = named.text(tree, Harm::StopsJobs, &stops, report) else {
        return;
    };
    let elements = match reader::read_elements(&text) {
        Ok(elements) => elements,
        Err(violation) => {
            return named.find(Harm::StopsJobs, &format!("line {violation}"), stops, report);
        }
    };
    let version = elements.iter().find(|element| element.name == "graphs");
    match version.map(|graphs| graphs.get("version")) {
        Some(Some(version)) if number(version) == GRAPH_VERSION => {}
        Some(Some(version)) => {
            let what =
                format!("the file is of version \"{version}\", and {GRAPH_VERSION} alone is taken");
            return named.find(Harm::StopsJobs, &what, stops, report);
        }
        Some(None) => return named.find(Harm::StopsJobs, "the file has no version", stops, report),
        None => {
            return named.skip(
                &format!("the file has no <graphs>; {library} searches for its channels itself"),
                report,
            );
        }
    }
    let by_number = elements
        .iter()
        .filter(|element| element.name == "gpu" && element.get("rank").is_none());
    let numbers = by_number.filter_map(|gpu| usize::try_from(hexadecimal(gpu.get("dev")?)).ok());
    let there = match named.library {
        ConfOf::Rccl => world.machine.gpus.len(),
        ConfOf::Nccl => world.machine.nccl_gpus().count(),
    };
    match numbers.max() {
        Some(last) if last >= there => {
            let what =
                format!("the file names GPUs up to number {last}, this host has {there}, from 0");
            named.find(Harm::StopsJobs, &what, stops, report);
        }
        Some(_) => named.skip(
            &format!("{library} starts only communicators of exactly the GPUs that the file names"),
            report,
        ),
        None => named.skip(
            &format!("the file has no GPU; {library} searches for its channels itself"),
            report,
        ),
    }
}
