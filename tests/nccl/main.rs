//! The NCCL plugin as NCCL sees it: the real `.so` in a C host (`nccl/host.c`) that hands over events in NCCL's
//! order, and in the real libnccl.
//!
//! Needs a C compiler and valgrind, and root for other users' files.  `GPU_NUMA_NCCL_SO` names the plugin to
//! test; without it cargo builds one.  `GPU_NUMA_LIBNCCL` names the real libraries with colons between
//! (`make test-nccl` fetches them); where something is missing its tests fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that finds nothing where it looks should fail there"
)]

mod env;
mod events;
mod gpu;
mod peers;
mod setup;
