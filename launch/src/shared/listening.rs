//! Which events this process wants of NCCL.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Word;

/// The communicators that want events.  NCCL has one event mask for all of them (`profiler.cc`, 2.30), so one
/// that wants none must not take them from another.
#[derive(Debug)]
pub struct Listening<W = AtomicU64> {
    communicators: W,
    /// The events that any of them wanted.
    events: W,
}

impl<W> Listening<W> {
    /// Of two words that are zero: no communicator wants anything.
    pub const fn over(communicators: W, events: W) -> Self {
        Self {
            communicators,
            events,
        }
    }
}

impl<W: Word<Value = u64>> Listening<W> {
    /// One more, that wants `events`.
    pub fn begin(&self, events: u64) {
        self.events.fetch_or(events, Ordering::Relaxed);
        self.communicators.fetch_add(1, Ordering::AcqRel);
    }

    /// One less.
    pub fn end(&self) {
        self.communicators.fetch_sub(1, Ordering::AcqRel);
    }

    /// The events that are wanted now.
    pub fn wanted(&self) -> i32 {
        // It writes nothing and is a write all the same: in the order of those, either it sees a communicator
        // that began, or that one's own writer sees all that this thread did before.
        if self.communicators.fetch_add(0, Ordering::AcqRel) == 0 {
            return 0;
        }
        i32::try_from(self.events.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Writes the events where NCCL reads them, until they are those of all that began: without a lock, for a
    /// process that forks meanwhile would leave it held in the child.
    pub fn write(&self, mask: &impl Word<Value = i32>) {
        loop {
            let wanted = self.wanted();
            mask.store(wanted, Ordering::Relaxed);
            if self.wanted() == wanted {
                return;
            }
        }
    }
}
