//! `NCCL_TOPO_FILE` and its companions: ours only where nobody else answers, and told from an outer step's.

use std::fs;
use std::time::Duration;

use topology::machine::Nic;

use crate::host::{Outcome, Scenario, run};
use crate::snapshots::make_fifo;
use crate::world::{World, give_to_user, pci, set_mode};

const NAME: &str = "NCCL_TOPO_FILE";

fn step(world: &World) -> Scenario {
    Scenario::on(world, 1).fence(world, &[0]).option("")
}

/// The value that the task got.
fn topo_file(outcome: &Outcome) -> Option<String> {
    outcome.task(0).env.get(NAME).cloned()
}

#[test]
fn a_bound_task_gets_the_file_of_one_host_or_of_several() {
    let world = World::with_real_cpus();
    let outcome = run(step(&world));
    assert_eq!(topo_file(&outcome), Some(world.nccl_file()));
    assert_eq!(outcome.task(0).env["CUDA_DEVICE_ORDER"], "PCI_BUS_ID");
    let outcome = run(step(&world).line("item 4 2"));
    let multi = world.nccl_file().replace(".xml", "-multi.xml");
    assert_eq!(topo_file(&outcome), Some(multi));
}

#[test]
fn all_tasks_of_a_host_get_the_same() {
    let world = World::with_real_cpus();
    let outcome = run(Scenario::on(&world, 2).fence(&world, &[0, 1]).option(""));
    for name in [NAME, "CUDA_DEVICE_ORDER", "GPU_NUMA_BIND_SET"] {
        assert_eq!(outcome.task(0).env[name], outcome.task(1).env[name]);
    }
}

#[test]
fn the_users_own_values_are_kept() {
    let world = World::with_real_cpus();
    let scenario = step(&world)
        .line("env NCCL_TOPO_FILE=/mine.xml")
        .line("env CUDA_DEVICE_ORDER=FASTEST_FIRST")
        .line("env SGLANG_AUTO_NUMA_BIND=1")
        .line("env OMPI_MCA_hwloc_base_binding_policy=core")
        .line("env PRTE_MCA_hwloc_default_binding_policy=core")
        .line("env TLLM_NUMA_AWARE_WORKER_AFFINITY=1");
    let own = run(scenario).task(0);
    assert_eq!(own.env[NAME], "/mine.xml");
    assert_eq!(own.env["CUDA_DEVICE_ORDER"], "FASTEST_FIRST");
    assert_eq!(
        own.env["GPU_NUMA_BIND_SET"], "",
        "nothing is ours but the report"
    );
}

#[test]
fn an_empty_value_of_the_users_is_a_value() {
    let world = World::with_real_cpus();
    let outcome = run(step(&world).line("env NCCL_TOPO_FILE="));
    assert_eq!(topo_file(&outcome).as_deref(), Some(""));
}

#[test]
fn a_configuration_file_of_nccl_that_names_one_wins() {
    for (place, line) in [
        ("etc/nccl.conf", "bind {}/etc /etc"),
        ("home/.nccl.conf", "env HOME={}/home"),
        ("named.conf", "env NCCL_CONF_FILE={}/named.conf"),
    ] {
        let world = World::with_real_cpus();
        for folder in ["etc", "home"] {
            fs::create_dir(world.path(folder)).unwrap();
        }
        let line = line.replace("{}", &world.path("").display().to_string());
        world.write(place, "NCCL_DEBUG=INFO\n");
        let outcome = run(step(&world).line(&line));
        assert_eq!(
            topo_file(&outcome),
            Some(world.nccl_file()),
            "{place} names none"
        );
        world.write(place, "NCCL_DEBUG=INFO\nNCCL_TOPO_FILE=/site.xml\n");
        let outcome = run(step(&world).line(&line));
        assert_eq!(topo_file(&outcome), None, "{place} names one");
    }
}

#[test]
fn a_virtual_machines_own_topology_wins() {
    let world = World::with_real_cpus();
    fs::create_dir_all(world.path("run/nvidia-topologyd")).unwrap();
    world.write("run/nvidia-topologyd/virtualTopology.xml", "<system/>");
    let outcome = run(step(&world).line(format_args!("bind {} /run", world.path("run").display())));
    assert_eq!(topo_file(&outcome), None);
}

#[test]
fn a_fifo_for_a_configuration_file_does_not_block() {
    let world = World::with_real_cpus();
    fs::create_dir(world.path("home")).unwrap();
    let fifo = world.path("home/.nccl.conf");
    make_fifo(&fifo);
    set_mode(&fifo, 0o666);
    let outcome = run(step(&world).line(format_args!("env HOME={}", world.path("home").display())));
    assert_eq!(topo_file(&outcome), Some(world.nccl_file()));
    assert!(outcome.elapsed < Duration::from_secs(5));
}

#[test]
fn a_configuration_file_too_long_to_read_may_name_one() {
    let world = World::with_real_cpus();
    let path = world.write("long.conf", &"# a comment\n".repeat(10_000));
    let outcome = run(step(&world).line(format_args!("env NCCL_CONF_FILE={}", path.display())));
    assert_eq!(topo_file(&outcome), None);
}

#[test]
fn a_configuration_file_is_read_as_the_user() {
    let world = World::with_real_cpus();
    let path = world.write("roots.conf", "NCCL_TOPO_FILE=/secret.xml\n");
    set_mode(&path, 0o600);
    let outcome = run(step(&world).line(format_args!("env NCCL_CONF_FILE={}", path.display())));
    assert_eq!(
        topo_file(&outcome),
        Some(world.nccl_file()),
        "NCCL could not read it either"
    );
}

/// The environment of a step inside our own batch step.
fn inner(scenario: Scenario) -> Scenario {
    scenario
        .line("env NCCL_TOPO_FILE=/outer.xml")
        .line("env CUDA_DEVICE_ORDER=PCI_BUS_ID")
        .line("env GPU_NUMA_BIND_REPORT={}")
        .line("env GPU_NUMA_BIND_SET=CUDA_DEVICE_ORDER=PCI_BUS_ID\\nNCCL_TOPO_FILE=/outer.xml")
}

#[test]
fn an_outer_steps_values_are_replaced() {
    let world = World::with_real_cpus();
    let own = run(inner(step(&world))).task(0);
    assert_eq!(own.env[NAME], world.nccl_file());
    assert!(own.env["GPU_NUMA_BIND_SET"].contains(&world.nccl_file()));
    assert!(own.env["GPU_NUMA_BIND_REPORT"].contains("gpu-numa/report/1"));
}

#[test]
fn an_outer_steps_values_are_removed_where_this_one_is_not_bound() {
    let world = World::with_real_cpus();
    let plain = Scenario::on(&world, 1).fence(&world, &[0]);
    for scenario in [
        plain.clone(),
        plain.clone().option("off"),
        plain.option("none"),
    ] {
        let own = run(inner(scenario)).task(0);
        for name in [
            NAME,
            "CUDA_DEVICE_ORDER",
            "GPU_NUMA_BIND_SET",
            "GPU_NUMA_BIND_REPORT",
        ] {
            assert!(!own.env.contains_key(name), "{name}: {:?}", own.env);
        }
    }
}

#[test]
fn what_the_user_changed_since_is_the_users() {
    let world = World::with_real_cpus();
    let own = run(inner(step(&world)).line("env NCCL_TOPO_FILE=/mine.xml")).task(0);
    assert_eq!(own.env[NAME], "/mine.xml");
    assert!(!own.env["GPU_NUMA_BIND_SET"].contains(NAME));
}

#[test]
fn nccl_off_sets_no_file() {
    let world = World::with_real_cpus();
    let outcome = run(step(&world).option("nccl=off"));
    assert_eq!(topo_file(&outcome), None);
}

#[test]
fn programs_that_would_undo_a_binding_are_asked_to_leave_it_where_it_is_settled() {
    const ASKED: [&str; 2] = ["SGLANG_AUTO_NUMA_BIND", "TLLM_NUMA_AWARE_WORKER_AFFINITY"];
    let world = World::with_real_cpus();
    let set = |scenario: Scenario| {
        let env = run(scenario).task(0).env;
        ASKED.map(|name| env.get(name).cloned().unwrap_or_default())
    };
    assert_eq!(set(step(&world)), ["0", "0"]);
    assert_eq!(set(step(&world).option("frameworks=off")), ["", ""]);
    assert_eq!(set(step(&world).option("none")), ["", ""]);
    let own = step(&world).line("env TLLM_NUMA_AWARE_WORKER_AFFINITY=1");
    assert_eq!(set(own), ["0", "1"]);
    let outer = "env GPU_NUMA_BIND_SET=SGLANG_AUTO_NUMA_BIND=0\\nTLLM_NUMA_AWARE_WORKER_AFFINITY=0";
    let inner = step(&world)
        .option("off")
        .line("env SGLANG_AUTO_NUMA_BIND=0")
        .line("env TLLM_NUMA_AWARE_WORKER_AFFINITY=1")
        .line(outer);
    assert_eq!(set(inner), ["", "1"]);
}

#[test]
fn a_file_that_is_not_there_or_not_roots_is_not_named() {
    let world = World::with_real_cpus();
    let file = world.nccl_file();
    give_to_user(file.as_ref());
    assert_eq!(topo_file(&run(step(&world))), None, "a user's");
    fs::remove_file(&file).unwrap();
    assert_eq!(topo_file(&run(step(&world))), None, "none");
    fs::write(&file, "").unwrap();
    assert_eq!(topo_file(&run(step(&world))), None, "empty");
}

#[test]
fn on_a_host_with_efa_only_the_site_names_one() {
    let mut world = World::with_real_cpus();
    world.machine.nics.push(Nic {
        pci: pci(9),
        vendor: 0x1d0f,
        device: 0xefa2,
        ports: Vec::new(),
        aside: None,
        names: Vec::new(),
        locality: Default::default(),
    });
    world.write_snapshot(&world.snapshot());
    assert_eq!(topo_file(&run(step(&world))), None);
    assert_eq!(topo_file(&run(step(&world).option("nccl=topo"))), None);
    let outcome = run(step(&world).line("arg default=nccl=topo"));
    assert_eq!(topo_file(&outcome), Some(world.nccl_file()));
}

/// NCCL's profiler plugin.
const PROFILER: &str = "libnccl-profiler-gpu-numa.so";

/// Two GPUs with no path but the socket link, where `linked` is false.
fn two_sockets(linked: bool) -> World {
    let mut world = World::with_real_cpus();
    if !linked {
        for gpu in &mut world.machine.gpus {
            gpu.nvlinks.clear();
        }
        world.write_snapshot(&world.snapshot());
    }
    world
}

/// `NCCL_PROFILER_PLUGIN` of the first of two tasks, a GPU each.
fn profiler(world: &World, option: &str, beside: Option<&str>, line: &str) -> Option<String> {
    let folder = world.path("lib");
    let scenario = Scenario::on(world, 2)
        .fence(world, &[0, 1])
        .option(option)
        .line(line)
        .installed_in(&folder, beside);
    let env = run(scenario).task(0).env;
    assert_eq!(
        env.get("GPU_NUMA_BIND_SET")
            .is_some_and(|set| set.contains("PROFILER")),
        env.get("NCCL_PROFILER_PLUGIN")
            .is_some_and(|value| value.starts_with('/'))
    );
    env.get("NCCL_PROFILER_PLUGIN").cloned()
}

#[test]
fn the_profiler_is_set_where_only_the_socket_link_joins_two_gpus() {
    let far = two_sockets(false);
    let expected = far.path("lib").join(PROFILER).display().to_string();
    let tasks = Scenario::on(&far, 2).fence(&far, &[0, 1]).option("");
    run(tasks);
    assert_eq!(
        profiler(&far, "", Some(PROFILER), "env A=b"),
        Some(expected.clone())
    );
    assert_eq!(profiler(&far, "nccl=topo", Some(PROFILER), "env A=b"), None);
    assert_eq!(profiler(&far, "nccl=off", Some(PROFILER), "env A=b"), None);
    assert_eq!(profiler(&far, "", None, "env A=b"), None, "not installed");
    let joined = two_sockets(true);
    assert_eq!(profiler(&joined, "", Some(PROFILER), "env A=b"), None);
    assert!(profiler(&joined, "nccl=log", Some(PROFILER), "env A=b").is_some());
}

#[test]
fn the_profiler_is_set_where_nvlink_joins_gpus_and_a_setting_leaves_it_unused() {
    let joined = two_sockets(true);
    let tasks = Scenario::on(&joined, 2).fence(&joined, &[0, 1]).option("");
    run(tasks);
    let is_set = |line: &str| profiler(&joined, "", Some(PROFILER), line).is_some();
    assert!(is_set("env NCCL_P2P_DISABLE=1"));
    assert!(is_set("env NCCL_P2P_LEVEL=LOC"));
    for other in [
        "NCCL_P2P_DISABLE=0",
        "NCCL_P2P_LEVEL=NVL",
        // NVLS aside, rings go over NVLink.
        "NCCL_NVLS_ENABLE=0",
        "NCCL_SHM_DISABLE=1",
    ] {
        assert!(!is_set(&format!("env {other}")), "{other}");
    }
    // NCCL takes the environment before the user's file, and that before the host's.
    let off = joined.write("own.conf", "NCCL_P2P_DISABLE=1\n");
    let off = format!("env NCCL_CONF_FILE={}", off.display());
    assert!(is_set(&off));
    assert!(!is_set(&format!("env NCCL_P2P_DISABLE=0\n{off}")));
    fs::create_dir(joined.path("etc")).unwrap();
    joined.write("etc/nccl.conf", "NCCL_P2P_DISABLE=1\nNCCL_P2P_DISABLE=0\n");
    let bind = format!("bind {}/etc /etc", joined.folder().display());
    assert!(is_set(&bind));
    let on = joined.write("own.conf", "NCCL_P2P_DISABLE=0\n");
    assert!(!is_set(&format!(
        "{bind}\nenv NCCL_CONF_FILE={}",
        on.display()
    )));
    assert_eq!(
        profiler(
            &joined,
            "nccl=topo",
            Some(PROFILER),
            "env NCCL_P2P_DISABLE=1"
        ),
        None
    );
}

#[test]
fn anothers_profiler_stays() {
    let far = two_sockets(false);
    let tasks = Scenario::on(&far, 2).fence(&far, &[0, 1]).option("");
    run(tasks);
    let own = profiler(
        &far,
        "nccl=log",
        Some(PROFILER),
        "env NCCL_PROFILER_PLUGIN=inspector",
    );
    assert_eq!(own.as_deref(), Some("inspector"));
    let conf = far.write("own.conf", "NCCL_PROFILER_PLUGIN=inspector\n");
    let line = format!("env NCCL_CONF_FILE={}", conf.display());
    assert_eq!(profiler(&far, "nccl=log", Some(PROFILER), &line), None);
}
