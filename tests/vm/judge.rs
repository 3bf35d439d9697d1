//! Judges what `run-table` printed: each shape's tasks against brute force, against Slurm alone, against what was said
//! of them and against `gpu-numa plan`.
//!
//!   judge-shapes FILE        GPU_NUMA_CLI: the program for `plan`; without it that is left out
//!
//! It knows nothing of our crates: the machine is what /sys said, the tasks are what tests/probe saw in them.  Prints
//! TAP-like lines and "N passed, M failed".

#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test program of its own: it prints TAP, and a panic is a failed test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::{Command, ExitCode};

use serde_json::Value;

/// A set of up to 64 CPUs or nodes.
type Set = u64;

fn parse_set(list: &str) -> Set {
    let mut set = 0;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            for bit in first..=last.min(63) {
                set |= 1 << bit;
            }
        }
    }
    set
}

fn show_set(set: Set) -> String {
    let mut parts = Vec::new();
    let mut bit = 0;
    while bit < 64 {
        if set >> bit & 1 == 1 {
            let first = bit;
            while bit < 63 && set >> (bit + 1) & 1 == 1 {
                bit += 1;
            }
            parts.push(match bit - first {
                0 => first.to_string(),
                _ => format!("{first}-{bit}"),
            });
        }
        bit += 1;
    }
    if parts.is_empty() {
        "-".to_owned()
    } else {
        parts.join(",")
    }
}

fn ones(set: Set) -> usize {
    set.count_ones() as usize
}

fn bits(set: Set) -> impl Iterator<Item = u32> {
    (0..64).filter(move |bit| set >> bit & 1 == 1)
}

/// The machine, by /sys.
#[derive(Default)]
struct Machine {
    /// CPUs, whether it has memory, distances to each node.
    nodes: BTreeMap<u32, (Set, bool, Vec<u32>)>,
    package_of: BTreeMap<u32, u32>,
    cores: BTreeSet<Set>,
    /// GPU and its node, in PCI order; none where /sys does not say.
    gpus: Vec<(String, Option<u32>)>,
}

impl Machine {
    fn node_of(&self, gpu: &str) -> Option<u32> {
        self.gpus.iter().find(|(address, _)| address == gpu)?.1
    }

    fn cpus(&self, nodes: &BTreeSet<u32>) -> Set {
        nodes
            .iter()
            .filter_map(|node| self.nodes.get(node))
            .fold(0, |all, node| all | node.0)
    }

    /// The node whose memory serves `node`.
    fn memory_of(&self, node: u32) -> u32 {
        let Some((_, has_memory, distances)) = self.nodes.get(&node) else {
            return node;
        };
        if *has_memory {
            return node;
        }
        let with = self
            .nodes
            .iter()
            .filter(|(_, other)| other.1 && other.0 != 0);
        with.min_by_key(|(other, _)| distances.get(**other as usize).copied().unwrap_or(u32::MAX))
            .map_or(node, |(other, _)| *other)
    }

    fn nodes_of(&self, cpus: Set) -> BTreeSet<u32> {
        self.nodes
            .iter()
            .filter(|(_, node)| node.0 & cpus != 0)
            .map(|(id, _)| *id)
            .collect()
    }

    fn packages_of(&self, cpus: Set) -> BTreeSet<u32> {
        bits(cpus)
            .filter_map(|cpu| self.package_of.get(&cpu))
            .copied()
            .collect()
    }
}

/// What one task saw.
#[derive(Clone, Default)]
struct Task(BTreeMap<String, String>);

impl Task {
    fn parse(line: &str) -> Self {
        let words = line.split(' ').filter_map(|word| word.split_once('='));
        Self(
            words
                .map(|(key, value)| (key.to_owned(), unescape(value)))
                .collect(),
        )
    }

    fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("-", String::as_str)
    }

    fn cpus(&self) -> Set {
        parse_set(self.get("cpus"))
    }

    /// The GPUs that CUDA would number for it.
    fn visible(&self) -> Vec<String> {
        let open: Vec<&str> = self
            .get("opens")
            .split(',')
            .filter(|gpu| *gpu != "-")
            .collect();
        let pick = |index: &str| {
            open.get(index.parse::<usize>().ok()?)
                .map(|gpu| (*gpu).to_owned())
        };
        match self.get("cvd") {
            "-" => open.iter().map(|gpu| (*gpu).to_owned()).collect(),
            list => list.split(',').filter_map(pick).collect(),
        }
    }

    fn report(&self) -> Option<Value> {
        serde_json::from_str(self.get("report")).ok()
    }
}

fn unescape(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%'
            && let (Some(high), Some(low)) = (rest.next(), rest.next())
        {
            let hex = [high, low];
            let text = std::str::from_utf8(&hex).unwrap_or("20");
            bytes.push(u8::from_str_radix(text, 16).unwrap_or(b' '));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One launch.
#[derive(Default)]
struct Launch {
    status: i32,
    /// By step, then by local task.
    steps: BTreeMap<String, BTreeMap<usize, Task>>,
    said: Vec<String>,
}

/// One line of the table.
#[derive(Default)]
struct Shape {
    name: String,
    asked: usize,
    expect: String,
    items: String,
    slurm: String,
    /// CPUs of another job.
    held: Set,
    alone: Launch,
    bound: Launch,
}

#[derive(Default)]
struct Input {
    machine: Machine,
    shapes: Vec<Shape>,
    snapshot: Option<String>,
    is_finished: bool,
}

fn read(text: &str) -> Input {
    let mut input = Input::default();
    let mut is_bound = false;
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let fields: Vec<&str> = rest.split(' ').collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or("");
        match word {
            "@node" => {
                let distances = fields
                    .iter()
                    .skip(3)
                    .filter_map(|d| d.parse().ok())
                    .collect();
                let node = (parse_set(field(1)), field(2) == "1", distances);
                input
                    .machine
                    .nodes
                    .insert(field(0).parse().unwrap_or(0), node);
            }
            "@cpu" => {
                let cpu = field(0).parse().unwrap_or(0);
                input
                    .machine
                    .package_of
                    .insert(cpu, field(1).parse().unwrap_or(0));
                input.machine.cores.insert(parse_set(field(2)));
            }
            "@gpu" => input
                .machine
                .gpus
                .push((field(0).to_owned(), field(1).parse().ok())),
            "@shape" => {
                let columns: Vec<&str> = rest.splitn(6, '|').collect();
                let column = |index: usize| columns.get(index).copied().unwrap_or("").to_owned();
                input.shapes.push(Shape {
                    slurm: column(1),
                    asked: column(2).parse().unwrap_or(1),
                    expect: column(3),
                    items: column(4),
                    name: column(5),
                    ..Shape::default()
                });
            }
            "@held" => {
                if let Some(shape) = input.shapes.last_mut() {
                    shape.held = parse_set(rest);
                }
            }
            "@snapshot" => input.snapshot = Some(rest.to_owned()),
            "@finished" => input.is_finished = true,
            "@alone" | "@bound" => {
                is_bound = word == "@bound";
                if let Some(shape) = input.shapes.last_mut() {
                    let launch = if is_bound {
                        &mut shape.bound
                    } else {
                        &mut shape.alone
                    };
                    launch.status = field(0).parse().unwrap_or(-1);
                }
            }
            _ => {
                let Some(shape) = input.shapes.last_mut() else {
                    continue;
                };
                let launch = if is_bound {
                    &mut shape.bound
                } else {
                    &mut shape.alone
                };
                if word == "@err" {
                    launch.said.push(rest.to_owned());
                } else if line.starts_with("task=") {
                    let task = Task::parse(line);
                    let id = task.get("task").parse().unwrap_or(0);
                    launch
                        .steps
                        .entry(task.get("stepid").to_owned())
                        .or_default()
                        .insert(id, task);
                }
            }
        }
    }
    input
}

/// What a step's tasks should be near.
struct Judged {
    /// The nodes of each task's GPUs; empty where unknown.
    nodes: Vec<BTreeSet<u32>>,
    near: Vec<Set>,
    step: Set,
}

/// The GPUs that each task is taken to use.
fn used(tasks: &[&Task], items: &str) -> Vec<Vec<String>> {
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

/// How good the CPUs of a step's tasks are, best first: CPUs as asked, local CPUs, tasks wholly local with a CPU near each
/// of their GPUs, tasks on one node, tasks on one package.
fn score(machine: &Machine, judged: &Judged, asked: usize, has: &[Set]) -> [usize; 5] {
    let mut score = [0; 5];
    let tasks = has.iter().zip(&judged.near).zip(&judged.nodes);
    // A CPU that two tasks have counts once.
    let mut taken = 0;
    for ((cpus, near), nodes) in tasks.filter(|(_, nodes)| !nodes.is_empty()) {
        let each = nodes.iter().all(|node| {
            machine
                .nodes
                .get(node)
                .is_some_and(|node| node.0 & cpus != 0)
        });
        score[0] += ones(*cpus).min(asked);
        score[1] += ones(cpus & near & !taken);
        taken |= cpus & near;
        score[2] += usize::from(*cpus != 0 && cpus & !near == 0 && each);
        score[3] += usize::from(machine.nodes_of(*cpus).len() == 1);
        score[4] += usize::from(machine.packages_of(*cpus).len() == 1);
    }
    score
}

/// The best score of all disjoint assignments of the step's CPUs to its tasks.
///
/// CPUs of a node are alike for the score, so only how many each task has of each node counts.
fn best(machine: &Machine, judged: &Judged, asked: usize) -> [usize; 5] {
    let placed: Vec<usize> = (0..judged.nodes.len())
        .filter(|task| !judged.nodes[*task].is_empty())
        .collect();
    let cells: Vec<(u32, usize)> = machine
        .nodes
        .iter()
        .map(|(id, node)| (*id, ones(node.0 & judged.step)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let mut given = vec![vec![0usize; cells.len()]; placed.len()];
    let mut best = [0; 5];
    search(
        machine, judged, asked, &placed, &cells, 0, 0, &mut given, &mut best,
    );
    best
}

#[allow(clippy::too_many_arguments, reason = "a recursion over two indexes")]
fn search(
    machine: &Machine,
    judged: &Judged,
    asked: usize,
    placed: &[usize],
    cells: &[(u32, usize)],
    cell: usize,
    task: usize,
    given: &mut Vec<Vec<usize>>,
    best: &mut [usize; 5],
) {
    let Some((node, count)) = cells.get(cell) else {
        *best = (*best).max(score_counts(machine, judged, asked, placed, cells, given));
        return;
    };
    if task == placed.len() {
        search(
            machine,
            judged,
            asked,
            placed,
            cells,
            cell + 1,
            0,
            given,
            best,
        );
        return;
    }
    let taken: usize = given.iter().map(|row| row[cell]).sum();
    let is_near = judged.nodes[placed[task]].contains(node);
    let left = count - taken;
    // What is not local is taken only as far as it was asked for.
    let most = if is_near { left } else { left.min(asked) };
    for some in 0..=most {
        given[task][cell] = some;
        search(
            machine,
            judged,
            asked,
            placed,
            cells,
            cell,
            task + 1,
            given,
            best,
        );
    }
    given[task][cell] = 0;
}

fn score_counts(
    machine: &Machine,
    judged: &Judged,
    asked: usize,
    placed: &[usize],
    cells: &[(u32, usize)],
    given: &[Vec<usize>],
) -> [usize; 5] {
    let mut score = [0; 5];
    for (row, task) in given.iter().zip(placed) {
        let nodes = &judged.nodes[*task];
        let all: usize = row.iter().sum();
        let local: usize = row
            .iter()
            .zip(cells)
            .filter(|(_, cell)| nodes.contains(&cell.0))
            .map(|(n, _)| n)
            .sum();
        let on: Vec<u32> = row
            .iter()
            .zip(cells)
            .filter(|(n, _)| **n > 0)
            .map(|(_, cell)| cell.0)
            .collect();
        let package = |node: &u32| {
            let cpus = machine.nodes.get(node).map_or(0, |node| node.0);
            machine.packages_of(cpus).into_iter().next()
        };
        let packages: BTreeSet<Option<u32>> = on.iter().map(package).collect();
        score[0] += all.min(asked);
        score[1] += local;
        // Each of its GPUs' nodes has a CPU of it.
        let each = nodes.iter().all(|node| on.contains(node));
        score[2] += usize::from(all > 0 && local == all && each);
        score[3] += usize::from(on.len() == 1);
        score[4] += usize::from(packages.len() == 1);
    }
    score
}

struct Tally {
    passed: usize,
    failed: usize,
    text: String,
}

impl Tally {
    fn check(&mut self, name: &str, what: &str, wrong: &[String]) {
        if wrong.is_empty() {
            self.passed += 1;
            let _ = writeln!(self.text, "ok - {name}: {what}");
        } else {
            self.failed += 1;
            let _ = writeln!(self.text, "not ok - {name}: {what} ({})", wrong.join("; "));
        }
    }
}

fn judge_step(
    machine: &Machine,
    shape: &Shape,
    step: &str,
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
    // Steps of two launches of one script are told apart by their number.
    let empty = BTreeMap::new();
    let alone = shape.alone.steps.get(step).unwrap_or(&empty);
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
    let users = used(&tasks, &shape.items);
    let nodes: Vec<BTreeSet<u32>> = users
        .iter()
        .map(|gpus| {
            let known: Option<BTreeSet<u32>> =
                gpus.iter().map(|gpu| machine.node_of(gpu)).collect();
            known.unwrap_or_default()
        })
        .collect();
    // Slurm's own masks are the step's where cores are not fenced.
    let masks = before.iter().fold(0, |all, task| all | task.cpus());
    let cpuset = tasks
        .iter()
        .fold(0, |all, task| all | parse_set(task.get("cpuset")));
    let is_fenced =
        !shape.slurm.contains("CONSTRAIN_CORES=no") && !shape.slurm.contains("task/affinity");
    // Under task/none nobody fences: the step's are those that another job has not.
    let step_cpus = if is_fenced { cpuset } else { masks } & !shape.held;
    let step_cpus = without_idle_threads(machine, step_cpus, masks);
    let judged = Judged {
        near: nodes
            .iter()
            .map(|nodes| machine.cpus(nodes) & step_cpus)
            .collect(),
        nodes,
        step: step_cpus,
    };
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

    let got = score(machine, &judged, shape.asked, &has);
    let before_score = score(machine, &judged, shape.asked, &had);
    let mut wrong = Vec::new();
    match shape.expect.as_str() {
        "best" | "follows" => {
            let best = best(machine, &judged, shape.asked);
            if got < best {
                wrong.push(format!("{got:?}, possible {best:?}; {facts}"));
            }
            if got < before_score && disjoint(&had) {
                wrong.push(format!("{got:?}, Slurm alone {before_score:?}; {facts}"));
            }
            if !disjoint(&has) && ones(judged.step) >= has.len() {
                wrong.push(format!("tasks share CPUs; {facts}"));
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
        &judge_words(machine, shape, &judged, &tasks, &users),
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
    }
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

fn disjoint(sets: &[Set]) -> bool {
    let union = sets.iter().fold(0, |all, set| all | set);
    sets.iter().map(|set| ones(*set)).sum::<usize>() == ones(union)
}

/// Where the pages that a task touched lie, against `nodes`.
fn pages_on(task: &Task, nodes: &BTreeSet<u32>) -> (usize, usize) {
    let mut counts = (0, 0);
    for part in task.get("pages").split(',') {
        let Some((node, pages)) = part.split_once(':') else {
            continue;
        };
        let pages: usize = pages.parse().unwrap_or(0);
        counts.1 += pages;
        if node.parse().is_ok_and(|node| nodes.contains(&node)) {
            counts.0 += pages;
        }
    }
    counts
}

fn judge_memory(
    machine: &Machine,
    shape: &Shape,
    judged: &Judged,
    tasks: &[&Task],
    before: &[&Task],
) -> Vec<String> {
    let mut wrong = Vec::new();
    let usable: BTreeSet<u32> = machine
        .nodes
        .iter()
        .filter(|(_, node)| node.1 && node.0 != 0)
        .map(|(id, _)| *id)
        .collect();
    for (task, (now, was)) in tasks.iter().zip(before).enumerate() {
        let wanted: BTreeSet<u32> = judged.nodes[task]
            .iter()
            .map(|node| machine.memory_of(*node))
            .collect();
        let policy = (now.get("policy"), now.get("policy_nodes"));
        let had = (was.get("policy"), was.get("policy_nodes"));
        let named: BTreeSet<u32> = bits(parse_set(policy.1)).collect();
        if shape.name.contains("--mem-bind") && shape.expect == "kept" || shape.expect == "stays" {
            if policy != had {
                wrong.push(format!(
                    "task {task}: the user's policy {had:?} became {policy:?}"
                ));
            }
            continue;
        }
        if shape.expect == "follows" {
            let own = machine.nodes_of(now.cpus());
            if policy.0 != "bind" || named != own {
                wrong.push(format!(
                    "task {task} has policy {policy:?}, its CPUs are on nodes {own:?}"
                ));
            }
        } else if shape.expect != "touched" && judged.near[task] != 0 {
            let is_all = wanted == usable;
            if is_all && policy.0 != "default"
                || !is_all && (policy.0 != "preferred-many" || named != wanted)
            {
                wrong.push(format!(
                    "task {task} has policy {policy:?}, its GPUs' memory is on {wanted:?}"
                ));
            }
        }
        let (on, all) = pages_on(now, &wanted);
        let (on_before, all_before) = pages_on(was, &wanted);
        if shape.expect != "touched"
            && judged.near[task] != 0
            && on + 64 < all
            && on * all_before.max(1) < on_before * all.max(1)
        {
            wrong.push(format!(
                "task {task}: {on} of {all} pages near its GPUs, under Slurm alone {on_before}"
            ));
        }
        if shape.expect == "best" && judged.near[task] != 0 && on + 64 < all {
            wrong.push(format!(
                "task {task}: {on} of {all} pages near its GPUs (nodes {wanted:?})"
            ));
        }
    }
    wrong
}

/// Every line that was printed, and each task's report, against what the tasks saw.
fn judge_words(
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
    let all = number_before(line, " tasks on their GPUs' CPUs")
        .or_else(|| number_before(line, " task on its GPUs' CPUs"));
    let Some(counted) = all else { return };
    let whole = |task: usize| {
        let near = machine.cpus(&judged.nodes[task]);
        has[task] & !near == 0 && has[task] != 0
    };
    let each = |task: usize| {
        judged.nodes[task]
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

/// `gpu-numa plan` on the same machine, for the same tasks.
fn judge_plan(
    shape: &Shape,
    judged: &Judged,
    tasks: &[&Task],
    before: &[&Task],
    snapshot: &str,
) -> Vec<String> {
    if !matches!(shape.expect.as_str(), "best" | "near" | "kept")
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

fn judge_shape(
    machine: &Machine,
    shape: &Shape,
    tally: &mut Tally,
    snapshot: Option<&str>,
    input_ends: bool,
) {
    if shape.alone.status != 0 {
        let _ = writeln!(
            tally.text,
            "ok - {} [{}] # SKIP Slurm alone refuses it: {}",
            shape.name,
            shape.slurm,
            shape.alone.said.first().cloned().unwrap_or_default()
        );
        return;
    }
    if shape.expect == "refused" {
        let ran = !shape.bound.steps.is_empty();
        let said = shape.bound.said.iter().any(|line| line.contains("refused"));
        let wrong = if ran || shape.bound.status == 0 || !said {
            vec![format!(
                "status {}, tasks ran: {ran}, {:?}",
                shape.bound.status, shape.bound.said
            )]
        } else {
            Vec::new()
        };
        tally.check(
            &format!("{} ={}", shape.name, shape.items),
            "is refused",
            &wrong,
        );
        return;
    }
    if shape.bound.status != 0 || shape.bound.steps.is_empty() {
        let wrong = vec![format!(
            "status {}: {:?}",
            shape.bound.status, shape.bound.said
        )];
        if input_ends {
            return;
        }
        tally.check(&format!("{} [{}]", shape.name, shape.slurm), "runs", &wrong);
        return;
    }
    for (index, step) in shape.bound.steps.keys().enumerate() {
        judge_step(machine, shape, step, tally, snapshot, index);
    }
}

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("judge-shapes FILE");
        return ExitCode::from(2);
    };
    let text = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::from(2);
        }
    };
    let input = read(&text);
    let mut tally = Tally {
        passed: 0,
        failed: 0,
        text: String::new(),
    };
    let snapshot = input.snapshot.as_ref().map(|text| {
        let file = format!("{path}.node.json");
        let _ = std::fs::write(&file, text);
        file
    });
    for (index, shape) in input.shapes.iter().enumerate() {
        // The guest may have ended in the middle of the last.
        let ends = !input.is_finished && index + 1 == input.shapes.len();
        judge_shape(&input.machine, shape, &mut tally, snapshot.as_deref(), ends);
    }
    let end = if input.is_finished {
        Vec::new()
    } else {
        vec![format!("after {} shapes", input.shapes.len())]
    };
    tally.check(&path, "the guest finished", &end);
    print!("{}", tally.text);
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
