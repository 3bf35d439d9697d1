//! Sums of events by two kinds at once, counted by several threads.
//!
//! Mostly one thread counts, and what one thread alone writes needs no locked operation, of which an event had two or
//! three and each costs more than all else of it.  So every sum is in two words: one that the first thread that came has
//! to itself, and one for all others.

use std::array::from_fn;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Word;

/// What was counted of one pair of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// How many events.
    pub calls: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Bytes of the smallest.
    pub least: u64,
    /// Bytes of the largest.
    pub most: u64,
}

/// Which word of a sum a thread writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// That of the first thread, which nobody else writes.
    First,
    /// That of all others.
    Other,
}

/// Which thread came first.
#[derive(Debug)]
pub struct First<W = AtomicU64>(W);

impl<W: Word<Value = u64>> First<W> {
    /// No thread so far.
    #[allow(clippy::new_without_default, reason = "as the atomics that it is of")]
    pub fn new() -> Self {
        Self(W::new(0))
    }

    /// What the thread of this number may write; 0 is no thread's.  A thread that has ended may have left its number to
    /// another, which then counts where that one did: they never run at once.
    pub fn by(&self, thread: u64) -> By {
        let first = self.0.load(Ordering::Relaxed);
        let order = Ordering::Relaxed;
        let is_first = first == thread
            || first == 0 && self.0.compare_exchange(0, thread, order, order).is_ok();
        if is_first { By::First } else { By::Other }
    }
}

/// A sum to which threads add.
#[derive(Debug)]
pub struct Counter<W = AtomicU64> {
    first: W,
    others: W,
}

impl<W: Word<Value = u64>> Counter<W> {
    /// Zero.
    #[allow(clippy::new_without_default, reason = "as the atomics that it is of")]
    pub fn new() -> Self {
        Self {
            first: W::new(0),
            others: W::new(0),
        }
    }

    /// Adds; who sees it sees what the thread did before.
    #[inline]
    pub fn add(&self, value: u64, by: By) {
        match by {
            By::First => {
                let before = self.first.load(Ordering::Relaxed);
                self.first
                    .store(before.wrapping_add(value), Ordering::Release);
            }
            By::Other => {
                self.others.fetch_add(value, Ordering::Release);
            }
        }
    }

    /// What was added so far.
    pub fn sum(&self) -> u64 {
        let first = self.first.load(Ordering::Acquire);
        first.wrapping_add(self.others.load(Ordering::Acquire))
    }
}

#[derive(Debug)]
struct Sums<W> {
    calls: Counter<W>,
    bytes: Counter<W>,
    least: W,
    most: W,
}

impl<W: Word<Value = u64>> Sums<W> {
    fn new() -> Self {
        Self {
            calls: Counter::new(),
            bytes: Counter::new(),
            least: W::new(u64::MAX),
            most: W::new(0),
        }
    }

    fn add(&self, bytes: u64, by: By) {
        self.bytes.add(bytes, by);
        // Mostly it is neither, and to look costs less than to lock.
        if self.least.load(Ordering::Relaxed) > bytes {
            self.least.fetch_min(bytes, Ordering::Relaxed);
        }
        if self.most.load(Ordering::Relaxed) < bytes {
            self.most.fetch_max(bytes, Ordering::Relaxed);
        }
        // Last: who sees the call sees its bytes.
        self.calls.add(1, by);
    }

    fn amount(&self) -> Amount {
        let calls = self.calls.sum();
        Amount {
            calls,
            bytes: self.bytes.sum(),
            least: self.least.load(Ordering::Relaxed),
            most: self.most.load(Ordering::Relaxed),
        }
    }
}

/// The sums of `ROWS` times `COLUMNS` kinds.
#[derive(Debug)]
pub struct Tally<const ROWS: usize, const COLUMNS: usize, W = AtomicU64> {
    cells: [[Sums<W>; COLUMNS]; ROWS],
}

impl<const ROWS: usize, const COLUMNS: usize, W: Word<Value = u64>> Tally<ROWS, COLUMNS, W> {
    /// All zero.
    #[allow(clippy::new_without_default, reason = "as the atomics that it is of")]
    pub fn new() -> Self {
        Self {
            cells: from_fn(|_| from_fn(|_| Sums::new())),
        }
    }

    /// Counts an event of `bytes`; one of no such kind is left out.
    pub fn add(&self, row: usize, column: usize, bytes: u64, by: By) {
        if let Some(cell) = self.cells.get(row).and_then(|row| row.get(column)) {
            cell.add(bytes, by);
        }
    }

    /// What was counted so far, row by row; an event that is in has its bytes in.
    pub fn amounts(&self) -> [[Amount; COLUMNS]; ROWS] {
        self.cells
            .each_ref()
            .map(|row| row.each_ref().map(Sums::amount))
    }
}
