//! What the plugins' files ask of `ffi`: memory of loom's atomics, a clock that a model sets, a futex, one file.

use std::cell::Cell;

use loom::sync::{Arc, Condvar, Mutex};

use shared::SharedWords;

loom::lazy_static! {
    /// Of the kernel: who sleeps on a word, and the lock under which it compares.
    static ref QUEUE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    /// The file that a name leads to, if it does.
    static ref NAMED: Mutex<Option<Arc<SharedWords>>> = Mutex::new(None);
}

loom::thread_local! {
    static NOW: Cell<u64> = Cell::new(0);
    static STEP: Cell<u64> = Cell::new(0);
}

/// Has this thread's clock run on by a minute with each look, so that no wait of its lasts.
pub(crate) fn hurry() {
    STEP.with(|step| step.set(60_000_000));
}

fn is_hurried() -> bool {
    STEP.with(Cell::get) > 0
}

/// Whether the name still leads to a file.
pub(crate) fn name_is_there() -> bool {
    NAMED.lock().unwrap().is_some()
}

pub(crate) mod shared {
    use std::time::Duration;

    use super::{QUEUE, is_hurried};
    use crate::atomic::{AtomicU32, AtomicU64, Ordering};
    use crate::errno::Errno;

    #[derive(Debug)]
    pub(crate) struct SharedWords {
        words: Vec<AtomicU32>,
        wide: Vec<AtomicU64>,
    }

    impl SharedWords {
        #[allow(clippy::unnecessary_wraps, reason = "as the real one is called")]
        pub(crate) fn map(len: usize) -> Result<Self, Errno> {
            Ok(Self {
                words: (0..len).map(|_| AtomicU32::new(0)).collect(),
                wide: Vec::new(),
            })
        }

        pub(super) fn wide(len: usize) -> Self {
            Self {
                words: Vec::new(),
                wide: (0..len).map(|_| AtomicU64::new(0)).collect(),
            }
        }

        pub(crate) fn words(&self) -> &[AtomicU32] {
            &self.words
        }

        pub(crate) fn wide_words(&self) -> &[AtomicU64] {
            &self.wide
        }
    }

    /// Sleeps until woken; one in a hurry has slept too long already.
    pub(crate) fn wait_while(word: &AtomicU32, seen: u32, _limit: Duration) {
        if word.load(Ordering::Acquire) != seen || is_hurried() {
            return;
        }
        // The kernel compares under the lock that a wake takes too.
        let queue = QUEUE.0.lock().unwrap();
        if word.load(Ordering::Acquire) == seen {
            drop(QUEUE.1.wait(queue));
        }
    }

    pub(crate) fn wake_all(_word: &AtomicU32) {
        let _queue = QUEUE.0.lock().unwrap();
        QUEUE.1.notify_all();
    }
}

pub(crate) mod named {
    use std::path::Path;

    use loom::sync::Arc;

    use super::NAMED;
    use super::shared::SharedWords;
    use crate::errno::Errno;

    pub(crate) type NamedError = Errno;

    /// The file has room for three ranks: loom remembers each word's every value.
    const WORDS: usize = 32 * (1 + 3);

    #[derive(Debug)]
    pub(crate) struct NamedWords(Arc<SharedWords>);

    impl NamedWords {
        #[allow(clippy::unnecessary_wraps, reason = "as the real one is called")]
        pub(crate) fn open(_folder: &Path, _name: &str, _len: usize) -> Result<Self, NamedError> {
            let mut named = NAMED.lock().unwrap();
            let words = named.get_or_insert_with(|| Arc::new(SharedWords::wide(WORDS)));
            Ok(Self(Arc::clone(words)))
        }

        pub(crate) fn words(&self) -> &SharedWords {
            &self.0
        }

        /// As the real one, leaves a newer file of that name.
        pub(crate) fn unlink(&self) {
            let mut named = NAMED.lock().unwrap();
            if named
                .as_ref()
                .is_some_and(|words| Arc::ptr_eq(words, &self.0))
            {
                *named = None;
            }
        }
    }

    pub(crate) fn remove_unused(_folder: &Path, _prefix: &str, _most: usize) {}
}

pub(crate) mod process {
    use super::{NOW, STEP};

    pub(crate) fn effective_user() -> u32 {
        0
    }

    pub(crate) fn monotonic_micros() -> u64 {
        let step = STEP.with(std::cell::Cell::get);
        NOW.with(|now| {
            now.set(now.get() + step);
            now.get()
        })
    }
}
