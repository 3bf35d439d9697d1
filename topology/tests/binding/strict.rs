//! Refusals, the user's own bindings, and tasks that decide alone.

use topology::binding::{
    CpusLeft, LaunchedBy, MemoryPolicy, Misfit, Refusal, StepRequest, TaskCase, UserMemory,
    Verdict, advise, plan_alone, plan_step,
};
use topology::machine::Machine;
use topology::names::GpuNames;
use topology::set::NodeSet;
use topology::words::{Verb, Voice, near_cpus_advice, refusal_reason, task_message};

use super::made_up::{TWO_SOCKETS, cpus, lists, machine, step, verdicts, with_masks};

/// What a refused step is told.
fn advice_line(machine: &Machine, step: &StepRequest) -> String {
    let plan = plan_step(machine, step);
    let refusal: &Refusal = plan.refusal.as_ref().unwrap();
    topology::words::advice_line(
        refusal,
        &advise(
            machine,
            step,
            &plan,
            LaunchedBy::Srun {
                has_unseen_gpus: false,
            },
        ),
        Verb::Sbatch,
    )
}

#[test]
fn only_what_was_tried_on_this_host_is_advised() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let line = |step: &StepRequest| {
        let plan = plan_step(&machine, step);
        near_cpus_advice(
            &advise(
                &machine,
                step,
                &plan,
                LaunchedBy::Srun {
                    has_unseen_gpus: false,
                },
            ),
            Verb::Any,
        )
    };
    // More CPUs than a node has: neither more of the host nor other CPUs of it help.
    assert_eq!(
        line(&step(&machine, "", 8, &[&[0]])).unwrap(),
        "would have local CPUs for every task: --cpus-per-task=4, if Cores= in gres.conf is right"
    );
    assert_eq!(
        line(&step(&machine, "", 3, &[&[0], &[1]])).unwrap(),
        "would have local CPUs for every task: --cpus-per-task=2, if Cores= in gres.conf is right"
    );
    // The same where Slurm gave no more than was asked for: with the socket's CPUs alone it refuses the job.
    let mut six = step(&machine, "", 3, &[&[0], &[1]]);
    six.step_cpus = cpus("0-5");
    assert_eq!(
        line(&six).unwrap(),
        "would have local CPUs for every task: --cpus-per-task=2, if Cores= in gres.conf is right"
    );
    // Five tasks for one node of four CPUs.
    assert_eq!(
        line(&step(&machine, "", 1, &[&[0], &[0], &[0], &[0], &[0]])),
        None
    );
    let mut far = step(&machine, "", 2, &[&[2]]);
    far.step_cpus = cpus("0-3");
    let whole_host = "sbatch or salloc --exclusive and srun, both without --cpus-per-task, --cpus-per-gpu or --exact, if Cores= in gres.conf is right";
    assert_eq!(
        line(&far).unwrap(),
        format!(
            "would have local CPUs for every task: --gres-flags=enforce-binding, or {whole_host}"
        )
    );
    // With GPUs of both sockets it is Slurm that deals the CPUs, and which tasks get those near their GPUs is not known.
    let mut both = step(&machine, "", 1, &[&[0], &[1], &[2]]);
    both.step_cpus = cpus("0,4-5");
    assert_eq!(
        line(&both).unwrap(),
        format!("would have local CPUs for every task: {whole_host}")
    );
    far.step_cpus = machine.online.clone();
    assert_eq!(line(&far), None, "nothing is wrong");
    // On half of a socket Slurm's socket binding may give the other half.
    let halves = super::made_up::machine(2, 2, 2, 1, &["0", "3"]);
    let mut far = step(&halves, "", 2, &[&[1]]);
    far.step_cpus = cpus("0-1");
    let plan = plan_step(&halves, &far);
    let advice = advise(
        &halves,
        &far,
        &plan,
        LaunchedBy::Srun {
            has_unseen_gpus: false,
        },
    );
    assert!(advice.whole_host.is_some() && !advice.enforce_binding);
}

/// In a job that has the host a step of four GPUs of eight gets those that come first: here two of each of two sockets.
#[test]
fn the_host_is_advised_only_where_any_of_its_gpus_would_do() {
    let machine = machine(4, 1, 2, 1, &["0", "0", "1", "1", "2", "2", "3", "3"]);
    let is_advised = |gpus: &[&[usize]], allowed: &str, by| {
        let mut step = step(&machine, "", 1, gpus);
        step.step_cpus = cpus(allowed);
        let plan = plan_step(&machine, &step);
        assert!(plan.lacks_local_cpus());
        advise(&machine, &step, &plan, by).whole_host.is_some()
    };
    let srun = |has_unseen_gpus| LaunchedBy::Srun { has_unseen_gpus };
    // A GPU of each socket, and six tasks: there is room for two on each socket, but not for three.
    let six: &[&[usize]] = &[&[0], &[2], &[4], &[6], &[0], &[2]];
    assert!(!is_advised(six, "0,2-7", srun(false)));
    assert!(
        is_advised(six, "0,2-7", srun(true)),
        "how many it has is not known"
    );
    // As many as fit on any.
    let four: &[&[usize]] = &[&[0], &[2], &[4], &[6]];
    assert!(is_advised(four, "2-7", srun(false)));
    assert!(is_advised(
        &[&[0, 6]],
        "2-5",
        LaunchedBy::Shell { tasks: 1 }
    ));
    // With all of the host's GPUs it keeps them.
    let all: &[&[usize]] = &[&[0, 1], &[2, 3], &[4, 5], &[6, 7], &[0, 1]];
    assert!(is_advised(all, "0,2-7", srun(false)));
}

#[test]
fn a_shell_asks_for_what_all_its_tasks_do_and_has_all_that_its_job_has() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let ways = |step: &StepRequest, by| {
        let plan = plan_step(&machine, step);
        let advice = advise(&machine, step, &plan, by);
        near_cpus_advice(&advice, Verb::Sbatch)
            .and_then(|line| line.split_once(": ").map(|(_, ways)| ways.to_owned()))
    };
    // Two tasks of four CPUs each, and a node that has four.
    let wide = step(&machine, "", 8, &[&[0, 1]]);
    let shell = |tasks| LaunchedBy::Shell { tasks };
    assert_eq!(
        ways(&wide, shell(2)).unwrap(),
        "--cpus-per-task=2, if Cores= in gres.conf is right"
    );
    assert_eq!(
        ways(&wide, shell(1)).unwrap(),
        "--cpus-per-task=4, if Cores= in gres.conf is right"
    );
    assert_eq!(ways(&wide, shell(8)), None, "one CPU per task is asked for");
    let mut far = step(&machine, "", 2, &[&[0]]);
    far.step_cpus = cpus("4-7");
    assert_eq!(
        ways(&far, shell(2)).unwrap(),
        "sbatch --gres-flags=enforce-binding, or sbatch --exclusive, if Cores= in gres.conf is right"
    );
    // GPUs that no task sees may be of the other socket, and so may the CPUs.
    let unseen = LaunchedBy::Srun {
        has_unseen_gpus: true,
    };
    assert_eq!(
        ways(&far, unseen).unwrap(),
        "sbatch --exclusive and srun, both without --cpus-per-task, --cpus-per-gpu or --exact, if Cores= in gres.conf is right"
    );
    assert_eq!(ways(&wide, unseen), None);
}

#[test]
fn strict_policies_refuse_and_say_what_would_fit() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let mut far = step(&machine, "restricted", 1, &[&[0], &[2]]);
    far.step_cpus = cpus("0-3");
    let plan = plan_step(&machine, &far);
    let refusal = plan.refusal.clone().unwrap();
    assert_eq!(refusal.task, 1);
    assert_eq!(
        refusal_reason(&refusal, GpuNames::ADDRESSES, Voice::Step),
        "task 1's GPU 0000:22:00.0 is on node 1, but the step only has CPUs 0-3, on node 0"
    );
    assert_eq!(
        advice_line(&machine, &far),
        "would fit: sbatch --exclusive and srun, both without --cpus-per-task, --cpus-per-gpu or --exact, if Cores= in gres.conf is right; to run as it is: \
         --gpu-numa-bind=best-effort; add --kill-on-bad-exit=1 so that a refused host ends the whole step"
    );
    assert_eq!(verdicts(&plan), [Verdict::Refused; 2]);
    far.may_refuse = false;
    assert_eq!(plan_step(&machine, &far).refusal, None);

    let span = step(&machine, "single-numa-node", 1, &[&[1, 2]]);
    let refusal = plan_step(&machine, &span).refusal.unwrap();
    assert!(
        refusal_reason(&refusal, GpuNames::ADDRESSES, Voice::Step)
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
    own.tasks[0].user_memory = Some(UserMemory {
        policy: MemoryPolicy::Bind,
        nodes: NodeSet::single(0),
        is_local: false,
    });
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

fn memory_of(nodes: &str, is_local: bool) -> Option<UserMemory> {
    Some(UserMemory {
        policy: MemoryPolicy::Bind,
        nodes: nodes.parse().unwrap(),
        is_local,
    })
}

#[test]
fn local_memory_of_the_users_follows_the_tasks_cpus() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let mut own = with_masks(
        step(&machine, "single-numa-node", 2, &[&[0], &[2]]),
        &["4-5", "6-7"],
    );
    own.tasks[0].user_memory = memory_of("1", true);
    own.tasks[1].user_memory = memory_of("1", true);
    let plan = plan_step(&machine, &own);
    assert_eq!(plan.refusal, None);
    let memory = |task: usize| (&plan.tasks[task].memory, plan.tasks[task].bind_memory);
    let (moved, is_set) = memory(0);
    assert_eq!(
        (moved.nodes.to_string().as_str(), moved.policy),
        ("0", MemoryPolicy::Bind)
    );
    assert!(is_set && moved.follows_cpus);
    let (stays, is_set) = memory(1);
    assert_eq!((stays.nodes.to_string().as_str(), is_set), ("1", false));
}

#[test]
fn no_task_leaves_the_memory_that_its_user_named_by_number() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let masks = ["4-5", "0-1", "2-3"];
    let mut own = with_masks(step(&machine, "", 2, &[&[0], &[2], &[0]]), &masks);
    for (task, nodes) in own.tasks.iter_mut().zip(["1", "1", "0"]) {
        task.user_memory = memory_of(nodes, false);
    }
    let plan = plan_step(&machine, &own);
    // Beside its memory and not beside its GPU: stays.  Beside neither: goes to both.
    assert_eq!(lists(&plan)[0], "4-5");
    assert!(matches!(
        plan.tasks[0].case,
        TaskCase::CpusLeft {
            why: CpusLeft::UserMemory,
            ..
        }
    ));
    assert_eq!(lists(&plan)[1], "6-7");
    assert_eq!(
        plan.tasks[0].memory.nodes,
        NodeSet::single(1),
        "the report has the user's policy"
    );
    own.settings.policy = topology::option::Policy::Restricted;
    let refusal = plan_step(&machine, &own).refusal.unwrap();
    assert!(matches!(refusal.misfit, Misfit::LeftFar { .. }));
    assert!(advice_line(&machine, &own).contains("--mem-bind"));
    own.settings.override_user = true;
    assert!(plan_step(&machine, &own).refusal.is_none());
}

#[test]
fn memory_that_the_user_named_elsewhere_is_no_single_node() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let mut own = with_masks(step(&machine, "", 2, &[&[0]]), &["0-1"]);
    own.tasks[0].user_memory = memory_of("1", false);
    let said = task_message(
        &plan_step(&machine, &own).tasks[0],
        GpuNames::ADDRESSES,
        Voice::Step,
    );
    assert!(
        said.ends_with("by the user's --mem-bind: CPUs local, memory not"),
        "{said}"
    );
    own.settings.policy = topology::option::Policy::SingleNumaNode;
    let refusal = plan_step(&machine, &own).refusal.unwrap();
    assert!(matches!(refusal.misfit, Misfit::UserMemory { .. }));
}

#[test]
fn a_step_whose_cpus_are_not_known_is_not_narrowed() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let mut open = with_masks(step(&machine, "", 2, &[&[0], &[2]]), &["0-7", "0-7"]);
    open.owns_cpus = false;
    let plan = plan_step(&machine, &open);
    assert_eq!(lists(&plan), ["0-7", "0-7"]);
    assert!(
        plan.tasks
            .iter()
            .all(|task| !task.bind_cpus && task.bind_memory)
    );
    open.settings.override_user = true;
    assert_eq!(lists(&plan_step(&machine, &open)), ["0-7", "0-7"]);
}

#[test]
fn a_refusal_for_the_users_own_cpu_bind_names_it() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let mut own = with_masks(step(&machine, "restricted", 2, &[&[0]]), &["4-5"]);
    own.tasks[0].user_cpu_bind = true;
    let refusal = plan_step(&machine, &own).refusal.unwrap();
    assert!(refusal_reason(&refusal, GpuNames::ADDRESSES, Voice::Step).contains("--cpu-bind"));
    assert!(advice_line(&machine, &own).contains("without your --cpu-bind"));
}

#[test]
fn a_task_without_a_cpu_near_one_of_its_gpus_is_not_local() {
    let machine = machine(2, 1, 4, 1, TWO_SOCKETS);
    let mut half = step(&machine, "", 2, &[&[0, 2]]);
    half.step_cpus = cpus("0-3");
    let plan = plan_step(&machine, &half);
    assert_eq!(verdicts(&plan), [Verdict::Partial]);
    assert!(plan.tasks[0].is_trouble && plan.lacks_local_cpus());
    half.settings.policy = topology::option::Policy::Restricted;
    assert!(
        plan_step(&machine, &half).refusal.is_some(),
        "one judgement"
    );
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
