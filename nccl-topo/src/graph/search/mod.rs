//! Rings and trees inside a host (`search.cc`): which GPU follows which, over how many channels.
//!
//! NCCL tries bandwidths from the highest down and path types from the nearest up, each with a bounded
//! search over orders, and keeps the best that it met.

use super::nodes::{Graph, Kind, LinkType, Processor};
use super::paths::Paths;
use super::{LOCAL_BANDWIDTH_GB_S, PathType};

mod hops;
mod ways;

use ways::{Links, Way};

/// Steps of a search with one order for all channels, and with an order for each.
const STEPS_SAME: i64 = 1 << 8;
const STEPS: i64 = 1 << 14;
/// Steps of all searches for a graph before NCCL is content with what it has.
const STEPS_IN_ALL: i64 = 1 << 19;
/// The most channels of a ring (`MAXCHANNELS` / 2).
const MAX_CHANNELS: usize = 32;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern {
    Ring,
    BalancedTree,
    Tree,
}

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
    /// Absent where there are fewer than two GPUs.
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

/// Bandwidths that NCCL tries inside a host, by compute capability.
fn speeds(capability: u32) -> &'static [f32] {
    match capability {
        100.. => &[
            90.0, 80.0, 70.0, 60.0, 50.0, 45.0, 40.0, 30.0, 24.0, 20.0, 19.0, 18.0,
        ],
        90..=99 => &[
            60.0, 50.0, 40.0, 30.0, 24.0, 20.0, 15.0, 12.0, 11.0, 6.0, 3.0,
        ],
        _ => &[
            40.0, 30.0, 20.0, 18.0, 15.0, 12.0, 10.0, 9.0, 7.0, 6.0, 5.0, 4.0, 3.0,
        ],
    }
}

/// Bandwidths to try, widest first.
struct Speeds(&'static [f32]);

impl Speeds {
    fn at(&self, index: usize) -> f32 {
        self.0.get(index).copied().unwrap_or_default()
    }

    fn last(&self) -> usize {
        self.0.len() - 1
    }

    /// The first that fits, else the last.
    fn first(&self, fits: impl Fn(f32) -> bool) -> usize {
        (0..self.last())
            .find(|index| fits(self.at(*index)))
            .unwrap_or(self.last())
    }
}

/// A solution, or one that is being tried.
#[derive(Debug, Clone)]
struct State {
    pattern: Pattern,
    orders: Vec<Vec<usize>>,
    bandwidth: f32,
    kind: PathType,
    same_channels: bool,
    min_channels: usize,
    max_channels: usize,
    hops: i64,
}

impl State {
    fn total(&self) -> f32 {
        as_f32(self.orders.len()) * self.bandwidth
    }
}

fn as_f32(count: usize) -> f32 {
    f32::from(u16::try_from(count).unwrap_or(u16::MAX))
}

/// Which GPU comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// That of the file.
    File,
    /// That of the channel before.
    Replay,
    /// The best first.
    Search,
}

/// One search for a ring or tree.
struct Job<'g> {
    graph: &'g Graph,
    paths: &'g Paths,
    count: usize,
    has_nvswitch: bool,
    /// The way between each two GPUs, row by row.
    ways: Vec<Way>,
    /// What is left of each link's bandwidth.
    left: Vec<f32>,
    /// Channels that hold a GPU, as bits.
    used: Vec<u64>,
    trial: State,
    /// The order that is being tried.
    order: Vec<usize>,
    best: State,
    /// Steps left; -1 when nothing better can be found.
    time: i64,
}

impl<'g> Job<'g> {
    fn new(
        graph: &'g Graph,
        paths: &'g Paths,
        pattern: Pattern,
        min_channels: usize,
        max_channels: usize,
    ) -> Self {
        let count = paths.gpus().len();
        let links = Links::of(graph);
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let ways = pairs.map(|(from, to)| links.way(paths.between(from, to)));
        let trial = State {
            pattern,
            orders: Vec::new(),
            bandwidth: 0.0,
            kind: kinds(paths)
                .min()
                .unwrap_or(PathType::Sys)
                .min(PathType::Sys),
            same_channels: true,
            min_channels,
            max_channels,
            hops: 0,
        };
        Self {
            graph,
            paths,
            count,
            has_nvswitch: graph.of_kind(Kind::NvSwitch).next().is_some(),
            ways: ways.collect(),
            left: links.bandwidths(),
            used: vec![0; count],
            best: trial.clone(),
            order: vec![0; count],
            trial,
            time: 0,
        }
    }

    /// `ncclTopoCompute`.
    fn run(mut self) -> State {
        let capability = self.capability();
        let speeds = Speeds(speeds(capability));
        if self.trial.pattern == Pattern::Ring
            && self.nvlink_is_split()
            && self.trial.min_channels == 1
        {
            self.trial.min_channels = 2;
        }
        self.find(&speeds, capability);
        self.duplicate(capability);
        self.widen(&speeds);
        if self.best.orders.is_empty() {
            self.best.orders = vec![(0..self.count).collect()];
            self.best.bandwidth = 0.1;
            self.best.kind = PathType::Sys;
        }
        self.best
    }

    /// First pass: nearer types before farther ones, wider before narrower, until there is a solution.
    fn find(&mut self, speeds: &Speeds, capability: u32) {
        let nearest = self.trial.kind;
        let farthest = kinds(self.paths).max().unwrap_or(PathType::Loc);
        let mut at = self.first_speed(speeds);
        self.trial.bandwidth = speeds.at(at);
        let mut steps_left = STEPS_IN_ALL;
        let amd = self.first_cpu() == Some(Processor::Amd);
        loop {
            steps_left -= self.search();
            if self.time == -1 || self.best.total() >= self.device_total() {
                return;
            }
            if self.trial.same_channels && !(amd && self.trial.kind == PathType::Sys) {
                self.trial.same_channels = false;
                continue;
            }
            self.trial.same_channels = true;
            steps_left += self.time;
            let nothing = self.best.orders.is_empty();
            if steps_left < 0 && !nothing {
                return;
            }
            if capability >= 90 && self.trial.pattern == Pattern::BalancedTree {
                self.trial.pattern = Pattern::Tree;
                continue;
            }
            self.trial.pattern = self.best.pattern;
            if self.trial.kind < farthest && (nothing || self.trial.kind < self.best.kind) {
                self.trial.kind = farther(self.trial.kind);
                continue;
            }
            self.trial.kind = nearest;
            let close = nothing || speeds.at(at + 1) / self.best.bandwidth > 0.49;
            if at >= speeds.last() || !close {
                return;
            }
            at += 1;
            self.trial.bandwidth = speeds.at(at);
        }
    }

    /// The widest of `speeds` that a GPU can carry.
    fn first_speed(&self, speeds: &Speeds) -> usize {
        let mut total = self.device_total();
        if self.trial.pattern != Pattern::Ring {
            // A tree need not close, so less of the total is enough.
            total *= as_f32(self.count) / as_f32(self.count - 1);
        }
        let least = as_f32(self.trial.min_channels);
        let widest = self.paths.widest_gb_s;
        speeds.first(|speed| speed <= widest && speed * least <= total)
    }

    /// Second pass: the same number of channels, wider.
    fn widen(&mut self, speeds: &Speeds) {
        self.trial = self.best.clone();
        let found = self.best.bandwidth;
        let mut at = speeds.first(|speed| speed <= found);
        let start = speeds.at(at);
        self.trial.bandwidth = start;
        self.trial.min_channels = self.best.orders.len();
        self.time = -1;
        while self.time != 0 && at > 0 && self.may_widen(start) {
            at -= 1;
            self.trial.bandwidth = speeds.at(at);
            self.search();
        }
    }

    /// Whether NCCL tries more bandwidth: for a ring always, for a tree while that helped, and up to twice.
    fn may_widen(&self, start: f32) -> bool {
        let same = (self.trial.bandwidth - self.best.bandwidth).abs() < f32::EPSILON;
        self.best.pattern == Pattern::Ring || (same && self.trial.bandwidth < start * 2.0)
    }

    /// Searches with the present trial; gives the steps that it was allowed.
    fn search(&mut self) -> i64 {
        let steps = if self.trial.same_channels {
            STEPS_SAME
        } else {
            STEPS
        };
        self.time = steps;
        self.trial.orders.clear();
        self.channel();
        steps
    }

    /// `ncclTopoSearchRec`: the next channel.
    fn channel(&mut self) {
        let first = self.trial.orders.is_empty();
        if first {
            self.start(0, Order::File);
        } else {
            let replayed = self
                .trial
                .orders
                .last()
                .and_then(|order| order.first())
                .copied();
            self.start(replayed.unwrap_or_default(), Order::Replay);
        }
        if first || !self.trial.same_channels {
            for gpu in 0..self.count {
                self.start(gpu, Order::Search);
            }
        }
    }

    fn start(&mut self, gpu: usize, order: Order) {
        self.mark(gpu);
        self.step(gpu, 0, order);
        self.mark(gpu);
    }

    /// Marks a GPU as used by the present channel, or no more.
    fn mark(&mut self, gpu: usize) {
        let flag = 1 << self.trial.orders.len();
        if let Some(used) = self.used.get_mut(gpu) {
            *used ^= flag;
        }
    }

    /// `ncclTopoSearchRecGpu`: `gpu` is the one at `step`.
    fn step(&mut self, gpu: usize, step: usize, order: Order) {
        if self.time <= 0 {
            return;
        }
        self.time -= 1;
        if let Some(place) = self.order.get_mut(step) {
            *place = gpu;
        }
        if step + 1 < self.count {
            for next in self.candidates(gpu, step, order) {
                if self.take(gpu, next) {
                    self.mark(next);
                    self.step(next, step + 1, order);
                    self.mark(next);
                    self.give_back(gpu, next);
                }
            }
        } else if self.trial.pattern == Pattern::Ring {
            let first = self.order.first().copied().unwrap_or_default();
            if self.take(gpu, first) {
                self.complete();
                self.give_back(gpu, first);
            }
        } else {
            self.complete();
        }
    }

    /// The channel is complete: keep it if it is the best, and try one more.
    fn complete(&mut self) {
        if self.time <= 0 {
            return;
        }
        self.time -= 1;
        self.trial.orders.push(self.order.clone());
        let full = self.trial.orders.len() >= self.trial.max_channels;
        if self.is_better() {
            self.best = self.trial.clone();
            if full {
                self.time = -1;
            }
        }
        if !full {
            let order = self.order.clone();
            self.channel();
            self.order = order;
        }
        self.trial.orders.pop();
    }

    /// `ncclTopoCompareGraphs`.
    fn is_better(&self) -> bool {
        let (trial, best) = (&self.trial, &self.best);
        if trial.orders.len() < trial.min_channels {
            return false;
        }
        if trial.total() > best.total() {
            return true;
        }
        trial.total() >= best.total() && trial.pattern == best.pattern && trial.hops < best.hops
    }

    fn first_cpu(&self) -> Option<Processor> {
        let cpu = self.graph.of_kind(Kind::Cpu).next()?;
        self.graph.node(cpu)?.processor
    }

    fn capability(&self) -> u32 {
        let nodes = self
            .paths
            .gpus()
            .iter()
            .filter_map(|gpu| self.graph.node(*gpu));
        nodes
            .map(|node| node.compute_capability)
            .min()
            .unwrap_or_default()
    }

    /// The most that leaves a GPU: its PCI link, or all its NVLinks (`getTotalBw`).
    fn device_total(&self) -> f32 {
        let mut most = 0.0_f32;
        for device in self
            .graph
            .of_kind(Kind::Dev)
            .filter_map(|id| self.graph.node(id))
        {
            let of = |kind| device.links.iter().filter(move |link| link.kind == kind);
            let nvlinks: f32 = of(LinkType::NvLink).map(|link| link.bandwidth_gb_s).sum();
            let pci = of(LinkType::Pci)
                .next_back()
                .map_or(0.0, |link| link.bandwidth_gb_s);
            most = most.max(nvlinks).max(pci);
        }
        if self.count == 1 {
            LOCAL_BANDWIDTH_GB_S
        } else {
            most
        }
    }

    /// Whether NVLink joins the GPUs in two groups (`ncclTopoSplitNvLink`).
    fn nvlink_is_split(&self) -> bool {
        let mut domain: Vec<_> = (0..self.count).collect();
        for gpu in 0..self.count {
            let own = domain.get(gpu).copied().unwrap_or(gpu);
            for (other, joined) in domain.iter_mut().enumerate().skip(gpu + 1) {
                if self
                    .paths
                    .between(gpu, other)
                    .is_some_and(|path| path.kind == PathType::Nvl)
                {
                    *joined = own;
                }
            }
        }
        let members = |group| domain.iter().filter(|other| **other == group).count();
        (0..self.count).filter(|group| members(*group) > 1).count() == 2
    }

    /// `ncclTopoDupChannels`.
    fn duplicate(&mut self, capability: u32) {
        let best = &mut self.best;
        let channels = best.orders.len();
        let narrow = capability > 80 && best.bandwidth < 50.0 && channels > 4;
        if channels == 0 || best.bandwidth < 25.0 || narrow {
            return;
        }
        let wanted = (channels * 2).min(best.max_channels);
        best.bandwidth /= as_f32(wanted.div_ceil(channels));
        let copied: Vec<_> = best
            .orders
            .iter()
            .take(wanted - channels)
            .cloned()
            .collect();
        best.orders.extend(copied);
    }
}

/// The types of the paths between different GPUs.
fn kinds(paths: &Paths) -> impl Iterator<Item = PathType> + '_ {
    let count = paths.gpus().len();
    (0..count).flat_map(move |from| {
        let others = (0..count).filter(move |to| *to != from);
        others.filter_map(move |to| paths.between(from, to).map(|path| path.kind))
    })
}

/// The next type of a path.
fn farther(kind: PathType) -> PathType {
    use PathType::{C2c, Dis, Loc, Net, Nvb, Nvl, P2c, Phb, Pix, Pxb, Pxn, Sys};
    match kind {
        Loc => Nvl,
        Nvl => Nvb,
        Nvb => C2c,
        C2c => Pix,
        Pix => Pxb,
        Pxb => P2c,
        P2c => Pxn,
        Pxn => Phb,
        Phb => Sys,
        Sys => Net,
        Net | Dis => Dis,
    }
}
