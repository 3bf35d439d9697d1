//! Every command of `gpu-numa`, run as a person runs it: one test crate, which links once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking, and print what they timed"
)]

mod amd;
mod architecture;
mod archives;
mod check;
mod circles;
mod common;
mod declared;
mod doctor;
mod doctor_slurm;
mod errors;
mod fleet;
mod frameworks;
mod generate;
mod gres_conf;
mod measure;
mod memory;
mod metrics;
mod nccl;
mod nvml;
mod pages;
mod schemas;
mod show;
mod show_page;
mod sizes;
mod snapshot_as_root;
mod svg;
mod untrusted;
mod values;
mod verify;
