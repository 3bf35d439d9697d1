//! The protocols of `launch::shared` under loom: every order in which threads and processes can meet.
//!
//! They run as they are, over loom's atomics and over made-up memory, clock and futex ([`memory`]).  Processes are
//! threads here: what they share is the memory alone.  `tests/models.rs` runs the models.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod memory;
pub mod models;
