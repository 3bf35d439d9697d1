//! `gpu-numa doctor`: what will stop binding, what will slow jobs, and the line to change.
//!
//! A finding needs something seen that is wrong; what could not be seen is said to be unchecked, and is
//! never a finding.

mod containers;
mod gres;
mod gres_lines;
mod host;
mod node;
mod pcie;
mod plugin;
mod release;
mod report;
mod slurm;
mod tasks;
mod tree;

use std::path::{Path, PathBuf};

use clap::Args;
use discovery::Source;
use serde::Serialize;
use slurm_config::plugstack::EntryKind;
use slurm_config::release::Release;
use topology::machine::Machine;

use crate::command::{CommandError, Format, From, Outcome};
use crate::out::Out;
use report::{Finding, Report};
use slurm::{Asked, Slurm};
use tree::Tree;

/// Looks the host over.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa doctor
  srun -N4 --ntasks-per-node=1 gpu-numa doctor
  gpu-numa doctor --from /srv/recorded/node7 --slurm-release 24.11.7
  gpu-numa doctor --json | jq '.findings[].change'

Reads slurm.conf (with what it includes), gres.conf, cgroup.conf and plugstack.conf below SLURM_CONF or \
/etc/slurm, and below a recorded root its own /etc/slurm, /proc and /sys.  The exit status is 1 when \
something is found.")]
pub(crate) struct Doctor {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    format: Format,
    /// Read this slurm.conf and the files beside it
    #[arg(long, value_name = "FILE")]
    slurm_conf: Option<PathBuf>,
    /// The Slurm that is installed, where it cannot be found out
    #[arg(long, value_name = "RELEASE", value_parser = parse_release)]
    slurm_release: Option<Release>,
}

/// What the checks look at.
pub(crate) struct World<'a> {
    machine: &'a Machine,
    /// The host's files; absent for a machine from a single file.
    tree: Option<Tree>,
    /// Whether it is this host.
    is_live: bool,
    slurm: Option<Slurm>,
    /// What could not be read on the way.
    unread: Vec<String>,
}

impl World<'_> {
    /// Slurm's configuration.
    pub(crate) fn slurm(&self) -> Option<&Slurm> {
        self.slurm.as_ref()
    }

    /// Where the plugin's line says that the snapshot is.
    fn snapshot_folder(&self) -> Option<&str> {
        let entries = self.slurm.as_ref()?.plugstack.as_ref()?;
        entries.iter().find_map(|entry| match &entry.kind {
            EntryKind::Plugin { arguments, .. } => arguments
                .iter()
                .find_map(|argument| argument.strip_prefix("snapshot=")),
            EntryKind::Include(_) => None,
        })
    }
}

/// The JSON document.
#[derive(Serialize)]
struct DoctorDocument<'a> {
    schema: &'static str,
    host: Option<&'a str>,
    slurm_conf: Option<&'a str>,
    slurm_release: Option<String>,
    findings: &'a [Finding],
    unchecked: &'a [String],
    ok: bool,
}

/// Reads `24.11.7` for clap.
pub(crate) fn parse_release(text: &str) -> Result<Release, String> {
    Release::find(text).ok_or_else(|| "expected a Slurm release such as 24.11.7".to_owned())
}

impl Doctor {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let machine = self.from.read()?;
        let mut world = world(&machine, &self.from.source(), self.slurm_conf.as_deref())?;
        if let (Some(slurm), Some(release)) = (&mut world.slurm, self.slurm_release) {
            slurm.release = Some(release);
        }
        let report = examine(&world);
        let slurm = world.slurm.as_ref();
        let document = DoctorDocument {
            schema: "gpu-numa/doctor/1",
            host: machine.hostname.as_deref(),
            slurm_conf: slurm.map(|slurm| slurm.path.as_str()),
            slurm_release: slurm
                .and_then(|slurm| slurm.release)
                .map(|release| release.to_string()),
            findings: &report.findings,
            unchecked: &report.unchecked,
            ok: report.findings.is_empty(),
        };
        if self.format.json {
            out.json(&document)?;
        } else {
            print(out, &document)?;
        }
        Ok(if document.ok {
            Outcome::Done
        } else {
            Outcome::Wanting
        })
    }
}

/// The host behind a source, and the Slurm on it.
pub(crate) fn world<'a>(
    machine: &'a Machine,
    source: &Source,
    slurm_conf: Option<&Path>,
) -> Result<World<'a>, CommandError> {
    let is_live = *source == Source::ThisMachine;
    let tree = match source {
        Source::ThisMachine => Some(Tree::new(Path::new("/"))),
        Source::Path(path) => path.is_dir().then(|| Tree::new(path)),
    };
    let named = std::env::var_os("SLURM_CONF").map(PathBuf::from);
    let hostname = machine.hostname.as_deref();
    let mut unread = Vec::new();
    let found = |asked: &Asked<'_>, unread: &mut Vec<String>| {
        slurm::read(asked, hostname, is_live).unwrap_or_else(|why| {
            unread.push(format!("Slurm's configuration: {why}"));
            None
        })
    };
    let mut slurm = match (slurm_conf, &named, &tree) {
        (Some(path), ..) => slurm::read(&Asked::File(path), hostname, is_live)
            .map_err(|why| CommandError::Argument(format!("--slurm-conf: {why}")))?,
        (None, Some(path), _) if is_live => found(&Asked::File(path), &mut unread),
        (None, _, Some(tree)) => found(&Asked::In(tree), &mut unread),
        (None, Some(path), None) => found(&Asked::File(path), &mut unread),
        (None, None, None) => None,
    };
    if let Some(slurm) = &mut slurm {
        let programs = tree.as_ref().unwrap_or(&slurm.tree);
        slurm.release = release::find(programs, is_live);
        slurm.strange_library = release::find_strange(programs).filter(|_| slurm.release.is_none());
    }
    Ok(World {
        machine,
        tree,
        is_live,
        slurm,
        unread,
    })
}

/// A line a check.
fn examine(world: &World<'_>) -> Report {
    let mut report = Report::default();
    for unread in &world.unread {
        report.skip(unread.clone());
    }
    match &world.slurm {
        Some(slurm) => {
            for unread in &slurm.unread {
                report.skip(unread.clone());
            }
        }
        None => {
            report.skip("Slurm: no slurm.conf (SLURM_CONF, --slurm-conf or /etc/slurm/slurm.conf)")
        }
    }
    if world.machine.gpus.is_empty() {
        report.skip("GPUs: none is here");
    }
    tasks::check(world, &mut report);
    node::check(world, &mut report);
    gres::check(world, &mut report);
    plugin::check(world, &mut report);
    host::check(world, &mut report);
    pcie::check(world, &mut report);
    containers::check(world, &mut report);
    report.findings.sort_by_key(|finding| finding.harm);
    report
}

fn print(out: &mut Out, document: &DoctorDocument<'_>) -> Result<(), CommandError> {
    let host = document.host.unwrap_or("machine");
    let count = match document.findings.len() {
        0 if document.slurm_conf.is_none() => {
            "nothing found wrong in the host; Slurm's configuration was not found".to_owned()
        }
        0 => "nothing found wrong".to_owned(),
        1 => "1 finding".to_owned(),
        count => format!("{count} findings"),
    };
    let slurm = document.slurm_conf.map_or_else(String::new, |path| {
        let release = document
            .slurm_release
            .as_deref()
            .unwrap_or("of unknown release");
        format!("   (Slurm {release}, {path})")
    });
    out.line(format_args!("{host}: {count}{slurm}"))?;
    for (number, finding) in (1..).zip(document.findings) {
        out.line("")?;
        out.line(format_args!(
            "{number}. {}   [{}, {}]",
            finding.evidence,
            finding.harm.words(),
            finding.check
        ))?;
        out.line(format_args!("   effect  {}", finding.effect))?;
        out.line(format_args!("   change  {}", finding.change))?;
    }
    if !document.unchecked.is_empty() {
        out.line("")?;
    }
    for unchecked in document.unchecked {
        out.line(format_args!("not checked: {unchecked}"))?;
    }
    Ok(())
}
