//! Sums of events by two kinds at once, counted by several threads.

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

#[derive(Debug)]
struct Sums<W> {
    calls: W,
    bytes: W,
    least: W,
    most: W,
}

impl<W: Word<Value = u64>> Sums<W> {
    fn new() -> Self {
        Self {
            calls: W::new(0),
            bytes: W::new(0),
            least: W::new(u64::MAX),
            most: W::new(0),
        }
    }

    fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // Mostly it is neither, and to look costs less than to lock.
        if self.least.load(Ordering::Relaxed) > bytes {
            self.least.fetch_min(bytes, Ordering::Relaxed);
        }
        if self.most.load(Ordering::Relaxed) < bytes {
            self.most.fetch_max(bytes, Ordering::Relaxed);
        }
        // Last: who sees the call sees its bytes.
        self.calls.fetch_add(1, Ordering::Release);
    }

    fn amount(&self) -> Amount {
        let calls = self.calls.load(Ordering::Acquire);
        Amount {
            calls,
            bytes: self.bytes.load(Ordering::Relaxed),
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
    pub fn add(&self, row: usize, column: usize, bytes: u64) {
        if let Some(cell) = self.cells.get(row).and_then(|row| row.get(column)) {
            cell.add(bytes);
        }
    }

    /// What was counted so far, row by row; an event that is in has its bytes in.
    pub fn amounts(&self) -> [[Amount; COLUMNS]; ROWS] {
        self.cells
            .each_ref()
            .map(|row| row.each_ref().map(Sums::amount))
    }
}
