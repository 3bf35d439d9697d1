//! From one GPU to the next: which to try, and the bandwidth that it takes.

use super::ways::Way;
use super::{Job, Order, Pattern};

impl Job<'_> {
    /// The GPUs to try after `gpu`, best first (`ncclTopoSearchNextGpuSort`).
    pub(super) fn candidates(&self, gpu: usize, step: usize, order: Order) -> Vec<usize> {
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
                let way = self.way(gpu, other)?;
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

    fn way(&self, from: usize, to: usize) -> Option<&Way> {
        self.ways.get(from * self.count + to)
    }

    /// Takes the trial's bandwidth on the path between two GPUs, if it is there (`ncclTopoFollowPath`).
    pub(super) fn take(&mut self, from: usize, to: usize) -> bool {
        let allowed = |way: Option<&Way>| {
            way.and_then(|way| way.kind)
                .is_some_and(|kind| kind <= self.trial.kind)
        };
        let both_ways = self.trial.pattern != Pattern::Ring;
        if !allowed(self.way(from, to)) || (both_ways && !allowed(self.way(to, from))) {
            return false;
        }
        let all = self.way(from, to).map_or(0, |way| way.steps.len());
        let taken = self.follow(from, to, all, self.trial.bandwidth);
        if taken < all {
            self.follow(from, to, taken, -self.trial.bandwidth);
            return false;
        }
        self.trial.hops += i64::try_from(taken).unwrap_or_default();
        true
    }

    /// Undoes [`Job::take`].
    pub(super) fn give_back(&mut self, from: usize, to: usize) {
        let given = self.follow(from, to, usize::MAX, -self.trial.bandwidth);
        self.trial.hops -= i64::try_from(given).unwrap_or_default();
    }

    /// Subtracts from the links of a path until one has too little; gives how many had enough.
    fn follow(&mut self, from: usize, to: usize, most: usize, bandwidth: f32) -> usize {
        let Some(way) = self.ways.get(from * self.count + to) else {
            return 0;
        };
        let over_pci = if way.intel {
            bandwidth * 6.0 / 5.0
        } else {
            bandwidth
        };
        let mut done = 0;
        for step in way.steps.iter().take(most) {
            let wanted = if step.pci { over_pci } else { bandwidth };
            for link in [Some(step.link), step.back].into_iter().flatten() {
                if self.left.get(link).is_none_or(|left| *left < wanted) {
                    return done;
                }
            }
            for link in [Some(step.link), step.back].into_iter().flatten() {
                if let Some(left) = self.left.get_mut(link) {
                    *left = ((*left - wanted) * 1000.0).round() / 1000.0;
                }
            }
            done += 1;
        }
        done
    }
}
