//! One step: its tasks' CPUs against brute force and Slurm alone, and what the other judges say of it.

use std::collections::{BTreeMap, BTreeSet};

use gpu_numa_tests::optimum::PARTS;

use crate::Tally;
use crate::input::{Launch, Machine, Shape, StepKey, Task};
use crate::memory::judge_memory;
use crate::order::Order;
use crate::plan::{is_exact, judge_exact, judge_plan};
use crate::policy::fits;
use crate::set::{Set, bits, disjoint, ones, parse_set, show_set};
use crate::words::judge_words;

/// What a step's tasks should be near.
pub(crate) struct Judged {
    /// The nodes of each task's GPUs; empty where unknown.
    pub(crate) nodes: Vec<BTreeSet<u32>>,
    /// The nodes of each of them, one by one.
    pub(crate) gpus: Vec<Vec<u32>>,
    pub(crate) near: Vec<Set>,
    pub(crate) step: Set,
}

impl Judged {
    /// Of a step whose tasks are `tasks`, `before` under Slurm alone, and use the GPUs `users`.
    pub(crate) fn new(
        machine: &Machine,
        shape: &Shape,
        tasks: &[&Task],
        before: &[&Task],
        users: &[Vec<String>],
    ) -> Self {
        let gpus: Vec<Vec<u32>> = users
            .iter()
            .map(|gpus| {
                let known: Option<Vec<u32>> = gpus.iter().map(|gpu| machine.node_of(gpu)).collect();
                known.unwrap_or_default()
            })
            .collect();
        let nodes: Vec<BTreeSet<u32>> = gpus
            .iter()
            .map(|nodes| nodes.iter().copied().collect())
            .collect();
        // Slurm's own masks are the step's where cores are not fenced.
        let masks = before.iter().fold(0, |all, task| all | task.cpus());
        let is_fenced =
            !shape.slurm.contains("CONSTRAIN_CORES=no") && !shape.slurm.contains("task/affinity");
        // Under task/none nobody fences: the step's are those that another job has not.
        let step = if is_fenced { cpuset_of(tasks) } else { masks } & !shape.held;
        let step = without_idle_threads(machine, step, masks);
        Self {
            near: nodes
                .iter()
                .map(|nodes| machine.cpus(nodes) & step)
                .collect(),
            nodes,
            gpus,
            step,
        }
    }
}

fn cpuset_of(tasks: &[&Task]) -> Set {
    tasks
        .iter()
        .fold(0, |all, task| all | parse_set(task.get("cpuset")))
}

/// The GPUs that each task is taken to use.
pub(crate) fn used(tasks: &[&Task], items: &str) -> Vec<Vec<String>> {
    let visible: Vec<Vec<String>> = tasks.iter().map(|task| task.visible()).collect();
    let first = visible.first().cloned().unwrap_or_default();
    let (n, g) = (visible.len(), first.len());
    let alike = visible.iter().all(|list| *list == first);
    if items.contains("map=visible") || n < 2 && !items.contains("map=localid") {
        return visible;
    }
    let one = |task: usize, list: &[String]| {
        list.get(task % list.len().max(1))
            .cloned()
            .into_iter()
            .collect::<Vec<_>>()
    };
    if items.contains("map=localid") {
        return visible
            .iter()
            .enumerate()
            .map(|(task, list)| one(task, list))
            .collect();
    }
    if !alike || g < 2 {
        return visible;
    }
    if g % n == 0 {
        let each = g / n;
        return (0..n)
            .map(|task| first[task * each..(task + 1) * each].to_vec())
            .collect();
    }
    (0..n).map(|task| one(task, &first)).collect()
}

pub(crate) fn judge_step(
    machine: &Machine,
    shape: &Shape,
    step: &StepKey,
    tally: &mut Tally,
    snapshot: Option<&str>,
    index: usize,
) {
    let name = if shape.slurm == "-" {
        shape.name.clone()
    } else {
        format!("{} [{}]", shape.name, shape.slurm)
    };
    let name = if shape.items == "-" {
        name
    } else {
        format!("{name} ={}", shape.items)
    };
    let name = if shape.bound.steps.len() > 1 {
        format!("{name}, step {index}")
    } else {
        name
    };
    let Some(bound) = shape.bound.steps.get(step) else {
        return;
    };
    let alone = same_step(shape, &shape.alone, step, bound);
    if alone.len() != bound.len() {
        tally.check(
            &name,
            "as many tasks as under Slurm alone",
            &[format!("{} and {}", alone.len(), bound.len())],
        );
        return;
    }
    let tasks: Vec<&Task> = bound.values().collect();
    let before: Vec<&Task> = alone.values().collect();
    let done = same_step(shape, &shape.done, step, bound);
    let done: Vec<&Task> = done.values().collect();
    let users = used(&tasks, &shape.items);
    let cpuset = cpuset_of(&tasks);
    let judged = Judged::new(machine, shape, &tasks, &before, &users);
    let has: Vec<Set> = tasks.iter().map(|task| task.cpus()).collect();
    let had: Vec<Set> = before.iter().map(|task| task.cpus()).collect();
    let lists = |sets: &[Set]| {
        sets.iter()
            .map(|set| show_set(*set))
            .collect::<Vec<_>>()
            .join(" | ")
    };
    let facts = format!(
        "has {}, Slurm alone {}, near {}",
        lists(&has),
        lists(&had),
        lists(&judged.near)
    );

    let mut wrong = Vec::new();
    for (task, cpus) in has.iter().enumerate() {
        // What Slurm itself left it with is not ours.
        let held = if had.get(task) == Some(cpus) {
            0
        } else {
            shape.held
        };
        if cpus & (!cpuset | held) != 0 || *cpus == 0 {
            wrong.push(format!(
                "task {task} has CPUs {} outside its step",
                show_set(*cpus)
            ));
        }
    }
    for (task, (a, b)) in before.iter().zip(&tasks).enumerate() {
        for key in ["opens", "minors", "cvd", "step_gpus", "fds", "mems"] {
            if a.get(key) != b.get(key) {
                wrong.push(format!(
                    "task {task}: {key} was {}, is {}",
                    a.get(key),
                    b.get(key)
                ));
            }
        }
    }
    tally.check(&name, "devices and limits are Slurm's", &wrong);

    let order = Order::new(machine, &judged, shape);
    let (got, before_score) = (order.merit(&has), order.merit(&had));
    let mut wrong = Vec::new();
    match shape.expect.as_str() {
        "best" | "follows" | "fits" => {
            if let Some(best) = order.best()
                && got < best
            {
                let first = (0..best.len()).find(|part| got[*part] != best[*part]);
                let what = first.map_or("", |part| PARTS[part]);
                wrong.push(format!("{what}: {got:?}, possible {best:?}; {facts}"));
            }
            if got < before_score && disjoint(&had) {
                wrong.push(format!("{got:?}, Slurm alone {before_score:?}; {facts}"));
            }
            if !disjoint(&has) && ones(judged.step) >= has.len() {
                wrong.push(format!("tasks share CPUs; {facts}"));
            }
            if shape.expect == "fits" && !fits(machine, shape, &judged) {
                wrong.push(format!("it should be refused; {facts}"));
            }
        }
        "kept" | "stays" if has != had => {
            wrong.push(format!("CPUs are not those of Slurm alone; {facts}"))
        }
        "near" => {
            for (task, (cpus, near)) in has.iter().zip(&judged.near).enumerate() {
                if cpus & near != *near {
                    wrong.push(format!("task {task} lacks CPUs near its GPUs; {facts}"));
                }
            }
        }
        _ => {}
    }
    tally.check(&name, "CPUs", &wrong);
    tally.check(
        &name,
        "memory",
        &judge_memory(machine, shape, &judged, &tasks, &before),
    );
    tally.check(
        &name,
        "what was said",
        &judge_words(machine, shape, &judged, &tasks, &before, &done, &users),
    );
    if let Some(snapshot) = snapshot
        && shape.expect != "touched"
        && !shape.name.contains(" -O")
    {
        tally.check(
            &name,
            "plan predicts it",
            &judge_plan(shape, &judged, &tasks, &before, snapshot),
        );
        if is_exact(shape) {
            tally.check(
                &name,
                "plan --exact predicts it",
                &judge_exact(shape, &tasks, &before, snapshot, &machine.slurm),
            );
        }
    }
}

/// The tasks of the same step in another launch of the shape; none where it has none.
///
/// Of steps that start side by side each takes what the others left, by chance: there it is the one with the same
/// GPUs and CPUs, if there is one.
fn same_step<'s>(
    shape: &Shape,
    launch: &'s Launch,
    step: &StepKey,
    tasks: &BTreeMap<usize, Task>,
) -> &'s BTreeMap<usize, Task> {
    static NONE: BTreeMap<usize, Task> = BTreeMap::new();
    let given = |tasks: &BTreeMap<usize, Task>| {
        let keys = ["opens", "cvd", "cpuset"];
        let of = |task: &Task| keys.map(|key| task.get(key).to_owned());
        tasks.values().map(of).collect::<Vec<_>>()
    };
    let by_name = launch.steps.get(step).unwrap_or(&NONE);
    if !shape.name.contains(" & ") || given(by_name) == given(tasks) {
        return by_name;
    }
    let mut others = launch.steps.values();
    others
        .find(|other| given(other) == given(tasks))
        .unwrap_or(by_name)
}

/// A second thread that no mask has is never used (`--hint=nomultithread`).
fn without_idle_threads(machine: &Machine, step: Set, masks: Set) -> Set {
    let most = machine
        .cores
        .iter()
        .map(|core| ones(core & masks))
        .max()
        .unwrap_or(0);
    let mut kept = 0;
    for core in &machine.cores {
        let mine = core & masks;
        kept |= if mine != 0 {
            mine & step
        } else {
            bits(core & step)
                .take(most)
                .fold(0, |all, cpu| all | 1 << cpu)
        };
    }
    kept
}
