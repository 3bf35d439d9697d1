//! What tests of several crates share.  The rest of this crate is its tests: `tests/abi` runs the real
//! plugin in small C hosts.

use std::path::{Path, PathBuf};

pub mod build;
pub mod stand_in_nvml;

/// The folder of recorded machines: `GPU_NUMA_TOPOLOGIES`, else `../shared/topologies` beside the
/// project.  Where it is not there, says so.
#[allow(clippy::print_stdout, reason = "a test that skips says so")]
pub fn topologies() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/topologies");
    let folder = std::env::var_os("GPU_NUMA_TOPOLOGIES").map_or(beside, PathBuf::from);
    let found = folder.join("expected.tsv").is_file();
    if !found {
        println!("skipped: {} holds no recorded machines", folder.display());
    }
    found.then_some(folder)
}
