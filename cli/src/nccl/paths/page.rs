//! The page of `gpu-numa nccl paths`.

use std::collections::BTreeSet;

use topology::quantity::count;

use super::PathsDocument;
use super::view::{ChannelGraph, PathsView, RankedGpu, condition};
use crate::command::CommandError;
use crate::out::Out;
use crate::paper::Ink;
use crate::table::{Cell, Column, Table};

/// The widest matrix that is printed, in ranks and network devices.
const MATRIX: usize = 20;

pub(super) fn print(out: &mut Out, document: &PathsDocument) -> Result<(), CommandError> {
    let all: Vec<&PathsView> = std::iter::once(&document.view)
        .chain(&document.others)
        .collect();
    for (place, view) in all.iter().enumerate() {
        if place > 0 {
            out.line("")?;
        }
        let names: Vec<&str> = std::iter::once(&view.nccl)
            .chain(&view.also)
            .map(String::as_str)
            .collect();
        out.line(format_args!("NCCL {}", names.join(", ")))?;
        out.line("")?;
        print_view(out, view)?;
    }
    Ok(())
}

fn print_view(out: &mut Out, view: &PathsView) -> Result<(), CommandError> {
    let heads = ["rank", NUMBER, "PCI address", "NUMA id", NICS];
    let mut ranks = Table::new(heads.map(Column::left));
    for gpu in &view.gpus {
        ranks.row([
            Cell::plain(gpu.rank.to_string()),
            Cell::plain(
                gpu.number
                    .map_or_else(String::new, |number| format!("GPU{number}")),
            ),
            Cell::plain(gpu.pci.clone()),
            Cell::plain(gpu.numaid.to_string()),
            Cell::plain(marked(view, &gpu.nics).join(" ")),
        ]);
    }
    if view.nics.is_empty() {
        ranks.drop_column(NICS);
    }
    if view.gpus.iter().all(|gpu| gpu.number.is_none()) {
        ranks.drop_column(NUMBER);
    }
    out.lines(&ranks)?;
    if view.gpus.len() + view.nics.len() <= MATRIX {
        out.table(&matrix(view))?;
    } else {
        out.table(&list(view))?;
    }
    let width = out.paper().width(PAGE);
    for note in legend(view).into_iter().chain(assumed(view)) {
        out.sentence(&note, Ink::Faint, width)?;
    }
    for note in &view.notes {
        out.sentence(note, Ink::Plain, width)?;
    }
    let condition = condition(view.assumes_no_nvlink);
    for node in &view.nodes {
        let ranks: Vec<String> = node.ranks.iter().map(ToString::to_string).collect();
        out.line("")?;
        out.line(format_args!("node of ranks {}:", ranks.join(" ")))?;
        for (name, graph) in [("ring", &node.ring), ("tree", &node.tree)] {
            print_graph(out, name, condition, graph.as_ref())?;
        }
    }
    let of_nodes = view.nodes.iter().flat_map(|node| [&node.ring, &node.tree]);
    print_fewest(out, condition, of_nodes.flatten())?;
    if !view.nodes.is_empty() && view.ring.is_some() {
        out.line("")?;
        out.line("with NCCL_NET_DISABLE_INTRA=1, which keeps the host whole:")?;
    }
    for (name, graph) in [("ring", &view.ring), ("tree", &view.tree)] {
        print_graph(out, name, condition, graph.as_ref())?;
    }
    print_fewest(out, condition, view.ring.iter().chain(&view.tree))?;
    out.line("")?;
    out.told(Ink::Plain, &view.verdict)?;
    Ok(())
}

/// Says how many channels NCCL uses of the rings and trees of a job, where its searches found different numbers.
fn print_fewest<'g>(
    out: &mut Out,
    condition: &str,
    graphs: impl Iterator<Item = &'g ChannelGraph>,
) -> Result<(), CommandError> {
    let Some(used) = fewest_channels(graphs) else {
        return Ok(());
    };
    let channels = count(used, "channel");
    out.line("")?;
    out.told(
        Ink::Plain,
        format_args!(
            "{condition}NCCL uses {channels} of each, as many as the search that found the fewest"
        ),
    )?;
    Ok(())
}

/// How many channels NCCL uses of each ring and tree, where its searches found different numbers (`route.rs`).
fn fewest_channels<'g>(graphs: impl Iterator<Item = &'g ChannelGraph>) -> Option<usize> {
    let found: Vec<usize> = graphs.map(|graph| graph.channels).collect();
    let fewest = found.iter().copied().min()?;
    found.iter().any(|more| *more > fewest).then_some(fewest)
}

/// Behind the name of a network device that is assumed.
const MARK: &str = "*";

/// The width of notes where that of the paper is not known.
const PAGE: usize = 100;

/// The names of network devices, those with a mark that are assumed.
fn marked(view: &PathsView, names: &[String]) -> Vec<String> {
    let is_assumed = |name: &String| view.nics.iter().any(|nic| nic.assumed && nic.name == *name);
    let names = names.iter();
    names
        .map(|name| {
            if is_assumed(name) {
                format!("{name}{MARK}")
            } else {
                name.clone()
            }
        })
        .collect()
}

/// What the words of the paths mean, and how they differ from those of `gpu-numa show`.
fn legend(view: &PathsView) -> Option<String> {
    let to_gpus = view.pairs.iter().map(|pair| pair.r#type.as_str());
    let to_nics = view.nics.iter().flat_map(|nic| &nic.from);
    let used: BTreeSet<&str> = to_gpus
        .chain(to_nics.map(|path| path.r#type.as_str()))
        .collect();
    let words = [
        ("NVL", "over NVLink"),
        ("NVB", "over NVLink through another GPU"),
        ("C2C", "over NVLink-C2C"),
        ("PIX", "through one PCIe switch"),
        ("PXB", "through several PCIe switches"),
        ("P2C", "to a NIC over NVLink-C2C and the processor"),
        ("PXN", "to a NIC through another GPU"),
        (
            "PHB",
            "through the processor of one <cpu>, which `gpu-numa show` and nvidia-smi call PHB or NODE",
        ),
        ("SYS", "from one <cpu> to another"),
        ("NET", "through the network"),
        ("DIS", "not connected"),
    ];
    let known = words.iter().filter(|(word, _)| used.contains(word));
    let parts: Vec<String> = known
        .map(|(word, meaning)| format!("{word}: {meaning}"))
        .collect();
    (!parts.is_empty()).then(|| {
        format!(
            "NCCL's path types and GB/s by its own tables, not measured. {}.",
            parts.join("; ")
        )
    })
}

/// The network devices that are assumed.
fn assumed(view: &PathsView) -> Option<String> {
    let nic = view.nics.iter().find(|nic| nic.assumed)?;
    Some(format!(
        "{MARK} assumed: sockets over one interface of {} GB/s at the first <cpu>, as NCCL takes one whose speed and PCI \
         address it cannot read. No RDMA port is known here, or --nets eth asks for this.",
        nic.speed_gb_s
    ))
}

/// The head of the column of the machine's numbers of GPUs.
const NUMBER: &str = "GPU";

/// The head of the column of the network devices that a rank uses.
const NICS: &str = "NICs";

/// The paths from each rank in a row: their type and GB/s.
fn matrix(view: &PathsView) -> Table {
    let ranks = view.gpus.iter().map(|gpu| format!("rank {}", gpu.rank));
    let names: Vec<String> = view.nics.iter().map(|nic| nic.name.clone()).collect();
    let nics = marked(view, &names);
    let heads = std::iter::once("from".to_owned()).chain(ranks).chain(nics);
    let mut table = Table::new(heads.map(Column::left));
    for from in &view.gpus {
        let pair = |to: &RankedGpu| {
            let mut pairs = view.pairs.iter();
            pairs.find(|pair| pair.a == from.pci && pair.b == to.pci)
        };
        let to_gpus = view.gpus.iter().map(|to| {
            pair(to).map_or_else(
                || "X".to_owned(),
                |pair| format!("{} {}", pair.r#type, pair.bandwidth_gb_s),
            )
        });
        let to_nics = view.nics.iter().map(|nic| {
            let path = nic.from.iter().find(|path| path.gpu == from.pci);
            path.map_or_else(String::new, |path| {
                format!("{} {}", path.r#type, path.bandwidth_gb_s)
            })
        });
        let first = std::iter::once(format!("rank {}", from.rank));
        table.row(first.chain(to_gpus).chain(to_nics).map(Cell::plain));
    }
    table
}

/// The paths as a list, where a matrix would be too wide.
fn list(view: &PathsView) -> Table {
    let words = ["from", "to", "path"].map(Column::left);
    let mut pairs = Table::new(words.into_iter().chain([Column::right("GB/s")]));
    for pair in &view.pairs {
        pairs.row([
            Cell::plain(pair.a.clone()),
            Cell::plain(pair.b.clone()),
            Cell::plain(pair.r#type.clone()),
            Cell::plain(pair.bandwidth_gb_s.to_string()),
        ]);
    }
    for nic in &view.nics {
        for path in &nic.from {
            pairs.row([
                Cell::plain(path.gpu.clone()),
                Cell::plain(marked(view, std::slice::from_ref(&nic.name)).concat()),
                Cell::plain(path.r#type.clone()),
                Cell::plain(path.bandwidth_gb_s.to_string()),
            ]);
        }
    }
    pairs
}

fn print_graph(
    out: &mut Out,
    name: &str,
    condition: &str,
    graph: Option<&ChannelGraph>,
) -> Result<(), CommandError> {
    let Some(graph) = graph else { return Ok(()) };
    out.line("")?;
    out.line(format_args!(
        "{condition}{name}: {} of {} GB/s, {}",
        count(graph.channels, "channel"),
        graph.bandwidth_gb_s,
        graph.r#type
    ))?;
    let counts = graph.sys_hops.iter().zip(&graph.socket_crossings);
    for (channel, (order, (sys, crossings))) in graph.order.iter().zip(counts).enumerate() {
        let order = order.join(" ");
        let order = match graph.nics.get(channel) {
            Some([into, back]) => format!("{into} > {order} > {back}"),
            None => order,
        };
        out.line(format_args!(
            "  {order}  ({}, {})",
            count(*sys, "SYS hop"),
            match graph.nics.get(channel) {
                Some(_) => format!("{} between GPUs", count(*crossings, "socket crossing")),
                None => count(*crossings, "socket crossing"),
            }
        ))?;
    }
    Ok(())
}
