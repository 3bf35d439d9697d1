//! What the channels so far leave of the links' bandwidth.

use super::super::nodes::Graph;
use super::super::path_type::PathType;
use super::super::paths::Paths;
use super::links::{Links, Way};

/// One end of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A GPU, by its place.
    Gpu(usize),
    /// A network device, by its place.
    Net(usize),
}

/// The links between GPUs and network devices, and what is left of them.
pub(super) struct Capacity {
    /// How many GPUs there are, and how many ends in all.
    gpus: usize,
    ends: usize,
    /// The way between each two ends, row by row, GPUs first; none from network device to network device.
    ways: Vec<Way>,
    /// What is left of each link's bandwidth, in GB/s.
    left: Vec<f32>,
}

impl Capacity {
    /// All of every link; those to network devices where `between_hosts`.
    pub(super) fn of(graph: &Graph, paths: &Paths, between_hosts: bool) -> Self {
        let gpus = paths.gpus().len();
        let nets = if between_hosts { paths.nets().len() } else { 0 };
        let ends = gpus + nets;
        let links = Links::of(graph);
        let mut ways = Vec::with_capacity(ends * ends);
        for from in 0..ends {
            for to in 0..ends {
                let path = match (from.checked_sub(gpus), to.checked_sub(gpus)) {
                    (None, None) => paths.between(from, to),
                    (None, Some(net)) => paths.to_net(from, net),
                    (Some(net), None) => paths.from_net(net, to),
                    (Some(_), Some(_)) => None,
                };
                ways.push(links.way(path, from < gpus));
            }
        }
        Self {
            gpus,
            ends,
            ways,
            left: links.bandwidths(),
        }
    }

    fn place(&self, from: End, to: End) -> usize {
        let number = |end| match end {
            End::Gpu(gpu) => gpu,
            End::Net(net) => self.gpus + net,
        };
        number(from) * self.ends + number(to)
    }

    /// The way between two ends.
    pub(super) fn way(&self, from: End, to: End) -> Option<&Way> {
        self.ways.get(self.place(from, to))
    }

    /// Takes a bandwidth on the path between two ends, where all of its links have that much left and it is no
    /// farther than `farthest`, nor the path back where `both_ways` (`ncclTopoFollowPath`); gives how many links
    /// it takes.
    pub(super) fn take(
        &mut self,
        from: End,
        to: End,
        (bandwidth, farthest, both_ways): (f32, PathType, bool),
    ) -> Option<usize> {
        let allowed = |way: Option<&Way>| {
            way.and_then(|way| way.kind)
                .is_some_and(|kind| kind <= farthest)
        };
        if !allowed(self.way(from, to)) || (both_ways && !allowed(self.way(to, from))) {
            return None;
        }
        let all = self.way(from, to).map_or(0, |way| way.steps.len());
        let taken = self.follow(from, to, all, bandwidth);
        if taken < all {
            self.follow(from, to, taken, -bandwidth);
            return None;
        }
        Some(taken)
    }

    /// Undoes [`Capacity::take`]; gives how many links have their bandwidth again.
    pub(super) fn give_back(&mut self, from: End, to: End, bandwidth: f32) -> usize {
        self.follow(from, to, usize::MAX, -bandwidth)
    }

    /// Subtracts from the links of a path until one has too little; gives how many had enough.
    fn follow(&mut self, from: End, to: End, most: usize, bandwidth: f32) -> usize {
        let place = self.place(from, to);
        let Some(way) = self.ways.get(place) else {
            return 0;
        };
        let over_pci = if way.intel {
            bandwidth * 6.0 / 5.0
        } else {
            bandwidth
        };
        let mut done = 0;
        for step in way.steps.iter().take(most) {
            let wanted = if step.pci { over_pci } else { bandwidth };
            let back = step.back.map(|(link, share)| (link, wanted / share));
            for (link, wanted) in [Some((step.link, wanted)), back].into_iter().flatten() {
                if self.left.get(link).is_none_or(|left| *left < wanted) {
                    return done;
                }
            }
            for (link, wanted) in [Some((step.link, wanted)), back].into_iter().flatten() {
                if let Some(left) = self.left.get_mut(link) {
                    *left = ((*left - wanted) * 1000.0).round() / 1000.0;
                }
            }
            done += 1;
        }
        done
    }
}
