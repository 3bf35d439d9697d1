//! The compute capability of a machine's GPUs.

use std::collections::BTreeSet;

use topology::machine::Machine;
use topology::pci::VENDOR_NVIDIA;

/// The least compute capability of the machine's NVIDIA GPUs, by which NCCL chooses the bandwidths that it
/// tries; absent where one of them is of a model that is not known.
pub fn machine_capability(machine: &Machine) -> Option<u32> {
    let nvidia = machine
        .gpus
        .iter()
        .filter(|gpu| gpu.vendor == VENDOR_NVIDIA);
    let all: Option<BTreeSet<_>> = nvidia.map(|gpu| compute_capability(gpu.device)).collect();
    all?.first().copied()
}

/// The compute capability of a PCI device id of NVIDIA's, major times 10 plus minor; absent for those
/// outside the ranges of the chips of 2016 to 2025 (PCI ID repository, "10de").
fn compute_capability(device: u16) -> Option<u32> {
    Some(match device {
        0x15f0..=0x15ff => 60,
        0x1b00..=0x1d7f => 61,
        0x1d80..=0x1dff => 70,
        0x1e00..=0x1fff | 0x2180..=0x21ff => 75,
        0x2080..=0x20ff => 80,
        0x2300..=0x23ff => 90,
        0x2200..=0x22ff | 0x2400..=0x25ff => 86,
        0x2600..=0x28ff => 89,
        0x2900..=0x29ff => 100,
        0x2b00..=0x2dff => 120,
        0x2e00..=0x2eff => 121,
        0x3180..=0x31ff => 103,
        _ => return None,
    })
}
