//! What no true file can fix: a ring of NCCL's that crosses packages too often, or no ring at all.
//!
//! Three things of NCCL's search (`graph/search.cc`) make a ring cross packages more often than its GPUs force
//! it to, or find no ring, whatever a true file says:
//!
//! * a hop through an Intel CPU takes 6/5 of its bandwidth on PCI links (`INTEL_P2P_OVERHEAD`), one over the
//!   socket link does not: where a bandwidth that NCCL tries is just that of the link, only the latter fit;
//! * for compute capability 10.0 and above nothing below 18 GB/s is tried (`sm100SpeedArrayIntra`);
//! * without P2P every hop goes through a CPU, and the first of these holds below switches as well.
//!
//! None of them is a rule here: the search itself is run on the file, see [`crate::graph::Search`].

use std::fmt;

use topology::machine::{Gpu, Machine};
use topology::pci::PciAddress;
use topology::quantity::count;

use crate::capability::machine_capability;
use crate::element::Element;
use crate::emit::{Form, emit_with};
use crate::graph::{PathType, Searches};
use crate::model::nets::{rdma_ports, with_nets};
use crate::model::{COMPUTE_CAPABILITY, Conditions, Model, completed, filled, gpus_of, with_links};
use crate::outcome::{InOrders, Outcome, OverNets, outcome};
use crate::reader::{self, System};
use crate::route::{RankHop, Route, most_crossings};
use crate::rules::{Rules, Version, since};

/// Something that no true file can fix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// For GPUs of this compute capability, major times 10 plus minor.
    pub compute_capability: u32,
    /// Whether that is known of the machine's GPUs.
    pub is_known: bool,
    /// Whether it is so with P2P; else only where P2P is off.
    pub with_p2p: bool,
    /// Whether the machine's NVLinks could have been seen, or it can have none.
    pub nvlink_seen: bool,
    /// Whether it is so in jobs on several hosts, and not on one.
    pub several_hosts: bool,
    /// What happens.
    pub outcome: Outcome,
    /// Of which file.
    pub about: About,
}

/// Which file a prediction is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The machine's own true one, the best there is.
    TrueFile,
    /// One that a user gave, which the true one betters.
    Bettered,
    /// One that a user gave, where the true one is not good either.
    NotBettered,
}

impl About {
    /// Whether no topology file helps.
    pub fn is_unfixable(self) -> bool {
        match self {
            Self::TrueFile | Self::NotBettered => true,
            Self::Bettered => false,
        }
    }

    /// What follows a prediction.
    fn words(self) -> &'static str {
        if self.is_unfixable() {
            UNFIXABLE
        } else {
            "; `gpu-numa nccl emit` writes a file that fixes this"
        }
    }
}

/// Whether it is known what NVLinks the machine has.
fn knows_nvlink(machine: &Machine) -> bool {
    machine.nvlink_visible || !machine.gpus.iter().any(Gpu::may_link)
}

/// What every prediction of a true file is about.
const UNFIXABLE: &str = ". No true topology file can fix this";

impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome {
            crossings,
            least,
            tree_crossings,
            least_of_tree,
            bandwidth_gb_s,
            tree_bandwidth_gb_s,
            slowest_tried_gb_s,
            socket_link_gb_s,
            processor,
            in_orders,
            over,
        } = self.outcome;
        let mut conditions = Vec::new();
        if self.several_hosts {
            let over = match over {
                Some(OverNets::Both) => " over RDMA ports or sockets",
                Some(OverNets::RdmaPorts) => " over RDMA ports",
                Some(OverNets::Sockets) => " over sockets",
                None => "",
            };
            conditions.push(format!("in jobs on several hosts{over}"));
        }
        conditions.extend(orders_words(in_orders).map(str::to_owned));
        if !self.with_p2p {
            conditions.push(WITHOUT_P2P.to_owned());
        }
        if !self.is_known {
            let (major, minor) = (self.compute_capability / 10, self.compute_capability % 10);
            conditions.push(format!(
                "if the GPUs have compute capability {major}.{minor}"
            ));
        }
        if !self.nvlink_seen {
            conditions.push("unless NVLink connects the GPUs".to_owned());
        }
        for condition in conditions {
            write!(f, "{condition}, ")?;
        }
        if self.outcome.nothing_found() {
            write!(
                f,
                "NCCL's search finds no ring and uses the order of the file at {bandwidth_gb_s} GB/s, \
                 crossing between sockets {crossings} times"
            )?;
            if self.compute_capability >= 100 {
                write!(
                    f,
                    "; for compute capability 10.0 and above it tries no bandwidth below \
                     {slowest_tried_gb_s} GB/s, and it takes the socket link to carry {socket_link_gb_s} GB/s"
                )?;
            }
            return f.write_str(self.about.words());
        }
        match (self.outcome.ring_is_above(), self.outcome.tree_is_above()) {
            (true, false) => write!(
                f,
                "NCCL's ring crosses between sockets {crossings} times at {bandwidth_gb_s} GB/s, though {least} \
                 would be enough at a lower bandwidth"
            )?,
            (true, true) => write!(
                f,
                "NCCL's ring crosses between sockets {crossings} times at {bandwidth_gb_s} GB/s, though {least} \
                 would be enough at a lower bandwidth, and its tree {tree_crossings} times at \
                 {tree_bandwidth_gb_s} GB/s instead of {least_of_tree}"
            )?,
            (false, _) => write!(
                f,
                "NCCL's tree crosses between sockets {tree_crossings} times at {tree_bandwidth_gb_s} GB/s, though \
                 {least_of_tree} would be enough at a lower bandwidth"
            )?,
        }
        f.write_str(self.about.words())?;
        if self.about.is_unfixable() && processor.is_intel() {
            f.write_str(
                ": NCCL counts a hop through an Intel CPU as 6/5 of its bandwidth, and a hop over the socket \
                 link as no more than its own",
            )?;
        }
        Ok(())
    }
}

/// The condition of what holds with P2P off alone.
const WITHOUT_P2P: &str = "with P2P off (NCCL_P2P_DISABLE=1 or NCCL_P2P_LEVEL=LOC)";

/// For which orders of ranks a prediction holds, where not for all.
fn orders_words(orders: InOrders) -> Option<&'static str> {
    match orders {
        InOrders::All => None,
        InOrders::OfAddresses => Some("for ranks in PCI order"),
        InOrders::OfAddressesAndSome => Some("for ranks in PCI order and some others"),
        InOrders::Some => Some("for ranks in some orders other than PCI order"),
    }
}

/// The predictions for `machine` under its own true file, worst first for each kind; none where it has no
/// such file, where NVLink is seen to join GPUs, and where all is well.
pub fn predict(machine: &Machine) -> Vec<Prediction> {
    predict_for(machine, Rules::assumed(), &Searches::default())
}

/// [`predict`] for an NCCL with these rules; `searches` are those that were made of this machine.
pub fn predict_for(
    machine: &Machine,
    rules: &'static Rules,
    searches: &Searches,
) -> Vec<Prediction> {
    let files = [1, 2].map(|hosts| {
        (
            hosts,
            true_file(machine, Form::for_hosts(hosts), rules, searches),
        )
    });
    predictions(machine, rules, files, |_, _| About::TrueFile, searches)
}

/// The predictions for a file of `machine` as the NCCL of these rules reads it.
pub fn predict_file(
    system: &System,
    machine: &Machine,
    rules: &'static Rules,
    searches: &Searches,
) -> Vec<Prediction> {
    let system = as_found(system, machine, rules);
    if links_gpus(&system.root) {
        return Vec::new();
    }
    let about = |conditions, hosts| match true_file_for(machine, conditions, hosts, searches) {
        TrueFile::Good => About::Bettered,
        TrueFile::Missing | TrueFile::NotEnough(_) => About::NotBettered,
    };
    let files = [1, 2].map(|hosts| (hosts, Some(system.clone())));
    predictions(machine, rules, files, about, searches)
}

/// A file as NCCL has it on its machine, with what it leaves out.
fn as_found(system: &System, machine: &Machine, rules: &Rules) -> System {
    filled(&completed(system, machine).system, machine, rules).system
}

/// Whether a file names an NVLink.
fn links_gpus(element: &Element) -> bool {
    element.name == "nvlink" || element.children.iter().any(links_gpus)
}

fn predictions(
    machine: &Machine,
    rules: &'static Rules,
    files: [(u32, Option<System>); 2],
    about: impl Fn(Conditions, u32) -> About,
    searches: &Searches,
) -> Vec<Prediction> {
    let mut predictions = Vec::new();
    if machine.gpus.iter().any(|gpu| !gpu.nvlinks.is_empty()) {
        return predictions;
    }
    let known = machine_capability(machine);
    let capabilities = known.map_or_else(|| vec![80, 90, 100], |known| vec![known]);
    for (hosts, system) in files {
        let Some(system) = system else { continue };
        for compute_capability in &capabilities {
            for with_p2p in [true, false] {
                let whole = Conditions {
                    rules,
                    ..Conditions::of_capability(*compute_capability)
                }
                .with_p2p(with_p2p);
                let mut conditions = whole;
                // What a host that is cut does in a job of its own, `Split` says.
                conditions.reach.is_whole = hosts == 1;
                let Some(outcome) = outcome(&system, machine, conditions, hosts, searches) else {
                    continue;
                };
                let mut prediction = Prediction {
                    compute_capability: *compute_capability,
                    is_known: known.is_some(),
                    with_p2p,
                    nvlink_seen: knows_nvlink(machine),
                    several_hosts: hosts > 1,
                    outcome,
                    about: About::TrueFile,
                };
                let is_said = predictions.iter().any(|other: &Prediction| {
                    let above = |one: &Outcome| (one.ring_above(), one.tree_above());
                    let is_same_job = other.several_hosts == prediction.several_hosts;
                    other.compute_capability == *compute_capability
                        && (other.outcome == outcome
                            || !is_same_job && above(&other.outcome) == above(&outcome))
                });
                if !outcome.is_good() && !is_said {
                    prediction.about = about(whole, hosts);
                    predictions.push(prediction);
                }
            }
        }
    }
    predictions
}

/// GPUs without NVLink on a machine where others have it: with one of them in a communicator NCCL's rings go over PCI
/// or through the CPU, for all.  Empty where NVLinks could not be seen, and where fewer than two GPUs have some.
pub fn gpus_without_nvlink(machine: &Machine) -> Vec<PciAddress> {
    let (with, without): (Vec<_>, Vec<_>) =
        machine.nccl_gpus().partition(|gpu| !gpu.nvlinks.is_empty());
    if !machine.nvlink_visible || with.len() < 2 {
        return Vec::new();
    }
    without.into_iter().map(|gpu| gpu.pci).collect()
}

/// A host that NCCL counts as several nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// The GPUs of each node.
    pub parts: Vec<Vec<PciAddress>>,
    /// Whether the nodes are joined over the network, and not over shared memory.
    pub by_network: bool,
    /// The first version that joins them over shared memory.
    pub since: Option<Version>,
    /// How often a ring and a tree cross between packages, at most by channel, cut and whole.
    pub cut: (usize, usize),
    /// The same where the host is kept whole.
    pub whole: (usize, usize),
    /// How many rings there are and what NCCL takes each to carry, in GB/s, cut.
    pub cut_rings: (usize, f32),
    /// The same where the host is kept whole.
    pub whole_rings: (usize, f32),
    /// Whether it is so with P2P; else only where P2P is off.
    pub with_p2p: bool,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self
            .parts
            .iter()
            .map(|part| {
                part.iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        if !self.with_p2p {
            write!(f, "{WITHOUT_P2P}, ")?;
        }
        write!(
            f,
            "with its RDMA ports NCCL counts this host as {} nodes ({}), because GPUs reach NICs faster than each \
             other; ",
            self.parts.len(),
            parts.join(" | ")
        )?;
        if self.by_network {
            f.write_str("between them it uses the network")?;
            if let Some(since) = self.since {
                write!(f, ", and from {since} on shared memory")?;
            }
        } else {
            f.write_str("between them it uses shared memory")?;
            if let Some(since) = self.since {
                write!(f, ", before {since} the network")?;
            }
        }
        let rings = |(channels, gb_s): (usize, f32)| {
            format!("with {} at {gb_s} GB/s", count(channels, "channel"))
        };
        write!(
            f,
            ". Its rings then cross between sockets {} times and its trees {}, {}. NCCL_NET_DISABLE_INTRA=1 keeps the \
             host whole: rings cross {} times, trees {}, {}",
            self.cut.0,
            self.cut.1,
            rings(self.cut_rings),
            self.whole.0,
            self.whole.1,
            rings(self.whole_rings),
        )
    }
}

/// How NCCL with these rules cuts `machine` under its own true file, with the RDMA ports that it has: with P2P, and without
/// where that cuts it otherwise.  Empty where it keeps it whole, and where there is no such file.
pub fn splits_for(machine: &Machine, rules: &'static Rules, searches: &Searches) -> Vec<Split> {
    let system = true_file(machine, Form::SingleHost, rules, searches);
    let system = system.as_ref();
    system.map_or_else(Vec::new, |system| splits(system, machine, rules, searches))
}

/// The same under a file of `machine`, as that NCCL reads it.
pub fn splits_of_file(
    system: &System,
    machine: &Machine,
    rules: &'static Rules,
    searches: &Searches,
) -> Vec<Split> {
    splits(&as_found(system, machine, rules), machine, rules, searches)
}

fn splits(
    system: &System,
    machine: &Machine,
    rules: &'static Rules,
    searches: &Searches,
) -> Vec<Split> {
    let [with, without] = [true, false].map(|p2p| split(system, machine, rules, p2p, searches));
    let alike = |split: &Split| Split {
        with_p2p: true,
        ..split.clone()
    };
    let is_same = with.as_ref() == without.as_ref().map(alike).as_ref();
    let without = without.filter(|_| !is_same);
    with.into_iter().chain(without).collect()
}

fn split(
    system: &System,
    machine: &Machine,
    rules: &'static Rules,
    with_p2p: bool,
    searches: &Searches,
) -> Option<Split> {
    let ports = rdma_ports(machine);
    if ports.is_empty() {
        return None;
    }
    let system = with_nets(&with_links(system, machine), &ports);
    let gpus = gpus_of(&system);
    let conditions = |is_whole| {
        let mut conditions = Conditions {
            rules,
            ..Conditions::of_capability(machine_capability(machine).unwrap_or(COMPUTE_CAPABILITY))
        }
        .with_p2p(with_p2p);
        conditions.reach.is_whole = is_whole;
        conditions
    };
    let model = Model::of(&system, &gpus, conditions(false));
    if model.paths.parts().len() < 2 {
        return None;
    }
    let by_network = rules.parts_of_host_join_over_network;
    let cut = Route::of(&model, by_network, searches)?;
    let whole = Model::of(&system, &gpus, conditions(true));
    let route = Route::of(&whole, by_network, searches)?;
    let address = |rank: &usize| gpus.get(*rank)?.parse::<PciAddress>().ok();
    let package = |rank: usize| machine.gpu(address(&rank)?)?.locality.package;
    let most = |all: &[Vec<RankHop>]| most_crossings(all, package);
    Some(Split {
        cut: (most(&cut.rings), most(&cut.trees)),
        whole: (most(&route.rings), most(&route.trees)),
        cut_rings: (cut.rings.len(), cut.ring_gb_s),
        whole_rings: (route.rings.len(), route.ring_gb_s),
        parts: cut
            .parts
            .iter()
            .map(|part| part.iter().filter_map(address).collect())
            .collect(),
        by_network,
        since: since(|rules| !rules.parts_of_host_join_over_network),
        with_p2p,
    })
}

/// What a true file of a machine comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TrueFile {
    /// There is none.
    Missing,
    /// On it NCCL's rings and trees are as good as the GPUs' places allow.
    Good,
    /// Not even on it, and why; without a reason where NVLink is seen to join GPUs.
    NotEnough(Option<Prediction>),
}

/// What a true file of `machine` would come to, in these conditions and in jobs on so many hosts.
pub fn true_file_for(
    machine: &Machine,
    conditions: Conditions,
    hosts: u32,
    searches: &Searches,
) -> TrueFile {
    let system = true_file(machine, Form::for_hosts(hosts), conditions.rules, searches);
    let found = system.and_then(|system| outcome(&system, machine, conditions, hosts, searches));
    match found {
        None => TrueFile::Missing,
        Some(outcome) if outcome.is_good() => TrueFile::Good,
        Some(outcome) => {
            let is_linked = machine.gpus.iter().any(|gpu| !gpu.nvlinks.is_empty());
            TrueFile::NotEnough((!is_linked).then_some(Prediction {
                compute_capability: conditions.compute_capability,
                is_known: machine_capability(machine) == Some(conditions.compute_capability),
                with_p2p: conditions.reach.p2p_limit != Some(PathType::Loc),
                nvlink_seen: knows_nvlink(machine),
                several_hosts: hosts > 1,
                outcome,
                about: About::TrueFile,
            }))
        }
    }
}

fn true_file(machine: &Machine, form: Form, rules: &Rules, searches: &Searches) -> Option<System> {
    let emitted = emit_with(machine, form, searches).ok()?;
    reader::read_for(&emitted.xml, rules).system
}

#[cfg(test)]
mod tests {
    use topology::machine::RdmaPort;

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
        let start = "NCCL's ring crosses between sockets 8 times at 12 GB/s, though 4 would be enough at a lower \
                     bandwidth, and its tree 7 times at 12 GB/s instead of 3. No true topology file can fix this: \
                     NCCL counts a hop";
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
            said.ends_with(
                "it tries no bandwidth below 18 GB/s, and it takes the socket link to carry 16 GB/s. No true topology \
                 file can fix this"
            ),
            "{said}"
        );
    }

    #[test]
    fn blackwell_on_two_sockets_of_zen_5_has_a_ring_from_2_31_on() {
        let mut machine = amd(with_switches(machine(2, 1, 4), 2));
        machine.processor.as_mut().unwrap().family = Some(26);
        for gpu in &mut machine.gpus {
            gpu.device = 0x2bb5;
        }
        assert!(predict(&machine)[0].outcome.nothing_found());
        let found = predict_for(
            &machine,
            Rules::of("2.31.0".parse().unwrap()),
            &Searches::default(),
        );
        assert!(found.iter().all(|found| !found.with_p2p), "{found:?}");
    }

    #[test]
    fn without_p2p_switches_of_gen_3_on_four_sockets_are_predicted_to_cross() {
        let mut machine = slow(with_switches(machine(4, 1, 4), 2), 8.0);
        machine.processor.as_mut().unwrap().model = Some(0x55);
        let found = predict(&machine);
        let without: Vec<_> = found.iter().filter(|found| !found.with_p2p).collect();
        assert!(!without.is_empty(), "{found:?}");
        let said = without[0].to_string();
        assert!(said.contains("with P2P off (NCCL_P2P_DISABLE=1"), "{said}");
    }

    #[test]
    fn gpus_of_an_unknown_model_are_predicted_for_by_their_capability() {
        let mut machine = amd(with_switches(machine(2, 1, 4), 2));
        for gpu in &mut machine.gpus {
            gpu.device = 0xfff0;
        }
        machine.nvlink_visible = false;
        let said = predict(&machine)[0].to_string();
        let start = "if the GPUs have compute capability 10.0, unless NVLink";
        assert!(said.starts_with(start), "{said}");
    }

    #[test]
    fn where_nvlink_joins_gpus_nothing_is_predicted() {
        let mut machine = slow(without_switches(machine(4, 1, 4), 2, false), 8.0);
        let far = machine.gpus[1].pci;
        machine.gpus[0].nvlinks = [(far, 4)].into();
        assert_eq!(predict(&machine), []);
    }

    /// Emerald Rapids with uneven switches: the ring of one host crosses twice, as its closing needs.
    fn uneven() -> Machine {
        let mut machine = machine(2, 1, 4);
        machine.processor.as_mut().unwrap().model = Some(0xcf);
        machine.nvlink_visible = true;
        for (node, gpus) in [(0, 2), (1, 1)] {
            let bus = u8::try_from(node * 64).unwrap();
            let at = |bus: u8| format!("0000:{bus:02x}:00.0");
            let root = root_port(&mut machine, &format!("0000:{bus:02x}:01.0"), node);
            let ports = switch(&mut machine, root, bus + 1, gpus + 1, node);
            for (port, bus) in ports[1..].iter().zip(bus + 4..) {
                gpu(&mut machine, &at(bus), *port, node);
            }
            nic(&mut machine, &at(bus + 3), ports[0], node);
            let root = root_port(&mut machine, &format!("0000:{bus:02x}:02.0"), node);
            gpu(&mut machine, &at(bus + 8), root, node);
        }
        machine
    }

    /// An RDMA port of 400 Gbit/s at each NIC.
    fn give_ports(machine: &mut Machine) {
        for nic in &mut machine.nics {
            nic.ports = vec![RdmaPort {
                device: format!("mlx5_{}", nic.pci.bus),
                port: 1,
                speed_mbit_s: Some(400_000),
            }];
        }
    }

    #[test]
    fn a_host_that_is_cut_is_told_with_the_rings_of_both() {
        let mut machine = with_switches(machine(2, 1, 4), 2);
        give_ports(&mut machine);
        let found = splits_for(&machine, Rules::assumed(), &Searches::default());
        let rings = found
            .iter()
            .map(|one| (one.with_p2p, one.cut_rings, one.whole_rings));
        let rings: Vec<_> = rings.collect();
        let expected = [(true, (2, 24.0), (2, 11.0)), (false, (2, 20.0), (1, 20.0))];
        assert_eq!(rings, expected);
        let said = found[0].to_string();
        let expected = "its trees 1, with 2 channels at 24 GB/s. NCCL_NET_DISABLE_INTRA=1";
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn a_chain_that_crosses_as_often_as_a_ring_is_predicted_by_itself() {
        // Without P2P both cross twice, but only a ring must.
        let mut machine = uneven();
        give_ports(&mut machine);
        let found = predict(&machine);
        let above = |several| {
            let mut found = found.iter();
            found.any(|one| one.several_hosts == several && one.outcome.ring_is_above())
        };
        assert!(!above(false) && above(true), "{found:#?}");
    }

    /// A file as the versions read it.
    fn file(of: &Machine) -> System {
        let xml = emit_with(of, Form::SingleHost, &Searches::default())
            .unwrap()
            .xml;
        reader::read(&xml).system.unwrap()
    }

    #[test]
    fn a_users_file_is_predicted_for_and_not_the_machines_own() {
        let (nodes, packages) = (
            with_switches(machine(4, 1, 4), 1),
            with_switches(machine(2, 2, 4), 1),
        );
        let searches = Searches::default();
        let rules = Rules::assumed();
        let of = |file: &System| predict_file(file, &packages, rules, &searches);
        let own = of(&file(&packages));
        assert!(own.iter().all(|found| !found.with_p2p), "{own:?}");
        let found = of(&file(&nodes));
        let with_p2p = found.iter().find(|found| found.with_p2p).unwrap();
        assert_eq!(with_p2p.about, About::Bettered);
        let mut of_addresses = *with_p2p;
        of_addresses.outcome.in_orders = InOrders::OfAddresses;
        let said = of_addresses.to_string();
        assert!(said.starts_with("for ranks in PCI order, "), "{said}");
        assert!(
            said.ends_with("`gpu-numa nccl emit` writes a file that fixes this"),
            "{said}"
        );
    }

    #[test]
    fn jobs_on_several_hosts_are_told_by_their_network() {
        let mut machine = uneven();
        let over = |machine: &Machine| {
            let found = predict(machine);
            let one = found.iter().find(|one| one.several_hosts && !one.with_p2p);
            one.map(|one| (one.outcome.over, one.to_string()))
        };
        // Over the one socket interface a ring crosses no more than it must.
        assert_eq!(over(&machine), None);
        give_ports(&mut machine);
        let (network, said) = over(&machine).unwrap();
        assert_eq!(network, Some(OverNets::RdmaPorts));
        assert!(
            said.starts_with("in jobs on several hosts over RDMA ports, "),
            "{said}"
        );
    }
}
