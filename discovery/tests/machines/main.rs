//! Machines from files: declared ones, and what is none.

// For clippy helpers in such a module are tests too.
#[cfg(test)]
mod declared;
#[cfg(test)]
mod odd_input;

use std::path::Path;

use discovery::{DiscoveryError, Source, read_machine_with};
use topology::machine::Machine;

/// A program that answers as `gpu-numa` does under its hidden subcommand.
const PROBE: &str = env!("CARGO_BIN_EXE_gpu-numa-probe");

fn read(path: &Path) -> Result<Machine, DiscoveryError> {
    read_machine_with(&Source::Path(path.to_owned()), Path::new(PROBE))
}
