//! A folder tree from bytes.
//!
//! Records, each begun by `@` at the start of a line: `@PATH`, a line break and the file's bytes up to the next
//! record; `@PATH>TARGET` is a link; `@PATH/` a folder.  What leads out of the tree is left out.

use std::fs;
use std::path::{Component, Path};

/// Records that are taken.
const MOST: usize = 512;

/// A folder in memory, where the system has one.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = tempfile::Builder::new()
        .prefix("gpu-numa-fuzz.")
        .tempdir_in(memory);
    made.or_else(|_| tempfile::tempdir())
        .expect("a scratch folder")
}

/// Writes the tree that `bytes` are below `root`.
pub(crate) fn write(bytes: &[u8], root: &Path) {
    let mut rest = bytes.strip_prefix(b"@").unwrap_or(bytes);
    for _ in 0..MOST {
        let end = rest.windows(2).position(|pair| pair == b"\n@");
        let record = &rest[..end.unwrap_or(rest.len())];
        write_one(record, root);
        let Some(end) = end else { break };
        rest = &rest[end + 2..];
    }
}

fn write_one(record: &[u8], root: &Path) {
    let end = record.iter().position(|byte| *byte == b'\n');
    let (head, contents) = record.split_at(end.unwrap_or(record.len()));
    let Ok(head) = std::str::from_utf8(head) else {
        return;
    };
    let (path, target) = head
        .split_once('>')
        .map_or((head, None), |(path, target)| (path, Some(target)));
    if path.len() > 200 || depth_of(Path::new(path), 0).is_none_or(|depth| depth == 0) {
        return;
    }
    let full = root.join(path);
    let Some(parent) = full.parent() else { return };
    // Below a file, or twice the same: left out.
    if fs::create_dir_all(parent).is_err() {
        return;
    }
    if let Some(target) = target {
        let above = depth_of(Path::new(path), 0).unwrap_or(0).saturating_sub(1);
        // Through other links it may still lead elsewhere, but only within so many levels.
        if depth_of(Path::new(target), above).is_some() {
            let _ = std::os::unix::fs::symlink(target, full);
        }
    } else if path.ends_with('/') {
        let _ = fs::create_dir_all(full);
    } else if !full.is_symlink() {
        let _ = fs::write(full, contents.get(1..).unwrap_or_default());
    }
}

/// How deep a relative path ends when it begins `depth` deep; none for one that leads above 0.
fn depth_of(path: &Path, mut depth: usize) -> Option<usize> {
    for component in path.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => depth = depth.checked_sub(1)?,
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (depth <= 16).then_some(depth)
}
