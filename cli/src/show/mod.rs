//! `gpu-numa show`: the machine on one page.

pub(crate) mod explain;
pub(crate) mod json;
mod matrix;
mod nics;
mod nodes;
mod sockets;
mod verdict;
#[cfg(test)]
pub(crate) use verdict::distances;

use std::path::{Path, PathBuf};

use clap::Args;
use topology::machine::Machine;

use crate::command::{CommandError, Format, From, Outcome};
use crate::hardware;
use crate::out::Out;
use crate::picture::Picture;

/// Show the machine: its GPUs, NICs and NUMA nodes, and the paths between them
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  gpu-numa show\n  gpu-numa show --from topo.xml --json\n  \
gpu-numa show --explain GPU0\n  gpu-numa show --svg machine.svg"
)]
pub(crate) struct Show {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    format: Format,
    /// Draw the machine as SVG into FILE; - is standard output
    #[arg(long, value_name = "FILE", value_parser = crate::usage::parse_svg,
          conflicts_with_all = ["explain", "json"])]
    svg: Option<PathBuf>,
    /// List the evidence for the NUMA node of a GPU or NIC: GPU0, NIC0 or a PCI address
    #[arg(long, value_name = "GPU")]
    explain: Option<String>,
}

impl Show {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let machine = self.from.read()?;
        if let Some(device) = &self.explain {
            let overrides = discovery::read_overrides(&self.from.source());
            explain::print(out, &machine, &overrides, device, self.format.json)?;
        } else if let Some(path) = &self.svg {
            out.file(path, &Picture::new(&machine, &[], false).draw())?;
        } else if self.format.json {
            let driver = discovery::read_driver(&self.from.source());
            out.json(&json::ShowDocument::new(&machine, driver))?;
        } else {
            let width = out
                .paper()
                .width(if machine.gpus.len() <= 8 { 80 } else { 120 });
            print_header(out, &machine, self.from.path(), width)?;
            matrix::print(out, &machine, width)?;
            nodes::print(out, &machine, width)?;
            verdict::print(out, &machine, width)?;
        }
        Ok(Outcome::Done)
    }
}

/// What there is, and how it was seen.
fn print_header(
    out: &mut Out,
    machine: &Machine,
    from: Option<&Path>,
    width: usize,
) -> Result<(), CommandError> {
    let mut notes = Vec::new();
    if let Some(path) = from {
        notes.push(format!("from {}", path.display()));
    }
    if let Some(link) = hardware::hidden_link(machine) {
        notes.push(format!("{link} not visible"));
    }
    let notes = if notes.is_empty() {
        String::new()
    } else {
        format!("({})", notes.join(", "))
    };
    let counts = format!(
        "{}: {}",
        hardware::host(machine),
        hardware::summary(machine)
    );
    if counts.chars().count() + 3 + notes.chars().count() <= width {
        out.line(format!("{counts}   {notes}").trim_end())?;
    } else {
        out.line(counts)?;
        out.line(notes)?;
    }
    Ok(())
}
