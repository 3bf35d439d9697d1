//! `gpu-numa verify` on processes of this host, and on those of a recorded one.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gpu_numa_tests::build::by_c_compiler;
use gpu_numa_tests::hung_fs::{HungFs, Tells};
use machines::Recording;
use serde_json::Value;
use topology::set::CpuSet;

use crate::schemas::hold;

/// A recorded host with processes.
pub(crate) struct Host(Recording);

/// A process of it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Recorded<'a> {
    pub(crate) pid: u32,
    pub(crate) name: &'a str,
    /// Name and mask of each thread.
    pub(crate) threads: &'a [(&'a str, &'a str)],
    pub(crate) environment: &'a [&'a str],
    pub(crate) maps: &'a str,
    /// Device files that it holds open.
    pub(crate) open: &'a [&'a str],
    pub(crate) cgroup: &'a str,
}

impl Host {
    pub(crate) fn new(machine: &str) -> Self {
        Self(machines::named(machine).record())
    }

    pub(crate) fn root(&self) -> &std::path::Path {
        self.0.root()
    }

    fn folder(&self, pid: u32) -> PathBuf {
        self.0.root().join(format!("proc/{pid}"))
    }

    pub(crate) fn write(&self, process: &Recorded<'_>) {
        let folder = self.folder(process.pid);
        for (number, (name, mask)) in (0..).zip(process.threads) {
            let thread = folder.join(format!("task/{}", process.pid + number));
            fs::create_dir_all(&thread).unwrap();
            fs::write(thread.join("comm"), format!("{name}\n")).unwrap();
            fs::write(
                thread.join("status"),
                format!("Name:\t{name}\nCpus_allowed_list:\t{mask}\n"),
            )
            .unwrap();
        }
        fs::write(folder.join("comm"), format!("{}\n", process.name)).unwrap();
        fs::write(folder.join("environ"), process.environment.join("\0")).unwrap();
        fs::write(folder.join("numa_maps"), process.maps).unwrap();
        fs::write(folder.join("cgroup"), process.cgroup).unwrap();
        fs::create_dir_all(folder.join("fd")).unwrap();
        for (number, file) in process.open.iter().enumerate() {
            symlink(file, folder.join(format!("fd/{number}"))).unwrap();
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
            .arg("verify")
            .args(arguments)
            .arg("--from")
            .arg(self.0.root())
            .env_clear()
            .output()
            .unwrap()
    }

    /// The document of a process, and whether all is well by the exit status.
    fn verify(&self, process: &Recorded<'_>) -> Value {
        self.write(process);
        let output = self.run(&[&process.pid.to_string(), "--json"]);
        let document: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        hold(&document);
        let is_well = output.status.code() == Some(0);
        assert_eq!(document["ok"], is_well, "{document:#}");
        fs::remove_dir_all(self.folder(process.pid)).unwrap();
        document
    }
}

const NODE_0: &str = "1 default heap anon=9000 N0=9000 kernelpagesize_kB=4\n";
const NODE_1: &str = "1 default heap anon=9000 N1=9000 kernelpagesize_kB=4\n";

/// What the plugin writes for a task that has all eight GPUs of `dgx-h100`.
fn report_of_all() -> String {
    let gpus = "0000:1b:00.0 0000:43:00.0 0000:52:00.0 0000:61:00.0 0000:9d:00.0 0000:c3:00.0 0000:d1:00.0 0000:df:00.0";
    let gpus: Vec<&str> = gpus.split(' ').collect();
    format!(
        "GPU_NUMA_BIND_REPORT={}",
        serde_json::json!({ "gpus": gpus })
    )
}

/// The report of a task with the first GPU of `dgx-h100`, on node 0.
const WITH_GPU_0: &str = r#"GPU_NUMA_BIND_REPORT={"gpus":["0000:1b:00.0"]}"#;

/// A process near that GPU.
fn python_on_node_0<'a>(environment: &'a [&'a str]) -> Recorded<'a> {
    Recorded {
        pid: 100,
        name: "python",
        threads: &[("python", "0-3")],
        environment,
        maps: NODE_0,
        ..Recorded::default()
    }
}

fn texts(value: &Value) -> Vec<&str> {
    let list = value.as_array().unwrap().iter();
    list.map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn a_process_that_nobody_bound_has_no_more_cpus_than_its_host() {
    let host = Host::new("l40s-1s-1g");
    let unbound = Recorded {
        pid: 100,
        name: "python",
        threads: &[("python", "0-255"), ("python", "0-31")],
        environment: &["CUDA_VISIBLE_DEVICES=0"],
        maps: NODE_0,
        ..Recorded::default()
    };
    let document = host.verify(&unbound);
    assert_eq!(document["verdict"], "local", "{document:#}");
    assert_eq!(document["cpus"], "0-31", "{document:#}");
}

#[test]
fn a_rank_of_torchrun_on_the_wrong_socket_is_not_local() {
    let host = Host::new("dgx-h100");
    let report = report_of_all();
    for (rank, mask, maps, verdict) in [
        ("6", "0-55", NODE_0, "remote"),
        ("6", "0-223", NODE_1, "partial"),
        ("6", "56-59", NODE_1, "local"),
        ("1", "56-111", NODE_1, "remote"),
        ("1", "0-55,112-167", NODE_0, "local"),
    ] {
        let rank = format!("LOCAL_RANK={rank}");
        let document = host.verify(&Recorded {
            pid: 4711,
            name: "python",
            threads: &[("python", mask)],
            environment: &[&report, &rank, "LOCAL_WORLD_SIZE=8"],
            maps,
            ..Recorded::default()
        });
        assert_eq!(document["verdict"], verdict, "{rank} {mask}: {document:#}");
        assert_eq!(document["ok"], verdict == "local", "{document:#}");
    }
}

#[test]
fn one_of_several_gpus_is_right_only_where_it_would_be_with_each() {
    let host = Host::new("dgx-h100");
    let report = report_of_all();
    let of_four = |rank: &str, mask| {
        let rank = format!("LOCAL_RANK={rank}");
        host.verify(&Recorded {
            pid: 4711,
            name: "python",
            threads: &[("python", mask)],
            environment: &[&report, &rank, "LOCAL_WORLD_SIZE=4"],
            maps: NODE_0,
            ..Recorded::default()
        })
    };
    // GPU1, or GPUs 2 and 3, which are all on node 0.
    assert_eq!(of_four("1", "0-55")["verdict"], "local");
    // GPU3, or GPUs 6 and 7 on the other socket.
    let document = of_four("3", "56-111");
    assert_eq!(document["verdict"], Value::Null);
    assert_eq!(document["uses_all_gpus"], false);
    let findings = texts(&document["findings"]);
    assert_eq!(
        findings,
        [
            "which of these GPUs it uses is not known: GPU3 0000:61:00.0 (node 0: remote), GPU6 0000:d1:00.0 (node 1: local), \
             GPU7 0000:df:00.0 (node 1: local); name it with --gpus"
        ]
    );
}

#[test]
fn cpus_that_a_launch_gave_knowing_that_some_are_far_are_no_mistake() {
    let host = Host::new("dgx-h100");
    let verify = |mask: &str, rank: &[&str]| {
        let report =
            serde_json::json!({ "gpus": ["0000:1b:00.0"], "verdict": "partial", "cpus": "50-59" });
        let report = format!("GPU_NUMA_BIND_REPORT={report}");
        let environment: Vec<&str> = std::iter::once(report.as_str())
            .chain(rank.iter().copied())
            .collect();
        host.verify(&Recorded {
            pid: 4711,
            name: "python",
            threads: &[("python", mask)],
            environment: &environment,
            maps: NODE_0,
            ..Recorded::default()
        })
    };
    let own = verify("50-59", &[]);
    assert_eq!(
        (&own["verdict"], &own["ok"]),
        (&Value::from("partial"), &Value::from(true)),
        "{own:#}"
    );
    let other = verify("50-60", &[]);
    assert_eq!(other["ok"], false, "{other:#}");
}

#[test]
fn the_device_file_that_it_holds_open_goes_before_what_it_was_given() {
    let host = Host::new("dgx-h100");
    let machine = host
        .0
        .root()
        .join("proc/driver/nvidia/gpus/0000:df:00.0/information");
    let text = fs::read_to_string(machine).unwrap();
    let minor = text
        .lines()
        .find_map(|line| line.strip_prefix("Device Minor:"))
        .unwrap()
        .trim();
    let file = format!("/dev/nvidia{minor}");
    let report = report_of_all();
    let document = host.verify(&Recorded {
        pid: 4711,
        name: "python",
        threads: &[("python", "0-55")],
        environment: &[&report, "LOCAL_RANK=0", "LOCAL_WORLD_SIZE=8"],
        maps: NODE_0,
        open: &["/dev/nvidiactl", &file, &file],
        ..Recorded::default()
    });
    assert_eq!(texts(&document["gpus"]), ["0000:df:00.0"]);
    assert_eq!(document["verdict"], "remote");
}

#[test]
fn a_task_of_amds_gpu_is_judged_by_its_render_node_and_by_rocms_variable() {
    // Its driver found the GPUs of node 0 first: renderD128 is d1, of node 0, and the seventh, renderD134, c1, of node 3.
    let host = Host::new("frontier-mi250x");
    let verify = |environment: &[&str], open: &[&str], mask: &str, maps: &str| {
        host.verify(&Recorded {
            pid: 4711,
            name: "python",
            threads: &[("python", mask)],
            environment,
            maps,
            open,
            ..Recorded::default()
        })
    };
    let files = ["/dev/kfd", "/dev/dri/renderD134", "/dev/dri/renderD134"];
    let on_3 = "1 default heap anon=9000 N3=9000 kernelpagesize_kB=4\n";
    let document = verify(&[], &files, "48-63", on_3);
    assert_eq!(texts(&document["gpus"]), ["0000:c1:00.0"], "{document:#}");
    assert_eq!(document["verdict"], "local", "{document:#}");
    let document = verify(&[], &files, "0-15", NODE_0);
    assert_eq!(document["verdict"], "remote", "{document:#}");
    assert_eq!(document["ok"], false);
    // A list counts among the GPUs that the process may open, and which these are a recording does not have.
    let document = verify(&["ROCR_VISIBLE_DEVICES=0"], &[], "0-15", NODE_0);
    assert_eq!(texts(&document["gpus"]), [""; 0], "{document:#}");
}

#[test]
fn cpus_of_the_gpus_node_that_are_not_the_nearest_are_noted() {
    let host = Host::new("frontier-mi250x");
    let of = |mask| {
        let process = Recorded {
            pid: 4711,
            name: "python",
            threads: &[("python", mask)],
            open: &["/dev/kfd", "/dev/dri/renderD134"],
            maps: "1 default heap anon=9000 N3=9000 kernelpagesize_kB=4\n",
            ..Recorded::default()
        };
        assert_eq!(host.verify(&process)["nearest_cpus"], "48-55,112-119");
        host.write(&process);
        let output = host.run(&["4711"]);
        fs::remove_dir_all(host.folder(4711)).unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let (near, wide) = (of("48-55"), of("48-63"));
    assert!(
        near.contains("all local") && !near.contains("note"),
        "{near}"
    );
    assert!(
        wide.contains("all local")
            && wide.contains(
                "note    CPUs 56-63 are local, but CPUs 48-55,112-119 are nearer to its GPU than the rest of its node (exclusive gives \
                 these first, l3 alone)"
            ),
        "{wide}"
    );
}

#[test]
fn a_task_of_a_part_is_judged_by_the_gpu_that_it_is_a_part_of() {
    for (machine, number, gpu, near, far) in [
        ("mi300a-4s-tpx", 146, "0002:01:00.0", "48-71", "24-47"),
        ("mi300x-2s8g-qpx", 187, "0000:e5:00.0", "120-143", "168-191"),
    ] {
        let host = Host::new(machine);
        let render = format!("/dev/dri/renderD{number}");
        for (mask, verdict) in [(near, "local"), (far, "remote")] {
            let document = host.verify(&Recorded {
                pid: 4711,
                name: "python",
                threads: &[("python", mask)],
                open: &["/dev/kfd", &render],
                ..Recorded::default()
            });
            assert_eq!(texts(&document["gpus"]), [gpu], "{document:#}");
            assert_eq!(document["verdict"], verdict, "{document:#}");
        }
    }
}

#[test]
fn memory_on_an_apus_own_node_is_local() {
    let host = Host::new("mi300a-4s");
    for (maps, is_well) in [(NODE_1, true), (NODE_0, false)] {
        let document = host.verify(&Recorded {
            pid: 4711,
            name: "python",
            threads: &[("python", "24-47")],
            open: &["/dev/kfd", "/dev/dri/renderD136"],
            maps,
            ..Recorded::default()
        });
        assert_eq!(texts(&document["gpus"]), ["0001:01:00.0"]);
        assert_eq!(document["verdict"], "local", "{document:#}");
        let findings = texts(&document["findings"]);
        assert_eq!(findings.is_empty(), is_well, "{findings:?}");
    }
}

#[test]
fn half_of_what_a_task_was_given_is_unsure_until_it_is_known_to_be_used() {
    let host = Host::new("dgx-h100");
    let report = r#"GPU_NUMA_BIND_REPORT={"gpus":["0000:1b:00.0","0000:df:00.0"]}"#;
    let near_the_second = Recorded {
        pid: 4711,
        name: "python",
        threads: &[("python", "56-59")],
        environment: &[report],
        maps: NODE_1,
        ..Recorded::default()
    };
    let document = host.verify(&near_the_second);
    assert_eq!(document["verdict"], Value::Null);
    assert_eq!(
        texts(&document["findings"]),
        [
            "it may not run on any CPU that is local to GPU0 0000:1b:00.0, which it was given too: partial if it uses them, \
             else name those that it uses with --gpus"
        ]
    );
    host.write(&near_the_second);
    let named = host.run(&["4711", "--gpus", "0,7"]);
    assert_eq!(named.status.code(), Some(1));
    let text = String::from_utf8(named.stdout).unwrap();
    assert!(
        text.contains(
            "WRONG   it may not run on any CPU that is local to GPU0 0000:1b:00.0: partial"
        ),
        "{text}"
    );
}

#[test]
fn numbers_that_count_elsewhere_and_hidden_gpus_are_told() {
    let host = Host::new("dgx-h100");
    let finding = |environment: &[&str]| {
        let document = host.verify(&Recorded {
            pid: 4711,
            name: "python",
            threads: &[("python", "0-3")],
            environment,
            maps: NODE_0,
            ..Recorded::default()
        });
        texts(&document["findings"]).join("; ")
    };
    assert_eq!(
        finding(&["CUDA_VISIBLE_DEVICES=0,1"]),
        "CUDA_VISIBLE_DEVICES=\"0,1\" counts among the GPUs that the process may open, and which these are cannot be seen \
         from here; name them with --gpus"
    );
    assert!(
        finding(&["CUDA_VISIBLE_DEVICES=", WITH_GPU_0]).starts_with("CUDA_VISIBLE_DEVICES hides")
    );
    // The last of the host's: so all count.
    assert!(finding(&["CUDA_VISIBLE_DEVICES=6,7"]).contains("its GPUs are on node 1"));
}

#[test]
fn a_title_over_the_environment_is_told() {
    let host = Host::new("dgx-h100");
    let process = python_on_node_0(&["::IDLE", "", "", ""]);
    let document = host.verify(&process);
    assert_eq!(
        texts(&document["findings"]),
        [
            "which GPUs the process has cannot be read, for it has written its title over its environment; name them with --gpus"
        ]
    );
}

#[test]
fn of_more_ranks_than_gpus_either_of_two_is_meant() {
    let host = Host::new("dgx-h100");
    let report = report_of_all();
    let of_sixteen = |rank: &str, mask| {
        let rank = format!("LOCAL_RANK={rank}");
        host.verify(&Recorded {
            threads: &[("python", mask)],
            ..python_on_node_0(&[&report, &rank, "LOCAL_WORLD_SIZE=16"])
        })
    };
    // Counted round it is GPU6, of two neighbours each GPU3.
    let document = of_sixteen("6", "0-55");
    assert_eq!(
        texts(&document["findings"]),
        [
            "which of these GPUs it uses is not known: GPU3 0000:61:00.0 (node 0: local), GPU6 0000:d1:00.0 (node 1: remote); name \
             it with --gpus"
        ]
    );
    assert_eq!(of_sixteen("1", "0-55")["verdict"], "local");
}

#[test]
fn a_thread_that_was_moved_is_named_and_memory_elsewhere_is_told() {
    let host = Host::new("dgx-h100");
    let document = host.verify(&Recorded {
        pid: 4711,
        name: "python",
        threads: &[
            ("python", "0-55"),
            ("NCCL Progress 0", "4"),
            ("pt_data_worker", "50-60"),
            ("pt_data_worker", "50-60"),
        ],
        environment: &[WITH_GPU_0],
        maps: "1 bind:1 heap anon=9000 N1=9000 kernelpagesize_kB=4\n",
        ..Recorded::default()
    });
    assert_eq!(document["verdict"], "partial");
    assert_eq!(
        texts(&document["findings"]),
        [
            "2 of 4 threads (4713 pt_data_worker, 4714 pt_data_worker) may run on CPUs 50-60; CPUs 56-60 are not \
             local to its GPU (node 0, CPUs 0-55,112-167): partial",
            "its memory policy \"bind:1\" names node 1; its GPU is on node 0",
            "35.1 MiB of its 35.1 MiB of memory are not on its GPU's node 0; gpu-numa heal moves them",
        ]
    );
    let names = document["threads"].as_array().unwrap();
    assert!(
        names
            .iter()
            .any(|own| own["names"]["NCCL Progress 0"] == 1 && own["verdict"] == "local")
    );
}

#[test]
fn threads_on_many_cpus_are_told_together() {
    let host = Host::new("dgx-h100");
    let masks: Vec<String> = (0..112).map(|cpu| cpu.to_string()).collect();
    let threads: Vec<(&str, &str)> = masks.iter().map(|cpu| ("omp", cpu.as_str())).collect();
    let spread = Recorded {
        pid: 4711,
        name: "python",
        threads: &threads,
        environment: &[WITH_GPU_0],
        maps: NODE_0,
        ..Recorded::default()
    };
    let document = host.verify(&spread);
    assert_eq!(
        texts(&document["findings"]),
        [
            "56 of 112 threads (4767 omp, 4768 omp, 4769 omp, 4770 omp, ...) may run on CPUs 56-111 only; its GPU is on node 0 \
             (CPUs 0-55,112-167): remote"
        ]
    );
    host.write(&spread);
    let text = String::from_utf8(host.run(&["4711"]).stdout).unwrap();
    let lines: Vec<&str> = text.lines().skip(3).take(8).map(str::trim).collect();
    assert_eq!(
        lines[..2],
        ["1 thread on CPU 0: omp", "1 thread on CPU 1: omp"]
    );
    assert_eq!(
        lines[7],
        "105 threads on 105 other sets of CPUs, of CPUs 7-111: 105 omp"
    );
}

#[test]
fn memory_of_a_gpu_that_is_a_node_is_no_memory_elsewhere() {
    let host = Host::new("gh200");
    let document = host.verify(&Recorded {
        pid: 4711,
        name: "python",
        threads: &[("python", "0-71")],
        environment: &["CUDA_VISIBLE_DEVICES=0"],
        maps: "1 default heap anon=9000 N0=4000 N1=5000 kernelpagesize_kB=64\n",
        ..Recorded::default()
    });
    assert_eq!(texts(&document["findings"]), [""; 0], "{document:#}");
}

#[test]
fn of_memory_that_others_have_too_no_cure_is_promised() {
    let host = Host::new("dgx-h100");
    let shared =
        "1 default file=/dev/shm/torch_1 dirty=9000 mapmax=8 N1=9000 kernelpagesize_kB=4\n";
    let both = format!("{shared}{NODE_1}");
    for (maps, cure) in [
        (shared, "gpu-numa heal leaves what other processes have too"),
        (&both, "gpu-numa heal moves what no other process has too"),
    ] {
        let document = host.verify(&Recorded {
            maps,
            ..python_on_node_0(&[WITH_GPU_0])
        });
        let [finding] = texts(&document["findings"])[..] else {
            panic!("{document:#}")
        };
        assert!(finding.ends_with(cure), "{finding}");
    }
}

#[test]
fn a_gpu_that_the_machine_does_not_have_is_said_to_be_gone() {
    let host = Host::new("dgx-h100");
    let report = r#"GPU_NUMA_BIND_REPORT={"gpus":["0000:ff:00.0"]}"#;
    let document = host.verify(&python_on_node_0(&[report]));
    assert_eq!(
        texts(&document["findings"]),
        [
            "0000:ff:00.0, which it was given, is not on this machine: lost since, or the process is another host's; name its GPUs \
             with --gpus"
        ]
    );
}

#[test]
fn variables_that_contradict_one_another_are_read_as_their_runtime_does() {
    let amd = Host::new("frontier-mi250x");
    let finding = |host: &Host, environment: &[&str]| {
        let document = host.verify(&python_on_node_0(environment));
        texts(&document["findings"]).join("; ")
    };
    let hidden = finding(&amd, &["HIP_VISIBLE_DEVICES=", "CUDA_VISIBLE_DEVICES=7"]);
    assert!(hidden.starts_with("HIP_VISIBLE_DEVICES hides"), "{hidden}");
    // HIP's own counts, and CUDA's not.
    let own = finding(&amd, &["HIP_VISIBLE_DEVICES=7", "CUDA_VISIBLE_DEVICES=0"]);
    assert!(own.contains("its GPU is on node 3"), "{own}");
    // Only the outer list counts among what the process may open.
    let outer = finding(&amd, &["HIP_VISIBLE_DEVICES=5", "ROCR_VISIBLE_DEVICES=0"]);
    assert!(
        outer.starts_with("ROCR_VISIBLE_DEVICES=\"0\" counts"),
        "{outer}"
    );
    let nvidia = Host::new("dgx-h100");
    let document = nvidia.verify(&python_on_node_0(&["CUDA_VISIBLE_DEVICES=MIG-1234-5678"]));
    let known_by = document["gpus_known_by"].as_str().unwrap();
    assert!(
        known_by.ends_with("(which of these CUDA_VISIBLE_DEVICES names is not known)"),
        "{known_by}"
    );
}

#[test]
fn names_of_any_bytes_are_read_and_one_that_has_ended_is_told() {
    let host = Host::new("dgx-h100");
    let own = python_on_node_0(&[WITH_GPU_0]);
    host.write(&own);
    let folder = host.folder(own.pid);
    let thread = folder.join(format!("task/{}", own.pid));
    let status = |state: &str| {
        let mut status = b"Name:\t\xff\xfe x\nState:\t".to_vec();
        status.extend(format!("{state}\nCpus_allowed_list:\t0-3\n").bytes());
        for folder in [&folder, &thread] {
            fs::write(folder.join("status"), &status).unwrap();
            fs::write(folder.join("comm"), b"\xff\xfe x\n").unwrap();
        }
    };
    status("S (sleeping)");
    let file = b"2 default file=/data/\xff mapped=300 N0=300 kernelpagesize_kB=4\n";
    fs::write(
        folder.join("numa_maps"),
        [NODE_0.as_bytes(), &file[..]].concat(),
    )
    .unwrap();
    let output = host.run(&["100"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.ends_with("  all local\n"), "{text}");
    status("Z (zombie)");
    let output = host.run(&["100"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "gpu-numa: process 100 has ended; the one that started it has not yet asked how\n"
    );
}

#[test]
fn a_job_is_all_processes_of_its_cgroup_or_its_number_but_slurms_own() {
    let host = Host::new("dgx-h100");
    let python = python_on_node_0(&["SLURM_JOB_ID=7", WITH_GPU_0]);
    host.write(&python);
    // A container's environment may be its own.
    host.write(&Recorded {
        pid: 200,
        environment: &[WITH_GPU_0],
        threads: &[("python", "56")],
        cgroup: "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0\n",
        ..python
    });
    host.write(&Recorded {
        pid: 300,
        cgroup: "0::/system.slice/slurmstepd.scope/job_7/step_0/slurm\n",
        ..python
    });
    host.write(&Recorded {
        pid: 400,
        environment: &["SLURM_JOB_ID=77", WITH_GPU_0],
        cgroup: "0::/system.slice/slurmstepd.scope/job_77/step_0/user/task_0\n",
        ..python
    });
    let output = host.run(&["--job", "7", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    hold(&document);
    let processes = document["processes"].as_array().unwrap().iter();
    let found: Vec<(&Value, &Value)> = processes
        .map(|process| (&process["pid"], &process["verdict"]))
        .collect();
    assert_eq!(
        found,
        [
            (&100.into(), &"local".into()),
            (&200.into(), &"remote".into())
        ]
    );
    let none = host.run(&["--job", "8"]);
    assert_eq!(none.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(none.stderr).unwrap(),
        "gpu-numa: --job: job 8 has no process on this host; run this on one of the job's hosts, under Slurm by \
         srun --overlap --jobid 8\n"
    );
    let of_array = host.run(&["--job", "7_3"]);
    assert_eq!(of_array.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(of_array.stderr).unwrap(),
        "gpu-numa: --job \"7_3\": expected a job's number; squeue -o %A prints that of an array's task\n"
    );
}

#[test]
fn a_large_file_that_is_cached_elsewhere_is_a_note_and_no_mistake() {
    let host = Host::new("dgx-h100");
    let far = "2 default file=/models/a\\040b mapped=32768 N1=32768 kernelpagesize_kB=4\n";
    let maps = format!("{NODE_0}{far}");
    let mut python = python_on_node_0(&[WITH_GPU_0]);
    python.maps = &maps;
    let document = host.verify(&python);
    assert_eq!(document["ok"], true, "{document:#}");
    assert_eq!(document["memory"]["files"][0]["path"], "/models/a b");
    host.write(&python);
    let page = String::from_utf8(host.run(&["100"]).stdout).unwrap();
    assert!(
        page.contains(
            "  note    128.0 MiB of a file that it has mapped are cached elsewhere than on node 0: gpu-numa cache '/models/a b'"
        ),
        "{page}"
    );
}

#[test]
fn what_mpirun_started_is_looked_at_with_it() {
    let host = Host::new("dgx-h100");
    let report = report_of_all();
    let with_parent = |pid: u32, parent: u32, rank: &str, mask: &str| {
        let rank = format!("OMPI_COMM_WORLD_LOCAL_RANK={rank}");
        let set = [report.as_str(), &rank, "OMPI_COMM_WORLD_LOCAL_SIZE=8"];
        host.write(&Recorded {
            pid,
            name: "train",
            threads: &[("train", mask)],
            environment: if parent == 1 { &[] } else { &set },
            maps: NODE_0,
            ..Recorded::default()
        });
        fs::write(
            host.folder(pid).join("stat"),
            format!("{pid} (train) S {parent} 1"),
        )
        .unwrap();
    };
    with_parent(100, 1, "", "0-223");
    with_parent(110, 100, "0", "0-3");
    with_parent(120, 100, "7", "0-3");
    with_parent(130, 1, "7", "0-3");
    let output = host.run(&["--children", "100", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    hold(&document);
    assert_eq!(
        (&document["started_by"], &document["job"]),
        (&100.into(), &Value::Null)
    );
    let processes = document["processes"].as_array().unwrap().iter();
    let found: Vec<_> = processes
        .map(|own| (own["pid"].clone(), own["verdict"].clone()))
        .collect();
    assert_eq!(
        found,
        [(110.into(), "local".into()), (120.into(), "remote".into())]
    );
    let none = host.run(&["--children", "130"]);
    assert_eq!(
        String::from_utf8(none.stderr).unwrap(),
        "gpu-numa: --children: nothing says that process 130, or one that it started, has a GPU\n"
    );
    let no_job = host.run(&["--job"]);
    let text = String::from_utf8(no_job.stderr).unwrap();
    assert!(
        text.contains("runs in no job (SLURM_JOB_ID, PBS_JOBID"),
        "{text}"
    );
}

#[test]
fn a_launcher_that_only_sees_the_gpus_of_its_ranks_is_not_judged() {
    let host = Host::new("frontier-mi250x");
    let shown = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(["show", "--json", "--from"])
        .arg(host.root())
        .output();
    let machine: Value = serde_json::from_slice(&shown.unwrap().stdout).unwrap();
    let id = |gpu: usize| machine["gpus"][gpu]["uuid"].as_str().unwrap().to_owned();
    // Two GPUs of node 3, by names that count among no others.
    let visible = format!("ROCR_VISIBLE_DEVICES={},{}", id(0), id(1));
    let write = |pid: u32, parent: u32, environment: &[&str], mask: &str| {
        host.write(&Recorded {
            pid,
            name: "torchrun",
            threads: &[("torchrun", mask)],
            environment,
            maps: "1 default heap anon=9000 N3=9000 kernelpagesize_kB=4\n",
            ..Recorded::default()
        });
        let stat = format!("{pid} (torchrun) S {parent} 1");
        fs::write(host.folder(pid).join("stat"), stat).unwrap();
    };
    write(100, 1, &[&visible], "0-127");
    let alone = host.run(&["--children", "100"]);
    assert_eq!(alone.status.code(), Some(1), "{alone:?}");
    for (pid, rank) in [(110, "LOCAL_RANK=0"), (120, "LOCAL_RANK=1")] {
        write(pid, 100, &[&visible, rank, "LOCAL_WORLD_SIZE=2"], "48-63");
    }
    let output = host.run(&["--children", "100", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let processes = document["processes"].as_array().unwrap().iter();
    let pids: Vec<&Value> = processes.map(|own| &own["pid"]).collect();
    assert_eq!(pids, [&Value::from(110), &Value::from(120)], "{document:#}");
    assert_eq!(output.status.code(), Some(0), "{document:#}");
    // As vLLM and Ray start them, each with a list of one; without the second nothing says whose its GPU is.
    let one = |gpu: usize| format!("ROCR_VISIBLE_DEVICES={}", id(gpu));
    write(110, 100, &[&one(0)], "48-63");
    fs::remove_dir_all(host.folder(120)).unwrap();
    assert_eq!(host.run(&["--children", "100"]).status.code(), Some(1));
    write(120, 100, &[&one(1)], "48-63");
    assert_eq!(host.run(&["--children", "100"]).status.code(), Some(0));
}

#[test]
fn following_says_what_changes_until_the_process_ends() {
    let host = Host::new("dgx-h100");
    let python = python_on_node_0(&[WITH_GPU_0]);
    host.write(&python);
    let mut follow = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(["verify", "100", "--follow", "--every", "1", "--from"])
        .arg(host.0.root())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = std::io::BufReader::new(follow.stdout.take().unwrap());
    let mut next = |wanted: &str| {
        use std::io::BufRead as _;
        let mut line = String::new();
        loop {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "no \"{wanted}\"");
            if line.contains(wanted) {
                return;
            }
        }
    };
    next("all local");
    let status = host.folder(100).join("task/100/status");
    let move_to = |mask: &str| {
        fs::write(&status, format!("Cpus_allowed_list:\t{mask}\n")).unwrap();
    };
    move_to("0-1");
    next("process 100 (python): CPUs now 0-1 (were 0-3): local");
    move_to("0-223");
    next("process 100 (python): now wrong: it may run on CPUs 0-223");
    move_to("0-1");
    next("process 100 (python): no longer so: it may run on CPUs 0-223");
    fs::remove_dir_all(host.folder(100)).unwrap();
    next("process 100 (python): has ended");
    // It was wrong for a while.
    assert_eq!(follow.wait().unwrap().code(), Some(1));
}

#[test]
fn a_process_on_amds_gpus_uses_those_on_which_it_has_work_queues() {
    let host = Host::new("mi300x-2s8g");
    let kfd = host.root().join("sys/class/kfd/kfd");
    // Two nodes of CPUs, then the GPUs.
    for node in 2..10 {
        fs::write(
            kfd.join(format!("topology/nodes/{node}/gpu_id")),
            format!("{}\n", 1000 + node),
        )
        .unwrap();
    }
    for queue in 0..2 {
        let folder = kfd.join(format!("proc/100/queues/{queue}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("gpuid"), "1009").unwrap();
    }
    // ROCm's runtime opens all that the process sees.
    let files: Vec<String> = (128..136)
        .map(|own| format!("/dev/dri/renderD{own}"))
        .collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let document = host.verify(&Recorded {
        pid: 100,
        name: "python",
        threads: &[("python", "0-3")],
        maps: NODE_0,
        open: &files,
        ..Recorded::default()
    });
    assert_eq!(
        document["gpus"].as_array().unwrap().len(),
        1,
        "{document:#}"
    );
    let known = document["gpus_known_by"].as_str().unwrap();
    assert!(
        known.ends_with(" (in use: it has work queues there)"),
        "{known}"
    );
    assert_eq!(document["verdict"], "remote", "{document:#}");
}

/// What the looks of `--follow` take of a processor, of a process with some threads.
#[test]
fn following_takes_less_than_a_thousandth_of_a_core() {
    const WATCHED: Duration = Duration::from_secs(12);
    let is_over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..16)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    thread::park_timeout(Duration::from_secs(60));
                }
            })
        })
        .collect();
    let mut follow = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(["verify", "--follow", "--every", "1"])
        .arg(std::process::id().to_string())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It has read the machine and looked once when it says its first word.
    let mut said = [0];
    std::io::Read::read_exact(follow.stdout.as_mut().unwrap(), &mut said).unwrap();
    // Nanoseconds on a processor (proc(5), /proc/PID/schedstat), of its one thread.
    let taken = |pid: u32| -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    };
    thread::sleep(Duration::from_millis(200));
    // Other tests share the caches, and are threads of the process that is watched: the best of three times counts.
    let mut shares = (0..3).map(|_| {
        let (before, start) = (taken(follow.id()), Instant::now());
        thread::sleep(WATCHED);
        let (took, watched) = (taken(follow.id()) - before, start.elapsed());
        let share = Duration::from_nanos(took).as_secs_f64() / watched.as_secs_f64();
        println!("{took} ns in {watched:?}: {:.4} % of a core", share * 100.0);
        assert!(took > 0, "it did not look");
        share
    });
    let is_little = shares.any(|share| share < 0.001);
    follow.kill().unwrap();
    follow.wait().unwrap();
    is_over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.thread().unpark();
        thread.join().unwrap();
    }
    assert!(is_little);
}

#[test]
fn a_page_says_whose_it_is() {
    let own = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(["verify", "--self"])
        .output()
        .unwrap();
    let text = String::from_utf8(own.stdout).unwrap();
    let title = text.lines().next().unwrap();
    assert!(
        title.starts_with("process ")
            && title.contains("(gpu-numa): this command itself, with the CPUs and memory policy"),
        "{text}"
    );
    let mut other = Command::new("sleep").arg("30").spawn().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(["verify", &other.id().to_string()])
        .output();
    other.kill().unwrap();
    other.wait().unwrap();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    assert_eq!(
        text.lines().next(),
        Some(format!("process {} (sleep)", other.id()).as_str())
    );
    // Of a recorded host a process with this command's own number is another one.
    let host = Host::new("dgx-h100");
    host.write(&python_on_node_0(&[WITH_GPU_0]));
    let recorded = host.run(&["100"]);
    let text = String::from_utf8(recorded.stdout).unwrap();
    assert_eq!(text.lines().next(), Some("process 100 (python)"), "{text}");
}

#[test]
fn several_processes_are_judged_each_and_one_that_is_not_there_is_never_well() {
    let host = Host::new("dgx-h100");
    for pid in [100, 101] {
        host.write(&Recorded {
            pid,
            ..python_on_node_0(&[WITH_GPU_0])
        });
    }
    let verify = |pids: &[&str]| {
        let output = host.run(&[pids, &["--json"]].concat());
        let document = serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default();
        let said = String::from_utf8(output.stderr).unwrap();
        (document, output.status.code(), said)
    };
    // Each once, also as a quoted "$(pgrep python)" gives them.
    for pids in [&["100", "101", "100"][..], &["100\n101"]] {
        let (document, status, _) = verify(pids);
        hold(&document);
        assert_eq!(document["processes"].as_array().unwrap().len(), 2);
        assert_eq!((status, &document["ok"]), (Some(0), &true.into()));
    }
    let (document, status, said) = verify(&["100", "102"]);
    assert_eq!((status, &document["ok"]), (Some(1), &false.into()));
    assert!(said.contains("process 102 is not recorded"), "{said}");
    let (_, status, said) = verify(&["102", "103"]);
    assert!(status == Some(2) && said.contains("process 103 is not recorded"));
    let (_, status, said) = verify(&["100", "101", "--children"]);
    assert!(
        status == Some(2) && said.contains("2 processes are named; expected one"),
        "{said}"
    );
}

#[test]
fn without_a_process_only_what_is_bound_or_in_a_job_is_looked_at() {
    let verify = |prefix: &[&str], variables: &[(&str, &str)]| {
        let mut words = prefix.to_vec();
        words.push(env!("CARGO_BIN_EXE_gpu-numa"));
        let (program, rest) = words.split_first().unwrap();
        let output = Command::new(program)
            .args(rest)
            .arg("verify")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (
            String::from_utf8(output.stdout).unwrap(),
            output.status.code(),
            said,
        )
    };
    for started_by in [("SLURM_JOB_ID", "7"), ("LOCAL_RANK", "0")] {
        let (page, _, _) = verify(&[], &[started_by]);
        assert!(page.contains("this command itself"), "{page}");
    }
    let cpus = std::thread::available_parallelism().unwrap().get();
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let all = CpuSet::len(&online.parse().unwrap());
    if cpus == all {
        let (page, status, said) = verify(&[], &[]);
        assert!(status == Some(2) && page.is_empty(), "{page}");
        assert!(said.contains("did $(pgrep ...) find no process?"), "{said}");
    }
    if all > 1 {
        let (page, _, _) = verify(&["taskset", "-c", "0"], &[]);
        assert!(page.contains("this command itself"), "{page}");
    }
}

#[test]
fn a_process_name_cannot_act_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("\u{1b}[2J\n%s");
    symlink("/bin/sleep", &program).unwrap();
    let mut process = Command::new(&program).arg("30").spawn().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(["verify", &process.id().to_string()])
        .output();
    process.kill().unwrap();
    process.wait().unwrap();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(text.starts_with("process "), "{text:?}");
    assert!(text.contains("(\\u{1b}[2J\\n%s)\n"), "{text:?}");
}

/// A process whose memory nobody can look at: the kernel waits for a file system with its lock.
#[test]
fn a_process_that_does_not_answer_is_said_and_left_out() {
    let Ok(hung) = hung_file_system() else {
        println!("left out: needs root, to mount a file system");
        return;
    };
    let (folder, fs) = hung;
    let mut silent = Command::new(folder.path().join("hung-memory"))
        .arg(folder.path().join("at/x"))
        .env("SLURM_JOB_ID", "4711")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(silent.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    assert_eq!(said, "ready\n");
    let pid = silent.id().to_string();
    // Its second thread has not begun to wait at once.
    thread::sleep(Duration::from_secs(1));
    for words in [["verify", &pid].as_slice(), &["verify", "--job", "4711"]] {
        let begin = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
            .args(words)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        println!("{words:?}: {:?}\n{said}", begin.elapsed());
        assert!(begin.elapsed() < Duration::from_secs(30), "{said}");
        assert!(
            said.contains(&format!("/proc/{pid}/environ does not answer")),
            "{said}"
        );
        assert!(matches!(output.status.code(), Some(1 | 2)), "{said}");
    }
    drop(fs);
    silent.kill().unwrap();
    silent.wait().unwrap();
}

fn hung_file_system() -> std::io::Result<(tempfile::TempDir, HungFs)> {
    let folder = tempfile::tempdir()?;
    let tests = gpu_numa_tests::build::folder("");
    let program = folder.path().join("hung-memory");
    let flags = ["-pthread", "-Wno-unused-result"];
    by_c_compiler(&tests, &["hung-memory.c"], &flags, &program)?;
    let at = folder.path().join("at");
    fs::create_dir(&at)?;
    let fs = HungFs::mount(&at, Tells::Files, folder.path())?;
    Ok((folder, fs))
}

/// FIFOs, and links to a FIFO outside, in place of each file that a recorded process has: nobody waits, and nothing from outside is read.
#[test]
fn the_files_of_a_recorded_process_are_regular_and_its_own() {
    let host = Host::new("dgx-h100");
    host.write(&python_on_node_0(&["SLURM_JOB_ID=7"]));
    let outside = tempfile::tempdir().unwrap();
    let fifo = outside.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let secret = outside.path().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    let own = host.root().join("proc/100");
    let root = host.root().to_str().unwrap().to_owned();
    let files = [
        "comm",
        "environ",
        "numa_maps",
        "cgroup",
        "stat",
        "status",
        "cmdline",
        "task/100/comm",
        "task/100/status",
        "task/100/numa_maps",
    ];
    for name in files {
        let file = own.join(name);
        let before = fs::read(&file).ok();
        for odd in ["fifo", "link", "secret"] {
            let _ = fs::remove_file(&file);
            match odd {
                "fifo" => assert!(
                    Command::new("mkfifo")
                        .arg(&file)
                        .status()
                        .unwrap()
                        .success()
                ),
                "link" => symlink(&fifo, &file).unwrap(),
                _ => symlink(&secret, &file).unwrap(),
            }
            for words in [
                ["verify", "100", "--from", &root].as_slice(),
                &["verify", "--job", "7", "--from", &root],
                &["verify", "100", "--children", "--from", &root],
            ] {
                let output = Command::new("timeout")
                    .args(["10", env!("CARGO_BIN_EXE_gpu-numa")])
                    .args(words)
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(
                    matches!(output.status.code(), Some(0..=2)),
                    "{name} {odd}: {words:?}"
                );
                assert!(!said.contains("secret"), "{name}: {said}");
            }
        }
        fs::remove_file(&file).unwrap();
        if let Some(before) = before {
            fs::write(&file, before).unwrap();
        }
    }
}
