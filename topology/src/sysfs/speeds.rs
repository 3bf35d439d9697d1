//! Which CPUs are faster than others, by what the kernel says of them.
//!
//! Two files say it.  `cpufreq/cpuinfo_max_freq` is the highest frequency that the driver lets a CPU reach, in kHz.
//! `acpi_cppc/highest_perf` is firmware's figure for the highest performance, on a scale of firmware's own; on AMD's
//! processors it is a rank alone, by which some cores of each chip are preferred though they are no faster by much
//! (Documentation/admin-guide/pm/amd-pstate.rst, "preferred core"; `amd_get_boost_ratio_numerator` in
//! arch/x86/kernel/acpi/cppc.c then takes a constant in its place).  So beside frequencies it does not make classes: it only
//! takes back a difference of frequencies that it does not have.  It decides alone where no frequency is there at all, as in
//! recordings without them.

use std::path::Path;

use super::files::Root;
use crate::set::CpuSet;

const CPUS: &str = "sys/devices/system/cpu";

/// What the kernel says of a core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Speed {
    /// The figure that classes are made of: its highest frequency, or its performance where no core's frequency is known.
    main: u64,
    /// The figure that may take a class back: its performance; none where not known.
    other: Option<u64>,
}

/// Whether a figure is noticeably greater than another: by more than 5.3 percent, as Linux's scheduler compares what CPUs can do
/// (`capacity_greater`, kernel/sched/fair.c, from 5.13 on).  The cores of one kind differ by less from chip to chip and
/// core to core.
fn is_noticeably_greater(a: u64, b: u64) -> bool {
    a.saturating_mul(1024) > b.saturating_mul(1078)
}

/// The CPUs of these cores by how fast they are, the fastest first; none where they are alike, or where this is not known of
/// one of them.
///
/// Two small files per core at most are read, so a launch does not do it: it has the answer from the snapshot.
pub fn read_speed_classes(root: &Path, cores: &[CpuSet]) -> Vec<CpuSet> {
    let root = Root(root);
    let figures = |file: &str| -> Vec<Option<u64>> {
        let figure = |core: &CpuSet| -> Option<u64> {
            let cpu = core.first()?;
            let figure = root.number(&format!("{CPUS}/cpu{cpu}/{file}"))?;
            Some(figure).filter(|figure| *figure > 0)
        };
        cores.iter().map(figure).collect()
    };
    let frequencies = figures("cpufreq/cpuinfo_max_freq");
    // On some hosts each reading of the other file is a question to firmware.
    let known: Vec<u64> = frequencies.iter().flatten().copied().collect();
    if let (Some(least), Some(most)) = (known.iter().min(), known.iter().max())
        && (known.len() < cores.len() || !is_noticeably_greater(*most, *least))
    {
        return Vec::new();
    }
    let performances = figures("acpi_cppc/highest_perf");
    let (main, other) = if known.is_empty() {
        (performances, frequencies)
    } else {
        (frequencies, performances)
    };
    let Some(main) = main.into_iter().collect::<Option<Vec<u64>>>() else {
        return Vec::new();
    };
    let speeds = main.into_iter().zip(other).zip(cores);
    let speeds = speeds.map(|((main, other), core)| (Speed { main, other }, core));
    classes(speeds.collect())
}

/// The classes: cut where every figure that is known is noticeably greater on one side than on the other.
fn classes(mut cores: Vec<(Speed, &CpuSet)>) -> Vec<CpuSet> {
    cores.sort_by_key(|(speed, _)| std::cmp::Reverse(speed.main));
    let mut classes: Vec<CpuSet> = Vec::new();
    for (index, (speed, core)) in cores.iter().enumerate() {
        let (before, after) = cores.split_at(index);
        let is_cut = before.last().is_none_or(|(last, _)| {
            is_noticeably_greater(last.main, speed.main) && is_confirmed(before, after)
        });
        if is_cut {
            classes.push(CpuSet::new());
        }
        if let Some(class) = classes.last_mut() {
            class.extend_with(core);
        }
    }
    if classes.len() < 2 {
        classes.clear();
    }
    classes
}

/// Whether no other figure that is known speaks against `faster` being faster than `slower`.
fn is_confirmed(faster: &[(Speed, &CpuSet)], slower: &[(Speed, &CpuSet)]) -> bool {
    let known = |(speed, _): &(Speed, &CpuSet)| speed.other;
    let least = faster.iter().filter_map(known).min();
    let most = slower.iter().filter_map(known).max();
    match (least, most) {
        (Some(least), Some(most)) => is_noticeably_greater(least, most),
        (Some(_), None) | (None, Some(_)) | (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The classes of cores of one CPU each, by MHz and performance (0: not known).
    fn of(cores: &[(u64, u64)]) -> Vec<String> {
        let sets: Vec<CpuSet> = (0..)
            .zip(cores)
            .map(|(cpu, _)| CpuSet::single(cpu))
            .collect();
        let speed = |(frequency, performance): &(u64, u64)| Speed {
            main: frequency * 1000,
            other: Some(*performance).filter(|performance| *performance > 0),
        };
        let speeds = cores.iter().map(speed).zip(&sets).collect();
        classes(speeds).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn kinds_of_cores_are_classes_and_a_bin_of_boost_is_none() {
        // Two kinds, and three.
        assert_eq!(of(&[(5400, 65), (5400, 65), (4200, 40)]), ["0-1", "2"]);
        assert_eq!(of(&[(2500, 20), (3800, 33), (5100, 62)]), ["2", "1", "0"]);
        // Favoured cores of one kind, by 200 MHz.
        assert!(of(&[(5600, 70), (5800, 72), (5600, 70)]).is_empty());
        // Each a little less than the one before: nowhere a step.
        assert!(of(&[(4000, 0), (3850, 0), (3700, 0), (3560, 0)]).is_empty());
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn performance_takes_back_what_it_does_not_have_and_makes_no_class() {
        // Preferred cores of AMD's: a rank on equal frequencies.
        assert!(of(&[(5757, 231), (5757, 166), (5757, 196)]).is_empty());
        // A driver's odd frequency.
        assert!(of(&[(3500, 255), (3000, 255)]).is_empty());
        // One side not known.
        assert_eq!(of(&[(3900, 0), (2800, 100)]), ["0", "1"]);
    }
}
