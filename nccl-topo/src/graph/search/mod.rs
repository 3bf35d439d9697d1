//! Rings and trees inside a host (`search.cc`): which GPU follows which, over how many channels.
//!
//! NCCL tries bandwidths from the highest down and path types from the nearest up, each with a bounded
//! search over orders, and keeps the best that it met.

use super::nodes::Graph;
use super::path_type::PathType;
use super::paths::Paths;

mod capacity;
mod job;
mod links;

use job::{Job, Pattern, State};

/// The most channels of a ring (`MAXCHANNELS` / 2).
const MAX_CHANNELS: usize = 32;

/// How a collective goes through the GPUs of a host.
#[derive(Debug, Clone, PartialEq)]
pub struct Channels {
    /// The GPUs of each channel in order, by their places in [`Paths::gpus`].
    pub orders: Vec<Vec<usize>>,
    /// What each channel carries, in GB/s; 0.1 where NCCL found nothing and took the order of the file.
    pub bandwidth_gb_s: f32,
    /// The farthest path type that was allowed.
    pub kind: PathType,
}

/// The hops of an order, each from a place to the next; with the one back to the start where it `closes`.
pub fn hops(order: &[usize], closes: bool) -> impl Iterator<Item = (usize, usize)> + '_ {
    let next = order.iter().cycle().skip(1);
    let count = order.len().saturating_sub(usize::from(!closes));
    order.iter().copied().zip(next.copied()).take(count)
}

/// The ring and tree of a host.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// The ring; the last GPU is followed by the first.
    pub ring: Channels,
    /// The tree, inside a host a chain.
    pub tree: Channels,
}

impl Search {
    /// Searches as NCCL does for a communicator of all GPUs of `graph` on one host.
    ///
    /// None where there are fewer than two GPUs.
    pub fn of(graph: &Graph, paths: &Paths) -> Option<Self> {
        if paths.gpus().len() < 2 {
            return None;
        }
        let ring = Job::new(graph, paths, Pattern::Ring, 1, MAX_CHANNELS).run();
        let channels = ring.orders.len();
        let tree = Job::new(graph, paths, Pattern::BalancedTree, channels, channels).run();
        let finished = |state: State| Channels {
            orders: state.orders,
            bandwidth_gb_s: state.bandwidth,
            kind: state.kind,
        };
        Some(Self {
            ring: finished(ring),
            tree: finished(tree),
        })
    }
}
