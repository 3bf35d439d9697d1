//! The option's items: the one place that has their words and their meanings.

use std::ffi::CStr;

use super::choices::{Frameworks, Map, Memory, Nccl, Nic, Policy, Verbosity, Width};
use super::item::Item;
use super::kinds::ItemKind;

/// An item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// What it chooses.
    pub item: Item,
    /// The word that is typed, with the key of its kind.
    pub word: &'static str,
    /// What it does, for a person.
    pub meaning: &'static str,
}

/// All items, kind by kind in the order of [`ItemKind::ALL`].
pub const TABLE: &[Row] = &[
    row(
        Item::Policy(Policy::Off),
        "off",
        "do nothing, even where the site binds every step (unless the site locks the policy)",
    ),
    row(
        Item::Policy(Policy::None),
        "none",
        "change nothing; report what would be done",
    ),
    row(
        Item::Policy(Policy::BestEffort),
        "best-effort",
        "bind each task to what is local in the allocation; where nothing is, leave the task as Slurm made it, or on its GPU's socket, and say so",
    ),
    row(
        Item::Policy(Policy::Restricted),
        "restricted",
        "refuse the step if a GPU of a task would get no local CPU, or its NUMA node is unknown",
    ),
    row(
        Item::Policy(Policy::SingleNumaNode),
        "single-numa-node",
        "as restricted, and also refuse if the GPUs of a task share no NUMA node, or if fewer local CPUs than asked are there",
    ),
    row(
        Item::Width(Width::Exclusive),
        "exclusive",
        "split the step's CPUs over its tasks without overlap: whole cores, as local as possible",
    ),
    row(
        Item::Width(Width::Node),
        "node",
        "give each task all of the step's CPUs on its GPUs' NUMA nodes; tasks there share them",
    ),
    row(
        Item::Width(Width::Socket),
        "socket",
        "give each task all of the step's CPUs on its GPUs' sockets; tasks there share them",
    ),
    row(
        Item::Width(Width::L3),
        "l3",
        "give each task the CPUs of one last-level cache near its GPU: the one that the GPU hangs from where that is known, else the one that the fewest other tasks have",
    ),
    row(
        Item::Memory(Memory::Preferred),
        "mem=preferred",
        "prefer memory on the GPUs' NUMA nodes",
    ),
    row(
        Item::Memory(Memory::Bind),
        "mem=bind",
        "take memory from the GPUs' NUMA nodes only",
    ),
    row(
        Item::Memory(Memory::Interleave),
        "mem=interleave",
        "spread memory evenly over the GPUs' NUMA nodes",
    ),
    row(
        Item::Memory(Memory::None),
        "mem=none",
        "leave the memory policy as it is",
    ),
    row(
        Item::Map(Map::Auto),
        "map=auto",
        "where all tasks see the same GPUs, task k is taken to use the k-th block of them if these come out even, else the GPU of its local id; otherwise a task uses all that it sees",
    ),
    row(
        Item::Map(Map::Visible),
        "map=visible",
        "a task uses all GPUs that it sees",
    ),
    row(
        Item::Map(Map::Localid),
        "map=localid",
        "task k uses one of the GPUs that it sees: number k modulo how many there are",
    ),
    row(
        Item::Nccl(Nccl::On),
        "nccl=on",
        "give NCCL a corrected topology file; the job's log has a line if its collectives must cross sockets",
    ),
    row(
        Item::Nccl(Nccl::Topo),
        "nccl=topo",
        "give NCCL the topology file, without the log line",
    ),
    row(
        Item::Nccl(Nccl::Log),
        "nccl=log",
        "give NCCL the topology file, and always write the log line",
    ),
    row(
        Item::Nccl(Nccl::Off),
        "nccl=off",
        "leave NCCL alone: no topology file and no log line",
    ),
    row(
        Item::Nic(Nic::Report),
        "nic=report",
        "name the NICs nearest to each task's GPUs in its report, and in its line under `verbose`",
    ),
    row(
        Item::Nic(Nic::On),
        "nic=on",
        "also give them to UCX (`UCX_NET_DEVICES`) where you left it unset: one task then does not take the NIC of another",
    ),
    row(Item::Nic(Nic::Off), "nic=off", "leave NICs out"),
    row(
        Item::Frameworks(Frameworks::On),
        "frameworks=on",
        "set the variables by which SGLang, TensorRT-LLM and Open MPI's mpirun leave a binding alone, where they are unset",
    ),
    row(
        Item::Frameworks(Frameworks::Off),
        "frameworks=off",
        "set none of these variables",
    ),
    row(
        Item::Verbosity(Verbosity::Verbose),
        "verbose",
        "print one line per task",
    ),
    row(
        Item::Verbosity(Verbosity::Quiet),
        "quiet",
        "print problems only",
    ),
    row(
        Item::Override,
        "override",
        "bind even where you chose a binding yourself with --mem-bind or --cpu-bind",
    ),
];

const fn row(item: Item, word: &'static str, meaning: &'static str) -> Row {
    Row {
        item,
        word,
        meaning,
    }
}

impl Row {
    /// The word without the key of its kind.
    pub fn value(&self) -> &'static str {
        self.word
            .split_once('=')
            .map_or(self.word, |(_, value)| value)
    }

    /// Whether it holds where neither user nor site names an item of its kind.
    pub fn is_default(&self) -> bool {
        self.item.is_default()
    }
}

/// The items of a kind.
pub fn rows_of(kind: ItemKind) -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(move |row| row.item.kind() == kind)
}

/// The word of an item, as it is typed.
pub(super) fn word_of(item: Item) -> &'static str {
    let row = TABLE.iter().find(|row| row.item == item);
    row.map_or("", |row| row.word)
}

/// The values of a kind, with `separator` between them: `preferred|bind|interleave|none`.
pub(super) fn values_of(kind: ItemKind, separator: &str) -> String {
    let values: Vec<&str> = rows_of(kind).map(Row::value).collect();
    values.join(separator)
}

/// `a, b or c`.
fn either(words: &[String]) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// What may stand as an item, for a message.
pub(super) fn expected_items() -> String {
    let each = ItemKind::ALL.map(|kind| {
        if kind.has_key() {
            format!("{kind}=")
        } else {
            let words: Vec<String> = rows_of(kind).map(|row| row.word.to_owned()).collect();
            either(&words)
        }
    });
    each.join(", ")
}

/// What may stand before a `=`, for a message.
pub(super) fn expected_keys() -> String {
    let keyed = ItemKind::ALL.into_iter().filter(|kind| kind.has_key());
    either(&keyed.map(|kind| format!("{kind}=")).collect::<Vec<_>>())
}

/// The line of `srun --help`, ready: srun, sbatch and salloc each register it, whether anybody reads it or not.
pub const USAGE: &CStr = c"bind each task to its GPUs' CPUs and memory; items: \
    policy off|none|best-effort|restricted|single-numa-node, width exclusive|node|socket|l3, \
    mem=preferred|bind|interleave|none, map=auto|visible|localid, nccl=on|topo|log|off, \
    nic=report|on|off, frameworks=on|off, report verbose|quiet, override";

/// The item whose word is nearest to what was typed; none where nothing is near.
pub(super) fn nearest(typed: &str) -> Option<&'static str> {
    crate::text::nearest(typed, TABLE.iter().map(|row| row.word))
}
