//! The table of GPUs against GPUs and NICs.

use topology::machine::{Locality, Machine};
use topology::pci::PciAddress;

use super::{json, links};
use crate::command::CommandError;
use crate::out::Out;

/// NICs that get a column; the rest is in `--json`.
const MAX_NICS: usize = 16;

/// Prints a row a GPU; nothing on a machine without.
pub(crate) fn print(out: &mut Out, machine: &Machine) -> Result<(), CommandError> {
    if machine.gpus.is_empty() {
        return Ok(());
    }
    let columns = columns(machine);
    let locality = rows(machine, |locality| {
        let nodes = locality.numa_nodes.as_ref().map(ToString::to_string);
        let cpus = locality.cpus.as_ref().map(ToString::to_string);
        let unknown = || "?".to_owned();
        (nodes.unwrap_or_else(unknown), cpus.unwrap_or_else(unknown))
    });
    let nodes_width = locality
        .iter()
        .map(|(nodes, _)| nodes.len())
        .max()
        .unwrap_or(0)
        .max(4);
    let cpus_width = locality
        .iter()
        .map(|(_, cpus)| cpus.len())
        .max()
        .unwrap_or(0)
        .max(4);
    let names: String = columns
        .iter()
        .map(|(name, _)| format!("{name:^6}"))
        .collect();
    out.line("")?;
    out.line(format_args!(
        "        {names}  {:<nodes_width$}  {:<cpus_width$}  link",
        "node", "CPUs"
    ))?;
    for (index, (gpu, (nodes, cpus))) in machine.gpus.iter().zip(&locality).enumerate() {
        let paths: String = columns
            .iter()
            .map(|(_, to)| format!("{:^6}", cell(machine, gpu.pci, *to)))
            .collect();
        let link = machine
            .device(gpu.pci)
            .map(|device| links::describe(&device.link));
        let name = gpu.name.clone().unwrap_or_else(|| match gpu.device {
            0 => "model not recorded".to_owned(),
            device => format!("{:04x}:{device:04x}", gpu.vendor),
        });
        out.line(format_args!(
            "{:<8}{paths}  {nodes:<nodes_width$}  {cpus:<cpus_width$}  {:<13}  {} {name}",
            format!("GPU{index}"),
            link.unwrap_or_default(),
            gpu.pci,
        ))?;
    }
    if machine.nics.len() > MAX_NICS {
        out.line(format_args!(
            "{} more NICs: --json",
            machine.nics.len() - MAX_NICS
        ))?;
    }
    Ok(())
}

fn rows<T>(machine: &Machine, of: impl Fn(&Locality) -> T) -> Vec<T> {
    machine.gpus.iter().map(|gpu| of(&gpu.locality)).collect()
}

fn columns(machine: &Machine) -> Vec<(String, PciAddress)> {
    let gpus = machine.gpus.iter().map(|gpu| gpu.pci).enumerate();
    let nics = machine
        .nics
        .iter()
        .map(|nic| nic.pci)
        .take(MAX_NICS)
        .enumerate();
    gpus.map(|(index, pci)| (format!("GPU{index}"), pci))
        .chain(nics.map(|(index, pci)| (format!("NIC{index}"), pci)))
        .collect()
}

fn cell(machine: &Machine, from: PciAddress, to: PciAddress) -> String {
    if from == to {
        return "X".to_owned();
    }
    json::path(machine, from, to).unwrap_or_else(|| "?".to_owned())
}
