//! What NCCL's communicators of a step moved over the socket link on this host, for the line at the step's end.
//!
//! slurmstepd makes the words before the fork, where the site wants that line; a task hands a descriptor of them to its program and
//! names it in [`VARIABLE`], and the NCCL plugin adds to them.  Only sums are added, so nobody waits and no order matters.  The
//! programs are the user's, and may write what they like: it is their own line.

use std::ffi::CStr;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ffi::linux::sealed::{SealedWords, map_sealed};
use ffi::linux::shared::SharedWords;
use topology::words::NcclTotal;

/// The variable that names the words for programs: `/proc/PID/fd/N`, of the task's first program.
pub const VARIABLE: &str = "GPU_NUMA_BIND_TOTALS";
/// What the kernel calls the memory.
const NAME: &CStr = c"gpu-numa-totals";
/// 32-bit words.
const LEN: usize = 16;

/// Which sum a pair of words is.
#[derive(Clone, Copy)]
enum Sum {
    /// Communicators whose traffic over the link is counted.
    Begun,
    /// Those of them that ended, so that all they moved was added.
    Ended,
    /// Bytes both ways together.
    Bytes,
    /// Additions that were lower bounds.
    Bounds,
}

fn of(words: &SharedWords, sum: Sum) -> Option<&AtomicU64> {
    words.wide_words().get(sum as usize)
}

/// The daemon's side.
#[derive(Debug)]
pub struct StepTotals(SealedWords);

impl StepTotals {
    /// Makes the words, all zero.
    ///
    /// # Errors
    /// What the kernel says where it has none.
    pub fn make() -> io::Result<Self> {
        SealedWords::make(NAME, LEN).map(Self)
    }

    /// Hands the words to the program that the calling process, `process`, executes next: the value of [`VARIABLE`].
    ///
    /// # Errors
    /// What the kernel says where there is no descriptor to be had.
    pub fn hand_down(&self, process: u32) -> io::Result<String> {
        let number = self.0.hand_down()?;
        Ok(format!("/proc/{process}/fd/{number}"))
    }

    /// What was moved; none where no communicator was counted.
    pub fn read(&self) -> Option<NcclTotal> {
        let value = |sum| of(self.0.words(), sum).map_or(0, |word| word.load(Ordering::Acquire));
        let begun = value(Sum::Begun);
        (begun > 0).then(|| NcclTotal {
            bytes: value(Sum::Bytes),
            is_bound: value(Sum::Bounds) > 0 || value(Sum::Ended) != begun,
        })
    }
}

/// A program's side.
#[derive(Debug)]
pub struct Totals(SharedWords);

impl Totals {
    /// The words that `path`, the value of [`VARIABLE`], leads to; none where the program that had them closed them, or where
    /// this process is in another PID namespace.
    pub fn open(path: &Path) -> Option<Self> {
        map_sealed(path, NAME.to_str().ok()?, LEN).map(Self)
    }

    /// A communicator's traffic is counted from here on.
    pub fn begin(&self) {
        self.add(Sum::Begun, 1);
    }

    /// One that was begun moved so many bytes more, at least or just so.
    pub fn moved(&self, bytes: u64, is_bound: bool) {
        self.add(Sum::Bytes, bytes);
        self.add(Sum::Bounds, u64::from(is_bound));
    }

    /// One that was begun has told all.
    pub fn end(&self) {
        self.add(Sum::Ended, 1);
    }

    fn add(&self, sum: Sum, value: u64) {
        if let Some(word) = of(&self.0, sum) {
            word.fetch_add(value, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_knows_what_its_communicators_moved_and_whether_that_is_all() {
        let step = StepTotals::make().unwrap();
        assert_eq!(step.read(), None);
        let named = step.hand_down(std::process::id()).unwrap();
        let program = Totals::open(Path::new(&named)).unwrap();
        let total = |bytes, is_bound| Some(NcclTotal { bytes, is_bound });
        program.begin();
        program.moved(5, false);
        assert_eq!(step.read(), total(5, true), "more may come");
        program.moved(2, false);
        program.end();
        assert_eq!(step.read(), total(7, false));
        program.begin();
        program.moved(1, true);
        program.end();
        assert_eq!(step.read(), total(8, true), "one is a lower bound");
    }
}
