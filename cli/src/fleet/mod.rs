//! `gpu-numa fleet`: thousands of snapshots and doctor reports on one page.
//!
//! Slurm, or whatever a site uses, collects the files; nothing here talks to another host.

pub(crate) mod document;
mod facts;
mod feature;
mod features;
mod kinds;
mod lua;
mod names;
mod page;
mod read;
mod seats;

use std::path::PathBuf;

use clap::Args;

use crate::command::{CommandError, Format, Outcome};
use crate::out::{self, Out};
use crate::snapshot::write_atomically;
use document::{FleetDocument, FleetFinding};

/// Group hosts by hardware and list the ones that differ
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  salloc -N400 --ntasks-per-node=1 --exclusive --gpus-per-node=8
  srun -o /shared/fleet/%N.json -e /shared/fleet/%N.err gpu-numa show --json
  gpu-numa fleet /shared/fleet
  srun -o /shared/doctor/%N.json -e /shared/doctor/%N.err gpu-numa doctor --json
  gpu-numa fleet /shared/fleet /shared/doctor
  gpu-numa fleet --lua-table /etc/slurm/gpu_numa_hosts.lua /shared/fleet
  gpu-numa fleet --features - /shared/fleet
  gpu-numa fleet --json /shared/fleet/*.json | jq '.kinds[].differing'

Any way to run a command on all hosts will do (pdsh, clush, ansible), as long as each document gets a file or a line of its own; in Slurm, ask for whole hosts with all GPUs: a step that is fenced sees its own alone.  Takes snapshots (node.json) and the output of `show --json` and `doctor --json`, one or several in a file; from a folder, the files that end in .json.  Hosts with the same processor, sockets and GPU models \
that agree in most facts are one kind; a value held by a clear minority of a kind is reported as a difference.

Exit status: 0 when no host differs; 1 when a host differs from its kind, doctor found something there, or a file was skipped; \
2 when no file could be read.")]
pub(crate) struct Fleet {
    /// Snapshots, `show --json` or `doctor --json` documents, or folders of them
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Also write the table of GPUs and CPUs that packaging/lua goes by; - prints it in place of the page
    #[arg(long, value_name = "FILE")]
    lua_table: Option<PathBuf>,
    /// Also write each kind of host as a node feature for --constraint, in lines for slurm.conf; - prints them in place
    /// of the page
    #[arg(long, value_name = "FILE")]
    features: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

impl Fleet {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let read = read::read_all(&self.files);
        for skipped in &read.skipped {
            out::message(&format!("{}: {}; skipped", skipped.file, skipped.why));
        }
        if read.hosts.is_empty() {
            let files: Vec<_> = self
                .files
                .iter()
                .take(3)
                .map(|file| read::show(file))
                .collect();
            let more = if self.files.len() > 3 { ", ..." } else { "" };
            return Err(CommandError::Argument(format!(
                "no host in {}{more}; expected snapshots (node.json), `show --json` or `doctor --json` documents",
                files.join(", ")
            )));
        }
        let is_page = self.write_lists(out, &read.hosts)?;
        let findings = fold_findings(&read.hosts);
        let kinds = kinds::sort_into_kinds(&read.hosts);
        let differs = kinds.iter().any(|kind| !kind.differing.is_empty());
        let ok = !differs && findings.is_empty() && read.skipped.is_empty();
        let document = FleetDocument {
            schema: "gpu-numa/fleet/1",
            hosts: read.hosts.len(),
            kinds,
            findings,
            skipped: read.skipped,
            ok,
        };
        if self.format.json && is_page {
            out.json(&document)?;
        } else if is_page {
            page::print(out, &document)?;
        }
        Ok(if ok { Outcome::Done } else { Outcome::Wanting })
    }
}

/// Names in a line that are printed; of the others their number.
const SHOWN: usize = 3;

impl Fleet {
    /// Writes the lists that are asked for, and says whether the page is to follow: a list on standard output stands in its
    /// place.
    fn write_lists(&self, out: &mut Out, hosts: &[read::Host]) -> Result<bool, CommandError> {
        type List = fn(&[read::Host]) -> (String, Vec<&str>);
        let lists: [(&Option<PathBuf>, List); 2] = [
            (&self.lua_table, lua::table),
            (&self.features, features::lines),
        ];
        let mut is_page = true;
        for (path, list) in lists {
            let Some(path) = path else { continue };
            let (text, left_out) = list(hosts);
            if !left_out.is_empty() {
                let shown: Vec<&str> = left_out.iter().take(SHOWN).copied().collect();
                let more = match left_out.len() - shown.len() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                out::message(&format!(
                    "{}{more}: no name that Slurm takes for a node (of documents with one host name all but the first have their \
                     file's in brackets); left out",
                    shown.join(", ")
                ));
            }
            if path.as_os_str() == "-" {
                out.file(path, &text)?;
                is_page = false;
            } else {
                write_atomically(path, &text)?;
            }
        }
        Ok(is_page)
    }
}

/// Findings by check, those of most hosts first.
fn fold_findings(hosts: &[read::Host]) -> Vec<FleetFinding> {
    let mut folded: std::collections::BTreeMap<&str, FleetFinding> =
        std::collections::BTreeMap::new();
    for host in hosts {
        for finding in &host.findings {
            let entry = folded
                .entry(&finding.check)
                .or_insert_with(|| FleetFinding {
                    check: finding.check.clone(),
                    hosts: Vec::new(),
                    evidence: finding.evidence.clone(),
                    change: finding.change.clone(),
                });
            if entry.hosts.last() != Some(&host.name) {
                entry.hosts.push(host.name.clone());
            }
        }
    }
    let mut findings: Vec<FleetFinding> = folded.into_values().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.hosts.len()));
    findings
}
