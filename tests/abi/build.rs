//! The plugin and the C hosts, built once per run.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use gpu_numa_tests::build::{by_c_compiler, by_cargo, folder};

/// The plugin to test.
pub(crate) fn plugin() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| match std::env::var_os("GPU_NUMA_SPANK_SO") {
        Some(path) => PathBuf::from(path),
        None => by_cargo("gpu-numa-spank", "libgpu_numa_bind.so").expect("it builds"),
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
            .unwrap_or_else(|| by_cargo("gpu-numa", "gpu-numa").expect("it builds"))
    })
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

/// The program that sees what the C host's hooks ask the kernel.
pub(crate) fn tracer() -> &'static Path {
    static TRACER: OnceLock<PathBuf> = OnceLock::new();
    TRACER.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tracer");
        by_c_compiler(&folder("abi"), &["tracer.c"], &[], &program).expect("the tracer compiles");
        program
    })
}

/// A plugin that makes only the system calls that are needed.
pub(crate) fn floor() -> &'static Path {
    static FLOOR: OnceLock<PathBuf> = OnceLock::new();
    FLOOR.get_or_init(|| compile_plugin("floor.so", &[]))
}

/// A plugin whose hooks do nothing.
pub(crate) fn empty() -> &'static Path {
    static EMPTY: OnceLock<PathBuf> = OnceLock::new();
    EMPTY.get_or_init(|| compile_plugin("empty.so", &["-DEMPTY"]))
}

fn compile_plugin(name: &str, flags: &[&str]) -> PathBuf {
    let plugin = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let usual = ["-shared", "-fPIC", "-O2"].iter();
    let flags: Vec<&str> = usual.chain(flags).copied().collect();
    by_c_compiler(&folder("abi"), &["floor.c"], &flags, &plugin).expect("the plugin compiles");
    plugin
}

fn compile(name: &str, flags: &[&str]) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let sources = ["spank_host.c", "scenario.c", "slurm.c", "kernel.c"];
    let flags: Vec<&str> = ["-rdynamic"].iter().chain(flags).copied().collect();
    by_c_compiler(&folder("abi"), &sources, &flags, &program).expect("the host compiles");
    program
}
