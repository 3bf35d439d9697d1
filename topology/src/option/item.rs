//! One item of the option, without its word.

use super::choices::{Frameworks, Map, Memory, Nccl, Nic, Policy, Verbosity, Width};
use super::kinds::ItemKind;

/// One item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A policy.
    Policy(Policy),
    /// A width.
    Width(Width),
    /// A memory policy.
    Memory(Memory),
    /// Which GPUs a task is taken to use.
    Map(Map),
    /// What is done for NCCL.
    Nccl(Nccl),
    /// What is done with the NICs nearest to a task's GPUs.
    Nic(Nic),
    /// Whether the programs' own bindings are asked to keep still.
    Frameworks(Frameworks),
    /// How much is said.
    Verbosity(Verbosity),
    /// The user's own bindings give way.
    Override,
}

impl Item {
    /// Its kind.
    pub fn kind(self) -> ItemKind {
        match self {
            Self::Policy(_) => ItemKind::Policy,
            Self::Width(_) => ItemKind::Width,
            Self::Memory(_) => ItemKind::Memory,
            Self::Map(_) => ItemKind::Map,
            Self::Nccl(_) => ItemKind::Nccl,
            Self::Nic(_) => ItemKind::Nic,
            Self::Frameworks(_) => ItemKind::Frameworks,
            Self::Verbosity(_) => ItemKind::Report,
            Self::Override => ItemKind::Override,
        }
    }

    /// Whether it is what ships, so that naming it changes nothing unless the site says otherwise.
    pub fn is_default(self) -> bool {
        match self {
            Self::Policy(value) => value == Policy::default(),
            Self::Width(value) => value == Width::default(),
            Self::Memory(value) => value == Memory::default(),
            Self::Map(value) => value == Map::default(),
            Self::Nccl(value) => value == Nccl::default(),
            Self::Nic(value) => value == Nic::default(),
            Self::Frameworks(value) => value == Frameworks::default(),
            Self::Verbosity(value) => value == Verbosity::default(),
            Self::Override => false,
        }
    }
}
