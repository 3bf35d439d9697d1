//! What `gpu-numa plan` says of the same tasks on the same machine.

use std::process::Command;

use serde_json::Value;

use crate::input::{Shape, Task};
use crate::set::{Set, parse_set, show_set};
use crate::step::Judged;

/// `gpu-numa plan` on the same machine, for the same tasks.
pub(crate) fn judge_plan(
    shape: &Shape,
    judged: &Judged,
    tasks: &[&Task],
    before: &[&Task],
    snapshot: &str,
) -> Vec<String> {
    if !matches!(shape.expect.as_str(), "best" | "fits" | "near" | "kept")
        || shape.name.contains("--cpu-bind")
        || shape.name.contains("--mem-bind")
    {
        return Vec::new();
    }
    let Some(program) = std::env::var_os("GPU_NUMA_CLI") else {
        return Vec::new();
    };
    let mut command = Command::new(program);
    command.args([
        "plan",
        "--from",
        snapshot,
        "--json",
        "--kernel",
        "6.1",
        "--overcommit",
        "--allowed",
        &show_set(judged.step),
    ]);
    command.args(["--cpus-per-task", &shape.asked.to_string()]);
    if shape.items != "-" {
        command.args(["--option", &shape.items]);
    }
    for (task, was) in tasks.iter().zip(before) {
        command.args([
            "--gpus",
            &task.visible().join(","),
            "--mask",
            was.get("cpus"),
        ]);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return vec![error.to_string()],
    };
    let Ok(plan) = serde_json::from_slice::<Value>(&output.stdout) else {
        return vec![String::from_utf8_lossy(&output.stderr).trim().to_owned()];
    };
    let planned: Vec<Set> = plan
        .get("tasks")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|task| parse_set(task.get("cpus").and_then(Value::as_str).unwrap_or_default()))
        .collect();
    let has: Vec<Set> = tasks.iter().map(|task| task.cpus()).collect();
    if planned == has {
        return Vec::new();
    }
    let lists = |sets: &[Set]| {
        sets.iter()
            .map(|set| show_set(*set))
            .collect::<Vec<_>>()
            .join(" | ")
    };
    vec![format!("planned {}, has {}", lists(&planned), lists(&has))]
}
