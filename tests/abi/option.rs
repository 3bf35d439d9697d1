//! The option: what is refused where it is typed, what it means in a step, and who else has a say.

use crate::host::{Outcome, Scenario, run};
use crate::world::World;

/// srun's, or sbatch's, own process.
fn typed(context: &str, value: &str) -> Scenario {
    Scenario::bare()
        .line(format_args!("context {context}"))
        .option(value)
}

/// A step of one task fenced to the GPU of the upper half of the CPUs.
fn step(world: &World) -> Scenario {
    Scenario::on(world, 1).fence(world, &[1])
}

fn is_bound(outcome: &Outcome, world: &World) -> bool {
    let own = outcome.task(0);
    let bound = own.cpus == world.cpus_of_gpu(1).to_string();
    assert!(
        bound || own.cpus == world.machine.online.to_string(),
        "{}",
        outcome.text
    );
    bound
}

#[test]
fn a_bad_value_is_refused_where_it_is_typed_with_its_name() {
    for (value, named) in [
        ("clsest", "\"clsest\""),
        ("mem=close", "\"mem=close\""),
        ("men=bind", "\"men\""),
        ("node,l3", "\"node\" and \"l3\""),
        ("best-effort,none", "\"best-effort\" and \"none\""),
        ("\\xff\\xfe", "unknown item"),
        ("%s%n", "\"%s%n\""),
        ("mem=", "\"mem=\""),
        ("none none", "\"none none\""),
    ] {
        for context in ["local", "allocator"] {
            let outcome = run(typed(context, value));
            assert_eq!(outcome.host("rc option"), ["-1"], "{value}");
            assert!(
                outcome.logs(&["error gpu-numa-bind: ", named]),
                "{}",
                outcome.text
            );
        }
    }
    let long = "x".repeat(100_000);
    assert_eq!(run(typed("local", &long)).host("rc option"), ["-1"]);
}

#[test]
fn a_good_value_is_taken_where_it_is_typed_without_a_word() {
    for value in [
        "",
        "off",
        "restricted,l3,mem=bind,map=localid,nccl=log,verbose,override",
    ] {
        for context in ["local", "allocator"] {
            let outcome = run(typed(context, value));
            assert_eq!(outcome.host("rc option"), ["0"]);
            assert!(outcome.host("log").is_empty(), "{}", outcome.text);
        }
    }
}

#[test]
fn a_bad_variable_or_plugstack_line_is_said_where_the_option_is_typed() {
    let scenario = typed("local", "")
        .line("env GPU_NUMA_BIND=bogus")
        .line("arg sanpshot=/x");
    let outcome = run(scenario);
    assert!(
        outcome.logs(&["GPU_NUMA_BIND", "\"bogus\"", "left out"]),
        "{}",
        outcome.text
    );
    assert!(
        outcome.logs(&["plugstack", "\"sanpshot=/x\"", "left out"]),
        "{}",
        outcome.text
    );
}

#[test]
fn slurmd_loads_it_without_a_word() {
    let outcome = run(Scenario::bare().line("context slurmd"));
    assert!(outcome.host("log").is_empty(), "{}", outcome.text);
}

#[test]
fn an_option_that_slurm_does_not_register_is_said_and_harmless() {
    let world = World::with_real_cpus();
    let outcome = run(step(&world).line("fail option_register"));
    assert!(
        outcome.logs(&["--gpu-numa-bind is not available"]),
        "{}",
        outcome.text
    );
    assert!(!is_bound(&outcome, &world));
}

#[test]
fn a_bad_item_in_stepd_is_left_out_with_a_line() {
    let world = World::with_real_cpus();
    let outcome = run(step(&world).option("bogus,mem=bind"));
    assert_eq!(outcome.host("rc option"), ["0"]);
    assert!(is_bound(&outcome, &world));
    let own = outcome.task(0);
    assert_eq!(own.policy, "bind");
    assert!(
        own.user[0].contains("\"bogus\"") && own.user[0].contains("left out"),
        "{:?}",
        own.user
    );
}

#[test]
fn of_two_uses_the_last_counts() {
    let world = World::with_real_cpus();
    assert!(!is_bound(
        &run(step(&world).option("").option("none")),
        &world
    ));
    assert!(is_bound(
        &run(step(&world).option("none").option("")),
        &world
    ));
    // 22.05 calls a second time for the same use, with the empty text.
    assert!(is_bound(
        &run(step(&world).option("").line("option =")),
        &world
    ));
}

#[test]
fn off_is_nothing_at_all_also_against_the_site() {
    let world = World::with_real_cpus();
    for scenario in [step(&world), step(&world).line("arg always=best-effort")] {
        let outcome = run(scenario.option("off"));
        assert!(!is_bound(&outcome, &world));
        let own = outcome.task(0);
        assert!(own.log.is_empty() && !own.env.contains_key("NCCL_TOPO_FILE"));
    }
}

#[test]
fn the_site_can_bind_every_step_and_says_only_trouble() {
    let world = World::with_real_cpus();
    let outcome = run(step(&world).line("arg always=mem=bind"));
    assert!(is_bound(&outcome, &world));
    assert_eq!(outcome.task(0).policy, "bind");
    assert!(outcome.task(0).log.is_empty(), "{:?}", outcome.task(0).log);
}

#[test]
fn a_locked_kind_is_the_sites_with_one_line() {
    let world = World::with_real_cpus();
    let scenario = step(&world)
        .line("arg always=best-effort")
        .line("arg lock=policy");
    let outcome = run(scenario.option("off"));
    assert!(is_bound(&outcome, &world));
    let own = outcome.task(0);
    let told = own
        .user
        .iter()
        .filter(|line| line.contains("this site decides the policy"));
    assert_eq!(told.count(), 1, "{:?}", own.user);
}

#[test]
fn a_default_only_fills_in() {
    let world = World::with_real_cpus();
    let site = || step(&world).line("arg default=none");
    assert!(!is_bound(&run(site()), &world), "it does not switch on");
    assert!(!is_bound(&run(site().option("")), &world), "it fills in");
    assert!(
        is_bound(&run(site().option("best-effort")), &world),
        "the user's word wins"
    );
}

#[test]
fn the_variable_stands_between_option_and_site_and_switches_nothing_on() {
    let world = World::with_real_cpus();
    let user = |items: &str| step(&world).line(format_args!("env GPU_NUMA_BIND={items}"));
    assert!(!is_bound(&run(user("best-effort")), &world), "alone");
    assert!(
        !is_bound(&run(user("none").option("")), &world),
        "it fills in"
    );
    assert!(
        is_bound(&run(user("none").option("best-effort")), &world),
        "the option wins"
    );
    let site = user("none").line("arg always=best-effort");
    assert!(!is_bound(&run(site), &world), "it wins over the site");
}

#[test]
fn an_argument_that_is_not_understood_is_said_and_the_rest_holds() {
    let world = World::with_real_cpus();
    let scenario = step(&world)
        .line("arg always=mem=bind,bogus")
        .line("arg lock=nonsense,policy")
        .line("arg frobnicate");
    let outcome = run(scenario.clone());
    assert!(is_bound(&outcome, &world), "the good item still binds");
    assert_eq!(outcome.task(0).policy, "bind");
    let outcome = run(scenario.option("off"));
    assert!(
        outcome.logs(&["error", "plugstack", "lock=nonsense"]),
        "{}",
        outcome.text
    );
    assert!(
        outcome.logs(&["error", "plugstack", "\"bogus\""]),
        "{}",
        outcome.text
    );
    assert!(
        outcome.logs(&["error", "plugstack", "\"frobnicate\""]),
        "{}",
        outcome.text
    );
    assert!(is_bound(&outcome, &world));
}
