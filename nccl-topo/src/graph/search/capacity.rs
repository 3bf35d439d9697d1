//! What the channels so far leave of the links' bandwidth.

use super::super::nodes::Graph;
use super::super::path_type::PathType;
use super::super::paths::Paths;
use super::links::{Links, Way};

/// The links between the GPUs, and what is left of them.
pub(super) struct Capacity {
    /// How many GPUs there are.
    count: usize,
    /// The way between each two GPUs, row by row.
    ways: Vec<Way>,
    /// What is left of each link's bandwidth, in GB/s.
    left: Vec<f32>,
}

impl Capacity {
    /// All of every link.
    pub(super) fn of(graph: &Graph, paths: &Paths) -> Self {
        let count = paths.gpus().len();
        let links = Links::of(graph);
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let ways = pairs.map(|(from, to)| links.way(paths.between(from, to)));
        Self {
            count,
            ways: ways.collect(),
            left: links.bandwidths(),
        }
    }

    pub(super) fn way(&self, from: usize, to: usize) -> Option<&Way> {
        self.ways.get(from * self.count + to)
    }

    /// Takes a bandwidth on the path between two GPUs, where all of its links have that much left and it is no
    /// farther than `farthest`, nor the path back where `both_ways` (`ncclTopoFollowPath`); gives how many links
    /// it takes.
    pub(super) fn take(
        &mut self,
        from: usize,
        to: usize,
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
    pub(super) fn give_back(&mut self, from: usize, to: usize, bandwidth: f32) -> usize {
        self.follow(from, to, usize::MAX, -bandwidth)
    }

    /// Subtracts from the links of a path until one has too little; gives how many had enough.
    fn follow(&mut self, from: usize, to: usize, most: usize, bandwidth: f32) -> usize {
        let Some(way) = self.ways.get(from * self.count + to) else {
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
            for link in [Some(step.link), step.back].into_iter().flatten() {
                if self.left.get(link).is_none_or(|left| *left < wanted) {
                    return done;
                }
            }
            for link in [Some(step.link), step.back].into_iter().flatten() {
                if let Some(left) = self.left.get_mut(link) {
                    *left = ((*left - wanted) * 1000.0).round() / 1000.0;
                }
            }
            done += 1;
        }
        done
    }
}
