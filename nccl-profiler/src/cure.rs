//! In which order of a host's GPUs communicators that cross would not: found once, when the last of a kind ends.
//!
//! NCCL orders the GPUs of a communicator by itself, so what can be changed is which GPUs are in one together.  Of the layout a
//! process knows its own groups, and takes the others to lie as these do: ranks at equal distances, as frameworks number them.

use std::sync::Mutex;

use nccl_topo::ranks::{Group, Parallel, Placing};
use topology::machine::Machine;
use topology::pci::PciAddress;

/// Kinds that are kept.
const MOST_KINDS: usize = 64;
/// GPUs of a host that an order is looked for: of 16 it takes some milliseconds.
const MOST_GPUS: usize = 16;

/// A communicator of this process, all of whose ranks are on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// What the names of its kind have in common; none where it has no name.
    pattern: Option<String>,
    /// The GPUs of its ranks, in their order.
    gpus: Vec<PciAddress>,
    /// Whether it crosses.
    crosses: bool,
}

/// The first of each kind, and the largest.
static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());

/// Remembers a communicator, all of whose ranks are on this host, with the GPUs of its ranks in their order.
pub(crate) fn note(pattern: Option<String>, gpus: Vec<PciAddress>, crosses: bool) {
    // A lock that is held, or was when its process forked, is not waited for.
    let Ok(mut known) = KNOWN.try_lock() else {
        return;
    };
    let new = Known {
        pattern,
        gpus,
        crosses,
    };
    let is_known = |own: &Known| own.pattern == new.pattern && own.gpus.len() >= new.gpus.len();
    if known.len() < MOST_KINDS && !known.iter().any(is_known) {
        known.push(new);
    }
}

/// What would keep the communicators of `pattern` from crossing, in words; none where that is not known of any order.
pub(crate) fn cure_line(machine: &Machine, pattern: &str) -> Option<String> {
    let known = KNOWN.try_lock().ok()?.clone();
    cure(machine, pattern, &known).map(|cure| cure.line())
}

/// An order of GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cure {
    /// The GPU of each rank of the host, by its number in the order of PCI addresses.
    visible: Vec<usize>,
    /// Kinds that would cross in it and do not now.
    instead: Vec<String>,
}

impl Cure {
    fn line(&self) -> String {
        let visible: Vec<String> = self.visible.iter().map(usize::to_string).collect();
        let instead = if self.instead.is_empty() {
            String::new()
        } else {
            let names: Vec<String> = self
                .instead
                .iter()
                .map(|name| format!("\"{name}\""))
                .collect();
            format!(", but communicators {} would", names.join(", "))
        };
        format!(
            "with CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES={} for all ranks of the host none of these would cross{instead}",
            visible.join(",")
        )
    }
}

/// The order in which communicators of `pattern` do not cross: one in which no others do that do not now, else one in which some do
/// instead.
fn cure(machine: &Machine, pattern: &str, known: &[Known]) -> Option<Cure> {
    let world = &known.iter().max_by_key(|own| own.gpus.len())?.gpus;
    let all: Vec<PciAddress> = machine.nccl_gpus().map(|gpu| gpu.pci).collect();
    // Numbers of GPUs that a job does not have are not its own.
    if world.len() != all.len()
        || all.len() > MOST_GPUS
        || !all.iter().all(|gpu| world.contains(gpu))
    {
        return None;
    }
    let mut kinds = Vec::new();
    let named = known.iter().filter(|own| own.pattern.is_some());
    for own in named.filter(|own| own.gpus.len() < world.len()) {
        kinds.push((own, groups_of(world, &own.gpus)?));
    }
    let is_asked = |own: &Known| own.pattern.as_deref() == Some(pattern);
    if !kinds.iter().any(|(own, _)| is_asked(own)) {
        return None;
    }
    let placing = |class: &dyn Fn(&Known) -> Parallel| {
        let groups = kinds.iter().flat_map(|(own, groups)| {
            let parallel = class(own);
            groups.iter().map(move |members| Group {
                parallel,
                members: members.clone(),
                goes_on: false,
            })
        });
        Placing::new(machine, world.clone(), groups.collect())
    };
    let plain: Vec<usize> = (0..world.len()).collect();
    let keeps = placing(&|own| match (is_asked(own), own.crosses) {
        (true, _) => Parallel::Data,
        (false, false) => Parallel::Tensor,
        (false, true) => Parallel::Pipeline,
    });
    let order = keeps.by_exchanges(world.len());
    let [silent, asked, others] = keeps.cost(&order).crossings;
    let order = if silent == 0 && asked == 0 && others <= keeps.cost(&plain).crossings[2] {
        order
    } else {
        let turns = placing(&|own| match (is_asked(own), own.crosses) {
            (true, _) => Parallel::Tensor,
            (false, false) => Parallel::Data,
            (false, true) => Parallel::Pipeline,
        });
        let order = turns.by_exchanges(world.len());
        let [asked, _, others] = turns.cost(&order).crossings;
        if asked > 0 || others > turns.cost(&plain).crossings[2] {
            return None;
        }
        order
    };
    let crosses_then = |(own, groups): &&(&Known, Vec<Vec<usize>>)| {
        let groups = groups.iter().map(|members| Group {
            parallel: Parallel::Tensor,
            members: members.clone(),
            goes_on: false,
        });
        let cost = Placing::new(machine, world.clone(), groups.collect()).cost(&order);
        !own.crosses && cost.crossings[0] > 0
    };
    let instead = kinds.iter().filter(crosses_then);
    let instead = instead
        .map(|(own, _)| own.pattern.clone().unwrap_or_default())
        .collect();
    let number = |place: &usize| all.iter().position(|gpu| world.get(*place) == Some(gpu));
    Some(Cure {
        visible: order.iter().map(number).collect::<Option<_>>()?,
        instead,
    })
}

/// All groups of the kind of which `own` is one, by the places of their ranks in `world`: those that lie as it does.  None where its
/// ranks are not at equal distances, or such groups do not fill the world.
fn groups_of(world: &[PciAddress], own: &[PciAddress]) -> Option<Vec<Vec<usize>>> {
    let place = |gpu: &PciAddress| world.iter().position(|other| other == gpu);
    let places: Vec<usize> = own.iter().map(place).collect::<Option<_>>()?;
    let (first, size) = (*places.first()?, places.len());
    let stride = places
        .get(1)?
        .checked_sub(first)
        .filter(|stride| *stride > 0)?;
    let is_even = (0..size).all(|rank| places.get(rank) == Some(&(first + rank * stride)));
    let block = stride.checked_mul(size)?;
    if !is_even || !world.len().is_multiple_of(block) || first % block >= stride {
        return None;
    }
    let starts = (0..world.len()).filter(|start| start % block < stride);
    let groups = starts.map(|start| (0..size).map(|rank| start + rank * stride).collect());
    Some(groups.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::machine::{Gpu, Package};
    use topology::pci::PciDevice;
    use topology::set::{CpuSet, NodeSet};
    use topology::vendor::VENDORS;

    /// GPUs at these packages, in the order of their addresses, which no NVLink joins.
    fn machine(packages: &[u32]) -> Machine {
        let mut machine = Machine {
            nvlink_visible: true,
            ..Machine::default()
        };
        for (bus, package) in (0x21..).zip(packages) {
            let at: PciAddress = format!("0000:{bus:02x}:00.0").parse().unwrap();
            let mut gpu = Gpu::of(&PciDevice::new(at, 0x03_0200, VENDORS[0].id, 0x2330));
            gpu.locality.package = Some(*package);
            gpu.locality.numa_nodes = Some(NodeSet::single(*package));
            machine.gpus.push(gpu);
        }
        for id in 0..2 {
            machine.packages.push(Package {
                id,
                cpus: CpuSet::single(id),
                numa_nodes: NodeSet::single(id),
            });
        }
        machine
    }

    /// A communicator of the ranks at these places of the PCI order.
    fn known(machine: &Machine, pattern: &str, places: &[usize], crosses: bool) -> Known {
        Known {
            pattern: Some(pattern.to_owned()),
            gpus: places
                .iter()
                .map(|place| machine.gpus[*place].pci)
                .collect(),
            crosses,
        }
    }

    #[test]
    fn groups_lie_as_the_one_that_is_known() {
        let machine = machine(&[0; 8]);
        let world: Vec<PciAddress> = machine.gpus.iter().map(|gpu| gpu.pci).collect();
        let of = |places: &[usize]| {
            let own: Vec<PciAddress> = places.iter().map(|place| world[*place]).collect();
            groups_of(&world, &own)
        };
        assert_eq!(of(&[2, 3]).unwrap(), [[0, 1], [2, 3], [4, 5], [6, 7]]);
        assert_eq!(of(&[1, 3, 5, 7]).unwrap(), [[0, 2, 4, 6], [1, 3, 5, 7]]);
        assert_eq!(of(&[4, 6]).unwrap(), [[0, 2], [1, 3], [4, 6], [5, 7]]);
        for odd in [&[0, 1, 3][..], &[1, 2], &[0, 1, 2], &[3, 2], &[0]] {
            assert_eq!(of(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn where_nothing_crosses_instead_that_order_is_named() {
        // Pairs of the first four GPUs cross, the others do not.
        let machine = machine(&[0, 1, 0, 1, 0, 0, 1, 1]);
        let all: Vec<usize> = (0..8).collect();
        let known = [
            known(&machine, "*", &all, true),
            known(&machine, "tp_*", &[0, 1], true),
        ];
        let cure = cure(&machine, "tp_*", &known).unwrap();
        assert!(cure.instead.is_empty());
        let packages: Vec<u32> = cure
            .visible
            .iter()
            .map(|gpu| machine.gpus[*gpu].locality.package.unwrap())
            .collect();
        assert!(
            packages.chunks(2).all(|pair| pair[0] == pair[1]),
            "{packages:?}"
        );
        assert!(
            cure.line()
                .ends_with("for all ranks of the host none of these would cross")
        );
    }

    #[test]
    fn what_would_cross_instead_is_named_too() {
        let machine = machine(&[0, 1, 0, 1, 0, 1, 0, 1]);
        let all: Vec<usize> = (0..8).collect();
        let known = [
            known(&machine, "*", &all, true),
            known(&machine, "tp_*", &[0, 1, 2, 3], true),
            known(&machine, "dp_*", &[0, 4], false),
        ];
        let cure = cure(&machine, "tp_*", &known).unwrap();
        assert_eq!(cure.visible, [0, 2, 4, 6, 1, 3, 5, 7]);
        assert_eq!(
            cure.line(),
            "with CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=0,2,4,6,1,3,5,7 for all ranks of the host none of these would \
             cross, but communicators \"dp_*\" would"
        );
    }

    #[test]
    fn where_no_order_helps_or_the_layout_is_not_known_nothing_is_named() {
        let spread = machine(&[0, 0, 0, 0, 1, 1, 1, 1]);
        let all: Vec<usize> = (0..8).collect();
        let world = known(&spread, "*", &all, true);
        // All GPUs of the host.
        assert_eq!(cure(&spread, "*", std::slice::from_ref(&world)), None);
        // Three of one socket and one of the other cannot be together.
        let six = machine(&[0, 0, 0, 1, 1, 1]);
        let known_six = [
            known(&six, "*", &[0, 1, 2, 3, 4, 5], true),
            known(&six, "dp_*", &[0, 3], true),
        ];
        assert_eq!(cure(&six, "dp_*", &known_six), None);
        // Groups at odd places, and a job without some of the GPUs.
        let odd = known(&spread, "dp_*", &[0, 3, 5], true);
        assert_eq!(cure(&spread, "dp_*", &[world, odd]), None);
        let part = [
            known(&spread, "*", &[0, 1, 4, 5], true),
            known(&spread, "dp_*", &[0, 4], true),
        ];
        assert_eq!(cure(&spread, "dp_*", &part), None);
    }
}
