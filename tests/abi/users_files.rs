//! A launch does not wait for a user's file system.

use std::fs;
use std::path::Path;
use std::time::Duration;

use gpu_numa_tests::hung_fs::{HungFs, Tells};

use crate::host::{Outcome, Scenario, run};
use crate::world::World;

fn step(world: &World) -> Scenario {
    Scenario::on(world, 1).fence(world, &[1]).option("verbose")
}

/// The task is bound in time; what its user's file names is not known, so NCCL's variables are left.
fn assert_left(world: &World, outcome: &Outcome) {
    let own = outcome.task(0);
    let text = &outcome.text;
    assert_eq!(own.cpus, world.cpus_of_gpu(1).to_string(), "{text}");
    let hooks = ["user_init", "task_init"].map(|hook| outcome.nanos(hook));
    assert!(hooks.iter().all(|took| took.len() == 1), "{text}");
    let took = Duration::from_nanos(hooks.iter().flatten().sum());
    assert!(took < Duration::from_secs(2), "{text}");
    assert!(!own.env.contains_key("NCCL_TOPO_FILE"), "{text}");
    let said = |line: &String| line.contains("nccl.conf, whose file system (fuse.hung)");
    assert!(own.user.iter().any(said), "{text}");
}

fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

#[test]
fn a_home_that_does_not_answer_is_not_waited_for() {
    for tells in [Tells::Nothing, Tells::Files] {
        let world = World::with_real_cpus();
        let home = world.path("home");
        fs::create_dir(&home).unwrap();
        let hung = HungFs::mount(&home, tells, scratch()).unwrap();
        let line = format!("env HOME={}/anna", home.display());
        assert_left(&world, &run(step(&world).line(line)));
        let line = format!("env NCCL_CONF_FILE={}/conf", home.display());
        assert_left(&world, &run(step(&world).line(line)));
        drop(hung);
    }
}

#[test]
fn a_link_into_a_file_system_that_does_not_answer_is_not_followed() {
    let world = World::with_real_cpus();
    let (home, gone) = (world.path("home"), world.path("gone"));
    fs::create_dir(&home).unwrap();
    fs::create_dir(&gone).unwrap();
    std::os::unix::fs::symlink(gone.join("conf"), home.join(".nccl.conf")).unwrap();
    let hung = HungFs::mount(&gone, Tells::Files, scratch()).unwrap();
    let outcome = run(step(&world).line(format_args!("env HOME={}", home.display())));
    assert_left(&world, &outcome);
    drop(hung);
}
