//! `gpu-numa nccl emit`.

use clap::Args;
use discovery::Source;
use nccl_topo::crossings::{least_crossings, ring_crossings};
use nccl_topo::emit::{Correction, Form, emit};
use nccl_topo::graph_file::graph_file;
use nccl_topo::rules::Rules;
use serde::Serialize;
use topology::machine::Machine;
use topology::pci::PciAddress;

use crate::command::{CommandError, Format, From, Outcome};
use crate::hardware;
use crate::nccl::version::{ForNccl, predictions};
use crate::out::{self, Out};

/// Write the corrected topology file of a machine
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa nccl emit > topo.xml; NCCL_TOPO_FILE=$PWD/topo.xml ./train
  gpu-numa nccl emit --explain --from /srv/recorded/node7
  gpu-numa nccl emit --graph > graph.xml; NCCL_GRAPH_FILE=$PWD/graph.xml ./train

NCCL refuses a communicator whose GPUs are not just those of the graph file, and the job ends: use --graph only where \
each communicator of the job has all GPUs of the host, and only if \"predicted\" in --explain says that no topology \
file helps.

If a virtual machine hides the PCI switches, list the devices below each in /etc/gpu-numa-bind/switches, one \
switch per line, as in \"0000:03:00.0 0000:04:00.0\"; the file then has an invented switch above them.

If something needed is unknown, no file is written: the reason goes to standard error and the exit status is 1. \
Leave NCCL_TOPO_FILE unset then, and NCCL detects the machine by itself.")]
pub(crate) struct Emit {
    #[command(flatten)]
    from: From,
    /// The form for jobs on several hosts
    #[arg(long)]
    multi_node: bool,
    /// A file for NCCL_GRAPH_FILE instead: one ring and tree that cross between sockets as seldom as possible
    #[arg(long, conflicts_with_all = ["multi_node", "explain"])]
    graph: bool,
    /// With --graph: for jobs without P2P (NCCL_P2P_DISABLE=1)
    #[arg(long, value_name = "on|off", value_parser = parse_p2p, default_value = "on", action = clap::ArgAction::Set, requires = "graph",
          conflicts_with_all = ["multi_node", "explain"])]
    p2p: bool,
    #[command(flatten)]
    nccl: ForNccl,
    /// List each correction with its evidence, and what no file can fix, as comments in the file
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct EmitDocument<'e> {
    schema: &'static str,
    xml: &'e str,
    gpus: &'e [PciAddress],
    corrections: Vec<ExplainedCorrection<'e>>,
    ring_crossings: Option<u32>,
    least_crossings: Option<u32>,
    /// What NCCL's search will make of it against all sense, in words.
    predictions: Vec<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ExplainedCorrection<'e> {
    device: Option<PciAddress>,
    what: &'e str,
    evidence: &'e str,
}

impl Emit {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let machine = self.from.read()?;
        if self.graph {
            return self.graph(&machine, out);
        }
        let form = if self.multi_node {
            Form::MultiHost
        } else {
            Form::SingleHost
        };
        let emitted = match emit(&machine, form) {
            Ok(emitted) => emitted,
            Err(why) => {
                out::message(&format!("no NCCL topology file: {why}"));
                return Ok(Outcome::Wanting);
            }
        };
        let is_here = matches!(self.from.source(), Source::ThisMachine);
        let versions = self.nccl.versions(is_here);
        if self.format.json {
            out.json(&EmitDocument {
                schema: "gpu-numa/nccl-emit/1",
                xml: &emitted.xml,
                gpus: &emitted.gpus,
                corrections: emitted.corrections.iter().map(explained).collect(),
                ring_crossings: ring_crossings(&machine, &emitted.gpus),
                least_crossings: least_crossings(&machine),
                predictions: predictions(&machine, &versions, None),
            })?;
            return Ok(Outcome::Done);
        }
        if self.explain {
            if emitted.corrections.is_empty() {
                out.line("<!-- no corrections: NCCL would detect the same by itself -->")?;
            }
            for Correction { what, evidence, .. } in &emitted.corrections {
                out.line(comment(&format!("{what}: {evidence}")))?;
            }
            if let Some(note) = hardware::hidden_links(&machine) {
                out.line(comment(&note))?;
            }
            for prediction in predictions(&machine, &versions, None) {
                out.line(comment(&format!("predicted: {prediction}")))?;
            }
        }
        out.line(emitted.xml.trim_end())?;
        Ok(Outcome::Done)
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct GraphDocument<'e> {
    schema: &'static str,
    xml: &'e str,
    /// The GPUs in the order of ring and tree.
    order: &'e [PciAddress],
    channels: usize,
    bandwidth_gb_s: f32,
    ring_crossings: u32,
    tree_crossings: u32,
}

impl Emit {
    /// The file for `NCCL_GRAPH_FILE`.
    fn graph(&self, machine: &Machine, out: &mut Out) -> Result<Outcome, CommandError> {
        let is_here = matches!(self.from.source(), Source::ThisMachine);
        let versions = self.nccl.versions(is_here);
        let rules = versions
            .first()
            .map_or_else(Rules::assumed, |one| one.rules);
        match graph_file(machine, self.p2p, rules) {
            Ok(file) if self.format.json => out.json(&GraphDocument {
                schema: "gpu-numa/nccl-graph/1",
                xml: &file.xml,
                order: &file.order,
                channels: file.channels,
                bandwidth_gb_s: file.bandwidth_gb_s,
                ring_crossings: file.crossings.0,
                tree_crossings: file.crossings.1,
            })?,
            Ok(file) => out.line(file.xml.trim_end())?,
            Err(why) => {
                out::message(&format!("no NCCL graph file: {why}"));
                return Ok(Outcome::Wanting);
            }
        }
        Ok(Outcome::Done)
    }
}

/// Reads `on` or `off` for clap.
fn parse_p2p(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}

fn explained(correction: &Correction) -> ExplainedCorrection<'_> {
    ExplainedCorrection {
        device: correction.device,
        what: &correction.what,
        evidence: &correction.evidence,
    }
}

/// The text as a comment that both NCCL's reader and XML take: no two hyphens in a row.
fn comment(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let mut text = text.replace("--", "- -");
    while text.contains("--") {
        text = text.replace("--", "- -");
    }
    format!("<!-- {text} -->")
}
