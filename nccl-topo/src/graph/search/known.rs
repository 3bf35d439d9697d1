//! What a search has tried already and need not try again.
//!
//! NCCL counts its steps, and stops where they are used up; so what is passed over is counted all the same, and the
//! answer is the same to the last channel.
//!
//! Three things repeat.  A search as a whole is tried again with another type of path that no pair has, with another use
//! of network devices on a host that uses none, or with less bandwidth of which no more channels fit; and where it
//! completes no channel, with a type of path that is too narrow, and with more steps.  Within a channel
//! the same GPUs in another order mostly leave the same of every link: what followed then led nowhere, and does so again.
//! Places that are alike, as GPUs below one switch, count as one in this (`twins`).  Between hosts the same holds of a way
//! on that does complete channels.
//! And the channels after one in another order that leaves the same of every link are the same: where they offered nothing
//! that is better than the best so far, they do not now.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::super::path_type::PathType;
use super::job::Pattern;

/// Places of the table of dead ends; one that is taken is given to the newcomer.
const PLACES: usize = 1 << 14;

/// What decides a search besides the machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asked {
    pub(super) pattern: Pattern,
    /// Inside a host how many channels fit on links of each width; between hosts the bandwidths as bits.
    pub(super) fits: Vec<usize>,
    /// The farthest types that some path has, up to those that are allowed.
    pub(super) kinds: [PathType; 2],
    pub(super) cross_nic: u8,
    pub(super) same_channels: bool,
    pub(super) min_channels: usize,
}

/// A way on from a GPU that completes no channel, and the steps that it takes to find out.
#[derive(Debug, Clone, Copy, Default)]
struct DeadEnd {
    state: u64,
    steps: i64,
}

/// A search that was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tried {
    /// The steps that it left.
    pub(super) left: i64,
    /// The bandwidth of the channels that it completed, in GB/s; none where it completed none.
    pub(super) completed: Option<f32>,
}

/// What is known of searches that complete no channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fruitless {
    /// The steps that it takes to find out, or so many at least.
    pub(super) steps: i64,
    /// Whether these are all.
    pub(super) are_all: bool,
}

impl Fruitless {
    /// What such a search leaves of so many steps; none where it may complete a channel with as many.
    pub(super) fn leaves_of(self, steps: i64) -> Option<i64> {
        (self.are_all || steps <= self.steps).then(|| (steps - self.steps).max(0))
    }
}

/// What all channels that can follow some others offer.
#[derive(Debug, Clone, Default)]
pub(super) struct Offer {
    /// The steps that it takes to try them all.
    pub(super) steps: i64,
    /// The fewest links that one more channel takes, that two more take, and so on; none where no search completed as
    /// many.
    pub(super) hops: Vec<Option<i64>>,
}

impl Offer {
    /// So many more channels were completed, which take so many links.
    pub(super) fn add(&mut self, channels: usize, hops: i64) {
        let Some(place) = channels.checked_sub(1) else {
            return;
        };
        if self.hops.len() < channels {
            self.hops.resize(channels, None);
        }
        if let Some(least) = self.hops.get_mut(place) {
            *least = Some(least.map_or(hops, |known| known.min(hops)));
        }
    }

    /// All that it offers: how many more channels, and their links.
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, i64)> + '_ {
        let numbered = (1..).zip(&self.hops);
        numbered.filter_map(|(channels, hops)| Some((channels, (*hops)?)))
    }
}

/// Hashes a number that is spread over all bits already to itself.
#[derive(Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = mixed(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Known {
    searches: BTreeMap<Asked, Tried>,
    /// Those that completed no channel, by what decides that.
    fruitless: BTreeMap<Asked, Fruitless>,
    dead_ends: Vec<DeadEnd>,
    /// By what is left of the links and what else decides; those of the present search.
    offers: HashMap<u64, Offer, BuildHasherDefault<AsItIs>>,
}

impl Known {
    /// What this search came to the last time; none where it was not tried.
    pub(super) fn search(&self, asked: &Asked) -> Option<Tried> {
        self.searches.get(asked).copied()
    }

    /// Keeps what a search came to.
    pub(super) fn keep_search(&mut self, asked: Asked, tried: Tried) {
        self.searches.insert(asked, tried);
    }

    /// What searches came to that completed no channel; none where it is not known.
    pub(super) fn fruitless(&self, asked: &Asked) -> Option<Fruitless> {
        self.fruitless.get(asked).copied()
    }

    /// Keeps what a search came to that completed no channel.
    pub(super) fn keep_fruitless(&mut self, asked: Asked, tried: Fruitless) {
        self.fruitless.insert(asked, tried);
    }

    /// What can follow in a state; none where it is not known.
    pub(super) fn offer(&self, state: u64) -> Option<&Offer> {
        self.offers.get(&state)
    }

    /// Keeps what can follow in a state.
    pub(super) fn keep_offer(&mut self, state: u64, offer: Offer) {
        self.offers.insert(state, offer);
    }

    /// Forgets what the search before found to follow, for with other bandwidths it is not so.
    pub(super) fn forget_offers(&mut self) {
        self.offers.clear();
    }

    /// The steps that a state takes, where it is known to lead nowhere.
    pub(super) fn dead_end(&self, state: u64) -> Option<i64> {
        let found = self.dead_ends.get(place(state))?;
        (found.state == state).then_some(found.steps)
    }

    /// Keeps a state that leads nowhere.
    pub(super) fn keep_dead_end(&mut self, state: u64, steps: i64) {
        if self.dead_ends.is_empty() {
            self.dead_ends = vec![DeadEnd::default(); PLACES];
        }
        if let Some(kept) = self.dead_ends.get_mut(place(state)) {
            *kept = DeadEnd { state, steps };
        }
    }
}

fn place(state: u64) -> usize {
    usize::try_from(state >> 40).unwrap_or_default() % PLACES
}

/// A number that spreads over all bits (the end of `SplitMix64`).
pub(super) fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The number of a thing, as unlike that of the next as can be.
pub(super) fn spread(thing: usize) -> u64 {
    mixed(
        (thing as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(0x9e37_79b9_7f4a_7c15),
    )
}
