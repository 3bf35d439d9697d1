//! A stand-in for libnvidia-ml, built from `tests/nvml/stand_in.c`.

use std::io;
use std::path::{Path, PathBuf};

use crate::build::{self, by_c_compiler};

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
    let library = folder.join(name);
    let defines = without
        .iter()
        .map(|function| format!("-DWITHOUT_{function}"));
    let defines: Vec<String> = defines.collect();
    let mut flags = vec!["-shared", "-fPIC"];
    flags.extend(defines.iter().map(String::as_str));
    by_c_compiler(&build::folder("nvml"), &["stand_in.c"], &flags, &library)?;
    Ok(library)
}
