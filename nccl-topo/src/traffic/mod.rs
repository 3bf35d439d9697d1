//! What a communicator's collectives carry over the socket link of one host.
//!
//! Where the file that NCCL reads is known and all ranks are on this host, NCCL's ring and tree are modelled
//! ([`Route`]); elsewhere what holds for every ring is said: that over GPUs at several packages, with no
//! NVLink between them, crosses at least once for each package, and a chain once less.

use std::collections::{BTreeMap, BTreeSet};

use topology::crossings::{fewest, groups, packages_of};
use topology::machine::Machine;
use topology::path::{PciPath, crosses_socket, pci_path};
use topology::pci::PciAddress;

use crate::graph::{PathType, Reach, Searches};
use crate::model::nets::{NetDevice, with_nets};
use crate::model::{Conditions, Model, with_links};
use crate::reader::System;
use crate::route::{By, RankHop, Route};
use crate::rules::Rules;

mod denied;
#[cfg(test)]
mod tests;

/// The part of a communicator that is on this host.
#[derive(Debug, Clone, PartialEq)]
pub struct Members {
    /// The GPUs in order of rank; none where a rank's GPU is not known.
    pub gpus: Vec<Option<PciAddress>>,
    /// Their ranks.
    pub ranks: Vec<usize>,
    /// Ranks on other hosts, and ranks of this host whose GPU is not known.
    pub others: usize,
    /// What NCCL counts as hosts of the communicator: it may count one as several.
    pub hosts: usize,
    /// The GPUs' compute capability, as 90 for 9.0.
    pub capability: u32,
    /// What the job's settings say of P2P, shared memory and the network.
    pub reach: Reach,
    /// Pairs between which the driver denies P2P, in either order; where it is not known, none.
    pub denied_p2p: BTreeSet<(PciAddress, PciAddress)>,
    /// The network devices that NCCL may have: one list for each that cannot be told apart from here.
    pub nets: Vec<Vec<NetDevice>>,
    /// The rules of the NCCL that runs; none where its version is not known.
    pub rules: Option<&'static Rules>,
}

impl Members {
    fn known(&self) -> Vec<PciAddress> {
        self.gpus.iter().flatten().copied().collect()
    }

    /// Whether all ranks are here and their GPUs known.
    fn are_all(&self) -> bool {
        self.others == 0 && self.gpus.iter().all(Option::is_some)
    }

    /// Whether all ranks are here, whatever NCCL counts.
    fn are_here(&self) -> bool {
        self.hosts == 1 || self.others == 0
    }

    /// Whether the ranks here follow one another, so that no part of another host stands between parts of this one.
    fn follow_each_other(&self) -> bool {
        let ends = self.ranks.iter().min().zip(self.ranks.iter().max());
        ends.is_none_or(|(first, last)| last - first + 1 == self.ranks.len())
    }

    /// What decides besides the file.
    fn conditions(&self) -> Conditions {
        Conditions {
            reach: self.reach,
            rules: self.rules.unwrap_or_else(Rules::assumed),
            ..Conditions::of_capability(self.capability)
        }
    }

    /// Whether the parts of a host are joined over the network; none where the version does not tell.
    fn parts_join_over_network(&self) -> Option<bool> {
        if self.reach.without_shm {
            return Some(true);
        }
        self.rules
            .map(|rules| rules.parts_of_host_join_over_network)
    }
}

/// Whether any two of the GPUs have no path but the socket link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crossing {
    /// No two: they share a package, or NVLink joins them and is used.
    Never,
    /// NCCL sends over the network from package to package: it counts this host as several.
    OverNetwork,
    /// Some two.
    Some,
    /// None that is known, and of some it is not known.
    Unknown(Unknown),
}

/// Why it is not known whether anything crosses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// A GPU is not in the record, or its package or its NVLinks are not known.
    Place,
    /// NCCL may count this host as several and send over the network from package to package.
    Network,
}

/// Looks at each two of the GPUs.
pub fn crossing(machine: &Machine, members: &Members) -> Crossing {
    let gpus = members.known();
    let machine = &*members.reach.carrying(machine);
    // What is not in the record may have any link.
    if gpus.iter().any(|gpu| machine.gpu(*gpu).is_none()) {
        return Crossing::Unknown(Unknown::Place);
    }
    let pairs = gpus
        .iter()
        .enumerate()
        .flat_map(|(place, a)| gpus.iter().skip(place + 1).map(move |b| (*a, *b)));
    let mut answer = if members.gpus.len() == gpus.len() {
        Crossing::Never
    } else {
        Crossing::Unknown(Unknown::Place)
    };
    for (a, b) in pairs.filter(|(a, b)| a != b) {
        match crosses_socket(machine, a, b) {
            Some(true) => return over_network(machine, members, &gpus).unwrap_or(Crossing::Some),
            None => answer = Crossing::Unknown(Unknown::Place),
            Some(false) => {}
        }
    }
    answer
}

/// What keeps GPUs of several packages from the socket link, or may do so: the network, where NCCL counts this host as
/// several.  None where it does not.
fn over_network(machine: &Machine, members: &Members, gpus: &[PciAddress]) -> Option<Crossing> {
    if members.reach.without_shm && members.hosts > 1 {
        return Some(Crossing::Unknown(Unknown::Network));
    }
    // Of one host NCCL counts several only where it cuts it; of several it may.
    let is_cut = members.others == 0 && members.hosts > 1 && !members.reach.is_whole;
    if !is_cut && !may_be_cut_among_others(machine, members) {
        return None;
    }
    match members.parts_join_over_network() {
        Some(true) if is_cut && each_package_is_a_part(machine, members, gpus) => {
            Some(Crossing::OverNetwork)
        }
        Some(false) if is_cut || members.follow_each_other() => None,
        Some(_) | None => Some(Crossing::Unknown(Unknown::Network)),
    }
}

/// Whether NCCL may cut this host, which is one of several of the communicator.
fn may_be_cut_among_others(machine: &Machine, members: &Members) -> bool {
    // Of two that NCCL counts each is a host of its own; but ranks of this host may not have told their GPUs, and then the
    // two may be its parts, which matters where the network joins them.
    let joins_here = members.parts_join_over_network() == Some(false);
    let least = if joins_here { 3 } else { 2 };
    members.others > 0
        && members.hosts >= least
        && !members.reach.is_whole
        && have_near_nics(machine, &members.known())
}

/// Whether NCCL keeps this host whole by this file, with every network that it may have.
fn is_whole_by(file: &System, machine: &Machine, members: &Members) -> bool {
    let system = with_links(file, machine);
    let ranks: Vec<String> = members.known().iter().map(ToString::to_string).collect();
    members.nets.iter().all(|nets| {
        let model = Model::of(&with_nets(&system, nets), &ranks, members.conditions());
        model.gpus.len() == ranks.len() && model.paths.parts().len() == 1
    })
}

/// Whether NCCL counts as many hosts as there are packages with GPUs, so that each is a part of its own: a part goes
/// no farther than its network devices are near.
fn each_package_is_a_part(machine: &Machine, members: &Members, gpus: &[PciAddress]) -> bool {
    let packages: BTreeSet<u32> = packages_of(machine, gpus.iter().copied())
        .into_values()
        .collect();
    packages.len() == members.hosts && have_near_nics(machine, gpus)
}

/// Whether GPUs of several packages each have a NIC below a switch of theirs.
///
/// Where such NICs are faster than the socket link, NCCL takes the host for several (`graph/paths.cc`
/// `ncclTopoCheckNet`, `init.cc` `nNodes`), and some versions send over the network from socket to socket
/// ([`Rules::parts_of_host_join_over_network`]).
fn have_near_nics(machine: &Machine, gpus: &[PciAddress]) -> bool {
    let has_near_nic = |gpu: &&PciAddress| {
        let paths = machine
            .nics
            .iter()
            .map(|nic| pci_path(machine, **gpu, nic.pci));
        paths.flatten().any(|path| path <= PciPath::Pxb)
    };
    let near = packages_of(machine, gpus.iter().filter(has_near_nic).copied());
    let packages: BTreeSet<u32> = near.into_values().collect();
    packages.len() > 1
}

/// How often each channel crosses the socket link, in hops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hops {
    /// Toward the package of the higher number, at least.
    pub up: u32,
    /// Toward the package of the lower number, at least.
    pub down: u32,
    /// Both ways together: more than `up` and `down` where channels, or the networks that NCCL may have, differ in
    /// which way they go.
    pub both: u32,
    /// Whether `both` is the figure of every channel, with every network that NCCL may have; else it is the least.
    pub is_exact: bool,
}

impl Hops {
    /// What holds for this and another channel.
    fn and(self, other: Self) -> Self {
        Self {
            up: self.up.min(other.up),
            down: self.down.min(other.down),
            both: self.both.min(other.both),
            is_exact: self.is_exact && self.both == other.both,
        }
    }
}

/// A hop between places, and whether it crosses the socket link: `Some(true)` toward the package of the higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    from: usize,
    to: usize,
    upward: Option<bool>,
}

/// What is known of the way of a communicator's collectives.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Rings by channel, trees by channel (inside a host chains); empty where they are not modelled.
    rings: Vec<Vec<Step>>,
    trees: Vec<Vec<Step>>,
    /// Whether the hops are the same with every network that NCCL may have.
    hops_are_known: bool,
    /// What NCCL counts as hosts of this host's ranks alone; none where it is not modelled.
    pub parts: Option<usize>,
    /// The GPUs by place.
    gpus: Vec<PciAddress>,
    /// The fewest crossings of any ring or chain over all the GPUs.
    least_ring: Hops,
    least_chain: u32,
    /// Packages that hold one of the GPUs.
    pub packages: usize,
    /// The narrowest path that crosses, in GB/s by NCCL's model; none where it is not modelled.
    pub crossing_gb_s: Option<f32>,
    /// The widest path that does not, in GB/s.
    pub inside_gb_s: Option<f32>,
}

impl Forecast {
    /// What is known of `members` on `machine`; `file` is the topology that NCCL reads, none where it
    /// finds the machine by itself.
    pub fn of(machine: &Machine, members: &Members, file: Option<&System>) -> Self {
        let packages = packages_of(machine, members.known());
        let carrying = members.reach.carrying(machine);
        let groups = if members.are_all() {
            groups(&carrying, &packages, &packages)
        } else {
            // Ranks that did not tell may hold any GPU, and so have any link.
            let all = packages_of(machine, machine.gpus.iter().map(|gpu| gpu.pci));
            groups(&carrying, &packages, &all)
        };
        let mut distinct: Vec<u32> = packages.values().copied().collect();
        distinct.sort_unstable();
        distinct.dedup();
        let mut forecast = Self {
            rings: Vec::new(),
            trees: Vec::new(),
            hops_are_known: false,
            parts: None,
            gpus: members.known(),
            least_ring: least_ring(groups, distinct.len(), members.are_here()),
            least_chain: if may_be_cut_among_others(machine, members)
                && !file.is_some_and(|file| is_whole_by(file, machine, members))
            {
                // The trees between nodes join a part with a part of another host as well as with one of this.
                0
            } else {
                groups.saturating_sub(1)
            },
            packages: distinct.len(),
            crossing_gb_s: None,
            inside_gb_s: None,
        };
        let is_placed = packages.len() == members.gpus.len();
        if let Some(file) = file.filter(|_| members.are_all() && is_placed)
            && let Some(members) = denied::as_driver_allows(machine, members, file)
        {
            forecast.model(machine, &packages, file, &members);
        }
        forecast
    }

    fn model(
        &mut self,
        machine: &Machine,
        packages: &BTreeMap<PciAddress, u32>,
        file: &System,
        members: &Members,
    ) {
        let system = with_links(file, machine);
        let ranks: Vec<String> = self.gpus.iter().map(ToString::to_string).collect();
        let conditions = members.conditions();
        let by_network = members.parts_join_over_network().unwrap_or_default();
        let searches = Searches::default();
        let mut seen: Vec<Seen> = Vec::new();
        let no_nets = vec![Vec::new()];
        let alternatives = if members.nets.is_empty() {
            &no_nets
        } else {
            &members.nets
        };
        let mut is_first = true;
        for nets in alternatives {
            let model = Model::of(&with_nets(&system, nets), &ranks, conditions);
            let parts = model.paths.parts();
            if model.gpus.len() != ranks.len() || parts.len() != members.hosts {
                continue;
            }
            // What decides the search: the order of the GPUs, and the network between parts.
            let one = Seen {
                order: model.gpus.iter().map(|gpu| gpu.rank).collect(),
                nets: if parts.len() > 1 {
                    nets.clone()
                } else {
                    Vec::new()
                },
                parts,
            };
            if seen.contains(&one) {
                continue;
            }
            let Some(route) = Route::of(&model, by_network, &searches) else {
                continue;
            };
            seen.push(one);
            let place = |rank: usize| packages.get(self.gpus.get(rank)?).copied();
            let step = |hop: &RankHop| step(hop, place(hop.from), place(hop.to));
            let steps = |all: &[Vec<RankHop>]| -> Vec<Vec<Step>> {
                all.iter()
                    .map(|hops| hops.iter().map(step).collect())
                    .collect()
            };
            let (rings, trees) = (steps(&route.rings), steps(&route.trees));
            if is_first {
                self.set_limits(&model, by_network, packages);
                self.parts = Some(route.parts.len());
                (self.rings, self.trees) = (rings, trees);
                self.hops_are_known = true;
                is_first = false;
            } else if (&self.rings, &self.trees) != (&rings, &trees) {
                self.hops_are_known = false;
                self.rings.extend(rings);
                self.trees.extend(trees);
            }
        }
    }

    /// The narrowest path between packages and the widest inside one.
    fn set_limits(
        &mut self,
        model: &Model,
        by_network: bool,
        packages: &BTreeMap<PciAddress, u32>,
    ) {
        let place = |rank: usize| packages.get(self.gpus.get(rank)?).copied();
        let (mut narrowest, mut widest) = (None::<f32>, None::<f32>);
        for (a, from) in model.gpus.iter().enumerate() {
            for (b, to) in model.gpus.iter().enumerate().filter(|(b, _)| *b != a) {
                let path = model.paths.between(a, b);
                let ends = place(from.rank).zip(place(to.rank));
                let (Some(path), Some((x, y))) = (path, ends) else {
                    continue;
                };
                let bandwidth = path.bandwidth_gb_s;
                let avoids = by_network && path.kind == PathType::Net;
                if x != y && path.kind.is_through_host() && !avoids {
                    narrowest = Some(narrowest.map_or(bandwidth, |least| least.min(bandwidth)));
                } else if x == y {
                    widest = Some(widest.map_or(bandwidth, |most| most.max(bandwidth)));
                }
            }
        }
        (self.crossing_gb_s, self.inside_gb_s) = (narrowest, widest);
    }

    /// Whether the ring and tree are NCCL's by our model, and not only bounded.
    pub fn is_modelled(&self) -> bool {
        !self.rings.is_empty()
    }

    /// Whether every channel crosses alike, so that it does not matter how many NCCL uses.
    pub fn is_even(&self) -> bool {
        self.ring().is_exact && self.tree().is_exact
    }

    /// Whether the hops are NCCL's, with every network that it may have.
    pub fn hops_are_known(&self) -> bool {
        self.hops_are_known
    }

    /// Crossings of the ring's channels.
    pub fn ring(&self) -> Hops {
        over(&self.rings, |ring| sum(ring.iter())).unwrap_or(self.least_ring)
    }

    /// Crossings of a ring whose hop into `root` (a Broadcast's), or out of it (a Reduce's), is not used.
    ///
    /// `root` is a place among the GPUs; none where the root is elsewhere.
    pub fn rooted_ring(&self, root: Option<usize>, into: bool) -> Hops {
        let used = |step: &&Step| root != Some(if into { step.to } else { step.from });
        over(&self.rings, |ring| sum(ring.iter().filter(used))).unwrap_or(Hops {
            both: self.least_ring.both.saturating_sub(1),
            ..Hops::default()
        })
    }

    /// Crossings of the tree's channels; data goes both ways over each.
    pub fn tree(&self) -> Hops {
        let both_ways = |links: u32| Hops {
            up: links,
            down: links,
            both: links * 2,
            is_exact: false,
        };
        over(&self.trees, |chain| both_ways(sum(chain.iter()).both))
            .unwrap_or(both_ways(self.least_chain))
    }

    /// The hops that cross, channel by channel; no channel where they are not modelled, or not known.
    fn crossings(&self) -> impl Iterator<Item = Vec<(PciAddress, PciAddress)>> {
        let rings = self.rings.iter().filter(|_| self.hops_are_known);
        let ends = |step: &Step| Some((*self.gpus.get(step.from)?, *self.gpus.get(step.to)?));
        rings.map(move |ring| {
            let crossing = ring.iter().filter(|step| step.upward.is_some());
            crossing.filter_map(ends).collect()
        })
    }

    /// The hops of any ring that cross, each once; empty where rings are not modelled, or their hops are not known.
    pub fn crossing_hops(&self) -> Vec<(PciAddress, PciAddress)> {
        let mut hops = Vec::new();
        for hop in self.crossings().flatten() {
            if !hops.contains(&hop) {
                hops.push(hop);
            }
        }
        hops
    }

    /// The hops of the first ring that cross, and whether every ring has the same.
    pub fn first_crossing_hops(&self) -> (Vec<(PciAddress, PciAddress)>, bool) {
        let first = self.crossings().next().unwrap_or_default();
        let are_all = self
            .crossings()
            .all(|hops| hops.len() == first.len() && hops.iter().all(|hop| first.contains(hop)));
        (first, are_all)
    }
}

/// The fewest crossings of any ring over these groups of GPUs that only the socket link joins, closed where all ranks
/// are here.
fn least_ring(groups: u32, packages: usize, is_closed: bool) -> Hops {
    let both = fewest(groups, is_closed);
    // Where no NVLink goes from package to package, what goes up comes down again.
    let returns = is_closed && both > 0 && usize::try_from(groups) == Ok(packages);
    let one_way = u32::from(returns);
    Hops {
        up: one_way,
        down: one_way,
        both,
        is_exact: false,
    }
}

/// What holds for all channels; none where there are none.
fn over(channels: &[Vec<Step>], count: impl Fn(&[Step]) -> Hops) -> Option<Hops> {
    let exact = |channel: &Vec<Step>| Hops {
        is_exact: true,
        ..count(channel)
    };
    channels.iter().map(exact).reduce(Hops::and)
}

/// What decides a search, for networks that lead to the same.
#[derive(PartialEq)]
struct Seen {
    order: Vec<usize>,
    nets: Vec<NetDevice>,
    parts: Vec<Vec<usize>>,
}

/// A hop between ranks at these packages.
fn step(hop: &RankHop, from: Option<u32>, to: Option<u32>) -> Step {
    let through_host = match hop.by {
        By::Path(kind) => kind.is_through_host(),
        By::SharedMemory => true,
        By::Network => false,
    };
    let apart = from.zip(to).filter(|(x, y)| x != y && through_host);
    Step {
        from: hop.from,
        to: hop.to,
        upward: apart.map(|(x, y)| x < y),
    }
}

fn sum<'s>(steps: impl Iterator<Item = &'s Step>) -> Hops {
    let mut sum = Hops::default();
    for upward in steps.filter_map(|step| step.upward) {
        sum.both += 1;
        if upward {
            sum.up += 1;
        } else {
            sum.down += 1;
        }
    }
    sum
}
