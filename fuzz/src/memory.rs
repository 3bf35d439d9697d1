//! Memory that others write too: the NCCL plugin's file, the page of a step's tasks.

use std::collections::BTreeMap;
use std::path::Path;

use nccl_topo::traffic::{Crossing, Forecast, Members, NetworkInside, crossing};
use topology::binding::TaskRequest;
use topology::nvlink::set_nvlinks;

use crate::input::Choices;
use crate::linux::fill;
use crate::machines::{check_plan, tasks, two_gpus};
use crate::page::Page;
use crate::peers::{Peer, Peers};

/// Bytes before the memory's own.
const CHOICES: usize = 24;

/// Fills the next mapping with what follows the choices.
fn fill_behind(bytes: &[u8]) -> Choices<'_> {
    let (choices, contents) = bytes.split_at(bytes.len().min(CHOICES));
    fill(contents);
    Choices(choices)
}

/// The file in which the ranks of a communicator tell their GPUs.
pub(crate) fn peers(bytes: &[u8]) {
    let mut choices = fill_behind(bytes);
    let mut machine = two_gpus();
    let ranks = *choices.pick(&[2, 3, 8, 300, 4096]);
    let own = Peer {
        rank: choices.below(3),
        gpu: machine.gpus.get(choices.below(3)).map(|gpu| gpu.pci),
        capability: Some(90),
        links: None,
    };
    let peers = Peers::join(Path::new("/"), 1, 7, ranks, &own).unwrap();
    let all = peers.read();
    assert!(all.len() <= 256 && all.iter().all(|peer| peer.rank < ranks));
    assert!(all.is_sorted_by(|a, b| a.rank < b.rank), "{all:?}");
    let _ = peers.count();
    let first = peers.claim(own.rank);
    assert!(!first || peers.claim(own.rank));
    peers.count_send(u64::MAX, true);
    let _ = peers.sent();
    // As communicator.rs goes on.
    let members = Members {
        gpus: all.iter().map(|peer| peer.gpu).collect(),
        others: ranks.saturating_sub(all.len()),
        hosts: 1 + choices.below(2),
        network_inside: *choices.pick(&[NetworkInside::NearNics, NetworkInside::Everywhere]),
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
        assert!(forecast.ring().total() >= 0.0 && forecast.tree().total() >= 0.0);
    }
    peers.close();
    peers.leave();
}

/// The page in which the tasks of a step tell their GPUs and CPUs; another task of the step may write anything.
pub(crate) fn page(bytes: &[u8]) {
    let mut choices = fill_behind(bytes);
    let machine = two_gpus();
    let count = 1 + choices.below(8);
    let page = Page::map(count, &machine).unwrap();
    let own = tasks(&mut choices, &machine).pop().unwrap_or_default();
    let task = choices.below(count);
    let counted = page.publish(task, &own, &machine);
    let all_in = page.wait(0);
    assert!(counted || !all_in || page.is_refused() || count > 0);
    let all: Vec<TaskRequest> = page.read(&machine);
    assert_eq!(all.len(), count);
    assert_eq!(all[task].visible, own.visible);
    check_plan(&machine, &mut choices, all);
    page.refuse();
    assert!(page.is_refused() && !page.wait(0));
}
