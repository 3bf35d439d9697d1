//! `gpu-numa doctor`: what will stop binding, what will slow jobs, and what to change.
//!
//! A finding needs something that was seen and is wrong.  What could not be seen is listed as not checked, and is
//! never a finding.

mod containers;
mod detection;
pub(crate) mod devices;
pub(crate) mod forecast;
mod foretold;
mod gres;
mod gres_cores;
mod gres_flags;
mod host;
mod installed;
mod interrupts;
mod keys;
pub(crate) mod kinds;
mod layout;
mod mig;
mod nccl_conf;
mod needs;
mod node;
mod pcie;
mod plugin;
pub(crate) mod report;
mod reserved;
mod slurm;
mod slurmd;
mod sockets;
mod tasks;
mod tree;
pub(crate) mod world;

use clap::Args;
use serde::Serialize;

use crate::command::{CommandError, Format, From, Outcome};
use crate::out::Out;
use crate::paper::Ink;
use forecast::Forecast;
use report::{DoctorFinding, DoctorReport, Harm};
use world::{Choice, World};

/// Checks this host and its Slurm configuration.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa doctor
  srun -N4 --ntasks-per-node=1 gpu-numa doctor
  gpu-numa doctor --from /srv/recorded/node7 --slurm-release 24.11.7
  gpu-numa doctor --json | jq '.findings[].change'

Reads slurm.conf (with the files that it includes), gres.conf, cgroup.conf and plugstack.conf: those of SLURM_CONF, \
else those that slurmd is started with, and with --from a directory the same in it, with its /proc and /sys.  The exit status is 1 \
when something is found.")]
pub(crate) struct Doctor {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    choice: Choice,
}

/// The JSON document.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DoctorDocument<'a> {
    schema: &'static str,
    host: Option<&'a str>,
    slurm_conf: Option<&'a str>,
    /// Why it is that slurm.conf, such as slurmd's `--conf-server`, or by what other one slurmd goes; null for the one that Slurm was
    /// built for.
    slurm_conf_why: Option<&'a str>,
    slurm_release: Option<String>,
    findings: &'a [DoctorFinding],
    unchecked: &'a [String],
    /// Whether the node registers, by release; null where its line is not known.
    registration: Option<&'a Forecast>,
    ok: bool,
}

impl Doctor {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let machine = self.from.read()?;
        let world = World::read(&machine, &self.from.source(), &self.choice)?;
        let report = examine(&world);
        let forecast = forecast::forecast(&world);
        let node = world.slurm.as_ref().and_then(|slurm| slurm.node.as_ref());
        let line = forecast
            .as_ref()
            .zip(node)
            .map(|(own, node)| own.line(&node.name));
        let document = DoctorDocument {
            schema: "gpu-numa/doctor/1",
            host: machine.hostname.as_deref(),
            slurm_conf: world.slurm.as_ref().map(|slurm| slurm.path.as_str()),
            slurm_conf_why: world.slurm.as_ref().and_then(|own| own.why.as_deref()),
            slurm_release: world.release.map(|release| release.to_string()),
            findings: &report.findings,
            unchecked: &report.unchecked,
            registration: forecast.as_ref(),
            ok: report.findings.is_empty(),
        };
        if self.format.json {
            out.json(&document)?;
        } else {
            print(out, &document, line.as_deref())?;
        }
        Ok(if document.ok {
            Outcome::Done
        } else {
            Outcome::Wanting
        })
    }
}

/// Runs every check; the worst findings come first.
pub(crate) fn examine(world: &World<'_>) -> DoctorReport {
    let copies = world.slurm.as_ref().and_then(|own| own.copies.clone());
    let mut report = DoctorReport::with_copies_in(copies);
    for unread in &world.unread {
        report.skip(unread.clone());
    }
    match &world.slurm {
        Some(slurm) => {
            for unread in &slurm.unread {
                report.skip(unread.clone());
            }
        }
        // Of one that is not there or cannot be read, `unread` says which.
        None if !world.unread.is_empty() => {}
        None => {
            report.skip("Slurm: no slurm.conf (SLURM_CONF, --slurm-conf or /etc/slurm/slurm.conf)")
        }
    }
    if world.machine.gpus.is_empty() {
        report.skip("GPUs: this machine has none");
    }
    keys::check(world, &mut report);
    tasks::check(world, &mut report);
    node::check(world, &mut report);
    let cut = gres::check(world, &mut report);
    sockets::check(world, cut, &mut report);
    forecast::check(world, &mut report);
    plugin::check(world, &mut report);
    host::check(world, &mut report);
    layout::check(world, &mut report);
    reserved::check(world, &mut report);
    nccl_conf::check(world, &mut report);
    pcie::check(world, &mut report);
    interrupts::check(world, &mut report);
    containers::check(world, &mut report);
    report.findings.sort_by_key(|finding| finding.harm);
    report
}

fn print(
    out: &mut Out,
    document: &DoctorDocument<'_>,
    forecast: Option<&str>,
) -> Result<(), CommandError> {
    let host = document.host.unwrap_or("machine");
    let count = match document.findings.len() {
        0 if document.slurm_conf.is_none() => {
            "nothing found wrong on the host; Slurm's configuration was not found".to_owned()
        }
        0 if document
            .registration
            .is_some_and(Forecast::is_refused_somewhere)
            && document.slurm_release.is_none() =>
        {
            "nothing found wrong, but not every release takes this node (below)".to_owned()
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
        let why = document.slurm_conf_why;
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        format!("   (Slurm {release}, {path}{why})")
    });
    out.told(Ink::Head, format_args!("{host}: {count}{slurm}"))?;
    for (number, finding) in (1..).zip(document.findings) {
        out.line("")?;
        out.told(
            ink(finding.harm),
            format_args!(
                "{number}. {}   [{}, {}]",
                finding.evidence,
                finding.harm.words(),
                finding.check
            ),
        )?;
        out.told(Ink::Plain, format_args!("   effect  {}", finding.effect))?;
        out.told(Ink::Plain, format_args!("   change  {}", finding.change))?;
    }
    if let Some(forecast) = forecast {
        out.line("")?;
        out.told(Ink::Plain, forecast)?;
        let looked_at = document
            .registration
            .map_or("", |own| own.looked_at.as_str());
        out.told(Ink::Faint, format_args!("looked at for this: {looked_at}"))?;
    }
    if !document.unchecked.is_empty() {
        out.line("")?;
    }
    for unchecked in document.unchecked {
        out.told(Ink::Faint, format_args!("not checked: {unchecked}"))?;
    }
    Ok(())
}

fn ink(harm: Harm) -> Ink {
    match harm {
        Harm::StopsJobs | Harm::StopsBinding => Ink::Bad,
        Harm::WeakensBinding | Harm::SlowsJobs => Ink::Far,
    }
}
