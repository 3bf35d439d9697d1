//! What NCCL's search makes of a file of a machine: how often its ring crosses packages, and how wide it is.

use std::collections::BTreeMap;

use topology::machine::Machine;
use topology::pci::PciAddress;

use crate::capability::machine_capability;
use crate::crossings::{least_crossings, ring_crossings};
use crate::graph::{Channels, Search};
use crate::model::{Conditions, Model, gpus_of};
use crate::processor::Processor;
use crate::reader::{self, System};

/// Below this bandwidth, in GB/s, NCCL found nothing (it then writes 0.1).
const NOTHING_GB_S: f32 = 1.0;

/// What NCCL's ring will be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The most crossings between packages of a channel, over the rank orders that were tried.
    pub crossings: u32,
    /// The fewest that the GPUs force.
    pub least: u32,
    /// What a channel carries, in GB/s, as NCCL believes; 0.1 where it found no ring.
    pub bandwidth_gb_s: f32,
    /// The lowest bandwidth that NCCL tries, in GB/s.
    pub slowest_tried_gb_s: f32,
    /// What NCCL takes the socket link to carry, in GB/s.
    pub socket_link_gb_s: f32,
    /// The processor that NCCL sees.
    pub processor: Processor,
}

impl Outcome {
    /// Whether NCCL found no ring.
    pub fn nothing_found(&self) -> bool {
        self.bandwidth_gb_s < NOTHING_GB_S
    }

    /// Whether it is as good as the GPUs' places allow.
    pub fn is_good(&self) -> bool {
        !self.nothing_found() && self.crossings <= self.least
    }
}

/// NCCL's search on `system`, for the worst of three orders of ranks: of the file, that backwards, and
/// the packages by turns.
pub(crate) fn outcome(
    system: &System,
    machine: &Machine,
    conditions: Conditions,
) -> Option<Outcome> {
    let least = least_crossings(machine)?;
    let speeds = conditions.rules.speeds(conditions.compute_capability);
    let slowest = speeds.last().copied().unwrap_or_default();
    let in_file = gpus_of(system);
    let backwards: Vec<_> = in_file.iter().rev().cloned().collect();
    let orders = [by_turns(machine, &in_file), in_file, backwards];
    let outcomes = orders.iter().filter_map(|order| {
        let model = Model::of(system, order, conditions);
        let ring = Search::of(&model.graph, &model.paths)?.ring;
        let processor = model.graph.processor()?;
        Some(Outcome {
            crossings: most_crossings(machine, &model, &ring)?,
            least,
            bandwidth_gb_s: ring.bandwidth_gb_s,
            slowest_tried_gb_s: slowest,
            socket_link_gb_s: processor.socket_link_gb_s(conditions.rules),
            processor,
        })
    });
    outcomes.reduce(|a, b| {
        let worse = (b.nothing_found(), b.crossings) > (a.nothing_found(), a.crossings);
        if worse { b } else { a }
    })
}

fn most_crossings(machine: &Machine, model: &Model, ring: &Channels) -> Option<u32> {
    let address = |gpu: &usize| model.gpus.get(*gpu)?.busid.parse::<PciAddress>().ok();
    let counts = ring.orders.iter().map(|order| {
        let order: Option<Vec<_>> = order.iter().map(address).collect();
        ring_crossings(machine, &order?)
    });
    counts.collect::<Option<Vec<_>>>()?.into_iter().max()
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

/// Whether on `xml`, a file of `machine`, NCCL's ring crosses packages no more often than the GPUs force it
/// to, with P2P.  GPUs of an unknown model are tried as those of capability 8.0 and 9.0; from 10.0 on the
/// bandwidths below which nothing is tried would hide what the file does, so those are tried as 9.0.
pub(crate) fn ring_is_as_forced(machine: &Machine, xml: &str) -> bool {
    let Ok(system) = reader::parse(xml) else {
        return false;
    };
    let capabilities =
        machine_capability(machine).map_or_else(|| vec![80, 90], |one| vec![one.min(90)]);
    let mut outcomes = capabilities
        .into_iter()
        .map(|capability| outcome(&system, machine, Conditions::of_capability(capability)));
    outcomes.all(|outcome| outcome.is_some_and(|outcome| outcome.is_good()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::{Form, emit};
    use crate::rules::Rules;
    use crate::testing::*;

    /// NCCL's view of a file of `from`, as of `machine`.
    fn outcome_of(from: &Machine, machine: &Machine, conditions: Conditions) -> Outcome {
        let xml = emit(from, Form::SingleHost).unwrap().xml;
        outcome(&reader::parse(&xml).unwrap(), machine, conditions).unwrap()
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
}
