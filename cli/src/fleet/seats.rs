//! What of a host matters for where a job's GPUs and CPUs can be together.

use std::collections::BTreeMap;

use slurm_config::registration::type_of_name;
use topology::machine::{Gpu, Machine};
use topology::set::NodeSet;

/// What of a host a job's GPUs and CPUs must share.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Seats {
    /// GPUs as Slurm counts them: one that is divided by its parts.
    pub(super) gpus: usize,
    /// CPUs of its largest core.
    pub(super) threads: usize,
    /// Of each set of NUMA nodes that GPUs are nearest to, its seats.  Empty where the place of a GPU is not known.
    pub(super) areas: Vec<Area>,
}

/// GPUs that are nearest to the same NUMA nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Area {
    /// How many of each name, as AutoDetect makes types of it; without a name where that is not known.
    pub(super) names: BTreeMap<String, usize>,
    /// CPUs of these nodes.
    pub(super) cpus: usize,
}

impl Seats {
    /// Counts a machine's.
    pub(super) fn of(machine: &Machine) -> Self {
        let mut areas: BTreeMap<&NodeSet, Area> = BTreeMap::new();
        let mut is_known = true;
        for gpu in &machine.gpus {
            let place = &gpu.locality;
            let (Some(nodes), Some(cpus)) = (&place.numa_nodes, &place.cpus) else {
                is_known = false;
                continue;
            };
            let area = areas.entry(nodes).or_default();
            area.cpus = cpus.len();
            let name = gpu.name.as_deref().map(type_of_name);
            *area.names.entry(name.unwrap_or_default()).or_default() += gpu.parts();
        }
        let threads = machine.cores.iter().map(|core| core.len()).max();
        Self {
            gpus: machine.gpus.iter().map(Gpu::parts).sum(),
            threads: threads.unwrap_or(1).max(1),
            areas: if is_known {
                areas.into_values().collect()
            } else {
                Vec::new()
            },
        }
    }
}
