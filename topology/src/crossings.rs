//! Which packages GPUs are at, and how often a ring over them must cross between packages.

use std::collections::{BTreeMap, BTreeSet};

use crate::machine::Machine;
use crate::path::are_linked;
use crate::pci::PciAddress;

/// The package of each GPU, where it is known.
pub fn packages_of(
    machine: &Machine,
    gpus: impl IntoIterator<Item = PciAddress>,
) -> BTreeMap<PciAddress, u32> {
    gpus.into_iter()
        .filter_map(|gpu| Some((gpu, machine.gpu(gpu)?.locality.package?)))
        .collect()
}

/// The fewest crossings of a ring over GPUs at `groups` groups of packages, as [`groups`] counts them: none at
/// one, else one for each.  On several hosts the ring is a chain here, and crosses once less.
pub fn fewest(groups: u32, one_host: bool) -> u32 {
    match groups {
        0 | 1 => 0,
        more if one_host => more,
        more => more - 1,
    }
}

/// How many groups of packages hold one of the GPUs: those that an NVLink between two GPUs of `linked` joins
/// are one.
pub fn groups(
    machine: &Machine,
    packages: &BTreeMap<PciAddress, u32>,
    linked: &BTreeMap<PciAddress, u32>,
) -> u32 {
    let mut groups: Vec<BTreeSet<u32>> = Vec::new();
    for package in packages.values().chain(linked.values()) {
        if !groups.iter().any(|group| group.contains(package)) {
            groups.push([*package].into());
        }
    }
    for (gpu, package) in linked {
        for (other, far) in linked {
            if are_linked(machine, *gpu, *other) {
                join(&mut groups, *package, *far);
            }
        }
    }
    groups.retain(|group| packages.values().any(|package| group.contains(package)));
    u32::try_from(groups.len()).unwrap_or(u32::MAX)
}

fn join(groups: &mut Vec<BTreeSet<u32>>, a: u32, b: u32) {
    let holds = |package: u32| move |group: &BTreeSet<u32>| group.contains(&package);
    let places = (
        groups.iter().position(holds(a)),
        groups.iter().position(holds(b)),
    );
    if let (Some(a), Some(b)) = places
        && a != b
    {
        let moved = groups.remove(a.max(b));
        if let Some(group) = groups.get_mut(a.min(b)) {
            group.extend(moved);
        }
    }
}
