//! The rings and trees of a communicator whose ranks are all on one host, rank by rank (`connect.cc`,
//! `ncclTopoPostset`), whatever parts NCCL cuts the host into.

use crate::graph::{Channels, PathType, Searches, hops};
use crate::model::{Model, Part};

/// By what a hop goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A path inside a part.
    Path(PathType),
    /// Shared memory, between parts.
    SharedMemory,
    /// The network, between parts.
    Network,
}

/// A hop from rank to rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankHop {
    /// The rank that sends.
    pub from: usize,
    /// The rank that receives; in a tree the one nearer to the root.
    pub to: usize,
    /// By what.
    pub by: By,
}

/// How often the one of `all`, rings or trees, that does so most goes from package to package through the host; `package` says
/// where a rank is.
pub fn most_crossings(all: &[Vec<RankHop>], package: impl Fn(usize) -> Option<u32>) -> usize {
    let crosses = |hop: &&RankHop| {
        let through_host = match hop.by {
            By::Path(kind) => kind.is_through_host(),
            By::SharedMemory => true,
            By::Network => false,
        };
        through_host && package(hop.from) != package(hop.to)
    };
    let counts = all.iter().map(|hops| hops.iter().filter(crosses).count());
    counts.max().unwrap_or_default()
}

/// The rings and trees.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The ranks of each part; one where NCCL keeps the host whole.
    pub parts: Vec<Vec<usize>>,
    /// The hops of each ring.
    pub rings: Vec<Vec<RankHop>>,
    /// The hops of each tree, towards its root.
    pub trees: Vec<Vec<RankHop>>,
    /// What NCCL takes each ring to carry, in GB/s (`graph/tuning.cc` `ncclTopoTuneModel`).
    pub ring_gb_s: f32,
}

/// A part with what its search found, by rank.
struct Found {
    ring: Vec<Vec<usize>>,
    tree: Vec<Vec<usize>>,
    /// What a ring carries inside the part, and to others.
    ring_gb_s: [f32; 2],
    part: Part,
    ranks: Vec<usize>,
    swaps: bool,
    is_simple_tree: bool,
}

impl Route {
    /// The rings and trees of a communicator of all GPUs of `model`; `by_network` says whether its parts are joined
    /// over the network, and not over shared memory; `searches` are those that were made of this machine.
    ///
    /// None where there are fewer than two GPUs, and where nothing can join the parts.
    pub fn of(model: &Model, by_network: bool, searches: &Searches) -> Option<Self> {
        if model.gpus.len() < 2 {
            return None;
        }
        let parts = model.parts();
        let is_cut = parts.len() > 1;
        let found: Option<Vec<Found>> = parts
            .into_iter()
            .map(|part| Found::of(model, part, is_cut, searches))
            .collect();
        let found = found?;
        // Rings and trees have as many channels as the search with the fewest found (init.cc `initTransportsRank`).
        let fewest = |found: &Found| found.ring.len().min(found.tree.len());
        let channels = found.iter().map(fewest).min()?;
        // The least of all parts; among more than two of them what goes from part to part decides.
        let goes_far = usize::from(found.len() > 2);
        let each = found.iter().filter_map(|one| one.ring_gb_s.get(goes_far));
        let ring_gb_s = each.copied().reduce(f32::min)?;
        let joint = if by_network {
            By::Network
        } else {
            By::SharedMemory
        };
        let rings = (0..channels).map(|channel| ring(&found, channel, channels, joint));
        let trees = (0..2).flat_map(|second| (0..channels).map(move |channel| (second, channel)));
        let trees = trees.map(|(second, channel)| tree(&found, channel, second == 1, joint));
        Some(Self {
            rings: rings.collect(),
            trees: if is_cut {
                trees.collect()
            } else {
                // Both of a channel are the same chain.
                trees.take(channels).collect()
            },
            parts: found.into_iter().map(|found| found.ranks).collect(),
            ring_gb_s,
        })
    }
}

impl Found {
    fn of(model: &Model, part: Part, is_cut: bool, searches: &Searches) -> Option<Self> {
        let search = searches.search(&part.graph, &part.paths, is_cut)?;
        let rank = |place: &usize| model.gpus.get(*place).map(|gpu| gpu.rank);
        let ranks: Option<Vec<usize>> = part.gpus.iter().map(rank).collect();
        let ranks = ranks?;
        let by_rank = |channels: &Channels| -> Vec<Vec<usize>> {
            let orders = channels.orders.iter();
            orders
                .map(|order| {
                    order
                        .iter()
                        .filter_map(|at| ranks.get(*at).copied())
                        .collect()
                })
                .collect()
        };
        Some(Self {
            ring: by_rank(&search.ring),
            tree: by_rank(&search.tree),
            ring_gb_s: [
                search.ring.bandwidth_gb_s,
                search.ring.bandwidth_between_hosts_gb_s,
            ],
            swaps: search.ring.swaps_nets,
            is_simple_tree: search.tree.is_simple_tree,
            part,
            ranks,
        })
    }

    /// The hop between two ranks of the part.
    fn hop(&self, (from, to): (usize, usize)) -> RankHop {
        let place = |rank| self.ranks.iter().position(|own| *own == rank);
        let path = place(from)
            .zip(place(to))
            .and_then(|(from, to)| self.part.paths.between(from, to));
        RankHop {
            from,
            to,
            by: By::Path(path.map_or(PathType::Sys, |path| path.kind)),
        }
    }
}

/// The hops of a ring: through each part in turn.
fn ring(found: &[Found], channel: usize, channels: usize, joint: By) -> Vec<RankHop> {
    let order = |node: usize, found: &Found| -> Vec<usize> {
        // Every second part takes the channels of each two the other way round (`exchangeValues`).
        let swaps = found.swaps && channels.is_multiple_of(2) && node % 2 == 1;
        let own = if swaps { channel ^ 1 } else { channel };
        found.ring.get(own).cloned().unwrap_or_default()
    };
    let orders: Vec<Vec<usize>> = found
        .iter()
        .enumerate()
        .map(|(node, one)| order(node, one))
        .collect();
    let mut all = Vec::new();
    let next = orders.iter().cycle().skip(1);
    for ((own, following), part) in orders.iter().zip(next).zip(found) {
        all.extend(hops(own, orders.len() == 1).map(|hop| part.hop(hop)));
        if orders.len() > 1
            && let (Some(last), Some(first)) = (own.last(), following.first())
        {
            all.push(RankHop {
                from: *last,
                to: *first,
                by: joint,
            });
        }
    }
    all
}

/// The hops of a tree: the chain of each part, and the double binary tree between them.
fn tree(found: &[Found], channel: usize, is_second: bool, joint: By) -> Vec<RankHop> {
    let mut all = Vec::new();
    for (node, own) in found.iter().enumerate() {
        let chain = own.tree.get(channel).map_or(&[][..], Vec::as_slice);
        all.extend(hops(chain, false).map(|(up, down)| own.hop((down, up))));
        let Some((parent, is_first_child)) = parent_of(node, found.len(), is_second) else {
            continue;
        };
        let above = found.get(parent).and_then(|above| {
            let chain = above.tree.get(channel)?;
            let takes_first_child = if above.is_simple_tree { 0 } else { 1 };
            chain.get(if is_first_child { takes_first_child } else { 0 })
        });
        if let (Some(head), Some(above)) = (chain.first(), above) {
            all.push(RankHop {
                from: *head,
                to: *above,
                by: joint,
            });
        }
    }
    all
}

/// The parent of a part in the first or second tree of NCCL's double binary tree, and whether the part is its first
/// child (`trees.cc` `ncclGetDtree`); none for the root.
fn parent_of(node: usize, nodes: usize, is_second: bool) -> Option<(usize, bool)> {
    if !is_second {
        return parent_in_first(node, nodes);
    }
    if nodes % 2 == 1 {
        let (parent, is_first) = parent_in_first((node + nodes - 1) % nodes, nodes)?;
        return Some(((parent + 1) % nodes, is_first));
    }
    let (parent, is_first) = parent_in_first(nodes - 1 - node, nodes)?;
    Some((nodes - 1 - parent, is_first))
}

/// `ncclGetBtree`.
fn parent_in_first(node: usize, nodes: usize) -> Option<(usize, bool)> {
    if node == 0 {
        return None;
    }
    let bit = 1 << node.trailing_zeros();
    let up = (node ^ bit) | (bit << 1);
    let up = if up >= nodes { node ^ bit } else { up };
    Some((up, node < up))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_a_double_binary_tree() {
        let parents = |nodes, second| -> Vec<Option<usize>> {
            let parent = |node| parent_of(node, nodes, second).map(|(parent, _)| parent);
            (0..nodes).map(parent).collect()
        };
        assert_eq!(parents(2, false), [None, Some(0)]);
        assert_eq!(parents(2, true), [Some(1), None]);
        assert_eq!(parents(3, false), [None, Some(2), Some(0)]);
        assert_eq!(parents(3, true), [Some(1), None, Some(0)]);
        let four = [None, Some(2), Some(0), Some(2)];
        assert_eq!(parents(4, false), four);
    }
}
