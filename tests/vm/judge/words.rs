//! Each task's report against what it saw, and with it every line that was printed.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::input::{Machine, Shape, Task};
use crate::lines::{Told, judge_lines};
use crate::set::{bits, parse_set, show_set};
use crate::step::Judged;

/// Every line that was printed, and each task's report, against what the tasks saw.
pub(crate) fn judge_words(
    machine: &Machine,
    shape: &Shape,
    judged: &Judged,
    tasks: &[&Task],
    before: &[&Task],
    done: &[&Task],
    users: &[Vec<String>],
) -> Vec<String> {
    let mut wrong = Vec::new();
    if shape.is_dry_run() && done.len() != tasks.len() {
        let counts = (done.len(), tasks.len());
        return vec![format!("{counts:?} tasks without none and with it")];
    }
    for (task, seen) in tasks.iter().enumerate() {
        let Some(report) = seen.report() else {
            if !shape.is_dry_run() {
                wrong.push(format!("task {task} has no report"));
            }
            continue;
        };
        let text = |key: &str| {
            report
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        if parse_set(&text("cpus")) != seen.cpus() {
            wrong.push(format!(
                "task {task}: the report says CPUs {}, it has {}",
                text("cpus"),
                seen.get("cpus")
            ));
        }
        let memory = report.get("memory").cloned().unwrap_or_default();
        let policy = memory
            .get("policy")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let nodes = memory
            .get("nodes")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if policy != seen.get("policy") || parse_set(nodes) != parse_set(seen.get("policy_nodes")) {
            let has = (seen.get("policy"), seen.get("policy_nodes"));
            wrong.push(format!(
                "task {task}: the report says memory {policy} {nodes}, it has {has:?}"
            ));
        }
        let gpus: Vec<&str> = report
            .get("gpus")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if gpus != users[task].iter().map(String::as_str).collect::<Vec<_>>() {
            wrong.push(format!(
                "task {task}: the report says GPUs {gpus:?}, it uses {:?}",
                users[task]
            ));
        }
        let (verdict, message) = (text("verdict"), text("message"));
        let (cpus, near) = (seen.cpus(), machine.cpus(&judged.nodes[task]));
        let each = judged.nodes[task]
            .iter()
            .all(|node| machine.cpus(&BTreeSet::from([*node])) & cpus != 0);
        let is_true = match verdict.as_str() {
            "local" => cpus & !near == 0,
            "spanning" => cpus & !near == 0 && judged.nodes[task].len() > 1 && each,
            "partial" => cpus & near != 0 && (cpus & !near != 0 || !each),
            "remote" => cpus & near == 0,
            _ => true,
        };
        if !is_true {
            wrong.push(format!(
                "task {task}: \"{verdict}\" of CPUs {} near {}: {message}",
                show_set(cpus),
                show_set(near)
            ));
        }
        let own: BTreeSet<u32> = judged.nodes[task]
            .iter()
            .map(|node| machine.memory_of(*node))
            .collect();
        let named: BTreeSet<u32> = bits(parse_set(seen.get("policy_nodes"))).collect();
        let elsewhere = seen.get("policy") == "bind" && named.is_disjoint(&own);
        if message.ends_with(": local") && elsewhere {
            wrong.push(format!(
                "task {task}: \"{message}\" with memory bound to nodes {named:?}"
            ));
        }
    }
    let told = Told {
        machine,
        shape,
        judged,
        named: tasks,
        // What would be done is what is done without none.
        tasks: if shape.is_dry_run() { done } else { tasks },
        before,
        users,
    };
    judge_lines(&told, &mut wrong);
    wrong
}
