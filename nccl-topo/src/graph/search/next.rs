//! In which order a search tries the GPUs after one (`ncclTopoSearchNextGpuSort`).

use super::super::nodes::{Graph, LinkType};
use super::super::paths::Paths;
use super::capacity::{Capacity, End};

/// The order of the GPUs after each one, best first, and what decides it: worked out once, for a search asks
/// thousands of times.
pub(super) struct Next {
    count: usize,
    /// By GPU.
    inside: Vec<Vec<usize>>,
    /// By network device and GPU, where the way back to the device counts.
    to_net: Vec<Vec<usize>>,
    /// Bandwidth and length of each way, row by row.
    scores: Vec<(i64, usize)>,
}

/// As C turns a bandwidth into a whole number.
fn whole(bandwidth: f32) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a bandwidth in GB/s, a few thousand at most"
    )]
    let whole = bandwidth.trunc() as i64;
    whole
}

impl Next {
    pub(super) fn of(graph: &Graph, paths: &Paths, capacity: &Capacity, nets: usize) -> Self {
        let count = paths.gpus().len();
        let pci: Vec<i64> = paths
            .gpus()
            .iter()
            .map(|gpu| pci_bandwidth(graph, *gpu))
            .collect();
        let score = |from: usize, to: usize| {
            let way = capacity.way(End::Gpu(from), End::Gpu(to));
            way.map_or((0, 0), |way| (whole(way.bandwidth), way.steps.len()))
        };
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let order = |from: usize, net: Option<usize>| {
            let mut scored: Vec<_> = (1..count)
                .map(|i| (from + i) % count)
                .filter(|to| score(from, *to).1 > 0)
                .enumerate()
                .map(|(start, to)| {
                    let back = net.and_then(|net| capacity.way(End::Net(net), End::Gpu(to)));
                    let (back_width, back_hops) =
                        back.map_or((0, 0), |way| (whole(way.bandwidth), way.steps.len()));
                    let own_pci = net.and_then(|_| pci.get(to).copied()).unwrap_or_default();
                    let (width, hops) = score(from, to);
                    // Least first: what is better the larger it is, is negative.
                    ((-back_width, -own_pci, back_hops, -width, hops, start), to)
                })
                .collect();
            scored.sort_unstable();
            scored.into_iter().map(|(_, to)| to).collect()
        };
        Self {
            count,
            inside: (0..count).map(|from| order(from, None)).collect(),
            to_net: (0..nets)
                .flat_map(|net| (0..count).map(move |from| (net, from)))
                .map(|(net, from)| order(from, Some(net)))
                .collect(),
            scores: pairs.map(|(from, to)| score(from, to)).collect(),
        }
    }

    /// The order after `from`, with the way back to `net` where that counts.
    pub(super) fn after(&self, from: usize, net: Option<usize>) -> &[usize] {
        let row = match net {
            Some(net) => self.to_net.get(net * self.count + from),
            None => self.inside.get(from),
        };
        row.map_or(&[], Vec::as_slice)
    }

    /// Whether all ways from `from` to these GPUs are alike.
    pub(super) fn are_alike(&self, from: usize, to: impl Iterator<Item = usize>) -> bool {
        let mut scores = to.map(|to| self.scores.get(from * self.count + to));
        let first = scores.next();
        scores.all(|score| first == Some(score))
    }
}

/// The PCI link of a GPU, in whole GB/s (`gpuPciBw`).
fn pci_bandwidth(graph: &Graph, gpu: usize) -> i64 {
    let device = graph.node(gpu).and_then(|gpu| graph.node(gpu.device?));
    let links = device.into_iter().flat_map(|device| &device.links);
    let mut links = links.filter(|link| link.kind == LinkType::Pci);
    links.next().map_or(-1, |link| whole(link.bandwidth_gb_s))
}
