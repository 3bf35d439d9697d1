//! What NCCL will make of a true file that nobody wants, and no true file can mend.
//!
//! Three things of NCCL 2.30.7's search (`graph/search.cc`) make a ring cross packages more often than its
//! GPUs force it to, or find no ring, whatever a file says that is true:
//!
//! * a hop through an Intel CPU takes 6/5 of its bandwidth on PCI links (`INTEL_P2P_OVERHEAD`), one over the
//!   socket link does not: where a bandwidth that NCCL tries is just that of the link, only the latter fit;
//! * for compute capability 10.0 and above nothing below 18 GB/s is tried (`sm100SpeedArrayIntra`);
//! * without P2P every hop goes through a CPU, and the first of these holds below switches as well.
//!
//! None is told by rule: the search itself is run on the file, see [`crate::graph::Search`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::graph::{Channels, PathType, Processor, Search};
use topology::machine::Machine;
use topology::pci::{PciAddress, VENDOR_NVIDIA};

use crate::crossings::{least_crossings, ring_crossings};
use crate::emit::{Form, emit};
use crate::model::Model;
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
    /// The bandwidth that NCCL takes the socket link for, in GB/s.
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

/// Something that no true file can mend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// For GPUs of this compute capability, major times 10 plus minor.
    pub compute_capability: u32,
    /// Whether that is known of the machine's GPUs.
    pub is_known: bool,
    /// Whether it is so with P2P; else only where P2P is off.
    pub with_p2p: bool,
    /// Whether the machine's NVLinks could have been seen.
    pub nvlink_seen: bool,
    /// What happens.
    pub outcome: Outcome,
}

impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome {
            crossings,
            least,
            bandwidth_gb_s,
            socket_link_gb_s,
            processor,
        } = self.outcome;
        f.write_str("no honest file can mend this: ")?;
        let mut conditions = Vec::new();
        if !self.with_p2p {
            conditions.push("with P2P off (NCCL_P2P_DISABLE=1, NCCL_P2P_LEVEL=LOC)".to_owned());
        }
        if !self.is_known {
            let (major, minor) = (self.compute_capability / 10, self.compute_capability % 10);
            conditions.push(format!("for GPUs of compute capability {major}.{minor}"));
        }
        if !self.nvlink_seen {
            conditions.push("unless NVLink joins the GPUs".to_owned());
        }
        for condition in conditions {
            write!(f, "{condition}, ")?;
        }
        if self.outcome.nothing_found() {
            write!(
                f,
                "NCCL's search finds no ring and takes the order of the file at {bandwidth_gb_s} GB/s, \
                 crossing packages {crossings} times"
            )?;
            if self.compute_capability >= 100 {
                write!(
                    f,
                    "; from compute capability 10.0 it tries nothing below 18 GB/s, and takes the socket \
                     link for {socket_link_gb_s} GB/s"
                )?;
            }
            return Ok(());
        }
        write!(
            f,
            "NCCL's ring crosses packages {crossings} times at {bandwidth_gb_s} GB/s where {least} would \
             do at less"
        )?;
        if processor.is_intel() {
            f.write_str(
                "; NCCL counts 6/5 of the bandwidth for a hop through an Intel CPU and none more for the \
                 socket link",
            )?;
        }
        Ok(())
    }
}

/// The predictions for `machine` under its own true file, worst first for each kind; none where it has no
/// such file, where NVLink is seen to join GPUs, and where all is well.
pub fn predict(machine: &Machine) -> Vec<Prediction> {
    let Some(system) = true_file(machine) else {
        return Vec::new();
    };
    if machine.gpus.iter().any(|gpu| !gpu.nvlinks.is_empty()) {
        return Vec::new();
    }
    let known = machine_capability(machine);
    let capabilities = known.map_or_else(|| vec![80, 90, 100], |known| vec![known]);
    let mut predictions = Vec::new();
    for compute_capability in capabilities {
        for with_p2p in [true, false] {
            let Some(outcome) = outcome(&system, machine, compute_capability, with_p2p) else {
                continue;
            };
            let prediction = Prediction {
                compute_capability,
                is_known: known.is_some(),
                with_p2p,
                nvlink_seen: machine.nvlink_visible,
                outcome,
            };
            let with_p2p_as_well = predictions.iter().any(|other: &Prediction| {
                other.compute_capability == compute_capability && other.outcome == outcome
            });
            if !outcome.is_good() && !with_p2p_as_well {
                predictions.push(prediction);
            }
        }
    }
    predictions
}

/// Whether a true file of `machine` would leave no ring above the fewest crossings, for GPUs of this
/// compute capability with P2P.  Absent where there is no true file.
pub fn true_file_is_good(machine: &Machine, compute_capability: u32) -> Option<bool> {
    let system = true_file(machine)?;
    outcome(&system, machine, compute_capability, true).map(|outcome| outcome.is_good())
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
        .map(|capability| outcome(&system, machine, capability, true));
    outcomes.all(|outcome| outcome.is_some_and(|outcome| outcome.is_good()))
}

fn true_file(machine: &Machine) -> Option<System> {
    let emitted = emit(machine, Form::SingleHost).ok()?;
    reader::parse(&emitted.xml).ok()
}

/// NCCL's search on `system`, for the worst of three orders of ranks: of the file, that backwards, and
/// the packages by turns.
fn outcome(
    system: &System,
    machine: &Machine,
    compute_capability: u32,
    with_p2p: bool,
) -> Option<Outcome> {
    let least = least_crossings(machine)?;
    let in_file = crate::model::gpus_of(system);
    let limit = (!with_p2p).then_some(PathType::Loc);
    let backwards: Vec<_> = in_file.iter().rev().cloned().collect();
    let orders = [by_turns(machine, &in_file), in_file, backwards];
    let outcomes = orders.iter().filter_map(|order| {
        let model = Model::with_p2p(system, order, compute_capability, limit);
        let ring = Search::of(&model.graph, &model.paths)?.ring;
        let processor = model.processor()?;
        Some(Outcome {
            crossings: most_crossings(machine, &model, &ring)?,
            least,
            bandwidth_gb_s: ring.bandwidth_gb_s,
            socket_link_gb_s: processor.link_bandwidth_gb_s(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn slow(mut machine: Machine, gts: f64) -> Machine {
        for device in &mut machine.pci {
            device.link.max_speed_gts = Some(gts);
        }
        machine.nvlink_visible = true;
        machine
    }

    #[test]
    fn a_server_whose_links_fit_has_nothing_to_predict_with_p2p() {
        let machine = with_switches(machine(2, 2, 4), 2);
        assert!(predict(&machine).iter().all(|found| !found.with_p2p));
    }

    #[test]
    fn links_that_are_just_a_step_of_the_search_are_predicted_to_cross() {
        // Four sockets of Sapphire Rapids with two GPUs each at 8 GT/s, no switches: at 12 GB/s a hop through
        // a CPU would take 14.4.
        let machine = slow(without_switches(machine(4, 1, 4), 2, false), 8.0);
        let found = predict(&machine);
        let with_p2p = found.iter().find(|found| found.with_p2p).unwrap();
        assert_eq!((with_p2p.outcome.crossings, with_p2p.outcome.least), (8, 4));
        let said = with_p2p.to_string();
        let start = "no honest file can mend this: NCCL's ring crosses packages 8 times at 12 GB/s where 4 \
                     would do at less; NCCL counts 6/5";
        assert!(said.starts_with(start), "{said}");
    }

    #[test]
    fn blackwell_without_nvlink_on_two_amd_sockets_finds_no_ring() {
        let mut machine = amd(with_switches(machine(2, 1, 4), 2));
        for gpu in &mut machine.gpus {
            gpu.device = 0x2bb5;
        }
        let found = predict(&machine);
        let said = found[0].to_string();
        assert!(
            found[0].with_p2p && found[0].outcome.nothing_found(),
            "{said}"
        );
        assert!(
            said.ends_with("tries nothing below 18 GB/s, and takes the socket link for 16 GB/s"),
            "{said}"
        );
    }

    #[test]
    fn gpus_of_an_unknown_model_are_predicted_for_by_their_capability() {
        let mut machine = amd(with_switches(machine(2, 1, 4), 2));
        for gpu in &mut machine.gpus {
            gpu.device = 0x0001;
        }
        machine.nvlink_visible = false;
        let said = predict(&machine)[0].to_string();
        let start =
            "no honest file can mend this: for GPUs of compute capability 10.0, unless NVLink";
        assert!(said.starts_with(start), "{said}");
    }

    #[test]
    fn where_nvlink_joins_gpus_nothing_is_predicted() {
        let mut machine = slow(without_switches(machine(4, 1, 4), 2, false), 8.0);
        let far = machine.gpus[1].pci;
        machine.gpus[0].nvlinks = [(far, 4)].into();
        assert_eq!(predict(&machine), []);
    }
}
