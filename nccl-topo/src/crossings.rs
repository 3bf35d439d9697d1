//! How often a ring over the GPUs of a host crosses between packages.

use std::collections::BTreeMap;

use topology::crossings::{fewest, groups};
use topology::machine::Machine;
use topology::path::nvlinks;
use topology::pci::PciAddress;

/// The fewest crossings of a ring over all NVIDIA GPUs of `machine`: none where they are at one package,
/// else one for each package that holds some.  Packages that an NVLink joins count as one; an NVLink that
/// could not be seen does not count.
///
/// None where a GPU's package is not known, and where there is no NVIDIA GPU.
pub fn least_crossings(machine: &Machine) -> Option<u32> {
    let packages = packages(machine)?;
    if packages.is_empty() {
        return None;
    }
    Some(fewest(groups(machine, &packages, &packages), true))
}

/// How many hops of the ring that goes through `order` and back to its start cross between packages and
/// have no NVLink.
///
/// None where one of them is no NVIDIA GPU of `machine` or its package is not known.
pub fn ring_crossings(machine: &Machine, order: &[PciAddress]) -> Option<u32> {
    crossings(machine, order, true)
}

/// The fewest crossings of a chain over all NVIDIA GPUs of `machine`: one less than packages that hold some.
///
/// None as for [`least_crossings`].
pub fn least_chain_crossings(machine: &Machine) -> Option<u32> {
    let packages = packages(machine)?;
    if packages.is_empty() {
        return None;
    }
    Some(groups(machine, &packages, &packages).saturating_sub(1))
}

/// [`ring_crossings`] of a chain, which does not go back to its start.
pub fn chain_crossings(machine: &Machine, order: &[PciAddress]) -> Option<u32> {
    crossings(machine, order, false)
}

fn crossings(machine: &Machine, order: &[PciAddress], closes: bool) -> Option<u32> {
    let packages = packages(machine)?;
    let next = order.iter().cycle().skip(1);
    let hops = order.len().saturating_sub(usize::from(!closes));
    let mut count = 0;
    for (from, to) in order.iter().zip(next).take(hops) {
        let apart = packages.get(from)? != packages.get(to)?;
        if apart && nvlinks(machine, *from, *to) == 0 {
            count += 1;
        }
    }
    Some(count)
}

/// The package of each NVIDIA GPU.
fn packages(machine: &Machine) -> Option<BTreeMap<PciAddress, u32>> {
    let only = match machine.packages.as_slice() {
        [only] => Some(only.id),
        _ => None,
    };
    let gpus = machine.nccl_gpus();
    gpus.map(|gpu| Some((gpu.pci, gpu.locality.package.or(only)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::{Form, emit};
    use crate::testing::*;

    #[test]
    fn one_package_needs_no_crossing_and_each_of_several_one() {
        for (packages, least) in [(1, 0), (2, 2), (4, 4)] {
            let machine = with_switches(machine(packages, 1, 4), 2);
            assert_eq!(least_crossings(&machine), Some(least));
        }
        assert_eq!(least_crossings(&machine(2, 1, 4)), None);
    }

    #[test]
    fn packages_without_gpus_do_not_count() {
        let mut machine = with_switches(machine(4, 1, 4), 2);
        machine.gpus.retain(|gpu| gpu.locality.package.unwrap() < 3);
        assert_eq!(least_crossings(&machine), Some(3));
    }

    #[test]
    fn nvlink_joins_packages() {
        let mut machine = with_switches(machine(2, 1, 4), 1);
        let far = machine.gpus[1].pci;
        machine.gpus[0].nvlinks = [(far, 4)].into();
        assert_eq!(least_crossings(&machine), Some(0));
        let near = machine.gpus[0].pci;
        machine.gpus[1].nvlinks = [(near, 4)].into();
        assert_eq!(ring_crossings(&machine, &[near, far]), Some(0));
    }

    #[test]
    fn a_gpu_whose_package_is_not_known_leaves_both_unknown() {
        let mut machine = with_switches(machine(2, 1, 4), 1);
        machine.gpus[0].locality.package = None;
        assert_eq!(least_crossings(&machine), None);
        assert_eq!(ring_crossings(&machine, &[machine.gpus[0].pci]), None);
    }

    #[test]
    fn the_order_of_the_file_crosses_as_seldom_as_can_be() {
        for (packages, nodes) in [(1, 4), (2, 1), (2, 2), (2, 4), (4, 1)] {
            let machine = without_switches(machine(packages, nodes, 4), 2, true);
            for form in [Form::SingleHost, Form::MultiHost] {
                let order = emit(&machine, form).unwrap().gpus;
                assert_eq!(ring_crossings(&machine, &order), least_crossings(&machine));
            }
        }
    }

    #[test]
    fn an_order_that_alternates_crosses_at_every_hop() {
        let machine = with_switches(machine(2, 1, 4), 2);
        let order = [
            "0000:03:00.0",
            "0000:13:00.0",
            "0000:04:00.0",
            "0000:14:00.0",
        ]
        .map(at);
        assert_eq!(ring_crossings(&machine, &order), Some(4));
    }
}
