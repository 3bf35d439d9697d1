//! The project's own texts, for tests that hold a list in ARCHITECTURE.md complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The project's folder.
pub fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// A file of the project.
///
/// # Panics
/// Where it cannot be read.
#[allow(clippy::panic, reason = "the test should fail there")]
pub fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every text file of the project with its path in it, but for what is built or generated.
///
/// # Panics
/// Where a folder cannot be read, and where there are far too few files.
#[allow(clippy::panic, reason = "the test should fail there")]
pub fn all_texts() -> Vec<(String, String)> {
    let mut found = Vec::new();
    texts(workspace(), &mut found);
    assert!(found.len() > 200, "only {} files", found.len());
    found
}

#[allow(clippy::panic, reason = "the test should fail there")]
fn texts(folder: &Path, found: &mut Vec<(String, String)>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default();
        let left_out = ["target", "seeds", "corpus", ".git", "Cargo.lock"];
        if left_out.iter().any(|other| name == *other) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            texts(&path, found);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let relative = path.strip_prefix(workspace()).unwrap_or(&path);
            found.push((relative.display().to_string(), text));
        }
    }
}

/// Whether a text names a version, and not only one of its patches: `25.05`, but not `25.05.3`.
pub fn names(text: &str, version: &str) -> bool {
    text.match_indices(version).any(|(at, _)| {
        let (before, rest) = text.split_at(at);
        let mut after = rest.chars().skip(version.chars().count());
        let (next, second) = (after.next(), after.next());
        let is_patch = next == Some('.') && second.is_some_and(|c| c.is_ascii_digit());
        let before = before.chars().next_back();
        !is_patch
            && !before.is_some_and(|c| c.is_ascii_digit() || c == '.')
            && !next.is_some_and(|c| c.is_ascii_digit())
    })
}

/// The files of a list of ARCHITECTURE.md: the first column of the table under a heading.
///
/// # Panics
/// Where there is no such heading.
#[allow(clippy::panic, reason = "the test should fail there")]
pub fn listed(heading: &str) -> BTreeSet<String> {
    let text = read("ARCHITECTURE.md");
    let Some((_, section)) = text.split_once(&format!("## {heading}\n")) else {
        panic!("ARCHITECTURE.md has no \"{heading}\"");
    };
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let firsts = rows.filter_map(|row| row.split('|').nth(1));
    firsts
        .flat_map(|first| first.split('`').skip(1).step_by(2).map(str::to_owned))
        .collect()
}
