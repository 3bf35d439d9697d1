//! Everything around the plugin fails, one thing at a time: the job goes on as Slurm made it, or as much bound
//! as can be, and a line says why.

use std::fs;
use std::path::Path;

use crate::build::plugin;
use crate::host::{Scenario, run, run_together};
use crate::world::World;

const ENOMEM: i32 = 12;
const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

/// Two tasks with a GPU each.
fn step(world: &World) -> Scenario {
    Scenario::on(world, 2).fence(world, &[0, 1])
}

#[test]
fn a_slurm_that_answers_nothing_leaves_the_job_as_it_is() {
    let world = World::with_real_cpus();
    for function in ["get_item", "getenv", "setenv", "unsetenv"] {
        let scenario = step(&world)
            .option("verbose")
            .line(format_args!("fail {function}"));
        let outcome = run(scenario);
        for task in 0..2 {
            let own = outcome.task(task);
            assert_eq!(own.exit, "0");
            let expected = if function == "getenv" {
                world.machine.online.clone()
            } else {
                world.cpus_of_gpu(task)
            };
            assert_eq!(
                own.cpus,
                expected.to_string(),
                "{function}\n{}",
                outcome.text
            );
        }
        assert!(
            !outcome.task(0).user.is_empty(),
            "{function}\n{}",
            outcome.text
        );
    }
}

#[test]
fn all_of_slurm_failing_at_once_is_survived() {
    let world = World::with_real_cpus();
    let all = [
        "get_item",
        "getenv",
        "setenv",
        "unsetenv",
        "option_register",
    ];
    let scenario = all
        .into_iter()
        .fold(step(&world), |scenario, function| {
            scenario.line(format_args!("fail {function}"))
        })
        .line("arg always=best-effort");
    let outcome = run(scenario);
    for task in 0..2 {
        assert_eq!(outcome.task(task).cpus, world.machine.online.to_string());
    }
}

#[test]
fn without_a_shared_page_each_task_is_bound_for_itself() {
    let world = World::declared("abi-2s1n4c1t");
    let scenario = Scenario::on(&world, 4)
        .option("")
        .fence(&world, &[0, 1, 0, 1])
        .line(format_args!("deny stepd shared-mmap {ENOMEM}"));
    let outcome = run(scenario);
    assert!(
        outcome.logs(&["error", "no shared page", "bound on its own"]),
        "{}",
        outcome.text
    );
    for (task, gpu) in [(0, 0), (1, 1), (2, 0), (3, 1)] {
        assert_eq!(outcome.task(task).cpus, world.cpus_of_gpu(gpu).to_string());
    }
}

#[test]
fn a_plugin_that_gets_no_memory_binds_all_the_same() {
    let world = World::declared("abi-2s1n4c1t");
    for place in ["stepd", "task"] {
        let scenario = Scenario::on(&world, 2)
            .option("")
            .fence(&world, &[1, 0])
            .line(format_args!("deny {place} malloc {ENOMEM}"));
        let outcome = run(scenario);
        for (task, gpu) in [(0, 1), (1, 0)] {
            let own = outcome.task(task);
            assert_eq!(own.cpus, world.cpus_of_gpu(gpu).to_string(), "{place}");
        }
    }
}

#[test]
fn an_affinity_that_the_kernel_refuses_is_said_and_left() {
    let world = World::with_real_cpus();
    let scenario = step(&world)
        .option("")
        .line(format_args!("deny task sched_setaffinity {EPERM}"));
    let outcome = run_together(scenario);
    for task in 0..2 {
        let own = outcome.task(task);
        assert_eq!(own.cpus, world.machine.online.to_string());
        let told = own
            .user
            .iter()
            .filter(|line| line.contains("refused by the kernel"));
        assert_eq!(told.count(), 1, "{:?}", own.user);
        assert!(own.user[0].contains(&format!(" {} refused by", world.cpus_of_gpu(task))));
    }
}

#[test]
fn a_memory_policy_that_the_kernel_refuses_is_said_and_left() {
    let world = World::with_real_cpus();
    let scenario = step(&world)
        .option("mem=bind")
        .line(format_args!("deny task set_mempolicy {EPERM}"));
    let outcome = run_together(scenario);
    for task in 0..2 {
        let own = outcome.task(task);
        assert_eq!(
            own.cpus,
            world.cpus_of_gpu(task).to_string(),
            "CPUs are bound all the same"
        );
        assert_eq!(own.policy, "default");
        assert!(
            own.user
                .iter()
                .any(|line| line.contains("memory on node") && line.contains("refused")),
            "{:?}",
            own.user
        );
    }
}

#[test]
fn a_kernel_without_numa_still_binds_cpus() {
    let world = World::with_real_cpus();
    let scenario = step(&world)
        .option("")
        .line(format_args!("deny task get_mempolicy {ENOSYS}"))
        .line(format_args!("deny task set_mempolicy {ENOSYS}"));
    let outcome = run_together(scenario);
    assert_eq!(outcome.task(0).cpus, world.cpus_of_gpu(0).to_string());
}

#[test]
fn an_affinity_that_cannot_be_read_leaves_the_task_with_a_line() {
    let world = World::with_real_cpus();
    let scenario = step(&world)
        .option("")
        .line(format_args!("deny task sched_getaffinity {EPERM}"));
    let outcome = run_together(scenario);
    for task in 0..2 {
        assert_eq!(outcome.task(task).cpus, world.machine.online.to_string());
    }
    assert!(!outcome.task(0).user.is_empty(), "{}", outcome.text);
}

#[test]
fn without_a_futex_the_tasks_still_come_together() {
    let world = World::with_real_cpus();
    let scenario = step(&world)
        .option("")
        .line(format_args!("deny task futex {ENOSYS}"));
    let outcome = run_together(scenario);
    for task in 0..2 {
        assert_eq!(outcome.task(task).cpus, world.cpus_of_gpu(task).to_string());
    }
}

/// Rust's std panics where `strerror_r` fails, so an error that is put in words is a panic.
#[test]
fn a_panic_in_a_task_gives_back_slurms_mask_with_one_line() {
    let world = World::with_real_cpus();
    let scenario = step(&world)
        .option("mem=bind")
        .line(format_args!("deny task set_mempolicy {EPERM}"))
        .line("fail strerror_r");
    let outcome = run(scenario);
    for task in 0..2 {
        let own = outcome.task(task);
        assert_eq!(own.exit, "0");
        assert_eq!(
            own.cpus,
            world.machine.online.to_string(),
            "{}",
            outcome.text
        );
        assert_eq!(own.policy, "default");
        let told = own
            .log
            .iter()
            .filter(|line| line.contains("internal fault in task_init"));
        assert_eq!(told.count(), 1, "{}", outcome.text);
        assert!(own.user.iter().all(|line| !line.contains("panicked")));
    }
}

#[test]
fn a_panic_before_the_fork_leaves_the_step_as_slurm_made_it() {
    let world = World::with_real_cpus();
    let scenario = step(&world)
        .option("")
        .line(format_args!("deny stepd shared-mmap {ENOMEM}"))
        .line("fail strerror_r");
    let outcome = run(scenario);
    assert!(
        outcome.logs(&["error", "internal fault in user_init"]),
        "{}",
        outcome.text
    );
    for task in 0..2 {
        assert_eq!(outcome.task(task).cpus, world.machine.online.to_string());
    }
}

#[test]
fn absurd_items_do_no_harm() {
    let world = World::with_real_cpus();
    let numbers = ["0", "0xffffffff", "0x7fffffff", "4097", "65537"];
    let cores = [
        "null",
        "",
        "x",
        "0-4294967295",
        "99999999999999999999",
        "5-1",
        "0-",
        ",,,",
    ];
    let cases = [2, 3, 4, 5, 6, 11, 24]
        .into_iter()
        .flat_map(|item| numbers.map(|value| format!("item {item} {value}")))
        .chain(cores.map(|value| format!("item 27 {value}")))
        .chain([2, 3, 4, 5, 6, 11, 24].map(|item| format!("no-item {item}")));
    for case in cases {
        let outcome = run(step(&world).option("verbose").line(&case));
        for task in 0..2 {
            assert_eq!(outcome.task(task).exit, "0", "{case}\n{}", outcome.text);
        }
    }
}

#[test]
fn absurd_variables_do_no_harm() {
    let world = World::with_real_cpus();
    let long = "9,".repeat(600_000);
    let deep = "0x".to_owned() + &"f".repeat(100_000);
    for (name, value) in [
        ("CUDA_VISIBLE_DEVICES", "\\xff\\xfe"),
        (
            "CUDA_VISIBLE_DEVICES",
            "99999999999999999999,-2,GPU-,MIG-/,",
        ),
        ("CUDA_VISIBLE_DEVICES", &long),
        ("SLURM_STEP_GPUS", "0-4294967295"),
        ("SLURM_GPUS_ON_NODE", "99999999999"),
        ("SLURM_CPU_BIND_LIST", &deep),
        ("SLURM_CPU_BIND_LIST", "0x,0xg,,0x0"),
        (
            "SLURM_TASKS_PER_NODE",
            "4(x4294967295),4(x4294967295),(x,3(x",
        ),
        ("SLURM_CPUS_PER_TASK", "-1"),
        ("SLURMD_NODENAME", "%s%n%s\\nsecond line"),
        ("GPU_NUMA_BIND", &long),
        ("GPU_NUMA_BIND_SET", "=\\n==\\nNCCL_TOPO_FILE\\n"),
        ("HOME", "\\xff"),
        ("NCCL_CONF_FILE", ""),
        ("NCCL_CONF_FILE", "/proc/self/mem"),
        ("NCCL_CONF_FILE", "/dev/zero"),
    ] {
        for step_id in ["0", "0xfffffffb"] {
            let scenario = step(&world)
                .option("verbose")
                .line(format_args!("item 3 {step_id}"))
                .line(format_args!("env {name}={value}"))
                .line(format_args!("task-env 1 {name}={value}"));
            let outcome = run(scenario);
            assert_eq!(outcome.task(1).exit, "0", "{name}\n{}", outcome.text);
            assert!(
                outcome
                    .task(0)
                    .user
                    .iter()
                    .all(|line| line.starts_with("gpu-numa-bind: "))
            );
        }
    }
}

/// What hooks may open besides the plugin beside them: the host's own files.  `$` stands for the world's folder.
const MAY_OPEN: [&str; 8] = [
    "/etc/nccl.conf",
    "/proc/self/mountinfo",
    "/proc/self/status",
    "/proc/sys/kernel/random/boot_id",
    "/proc/driver/nvidia/",
    "/sys/",
    "$/snapshot",
    "/run/gpu-numa-bind/",
];

#[test]
fn no_file_that_a_user_names_is_opened_but_ncclconf_where_that_decides() {
    let world = World::with_real_cpus();
    fs::create_dir(world.path("users")).unwrap();
    for (option, opens_conf) in [("verbose", true), ("nccl=off", false)] {
        let mut scenario = step(&world)
            .option(option)
            .line("arg always=best-effort")
            .line("watch");
        for name in [
            "HOME",
            "NCCL_CONF_FILE",
            "GPU_NUMA_BIND_SET",
            "GPU_NUMA_BIND_LOG",
            "GPU_NUMA_BIND",
            "TMPDIR",
            "TZ",
            "XDG_RUNTIME_DIR",
            "SLURM_CONF",
            "SLURMD_NODENAME",
            "SLURM_STEP_GPUS",
            "SLURM_CPU_BIND_LIST",
        ] {
            let file = world.write(&format!("users/{name}"), "NCCL_DEBUG=INFO\n");
            scenario = scenario.line(format_args!("env {name}={}", file.display()));
        }
        let outcome = run(scenario);
        let base = world.path("").display().to_string();
        let base = base.trim_end_matches('/');
        let mut others = Vec::new();
        for line in outcome.text.lines() {
            let Some((who, path)) = line
                .split_once(" opened ")
                .or_else(|| line.split_once(" looked for "))
            else {
                continue;
            };
            let (whole, own) = (Path::new(path), plugin().parent());
            // The mount in which a user's file was found, and the file's way from there.
            if world.folder().starts_with(whole) {
                continue;
            }
            let conf = world.path("users/NCCL_CONF_FILE");
            let is_conf = whole.is_relative() && conf.ends_with(whole);
            let conf = conf.display().to_string();
            let path = if is_conf { &conf } else { path };
            let beside = own == Some(whole) || own == whole.parent();
            let may = |start: &&str| path.starts_with(&start.replace('$', base));
            if !beside && !MAY_OPEN.iter().any(may) {
                others.push(format!("{who} {}", path.replace(base, "$")));
            }
        }
        others.sort_unstable();
        others.dedup();
        let conf = [0, 1].map(|task| format!("task {task} $/users/NCCL_CONF_FILE"));
        let expected: &[String] = if opens_conf { &conf } else { &[] };
        assert_eq!(others, expected, "{option}");
        assert!(outcome.text.contains("host opened /"), "{}", outcome.text);
    }
}
