//! GPUs whose CPUs a step does not have, or not enough of.

use topology::binding::{Verdict, plan_step, summarize};
use topology::machine::MeasuredLatency;
use topology::words::summary_line;

use super::made_up::{TWO_SOCKETS, cpus, lists, machine, message, step, verdicts, with_masks};

#[test]
fn too_few_local_cpus_are_filled_up_with_the_nearest() {
    let machine = machine(2, 2, 2, 1, &["0", "1", "2", "3"]);
    for option in ["", "node"] {
        let plan = plan_step(&machine, &step(&machine, option, 3, &[&[0]]));
        assert_eq!(
            (lists(&plan), verdicts(&plan)),
            (vec!["0-2".to_owned()], vec![Verdict::Partial]),
            "{option}"
        );
    }
}

#[test]
fn a_task_without_room_on_its_node_stays_on_the_socket_of_its_gpu() {
    // Two nodes on each socket, and both GPUs on the first.  Slurm's own split has as many tasks on one node.
    let pair = machine(2, 2, 2, 1, &["0", "0"]);
    let step_of_two = with_masks(step(&pair, "", 2, &[&[0], &[1]]), &["0-1", "4-5"]);
    assert_eq!(lists(&plan_step(&pair, &step_of_two)), ["0-1", "2-3"]);
    // Of other sockets the nearest.
    let mut ring = machine(4, 1, 2, 1, &["0", "0"]);
    for (from, to) in [(0, 1), (1, 0)] {
        ring.numa_nodes[from].distances.insert(to, 31);
    }
    let step_of_two = with_masks(step(&ring, "", 2, &[&[0], &[1]]), &["0-1", "2-3"]);
    assert_eq!(lists(&plan_step(&ring, &step_of_two)), ["0-1", "4-5"]);
}

#[test]
fn a_step_without_a_local_cpu_is_left_as_slurm_made_it() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let mut step = with_masks(step(&machine, "", 1, &[&[2]]), &["1"]);
    step.step_cpus = cpus("0-3");
    let plan = plan_step(&machine, &step);
    assert_eq!(
        (lists(&plan), verdicts(&plan)),
        (vec!["1".to_owned()], vec![Verdict::Unbound])
    );
    assert!(!plan.tasks[0].bind_cpus && !plan.tasks[0].bind_memory);
    assert_eq!(
        message(&plan, 0),
        "GPU 0000:22:00.0 is on node 1, but the step only has CPUs 0-3, on node 0; left as Slurm made it \
         (every copy crosses the socket link; memory across it: SLIT 21, by firmware 2.1x local latency)"
    );
}

#[test]
fn what_a_far_task_pays_is_said_as_measured_where_it_was() {
    let mut machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let latency = |cpu_node, memory_node, nanoseconds| MeasuredLatency {
        cpu_node,
        memory_node,
        nanoseconds,
    };
    machine.latencies = vec![latency(0, 0, 90), latency(0, 1, 153)];
    let mut step = with_masks(step(&machine, "", 1, &[&[2]]), &["1"]);
    step.step_cpus = cpus("0-3");
    let said = message(&plan_step(&machine, &step), 0);
    assert!(
        said.ends_with("(every copy crosses the socket link; memory across it: 1.7x local latency, as measured)"),
        "{said}"
    );
}

#[test]
fn tasks_left_alone_keep_their_cpus_from_the_others() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let mut step = with_masks(
        step(&machine, "", 1, &[&[0], &[1], &[2], &[3]]),
        &["0", "1", "2", "3"],
    );
    step.step_cpus = cpus("0-3");
    assert_eq!(lists(&plan_step(&machine, &step)), ["0", "1", "2", "3"]);
}

#[test]
fn a_task_far_from_its_gpu_makes_way_for_one_that_is_near() {
    let machine = machine(2, 2, 2, 1, &["0", "1", "2", "3"]);
    let mut step = with_masks(
        step(&machine, "", 1, &[&[0], &[1], &[2], &[3]]),
        &["0", "4", "1", "5"],
    );
    step.step_cpus = cpus("0-1,4-5");
    let plan = plan_step(&machine, &step);
    assert_eq!(lists(&plan), ["0", "1", "4", "5"]);
    assert_eq!(
        verdicts(&plan),
        [
            Verdict::Local,
            Verdict::Remote,
            Verdict::Local,
            Verdict::Unbound
        ]
    );
    assert!(
        message(&plan, 1).contains("moved to CPU 1"),
        "{}",
        message(&plan, 1)
    );
}

#[test]
fn tasks_without_a_local_cpu_change_places_where_each_is_on_the_others_socket() {
    let machine = machine(2, 2, 2, 1, &["1", "3"]);
    let masks = |masks: [&str; 2]| {
        let mut step = with_masks(step(&machine, "", 1, &[&[0], &[1]]), &masks);
        step.step_cpus = cpus("0,4");
        plan_step(&machine, &step)
    };
    let plan = masks(["4", "0"]);
    assert_eq!(lists(&plan), ["0", "4"]);
    assert!(
        message(&plan, 0).contains("moved to CPU 0"),
        "{}",
        message(&plan, 0)
    );
    // Each on its own socket stays, as does what may run on both.
    for kept in [["0", "4"], ["0,4", "0,4"]] {
        let plan = masks(kept);
        assert_eq!(lists(&plan), kept);
        assert!(!plan.tasks[0].bind_cpus && !plan.tasks[1].bind_cpus);
    }
}

#[test]
fn a_task_that_is_left_with_a_mask_nobody_knows_shows_the_steps_cpus() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    for width in ["exclusive", "node", "socket", "l3"] {
        let mut step = step(&machine, width, 1, &[&[2], &[3]]);
        step.step_cpus = cpus("1");
        let plan = plan_step(&machine, &step);
        assert_eq!(verdicts(&plan), [Verdict::Unbound; 2]);
        assert_eq!(lists(&plan), ["1", "1"], "{width}");
        assert!(!plan.tasks[0].bind_cpus);
    }
}

#[test]
fn a_task_that_cannot_move_keeps_its_cpus_to_itself() {
    let machine = machine(2, 1, 4, 1, &["0", "0"]);
    let mut step = with_masks(
        step(&machine, "", 2, &[&[0], &[1], &[]]),
        &["0-1", "4-5", "2-3"],
    );
    step.step_cpus = cpus("0-5");
    let plan = plan_step(&machine, &step);
    assert_eq!(lists(&plan)[2], "2-3");
    assert!(
        !plan.tasks[1].cpus.intersects(&cpus("2-3")),
        "{:?}",
        lists(&plan)
    );
}

#[test]
fn a_task_whose_gpu_nobody_can_place_makes_way_too() {
    let machine = machine(2, 1, 4, 1, &["0", "0", "?", "?"]);
    let masks = ["0-1", "4-5", "2-3", "6-7"];
    let step = with_masks(step(&machine, "", 2, &[&[0], &[1], &[2], &[3]]), &masks);
    let plan = plan_step(&machine, &step);
    assert_eq!(lists(&plan), ["0-1", "2-3", "4-5", "6-7"]);
    assert_eq!(
        verdicts(&plan),
        [
            Verdict::Local,
            Verdict::Local,
            Verdict::Unbound,
            Verdict::Unbound
        ]
    );
    assert!(plan.tasks[2].bind_cpus && !plan.tasks[3].bind_cpus);
    assert!(
        message(&plan, 2).contains("moved to CPUs 4-5"),
        "{}",
        message(&plan, 2)
    );
    assert!(
        message(&plan, 3).contains("left as Slurm made it"),
        "{}",
        message(&plan, 3)
    );
}

#[test]
fn a_task_left_with_a_mask_that_nobody_knows_has_no_width() {
    let machine = machine(2, 1, 4, 1, &["0", "0", "?", "?"]);
    let step = step(&machine, "", 1, &[&[0], &[1], &[2], &[3]]);
    let plan = plan_step(&machine, &step);
    assert_eq!(lists(&plan), ["0-1", "2-3", "0-7", "0-7"]);
    assert_eq!(
        summary_line("h", &summarize(&machine, &step, &plan)),
        "h: 2 of 4 tasks on their GPUs' CPUs and 2 on their memory (nodes 0 0 ? ?), 2 CPUs each where bound"
    );
    let masks = &["0", "1", "2", "4-5"];
    let step = with_masks(step, masks);
    let plan = plan_step(&machine, &step);
    let line = summary_line("h", &summarize(&machine, &step, &plan));
    assert!(line.ends_with("1 to 2 CPUs"), "{line}: {:?}", lists(&plan));
}
