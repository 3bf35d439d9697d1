//! GPUs against GPUs and NICs, and where each is.

use std::collections::BTreeSet;

use topology::machine::{Locality, Machine, NumaSource};
use topology::pci::PciAddress;
use topology::quantity::count;
use topology::vendor::VENDORS;

use crate::command::CommandError;
use crate::out::Out;
use crate::paper::Ink;
use crate::table::{Cell, Column, Table};
use crate::{hardware, links};

/// NICs that are shown; the rest is in `--json`.
const MAX_NICS: usize = 16;

/// Stands behind a node that the kernel does not report and other evidence names.
const MARK: &str = "*";

/// The columns that say where a device is and what.
const PLACE: [&str; 5] = ["node", CPUS, "link", "PCI address", "model"];
const CPUS: &str = "CPUs";
const UUID: &str = "UUID";

/// A device and what it is called.
type Named = (String, PciAddress);

/// Prints one row per device with its paths, or the paths of GPUs and the devices in tables of their own where `width`
/// allows no more, and on a machine without GPUs, whose NICs no path is of use to.
pub(super) fn print(out: &mut Out, machine: &Machine, width: usize) -> Result<(), CommandError> {
    let gpus: Vec<Named> = named("GPU", machine.gpus.iter().map(|gpu| gpu.pci));
    let nics: Vec<Named> = named("NIC", machine.nics.iter().map(|nic| nic.pci).take(MAX_NICS));
    let all: Vec<&Named> = gpus.iter().chain(&nics).collect();
    if all.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(heads(&all).chain(PLACE.map(Column::left)));
    for row in &all {
        table.row([paths(machine, row, &all), place(machine, row)].concat());
    }
    let is_one_table = table.width() <= width && !gpus.is_empty();
    if is_one_table {
        out.table(&table)?;
    } else {
        let cell = 2 + all.iter().map(|(name, _)| name.len()).max().unwrap_or(5);
        let columns = (width.saturating_sub(cell) / cell).max(4);
        let is_one = all.len() <= columns;
        let blocks = if is_one {
            vec![all.clone()]
        } else {
            vec![gpus.iter().collect(), nics.iter().collect()]
        };
        let blocks = blocks.iter().filter(|_| !gpus.is_empty());
        for block in blocks.flat_map(|block| block.chunks(columns)) {
            let mut table = Table::new(heads(block));
            for row in &gpus {
                table.row(paths(machine, row, block));
            }
            out.table(&table)?;
        }
        let first = std::iter::once(Column::left(""));
        let heads = first.chain(PLACE.map(Column::left));
        let mut table = Table::new(heads.chain([Column::left(UUID)]));
        for row in gpus.iter().chain(&nics) {
            let uuid = machine.gpu(row.1).and_then(|gpu| gpu.uuid.clone());
            let name = std::iter::once(Cell::new(row.0.clone(), Ink::Head));
            let uuid = Cell::new(uuid.unwrap_or_default(), Ink::Faint);
            table.row(name.chain(place(machine, row)).chain([uuid]));
        }
        if table.width() > width || machine.gpus.iter().all(|gpu| gpu.uuid.is_none()) {
            // In `--json`.
            table.drop_column(UUID);
        }
        if table.width() > width {
            // They are their node's, below.
            table.drop_column(CPUS);
        }
        out.table(&table)?;
    }
    let from = if is_one_table { all.len() } else { gpus.len() };
    for note in legend(machine, &all, from)
        .iter()
        .chain(&inferred(machine, &[gpus.as_slice(), &nics].concat()))
    {
        out.sentence(note, Ink::Faint, width)?;
    }
    if machine.nics.len() > MAX_NICS {
        let more = machine.nics.len() - MAX_NICS;
        out.line(format_args!(
            "{} not shown; --json lists every NIC",
            count(more, "NIC")
        ))?;
    }
    Ok(())
}

/// What the words in the rows of the first `rows` devices mean (`nvidia-smi topo -m` has the same words; of the links of other makers their own tool's).
fn legend(machine: &Machine, all: &[&Named], rows: usize) -> Option<String> {
    let used: BTreeSet<String> = all
        .iter()
        .take(rows)
        .flat_map(|(_, from)| all.iter().map(move |(_, to)| (*from, *to)))
        .filter(|(a, b)| a != b)
        .filter_map(|(a, b)| hardware::path(machine, a, b))
        .collect();
    let links = VENDORS.iter().filter(|vendor| {
        let is_link = |word: &String| {
            let number = word.strip_prefix(vendor.link_mark);
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        used.iter().any(is_link)
    });
    let links =
        links.map(|vendor| format!("{}#: through # {}s", vendor.link_mark, vendor.link_name));
    let uncounted = VENDORS
        .iter()
        .filter(|vendor| used.contains(vendor.link_mark))
        .map(|vendor| {
            let (mark, link) = (vendor.link_mark, vendor.link_name);
            format!("{mark}: through {link}, over other GPUs or not known how directly")
        });
    let links: Vec<String> = links.chain(uncounted).collect();
    let words = [
        ("PIX", "PIX: through one PCIe switch"),
        ("PXB", "PXB: through several PCIe switches"),
        ("PHB", "PHB: through a host bridge of the processor"),
        ("NODE", "NODE: between host bridges of one NUMA node"),
        ("SYS", "SYS: between NUMA nodes"),
    ];
    let known = words
        .into_iter()
        .filter(|(word, _)| used.contains(*word))
        .map(|(_, meaning)| meaning);
    let parts: Vec<&str> = links.iter().map(String::as_str).chain(known).collect();
    (!parts.is_empty()).then(|| format!("{}.", parts.join("; ")))
}

/// The evidence for the devices with a mark.
fn inferred(machine: &Machine, devices: &[Named]) -> Option<String> {
    let mut by: Vec<(&'static str, Vec<&str>)> = Vec::new();
    let mut reported: BTreeSet<&str> = BTreeSet::new();
    for (name, pci) in devices {
        let Some(place) = topology::path::locality(machine, *pci) else {
            continue;
        };
        if place.numa_nodes.is_none() || !place.numa_source.is_inferred() {
            continue;
        }
        let words = place.numa_source.words();
        reported.insert(if place.numa_source == NumaSource::NearestNode {
            "one without CPUs"
        } else {
            "no NUMA node"
        });
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
            format!("{whose}from {words}")
        })
        .collect();
    Some(format!(
        "{MARK} inferred {}; the kernel reports {} (`gpu-numa show --explain {first}` lists the evidence).",
        parts.join("; "),
        Vec::from_iter(reported).join(", or ")
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

fn heads(columns: &[&Named]) -> impl Iterator<Item = Column> {
    let names = columns.iter().map(|(name, _)| name.as_str());
    std::iter::once("").chain(names).map(Column::left)
}

/// A GPU's name and its paths.
fn paths(machine: &Machine, row: &Named, columns: &[&Named]) -> Vec<Cell> {
    let cell = |to: &&Named| {
        if row.1 == to.1 {
            return Cell::new("X", Ink::Faint);
        }
        let path = hardware::path(machine, row.1, to.1).unwrap_or_else(|| "?".to_owned());
        let ink = match path.as_str() {
            "SYS" => Ink::Far,
            "PHB" | "NODE" => Ink::Plain,
            "?" => Ink::Bad,
            _ => Ink::Good,
        };
        Cell::new(path, ink)
    };
    std::iter::once(Cell::new(row.0.clone(), Ink::Head))
        .chain(columns.iter().map(cell))
        .collect()
}

/// Node, CPUs, link, address and model of a device.
fn place(machine: &Machine, (_, pci): &Named) -> Vec<Cell> {
    let unknown = || Cell::new("?", Ink::Bad);
    let locality = topology::path::locality(machine, *pci);
    let of = |text: &dyn Fn(&Locality) -> Option<String>| {
        locality.and_then(text).map_or_else(unknown, Cell::plain)
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
        .map(hardware::model)
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
        Cell::new(words, ink),
        Cell::plain(pci.to_string()),
        Cell::plain(model),
    ]
}
