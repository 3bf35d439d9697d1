//! Whole pages over declared machines, in `tests/pages`; `INSTA_UPDATE=always cargo test -p gpu-numa pages` writes them.
//!
//! A page depends on nothing of the host that runs the test: the environment is empty, the machine is recorded, and
//! its root has a name of its own in an empty folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::verify::{Host, Recorded};

/// What is run on every machine.
const COMMANDS: [&str; 4] = ["show", "plan --cpus-per-task 2", "doctor", "gres-conf"];

/// One machine of each kind that changes what a page says.
const MACHINES: [&str; 22] = [
    "arm-vm-nopackage",
    "clx-4s-8g",
    "dgx-a100-nps4",
    "dgx-h100",
    "dgx2",
    "frontier-mi250x",
    "gb200-nvl4",
    "genoa-2s-nps2-busmix",
    "gh200",
    "icx-2s-offline-socket",
    "l40s-1s-1g",
    "lassen-power9",
    "mi300a-4s",
    "one-node-two-sockets",
    "rpl-hybrid",
    "skx-8s-4g",
    "spr-2s-8g-snc2-idle-links",
    "spr-2s-cxl",
    "spr-2s-nogpu",
    "spr-2s-nonode-dmi",
    "spr-2s-nonode-site",
    "vm-flat-unknown",
];

/// The commands as typed, what they print, and the exit status where it is not 0.
fn transcript(root: &Path, name: &str, commands: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    symlink(root, folder.path().join(name)).unwrap();
    let mut text = String::new();
    for command in commands {
        let output = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
            .args(command.split(' '))
            .args(["--from", name])
            .current_dir(folder.path())
            .env_clear()
            .output()
            .unwrap();
        text += &format!("$ gpu-numa {command} --from {name}\n");
        text += &String::from_utf8(output.stdout).unwrap();
        text += &String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) => {}
            code => text += &format!("[exit status {}]\n", code.unwrap()),
        }
        text.push('\n');
    }
    text
}

/// Holds a page to the one in the repository.
fn hold(name: &str, page: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("pages");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, page));
}

#[test]
fn every_page_of_a_declared_machine_is_as_in_the_repository() {
    // All that differ are told of, not only the first.
    let threads: Vec<_> = MACHINES
        .map(|name| {
            std::thread::spawn(move || {
                let recording = machines::named(name).record();
                hold(name, &transcript(recording.root(), name, &COMMANDS));
            })
        })
        .into_iter()
        .collect();
    let failed = threads.into_iter().filter_map(|thread| thread.join().err());
    assert_eq!(failed.count(), 0, "pages differ, as printed above");
}

/// A right configuration of `dgx-h100`; each pair is a file and its text.
const SLURM: [(&str, &str); 5] = [
    (
        "slurm.conf",
        "TaskPlugin=task/affinity,task/cgroup\nGresTypes=gpu\n\
         NodeName=gpu1 Sockets=2 CoresPerSocket=56 ThreadsPerCore=2 Gres=gpu:8\n",
    ),
    (
        "gres.conf",
        "NodeName=gpu1 Name=gpu File=/dev/nvidia[0-3] Cores=0-55\n\
         NodeName=gpu1 Name=gpu File=/dev/nvidia[4-7] Cores=56-111\n",
    ),
    ("cgroup.conf", "ConstrainCores=yes\nConstrainDevices=yes\n"),
    (
        "plugstack.conf",
        "include /etc/slurm/plugstack.conf.d/*.conf\n",
    ),
    (
        "plugstack.conf.d/gpu-numa-bind.conf",
        "optional /usr/lib64/gpu-numa-bind/gpu_numa_bind.so default=best-effort\n",
    ),
];

/// What is made wrong in it.
const FAULTS: [(&str, &str); 4] = [
    ("Cores=0-55", "Cores=56-111"),
    ("affinity,task/cgroup", "affinity"),
    ("CoresPerSocket=56", "CoresPerSocket=28"),
    ("default=", "defualt="),
];

#[test]
fn doctors_page_of_a_host_with_slurm_is_as_in_the_repository() {
    let recording = machines::named("dgx-h100").record();
    let write = |name: &str, text: &str| {
        let path = recording.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("usr/lib64/gpu-numa-bind/gpu_numa_bind.so", "");
    write("usr/lib64/libslurm.so.42.0.0", "");
    let mut page = String::new();
    for faults in [&[][..], &FAULTS] {
        for (name, text) in SLURM {
            let text = faults
                .iter()
                .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
            write(&format!("etc/slurm/{name}"), &text);
        }
        page += &transcript(recording.root(), "dgx-h100", &["doctor"]);
    }
    hold("doctor", &page);
}

#[test]
fn what_is_explained_of_a_device_is_as_in_the_repository() {
    let recording = machines::named("spr-2s-nonode-dmi").record();
    let commands = ["show --explain GPU0", "nccl emit --explain"];
    hold(
        "explain",
        &transcript(recording.root(), "spr-2s-nonode-dmi", &commands),
    );
}

/// A text in which a process has its own memory on `node`.
fn maps(node: u32) -> String {
    format!("1 default heap anon=90000 N{node}=90000 kernelpagesize_kB=4\n")
}

#[test]
fn verifys_pages_are_as_in_the_repository() {
    let host = Host::new("dgx-h100");
    let of_one = r#"GPU_NUMA_BIND_REPORT={"gpus":["0000:1b:00.0"]}"#;
    let of_two = r#"GPU_NUMA_BIND_REPORT={"gpus":["0000:61:00.0","0000:9d:00.0"]}"#;
    let of_four = r#"GPU_NUMA_BIND_REPORT={"gpus":["0000:52:00.0","0000:61:00.0","0000:9d:00.0","0000:c3:00.0"]}"#;
    let (here, there) = (maps(0), maps(1));
    let python = Recorded {
        name: "python",
        environment: &[of_one],
        maps: &here,
        ..Recorded::default()
    };
    let processes = [
        Recorded {
            pid: 1100,
            threads: &[("python", "0-3"), ("python", "0-3")],
            ..python
        },
        Recorded {
            pid: 1200,
            threads: &[
                ("python", "0-55,112-167"),
                ("NCCL Progress 0", "0-55,112-167"),
                ("pt_data_worker", "0-223"),
                ("pt_data_worker", "0-223"),
                ("pt_data_pin", "56"),
            ],
            maps: &there,
            ..python
        },
        Recorded {
            pid: 1300,
            threads: &[("python", "0-223")],
            environment: &[of_two],
            ..python
        },
        Recorded {
            pid: 1400,
            threads: &[("python", "0-55")],
            environment: &[of_four, "LOCAL_RANK=2", "LOCAL_WORLD_SIZE=4"],
            ..python
        },
        Recorded {
            pid: 1500,
            threads: &[("python", "0-55")],
            environment: &[of_four, "LOCAL_RANK=1", "LOCAL_WORLD_SIZE=2"],
            ..python
        },
        Recorded {
            pid: 1600,
            threads: &[("bash", "0-223")],
            environment: &[],
            maps: "",
            ..python
        },
    ];
    for process in &processes {
        host.write(process);
    }
    let pids = processes.map(|process| format!("verify {}", process.pid));
    let commands: Vec<&str> = pids.iter().map(String::as_str).collect();
    hold("verify", &transcript(host.root(), "dgx-h100", &commands));
}

/// Machines whose NCCL file says each kind of thing about paths, and what is asked of each.
const PATHS: [&str; 4] = ["dgx-h100", "l40s-2s-4g-slurm", "vm-2s4g", "gb200-nvl4"];

#[test]
fn the_pages_of_nccl_paths_are_as_in_the_repository() {
    let folder = tempfile::tempdir().unwrap();
    let mut page = String::new();
    for name in PATHS {
        let recording = machines::named(name).record();
        let run = |arguments: &[&str]| {
            Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
                .args(arguments)
                .current_dir(folder.path())
                .env_clear()
                .output()
                .unwrap()
        };
        let root = recording.root().to_str().unwrap();
        let file = format!("{name}.xml");
        let emitted = run(&["nccl", "emit", "--from", root]);
        assert_eq!(emitted.status.code(), Some(0), "{emitted:?}");
        fs::write(folder.path().join(&file), &emitted.stdout).unwrap();
        page += &format!("$ gpu-numa nccl emit --from {name} > {file}\n");
        let paths = run(&["nccl", "paths", &file]);
        page += &format!("$ gpu-numa nccl paths {file}\n");
        page += &String::from_utf8(paths.stdout).unwrap();
        page += &String::from_utf8(paths.stderr).unwrap();
        page.push('\n');
    }
    hold("nccl-paths", &page);
}
