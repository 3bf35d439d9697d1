//! What `run-table` printed: the machine, and what each launch's tasks saw and said.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::set::{Set, bits, parse_set};

/// The machine, by /sys.
#[derive(Default)]
pub(crate) struct Machine {
    /// CPUs, whether it has memory, distances to each node.
    pub(crate) nodes: BTreeMap<u32, (Set, bool, Vec<u32>)>,
    pub(crate) package_of: BTreeMap<u32, u32>,
    pub(crate) cores: BTreeSet<Set>,
    /// What is below each last-level cache.
    pub(crate) caches: BTreeSet<Set>,
    /// GPU and its node, in PCI order; none where /sys does not say.
    pub(crate) gpus: Vec<(String, Option<u32>)>,
    /// What `slurmctld -V` says.
    pub(crate) slurm: String,
}

impl Machine {
    pub(crate) fn node_of(&self, gpu: &str) -> Option<u32> {
        self.gpus.iter().find(|(address, _)| address == gpu)?.1
    }

    pub(crate) fn cpus(&self, nodes: &BTreeSet<u32>) -> Set {
        nodes
            .iter()
            .filter_map(|node| self.nodes.get(node))
            .fold(0, |all, node| all | node.0)
    }

    /// The node whose memory serves `node`.
    pub(crate) fn memory_of(&self, node: u32) -> u32 {
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

    pub(crate) fn nodes_of(&self, cpus: Set) -> BTreeSet<u32> {
        self.nodes
            .iter()
            .filter(|(_, node)| node.0 & cpus != 0)
            .map(|(id, _)| *id)
            .collect()
    }

    /// The CPUs of the packages that `cpus` are of.
    pub(crate) fn cpus_of_packages(&self, cpus: Set) -> Set {
        let packages: BTreeSet<&u32> = bits(cpus)
            .filter_map(|cpu| self.package_of.get(&cpu))
            .collect();
        let all = self.package_of.iter();
        all.filter(|(_, package)| packages.contains(package))
            .fold(0, |all, (cpu, _)| all | 1 << cpu)
    }
}

/// What one task saw.
#[derive(Clone, Default)]
pub(crate) struct Task(BTreeMap<String, String>);

impl Task {
    pub(crate) fn parse(line: &str) -> Self {
        let words = line.split(' ').filter_map(|word| word.split_once('='));
        Self(
            words
                .map(|(key, value)| (key.to_owned(), unescape(value)))
                .collect(),
        )
    }

    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("-", String::as_str)
    }

    pub(crate) fn cpus(&self) -> Set {
        parse_set(self.get("cpus"))
    }

    /// The GPUs that CUDA would number for it.
    pub(crate) fn visible(&self) -> Vec<String> {
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

    pub(crate) fn report(&self) -> Option<Value> {
        serde_json::from_str(self.get("report")).ok()
    }
}

pub(crate) fn unescape(value: &str) -> String {
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
pub(crate) struct Launch {
    pub(crate) status: i32,
    /// By local task: jobs of an array have steps of one number.
    pub(crate) steps: BTreeMap<StepKey, BTreeMap<usize, Task>>,
    pub(crate) said: Vec<String>,
}

/// One step on one node, by what is the same in two launches of one line.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StepKey {
    job: usize,
    /// Which probe of the line its tasks ran: steps that start side by side get their numbers from Slurm by chance.
    label: String,
    /// Slurm's number of the step among those of its label; [`Launch::number`] makes it count from 0.
    step: usize,
    node: String,
}

impl Launch {
    /// Gives its jobs numbers from 0, and the steps of one label, so that those of two launches can be compared.
    fn number(&mut self) {
        let keys: Vec<StepKey> = self.steps.keys().cloned().collect();
        let jobs: BTreeSet<usize> = keys.iter().map(|key| key.job).collect();
        let number = |key: StepKey| {
            let alike = |other: &&StepKey| {
                (other.job, &other.label, &other.node) == (key.job, &key.label, &key.node)
            };
            let step = keys
                .iter()
                .filter(alike)
                .filter(|other| **other < key)
                .count();
            let job = jobs.iter().position(|job| *job == key.job).unwrap_or(0);
            StepKey { job, step, ..key }
        };
        let steps = std::mem::take(&mut self.steps).into_iter();
        self.steps = steps.map(|(key, tasks)| (number(key), tasks)).collect();
    }
}

/// One line of the table.
#[derive(Default)]
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) asked: usize,
    pub(crate) expect: String,
    pub(crate) items: String,
    pub(crate) slurm: String,
    /// CPUs of another job.
    pub(crate) held: Set,
    pub(crate) alone: Launch,
    pub(crate) bound: Launch,
    /// Under the policy `none`: the same without it, which shows what `none` says would be done.
    pub(crate) done: Launch,
    /// The ways that were advised, and the same launch by each.
    pub(crate) tried: Vec<(String, Launch)>,
}

impl Shape {
    /// Whether the policy is `none`.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.items.split(',').any(|item| item == "none")
    }

    fn launch(&mut self, name: &str) -> &mut Launch {
        match (name, self.tried.last_mut()) {
            ("@alone", _) => &mut self.alone,
            ("@tried", Some((_, tried))) => tried,
            ("@done", _) => &mut self.done,
            _ => &mut self.bound,
        }
    }
}

#[derive(Default)]
pub(crate) struct Input {
    pub(crate) machine: Machine,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) snapshot: Option<String>,
    pub(crate) is_finished: bool,
}

pub(crate) fn read(text: &str) -> Input {
    let mut input = Input::default();
    let mut name = "@alone";
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
                input.machine.caches.insert(parse_set(field(3)));
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
            "@slurm" => rest.clone_into(&mut input.machine.slurm),
            "@snapshot" => input.snapshot = Some(rest.to_owned()),
            "@finished" => input.is_finished = true,
            "@try" => {
                if let Some(shape) = input.shapes.last_mut() {
                    shape.tried.push((rest.to_owned(), Launch::default()));
                }
            }
            "@alone" | "@bound" | "@done" | "@tried" => {
                name = word;
                if let Some(shape) = input.shapes.last_mut() {
                    shape.launch(name).status = field(0).parse().unwrap_or(-1);
                }
            }
            "@end" => {
                if let Some(shape) = input.shapes.last_mut() {
                    shape.alone.number();
                    shape.bound.number();
                    shape.done.number();
                    for (_, tried) in &mut shape.tried {
                        tried.number();
                    }
                }
            }
            _ => {
                let Some(shape) = input.shapes.last_mut() else {
                    continue;
                };
                let launch = shape.launch(name);
                if word == "@err" {
                    launch.said.push(rest.to_owned());
                } else if line.starts_with("task=") {
                    let task = Task::parse(line);
                    let id = task.get("task").parse().unwrap_or(0);
                    // Parts of a het job have one job and step, and a node each.
                    let key = StepKey {
                        job: task.get("SLURM_JOB_ID").parse().unwrap_or(0),
                        label: task.get("label").to_owned(),
                        step: task.get("stepid").parse().unwrap_or(0),
                        node: task.get("SLURMD_NODENAME").to_owned(),
                    };
                    launch.steps.entry(key).or_default().insert(id, task);
                }
            }
        }
    }
    input
}
