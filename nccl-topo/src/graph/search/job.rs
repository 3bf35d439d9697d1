//! One search for a ring or tree (`search.cc` `ncclTopoCompute`).

use super::super::nodes::{Graph, LinkType, Net, PlaceKind};
use super::super::path_type::PathType;
use super::super::paths::Paths;
use super::capacity::{Capacity, End};
use super::known::{Asked, Known, Tried, mixed, spread};
use super::next::Next;
use crate::processor::{LOCAL_BANDWIDTH_GB_S, Processor};

/// Steps of a search with one order for all channels, and with an order for each.
const STEPS_SAME: i64 = 1 << 8;
const STEPS: i64 = 1 << 14;
/// Steps of the first order of the file between hosts.
const STEPS_FILE: i64 = 1 << 10;
/// Steps of all searches for a graph before NCCL is content with what it has.
const STEPS_IN_ALL: i64 = 1 << 19;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    pub(super) pattern: Pattern,
    count: usize,
    pub(super) channels: usize,
    /// The GPUs of each channel, one channel after another.
    intra: Vec<usize>,
    /// The network devices of each channel, in and out.
    inter: Vec<[usize; 2]>,
    pub(super) bandwidth: f32,
    pub(super) bandwidth_between_hosts: f32,
    pub(super) kind: PathType,
    pub(super) kind_to_nets: PathType,
    pub(super) cross_nic: u8,
    same_channels: bool,
    min_channels: usize,
    max_channels: usize,
    hops: i64,
}

impl State {
    fn total(&self) -> f32 {
        as_f32(self.channels) * self.bandwidth
    }

    fn order(&self, channel: usize) -> &[usize] {
        let start = channel * self.count;
        self.intra
            .get(start..start + self.count)
            .unwrap_or_default()
    }

    pub(super) fn orders(&self) -> Vec<Vec<usize>> {
        (0..self.channels)
            .map(|channel| self.order(channel).to_vec())
            .collect()
    }

    pub(super) fn nets(&self) -> Vec<[usize; 2]> {
        self.inter.iter().take(self.channels).copied().collect()
    }

    fn set_bandwidth(&mut self, bandwidth: f32) {
        self.bandwidth = bandwidth;
        self.bandwidth_between_hosts = bandwidth;
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

/// Where a channel goes back to, by its step; none where it does not.
#[derive(Debug, Clone, Copy)]
struct Back {
    to_net: Option<usize>,
    to_first: Option<usize>,
}

/// One search for a ring or tree.
pub(super) struct Job<'g> {
    graph: &'g Graph,
    paths: &'g Paths,
    count: usize,
    has_nvswitch: bool,
    between_hosts: bool,
    /// What the channels so far leave of the links, and of the network devices.
    capacity: Capacity,
    net_left: Vec<f32>,
    next: Next,
    /// Channels that hold a GPU, as bits.
    used: Vec<u64>,
    trial: State,
    best: State,
    /// Steps left; -1 when nothing better can be found.
    time: i64,
    known: Known,
    /// Searches so far.
    searches: u64,
    /// The GPUs of the present channel, as a number that does not tell in which order they came.
    members: u64,
    /// Channels that were completed in this search so far, better or not.
    completed: u64,
}

impl<'g> Job<'g> {
    pub(super) fn new(
        graph: &'g Graph,
        paths: &'g Paths,
        between_hosts: bool,
        pattern: Pattern,
        (min_channels, max_channels): (usize, usize),
    ) -> Self {
        let count = paths.gpus().len();
        let pattern = if count == 1 && pattern == Pattern::BalancedTree {
            Pattern::Tree
        } else {
            pattern
        };
        let nearest = |kinds: &mut dyn Iterator<Item = PathType>| {
            kinds.min().unwrap_or(PathType::Sys).min(PathType::Sys)
        };
        let kind = if count > 1 {
            nearest(&mut kinds(paths))
        } else {
            PathType::Loc
        };
        let kind_to_nets = if between_hosts {
            nearest(&mut net_kinds(paths))
        } else {
            PathType::Pix
        };
        let trial = State {
            pattern,
            count,
            channels: 0,
            intra: vec![0; count * max_channels],
            inter: vec![[0; 2]; max_channels],
            bandwidth: 0.0,
            bandwidth_between_hosts: 0.0,
            kind,
            kind_to_nets,
            cross_nic: 0,
            same_channels: true,
            min_channels,
            max_channels,
            hops: 0,
        };
        let nets = if between_hosts { paths.nets().len() } else { 0 };
        let capacity = Capacity::of(graph, paths, between_hosts);
        Self {
            graph,
            paths,
            count,
            has_nvswitch: graph.of_kind(PlaceKind::NvSwitch).next().is_some(),
            between_hosts,
            next: Next::of(graph, paths, &capacity, nets),
            capacity,
            net_left: (0..nets)
                .map(|net| net_of(graph, paths, net).map_or(0.0, |net| net.bandwidth_gb_s))
                .collect(),
            used: vec![0; count],
            best: trial.clone(),
            trial,
            time: 0,
            known: Known::default(),
            searches: 0,
            members: 0,
            completed: 0,
        }
    }

    /// `ncclTopoCompute`.
    pub(super) fn run(mut self) -> State {
        let capability = self.capability();
        let rules = self.graph.rules();
        let speeds = Speeds(if self.between_hosts {
            rules.speeds_between_hosts(capability)
        } else {
            rules.speeds(capability)
        });
        if self.trial.pattern == Pattern::Ring
            && self.nvlink_is_split()
            && self.trial.min_channels == 1
        {
            self.trial.min_channels = 2;
            self.best.min_channels = 2;
        }
        self.find(&speeds, capability);
        self.duplicate(capability);
        self.widen(&speeds);
        if self.best.channels == 0 {
            self.fall_back();
        }
        self.best
    }

    /// First pass: nearer types before farther ones, wider before narrower, until there is a solution.
    fn find(&mut self, speeds: &Speeds, capability: u32) {
        let (nearest, nearest_net) = (self.trial.kind, self.trial.kind_to_nets);
        let mut farthest = if self.count > 1 {
            kinds(self.paths).max().unwrap_or(PathType::Loc)
        } else {
            PathType::Sys
        };
        let mut farthest_net = PathType::Sys;
        if self.between_hosts {
            farthest_net = net_kinds(self.paths).max().unwrap_or(PathType::Loc);
            farthest = farthest_net;
        }
        if capability < 90 {
            farthest_net = PathType::Sys;
        }
        // Inside a host too, where it is the same search once more.
        let may_cross = self.paths.nets().len() > 1 && self.trial.pattern != Pattern::Tree;
        let mut at = self.first_speed(speeds);
        self.trial.set_bandwidth(speeds.at(at));
        let mut steps_left = STEPS_IN_ALL;
        let amd = self.graph.processor().is_some_and(Processor::is_amd);
        loop {
            steps_left -= self.search();
            if self.time == -1
                || as_f32(self.best.channels) * self.best.bandwidth_between_hosts
                    >= self.device_total()
            {
                return;
            }
            if self.trial.same_channels && !(amd && self.trial.kind == PathType::Sys) {
                self.trial.same_channels = false;
                continue;
            }
            self.trial.same_channels = true;
            steps_left += self.time;
            let nothing = self.best.channels == 0;
            if steps_left < 0 && !nothing {
                return;
            }
            if capability >= 90 && self.trial.pattern == Pattern::BalancedTree {
                self.trial.pattern = Pattern::Tree;
                continue;
            }
            self.trial.pattern = self.best.pattern;
            let limit = if self.between_hosts {
                self.trial.kind_to_nets
            } else {
                farthest
            };
            if self.trial.kind < limit && (nothing || self.trial.kind < self.best.kind) {
                self.trial.kind = farther(self.trial.kind);
                if self.trial.kind < PathType::Dis {
                    continue;
                }
            }
            self.trial.kind = nearest;
            if self.between_hosts
                && self.trial.kind_to_nets < farthest_net
                && (nothing
                    || self.trial.kind_to_nets < self.best.kind_to_nets
                    || self.trial.kind_to_nets < PathType::Pxn)
            {
                self.trial.kind_to_nets = farther(self.trial.kind_to_nets);
                if self.trial.kind_to_nets < PathType::Dis {
                    continue;
                }
            }
            self.trial.kind_to_nets = nearest_net;
            if may_cross && self.trial.cross_nic == 0 && self.best.pattern != Pattern::Tree {
                self.trial.cross_nic = 2;
                continue;
            }
            self.trial.cross_nic = 0;
            let close = nothing || speeds.at(at + 1) / self.best.bandwidth_between_hosts > 0.49;
            if at >= speeds.last() || !close {
                return;
            }
            at += 1;
            self.trial.set_bandwidth(speeds.at(at));
        }
    }

    /// The widest of `speeds` that a GPU can carry.
    fn first_speed(&self, speeds: &Speeds) -> usize {
        let mut total = self.device_total();
        let devices = if self.graph.rules().gpus_have_devices {
            self.graph.of_kind(PlaceKind::Dev).count()
        } else {
            self.count
        };
        if self.trial.pattern != Pattern::Ring && devices > 1 {
            // A tree need not close, so less of the total is enough.
            total *= as_f32(devices) / as_f32(devices - 1);
        }
        let least = as_f32(self.trial.min_channels);
        let widest = self.widest();
        speeds.first(|speed| speed <= widest && speed * least <= total)
    }

    /// The most that a channel may carry (`ncclTopoSearchInit`).
    fn widest(&self) -> f32 {
        if self.between_hosts {
            self.paths.widest_to_net_gb_s
        } else {
            self.paths.widest_gb_s
        }
    }

    /// Second pass: the same number of channels, wider.
    fn widen(&mut self, speeds: &Speeds) {
        self.trial = self.best.clone();
        let found = self.best.bandwidth_between_hosts;
        let mut at = speeds.first(|speed| speed <= found);
        let start = speeds.at(at);
        self.trial.set_bandwidth(start);
        self.trial.min_channels = self.best.channels;
        self.time = -1;
        while self.time != 0 && at > 0 && self.may_widen() {
            at -= 1;
            let speed = speeds.at(at);
            if self.best.pattern == Pattern::Ring {
                self.trial.set_bandwidth(speed);
            } else {
                self.trial.bandwidth = speed;
            }
            self.search();
        }
    }

    /// Whether NCCL tries more bandwidth: for a ring always, for a tree while that helped, and up to twice.
    fn may_widen(&self) -> bool {
        let same = (self.trial.bandwidth - self.best.bandwidth).abs() < f32::EPSILON;
        let is_narrow = self.trial.bandwidth < self.trial.bandwidth_between_hosts * 2.0;
        self.best.pattern == Pattern::Ring || (same && is_narrow)
    }

    /// The order of the file, where nothing was found.
    fn fall_back(&mut self) {
        let best = &mut self.best;
        best.channels = 1;
        for (gpu, place) in best.intra.iter_mut().take(self.count).enumerate() {
            *place = gpu;
        }
        best.bandwidth = 0.1;
        best.kind = PathType::Sys;
        let first = |gpu: usize| self.paths.nets_of_gpu(gpu).first().copied();
        if let (true, Some(into), Some(out)) = (
            self.between_hosts,
            first(0),
            first(self.count.saturating_sub(1)),
        ) {
            if let Some(nets) = best.inter.first_mut() {
                *nets = [into, out];
            }
            best.bandwidth_between_hosts = 0.1;
            best.kind_to_nets = PathType::Sys;
        }
    }

    /// Searches with the present trial; gives the steps that it was allowed.
    fn search(&mut self) -> i64 {
        let steps = if self.trial.same_channels {
            STEPS_SAME
        } else {
            STEPS
        };
        let asked = self.capacity.is_stable().then(|| self.asked());
        let known = asked.as_ref().and_then(|asked| self.known.search(asked));
        if let Some(left) = known.and_then(|tried| self.would_leave(tried)) {
            self.time = left;
            return steps;
        }
        self.time = steps;
        self.trial.channels = 0;
        self.searches += 1;
        let completed = self.completed;
        self.channel();
        if let Some(asked) = asked.filter(|_| self.time != -1) {
            let tried = Tried {
                left: self.time,
                completed: (self.completed > completed).then_some(self.trial.bandwidth),
            };
            self.known.keep_search(asked, tried);
        }
        steps
    }

    /// The steps that a search would leave that is as one that was tried; none where it may offer something new.
    /// What that one offered was compared with the best, which has only become better since.
    fn would_leave(&self, tried: Tried) -> Option<i64> {
        let is_no_better = tried
            .completed
            .is_none_or(|bandwidth| self.trial.bandwidth <= bandwidth && self.best.cross_nic == 0);
        is_no_better.then_some(tried.left)
    }

    /// What decides the search that is about to begin.
    fn asked(&self) -> Asked {
        let trial = &self.trial;
        let farthest = |kinds: &mut dyn Iterator<Item = PathType>, allowed: PathType| {
            let kinds = kinds.filter(|kind| *kind <= allowed);
            kinds.max().unwrap_or(PathType::Loc)
        };
        let kind = farthest(&mut kinds(self.paths), trial.kind);
        let between = self.between_hosts;
        Asked {
            pattern: trial.pattern,
            fits: if between {
                let bandwidths = [trial.bandwidth, trial.bandwidth_between_hosts];
                bandwidths
                    .map(|bandwidth| bandwidth.to_bits() as usize)
                    .to_vec()
            } else {
                self.capacity.fits(trial.bandwidth)
            },
            kinds: [
                kind,
                if between {
                    farthest(&mut all_net_kinds(self.paths), trial.kind_to_nets)
                } else {
                    PathType::Loc
                },
            ],
            cross_nic: if between { trial.cross_nic } else { 0 },
            same_channels: trial.same_channels,
            min_channels: trial.min_channels,
        }
    }

    /// `ncclTopoSearchRec`: the next channel.
    fn channel(&mut self) {
        if self.between_hosts {
            self.channel_from_nets();
            return;
        }
        let closes = self.trial.pattern == Pattern::Ring;
        let back = Back {
            to_net: None,
            to_first: closes.then(|| self.count.saturating_sub(1)),
        };
        let is_first = self.trial.channels == 0;
        if is_first {
            self.start(0, Order::File, back);
        } else {
            self.start(self.replayed(0), Order::Replay, back);
        }
        if is_first || !self.trial.same_channels {
            for gpu in 0..self.count {
                self.start(gpu, Order::Search, back);
            }
        }
    }

    /// The GPU of the channel before at a step.
    fn replayed(&self, step: usize) -> usize {
        let before = self.trial.channels.saturating_sub(1);
        self.trial
            .order(before)
            .get(step)
            .copied()
            .unwrap_or_default()
    }

    fn start(&mut self, gpu: usize, order: Order, back: Back) {
        self.mark(gpu);
        self.step(gpu, 0, order, back);
        self.mark(gpu);
    }

    /// Marks a GPU as used by the present channel, or no more.
    fn mark(&mut self, gpu: usize) {
        let flag = 1 << self.trial.channels;
        if let Some(used) = self.used.get_mut(gpu) {
            *used ^= flag;
        }
        self.members ^= spread(gpu);
    }

    /// `ncclTopoSearchRecNet`: the next channel, from each network device.
    fn channel_from_nets(&mut self) {
        let bandwidth = self.trial.bandwidth_between_hosts.trunc();
        let back = Back {
            to_net: Some(match self.trial.pattern {
                Pattern::Ring => self.count.saturating_sub(1),
                Pattern::BalancedTree | Pattern::Tree => 0,
            }),
            to_first: None,
        };
        let nets = self.nets_to_try(None);
        let channel = self.trial.channels;
        for place in 0..nets.len() {
            let Some(net) = nets.get((channel + place) % nets.len()).copied() else {
                continue;
            };
            if self.net_left.get(net).is_none_or(|left| *left < bandwidth) {
                continue;
            }
            if self.trial.pattern == Pattern::Ring && self.trial.cross_nic == 2 && channel & 1 == 1
            {
                let before = self.trial.inter.get(channel - 1).map(|nets| nets[1]);
                if before != Some(net) {
                    continue;
                }
            }
            if let Some(nets) = self.trial.inter.get_mut(channel) {
                nets[0] = net;
            }
            self.charge_net(net, bandwidth);
            self.channel_from_net(net, back);
            self.charge_net(net, -bandwidth);
        }
    }

    /// One channel from one network device.
    fn channel_from_net(&mut self, net: usize, back: Back) {
        if self.trial.channels > 0 && self.trial.same_channels {
            self.start_from_net(net, self.replayed(0), Order::Replay, back);
            return;
        }
        if self.trial.channels == 0 && !self.has_nvswitch {
            // The order of the file first, which does not count.
            let time = std::mem::replace(&mut self.time, STEPS_FILE);
            self.start_from_net(net, 0, Order::File, back);
            self.time = if self.time == -1 { -1 } else { time };
        }
        let own = self.paths.gpu_of_net(net);
        if let Some(gpu) = own {
            self.start_from_net(net, gpu, Order::Search, back);
        }
        let (near, kind) = self.paths.gpus_near_net(net);
        if kind == PathType::Dis {
            return;
        }
        for gpu in near.into_iter().filter(|gpu| Some(*gpu) != own) {
            self.start_from_net(net, gpu, Order::Search, back);
        }
    }

    fn start_from_net(&mut self, net: usize, gpu: usize, order: Order, back: Back) {
        if self.take(End::Net(net), End::Gpu(gpu), 1.0) {
            self.start(gpu, order, back);
            self.give_back(End::Net(net), End::Gpu(gpu), 1.0);
        }
    }

    /// Takes a bandwidth from all network devices of an adapter's port.
    fn charge_net(&mut self, net: usize, bandwidth: f32) {
        let of = |net| net_of(self.graph, self.paths, net).map(|net| (net.asic, net.port));
        let own = of(net);
        for (other, left) in self.net_left.iter_mut().enumerate() {
            if net_of(self.graph, self.paths, other).map(|net| (net.asic, net.port)) == own {
                *left -= bandwidth;
            }
        }
    }

    /// The network devices to try, those that NCCL prefers first (`ncclTopoSelectNets`): of one GPU, or of all.
    fn nets_to_try(&self, gpu: Option<usize>) -> Vec<usize> {
        let gpus = || (0..self.count).filter(move |other| gpu.is_none_or(|gpu| gpu == *other));
        let mut nets: Vec<usize> = Vec::new();
        let add = |nets: &mut Vec<usize>, net: usize| {
            if !nets.contains(&net) {
                nets.push(net);
            }
        };
        for gpu in gpus() {
            for net in self.paths.nets_of_gpu(gpu) {
                add(&mut nets, *net);
            }
        }
        let mut kind = PathType::Loc;
        while kind <= self.trial.kind_to_nets {
            for gpu in gpus() {
                for net in 0..self.paths.nets().len() {
                    if self.paths.to_net(gpu, net).map(|path| path.kind) == Some(kind) {
                        add(&mut nets, net);
                    }
                }
            }
            kind = farther(kind);
        }
        nets
    }

    /// Whether a channel that came by one network device may go out by another (`ncclTopoSearchCheckNet`).
    fn may_leave_by(&self, net: usize, step: usize) -> bool {
        let channel = self.trial.channels;
        let nets = |channel: usize| self.trial.inter.get(channel).copied().unwrap_or_default();
        let start = nets(channel)[0];
        let of = |net| net_of(self.graph, self.paths, net);
        let (Some(out), Some(into)) = (of(net), of(start)) else {
            return false;
        };
        if out.plane.zip(into.plane).is_some_and(|(a, b)| a != b) {
            return false;
        }
        if self.trial.pattern == Pattern::Tree && net != start {
            return false;
        }
        if self.trial.pattern == Pattern::Ring && self.trial.cross_nic == 2 {
            if channel & 1 == 1 && net != nets(channel - 1)[0] {
                return false;
            }
        } else if self.trial.cross_nic == 0 {
            let same = match out.rail.zip(into.rail) {
                Some((a, b)) => a == b,
                None => (out.asic, out.port) == (into.asic, into.port),
            };
            if !same {
                return false;
            }
        }
        self.trial.pattern != Pattern::BalancedTree || step == 0 || net == nets(channel)[1]
    }

    /// `ncclTopoSearchRecGpu`: `gpu` is the one at `step`.
    fn step(&mut self, gpu: usize, step: usize, order: Order, back: Back) {
        if self.time <= 0 {
            return;
        }
        self.time -= 1;
        let place = self.trial.channels * self.count + step;
        if let Some(place) = self.trial.intra.get_mut(place) {
            *place = gpu;
        }
        // What goes on from here in the order of the file or of the channel before does not depend on this state alone.
        let state = (order == Order::Search && self.capacity.is_stable())
            .then(|| self.state(gpu, step, back));
        let known = state.and_then(|state| self.known.dead_end(state));
        if let Some(steps) = known {
            self.time = (self.time - steps).max(0);
            return;
        }
        let (time, completed) = (self.time, self.completed);
        self.go_on(gpu, step, order, back);
        // Where the steps ran out, it is not known how many there are.
        if let Some(state) = state
            && self.time > 0
            && self.completed == completed
        {
            self.known.keep_dead_end(state, time - self.time);
        }
    }

    /// All that decides what can follow `gpu` at `step`, as a number.
    fn state(&self, gpu: usize, step: usize, back: Back) -> u64 {
        let channel = self.trial.channels;
        let first = self
            .trial
            .order(channel)
            .first()
            .copied()
            .unwrap_or_default();
        let mut state = self.capacity.left_as_number() ^ mixed(self.members);
        let mut add = |number: usize| {
            state = mixed(state.rotate_left(7) ^ (number as u64).wrapping_add(0x9e37_79b9));
        };
        add(gpu | step << 12 | first << 24);
        add(back.to_net.map_or(0, |step| step + 1) | back.to_first.map_or(0, |step| step + 1) << 12);
        if self.between_hosts {
            let nets = |channel: usize| self.trial.inter.get(channel).copied().unwrap_or_default();
            let (own, before) = (
                nets(channel),
                channel.checked_sub(1).map(nets).unwrap_or_default(),
            );
            add(channel);
            add(own[0] | own[1] << 16);
            add(before[0] | before[1] << 16);
        }
        mixed(state ^ spread(usize::try_from(self.searches).unwrap_or_default()))
    }

    fn go_on(&mut self, gpu: usize, step: usize, order: Order, back: Back) {
        if back.to_net == Some(step) {
            self.step_to_net(gpu, step, order, back);
        } else if step + 1 < self.count {
            self.step_to_next(gpu, step, order, back);
        } else if back.to_first == Some(step) {
            let first = self.trial.order(self.trial.channels).first().copied();
            let first = End::Gpu(first.unwrap_or_default());
            if self.take(End::Gpu(gpu), first, 1.0) {
                self.complete();
                self.give_back(End::Gpu(gpu), first, 1.0);
            }
        } else {
            self.complete();
        }
    }

    /// Back to a network device, and on from the same GPU.
    fn step_to_net(&mut self, gpu: usize, step: usize, order: Order, back: Back) {
        let is_balanced = self.trial.pattern == Pattern::BalancedTree;
        // The first two GPUs carry half each.
        let share = if is_balanced { 0.5 } else { 1.0 };
        let next = Back {
            to_net: (is_balanced && step == 0).then_some(1),
            ..back
        };
        for net in self.nets_to_try(Some(gpu)) {
            if !self.may_leave_by(net, step) {
                continue;
            }
            if self.take(End::Gpu(gpu), End::Net(net), share) {
                if let Some(nets) = self.trial.inter.get_mut(self.trial.channels) {
                    nets[1] = net;
                }
                self.step(gpu, step, order, next);
                self.give_back(End::Gpu(gpu), End::Net(net), share);
            }
        }
    }

    fn step_to_next(&mut self, gpu: usize, step: usize, order: Order, back: Back) {
        match order {
            Order::File => self.try_next(gpu, step + 1, step, order, back),
            Order::Replay => {
                let before = self.replayed(step + 1);
                self.try_next(gpu, before, step, order, back);
            }
            Order::Search if self.has_nvswitch => {
                for next in self.neighbours_of(gpu) {
                    self.try_next(gpu, next, step, order, back);
                }
            }
            Order::Search if back.to_net.is_none() => {
                for place in 0..self.count {
                    let Some(next) = self.next.after(gpu, None).get(place).copied() else {
                        return;
                    };
                    if self.is_free(next) {
                        self.try_next(gpu, next, step, order, back);
                    }
                }
            }
            Order::Search => {
                let start = self
                    .trial
                    .inter
                    .get(self.trial.channels)
                    .map(|nets| nets[0]);
                let after = self.next.after(gpu, start).iter().copied();
                let mut free: Vec<usize> = after.filter(|next| self.is_free(*next)).collect();
                let leaves_next = back.to_net == Some(step + 1);
                if !leaves_next && self.next.are_alike(gpu, &free) {
                    free.reverse();
                }
                for next in free {
                    self.try_next(gpu, next, step, order, back);
                }
            }
        }
    }

    fn is_free(&self, gpu: usize) -> bool {
        let flag = 1 << self.trial.channels;
        self.used.get(gpu).is_some_and(|used| used & flag == 0)
    }

    fn try_next(&mut self, gpu: usize, next: usize, step: usize, order: Order, back: Back) {
        if self.take(End::Gpu(gpu), End::Gpu(next), 1.0) {
            self.mark(next);
            self.step(next, step + 1, order, back);
            self.mark(next);
            self.give_back(End::Gpu(gpu), End::Gpu(next), 1.0);
        }
    }

    /// Below NVSwitches only neighbours are tried, the last named first.
    fn neighbours_of(&self, gpu: usize) -> Vec<usize> {
        let before = (gpu + self.count - 1) % self.count;
        let after = (gpu + 1) % self.count;
        let mut wanted = match self.trial.pattern {
            Pattern::Ring => vec![after, before],
            Pattern::BalancedTree => vec![before, after],
            Pattern::Tree => vec![after],
        };
        wanted.dedup();
        wanted.reverse();
        let reached = self.next.after(gpu, None);
        wanted.retain(|next| reached.contains(next) && self.is_free(*next));
        wanted
    }

    /// The channel is complete: keep it if it is the best, and try one more.
    fn complete(&mut self) {
        if self.time <= 0 {
            return;
        }
        self.time -= 1;
        self.completed += 1;
        self.trial.channels += 1;
        let full = self.trial.channels >= self.trial.max_channels;
        if self.is_better() {
            self.best.clone_from(&self.trial);
            if self.trial.channels == self.trial.max_channels {
                self.time = -1;
            }
        }
        if !full {
            let members = std::mem::take(&mut self.members);
            self.channel();
            self.members = members;
        }
        self.trial.channels -= 1;
    }

    /// `ncclTopoCompareGraphs`.
    fn is_better(&self) -> bool {
        let (trial, best) = (&self.trial, &self.best);
        if trial.channels < trial.min_channels {
            return false;
        }
        if trial.total() > best.total() {
            return true;
        }
        trial.total() >= best.total()
            && trial.pattern == best.pattern
            && trial.cross_nic == best.cross_nic
            && trial.hops < best.hops
    }

    /// Takes a share of the trial's bandwidth on the path between two ends, if it is there.
    fn take(&mut self, from: End, to: End, share: f32) -> bool {
        let both_ways = self.trial.pattern != Pattern::Ring;
        let (bandwidth, kind) = self.wanted(from, to, share);
        let taken = self.capacity.take(from, to, (bandwidth, kind, both_ways));
        self.trial.hops += taken.map_or(0, as_i64);
        taken.is_some()
    }

    /// Undoes [`Job::take`].
    fn give_back(&mut self, from: End, to: End, share: f32) {
        let (bandwidth, _) = self.wanted(from, to, share);
        self.trial.hops -= as_i64(self.capacity.give_back(from, to, bandwidth));
    }

    fn wanted(&self, from: End, to: End, share: f32) -> (f32, PathType) {
        let is_inside = matches!((from, to), (End::Gpu(_), End::Gpu(_)));
        if is_inside {
            (self.trial.bandwidth, self.trial.kind)
        } else {
            let bandwidth = self.trial.bandwidth_between_hosts * share;
            (bandwidth, self.trial.kind_to_nets)
        }
    }

    fn capability(&self) -> u32 {
        let kind = if self.graph.rules().gpus_have_devices {
            PlaceKind::Dev
        } else {
            PlaceKind::Gpu
        };
        let nodes = self
            .graph
            .of_kind(kind)
            .filter_map(|id| self.graph.node(id));
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
        if self.count == 1 && !self.between_hosts {
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
        let channels = best.channels;
        let narrow = capability > 80 && best.bandwidth < 50.0 && channels > 4;
        if channels == 0 || best.bandwidth < 25.0 || narrow {
            return;
        }
        let wanted = (channels * 2).min(best.max_channels);
        let times = as_f32(wanted.div_ceil(channels));
        best.bandwidth /= times;
        best.bandwidth_between_hosts /= times;
        let copied = (wanted - channels) * best.count;
        best.intra.copy_within(..copied, channels * best.count);
        best.inter.copy_within(..wanted - channels, channels);
        best.channels = wanted;
    }
}

/// A network device by its place.
fn net_of<'g>(graph: &'g Graph, paths: &Paths, net: usize) -> Option<&'g Net> {
    graph.node(*paths.nets().get(net)?)?.net.as_ref()
}

/// The types of the paths between different GPUs.
fn kinds(paths: &Paths) -> impl Iterator<Item = PathType> + '_ {
    let count = paths.gpus().len();
    (0..count).flat_map(move |from| {
        let others = (0..count).filter(move |to| *to != from);
        others.filter_map(move |to| paths.between(from, to).map(|path| path.kind))
    })
}

/// The types of the paths from GPUs to network devices.
fn net_kinds(paths: &Paths) -> impl Iterator<Item = PathType> + '_ {
    let (gpus, nets) = (paths.gpus().len(), paths.nets().len());
    (0..gpus).flat_map(move |gpu| {
        (0..nets).filter_map(move |net| paths.to_net(gpu, net).map(|path| path.kind))
    })
}

/// The same, both ways.
fn all_net_kinds(paths: &Paths) -> impl Iterator<Item = PathType> + '_ {
    let (gpus, nets) = (paths.gpus().len(), paths.nets().len());
    let back = (0..nets).flat_map(move |net| {
        (0..gpus).filter_map(move |gpu| paths.from_net(net, gpu).map(|path| path.kind))
    });
    net_kinds(paths).chain(back)
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
