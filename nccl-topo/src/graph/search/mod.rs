//! Rings and trees of a host (`search.cc`): which GPU follows which, over how many channels, and from which network
//! device they come.
//!
//! NCCL tries bandwidths from the highest down and path types from the nearest up, each with a bounded
//! search over orders, and keeps the best that it met.

use super::nodes::Graph;
use super::path_type::PathType;
use super::paths::Paths;
use crate::rules::Rules;

mod capacity;
mod job;
mod known;
mod left;
mod line;
mod links;
mod next;
mod repeats;
#[cfg(test)]
mod tests;
mod twins;
mod whole;

use job::{Job, Pattern, Ready, State};

pub use line::Line;
pub use repeats::Searches;

/// The most channels of a ring (`MAXCHANNELS` / 2).
const MAX_CHANNELS: usize = 32;

/// The bandwidth that NCCL writes where it found nothing, in GB/s.
pub(crate) const NOTHING_GB_S: f32 = 0.1;

/// How a collective goes through the GPUs of a host.
#[derive(Debug, Clone, PartialEq)]
pub struct Channels {
    /// The GPUs of each channel in order, by their places in [`Paths::gpus`].
    pub orders: Vec<Vec<usize>>,
    /// The network devices by which each channel comes in and goes out, by their places in [`Paths::nets`]; empty
    /// inside a host.
    pub nets: Vec<[usize; 2]>,
    /// What each channel carries, in GB/s; 0.1 where NCCL found nothing and took the order of the file.
    pub bandwidth_gb_s: f32,
    /// What each channel carries to other hosts, in GB/s; the same as `bandwidth_gb_s` inside a host.
    pub bandwidth_between_hosts_gb_s: f32,
    /// The farthest path type between GPUs that was allowed.
    pub kind: PathType,
    /// The farthest path type to a network device that was allowed.
    pub kind_to_nets: PathType,
    /// Whether every second part of the job takes the channels of each two the other way round (`crossNic` is 2).
    pub swaps_nets: bool,
    /// Of a tree: whether data comes and goes at the first GPU alone, and not at the first two.
    pub is_simple_tree: bool,
}

/// The hops of an order, each from a place to the next; with the one back to the start where it `closes`.
pub fn hops(order: &[usize], closes: bool) -> impl Iterator<Item = (usize, usize)> + '_ {
    let next = order.iter().cycle().skip(1);
    let count = order.len().saturating_sub(usize::from(!closes));
    order.iter().copied().zip(next.copied()).take(count)
}

/// The ring and tree of a host, or of a part of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// The ring; inside a host the last GPU is followed by the first.
    pub ring: Channels,
    /// The tree, inside a host a chain.
    pub tree: Channels,
}

impl Search {
    /// Searches as NCCL does for a communicator of all GPUs of `graph` on one host.
    ///
    /// None where there are fewer than two GPUs.
    pub fn of(graph: &Graph, paths: &Paths) -> Option<Self> {
        (paths.gpus().len() > 1).then(|| Self::run(graph, paths, false))
    }

    /// The same for a communicator that has other hosts, or other parts of this one, besides these GPUs.
    ///
    /// None where there is no GPU or no network device.
    pub fn between_hosts(graph: &Graph, paths: &Paths) -> Option<Self> {
        let may = !paths.gpus().is_empty() && !paths.nets().is_empty();
        may.then(|| Self::run(graph, paths, true))
    }

    /// Whether NCCL with these rules ends the communicator: it finds nothing, and looks for a network device that is not there.
    pub fn ends_communicator(&self, paths: &Paths, rules: &Rules) -> bool {
        let found_nothing =
            |channels: &Channels| (channels.bandwidth_gb_s - NOTHING_GB_S).abs() < f32::EPSILON;
        rules.nothing_found_needs_net
            && paths.nets().is_empty()
            && (found_nothing(&self.ring) || found_nothing(&self.tree))
    }

    /// The same answer step by step, as NCCL comes to it.
    #[cfg(test)]
    fn plain(graph: &Graph, paths: &Paths, between_hosts: bool) -> Self {
        Self::with(between_hosts, |pattern, channels| {
            let ready = Ready::of(graph, paths, between_hosts);
            let job = Job::new((graph, paths), ready, between_hosts, pattern, channels);
            job.made_plain().run().0
        })
    }

    /// How many steps a search makes that are not passed over.
    #[cfg(test)]
    fn steps(graph: &Graph, paths: &Paths, between_hosts: bool) -> u64 {
        let steps = std::cell::Cell::new(0);
        Self::with(between_hosts, |pattern, channels| {
            let ready = Ready::of(graph, paths, between_hosts);
            let job = Job::new((graph, paths), ready, between_hosts, pattern, channels);
            let (state, own) = job.run_counting();
            steps.set(steps.get() + own);
            state
        });
        steps.get()
    }

    fn run(graph: &Graph, paths: &Paths, between_hosts: bool) -> Self {
        let mut kept = None;
        Self::with(between_hosts, |pattern, channels| {
            let ready = kept
                .take()
                .unwrap_or_else(|| Ready::of(graph, paths, between_hosts));
            let job = Job::new((graph, paths), ready, between_hosts, pattern, channels);
            let (state, ready) = job.run();
            kept = Some(ready);
            state
        })
    }

    fn with(between_hosts: bool, mut job: impl FnMut(Pattern, (usize, usize)) -> State) -> Self {
        let ring = job(Pattern::Ring, (1, MAX_CHANNELS));
        let channels = ring.channels;
        let tree = job(Pattern::BalancedTree, (channels, channels));
        let finished = |state: State| Channels {
            orders: state.orders(),
            nets: if between_hosts {
                state.nets()
            } else {
                Vec::new()
            },
            bandwidth_gb_s: state.bandwidth,
            bandwidth_between_hosts_gb_s: state.bandwidth_between_hosts,
            kind: state.kind,
            kind_to_nets: state.kind_to_nets,
            swaps_nets: state.cross_nic == 2,
            is_simple_tree: state.pattern == Pattern::Tree,
        };
        Self {
            ring: finished(ring),
            tree: finished(tree),
        }
    }
}
