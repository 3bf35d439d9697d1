//! What is counted of the steps of a host, and how monitoring reads it.
//!
//! Every figure has one label with a fixed set of values, so that there are as many series on a host that ran a million jobs as on
//! one that ran none, whatever its users do.

mod render;
mod task;

pub use render::{Host, Syntax, render};
pub use task::{TaskTold, TaskVerdict};

use crate::nics::NicPath;
use crate::option::{Policy, Width};

/// A figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Steps, by the policy asked for.
    Steps,
    /// The same, of those that Slurm gave GPUs on this host.
    GpuSteps,
    /// Steps for which binding was asked, by where the machine was read from.
    StepsBySource,
    /// Tasks of steps for which binding was asked, by what they got.
    Tasks,
    /// Tasks under the policy `none`, by what they would have got.
    DryRunTasks,
    /// Tasks with GPUs that were bound, by width.
    TasksByWidth,
    /// Tasks with GPUs, by the memory policy that was set.
    TasksByMemory,
    /// Tasks with GPUs, by what lies between them and their nearest NICs.
    TasksByNic,
    /// What the kernel refused to set.
    KernelRefusals,
    /// Runs of a hook by how long they took: the first half those of `user_init`, the second those of `task_init`.
    HookRuns,
    /// Microseconds that hooks took.
    HookMicros,
}

/// How a figure reads.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// Its name, without the suffix that its type has.
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: &'static [&'static str],
}

const POLICIES: &[&str] = &[
    "not-asked",
    "off",
    "none",
    "best-effort",
    "restricted",
    "single-numa-node",
];
const VERDICTS: &[&str] = &[
    "local",
    "spanning",
    "partial",
    "remote",
    "unbound",
    "refused",
    "no-gpu",
    "unreported",
];
const HOOKS: &[&str] = &["user_init", "task_init"];
/// The upper bounds of the buckets of a hook's time: in microseconds, and in seconds as they are written.
const BUCKETS: [(u32, &str); 9] = [
    (100, "0.0001"),
    (300, "0.0003"),
    (1_000, "0.001"),
    (3_000, "0.003"),
    (10_000, "0.01"),
    (30_000, "0.03"),
    (100_000, "0.1"),
    (300_000, "0.3"),
    (1_000_000, "1.0"),
];
/// Buckets of one hook, with the one for all that is longer.
const BUCKETS_OF_HOOK: usize = BUCKETS.len() + 1;

impl Figure {
    /// All, in the order in which they are counted and written.
    pub const ALL: [Self; 11] = [
        Self::Steps,
        Self::GpuSteps,
        Self::StepsBySource,
        Self::Tasks,
        Self::DryRunTasks,
        Self::TasksByWidth,
        Self::TasksByMemory,
        Self::TasksByNic,
        Self::KernelRefusals,
        Self::HookRuns,
        Self::HookMicros,
    ];

    const fn row(self) -> Row {
        match self {
            Self::Steps => Row {
                name: "gpu_numa_bind_steps",
                help: "Steps that ended on this host, by the policy asked for",
                label: "policy",
                values: POLICIES,
            },
            Self::GpuSteps => Row {
                name: "gpu_numa_bind_gpu_steps",
                help: "Those of the steps that Slurm gave GPUs on this host, by the policy asked for",
                label: "policy",
                values: POLICIES,
            },
            Self::StepsBySource => Row {
                name: "gpu_numa_bind_steps_by_source",
                help: "Steps for which binding was asked, by where the machine was read from",
                label: "source",
                values: &["snapshot", "sys", "unknown"],
            },
            Self::Tasks => Row {
                name: "gpu_numa_bind_tasks",
                help: "Tasks of steps for which binding was asked, by what they got",
                label: "verdict",
                values: VERDICTS,
            },
            Self::DryRunTasks => Row {
                name: "gpu_numa_bind_dry_run_tasks",
                help: "Tasks under the policy none, which changes nothing, by what they would have got",
                label: "verdict",
                values: VERDICTS,
            },
            Self::TasksByWidth => Row {
                name: "gpu_numa_bind_tasks_by_width",
                help: "Tasks that were bound to CPUs, by the width asked for",
                label: "width",
                values: &["exclusive", "node", "socket", "l3"],
            },
            Self::TasksByMemory => Row {
                name: "gpu_numa_bind_tasks_by_memory",
                help: "Tasks with GPUs, by the memory policy that was set",
                label: "policy",
                values: &[
                    "unchanged",
                    "default",
                    "preferred",
                    "preferred-many",
                    "bind",
                    "interleave",
                ],
            },
            Self::TasksByNic => Row {
                name: "gpu_numa_bind_tasks_by_nic",
                help: "Tasks with GPUs, by what lies between these and their nearest NICs",
                label: "path",
                values: &[
                    "one-switch",
                    "switches",
                    "host-bridge",
                    "node",
                    "package",
                    "socket-link",
                    "unknown",
                ],
            },
            Self::KernelRefusals => Row {
                name: "gpu_numa_bind_kernel_refusals",
                help: "Tasks for which the kernel refused what was to be set",
                label: "what",
                values: &["cpus", "memory"],
            },
            Self::HookRuns | Self::HookMicros => Row {
                name: "gpu_numa_bind_hook_seconds",
                help: "How long Slurm's launch was in the plugin: user_init once per step, task_init in each task",
                label: "hook",
                values: HOOKS,
            },
        }
    }

    /// How many words it has in the table.
    const fn len(self) -> usize {
        if matches!(self, Self::HookRuns) {
            HOOKS.len() * BUCKETS_OF_HOOK
        } else {
            self.row().values.len()
        }
    }

    /// Where its words begin in the table.
    #[allow(
        clippy::indexing_slicing,
        reason = "it is below the length, and a constant has no other way"
    )]
    const fn start(self) -> usize {
        let mut start = 0;
        let mut at = 0;
        while at < Self::ALL.len() {
            if Self::ALL[at] as usize == self as usize {
                return start;
            }
            start += Self::ALL[at].len();
            at += 1;
        }
        start
    }
}

/// How many words a table has.
pub const LEN: usize = Figure::HookMicros.start() + Figure::HookMicros.len();

/// Tells tables of one order of figures from those of another: a hash of all names and values.
#[allow(
    clippy::indexing_slicing,
    reason = "each is below a length, and a constant has no other way"
)]
pub const LAYOUT: u64 = {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut at = 0;
    while at < Figure::ALL.len() {
        let row = Figure::ALL[at].row();
        hash = fold(hash, row.name);
        let mut value = 0;
        while value < row.values.len() {
            hash = fold(hash, row.values[value]);
            value += 1;
        }
        at += 1;
    }
    let mut bucket = 0;
    while bucket < BUCKETS.len() {
        hash = fold(hash, BUCKETS[bucket].1);
        bucket += 1;
    }
    hash
};

#[allow(
    clippy::indexing_slicing,
    clippy::cast_lossless,
    reason = "it is below the length, and a constant has no other way"
)]
/// FNV-1a, with a byte behind each text that no text has.
const fn fold(mut hash: u64, text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at <= bytes.len() {
        let byte = if at < bytes.len() { bytes[at] } else { 0xff };
        hash = (hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

/// A table of counters, or what is to be added to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts([u64; LEN]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; LEN])
    }
}

/// A step that ended, as the daemon knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepCount {
    /// The policy and the width asked for; none where binding was not asked for.
    pub asked: Option<(Policy, Width)>,
    /// Whether Slurm gave it GPUs on this host.
    pub has_gpus: bool,
    /// Where the machine was read from.
    pub source: Source,
    /// Microseconds that `user_init` took.
    pub init_micros: u32,
}

/// Where a step's machine was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The snapshot.
    Snapshot,
    /// `/sys`.
    Sys,
    /// Nowhere.
    Unknown,
}

impl Counts {
    /// The words of a table.
    pub fn of_words(words: &[u64]) -> Option<Self> {
        Some(Self(words.try_into().ok()?))
    }

    /// Its words.
    pub fn words(&self) -> &[u64] {
        &self.0
    }

    /// A step, with what each of its tasks told: none for one that told nothing, or nothing that makes sense.
    ///
    /// It counts as many tasks as it is given, whatever they told.
    pub fn of_step(step: &StepCount, tasks: impl Iterator<Item = Option<TaskTold>>) -> Self {
        let mut counts = Self::default();
        let policy = step.asked.map(|(policy, _)| policy);
        counts.add(Figure::Steps, policy_index(policy), 1);
        if step.has_gpus {
            counts.add(Figure::GpuSteps, policy_index(policy), 1);
        }
        counts.hook(0, step.init_micros);
        match step.asked {
            None | Some((Policy::Off, _)) => {}
            Some((policy, width)) => {
                counts.add(Figure::StepsBySource, source_index(step.source), 1);
                for told in tasks {
                    counts.task(policy, width, told);
                }
            }
        }
        counts
    }

    fn task(&mut self, policy: Policy, width: Width, told: Option<TaskTold>) {
        let figure = if policy == Policy::None {
            Figure::DryRunTasks
        } else {
            Figure::Tasks
        };
        let Some(told) = told else {
            self.add(figure, VERDICTS.len() - 1, 1);
            return;
        };
        self.add(figure, told.verdict.index(), 1);
        self.hook(1, told.micros);
        if told.verdict.has_gpus() && policy != Policy::None {
            let memory = told
                .memory
                .map_or(0, |policy| 1 + task::memory_index(policy));
            self.add(Figure::TasksByMemory, memory, 1);
            if told.is_bound {
                self.add(Figure::TasksByWidth, width_index(width), 1);
            }
        }
        if told.verdict.has_gpus() {
            self.add(Figure::TasksByNic, nic_index(told.nic), 1);
        }
        for (what, is_refused) in [told.cpus_refused, told.memory_refused].iter().enumerate() {
            self.add(Figure::KernelRefusals, what, u64::from(*is_refused));
        }
    }

    fn hook(&mut self, hook: usize, micros: u32) {
        let bucket = BUCKETS.iter().position(|(bound, _)| micros <= *bound);
        let bucket = bucket.unwrap_or(BUCKETS.len());
        self.add(Figure::HookRuns, hook * BUCKETS_OF_HOOK + bucket, 1);
        self.add(Figure::HookMicros, hook, u64::from(micros));
    }

    fn add(&mut self, figure: Figure, value: usize, count: u64) {
        let start = figure.start();
        let own = self.0.get_mut(start..start + figure.len());
        if let Some(word) = own.and_then(|own| own.get_mut(value)) {
            *word = word.wrapping_add(count);
        }
    }

    fn of(&self, figure: Figure) -> &[u64] {
        let start = figure.start();
        self.0.get(start..start + figure.len()).unwrap_or_default()
    }

    /// A figure's values by the words of its label; of the hooks the microseconds they took.
    pub fn values(&self, figure: Figure) -> impl Iterator<Item = (&'static str, u64)> {
        let words = figure.row().values.iter().copied();
        words.zip(self.of(figure).iter().copied())
    }
}

fn policy_index(policy: Option<Policy>) -> usize {
    match policy {
        None => 0,
        Some(Policy::Off) => 1,
        Some(Policy::None) => 2,
        Some(Policy::BestEffort) => 3,
        Some(Policy::Restricted) => 4,
        Some(Policy::SingleNumaNode) => 5,
    }
}

fn width_index(width: Width) -> usize {
    match width {
        Width::Exclusive => 0,
        Width::Node => 1,
        Width::Socket => 2,
        Width::L3 => 3,
    }
}

fn source_index(source: Source) -> usize {
    match source {
        Source::Snapshot => 0,
        Source::Sys => 1,
        Source::Unknown => 2,
    }
}

fn nic_index(path: NicPath) -> usize {
    match path {
        NicPath::OneSwitch => 0,
        NicPath::Switches => 1,
        NicPath::HostBridge => 2,
        NicPath::Node => 3,
        NicPath::Package => 4,
        NicPath::SocketLink => 5,
        NicPath::Unknown => 6,
    }
}

#[cfg(test)]
mod tests;
