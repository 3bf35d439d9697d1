//! The plugins' own lock-free files under loom: every order in which threads and processes can meet.
//!
//! `page.rs`, `peers.rs`, `counts.rs`, `duty.rs` and `listening.rs` are compiled here as they are, over loom's
//! atomics (their `crate::atomic`) and over made-up memory, clock and futex (their `ffi`, here [`linux`]).
//! Processes are threads here: what they share is the memory alone.  `tests/models.rs` runs them; they are no tests
//! themselves, for then the files' own unit tests would come along.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

extern crate self as ffi;

mod linux;
pub mod models;

/// loom's atomics, under the name by which the plugins' files know theirs.
mod atomic {
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };
}
mod errno {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Errno(pub(crate) i32);
}

#[path = "../../../nccl-profiler/src/counts.rs"]
#[allow(dead_code, reason = "not all of it is modelled")]
mod counts;
#[path = "../../../nccl-profiler/src/duty.rs"]
#[allow(dead_code, reason = "not all of it is modelled")]
mod duty;
#[path = "../../../nccl-profiler/src/listening.rs"]
#[allow(dead_code, reason = "not all of it is modelled")]
mod listening;
#[path = "../../../slurm-spank/src/page.rs"]
#[allow(dead_code, reason = "not all of it is modelled")]
mod page;
#[path = "../../../nccl-profiler/src/peers.rs"]
#[allow(dead_code, reason = "not all of it is modelled")]
mod peers;
