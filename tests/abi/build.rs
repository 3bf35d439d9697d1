//! The plugin and the C hosts, built once a run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The plugin to test.
pub(crate) fn plugin() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| match std::env::var_os("GPU_NUMA_SPANK_SO") {
        Some(path) => PathBuf::from(path),
        None => build("gpu-numa-spank", "libgpu_numa_bind.so"),
    })
}

/// The program `gpu-numa`: beside the plugin to test, where there is one.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let given = std::env::var_os("GPU_NUMA_SPANK_SO").map(PathBuf::from);
        let beside = given.map(|plugin| plugin.with_file_name("gpu-numa"));
        beside
            .filter(|program| program.is_file())
            .unwrap_or_else(|| build("gpu-numa", "gpu-numa"))
    })
}

/// Cargo has no dependency on a cdylib or program, so it is asked to build it; a second time costs nothing.
fn build(package: &str, file: &str) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "-p", package, "--message-format=json"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stderr(Stdio::inherit());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{package} does not build");
    let messages = String::from_utf8(output.stdout).unwrap();
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(message["filenames"].as_array()?.clone()))
        .flatten()
        .filter_map(|name| name.as_str().map(PathBuf::from))
        .find(|path| path.ends_with(file))
        .expect("cargo names what it built")
}

/// The C host.
pub(crate) fn host() -> &'static Path {
    static HOST: OnceLock<PathBuf> = OnceLock::new();
    HOST.get_or_init(|| compile("spank_host", &[]))
}

/// The C host of a program that is no Slurm: without `slurm_api_version`.
pub(crate) fn host_without_api_version() -> &'static Path {
    static HOST: OnceLock<PathBuf> = OnceLock::new();
    HOST.get_or_init(|| compile("spank_host_no_api", &["-DWITHOUT_API_VERSION"]))
}

fn compile(name: &str, flags: &[&str]) -> PathBuf {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let compiler = cc::Build::new()
        .target(&target)
        .host(&target)
        .opt_level(1)
        .cargo_metadata(false)
        .get_compiler();
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let status = compiler
        .to_command()
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-rdynamic"])
        .args(flags)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/abi"))
        .args(["spank_host.c", "scenario.c", "slurm.c", "kernel.c"])
        .arg("-o")
        .arg(&program)
        .arg("-ldl")
        .status()
        .expect("a C compiler runs");
    assert!(status.success(), "{name} does not compile");
    program
}
