//! The whole way of a UUID: a stand-in NVML, `gpu-numa snapshot` on a made-up host, the plugin in a C host,
//! and what the task ends up with.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gpu_numa_tests::stand_in_nvml;
use topology::snapshot::Snapshot;

use crate::build;
use crate::host::{Outcome, Scenario, run, run_together};
use crate::world::{World, pci, set_mode};

const MIG: [&str; 2] = [
    "MIG-aaaaaaaa-1111-2222-3333-444444444444",
    "MIG-bbbbbbbb-1111-2222-3333-444444444444",
];

fn uuid(gpu: usize) -> String {
    format!("GPU-{gpu:08X}-c3f3-1b07-005d-5ae1dc3f0000")
}

/// Two packages with a node, four CPUs and a GPU each, and a stand-in NVML with `scenario`; whose snapshot
/// is what `gpu-numa` makes of them.
fn world(scenario: &str) -> World {
    let world = World::declared("abi-2s1n4c1t");
    fs::remove_file(world.node_file()).unwrap();
    write_sys(&world);
    stand_in_nvml::build(world.folder(), &[]).unwrap();
    world.write("scenario", scenario);
    let (sys, dev, snapshot) = (world.path("sys"), world.path("dev"), world.path("snapshot"));
    fs::create_dir(&dev).unwrap();
    for minor in 0..2 {
        world.write(&format!("dev/nvidia{minor}"), "");
    }
    let program = build::program();
    let text = r#"mount --bind "$0" /sys && cp -a /dev/null "$3" && mount --bind "$3" /dev || exit 77
        exec "$1" snapshot --dir "$2""#;
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", text])
        .args([&sys, program, &snapshot, &dev] as [&Path; 4])
        .env("LD_LIBRARY_PATH", world.folder())
        .env(stand_in_nvml::SCENARIO, world.path("scenario"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !said.contains("unshare failed") && output.status.code() != Some(77),
        "this test needs root and mount namespaces: {said}"
    );
    assert!(output.status.success(), "{said}");
    set_mode(&world.node_file(), 0o644);
    world
}

/// What the child that asks NVML is while it asks, where all of the driver's device files are there.
#[test]
fn nvml_is_asked_by_nobody_without_capabilities() {
    let (world, mut asked) = ask_library("hang nvmlInit_v2\n");
    let status = status_of_child(asked.id());
    asked.kill().unwrap();
    asked.wait().unwrap();
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default()
            .trim_start_matches(':')
            .trim()
            .replace('\t', " ")
    };
    for (name, wanted) in [
        ("Uid", "65534 65534 65534 65534"),
        ("Gid", "65534 65534 65534 65534"),
        ("Groups", ""),
        ("CapEff", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        assert_eq!(value(name), wanted, "{name}\n{status}");
    }
    drop(world);
    // So it can answer.
    let (world, mut asked) = ask_library(&two_gpus(&MIG));
    assert!(asked.wait().unwrap().success());
    let text = fs::read_to_string(world.node_file()).unwrap();
    let machine = Snapshot::parse(&text).unwrap().machine;
    let gpu = machine.gpu(pci(1)).unwrap();
    assert_eq!((gpu.uuid.clone(), gpu.mig.len()), (Some(uuid(1)), 2));
}

/// A host whose driver lists its two GPUs and has all device files, and `gpu-numa snapshot` on it, which asks a stand-in NVML.
fn ask_library(scenario: &str) -> (World, Child) {
    let world = World::declared("abi-2s1n4c1t");
    fs::remove_file(world.node_file()).unwrap();
    write_sys(&world);
    // Every user can read it there, as a driver's library.
    let library = Path::new("/run/gpu-numa-nvml-test");
    let _ = fs::create_dir(library);
    stand_in_nvml::build(library, &[]).unwrap();
    fs::write(library.join("scenario"), scenario).unwrap();
    let text = r#"mount --bind "$0" /sys && mount -t tmpfs tmpfs /proc/driver || exit 77
        n=1
        for gpu in 0000:23:00.0 0000:33:00.0; do
            mkdir -p /proc/driver/nvidia/gpus/$gpu
            printf 'Bus Location: %s\nDevice Minor: %s\n' $gpu $n >/proc/driver/nvidia/gpus/$gpu/information
            n=$((n - 1))
        done
        mount -t tmpfs tmpfs /dev || exit 77
        for file in null nvidia0 nvidia1 nvidiactl; do mknod -m 666 /dev/$file c 1 3; done
        exec "$1" snapshot --dir "$2""#;
    let sys = world.path("sys");
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", text])
        .args([&sys, build::program(), &world.path("snapshot")] as [&Path; 3])
        .env("LD_LIBRARY_PATH", library)
        .env(stand_in_nvml::SCENARIO, library.join("scenario"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (world, child)
}

/// `/proc/PID/status` of the child of `parent` that asks NVML, once its filter is on.
fn status_of_child(parent: u32) -> String {
    let is_asking = |pid: &str| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.windows(12).any(|part| part == b"__probe\0nvml")
    };
    let start = Instant::now();
    let mut last = String::new();
    while start.elapsed() < Duration::from_secs(8) {
        let children = format!("/proc/{parent}/task/{parent}/children");
        let children = fs::read_to_string(children).unwrap_or_default();
        if let Some(pid) = children.split_whitespace().find(|pid| is_asking(pid)) {
            last = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            if last.contains("Seccomp:\t2") {
                return last;
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    last
}

/// The host's `/sys`, as far as it is read.
fn write_sys(world: &World) {
    let put = |name: String, text: &str| {
        let path = world.path("sys").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    };
    put("devices/system/cpu/online".to_owned(), "0-7");
    put("devices/system/cpu/possible".to_owned(), "0-7");
    for cpu in 0..8u32 {
        let package = (cpu / 4) as usize;
        let topology = format!("devices/system/cpu/cpu{cpu}/topology");
        put(
            format!("{topology}/physical_package_id"),
            &package.to_string(),
        );
        put(format!("{topology}/package_cpus"), ["f", "f0"][package]);
        put(format!("{topology}/core_cpus"), &format!("{:x}", 1 << cpu));
        put(format!("{topology}/core_id"), &cpu.to_string());
    }
    copy(&world.path("node"), &world.path("sys/devices/system/node"));
    for (node, map) in [(0, "f"), (1, "f0")] {
        put(format!("devices/system/node/node{node}/cpumap"), map);
    }
    copy(&world.path("devices"), &world.path("sys/bus/pci/devices"));
    // NVML is asked where the driver is loaded.
    fs::create_dir_all(world.path("sys/module/nvidia")).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Two GPUs, minors against PCI order, the second divided by MIG.
fn two_gpus(migs: &[&str]) -> String {
    let migs: String = (1..)
        .zip(migs)
        .map(|(gi, uuid)| format!("mig {uuid} {gi} 0\n"))
        .collect();
    format!(
        "gpu 0:23:0.0 {} 1 NVIDIA A100\ngpu 0:33:0.0 {} 0 NVIDIA A100\n{migs}",
        uuid(0),
        uuid(1)
    )
}

/// A step of a task for each list, every one of which may open every GPU.
fn scenario(world: &World, lists: &[&str]) -> Scenario {
    let scenario = Scenario::on(world, lists.len()).option("mem=bind");
    lists
        .iter()
        .enumerate()
        .fold(scenario, |scenario, (task, list)| {
            scenario.line(format_args!("task-env {task} CUDA_VISIBLE_DEVICES={list}"))
        })
}

fn assert_on(outcome: &Outcome, task: usize, cpus: &str, node: &str) {
    let own = outcome.task(task);
    let has = (own.cpus.as_str(), own.policy.as_str(), own.nodes.as_str());
    assert_eq!(has, (cpus, "bind", node), "task {task}\n{}", outcome.text);
}

#[test]
fn the_snapshot_has_what_nvml_says() {
    let world = world(&two_gpus(&MIG));
    let text = fs::read_to_string(world.node_file()).unwrap();
    let machine = Snapshot::parse(&text).unwrap().machine;
    let gpu = machine.gpu(pci(1)).unwrap();
    assert_eq!((gpu.minor, gpu.uuid.clone()), (Some(0), Some(uuid(1))));
    assert_eq!(gpu.mig.len(), 2);
    assert_eq!(
        (gpu.mig[1].uuid.as_str(), gpu.mig[1].gpu_instance),
        (MIG[1], Some(2))
    );
    assert_eq!(gpu.locality.numa_nodes.as_ref().unwrap().to_string(), "1");
}

#[test]
fn a_task_of_uuids_is_bound_to_the_gpu_that_they_name() {
    let world = world(&two_gpus(&[]));
    // CUDA takes digits in any case, and "GPU-" in capitals alone.
    let digits = uuid(0)["GPU-".len()..].to_ascii_uppercase();
    let lists = [uuid(1), format!("GPU-{digits}")];
    let outcome = run_together(scenario(&world, &[&lists[0], &lists[1]]));
    assert_on(&outcome, 0, "4-7", "1");
    assert_on(&outcome, 1, "0-3", "0");
    // The beginning of a UUID will do where it fits one GPU, and not where it fits both.
    let outcome = run(scenario(&world, &["GPU-00000001"]));
    assert_on(&outcome, 0, "4-7", "1");
    let outcome = run(scenario(&world, &["GPU-0000000"]));
    assert!(
        outcome.task(0).user[0].contains("\"GPU-0000000\""),
        "{}",
        outcome.text
    );
}

#[test]
fn tasks_on_instances_of_one_gpu_share_its_nodes_cpus() {
    let world = world(&two_gpus(&MIG));
    let lists = [MIG[0], &MIG[1][..12], &uuid(0)];
    let outcome = run_together(scenario(&world, &lists));
    assert_on(&outcome, 0, "4-5", "1");
    assert_on(&outcome, 1, "6-7", "1");
    assert_on(&outcome, 2, "0-3", "0");
    let report = outcome.task(1).env["GPU_NUMA_BIND_REPORT"].clone();
    assert!(report.contains(&pci(1).to_string()), "{report}");
}

#[test]
fn the_old_form_of_an_instance_names_its_gpu() {
    let old = [
        format!("MIG-{}/1/0", uuid(1)),
        format!("MIG-{}/2/0", uuid(1)),
    ];
    let world = world(&two_gpus(&[&old[0], &old[1]]));
    let outcome = run_together(scenario(&world, &[&old[0], &old[1]]));
    assert_on(&outcome, 0, "4-5", "1");
    assert_on(&outcome, 1, "6-7", "1");
}

#[test]
fn an_instance_in_its_fence_is_bound_with_and_without_its_uuid_known() {
    // The fence of an instance opens its GPU's /dev/nvidiaN and two files of /dev/nvidia-caps.
    for migs in [&MIG[..], &[]] {
        let world = world(&two_gpus(migs));
        let step = scenario(&world, &[MIG[0]]).line("opens 0 0");
        let outcome = run(step);
        assert_on(&outcome, 0, "4-7", "1");
        let says_so = outcome
            .task(0)
            .user
            .iter()
            .any(|line| line.contains("is no GPU that"));
        assert_eq!(says_so, migs.is_empty(), "{}", outcome.text);
    }
}

#[test]
fn without_nvml_uuids_are_not_known_and_indexes_are() {
    let world = world("fail nvmlInit_v2 9\n");
    let outcome = run(scenario(&world, &["1"]));
    assert_on(&outcome, 0, "4-7", "1");
    let outcome = run(scenario(&world, &[&uuid(1)]));
    let own = outcome.task(0);
    assert_eq!(own.cpus, "0-7");
    assert!(own.user[0].contains(&uuid(1)), "{:?}", own.user);
}
