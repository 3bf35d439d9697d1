//! Which NICs a GPU, and so a task, should use: the nearest, dealt so that none idles while another serves two GPUs.
//!
//! Nearer goes before more: a GPU never gets a NIC beyond the nearest ones, though these serve others too, because what lies
//! between costs more than sharing does.  Of NICs that are equally near each GPU gets one, spread evenly; what is then left over
//! goes to the GPUs that have fewest.

use serde::Serialize;

use crate::binding::StepPlan;
use crate::machine::{Machine, Nic};
use crate::path::{PciPath, locality, pci_path};
use crate::pci::PciAddress;

/// HPE's Slingshot NICs, Cassini 1 and 2 (their driver's `PCI_DEVICE_ID_CASSINI_1`, `_2`), which are no RDMA devices to the kernel.
const SLINGSHOT: [(u16, u16); 2] = [(0x17db, 0x0501), (0x1590, 0x0371)];

/// What is between a GPU and a NIC, nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NicPath {
    /// A single PCIe switch.
    OneSwitch,
    /// Several PCIe switches.
    Switches,
    /// A host bridge.
    HostBridge,
    /// Host bridges of one NUMA node.
    Node,
    /// NUMA nodes of one package.
    Package,
    /// The socket link.
    SocketLink,
    /// It is not known.
    Unknown,
}

impl NicPath {
    /// The word that JSON documents have; none where it is not known.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::OneSwitch => Some("one-switch"),
            Self::Switches => Some("switches"),
            Self::HostBridge => Some("host-bridge"),
            Self::Node => Some("node"),
            Self::Package => Some("package"),
            Self::SocketLink => Some("socket-link"),
            Self::Unknown => None,
        }
    }

    /// Between the GPU and the NIC at these addresses.
    pub fn of(machine: &Machine, gpu: PciAddress, nic: PciAddress) -> Self {
        match pci_path(machine, gpu, nic) {
            Some(PciPath::Pix) => Self::OneSwitch,
            Some(PciPath::Pxb) => Self::Switches,
            Some(PciPath::Phb) => Self::HostBridge,
            Some(PciPath::Node) => Self::Node,
            Some(PciPath::Sys) => {
                let package = |address| locality(machine, address)?.package;
                match (package(gpu), package(nic)) {
                    (Some(a), Some(b)) if a == b => Self::Package,
                    (Some(_), Some(_)) => Self::SocketLink,
                    _ => Self::Unknown,
                }
            }
            None => Self::Unknown,
        }
    }
}

/// The NICs of a GPU or a task, as JSON documents have them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NicDocument {
    /// Them, in the order of their addresses; empty where there are none, or which are near is not known.
    pub nics: Vec<PciAddress>,
    /// The names that programs know them by: RDMA devices (`mlx5_0`), else interfaces.
    pub names: Vec<String>,
    /// What is between: `one-switch`, `switches`, `host-bridge`, `node` (host bridges of a NUMA node), `package` (NUMA nodes of
    /// a socket) or `socket-link`; of a task the farthest of its GPUs'.  Null without NICs.
    pub path: Option<&'static str>,
    /// How many GPUs share the one that most share; 0 without NICs.
    pub sharing: usize,
}

impl NicDocument {
    /// The document of a share.
    pub fn new(machine: &Machine, share: &NicShare) -> Self {
        Self {
            nics: share.nics.clone(),
            names: share.nics.iter().map(|nic| name(machine, *nic)).collect(),
            path: share.path.and_then(NicPath::word),
            sharing: share.sharing,
        }
    }
}

/// `mlx5_0`: the RDMA device with a port that is up, else the first interface, else the address.
pub fn name(machine: &Machine, nic: PciAddress) -> String {
    let own = machine.nics.iter().find(|own| own.pci == nic);
    let port = own.and_then(|own| own.ports.first().map(|port| &port.device));
    let name = port.or_else(|| own.and_then(|own| own.names.first()));
    name.cloned().unwrap_or_else(|| nic.to_string())
}

/// The NICs of a GPU or a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NicShare {
    /// They, in the order of their addresses; none where the machine has none that is fit, or the path to all of them is unknown.
    pub nics: Vec<PciAddress>,
    /// What is between: of a task with several GPUs the farthest.  None without NICs.
    pub path: Option<NicPath>,
    /// How many GPUs share the NIC that most share.
    pub sharing: usize,
}

/// The NICs that jobs send data by: where there are RDMA devices with a port that is up, or Slingshot's, those; else, where
/// no port is recorded, those with the name of an RDMA device; else all.  An Ethernet port beside them is for management.
///
/// Not those that the machine has aside, unless it has all so: links may come up after a boot's reading.  Nor those with less
/// than half of the rate of the fastest, as a host's 25 Gbit/s beside InfiniBand: NCCL, too, goes by bandwidth before distance
/// (`ncclTopoGetLocal`, src/graph/topo.cc), and half is what a port has that lost lanes.
pub fn data_nics(machine: &Machine) -> Vec<PciAddress> {
    let is_slingshot = |nic: &Nic| SLINGSHOT.contains(&(nic.vendor, nic.device));
    let rules: [&dyn Fn(&Nic) -> bool; 3] = [
        &|nic| !nic.ports.is_empty() || is_slingshot(nic),
        &|nic| nic.names.iter().any(|name| is_rdma_name(name)),
        &|_| true,
    ];
    let fastest = machine.nics.iter().filter_map(rate).max().unwrap_or(0);
    let is_slow = |nic: &Nic| rate(nic).is_some_and(|own| own < fastest.div_ceil(2));
    let choose = |nics: &[&Nic]| -> Option<Vec<PciAddress>> {
        rules.iter().find_map(|is_fit| {
            let fit = nics.iter().filter(|nic| is_fit(nic));
            let fit: Vec<PciAddress> = fit.map(|nic| nic.pci).collect();
            (!fit.is_empty()).then_some(fit)
        })
    };
    let all: Vec<&Nic> = machine.nics.iter().collect();
    let fit: Vec<&Nic> = machine
        .nics
        .iter()
        .filter(|nic| nic.aside.is_none() && !is_slow(nic))
        .collect();
    choose(&fit).or_else(|| choose(&all)).unwrap_or_default()
}

/// Of its fastest port; none where none is recorded.
fn rate(nic: &Nic) -> Option<u32> {
    nic.ports.iter().filter_map(|port| port.speed_mbit_s).max()
}

/// The beginnings of RDMA devices' names, before a number: as the kernel's drivers give them (drivers/infiniband/hw, the
/// callers of `ib_register_device`), and as udev's rule renames them (rdma-core, kernel-boot/rdma_rename.c); `ib` is also an
/// interface of InfiniBand's.
const RDMA_NAMES: &str = "bnxt_re cxgb4_ efa_ erdma_ hfi1_ hns_ ib ibp ibs ionic_ irdma iwp mana_ mlx4_ mlx5_ mlx5_bond_ \
                          opap qedr rdmap rocep roces";

fn is_rdma_name(name: &str) -> bool {
    RDMA_NAMES.split(' ').any(|start| {
        let rest = name.strip_prefix(start);
        rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    })
}

/// The NICs of each of `gpus`, in their order.
pub fn deal_nics(machine: &Machine, gpus: &[PciAddress]) -> Vec<NicShare> {
    let nics = data_nics(machine);
    let nearest: Vec<(NicPath, Vec<usize>)> = gpus
        .iter()
        .map(|gpu| nearest_of(machine, *gpu, &nics))
        .collect();
    let choices: Vec<Vec<usize>> = nearest.iter().map(|(_, choice)| choice.clone()).collect();
    let dealt = deal(&choices, nics.len());
    let load = |nic: usize| dealt.iter().filter(|own| own.contains(&nic)).count();
    dealt
        .iter()
        .zip(&nearest)
        .map(|(own, (path, _))| NicShare {
            nics: own
                .iter()
                .filter_map(|nic| nics.get(*nic).copied())
                .collect(),
            path: (!own.is_empty()).then_some(*path),
            sharing: own.iter().map(|nic| load(*nic)).max().unwrap_or(0),
        })
        .collect()
}

/// The NICs of each task of a plan, in its order.
pub fn nics_of_plan(machine: &Machine, plan: &StepPlan) -> Vec<NicShare> {
    let gpus: Vec<_> = plan.tasks.iter().map(|task| task.gpus.clone()).collect();
    nics_of_tasks(machine, &gpus)
}

/// The NICs of each task, by its GPUs; GPUs that several tasks have count once.
pub fn nics_of_tasks(machine: &Machine, tasks: &[Vec<PciAddress>]) -> Vec<NicShare> {
    let mut gpus: Vec<PciAddress> = tasks.iter().flatten().copied().collect();
    gpus.sort_unstable();
    gpus.dedup();
    let dealt = deal_nics(machine, &gpus);
    let of_gpu = |gpu: &PciAddress| dealt.get(gpus.binary_search(gpu).ok()?);
    tasks
        .iter()
        .map(|task| {
            let mut own = NicShare::default();
            for share in task.iter().filter_map(of_gpu) {
                own.nics.extend(&share.nics);
                own.path = own.path.max(share.path);
                own.sharing = own.sharing.max(share.sharing);
            }
            own.nics.sort_unstable();
            own.nics.dedup();
            own
        })
        .collect()
}

/// The NICs, by their place in `nics`, that are nearest to a GPU; none where the path to each is unknown.
fn nearest_of(machine: &Machine, gpu: PciAddress, nics: &[PciAddress]) -> (NicPath, Vec<usize>) {
    let paths: Vec<NicPath> = nics
        .iter()
        .map(|nic| NicPath::of(machine, gpu, *nic))
        .collect();
    let best = paths.iter().min().copied().unwrap_or(NicPath::Unknown);
    let is_best = |(_, path): &(usize, &NicPath)| **path == best && best != NicPath::Unknown;
    let chosen = paths.iter().enumerate().filter(is_best);
    (best, chosen.map(|(nic, _)| nic).collect())
}

/// Deals `count` NICs: of its choices each GPU gets one, so that the sum of the squares of how many GPUs each serves is
/// least; then each NIC that serves none goes to the GPU with fewest that has it among its choices.
fn deal(choices: &[Vec<usize>], count: usize) -> Vec<Vec<usize>> {
    let first = spread(choices, count);
    let mut dealt: Vec<Vec<usize>> = first
        .iter()
        .map(|nic| nic.iter().copied().collect())
        .collect();
    let load = |nic: usize| first.iter().filter(|own| **own == Some(nic)).count();
    // The other way round: who serves a NIC of one's own.  GPUs that share theirs take part with that one.
    let single: Vec<usize> = (0..count).filter(|nic| load(*nic) <= 1).collect();
    let takers: Vec<Vec<usize>> = single
        .iter()
        .map(|nic| {
            let of = |gpu: &usize| choices.get(*gpu).is_some_and(|own| own.contains(nic));
            (0..choices.len()).filter(of).collect()
        })
        .collect();
    let is_sharing = |gpu: usize| {
        first
            .get(gpu)
            .copied()
            .flatten()
            .is_some_and(|nic| load(nic) > 1)
    };
    let base: Vec<usize> = (0..choices.len())
        .map(|gpu| usize::from(is_sharing(gpu)))
        .collect();
    let spread = spread_onto(&takers, base);
    for (gpu, own) in dealt.iter_mut().enumerate() {
        if !is_sharing(gpu) {
            own.clear();
        }
        let given = single
            .iter()
            .zip(&spread)
            .filter(|(_, taker)| **taker == Some(gpu));
        own.extend(given.map(|(nic, _)| *nic));
        own.sort_unstable();
    }
    dealt
}

fn spread(choices: &[Vec<usize>], count: usize) -> Vec<Option<usize>> {
    spread_onto(choices, vec![0; count])
}

/// Puts each of `choices` onto one of its places, where `loads` says how many each place has already, so that the sum of the
/// squares of the loads is least; none where it has no choice.
///
/// A load can be made more even only along a chain: from a place onto another one that one of its items may be on, and so on, to a
/// place with two less (Harvey, Ladner, Lovász and Tamir, Semi-matchings for bipartite graphs and load balancing, 2006).
fn spread_onto(choices: &[Vec<usize>], mut loads: Vec<usize>) -> Vec<Option<usize>> {
    let mut on: Vec<Option<usize>> = Vec::new();
    for own in choices {
        let least = own
            .iter()
            .min_by_key(|place| loads.get(**place).copied().unwrap_or(usize::MAX));
        on.push(least.copied());
        if let Some(load) = least.and_then(|place| loads.get_mut(*place)) {
            *load += 1;
        }
    }
    while let Some(chain) = find_chain(choices, &on, &loads) {
        for (item, to) in chain {
            let from = on.get(item).copied().flatten();
            if let Some(load) = from.and_then(|place| loads.get_mut(place)) {
                *load = load.saturating_sub(1);
            }
            if let Some(load) = loads.get_mut(to) {
                *load += 1;
            }
            if let Some(place) = on.get_mut(item) {
                *place = Some(to);
            }
        }
    }
    on
}

/// Items to put elsewhere, so that the loads become more even.
fn find_chain(
    choices: &[Vec<usize>],
    on: &[Option<usize>],
    loads: &[usize],
) -> Option<Vec<(usize, usize)>> {
    (0..loads.len()).find_map(|start| {
        let top = loads.get(start).copied()?;
        // From where each place was come to, and by which item.
        let mut came: Vec<Option<(usize, usize)>> = vec![None; loads.len()];
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(place) = queue.pop_front() {
            if loads.get(place).is_some_and(|load| load + 2 <= top) {
                let mut chain = Vec::new();
                let mut at = place;
                while at != start {
                    let (from, item) = came.get(at).copied().flatten()?;
                    chain.push((item, at));
                    at = from;
                }
                return Some(chain);
            }
            for (item, own) in choices.iter().enumerate() {
                if on.get(item).copied().flatten() != Some(place) {
                    continue;
                }
                for to in own.iter().filter(|to| **to != start) {
                    if let Some(unseen @ None) = came.get_mut(*to) {
                        *unseen = Some((place, item));
                        queue.push_back(*to);
                    }
                }
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All ways to put each item onto one of its places.
    fn ways(choices: &[Vec<usize>]) -> Vec<Vec<usize>> {
        choices.iter().fold(vec![Vec::new()], |ways, own| {
            let longer = |way: &Vec<usize>| -> Vec<Vec<usize>> {
                own.iter()
                    .map(|place| [way.as_slice(), &[*place]].concat())
                    .collect()
            };
            ways.iter().flat_map(longer).collect()
        })
    }

    fn squares(on: &[usize], count: usize) -> usize {
        let load = |place| on.iter().filter(|own| **own == place).count();
        (0..count).map(|place| load(place).pow(2)).sum()
    }

    /// Numbers that are the same in each run.
    fn random(seed: &mut u64) -> usize {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(*seed >> 33).unwrap()
    }

    #[test]
    fn loads_are_as_even_as_brute_force_finds_and_nothing_idles() {
        let mut seed = 7;
        for _ in 0..2000 {
            let (gpus, nics) = (1 + random(&mut seed) % 6, 1 + random(&mut seed) % 5);
            let choices: Vec<Vec<usize>> = (0..gpus)
                .map(|_| {
                    let bits = 1 + random(&mut seed) % ((1 << nics) - 1);
                    (0..nics).filter(|nic| bits >> nic & 1 == 1).collect()
                })
                .collect();
            let best = ways(&choices)
                .iter()
                .map(|way| squares(way, nics))
                .min()
                .unwrap();
            let first: Vec<usize> = spread(&choices, nics).into_iter().flatten().collect();
            assert_eq!(squares(&first, nics), best, "{choices:?}: {first:?}");
            let dealt = deal(&choices, nics);
            for nic in 0..nics {
                let load = dealt.iter().filter(|own| own.contains(&nic)).count();
                let is_wanted = choices.iter().any(|own| own.contains(&nic));
                assert_eq!(load > 0, is_wanted, "{choices:?}: {dealt:?}");
            }
            let is_allowed = |(own, choice): (&Vec<usize>, &Vec<usize>)| {
                !own.is_empty() && own.iter().all(|nic| choice.contains(nic))
            };
            assert!(
                dealt.iter().zip(&choices).all(is_allowed),
                "{choices:?}: {dealt:?}"
            );
            // Who shares a NIC in one of the best ways has no second one.
            let load = |nic: &usize| dealt.iter().filter(|own| own.contains(nic)).count();
            let total: usize = dealt
                .iter()
                .map(|own| own.iter().filter(|nic| load(nic) > 1).count())
                .sum();
            let shared = (0..nics)
                .filter(|nic| load(nic) > 1)
                .map(|nic| load(&nic))
                .sum::<usize>();
            assert_eq!(total, shared);
        }
    }

    #[test]
    fn where_no_port_is_recorded_names_tell_rdma_devices_from_ethernet() {
        let data = |nics: &[(&str, bool)]| -> Vec<u8> {
            let nics = (1..).zip(nics).map(|(bus, (name, has_port))| {
                let port = crate::machine::RdmaPort {
                    device: (*name).to_owned(),
                    port: 1,
                    speed_mbit_s: None,
                };
                Nic {
                    pci: format!("0000:{bus:02x}:00.0").parse().unwrap(),
                    vendor: 0x15b3,
                    device: 0x1021,
                    names: vec![(*name).to_owned()],
                    ports: has_port.then_some(port).into_iter().collect(),
                    aside: None,
                    locality: Default::default(),
                }
            });
            let machine = Machine {
                nics: nics.collect(),
                ..Machine::default()
            };
            data_nics(&machine).iter().map(|nic| nic.bus).collect()
        };
        let (a, b) = (("mlx5_0", false), ("eno1", false));
        assert_eq!(data(&[a, b]), [1]);
        for name in ["ib0", "rocep1s0", "bnxt_re0", "rdmap0s6", "efa_0"] {
            assert_eq!(data(&[b, (name, false)]), [2], "{name}");
        }
        assert_eq!(data(&[b, ("ibmveth", false), ("eth0", false)]), [1, 2, 3]);
        assert_eq!(data(&[a, ("mlx5_1", true), b]), [2]);
    }

    #[test]
    fn nics_to_spare_go_to_all_alike() {
        let all = |count: usize| (0..count).collect::<Vec<usize>>();
        assert_eq!(
            deal(&[all(4), all(4)], 4)
                .iter()
                .map(Vec::len)
                .collect::<Vec<_>>(),
            [2, 2]
        );
        assert_eq!(
            deal(&[all(2), all(2), all(2), all(2)], 2)
                .iter()
                .map(Vec::len)
                .sum::<usize>(),
            4
        );
        assert_eq!(
            deal(&[vec![0], vec![0], vec![]], 2),
            [vec![0], vec![0], vec![]]
        );
        // The second GPU has a choice, so the first is not left with half.
        assert_eq!(deal(&[vec![0], vec![0, 1]], 2), [vec![0], vec![1]]);
    }
}
