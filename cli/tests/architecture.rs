//! ARCHITECTURE.md names every crate and folder, and its arrows are what cargo sees.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use topology::locality::LADDER;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document() -> String {
    std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

/// A crate's name as the document has it: without what all of ours begin with.
fn short(name: &str) -> String {
    name.strip_prefix("gpu-numa-").unwrap_or(name).to_owned()
}

/// Our crates: the folder of each, and those that it uses outside of tests.
pub(crate) fn crates() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let top = Path::new(metadata["workspace_root"].as_str().unwrap());
    let packages = metadata["packages"].as_array().unwrap();
    let read = |package: &Value| {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let folder = manifest.parent().unwrap().strip_prefix(top).unwrap();
        let uses = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["kind"].is_null() && one["path"].is_string())
            .map(|one| short(one["name"].as_str().unwrap()));
        let name = short(package["name"].as_str().unwrap());
        (name, (folder.display().to_string(), uses.collect()))
    };
    packages.iter().map(read).collect()
}

/// The lines `crate -> crate crate`.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let document = document();
    let lines = document.lines().filter(|line| !line.contains("--"));
    lines
        .filter_map(|line| line.split_once("->"))
        .map(|(name, uses)| {
            let uses = uses.split_whitespace().map(str::to_owned).collect();
            (name.trim().to_owned(), uses)
        })
        .collect()
}

#[test]
fn arrows_are_what_cargo_sees() {
    let seen: BTreeMap<_, _> = crates()
        .into_iter()
        .map(|(name, (_, uses))| (name, uses))
        .collect();
    assert_eq!(arrows(), seen);
}

#[test]
fn code_map_names_every_crate_and_folder() {
    let document = document();
    let first_cells = |line: &str| {
        let mut cells = line.split('|').skip(1).map(|cell| cell.trim().to_owned());
        Some((cells.next()?, cells.next()?))
    };
    let rows: BTreeSet<_> = document.lines().filter_map(first_cells).collect();
    for (name, (folder, _)) in crates() {
        let above = folder.strip_suffix("/builder").unwrap_or(&folder);
        let row = (format!("`{above}/`"), format!("`{name}`"));
        assert!(rows.contains(&row), "no row {row:?}");
    }
    let folders = rows.iter().map(|(folder, _)| folder.clone());
    let named: BTreeSet<_> = folders.collect();
    for entry in std::fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let is_part = entry.path().join("Cargo.toml").is_file() || name == "packaging";
        assert!(
            !is_part || named.contains(&format!("`{name}/`")),
            "no row for {name}"
        );
    }
}

#[test]
fn the_ladder_is_told_rung_by_rung() {
    let document = document();
    let (_, section) = document.split_once("## The evidence ladder").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let told = section.lines().filter_map(|line| {
        let (_, rung) = line.split_once(". `")?;
        rung.split_once('`').map(|(name, _)| name.to_owned())
    });
    let rungs = LADDER.iter().map(|(source, _)| {
        let name = serde_json::to_value(source).unwrap();
        name.as_str().unwrap().to_owned()
    });
    assert!(told.eq(rungs), "{section}");
}

/// What `cargo test` alone runs is all but the tiers that need root and other tools.
#[test]
fn cargo_test_alone_runs_every_crate_but_tests() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let list = |key: &str| -> BTreeSet<String> {
        let line = manifest
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = ["));
        let names = line.unwrap().trim_end_matches(']').split(", ");
        names
            .map(|name| name.trim_matches('"').to_owned())
            .collect()
    };
    let mut all = list("members");
    assert!(all.remove("tests"));
    assert_eq!(list("default-members"), all);
}

/// The package's own check is run by ordinary users too, some in a chroot, which has no user namespaces.
#[test]
fn the_package_leaves_out_what_needs_user_namespaces() {
    let spec = std::fs::read_to_string(root().join("packaging/gpu-numa-bind.spec")).unwrap();
    let mut lines = spec
        .lines()
        .skip_while(|line| !line.contains("--map-root-user"));
    let list = lines.nth(1).unwrap();
    let files = std::fs::read_dir(root().join("cli/tests")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    for path in paths.filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(&path).unwrap();
        let module = path.file_stem().unwrap().to_str().unwrap();
        let uses = |line: &str| line.starts_with("use crate::common::") && line.contains("as_root");
        let needs = text.lines().any(uses);
        assert_eq!(needs, list.contains(&format!(" {module}::")), "{module}");
    }
}
