//! Which NICs a task is told of, by what it sees: its report, its line, and the variables of libraries that take them per process.

use crate::host::{Outcome, Scenario, run};
use crate::world::World;

// A task whose neighbours do not come in time finds the same NIC: each GPU has one of its own below its switch.

/// Four GPUs, each with a NIC below the same switch (`tests/machines/hgx-h100-4g.toml`).
fn world() -> World {
    World::declared("hgx-h100-4g")
}

fn step(world: &World, option: &str) -> Scenario {
    Scenario::on(world, 4)
        .option(option)
        .line("item 24 16")
        .fence(world, &[0, 1, 2, 3])
}

/// The names of the NICs in a task's report.
fn reported(outcome: &Outcome, task: usize) -> Option<Vec<String>> {
    let report = &outcome.task(task).env["GPU_NUMA_BIND_REPORT"];
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    let names = report.get("nic")?["names"].as_array().unwrap().iter();
    Some(
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect(),
    )
}

fn devices(outcome: &Outcome, task: usize) -> Option<String> {
    outcome.task(task).env.get("UCX_NET_DEVICES").cloned()
}

#[test]
fn each_task_is_told_of_the_nic_beside_its_gpu() {
    let world = world();
    for (option, is_set) in [
        ("verbose", false),
        ("verbose,nic=report", false),
        ("verbose,nic=on", true),
    ] {
        let outcome = run(step(&world, option));
        for task in 0..4 {
            let name = format!("mlx5_{task}");
            let own = outcome.task(task);
            assert!(
                own.user[0].ends_with(&format!(": local; NIC {name}")),
                "{:?}",
                own.user
            );
            assert_eq!(reported(&outcome, task), Some(vec![name.clone()]));
            assert_eq!(devices(&outcome, task), is_set.then(|| format!("{name}:1")));
            let others = ["NCCL_IB_HCA", "MPICH_OFI_NIC_POLICY", "FI_PROVIDER"];
            assert!(others.iter().all(|other| !own.env.contains_key(*other)));
        }
    }
}

#[test]
fn nic_off_leaves_them_out() {
    let world = world();
    let outcome = run(step(&world, "verbose,nic=off"));
    let own = outcome.task(0);
    assert!(own.user[0].ends_with(": local"), "{:?}", own.user);
    assert_eq!((reported(&outcome, 0), devices(&outcome, 0)), (None, None));
}

#[test]
fn a_task_with_two_gpus_is_told_of_both_nics() {
    let world = world();
    let scenario = Scenario::on(&world, 1)
        .option("verbose,nic=on")
        .line("opens 0 0-1")
        .line("task-env 0 CUDA_VISIBLE_DEVICES=0,1");
    let outcome = run(scenario);
    assert_eq!(devices(&outcome, 0).as_deref(), Some("mlx5_0:1,mlx5_1:1"));
    assert!(outcome.task(0).user[0].ends_with("; NICs mlx5_0 and mlx5_1"));
}

#[test]
fn what_the_user_set_stays_and_what_an_outer_step_of_ours_set_does_not() {
    let world = world();
    let user =
        |value: &str| step(&world, "nic=on").line(format_args!("env UCX_NET_DEVICES={value}"));
    for value in ["all", "", "mlx5_3:1"] {
        let outcome = run(user(value));
        assert_eq!(devices(&outcome, 0).as_deref(), Some(value));
    }
    // Bytes that are no text: they are printed with what stands for such.
    let outcome = run(user("\\xff\\xfe"));
    assert!(devices(&outcome, 0).unwrap().contains('\u{fffd}'));
    let inherited = user("mlx5_3:1").line("env GPU_NUMA_BIND_SET=UCX_NET_DEVICES=mlx5_3:1");
    let outcome = run(inherited.clone());
    assert_eq!(devices(&outcome, 0).as_deref(), Some("mlx5_0:1"));
    // Without the item what is ours goes.
    let outcome = run(inherited.option("nic=report"));
    assert_eq!(devices(&outcome, 0), None);
}

#[test]
fn without_rdma_ports_nothing_is_set() {
    let world = World::with_real_cpus();
    let outcome = run(Scenario::on(&world, 2)
        .option("nic=on")
        .fence(&world, &[0, 1]));
    assert_eq!(devices(&outcome, 0), None);
}

/// The devices that UCX's own program looks for and does not find on this host, with the variable as a task has it.
fn looked_for(value: &str) -> Vec<String> {
    let output = std::process::Command::new("ucx_info")
        .args(["-e", "-u", "t"])
        .env_clear()
        .env("UCX_NET_DEVICES", value)
        .output()
        .expect("ucx_info, which packaging/needs abi installs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{value}: {said}");
    let mut names: Vec<String> = Vec::new();
    // "network device 'mlx5_0:1' is not available", "network devices 'mlx5_0:1','mlx5_1:1' are not available".
    for line in said.lines().filter(|line| line.contains(" not available")) {
        let (missing, _) = line.split_once(" not available").unwrap();
        names.extend(missing.split('\'').skip(1).step_by(2).map(str::to_owned));
    }
    names
}

#[test]
fn ucx_reads_the_variable_as_the_ports_that_it_names() {
    let world = world();
    let one = devices(&run(step(&world, "nic=on")), 2).unwrap();
    let both = run(Scenario::on(&world, 1)
        .option("nic=on")
        .line("opens 0 0-1")
        .line("task-env 0 CUDA_VISIBLE_DEVICES=0,1"));
    let both = devices(&both, 0).unwrap();
    assert_eq!(looked_for(&one), ["mlx5_2:1"]);
    assert_eq!(looked_for(&both), ["mlx5_0:1", "mlx5_1:1"]);
    // A device that is there is found, and one beside it is still looked for.
    assert_eq!(looked_for("lo"), [""; 0]);
    assert_eq!(looked_for(&format!("lo,{one}")), ["mlx5_2:1"]);
}
