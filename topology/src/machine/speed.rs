//! CPUs that are faster than others.

use super::Machine;
use crate::set::CpuSet;

/// Classes that are told apart; a processor has three kinds of cores at most.
const MOST_CLASSES: usize = 4;

impl Machine {
    /// The CPUs of `cpus` that are in the fastest class, in the two fastest, and so on, as far as these are some of `cpus` and
    /// not all; none where all of `cpus` are alike, or nothing is known of them.
    pub fn faster(&self, cpus: &CpuSet) -> Vec<CpuSet> {
        let mut faster = Vec::new();
        let mut so_far = CpuSet::new();
        for class in self.speed_classes.iter().take(MOST_CLASSES) {
            let own = class.intersection(cpus);
            if own.is_empty() {
                continue;
            }
            so_far.extend_with(&own);
            if so_far.len() < cpus.len() {
                faster.push(so_far.clone());
            }
        }
        faster
    }
}

/// How fast `cpus` are together: how many are in each of `faster` ([`Machine::faster`]), in all.
pub(crate) fn swiftness(faster: &[CpuSet], cpus: &CpuSet) -> usize {
    faster.iter().map(|faster| faster.common(cpus)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_some_cpus_those_are_faster_that_others_of_them_are_not() {
        let classes = ["0-3", "4-7", "8-11"].map(|list| list.parse().unwrap());
        let machine = Machine {
            speed_classes: classes.to_vec(),
            ..Machine::default()
        };
        let faster = |list: &str| -> Vec<String> {
            let faster = machine.faster(&list.parse().unwrap());
            faster.iter().map(ToString::to_string).collect()
        };
        assert_eq!(faster("0-11"), ["0-3", "0-7"]);
        assert_eq!(faster("2-5"), ["2-3"]);
        assert_eq!(faster("4-11"), ["4-7"]);
        assert!(faster("4-6").is_empty() && faster("").is_empty());
        // CPUs of which nothing is known are behind.
        assert_eq!(faster("10-13"), ["10-11"]);
        assert!(
            Machine::default()
                .faster(&"0-3".parse().unwrap())
                .is_empty()
        );
    }
}
