//! What a ring and a tree that are given carry.

use super::super::nodes::Graph;
use super::super::path_type::PathType;
use super::super::paths::Paths;
use super::capacity::{Capacity, End};
use super::hops;

/// The bandwidths that are tried, in GB/s, widest first: all that NCCL's search tries inside a host for any GPU, down
/// to those that it leaves out for new ones (`graph/search.cc` `speedArrayIntra`).
const SPEEDS: [f32; 21] = [
    90.0, 80.0, 70.0, 60.0, 50.0, 45.0, 40.0, 30.0, 24.0, 20.0, 18.0, 15.0, 12.0, 11.0, 10.0, 9.0,
    7.0, 6.0, 5.0, 4.0, 3.0,
];

/// The same order in each of several channels.
#[derive(Debug, Clone, Copy)]
pub struct Line<'o> {
    /// The GPUs by their places in [`Paths::gpus`].
    pub order: &'o [usize],
    /// How many channels.
    pub channels: usize,
}

impl Line<'_> {
    /// The widest bandwidth, in GB/s, that all channels have as a ring, by NCCL's figures, and the farthest type of its
    /// paths.
    ///
    /// None where not even the least fits.
    pub fn widest(&self, graph: &Graph, paths: &Paths) -> Option<(f32, PathType)> {
        let kinds = hops(self.order, true).filter_map(|(a, b)| paths.between(a, b));
        let kind = kinds.map(|path| path.kind).max()?;
        let speed = SPEEDS
            .into_iter()
            .find(|speed| self.fits(graph, paths, *speed))?;
        Some((speed, kind))
    }

    fn fits(&self, graph: &Graph, paths: &Paths, speed: f32) -> bool {
        let mut capacity = Capacity::of(graph, paths, false);
        capacity.begin([speed; 3]);
        (0..self.channels).all(|_| {
            hops(self.order, true).all(|(from, to)| {
                let wanted = (speed, PathType::Sys, false);
                capacity
                    .take(End::Gpu(from), End::Gpu(to), wanted)
                    .is_some()
            })
        })
    }
}
