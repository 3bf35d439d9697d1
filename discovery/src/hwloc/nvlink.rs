//! NVLinks from the matrix that hwloc makes of them where NVML was asked ("NVLinkBandwidth"), xGMI from the one where ROCm's
//! SMI library was ("XGMIBandwidth").
//!
//! NVML's is recognised by its rows, because hwloc before 2.1 (EL 8's first) cannot give its name.  Its rows and columns
//! are NVML's devices of GPUs and, in some versions, the NVSwitches; its values the sum of the bandwidths of the
//! links between two, in MB/s and one direction, and 1,000,000 on the diagonal (hwloc's `topology-nvml.c`).

use std::collections::BTreeMap;

use hwlocality::Topology;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::distance::DistancesKind;
use topology::machine::{Gpu, Machine};
use topology::nvlink::{Links, SOME_SWITCH, set_nvlinks};
use topology::pci::PciAddress;
use topology::vendor::Library;

use super::devices::address;

/// What hwloc writes for one link of NVLink 2 and later, in MB/s.
const LINK_MB_S: u64 = 25_000;
/// What it writes for one link of NVLink 1.
const FIRST_LINK_MB_S: u64 = 20_000;

/// What bandwidths are between: of each matrix the device of each row, and its values by row and column.
type Bandwidths = (Vec<Option<PciAddress>>, Vec<((usize, usize), u64)>);

/// Gives the GPUs of `machine` the links that `topology` holds, if it holds any.
pub(super) fn add_nvlinks(topology: &Topology, machine: &mut Machine) {
    let kind = DistancesKind::FROM_OS | DistancesKind::MEANS_BANDWIDTH;
    let matrices = topology.distances(Some(kind)).unwrap_or_default();
    let bandwidths: Vec<Bandwidths> = matrices
        .into_iter()
        .map(|matrix| {
            let ends = matrix.objects();
            let ends = ends.map(|object| object.and_then(pci_of)).collect();
            (ends, matrix.enumerate_distances().collect())
        })
        .collect();
    add_nvmls(&bandwidths, machine);
    add_xgmi(&bandwidths, machine);
}

/// xGMI between AMD's GPUs, or parts of them: hwloc says of two that all between them is xGMI, be it over other GPUs, and no
/// more; neither its bandwidths (all 100 GB/s to 2.x) nor its hops (all 1 there) tell which are joined directly
/// (topology-rsmi.c).
fn add_xgmi(bandwidths: &[Bandwidths], machine: &mut Machine) {
    let is_kfds = |gpu: &Gpu| {
        gpu.maker()
            .is_some_and(|maker| maker.driver.topology.is_some())
    };
    for (ends, values) in bandwidths {
        for ((from, to), mb_s) in values {
            let end = |index: usize| ends.get(index).copied().flatten();
            let (Some(from), Some(to)) = (end(*from), end(*to)) else {
                continue;
            };
            if *mb_s == 0 || from == to || !machine.gpu(to).is_some_and(is_kfds) {
                continue;
            }
            let mut gpus = machine.gpus.iter_mut();
            let Some(gpu) = gpus.find(|gpu| gpu.pci == from && is_kfds(gpu)) else {
                continue;
            };
            let kfd = gpu.kfd.get_or_insert_default();
            if let Err(place) = kfd.beyond.binary_search(&to) {
                kfd.beyond.insert(place, to);
            }
        }
    }
}

fn add_nvmls(bandwidths: &[Bandwidths], machine: &mut Machine) {
    let is_nvmls = |pci: &PciAddress| {
        machine
            .gpu(*pci)
            .is_some_and(|gpu| gpu.is_listed_by(Library::Nvml))
    };
    let mut bandwidths = bandwidths.iter();
    let Some((ends, values)) = bandwidths.find(|(ends, _)| ends.iter().flatten().any(is_nvmls))
    else {
        return;
    };
    let mut said: BTreeMap<PciAddress, Links> = BTreeMap::new();
    for gpu in ends.iter().flatten().filter(|pci| is_nvmls(pci)) {
        said.entry(*gpu).or_default();
    }
    for ((from, to), mb_s) in values {
        let end = |index: usize| ends.get(index).copied().flatten();
        let Some(gpu) = end(*from).and_then(|pci| machine.gpu(pci)) else {
            continue;
        };
        let to = end(*to).unwrap_or(SOME_SWITCH);
        let generation = gpu.model().and_then(|model| model.link_generation);
        let one = if generation == Some(1) {
            FIRST_LINK_MB_S
        } else {
            LINK_MB_S
        };
        let count = u32::try_from(mb_s / one).unwrap_or_default();
        if to != gpu.pci && count > 0 {
            said.entry(gpu.pci).or_default().push((to, count));
        }
    }
    machine.nvlink_visible = machine
        .gpus
        .iter()
        .all(|gpu| !gpu.is_listed_by(Library::Nvml) || said.contains_key(&gpu.pci));
    set_nvlinks(machine, &said);
}

/// The PCI device that an object is, or that has it.
fn pci_of(object: &TopologyObject) -> Option<PciAddress> {
    std::iter::once(object)
        .chain(object.ancestors())
        .find_map(|object| match object.attributes() {
            Some(ObjectAttributes::PCIDevice(pci)) => Some(address(pci)),
            Some(_) | None => None,
        })
}
