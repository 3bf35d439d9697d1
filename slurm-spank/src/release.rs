//! One `.so` for every Slurm release of a closed table.
//!
//! Slurm refuses a plugin whose `plugin_version` differs in major or minor from its own
//! (`_verify_syms`, plugin.c, 22.05 to 26.05) and reads the symbol after the dynamic loader has run
//! constructors.  So the constructor asks the process which Slurm it is, and answers with that release if
//! it is one that this plugin is tested with or whose header was compared.  The SPANK interface has only
//! gained functions in these releases (spank.h compared), and none of the new ones is used.  A release
//! that is not in the table leaves 0, and is refused, harmlessly for an `optional` plugin.

use std::sync::atomic::{AtomicU32, Ordering};

/// No release: Slurm refuses it.
pub(crate) const NONE: u32 = 0;

/// `SLURM_API_CURRENT` (META of each release) and the release as `SLURM_VERSION_NUM` has it.
const RELEASES: &[(u32, u32)] = &[
    (38, version(22, 5)),
    (39, version(23, 2)),
    (40, version(23, 11)),
    (41, version(24, 5)),
    (42, version(24, 11)),
    (43, version(25, 5)),
    (44, version(25, 11)),
    (45, version(26, 5)),
];

const fn version(major: u32, minor: u32) -> u32 {
    major << 16 | minor << 8
}

/// Fills `plugin_version` for the Slurm in this process.
pub(crate) fn fill(plugin_version: &AtomicU32) {
    if let Some(api) = ffi::spank::host_api_number()
        && let Some((_, release)) = RELEASES.iter().find(|(number, _)| *number == api)
    {
        plugin_version.store(*release, Ordering::Relaxed);
    }
}
