//! The kinds of item: a list names at most one item of each.

use std::fmt;

/// A kind of item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ItemKind {
    /// When a step is refused.
    Policy,
    /// How wide a task is bound.
    Width,
    /// Which memory policy a task gets.
    Memory,
    /// Which of the GPUs that a task sees it is taken to use.
    Map,
    /// What is done for NCCL.
    Nccl,
    /// What is done with the NICs nearest to a task's GPUs.
    Nic,
    /// Whether the programs' own bindings are asked to keep still.
    Frameworks,
    /// How much is said.
    Report,
    /// Whether the user's own bindings give way.
    Override,
}

impl ItemKind {
    /// All kinds, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::Policy,
        Self::Width,
        Self::Memory,
        Self::Map,
        Self::Nccl,
        Self::Nic,
        Self::Frameworks,
        Self::Report,
        Self::Override,
    ];

    /// The kind's name, as `lock=KIND` takes it and as a key of those kinds that have one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Width => "width",
            Self::Memory => "mem",
            Self::Map => "map",
            Self::Nccl => "nccl",
            Self::Nic => "nic",
            Self::Frameworks => "frameworks",
            Self::Report => "report",
            Self::Override => "override",
        }
    }

    /// Whether its items are written `NAME=VALUE`.
    pub fn has_key(self) -> bool {
        match self {
            Self::Memory | Self::Map | Self::Nccl | Self::Nic | Self::Frameworks => true,
            Self::Policy | Self::Width | Self::Report | Self::Override => false,
        }
    }
}

impl fmt::Display for ItemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
