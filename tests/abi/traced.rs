//! Each call of the kernel that a hook makes with a path, seen from outside (`tracer.c`): a list holds all, and one that a
//! user's file system would answer, or not, is never waited for.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::build::{host, plugin, tracer};
use crate::host::{Outcome, Scenario};
use crate::world::World;

/// Runs a scenario under the tracer, with `slow` as a folder that never answers; gives also what the hooks asked.
fn trace(world: &World, scenario: &Scenario, slow: Option<&Path>) -> (Outcome, BTreeSet<String>) {
    let log = world.path("traced");
    let mut command = Command::new(tracer());
    command
        .arg(&log)
        .arg(slow.unwrap_or(Path::new("-")))
        .arg(host());
    let outcome = scenario.run_by(command);
    let text = fs::read(&log).unwrap();
    let lines = String::from_utf8_lossy(&text).into_owned();
    (outcome, lines.lines().map(str::to_owned).collect())
}

/// What a hook may ask of which files; `$` stands for the world's folder, `@` for the plugin's, `?` for a file whose name
/// begins with what is before it.
const MAY_ASK: &[(&str, &[&str])] = &[
    ("exit", &["$/snapshot", "$/snapshot/metrics"]),
    (
        "user_init",
        &[
            "$/snapshot",
            "$/snapshot/metrics",
            "$/snapshot/node.json",
            "$/snapshot/nccl-topo.xml",
            "$/gone",
            "$/gone/metrics",
            "@",
            "@/libnccl-profiler-gpu-numa.so",
            "/dev",
            "/dev/dri",
            "/etc/gpu-numa-bind/latencies",
            "/etc/gpu-numa-bind/localities",
            "/etc/gpu-numa-bind/switches",
            "/proc/cpuinfo",
            "/proc/driver/nvidia/gpus?",
            "/proc/sys/kernel/hostname",
            "/proc/sys/kernel/random/boot_id",
            "/sys/bus/pci/devices?",
            "/sys/class/dmi/id/board_name",
            "/sys/devices/?",
            "/sys/module/amdgpu/version",
            "/sys/module/nvidia/version",
        ],
    ),
    (
        "task_init",
        &[
            "/dev/nvidia0",
            "/dev/nvidia1",
            "$/snapshot/nccl-topo.xml",
            "/etc/nccl.conf",
            "/nonexistent/.nccl.conf",
            "/proc/self/mountinfo",
            "/proc/self/cwd",
            "/proc/self/status",
            "/var/run/nvidia-topologyd/virtualTopology.xml",
            // What NCCL will read as its configuration: read here once, as the task's user.
            "$/users/NCCL_CONF_FILE",
        ],
    ),
];

fn is_allowed(world: &World, line: &str) -> bool {
    let mut words = line.splitn(3, ' ');
    let (Some(hook), Some(_), Some(path)) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    let here = world.folder().display().to_string();
    let own = plugin().parent().unwrap().display().to_string();
    let fits = |pattern: &str| {
        let pattern = pattern.replace('$', &here).replace('@', &own);
        match pattern.strip_suffix('?') {
            Some(start) => path.starts_with(start),
            None => path == pattern,
        }
    };
    let of = MAY_ASK
        .iter()
        .filter(|(of, _)| of.split(' ').any(|of| of == hook));
    of.flat_map(|(_, files)| files.iter())
        .any(|pattern| fits(pattern))
}

fn scenarios(world: &World) -> Vec<Scenario> {
    let step = |option: &str| Scenario::on(world, 2).fence(world, &[0, 1]).option(option);
    let users = [
        "HOME",
        "NCCL_CONF_FILE",
        "GPU_NUMA_BIND_SET",
        "GPU_NUMA_BIND_LOG",
        "GPU_NUMA_BIND",
        "TMPDIR",
        "TZ",
        "LD_LIBRARY_PATH",
        "XDG_RUNTIME_DIR",
        "SLURM_CONF",
        "SLURMD_NODENAME",
        "SLURM_STEP_GPUS",
        "SLURM_CPU_BIND_LIST",
        "NCCL_TOPO_FILE",
        "NCCL_PROFILER_PLUGIN",
    ];
    let named = |scenario: Scenario| {
        users.iter().fold(scenario, |scenario, name| {
            scenario.line(format_args!(
                "env {name}={}/users/{name}",
                world.folder().display()
            ))
        })
    };
    let mut all = vec![
        step("verbose"),
        step("nccl=off,quiet"),
        step("none,verbose"),
        step("restricted,nccl=log"),
        step("verbose").line("arg summary"),
        named(step("verbose").line("arg always=best-effort")),
        step("verbose").line("item 3 0xfffffffb"),
        Scenario::on(world, 1).line("arg always=best-effort"),
        step("verbose").line(format_args!(
            "arg snapshot={}/gone",
            world.folder().display()
        )),
    ];
    for context in ["local", "allocator", "slurmd"] {
        all.push(named(
            step("verbose").line(format_args!("context {context}")),
        ));
    }
    all
}

#[test]
fn a_hook_asks_only_of_the_files_that_are_listed() {
    let world = World::with_real_cpus();
    fs::create_dir(world.path("users")).unwrap();
    world.write("users/NCCL_CONF_FILE", "NCCL_DEBUG=INFO\n");
    let mut others = BTreeSet::new();
    let mut hooks = BTreeSet::new();
    for scenario in scenarios(&world) {
        let (_, asked) = trace(&world, &scenario, None);
        hooks.extend(
            asked
                .iter()
                .filter_map(|line| Some(line.split_once(' ')?.0.to_owned())),
        );
        others.extend(asked.into_iter().filter(|line| !is_allowed(&world, line)));
    }
    assert!(
        hooks.contains("user_init") && hooks.contains("task_init"),
        "{hooks:?}"
    );
    let others: Vec<String> = others.into_iter().collect();
    assert!(others.is_empty(), "not in the list:\n{}", others.join("\n"));
}

/// Where a process that waits can be killed (`TYPES` of `ffi/src/linux/mounts.rs`).
const KILLABLE: [&str; 7] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs"];
/// Where it cannot, or where that is not known.
const OTHERS: [&str; 7] = [
    "lustre",
    "gpfs",
    "beegfs",
    "fuse.sshfs",
    "fuse",
    "autofs",
    "new-type",
];

/// A mount of each kind; every call on it but one that the kernel answers from its caches never comes back.
#[test]
fn a_users_file_system_of_any_kind_may_hang_in_every_call() {
    let world = World::with_real_cpus();
    let home = world.path("home");
    fs::create_dir(&home).unwrap();
    fs::create_dir(home.join("anna")).unwrap();
    fs::write(home.join("anna/.nccl.conf"), "NCCL_TOPO_FILE=/x\n").unwrap();
    fs::write(home.join("conf"), "NCCL_TOPO_FILE=/x\n").unwrap();
    std::os::unix::fs::symlink(home.join("conf"), world.path("link")).unwrap();
    let at = home.display();
    for kind in KILLABLE.into_iter().chain(OTHERS) {
        let mounts = world.write(
            "mounts",
            &format!("1 0 8:1 / / rw - ext4 none rw\n2 1 0:40 / {at} rw - {kind} none rw\n"),
        );
        let variables = [
            format!("env HOME={at}/anna"),
            format!("env NCCL_CONF_FILE={at}/conf"),
            format!("env NCCL_CONF_FILE={}", world.path("link").display()),
        ];
        for variable in variables {
            let scenario = Scenario::on(&world, 1)
                .fence(&world, &[1])
                .option("verbose")
                .line(format_args!("mounts {}", mounts.display()))
                .line(&variable);
            let has_hung =
                |asked: &BTreeSet<String>| asked.iter().any(|line| line.contains(" HANGS "));
            let (mut outcome, mut asked) = trace(&world, &scenario, Some(&home));
            // On a busy machine the child that asks may be killed before it does.
            for _ in 0..5 {
                if has_hung(&asked) == KILLABLE.contains(&kind) {
                    break;
                }
                (outcome, asked) = trace(&world, &scenario, Some(&home));
            }
            let own = outcome.task(0);
            let told = format!("{kind} {variable}\n{}\n{asked:#?}", outcome.text);
            assert_eq!(own.exit, "0", "{told}");
            assert_eq!(own.cpus, world.cpus_of_gpu(1).to_string(), "{told}");
            assert!(!own.env.contains_key("NCCL_TOPO_FILE"), "{told}");
            assert!(outcome.elapsed < Duration::from_secs(4), "{told}");
            // A process that can be killed there is asked, and killed.
            assert_eq!(has_hung(&asked), KILLABLE.contains(&kind), "{told}");
        }
    }
}
