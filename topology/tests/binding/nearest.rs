//! CPUs that are nearer to a GPU than the rest of its node: dealt first by `exclusive`, alone by `l3`, and never at the cost of
//! the order that ARCHITECTURE.md names.

use proptest::prelude::*;
use topology::binding::plan_step;
use topology::machine::Machine;
use topology::set::CpuSet;

use super::judged::{judged, split_of};
use super::made_up::{gpu, machine, step, with_caches, with_masks};
use super::optimal::cases;

/// A socket of nodes with two caches each; a GPU hangs from each cache, the first of a node from its second.
fn by_cache(nodes: u32, cores_each: u32, threads: u32) -> Machine {
    let places: Vec<String> = (0..nodes * 2).map(|gpu| (gpu / 2).to_string()).collect();
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let mut machine = with_caches(
        machine(1, nodes, cores_each, threads, &places),
        cores_each as usize / 2,
    );
    let caches = machine.last_level_caches.clone();
    for (index, gpu) in machine.gpus.iter_mut().enumerate() {
        gpu.locality.nearest_cpus = Some(caches[index ^ 1].clone());
    }
    machine
}

fn nearest(machine: &Machine, index: usize) -> &CpuSet {
    let gpu = machine.gpu(gpu(index)).unwrap();
    gpu.locality.nearest_cpus.as_ref().unwrap()
}

#[test]
fn each_task_of_a_full_socket_gets_the_cache_that_its_gpu_hangs_from() {
    let machine = by_cache(4, 16, 2);
    let own: Vec<[usize; 1]> = (0..8).map(|index| [index]).collect();
    let gpus: Vec<&[usize]> = own.iter().map(|own| &own[..]).collect();
    for option in [
        "best-effort,exclusive",
        "best-effort,l3",
        "restricted,exclusive",
    ] {
        for asked in [1, 7, 16] {
            let plan = plan_step(&machine, &step(&machine, option, asked, &gpus));
            for (index, task) in plan.tasks.iter().enumerate() {
                assert_eq!(
                    task.cpus,
                    *nearest(&machine, index),
                    "{option} -c{asked}, task {index}"
                );
            }
        }
    }
}

#[test]
fn l3_is_the_cache_that_the_gpu_hangs_from_also_where_others_hold_it() {
    let machine = by_cache(1, 8, 1);
    let plan = plan_step(
        &machine,
        &step(&machine, "best-effort,l3", 1, &[&[0], &[0], &[1]]),
    );
    for (task, index) in [(0, 0), (1, 0), (2, 1)] {
        assert_eq!(
            plan.tasks[task].cpus,
            *nearest(&machine, index),
            "task {task}"
        );
    }
}

/// The step has one CPU of the GPU's cache and all of the other's.
#[test]
fn l3_is_below_one_cache_also_where_the_gpus_own_has_too_few() {
    let machine = by_cache(1, 8, 1);
    let cpus = |asked, allowed: &str| {
        let mut wanted = step(&machine, "best-effort,l3", asked, &[&[0]]);
        wanted.step_cpus = allowed.parse().unwrap();
        plan_step(&machine, &wanted).tasks[0].cpus.to_string()
    };
    // GPU 0 is at 4-7.
    assert_eq!(cpus(3, "0-2,5"), "0-2");
    assert_eq!(cpus(1, "0-2,5"), "5");
    assert_eq!(cpus(4, "0-2,5"), "0-2,5");
}

#[test]
fn slurms_own_split_stays_only_where_it_is_as_near() {
    let machine = by_cache(1, 8, 1);
    let wanted = step(&machine, "best-effort,exclusive", 4, &[&[0], &[1]]);
    for masks in [["0-3", "4-7"], ["4-7", "0-3"]] {
        let plan = plan_step(&machine, &with_masks(wanted.clone(), &masks));
        for (index, task) in plan.tasks.iter().enumerate() {
            assert_eq!(task.cpus, *nearest(&machine, index), "{masks:?}");
        }
    }
}

proptest! {
    #![proptest_config(cases(48))]

    /// Of all splits that are as good in the order, none has more of the nearest CPUs.
    #[test]
    fn no_split_that_is_as_good_has_more_of_the_nearest_cpus(
        (nodes, cores) in prop::sample::select(vec![(1, 4), (1, 6), (2, 2)]),
        picks in prop::collection::vec(0usize..4, 1..4),
        asked in 1u32..4,
        left_out in prop::collection::vec(0u32..8, 0..3),
    ) {
        let machine = by_cache(nodes, cores, 1);
        let own: Vec<[usize; 1]> = picks.iter().map(|pick| [pick % machine.gpus.len()]).collect();
        let gpus: Vec<&[usize]> = own.iter().map(|own| &own[..]).collect();
        let mut wanted = step(&machine, "best-effort,exclusive", asked, &gpus);
        for cpu in left_out {
            let fewer = wanted.step_cpus.difference(&CpuSet::single(cpu));
            if fewer.len() >= own.len() * asked as usize {
                wanted.step_cpus = fewer;
            }
        }
        prop_assume!(wanted.step_cpus.len() >= own.len() * asked as usize);
        let (judge, numbers) = judged(&machine, &wanted);
        let held = |split: &[Vec<usize>]| -> usize {
            let each = split.iter().zip(&own).map(|(mine, own)| {
                let near = nearest(&machine, own[0]);
                mine.iter().filter(|index| near.contains(numbers[**index])).count()
            });
            each.sum()
        };
        let plan = split_of(&plan_step(&machine, &wanted), &numbers);
        // Tasks without a CPU of theirs in the step are left as they are.
        prop_assume!(plan.iter().all(|mine| !mine.is_empty()));
        let ours = (judge.merit(&plan), held(&plan));
        let tasks = own.len();
        for split in all_splits(tasks, numbers.len()) {
            if split.iter().all(|mine| mine.len() >= judge.least()) {
                let other = (judge.merit(&split), held(&split));
                prop_assert!(other <= ours, "{split:?} is {other:?}, {plan:?} is {ours:?}");
            }
        }
    }
}

/// All ways to give so many CPUs to tasks, or to nobody.
pub(crate) fn all_splits(tasks: usize, cpus: usize) -> impl Iterator<Item = Vec<Vec<usize>>> {
    let mut owners = Some(vec![0usize; cpus]);
    std::iter::from_fn(move || {
        let mut now = owners.take()?;
        let mut split = vec![Vec::new(); tasks];
        for (index, owner) in now.iter().enumerate() {
            if *owner < tasks {
                split[*owner].push(index);
            }
        }
        if let Some(next) = now.iter().position(|owner| *owner < tasks) {
            now[next] += 1;
            now[..next].fill(0);
            owners = Some(now);
        }
        Some(split)
    })
}
