//! Which Slurm is installed.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use slurm_config::release::Release;

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
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The release of the Slurm in `tree`; asked of its programs when the tree is this host's.
pub(crate) fn find(tree: &Tree, is_live: bool) -> Option<Release> {
    if is_live && let Some(release) = PROGRAMS.iter().find_map(|program| ask(program)) {
        return Some(release);
    }
    let header = HEADERS
        .iter()
        .find_map(|path| parse_header(&tree.text(path)?));
    header.or_else(|| LIBRARIES.iter().find_map(|folder| by_library(tree, folder)))
}

/// A `libslurm.so.N` in `tree` whose N no known release has.
pub(crate) fn find_strange(tree: &Tree) -> Option<String> {
    let strange = |folder: &&str| {
        let found = libraries(tree, folder)
            .into_iter()
            .find(|api| Release::of_api(*api).is_none());
        found.map(|api| format!("{folder}/libslurm.so.{api}"))
    };
    LIBRARIES.iter().find_map(strange)
}

fn by_library(tree: &Tree, folder: &str) -> Option<Release> {
    libraries(tree, folder)
        .into_iter()
        .filter_map(Release::of_api)
        .max()
}

/// The N of each `libslurm.so.N` in a folder.
fn libraries(tree: &Tree, folder: &str) -> Vec<u32> {
    let number = |name: &String| {
        let version = name.strip_prefix("libslurm.so.")?;
        version.split('.').next()?.parse().ok()
    };
    tree.entries(folder).iter().filter_map(number).collect()
}

/// `#define SLURM_VERSION_NUMBER 0x160508`.
fn parse_header(text: &str) -> Option<Release> {
    let line = text
        .lines()
        .find(|line| line.contains("SLURM_VERSION_NUMBER"))?;
    let digits = line.split_whitespace().last()?.strip_prefix("0x")?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    Some(Release {
        major: number >> 16,
        minor: number >> 8 & 0xff,
        micro: Some(number & 0xff),
    })
}

/// What `PROGRAM -V` prints: `slurm 24.11.7`.
fn ask(program: &str) -> Option<Release> {
    let mut child = Command::new(program)
        .arg("-V")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Ok(Some(_)) = child.try_wait() {
            let output = child.wait_with_output().ok()?;
            return Release::find(&String::from_utf8_lossy(&output.stdout));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // It hangs: what it would have said is not worth more waiting.
    let _ = child.kill();
    let _ = child.wait();
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_names_the_release() {
        let text = "/* x */\n#define SLURM_VERSION_NUMBER 0x180b07\n";
        assert_eq!(parse_header(text).unwrap().to_string(), "24.11.7");
    }
}
