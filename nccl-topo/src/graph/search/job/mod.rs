//! One search for a ring or tree (`search.cc` `ncclTopoCompute`).

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::graph::nodes::{Graph, PlaceKind};
use crate::graph::path_type::PathType;
use crate::graph::paths::Paths;
use crate::graph::search::capacity::{Capacity, End};
use crate::graph::search::known::{Asked, Fruitless, Known, Offer, Tried};
use crate::graph::search::next::{Choice, Next};
use crate::processor::Processor;

mod kinds;
mod limits;
mod nets;
mod state;
mod walk;

use kinds::{all_net_kinds, farther, kinds, net_kinds};
use limits::Speeds;
pub(super) use limits::capability;
use nets::net_of;
use state::as_f32;
pub(super) use state::{Pattern, State};

/// What the first two GPUs of a tree carry each of its bandwidth to network devices.
pub(super) const HALF: f32 = 0.5;

/// Steps of a search with one order for all channels, and with an order for each.
const STEPS_SAME: i64 = 1 << 8;
const STEPS: i64 = 1 << 14;
/// Steps of all searches for a graph before NCCL is content with what it has.
const STEPS_IN_ALL: i64 = 1 << 19;

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
    /// The adapter and port of each network device.
    ports: Vec<Option<(u64, i64)>>,
    next: Next,
    /// The network devices to try from each GPU and from all, once they were asked for, by their farthest type.
    nets_to_try: BTreeMap<(Option<usize>, PathType), Rc<[usize]>>,
    /// Channels that hold a GPU, as bits.
    used: Vec<u64>,
    trial: State,
    best: State,
    /// Steps left; -1 when nothing better can be found.
    time: i64,
    known: Known,
    /// Searches so far.
    searches: u64,
    /// Steps that were made and not passed over.
    #[cfg(test)]
    walked: u64,
    /// The GPUs of the present channel, as a number that does not tell in which order they came.
    members: u64,
    /// Channels that were completed in this search so far, better or not.
    completed: u64,
    /// What was found to follow so far, for each place of the present way that is to be kept.
    following: Vec<Following>,
    /// The GPUs that are still to be tried, of each step of the present way one after another.
    choices: Vec<Choice>,
}

/// What was found to follow some channels so far.
struct Following {
    /// The channels, and the links that they take.
    channels: usize,
    hops: i64,
    offer: Offer,
}

/// What is the same for the ring and the tree of a machine.
pub(super) struct Ready {
    capacity: Capacity,
    next: Next,
}

impl Ready {
    pub(super) fn of(graph: &Graph, paths: &Paths, between_hosts: bool) -> Self {
        let nets = if between_hosts { paths.nets().len() } else { 0 };
        let capacity = Capacity::of(graph, paths, between_hosts);
        Self {
            next: Next::of(paths, &capacity, nets),
            capacity,
        }
    }
}

impl<'g> Job<'g> {
    pub(super) fn new(
        (graph, paths): (&'g Graph, &'g Paths),
        ready: Ready,
        between_hosts: bool,
        pattern: Pattern,
        (min_channels, max_channels): (usize, usize),
    ) -> Self {
        let Ready { mut capacity, next } = ready;
        capacity.reset();
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
        Self {
            graph,
            paths,
            count,
            has_nvswitch: graph.of_kind(PlaceKind::NvSwitch).next().is_some(),
            between_hosts,
            next,
            capacity,
            net_left: (0..nets)
                .map(|net| net_of(graph, paths, net).map_or(0.0, |net| net.bandwidth_gb_s))
                .collect(),
            ports: (0..nets)
                .map(|net| net_of(graph, paths, net).map(|net| (net.asic, net.port)))
                .collect(),
            nets_to_try: BTreeMap::new(),
            used: vec![0; count],
            best: trial.clone(),
            trial,
            time: 0,
            known: Known::default(),
            searches: 0,
            #[cfg(test)]
            walked: 0,
            members: 0,
            completed: 0,
            following: Vec::new(),
            choices: Vec::new(),
        }
    }

    /// One that tries all that NCCL tries.
    #[cfg(test)]
    pub(super) fn made_plain(mut self) -> Self {
        self.capacity.make_plain();
        self
    }

    /// `ncclTopoCompute`; with what can serve for another pattern.
    pub(super) fn run(mut self) -> (State, Ready) {
        self.run_through();
        let ready = Ready {
            capacity: self.capacity,
            next: self.next,
        };
        (self.best, ready)
    }

    /// Searches, and leaves the best that it found.
    fn run_through(&mut self) {
        let capability = capability(self.graph);
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
    }

    /// The same with the steps that it made.
    #[cfg(test)]
    pub(super) fn run_counting(mut self) -> (State, u64) {
        self.run_through();
        (self.best, self.walked)
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
        let between = self.trial.bandwidth_between_hosts;
        self.capacity
            .begin([self.trial.bandwidth, between, between * HALF]);
        let asked = self.capacity.is_stable().then(|| self.asked());
        let known = asked.as_ref().and_then(|asked| self.known.search(asked));
        if let Some(left) = known.and_then(|tried| self.would_leave(tried)) {
            self.time = left;
            return steps;
        }
        let fruitless = asked.as_ref().map(|asked| self.without_completion(asked));
        let known = fruitless
            .as_ref()
            .and_then(|asked| self.known.fruitless(asked));
        if let Some(left) = known.and_then(|known| known.leaves_of(steps)) {
            self.time = left;
            return steps;
        }
        self.time = steps;
        self.trial.channels = 0;
        self.searches += 1;
        self.known.forget_offers();
        let completed = self.completed;
        self.channel();
        if let Some(asked) = fruitless.filter(|_| self.completed == completed) {
            let tried = Fruitless {
                steps: steps - self.time,
                are_all: self.time > 0,
            };
            self.known.keep_fruitless(asked, tried);
        }
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

    /// What decides a search that completes no channel: what its channels have in common does not matter, nor the types of
    /// paths that are too narrow.
    fn without_completion(&self, asked: &Asked) -> Asked {
        Asked {
            kinds: [
                self.farthest_inside(self.trial.kind),
                if self.between_hosts {
                    self.farthest_to_nets(self.trial.kind_to_nets)
                } else {
                    PathType::Loc
                },
            ],
            cross_nic: if self.trial.pattern == Pattern::Tree {
                // A tree leaves by the network device that it came by.
                0
            } else {
                asked.cross_nic
            },
            same_channels: false,
            min_channels: 0,
            ..asked.clone()
        }
    }

    /// The farthest type, up to one, of the paths between GPUs that are wide enough for a channel.
    fn farthest_inside(&self, allowed: PathType) -> PathType {
        let all = (0..self.count).flat_map(|from| {
            let others = (0..self.count).filter(move |to| *to != from);
            others.map(move |to| (End::Gpu(from), End::Gpu(to)))
        });
        self.farthest(all, (self.trial.bandwidth, allowed))
    }

    /// The same of the paths between GPUs and network devices.
    fn farthest_to_nets(&self, allowed: PathType) -> PathType {
        let nets = self.paths.nets().len();
        let all = (0..self.count).flat_map(|gpu| {
            let ends = (0..nets).map(move |net| (End::Gpu(gpu), End::Net(net)));
            ends.flat_map(|(gpu, net)| [(gpu, net), (net, gpu)])
        });
        // The least that is asked of such a path.
        let share = if self.trial.pattern == Pattern::BalancedTree {
            HALF
        } else {
            1.0
        };
        self.farthest(all, (self.trial.bandwidth_between_hosts * share, allowed))
    }

    fn farthest(
        &self,
        pairs: impl Iterator<Item = (End, End)>,
        (bandwidth, allowed): (f32, PathType),
    ) -> PathType {
        let both_ways = self.trial.pattern != Pattern::Ring;
        let mut farthest = PathType::Loc;
        for (from, to) in pairs {
            let kind = self.capacity.kind(from, to, both_ways);
            // The width is asked last: mostly the type is known by then.
            if kind > farthest && kind <= allowed && self.capacity.could_take(from, to, bandwidth) {
                farthest = kind;
            }
        }
        farthest
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
