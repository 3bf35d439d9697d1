//! In which order a search tries the GPUs after one (`ncclTopoSearchNextGpuSort`).

use super::super::paths::Paths;
use super::capacity::{Capacity, End};

/// The order of the GPUs after each one, best first, and what decides it: worked out once, for a search asks
/// thousands of times.
pub(super) struct Next {
    count: usize,
    /// By GPU.
    inside: Vec<Vec<usize>>,
    /// By network device and GPU, where the way back to the device counts.
    to_net: Vec<Vec<Candidate>>,
}

/// A GPU that can follow another on the way to a network device, and what decides when it is tried.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    gpu: usize,
    /// Its rank by the bandwidth of the way from the network device to it, which decides first.
    by_width_back: u64,
    /// Its rank by what decides after what is left of its PCI link: the length of that way, then the way to it, then who comes
    /// next by number.
    by_rest: u64,
    /// The way to it, by a number of its own.
    way: u64,
}

/// A GPU that is tried next, as one number that sorts as NCCL does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Choice {
    key: u64,
    gpu: u32,
    way: u32,
}

impl Choice {
    pub(super) fn gpu(self) -> usize {
        self.gpu as usize
    }
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
    pub(super) fn of(paths: &Paths, capacity: &Capacity, nets: usize) -> Self {
        let count = paths.gpus().len();
        let score = |from: End, to: usize| {
            let way = capacity.way(from, End::Gpu(to));
            way.map_or((0, 0), |way| (whole(way.bandwidth), way.steps.len()))
        };
        let others = |from: usize| {
            let others = (1..count).map(move |i| (from + i) % count);
            others.filter(move |to| score(End::Gpu(from), *to).1 > 0)
        };
        let order = |from: usize| {
            let mut order: Vec<usize> = others(from).collect();
            order.sort_by_key(|to| {
                let (width, hops) = score(End::Gpu(from), *to);
                (-width, hops)
            });
            order
        };
        let candidates = |net: usize, from: usize| {
            let all: Vec<_> = others(from)
                .map(|to| (to, score(End::Net(net), to), score(End::Gpu(from), to)))
                .collect();
            let widths = ranks(all.iter().map(|(_, (width, _), _)| -*width));
            let ways = ranks(all.iter().map(|(_, _, way)| *way));
            let rest = all.iter().enumerate().map(|(place, (_, back, way))| {
                let ((_, back_hops), (width, hops)) = (back, way);
                (*back_hops, -*width, *hops, place)
            });
            let rest = ranks(rest);
            let ranked = all.iter().zip(widths).zip(ways.into_iter().zip(rest));
            let candidate =
                |((to, width), (way, rest)): ((&(usize, _, _), u64), (u64, u64))| Candidate {
                    gpu: to.0,
                    by_width_back: width,
                    by_rest: rest,
                    way,
                };
            ranked.map(candidate).collect()
        };
        Self {
            count,
            inside: (0..count).map(order).collect(),
            to_net: (0..nets)
                .flat_map(|net| (0..count).map(move |from| (net, from)))
                .map(|(net, from)| candidates(net, from))
                .collect(),
        }
    }

    /// The order after `from` inside a host.
    pub(super) fn after(&self, from: usize) -> &[usize] {
        self.inside.get(from).map_or(&[], Vec::as_slice)
    }

    /// Adds the free GPUs after `from` where the way back to `net` counts, those to be tried first at the front; whether all
    /// ways to them are alike.  What is left of the PCI links counts too, so the order is another after each channel.
    pub(super) fn after_from_net(
        &self,
        (from, net): (usize, usize),
        capacity: &Capacity,
        is_free: impl Fn(usize) -> bool,
        order: &mut Vec<Choice>,
    ) -> bool {
        let start = order.len();
        let all = self.to_net.get(net * self.count + from);
        for other in all.into_iter().flatten().filter(|other| is_free(other.gpu)) {
            let left = capacity.left_of_pci(other.gpu).clamp(-1, MOST_LEFT - 1);
            let taken = (MOST_LEFT - 1 - left).cast_unsigned();
            order.push(Choice {
                key: other.by_width_back << 48 | taken << 16 | other.by_rest,
                gpu: u32::try_from(other.gpu).unwrap_or(u32::MAX),
                way: u32::try_from(other.way).unwrap_or(u32::MAX),
            });
        }
        let free = order.get_mut(start..).unwrap_or_default();
        free.sort_unstable();
        free.windows(2).all(|two| match two {
            [a, b] => a.way == b.way,
            _ => true,
        })
    }
}

/// More than any link has left, in GB/s.
const MOST_LEFT: i64 = 1 << 31;

/// The place of each among the values that there are, the least first; the same for the same.
fn ranks<T: Ord + Copy>(values: impl Iterator<Item = T>) -> Vec<u64> {
    let values: Vec<T> = values.collect();
    let mut sorted = values.clone();
    sorted.sort_unstable();
    sorted.dedup();
    let rank = |value: &T| sorted.partition_point(|other| other < value) as u64;
    values.iter().map(rank).collect()
}
