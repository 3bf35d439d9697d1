//! `gpu-numa nccl emit`.

use clap::Args;
use discovery::Source;
use nccl_topo::crossings::{least_crossings, ring_crossings};
use nccl_topo::emit::{Correction, Form, emit};
use serde::Serialize;
use topology::pci::PciAddress;

use crate::command::{CommandError, Format, From, Outcome};
use crate::nccl::version::{ForNccl, predictions};
use crate::out::{self, Out};

/// Write the corrected topology file of a machine
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa nccl emit > topo.xml; NCCL_TOPO_FILE=$PWD/topo.xml ./train
  gpu-numa nccl emit --explain --from /srv/recorded/node7

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
                predictions: predictions(&machine, &versions),
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
            for prediction in predictions(&machine, &versions) {
                out.line(comment(&format!("predicted: {prediction}")))?;
            }
        }
        out.line(emitted.xml.trim_end())?;
        Ok(Outcome::Done)
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
