//! One `.so` for every Slurm release of a closed table ([`slurm_config::release`]).
//!
//! Slurm refuses a plugin whose `plugin_version` differs in major or minor from its own
//! (`_verify_syms`, plugin.c, 22.05 to 26.05) and reads the symbol after the dynamic loader has run
//! constructors.  So the constructor asks the process which Slurm it is, and answers with that release if
//! it is one that this plugin is tested with or whose header was compared.  The SPANK interface has only
//! gained functions in these releases (spank.h compared), and none of the new ones is used.  A release
//! that is not in the table leaves 0, and is refused, harmlessly for an `optional` plugin.

use std::sync::atomic::{AtomicU32, Ordering};

use slurm_config::release::Release;

/// No release: Slurm refuses it.
pub(crate) const NONE: u32 = 0;

/// Fills `plugin_version` for the Slurm in this process.
pub(crate) fn fill(plugin_version: &AtomicU32) {
    if let Some(release) = ffi::spank::host_api_number().and_then(Release::of_api) {
        plugin_version.store(release.version_number(), Ordering::Relaxed);
    }
}
