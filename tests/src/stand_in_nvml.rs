//! A stand-in for libnvidia-ml, built from `tests/nvml/stand_in.c`.

use std::io;
use std::path::{Path, PathBuf};

/// The environment variable that names its scenario.
pub const SCENARIO: &str = "STAND_IN_NVML";

/// Builds it into `folder`, which then goes into `LD_LIBRARY_PATH`; without the functions of `without`.
///
/// # Errors
/// The compiler does not run, or refuses.
pub fn build(folder: &Path, without: &[&str]) -> io::Result<PathBuf> {
    build_as(folder, "libnvidia-ml.so.1", without)
}

/// As [`build`], under another file name.
///
/// # Errors
/// As [`build`].
pub fn build_as(folder: &Path, name: &str, without: &[&str]) -> io::Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let compiler = cc::Build::new()
        .target(&target)
        .host(&target)
        .opt_level(1)
        .cargo_metadata(false)
        .get_compiler();
    let library = folder.join(name);
    let status = compiler
        .to_command()
        .args([
            "-std=gnu11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-shared",
            "-fPIC",
        ])
        .args(
            without
                .iter()
                .map(|function| format!("-DWITHOUT_{function}")),
        )
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/nvml/stand_in.c"))
        .arg("-o")
        .arg(&library)
        .status()?;
    if status.success() {
        Ok(library)
    } else {
        Err(io::Error::other(format!("{}: {status}", library.display())))
    }
}
