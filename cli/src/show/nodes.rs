//! The table of NUMA nodes with their distances.

use topology::machine::{Machine, NodeKind, NumaNode};

use crate::command::CommandError;
use crate::hardware::memory;
use crate::out::Out;
use crate::paper::Ink;
use crate::table::{Cell, Column, Table};

/// The head of the column that only machines with nodes of several kinds have.
const KIND: &str = "kind";

/// Prints one row per node; distances beside it, or in a table of their own where `width` does not hold them.
pub(super) fn print(out: &mut Out, machine: &Machine, width: usize) -> Result<(), CommandError> {
    let nodes = &machine.numa_nodes;
    let has_distances = nodes.iter().any(|node| !node.distances.is_empty());
    let has_kinds = nodes.iter().any(|node| node.kind != NodeKind::Dram);
    let all: Vec<&NumaNode> = if has_distances {
        nodes.iter().collect()
    } else {
        Vec::new()
    };
    let table = build(nodes, has_kinds, &all, "distance to ");
    if table.width() <= width {
        return Ok(out.table(&table)?);
    }
    let table = build(nodes, has_kinds, &all, "to ");
    if table.width() <= width {
        return Ok(out.table(&table)?);
    }
    out.table(&build(nodes, has_kinds, &[], ""))?;
    // With too many nodes for one line, only the distances to nodes with CPUs, where tasks run.
    let with_cpus: Vec<&NumaNode> = nodes.iter().filter(|node| !node.cpus.is_empty()).collect();
    let to = if distances(nodes, &all).width() <= width {
        all
    } else {
        with_cpus
    };
    Ok(out.table(&distances(nodes, &to))?)
}

fn build(nodes: &[NumaNode], has_kinds: bool, to: &[&NumaNode], words: &str) -> Table {
    let fixed = ["node", "socket", "CPUs", "memory", KIND].map(Column::left);
    let mut table = Table::new(fixed.into_iter().chain(distance_columns(to, words)));
    for node in nodes {
        let socket = node
            .package
            .map_or_else(|| "-".to_owned(), |id| id.to_string());
        let cpus = if node.kind == NodeKind::Unrecorded {
            "?".to_owned()
        } else if node.cpus.is_empty() {
            "-".to_owned()
        } else {
            node.cpus.to_string()
        };
        let kind = match node.kind {
            NodeKind::Dram => "",
            NodeKind::Gpu => "GPU memory",
            NodeKind::Cpuless => "no CPUs",
            NodeKind::Offline => "CPUs offline",
            NodeKind::Unrecorded => "CPUs not recorded",
        };
        let cells = [
            Cell::plain(node.id.to_string()),
            Cell::plain(socket),
            Cell::plain(cpus),
            Cell::plain(memory(node.memory_bytes)),
            Cell::new(kind, Ink::Faint),
        ];
        table.row(cells.into_iter().chain(distance_cells(node, to)));
    }
    if !has_kinds {
        table.drop_column(KIND);
    }
    table
}

fn distances(nodes: &[NumaNode], to: &[&NumaNode]) -> Table {
    let first = std::iter::once(Column::left("distance"));
    let mut table = Table::new(first.chain(distance_columns(to, "")));
    for node in nodes {
        let head = std::iter::once(Cell::plain(format!("from {}", node.id)));
        table.row(head.chain(distance_cells(node, to)));
    }
    table
}

/// One column per node, with `words` before the first id.
fn distance_columns(to: &[&NumaNode], words: &str) -> impl Iterator<Item = Column> {
    to.iter().enumerate().map(move |(index, node)| {
        let words = if index == 0 { words } else { "" };
        Column::right(format!("{words}{:>2}", node.id))
    })
}

fn distance_cells(node: &NumaNode, to: &[&NumaNode]) -> impl Iterator<Item = Cell> {
    to.iter().map(|other| {
        let value = node.distances.get(&other.id);
        let text = value.map_or_else(|| "?".to_owned(), u32::to_string);
        let is_own = node.id == other.id;
        Cell::new(text, if is_own { Ink::Faint } else { Ink::Plain })
    })
}
