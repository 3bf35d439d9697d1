//! Memory that others write too: the NCCL plugin's file, the page of a step's tasks.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use launch::shared::page::{Meeting, Order, Page, words_for};
use launch::shared::peers::{Peers, RankOnHost};
use launch::shared::{NamedMemory, SharedMemory};
use nccl_topo::graph::Reach;
use nccl_topo::traffic::{Crossing, Forecast, Members, crossing};
use topology::binding::TaskRequest;
use topology::nvlink::set_nvlinks;

use crate::input::Choices;
use crate::machines::{check_plan, tasks, two_gpus};

/// Bytes before the memory's own.
const CHOICES: usize = 24;

/// 64-bit words of the ranks' file; more are not looked at.
const FILE_WORDS: usize = 32 * (1 + 256);

/// The choices, and what the memory holds.
fn split(bytes: &[u8]) -> (Choices<'_>, &[u8]) {
    let (choices, contents) = bytes.split_at(bytes.len().min(CHOICES));
    (Choices(choices), contents)
}

/// A word of the contents, `N` bytes wide; zeros behind their end.
fn word<const N: usize>(contents: &[u8], index: usize) -> [u8; N] {
    let mut word = [0; N];
    let from = contents.get(index * N..).unwrap_or_default();
    for (to, from) in word.iter_mut().zip(from) {
        *to = *from;
    }
    word
}

/// Memory that the input filled; nothing waits in it.
#[derive(Debug)]
struct Filled {
    words: Vec<AtomicU32>,
    now_micros: Cell<u64>,
}

impl Filled {
    fn with(contents: &[u8], len: usize) -> Self {
        let at = |at| AtomicU32::new(u32::from_le_bytes(word(contents, at)));
        Self {
            words: (0..len).map(at).collect(),
            now_micros: Cell::new(0),
        }
    }
}

impl SharedMemory for Filled {
    type Word = AtomicU32;

    fn words(&self) -> &[AtomicU32] {
        &self.words
    }

    fn wait_while(&self, _word: &AtomicU32, _seen: u32, _limit: Duration) {}

    fn wake_all(&self, _word: &AtomicU32) {}

    /// Each look is a second later.
    fn now_micros(&self) -> u64 {
        self.now_micros.set(self.now_micros.get() + 1_000_000);
        self.now_micros.get()
    }
}

/// A file that the input filled.
#[derive(Debug)]
struct FilledFile(Vec<AtomicU64>);

impl FilledFile {
    fn with(contents: &[u8]) -> Self {
        let at = |at| AtomicU64::new(u64::from_le_bytes(word(contents, at)));
        Self((0..FILE_WORDS).map(at).collect())
    }
}

impl NamedMemory for FilledFile {
    type Word = AtomicU64;

    fn words(&self) -> &[AtomicU64] {
        &self.0
    }

    fn unlink(&self) {}

    fn give_back(&self) {}
}

/// The file in which the ranks of a communicator write their GPUs.
pub(crate) fn peers(bytes: &[u8]) {
    let (mut choices, contents) = split(bytes);
    let mut machine = two_gpus();
    let ranks = *choices.pick(&[2, 3, 8, 300, 4096]);
    let own = RankOnHost {
        rank: choices.below(3),
        gpu: machine.gpus.get(choices.below(3)).map(|gpu| gpu.pci),
        capability: Some(90),
        links: None,
    };
    let peers = Peers::join_over(FilledFile::with(contents), ranks, &own);
    let all = peers.read();
    assert!(all.len() <= 256 && all.iter().all(|peer| peer.rank < ranks));
    assert!(all.is_sorted_by(|a, b| a.rank < b.rank), "{all:?}");
    let _ = peers.count();
    let first = peers.claim(own.rank);
    assert!(!first || peers.claim(own.rank));
    peers.count_send(u64::MAX, true);
    let _ = peers.sent();
    // As the NCCL plugin goes on.
    let members = Members {
        denied_p2p: std::collections::BTreeSet::new(),
        gpus: all.iter().map(|peer| peer.gpu).collect(),
        others: ranks.saturating_sub(all.len()),
        hosts: 1 + choices.below(2),
        ranks: all.iter().map(|peer| peer.rank).collect(),
        reach: Reach {
            without_shm: choices.below(2) == 1,
            ..Reach::default()
        },
        nets: Vec::new(),
        rules: None,
        capability: all.iter().find_map(|peer| peer.capability).unwrap_or(90),
    };
    let said: BTreeMap<_, _> = all
        .iter()
        .filter_map(|peer| Some((peer.gpu?, peer.links.clone()?)))
        .collect();
    machine.nvlink_visible = !said.is_empty();
    set_nvlinks(&mut machine, &said);
    if crossing(&machine, &members) == Crossing::Some && choices.below(8) == 1 {
        let forecast = Forecast::of(&machine, &members, None);
        let ring = forecast.ring();
        assert!(ring.up + ring.down <= ring.both && !forecast.is_even());
    }
    peers.close();
    peers.leave();
}

/// The page in which the tasks of a step write their GPUs and CPUs; another task of the step may write anything.
pub(crate) fn page(bytes: &[u8]) {
    let (mut choices, contents) = split(bytes);
    let machine = two_gpus();
    let count = 1 + choices.below(8);
    let memory = Filled::with(contents, words_for(count, &machine, 64));
    let page = Page::over(memory, count, &machine);
    let own = tasks(&mut choices, &machine).pop().unwrap_or_default();
    let task = choices.below(count);
    match page.meet(task, &own, &machine, 0) {
        Meeting::Decides(decider) => {
            let all: Vec<TaskRequest> = page.read(&machine);
            assert_eq!(all.len(), count);
            assert_eq!(all[task].visible, own.visible);
            check_plan(&machine, &mut choices, all);
            let order = Order {
                cpus: own.slurm_cpus.clone(),
                lines: "a\nb".to_owned(),
                report: "{}".to_owned(),
                ..Order::default()
            };
            decider.publish(&vec![order.clone(); count]);
            // Whoever had told an outcome before may have told orders too.
            let known = page.order(task);
            assert!(known.is_none_or(|known| known.lines.len() + known.report.len() < 1 << 20));
        }
        Meeting::Known | Meeting::Apart => {
            check_plan(&machine, &mut choices, page.read(&machine));
        }
        Meeting::Ordered => {
            let _ = page.order(task);
        }
    }
    let _ = page.may_speak();
    let first = page.refuse();
    assert!(!first || (page.is_refused() && !page.refuse()));
}
