//! What the channels so far leave of the links' bandwidth.

use std::collections::BTreeSet;

use super::super::nodes::{Graph, Link, LinkType, Node, PlaceKind};
use super::super::path_type::PathType;
use super::super::paths::Paths;
use super::left::{Left, is_whole, less};
use super::links::{Links, Way};
use super::twins::Twins;
use super::whole::Whole;

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
    left: Left,
    /// All of every link.
    all: Left,
    /// What is left in whole thousandths of GB/s, for as long as that is exact.
    whole: Whole,
    /// Whether every link's bandwidth is whole, and no way takes a link twice.
    is_regular: bool,
    /// Whether what is taken and given back leaves every link as it was: what NCCL rounds, it does not change.
    is_stable: bool,
    /// The widths of links, each once.
    widths: Vec<Width>,
    /// The widths of the links by which something leaves each GPU.
    leaving: Vec<Vec<f32>>,
    /// The PCI link of each GPU, there and back.
    pci: Vec<Option<[usize; 2]>>,
}

/// What links there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Width {
    /// In GB/s, as bits.
    bits: u32,
    /// Whether some way takes more of such a link than others do.
    is_mixed: bool,
    /// Whether only what goes to or from one GPU takes it.
    of_one_gpu: bool,
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
        let bandwidths = links.bandwidths();
        let twins = Twins::of(graph, paths, &ways, nets);
        let is_regular = bandwidths.iter().all(|width| is_whole(*width))
            && ways.iter().all(Way::takes_each_link_once);
        Self {
            gpus,
            ends,
            widths: widths(&ways, &bandwidths, ends),
            leaving: leaving(graph),
            pci: paths
                .gpus()
                .iter()
                .map(|gpu| links.pci_of_gpu(*gpu))
                .collect(),
            whole: Whole::of(&ways, &bandwidths, twins),
            ways,
            left: Left(bandwidths.clone()),
            all: Left(bandwidths),
            is_regular,
            is_stable: false,
        }
    }

    /// All of every link again.
    pub(super) fn reset(&mut self) {
        self.left.0.clone_from(&self.all.0);
    }

    /// Makes ready for a search that takes these bandwidths.
    pub(super) fn begin(&mut self, bandwidths: [f32; 3]) {
        self.is_stable = self.is_regular && self.whole.begin(&self.left, bandwidths);
    }

    /// Makes every search one that repeats what NCCL does step by step, to compare with.
    #[cfg(test)]
    pub(super) fn make_plain(&mut self) {
        self.is_regular = false;
    }

    /// Whether what is taken and given back leaves every link as it was.
    pub(super) fn is_stable(&self) -> bool {
        self.is_stable
    }

    /// How many channels of this bandwidth fit on links of each width: where that is the same for two bandwidths, the
    /// same ways fit.
    pub(super) fn fits(&self, bandwidth: f32) -> Vec<usize> {
        // A channel leaves each GPU but one, so there are no more than twice what leaves the widest.
        let leave = |widths: &Vec<f32>| -> usize {
            let each = widths
                .iter()
                .map(|width| times(*width, bandwidth, usize::MAX));
            each.sum()
        };
        let channels = 1 + 2 * self.leaving.iter().map(leave).max().unwrap_or_default();
        let mut all = vec![channels];
        for width in &self.widths {
            let most = if width.of_one_gpu {
                channels
            } else {
                channels * self.gpus
            };
            let over_pci = bandwidth * 6.0 / 5.0;
            let mut left = f32::from_bits(width.bits);
            for _ in 0..=most {
                all.push(times(left, bandwidth, most));
                if !width.is_mixed || left < over_pci {
                    break;
                }
                left = less(left, over_pci);
            }
        }
        all
    }

    /// What is left of all links, as one number: the same for the same.
    pub(super) fn left_as_number(&self) -> u64 {
        self.whole.as_number
    }

    /// Places that are alike, while what is taken and given back leaves every link as it was.
    pub(super) fn twins(&mut self) -> Option<&mut Twins> {
        self.whole.twins.as_mut().filter(|_| self.is_stable)
    }

    /// What is left of the PCI link of a GPU, there and back, in whole GB/s; -1 where it has none.
    pub(super) fn left_of_pci(&self, gpu: usize) -> i64 {
        let Some(links) = self.pci.get(gpu).copied().flatten() else {
            return -1;
        };
        if self.is_stable {
            let [there, back] = links.map(|link| self.whole.left_of(link));
            return i64::from(there.min(back) / 1000);
        }
        let left = links.map(|link| self.left.of(link));
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a bandwidth in GB/s, a few thousand at most"
        )]
        let whole = left[0].min(left[1]).trunc() as i64;
        whole
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

    /// The type of the path between two ends, or the farther of both ways; that of no path where there is none.
    pub(super) fn kind(&self, from: End, to: End, both_ways: bool) -> PathType {
        let kind = |from, to| {
            let way = self.way(from, to);
            way.and_then(|way| way.kind).unwrap_or(PathType::Dis)
        };
        let there = kind(from, to);
        if both_ways {
            there.max(kind(to, from))
        } else {
            there
        }
    }

    /// Whether the path between two ends has this bandwidth left; only where what is taken is stable.
    pub(super) fn could_take(&self, from: End, to: End, bandwidth: f32) -> bool {
        self.whole.has(self.place(from, to), bandwidth)
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
        let place = self.place(from, to);
        let allowed = |way: Option<&Way>| {
            way.and_then(|way| way.kind)
                .is_some_and(|kind| kind <= farthest)
        };
        if !allowed(self.ways.get(place)) || (both_ways && !allowed(self.way(to, from))) {
            return None;
        }
        if self.is_stable {
            return self.whole.take(place, bandwidth);
        }
        let all = self.ways.get(place).map_or(0, |way| way.steps.len());
        let taken = self.follow(place, all, bandwidth);
        if taken < all {
            self.follow(place, taken, -bandwidth);
            return None;
        }
        Some(taken)
    }

    /// Undoes [`Capacity::take`]; gives how many links have their bandwidth again.
    pub(super) fn give_back(&mut self, from: End, to: End, bandwidth: f32) -> usize {
        let place = self.place(from, to);
        if self.is_stable {
            return self.whole.give_back(place, bandwidth);
        }
        self.follow(place, usize::MAX, -bandwidth)
    }

    /// Subtracts from the links of a path until one has too little; gives how many had enough.
    fn follow(&mut self, place: usize, most: usize, bandwidth: f32) -> usize {
        let Some(way) = self.ways.get(place) else {
            return 0;
        };
        let over_pci = way.over_pci(bandwidth);
        for (done, step) in way.steps.iter().take(most).enumerate() {
            let wanted = if step.pci { over_pci } else { bandwidth };
            let back = step.back.map(|(link, share)| (link, wanted / share));
            let has_enough = |link, wanted| self.left.has(link, wanted);
            if !has_enough(step.link, wanted)
                || back.is_some_and(|(link, wanted)| !has_enough(link, wanted))
            {
                return done;
            }
            self.left.subtract(step.link, wanted);
            if let Some((link, wanted)) = back {
                self.left.subtract(link, wanted);
            }
        }
        way.steps.len().min(most)
    }
}

/// The widths of the links that some way takes; `ways` are those between as many ends, row by row.
fn widths(ways: &[Way], bandwidths: &[f32], ends: usize) -> Vec<Width> {
    /// Who takes a link.
    #[derive(Clone, Copy, Default)]
    struct Takers {
        more: bool,
        less: bool,
        /// The first two ends of the first way.
        ends: Option<[Option<usize>; 2]>,
    }
    let mut takers = vec![Takers::default(); bandwidths.len()];
    for (place, way) in ways.iter().enumerate() {
        let own = [place / ends, place % ends];
        for step in &way.steps {
            if let Some(takers) = takers.get_mut(step.link) {
                takers.more |= way.intel && step.pci;
                takers.less |= !(way.intel && step.pci);
                let common = takers.ends.unwrap_or(own.map(Some));
                takers.ends = Some(common.map(|end| end.filter(|end| own.contains(end))));
            }
        }
    }
    let taken = bandwidths.iter().zip(takers);
    let taken = taken.filter(|(_, takers)| takers.more || takers.less);
    let widths: BTreeSet<Width> = taken
        .map(|(width, takers)| Width {
            bits: width.to_bits(),
            is_mixed: takers.more,
            of_one_gpu: takers
                .ends
                .is_some_and(|ends| ends.iter().any(Option::is_some)),
        })
        .collect();
    widths.into_iter().collect()
}

/// The widths of the links by which something leaves each GPU.
fn leaving(graph: &Graph) -> Vec<Vec<f32>> {
    let devices = graph
        .of_kind(PlaceKind::Dev)
        .filter_map(|id| graph.node(id));
    let links = |device: &Node| {
        // Another part of it is as far as another GPU.
        let leaves = |link: &&Link| {
            let to = graph.node(link.to).map(|node| node.kind);
            link.kind != LinkType::Local || to == Some(PlaceKind::Dev)
        };
        let links = device.links.iter().filter(leaves);
        links.map(|link| link.bandwidth_gb_s).collect()
    };
    devices.map(links).collect()
}

/// How often a bandwidth can be taken.
fn times(mut left: f32, bandwidth: f32, most: usize) -> usize {
    let mut times = 0;
    while times < most && left >= bandwidth {
        left = less(left, bandwidth);
        times += 1;
    }
    times
}
