//! One search for a ring or tree (`search.cc` `ncclTopoCompute`).

use super::super::nodes::{Graph, LinkType, PlaceKind};
use super::super::path_type::PathType;
use super::super::paths::Paths;
use super::capacity::Capacity;
use crate::processor::{LOCAL_BANDWIDTH_GB_S, Processor};

/// Steps of a search with one order for all channels, and with an order for each.
const STEPS_SAME: i64 = 1 << 8;
const STEPS: i64 = 1 << 14;
/// Steps of all searches for a graph before NCCL is content with what it has.
const STEPS_IN_ALL: i64 = 1 << 19;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    Ring,
    BalancedTree,
    Tree,
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
pub(super) struct State {
    pattern: Pattern,
    pub(super) orders: Vec<Vec<usize>>,
    pub(super) bandwidth: f32,
    pub(super) kind: PathType,
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

fn as_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or_default()
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
pub(super) struct Job<'g> {
    graph: &'g Graph,
    paths: &'g Paths,
    count: usize,
    has_nvswitch: bool,
    /// What the channels so far leave of the links.
    capacity: Capacity,
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
    pub(super) fn new(
        graph: &'g Graph,
        paths: &'g Paths,
        pattern: Pattern,
        min_channels: usize,
        max_channels: usize,
    ) -> Self {
        let count = paths.gpus().len();
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
            has_nvswitch: graph.of_kind(PlaceKind::NvSwitch).next().is_some(),
            capacity: Capacity::of(graph, paths),
            used: vec![0; count],
            best: trial.clone(),
            order: vec![0; count],
            trial,
            time: 0,
        }
    }

    /// `ncclTopoCompute`.
    pub(super) fn run(mut self) -> State {
        let capability = self.capability();
        let speeds = Speeds(self.graph.rules().speeds(capability));
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
        let amd = self.graph.processor().is_some_and(Processor::is_amd);
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

    /// The GPUs to try after `gpu`, best first (`ncclTopoSearchNextGpuSort`).
    fn candidates(&self, gpu: usize, step: usize, order: Order) -> Vec<usize> {
        match order {
            Order::File => return vec![step + 1],
            Order::Replay => {
                let before = self.trial.orders.last();
                return before
                    .and_then(|order| order.get(step + 1))
                    .copied()
                    .into_iter()
                    .collect();
            }
            Order::Search => {}
        }
        let flag = 1 << self.trial.orders.len();
        let free = |gpu: &usize| self.used.get(*gpu).is_some_and(|used| used & flag == 0);
        let others = (1..self.count).map(|i| (gpu + i) % self.count).filter(free);
        let mut scored: Vec<_> = others
            .filter_map(|other| {
                let way = self.capacity.way(gpu, other)?;
                (!way.steps.is_empty()).then_some((way.bandwidth.floor(), way.steps.len(), other))
            })
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut next: Vec<_> = scored.into_iter().map(|(_, _, other)| other).collect();
        if self.has_nvswitch {
            next = self.neighbours_of(gpu, next);
        }
        next
    }

    /// Below NVSwitches only neighbours are tried, the last named first.
    fn neighbours_of(&self, gpu: usize, next: Vec<usize>) -> Vec<usize> {
        let before = (gpu + self.count - 1) % self.count;
        let after = (gpu + 1) % self.count;
        let mut wanted = match self.trial.pattern {
            Pattern::Ring => vec![after, before],
            Pattern::BalancedTree => vec![before, after],
            Pattern::Tree => vec![after],
        };
        wanted.dedup();
        wanted.reverse();
        wanted.retain(|gpu| next.contains(gpu));
        wanted
    }

    /// Takes the trial's bandwidth on the path between two GPUs, if it is there.
    fn take(&mut self, from: usize, to: usize) -> bool {
        let both_ways = self.trial.pattern != Pattern::Ring;
        let wanted = (self.trial.bandwidth, self.trial.kind, both_ways);
        let taken = self.capacity.take(from, to, wanted);
        self.trial.hops += taken.map_or(0, as_i64);
        taken.is_some()
    }

    /// Undoes [`Job::take`].
    fn give_back(&mut self, from: usize, to: usize) {
        self.trial.hops -= as_i64(self.capacity.give_back(from, to, self.trial.bandwidth));
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
            .of_kind(PlaceKind::Dev)
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
