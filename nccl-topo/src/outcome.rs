//! What NCCL's search makes of a file of a machine: how often its ring and tree cross packages, and how wide they are.

use std::collections::{BTreeMap, BTreeSet};

use topology::machine::Machine;
use topology::pci::PciAddress;

use crate::capability::machine_capability;
use crate::crossings::{chain_crossings, least_chain_crossings, least_crossings, ring_crossings};
use crate::graph::{Channels, NOTHING_GB_S, Searches};
use crate::model::nets::{NetDevice, rdma_ports, with_nets};
use crate::model::{Conditions, Model, gpus_of};
use crate::processor::Processor;
use crate::reader::{self, System};
use crate::rules::Rules;

/// For which of the orders of ranks that were tried ([`orders`]) NCCL's search does worse than it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InOrders {
    /// All of them.
    All,
    /// The order of PCI addresses alone.
    OfAddresses,
    /// The order of PCI addresses and some others.
    OfAddressesAndSome,
    /// Some, but not the order of PCI addresses.
    Some,
}

/// Over which network between hosts NCCL's search does worse than it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverNets {
    /// RDMA ports and sockets.
    Both,
    /// RDMA ports, and not over sockets.
    RdmaPorts,
    /// Sockets; over RDMA ports not, or there are none.
    Sockets,
}

/// What NCCL's ring and tree will be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The most crossings between packages of a channel of the ring, over the rank orders and networks that were tried.
    pub crossings: u32,
    /// The fewest that the GPUs force.
    pub least: u32,
    /// The same of a channel of the tree.
    pub tree_crossings: u32,
    /// The fewest that the GPUs force.
    pub least_of_tree: u32,
    /// What a channel of the ring carries, in GB/s, as NCCL believes; 0.1 where it found no ring.
    pub bandwidth_gb_s: f32,
    /// The same of the tree.
    pub tree_bandwidth_gb_s: f32,
    /// The lowest bandwidth that NCCL tries, in GB/s.
    pub slowest_tried_gb_s: f32,
    /// What NCCL takes the socket link to carry, in GB/s.
    pub socket_link_gb_s: f32,
    /// The processor that NCCL sees.
    pub processor: Processor,
    /// For which orders of ranks it is not good.
    pub in_orders: InOrders,
    /// Over which network it is not good, in jobs on several hosts; none on one host.
    pub over: Option<OverNets>,
}

impl Outcome {
    /// Whether NCCL found no ring.
    pub fn nothing_found(&self) -> bool {
        (self.bandwidth_gb_s - NOTHING_GB_S).abs() < f32::EPSILON
    }

    /// Whether the ring crosses more often than the GPUs force it to.
    pub fn ring_is_above(&self) -> bool {
        self.ring_above().is_some()
    }

    /// Whether the tree crosses more often than the GPUs force it to.
    pub fn tree_is_above(&self) -> bool {
        self.tree_above().is_some()
    }

    /// The crossings of the ring, where they are more than the GPUs force.
    pub(crate) fn ring_above(&self) -> Option<u32> {
        Some(self.crossings).filter(|crossings| *crossings > self.least)
    }

    /// The crossings of the tree, where they are more than the GPUs force.
    pub(crate) fn tree_above(&self) -> Option<u32> {
        Some(self.tree_crossings).filter(|crossings| *crossings > self.least_of_tree)
    }

    /// Whether it is as good as the GPUs' places allow.
    pub fn is_good(&self) -> bool {
        !self.nothing_found() && !self.ring_is_above() && !self.tree_is_above()
    }

    /// The badness of one that [`is_good`](Self::is_good).
    pub(crate) const GOOD: (bool, u32) = (false, 0);

    /// How bad it is: what is found at all before what crosses.
    pub(crate) fn badness(&self) -> (bool, u32) {
        let above = self.crossings.saturating_sub(self.least)
            + self.tree_crossings.saturating_sub(self.least_of_tree);
        (self.nothing_found(), above)
    }
}

/// NCCL's search on `system` for a job on so many hosts, for the worst of some orders of ranks ([`orders`]); with the
/// machine's RDMA ports, and with sockets alone.  A network with which NCCL counts the host as several nodes is passed over:
/// no ring goes through the host then ([`crate::predict::Split`]).
pub(crate) fn outcome(
    system: &System,
    machine: &Machine,
    conditions: Conditions,
    hosts: u32,
    searches: &Searches,
) -> Option<Outcome> {
    let orders = orders(machine, gpus_of(system));
    let ports = rdma_ports(machine);
    let has_ports = !ports.is_empty();
    let sockets = vec![NetDevice::socket()];
    let networks = if has_ports {
        vec![ports, sockets]
    } else {
        vec![sockets]
    };
    let mut seen: Vec<(Vec<String>, usize, Option<Outcome>)> = Vec::new();
    let mut all: Vec<(usize, bool, Outcome)> = Vec::new();
    for (number, nets) in networks.iter().enumerate() {
        let system = with_nets(system, nets);
        for (place, order) in orders.iter().enumerate() {
            let model = Model::of(&system, order, conditions);
            // All that decides the search: the order in which NCCL takes the GPUs, and between hosts the network.
            let gpus: Vec<String> = model.gpus.iter().map(|gpu| gpu.busid.clone()).collect();
            let network = if hosts > 1 { number } else { 0 };
            let known = seen
                .iter()
                .find(|(known, over, _)| *known == gpus && *over == network);
            let found = match known {
                Some((_, _, found)) => *found,
                None => {
                    let is_cut = !conditions.reach.is_whole && model.paths.parts().len() > 1;
                    let found = if is_cut || !model.stops_at.is_empty() {
                        None
                    } else {
                        of_model(machine, &model, conditions, hosts, searches)
                    };
                    seen.push((gpus, network, found));
                    found
                }
            };
            // The order of the addresses is the last.
            all.extend(found.map(|found| (number, place + 1 == orders.len(), found)));
        }
    }
    let mut worst = all
        .iter()
        .map(|(_, _, one)| *one)
        .reduce(|a, b| if b.badness() > a.badness() { b } else { a })?;
    let is_bad = |by_address: bool| {
        let mut of = all.iter().filter(|(_, own, _)| *own == by_address);
        of.any(|(_, _, one)| !one.is_good())
    };
    let is_bad_over = |number: usize| {
        let mut of = all.iter().filter(|(own, _, _)| *own == number);
        of.any(|(_, _, one)| !one.is_good())
    };
    let mut where_bad = all.iter().filter(|(number, _, _)| is_bad_over(*number));
    let all_are_bad = where_bad.all(|(_, _, one)| !one.is_good());
    worst.in_orders = match (is_bad(true), is_bad(false)) {
        _ if all_are_bad => InOrders::All,
        (true, true) => InOrders::OfAddressesAndSome,
        (true, false) => InOrders::OfAddresses,
        (false, _) => InOrders::Some,
    };
    worst.over = (hosts > 1).then(|| match (has_ports, is_bad_over(0), is_bad_over(1)) {
        (true, true, true) => OverNets::Both,
        (true, true, false) => OverNets::RdmaPorts,
        (true, false, _) | (false, _, _) => OverNets::Sockets,
    });
    Some(worst)
}

/// The outcome for one order of the GPUs.
fn of_model(
    machine: &Machine,
    model: &Model,
    conditions: Conditions,
    hosts: u32,
    searches: &Searches,
) -> Option<Outcome> {
    let search = searches.search(&model.graph, &model.paths, hosts > 1)?;
    let processor = model.graph.processor()?;
    let (least, chain) = (least_crossings(machine)?, least_chain_crossings(machine)?);
    let rules = conditions.rules;
    let speeds = if hosts > 1 {
        rules.speeds_between_hosts(conditions.compute_capability)
    } else {
        rules.speeds(conditions.compute_capability)
    };
    Some(Outcome {
        crossings: most_crossings(machine, model, &search.ring, hosts == 1)?,
        // Between hosts a ring is a chain here.
        least: if hosts > 1 { chain } else { least },
        tree_crossings: most_crossings(machine, model, &search.tree, false)?,
        least_of_tree: chain,
        bandwidth_gb_s: search.ring.bandwidth_gb_s,
        tree_bandwidth_gb_s: search.tree.bandwidth_gb_s,
        slowest_tried_gb_s: speeds.last().copied().unwrap_or_default(),
        socket_link_gb_s: processor.socket_link_gb_s(rules),
        processor,
        in_orders: InOrders::All,
        over: None,
    })
}

/// How often the channel crosses between packages that does so most.
pub(crate) fn most_crossings(
    machine: &Machine,
    model: &Model,
    channels: &Channels,
    closes: bool,
) -> Option<u32> {
    let address = |gpu: &usize| model.gpus.get(*gpu)?.busid.parse::<PciAddress>().ok();
    let counts = channels.orders.iter().map(|order| {
        let order: Option<Vec<_>> = order.iter().map(address).collect();
        if closes {
            ring_crossings(machine, &order?)
        } else {
            chain_crossings(machine, &order?)
        }
    });
    counts.collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Orders of ranks that bring NCCL's search to different ends: of the addresses, of the file, the packages by turns, backwards,
/// from the middle on, and by threes.  Each once, that of the addresses last.
fn orders(machine: &Machine, in_file: Vec<String>) -> Vec<Vec<String>> {
    let mut by_address = in_file.clone();
    by_address.sort();
    let mut orders = vec![
        by_turns(machine, &by_address),
        backwards(&in_file),
        backwards(&by_address),
        from_the_middle(&by_address),
        by_threes(&by_address),
        in_file,
        by_address,
    ];
    let mut seen = BTreeSet::new();
    orders.reverse();
    orders.retain(|order| seen.insert(order.clone()));
    orders.reverse();
    orders
}

fn backwards(gpus: &[String]) -> Vec<String> {
    gpus.iter().rev().cloned().collect()
}

/// The second half before the first, so that the first GPU is another one of a package with several.
fn from_the_middle(gpus: &[String]) -> Vec<String> {
    let mut order = gpus.to_vec();
    order.rotate_left(gpus.len() / 2);
    order
}

/// Every third, then those between, so that neighbours below a switch are apart.
fn by_threes(gpus: &[String]) -> Vec<String> {
    let turns = (0..3).flat_map(|first| gpus.iter().skip(first).step_by(3));
    turns.cloned().collect()
}

/// The GPUs, one of each package after another.
fn by_turns(machine: &Machine, gpus: &[String]) -> Vec<String> {
    let package = |busid: &String| {
        let address = busid.parse().ok()?;
        machine.gpu(address)?.locality.package
    };
    let mut packages = BTreeMap::<_, Vec<_>>::new();
    for gpu in gpus {
        packages.entry(package(gpu)).or_default().push(gpu.clone());
    }
    let longest = packages.values().map(Vec::len).max().unwrap_or_default();
    let turns = (0..longest).flat_map(|turn| {
        let of_turn = packages.values().filter_map(move |gpus| gpus.get(turn));
        of_turn.cloned().collect::<Vec<_>>()
    });
    turns.collect()
}

/// The worst of what NCCL makes of `xml`, a file of `machine`, with P2P, in jobs on so many hosts.  GPUs of an unknown
/// model are tried as those of capability 8.0 and 9.0; from 10.0 on the bandwidths below which nothing is tried would
/// hide what the file does, so those are tried as 9.0.
///
/// None where it cannot be modelled.
pub(crate) fn worst_outcome(
    machine: &Machine,
    xml: &str,
    hosts: &[u32],
    rules: &[&'static Rules],
    searches: &Searches,
) -> Option<Outcome> {
    let system = reader::read(xml).system?;
    let capabilities =
        machine_capability(machine).map_or_else(|| vec![80, 90], |one| vec![one.min(90)]);
    let mut all = Vec::new();
    for compute_capability in capabilities {
        for rules in rules {
            let conditions = Conditions {
                rules,
                ..Conditions::of_capability(compute_capability)
            };
            for hosts in hosts {
                all.push(outcome(&system, machine, conditions, *hosts, searches)?);
            }
        }
    }
    all.into_iter()
        .reduce(|a, b| if b.badness() > a.badness() { b } else { a })
}

/// Whether on `xml`, a file of `machine`, NCCL's ring crosses packages no more often than the GPUs force it
/// to, with P2P.
pub(crate) fn ring_is_as_forced(machine: &Machine, xml: &str, searches: &Searches) -> bool {
    let outcome = worst_outcome(machine, xml, &[1], &[Rules::assumed()], searches);
    outcome.is_some_and(|outcome| !outcome.nothing_found() && !outcome.ring_is_above())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::{Form, emit};
    use crate::testing::*;

    /// NCCL's view of a file of `from`, as of `machine`.
    fn outcome_of(from: &Machine, machine: &Machine, conditions: Conditions) -> Outcome {
        let xml = emit(from, Form::SingleHost).unwrap().xml;
        let system = reader::parse(&xml).unwrap();
        outcome(&system, machine, conditions, 1, &Searches::default()).unwrap()
    }

    #[test]
    fn the_worst_order_of_ranks_counts() {
        // A file with a <cpu> per NUMA node: in file order the ring crosses as seldom as it can.
        let (nodes, packages) = (
            with_switches(machine(4, 1, 4), 1),
            with_switches(machine(2, 2, 4), 1),
        );
        let found = outcome_of(&nodes, &packages, Conditions::of_capability(80));
        assert_eq!((found.crossings, found.least), (4, 2));
        let found = outcome_of(&packages, &packages, Conditions::of_capability(80));
        assert_eq!((found.crossings, found.least), (2, 2));
    }

    #[test]
    fn blackwell_over_zen_5_has_two_channels_of_15_from_2_31_on() {
        let mut machine = amd(with_switches(machine(2, 1, 4), 2));
        machine.processor.as_mut().unwrap().family = Some(26);
        let conditions = Conditions {
            rules: Rules::of("2.31.0".parse().unwrap()),
            ..Conditions::of_capability(120)
        };
        let found = outcome_of(&machine, &machine, conditions);
        assert!((found.bandwidth_gb_s - 15.0).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn without_a_network_device_nothing_found_is_an_error_from_2_29_2_on() {
        let machine = amd(with_switches(machine(2, 1, 4), 2));
        let xml = emit(&machine, Form::SingleHost).unwrap().xml;
        let system = reader::parse(&xml).unwrap();
        for (version, ends) in [("2.28.9", false), ("2.29.2", true), ("2.30.7", true)] {
            let rules = Rules::of(version.parse().unwrap());
            for nets in [Vec::new(), vec![NetDevice::socket()]] {
                let conditions = Conditions {
                    rules,
                    ..Conditions::of_capability(120)
                };
                let system = with_nets(&system, &nets);
                let model = Model::of(&system, &gpus_of(&system), conditions);
                let search = Searches::default().search(&model.graph, &model.paths, false);
                let is_end = search.unwrap().ends_communicator(&model.paths, rules);
                assert_eq!(is_end, ends && nets.is_empty(), "{version} {nets:?}");
            }
        }
    }
}
