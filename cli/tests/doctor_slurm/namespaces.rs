//! A slurmd that has files of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// Runs a script as the root of namespaces of its own; None where the system gives a user who is not root none.
fn in_namespaces(script: &str, arguments: &[&str]) -> Option<String> {
    let command = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--pid", "--fork"]);
        command.args(["--mount-proc", "sh", "-c"]);
        command
    };
    if !command().arg("true").output().ok()?.status.success() {
        let users = Command::new("id").arg("-u").output().unwrap().stdout;
        assert_ne!(users, b"0\n", "root is given no namespaces here");
        return None;
    }
    let mut command = command();
    command.env_remove("SLURM_CONF").args([script, "sh"]);
    let output = command.args(arguments).output();
    Some(String::from_utf8(output.unwrap().stdout).unwrap())
}

#[test]
fn the_files_of_a_slurmd_in_another_mount_namespace_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("etc/slurm")).unwrap();
    let conf = "ClusterName=inside\nSlurmctldHost=head\nNodeName=nowhere CPUs=1\nPartitionName=p Nodes=ALL\n";
    fs::write(path("etc/slurm/slurm.conf"), conf).unwrap();
    fs::write(path("slurmd"), "#!/bin/sh\nsleep 60\n").unwrap();
    fs::set_permissions(path("slurmd"), fs::Permissions::from_mode(0o755)).unwrap();
    let start = "unshare --mount sh -c 'mount --bind \"$0/etc\" /etc && exec \"$0/slurmd\"' \"$1\" &\n\
                 for _ in $(seq 100); do grep -qs '^slurmd$' /proc/[0-9]*/comm && break; sleep 0.1; done\n\
                 \"$2\" doctor --json";
    let folder = folder.path().to_str().unwrap();
    let Some(text) = in_namespaces(start, &[folder, env!("CARGO_BIN_EXE_gpu-numa")]) else {
        return;
    };
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["slurm_conf"], "/etc/slurm/slurm.conf", "{text}");
    let why = document["slurm_conf_why"].as_str().unwrap();
    assert!(why.contains("runs in another mount namespace"), "{why}");
}
