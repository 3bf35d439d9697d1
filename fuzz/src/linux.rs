//! What the plugins' own files ask of `ffi`, over memory that the input filled.

use std::cell::RefCell;

thread_local! {
    /// What the next mapping holds; zeros behind it.
    static CONTENTS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Fills the next mapping of this thread.
pub(crate) fn fill(contents: &[u8]) {
    CONTENTS.with_borrow_mut(|own| own.clone_from(&contents.to_vec()));
}

/// A word of it, `N` bytes wide.
fn word<const N: usize>(contents: &[u8], index: usize) -> [u8; N] {
    let mut word = [0; N];
    let from = contents.get(index * N..).unwrap_or_default();
    for (to, from) in word.iter_mut().zip(from) {
        *to = *from;
    }
    word
}

pub(crate) mod shared {
    use std::time::Duration;

    use crate::atomic::{AtomicU32, AtomicU64};
    use crate::errno::Errno;

    use super::{CONTENTS, word};

    /// The memory; the two widths are apart, for each of the plugins uses one.
    #[derive(Debug)]
    pub(crate) struct SharedWords {
        words: Vec<AtomicU32>,
        wide: Vec<AtomicU64>,
    }

    impl SharedWords {
        #[allow(clippy::unnecessary_wraps, reason = "as the real one is called")]
        pub(crate) fn map(len: usize) -> Result<Self, Errno> {
            Ok(CONTENTS.with_borrow(|contents| Self {
                words: (0..len)
                    .map(|at| AtomicU32::new(u32::from_le_bytes(word(contents, at))))
                    .collect(),
                wide: (0..len / 2)
                    .map(|at| AtomicU64::new(u64::from_le_bytes(word(contents, at))))
                    .collect(),
            }))
        }

        pub(crate) fn words(&self) -> &[AtomicU32] {
            &self.words
        }

        pub(crate) fn wide_words(&self) -> &[AtomicU64] {
            &self.wide
        }
    }

    pub(crate) fn wait_while(_word: &AtomicU32, _seen: u32, _limit: Duration) {}

    pub(crate) fn wake_all(_word: &AtomicU32) {}
}

pub(crate) mod named {
    use std::path::Path;

    use super::shared::SharedWords;
    use crate::errno::Errno;

    pub(crate) type NamedError = Errno;

    #[derive(Debug)]
    pub(crate) struct NamedWords(SharedWords);

    impl NamedWords {
        pub(crate) fn open(_folder: &Path, _name: &str, len: usize) -> Result<Self, NamedError> {
            SharedWords::map(len).map(Self)
        }

        pub(crate) fn words(&self) -> &SharedWords {
            &self.0
        }

        pub(crate) fn unlink(&self) {}
    }

    pub(crate) fn remove_unused(_folder: &Path, _prefix: &str, _most: usize) {}
}

pub(crate) mod process {
    use std::cell::Cell;

    thread_local! {
        static NOW: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn effective_user() -> u32 {
        0
    }

    /// Each look is a second later: nobody waits.
    pub(crate) fn monotonic_micros() -> u64 {
        NOW.set(NOW.get() + 1_000_000);
        NOW.get()
    }
}
