//! The program on the declared machines of `tests/machines`: what it says is what is true of each.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use machines::{Declared, Place};
use serde_json::Value;

fn run(root: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(arguments)
        .arg("--from")
        .arg(root)
        .env_remove("SLURM_CONF")
        .env_remove("COLUMNS")
        .output()
        .unwrap()
}

/// The document of a command that may find something (exit 1) and must be able to run.
fn document(declared: &Declared, root: &Path, arguments: &[&str]) -> Value {
    let output = run(root, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{}: {stderr}",
        declared.name
    );
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{} {arguments:?}: {error}: {stderr}", declared.name))
}

/// A list of indexes as the documents write it, or nothing.
fn nodes(place: &Place) -> BTreeSet<u32> {
    let nodes = place.nodes.iter().flat_map(|nodes| &nodes.0);
    nodes.copied().collect()
}

/// The numbers of a kernel list.
fn numbers(list: &Value) -> BTreeSet<u32> {
    let text = list.as_str().unwrap_or_default();
    let items = text.split(',').filter(|item| !item.is_empty());
    let run = |item: &str| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        first.parse().unwrap()..=last.parse().unwrap()
    };
    items.flat_map(run).collect()
}

/// For every machine, two at a time: each command starts a child and waits for it.
fn for_each(check: fn(&Declared, &Path)) {
    let all = machines::all();
    let (first, second) = all.split_at(all.len() / 2);
    let check = |part: &[Declared]| {
        for declared in part {
            check(declared, declared.record().root());
        }
    };
    std::thread::scope(|scope| {
        for part in [first, second] {
            scope.spawn(move || check(part));
        }
    });
}

#[test]
fn show_places_each_gpu_where_it_is() {
    for_each(|declared, root| {
        let name = &declared.name;
        let shown = document(declared, root, &["show", "--json"]);
        let gpus = shown["gpus"].as_array().unwrap();
        assert_eq!(gpus.len(), declared.truth.gpus.len(), "{name}");
        for (gpu, place) in gpus.iter().zip(&declared.truth.gpus) {
            let at = place.at.to_string();
            assert_eq!(gpu["pci"], at, "{name}");
            assert_eq!(
                gpu["package"].as_u64(),
                place.package.map(u64::from),
                "{name}: {at}"
            );
            assert_eq!(
                gpu["numa_nodes"].is_null(),
                place.nodes.is_none(),
                "{name}: {at}"
            );
            assert_eq!(numbers(&gpu["numa_nodes"]), nodes(place), "{name}: {at}");
            assert_eq!(gpu["numa_source"], place.by, "{name}: {at}");
        }
    });
}

#[test]
fn doctor_finds_what_is_wrong_and_nothing_else() {
    for_each(|declared, root| {
        let report = document(
            declared,
            root,
            &["doctor", "--json", "--slurm-release", "24.05"],
        );
        let findings = report["findings"].as_array().unwrap().iter();
        let checks = findings.map(|finding| finding["check"].as_str().unwrap().to_owned());
        let checks: BTreeSet<String> = checks.collect();
        assert_eq!(
            checks, declared.truth.doctor,
            "{}: {report:#}",
            declared.name
        );
    });
}

#[test]
fn plan_binds_each_task_near_its_gpu() {
    for_each(|declared, root| {
        if declared.truth.gpus.is_empty() {
            return;
        }
        let name = &declared.name;
        let online = declared.online();
        let plan = document(declared, root, &["plan", "--json", "--option", "node"]);
        let tasks = plan["tasks"].as_array().unwrap();
        // A task for each part of a GPU that is divided.
        let gpu_of = |task: &Value| task["gpus"][0].as_str().unwrap().to_owned();
        let mut gpus: Vec<String> = tasks.iter().map(gpu_of).collect();
        gpus.dedup();
        // In which order is for `pages` and `frameworks`: that in which the vendors' programs count.
        gpus.sort();
        let places = declared.truth.gpus.iter();
        let expected: Vec<String> = places.map(|place| place.at.to_string()).collect();
        assert_eq!(gpus, expected, "{name}");
        for task in tasks {
            let mut places = declared.truth.gpus.iter();
            let place = places.find(|place| place.at.to_string() == gpu_of(task));
            let place = place.unwrap();
            // A GPU whose socket is offline has a node, and no CPU near it.
            let near = nodes(place);
            let mut cores = declared.cores.iter();
            let has_cpus = place.nodes.is_some()
                && cores.any(|group| {
                    let is_near = group.node.is_none_or(|node| near.contains(&node));
                    is_near && group.cpus.0.iter().any(|cpu| online.contains(cpu))
                });
            let expected = if has_cpus { "local" } else { "unbound" };
            assert_eq!(task["verdict"], expected, "{name}: {task}");
        }
    });
}

/// Pages and files come out whole, whatever the machine is.
#[test]
fn every_other_command_can_run() {
    for_each(|declared, root| {
        for arguments in [
            &["show"] as &[&str],
            &["show", "--svg", "-"],
            &["nccl", "emit", "--explain"],
        ] {
            let output = run(root, arguments);
            let stderr = String::from_utf8_lossy(&output.stderr);
            let code = output.status.code();
            assert!(
                matches!(code, Some(0 | 1)),
                "{} {arguments:?}: {stderr}",
                declared.name
            );
            let is_silent = output.stdout.is_empty() && output.stderr.is_empty();
            assert!(!is_silent, "{} {arguments:?} says nothing", declared.name);
        }
    });
}
