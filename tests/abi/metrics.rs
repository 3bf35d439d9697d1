//! What the daemon's hooks count of a step, against what its tasks got; and whatever a task or somebody else does to the
//! counters, the job goes on and nothing but its own step is counted.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::build::program;
use crate::host::{Outcome, Scenario, run, run_together};
use crate::world::{World, give_to_user, set_mode};

/// A snapshot's folder in memory, with or without a table of counters.
struct Counting(TempDir);

impl Counting {
    fn without_table(world: &World) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        set_mode(folder.path(), 0o755);
        for file in fs::read_dir(world.path("snapshot")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        Self(folder)
    }

    fn on(world: &World) -> Self {
        let counting = Self::without_table(world);
        let output = counting.ask(&["--start"]);
        assert!(output.status.success(), "{output:?}");
        counting
    }

    fn ask(&self, more: &[&str]) -> std::process::Output {
        Command::new(program())
            .arg("metrics")
            .arg("--dir")
            .arg(self.0.path())
            .args(more)
            .output()
            .unwrap()
    }

    fn table(&self) -> std::path::PathBuf {
        self.0.path().join("metrics")
    }

    /// A step of `tasks` tasks that has the world's GPUs by Slurm.
    fn step(&self, world: &World, tasks: usize) -> Scenario {
        let bind = (self.0.path().display(), world.path("snapshot"));
        Scenario::on(world, tasks)
            .first(format_args!("bind {} {}", bind.0, bind.1.display()))
            .line("env SLURM_STEP_GPUS=0,1")
    }

    /// What is counted and not zero, as `figure/value`.
    fn counts(&self) -> BTreeMap<String, u64> {
        let output = self.ask(&["--json"]);
        assert!(output.status.success(), "{output:?}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut counts = BTreeMap::new();
        for (figure, values) in document.as_object().unwrap() {
            for (value, count) in values.as_object().into_iter().flatten() {
                let count = count.as_u64().unwrap();
                if count > 0 {
                    counts.insert(format!("{figure}/{value}"), count);
                }
            }
        }
        counts
    }

    /// The same without how long the hooks took.
    fn untimed(&self) -> BTreeMap<String, u64> {
        let mut counts = self.counts();
        counts.retain(|name, _| !name.starts_with("hook_micros/"));
        counts
    }
}

fn expect(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

/// What is counted of a step of two local tasks with `mem=bind`, whose NICs are by this path, as often as `counts` say that it
/// ran: on a busy host that may be more than once.
fn two_local_tasks(counts: &BTreeMap<String, u64>, nic: &str) -> BTreeMap<String, u64> {
    let steps = counts["steps/best-effort"];
    expect(&[
        ("steps/best-effort", steps),
        ("gpu_steps/best-effort", steps),
        ("steps_by_source/snapshot", steps),
        ("tasks/local", 2 * steps),
        ("tasks_by_width/exclusive", 2 * steps),
        ("tasks_by_memory/bind", 2 * steps),
        (&format!("tasks_by_nic/{nic}"), 2 * steps),
    ])
}

/// The verdicts that the tasks' own reports have.
fn reported(outcome: &Outcome, tasks: usize) -> BTreeMap<String, u64> {
    let mut verdicts = BTreeMap::new();
    for task in 0..tasks {
        let report: Value =
            serde_json::from_str(&outcome.task(task).env["GPU_NUMA_BIND_REPORT"]).unwrap();
        let verdict = report["verdict"].as_str().unwrap();
        *verdicts.entry(format!("tasks/{verdict}")).or_default() += 1;
    }
    verdicts
}

#[test]
fn a_bound_step_is_counted_as_its_tasks_report() {
    let world = World::with_real_cpus();
    let counting = Counting::on(&world);
    run_together(
        counting
            .step(&world, 2)
            .option("mem=bind")
            .fence(&world, &[1, 0]),
    );
    let first = counting.untimed();
    assert_eq!(first, two_local_tasks(&first, "unknown"));
    let micros = counting.counts();
    assert!(micros["hook_micros/user_init"] > 0 && micros["hook_micros/task_init"] > 0);
}

#[test]
fn steps_on_amds_gpus_are_counted_by_how_near_their_tasks_are() {
    let world = World::declared("mi300a-4s-tpx");
    let counting = Counting::on(&world);
    let outcome = run_together(
        counting
            .step(&world, 2)
            .option("mem=bind")
            .fence(&world, &[3, 1]),
    );
    let counts = counting.untimed();
    let expected = two_local_tasks(&counts, "host-bridge");
    assert_eq!(counts, expected, "{}", outcome.text);
    assert_eq!(reported(&outcome, 2), expect(&[("tasks/local", 2)]));
}

#[test]
fn the_line_at_the_end_is_of_what_the_tasks_report_and_comes_once() {
    let world = World::with_real_cpus();
    let step = || {
        Scenario::on(&world, 2)
            .fence(&world, &[0, 1])
            .option("quiet")
    };
    let said = |scenario: Scenario| -> Vec<String> {
        let outcome = run(scenario);
        let lines = outcome.text.lines();
        let lines = lines.filter(|line| line.contains(" at the end: "));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(said(step()), [""; 0]);
    for (more, expected) in [
        ("uid 65534", "2 of 2 tasks were started on their GPUs' CPUs"),
        (
            "die 1",
            "the task was started on its GPUs' CPUs; 1 task did not report",
        ),
    ] {
        let lines = said(step().line("arg summary").line(more));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("host log user gpu-numa-bind: "),
            "{lines:?}"
        );
        assert!(lines[0].ends_with(expected), "{lines:?}");
    }
    // Whatever a task does to what it shares, the step ends.
    for byte in [0, 1, 127, 255] {
        let outcome = run(step()
            .line("arg summary")
            .line(format_args!("scribble 0 {byte}")));
        assert!(outcome.host("done").is_empty() && outcome.text.contains("host done"));
    }
}

#[test]
fn each_verdict_is_counted_as_the_tasks_report_it() {
    let world = World::declared("abi-2s1n4c1t");
    let counting = Counting::on(&world);
    let narrow = |option: &str, gpus: &[usize]| {
        counting
            .step(&world, gpus.len())
            .option(option)
            .fence(&world, gpus)
            .line(format_args!(
                "kernel 0-3 {}",
                world.path("status").display()
            ))
    };
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    let mut add = |more: BTreeMap<String, u64>| {
        for (name, count) in more {
            *expected.entry(name).or_default() += count;
        }
    };
    // One task alone, with GPUs near, far and on both sides.
    for (gpus, option) in [
        (vec![0], ""),
        (vec![1], ""),
        (vec![1], "node"),
        (vec![0], "socket,mem=bind"),
    ] {
        let outcome = run(narrow(option, &gpus));
        add(reported(&outcome, gpus.len()));
    }
    let both = counting
        .step(&world, 1)
        .option("")
        .line("opens 0 0-1")
        .line("task-env 0 CUDA_VISIBLE_DEVICES=0,1");
    add(reported(&run(both.clone()), 1));
    add(reported(
        &run(both.line(format_args!(
            "kernel 0-3 {}",
            world.path("status").display()
        ))),
        1,
    ));
    let refused = run(narrow("restricted", &[1]));
    assert_eq!(refused.task(0).exit, "1");
    add(expect(&[("tasks/refused", 1)]));
    let mut counted = counting.untimed();
    counted.retain(|name, _| name.starts_with("tasks/"));
    assert_eq!(counted, expected);
    assert!(expected.len() >= 4, "{expected:?}");
}

#[test]
fn steps_that_do_not_bind_are_told_apart() {
    let world = World::with_real_cpus();
    let counting = Counting::on(&world);
    let step = || counting.step(&world, 1).fence(&world, &[1]);
    run(step());
    run(step().option("off"));
    run(step().option("none"));
    let without = counting.step(&world, 1).line("env SLURM_STEP_GPUS=");
    run(without.line("env SLURM_GPUS_ON_NODE=0").option(""));
    run(step().line("item 3 0xfffffffb").line("arg always=mem=bind"));
    let expected = [
        ("steps/not-asked", 1),
        ("steps/off", 1),
        ("steps/none", 1),
        ("steps/best-effort", 2),
        ("gpu_steps/not-asked", 1),
        ("gpu_steps/off", 1),
        ("gpu_steps/none", 1),
        ("gpu_steps/best-effort", 1),
        ("steps_by_source/snapshot", 3),
        ("dry_run_tasks/local", 1),
        ("tasks/local", 1),
        ("tasks/no-gpu", 1),
        ("tasks_by_width/exclusive", 1),
        ("tasks_by_memory/bind", 1),
        ("tasks_by_nic/unknown", 2),
    ];
    assert_eq!(counting.untimed(), expect(&expected));
}

#[test]
fn a_task_that_ends_early_and_one_that_the_kernel_refuses_are_counted_as_such() {
    let world = World::with_real_cpus();
    let counting = Counting::on(&world);
    let step = |gpu: usize| {
        let step = counting.step(&world, 1).option("mem=bind");
        step.fence(&world, &[gpu])
    };
    run(step(1).line("die 0"));
    run(step(1)
        .line("deny task sched_setaffinity 1")
        .line("deny task set_mempolicy 1"));
    let counts = counting.untimed();
    assert_eq!(counts["tasks/unreported"], 1, "{counts:?}");
    assert_eq!(counts["kernel_refusals/memory"], 1, "{counts:?}");
    assert_eq!(counts["kernel_refusals/cpus"], 1, "{counts:?}");
    assert_eq!(counts["tasks_by_memory/unchanged"], 1, "{counts:?}");
    assert!(
        !counts.contains_key("tasks_by_width/exclusive"),
        "{counts:?}"
    );
}

#[test]
fn a_task_that_scribbles_counts_as_one_task() {
    let world = World::declared("abi-2s2n4c1t");
    for byte in [0, 1, 0x55, 0x7f, 0x80, 0xff] {
        let counting = Counting::on(&world);
        let scenario = counting
            .step(&world, 4)
            .option("")
            .fence(&world, &[0, 1, 2, 3])
            .line(format_args!("scribble 2 {byte}"))
            .line("delay 3 50");
        run(scenario);
        let counts = counting.counts();
        let sum = |figure: &str| -> u64 {
            let own = counts.iter().filter(|(name, _)| name.starts_with(figure));
            own.map(|(_, count)| count).sum()
        };
        assert_eq!(sum("steps/"), 1, "{byte:#x}: {counts:?}");
        assert_eq!(sum("tasks/"), 4, "{byte:#x}: {counts:?}");
        for figure in ["tasks_by_width/", "tasks_by_memory/", "tasks_by_nic/"] {
            assert!(sum(figure) <= 4, "{byte:#x}: {counts:?}");
        }
        assert!(sum("hook_micros/") <= 50_000_000, "{byte:#x}: {counts:?}");
    }
}

#[test]
fn steps_of_two_users_at_once_are_all_counted() {
    let world = World::with_real_cpus();
    let counting = Counting::on(&world);
    let (counting, world) = (&counting, &world);
    std::thread::scope(|scope| {
        for uid in [65_534, 1] {
            for _ in 0..2 {
                scope.spawn(move || {
                    for _ in 0..10 {
                        let step = counting.step(world, 1).option("").fence(world, &[1]);
                        run(step.line(format_args!("uid {uid}")));
                    }
                });
            }
        }
    });
    let counts = counting.untimed();
    assert_eq!(counts["steps/best-effort"], 40, "{counts:?}");
    assert_eq!(counts["tasks/local"], 40, "{counts:?}");
}

/// What a hostile user has a step's tasks and its environment do, by a number.
fn hostile(step: Scenario, act: u64) -> Scenario {
    let byte = act % 256;
    let long = "x".repeat(usize::try_from(1 + act % 4000).unwrap());
    let odd = format!("env GPU_NUMA_BIND=mem=bind,{long},\\xff\\x0a{byte}");
    match act % 8 {
        0 => step.line(format_args!("scribble 0 {byte}")),
        1 => step
            .line(format_args!("scribble 1 {byte}"))
            .line("delay 1 20"),
        2 => step.line("die 0"),
        3 => step.line("die 1").line(format_args!("scribble 0 {byte}")),
        4 => step.line(odd),
        5 => step
            .line("deny task sched_setaffinity 1")
            .line("deny task set_mempolicy 1"),
        6 => step.line(format_args!("env CUDA_VISIBLE_DEVICES={long}")),
        _ => step.line(format_args!(
            "task-env 0 GPU_NUMA_BIND_REPORT={{\"verdict\":\"{long}\"}}"
        )),
    }
}

/// What can be counted is bounded, whatever users do: 64 steps here, or as many as GPU_NUMA_HOSTILE_STEPS says (10,000 take some
/// minutes), eight at a time, of users that write over what their tasks share, end early, are refused by the kernel, and set variables to
/// anything.
#[test]
fn hostile_steps_count_as_one_each_and_make_no_new_series() {
    let steps: u64 =
        std::env::var("GPU_NUMA_HOSTILE_STEPS").map_or(64, |steps| steps.parse().unwrap());
    let at_once = 8;
    let world = World::declared("abi-2s2n4c1t");
    let counting = Counting::on(&world);
    let series = || {
        let output = counting.ask(&[]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let names = text.lines().filter(|line| !line.starts_with('#'));
        let names = names.map(|line| line.rsplit_once(' ').unwrap().0.to_owned());
        names.collect::<Vec<String>>()
    };
    let (before, size) = (series(), fs::metadata(counting.table()).unwrap().len());
    let (counting, world) = (&counting, &world);
    std::thread::scope(|scope| {
        for part in 0..at_once {
            scope.spawn(move || {
                let mut act = 20_261_130u64 + part;
                for _ in 0..steps / at_once {
                    act = act
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let step = counting.step(world, 2).option("").fence(world, &[0, 1]);
                    let uid = if act >> 40 & 1 == 0 { 1 } else { 65_534 };
                    run(hostile(step, act >> 33).line(format_args!("uid {uid}")));
                }
            });
        }
    });
    let steps = steps / at_once * at_once;
    let counts = counting.counts();
    let sum = |figure: &str| -> u64 {
        let own = counts.iter().filter(|(name, _)| name.starts_with(figure));
        own.map(|(_, count)| count).sum()
    };
    assert_eq!(sum("steps/"), steps, "{counts:?}");
    assert_eq!(sum("gpu_steps/"), steps, "{counts:?}");
    assert_eq!(sum("tasks/"), 2 * steps, "{counts:?}");
    for figure in [
        "tasks_by_width/",
        "tasks_by_memory/",
        "tasks_by_nic/",
        "kernel_refusals/",
    ] {
        assert!(sum(figure) <= 4 * steps, "{figure}: {counts:?}");
    }
    assert_eq!(series(), before);
    assert_eq!(fs::metadata(counting.table()).unwrap().len(), size);
}

/// The job is bound as ever, and the log says why it is not counted.
fn assert_not_counted(counting: &Counting, world: &World, why: Option<&str>) {
    let outcome = run(counting.step(world, 1).option("").fence(world, &[1]));
    let own = outcome.task(0);
    assert_eq!(own.cpus, world.cpus_of_gpu(1).to_string());
    assert_eq!(own.user.len(), 1, "{:?}", own.user);
    match why {
        Some(why) => assert!(
            outcome.logs(&["host log info", "this step is not counted", why]),
            "{why}\n{}",
            outcome.text
        ),
        None => assert!(!outcome.logs(&["not counted"]), "{}", outcome.text),
    }
}

#[test]
fn a_table_that_is_not_roots_or_not_whole_is_left_alone() {
    let world = World::with_real_cpus();
    assert_not_counted(&Counting::without_table(&world), &world, None);
    type Spoil = fn(&Path);
    let spoilt: [(&str, Spoil); 8] = [
        ("1000 bytes", |table| truncate(table, 1000)),
        ("0 bytes", |table| truncate(table, 0)),
        ("1073741824 bytes", |table| truncate(table, 1 << 30)),
        ("writable only by root", give_to_user),
        ("writable only by root", |table| set_mode(table, 0o666)),
        ("metrics", |table| {
            let real = table.with_file_name("real");
            fs::rename(table, &real).unwrap();
            symlink(real, table).unwrap();
        }),
        ("not a regular file", |table| {
            fs::remove_file(table).unwrap();
            let made = Command::new("mkfifo").arg(table).status().unwrap();
            assert!(made.success());
        }),
        ("other figures", |table| {
            let mut bytes = fs::read(table).unwrap();
            bytes[8] ^= 1;
            fs::write(table, bytes).unwrap();
        }),
    ];
    for (why, spoil) in spoilt {
        let counting = Counting::on(&world);
        spoil(&counting.table());
        assert_not_counted(&counting, &world, Some(why));
    }
}

#[test]
fn a_table_in_a_users_folder_is_left_alone() {
    let world = World::with_real_cpus();
    let counting = Counting::on(&world);
    give_to_user(counting.0.path());
    let outcome = run(counting.step(&world, 1).option("").fence(&world, &[1]));
    assert!(outcome.logs(&["this step is not counted", "writable only by root"]));
    std::os::unix::fs::chown(counting.0.path(), Some(0), None).unwrap();
    assert!(counting.counts().is_empty());
}

#[test]
fn a_table_on_a_disk_is_left_alone() {
    let world = World::with_real_cpus();
    let counting = Counting::on(&world);
    // The folder of the world is wherever temporary files are.
    fs::copy(counting.table(), world.path("snapshot/metrics")).unwrap();
    let on_disk = Command::new("stat")
        .args(["-f", "-c", "%T"])
        .arg(world.path("snapshot"))
        .output()
        .unwrap();
    let outcome = run(Scenario::on(&world, 1).option("").fence(&world, &[1]));
    let is_disk = !String::from_utf8_lossy(&on_disk.stdout).contains("tmpfs");
    assert_eq!(
        outcome.logs(&["this step is not counted", "expected tmpfs"]),
        is_disk
    );
    assert_eq!(outcome.task(0).cpus, world.cpus_of_gpu(1).to_string());
}

#[test]
fn only_the_daemon_counts() {
    let world = World::with_real_cpus();
    let counting = Counting::on(&world);
    for context in ["local", "allocator", "slurmd"] {
        run(counting
            .step(&world, 1)
            .option("")
            .line(format_args!("context {context}")));
    }
    assert!(counting.counts().is_empty());
}

fn truncate(table: &Path, size: u64) {
    let file = fs::File::options().write(true).open(table).unwrap();
    file.set_len(size).unwrap();
}
