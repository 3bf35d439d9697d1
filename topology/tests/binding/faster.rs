//! CPUs that are faster than others: dealt evenly and before slower ones by `exclusive`, chosen by `l3`, and never at the cost of
//! the order that ARCHITECTURE.md names.

use proptest::prelude::*;
use topology::binding::{find_faster, plan_step};
use topology::machine::{Machine, Package};
use topology::set::{CpuSet, NodeSet};
use topology::words::faster_cpus_line;

use super::judged::{judged, split_of};
use super::made_up::{cpus, gpu, lists, machine, step, with_caches, with_masks};
use super::nearest::all_splits;
use super::optimal::cases;

/// One node of so many large cores of two threads each, which are faster, and of small ones; so many GPUs.
fn hybrid(large: u32, small: u32, gpus: usize) -> Machine {
    let mut machine = machine(1, 1, large * 2 + small, 1, &vec!["0"; gpus]);
    let core = |core: u32| match core.checked_sub(large) {
        None => CpuSet::from_range(core * 2, core * 2 + 1),
        Some(small) => CpuSet::single(large * 2 + small),
    };
    machine.cores = (0..large + small).map(core).collect();
    machine.speed_classes = vec![
        CpuSet::from_range(0, large * 2 - 1),
        CpuSet::from_range(large * 2, large * 2 + small - 1),
    ];
    machine
}

#[test]
fn tasks_that_share_a_node_have_as_many_fast_cpus_each() {
    let machine = hybrid(8, 16, 4);
    let gpus: Vec<[usize; 1]> = (0..4).map(|index| [index]).collect();
    for tasks in [1, 2, 4] {
        let views: Vec<&[usize]> = gpus.iter().take(tasks).map(|own| &own[..]).collect();
        let wanted = step(&machine, "best-effort,exclusive", 2, &views);
        let plan = plan_step(&machine, &wanted);
        for task in &plan.tasks {
            let each = (task.cpus.len(), task.cpus.common(&cpus("0-15")));
            assert_eq!(each, (32 / tasks, 16 / tasks), "{:?}", lists(&plan));
        }
        let faster = find_faster(&machine, &wanted.step_cpus, &plan);
        assert_eq!(
            faster_cpus_line("gpu1", &faster[0]).unwrap(),
            format!(
                "gpu1 CPUs 0-15 are faster than the step's others; each task has {} of them",
                16 / tasks
            )
        );
    }
}

#[test]
fn slurms_own_split_stays_only_where_it_is_as_even() {
    let machine = hybrid(4, 8, 2);
    let wanted = step(&machine, "best-effort,exclusive", 8, &[&[0], &[1]]);
    let even = with_masks(wanted.clone(), &["4-7,8-11", "0-3,12-15"]);
    let plan = plan_step(&machine, &even);
    assert_eq!(lists(&plan), ["4-11", "0-3,12-15"]);
    assert!(plan.tasks.iter().all(|task| !task.bind_cpus));
    let uneven = with_masks(wanted.clone(), &["0-7", "8-15"]);
    let plan = plan_step(&machine, &uneven);
    for task in &plan.tasks {
        assert_eq!(task.cpus.common(&cpus("0-7")), 4, "{:?}", lists(&plan));
    }
    // Where nothing is known to be faster, it stays.
    let alike = Machine {
        speed_classes: Vec::new(),
        ..machine
    };
    assert_eq!(lists(&plan_step(&alike, &uneven)), ["0-7", "8-15"]);
}

#[test]
fn what_is_missing_is_taken_of_the_faster_cpus_of_another_node() {
    let mut machine = machine(2, 1, 8, 1, &["0"]);
    machine.speed_classes = vec![cpus("0-7,12-15"), cpus("8-11")];
    let mut wanted = step(&machine, "best-effort,exclusive", 4, &[&[0]]);
    wanted.step_cpus = cpus("6-15");
    assert_eq!(lists(&plan_step(&machine, &wanted)), ["6-7,12-13"]);
    // Of another node, not of slower ones near by.
    machine.speed_classes = vec![cpus("8-15"), cpus("0-7")];
    wanted.step_cpus = machine.online.clone();
    assert_eq!(lists(&plan_step(&machine, &wanted)), ["0-7"]);
}

#[test]
fn l3_is_the_faster_cache_of_those_that_nobody_has() {
    let mut machine = with_caches(machine(1, 1, 8, 1, &["0", "0"]), 4);
    machine.speed_classes = vec![cpus("4-7"), cpus("0-3")];
    let wanted = step(&machine, "best-effort,l3", 2, &[&[0]]);
    assert_eq!(lists(&plan_step(&machine, &wanted)), ["4-7"]);
    let slow = with_masks(wanted.clone(), &["0-3"]);
    assert_eq!(lists(&plan_step(&machine, &slow)), ["4-7"]);
    // Each has one, the first the faster.
    let two = step(&machine, "best-effort,l3", 2, &[&[0], &[1]]);
    assert_eq!(lists(&plan_step(&machine, &two)), ["4-7", "0-3"]);
    // What it lacks it takes of the faster ones.
    let wide = step(&machine, "best-effort,l3", 6, &[&[0]]);
    machine.speed_classes = vec![cpus("0-3,6-7"), cpus("4-5")];
    assert_eq!(lists(&plan_step(&machine, &wide)), ["0-3,6-7"]);
}

/// How many faster CPUs the tasks have, and less the squares of how many each has.
fn finish(faster: &[CpuSet], split: &[Vec<usize>], numbers: &[u32]) -> (usize, i64) {
    let (mut fast, mut even) = (0, 0);
    for mine in split {
        for faster in faster {
            let held = mine
                .iter()
                .filter(|index| faster.contains(numbers[**index]));
            let held = held.count();
            fast += held;
            even -= i64::try_from(held.pow(2)).unwrap();
        }
    }
    (fast, even)
}

proptest! {
    #![proptest_config(cases(48))]

    /// Of all splits that are as good in the order, give each task as many CPUs and differ in two tasks, none has more of the
    /// faster ones, or has them more evenly.
    #[test]
    fn no_split_that_is_as_good_has_more_of_the_faster_cpus(
        (large, small, nodes) in prop::sample::select(vec![(1, 4, 1), (2, 4, 1), (2, 2, 1), (0, 8, 1), (0, 8, 2)]),
        fast in prop::collection::btree_set(0u32..8, 1..7),
        middle in prop::collection::btree_set(0u32..8, 0..3),
        tasks in 1usize..4,
        asked in 1u32..4,
        left_out in prop::collection::vec(0u32..8, 0..3),
    ) {
        let mut machine = if large > 0 {
            hybrid(large, small, 3)
        } else {
            let places = ["0", "0", if nodes == 2 { "1" } else { "0" }];
            let mut machine = machine(1, nodes, small / nodes, 1, &places);
            let set = |cpus: &mut dyn Iterator<Item = u32>| cpus.collect::<CpuSet>();
            let fastest = set(&mut fast.iter().copied());
            let next = set(&mut middle.iter().copied()).difference(&fastest);
            let rest = machine.online.difference(&fastest).difference(&next);
            machine.speed_classes = [fastest, next, rest].into_iter().filter(|class| !class.is_empty()).collect();
            machine
        };
        machine.packages = vec![Package {
            id: 0,
            cpus: machine.online.clone(),
            numa_nodes: NodeSet::from_range(0, nodes - 1),
        }];
        let own: Vec<[usize; 1]> = (0..tasks).map(|task| [2 - task]).collect();
        let gpus: Vec<&[usize]> = own.iter().map(|own| &own[..]).collect();
        prop_assume!(machine.gpu(gpu(0)).is_some());
        let mut wanted = step(&machine, "best-effort,exclusive", asked, &gpus);
        for cpu in left_out {
            let fewer = wanted.step_cpus.difference(&CpuSet::single(cpu));
            if fewer.len() >= tasks * asked as usize {
                wanted.step_cpus = fewer;
            }
        }
        prop_assume!(wanted.step_cpus.len() >= tasks * asked as usize);
        let (judge, numbers) = judged(&machine, &wanted);
        let faster = machine.faster(&wanted.step_cpus);
        let plan = split_of(&plan_step(&machine, &wanted), &numbers);
        // Tasks without a CPU of theirs in the step are left as they are.
        prop_assume!(plan.iter().all(|mine| !mine.is_empty()));
        let ours = (judge.merit(&plan), finish(&faster, &plan, &numbers));
        for split in all_splits(tasks, numbers.len()) {
            let is_as_wide = split.iter().zip(&plan).all(|(mine, ours)| mine.len() == ours.len());
            // What three tasks would have to pass on is not tried.
            let differing = split.iter().zip(&plan).filter(|(mine, ours)| mine != ours).count();
            if differing <= 2 && is_as_wide && split.iter().all(|mine| mine.len() >= judge.least()) {
                let other = (judge.merit(&split), finish(&faster, &split, &numbers));
                prop_assert!(other <= ours, "{split:?} is {other:?}, {plan:?} is {ours:?}, faster {faster:?}");
            }
        }
    }
}
