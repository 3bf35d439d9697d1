//! `gpu-numa show`: the machine on one page.

mod explain;
mod json;
pub(crate) mod links;
mod matrix;
mod nodes;
mod sockets;
mod verdict;

use std::path::PathBuf;

use clap::Args;
use topology::machine::{Gpu, Machine};
use topology::set::CpuSet;

use crate::command::{CommandError, Format, From, Outcome};
use crate::out::Out;
use crate::picture::Picture;
use discovery::Source;

/// Shows the machine.
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
    #[arg(long, value_name = "FILE", conflicts_with_all = ["explain", "json"])]
    svg: Option<PathBuf>,
    /// Say by which evidence a GPU or NIC was placed: GPU0, NIC0 or a PCI address
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
            out.file(path, &Picture::new(&machine, &[]).draw())?;
        } else if self.format.json {
            out.json(&json::Document::new(&machine))?;
        } else {
            let width = out
                .paper()
                .width(if machine.gpus.len() <= 8 { 80 } else { 120 });
            print_header(out, &machine, &self.from.source(), width)?;
            matrix::print(out, &machine, width)?;
            nodes::print(out, &machine, width)?;
            verdict::print(out, &machine, width)?;
        }
        Ok(Outcome::Done)
    }
}

/// `1 GPU`, `2 GPUs`.
pub(crate) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// Whether there may be NVLink that the source could not show.
pub(crate) fn may_hide_nvlink(machine: &Machine) -> bool {
    let may_have = machine.gpus.iter().any(Gpu::may_link);
    may_have && !machine.nvlink_visible && machine.gpus.len() > 1
}

/// What joins the machine's GPUs beside PCI Express.
pub(crate) fn gpu_link(machine: &Machine) -> &'static str {
    let maker = machine.gpus.first().and_then(Gpu::maker);
    maker.unwrap_or(machine.launch_vendor()).link_name
}

/// A GPU's product name, or its PCI ids.
pub(crate) fn model(gpu: &Gpu) -> String {
    gpu.name.clone().unwrap_or_else(|| match gpu.device {
        0 => "model not recorded".to_owned(),
        device => format!("{:04x}:{device:04x}", gpu.vendor),
    })
}

/// `2 packages`.
pub(crate) fn packages(machine: &Machine) -> String {
    if machine.packages.is_empty() {
        "packages not recorded".to_owned()
    } else {
        count(machine.packages.len(), "package")
    }
}

/// What there is, and how it was seen.
fn print_header(
    out: &mut Out,
    machine: &Machine,
    source: &Source,
    width: usize,
) -> Result<(), CommandError> {
    let mut notes = Vec::new();
    if let Source::Path(path) = source {
        notes.push(format!("from {}", path.display()));
    }
    if may_hide_nvlink(machine) {
        notes.push(format!("{} not seen", gpu_link(machine)));
    }
    let notes = if notes.is_empty() {
        String::new()
    } else {
        format!("({})", notes.join(", "))
    };
    let counts = format!(
        "{}: {}, {}, {}; {}, {}",
        machine.hostname.as_deref().unwrap_or("machine"),
        packages(machine),
        count(machine.numa_nodes.len(), "NUMA node"),
        count(machine.online.len(), "CPU"),
        count(machine.gpus.len(), "GPU"),
        count(machine.nics.len(), "NIC"),
    );
    if counts.chars().count() + 3 + notes.chars().count() <= width {
        out.line(format!("{counts}   {notes}").trim_end())?;
    } else {
        out.line(counts)?;
        out.line(notes)?;
    }
    Ok(())
}

/// Memory as a person reads it.
pub(crate) fn memory(bytes: Option<u64>) -> String {
    match bytes.map(|bytes| bytes >> 20) {
        None => "?".to_owned(),
        Some(mib) if mib < 10_000 => format!("{mib} MB"),
        Some(mib) => format!("{} GB", (mib + 512) >> 10),
    }
}

/// A list or `-` when it is empty.
fn list(set: &CpuSet) -> String {
    if set.is_empty() {
        "-".to_owned()
    } else {
        set.to_string()
    }
}
