//! The env plugin: in a C host, and in the real libnccl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nccl_topo::rules::{Rules, TABLE, Version, env_interfaces};

use crate::setup::{World, host, plugin, require_root};

/// Runs a command where `/run/gpu-numa-bind` holds the world's files, and `/etc/nccl.conf` `conf`; this host's own
/// of both are out of sight.
fn on_site(world: &World, conf: &str, command: &[&str], environment: &[(&str, &str)]) -> String {
    let script = "set -e
        mount -t tmpfs none /run
        mkdir -m 755 /run/gpu-numa-bind
        cp \"$SITE\"/node.json \"$SITE\"/*.xml /run/gpu-numa-bind/
        mount -t tmpfs none /root
        cp -a /etc /run/etc
        printf '%s\\n' \"$CONF\" >/run/etc/nccl.conf
        mount --bind /run/etc /etc
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
    for version in env_interfaces().into_iter().map(u32::from) {
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
fn rccl_is_not_answered_with_a_file_of_nccls() {
    require_root();
    let world = World::new(2, 2);
    let library = world.empty_rccl();
    for version in env_interfaces().into_iter().map(u32::from) {
        let preload = [("LD_PRELOAD", library.to_str().unwrap())];
        let answer = ask(&world, version, &["NCCL_TOPO_FILE"], &preload);
        assert_eq!(answer, "NCCL_TOPO_FILE=(null)\n");
    }
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

/// The real libraries, one for each minor version.
pub(crate) fn libraries() -> Vec<PathBuf> {
    let paths = std::env::var_os("GPU_NUMA_LIBNCCL")
        .expect("GPU_NUMA_LIBNCCL is not set: make test-nccl fetches NVIDIA's libraries and names them there");
    std::env::split_paths(&paths).collect()
}

/// What the host says of a real NCCL that has read its configuration files, with our plugin as its env plugin.
fn said_in_nccl(nccl: &Path, conf: &str, environment: &[(&str, &str)]) -> String {
    let world = World::new(2, 2);
    let program = host("real");
    let command = [
        program.to_str().unwrap(),
        nccl.to_str().unwrap(),
        plugin().to_str().unwrap(),
    ];
    let mut all = vec![("NCCL_ENV_PLUGIN", plugin().to_str().unwrap())];
    all.extend(environment);
    on_site(&world, conf, &command, &all)
}

/// The rests of the lines that begin with `word`.
fn lines<'t>(said: &'t str, word: &str) -> Vec<&'t str> {
    let rests = said.lines().filter_map(|line| line.strip_prefix(word));
    rests.collect()
}

/// The version of a library and its rules, by what the host said.
fn rules_of(said: &str) -> (Version, &'static Rules) {
    let code: u32 = lines(said, "version ")[0].parse().unwrap();
    let part = |number: u32| u8::try_from(number % 100).unwrap();
    let version = Version {
        major: part(code / 10_000),
        minor: part(code / 100),
        patch: part(code),
    };
    (version, Rules::of(version))
}

#[test]
fn each_minor_version_of_the_rules_has_a_library() {
    let tested: Vec<_> = libraries()
        .iter()
        .map(|library| rules_of(&said_in_nccl(library, "", &[])).0)
        .map(|version| (version.major, version.minor))
        .collect();
    let ruled = TABLE
        .iter()
        .map(|rules| (rules.from.major, rules.from.minor));
    for version in ruled {
        assert!(
            tested.contains(&version),
            "{version:?} is in nccl-topo/src/rules.rs and not in tests/nccl/libnccl"
        );
    }
}

#[test]
fn each_real_nccl_asks_for_the_interfaces_of_its_rules() {
    for nccl in libraries() {
        let said = said_in_nccl(&nccl, "", &[]);
        let (version, rules) = rules_of(&said);
        let asked = lines(&said, "asked ");
        let knows = lines(&said, "knows ");
        println!(
            "NCCL {version}: asks for {}; newest profiler interface {}",
            if asked.is_empty() {
                "no env plugin".to_owned()
            } else {
                asked.join(", ")
            },
            knows.join(", ")
        );
        // The plugin has the newest, so NCCL asks for no older one.
        let env = rules.env.map(|env| format!("ncclEnvPlugin_v{env}"));
        assert_eq!(asked, Vec::from_iter(env), "{version}\n{said}");
        let profiler = format!("ncclProfiler_v{}", rules.profiler);
        assert_eq!(knows, [profiler], "{version}\n{said}");
        let loaded = lines(&said, "loaded").len() == 1;
        assert_eq!(loaded, rules.env.is_some(), "{version}\n{said}");
    }
}

/// What the plugin answers in each NCCL that has an env plugin.
fn answers(conf: &str, environment: &[(&str, &str)]) -> Vec<(Version, String)> {
    let mut answers = Vec::new();
    for nccl in libraries() {
        let said = said_in_nccl(&nccl, conf, environment);
        let (version, rules) = rules_of(&said);
        let answer = lines(&said, "NCCL_TOPO_FILE=").first().copied();
        assert_eq!(answer.is_some(), rules.env.is_some(), "{version}\n{said}");
        answers.extend(answer.map(|answer| (version, answer.to_owned())));
    }
    assert!(!answers.is_empty());
    answers
}

#[track_caller]
fn assert_answer(conf: &str, environment: &[(&str, &str)], expected: &str) {
    for (version, answer) in answers(conf, environment) {
        assert_eq!(answer, expected, "{version}");
    }
}

#[test]
fn each_real_nccl_gets_the_sites_file() {
    assert_answer("", &[], "/run/gpu-numa-bind/nccl-topo.xml");
}

#[test]
fn the_environment_and_nccls_files_come_before_the_plugin() {
    let conf = "NCCL_TOPO_FILE=/of/etc.xml";
    assert_answer(conf, &[], "/of/etc.xml");
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own.conf");
    fs::write(&own, "# mine\nNCCL_TOPO_FILE=/of/own.xml\n").unwrap();
    let own = own.to_str().unwrap();
    assert_answer(conf, &[("NCCL_CONF_FILE", own)], "/of/own.xml");
    let all = [
        ("NCCL_CONF_FILE", own),
        ("NCCL_TOPO_FILE", "/of/environment.xml"),
    ];
    assert_answer(conf, &all, "/of/environment.xml");
}
