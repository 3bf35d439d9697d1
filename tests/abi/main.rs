//! The plugin as Slurm sees it: the real `.so` in a C host (`abi/spank_host.c`) that defines Slurm's
//! functions, runs the hooks in Slurm's order, and prints what each task ends up with.
//!
//! Needs root, mount namespaces, a C compiler and readelf; without them the tests fail and say which.
//! `GPU_NUMA_SPANK_SO` names the plugin to test; without it cargo builds one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that finds nothing where it looks should fail there"
)]

mod amd;
mod build;
mod faults;
mod host;
mod load;
mod metrics;
mod nccl;
mod nics;
mod nvml;
mod option;
mod snapshots;
mod speed;
mod tasks;
mod traced;
mod users_files;
mod world;
