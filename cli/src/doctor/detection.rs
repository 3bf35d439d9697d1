//! Whether the Slurm on a host can find GPUs by itself (AutoDetect).

use slurm_config::release::Release;
use slurm_config::rules;

use super::installed;
use super::slurm::Slurm;
use super::world::World;

/// What keeps slurmd from asking a vendor's library.
pub(super) enum Obstacle {
    /// Slurm's plugin of the method is missing in this folder.
    NoPlugin(String),
    /// The library is here alone, under a name that slurmd does not look for.
    OtherName(String, &'static str),
}

/// What keeps slurmd of `release` from finding GPUs by a method of AutoDetect, as far as the host's files show.
pub(super) fn obstacle(
    world: &World<'_>,
    slurm: &Slurm,
    method: &str,
    release: Release,
) -> Option<Obstacle> {
    library_of(method)?;
    if let Some(folder) = folder_without(slurm, &format!("gpu_{method}.so")) {
        return Some(Obstacle::NoPlugin(folder));
    }
    let names = rules::libraries_of_detection(method, release);
    let found = installed::versioned_alone(world.tree.as_ref()?, names)?;
    Some(Obstacle::OtherName(found, names.first()?))
}

/// The vendor's library without which Slurm's plugin of a method is not built (src/plugins/gpu); None where it needs none.
pub(super) fn library_of(method: &str) -> Option<&'static str> {
    match method {
        "nvml" => Some("NVML"),
        "rsmi" => Some("ROCm SMI"),
        "oneapi" => Some("oneAPI Level Zero"),
        _ => None,
    }
}

/// Slurm's plugin folder, where it exists and has other plugins but not this one.
fn folder_without(slurm: &Slurm, plugin: &str) -> Option<String> {
    let of_slurm = slurm.plugin_folders();
    let has = of_slurm
        .iter()
        .any(|folder| slurm.host_has(&format!("{folder}/{plugin}")));
    of_slurm.into_iter().next().filter(|_| !has)
}
