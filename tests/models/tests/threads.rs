//! The page among real threads, over the processor's own atomics: fast here, and under Miri (`make test-miri`), which
//! looks for races and memory that is not there, in many orders.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use launch::shared::SharedMemory;
use launch::shared::page::{Meeting, Order, Page, words_for};
use topology::binding::TaskRequest;
use topology::machine::{Gpu, Machine};
use topology::pci::PciDevice;
use topology::set::CpuSet;

const TASKS: usize = 4;

#[derive(Debug)]
struct Words {
    words: Vec<AtomicU32>,
    start: Instant,
}

impl SharedMemory for Words {
    type Word = AtomicU32;

    fn words(&self) -> &[AtomicU32] {
        &self.words
    }

    fn wait_while(&self, word: &AtomicU32, seen: u32, _limit: Duration) {
        if word.load(Ordering::Acquire) == seen {
            std::thread::yield_now();
        }
    }

    fn wake_all(&self, _word: &AtomicU32) {}

    fn now_micros(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

fn machine() -> Machine {
    let address = "0000:21:00.0".parse().unwrap();
    Machine {
        online: CpuSet::from_range(0, 7),
        gpus: vec![Gpu::of(&PciDevice::new(address, 0x03_0200, 0x10de, 0x2330))],
        ..Machine::default()
    }
}

fn request(task: usize, machine: &Machine) -> TaskRequest {
    TaskRequest {
        visible: vec![machine.gpus[0].pci],
        slurm_cpus: Some(CpuSet::single(task as u32)),
        user_cpu_bind: false,
        sees_all_gpus: task == 0,
        user_memory: None,
    }
}

fn decide(told: &[TaskRequest]) -> Vec<Order> {
    let order = |task: &TaskRequest| Order {
        cpus: task.slurm_cpus.clone(),
        lines: task.slurm_cpus.as_ref().unwrap().to_string(),
        ..Order::default()
    };
    told.iter().map(order).collect()
}

/// What each of `coming` came to do, in a step of [`TASKS`].
fn step(coming: usize) -> Vec<Option<Order>> {
    let machine = machine();
    let words = (0..words_for(TASKS, &machine, 16)).map(|_| AtomicU32::new(0));
    let memory = Words {
        words: words.collect(),
        start: Instant::now(),
    };
    let page = Page::over(memory, TASKS, &machine);
    let meet = |task| match page.meet(task, &request(task, &machine), &machine, 0) {
        Meeting::Decides(decider) => {
            let orders = decide(&page.read(&machine));
            decider.publish(&orders);
            Some(orders[task].clone())
        }
        Meeting::Ordered => Some(page.order(task).unwrap()),
        Meeting::Known => Some(decide(&page.read(&machine))[task].clone()),
        Meeting::Apart => None,
    };
    std::thread::scope(|scope| {
        let meet = &meet;
        let tasks: Vec<_> = (0..coming)
            .map(|task| scope.spawn(move || meet(task)))
            .collect();
        tasks.into_iter().map(|task| task.join().unwrap()).collect()
    })
}

#[test]
fn each_task_gets_what_was_decided_for_it() {
    for (task, order) in step(TASKS).into_iter().enumerate() {
        let cpus = CpuSet::single(task as u32);
        // Under Miri or on a busy host one may have given up, and then all have.
        let Some(order) = order else { return };
        assert_eq!((order.lines, order.cpus), (cpus.to_string(), Some(cpus)));
    }
}

#[test]
fn where_one_never_comes_all_plan_alone() {
    assert!(step(TASKS - 1).iter().all(Option::is_none));
}
