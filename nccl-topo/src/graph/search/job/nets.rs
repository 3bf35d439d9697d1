//! From network devices to GPUs and back (`ncclTopoSearchRecNet`).

use std::rc::Rc;

use super::kinds::farther;
use super::state::Pattern;
use super::walk::{Back, Order};
use super::{HALF, Job};
use crate::graph::nodes::{Graph, Net};
use crate::graph::path_type::PathType;
use crate::graph::paths::Paths;
use crate::graph::search::capacity::End;
use crate::graph::search::twins::Mark;

/// Steps of the first order of the file between hosts.
const STEPS_FILE: i64 = 1 << 10;

impl Job<'_> {
    /// `ncclTopoSearchRecNet`: the next channel, from each network device.
    pub(super) fn channel_from_nets(&mut self) {
        let bandwidth = self.trial.bandwidth_between_hosts.trunc();
        let back = Back {
            to_net: Some(match self.trial.pattern {
                Pattern::Ring => self.count.saturating_sub(1),
                Pattern::BalancedTree | Pattern::Tree => 0,
            }),
            to_first: None,
        };
        if self.trial.channels > 0 && self.trial.same_channels {
            self.channel_from_each_net(bandwidth, back);
        } else {
            self.once(|job| job.channel_from_each_net(bandwidth, back));
        }
    }

    fn channel_from_each_net(&mut self, bandwidth: f32, back: Back) {
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
        if let Some(twins) = self.capacity.twins() {
            twins.mark_net(net, Mark::Charged, as_whole(bandwidth));
        }
        let own = self.ports.get(net);
        for (port, left) in self.ports.iter().zip(&mut self.net_left) {
            if Some(port) == own {
                *left -= bandwidth;
            }
        }
    }

    /// The network devices to try, those that NCCL prefers first (`ncclTopoSelectNets`): of one GPU, or of all.
    fn nets_to_try(&mut self, gpu: Option<usize>) -> Rc<[usize]> {
        let farthest = self.trial.kind_to_nets;
        if let Some(known) = self.nets_to_try.get(&(gpu, farthest)) {
            return Rc::clone(known);
        }
        let nets: Rc<[usize]> = self.select_nets(gpu, farthest).into();
        self.nets_to_try.insert((gpu, farthest), Rc::clone(&nets));
        nets
    }

    fn select_nets(&self, gpu: Option<usize>, farthest: PathType) -> Vec<usize> {
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
        while kind <= farthest {
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

    /// Back to a network device, and on from the same GPU.
    pub(super) fn step_to_net(&mut self, gpu: usize, step: usize, order: Order, back: Back) {
        let is_balanced = self.trial.pattern == Pattern::BalancedTree;
        // The first two GPUs carry half each.
        let share = if is_balanced { HALF } else { 1.0 };
        let next = Back {
            to_net: (is_balanced && step == 0).then_some(1),
            ..back
        };
        for net in self.nets_to_try(Some(gpu)).iter().copied() {
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
}

/// A bandwidth that is whole.
fn as_whole(bandwidth: f32) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a bandwidth in GB/s, a few thousand at most"
    )]
    let whole = bandwidth as i64;
    whole
}

/// A network device by its place.
pub(super) fn net_of<'g>(graph: &'g Graph, paths: &Paths, net: usize) -> Option<&'g Net> {
    graph.node(*paths.nets().get(net)?)?.net.as_ref()
}
