//! What holds in every order; each function is a model, and panics where it does not hold.

#![allow(missing_docs, reason = "the names are sentences")]

use launch::shared::Word;
use launch::shared::duty::{Duty, Role};
use launch::shared::listening::Listening;
use launch::shared::page::{Page, words_for};
use launch::shared::peers::{Peers, RankOnHost};
use launch::shared::tally::Tally;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::Ordering;
use loom::thread::spawn;
use topology::binding::TaskRequest;
use topology::machine::{Gpu, Machine};
use topology::pci::{PciAddress, PciDevice};
use topology::set::CpuSet;

use crate::memory::{I32, NamedFile, U32, U64, Words, hurry, name_is_there};

/// Tries every order in which at most `switches` times a thread is interrupted where it need not wait.
fn every_order(switches: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(switches);
    builder.max_branches = 100_000;
    builder.check(model);
}

fn at(text: &str) -> PciAddress {
    text.parse().unwrap()
}

fn machine() -> Machine {
    let gpu = |address| Gpu::of(&PciDevice::new(at(address), 0x03_0200, 0x10de, 0x2330));
    Machine {
        online: CpuSet::from_range(0, 7),
        gpus: vec![gpu("0000:21:00.0"), gpu("0000:81:00.0")],
        ..Machine::default()
    }
}

/// What task `task` writes.
fn request(task: usize, machine: &Machine) -> TaskRequest {
    TaskRequest {
        visible: vec![machine.gpus[task % 2].pci],
        slurm_cpus: Some(CpuSet::single(task as u32)),
        user_cpu_bind: task == 1,
        user_memory: None,
    }
}

fn page(tasks: usize, machine: &Machine) -> Page<Words> {
    Page::over(Words::zeroed(words_for(tasks, machine)), tasks, machine)
}

/// As the Slurm plugin does: none where the task plans alone.
fn meet(page: &Page<Words>, task: usize, machine: &Machine) -> Option<Vec<TaskRequest>> {
    let is_in = page.publish(task, &request(task, machine), machine);
    (is_in && page.wait(0)).then(|| page.read(machine))
}

/// Runs `tasks` at once, of which those in `hurried` do not wait, and gives what each came to know.
fn step(tasks: usize, hurried: &'static [usize]) -> Vec<Option<Vec<TaskRequest>>> {
    let machine = Arc::new(machine());
    let page = Arc::new(page(tasks, &machine));
    let threads: Vec<_> = (1..tasks)
        .map(|task| {
            let (page, machine) = (Arc::clone(&page), Arc::clone(&machine));
            spawn(move || {
                if hurried.contains(&task) {
                    hurry();
                }
                meet(&page, task, &machine)
            })
        })
        .collect();
    if hurried.contains(&0) {
        hurry();
    }
    let mut all = vec![meet(&page, 0, &machine)];
    all.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
    all
}

pub fn tasks_that_wait_all_see_what_each_of_them_told() {
    every_order(3, || {
        let machine = machine();
        let told: Vec<_> = (0..2).map(|task| request(task, &machine)).collect();
        for known in step(2, &[]) {
            assert_eq!(known.as_ref(), Some(&told));
        }
    });
}

pub fn when_one_gives_up_all_plan_alone_or_none() {
    for tasks in [2, 3] {
        every_order(2, move || {
            let machine = machine();
            let told: Vec<_> = (0..tasks).map(|task| request(task, &machine)).collect();
            let all = step(tasks, &[0]);
            assert!(all.iter().all(|known| *known == all[0]), "{all:?}");
            assert!(all[0].is_none() || all[0].as_ref() == Some(&told));
        });
    }
}

pub fn a_task_that_never_comes_does_not_keep_others_waiting() {
    every_order(3, || {
        let machine = Arc::new(machine());
        let page = Arc::new(page(3, &machine));
        let other = {
            let (page, machine) = (Arc::clone(&page), Arc::clone(&machine));
            spawn(move || meet(&page, 1, &machine))
        };
        hurry();
        assert_eq!(meet(&page, 0, &machine), None);
        assert_eq!(other.join().unwrap(), None);
    });
}

pub fn a_refusal_reaches_whoever_does_not_know_all() {
    every_order(3, || {
        let machine = Arc::new(machine());
        let page = Arc::new(page(2, &machine));
        let other = {
            let (page, machine) = (Arc::clone(&page), Arc::clone(&machine));
            spawn(move || (meet(&page, 1, &machine), page.is_refused()))
        };
        // Planned alone, and refused: task.rs.
        hurry();
        let known = meet(&page, 0, &machine);
        if known.is_none() {
            page.refuse();
        }
        let (theirs, refused) = other.join().unwrap();
        assert_eq!(known.is_some(), theirs.is_some());
        assert!(!refused || theirs.is_none());
        assert_eq!(page.is_refused(), known.is_none());
    });
}

fn peer(rank: usize) -> RankOnHost {
    RankOnHost {
        rank,
        gpu: Some(at(["0000:21:00.0", "0000:81:00.0", "0000:c1:00.0"][rank])),
        capability: Some(90),
        links: Some(vec![(at("0000:05:00.0"), 4)]),
    }
}

fn join(rank: usize, ranks: usize) -> Peers<NamedFile> {
    Peers::join_over(NamedFile::open(), ranks, &peer(rank))
}

pub fn a_rank_is_seen_whole_or_not_at_all_and_all_once_they_are_counted() {
    every_order(3, || {
        let look = |own: usize| {
            let peers = join(own, 2);
            let whole = peers.count() >= 2;
            let seen = peers.read();
            assert!(seen.iter().all(|one| *one == peer(one.rank)), "{seen:?}");
            assert!(seen.contains(&peer(own)));
            assert!(!whole || seen.len() == 2, "{seen:?}");
        };
        let other = spawn(move || look(1));
        look(0);
        other.join().unwrap();
    });
}

pub fn one_rank_speaks_for_a_host_whoever_came_first() {
    every_order(3, || {
        // Of several hosts it is not known how many are here: each decides on what it sees.
        let decide = |own: usize| {
            let peers = join(own, 64);
            let lowest = peers.read().first().map_or(own, |peer| peer.rank);
            let speaks = lowest == own && peers.claim(own);
            peers.count_send(1 + own as u64, own == 0);
            (peers, speaks)
        };
        let other = spawn(move || decide(1));
        let (peers, speaks) = decide(0);
        let (theirs, they_speak) = other.join().unwrap();
        assert!(speaks != they_speak);
        let sent = peers.sent();
        assert_eq!((sent.sends, sent.up_bytes, sent.down_bytes), (2, 1, 2));
        drop(theirs);
    });
}

pub fn whoever_leaves_last_takes_the_name_away() {
    every_order(3, || {
        let other = spawn(|| join(1, 64).leave());
        join(0, 64).leave();
        other.join().unwrap();
        assert!(!name_is_there());
    });
}

pub fn a_sum_that_is_seen_has_the_bytes_of_its_calls() {
    every_order(3, || {
        let tally = Arc::new(Tally::<1, 1, U64>::new());
        let other = {
            let tally = Arc::clone(&tally);
            spawn(move || tally.add(0, 0, 100))
        };
        let [[sum]] = tally.amounts();
        assert!(sum.bytes >= 100 * sum.calls, "{sum:?}");
        assert!(sum.calls == 0 || sum.least <= sum.most, "{sum:?}");
        other.join().unwrap();
        assert_eq!(tally.amounts()[0][0].calls, 1);
    });
}

pub fn one_thread_settles_the_role_and_it_leaves_the_count_once() {
    every_order(3, || {
        let duty = Arc::new(Duty::new());
        let told = Arc::new(U32::new(0));
        let event = |duty: &Duty<U32>, told: &U32| {
            if duty.is(Role::Undecided) && duty.may_decide() {
                told.store(1, Ordering::Relaxed);
                duty.take(Role::Speaker);
                return 1;
            }
            assert!(!duty.is(Role::Speaker) || told.load(Ordering::Relaxed) == 1);
            0
        };
        let threads: Vec<_> = (0..2)
            .map(|index| {
                let (duty, told) = (Arc::clone(&duty), Arc::clone(&told));
                // One of them meets a fault.
                spawn(move || (event(&duty, &told), index == 1 && duty.silence()))
            })
            .collect();
        let done: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(done.iter().map(|(settled, _)| settled).sum::<i32>(), 1);
        assert!(done[1].1 && !duty.silence() && !duty.listens());
    });
}

pub fn a_communicator_that_begins_is_in_the_mask_whatever_others_write() {
    every_order(2, || {
        let listening = Arc::new(Listening::over(U64::new(0), U64::new(0)));
        let mask = Arc::new(I32::new(0));
        let threads: Vec<_> = [2, 0, 4]
            .into_iter()
            .map(|events| {
                let (listening, mask) = (Arc::clone(&listening), Arc::clone(&mask));
                spawn(move || {
                    // One that wants none writes all the same.
                    if events > 0 {
                        listening.begin(events);
                    }
                    listening.write(&*mask);
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(mask.load(Ordering::Relaxed), 6);
    });
}
