//! From GPU to GPU, channel by channel (`ncclTopoSearchRecGpu`).

use super::state::{Pattern, as_f32, as_i64};
use super::{Following, Job};
use crate::graph::path_type::PathType;
use crate::graph::search::capacity::End;
use crate::graph::search::known::{Offer, mixed, spread};
use crate::graph::search::twins::Mark;

/// Which GPU comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// That of the file.
    File,
    /// That of the channel before.
    Replay,
    /// The best first.
    Search,
}

/// Where a channel goes back to, by its step; none where it does not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Back {
    pub(super) to_net: Option<usize>,
    pub(super) to_first: Option<usize>,
}

/// The most marks of a state: the last GPU and the first, the network devices of this channel and of the one before.
const MOST_MARKS: usize = 6;

/// What is said of GPUs and network devices besides what is left of links; without a place on the heap, for each step has some.
#[derive(Debug, Clone, Copy)]
struct Marks {
    all: [(End, Mark); MOST_MARKS],
    count: usize,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            all: [(End::Gpu(0), Mark::Last); MOST_MARKS],
            count: 0,
        }
    }
}

impl Marks {
    fn push(&mut self, end: End, mark: Mark) {
        if let Some(place) = self.all.get_mut(self.count) {
            *place = (end, mark);
            self.count += 1;
        }
    }

    fn as_slice(&self) -> &[(End, Mark)] {
        self.all.get(..self.count).unwrap_or_default()
    }
}

impl Job<'_> {
    /// `ncclTopoSearchRec`: the next channel.
    pub(super) fn channel(&mut self) {
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
            self.once(|job| {
                for gpu in 0..job.count {
                    job.start(gpu, Order::Search, back);
                }
            });
        }
    }

    /// Tries all that can follow the channels so far, whatever their order; passed over where that was tried with as much
    /// left of all links, and offered nothing that would be better now.
    pub(super) fn once(&mut self, try_all: impl FnOnce(&mut Self)) {
        if self.time <= 0 {
            return;
        }
        let is_kept = self.trial.channels > 0 && self.capacity.is_stable();
        let state = is_kept.then(|| self.state_of_channels());
        self.once_from(state, try_all);
    }

    /// The same from a state; none is not known again.
    fn once_from(&mut self, state: Option<u64>, try_all: impl FnOnce(&mut Self)) {
        if let Some(offer) = state.and_then(|state| self.known.offer(state))
            && !self.may_be_better(offer)
        {
            self.time = (self.time - offer.steps).max(0);
            // What is passed over completes channels all the same, so what led here is no dead end.
            self.completed += u64::from(offer.all().next().is_some());
            if let Some(following) = self.following.last_mut() {
                let channels = self.trial.channels - following.channels;
                let hops = self.trial.hops - following.hops;
                for (more, links) in offer.all() {
                    following.offer.add(channels + more, hops + links);
                }
            }
            return;
        }
        self.following.push(Following {
            channels: self.trial.channels,
            hops: self.trial.hops,
            offer: Offer::default(),
        });
        let time = self.time;
        try_all(self);
        let Some(Following {
            channels,
            hops,
            mut offer,
        }) = self.following.pop()
        else {
            return;
        };
        if let Some(before) = self.following.last_mut() {
            for (more, links) in offer.all() {
                let more = channels - before.channels + more;
                before.offer.add(more, hops - before.hops + links);
            }
        }
        // Where the steps ran out, not all was tried.
        if let Some(state) = state
            && self.time > 0
        {
            offer.steps = time - self.time;
            self.known.keep_offer(state, offer);
        }
    }

    /// Whether something that can follow would be better than the best so far, which only becomes better.
    fn may_be_better(&self, offer: &Offer) -> bool {
        let (trial, best) = (&self.trial, &self.best);
        offer.all().any(|(more, links)| {
            let total = as_f32(trial.channels + more) * trial.bandwidth;
            total > best.total() || (total >= best.total() && trial.hops + links < best.hops)
        })
    }

    /// All that decides what can follow the channels so far, as a number.
    fn state_of_channels(&mut self) -> u64 {
        let channel = self.trial.channels;
        let alike = self.alike(&self.nets_before());
        let mut state = alike.unwrap_or_else(|| self.capacity.left_as_number());
        let mut add = |number: u64| {
            state = mixed(state.rotate_left(7) ^ number.wrapping_add(0x9e37_79b9));
        };
        add(channel as u64);
        if self.between_hosts && alike.is_none() {
            let before = channel
                .checked_sub(1)
                .and_then(|before| self.trial.inter.get(before))
                .copied()
                .unwrap_or_default();
            add((before[0] | before[1] << 16) as u64);
            for left in &self.net_left {
                add(u64::from(left.to_bits()));
            }
        }
        state
    }

    /// What is left of all links, with these marks of GPUs and network devices, as a number that is the same for places
    /// that are alike; none where it is not known which are.
    fn alike(&mut self, marks: &Marks) -> Option<u64> {
        if self.has_nvswitch {
            return None;
        }
        let twins = self.capacity.twins()?;
        if marks.as_slice().is_empty() {
            return Some(twins.as_number());
        }
        twins.for_a_while();
        for (end, mark) in marks.as_slice() {
            match end {
                End::Gpu(gpu) => twins.mark_gpu(*gpu, *mark),
                End::Net(net) => twins.mark_net_for_a_while(*net, *mark),
            }
        }
        let number = twins.as_number();
        twins.give_back();
        Some(number)
    }

    /// The network devices of the channel before, where they count: where each two are to change them (`may_leave_by`).
    fn nets_before(&self) -> Marks {
        let channel = self.trial.channels;
        let counts = self.between_hosts
            && self.trial.pattern == Pattern::Ring
            && self.trial.cross_nic == 2
            && channel & 1 == 1;
        let before = channel.checked_sub(1).filter(|_| counts);
        let before = before.and_then(|before| self.trial.inter.get(before));
        let mut marks = Marks::default();
        if let Some([into, out]) = before {
            marks.push(End::Net(*into), Mark::BeforeInto);
            marks.push(End::Net(*out), Mark::BeforeOut);
        }
        marks
    }

    /// The GPU of the channel before at a step.
    pub(super) fn replayed(&self, step: usize) -> usize {
        let before = self.trial.channels.saturating_sub(1);
        self.trial
            .order(before)
            .get(step)
            .copied()
            .unwrap_or_default()
    }

    pub(super) fn start(&mut self, gpu: usize, order: Order, back: Back) {
        self.mark(gpu);
        self.step(gpu, 0, order, back);
        self.mark(gpu);
    }

    /// Marks a GPU as used by the present channel, or no more.
    fn mark(&mut self, gpu: usize) {
        let flag = 1 << self.trial.channels;
        let Some(used) = self.used.get_mut(gpu) else {
            return;
        };
        *used ^= flag;
        let is_used = *used & flag != 0;
        self.members ^= spread(gpu);
        if let Some(twins) = self.capacity.twins() {
            if is_used {
                twins.for_a_while();
                twins.mark_gpu(gpu, Mark::Used);
            } else {
                twins.give_back();
            }
        }
    }

    /// `ncclTopoSearchRecGpu`: `gpu` is the one at `step`.
    pub(super) fn step(&mut self, gpu: usize, step: usize, order: Order, back: Back) {
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
        #[cfg(test)]
        {
            self.walked += 1;
        }
        let (time, completed) = (self.time, self.completed);
        // Between hosts with an order for each channel, the GPUs so far decide what follows, and not their order.
        let offering = state.filter(|_| self.between_hosts && !self.trial.same_channels);
        match offering.and_then(|state| self.offering(state, back)) {
            Some(state) => self.once_from(Some(state), |job| job.go_on(gpu, step, order, back)),
            None => self.go_on(gpu, step, order, back),
        }
        // Where the steps ran out, it is not known how many there are.
        if let Some(state) = state
            && self.time > 0
            && self.completed == completed
        {
            self.known.keep_dead_end(state, time - self.time);
        }
    }

    /// All that decides what can follow `gpu` at `step`, as a number.
    fn state(&mut self, gpu: usize, step: usize, back: Back) -> u64 {
        let channel = self.trial.channels;
        // Only a ring inside a host goes back to its first GPU.
        let first = back
            .to_first
            .and(self.trial.order(channel).first().copied());
        let nets = self.trial.inter.get(channel).copied().unwrap_or_default();
        // By which it left counts where a tree is to come in by its second GPU.
        let has_left = self.trial.pattern == Pattern::BalancedTree && back.to_net != Some(0);
        let mut marks = self.nets_before();
        marks.push(End::Gpu(gpu), Mark::Last);
        if let Some(first) = first {
            marks.push(End::Gpu(first), Mark::First);
        }
        if self.between_hosts {
            marks.push(End::Net(nets[0]), Mark::Into);
            if has_left {
                marks.push(End::Net(nets[1]), Mark::Out);
            }
        }
        if let Some(alike) = self.alike(&marks) {
            let back = back.to_net.map_or(0, |step| step + 1)
                | back.to_first.map_or(0, |step| step + 1) << 12;
            let parity = marks.as_slice().len() << 40;
            return mixed(alike ^ spread(step | back << 12 | parity) ^ mixed(self.searches));
        }
        let mut state = self.capacity.left_as_number() ^ mixed(self.members);
        let mut add = |number: usize| {
            state = mixed(state.rotate_left(7) ^ (number as u64).wrapping_add(0x9e37_79b9));
        };
        add(gpu | step << 12 | first.unwrap_or_default() << 24);
        add(back.to_net.map_or(0, |step| step + 1) | back.to_first.map_or(0, |step| step + 1) << 12);
        if self.between_hosts {
            add(nets[0] | if has_left { nets[1] } else { 0 } << 16);
            for (net, _) in self.nets_before().as_slice() {
                if let End::Net(net) = net {
                    add(*net + 1);
                }
            }
        }
        mixed(state ^ mixed(self.searches))
    }

    /// What decides besides `state` what can follow in this channel and the next ones, with the state as one number; none
    /// where places that are alike are not known.
    fn offering(&mut self, state: u64, back: Back) -> Option<u64> {
        let channel = self.trial.channels;
        let nets = self.trial.inter.get(channel).copied().unwrap_or_default();
        let mut marks = Marks::default();
        marks.push(End::Net(nets[0]), Mark::Into);
        // By which it went out, once it did.
        if back.to_net.is_none() {
            marks.push(End::Net(nets[1]), Mark::Out);
        }
        let alike = self.alike(&marks)?;
        Some(mixed(state ^ mixed(alike ^ spread(channel | 1 << 30))))
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
            Order::Search => match back.to_net {
                Some(to_net) => self.try_on_way_to_net(gpu, step, back, to_net),
                None => {
                    let count = self.next.after(gpu).len();
                    for place in 0..count {
                        let Some(next) = self.next.after(gpu).get(place).copied() else {
                            return;
                        };
                        if self.is_free(next) {
                            self.try_next(gpu, next, step, order, back);
                        }
                    }
                }
            },
        }
    }

    /// The next GPUs where the channel goes back to a network device at step `to_net`.
    fn try_on_way_to_net(&mut self, gpu: usize, step: usize, back: Back, to_net: usize) {
        let nets = self.trial.inter.get(self.trial.channels);
        let net = nets.map(|nets| nets[0]).unwrap_or_default();
        let first = self.choices.len();
        let (used, flag) = (&self.used, 1 << self.trial.channels);
        let is_free = |other: usize| used.get(other).is_some_and(|used| used & flag == 0);
        let ends = (gpu, net);
        let are_alike = self
            .next
            .after_from_net(ends, &self.capacity, is_free, &mut self.choices);
        if to_net != step + 1
            && are_alike
            && let Some(own) = self.choices.get_mut(first..)
        {
            own.reverse();
        }
        let end = self.choices.len();
        for place in first..end {
            if let Some(next) = self.choices.get(place).copied() {
                self.try_next(gpu, next.gpu(), step, Order::Search, back);
            }
        }
        self.choices.truncate(first);
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
        let reached = self.next.after(gpu);
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
        if let Some(following) = self.following.last_mut() {
            let channels = self.trial.channels - following.channels;
            following
                .offer
                .add(channels, self.trial.hops - following.hops);
        }
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
    pub(super) fn take(&mut self, from: End, to: End, share: f32) -> bool {
        let both_ways = self.trial.pattern != Pattern::Ring;
        let (bandwidth, kind) = self.wanted(from, to, share);
        let taken = self.capacity.take(from, to, (bandwidth, kind, both_ways));
        self.trial.hops += taken.map_or(0, as_i64);
        taken.is_some()
    }

    /// Undoes [`Job::take`].
    pub(super) fn give_back(&mut self, from: End, to: End, share: f32) {
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
}
