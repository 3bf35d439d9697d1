//! What communicators of one kind share on a host, such as the data-parallel groups of a job: how many they are, which of them
//! speaks, and what all of them moved.
//!
//! A small file in `/dev/shm`, as that of a communicator's ranks ([`super::peers`]), which each process joins once.  Only sums are
//! added to it, and nobody waits: one that cannot be had leaves each communicator to speak for itself.

use std::path::Path;
use std::sync::atomic::Ordering;

use ffi::linux::named::NamedWords;
use ffi::linux::process::effective_user;

use super::peers::PREFIX;
use super::{NamedMemory, Word};

/// Functions that are summed apart.
pub const FUNCTIONS: usize = 5;
/// Buckets of sizes.
pub const SIZES: usize = 5;
/// Figures that are sums of all: nine, and calls and bytes of each bucket of sizes.
pub const FIGURES: usize = 9 + 2 * SIZES;

/// How often a file is opened for a set that has not ended.
const MOST_JOINS: usize = 3;

/// Words of the head.  How many have begun and ended is one word, so that the last to end and one that begins meet there.
const STATE: usize = 0;
const SPEAKS: usize = 1;
const FIRST_FIGURE: usize = 2;
const FIRST_FUNCTION: usize = FIRST_FIGURE + FIGURES;
/// Words of a function: calls, the complement of its smallest buffer, its largest.
const OF_FUNCTION: usize = 3;
const LEN: usize = FIRST_FUNCTION + FUNCTIONS * OF_FUNCTION;

/// One communicator that begins, in the word of the state; the bits above count those that ended.
const ONE_BEGINS: u64 = 1;
const ONE_ENDS: u64 = 1 << 32;

/// How many have begun and ended.
fn split(state: u64) -> (u64, u64) {
    (state % ONE_ENDS, state / ONE_ENDS)
}

/// The calls of a function, and their buffers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FunctionSum {
    /// How many.
    pub calls: u64,
    /// Bytes of the smallest buffer.
    pub least: u64,
    /// Bytes of the largest.
    pub most: u64,
}

/// What communicators moved; which figure is which is the caller's business.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KindSum {
    /// Sums.
    pub figures: [u64; FIGURES],
    /// By function; one without calls has zeros.
    pub functions: [FunctionSum; FUNCTIONS],
}

/// The file of a kind.
#[derive(Debug)]
pub struct Kind<F = NamedWords>(F);

impl Kind {
    /// Joins the kind that `hash` stands for, and begins ([`Kind::begin_in`]); none where the file cannot be had.
    pub fn join(folder: &Path, boot: u32, hash: u64) -> Option<Self> {
        let user = effective_user();
        let name = format!("{PREFIX}{user}.{boot:08x}.kind-{hash:016x}");
        Self::begin_in(|| NamedWords::open(folder, &name, LEN * 2).ok())
    }
}

impl<F: NamedMemory> Kind<F> {
    /// Opens the file and begins: a new one where the set of the old has ended.
    pub fn begin_in(mut open: impl FnMut() -> Option<F>) -> Option<Self> {
        for _ in 0..MOST_JOINS {
            let kind = Self(open()?);
            if kind.begin() {
                return Some(kind);
            }
            // Whoever ended last may not have come so far.
            kind.0.unlink();
        }
        None
    }

    fn word(&self, at: usize) -> Option<&F::Word> {
        self.0.words().get(at)
    }

    fn add(&self, at: usize, value: u64) -> u64 {
        let word = self.word(at);
        word.map_or(0, |word| word.fetch_add(value, Ordering::AcqRel))
    }

    fn load(&self, at: usize) -> u64 {
        self.word(at).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// One more communicator of it; false where all that have begun ended, for their sums are said: those that come later are
    /// another set, whose file is joined anew.
    pub fn begin(&self) -> bool {
        let Some(state) = self.word(STATE) else {
            return false;
        };
        let mut seen = state.load(Ordering::Acquire);
        loop {
            let (begun, ended) = split(seen);
            if begun > 0 && begun == ended {
                return false;
            }
            match state.compare_exchange(
                seen,
                seen.wrapping_add(ONE_BEGINS),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// How many have begun.
    pub fn count(&self) -> u64 {
        split(self.load(STATE)).0
    }

    /// Whether the caller is the first that wants to speak, and speaks for all.
    pub fn claim(&self) -> bool {
        self.add(SPEAKS, 1) == 0
    }

    /// A communicator ends, and adds what it moved.  The last of those that have begun gets how many they are and what all moved.
    pub fn end(&self, own: &KindSum) -> Option<(u64, KindSum)> {
        for (at, value) in own.figures.iter().enumerate() {
            self.add(FIRST_FIGURE + at, *value);
        }
        for (at, sum) in own.functions.iter().enumerate() {
            let first = FIRST_FUNCTION + at * OF_FUNCTION;
            if sum.calls > 0 {
                self.add(first, sum.calls);
                for (word, value) in [(first + 1, u64::MAX - sum.least), (first + 2, sum.most)] {
                    if let Some(word) = self.word(word) {
                        word.fetch_max(value, Ordering::AcqRel);
                    }
                }
            }
        }
        let (begun, ended) = split(self.add(STATE, ONE_ENDS).wrapping_add(ONE_ENDS));
        if ended != begun {
            return None;
        }
        self.0.unlink();
        Some((begun, self.sum()))
    }

    fn sum(&self) -> KindSum {
        let function = |at: usize| {
            let first = FIRST_FUNCTION + at * OF_FUNCTION;
            let calls = self.load(first);
            if calls == 0 {
                return FunctionSum::default();
            }
            FunctionSum {
                calls,
                least: u64::MAX - self.load(first + 1),
                most: self.load(first + 2),
            }
        };
        KindSum {
            figures: std::array::from_fn(|at| self.load(FIRST_FIGURE + at)),
            functions: std::array::from_fn(function),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(bytes: u64, least: u64, most: u64) -> KindSum {
        let mut sum = KindSum::default();
        sum.figures[2] = bytes;
        sum.functions[0] = FunctionSum {
            calls: 1,
            least,
            most,
        };
        sum
    }

    #[test]
    fn one_speaks_at_first_and_the_last_gets_the_sums_of_all() {
        let folder = tempfile::tempdir().unwrap();
        let join = || Kind::join(folder.path(), 7, 9).unwrap();
        let (one, other) = (join(), join());
        assert!(other.begin());
        assert_eq!(one.count(), 3);
        assert_eq!(
            [other.claim(), one.claim(), other.claim()],
            [true, false, false]
        );
        assert_eq!(one.end(&moved(5, 100, 100)), None);
        assert_eq!(other.end(&moved(6, 10, 300)), None);
        let (count, sum) = other.end(&moved(0, 50, 50)).unwrap();
        assert_eq!((count, sum.figures[2]), (3, 11));
        let function = FunctionSum {
            calls: 3,
            least: 10,
            most: 300,
        };
        assert_eq!(sum.functions[0], function);
        assert_eq!(sum.functions[1], FunctionSum::default());
        // No name is left, and those that come later are a kind of their own.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(!one.begin(), "the first set has ended");
        assert_eq!(join().count(), 1);
    }
}
