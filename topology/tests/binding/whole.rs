//! Steps with too few local CPUs: whole tasks rather than halves.

use topology::binding::{Misfit, Verdict, plan_step, summarize};
use topology::words::summary_line;

use super::made_up::{TWO_SOCKETS, cpus, lists, machine, step, verdicts, with_caches, with_masks};

/// Two sockets of two nodes each of two cores, a GPU on each node.
const FOUR_NODES: &[&str] = &["0", "1", "2", "3"];

#[test]
fn two_tasks_are_whole_and_two_remote_rather_than_four_halves() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let gpus: &[&[usize]] = &[&[0], &[0], &[1], &[1]];
    let plan = plan_step(&machine, &step(&machine, "", 2, gpus));
    assert_eq!(lists(&plan), ["0-1", "2-3", "4-5", "6-7"]);
    assert_eq!(
        verdicts(&plan),
        [
            Verdict::Local,
            Verdict::Local,
            Verdict::Remote,
            Verdict::Remote
        ]
    );
}

#[test]
fn the_summary_names_the_remote_ones() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let first: &[usize] = &[0];
    let step = step(&machine, "", 2, &[first; 4]);
    let summary = summarize(&machine, &step, &plan_step(&machine, &step));
    assert_eq!(
        summary_line("h", &summary),
        "h: 2 of 4 tasks on their GPUs' CPUs and 4 on their memory (nodes 0 0 0 0), 2 CPUs each; \
         tasks 2 and 3: no CPU left on node 0"
    );
}

#[test]
fn a_task_on_its_gpus_socket_is_where_it_was_asked_to_be() {
    let machine = machine(2, 2, 2, 1, FOUR_NODES);
    let gpus: &[&[usize]] = &[&[0], &[1], &[2], &[3]];
    let step = step(&machine, "socket", 2, gpus);
    let summary = summarize(&machine, &step, &plan_step(&machine, &step));
    assert_eq!(
        summary_line("h", &summary),
        "h: 4 tasks on their GPUs' sockets and memory (nodes 0 1 2 3), 4 CPUs each, which tasks share"
    );
}

#[test]
fn slurms_own_split_stays_where_none_is_better() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    for masks in [["0-2", "3-5"], ["3-5", "0-2"], ["1-3", "0,4-5"]] {
        let mut step = with_masks(step(&machine, "", 3, &[&[0], &[1]]), &masks);
        step.step_cpus = cpus("0-5");
        assert_eq!(lists(&plan_step(&machine, &step)), masks);
    }
}

#[test]
fn a_split_of_slurms_that_halves_tasks_does_not_stay() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let masks = ["0-1,5", "2-4"];
    let mut step = with_masks(step(&machine, "", 3, &[&[0], &[1]]), &masks);
    step.step_cpus = cpus("0-5");
    let plan = plan_step(&machine, &step);
    assert!(
        verdicts(&plan).contains(&Verdict::Local),
        "{:?}",
        lists(&plan)
    );
}

#[test]
fn remote_tasks_are_on_one_node_each_the_nearest_first() {
    let machine = machine(2, 2, 2, 1, FOUR_NODES);
    let last: &[usize] = &[3];
    let plan = plan_step(&machine, &step(&machine, "", 2, &[last; 4]));
    assert_eq!(lists(&plan), ["6-7", "4-5", "0-1", "2-3"]);
}

#[test]
fn tasks_wider_than_a_node_are_on_one_package_each() {
    let machine = machine(2, 2, 2, 1, FOUR_NODES);
    let first: &[usize] = &[0];
    let plan = plan_step(&machine, &step(&machine, "", 4, &[first; 2]));
    assert_eq!(lists(&plan), ["0-3", "4-7"]);
}

#[test]
fn four_wide_tasks_of_one_socket_leave_two_whole() {
    let machine = machine(2, 1, 16, 1, &["0", "0", "0", "0"]);
    let gpus: &[&[usize]] = &[&[0], &[1], &[2], &[3]];
    let plan = plan_step(&machine, &step(&machine, "", 8, gpus));
    assert_eq!(lists(&plan), ["0-7", "8-15", "16-23", "24-31"]);
}

#[test]
fn under_a_strict_policy_each_gets_a_local_core_first() {
    let machine = machine(2, 1, 4, 1, &["0", "0", "0", "0"]);
    let gpus: &[&[usize]] = &[&[0], &[1], &[2], &[3]];
    let plan = plan_step(&machine, &step(&machine, "restricted", 2, gpus));
    assert_eq!(plan.refusal, None);
    let socket = cpus("0-3");
    let local: Vec<usize> = plan
        .tasks
        .iter()
        .map(|task| task.cpus.intersection(&socket).len())
        .collect();
    assert_eq!(local, [1; 4], "{:?}", lists(&plan));
    let five: &[&[usize]] = &[&[0], &[1], &[2], &[3], &[0]];
    let refusal = plan_step(&machine, &step(&machine, "restricted", 1, five)).refusal;
    let misfit = refusal.map(|refusal| refusal.misfit);
    assert!(
        matches!(misfit, Some(Misfit::TooFewLeft { local: 0, .. })),
        "{misfit:?}"
    );
}

#[test]
fn a_task_whose_gpu_is_unknown_takes_no_cpu_that_is_local_to_another() {
    let machine = machine(2, 1, 4, 1, &["0", "?"]);
    let plan = plan_step(&machine, &step(&machine, "", 4, &[&[1], &[0]]));
    assert_eq!(lists(&plan)[1], "0-3");
}

/// Nodes of 16 GPUs on a host of eight nodes: spread, or crowded in ways that leave most tasks without local CPUs.
fn places_of_gpus() -> Vec<(&'static str, Vec<&'static str>)> {
    let nodes = ["0", "1", "2", "3", "4", "5", "6", "7"];
    let by = |node: fn(usize) -> usize| (0..16).map(|gpu| nodes[node(gpu)]).collect();
    vec![
        ("two on each node", by(|gpu| gpu / 2)),
        ("all on one", by(|_| 0)),
        ("15 and 1", by(|gpu| usize::from(gpu == 15) * 7)),
        ("8 and 8", by(|gpu| gpu / 8 * 4)),
        ("8 and 8, one socket", by(|gpu| gpu / 8)),
        ("12 and 4", by(|gpu| gpu / 12 * 5)),
        ("8, 4, 2 and 2", by(|gpu| [0, 0, 0, 0, 1, 1, 2, 6][gpu / 2])),
        ("one socket", by(|gpu| gpu % 4)),
        ("six nodes", by(|gpu| gpu % 6)),
    ]
}

fn time_of_this_thread() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.try_into().unwrap()
}

#[test]
fn a_step_of_256_tasks_is_decided_at_once() {
    // An optimised build took 0.5 to 2.4 ms at 2.8 GHz, the fastest of twelve runs each; one without is some twenty times
    // slower.
    // What counts is this thread's own time: other work on the host is not ours.
    let most = std::time::Duration::from_millis(if cfg!(debug_assertions) { 400 } else { 4 });
    let mut slow = Vec::new();
    let places = places_of_gpus();
    let hosts = places
        .iter()
        .flat_map(|place| [1, 4, 8].map(|cores| (place, cores)));
    for ((name, gpus), cores) in hosts {
        let machine = with_caches(machine(2, 4, 32, 2, gpus), cores);
        let one: Vec<[usize; 1]> = (0..256).map(|task| [task % 16]).collect();
        let two: Vec<[usize; 2]> = (0..256).map(|task| [task % 16, (task + 1) % 16]).collect();
        let ones: Vec<&[usize]> = one.iter().map(|gpu| gpu.as_slice()).collect();
        let twos: Vec<&[usize]> = two.iter().map(|gpu| gpu.as_slice()).collect();
        for (views, seen) in [(&ones, "one GPU"), (&twos, "two GPUs")] {
            for (asked, option) in [(1, ""), (2, ""), (3, ""), (2, "restricted")] {
                let mut step = step(&machine, option, asked, views);
                step.may_refuse = false;
                // Caches that others have filled make one run slow, not the fastest of several.
                let runs = if cfg!(debug_assertions) { 2 } else { 12 };
                let took = (0..runs).map(|_| {
                    let started = time_of_this_thread();
                    assert_eq!(plan_step(&machine, &step).tasks.len(), 256);
                    time_of_this_thread() - started
                });
                let fastest = took.min().unwrap();
                let what = format!(
                    "{name}, {seen} per task, -c{asked} {option}, cores below a cache: {cores}"
                );
                println!("{fastest:?}: {what}");
                if fastest > most {
                    slow.push(format!("{what}: {fastest:?}"));
                }
            }
        }
    }
    assert!(slow.is_empty(), "over {most:?}: {slow:#?}");
}

/// `srun -n4 --gpus=4 --gpu-bind=mask_gpu:0x1,0xe -c2`.
#[test]
fn under_a_strict_policy_each_gets_a_core_near_each_of_its_gpus() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let (one, rest): (&[usize], &[usize]) = (&[0], &[1, 2, 3]);
    let views = [one, rest, one, rest];
    let plan = plan_step(&machine, &step(&machine, "restricted", 2, &views));
    assert_eq!(plan.refusal, None);
    assert_eq!(lists(&plan), ["0,4", "1,5", "2,6", "3,7"]);
    // Where nobody asks for that, as many as can be are wholly local.
    let plan = plan_step(&machine, &step(&machine, "", 2, &views));
    assert_eq!(lists(&plan), ["0-1", "4-5", "2-3", "6-7"]);
    // Three of node 0's CPUs are not enough for the four tasks that have a GPU there.
    let mut fewer = step(&machine, "restricted", 1, &views);
    fewer.step_cpus.remove(0);
    assert!(plan_step(&machine, &fewer).refusal.is_some());
}

/// `srun -n2 --gpus=4 --gpu-bind=mask_gpu:0x3,0xc -c2` in a step with the CPUs of one of two sockets.
#[test]
fn a_task_far_from_its_gpus_makes_way_for_one_that_has_gpus_on_several_nodes() {
    let machine = machine(2, 2, 2, 1, &["0", "1", "2", "3"]);
    let views: [&[usize]; 2] = [&[0, 1], &[2, 3]];
    let mut step = step(&machine, "", 2, &views);
    step.step_cpus = cpus("0-3");
    let step = with_masks(step, &["0-1", "2-3"]);
    assert_eq!(lists(&plan_step(&machine, &step)), ["0,3", "1-2"]);
}

#[test]
fn tasks_with_gpus_on_both_sockets_share_no_core() {
    let machine = machine(2, 1, 4, 2, TWO_SOCKETS);
    let all: &[usize] = &[0, 1, 2, 3];
    let plan = plan_step(&machine, &step(&machine, "map=visible", 4, &[all; 4]));
    for core in &machine.cores {
        let on_it = plan.tasks.iter().filter(|task| task.cpus.intersects(core));
        assert!(on_it.count() < 2, "{core}: {:?}", lists(&plan));
    }
}

#[test]
fn tasks_with_gpus_on_both_sockets_touch_both_though_they_share_cores() {
    let machine = machine(2, 1, 4, 2, TWO_SOCKETS);
    let all: &[usize] = &[0, 1, 2, 3];
    let mut step = step(&machine, "restricted,map=visible", 2, &[all; 4]);
    step.step_cpus = cpus("0-1,4-5,8-9,12-13");
    let plan = plan_step(&machine, &step);
    assert_eq!(plan.refusal, None);
    assert_eq!(
        verdicts(&plan),
        [Verdict::Spanning; 4],
        "{:?}",
        lists(&plan)
    );
}
