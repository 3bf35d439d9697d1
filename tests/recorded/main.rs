//! Machines that other people recorded, and made-up ones whose answers come from NCCL's own code, against facts
//! derived without ours.
//!
//! They are no part of the project: `GPU_NUMA_TOPOLOGIES` names their folder, which is `../shared/topologies`
//! beside the project where it does not.  Every test fails where the folder is not there.

#![allow(clippy::print_stdout, reason = "a test says how much it has looked at")]

// For clippy helpers in such a module are tests too.
#[cfg(test)]
mod amd;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod emit;
// How the decision is judged on declared machines.
#[cfg(test)]
#[path = "../../topology/tests/binding/judged.rs"]
mod judged;
#[cfg(test)]
#[path = "../../topology/tests/binding/large.rs"]
mod large;
#[cfg(test)]
mod model;
#[cfg(test)]
mod nics;
#[cfg(test)]
mod reader;

use std::path::{Path, PathBuf};

/// The folder of recorded machines.
fn topologies() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/topologies");
    let folder = std::env::var_os("GPU_NUMA_TOPOLOGIES").map_or(beside, PathBuf::from);
    assert!(
        folder.join("expected.tsv").is_file(),
        "{} holds no recorded machines; GPU_NUMA_TOPOLOGIES must name their folder",
        folder.display()
    );
    folder
}
