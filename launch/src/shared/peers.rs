//! What the ranks of a communicator on this host share: which GPU each holds, and what it sent.
//!
//! A small file in `/dev/shm`, of this user alone, named by user, boot and communicator.  No rank waits
//! for another: one that comes late, or cannot see the file, is missing.

use std::path::Path;
use std::sync::atomic::Ordering;

use ffi::linux::named::{NamedError, NamedWords, remove_unused};
use ffi::linux::process::effective_user;
use topology::nvlink::Links;
use topology::pci::PciAddress;

use super::{NamedMemory, Word};

/// Where the files are.
pub const FOLDER: &str = "/dev/shm";
/// How their names begin.
pub(super) const PREFIX: &str = "gpu-numa-nccl.";
/// Names in the folder that are looked at for what killed processes left.
const MOST_NAMES: usize = 1024;

/// 64-bit words of a slot: four cache lines.
const SLOT: usize = 32;
/// Ranks of a communicator on one host; more are not counted.
const SLOTS: usize = 256;

/// Words of the head.
const TAKEN: usize = 0;
const WRITTEN: usize = 1;
const LEFT: usize = 2;
const SPEAKER: usize = 3;

/// Words of a slot.
const RANK: usize = 0;
const GPU: usize = 1;
const CAPABILITY: usize = 2;
/// What the rank sent over the socket link: sends, bytes toward higher packages, bytes toward lower ones.
const SENDS: usize = 3;
const UP_BYTES: usize = 4;
const DOWN_BYTES: usize = 5;
/// 1 and how many far ends of NVLinks follow, where the rank's NVML reported them; else 0.
const LINKS: usize = 6;
const FIRST_LINK: usize = 7;

/// A rank on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankOnHost {
    /// Its rank.
    pub rank: usize,
    /// Its GPU; none where its process could not find out.
    pub gpu: Option<PciAddress>,
    /// Compute capability, as 90 for 9.0; none where its process could not find out.
    pub capability: Option<u32>,
    /// Its NVLinks; none where its process could not find out.
    pub links: Option<Links>,
}

/// Sends over the socket link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// How many.
    pub sends: u64,
    /// Bytes toward packages of a higher number.
    pub up_bytes: u64,
    /// Bytes toward packages of a lower number.
    pub down_bytes: u64,
}

/// The shared file, with one's own slot in it.
#[derive(Debug)]
pub struct Peers<F = NamedWords> {
    file: F,
    slot: usize,
    ranks: usize,
}

impl Peers {
    /// Joins the ranks of communicator `id`, of `ranks` in all.
    ///
    /// # Errors
    /// [`NamedError`] where the file cannot be had; this rank then knows of no other.
    pub fn join(
        folder: &Path,
        boot: u32,
        id: u64,
        ranks: usize,
        own: &RankOnHost,
    ) -> Result<Self, NamedError> {
        let user = effective_user();
        let prefix = format!("{PREFIX}{user}.");
        remove_unused(folder, &prefix, MOST_NAMES);
        let name = format!("{prefix}{boot:08x}.{id:016x}");
        let file = NamedWords::open(folder, &name, words_for(ranks) * 2)?;
        Ok(Self::join_over(file, ranks, own))
    }
}

impl<F: NamedMemory> Peers<F> {
    /// Joins the ranks of a communicator, of `ranks` in all, that share `file`.
    pub fn join_over(file: F, ranks: usize, own: &RankOnHost) -> Self {
        let mut peers = Self {
            file,
            slot: SLOTS,
            ranks,
        };
        let slots = slots_for(ranks);
        let slot = peers
            .head(TAKEN)
            .map_or(u64::MAX, |taken| taken.fetch_add(1, Ordering::AcqRel));
        peers.slot = usize::try_from(slot).unwrap_or(slots).min(slots);
        peers.write(own);
        if ranks <= peers.count() {
            // All are here: no one needs the name any more.
            peers.file.unlink();
        }
        peers
    }

    fn write(&self, own: &RankOnHost) {
        let Some(slot) = self.slot_at(self.slot) else {
            return;
        };
        let store = |word: usize, value: u64| {
            if let Some(word) = slot.get(word) {
                word.store(value, Ordering::Relaxed);
            }
        };
        store(GPU, own.gpu.map_or(0, pack));
        store(CAPABILITY, own.capability.map_or(0, u64::from));
        let links = own
            .links
            .as_ref()
            .filter(|links| links.len() <= SLOT - FIRST_LINK);
        store(LINKS, links.map_or(0, |links| 1 + links.len() as u64));
        for (index, (to, count)) in links.into_iter().flatten().enumerate() {
            store(
                FIRST_LINK + index,
                pack(*to) | u64::from(*count & 0xff) << COUNT_SHIFT,
            );
        }
        if let Some(rank) = slot.get(RANK) {
            rank.store(own.rank as u64 + 1, Ordering::Release);
        }
        if let Some(written) = self.head(WRITTEN) {
            written.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn head(&self, word: usize) -> Option<&F::Word> {
        self.file.words().get(word)
    }

    fn slot_at(&self, index: usize) -> Option<&[F::Word]> {
        let start = SLOT * (1 + index);
        self.file.words().get(start..start + SLOT)
    }

    /// How many have written.
    pub fn count(&self) -> usize {
        let written = self
            .head(WRITTEN)
            .map_or(0, |word| word.load(Ordering::Acquire));
        usize::try_from(written).unwrap_or(usize::MAX)
    }

    /// Those that have written, by rank; each rank once.
    pub fn read(&self) -> Vec<RankOnHost> {
        let mut peers: Vec<RankOnHost> = (0..slots_for(self.ranks))
            .filter_map(|index| self.slot_at(index))
            .filter_map(|slot| {
                let word = |at: usize| slot.get(at).map_or(0, |word| word.load(Ordering::Acquire));
                let rank = usize::try_from(word(RANK).checked_sub(1)?).ok()?;
                Some(RankOnHost {
                    rank,
                    gpu: unpack(word(GPU)),
                    capability: u32::try_from(word(CAPABILITY))
                        .ok()
                        .filter(|known| *known > 0),
                    links: read_links(slot),
                })
            })
            .filter(|peer| peer.rank < self.ranks)
            .collect();
        peers.sort_by_key(|peer| peer.rank);
        peers.dedup_by_key(|peer| peer.rank);
        peers
    }

    /// Makes `rank` the one that speaks for this host, unless another does.
    pub fn claim(&self, rank: usize) -> bool {
        let own = rank as u64 + 1;
        self.head(SPEAKER).is_some_and(|speaker| {
            let before = speaker.compare_exchange(0, own, Ordering::AcqRel, Ordering::Acquire);
            before.is_ok_and(|_| true) || before == Err(own)
        })
    }

    /// Counts a send of this rank.
    pub fn count_send(&self, bytes: u64, upward: bool) {
        let Some(slot) = self.slot_at(self.slot) else {
            return;
        };
        let add = |at: usize, value: u64| {
            if let Some(word) = slot.get(at) {
                word.fetch_add(value, Ordering::Relaxed);
            }
        };
        add(SENDS, 1);
        add(if upward { UP_BYTES } else { DOWN_BYTES }, bytes);
    }

    /// What all ranks here sent so far.
    pub fn sent(&self) -> Sent {
        let mut all = Sent::default();
        for slot in (0..slots_for(self.ranks)).filter_map(|index| self.slot_at(index)) {
            let word = |at: usize| slot.get(at).map_or(0, |word| word.load(Ordering::Relaxed));
            all.sends = all.sends.saturating_add(word(SENDS));
            all.up_bytes = all.up_bytes.saturating_add(word(UP_BYTES));
            all.down_bytes = all.down_bytes.saturating_add(word(DOWN_BYTES));
        }
        all
    }

    /// Takes the name away: all that will join have.
    pub fn close(&self) {
        self.file.unlink();
    }

    /// Gives the memory back, of a rank that looks at nothing any more: what it wrote stays for the others, the last of
    /// which leaves nothing.
    pub fn give_back(&self) {
        self.file.give_back();
    }

    /// Leaves; the last one takes the name away.
    pub fn leave(&self) {
        let left = self.head(LEFT).map_or(0, |left| {
            left.fetch_add(1, Ordering::AcqRel).saturating_add(1)
        });
        let taken = self
            .head(TAKEN)
            .map_or(0, |taken| taken.load(Ordering::Acquire));
        if left >= taken {
            self.file.unlink();
        }
    }
}

/// The slots of a communicator.
fn slots_for(ranks: usize) -> usize {
    ranks.clamp(1, SLOTS)
}

/// The 64-bit words of the file of a communicator.
fn words_for(ranks: usize) -> usize {
    SLOT * (1 + slots_for(ranks))
}

fn read_links<W: Word<Value = u64>>(slot: &[W]) -> Option<Links> {
    let load = |word: &W| word.load(Ordering::Acquire);
    let count = usize::try_from(slot.get(LINKS).map(load)?.checked_sub(1)?).ok()?;
    let words = slot.get(FIRST_LINK..FIRST_LINK.checked_add(count)?)?;
    let links = words.iter().map(load).map(|word| {
        let count = u32::try_from(word >> COUNT_SHIFT & 0xff).unwrap_or(0);
        Some((unpack(word)?, count))
    });
    links.collect()
}

/// Where the number of links stands in the word of their far end.
const COUNT_SHIFT: u32 = 48;

/// A PCI address in one word that is never 0.
fn pack(address: PciAddress) -> u64 {
    1 << 63
        | u64::from(address.domain) << 16
        | u64::from(address.bus) << 8
        | u64::from(address.device) << 3
        | u64::from(address.function)
}

fn unpack(word: u64) -> Option<PciAddress> {
    let low = |value: u64| u8::try_from(value & 0xff).unwrap_or(0);
    (word >> 63 == 1).then(|| PciAddress {
        domain: u32::try_from(word >> 16 & 0xffff_ffff).unwrap_or(0),
        bus: low(word >> 8),
        device: low(word >> 3 & 0x1f),
        function: low(word & 0x7),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(rank: usize, gpu: &str) -> RankOnHost {
        RankOnHost {
            rank,
            gpu: gpu.parse().ok(),
            capability: Some(90),
            links: Some(vec![("0000:05:00.0".parse().unwrap(), 4)]),
        }
    }

    #[test]
    fn ranks_see_each_other_in_order_and_the_last_takes_the_name_away() {
        let folder = tempfile::tempdir().unwrap();
        let join = |own: &RankOnHost| Peers::join(folder.path(), 1, 0x1f2e, 4, own).unwrap();
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        let (b, a) = (peer(2, "0000:83:00.0"), peer(0, "10000:e1:1f.7"));
        let one = join(&b);
        let other = join(&a);
        assert_eq!(one.read(), [a.clone(), b.clone()]);
        assert_eq!(other.count(), 2);
        assert!(one.claim(0) && other.claim(0) && !other.claim(2));
        one.count_send(100, true);
        other.count_send(7, false);
        let sent = other.sent();
        assert_eq!((sent.sends, sent.up_bytes, sent.down_bytes), (2, 100, 7));
        one.leave();
        assert_eq!(names(), 1);
        other.leave();
        assert_eq!(names(), 0);
    }

    #[test]
    fn once_all_ranks_are_there_the_name_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let one = Peers::join(folder.path(), 1, 7, 2, &peer(0, "")).unwrap();
        let other = Peers::join(folder.path(), 1, 7, 2, &peer(1, "0000:01:00.0")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(one.read().len(), 2);
        assert_eq!(other.read()[0].gpu, None);
    }

    #[test]
    fn a_thousand_communicators_take_little_and_silent_ones_nothing() {
        // As many as a container's 64 MB of /dev/shm must hold, each with its eight ranks.
        let folder = tempfile::tempdir().unwrap();
        let bytes = |id| {
            let all: Vec<Peers> = (0..7)
                .map(|rank| Peers::join(folder.path(), 1, id, 8, &peer(rank, "")).unwrap())
                .collect();
            let entry = std::fs::read_dir(folder.path()).unwrap().next().unwrap();
            let bytes = entry.unwrap().metadata().unwrap().len();
            for one in &all {
                one.give_back();
                assert_eq!(one.read(), []);
                one.close();
            }
            // Nobody holds it any more, so the next that joins sweeps it away.
            remove_unused(folder.path(), PREFIX, MOST_NAMES);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
            bytes
        };
        let each: Vec<u64> = (0..3).map(bytes).collect();
        assert!(each.iter().all(|bytes| bytes * 1000 < 64 << 20), "{each:?}");
    }

    #[test]
    fn more_ranks_than_slots_are_not_counted_and_do_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let all: Vec<Peers> = (0..SLOTS + 3)
            .map(|rank| Peers::join(folder.path(), 1, 8, 4096, &peer(rank, "")).unwrap())
            .collect();
        assert_eq!(all[0].read().len(), SLOTS);
        all[SLOTS + 1].count_send(1, true);
        assert_eq!(all[0].sent().sends, 0);
    }
}
