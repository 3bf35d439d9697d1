//! Which Slurm is installed.

use std::process::Command;
use std::time::Duration;

use discovery::child::read_output;
use slurm_config::release::{Release, api_of_library};
use slurm_config::rules::Series;

use super::tree::Tree;

/// Folders that hold libslurm.
const LIBRARIES: [&str; 9] = [
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/opt/slurm/lib",
    "/opt/slurm/lib64",
    "/usr/lib64/slurm",
];
/// Where the header names the release.
const HEADERS: [&str; 3] = [
    "/usr/include/slurm/slurm_version.h",
    "/usr/local/include/slurm/slurm_version.h",
    "/opt/slurm/include/slurm/slurm_version.h",
];
/// Programs that print it, first found first.
const PROGRAMS: [&str; 4] = [
    "slurmd",
    "/usr/sbin/slurmd",
    "srun",
    "/opt/slurm/sbin/slurmd",
];
/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The generation of hwloc's interface that a Slurm was built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hwloc {
    /// `libhwloc.so.5`: NUMA nodes within a socket are sockets, and socket parameters are errors.
    One,
    /// `libhwloc.so.15` before `.15.5` (hwloc 2.5): it does not tell Slurm of E-cores, which are CPUs like others.
    WithoutKinds,
    /// hwloc 2.5 and later.
    Later,
}

/// The hwloc in `tree`, where it has one generation only.
pub(crate) fn find_hwloc(tree: &Tree) -> Option<Hwloc> {
    let names = LIBRARIES.iter().flat_map(|folder| tree.entries(folder));
    let mut found = names.filter_map(|name| {
        let mut version = name.strip_prefix("libhwloc.so.")?.split('.');
        let number = version.next()?.parse::<u32>().ok()?;
        if number < 15 {
            return Some(Hwloc::One);
        }
        // The link says the interface alone; the file that it leads to, the version.
        let minor = version.next()?.parse::<u32>().ok()?;
        Some(if (number, minor) < (15, 5) {
            Hwloc::WithoutKinds
        } else {
            Hwloc::Later
        })
    });
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

/// The release of the Slurm in `tree`; asked of its programs when the tree is this host's.
pub(crate) fn find(tree: &Tree, is_live: bool) -> Option<Release> {
    if is_live && let Some(release) = PROGRAMS.iter().find_map(|program| ask(program)) {
        return Some(release);
    }
    let header = HEADERS
        .iter()
        .find_map(|path| Release::of_header(&tree.text(path)?));
    header.or_else(|| LIBRARIES.iter().find_map(|folder| by_library(tree, folder)))
}

/// A `libslurm.so.N` in `tree` whose N no release of the table has.
pub(crate) fn find_strange(tree: &Tree) -> Option<String> {
    let strange = |folder: &&str| {
        let found = libraries(tree, folder)
            .into_iter()
            .find(|api| Series::of_api(*api).is_none());
        found.map(|api| format!("{folder}/libslurm.so.{api}"))
    };
    LIBRARIES.iter().find_map(strange)
}

fn by_library(tree: &Tree, folder: &str) -> Option<Release> {
    libraries(tree, folder)
        .into_iter()
        .filter_map(Series::of_api)
        .map(Series::release)
        .max()
}

/// A library in `tree` that has none of `names`, by which it is looked for, but the first of them with a version behind it; None where
/// one has, or the library is not there at all, and perhaps elsewhere.
pub(crate) fn versioned_alone(tree: &Tree, names: &[&str]) -> Option<String> {
    let begin = format!("{}.", names.first()?);
    let mut found = None;
    for folder in LIBRARIES {
        for entry in tree.entries(folder) {
            if names.contains(&entry.as_str()) {
                return None;
            }
            if found.is_none() && entry.starts_with(&begin) {
                found = Some(format!("{folder}/{entry}"));
            }
        }
    }
    found
}

/// The N of each `libslurm.so.N` in a folder.
fn libraries(tree: &Tree, folder: &str) -> Vec<u32> {
    let names = tree.entries(folder);
    names
        .iter()
        .filter_map(|name| api_of_library(name))
        .collect()
}

/// What `PROGRAM -V` prints: `slurm 24.11.7`.
fn ask(program: &str) -> Option<Release> {
    let mut command = Command::new(program);
    command.arg("-V");
    let printed = read_output(command, PATIENCE).ok()?;
    Release::find(&String::from_utf8_lossy(&printed))
}
