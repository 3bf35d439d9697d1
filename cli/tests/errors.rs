//! What is said of a command line that cannot be run: one line, the value, what is accepted, status 2.

use std::process::Command;

use crate::common::Host;

fn refused(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(arguments)
        .env_remove("SLURM_CONF")
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(output.stdout.is_empty());
    // What could not be read of a made-up machine stands above.
    let lines = message
        .lines()
        .filter(|line| !line.starts_with("gpu-numa: hwloc: "));
    assert_eq!(lines.count(), 1, "{message}");
    message
}

/// Of an option that needs another clap says nothing where that other cannot stand beside a third that is given.
#[test]
fn an_option_that_would_do_nothing_is_refused() {
    for arguments in [
        &["snapshot", "--from", "x", "--json"][..],
        &["snapshot", "--if-stale", "--json"],
        &["nccl", "emit", "--explain", "--p2p", "off"],
        &["nccl", "emit", "--multi-node", "--p2p", "off"],
        &["plan", "--json", "--compare"],
        &["plan", "--mask", "0", "--slurm-release", "24.11"],
        &["plan", "--for", "vllm", "--compare"],
        &["plan", "--for", "vllm", "--slurm-release", "24.11"],
        &["verify", "--json", "--every", "5", "1"],
        &["verify", "--self", "--every", "5"],
    ] {
        let said = refused(arguments);
        assert!(
            said.contains("cannot be used with"),
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn a_wrong_command_line_is_named_in_one_line_with_what_is_accepted() {
    for (arguments, line) in [
        (
            &["plan", "--tasks", "0"][..],
            "--tasks \"0\": expected a whole number from 1 to 4096; see gpu-numa plan --help",
        ),
        (
            &["run", "--cpus-per-task", "many", "--", "true"],
            "--cpus-per-task \"many\": expected a whole number from 1 to 65536; see gpu-numa run --help",
        ),
        (
            &["doctor", "--slurm-release", "25"],
            "--slurm-release \"25\": that is a year; expected 25.05 or 25.11; see gpu-numa doctor --help",
        ),
        (
            &["plan", "--for", "vlm"],
            "--for \"vlm\": did you mean vllm? (expected vllm, sglang, trtllm, ray, torchrun, accelerate, mpirun); see gpu-numa plan --help",
        ),
        (
            &["verify", "abc"],
            "PID \"abc\": expected a process id, such as 12345; see gpu-numa verify --help",
        ),
        (
            &["show", "--json", "--svg", "x"],
            "--json cannot be used with --svg; see gpu-numa show --help",
        ),
        (
            &["show", "--from"],
            "--from: a value is missing; expected <PATH>; see gpu-numa show --help",
        ),
        (
            &["show", "here"],
            "unexpected argument \"here\"; see gpu-numa show --help",
        ),
        (
            &["show", "/proc"],
            "unexpected argument \"/proc\"; did you mean --from /proc? (see gpu-numa show --help)",
        ),
        (
            &["heal", "--limit", "500", "1"],
            "--limit \"500\": less than 1 MiB a second; expected such as 500M or 2G; see gpu-numa heal --help",
        ),
        (
            &["show", "--fron=x"],
            "unknown option \"--fron\"; did you mean --from? (see gpu-numa show --help)",
        ),
        (&["run"], "CMD is missing; see gpu-numa run --help"),
        (
            &["show", "--svg", "x.png"],
            "--svg \"x.png\": the picture is SVG; expected a name that ends in .svg, or -; see gpu-numa show --help",
        ),
        (
            &["check", "--class", "STOPS-JOBS"],
            "--class \"STOPS-JOBS\": did you mean stops-jobs? (expected stops-jobs, stops-binding, weakens-binding, slows-jobs); \
             see gpu-numa check --help",
        ),
        (
            &["--json", "show"],
            "--json goes behind the command, as in show --json; see gpu-numa --help",
        ),
        (
            &["--show"],
            "unknown option \"--show\"; did you mean the command show? (see gpu-numa --help)",
        ),
        (
            &["show", "-from", "x"],
            "unknown option \"-from\"; did you mean --from? (see gpu-numa show --help)",
        ),
        (
            &["show", "--JSON"],
            "unknown option \"--JSON\"; did you mean --json? (see gpu-numa show --help)",
        ),
        (
            &["version"],
            "unknown command \"version\"; did you mean --version? (see gpu-numa --help)",
        ),
        (
            &["nccl", "check"],
            "FILE is missing; see gpu-numa nccl check --help",
        ),
        (
            &["nccl", "draw"],
            "unknown command \"draw\"; expected emit, paths, check, ranks; see gpu-numa nccl --help",
        ),
    ] {
        assert_eq!(refused(arguments), format!("gpu-numa: {line}\n"));
    }
    assert!(refused(&["nccl", "paths", "x", "--sm", "7"]).contains("one of 50, 52"));
    assert!(
        refused(&["shw"])
            .contains("unknown command \"shw\"; did you mean show? (expected show, plan")
    );
    assert!(refused(&["SHOW"]).contains("unknown command \"SHOW\"; did you mean show?"));
    assert!(refused(&["completions"]).contains("unknown command \"completions\"; expected show"));
    assert!(refused(&["nonsense"]).contains("unknown command \"nonsense\"; expected show, plan"));
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_the_reason() {
    let host = Host::new();
    let folder = host.root().to_str().unwrap();
    assert!(refused(&["doctor", "--slurm-conf", "/nope"]).contains("/nope: no such file"));
    host.write("passwd", "root:x:0:0:root:/root:/bin/bash\n");
    let passwd = format!("{folder}/passwd");
    assert!(refused(&["doctor", "--slurm-conf", &passwd]).contains("passwd: no slurm.conf"));
    let explained = refused(&["show", "--explain", "GPU9", "--from", folder]);
    assert!(explained.contains("expected GPU0 to GPU3, NIC0 to NIC1, or a PCI address"));
    let twice = refused(&["plan", "--gpus", "0,0", "--from", folder]);
    assert!(twice.contains("named twice"), "{twice}");
}

#[test]
fn a_command_that_does_not_start_has_the_shells_status() {
    let run = |command: &str| {
        let mut run = Command::new(env!("CARGO_BIN_EXE_gpu-numa"));
        let status = run.args(["run", "--option", "off", "--", command]).status();
        status.unwrap().code()
    };
    assert_eq!(run("/nonexistent"), Some(127));
    assert_eq!(run("/etc/passwd"), Some(126));
    assert_eq!(run("true"), Some(0));
}

#[test]
fn a_command_needs_no_dashes_before_it_and_keeps_its_own_options() {
    for before in [&[][..], &["--"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
            .args(["run", "--option", "off"])
            .args(before)
            .args(["echo", "--gpus", "-n", "--", "x"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, "--gpus -n -- x\n", "{before:?}");
    }
}

#[test]
fn more_than_there_is_cannot_be_planned_and_a_refusal_has_its_status() {
    let host = Host::new();
    let folder = host.root().to_str().unwrap();
    let gpus = refused(&["plan", "--gpus-per-task", "9", "--from", folder]);
    assert!(
        gpus.contains("--gpus-per-task 9: the machine has 4 GPUs"),
        "{gpus}"
    );
    let cpus = refused(&["plan", "--cpus-per-task", "1000", "--from", folder]);
    assert!(
        cpus.contains(
            "--cpus-per-task 1000: 4 tasks ask for 4000 CPUs, but the step has 16 (0-15), so srun would not start it; \
             expected at most 4 (--overcommit "
        ),
        "{cpus}"
    );
    for (step, wanted) in [
        (&["-c5"][..], "--cpus-per-task 5: 4 tasks ask for 20 CPUs"),
        (&["-n17"], "--tasks 17: 17 tasks ask for 17 CPUs"),
        (
            &["-n2", "--allowed", "0"],
            "--tasks 2: 2 tasks ask for 2 CPUs, but the step has 1 (0)",
        ),
        (
            &["-c5", "--compare", "--svg", "-"],
            "--cpus-per-task 5: 4 tasks",
        ),
    ] {
        let words = [&["plan"], step, &["--from", folder]].concat();
        let line = refused(&words);
        assert!(line.contains(wanted), "{line}");
        let words = [&words[..], &["--overcommit"]].concat();
        let output = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
            .args(words)
            .output();
        assert_eq!(output.unwrap().status.code(), Some(0), "{step:?}");
    }
    let status = |gpu: &str, allowed: &str| {
        let strict = [
            "plan",
            "--option",
            "restricted",
            "--gpus",
            gpu,
            "--allowed",
            allowed,
        ];
        host.run(&strict).status.code()
    };
    assert_eq!(status("23:00.0", "4-7"), Some(1));
    assert_eq!(status("23:00.0", "0-3"), Some(0));
}

#[test]
fn the_variable_fills_in_what_the_option_leaves_unsaid() {
    let host = Host::new();
    let plan = |option: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
            .args(["plan", "--json", "--option", option, "--from"])
            .arg(host.root())
            .env("GPU_NUMA_BIND", "mem=bind,what")
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(
            told.contains("GPU_NUMA_BIND: unknown item \"what\""),
            "{told}"
        );
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    assert_eq!(plan("")["tasks"][0]["memory"]["policy"], "bind");
    assert_eq!(plan("mem=none")["tasks"][0]["memory"]["policy"], "default");
}

#[test]
fn a_plan_that_binds_nothing_says_so() {
    let host = Host::new();
    for gpu in ["0000:23:00.0", "0000:83:00.0"] {
        let page = host.page(&[
            "plan",
            "--gpus",
            gpu,
            "--allowed",
            if gpu.contains(":23:") { "4-7" } else { "0-3" },
        ]);
        assert!(
            page.contains("gpu1: the task is left as Slurm made it (its GPUs: node "),
            "{page}"
        );
    }
}

#[test]
fn a_plan_says_which_step_it_assumes_and_hands_out_no_other_cpus() {
    let host = Host::new();
    let masks = ["--mask", "0", "--mask", "1", "--mask", "4-5", "--mask", "6"];
    for (words, line, cpus, from) in [
        (
            &["-c2"][..],
            "step assumed: 4 tasks with 2 CPUs each, in a job that has all 16 CPUs of gpu1; ",
            "0-15",
            "host",
        ),
        (
            &["-c4"],
            "step assumed: 4 tasks with 4 CPUs each, in a job that has all 16 CPUs of gpu1\n",
            "0-15",
            "host",
        ),
        (
            &["-c2", "--exact"],
            "step assumed: 4 tasks with 2 CPUs each, on CPUs 0-1,4-5,8-9,12-13, as ",
            "0-1,4-5,8-9,12-13",
            "exact",
        ),
        // Near the step's GPUs first, and where these have too few on other sockets.
        (
            &["--gpus", "2", "--gpus", "3", "-c2", "--exact"],
            "step assumed: 2 tasks with 2 CPUs each, on CPUs 4-5,12-13, as ",
            "4-5,12-13",
            "exact",
        ),
        (
            &[
                "--gpus", "2", "--gpus", "3", "--gpus", "2,3", "-c4", "--exact",
            ],
            "step assumed: 3 tasks with 4 CPUs each, on CPUs 0-1,4-9,12-15, as ",
            "0-1,4-9,12-15",
            "exact",
        ),
        // A core for two tasks, and all of them for as many tasks as the host has.
        (
            &["--exact"],
            "step assumed: 4 tasks with 1 CPU each, on CPUs 0,4,8,12, as ",
            "0,4,8,12",
            "exact",
        ),
        (
            &["-n8", "--exact"],
            "step assumed: 8 tasks with 1 CPU each, on CPUs 0-15, as ",
            "0-15",
            "exact",
        ),
        (
            &["--exact", "--slurm-release", "22.05.8"],
            "step assumed: 4 tasks with 1 CPU each, on CPUs 0-1,8-9, as ",
            "0-1,8-9",
            "exact",
        ),
        (
            &["-n1", "--allowed", "0-3"],
            "step: 1 task with 1 CPU, on CPUs 0-3 (--allowed)\n",
            "0-3",
            "allowed",
        ),
        (
            &masks,
            "step assumed: 4 tasks with 1 CPU each, on CPUs 0-1,4-6, all those of --mask\n",
            "0-1,4-6",
            "masks",
        ),
    ] {
        let words = [&["plan"], words].concat();
        let page = host.page(&words);
        assert!(page.starts_with(line), "{page}");
        let drawn = host.page(&[&words[..], &["--compare", "--svg", "-"]].concat());
        assert!(drawn.contains(&format!(" on CPUs {cpus}<")), "{words:?}");
        let svg = host.path("plan.svg");
        let beside = host.page(&[&words[..], &["--svg", svg.to_str().unwrap()]].concat());
        assert_eq!(beside, page);
        let plan: serde_json::Value =
            serde_json::from_str(&host.page(&[&words[..], &["--json"]].concat())).unwrap();
        assert_eq!(
            (&plan["step"]["cpus"], &plan["step"]["cpus_from"]),
            (&cpus.into(), &from.into())
        );
        let step: topology::set::CpuSet = cpus.parse().unwrap();
        for task in plan["tasks"].as_array().unwrap() {
            let own: topology::set::CpuSet = task["cpus"].as_str().unwrap().parse().unwrap();
            assert!(own.is_subset(&step), "{words:?}: {task}");
        }
    }
}

/// The cores near a GPU are those that gres.conf may name: whole sockets from 24.11 on, and none where sockets differ.
#[test]
fn a_step_is_near_its_gpus_by_the_cores_that_gres_conf_may_name() {
    let host = Host::new();
    host.split_packages();
    for gpu in ["0000:23:00.0", "0000:83:00.0"] {
        let (node, cpus) = if gpu.contains(":23:") {
            ("1", "2-3,10-11")
        } else {
            ("3", "6-7,14-15")
        };
        host.write(&host.pci(gpu, "numa_node"), node);
        host.write(&host.pci(gpu, "local_cpulist"), cpus);
    }
    host.snapshot_now();
    let line = |release: &str| {
        let words = [
            "plan",
            "-n1",
            "--gpus",
            "0",
            "-c2",
            "--exact",
            "--slurm-release",
            release,
        ];
        let page = host.page(&words);
        page.lines().next().unwrap_or_default().to_owned()
    };
    for (release, cpus, how) in [
        (
            "24.05",
            "2,10",
            "near the step's GPUs first (by the Cores= that gres-conf writes; the host's gres.conf is not read)",
        ),
        (
            "24.11",
            "0,8",
            "from Slurm 24.11 on names only whole sockets",
        ),
        (
            "25.11",
            "0,8",
            "from Slurm 25.11 on names only one whole socket or all cores",
        ),
    ] {
        let own = line(release);
        assert!(
            own.contains(&format!("on CPUs {cpus},")) && own.contains(how),
            "{release}: {own}"
        );
    }
    let output = host.run(&["plan", "-n1", "--gpus", "0", "-c2", "--exact"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("since 24.11; before 24.11 CPUs 2,10 (--slurm-release)"),
        "{said}"
    );
    // One core of a socket is gone.
    host.write("sys/devices/system/cpu/online", "0-6,8-14");
    let own = line("24.05");
    assert!(
        own.contains("from any socket") && own.contains("on CPUs 0,8,"),
        "{own}"
    );
}

#[test]
fn a_plan_says_where_releases_of_slurm_give_a_step_other_cpus() {
    let host = Host::new();
    let said = |words: &[&str]| {
        let output = host.run(&[&["plan", "--exact"], words].concat());
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    for (words, since, others) in [
        (&["-n4"][..], "23.02.5", "CPUs 0-1,8-9"),
        (&["-n2", "-c3"], "23.02.3", "CPUs 0-3,8-11"),
        (
            &["-n4", "-c3", "--allowed", "0-5,8-13"],
            "23.02.3",
            "none: it is short of 2 cores",
        ),
    ] {
        for form in [&[][..], &["--json"]] {
            assert_eq!(
                said(&[words, form].concat()),
                (
                    Some(0),
                    format!(
                        "gpu-numa: the step's CPUs by the rules of Slurm since {since}; before {since} {others} (--slurm-release)\n"
                    )
                )
            );
        }
        let of_release = [words, &["--slurm-release", "24.11"]].concat();
        assert_eq!(said(&of_release), (Some(0), String::new()));
    }
    for words in [&["-n4", "-c2"][..], &["-n8"], &["-n2", "-c4"]] {
        assert_eq!(said(words), (Some(0), String::new()), "{words:?}");
    }
    let short = [
        "-n4",
        "-c3",
        "--allowed",
        "0-5,8-13",
        "--slurm-release",
        "22.05",
    ];
    assert_eq!(
        said(&short),
        (
            Some(2),
            "gpu-numa: --cpus-per-task 3: Slurm 22.05 gives each task whole cores, 2 cores more than the 6 cores of CPUs 0-5,8-13, so \
             srun would not start it (--overcommit plans it as srun --overcommit starts it)\n"
                .to_owned()
        )
    );
    assert_eq!(said(&[&short[..], &["-O"]].concat()).0, Some(0));
}

#[test]
fn help_fits_80_columns() {
    for command in [
        "show",
        "plan",
        "run",
        "verify",
        "doctor",
        "gres-conf",
        "measure",
        "heal",
        "cache",
        "check",
        "metrics",
        "snapshot",
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
            .args([command, "--help"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("Examples:"), "{command}");
        let wide: Vec<_> = text.lines().filter(|line| line.len() > 80).collect();
        assert!(wide.is_empty(), "{command}: {wide:?}");
    }
}

#[test]
fn a_picture_is_written_into_no_fifo_and_through_ones_own_link() {
    let host = Host::of("l40s-2s-4g-slurm");
    let from = host.path("").to_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo.svg");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let fifo = fifo.to_str().unwrap();
    let message = refused(&["show", "--from", &from, "--svg", fifo]);
    assert_eq!(
        message,
        format!("gpu-numa: cannot write {fifo}: not a regular file\n")
    );
    let link = folder.path().join("out.svg");
    std::os::unix::fs::symlink("plain.svg", &link).unwrap();
    let picture = host.run(&["show", "--svg", "-"]).stdout;
    let output = host.run(&["show", "--svg", link.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // A pipe that the shell opened, and a device.
    assert_eq!(host.run(&["show", "--svg", "/dev/stdout"]).stdout, picture);
    let output = host.run(&["show", "--svg", "/dev/null"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let plain = folder.path().join("plain.svg");
    assert_eq!(std::fs::read(plain).unwrap(), picture);
}

/// What a shell's command sees of its own signals and descriptors, started by `before`.
fn seen_by_a_command(before: &str) -> String {
    let look =
        "grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | head -n 3 | tr '\\n' ' '";
    let script = format!("{before} sh -c \"{look}\"");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn run_hands_on_signals_and_descriptors_as_they_are() {
    let run = format!("{} run --option off --", env!("CARGO_BIN_EXE_gpu-numa"));
    for start in ["", "trap '' PIPE;", "trap '' PIPE HUP;", "exec <&-;"] {
        let without = seen_by_a_command(&format!("{start} exec env"));
        let with = seen_by_a_command(&format!("{start} exec {run}"));
        assert!(without.contains("SigIgn"), "{without}");
        assert_eq!(with, without, "{start}");
    }
}
