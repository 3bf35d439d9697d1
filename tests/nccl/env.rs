//! The env plugin: in a C host, and in the real libnccl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::setup::{World, host, plugin, require_root};

/// Runs a command where `/run/gpu-numa-bind` holds the world's files, and `/etc/nccl.conf` `conf`.
fn on_site(world: &World, conf: &str, command: &[&str], environment: &[(&str, &str)]) -> String {
    let script = "set -e
        mount -t tmpfs none /run
        mkdir -m 755 /run/gpu-numa-bind
        cp \"$SITE\"/node.json \"$SITE\"/*.xml /run/gpu-numa-bind/
        mount -t tmpfs none /root
        if [ -n \"$CONF\" ]; then touch /etc/nccl.conf; printf '%s\\n' \"$CONF\" >/run/nccl.conf; mount --bind /run/nccl.conf /etc/nccl.conf; fi
        exec \"$@\"";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .args(command)
        .env("SITE", world.path(""))
        .env("CONF", conf)
        .env_remove("NCCL_TOPO_FILE")
        .env("HOME", "/root")
        .envs(environment.iter().copied())
        .output()
        .expect("unshare runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn ask(world: &World, version: u32, words: &[&str], environment: &[(&str, &str)]) -> String {
    let host = host("host");
    let version = version.to_string();
    let mut command = vec![
        host.to_str().unwrap(),
        plugin().to_str().unwrap(),
        "env",
        &version,
    ];
    command.extend(words);
    on_site(world, "", &command, environment)
}

#[test]
fn the_sites_file_is_the_answer_where_nothing_else_is() {
    require_root();
    let world = World::new(2, 2);
    world.write("nccl-topo-multi.xml", "<system version=\"1\"/>\n");
    for version in [1, 2] {
        assert_eq!(
            ask(&world, version, &["NCCL_TOPO_FILE", "NCCL_ALGO"], &[]),
            "NCCL_TOPO_FILE=/run/gpu-numa-bind/nccl-topo.xml\nNCCL_ALGO=(null)\n"
        );
    }
    let several = ask(
        &world,
        2,
        &["NCCL_TOPO_FILE"],
        &[("SLURM_JOB_NUM_NODES", "2")],
    );
    assert_eq!(
        several,
        "NCCL_TOPO_FILE=/run/gpu-numa-bind/nccl-topo-multi.xml\n"
    );
}

#[test]
fn the_environment_is_asked_each_time() {
    require_root();
    // As aws-ofi-nccl does: it sets the variable while NCCL begins.
    let words = [
        "NCCL_TOPO_FILE",
        "NCCL_TOPO_FILE=/theirs.xml",
        "NCCL_TOPO_FILE",
        "NCCL_ALGO=Ring",
        "NCCL_ALGO",
    ];
    assert_eq!(
        ask(&World::new(2, 2), 2, &words, &[]),
        "NCCL_TOPO_FILE=/run/gpu-numa-bind/nccl-topo.xml\nNCCL_TOPO_FILE=/theirs.xml\nNCCL_ALGO=Ring\n"
    );
}

#[test]
fn a_site_without_files_has_no_answer() {
    require_root();
    let world = World::new(2, 2);
    fs::remove_file(world.path("nccl-topo.xml")).unwrap();
    world.write("other.xml", "");
    assert_eq!(
        ask(&world, 2, &["NCCL_TOPO_FILE"], &[]),
        "NCCL_TOPO_FILE=(null)\n"
    );
}

/// The real libnccl.
fn libnccl() -> PathBuf {
    require_root();
    std::env::var_os("GPU_NUMA_LIBNCCL")
        .map(PathBuf::from)
        .expect("GPU_NUMA_LIBNCCL names no libnccl; run make test-nccl")
}

/// What the plugin answers in a process of the real NCCL that has read its configuration files.
fn answer_in_nccl(nccl: &Path, conf: &str, environment: &[(&str, &str)]) -> String {
    let world = World::new(2, 2);
    let program = host("real");
    let command = [
        program.to_str().unwrap(),
        nccl.to_str().unwrap(),
        plugin().to_str().unwrap(),
    ];
    let mut all = vec![("NCCL_ENV_PLUGIN", plugin().to_str().unwrap())];
    all.extend(environment);
    let said = on_site(&world, conf, &command, &all);
    let answer = said
        .lines()
        .find_map(|line| line.strip_prefix("NCCL_TOPO_FILE="));
    answer.unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn the_real_nccl_loads_the_plugin_and_gets_its_answer() {
    let nccl = libnccl();
    assert_eq!(
        answer_in_nccl(&nccl, "", &[]),
        "/run/gpu-numa-bind/nccl-topo.xml"
    );
}

#[test]
fn the_environment_and_nccls_files_come_before_the_plugin() {
    let nccl = libnccl();
    let conf = "NCCL_TOPO_FILE=/of/etc.xml";
    assert_eq!(answer_in_nccl(&nccl, conf, &[]), "/of/etc.xml");
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own.conf");
    fs::write(&own, "# mine\nNCCL_TOPO_FILE=/of/own.xml\n").unwrap();
    let own = own.to_str().unwrap();
    assert_eq!(
        answer_in_nccl(&nccl, conf, &[("NCCL_CONF_FILE", own)]),
        "/of/own.xml"
    );
    let all = [
        ("NCCL_CONF_FILE", own),
        ("NCCL_TOPO_FILE", "/of/environment.xml"),
    ];
    assert_eq!(answer_in_nccl(&nccl, conf, &all), "/of/environment.xml");
}
