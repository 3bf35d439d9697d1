//! What a communicator's collectives carry over the socket link of one host.
//!
//! Where the file that NCCL reads is known and all ranks are on this host, NCCL's ring and tree are modelled
//! ([`Search`]); elsewhere what holds for every ring is said: that over GPUs at several packages, with no
//! NVLink between them, crosses at least once for each package, and a chain once less.

use std::collections::{BTreeMap, BTreeSet};

use topology::crossings::{fewest, groups, packages_of};
use topology::machine::Machine;
use topology::path::{PciPath, crosses_socket, pci_path};
use topology::pci::PciAddress;

use crate::element::Element;
use crate::graph::{Channels, Search, hops};
use crate::model::{Conditions, Model};
use crate::reader::System;
use crate::rules::Rules;

#[cfg(test)]
mod tests;

/// The part of a communicator that is on this host.
#[derive(Debug, Clone, PartialEq)]
pub struct Members {
    /// The GPUs in order of rank; none where a rank's GPU is not known.
    pub gpus: Vec<Option<PciAddress>>,
    /// Ranks on other hosts, and ranks of this host whose GPU is not known.
    pub others: usize,
    /// Hosts of the communicator.
    pub hosts: usize,
    /// The GPUs' compute capability, as 90 for 9.0.
    pub capability: u32,
    /// Whether NCCL may take the network inside a host.
    pub network_inside: NetworkInside,
    /// The rules of the NCCL that runs; none where its version is not known.
    pub rules: Option<&'static Rules>,
}

/// Where NCCL may take the network between GPUs of one host that it counts as several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkInside {
    /// Nowhere (`NCCL_NET_DISABLE_INTRA=1`).
    Nowhere,
    /// Where both have a NIC below a switch of theirs that is faster than their path.
    NearNics,
    /// Wherever they are no peers: there is no shared memory (`NCCL_SHM_DISABLE=1`).
    Everywhere,
}

impl Members {
    fn known(&self) -> Vec<PciAddress> {
        self.gpus.iter().flatten().copied().collect()
    }

    /// Whether all ranks are here and their GPUs known.
    fn is_whole(&self) -> bool {
        self.hosts == 1 && self.others == 0 && self.gpus.iter().all(Option::is_some)
    }
}

/// Whether any two of the GPUs have no path but the socket link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crossing {
    /// No two: they share a package, or NVLink joins them.
    Never,
    /// Some two.
    Some,
    /// None that is known, and of some it is not known.
    Unknown,
}

/// Looks at each two of the GPUs.
pub fn crossing(machine: &Machine, members: &Members) -> Crossing {
    let gpus = members.known();
    // What is not in the record may have any link.
    if gpus.iter().any(|gpu| machine.gpu(*gpu).is_none()) {
        return Crossing::Unknown;
    }
    let may_go_round = match members.network_inside {
        _ if members.hosts == 1 => false,
        NetworkInside::Nowhere => false,
        NetworkInside::NearNics => {
            let over_network = |rules: &Rules| rules.parts_of_host_join_over_network;
            members.rules.is_none_or(over_network) && have_near_nics(machine, &gpus)
        }
        NetworkInside::Everywhere => true,
    };
    if may_go_round {
        return Crossing::Unknown;
    }
    let pairs = gpus
        .iter()
        .enumerate()
        .flat_map(|(place, a)| gpus.iter().skip(place + 1).map(move |b| (*a, *b)));
    let mut answer = if members.gpus.len() == gpus.len() {
        Crossing::Never
    } else {
        Crossing::Unknown
    };
    for (a, b) in pairs.filter(|(a, b)| a != b) {
        match crosses_socket(machine, a, b) {
            Some(true) => return Crossing::Some,
            None => answer = Crossing::Unknown,
            Some(false) => {}
        }
    }
    answer
}

/// Whether GPUs of several packages each have a NIC below a switch of theirs.
///
/// Where such NICs are faster than the socket link, NCCL takes the host for several (`graph/paths.cc`
/// `ncclTopoCheckNet`, `init.cc` `nNodes`), and some versions send over the network from socket to socket
/// ([`Rules::parts_of_host_join_over_network`]).  How fast a NIC is, is not known here.
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
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Hops {
    /// Toward the package of the higher number, a channel, on average.
    pub up: f64,
    /// Toward the package of the lower number.
    pub down: f64,
}

impl Hops {
    /// Both ways.
    pub fn total(self) -> f64 {
        self.up + self.down
    }
}

/// What is known of the way of a communicator's collectives.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Rings by channel, trees (inside a host chains) by channel; empty where they are not modelled.
    rings: Vec<Vec<usize>>,
    trees: Vec<Vec<usize>>,
    /// `crosses[a][b]`: whether a hop between these places crosses, and whether upward.
    crosses: BTreeMap<(usize, usize), bool>,
    /// The GPUs by place.
    gpus: Vec<PciAddress>,
    /// The fewest crossings of any ring or chain over all the GPUs.
    least_ring: u32,
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
        let groups = if members.is_whole() {
            groups(machine, &packages, &packages)
        } else {
            // Ranks that did not tell may hold any GPU, and so have any link.
            let all = packages_of(machine, machine.gpus.iter().map(|gpu| gpu.pci));
            groups(machine, &packages, &all)
        };
        let mut distinct: Vec<u32> = packages.values().copied().collect();
        distinct.sort_unstable();
        distinct.dedup();
        let one_host = members.hosts == 1;
        let mut forecast = Self {
            rings: Vec::new(),
            trees: Vec::new(),
            crosses: BTreeMap::new(),
            gpus: members.known(),
            least_ring: fewest(groups, one_host),
            least_chain: groups.saturating_sub(1),
            packages: distinct.len(),
            crossing_gb_s: None,
            inside_gb_s: None,
        };
        if let Some(file) =
            file.filter(|_| members.is_whole() && packages.len() == members.gpus.len())
        {
            forecast.model(machine, &packages, file, members.capability);
        }
        forecast
    }

    fn model(
        &mut self,
        machine: &Machine,
        packages: &BTreeMap<PciAddress, u32>,
        file: &System,
        capability: u32,
    ) {
        let mut system = file.clone();
        add_nvlinks(&mut system.root, machine, &self.gpus);
        let ranks: Vec<String> = self.gpus.iter().map(ToString::to_string).collect();
        let model = Model::of(&system, &ranks, Conditions::of_capability(capability));
        if model.gpus.len() != ranks.len() {
            return;
        }
        let Some(search) = Search::of(&model.graph, &model.paths) else {
            return;
        };
        // The model's places follow the file; ours follow the ranks.
        let rank = |place: &usize| model.gpus.get(*place).map(|gpu| gpu.rank);
        let by_rank = |channels: &Channels| -> Vec<Vec<usize>> {
            let orders = channels.orders.iter();
            orders
                .map(|order| order.iter().filter_map(rank).collect())
                .collect()
        };
        self.rings = by_rank(&search.ring);
        self.trees = by_rank(&search.tree);
        for (a, from) in model.gpus.iter().enumerate() {
            for (b, to) in model.gpus.iter().enumerate().filter(|(b, _)| *b != a) {
                let Some(path) = model.paths.between(a, b) else {
                    continue;
                };
                let place = |rank: usize| packages.get(self.gpus.get(rank)?);
                let (Some(x), Some(y)) = (place(from.rank), place(to.rank)) else {
                    continue;
                };
                let bandwidth = path.bandwidth_gb_s;
                if x != y && path.kind.is_through_host() {
                    self.crosses.insert((from.rank, to.rank), x < y);
                    let least = self.crossing_gb_s.get_or_insert(bandwidth);
                    *least = least.min(bandwidth);
                } else if x == y {
                    let most = self.inside_gb_s.get_or_insert(bandwidth);
                    *most = most.max(bandwidth);
                }
            }
        }
    }

    /// Whether the ring and tree are NCCL's by our model, and not only bounded.
    pub fn is_modelled(&self) -> bool {
        !self.rings.is_empty()
    }

    /// Whether every channel crosses alike, so that it does not matter how many NCCL uses.
    pub fn is_even(&self) -> bool {
        let mut counts = self.rings.iter().map(|ring| self.count(ring, true).total());
        let first = counts.next();
        self.is_modelled() && counts.all(|count| Some(count) == first)
    }

    /// Crossings of the ring's channels: the average where all are alike, else the fewest.
    pub fn ring(&self) -> Hops {
        self.over(&self.rings, |ring| self.count(ring, true), self.least_ring)
    }

    /// Crossings of a ring whose hop into `root` (a Broadcast's), or out of it (a Reduce's), is not used.
    ///
    /// `root` is a place among the GPUs; none where the root is elsewhere.
    pub fn rooted_ring(&self, root: Option<usize>, into: bool) -> Hops {
        let used = |(from, to): (usize, usize)| root != Some(if into { to } else { from });
        let least = self.least_ring.saturating_sub(1);
        self.over(
            &self.rings,
            |ring| self.sum(hops(ring, true).filter(|hop| used(*hop))),
            least,
        )
    }

    /// Crossings of the tree's channels; data goes both ways over each.
    pub fn tree(&self) -> Hops {
        let both = |chain: &[usize]| {
            let one = self.count(chain, false).total();
            Hops { up: one, down: one }
        };
        if self.trees.is_empty() {
            let least = f64::from(self.least_chain);
            return Hops {
                up: least,
                down: least,
            };
        }
        self.over(&self.trees, both, 0)
    }

    /// The hops of the first ring that cross; empty where it is not modelled.
    pub fn crossing_hops(&self) -> Vec<(PciAddress, PciAddress)> {
        let Some(ring) = self.rings.first() else {
            return Vec::new();
        };
        hops(ring, true)
            .filter(|hop| self.crosses.contains_key(hop))
            .filter_map(|(from, to)| Some((*self.gpus.get(from)?, *self.gpus.get(to)?)))
            .collect()
    }

    fn over(&self, channels: &[Vec<usize>], count: impl Fn(&[usize]) -> Hops, least: u32) -> Hops {
        let each: Vec<Hops> = channels.iter().map(|channel| count(channel)).collect();
        // Of a ring as many hops go up as down between two packages.
        let bound = Hops {
            up: f64::from(least.div_ceil(2)),
            down: f64::from(least / 2),
        };
        if each.is_empty() {
            return bound;
        }
        if !self.is_even() {
            let fewest = each
                .iter()
                .copied()
                .min_by(|a, b| a.total().total_cmp(&b.total()));
            return fewest.unwrap_or(bound);
        }
        let share = 1.0 / f64::from(u32::try_from(each.len()).unwrap_or(1));
        Hops {
            up: each.iter().map(|hops| hops.up).sum::<f64>() * share,
            down: each.iter().map(|hops| hops.down).sum::<f64>() * share,
        }
    }

    fn count(&self, order: &[usize], closes: bool) -> Hops {
        self.sum(hops(order, closes))
    }

    fn sum(&self, hops: impl Iterator<Item = (usize, usize)>) -> Hops {
        let mut sum = Hops::default();
        for upward in hops.filter_map(|hop| self.crosses.get(&hop)) {
            if *upward {
                sum.up += 1.0;
            } else {
                sum.down += 1.0;
            }
        }
        sum
    }
}

/// Adds the NVLinks that NCCL would find by itself: to GPUs of the communicator whose element names none.
fn add_nvlinks(element: &mut Element, machine: &Machine, gpus: &[PciAddress]) {
    let own = element.get("busid").and_then(|busid| busid.parse().ok());
    let links = own
        .filter(|own| gpus.contains(own))
        .and_then(|own| machine.gpu(own))
        .map(|gpu| gpu.nvlinks.clone())
        .unwrap_or_default();
    if !links.is_empty() {
        if element.named("gpu").next().is_none() {
            element.children.push(Element::new("gpu"));
        }
        if let Some(gpu) = element
            .children
            .iter_mut()
            .find(|child| child.name == "gpu")
            && gpu.named("nvlink").next().is_none()
        {
            for (target, count) in links {
                gpu.children.push(
                    Element::new("nvlink")
                        .with("target", target.to_string())
                        .with("count", count.to_string())
                        .with("tclass", "0x030200"),
                );
            }
        }
    }
    for child in &mut element.children {
        add_nvlinks(child, machine, gpus);
    }
}
