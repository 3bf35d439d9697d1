//! What threads and processes share without a lock: each protocol, over any memory.
//!
//! The protocols ask for words and, where a task waits, for a clock and a futex.  In the plugins these are the
//! processor's atomics in memory that the kernel shares; `tests/models` gives them loom's, which tries every order in
//! which threads can meet, and `fuzz` memory that the input filled.  [`totals`] and [`outcomes`] are words that are stored or
//! added to, each by itself: no order matters there, so neither is a protocol, and neither has a model.

pub mod duty;
pub mod kinds;
pub mod listening;
pub mod outcomes;
pub mod page;
pub mod peers;
pub mod tally;
pub mod totals;

use std::fmt::Debug;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ffi::linux::named::NamedWords;
use ffi::linux::process::monotonic_micros;
use ffi::linux::shared::{SharedWords, wait_while, wake_all};

/// A word that several threads or processes read and write at once; the operations are those of std's atomics.
#[allow(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "each is std's of that name"
)]
pub trait Word: Debug {
    type Value: Copy + Eq;
    fn new(value: Self::Value) -> Self;
    fn load(&self, order: Ordering) -> Self::Value;
    fn store(&self, value: Self::Value, order: Ordering);
    fn swap(&self, value: Self::Value, order: Ordering) -> Self::Value;
    fn compare_exchange(
        &self,
        from: Self::Value,
        to: Self::Value,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Self::Value, Self::Value>;
    fn fetch_add(&self, value: Self::Value, order: Ordering) -> Self::Value;
    fn fetch_sub(&self, value: Self::Value, order: Ordering) -> Self::Value;
    fn fetch_or(&self, value: Self::Value, order: Ordering) -> Self::Value;
    fn fetch_min(&self, value: Self::Value, order: Ordering) -> Self::Value;
    fn fetch_max(&self, value: Self::Value, order: Ordering) -> Self::Value;
}

/// Makes a type a [`Word`] by the atomic that it is or holds: `word!(AtomicU32, u32, |word| word)`.
#[macro_export]
macro_rules! word {
    ($type:ty, $value:ty, $new:expr, |$word:ident| $atomic:expr) => {
        impl $crate::shared::Word for $type {
            type Value = $value;
            #[inline]
            fn new(value: $value) -> Self {
                $new(value)
            }
            #[inline]
            fn load(&self, order: ::std::sync::atomic::Ordering) -> $value {
                let $word = self;
                $atomic.load(order)
            }
            #[inline]
            fn store(&self, value: $value, order: ::std::sync::atomic::Ordering) {
                let $word = self;
                $atomic.store(value, order);
            }
            #[inline]
            fn compare_exchange(
                &self,
                from: $value,
                to: $value,
                success: ::std::sync::atomic::Ordering,
                failure: ::std::sync::atomic::Ordering,
            ) -> Result<$value, $value> {
                let $word = self;
                $atomic.compare_exchange(from, to, success, failure)
            }
            $crate::word!(@ swap $value, |$word| $atomic);
            $crate::word!(@ fetch_add $value, |$word| $atomic);
            $crate::word!(@ fetch_sub $value, |$word| $atomic);
            $crate::word!(@ fetch_or $value, |$word| $atomic);
            $crate::word!(@ fetch_min $value, |$word| $atomic);
            $crate::word!(@ fetch_max $value, |$word| $atomic);
        }
    };
    (@ $operation:ident $value:ty, |$word:ident| $atomic:expr) => {
        #[inline]
        fn $operation(&self, value: $value, order: ::std::sync::atomic::Ordering) -> $value {
            let $word = self;
            $atomic.$operation(value, order)
        }
    };
}

word!(AtomicU32, u32, Self::new, |word| word);
word!(AtomicU64, u64, Self::new, |word| word);
word!(AtomicI32, i32, Self::new, |word| word);

/// Memory that a step's tasks see alike, with a clock and a futex.
pub trait SharedMemory: Debug {
    /// Its words.
    type Word: Word<Value = u32>;
    /// All of them, zero at first.
    fn words(&self) -> &[Self::Word];
    /// Sleeps until `word` is no longer `seen`, another wakes it, or `limit` passes; may return early.
    fn wait_while(&self, word: &Self::Word, seen: u32, limit: Duration);
    /// Wakes all that wait on `word`.
    fn wake_all(&self, word: &Self::Word);
    /// Microseconds of a clock that only runs on.
    fn now_micros(&self) -> u64;
}

impl SharedMemory for SharedWords {
    type Word = AtomicU32;

    #[inline]
    fn words(&self) -> &[AtomicU32] {
        self.words()
    }

    #[inline]
    fn wait_while(&self, word: &AtomicU32, seen: u32, limit: Duration) {
        wait_while(word, seen, limit);
    }

    fn wake_all(&self, word: &AtomicU32) {
        wake_all(word);
    }

    #[inline]
    fn now_micros(&self) -> u64 {
        monotonic_micros()
    }
}

/// A file that processes share as memory, found by its name.
pub trait NamedMemory: Debug {
    /// Its words.
    type Word: Word<Value = u64>;
    /// All of them, zero at first.
    fn words(&self) -> &[Self::Word];
    /// Takes the name away; those that have the file keep it.
    fn unlink(&self);
    /// Gives the memory back: the words are zeros of this process alone from here on.
    fn give_back(&self);
}

impl NamedMemory for NamedWords {
    type Word = AtomicU64;

    fn words(&self) -> &[AtomicU64] {
        self.words().wide_words()
    }

    fn unlink(&self) {
        self.unlink();
    }

    fn give_back(&self) {
        self.give_back();
    }
}
