//! What a rank counts: collectives by function and algorithm.
//!
//! Atomics only: NCCL may plan collectives of one communicator on several threads.  Mostly it is one, which counts without
//! a locked operation.

use std::array::from_fn;

use ffi::linux::process::thread_number;
use ffi::nccl::Text;
use launch::shared::tally::{Amount, By, Counter, First, Tally};

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
    #[inline]
    pub(crate) fn of(word: Text<'_>) -> Option<Self> {
        // The usual ones first, for it is asked for every event.
        if word.is(b"AllReduce") {
            Some(Self::AllReduce)
        } else if word.is(b"AllGather") {
            Some(Self::AllGather)
        } else if word.is(b"ReduceScatter") {
            Some(Self::ReduceScatter)
        } else if word.is(b"Broadcast") {
            Some(Self::Broadcast)
        } else if word.is(b"Reduce") {
            Some(Self::Reduce)
        } else {
            None
        }
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

    /// By NCCL's word; else why it is not counted.
    #[inline]
    pub(crate) fn of(word: Text<'_>) -> Result<Self, Uncounted> {
        if word.is(b"RING") {
            Ok(Self::Ring)
        } else if word.is(b"TREE") {
            Ok(Self::Tree)
        } else if word.is(b"NVLS") || word.is(b"NVLS_TREE") {
            Err(Uncounted::Nvls)
        } else if word.is(b"COLLNET_DIRECT") || word.is(b"COLLNET_CHAIN") {
            Err(Uncounted::CollNet)
        } else if word.is(b"PAT") {
            Err(Uncounted::Pat)
        } else {
            Err(Uncounted::Other)
        }
    }
}

/// Why the bytes of a collective are not counted: no ring and no tree of the model carries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Uncounted {
    Nvls,
    CollNet,
    Pat,
    CopyEngines,
    SymmetricMemory,
    /// NCCL gives a word that is not known here.
    Other,
    /// It was called, and NCCL says nothing of what it became.
    Unplanned,
    /// A tree, of which it is not known whether it crosses here.
    TreeBetweenHosts,
}

impl Uncounted {
    /// Each reason, in the order of the lines.
    const ALL: [Self; 8] = [
        Self::Nvls,
        Self::CollNet,
        Self::Pat,
        Self::CopyEngines,
        Self::SymmetricMemory,
        Self::Other,
        Self::Unplanned,
        Self::TreeBetweenHosts,
    ];

    /// In words, after a number.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Nvls => "by NVLS",
            Self::CollNet => "by CollNet",
            Self::Pat => "by PAT",
            Self::CopyEngines => "by copy engines",
            Self::SymmetricMemory => "over symmetric memory",
            Self::Other => "by an algorithm unknown here",
            Self::Unplanned => "whose algorithm NCCL does not report",
            Self::TreeBetweenHosts => {
                "by trees that may join the sockets of this host over another host"
            }
        }
    }
}

/// Bytes of an element by NCCL's word for its type (`ncclDatatypeToString`, collectives.cc); none for one
/// that is not known.
#[inline]
pub(crate) fn element_bytes(datatype: Text<'_>) -> Option<u64> {
    let own = datatype.after(b"nccl")?;
    if own.is(b"Bfloat16") {
        return Some(2);
    }
    if let Some(float) = own.after(b"Float") {
        return bytes_of_bits(float)
            .or_else(|| (float.is(b"8e4m3") || float.is(b"8e5m2")).then_some(1));
    }
    let whole = own.after(b"Int").or_else(|| own.after(b"Uint"))?;
    bytes_of_bits(whole).or_else(|| whole.is(b"8").then_some(1))
}

/// Bytes of a number of so many bits, as the names of types end.
#[inline]
fn bytes_of_bits(bits: Text<'_>) -> Option<u64> {
    if bits.is(b"32") {
        Some(4)
    } else if bits.is(b"16") {
        Some(2)
    } else if bits.is(b"64") {
        Some(8)
    } else {
        None
    }
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

/// Where one bucket of sizes ends and the next begins, in bytes of the buffer: below the first NCCL takes its protocols for latency, above the
/// last those for bandwidth.
const SIZES: [u64; 4] = [64 << 10, 1 << 20, 16 << 20, 256 << 20];

/// Collectives of one bucket of sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SizeSum {
    /// The size below which their buffers are; none for the last bucket.
    pub(crate) below_bytes: Option<u64>,
    /// How many.
    pub(crate) calls: u64,
    /// Bytes of their buffers.
    pub(crate) bytes: u64,
}

impl SizeSum {
    /// Where each bucket ends, the smallest first; none for the last.
    pub(crate) const BUCKETS: [Option<u64>; SIZES.len() + 1] = {
        let [a, b, c, d] = SIZES;
        [Some(a), Some(b), Some(c), Some(d), None]
    };

    /// Of calls and bytes by bucket, those that there are any of.
    pub(crate) fn of_all(amounts: &[[u64; 2]]) -> Vec<Self> {
        let each = Self::BUCKETS.into_iter().zip(amounts);
        let each = each.map(|(below_bytes, [calls, bytes])| Self {
            below_bytes,
            calls: *calls,
            bytes: *bytes,
        });
        each.filter(|size| size.calls > 0).collect()
    }
}

/// The counters of a communicator.
#[derive(Debug)]
pub(crate) struct Counts {
    ranks: usize,
    /// Calls and bytes by size.
    by_size: [[Counter; 2]; SIZES.len() + 1],
    /// The thread that counts most.
    first: First,
    planned: Tally<5, 2>,
    /// Bytes of Broadcasts and Reduces by root.
    by_root: [Box<[Counter]>; 2],
    /// Collectives as they were called; those recorded into CUDA graphs apart.
    called: Counter,
    captured: Counter,
    /// Collectives that are not counted, by reason.
    uncounted: [Counter; Uncounted::ALL.len()],
}

/// Roots that are counted apart; a Broadcast from beyond counts as from a rank elsewhere.
const MOST_ROOTS: usize = 1024;

impl Counts {
    /// All zero.
    pub(crate) fn new(ranks: usize) -> Self {
        let roots = || (0..ranks.min(MOST_ROOTS)).map(|_| Counter::new()).collect();
        Self {
            ranks,
            by_size: from_fn(|_| from_fn(|_| Counter::new())),
            first: First::new(),
            planned: Tally::new(),
            by_root: [roots(), roots()],
            called: Counter::new(),
            captured: Counter::new(),
            uncounted: from_fn(|_| Counter::new()),
        }
    }

    /// What the calling thread may write.
    fn by(&self) -> By {
        self.first.by(thread_number())
    }

    /// A collective of `bytes` that runs.
    pub(crate) fn add(&self, func: Func, algo: Algo, bytes: u64, root: usize) {
        let by = self.by();
        self.planned.add(func as usize, algo as usize, bytes, by);
        let buffer = func.buffer_bytes(bytes, self.ranks);
        let bucket = SIZES.iter().filter(|below| buffer >= **below).count();
        if let Some([calls, bytes]) = self.by_size.get(bucket) {
            calls.add(1, by);
            bytes.add(buffer, by);
        }
        if func.is_rooted()
            && let Some(roots) = self.by_root.get(usize::from(func == Func::Reduce))
            && let Some(sum) = roots.get(root)
        {
            sum.add(bytes, by);
        }
    }

    /// A call of a collective.
    pub(crate) fn add_call(&self) {
        self.called.add(1, self.by());
    }

    /// A collective that is recorded into a CUDA graph.
    pub(crate) fn add_captured(&self) {
        self.captured.add(1, self.by());
    }

    /// A collective that is not counted.
    pub(crate) fn add_uncounted(&self, reason: Uncounted) {
        if let Some(count) = self.uncounted.get(reason as usize) {
            count.add(1, self.by());
        }
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

    /// Those of each size that there are any of.
    pub(crate) fn sizes(&self) -> Vec<SizeSum> {
        let amounts = self.by_size.each_ref();
        SizeSum::of_all(&amounts.map(|[calls, bytes]| [calls.sum(), bytes.sum()]))
    }

    /// Bytes of a rooted function by root; those of roots beyond are not in it.
    pub(crate) fn by_root(&self, func: Func) -> Vec<(usize, u64)> {
        let roots = self.by_root.get(usize::from(func == Func::Reduce));
        let sums = roots.into_iter().flat_map(|roots| roots.iter().enumerate());
        sums.map(|(root, sum)| (root, sum.sum()))
            .filter(|(_, bytes)| *bytes > 0)
            .collect()
    }

    /// Collectives recorded into CUDA graphs, whose replays NCCL does not report.
    pub(crate) fn captured(&self) -> u64 {
        self.captured.sum()
    }

    /// Collectives that are not counted, by reason; those that there are none of are left out.
    pub(crate) fn uncounted(&self) -> Vec<(Uncounted, u64)> {
        let planned: u64 = self.sums().iter().map(|sum| sum.amount.calls).sum();
        let told: u64 = self.uncounted.iter().map(Counter::sum).sum();
        let called = self.called.sum();
        let unplanned = called.saturating_sub(planned).saturating_sub(told);
        let told = Uncounted::ALL
            .into_iter()
            .zip(self.uncounted.iter().map(Counter::sum));
        let mut all: Vec<_> = told.filter(|(_, count)| *count > 0).collect();
        if unplanned > 0 {
            all.push((Uncounted::Unplanned, unplanned));
        }
        all
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
    fn sizes_are_those_of_the_whole_buffer() {
        let counts = Counts::new(8);
        counts.add(Func::AllReduce, Algo::Ring, (64 << 10) - 1, 0);
        counts.add(Func::AllGather, Algo::Ring, 8 << 10, 0);
        counts.add(Func::AllReduce, Algo::Tree, 256 << 20, 0);
        let size = |below_bytes, calls, bytes| SizeSum {
            below_bytes,
            calls,
            bytes,
        };
        let expected = [
            size(Some(64 << 10), 1, (64 << 10) - 1),
            size(Some(1 << 20), 1, 64 << 10),
            size(None, 1, 256 << 20),
        ];
        assert_eq!(counts.sizes(), expected);
    }

    #[test]
    fn calls_that_were_never_planned_are_not_counted() {
        let counts = Counts::new(2);
        for _ in 0..5 {
            counts.add_call();
        }
        counts.add(Func::AllGather, Algo::Ring, 1, 0);
        assert_eq!(counts.uncounted(), [(Uncounted::Unplanned, 4)]);
        counts.add_uncounted(Uncounted::CopyEngines);
        assert_eq!(
            counts.uncounted(),
            [(Uncounted::CopyEngines, 1), (Uncounted::Unplanned, 3)]
        );
    }

    #[test]
    fn names_are_nccls() {
        let c_string = |word: &str| std::ffi::CString::new(word).unwrap();
        for func in Func::ALL {
            assert_eq!(Func::of(Text::from(&*c_string(func.word()))), Some(func));
        }
        for word in [c"AlltoAll", c"AllReduceX", c"AllReduc", c""] {
            assert_eq!(Func::of(Text::from(word)), None);
        }
        for algo in Algo::ALL {
            assert_eq!(Algo::of(Text::from(&*c_string(algo.word()))), Ok(algo));
        }
        let algo = |word| Algo::of(Text::from(word));
        assert_eq!(algo(c"NVLS_TREE"), Err(Uncounted::Nvls));
        assert_eq!(algo(c"NVLS"), Err(Uncounted::Nvls));
        assert_eq!(algo(c"COLLNET_CHAIN"), Err(Uncounted::CollNet));
        assert_eq!(algo(c"PAT"), Err(Uncounted::Pat));
        assert_eq!(algo(c"SOMETHING"), Err(Uncounted::Other));
        let types = [
            (
                1,
                &[
                    c"ncclInt8",
                    c"ncclUint8",
                    c"ncclFloat8e4m3",
                    c"ncclFloat8e5m2",
                ][..],
            ),
            (2, &[c"ncclFloat16", c"ncclBfloat16"]),
            (4, &[c"ncclInt32", c"ncclUint32", c"ncclFloat32"]),
            (8, &[c"ncclInt64", c"ncclUint64", c"ncclFloat64"]),
        ];
        for (bytes, words) in types {
            for word in words {
                assert_eq!(element_bytes(Text::from(*word)), Some(bytes), "{word:?}");
            }
        }
        for word in [
            c"Unknown",
            c"ncclFloat8",
            c"ncclFloat",
            c"ncclInt320",
            c"nccl",
            c"",
        ] {
            assert_eq!(element_bytes(Text::from(word)), None, "{word:?}");
        }
    }
}
