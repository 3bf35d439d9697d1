//! `show --explain`: the evidence for where a device is.

use serde::Serialize;
use topology::locality::{Facts, Overrides, explain, explain_nearest};
use topology::machine::{Machine, NumaSource};
use topology::pci::PciAddress;
use topology::set::CpuSet;

use crate::command::CommandError;
use crate::hardware;
use crate::out::Out;
use crate::paper::Ink;
use crate::table::{Cell, Column, Table};

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ExplainDocument {
    /// `gpu-numa/explain/1`.
    schema: &'static str,
    /// The device.
    pci: PciAddress,
    /// Every kind of evidence, in the order in which they are asked; the first with nodes decides.
    rungs: Vec<Answer>,
    /// The CPUs that are nearer to it than the rest of its NUMA node; absent where none are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest_cpus: Option<CpuSet>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Answer {
    /// The kind of evidence.
    source: NumaSource,
    /// The nodes that it names; null where it names none.
    numa_nodes: Option<String>,
    /// What was read, and where.
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
    let pci = hardware::find_device(machine, name).ok_or_else(unknown)?;
    let device = machine.device(pci).ok_or_else(unknown)?;
    let facts = Facts {
        device,
        machine,
        overrides,
    };
    let nearest = explain_nearest(&facts);
    let rungs: Vec<_> = explain(&facts)
        .into_iter()
        .map(|(source, finding)| match finding {
            Ok(found) => Answer {
                source,
                numa_nodes: Some(found.nodes.to_string()),
                because: found.because.to_string(),
            },
            Err(why) => Answer {
                source,
                numa_nodes: None,
                because: why.to_string(),
            },
        })
        .collect();
    if as_json {
        out.json(&ExplainDocument {
            schema: "gpu-numa/explain/1",
            pci,
            rungs,
            nearest_cpus: nearest.map(|(cpus, _)| cpus),
        })?;
        return Ok(());
    }
    let decided = rungs.iter().position(|rung| rung.numa_nodes.is_some());
    let nodes = decided.and_then(|index| rungs.get(index)?.numa_nodes.clone());
    let label = hardware::device_label(machine, pci);
    match nodes {
        Some(nodes) => out.line(format_args!("{label}: NUMA node {nodes}"))?,
        None => out.line(format_args!(
            "{label}: NUMA node unknown; none of the evidence below names one"
        ))?,
    }
    if let Some((cpus, because)) = nearest {
        out.line(format_args!(
            "CPUs {cpus} are nearer to it than the rest of that node: {because}"
        ))?;
    }
    let mut table = Table::new([Column::right(""), Column::left(""), Column::left("")]);
    for (index, rung) in rungs.iter().enumerate() {
        let is_decisive = decided == Some(index);
        let (mark, ink) = if is_decisive {
            ("=>", Ink::Good)
        } else {
            ("", Ink::Plain)
        };
        table.row([
            Cell::new(mark, ink),
            Cell::new(source_name(rung.source), ink),
            Cell::plain(rung.because.clone()),
        ]);
    }
    table.fold_last(out.paper().width(usize::MAX));
    Ok(out.lines(&table)?)
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
            "no such device; expected {}, or a PCI address",
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
