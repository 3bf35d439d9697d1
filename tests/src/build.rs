//! What tests build: our own plugins and programs, by cargo, and C programs and libraries.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Has cargo build `package` and gives the built file whose name is `file`.  Cargo has no dependency on a
/// cdylib or program, so it is asked; a second time costs nothing.
///
/// # Errors
/// Cargo does not run, the package does not build, or makes no such file.
pub fn by_cargo(package: &str, file: &str) -> io::Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "-p", package, "--message-format=json"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stderr(Stdio::inherit());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{package} does not build")));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(message.get("filenames")?.as_array()?.clone()))
        .flatten()
        .filter_map(|name| name.as_str().map(PathBuf::from))
        .find(|path| path.ends_with(file))
        .ok_or_else(|| io::Error::other(format!("{package} has no {file}")))
}

/// Compiles `sources`, files of `folder`, into `product`, with warnings as errors and debug information;
/// `flags` come before the sources.  Programs also get the flags of the environment variable `GPU_NUMA_SANITIZER`,
/// which name a sanitizer whose runtime serves the plugins that they load too (`tests/sanitize`).
///
/// # Errors
/// The compiler does not run, or refuses.
pub fn by_c_compiler(
    folder: &Path,
    sources: &[&str],
    flags: &[&str],
    product: &Path,
) -> io::Result<()> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let compiler = cc::Build::new()
        .target(&target)
        .host(&target)
        .opt_level(1)
        .cargo_metadata(false)
        .get_compiler();
    let sanitizer = std::env::var("GPU_NUMA_SANITIZER").ok();
    let sanitizer = sanitizer.filter(|_| !flags.contains(&"-shared"));
    let status = compiler
        .to_command()
        .args(["-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror"])
        .args(flags)
        .current_dir(folder)
        .args(sources)
        .arg("-o")
        .arg(product)
        .args(sanitizer.iter().flat_map(|flags| flags.split_whitespace()))
        .args(["-ldl", "-lpthread"])
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{}: {status}", product.display())))
    }
}

/// A folder of this crate.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
