//! `gpu-numa check` on a recorded host: what stops jobs has status 1 and one line, what is milder neither.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::Host;

fn check(host: &Host, more: &[&str]) -> (Option<i32>, String) {
    let output = host.run(&[&["check"], more].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text)
}

#[test]
fn nothing_is_said_of_a_right_host() {
    assert_eq!(check(&Host::new(), &[]), (Some(0), String::new()));
}

#[test]
fn what_stops_jobs_is_the_reason() {
    let host = Host::new();
    host.write("dev/nvidia0", "");
    let (status, text) = check(&host, &[]);
    assert_eq!(status, Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("gpu-numa: gres-file: "), "{text}");
}

#[test]
fn device_files_that_are_all_gone_stop_jobs_where_the_gpus_are_there() {
    let host = Host::new();
    host.write("dev/null", "");
    let (status, text) = check(&host, &[]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("/dev/nvidia0"), "{text}");
}

#[test]
fn what_somebody_mistypes_in_slurms_configuration_drains_nothing() {
    let host = Host::new();
    host.replace("etc/slurm/slurm.conf", "GresTypes=gpu", "GresTypes=nic");
    assert_eq!(check(&host, &[]), (Some(0), String::new()));
    let (status, text) = check(&host, &["--class", "stops-jobs"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.starts_with("gpu-numa: gres-types: "), "{text}");
}

#[test]
fn what_is_milder_is_passed_over_unless_its_class_is_asked_for() {
    let host = Host::new();
    host.replace(
        "etc/slurm/cgroup.conf",
        "constraincores=yes",
        "ConstrainCores=no",
    );
    host.write("run/gpu-numa-bind/node.json", "{");
    assert_eq!(check(&host, &[]), (Some(0), String::new()));
    let (status, text) = check(&host, &["--class", "slows-jobs"]);
    assert!(
        [Some(3), Some(4), Some(5)].contains(&status),
        "{status:?} {text}"
    );
    assert!(text.ends_with(" more)\n"), "{text}");
    let output = host.run(&["check", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["passed_over"], 2, "{document:#}");
    assert_eq!(document["ok"], true);
}

#[test]
fn parts_are_counted_as_slurm_counts_them() {
    for (machine, parts) in [
        ("mi300x-2s8g-cpx", 64),
        ("mi300x-2s8g-qpx", 32),
        ("mi300a-4s-tpx", 12),
    ] {
        let host = Host::of(machine);
        write_slurms_files(&host);
        assert_eq!(check(&host, &[]), (Some(0), String::new()), "{machine}");
        host.replace(
            "etc/slurm/slurm.conf",
            &format!(":{parts}"),
            &format!(":{}", parts + 1),
        );
        let (status, text) = check(&host, &[]);
        assert_eq!((status, text.as_str()), (Some(0), ""));
        let (status, text) = check(&host, &["--class", "stops-jobs"]);
        assert_eq!(status, Some(1), "{text}");
        let said = format!("declares {} GPUs, the host has {parts}", parts + 1);
        assert!(text.contains(&said), "{text}");
    }
}

/// slurm.conf and gres.conf with what `gres-conf` prints.
fn write_slurms_files(host: &Host) {
    let page = host.page(&["gres-conf", "--slurm-release", "24.11"]);
    let lines = |part: &str| -> String {
        let lines = page.lines().filter(|line| line.contains(part));
        lines
            .map(|line| format!("{}\n", line.trim_start_matches("# ")))
            .collect()
    };
    let node = lines("NodeName=gpu1 CPUs=");
    host.write("etc/slurm/gres.conf", &lines(" Name=gpu "));
    host.write(
        "etc/slurm/slurm.conf",
        &format!("ClusterName=c\nSlurmctldHost=h\nGresTypes=gpu\nTaskPlugin=task/affinity,task/cgroup\n{node}"),
    );
    host.write(
        "etc/slurm/cgroup.conf",
        "ConstrainDevices=yes\nConstrainCores=yes",
    );
    host.write("etc/slurm/plugstack.conf", "");
}

/// The driver makes eight render nodes for each MI300X, and behind seven of them is nothing unless it is divided.
#[test]
fn render_nodes_without_a_gpu_behind_them_are_told_from_missing_ones() {
    let host = Host::of("mi300x-2s8g");
    write_slurms_files(&host);
    assert_eq!(check(&host, &[]), (Some(0), String::new()));
    // The second card is renderD136.
    host.replace("etc/slurm/gres.conf", "renderD136", "renderD129");
    assert_eq!(check(&host, &[]), (Some(0), String::new()));
    let (status, text) = check(&host, &["--class", "stops-binding"]);
    assert_eq!(status, Some(3), "{text}");
    assert!(
        text.contains("no GPU is behind /dev/dri/renderD129"),
        "{text}"
    );
    host.replace("etc/slurm/gres.conf", "renderD129", "renderD136");
    fs::remove_file(host.path("dev/dri/renderD136")).unwrap();
    let (status, text) = check(&host, &[]);
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.contains("the host has no /dev/dri/renderD136"),
        "{text}"
    );
}

#[test]
fn a_host_that_cannot_be_read_is_no_finding() {
    let output = Host::new().run(&["check", "--slurm-conf", "/nowhere/slurm.conf"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}

#[test]
fn it_ends_by_itself_where_a_file_never_answers() {
    // Standard output that nobody reads stands for a file server that does not answer.
    let host = Host::new();
    host.replace("etc/slurm/slurm.conf", "GresTypes=gpu", "GresTypes=nic");
    let program = env!("CARGO_BIN_EXE_gpu-numa");
    let root = host.root().to_str().unwrap().to_owned();
    // A pipe that is full before it starts.
    let script = "head -c 65536 /dev/zero; exec \"$0\" check --json --from \"$1\"";
    let mut child = Command::new("sh")
        .args(["-c", script, program, &root])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "it waits");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status.code(), Some(2));
}

/// The processor time of one run, by what the shell says of its children: `0m0.013000s 0m0.022000s`, user and system.
fn processor_time(host: &Host) -> Duration {
    let output = Command::new("sh")
        .args(["-c", "\"$0\" check --from \"$1\" && times"])
        .arg(env!("CARGO_BIN_EXE_gpu-numa"))
        .arg(host.root())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.lines().count() == 2,
        "{text}"
    );
    let times = text.lines().last().unwrap().split_whitespace();
    let seconds = times.map(|time| -> f64 {
        let (minutes, seconds) = time.trim_end_matches('s').split_once('m').unwrap();
        minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
    });
    Duration::from_secs_f64(seconds.sum())
}

/// Slurm waits for it where it is a prolog: 50 ms where the host's files are cached.  A busy host takes longer by the clock, so what counts
/// is the processor's time, of the quickest of some; a build without optimization has no more.
#[test]
fn it_is_quick_enough_to_be_asked_before_each_job() {
    let host = Host::new();
    let quickest = (0..20).map(|_| processor_time(&host)).min().unwrap();
    assert!(quickest < Duration::from_millis(50), "{quickest:?}");
}

#[test]
fn a_users_process_that_is_named_slurmd_says_nothing_of_the_node() {
    let host = Host::new();
    host.replace(
        "etc/slurm/nodes.conf",
        "NodeName=gpu[1-3]",
        "NodeName=gpu8 Sockets=9 Gres=gpu:8\nNodeName=gpu[1-3]",
    );
    host.write("proc/4242/comm", "slurmd\n");
    host.write("proc/4242/cmdline", "slurmd\0-N\0gpu8\0");
    host.write("proc/4242/status", "Name:\tslurmd\nUid:\t1000\t0\t0\t0\n");
    let all = ["--class", "stops-jobs"];
    assert_eq!(check(&host, &all), (Some(0), String::new()));
    host.write("proc/4242/status", "Name:\tslurmd\nUid:\t0\t0\t0\t0\n");
    let (status, text) = check(&host, &all);
    assert_eq!(status, Some(1), "{text}");
}

/// What `packaging/slurm/health-check` has scontrol do, and its status, where `gpu-numa check` does `checks` and the node is
/// as `state`, in scontrol's words.
fn health_check(checks: &str, state: &str, is_prolog: bool) -> (String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str, body: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    place("gpu-numa", checks);
    place(
        "scontrol",
        &format!("case $1 in update) echo \"$*\" >\"$CALLED\" ;; *) echo '{state}' ;; esac"),
    );
    let called = folder.path().join("called");
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../packaging/slurm/health-check"
    );
    let mut command = Command::new("sh");
    command
        .arg(script)
        .env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()))
        .env("CALLED", &called)
        .env("SLURMD_NODENAME", "n1")
        .env_remove("SLURM_JOB_ID");
    if is_prolog {
        command.env("SLURM_JOB_ID", "7");
    }
    let status = command.status().unwrap().code();
    let called = fs::read_to_string(called).unwrap_or_default();
    (called.trim_end().to_owned(), status)
}

#[test]
fn the_health_check_drains_by_a_verdict_alone_and_resumes_its_own() {
    const FOUND: &str = "echo 'gpu-numa: gres-file: /dev/nvidia3 is missing'; exit 1";
    const DRAIN: &str =
        "update NodeName=n1 State=DRAIN Reason=gpu-numa: gres-file: /dev/nvidia3 is missing";
    const RESUME: &str = "update NodeName=n1 State=RESUME";
    // As `scontrol --oneliner show node` prints it.
    let node = |state: &str, reason: &str| {
        let why = if reason.is_empty() {
            String::new()
        } else {
            format!(" Reason={reason} [root@2026-11-29T12:00:00]")
        };
        format!(
            "NodeName=n1 Arch=x86_64 CPUTot=8 OS=Linux 6.1 RealMemory=1 State={state} ThreadsPerCore=1 Comment=a{why}"
        )
    };
    let (idle, ours) = (
        node("IDLE", ""),
        "gpu-numa: gres-file: /dev/nvidia3 is missing",
    );
    let (fans, own) = (node("IDLE+DRAIN", "new fans"), node("IDLE+DRAIN", ours));
    let reboots = [
        node("IDLE+DRAIN+REBOOT_REQUESTED", ours),
        node(
            "MIXED+DRAIN+REBOOT_ISSUED",
            &format!("Reboot ASAP : {ours}"),
        ),
        node("DOWN+DRAIN+REBOOT_ISSUED", ours),
    ];
    for (checks, state, does) in [
        (FOUND, idle.clone(), DRAIN),
        (FOUND, node("MIXED+PLANNED", ""), DRAIN),
        (FOUND, fans.clone(), ""),
        (FOUND, node("ALLOCATED+DRAIN", ours), ""),
        // slurmctld does not answer, or does not know the node.
        (FOUND, String::new(), ""),
        (FOUND, "Node n1 not found".to_owned(), ""),
        ("exit 0", idle.clone(), ""),
        ("exit 0", own.clone(), RESUME),
        ("exit 0", node("IDLE+DRAIN+NOT_RESPONDING", ours), RESUME),
        ("exit 0", fans, ""),
        ("exit 0", node("IDLE+DRAIN", "not for gpu-numa: x"), ""),
        ("exit 0", reboots[0].clone(), ""),
        ("exit 0", reboots[1].clone(), ""),
        ("exit 0", reboots[2].clone(), ""),
        ("exit 2", idle.clone(), ""),
        ("exit 2", own.clone(), ""),
        ("exit 3", idle.clone(), ""),
        ("exit 101", idle.clone(), ""),
        ("kill -KILL $$", idle.clone(), ""),
    ] {
        let (called, status) = health_check(checks, &state, false);
        assert_eq!((&*called, status), (does, Some(0)), "{checks}; {state}");
    }
    assert_eq!(
        health_check(FOUND, &idle, true),
        (DRAIN.to_owned(), Some(1))
    );
    assert_eq!(
        health_check("exit 0", &own, true),
        (String::new(), Some(0)),
        "a prolog gives nothing back"
    );
    for checks in ["exit 0", "exit 2", "exit 101"] {
        assert_eq!(health_check(checks, &idle, true).1, Some(0), "{checks}");
    }
}
