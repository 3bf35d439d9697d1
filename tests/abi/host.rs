//! Runs a scenario in the C host and reads what it prints.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::build;
use crate::world::{World, set_mode};

/// The host's exit status where the system gives no mount namespace.
const NO_NAMESPACE: i32 = 77;
/// No scenario may take longer; one that hangs fails by it.  Tasks wait two seconds at most, the rest is
/// for a machine that is busy otherwise.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs a scenario, and checks what holds in every one: hooks return 0 and leave no trace, nothing crashes.
pub(crate) fn run(scenario: impl Borrow<Scenario>) -> Outcome {
    scenario.borrow().run_in(build::host())
}

/// Runs a scenario until its tasks came together: on a machine so busy that a task is not scheduled for a
/// tenth of a second they rightly do not.
pub(crate) fn run_together(scenario: impl Borrow<Scenario>) -> Outcome {
    for _ in 0..20 {
        let outcome = run(scenario.borrow());
        let nanos = outcome.nanos("task_init");
        let ends = |line: &&str| line.starts_with("task ") && line.contains(" exit ");
        let tasks = outcome.text.lines().filter(ends).count();
        let patience = Duration::from_millis(100 + 5 * tasks as u64);
        let is_quick = nanos.len() == tasks
            && nanos
                .into_iter()
                .all(|took| Duration::from_nanos(took) < patience);
        // The lines that only a task that knows them all can say.
        let is_known =
            outcome.logs(&[" tasks on their GPUs'"]) || outcome.logs(&[", all ", " tasks here)"]);
        if is_quick || is_known {
            return outcome;
        }
    }
    panic!("the tasks never come together");
}

/// A scenario in the host's own language (see the head of `spank_host.c`).
#[derive(Clone)]
pub(crate) struct Scenario {
    lines: Vec<String>,
}

impl Scenario {
    /// A Slurm without any machine around it.
    pub(crate) fn bare() -> Self {
        Self { lines: Vec::new() }.line(format_args!("plugin {}", build::plugin().display()))
    }

    /// A step of `tasks` tasks on `world`, whose GPUs all can be opened, with the snapshot there.
    pub(crate) fn on(world: &World, tasks: usize) -> Self {
        let scenario = Self::bare()
            .line("dev")
            .line(format_args!(
                "bind {} /sys/bus/pci/devices",
                world.path("devices").display()
            ))
            .line(format_args!(
                "arg snapshot={}",
                world.path("snapshot").display()
            ))
            .line(format_args!(
                "env SLURM_GPUS_ON_NODE={}",
                world.machine.gpus.len()
            ))
            .line("env SLURMD_NODENAME=gpunode")
            .line("env HOME=/nonexistent")
            .line(format_args!("tasks {tasks}"));
        let mut scenario = world.machine.gpus.iter().fold(scenario, |scenario, gpu| {
            let files = gpu.device_paths();
            files.fold(scenario, |scenario, path| {
                let (word, number) = match path.strip_prefix("/dev/nvidia") {
                    Some(number) => ("gpu", number),
                    None => ("render", path.strip_prefix("/dev/dri/renderD").unwrap()),
                };
                scenario.line(format_args!("{word} {number}"))
            })
        });
        if world.is_made_up {
            let online = world.path("online");
            scenario = scenario
                .line(format_args!(
                    "bind {} /sys/devices/system/cpu/online",
                    online.display()
                ))
                .line(format_args!(
                    "kernel {} {}",
                    world.machine.online,
                    world.path("status").display()
                ));
        }
        scenario
    }

    /// Loads a copy of the plugin in `folder`, where `beside` stands beside it.
    pub(crate) fn installed_in(mut self, folder: &Path, beside: Option<&str>) -> Self {
        if folder.exists() {
            std::fs::remove_dir_all(folder).unwrap();
        }
        std::fs::create_dir(folder).unwrap();
        set_mode(folder, 0o755);
        let copy = folder.join("gpu_numa_bind.so");
        std::fs::copy(build::plugin(), &copy).unwrap();
        if let Some(name) = beside {
            std::fs::write(folder.join(name), "a library").unwrap();
        }
        if let Some(first) = self.lines.first_mut() {
            *first = format!("plugin {}", copy.display());
        }
        self
    }

    /// Loads another plugin.
    pub(crate) fn loading(mut self, plugin: &Path) -> Self {
        if let Some(first) = self.lines.first_mut() {
            *first = format!("plugin {}", plugin.display());
        }
        self
    }

    /// Adds a line before those that hide the host's own folders.
    pub(crate) fn first(mut self, line: impl Display) -> Self {
        self.lines.insert(1, line.to_string());
        self
    }

    /// Adds a line.
    pub(crate) fn line(mut self, line: impl Display) -> Self {
        self.lines.push(line.to_string());
        self
    }

    /// `--gpu-numa-bind=VALUE`; no value for the empty text.
    pub(crate) fn option(self, value: &str) -> Self {
        if value.is_empty() {
            self.line("option")
        } else {
            self.line(format_args!("option ={value}"))
        }
    }

    /// Fences each task to a GPU, as `--gpus-per-task=1` does: it opens that one and knows it as 0.
    pub(crate) fn fence(self, world: &World, gpus: &[usize]) -> Self {
        gpus.iter().enumerate().fold(self, |scenario, (task, gpu)| {
            scenario
                .line(format_args!("opens {task} {}", world.minor(*gpu)))
                .line(format_args!("task-env {task} {}=0", world.variable(*gpu)))
        })
    }

    /// As [`run`], in another host program; of the caller's environment it sees nothing.
    pub(crate) fn run_in(&self, program: &Path) -> Outcome {
        self.run_by(Command::new(program))
    }

    /// As [`Scenario::run_in`], by a command that runs such a program.
    pub(crate) fn run_by(&self, mut command: Command) -> Outcome {
        let start = Instant::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| name.ends_with("SAN_OPTIONS")))
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A host that may not run at all does not read it; its exit status says so.
        let _ = stdin.write_all(self.lines.join("\n").as_bytes());
        drop(stdin);
        let mut stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > LIMIT {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("the host hangs:\n{}", self.lines.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let elapsed = start.elapsed();
        let text = reader.join().unwrap();
        assert!(
            status.code() != Some(NO_NAMESPACE),
            "these tests need root and mount namespaces: {text}"
        );
        assert!(status.success(), "host: {status}\n{text}");
        let outcome = Outcome { text, elapsed };
        if std::env::var_os("ABI_SHOW").is_some() {
            eprintln!("{}\n{}", self.lines.join("\n"), outcome.text);
        }
        outcome.check_always();
        let is_provoked = self.lines.iter().any(|line| line == "fail strerror_r");
        assert!(
            is_provoked || !outcome.text.contains("internal fault"),
            "a panic:\n{}",
            outcome.text
        );
        outcome
    }
}

/// What a scenario printed.
pub(crate) struct Outcome {
    pub(crate) text: String,
    pub(crate) elapsed: Duration,
}

/// What one task ended up with.
#[derive(Debug, Default)]
pub(crate) struct Task {
    pub(crate) cpus: String,
    pub(crate) policy: String,
    pub(crate) nodes: String,
    pub(crate) env: BTreeMap<String, String>,
    /// Lines for the user's stderr.
    pub(crate) user: Vec<String>,
    /// All lines.
    pub(crate) log: Vec<String>,
    pub(crate) exit: String,
}

impl Outcome {
    fn check_always(&self) {
        for line in self.text.lines() {
            let words: Vec<&str> = line.splitn(6, ' ').collect();
            let at = if words[0] == "host" { 1 } else { 2 };
            let is_hook = words[at] == "rc" && words[at + 1] != "option";
            assert!(!is_hook || words[at + 2] == "0", "{line}\n{}", self.text);
            assert!(
                !matches!(words[at], "changed" | "signal" | "broken"),
                "{line}\n{}",
                self.text
            );
        }
    }

    /// The rests of the host's lines of a word.
    pub(crate) fn host(&self, word: &str) -> Vec<&str> {
        let prefix = format!("host {word} ");
        self.text
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix))
            .collect()
    }

    /// Whether the host printed a line that holds `part`, on its own behalf.
    pub(crate) fn host_says(&self, part: &str) -> bool {
        self.text
            .lines()
            .any(|line| line.starts_with("host ") && line.contains(part))
    }

    /// The `k`th task.
    pub(crate) fn task(&self, k: usize) -> Task {
        let prefix = format!("task {k} ");
        let mut task = Task::default();
        for line in self.text.lines() {
            let Some((word, rest)) = line.strip_prefix(&prefix).and_then(|l| l.split_once(' '))
            else {
                continue;
            };
            match word {
                "cpus" => rest.clone_into(&mut task.cpus),
                "policy" => rest.clone_into(&mut task.policy),
                "nodes" => rest.clone_into(&mut task.nodes),
                "exit" => rest.clone_into(&mut task.exit),
                "env" => {
                    let (name, value) = rest.split_once('=').unwrap();
                    task.env.insert(name.to_owned(), unescape(value));
                }
                "log" => {
                    let (level, line) = rest.split_once(' ').unwrap();
                    if level == "user" {
                        task.user.push(line.to_owned());
                    }
                    task.log.push(line.to_owned());
                }
                _ => {}
            }
        }
        assert!(!task.exit.is_empty(), "no task {k}:\n{}", self.text);
        task
    }

    /// Whether the host's log, or that of a task, has a line that holds all `parts`.
    pub(crate) fn logs(&self, parts: &[&str]) -> bool {
        self.text
            .lines()
            .filter(|line| line.contains(" log "))
            .any(|line| parts.iter().all(|part| line.contains(part)))
    }

    /// Nanoseconds that each run of a hook took, in order.
    pub(crate) fn nanos(&self, hook: &str) -> Vec<u64> {
        self.numbers("nanos", hook)
    }

    /// What is counted (`nanos`, `faults`) of each run of a hook, in order.
    pub(crate) fn numbers(&self, what: &str, hook: &str) -> Vec<u64> {
        let middle = format!(" {what} {hook} ");
        self.text
            .lines()
            .filter_map(|line| line.split_once(&middle)?.1.parse().ok())
            .collect()
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, false) => out.push(c),
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
        }
    }
    out
}
