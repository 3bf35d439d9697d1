//! What a rank counts: collectives by function and algorithm.
//!
//! Atomics only: NCCL may plan collectives of one communicator on several threads.

use std::array::from_fn;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};

use launch::shared::tally::{Amount, Tally};

/// A collective function whose way is modelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Func {
    AllReduce,
    AllGather,
    ReduceScatter,
    Broadcast,
    Reduce,
}

impl Func {
    /// Each function, in the order of the lines.
    pub(crate) const ALL: [Self; 5] = [
        Self::AllReduce,
        Self::AllGather,
        Self::ReduceScatter,
        Self::Broadcast,
        Self::Reduce,
    ];

    /// NCCL's word (`ncclFuncToString`, collectives.cc).
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::AllReduce => "AllReduce",
            Self::AllGather => "AllGather",
            Self::ReduceScatter => "ReduceScatter",
            Self::Broadcast => "Broadcast",
            Self::Reduce => "Reduce",
        }
    }

    /// By NCCL's word; none for one that is made of sends and receives, or not known.
    pub(crate) fn of(word: &CStr) -> Option<Self> {
        let word = word.to_bytes();
        Self::ALL
            .into_iter()
            .find(|func| func.word().as_bytes() == word)
    }

    /// Whether one rank is the root.
    pub(crate) fn is_rooted(self) -> bool {
        matches!(self, Self::Broadcast | Self::Reduce)
    }

    /// The buffer of a collective of `bytes` as NCCL gives them: for AllGather and ReduceScatter a rank's
    /// share.
    pub(crate) fn buffer_bytes(self, bytes: u64, ranks: usize) -> u64 {
        match self {
            Self::AllGather | Self::ReduceScatter => bytes.saturating_mul(ranks as u64),
            Self::AllReduce | Self::Broadcast | Self::Reduce => bytes,
        }
    }
}

/// How a collective goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algo {
    Ring,
    Tree,
}

impl Algo {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Ring, Self::Tree];

    /// NCCL's word (`ncclAlgoToString`, collectives.cc).
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ring => "RING",
            Self::Tree => "TREE",
        }
    }

    /// By NCCL's word; none for those whose way is not modelled (NVLS, COLLNET, PAT).
    pub(crate) fn of(word: &CStr) -> Option<Self> {
        let word = word.to_bytes();
        Self::ALL
            .into_iter()
            .find(|algo| algo.word().as_bytes() == word)
    }
}

/// Bytes of an element by NCCL's word for its type (`ncclDatatypeToString`, collectives.cc); none for one
/// that is not known.
pub(crate) fn element_bytes(datatype: &CStr) -> Option<u64> {
    Some(match datatype.to_bytes() {
        b"ncclInt8" | b"ncclUint8" | b"ncclFloat8e4m3" | b"ncclFloat8e5m2" => 1,
        b"ncclFloat16" | b"ncclBfloat16" => 2,
        b"ncclInt32" | b"ncclUint32" | b"ncclFloat32" => 4,
        b"ncclInt64" | b"ncclUint64" | b"ncclFloat64" => 8,
        _ => return None,
    })
}

/// The sum of one function by one algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sum {
    /// The function.
    pub(crate) func: Func,
    /// The algorithm.
    pub(crate) algo: Algo,
    /// How many, and their bytes as NCCL gives them.
    pub(crate) amount: Amount,
}

/// The counters of a communicator.
#[derive(Debug)]
pub(crate) struct Counts {
    planned: Tally<5, 2>,
    /// Bytes of Broadcasts and Reduces by root.
    by_root: [Box<[AtomicU64]>; 2],
    /// Collectives as they were called, by function; those recorded into CUDA graphs apart.
    called: [AtomicU64; 5],
    captured: AtomicU64,
    /// Collectives whose way is known but not modelled: other algorithms, copy engines, symmetric memory.
    special: AtomicU64,
}

/// Roots that are counted apart; a Broadcast from beyond counts as from a rank elsewhere.
const MOST_ROOTS: usize = 1024;

impl Counts {
    /// All zero.
    pub(crate) fn new(ranks: usize) -> Self {
        let roots = || {
            (0..ranks.min(MOST_ROOTS))
                .map(|_| AtomicU64::new(0))
                .collect()
        };
        Self {
            planned: Tally::new(),
            by_root: [roots(), roots()],
            called: from_fn(|_| AtomicU64::new(0)),
            captured: AtomicU64::new(0),
            special: AtomicU64::new(0),
        }
    }

    /// A collective of `bytes` that runs.
    pub(crate) fn add(&self, func: Func, algo: Algo, bytes: u64, root: usize) {
        self.planned.add(func as usize, algo as usize, bytes);
        if func.is_rooted()
            && let Some(roots) = self.by_root.get(usize::from(func == Func::Reduce))
            && let Some(sum) = roots.get(root)
        {
            sum.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// A call of a collective.
    pub(crate) fn add_call(&self, func: Func) {
        if let Some(called) = self.called.get(func as usize) {
            called.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A collective that is recorded into a CUDA graph.
    pub(crate) fn add_captured(&self) {
        self.captured.fetch_add(1, Ordering::Relaxed);
    }

    /// A collective whose way is not modelled.
    pub(crate) fn add_special(&self) {
        self.special.fetch_add(1, Ordering::Relaxed);
    }

    /// The sums that are not zero.
    pub(crate) fn sums(&self) -> Vec<Sum> {
        let rows = Func::ALL.into_iter().zip(self.planned.amounts());
        let cells = rows.flat_map(|(func, row)| {
            let row = Algo::ALL.into_iter().zip(row);
            row.map(move |(algo, amount)| (func, algo, amount))
        });
        cells
            .filter(|(_, _, amount)| amount.calls > 0)
            .map(|(func, algo, amount)| Sum { func, algo, amount })
            .collect()
    }

    /// Bytes of a rooted function by root; those of roots beyond are not in it.
    pub(crate) fn by_root(&self, func: Func) -> Vec<(usize, u64)> {
        let roots = self.by_root.get(usize::from(func == Func::Reduce));
        let sums = roots.into_iter().flat_map(|roots| roots.iter().enumerate());
        sums.map(|(root, sum)| (root, sum.load(Ordering::Relaxed)))
            .filter(|(_, bytes)| *bytes > 0)
            .collect()
    }

    /// Collectives recorded into CUDA graphs, whose replays NCCL does not report.
    pub(crate) fn captured(&self) -> u64 {
        self.captured.load(Ordering::Relaxed)
    }

    /// Collectives whose way is not known: NCCL said so, or it was called and never planned.
    pub(crate) fn unknown(&self) -> u64 {
        let planned: u64 = self.sums().iter().map(|sum| sum.amount.calls).sum();
        let called: u64 = self
            .called
            .iter()
            .map(|called| called.load(Ordering::Relaxed))
            .sum();
        let special = self.special.load(Ordering::Relaxed);
        special.max(called.saturating_sub(planned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_by_function_and_algorithm() {
        let counts = Counts::new(8);
        counts.add(Func::AllReduce, Algo::Ring, 100, 0);
        counts.add(Func::AllReduce, Algo::Ring, 300, 0);
        counts.add(Func::AllReduce, Algo::Tree, 7, 0);
        counts.add(Func::Broadcast, Algo::Ring, 50, 3);
        counts.add(Func::Broadcast, Algo::Ring, 5, 4000);
        let sums = counts.sums();
        assert_eq!(sums.len(), 3);
        let expected = Amount {
            calls: 2,
            bytes: 400,
            least: 100,
            most: 300,
        };
        assert_eq!(sums[0].amount, expected);
        assert_eq!(counts.by_root(Func::Broadcast), [(3, 50)]);
        assert_eq!(counts.by_root(Func::Reduce), []);
    }

    #[test]
    fn calls_that_were_never_planned_went_an_unknown_way() {
        let counts = Counts::new(2);
        for _ in 0..5 {
            counts.add_call(Func::AllGather);
        }
        counts.add(Func::AllGather, Algo::Ring, 1, 0);
        assert_eq!(counts.unknown(), 4);
        counts.add_special();
        assert_eq!(counts.unknown(), 4);
    }

    #[test]
    fn names_are_nccls() {
        assert_eq!(Func::of(c"ReduceScatter"), Some(Func::ReduceScatter));
        assert_eq!(Func::of(c"AlltoAll"), None);
        assert_eq!(Algo::of(c"TREE"), Some(Algo::Tree));
        assert_eq!(Algo::of(c"NVLS_TREE"), None);
        assert_eq!(element_bytes(c"ncclBfloat16"), Some(2));
        assert_eq!(element_bytes(c"Unknown"), None);
    }
}
