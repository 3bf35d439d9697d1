//! One `.so` for every Slurm release of a closed table ([`slurm_config::rules`]).
//!
//! Slurm refuses a plugin whose `plugin_version` differs in major or minor from its own
//! (`_verify_syms`, plugin.c, 22.05 to 26.05) and reads the symbol after the dynamic loader has run
//! constructors.  So the constructor asks the process which Slurm it is, and answers with that release if the
//! table says that it loads the plugin: its spank.h was compared.  The SPANK interface has only gained functions in
//! these releases, and the plugin calls none of the new ones.  For any other release 0 is left: Slurm refuses the
//! plugin, harmlessly where plugstack.conf says `optional`.

use std::sync::atomic::{AtomicU32, Ordering};

use slurm_config::rules::Series;

/// No release: Slurm refuses it.
pub(crate) const NONE: u32 = 0;

/// Fills `plugin_version` for the Slurm in this process.
pub(crate) fn fill(plugin_version: &AtomicU32) {
    let series = ffi::spank::host_api_number().and_then(Series::of_api);
    if let Some(series) = series.filter(|series| series.loads_plugin) {
        plugin_version.store(series.release().version_number(), Ordering::Relaxed);
    }
}
