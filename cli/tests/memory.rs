//! `gpu-numa cache` and `gpu-numa heal` on this host, which may have one node; the virtual servers have several
//! (tests/vm/memory-cases).

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::schemas::hold;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(arguments)
        .output()
        .unwrap()
}

fn document(output: &Output) -> Value {
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    hold(&document);
    document
}

/// A folder on disk: the usual scratch folder may be memory, which is never dropped.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn write(path: &Path, bytes: usize) {
    let mut file = fs::File::create(path).unwrap();
    file.write_all(&vec![7; bytes]).unwrap();
}

fn sum(bytes: &Value) -> u64 {
    let nodes = bytes.as_object().unwrap().values();
    nodes.map(|bytes| bytes.as_u64().unwrap()).sum()
}

#[test]
fn what_is_cached_of_files_is_counted_once_evicted_and_not_read_in_by_looking() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    write(&path("a"), 3 << 20);
    fs::create_dir(path("inside")).unwrap();
    write(&path("inside/b"), (1 << 20) + 1);
    write(&path("empty"), 0);
    fs::hard_link(path("a"), path("inside/same")).unwrap();
    std::os::unix::fs::symlink("/", path("inside/link")).unwrap();
    let named = folder.path().to_str().unwrap();
    let look = |more: &[&str]| {
        let output = run(&[&["cache", "--json", named], more].concat());
        (output.status.code(), document(&output))
    };
    let (status, all) = look(&[]);
    assert_eq!(status, Some(0), "{all:#}");
    assert_eq!(
        (&all["total"]["files"], &all["ok"]),
        (&3.into(), &true.into())
    );
    assert_eq!(all["total"]["size_bytes"], (4 << 20) + 1);
    assert_eq!(sum(&all["total"]["cached_bytes"]), (4 << 20) + 1);
    assert_eq!(all["files"].as_array().unwrap().len(), 2);
    let (_, evicted) = look(&["--evict"]);
    assert_eq!(
        evicted["total"]["evicted_bytes"],
        (4 << 20) + 1,
        "{evicted:#}"
    );
    for _ in 0..2 {
        let (_, none) = look(&[]);
        assert_eq!(sum(&none["total"]["cached_bytes"]), 0, "{none:#}");
    }
    let page = String::from_utf8(run(&["cache", named]).stdout).unwrap();
    assert_eq!(page, "0 B of 4.0 MiB in 3 files cached\n");
}

#[test]
fn what_is_cached_of_a_file_with_holes_is_found_wherever_it_is() {
    let folder = scratch();
    let path = folder.path().join("holes");
    let file = fs::File::create(&path).unwrap();
    file.set_len(64 << 30).unwrap();
    for offset in [5 << 20, 17 << 30, (64 << 30) - 4096] {
        file.write_all_at(&[7; 4096], offset).unwrap();
    }
    let output = run(&["cache", "--json", path.to_str().unwrap()]);
    let all = document(&output);
    assert_eq!(all["total"]["size_bytes"], 64u64 << 30);
    assert_eq!(sum(&all["total"]["cached_bytes"]), 3 * 4096, "{all:#}");
}

#[test]
fn what_is_no_file_and_what_cannot_be_known_is_said() {
    let line = |arguments: &[&str]| String::from_utf8(run(arguments).stderr).unwrap();
    assert_eq!(
        line(&["cache", "/dev/null"]),
        "gpu-numa: /dev/null: neither a file nor a folder\ngpu-numa: no file could be looked at\n"
    );
    assert!(line(&["cache", "/nonexistent"]).starts_with("gpu-numa: /nonexistent: No such file"));
    assert_eq!(
        line(&["heal"]),
        "gpu-numa: PID is missing: name the process whose memory is to be moved, or a --job\n"
    );
    assert!(
        line(&["heal", "1", "--limit", "much"])
            .contains("expected a number of bytes, such as 500M or 2G")
    );
    let own = std::process::id().to_string();
    assert!(line(&["heal", &own]).contains("left alone"));
    assert_eq!(run(&["heal", &own]).status.code(), Some(2));
}
