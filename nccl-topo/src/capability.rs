//! The compute capability of a machine's GPUs.

use std::collections::BTreeSet;

use topology::machine::Machine;

/// The least compute capability of the machine's GPUs, by which NCCL chooses the bandwidths that it
/// tries; none where one of them is of a model that is not known.
pub fn machine_capability(machine: &Machine) -> Option<u32> {
    let capabilities = machine
        .nccl_gpus()
        .map(|gpu| gpu.model()?.compute_capability);
    let all: Option<BTreeSet<_>> = capabilities.collect();
    all?.first().copied()
}
