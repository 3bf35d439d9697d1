//! Whether the list of GPUs that a rank sees was made for it alone.
//!
//! Wrappers and launchers may set `CUDA_VISIBLE_DEVICES` for each rank.  Such a list is not to be divided among the ranks, as
//! one that all of them were started with is.

use std::path::Path;

use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::vendor::{GpuVendor, Variables};
use topology::visible::runtime_order;

use crate::process::{StartEnvironment, read_parent};
use crate::rank::LocalRank;
use crate::variables::Environment;

/// The most processes between a rank's program and its launcher.
const MOST_WRAPPERS: usize = 64;

/// Whether `gpus`, which process `pid` of the `/proc` below `root` sees, are listed for that rank of its launcher alone.
///
/// They are where its launcher was started with another list.  A launcher may also have changed its own list for all its ranks, so
/// there must be fewer than ranks, or those that are the rank's by number ([`block`]).  False where that cannot be seen.
pub fn is_own_list(root: &Path, pid: u32, machine: &Machine, gpus: &[PciAddress]) -> bool {
    let environment = StartEnvironment::of(root, pid);
    let Some(rank) = LocalRank::read(&environment) else {
        return false;
    };
    if rank.has_slurms_share(&environment, gpus.len()) {
        return true;
    }
    let Some(launcher) = launcher_of(root, pid, &rank) else {
        return false;
    };
    let differs = |name: &str| launcher.get(name) != environment.get(name);
    let vendors = machine.launch_vendors().map(|vendor| &vendor.variables);
    let lists = |own: &Variables| differs(own.visible) || own.within.iter().any(|own| differs(own));
    let is_few = rank.of.is_some_and(|of| gpus.len() < of);
    vendors.into_iter().any(lists) && (is_few || block(machine, gpus, rank.index) == gpus)
}

/// The GPUs of rank `index` where each rank has as many as `like` are, in the order in which their runtime numbers them; empty
/// where the machine has fewer.
pub fn block(machine: &Machine, like: &[PciAddress], index: usize) -> Vec<PciAddress> {
    let first = like.first().and_then(|gpu| machine.gpu(*gpu));
    let Some(vendor) = first.and_then(|gpu| GpuVendor::of(gpu.vendor)) else {
        return Vec::new();
    };
    let all = runtime_order(machine, vendor).into_iter();
    let own = all
        .map(|gpu| gpu.pci)
        .skip(index.saturating_mul(like.len()));
    let own: Vec<PciAddress> = own.take(like.len()).collect();
    if own.len() == like.len() {
        own
    } else {
        Vec::new()
    }
}

/// What the launcher of a rank was started with: the nearest process above it that is not of the same rank.
fn launcher_of(root: &Path, pid: u32, rank: &LocalRank) -> Option<StartEnvironment> {
    let mut process = pid;
    for _ in 0..MOST_WRAPPERS {
        process = read_parent(root, process);
        if process <= 1 {
            return None;
        }
        let environment = StartEnvironment::read(root, process)?;
        let is_same = LocalRank::read(&environment)
            .is_some_and(|own| own.variable == rank.variable && own.index == rank.index);
        if !is_same {
            return Some(environment);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use topology::machine::Gpu;
    use topology::pci::{CLASS_3D, PciDevice};

    use super::*;

    fn address(number: usize) -> PciAddress {
        format!("0000:{:02x}:00.0", 0x20 + number).parse().unwrap()
    }

    fn machine() -> Machine {
        let gpus = (0..8)
            .map(|number| Gpu::of(&PciDevice::new(address(number), CLASS_3D, 0x10de, 0x2330)));
        Machine {
            gpus: gpus.collect(),
            ..Machine::default()
        }
    }

    /// Processes 10, 11, ... each started by the one before it, with these variables; the last sees `gpus`.
    fn is_own(processes: &[&[&str]], gpus: std::ops::Range<usize>) -> bool {
        let root = tempfile::tempdir().unwrap();
        for (number, environment) in processes.iter().enumerate() {
            let folder = root.path().join(format!("proc/{}", 10 + number));
            fs::create_dir_all(&folder).unwrap();
            let parent = if number == 0 { 1 } else { 9 + number };
            fs::write(folder.join("stat"), format!("1 (a) S {parent} 1")).unwrap();
            fs::write(folder.join("environ"), environment.join("\0")).unwrap();
        }
        let gpus: Vec<PciAddress> = gpus.map(address).collect();
        let last = 9 + u32::try_from(processes.len()).unwrap();
        is_own_list(root.path(), last, &machine(), &gpus)
    }

    const RANK_1: [&str; 2] = ["LOCAL_RANK=1", "LOCAL_WORLD_SIZE=4"];

    #[test]
    fn a_list_that_the_launcher_lacks_is_the_ranks_own() {
        let own = [RANK_1[0], RANK_1[1], "CUDA_VISIBLE_DEVICES=1"];
        assert!(is_own(&[&["A=1"], &own], 1..2));
        assert!(is_own(&[&["CUDA_VISIBLE_DEVICES=0,1,2,3"], &own], 1..2));
        assert!(is_own(&[&["A=1"], &RANK_1, &own, &own], 1..2), "wrappers");
        let slurms = ["SLURM_LOCALID=0", "LOCAL_WORLD_SIZE=4"];
        assert!(is_own(&[&slurms, &own], 1..2), "a launcher in a task");
    }

    #[test]
    fn a_list_that_all_ranks_were_started_with_is_divided() {
        let inherited = "CUDA_VISIBLE_DEVICES=4,5,6,7";
        let rank = [RANK_1[0], RANK_1[1], inherited];
        assert!(!is_own(&[&[inherited], &rank], 4..8));
        assert!(!is_own(&[&[inherited], &rank, &rank], 4..8));
        assert!(!is_own(&[&["A=1"], &RANK_1], 0..8), "none is set");
        assert!(!is_own(&[&rank], 4..8), "the launcher is not seen");
        assert!(
            !is_own(&[&["A=1"], &["CUDA_VISIBLE_DEVICES=0"]], 0..1),
            "no rank"
        );
    }

    #[test]
    fn a_list_that_the_launcher_made_for_all_is_told_from_a_ranks_own() {
        let list = |list: &'static str| ["LOCAL_RANK=1", "LOCAL_WORLD_SIZE=2", list];
        let blocks = list("CUDA_VISIBLE_DEVICES=4,5,6,7");
        assert!(is_own(&[&["A=1"], &blocks], 4..8), "those of rank 1");
        let all = list("CUDA_VISIBLE_DEVICES=0,1,2,3");
        assert!(
            !is_own(&[&["A=1"], &all], 0..4),
            "those of rank 0, or of both"
        );
    }

    #[test]
    fn slurm_gives_tasks_gpus_of_their_own() {
        let task = ["SLURM_LOCALID=1", "SLURM_GPUS_ON_NODE=4"];
        assert!(is_own(&[&task], 0..1));
        assert!(!is_own(&[&task], 0..4));
    }
}
