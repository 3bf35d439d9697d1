//! GPUs against GPUs and NICs, and where each is.

use std::collections::BTreeSet;

use topology::machine::{Locality, Machine};
use topology::pci::PciAddress;

use super::{json, links};
use crate::command::CommandError;
use crate::out::Out;
use crate::paper::{Ink, Table, wrap};

/// NICs that are shown; the rest is in `--json`.
const MAX_NICS: usize = 16;

/// Stands behind a node that no word of the kernel's names, but other evidence.
const MARK: &str = "*";

/// A device and how it is called.
type Named = (String, PciAddress);

/// Prints a row a GPU, and where `width` allows no more, the devices in a table of their own; nothing on a
/// machine without GPUs.
pub(super) fn print(out: &mut Out, machine: &Machine, width: usize) -> Result<(), CommandError> {
    if machine.gpus.is_empty() {
        return Ok(());
    }
    let gpus: Vec<Named> = named("GPU", machine.gpus.iter().map(|gpu| gpu.pci));
    let nics: Vec<Named> = named("NIC", machine.nics.iter().map(|nic| nic.pci).take(MAX_NICS));
    let all: Vec<&Named> = gpus.iter().chain(&nics).collect();
    let mut table = Table::new(heads(&all).chain(["node", "CPUs", "link", "PCI address", "model"]));
    for row in &gpus {
        table.row([paths(machine, row, &all), place(machine, row)].concat());
    }
    if table.width() <= width {
        print_table(out, &table)?;
    } else {
        let cell = 2 + all.iter().map(|(name, _)| name.len()).max().unwrap_or(5);
        let columns = (width.saturating_sub(cell) / cell).max(4);
        let is_one = all.len() <= columns;
        let blocks = if is_one {
            vec![all.clone()]
        } else {
            vec![gpus.iter().collect(), nics.iter().collect()]
        };
        for block in blocks.iter().flat_map(|block| block.chunks(columns)) {
            let mut table = Table::new(heads(block));
            for row in &gpus {
                table.row(paths(machine, row, block));
            }
            print_table(out, &table)?;
        }
        let mut table = Table::new(["", "node", "CPUs", "link", "PCI address", "model", "UUID"]);
        for row in gpus.iter().chain(&nics) {
            let uuid = machine.gpu(row.1).and_then(|gpu| gpu.uuid.clone());
            let ends = (
                vec![(row.0.clone(), Ink::Head)],
                vec![(uuid.unwrap_or_default(), Ink::Faint)],
            );
            table.row([ends.0, place(machine, row), ends.1].concat());
        }
        if table.width() > width || machine.gpus.iter().all(|gpu| gpu.uuid.is_none()) {
            // In `--json`.
            table.drop_column("UUID");
        }
        if table.width() > width {
            // They are their node's, below.
            table.drop_column("CPUs");
        }
        print_table(out, &table)?;
    }
    for note in legend(machine, &all)
        .iter()
        .chain(&inferred(machine, &[gpus.as_slice(), &nics].concat()))
    {
        for line in wrap(note, width) {
            out.line(out.paper().ink(Ink::Faint, &line))?;
        }
    }
    if machine.nics.len() > MAX_NICS {
        let more = machine.nics.len() - MAX_NICS;
        out.line(format_args!("{} more: --json", super::count(more, "NIC")))?;
    }
    Ok(())
}

/// What the words of the matrix mean, those that it holds (`nvidia-smi topo -m` has the same).
fn legend(machine: &Machine, all: &[&Named]) -> Option<String> {
    let used: BTreeSet<String> = machine
        .gpus
        .iter()
        .flat_map(|gpu| all.iter().map(move |(_, to)| (gpu.pci, *to)))
        .filter(|(a, b)| a != b)
        .filter_map(|(a, b)| json::path(machine, a, b))
        .collect();
    let is_nvlink = used.iter().any(|word| word.starts_with("NV"));
    let link = format!("NV#: that many {}s", super::gpu_link(machine));
    let words = [
        ("PIX", "PIX: one PCI switch between"),
        ("PXB", "PXB: several switches"),
        ("PHB", "PHB: one host bridge of the processor"),
        ("NODE", "NODE: host bridges of one NUMA node"),
        ("SYS", "SYS: from NUMA node to NUMA node"),
    ];
    let known = words
        .into_iter()
        .filter(|(word, _)| used.contains(*word))
        .map(|(_, meaning)| meaning);
    let parts: Vec<&str> = is_nvlink
        .then_some(link.as_str())
        .into_iter()
        .chain(known)
        .collect();
    (!parts.is_empty()).then(|| format!("{}.", parts.join("; ")))
}

/// By which evidence the devices with a mark were placed.
fn inferred(machine: &Machine, devices: &[Named]) -> Option<String> {
    let mut by: Vec<(&'static str, Vec<&str>)> = Vec::new();
    for (name, pci) in devices {
        let Some(place) = topology::path::locality(machine, *pci) else {
            continue;
        };
        if place.numa_nodes.is_none() || !place.numa_source.is_inferred() {
            continue;
        }
        let words = place.numa_source.words();
        match by.iter_mut().find(|(own, _)| *own == words) {
            Some((_, names)) => names.push(name),
            None => by.push((words, vec![name])),
        }
    }
    let first = *by.first()?.1.first()?;
    let is_one = by.len() == 1;
    let parts: Vec<String> = by
        .iter()
        .map(|(words, names)| {
            let whose = if is_one {
                String::new()
            } else {
                format!("{}: ", short(names))
            };
            format!("{whose}by {words}")
        })
        .collect();
    Some(format!(
        "{MARK} inferred {} (`gpu-numa show --explain {first}`); the kernel does not say.",
        parts.join("; ")
    ))
}

/// `GPU0 to GPU7` of several names.
fn short(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [a, b] => format!("{a}, {b}"),
        [first, .., last] => format!("{first} to {last}"),
    }
}

fn named(kind: &str, devices: impl Iterator<Item = PciAddress>) -> Vec<Named> {
    devices
        .enumerate()
        .map(|(index, pci)| (format!("{kind}{index}"), pci))
        .collect()
}

fn heads<'a>(columns: &'a [&'a Named]) -> impl Iterator<Item = &'a str> {
    std::iter::once("").chain(columns.iter().map(|(name, _)| name.as_str()))
}

fn print_table(out: &mut Out, table: &Table) -> Result<(), CommandError> {
    out.line("")?;
    for line in table.lines(&out.paper()) {
        out.line(line)?;
    }
    Ok(())
}

/// A GPU's name and its paths.
fn paths(machine: &Machine, row: &Named, columns: &[&Named]) -> Vec<(String, Ink)> {
    let cell = |to: &&Named| {
        if row.1 == to.1 {
            return ("X".to_owned(), Ink::Faint);
        }
        let path = json::path(machine, row.1, to.1).unwrap_or_else(|| "?".to_owned());
        let ink = match path.as_str() {
            "SYS" => Ink::Far,
            "PHB" | "NODE" => Ink::Plain,
            "?" => Ink::Bad,
            _ => Ink::Good,
        };
        (path, ink)
    };
    std::iter::once((row.0.clone(), Ink::Head))
        .chain(columns.iter().map(cell))
        .collect()
}

/// Node, CPUs, link, address and model of a device.
fn place(machine: &Machine, (_, pci): &Named) -> Vec<(String, Ink)> {
    let unknown = || ("?".to_owned(), Ink::Bad);
    let locality = topology::path::locality(machine, *pci);
    let of = |text: &dyn Fn(&Locality) -> Option<String>| {
        locality
            .and_then(text)
            .map_or_else(unknown, |text| (text, Ink::Plain))
    };
    let link = links::of(machine, *pci);
    let words = links::describe(&link, machine.gpu(*pci).is_some());
    let ink = match () {
        () if words.ends_with("LOW") => Ink::Bad,
        () if words.ends_with("idle") => Ink::Faint,
        () => Ink::Plain,
    };
    let nic = || {
        let nic = machine.nics.iter().find(|nic| nic.pci == *pci)?;
        Some(nic.names.join(" "))
    };
    let model = machine
        .gpu(*pci)
        .map(super::model)
        .or_else(nic)
        .unwrap_or_default();
    vec![
        of(&|place| {
            let mark = if place.numa_source.is_inferred() {
                MARK
            } else {
                ""
            };
            Some(format!("{}{mark}", place.numa_nodes.as_ref()?))
        }),
        of(&|place| Some(place.cpus.as_ref()?.to_string())),
        (words, ink),
        (pci.to_string(), Ink::Plain),
        (model, Ink::Plain),
    ]
}
