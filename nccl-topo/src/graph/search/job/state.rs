//! A solution of a search, or one that is being tried.

use crate::graph::path_type::PathType;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::graph::search) enum Pattern {
    Ring,
    BalancedTree,
    Tree,
}

/// A solution, or one that is being tried.
#[derive(Debug, Clone)]
pub(in crate::graph::search) struct State {
    pub(in crate::graph::search) pattern: Pattern,
    pub(super) count: usize,
    pub(in crate::graph::search) channels: usize,
    /// The GPUs of each channel, one channel after another.
    pub(super) intra: Vec<usize>,
    /// The network devices of each channel, in and out.
    pub(super) inter: Vec<[usize; 2]>,
    pub(in crate::graph::search) bandwidth: f32,
    pub(in crate::graph::search) bandwidth_between_hosts: f32,
    pub(in crate::graph::search) kind: PathType,
    pub(in crate::graph::search) kind_to_nets: PathType,
    pub(in crate::graph::search) cross_nic: u8,
    pub(super) same_channels: bool,
    pub(super) min_channels: usize,
    pub(super) max_channels: usize,
    pub(super) hops: i64,
}

impl State {
    pub(super) fn total(&self) -> f32 {
        as_f32(self.channels) * self.bandwidth
    }

    pub(super) fn order(&self, channel: usize) -> &[usize] {
        let start = channel * self.count;
        self.intra
            .get(start..start + self.count)
            .unwrap_or_default()
    }

    pub(in crate::graph::search) fn orders(&self) -> Vec<Vec<usize>> {
        (0..self.channels)
            .map(|channel| self.order(channel).to_vec())
            .collect()
    }

    pub(in crate::graph::search) fn nets(&self) -> Vec<[usize; 2]> {
        self.inter.iter().take(self.channels).copied().collect()
    }

    pub(super) fn set_bandwidth(&mut self, bandwidth: f32) {
        self.bandwidth = bandwidth;
        self.bandwidth_between_hosts = bandwidth;
    }
}

pub(super) fn as_f32(count: usize) -> f32 {
    f32::from(u16::try_from(count).unwrap_or(u16::MAX))
}

pub(super) fn as_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or_default()
}
