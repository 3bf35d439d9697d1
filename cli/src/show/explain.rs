//! `show --explain`: by which evidence a device was placed.

use serde::Serialize;
use topology::locality::{Facts, NumaSource, Overrides, explain};
use topology::machine::Machine;
use topology::pci::PciAddress;

use crate::command::CommandError;
use crate::out::Out;

#[derive(Debug, Serialize)]
struct Document {
    schema: &'static str,
    pci: PciAddress,
    rungs: Vec<Rung>,
}

#[derive(Debug, Serialize)]
struct Rung {
    source: NumaSource,
    numa_nodes: Option<String>,
    because: String,
}

/// Prints every rung's answer for `name`; the first that has nodes decided.
pub(crate) fn print(
    out: &mut Out,
    machine: &Machine,
    overrides: &Overrides,
    name: &str,
    as_json: bool,
) -> Result<(), CommandError> {
    let unknown = || CommandError::Argument(format!("--explain \"{name}\": {}", known(machine)));
    let pci = find(machine, name).ok_or_else(unknown)?;
    let device = machine.device(pci).ok_or_else(unknown)?;
    let rungs: Vec<_> = explain(&Facts {
        device,
        machine,
        overrides,
    })
    .into_iter()
    .map(|(source, finding)| match finding {
        Ok(found) => Rung {
            source,
            numa_nodes: Some(found.nodes.to_string()),
            because: found.because,
        },
        Err(because) => Rung {
            source,
            numa_nodes: None,
            because,
        },
    })
    .collect();
    if as_json {
        out.json(&Document {
            schema: "gpu-numa/explain/1",
            pci,
            rungs,
        })?;
        return Ok(());
    }
    let decided = rungs.iter().position(|rung| rung.numa_nodes.is_some());
    let nodes = decided.and_then(|index| rungs.get(index)?.numa_nodes.clone());
    match nodes {
        Some(nodes) => out.line(format_args!("{name} {pci}: node {nodes}"))?,
        None => out.line(format_args!(
            "{name} {pci}: node unknown, no evidence below says"
        ))?,
    }
    for (index, rung) in rungs.iter().enumerate() {
        let mark = if decided == Some(index) { "=>" } else { "" };
        out.line(format_args!(
            "{mark:>3} {:<14} {}",
            source_name(rung.source),
            rung.because
        ))?;
    }
    Ok(())
}

/// What could have been asked for.
fn known(machine: &Machine) -> String {
    let range = |kind: &str, count: usize| match count {
        0 => None,
        1 => Some(format!("{kind}0")),
        _ => Some(format!("{kind}0 to {kind}{}", count - 1)),
    };
    let gpus = range("GPU", machine.gpus.len());
    let nics = range("NIC", machine.nics.len());
    let names: Vec<String> = gpus.into_iter().chain(nics).collect();
    if names.is_empty() {
        "the machine has no GPU and no NIC".to_owned()
    } else {
        format!(
            "no such device; expected {}, or a PCI address of one",
            names.join(", ")
        )
    }
}

/// The source's word in `--json`.
fn source_name(source: NumaSource) -> String {
    serde_json::to_value(source)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn find(machine: &Machine, name: &str) -> Option<PciAddress> {
    if let Ok(address) = name.parse::<PciAddress>() {
        return Some(address);
    }
    let index = |prefix: &str| -> Option<usize> {
        let (head, digits) = name.split_at_checked(prefix.len())?;
        head.eq_ignore_ascii_case(prefix)
            .then(|| digits.parse().ok())?
    };
    if let Some(nic) = index("NIC") {
        return machine.nics.get(nic).map(|nic| nic.pci);
    }
    let gpu = index("GPU").or_else(|| name.parse().ok());
    gpu.and_then(|gpu| machine.gpus.get(gpu))
        .or_else(|| machine.gpu_of_uuid(name))
        .map(|gpu| gpu.pci)
}
