//! What of a host matters for where a job's GPUs and CPUs can be together.

use std::collections::BTreeMap;

use topology::machine::Machine;
use topology::set::NodeSet;

/// What of a host a job's GPUs and CPUs must share.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Seats {
    /// GPUs.
    pub(super) gpus: usize,
    /// CPUs of its largest core.
    pub(super) threads: usize,
    /// Of each set of NUMA nodes that GPUs are nearest to: GPUs, and CPUs.  Empty where the place of a GPU is not known.
    pub(super) areas: Vec<(usize, usize)>,
}

impl Seats {
    /// Counts a machine's.
    pub(super) fn of(machine: &Machine) -> Self {
        let mut areas: BTreeMap<&NodeSet, (usize, usize)> = BTreeMap::new();
        let mut is_known = true;
        for gpu in &machine.gpus {
            let place = &gpu.locality;
            let (Some(nodes), Some(cpus)) = (&place.numa_nodes, &place.cpus) else {
                is_known = false;
                continue;
            };
            areas.entry(nodes).or_insert((0, cpus.len())).0 += 1;
        }
        let threads = machine.cores.iter().map(|core| core.len()).max();
        Self {
            gpus: machine.gpus.len(),
            threads: threads.unwrap_or(1).max(1),
            areas: if is_known {
                areas.into_values().collect()
            } else {
                Vec::new()
            },
        }
    }
}
