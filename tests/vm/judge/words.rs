//! Every line that was printed, and each task's report, against what the tasks saw.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::input::{Machine, Shape, Task};
use crate::set::{Set, bits, ones, parse_set, show_set};
use crate::step::Judged;

/// Every line that was printed, and each task's report, against what the tasks saw.
pub(crate) fn judge_words(
    machine: &Machine,
    shape: &Shape,
    judged: &Judged,
    tasks: &[&Task],
    users: &[Vec<String>],
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (task, seen) in tasks.iter().enumerate() {
        let Some(report) = seen.report() else {
            if shape.items != "none" {
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
    for line in shape
        .bound
        .said
        .iter()
        .filter_map(|line| line.split_once("gpu-numa-bind: ").map(|(_, line)| line))
    {
        // Lines of one of several steps name it.
        let named = line
            .split_once(" step ")
            .and_then(|(_, rest)| rest.split_once('.'))
            .map(|(_, rest)| rest.split([':', ' ']).next().unwrap_or(""));
        let own = tasks.first().map_or("-", |task| task.get("stepid"));
        if named.is_none_or(|named| named == own || named == "batch" && own == "-") {
            judge_line(machine, judged, tasks, line, &mut wrong);
        }
    }
    wrong
}

/// The number before `words` in `line`.
fn number_before(line: &str, words: &str) -> Option<usize> {
    let (before, _) = line.split_once(words)?;
    before
        .rsplit(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

fn judge_line(
    machine: &Machine,
    judged: &Judged,
    tasks: &[&Task],
    line: &str,
    wrong: &mut Vec<String>,
) {
    let has: Vec<Set> = tasks.iter().map(|task| task.cpus()).collect();
    // Several steps of one job speak on one terminal: a line of another step counts other tasks.
    let is_by_socket = line.contains(" GPUs' sockets");
    let what = if is_by_socket { "sockets" } else { "CPUs" };
    let all = number_before(line, &format!(" tasks on their GPUs' {what}"))
        .or_else(|| number_before(line, &format!(" task on its GPUs' {what}")));
    let Some(counted) = all else { return };
    let whole = |task: usize| {
        let mut near = machine.cpus(&judged.nodes[task]);
        if is_by_socket {
            near = machine.cpus_of_packages(near);
        }
        has[task] & !near == 0 && has[task] != 0
    };
    let each = |task: usize| {
        is_by_socket
            || judged.nodes[task]
                .iter()
                .all(|node| machine.cpus(&BTreeSet::from([*node])) & has[task] != 0)
    };
    let local = (0..has.len())
        .filter(|task| whole(*task) && each(*task))
        .count();
    let said_local = match number_before(line, &format!(" of {counted} task")) {
        Some(some) => some,
        None => counted,
    };
    if counted != has.len() || said_local != local {
        wrong.push(format!("\"{line}\": {local} of {} tasks are", has.len()));
    }
    let far: Vec<usize> = (0..has.len())
        .filter(|task| {
            let near = machine.cpus(&judged.nodes[*task]);
            let verdict = tasks[*task].report();
            let is_remote = verdict.is_some_and(|report| report["verdict"] == "remote");
            is_remote && near & has[*task] == 0
        })
        .collect();
    let parts = line.split("; ");
    let named: Vec<usize> = parts
        .filter_map(|part| {
            part.strip_prefix("task")?
                .split_once(": no CPU left on node")
        })
        .flat_map(|(tasks, _)| tasks.split(|c: char| !c.is_ascii_digit()))
        .filter_map(|task| task.parse().ok())
        .collect();
    if far
        != named
            .iter()
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    {
        wrong.push(format!(
            "\"{line}\": tasks {far:?} have no CPU near their GPUs"
        ));
    }
    if let Some((_, rest)) = line.split_once("(node") {
        let list = rest
            .trim_start_matches('s')
            .split(')')
            .next()
            .unwrap_or("")
            .trim();
        let said: Vec<Set> = list.split(' ').map(parse_set).collect();
        let real: Vec<Set> = judged
            .nodes
            .iter()
            .map(|nodes| nodes.iter().fold(0, |all, node| all | 1 << node))
            .collect();
        if !list.ends_with("...") && said != real {
            wrong.push(format!("\"{line}\": the GPUs' nodes are {real:?}"));
        }
    }
    let (fewest, most) = (
        has.iter().map(|set| ones(*set)).min(),
        has.iter().map(|set| ones(*set)).max(),
    );
    let tail = line.rsplit("), ").next().unwrap_or("");
    let numbers: Vec<usize> = tail
        .split(';')
        .next()
        .unwrap_or("")
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    if let (Some(first), Some(last)) = (numbers.first(), numbers.last())
        && (Some(*first), Some(*last)) != (fewest, most)
    {
        wrong.push(format!(
            "\"{line}\": tasks have {fewest:?} to {most:?} CPUs"
        ));
    }
}
