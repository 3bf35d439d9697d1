//! Which CPUs a step may use on this host.

use crate::machine::Machine;
use crate::set::CpuSet;

/// What Slurm and the kernel say of a step's CPUs.
#[derive(Debug, Clone, Default)]
pub struct StepView<'a> {
    /// The cpuset of the task's cgroup: the mask read back after asking for all CPUs.
    pub cpuset: CpuSet,
    /// The masks that Slurm gave the step's tasks, as far as they are known; at least that of the task itself.
    pub masks: &'a [CpuSet],
    /// How many cores Slurm gave the step (`S_STEP_ALLOC_CORES` counted); none where it does not say.
    pub core_count: Option<usize>,
    /// The CPUs of those cores, which Slurm counts in its own way; none where it does not say which they are.
    pub cores: Option<CpuSet>,
}

/// The CPUs that a step may use, and whether they are surely no other job's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepCpus {
    /// The CPUs.
    pub cpus: CpuSet,
    /// Whether they are the step's; false where neither a cpuset nor a mask nor the list of cores says which are.
    pub is_owned: bool,
}

/// The CPUs that the step may use.
///
/// The cpuset, where it holds no more cores than Slurm gave the step.  Else cores are not fenced
/// (`ConstrainCores=no`), and the union of the masks is the step's, where that holds no more cores either.  Else
/// Slurm bound nobody (`TaskPlugin=task/none`), and the cores that it gave are, where their numbers can be told.
/// Never an SMT sibling that every mask leaves out (`--hint=nomultithread`), and of CPUs that the machine does not know, as
/// one that came online since it was read, none where there are others: each task's answer is then the same, whatever mask it has.
pub fn find_step_cpus(machine: &Machine, view: &StepView<'_>) -> StepCpus {
    let owned = |cpus| StepCpus {
        cpus,
        is_owned: true,
    };
    let mut masked = CpuSet::new();
    for mask in view.masks {
        masked.extend_with(mask);
    }
    let cpuset = known_to(machine, &view.cpuset);
    masked = masked.intersection(&cpuset);
    let is_given = |cpus: &CpuSet| {
        let cores = machine.cores.iter().filter(|core| core.intersects(cpus));
        view.core_count.is_none_or(|given| cores.count() <= given)
    };
    if is_given(&cpuset) {
        return owned(drop_idle_siblings(machine, &cpuset, &masked));
    }
    if !masked.is_empty() && is_given(&masked) {
        return owned(masked);
    }
    let cores = view.cores.as_ref().map(|cores| cores.intersection(&cpuset));
    if let Some(cores) = cores.filter(|cores| !cores.is_empty()) {
        return owned(cores);
    }
    StepCpus {
        cpus: if masked.is_empty() { cpuset } else { masked },
        is_owned: false,
    }
}

/// The CPUs of `cpuset` that the machine has; all of it where it has none of them.
fn known_to(machine: &Machine, cpuset: &CpuSet) -> CpuSet {
    let known = cpuset.intersection(&machine.online);
    if known.is_empty() {
        cpuset.clone()
    } else {
        known
    }
}

/// Takes out the siblings that a masked core leaves idle; from a core that no mask touches, as many
/// threads as the masked cores use stay.
fn drop_idle_siblings(machine: &Machine, cpuset: &CpuSet, masked: &CpuSet) -> CpuSet {
    if cpuset.is_subset(masked) {
        return cpuset.clone();
    }
    let used = |core: &CpuSet| core.intersection(masked);
    let threads = machine
        .cores
        .iter()
        .map(|core| used(core).len())
        .max()
        .unwrap_or(0);
    if threads == 0 {
        return cpuset.clone();
    }
    let mut cpus = cpuset.clone();
    for core in &machine.cores {
        let inside = core.intersection(cpuset);
        let keep: CpuSet = match used(core) {
            mine if mine.is_empty() => inside.iter().take(threads).collect(),
            mine => mine,
        };
        cpus = cpus.difference(&inside.difference(&keep));
    }
    cpus
}

/// Reads `SLURM_CPU_BIND_LIST`: hexadecimal masks with commas between (`0x3,0x30`).
///
/// A list of anything else (CPU numbers of `map_cpu`) gives no masks.
pub fn parse_mask_list(text: &str) -> Vec<CpuSet> {
    text.split(',')
        .map_while(|mask| parse_hex_mask(mask.trim()))
        .collect()
}

fn parse_hex_mask(text: &str) -> Option<CpuSet> {
    let digits = text
        .strip_prefix("0x")
        .filter(|digits| !digits.is_empty() && digits.len() <= 16_384)?;
    let mut words = Vec::with_capacity(digits.len().div_ceil(16));
    let mut rest = digits;
    while !rest.is_empty() {
        let (high, low) = rest.split_at_checked(rest.len().saturating_sub(16))?;
        words.push(u64::from_str_radix(low, 16).ok()?);
        rest = high;
    }
    Some(CpuSet::from_words(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four cores of two threads: 0,4 1,5 2,6 3,7.
    fn machine() -> Machine {
        Machine {
            online: CpuSet::from_range(0, 7),
            cores: (0..4)
                .map(|core| [core, core + 4].into_iter().collect())
                .collect(),
            ..Machine::default()
        }
    }

    fn found(cpuset: &str, masks: &[&str], count: Option<usize>, cores: Option<&str>) -> StepCpus {
        let masks: Vec<CpuSet> = masks.iter().map(|mask| mask.parse().unwrap()).collect();
        let view = StepView {
            cpuset: cpuset.parse().unwrap(),
            masks: &masks,
            core_count: count,
            cores: cores.map(|cores| cores.parse().unwrap()),
        };
        find_step_cpus(&machine(), &view)
    }

    fn step_cpus(cpuset: &str, masks: &[&str], core_count: Option<usize>) -> String {
        let found = found(cpuset, masks, core_count, None);
        assert!(found.is_owned);
        found.cpus.to_string()
    }

    #[test]
    fn a_fenced_step_has_its_cpuset() {
        assert_eq!(step_cpus("0-1,4-5", &["0,4"], Some(2)), "0-1,4-5");
        assert_eq!(step_cpus("0-7", &["0,4"], None), "0-7");
    }

    #[test]
    fn without_a_fence_the_masks_are_all_that_is_sure() {
        assert_eq!(step_cpus("0-7", &["0,4", "1,5"], Some(2)), "0-1,4-5");
    }

    #[test]
    fn where_slurm_bound_nobody_the_cores_that_it_gave_are_the_steps() {
        let known = found("0-7", &["0-7", "0-7"], Some(2), Some("2-3,6-7"));
        assert_eq!(
            (known.cpus.to_string().as_str(), known.is_owned),
            ("2-3,6-7", true)
        );
        let unknown = found("0-7", &["0-7", "0-7"], Some(2), None);
        assert_eq!(
            (unknown.cpus.to_string().as_str(), unknown.is_owned),
            ("0-7", false)
        );
        assert!(
            found("0-7", &["0-7"], Some(4), None).is_owned,
            "the whole host"
        );
        assert!(
            found("0-7", &["0-7"], None, None).is_owned,
            "not under Slurm"
        );
    }

    #[test]
    fn a_sibling_that_no_mask_has_is_never_used() {
        assert_eq!(step_cpus("0-7", &["0", "1", "2", "3"], Some(4)), "0-3");
        assert_eq!(step_cpus("0-7", &["0"], Some(4)), "0-3", "other cores too");
        assert_eq!(step_cpus("0-7", &["0-7"], Some(4)), "0-7");
    }

    #[test]
    fn cpus_that_the_machine_does_not_know_are_no_part_of_a_step() {
        assert_eq!(step_cpus("0-9", &["0-7"], None), "0-7");
        assert_eq!(step_cpus("6-9", &["9"], Some(2)), "6-7");
        assert_eq!(step_cpus("8-9", &["8-9"], None), "8-9", "it knows none");
    }

    #[test]
    fn slurms_mask_list_is_read() {
        let masks = parse_mask_list("0x3,0x30,0x10000000000000001");
        let lists: Vec<String> = masks.iter().map(ToString::to_string).collect();
        assert_eq!(lists, ["0-1", "4-5", "0,64"]);
        assert!(parse_mask_list("0,1,2").is_empty());
        assert!(parse_mask_list("0x").is_empty());
        assert!(parse_mask_list("0xg").is_empty());
    }
}
