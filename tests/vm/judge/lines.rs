//! Every line that a launch printed, against what the tasks saw.  A line whose words are not here is wrong: nothing is
//! said that nobody holds against anything.

use std::collections::BTreeSet;

use crate::input::{Machine, Shape, Task};
use crate::set::{Set, bits, disjoint, ones, parse_set};
use crate::step::Judged;
use crate::tried::NEEDS_CORES;

/// What is known of the step that lines speak of.
pub(crate) struct Told<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) shape: &'a Shape,
    pub(crate) judged: &'a Judged,
    /// The tasks that lines name.
    pub(crate) named: &'a [&'a Task],
    /// Those that lines are held against: under the policy `none` those of the same launch without it.
    pub(crate) tasks: &'a [&'a Task],
    /// The same tasks under Slurm alone.
    pub(crate) before: &'a [&'a Task],
    /// The GPUs that each is taken to use.
    pub(crate) users: &'a [Vec<String>],
}

/// Why CPUs are left.
const LEFT: [&str; 3] = [
    "CPUs left to the user's --cpu-bind; ",
    "CPUs left near the memory that --mem-bind names; ",
    "CPUs left as Slurm made them (",
];

fn is_left(text: &str) -> bool {
    LEFT.iter().any(|words| text.starts_with(words))
}

/// Whose line it is, and what it says.
struct Line<'l> {
    /// The host, by Slurm's name; empty where it names none.
    host: &'l str,
    /// Job and step, where it names them.
    step: Option<(&'l str, &'l str)>,
    /// The local task, where it is of one.
    task: Option<usize>,
    text: &'l str,
}

impl<'l> Line<'l> {
    /// `HOST[ step JOB.STEP][ task N]: TEXT`, or TEXT alone.
    fn parse(line: &'l str) -> Self {
        let bare = Self {
            host: "",
            step: None,
            task: None,
            text: line,
        };
        let Some((host, mut rest)) = line.split_at_checked(line.find([' ', ':']).unwrap_or(0))
        else {
            return bare;
        };
        let mut found = Self { ..bare };
        if let Some((name, after)) = rest
            .strip_prefix(" step ")
            .and_then(|rest| rest.split_at_checked(rest.find([' ', ':']).unwrap_or(rest.len())))
        {
            found.step = name.split_once('.');
            rest = after;
        }
        if let Some((task, after)) = rest
            .strip_prefix(" task ")
            .and_then(|rest| rest.split_at_checked(rest.find([' ', ':']).unwrap_or(rest.len())))
        {
            found.task = task.parse().ok();
            rest = after;
        }
        let is_labelled = !host.is_empty() && (rest.starts_with(": ") || found.task.is_some());
        if !is_labelled {
            return Self {
                host: "",
                step: None,
                task: None,
                text: line,
            };
        }
        found.host = host;
        found.text = rest.trim_start_matches([':', ' ']);
        found
    }
}

/// The lines of the launch that are of this step, or that name none, each held against its tasks.
pub(crate) fn judge_lines(told: &Told<'_>, wrong: &mut Vec<String>) {
    for text in ours(&told.shape.bound.said) {
        let line = Line::parse(text);
        let first = told.named.first();
        if first.is_none_or(|task| line.is_of(task, told.shape)) {
            let complaints = told.complaints(&line);
            wrong.extend(
                complaints
                    .into_iter()
                    .map(|why| format!("\"{text}\": {why}")),
            );
        }
    }
}

impl Line<'_> {
    /// Whether it names the step of a task, or none where the step is its job's first: the others' lines name theirs.
    fn is_of(&self, task: &Task, shape: &Shape) -> bool {
        let (node, own) = (task.get("SLURMD_NODENAME"), task.get("stepid"));
        // The parts of a het job have a number each, and in their tasks' environment all have the first one's.
        let is_of_job = |job: &str| {
            shape.name.contains(" : ") && node == self.host || job == task.get("SLURM_JOB_ID")
        };
        let Some((job, step)) = self.step else {
            return self.host.is_empty() || matches!(own, "0" | "-");
        };
        let is_of_step = step == own || step == "batch" && own == "-";
        is_of_job(job) && is_of_step && (node == "-" || node == self.host)
    }
}

/// What is wrong with the lines of a launch whose steps all ran: those of a step that nobody saw.
pub(crate) fn of_no_step(shape: &Shape) -> Vec<String> {
    let is_of_nobody = |text: &&str| {
        let line = Line::parse(text);
        let mut tasks = shape.bound.steps.values().flat_map(|tasks| tasks.values());
        line.step.is_some() && !tasks.any(|task| line.is_of(task, shape))
    };
    ours(&shape.bound.said)
        .filter(is_of_nobody)
        .map(|text| format!("\"{text}\": no task of that step was seen"))
        .collect()
}

/// What is wrong with the lines of a launch that was refused.
pub(crate) fn of_refused(shape: &Shape) -> Vec<String> {
    let is_known = |text: &&str| {
        let text = *text;
        let is_refusal = text.starts_with("step ") && text.contains(" refused on ");
        // Whether the advice helps is asked by the decision's own tests.
        let rest = Line::parse(text).text;
        is_refusal || rest.starts_with("would fit: ") || rest.starts_with("to run as it is: ")
    };
    ours(&shape.bound.said)
        .filter(|text| !is_known(text))
        .map(|text| format!("\"{text}\": the judge does not know this line"))
        .collect()
}

fn ours(said: &[String]) -> impl Iterator<Item = &str> {
    said.iter()
        .filter_map(|line| line.split_once("gpu-numa-bind: ").map(|(_, line)| line))
}

/// ` A`, `s A and B`, ` A (over the socket link)`: what follows `NIC` in a line, of the document of a report.
fn nics_in_words(document: &serde_json::Value) -> String {
    let names: Vec<&str> = document["names"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(serde_json::Value::as_str)
        .collect();
    let far = if document["path"] == "socket-link" {
        " (over the socket link)"
    } else {
        ""
    };
    match names.as_slice() {
        [] => String::new(),
        [one] => format!(" {one}{far}"),
        [others @ .., last] => format!("s {} and {last}{far}", others.join(", ")),
    }
}

/// What is said of a task whose GPUs are on several nodes.
const IS_BOUND_TO_ALL: &str = " and is bound to CPUs of all of them";

/// What the policy `none` says would be done, as it is said where it is done.
fn as_if_done(text: &str) -> String {
    let words = [
        (" would not be wholly on ", " not wholly on "),
        (" would be on ", " on "),
        ("; would be moved to ", "; moved to "),
        (
            " and would be bound to CPUs of all of them",
            IS_BOUND_TO_ALL,
        ),
        ("; policy none changes nothing)", ")"),
        (" (policy none changes nothing)", ""),
    ];
    words.iter().fold(text.to_owned(), |text, (would, done)| {
        text.replace(would, done)
    })
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

/// The first number of a text.
fn first_number(text: &str) -> Option<usize> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    numbers.find(|part| !part.is_empty())?.parse().ok()
}

impl Told<'_> {
    fn complaints(&self, line: &Line<'_>) -> Vec<String> {
        let done = as_if_done(line.text);
        let is_dry_run = self.shape.is_dry_run();
        let mut wrong = complain(!is_dry_run && done != line.text, || {
            "the policy is not none".to_owned()
        });
        let is_same = |words: &str| done.contains(words) && done == line.text;
        let is_done = is_dry_run
            && [
                " tasks on their GPUs'",
                " task on its GPUs'",
                IS_BOUND_TO_ALL,
            ]
            .into_iter()
            .any(is_same);
        wrong.extend(complain(is_done, || "the policy is none".to_owned()));
        wrong.extend(match line.task {
            Some(task) => self.of_task(task, &done),
            None => self.of_step(&done),
        });
        wrong.extend(self.numbers(&done));
        wrong
    }

    /// A GPU's number is its place by address, and is said only where no task is kept from opening one of the host's.
    fn numbers(&self, text: &str) -> Vec<String> {
        let words: Vec<&str> = text.split([' ', ',', ';', '(', ')']).collect();
        let pairs = words.windows(2).filter_map(|pair| {
            let number: usize = pair.first()?.rsplit("GPU").next()?.parse().ok()?;
            let address = pair.get(1).filter(|word| word.matches(':').count() == 2)?;
            pair.first()?.contains("GPU").then_some((number, *address))
        });
        let gpus = &self.machine.gpus;
        let hides = |task: &&Task| task.get("opens").split(',').count() < gpus.len();
        let mut wrong = Vec::new();
        for (number, address) in pairs {
            let own = gpus.get(number).map(|(own, _)| own.as_str());
            wrong.extend(complain(own != Some(address), || {
                format!("GPU{number} is {own:?}")
            }));
            wrong.extend(complain(self.tasks.iter().any(hides), || {
                "a task may not open all GPUs, so its programs count otherwise".to_owned()
            }));
        }
        wrong
    }

    /// A line of all tasks.
    fn of_step(&self, text: &str) -> Vec<String> {
        let starts = |words: &str| text.starts_with(words);
        let is_left = is_left(text);
        let is_summary = [
            "1 task not wholly on its GPUs'",
            "task on its GPUs'",
            "tasks on their GPUs'",
        ]
        .iter()
        .any(|words| text.contains(words));
        if is_summary && !is_left {
            self.summary(text)
        } else if is_left || starts("the task is left as Slurm made it") || starts("none of ") {
            self.left(text)
        } else if starts("GPU") && text.contains(" have no path but the socket link") {
            self.socket_link(text)
        } else if starts("would have local CPUs for every task: ") {
            self.advice(text)
        } else if text.contains(" more task") && text.contains("unbound or short of local CPUs") {
            let more = first_number(text).unwrap_or(0);
            complain(more >= self.tasks.len(), || {
                format!("the step has {} tasks", self.tasks.len())
            })
        } else if starts("a batch script's own step is never refused") {
            complain(!self.is_strict(), || {
                "no strict policy was asked for".to_owned()
            })
        } else if starts("no task has a GPU") || starts("the step has no GPU") {
            let sees = self.tasks.iter().any(|task| !task.visible().is_empty());
            complain(sees, || "tasks see GPUs".to_owned())
        } else if starts("not all tasks came in time") {
            Vec::new()
        } else {
            vec!["the judge does not know this line".to_owned()]
        }
    }

    fn is_strict(&self) -> bool {
        let strict = ["restricted", "single-numa-node"];
        strict
            .iter()
            .any(|policy| self.shape.items.contains(policy))
    }

    fn has(&self) -> Vec<Set> {
        self.tasks.iter().map(|task| task.cpus()).collect()
    }

    fn cpus_of(&self, node: u32) -> Set {
        self.machine.cpus(&BTreeSet::from([node]))
    }

    /// A task's own line says what its report says, and how many GPUs on how many sockets it sees.
    fn of_task(&self, task: usize, text: &str) -> Vec<String> {
        let Some(seen) = self.tasks.get(task) else {
            return vec![format!("the step has {} tasks", self.tasks.len())];
        };
        if text.starts_with("sees ") && text.contains(IS_BOUND_TO_ALL) {
            let nodes = &self.judged.nodes[task];
            let gpus = self.users[task].len();
            let counted = if text.contains(" sockets ") {
                let packages = nodes.iter().filter_map(|node| {
                    let cpu = bits(self.cpus_of(*node)).next()?;
                    self.machine.package_of.get(&cpu)
                });
                let packages: BTreeSet<&u32> = packages.collect();
                number_before(text, " sockets ") == Some(packages.len())
            } else {
                let list = text.split_once("on nodes ").map_or("", |(_, rest)| rest);
                let said = parse_set(list.split(' ').next().unwrap_or(""));
                said == nodes.iter().fold(0, |all, node| all | 1 << node)
            };
            let touches = self.shape.is_dry_run()
                || nodes
                    .iter()
                    .all(|node| self.cpus_of(*node) & seen.cpus() != 0);
            let is_true = first_number(text) == Some(gpus) && counted && touches;
            return complain(!is_true, || {
                format!("{gpus} GPUs on nodes {nodes:?}, CPUs {}", seen.get("cpus"))
            });
        }
        let report = seen.report();
        let message = report
            .as_ref()
            .and_then(|report| report["message"].as_str());
        // Under `verbose` the NICs of its GPUs follow, which the report has by themselves.
        let (text, nics) = match text.split_once("; NIC") {
            Some((text, nics)) => (text, Some(nics)),
            None => (text, None),
        };
        let mut wrong = complain(message != Some(text), || {
            format!("the task's report says {message:?}")
        });
        if let Some(nics) = nics {
            let known = report.as_ref().map(|report| &report["nic"]);
            let is_true = known.is_some_and(|known| nics_in_words(known) == nics);
            wrong.extend(complain(!is_true, || {
                format!("the task's report has the NICs {known:?}")
            }));
        }
        wrong
    }

    /// Tasks that are left have what Slurm gave them; memory that is said to be near the GPUs is.
    fn left(&self, text: &str) -> Vec<String> {
        let had: Vec<Set> = self.before.iter().map(|task| task.cpus()).collect();
        let mut wrong = complain(self.has() != had, || {
            "CPUs are not those of Slurm alone".to_owned()
        });
        let tasks = self.tasks.len();
        if text.starts_with("none of ") {
            let counted = first_number(text);
            wrong.extend(complain(counted != Some(tasks), || {
                format!("the step has {tasks} tasks")
            }));
        }
        let said = number_before(text, " task on its GPUs'")
            .or(number_before(text, " tasks on their GPUs'"));
        wrong.extend(self.memory(said.unwrap_or(0)));
        if let Some((_, nodes)) = text.split_once("GPUs' node") {
            wrong.extend(self.nodes(nodes));
        }
        if let Some((_, nodes)) = text.split_once("GPUs: node") {
            wrong.extend(self.nodes(nodes.trim_end_matches(')')));
        }
        wrong
    }

    /// So many tasks are said to have got memory near their GPUs.
    fn memory(&self, said: usize) -> Vec<String> {
        let policy = |task: &Task| {
            (
                task.get("policy").to_owned(),
                task.get("policy_nodes").to_owned(),
            )
        };
        let is_near = |task: &usize| {
            let named: BTreeSet<u32> =
                bits(parse_set(self.tasks[*task].get("policy_nodes"))).collect();
            self.tasks[*task].get("policy") != "default"
                && !named.is_empty()
                && named.is_subset(&self.judged.nodes[*task])
        };
        let near: Vec<usize> = (0..self.tasks.len()).filter(is_near).collect();
        let changed = near.iter().filter(|task| {
            let was = self.before.get(**task).map(|was| policy(was));
            was != Some(policy(self.tasks[**task]))
        });
        let changed = changed.count();
        complain(!(changed..=near.len()).contains(&said), || {
            format!(
                "memory of {changed} to {} tasks was put near their GPUs",
                near.len()
            )
        })
    }

    /// The nodes of the tasks' GPUs, as `s 0 0 1 1...` or ` 0...`.
    fn nodes(&self, list: &str) -> Vec<String> {
        let list = list.trim_start_matches('s').trim();
        let of = |nodes: &BTreeSet<u32>| nodes.iter().fold(0, |all, node| all | 1 << node);
        let real: Vec<Set> = self.judged.nodes.iter().map(of).collect();
        let said: Vec<Set> = list.split(' ').map(parse_set).collect();
        let is_cut = list.ends_with("...");
        let lists = |sets: &[Set]| {
            let sets = sets.iter().map(|set| crate::set::show_set(*set));
            sets.collect::<Vec<_>>().join(" ")
        };
        complain(!is_cut && said != real, || {
            format!("the GPUs' nodes are {}", lists(&real))
        })
    }

    fn socket_link(&self, text: &str) -> Vec<String> {
        let names: Vec<&str> = text
            .split(' ')
            .filter(|word| word.matches(':').count() == 2)
            .collect();
        let package = |gpu: &&str| {
            let cpu = bits(self.cpus_of(self.machine.node_of(gpu)?)).next()?;
            self.machine.package_of.get(&cpu)
        };
        let is_used = |gpu: &&str| self.users.iter().flatten().any(|used| used == gpu);
        let packages: BTreeSet<&u32> = names.iter().filter_map(package).collect();
        let is_true = names.len() == 2 && packages.len() == 2 && names.iter().all(is_used);
        complain(!is_true, || {
            "these are not two GPUs of the step on different sockets".to_owned()
        })
    }

    /// Only where somebody is short, and only what `srun` knows.
    fn advice(&self, text: &str) -> Vec<String> {
        let known = [
            "--cpus-per-task=",
            "--gpus-per-task=1",
            "--gres-flags=enforce-binding",
            "--exclusive",
            "--exclusive and srun, both without --cpus-per-task, --cpus-per-gpu or --exact",
        ];
        let ways = text.split_once(": ").map_or("", |(_, ways)| ways);
        let (ways, if_cores_are_right) = match ways.strip_suffix(NEEDS_CORES) {
            Some(ways) => (ways, true),
            None => (ways, false),
        };
        // What was typed already is true advice where its condition is not met.
        let is_met = !(if_cores_are_right && self.shape.slurm.contains("GRES_CORES="));
        let mut wrong = Vec::new();
        for way in ways.split(", or ") {
            let verbs = ["sbatch or salloc ", "sbatch ", "salloc ", "srun "];
            let way = verbs
                .iter()
                .find_map(|verb| way.strip_prefix(verb))
                .unwrap_or(way);
            wrong.extend(complain(
                !known.iter().any(|known| way.starts_with(known)),
                || format!("unknown advice {way}"),
            ));
            let was_typed = self.shape.name.split(' ').any(|word| word == way);
            wrong.extend(complain(was_typed && is_met, || {
                format!("{way} was typed already")
            }));
        }
        let is_short = (0..self.tasks.len()).any(|task| {
            let cpus = self.tasks[task].cpus();
            ones(cpus & self.judged.near[task]) < self.shape.asked || !self.touches(task)
        });
        wrong.extend(complain(!is_short, || {
            "every task has the local CPUs that it asked for".to_owned()
        }));
        wrong
    }

    /// Whether a task has a CPU near each of its GPUs.
    fn touches(&self, task: usize) -> bool {
        let nodes = &self.judged.nodes[task];
        nodes
            .iter()
            .all(|node| self.cpus_of(*node) & self.judged.step & self.tasks[task].cpus() != 0)
    }

    /// The line of all tasks: how many are local, their memory, the nodes, how wide they are, and who is not local.
    fn summary(&self, text: &str) -> Vec<String> {
        let has = self.has();
        let is_by_socket = text.contains(" GPUs' sockets") || text.contains("on their sockets");
        let what = if is_by_socket { "sockets" } else { "CPUs" };
        let is_one_short = text.starts_with("1 task not wholly")
            || text.starts_with("1 task on its GPUs' memory, but");
        let counted = number_before(text, &format!(" tasks on their GPUs' {what}"))
            .or_else(|| number_before(text, &format!(" task on its GPUs' {what}")));
        let Some(counted) = counted.or(is_one_short.then_some(1)) else {
            return vec!["the judge does not know this line".to_owned()];
        };
        let whole = |task: usize| {
            let mut near = self.machine.cpus(&self.judged.nodes[task]);
            if is_by_socket {
                near = self.machine.cpus_of_packages(near);
            }
            has[task] & !near == 0 && has[task] != 0
        };
        let local = (0..has.len())
            .filter(|task| whole(*task) && (is_by_socket || self.touches(*task)))
            .count();
        let said_local = match number_before(text, &format!(" of {counted} task")) {
            _ if is_one_short => 0,
            Some(some) => some,
            None => counted,
        };
        let mut wrong = complain(counted != has.len() || said_local != local, || {
            format!("{local} of {} tasks are", has.len())
        });
        let memory = number_before(text, " on their memory");
        let all = text.contains(" and memory (") || text.contains("on its GPUs' memory, but");
        wrong.extend(self.memory(memory.unwrap_or(if all { counted } else { 0 })));
        wrong.extend(self.named(text, "no CPU left on node", &self.without_local_cpus()));
        wrong.extend(self.named(
            text,
            "too few CPUs left on node",
            &self.short_of_cpus(is_by_socket),
        ));
        if let Some((_, rest)) = text.split_once("(node") {
            wrong.extend(self.nodes(rest.split(')').next().unwrap_or("")));
        }
        wrong.extend(widths(text, &has));
        // Of tasks whose CPUs are not known it says nothing.
        let are_shared = !disjoint(&has);
        let says_so = text.contains(", which tasks share");
        let is_silent = text.contains(" where bound") || text.contains("CPUs as Slurm gives them");
        wrong.extend(complain(says_so != are_shared && !is_silent, || {
            format!("tasks share CPUs: {are_shared}")
        }));
        for part in text.split("; ").skip(1) {
            wrong.extend(self.part(part));
        }
        wrong
    }

    /// What follows a summary: known, and true where nobody else looks at it.
    fn part(&self, part: &str) -> Vec<String> {
        if part == "task k is taken to use the k-th share of the GPUs it sees" {
            let first = self.tasks.first().map(|task| task.visible());
            let is_alike = self.tasks.iter().all(|task| Some(task.visible()) == first);
            let is_asked = self.shape.items.contains("map=localid");
            return complain(!is_alike && !is_asked, || {
                "tasks see different GPUs".to_owned()
            });
        }
        let known = [
            ": no CPU left on node",
            ": too few CPUs left on node",
            " near the memory that --mem-bind names",
        ];
        complain(!known.iter().any(|words| part.contains(words)), || {
            format!("the judge does not know \"{part}\"")
        })
    }

    /// Tasks without a CPU near their GPUs, where the step has some; the others' own lines say that it has none.
    fn without_local_cpus(&self) -> BTreeSet<usize> {
        let is_so = |task: &usize| {
            let report = self.tasks[*task].report();
            let near = self.judged.near[*task];
            report.is_some_and(|report| report["verdict"] == "remote")
                && near != 0
                && near & self.tasks[*task].cpus() == 0
        };
        (0..self.tasks.len()).filter(is_so).collect()
    }

    /// Tasks with some CPUs near their GPUs and some that are not.
    fn short_of_cpus(&self, is_by_socket: bool) -> BTreeSet<usize> {
        let is_so = |task: &usize| {
            let near = self.machine.cpus(&self.judged.nodes[*task]);
            let cpus = self.tasks[*task].cpus();
            let is_in_sockets = is_by_socket && cpus & !self.machine.cpus_of_packages(near) == 0;
            cpus & near != 0 && cpus & !near != 0 && !is_in_sockets
        };
        (0..self.tasks.len()).filter(is_so).collect()
    }

    /// The tasks that a part of the line names.
    fn named(&self, text: &str, words: &str, real: &BTreeSet<usize>) -> Vec<String> {
        let parts = text
            .split("; ")
            .filter_map(|part| part.strip_prefix("task")?.split_once(words));
        let numbers = parts.flat_map(|(tasks, _)| tasks.split(|c: char| !c.is_ascii_digit()));
        let named: BTreeSet<usize> = numbers.filter_map(|task| task.parse().ok()).collect();
        complain(named != *real && !text.contains(" more: "), || {
            format!("{words}: that is so for tasks {real:?}")
        })
    }
}

/// The fewest and most CPUs of the tasks.
fn widths(text: &str, has: &[Set]) -> Vec<String> {
    let (fewest, most) = (
        has.iter().map(|set| ones(*set)).min(),
        has.iter().map(|set| ones(*set)).max(),
    );
    let tail = text
        .rsplit("), ")
        .next()
        .unwrap_or("")
        .split(';')
        .next()
        .unwrap_or("");
    let numbers: Vec<usize> = tail
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    let said = (numbers.first().copied(), numbers.last().copied());
    complain(said != (fewest, most), || {
        format!("tasks have {fewest:?} to {most:?} CPUs")
    })
}

fn complain(is_wrong: bool, why: impl FnOnce() -> String) -> Vec<String> {
    if is_wrong { vec![why()] } else { Vec::new() }
}
