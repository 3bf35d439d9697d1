//! What a rank does with events, as the threads that bring them see it.

use crate::atomic::{AtomicBool, AtomicU8, Ordering};

/// What a rank does with events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    /// Counts everything: its peers are not known yet.
    Undecided,
    /// Nothing: nothing crosses, or nobody can tell.
    Silent,
    /// Counts its own sends.
    Member,
    /// Counts everything, and speaks for this host.
    Speaker,
}

/// The role, and whether somebody settles it.
#[derive(Debug)]
pub(crate) struct Duty {
    role: AtomicU8,
    deciding: AtomicBool,
}

impl Duty {
    /// Not settled.
    pub(crate) fn new() -> Self {
        Self {
            role: AtomicU8::new(Role::Undecided as u8),
            deciding: AtomicBool::new(false),
        }
    }

    /// Whether events are looked at.
    pub(crate) fn listens(&self) -> bool {
        self.role.load(Ordering::Relaxed) != Role::Silent as u8
    }

    /// Whether it is that one; what was made ready for the role can then be seen.
    pub(crate) fn is(&self, role: Role) -> bool {
        self.role.load(Ordering::Acquire) == role as u8
    }

    /// Whether the caller is the one to settle the role: true once.
    pub(crate) fn may_decide(&self) -> bool {
        !self.deciding.swap(true, Ordering::AcqRel)
    }

    /// Takes a role, unless a fault has made it silent.
    pub(crate) fn take(&self, role: Role) {
        let (from, to) = (Role::Undecided as u8, role as u8);
        let order = (Ordering::AcqRel, Ordering::Acquire);
        let _ = self.role.compare_exchange(from, to, order.0, order.1);
    }

    /// Looks at nothing from here on; true the first time.
    pub(crate) fn silence(&self) -> bool {
        let before = self.role.swap(Role::Silent as u8, Ordering::AcqRel);
        before != Role::Silent as u8
    }
}
