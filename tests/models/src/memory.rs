//! Memory of loom's atomics, with a clock that a model sets, a futex, and one file.

use std::cell::Cell;
use std::time::Duration;

use launch::shared::{NamedMemory, SharedMemory, Word};
use launch::word;
use loom::sync::atomic::{self, Ordering};
use loom::sync::{Arc, Condvar, Mutex};

/// The file has room for three ranks: loom remembers each word's every value.
const FILE_WORDS: usize = 32 * (1 + 3);

loom::lazy_static! {
    /// Of the kernel: who sleeps on a word, and the lock under which it compares.
    static ref QUEUE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    /// The file that a name leads to, if it does.
    static ref NAMED: Mutex<Option<Arc<Vec<U64>>>> = Mutex::new(None);
}

loom::thread_local! {
    static NOW: Cell<u64> = Cell::new(0);
    static STEP: Cell<u64> = Cell::new(0);
    static WRITES_LEFT: Cell<Option<u32>> = Cell::new(None);
}

/// loom's, as the protocols take words.
#[derive(Debug)]
pub(crate) struct U32(atomic::AtomicU32);
#[derive(Debug)]
pub(crate) struct U64(atomic::AtomicU64);
#[derive(Debug)]
pub(crate) struct I32(atomic::AtomicI32);

/// Words that a dead thread leaves as they are: what it asks for is as if it had it, so that its code comes to its end.
macro_rules! mortal {
    ($type:ident, $value:ty, $atomic:ty, $($fetch:ident)*) => {
        impl Word for $type {
            type Value = $value;
            fn new(value: $value) -> Self {
                Self(<$atomic>::new(value))
            }
            fn load(&self, order: Ordering) -> $value {
                self.0.load(order)
            }
            fn store(&self, value: $value, order: Ordering) {
                if lives() {
                    self.0.store(value, order);
                }
            }
            fn compare_exchange(
                &self,
                from: $value,
                to: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                if lives() {
                    self.0.compare_exchange(from, to, success, failure)
                } else {
                    Ok(from)
                }
            }
            $(fn $fetch(&self, value: $value, order: Ordering) -> $value {
                if lives() {
                    self.0.$fetch(value, order)
                } else {
                    self.0.load(Ordering::Relaxed)
                }
            })*
        }
    };
}

mortal!(U32, u32, atomic::AtomicU32, swap fetch_add fetch_sub fetch_or fetch_min fetch_max);
mortal!(U64, u64, atomic::AtomicU64, swap fetch_add fetch_sub fetch_or fetch_min fetch_max);
word!(
    I32,
    i32,
    |value| Self(atomic::AtomicI32::new(value)),
    |word| word.0
);

/// Has this thread's clock run on by a minute with each look, so that no wait of its lasts.
pub(crate) fn hurry() {
    STEP.with(|step| step.set(60_000_000));
}

/// Has this thread be killed after so many writes: whatever it does then, nobody sees.
pub(crate) fn die_after(writes: u32) {
    hurry();
    WRITES_LEFT.with(|left| left.set(Some(writes)));
}

/// Whether this thread still lives, for one write.
fn lives() -> bool {
    WRITES_LEFT.with(|left| match left.get() {
        Some(0) => false,
        Some(some) => {
            left.set(Some(some - 1));
            true
        }
        None => true,
    })
}

/// Whether this thread has been killed.
pub(crate) fn is_dead() -> bool {
    WRITES_LEFT.with(|left| left.get() == Some(0))
}

fn is_hurried() -> bool {
    STEP.with(Cell::get) > 0
}

/// Whether the name still leads to a file.
pub(crate) fn name_is_there() -> bool {
    NAMED.lock().unwrap().is_some()
}

/// Memory that threads share as tasks do theirs.
#[derive(Debug)]
pub(crate) struct Words(Vec<U32>);

impl Words {
    pub(crate) fn zeroed(len: usize) -> Self {
        Self((0..len).map(|_| U32::new(0)).collect())
    }
}

impl SharedMemory for Words {
    type Word = U32;

    fn words(&self) -> &[U32] {
        &self.0
    }

    /// Sleeps until woken; one in a hurry has slept too long already.
    fn wait_while(&self, word: &U32, seen: u32, _limit: Duration) {
        if word.load(Ordering::Acquire) != seen || is_hurried() {
            return;
        }
        // The kernel compares under the lock that a wake takes too.
        let queue = QUEUE.0.lock().unwrap();
        if word.load(Ordering::Acquire) == seen {
            drop(QUEUE.1.wait(queue));
        }
    }

    fn wake_all(&self, _word: &U32) {
        if is_dead() {
            return;
        }
        let _queue = QUEUE.0.lock().unwrap();
        QUEUE.1.notify_all();
    }

    fn now_micros(&self) -> u64 {
        let step = STEP.with(Cell::get);
        NOW.with(|now| {
            now.set(now.get() + step);
            now.get()
        })
    }
}

/// The file that the name leads to.
#[derive(Debug)]
pub(crate) struct NamedFile(Arc<Vec<U64>>);

impl NamedFile {
    /// Opens it, or makes it.
    pub(crate) fn open() -> Self {
        let mut named = NAMED.lock().unwrap();
        let zeroed = || Arc::new((0..FILE_WORDS).map(|_| U64::new(0)).collect());
        Self(Arc::clone(named.get_or_insert_with(zeroed)))
    }
}

impl NamedMemory for NamedFile {
    type Word = U64;

    fn words(&self) -> &[U64] {
        &self.0
    }

    /// As the real one, leaves a newer file of that name.
    fn unlink(&self) {
        if is_dead() {
            return;
        }
        let mut named = NAMED.lock().unwrap();
        let is_this = named
            .as_ref()
            .is_some_and(|file| Arc::ptr_eq(file, &self.0));
        if is_this {
            *named = None;
        }
    }

    /// One that gave its memory back does not look at it any more.
    fn give_back(&self) {}
}
