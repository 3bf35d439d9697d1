//! One `.so` for every Slurm release of a closed table ([`slurm_config::rules`]).
//!
//! Slurm refuses a plugin whose `plugin_version` differs in major or minor from its own
//! (`_verify_syms`, plugin.c, 22.05 to 26.05) and reads the symbol after the dynamic loader has run
//! constructors.  So the constructor asks the process which Slurm it is, and answers with that release if the
//! table says that it loads the plugin: its spank.h was compared.  The SPANK interface has only gained functions in
//! these releases, and the plugin calls none of the new ones.  For any other release 0 is left: Slurm refuses the
//! plugin, harmlessly where plugstack.conf says `optional`.

use std::sync::atomic::{AtomicU32, Ordering};

use slurm_config::rules::TABLE;

/// No release: Slurm refuses it.
pub(crate) const NONE: u32 = 0;

/// Of each series that loads the plugin what `slurm_api_version` gives, without its lower half, and the version to answer
/// with; else [`NONE`].  Worked out when this is compiled: each text of the table itself would be a relocation, which every
/// program of Slurm's pays for.
#[allow(
    clippy::indexing_slicing,
    reason = "worked out by the compiler, which would say so"
)]
const VERSIONS: [(u32, u32); TABLE.len()] = {
    let mut versions = [(0, NONE); TABLE.len()];
    let mut row = 0;
    while row < TABLE.len() {
        let series = &TABLE[row];
        if series.loads_plugin {
            versions[row] = (series.api, series.release().version_number());
        }
        row += 1;
    }
    versions
};

/// Fills `plugin_version` for the Slurm in this process.
pub(crate) fn fill(plugin_version: &AtomicU32) {
    let Some(api) = ffi::spank::host_api_number() else {
        return;
    };
    if let Some((_, version)) = VERSIONS.iter().find(|(own, _)| *own == api) {
        plugin_version.store(*version, Ordering::Relaxed);
    }
}
