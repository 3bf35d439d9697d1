//! `gpu-numa metrics`: the table is started by root alone and in memory alone, and what is written is what monitoring reads.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

use crate::common::as_root;

fn metrics(folder: &Path, arguments: &[&str]) -> Output {
    as_root(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(["metrics", "--dir", folder.to_str().unwrap()])
        .args(arguments)
        .output()
        .unwrap()
}

/// A folder in memory that only root can write.
fn folder() -> TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

fn text(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The names of all metrics in a text, without labels.
fn names(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let names = lines.map(|line| line.split(['{', ' ']).next().unwrap().to_owned());
    names.collect()
}

#[test]
fn nothing_is_counted_until_the_site_starts_it() {
    let folder = folder();
    let output = metrics(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        says.contains("nothing is counted on this host: no "),
        "{says}"
    );
    assert!(!folder.path().join("metrics").exists());
    let first = text(&metrics(folder.path(), &["--start"]));
    assert!(first.ends_with("# EOF\n"), "{first}");
    let table = fs::metadata(folder.path().join("metrics")).unwrap();
    assert_eq!(table.mode() & 0o7777, 0o644);
    // Started again it goes on.
    let inode = table.ino();
    assert_eq!(text(&metrics(folder.path(), &["--start"])), first);
    assert_eq!(
        fs::metadata(folder.path().join("metrics")).unwrap().ino(),
        inode
    );
}

#[test]
fn a_table_that_cannot_be_used_is_said_and_replaced_when_asked() {
    let folder = folder();
    fs::write(folder.path().join("metrics"), "x").unwrap();
    let output = metrics(folder.path(), &["--json"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("1 bytes"),
        "{output:?}"
    );
    text(&metrics(folder.path(), &["--start"]));
    text(&metrics(folder.path(), &["--json"]));
}

#[test]
fn the_text_file_is_replaced_in_one_step_and_has_the_same_metrics() {
    let folder = folder();
    let to = tempfile::tempdir().unwrap();
    let argument = to.path().to_str().unwrap();
    let output = metrics(folder.path(), &["--start", "--textfile", argument]);
    assert_eq!(text(&output), "");
    let files: Vec<_> = fs::read_dir(to.path())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(files, ["gpu-numa-bind.prom"]);
    let file = to.path().join("gpu-numa-bind.prom");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o644);
    let prometheus = fs::read_to_string(file).unwrap();
    let open = text(&metrics(folder.path(), &[]));
    assert_eq!(names(&prometheus), names(&open));
    let output = metrics(folder.path(), &["--textfile", "/nowhere"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// Every name of ours that a text has.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_part(c));
    let own = words.filter(|word| word.starts_with("gpu_numa_bind_"));
    own.map(str::to_owned).collect()
}

#[test]
fn dashboard_documents_and_program_name_the_same_metrics() {
    let folder = folder();
    let all = names(&text(&metrics(folder.path(), &["--start"])));
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let dashboard = fs::read_to_string(root.join("packaging/grafana/gpu-numa-bind.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let mut asked = BTreeSet::new();
    for panel in document["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            assert_eq!(
                query.matches('(').count(),
                query.matches(')').count(),
                "{query}"
            );
            let own = named(query);
            assert!(
                !own.is_empty() || query.contains("node_textfile_mtime_seconds"),
                "{query}"
            );
            asked.extend(own);
        }
    }
    let unknown: Vec<_> = named(&dashboard).difference(&all).cloned().collect();
    assert!(unknown.is_empty(), "no such metric: {unknown:?}");
    let without_parts = |names: &BTreeSet<String>| -> BTreeSet<String> {
        let whole = names.iter().map(|name| {
            let part = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            part.unwrap_or(name).to_owned()
        });
        whole.collect()
    };
    let all = without_parts(&all);
    // Which release a host has, and how many steps have no GPU, are for those who ask.
    let shown = without_parts(&named(&dashboard));
    let unseen: Vec<_> = all.difference(&shown).collect();
    assert_eq!(unseen, ["gpu_numa_bind_steps_total"]);
    let admin = fs::read_to_string(root.join("docs/admin.md")).unwrap();
    assert_eq!(named(&admin), all);
}
