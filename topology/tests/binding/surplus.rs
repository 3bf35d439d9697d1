//! More local CPUs than were asked for: an even share for each, one cache for each where that leaves an even share, and
//! the rest evenly.

use topology::binding::{StepPlan, plan_step};
use topology::machine::Machine;
use topology::set::CpuSet;

use super::made_up::{cpus, lists, machine, step, with_caches, with_masks};

/// One socket of so many cores of two threads, eight cores below each last-level cache, and so many GPUs.
fn one_socket(cores: u32, gpus: usize) -> Machine {
    with_caches(machine(1, 1, cores, 2, &vec!["0"; gpus]), 8)
}

/// One task per GPU on such a socket.
fn plan(cores: u32, gpus: usize, asked: u32) -> (Machine, StepPlan) {
    let machine = one_socket(cores, gpus);
    let one: Vec<[usize; 1]> = (0..gpus).map(|gpu| [gpu]).collect();
    let views: Vec<&[usize]> = one.iter().map(|gpu| gpu.as_slice()).collect();
    let plan = plan_step(&machine, &step(&machine, "", asked, &views));
    (machine, plan)
}

fn widths(plan: &StepPlan) -> Vec<usize> {
    plan.tasks.iter().map(|task| task.cpus.len()).collect()
}

/// How many tasks have CPUs below each cache.
fn sharers(machine: &Machine, plan: &StepPlan) -> Vec<usize> {
    let caches = machine.last_level_caches.iter();
    let on = |cache: &CpuSet| {
        plan.tasks
            .iter()
            .filter(|task| task.cpus.intersects(cache))
            .count()
    };
    caches.map(on).collect()
}

#[test]
fn four_tasks_below_six_caches_get_as_much_each() {
    for asked in [1, 2, 12, 24] {
        let (machine, plan) = plan(48, 4, asked);
        assert_eq!(widths(&plan), [24; 4], "-c{asked}");
        let mut sharers = sharers(&machine, &plan);
        sharers.sort_unstable();
        assert_eq!(sharers, [1, 1, 1, 1, 2, 2], "-c{asked}");
    }
}

#[test]
fn caches_stay_whole_where_they_come_out_even() {
    for gpus in [1, 2, 3, 6] {
        for asked in [1, 3, 16] {
            let (machine, plan) = plan(48, gpus, asked);
            assert_eq!(
                widths(&plan),
                vec![96 / gpus; gpus],
                "{gpus} GPUs, -c{asked}"
            );
            assert_eq!(sharers(&machine, &plan), [1; 6], "{gpus} GPUs, -c{asked}");
        }
    }
}

#[test]
fn what_does_not_come_out_even_differs_by_one_core() {
    for gpus in [5, 7, 9] {
        let (machine, plan) = plan(48, gpus, 1);
        let (fewest, most) = (
            widths(&plan).into_iter().min(),
            widths(&plan).into_iter().max(),
        );
        assert_eq!(
            most.unwrap() - fewest.unwrap(),
            2,
            "{gpus}: {:?}",
            widths(&plan)
        );
        for core in &machine.cores {
            let on_it = plan.tasks.iter().filter(|task| task.cpus.intersects(core));
            assert_eq!(on_it.count(), 1, "{gpus}: {core} of {:?}", lists(&plan));
        }
    }
}

#[test]
fn each_keeps_to_one_cache_where_an_even_share_fits_below_it() {
    let (machine, plan) = plan(48, 11, 1);
    let mut widths = widths(&plan);
    widths.sort_unstable();
    assert_eq!(widths, [8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 16]);
    assert_eq!(sharers(&machine, &plan), [2, 2, 2, 2, 2, 1]);
}

#[test]
fn three_tasks_on_two_caches_of_four_cores_are_on_one_each() {
    let mut machine = machine(1, 1, 8, 1, &["0", "0", "0"]);
    machine.last_level_caches = vec![cpus("0-3"), cpus("4-7")];
    let gpus: &[&[usize]] = &[&[0], &[1], &[2]];
    let plan = plan_step(&machine, &step(&machine, "", 1, gpus));
    assert_eq!(lists(&plan), ["0-1", "4-7", "2-3"]);
}

#[test]
fn a_cache_that_a_core_has_to_itself_is_nobodys_home() {
    let mut machine = machine(1, 1, 8, 1, &["0"; 5]);
    machine.last_level_caches = machine.cores.clone();
    let gpus: &[&[usize]] = &[&[0], &[1], &[2], &[3], &[4]];
    let plan = plan_step(&machine, &step(&machine, "", 1, gpus));
    let mut widths = widths(&plan);
    widths.sort_unstable();
    assert_eq!(widths, [1, 1, 2, 2, 2]);
}

#[test]
fn a_task_alone_on_its_node_has_all_of_it() {
    let machine = machine(2, 1, 6, 1, &["0", "0", "0", "1"]);
    let gpus: &[&[usize]] = &[&[0], &[1], &[2], &[3]];
    let plan = plan_step(&machine, &step(&machine, "", 1, gpus));
    assert_eq!(lists(&plan), ["0-1", "2-3", "4-5", "6-11"]);
}

#[test]
fn tasks_near_two_nodes_are_on_one_each_and_even_there() {
    let machine = machine(1, 2, 4, 1, &["0-1", "0-1", "0-1", "0-1"]);
    let gpus: &[&[usize]] = &[&[0], &[1], &[2], &[3]];
    let plan = plan_step(&machine, &step(&machine, "", 1, gpus));
    assert_eq!(widths(&plan), [2; 4], "{:?}", lists(&plan));
    for task in &plan.tasks {
        assert_eq!(machine.nodes_of(&task.cpus).len(), 1, "{}", task.cpus);
    }
}

#[test]
fn an_uneven_split_of_slurms_that_uses_all_makes_way_for_an_even_one() {
    let machine = machine(1, 1, 8, 1, &["0", "0"]);
    let step = with_masks(step(&machine, "", 1, &[&[0], &[1]]), &["0-6", "7"]);
    let plan = plan_step(&machine, &step);
    assert_eq!(widths(&plan), [4, 4], "{:?}", lists(&plan));
    assert!(plan.tasks[1].cpus.contains(7), "{:?}", lists(&plan));
}

#[test]
fn tasks_wider_than_a_cache_have_no_cpu_in_common_where_there_are_enough() {
    let machine = with_caches(machine(1, 1, 12, 1, &["0", "0", "0"]), 2);
    let gpus: &[&[usize]] = &[&[0], &[1], &[2]];
    let plan = plan_step(&machine, &step(&machine, "l3", 4, gpus));
    assert_eq!(lists(&plan), ["0-1,6-7", "2-3,8-9", "4-5,10-11"]);
}
