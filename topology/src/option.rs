//! The option `--gpu-numa-bind[=ITEM[,ITEM...]]` and where its items come from.

use std::fmt;

use serde::{Deserialize, Serialize};

/// When a step is refused rather than bound badly; named after Kubernetes' Topology Manager.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Nothing at all, also against a site's `always=`.
    Off,
    /// Change nothing, report what would be done.
    None,
    /// Bind to what is local; where nothing is, leave the task as Slurm made it.
    #[default]
    BestEffort,
    /// Refuse a step when a GPU of a task has no local CPU in the step, or an unknown locality.
    Restricted,
    /// As restricted, and refuse when a task's GPUs share no NUMA node or fewer local CPUs than asked
    /// are there.
    SingleNumaNode,
}

impl Policy {
    /// The word that the option takes.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::None => "none",
            Self::BestEffort => "best-effort",
            Self::Restricted => "restricted",
            Self::SingleNumaNode => "single-numa-node",
        }
    }

    /// Whether it may refuse a step.
    pub fn is_strict(self) -> bool {
        matches!(self, Self::Restricted | Self::SingleNumaNode)
    }
}

/// How wide a task is bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Width {
    /// The step's CPUs split disjointly over the tasks of the host, whole cores.
    #[default]
    Exclusive,
    /// All the step's CPUs local to the task's GPUs, shared with tasks alike.
    Node,
    /// All the step's CPUs in the packages of the task's GPUs.
    Socket,
    /// The CPUs of one last-level cache near the GPU.
    L3,
}

/// Which memory policy a task gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Memory {
    /// `mem=preferred`.
    #[default]
    Preferred,
    /// `mem=bind`.
    Bind,
    /// `mem=interleave`.
    Interleave,
    /// `mem=none`: leave it.
    None,
}

/// Which of the GPUs that a task sees it is taken to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Map {
    /// Task k takes the k-th share where all tasks see the same GPUs and it divides evenly.
    #[default]
    Auto,
    /// All that it sees.
    Visible,
    /// Always by local id, modulo.
    Localid,
}

/// What is done for NCCL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Nccl {
    /// The topology file; the profiler plugin where two GPUs of the job have no path but the socket link.
    #[default]
    On,
    /// The topology file alone, also on hosts with EFA.
    Topo,
    /// File and plugin always.
    Log,
    /// Neither.
    Off,
}

/// How much is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Verbosity {
    /// One line per host and step, and problems.
    #[default]
    Line,
    /// A line per task.
    Verbose,
    /// Problems only.
    Quiet,
}

/// The kinds of item, as `lock=KIND` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    /// `off`, `none`, `best-effort`, `restricted`, `single-numa-node`.
    Policy,
    /// `exclusive`, `node`, `socket`, `l3`.
    Width,
    /// `mem=`.
    Memory,
    /// `map=`.
    Map,
    /// `nccl=`.
    Nccl,
    /// `verbose`, `quiet`.
    Report,
    /// `override`.
    Override,
}

impl ItemKind {
    /// All kinds, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::Policy,
        Self::Width,
        Self::Memory,
        Self::Map,
        Self::Nccl,
        Self::Report,
        Self::Override,
    ];

    /// The kind's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Width => "width",
            Self::Memory => "mem",
            Self::Map => "map",
            Self::Nccl => "nccl",
            Self::Report => "report",
            Self::Override => "override",
        }
    }
}

impl fmt::Display for ItemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The items that one source (option, environment, plugstack line) names; the rest is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Items {
    /// Policy.
    pub policy: Option<Policy>,
    /// Width.
    pub width: Option<Width>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Map.
    pub map: Option<Map>,
    /// NCCL.
    pub nccl: Option<Nccl>,
    /// Report.
    pub report: Option<Verbosity>,
    /// `override`.
    pub override_user: Option<bool>,
}

/// Why an option string is refused: one line that names the item and what is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A word that is no item.
    #[error(
        "unknown item \"{0}\"; expected off, none, best-effort, restricted or single-numa-node, \
         exclusive, node, socket or l3, mem=, map=, nccl=, verbose or quiet, override"
    )]
    UnknownItem(String),
    /// `KEY=` with a key that is no kind.
    #[error("unknown key \"{0}\"; expected mem=, map= or nccl=")]
    UnknownKey(String),
    /// A key with a value that it does not take.
    #[error("\"{key}={value}\": expected {key}={accepted}")]
    UnknownValue {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What is accepted, as `a|b|c`.
        accepted: &'static str,
    },
    /// Two items of one kind.
    #[error("\"{first}\" and \"{second}\" are both a {kind}; expected one")]
    Twice {
        /// The kind.
        kind: ItemKind,
        /// The earlier item.
        first: String,
        /// The later item.
        second: String,
    },
    /// Longer than any real option.
    #[error("an option of {0} bytes; expected at most {MAX_LENGTH}")]
    TooLong(usize),
}

/// The longest option string that is looked at, in bytes.
pub const MAX_LENGTH: usize = 1024;

impl Items {
    /// Reads a comma-separated list of items; the empty text names none.
    ///
    /// # Errors
    /// [`OptionError`] for the first item that is not understood or stands twice.
    // A function of its own: tests/slurm/fault-shim.c puts a panic where it begins.
    #[inline(never)]
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        let (items, mut problems) = Self::parse_leniently(text);
        if problems.is_empty() {
            Ok(items)
        } else {
            Err(problems.swap_remove(0))
        }
    }

    /// Reads what can be read, and says what could not: for slurmstepd, where a bad item must not
    /// cost the job.
    pub fn parse_leniently(text: &str) -> (Self, Vec<OptionError>) {
        if text.len() > MAX_LENGTH {
            return (Self::default(), vec![OptionError::TooLong(text.len())]);
        }
        let mut items = Self::default();
        let mut problems = Vec::new();
        let mut seen: Vec<(ItemKind, &str)> = Vec::new();
        for item in text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            match parse_item(item) {
                Ok(part) => {
                    let kind = part.kind();
                    if let Some((_, first)) = seen.iter().find(|(earlier, _)| *earlier == kind) {
                        let (first, second) = ((*first).to_owned(), item.to_owned());
                        problems.push(OptionError::Twice {
                            kind,
                            first,
                            second,
                        });
                        continue;
                    }
                    seen.push((kind, item));
                    items.set(part);
                }
                Err(problem) => problems.push(problem),
            }
        }
        (items, problems)
    }

    /// These items, completed by `fallback` where a kind is not named.
    #[must_use]
    pub fn or(&self, fallback: &Self) -> Self {
        Self {
            policy: self.policy.or(fallback.policy),
            width: self.width.or(fallback.width),
            memory: self.memory.or(fallback.memory),
            map: self.map.or(fallback.map),
            nccl: self.nccl.or(fallback.nccl),
            report: self.report.or(fallback.report),
            override_user: self.override_user.or(fallback.override_user),
        }
    }

    /// Drops the items of the kinds in `locked`; gives back the kinds that were named.
    pub fn drop_kinds(&mut self, locked: &[ItemKind]) -> Vec<ItemKind> {
        locked
            .iter()
            .copied()
            .filter(|kind| match kind {
                ItemKind::Policy => self.policy.take().is_some(),
                ItemKind::Width => self.width.take().is_some(),
                ItemKind::Memory => self.memory.take().is_some(),
                ItemKind::Map => self.map.take().is_some(),
                ItemKind::Nccl => self.nccl.take().is_some(),
                ItemKind::Report => self.report.take().is_some(),
                ItemKind::Override => self.override_user.take().is_some(),
            })
            .collect()
    }

    fn set(&mut self, item: Item) {
        match item {
            Item::Policy(value) => self.policy = Some(value),
            Item::Width(value) => self.width = Some(value),
            Item::Memory(value) => self.memory = Some(value),
            Item::Map(value) => self.map = Some(value),
            Item::Nccl(value) => self.nccl = Some(value),
            Item::Report(value) => self.report = Some(value),
            Item::Override => self.override_user = Some(true),
        }
    }
}

/// What is asked for, every kind decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// Policy.
    pub policy: Policy,
    /// Width.
    pub width: Width,
    /// Memory.
    pub memory: Memory,
    /// Map.
    pub map: Map,
    /// NCCL.
    pub nccl: Nccl,
    /// Report.
    pub report: Verbosity,
    /// Whether the user's own `--mem-bind`, `--cpu-bind=none` and `map_cpu` give way.
    pub override_user: bool,
}

impl From<&Items> for Settings {
    /// Completes with what ships: `best-effort,exclusive,mem=preferred,map=auto,nccl=on`.
    fn from(items: &Items) -> Self {
        Self {
            policy: items.policy.unwrap_or_default(),
            width: items.width.unwrap_or_default(),
            memory: items.memory.unwrap_or_default(),
            map: items.map.unwrap_or_default(),
            nccl: items.nccl.unwrap_or_default(),
            report: items.report.unwrap_or_default(),
            override_user: items.override_user.unwrap_or_default(),
        }
    }
}

enum Item {
    Policy(Policy),
    Width(Width),
    Memory(Memory),
    Map(Map),
    Nccl(Nccl),
    Report(Verbosity),
    Override,
}

impl Item {
    fn kind(&self) -> ItemKind {
        match self {
            Self::Policy(_) => ItemKind::Policy,
            Self::Width(_) => ItemKind::Width,
            Self::Memory(_) => ItemKind::Memory,
            Self::Map(_) => ItemKind::Map,
            Self::Nccl(_) => ItemKind::Nccl,
            Self::Report(_) => ItemKind::Report,
            Self::Override => ItemKind::Override,
        }
    }
}

fn parse_item(text: &str) -> Result<Item, OptionError> {
    if let Some((key, value)) = text.split_once('=') {
        return parse_pair(key, value);
    }
    Ok(match text {
        "off" => Item::Policy(Policy::Off),
        "none" => Item::Policy(Policy::None),
        "best-effort" => Item::Policy(Policy::BestEffort),
        "restricted" => Item::Policy(Policy::Restricted),
        "single-numa-node" => Item::Policy(Policy::SingleNumaNode),
        "exclusive" => Item::Width(Width::Exclusive),
        "node" => Item::Width(Width::Node),
        "socket" => Item::Width(Width::Socket),
        "l3" => Item::Width(Width::L3),
        "verbose" => Item::Report(Verbosity::Verbose),
        "quiet" => Item::Report(Verbosity::Quiet),
        "override" => Item::Override,
        other => return Err(OptionError::UnknownItem(printable(other))),
    })
}

fn parse_pair(key: &str, value: &str) -> Result<Item, OptionError> {
    let unknown = |key, accepted| {
        Err(OptionError::UnknownValue {
            key,
            value: printable(value),
            accepted,
        })
    };
    Ok(match (key, value) {
        ("mem", "preferred") => Item::Memory(Memory::Preferred),
        ("mem", "bind") => Item::Memory(Memory::Bind),
        ("mem", "interleave") => Item::Memory(Memory::Interleave),
        ("mem", "none") => Item::Memory(Memory::None),
        ("mem", _) => return unknown("mem", "preferred|bind|interleave|none"),
        ("map", "auto") => Item::Map(Map::Auto),
        ("map", "visible") => Item::Map(Map::Visible),
        ("map", "localid") => Item::Map(Map::Localid),
        ("map", _) => return unknown("map", "auto|visible|localid"),
        ("nccl", "on") => Item::Nccl(Nccl::On),
        ("nccl", "topo") => Item::Nccl(Nccl::Topo),
        ("nccl", "log") => Item::Nccl(Nccl::Log),
        ("nccl", "off") => Item::Nccl(Nccl::Off),
        ("nccl", _) => return unknown("nccl", "on|topo|log|off"),
        (other, _) => return Err(OptionError::UnknownKey(printable(other))),
    })
}

/// A user's word for a message: control characters escaped, cut at 60 characters.
pub fn printable(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

/// A message that quotes others' text, as one line of at most 2,000 characters that cannot act on a terminal.
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars().take(2_000) {
        // Directional overrides and the like are no control characters to Rust, and are to a reader.
        if c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            line.extend(c.escape_debug());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_kind_is_read() {
        let items =
            Items::parse("restricted,node,mem=bind,map=localid,nccl=off,verbose,override").unwrap();
        let settings = Settings::from(&items);
        assert_eq!(
            settings,
            Settings {
                policy: Policy::Restricted,
                width: Width::Node,
                memory: Memory::Bind,
                map: Map::Localid,
                nccl: Nccl::Off,
                report: Verbosity::Verbose,
                override_user: true,
            }
        );
    }

    #[test]
    fn nothing_means_what_ships() {
        assert_eq!(Items::parse("").unwrap(), Items::default());
        assert_eq!(Settings::from(&Items::default()).policy, Policy::BestEffort);
    }

    #[test]
    fn a_bad_item_is_named_with_what_is_accepted() {
        for (text, says) in [
            (
                "clsest",
                "unknown item \"clsest\"; expected off, none, best-effort",
            ),
            (
                "mem=close",
                "\"mem=close\": expected mem=preferred|bind|interleave|none",
            ),
            (
                "men=bind",
                "unknown key \"men\"; expected mem=, map= or nccl=",
            ),
            (
                "node,l3",
                "\"node\" and \"l3\" are both a width; expected one",
            ),
            ("none,\u{1b}[2J", "unknown item \"\\u{1b}[2J\""),
        ] {
            let error = Items::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }

    #[test]
    fn a_lenient_reader_keeps_the_good_items() {
        let (items, problems) = Items::parse_leniently("node,bogus,restricted,l3");
        assert_eq!(
            (items.width, items.policy),
            (Some(Width::Node), Some(Policy::Restricted))
        );
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn the_first_source_that_names_a_kind_wins() {
        let option = Items::parse("node").unwrap();
        let site = Items::parse("l3,mem=bind").unwrap();
        let both = option.or(&site);
        assert_eq!(
            (both.width, both.memory),
            (Some(Width::Node), Some(Memory::Bind))
        );
    }

    #[test]
    fn locked_kinds_are_dropped_and_named() {
        let mut items = Items::parse("node,mem=bind").unwrap();
        assert_eq!(
            items.drop_kinds(&[ItemKind::Policy, ItemKind::Width]),
            [ItemKind::Width]
        );
        assert_eq!(items, Items::parse("mem=bind").unwrap());
    }

    proptest! {
        #[test]
        fn any_text_gives_items_or_one_line(text in "\\PC{0,40}") {
            if let Err(error) = Items::parse(&text) {
                prop_assert!(!error.to_string().contains('\n'));
            }
        }
    }
}
