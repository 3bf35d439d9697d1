//! The atomics of what threads or processes share: a name of our own, so that `tests/models` can put loom's in
//! their place.

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU8, AtomicU64, AtomicUsize, Ordering,
};
