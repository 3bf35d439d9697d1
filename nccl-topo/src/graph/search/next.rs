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
    /// The way from the network device to it: bandwidth and length.
    back: (i64, usize),
    /// The way to it.
    way: (i64, usize),
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
            let candidate = |to| Candidate {
                gpu: to,
                back: score(End::Net(net), to),
                way: score(End::Gpu(from), to),
            };
            others(from).map(candidate).collect()
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

    /// The order of the free GPUs after `from` where the way back to `net` counts, and whether all ways to them are alike.
    /// What is left of the PCI links counts too, so it is another after each channel.
    pub(super) fn after_from_net(
        &self,
        from: usize,
        net: usize,
        capacity: &Capacity,
        is_free: impl Fn(usize) -> bool,
    ) -> (Vec<usize>, bool) {
        let all = self.to_net.get(net * self.count + from);
        let free = all.into_iter().flatten().filter(|other| is_free(other.gpu));
        let mut free: Vec<(i64, &Candidate)> = free
            .map(|other| (capacity.left_of_pci(other.gpu), other))
            .collect();
        // Stable: of what is alike the one that comes next by number is first.
        free.sort_by_key(|(pci, other)| {
            let (back_width, back_hops) = other.back;
            let (width, hops) = other.way;
            (-back_width, -pci, back_hops, -width, hops)
        });
        let are_alike = free.windows(2).all(|two| match two {
            [(_, a), (_, b)] => a.way == b.way,
            _ => true,
        });
        let order = free.into_iter().map(|(_, other)| other.gpu);
        (order.collect(), are_alike)
    }
}
