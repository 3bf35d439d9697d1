//! Refusals, the user's own bindings, and tasks that decide alone.

use topology::binding::{Misfit, Verdict, plan_alone, plan_step};
use topology::words::{Voice, advice_line, refusal_reason};

use super::made_up::{TWO_SOCKETS, cpus, lists, machine, step, verdicts, with_masks};

#[test]
fn strict_policies_refuse_and_say_what_would_fit() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let mut far = step(&machine, "restricted", 1, &[&[0], &[2]]);
    far.step_cpus = cpus("0-3");
    let plan = plan_step(&machine, &far);
    let refusal = plan.refusal.clone().unwrap();
    assert_eq!(refusal.task, 1);
    assert_eq!(
        refusal_reason(&refusal, Voice::Step),
        "task 1's GPU 0000:22:00.0 is on node 1, but the step only has CPUs 0-3, on node 0"
    );
    assert!(
        advice_line(&refusal).contains("--kill-on-bad-exit=1"),
        "{}",
        advice_line(&refusal)
    );
    assert_eq!(verdicts(&plan), [Verdict::Refused; 2]);
    far.may_refuse = false;
    assert_eq!(plan_step(&machine, &far).refusal, None);

    let span = step(&machine, "single-numa-node", 1, &[&[1, 2]]);
    let refusal = plan_step(&machine, &span).refusal.unwrap();
    assert!(
        refusal_reason(&refusal, Voice::Step)
            .contains("0000:21:00.0 (node 0) and 0000:22:00.0 (node 1) share no node")
    );
    let few = step(&machine, "single-numa-node", 5, &[&[0]]);
    assert!(plan_step(&machine, &few).refusal.is_some());
    assert_eq!(
        plan_step(&machine, &step(&machine, "restricted", 5, &[&[0]])).refusal,
        None
    );
}

#[test]
fn a_step_that_lacks_local_cpus_is_told_from_tasks_that_need_each_others() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let misfit = |asked, gpus: &[&[usize]]| {
        let step = step(&machine, "single-numa-node", asked, gpus);
        plan_step(&machine, &step).refusal.unwrap().misfit
    };
    let alone = misfit(5, &[&[0]]);
    assert!(
        matches!(alone, Misfit::TooFewLocal { local: 4, .. }),
        "{alone:?}"
    );
    let crowded = misfit(3, &[&[0], &[1]]);
    assert!(matches!(crowded, Misfit::TooFewLeft { .. }), "{crowded:?}");
}

#[test]
fn an_unknown_locality_is_never_guessed() {
    let machine = machine(2, 1, 4, 1, &["?", "1"]);
    let plan = plan_step(&machine, &step(&machine, "", 1, &[&[0], &[1]]));
    assert_eq!(verdicts(&plan), [Verdict::Unbound, Verdict::Local]);
    assert!(
        plan_step(&machine, &step(&machine, "restricted", 1, &[&[0]]))
            .refusal
            .is_some()
    );
}

#[test]
fn the_users_own_bindings_stay_unless_overridden() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let mut own = with_masks(step(&machine, "", 1, &[&[2]]), &["0-7"]);
    own.tasks[0].user_cpu_bind = true;
    own.tasks[0].user_mem_bind = true;
    let plan = plan_step(&machine, &own);
    assert!(!plan.tasks[0].bind_cpus && !plan.tasks[0].bind_memory);
    own.settings.override_user = true;
    let plan = plan_step(&machine, &own);
    assert!(plan.tasks[0].bind_cpus && plan.tasks[0].bind_memory);
}

#[test]
fn a_task_that_its_user_bound_makes_way_only_under_override() {
    let machine = machine(2, 1, 4, 1, &["0", "0", "?"]);
    let masks = ["0-1", "4-5", "2-3"];
    let mut step = with_masks(step(&machine, "", 2, &[&[0], &[1], &[2]]), &masks);
    step.step_cpus = cpus("0-5");
    step.tasks[2].user_cpu_bind = true;
    assert_eq!(lists(&plan_step(&machine, &step))[2], "2-3");
    step.settings.override_user = true;
    assert_eq!(lists(&plan_step(&machine, &step)), ["0-1", "2-3", "4-5"]);
}

#[test]
fn off_binds_nothing() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let plan = plan_step(&machine, &step(&machine, "off", 1, &[&[0]]));
    assert_eq!(
        (lists(&plan), verdicts(&plan)),
        (vec!["0-7".to_owned()], vec![Verdict::Unbound])
    );
    assert!(!plan.tasks[0].bind_cpus && !plan.tasks[0].bind_memory);
}

#[test]
fn alone_a_task_keeps_a_local_mask_and_else_takes_the_node() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let local = with_masks(step(&machine, "", 2, &[&[2]]), &["4-5"]);
    let plan = plan_alone(&machine, &local, 3);
    assert_eq!(
        (
            lists(&plan)[0].as_str(),
            plan.tasks[0].task,
            plan.tasks[0].bind_cpus
        ),
        ("4-5", 3, false)
    );
    let remote = with_masks(step(&machine, "", 2, &[&[2]]), &["0-1"]);
    assert_eq!(lists(&plan_alone(&machine, &remote, 3)), ["4-7"]);
    let all = with_masks(step(&machine, "map=localid", 2, &[&[0, 1, 2, 3]]), &["0-1"]);
    assert_eq!(lists(&plan_alone(&machine, &all, 3)), ["4-7"]);
}

#[test]
fn alone_a_task_with_a_gpu_on_each_socket_is_not_refused_for_its_mask() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let lone = with_masks(step(&machine, "restricted", 2, &[&[0, 2]]), &["0-1"]);
    let plan = plan_alone(&machine, &lone, 0);
    assert_eq!(plan.refusal, None);
    assert_eq!(lists(&plan), ["0-7"]);
}
