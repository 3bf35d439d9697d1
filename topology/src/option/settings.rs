//! What holds once every kind is decided.

use super::choices::{Frameworks, Map, Memory, Nccl, Nic, Policy, Verbosity, Width};
use super::item::Item;
use super::items::Items;
use super::table::word_of;

/// What is asked for, every kind decided; the default is what ships.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// When a step is refused.
    pub policy: Policy,
    /// How wide a task is bound.
    pub width: Width,
    /// Which memory policy a task gets.
    pub memory: Memory,
    /// Which of the GPUs that a task sees it is taken to use.
    pub map: Map,
    /// What is done for NCCL.
    pub nccl: Nccl,
    /// What is done with the NICs nearest to a task's GPUs.
    pub nic: Nic,
    /// Whether the programs' own bindings are asked to keep still.
    pub frameworks: Frameworks,
    /// How much is said.
    pub report: Verbosity,
    /// Whether the user's own `--mem-bind` and `--cpu-bind` give way where they can be told.
    pub override_user: bool,
}

impl From<&Items> for Settings {
    /// Completes with what ships: `best-effort,exclusive,mem=preferred,map=auto,nccl=on,nic=report,frameworks=on`.
    fn from(items: &Items) -> Self {
        let mut settings = Self::default();
        for item in items.iter() {
            settings.set(item);
        }
        settings
    }
}

impl Settings {
    fn set(&mut self, item: Item) {
        match item {
            Item::Policy(value) => self.policy = value,
            Item::Width(value) => self.width = value,
            Item::Memory(value) => self.memory = value,
            Item::Map(value) => self.map = value,
            Item::Nccl(value) => self.nccl = value,
            Item::Nic(value) => self.nic = value,
            Item::Frameworks(value) => self.frameworks = value,
            Item::Verbosity(value) => self.report = value,
            Item::Override => self.override_user = true,
        }
    }
}

impl Policy {
    /// The word that the option takes.
    pub fn word(self) -> &'static str {
        word_of(Item::Policy(self))
    }
}
