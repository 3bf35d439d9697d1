//! The table of NUMA nodes with their distances.

use topology::machine::{Machine, NodeKind, NumaNode};

use super::{list, memory};
use crate::command::CommandError;
use crate::out::Out;
use crate::paper::{Ink, Table};

/// Prints a row a node; distances beside it, or below where `width` does not hold them.
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
        return print_table(out, &table);
    }
    let table = build(nodes, has_kinds, &all, "to ");
    if table.width() <= width {
        return print_table(out, &table);
    }
    print_table(out, &build(nodes, has_kinds, &[], ""))?;
    // Too many nodes for one line: to those with CPUs, which is where tasks run.
    let with_cpus: Vec<&NumaNode> = nodes.iter().filter(|node| !node.cpus.is_empty()).collect();
    let to = if distances(nodes, &all).width() <= width {
        all
    } else {
        with_cpus
    };
    print_table(out, &distances(nodes, &to))
}

fn build(nodes: &[NumaNode], has_kinds: bool, to: &[&NumaNode], words: &str) -> Table {
    let ids = column_heads(to, words);
    let fixed = ["node", "package", "CPUs", "memory", "kind"];
    let mut table = Table::new(fixed.into_iter().chain(ids.iter().map(String::as_str)));
    for node in nodes {
        let package = node
            .package
            .map_or_else(|| "-".to_owned(), |id| id.to_string());
        let kind = match node.kind {
            NodeKind::Dram => "",
            NodeKind::Gpu => "GPU memory",
            NodeKind::Cpuless => "no CPUs",
        };
        let mut cells = vec![
            (node.id.to_string(), Ink::Plain),
            (package, Ink::Plain),
            (list(&node.cpus), Ink::Plain),
            (memory(node.memory_bytes), Ink::Plain),
            (kind.to_owned(), Ink::Faint),
        ];
        cells.extend(values(node, to, words));
        table.row(cells);
    }
    if !has_kinds {
        table.drop_column("kind");
    }
    table
}

fn distances(nodes: &[NumaNode], to: &[&NumaNode]) -> Table {
    let ids = column_heads(to, "");
    let mut table = Table::new(std::iter::once("distance").chain(ids.iter().map(String::as_str)));
    for node in nodes {
        let head = (format!("from {}", node.id), Ink::Plain);
        table.row(std::iter::once(head).chain(values(node, to, "")).collect());
    }
    table
}

/// The ids, to the right of their columns; `words` before the first.
fn column_heads(to: &[&NumaNode], words: &str) -> Vec<String> {
    let head = |(index, node): (usize, &&NumaNode)| {
        let words = if index == 0 { words } else { "" };
        format!("{words}{:>2}", node.id)
    };
    to.iter().enumerate().map(head).collect()
}

fn values<'a>(
    node: &'a NumaNode,
    to: &'a [&NumaNode],
    words: &'a str,
) -> impl Iterator<Item = (String, Ink)> + 'a {
    to.iter().enumerate().map(move |(index, other)| {
        let value = node.distances.get(&other.id);
        let text = value.map_or_else(|| "?".to_owned(), u32::to_string);
        let blanks = if index == 0 { words.len() } else { 0 };
        let width = blanks + other.id.to_string().len().max(2);
        (
            format!("{text:>width$}"),
            if node.id == other.id {
                Ink::Faint
            } else {
                Ink::Plain
            },
        )
    })
}

fn print_table(out: &mut Out, table: &Table) -> Result<(), CommandError> {
    out.line("")?;
    for line in table.lines(&out.paper()) {
        out.line(line)?;
    }
    Ok(())
}
