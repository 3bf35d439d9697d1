//! What holds in every order; each function is a model, and panics where it does not hold.

#![allow(missing_docs, reason = "the names are sentences")]

use launch::shared::Word;
use launch::shared::duty::{Duty, Role};
use launch::shared::kinds::{Kind, KindSum};
use launch::shared::listening::Listening;
use launch::shared::page::{Meeting, Order, Page, words_for};
use launch::shared::peers::{Peers, RankOnHost};
use launch::shared::tally::{First, Tally};
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::Ordering;
use loom::thread::spawn;
use topology::binding::TaskRequest;
use topology::machine::{Gpu, Machine};
use topology::pci::{PciAddress, PciDevice};
use topology::set::CpuSet;

use crate::memory::{I32, NamedFile, U32, U64, Words, die_after, hurry, is_dead, name_is_there};

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
        sees_all_gpus: task == 0,
        user_memory: None,
    }
}

fn page(tasks: usize, machine: &Machine) -> Page<Words> {
    let words = Words::zeroed(words_for(tasks, machine, 4));
    Page::over(words, tasks, machine)
}

/// A decision on what all told: each task's own CPUs, and who has which GPU.
fn decide(told: &[TaskRequest]) -> Vec<Order> {
    let order = |task: &TaskRequest| Order {
        cpus: task.slurm_cpus.clone(),
        report: task.visible[0].bus.to_string(),
        ..Order::default()
    };
    told.iter().map(order).collect()
}

/// What the tasks are to do where all told.
fn orders(tasks: usize) -> Vec<Order> {
    let machine = machine();
    let told: Vec<_> = (0..tasks).map(|task| request(task, &machine)).collect();
    decide(&told)
}

/// More than a task of three writes in all.
const MOST_WRITES: u32 = 40;

/// What becomes of a task that is to decide.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Decides,
    /// It is killed before it says so.
    Dies,
    /// It meets a fault of ours.
    Panics,
}

/// As the Slurm plugin does: none where the task plans alone, or dies.
fn meet(page: &Page<Words>, task: usize, machine: &Machine, fate: Fate) -> Option<Order> {
    let meeting = page.meet(task, &request(task, machine), machine, 0);
    if is_dead() {
        // Nobody hears of it, nor of what it would give back.
        std::mem::forget(meeting);
        return None;
    }
    match meeting {
        Meeting::Decides(decider) => match fate {
            Fate::Decides => {
                let orders = decide(&page.read(machine));
                decider.publish(&orders);
                Some(orders[task].clone())
            }
            Fate::Dies => {
                std::mem::forget(decider);
                None
            }
            Fate::Panics => None,
        },
        Meeting::Ordered => Some(page.order(task).unwrap()),
        Meeting::Known => Some(decide(&page.read(machine))[task].clone()),
        Meeting::Apart => None,
    }
}

/// Runs `tasks` at once, of which those in `hurried` do not wait, and gives what each came to do.
fn step(tasks: usize, hurried: &'static [usize], fate: Fate) -> Vec<Option<Order>> {
    let machine = Arc::new(machine());
    let page = Arc::new(page(tasks, &machine));
    let threads: Vec<_> = (1..tasks)
        .map(|task| {
            let (page, machine) = (Arc::clone(&page), Arc::clone(&machine));
            spawn(move || {
                if hurried.contains(&task) {
                    hurry();
                }
                meet(&page, task, &machine, fate)
            })
        })
        .collect();
    if hurried.contains(&0) {
        hurry();
    }
    let mut all = vec![meet(&page, 0, &machine, fate)];
    all.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
    all
}

pub fn tasks_that_wait_all_do_what_one_decided_for_them() {
    for tasks in [2, 3] {
        every_order(2, move || {
            let done = step(tasks, &[], Fate::Decides);
            let expected: Vec<_> = orders(tasks).into_iter().map(Some).collect();
            assert_eq!(done, expected);
        });
    }
}

pub fn when_one_gives_up_all_plan_alone_or_none() {
    for (tasks, switches) in [(2, 3), (3, 1)] {
        every_order(switches, move || {
            let all = step(tasks, &[0], Fate::Decides);
            let expected: Vec<_> = orders(tasks).into_iter().map(Some).collect();
            assert!(
                all == expected || all.iter().all(Option::is_none),
                "{all:?}"
            );
        });
    }
}

pub fn where_the_one_that_decides_dies_the_others_decide_for_themselves() {
    every_order(2, || {
        let all = step(3, &[0, 1, 2], Fate::Dies);
        let lone = all.iter().filter(|order| order.is_none()).count();
        // It alone is gone, or one gave up before all were in.
        assert!(lone == 1 || lone == 3, "{all:?}");
        for (order, expected) in all.into_iter().zip(orders(3)) {
            assert!(order.is_none_or(|order| order == expected));
        }
    });
}

pub fn a_fault_of_the_one_that_decides_keeps_nobody_waiting() {
    every_order(2, || {
        let all = step(3, &[], Fate::Panics);
        let lone = all.iter().filter(|order| order.is_none()).count();
        assert_eq!(lone, 1, "{all:?}");
        for (order, expected) in all.into_iter().zip(orders(3)) {
            assert!(order.is_none_or(|order| order == expected));
        }
    });
}

pub fn a_task_that_is_killed_at_any_write_leaves_the_others_what_all_do() {
    // A task writes its word, some of its request, its count, and where it is the last the orders of all.
    for writes in 0..MOST_WRITES {
        every_order(1, move || {
            let machine = Arc::new(machine());
            let page = Arc::new(page(3, &machine));
            let threads: Vec<_> = (0..2)
                .map(|task| {
                    let (page, machine) = (Arc::clone(&page), Arc::clone(&machine));
                    spawn(move || {
                        if task == 1 {
                            die_after(writes);
                        } else {
                            hurry();
                        }
                        let done = meet(&page, task, &machine, Fate::Decides);
                        (task, done, is_dead())
                    })
                })
                .collect();
            hurry();
            let mut all = vec![(2, meet(&page, 2, &machine, Fate::Decides), false)];
            all.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
            all.retain(|(_, _, is_dead)| !is_dead);
            let expected = orders(3);
            let alone = all.iter().filter(|(_, done, _)| done.is_none()).count();
            assert!(alone == 0 || alone == all.len(), "{writes}: {all:?}");
            for (task, done, _) in &all {
                assert!(
                    done.as_ref().is_none_or(|done| *done == expected[*task]),
                    "{writes}: {all:?}"
                );
            }
        });
    }
}

pub fn a_task_that_never_comes_does_not_keep_others_waiting() {
    every_order(3, || {
        let machine = Arc::new(machine());
        let page = Arc::new(page(3, &machine));
        let other = {
            let (page, machine) = (Arc::clone(&page), Arc::clone(&machine));
            spawn(move || meet(&page, 1, &machine, Fate::Decides))
        };
        hurry();
        assert_eq!(meet(&page, 0, &machine, Fate::Decides), None);
        assert_eq!(other.join().unwrap(), None);
    });
}

pub fn a_task_that_comes_twice_counts_once_and_one_with_anothers_number_plans_alone() {
    every_order(2, || {
        let machine = Arc::new(machine());
        let page = Arc::new(page(2, &machine));
        let other = {
            let (page, machine) = (Arc::clone(&page), Arc::clone(&machine));
            spawn(move || meet(&page, 1, &machine, Fate::Decides))
        };
        let first = meet(&page, 0, &machine, Fate::Decides);
        assert_eq!(first.as_ref(), orders(2).first());
        assert_eq!(other.join().unwrap().as_ref(), orders(2).get(1));
        assert_eq!(meet(&page, 0, &machine, Fate::Decides), first);
        let stranger = page.meet(0, &request(1, &machine), &machine, 0);
        assert!(matches!(stranger, Meeting::Apart));
        assert!(!page.refuse());
    });
}

pub fn a_task_that_does_not_fit_keeps_nobody_waiting() {
    every_order(3, || {
        let machine = Arc::new(machine());
        let page = Arc::new(page(2, &machine));
        let other = {
            let (page, machine) = (Arc::clone(&page), Arc::clone(&machine));
            spawn(move || meet(&page, 1, &machine, Fate::Decides))
        };
        let mut wide = request(0, &machine);
        wide.slurm_cpus = Some(CpuSet::single(64));
        let meeting = page.meet(0, &wide, &machine, 0);
        assert!(matches!(meeting, Meeting::Apart));
        assert_eq!(other.join().unwrap(), None);
    });
}

pub fn a_refusal_reaches_whoever_does_not_know_all() {
    every_order(3, || {
        let machine = Arc::new(machine());
        let page = Arc::new(page(3, &machine));
        let other = {
            let (page, machine) = (Arc::clone(&page), Arc::clone(&machine));
            // It waits for a third that never comes, and is woken.
            spawn(move || meet(&page, 1, &machine, Fate::Decides).is_none())
        };
        // Plans alone, and refuses: task.rs.
        assert!(page.refuse() && !page.refuse() && page.is_refused());
        assert_eq!(meet(&page, 0, &machine, Fate::Decides), None);
        assert!(other.join().unwrap() && page.is_refused());
    });
}

pub fn one_speaks_for_all_that_plan_alone() {
    every_order(3, || {
        let machine = machine();
        let page = Arc::new(page(2, &machine));
        let other = {
            let page = Arc::clone(&page);
            spawn(move || page.may_speak())
        };
        let speaks = page.may_speak();
        assert!(speaks != other.join().unwrap());
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

pub fn a_rank_that_is_killed_at_any_write_is_seen_whole_or_not_at_all() {
    for writes in 0..MOST_WRITES {
        every_order(2, move || {
            let other = spawn(move || {
                die_after(writes);
                let peers = join(1, 2);
                peers.count_send(1, true);
                peers.leave();
            });
            let peers = join(0, 2);
            let seen = peers.read();
            assert!(
                seen.iter().all(|one| *one == peer(one.rank)),
                "{writes}: {seen:?}"
            );
            assert!(seen.contains(&peer(0)));
            let whole = peers.count() >= 2;
            assert!(!whole || peers.read().len() == 2, "{writes}");
            other.join().unwrap();
            peers.leave();
        });
    }
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

pub fn a_set_of_one_kind_is_told_once_with_what_its_own_members_moved() {
    every_order(3, || {
        /// Two communicators one after the other, of which the second begins on the file that the process has.
        fn run() -> (u64, u64) {
            let mut kind = Kind::begin_in(|| Some(NamedFile::open())).unwrap();
            let mut told = (0, 0);
            for again in [true, false] {
                let mut own = KindSum::default();
                own.figures[2] = 1;
                if let Some((count, sum)) = kind.end(&own) {
                    assert_eq!(sum.figures[2], count);
                    told = (told.0 + 1, told.1 + count);
                }
                if again && !kind.begin() {
                    kind = Kind::begin_in(|| Some(NamedFile::open())).unwrap();
                }
            }
            told
        }
        let other = spawn(run);
        let own = run();
        let theirs = other.join().unwrap();
        assert_eq!(
            own.1 + theirs.1,
            4,
            "each is of one set, and each set is told"
        );
        assert!((1..=4).contains(&(own.0 + theirs.0)));
        assert!(!name_is_there());
    });
}

pub fn a_sum_that_is_seen_has_the_bytes_of_its_calls() {
    every_order(3, || {
        let tally = Arc::new((Tally::<1, 1, U64>::new(), First::<U64>::new()));
        let other = {
            let tally = Arc::clone(&tally);
            spawn(move || tally.0.add(0, 0, 100, tally.1.by(1)))
        };
        let [[sum]] = tally.0.amounts();
        assert!(sum.bytes >= 100 * sum.calls, "{sum:?}");
        assert!(sum.calls == 0 || sum.least <= sum.most, "{sum:?}");
        other.join().unwrap();
        assert_eq!(tally.0.amounts()[0][0].calls, 1);
    });
}

pub fn threads_that_count_at_once_lose_nothing() {
    every_order(3, || {
        let tally = Arc::new((Tally::<1, 1, U64>::new(), First::<U64>::new()));
        let count = |tally: &(Tally<1, 1, U64>, First<U64>), thread| {
            for _ in 0..2 {
                tally.0.add(0, 0, 10, tally.1.by(thread));
            }
        };
        let other = {
            let tally = Arc::clone(&tally);
            spawn(move || count(&tally, 2))
        };
        count(&tally, 1);
        other.join().unwrap();
        let [[sum]] = tally.0.amounts();
        assert_eq!((sum.calls, sum.bytes), (4, 40));
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
