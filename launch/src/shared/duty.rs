//! What a rank does with events, as the threads that bring them see it.

use std::sync::atomic::{AtomicU32, Ordering};

use super::Word;

/// What a rank does with events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Role {
    /// Counts everything: its peers are not known yet.
    Undecided,
    /// Nothing: nothing crosses, or that is not known.
    Silent,
    /// Counts its own sends.
    Member,
    /// Counts everything, and speaks for this host.
    Speaker,
}

const UNDECIDED: u32 = Role::Undecided as u32;
const MEMBER: u32 = Role::Member as u32;
const SPEAKER: u32 = Role::Speaker as u32;

/// The role, and whether a thread is settling it.
#[derive(Debug)]
pub struct Duty<W = AtomicU32> {
    role: W,
    /// 1 once one thread settles it.
    deciding: W,
}

impl<W: Word<Value = u32>> Duty<W> {
    /// Not settled.
    #[allow(clippy::new_without_default, reason = "as the atomics that it is of")]
    pub fn new() -> Self {
        Self {
            role: W::new(Role::Undecided as u32),
            deciding: W::new(0),
        }
    }

    /// Whether events are looked at.
    pub fn listens(&self) -> bool {
        self.role.load(Ordering::Relaxed) != Role::Silent as u32
    }

    /// What it is; what was made ready for the role can then be seen.
    pub fn role(&self) -> Role {
        match self.role.load(Ordering::Acquire) {
            UNDECIDED => Role::Undecided,
            MEMBER => Role::Member,
            SPEAKER => Role::Speaker,
            _ => Role::Silent,
        }
    }

    /// Whether it is that one; what was made ready for the role can then be seen.
    pub fn is(&self, role: Role) -> bool {
        self.role.load(Ordering::Acquire) == role as u32
    }

    /// Whether the caller is the one to settle the role: true once.
    pub fn may_decide(&self) -> bool {
        self.deciding.swap(1, Ordering::AcqRel) == 0
    }

    /// Takes a role, unless a fault has made it silent.
    pub fn take(&self, role: Role) {
        let (from, to) = (Role::Undecided as u32, role as u32);
        let order = (Ordering::AcqRel, Ordering::Acquire);
        let _ = self.role.compare_exchange(from, to, order.0, order.1);
    }

    /// Looks at nothing from here on; true the first time.
    pub fn silence(&self) -> bool {
        let before = self.role.swap(Role::Silent as u32, Ordering::AcqRel);
        before != Role::Silent as u32
    }
}
