//! The binding decision: which CPUs and which memory policy each task of a step gets on one host.
//!
//! [`plan_step`] is a pure function of the machine and the step, so every task of a step that knows the
//! same facts comes to the same plan, and `gpu-numa plan` shows what the plugin will do.
//!
//! Invariants: a task's CPUs are never empty and never outside the step's, but for a task left as Slurm
//! made it; under [`Width::Exclusive`] they are disjoint wherever the step has a CPU for each task
//! besides those of tasks that are left alone.

mod gpus;
mod memory;
mod message;
mod near;
mod split;
mod transport;
mod verdict;
mod width;

use serde::Serialize;

use crate::machine::Machine;
use crate::option::{Map, Memory, Policy, Settings, Width};
use crate::pci::PciAddress;
use crate::set::{CpuSet, NodeSet};

pub use memory::{KernelVersion, MemoryPlan, MemoryPolicy, memory_nodes};
pub use message::{
    first_crossing, launch_advice, socket_link_line, spanning_line, summary_line, task_line,
};
use near::Near;
pub use verdict::Refusal;

/// A step on one host, as far as its binding goes.
#[derive(Debug, Clone)]
pub struct StepRequest {
    /// What is asked for.
    pub settings: Settings,
    /// The CPUs that the step may use.
    pub step_cpus: CpuSet,
    /// CPUs that each task asked for, at least 1.
    pub asked: u32,
    /// The tasks on this host by local id.
    pub tasks: Vec<TaskRequest>,
    /// The kernel that will be asked.
    pub kernel: KernelVersion,
    /// Nodes that the cpuset lets memory come from; absent for all.
    pub allowed_nodes: Option<NodeSet>,
    /// Whether a strict policy may refuse; false for a batch script's own step.
    pub may_refuse: bool,
}

/// A task, as far as its binding goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskRequest {
    /// The GPUs that it sees, by PCI address, in the order of its own numbering.
    pub visible: Vec<PciAddress>,
    /// The mask that Slurm gave it; absent when planning without Slurm.
    pub slurm_cpus: Option<CpuSet>,
    /// The user bound it himself (`--cpu-bind=none` or `map_cpu`).
    pub user_cpu_bind: bool,
    /// The user set its memory policy himself (`--mem-bind`).
    pub user_mem_bind: bool,
}

/// How well a task is placed; the first that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The step is refused.
    Refused,
    /// Left as Slurm made it.
    Unbound,
    /// No CPU of it is local.
    Remote,
    /// Some CPUs of it are not local.
    Partial,
    /// All CPUs are local to one of its GPUs, which are on several nodes.
    Spanning,
    /// All CPUs are local.
    Local,
}

impl Verdict {
    /// The word that reports and JSON use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unbound => "unbound",
            Self::Remote => "remote",
            Self::Partial => "partial",
            Self::Spanning => "spanning",
            Self::Local => "local",
        }
    }
}

/// What one task gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskPlan {
    /// Local task id.
    pub task: usize,
    /// The GPUs that it is taken to use.
    pub gpus: Vec<PciAddress>,
    /// Its CPUs: those to bind to, or, where it is left as Slurm made it, those it has.
    pub cpus: CpuSet,
    /// Its memory policy.
    pub memory: MemoryPlan,
    /// How well it is placed.
    pub verdict: Verdict,
    /// One line for a person.
    pub message: String,
    /// Whether the step has no CPU, or fewer than asked, near its GPUs.
    #[serde(skip)]
    pub lacks_local_cpus: bool,
    /// Whether it has GPUs and neither it nor its user chose to leave it less than local.
    #[serde(skip)]
    pub is_trouble: bool,
    /// Whether the affinity is to be set.
    #[serde(skip)]
    pub bind_cpus: bool,
    /// Whether the memory policy is to be set.
    #[serde(skip)]
    pub bind_memory: bool,
}

/// What a step gets on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPlan {
    /// One plan a task, by local id.
    pub tasks: Vec<TaskPlan>,
    /// Why the step is refused; absent when it is not.
    pub refusal: Option<Refusal>,
    /// Whether tasks that see the same GPUs are taken to use a share each.
    pub is_mapped: bool,
}

/// Decides for all tasks of a step on this host.
pub fn plan_step(machine: &Machine, step: &StepRequest) -> StepPlan {
    let (mapped, is_mapped) = gpus::choose(&step.tasks, step.settings.map);
    let near: Vec<Near> = mapped
        .iter()
        .map(|gpus| Near::of(machine, step, gpus))
        .collect();
    let cpus = match step.settings.width {
        Width::Exclusive => split::plan_exclusive(machine, step, &near),
        Width::Node | Width::Socket | Width::L3 => width::plan_shared(machine, step, &near),
    };
    let mut tasks: Vec<TaskPlan> = near
        .iter()
        .zip(cpus)
        .zip(&step.tasks)
        .enumerate()
        .map(|(task, ((near, cpus), request))| {
            let draft = Draft {
                machine,
                step,
                request,
                near,
            };
            draft.finish(task, cpus)
        })
        .collect();
    if is_mapped {
        for task in &mut tasks {
            task.message.push_str(
                "; sees all the host's tasks' GPUs, taken to use its share of them by local id",
            );
        }
    }
    if step.settings.policy == Policy::Off {
        tasks.iter_mut().for_each(|task| leave(task, step));
    }
    let refusal = verdict::refuse(machine, step, &near, &tasks);
    if let Some(refusal) = &refusal {
        for plan in &mut tasks {
            plan.verdict = Verdict::Refused;
            plan.bind_cpus = false;
            plan.bind_memory = false;
            plan.message = refusal.reason.clone();
        }
    }
    StepPlan {
        tasks,
        refusal,
        is_mapped,
    }
}

/// A task as it is when nothing is bound.
fn leave(task: &mut TaskPlan, step: &StepRequest) {
    let slurm = step
        .tasks
        .get(task.task)
        .and_then(|request| request.slurm_cpus.clone());
    task.cpus = slurm.unwrap_or_else(|| step.step_cpus.clone());
    task.memory = MemoryPlan::unchanged();
    task.verdict = Verdict::Unbound;
    task.message = "off: left as Slurm made it".to_owned();
    task.bind_cpus = false;
    task.bind_memory = false;
    task.is_trouble = false;
    task.lacks_local_cpus = false;
}

/// Decides for one task whose neighbours are not known: Slurm's own mask where it is local and as wide
/// as asked, else all that is local ([`Width::Node`]).
///
/// `step.tasks` holds that task alone.  [`Map::Auto`] takes all that it sees.
pub fn plan_alone(machine: &Machine, step: &StepRequest, local_id: usize) -> StepPlan {
    let mut step = step.clone();
    step.settings.width = Width::Node;
    let visible = step
        .tasks
        .first()
        .map(|task| task.visible.clone())
        .unwrap_or_default();
    if step.settings.map == Map::Localid
        && let Some(gpu) = local_id
            .checked_rem(visible.len())
            .and_then(|k| visible.get(k))
        && let Some(task) = step.tasks.first_mut()
    {
        task.visible = vec![*gpu];
    }
    step.settings.map = Map::Visible;
    let mut plan = plan_step(machine, &step);
    keep_good_mask(machine, &step, &mut plan);
    for task in &mut plan.tasks {
        task.task = local_id;
    }
    plan
}

/// Keeps Slurm's mask for a lone task where it is local to every one of its GPUs and as wide as asked.
fn keep_good_mask(machine: &Machine, step: &StepRequest, plan: &mut StepPlan) {
    let (Some(request), Some(task)) = (step.tasks.first(), plan.tasks.first_mut()) else {
        return;
    };
    let (Some(mask), None) = (&request.slurm_cpus, &plan.refusal) else {
        return;
    };
    let near = Near::of(machine, step, &request.visible);
    let touches_each = near
        .gpu_nodes
        .iter()
        .flatten()
        .all(|nodes| machine.cpus_of(nodes).intersects(mask));
    let is_good = near.is_placed() && touches_each && mask.is_subset(&near.cpus);
    if task.bind_cpus && is_good && mask.len() >= step.asked as usize {
        task.cpus = mask.clone();
        task.bind_cpus = false;
        task.message = message::task_message(machine, step, request, &near, task);
    }
}

/// Everything known of one task before its CPUs are.
struct Draft<'a> {
    machine: &'a Machine,
    step: &'a StepRequest,
    request: &'a TaskRequest,
    near: &'a Near,
}

impl Draft<'_> {
    /// Turns the CPUs found for the task into its plan.
    fn finish(&self, task: usize, found: CpuSet) -> TaskPlan {
        let settings = &self.step.settings;
        let slurm = self.request.slurm_cpus.as_ref();
        let user_bound = self.request.user_cpu_bind && !settings.override_user;
        // Not known to be near its GPUs and in the way of a task that can be: it is given other CPUs.
        let is_moved = self.near.is_far() && slurm.is_some_and(|mask| *mask != found);
        let left = user_bound || found.is_empty() || (!self.near.is_placed() && !is_moved);
        let cpus = match slurm {
            Some(mask) if left => mask.clone(),
            // Left with a mask that is not known, it may run wherever the step may.
            None if found.is_empty() => self.step.step_cpus.clone(),
            Some(_) | None => found,
        };
        // Where a GPU's place is not known there is nothing to judge.
        let verdict = if left || self.near.first_unknown().is_some() {
            Verdict::Unbound
        } else {
            verdict::judge(self.near, &cpus)
        };
        // Only a task that is left for the user's own --cpu-bind still gets its memory policy.
        let wants_memory =
            self.near.is_placed() && (!self.request.user_mem_bind || settings.override_user);
        let memory = if wants_memory {
            memory::plan_memory(self.machine, self.step, &self.near.nodes)
        } else {
            MemoryPlan::unchanged()
        };
        let resets_memory = wants_memory && settings.memory != Memory::None;
        let lacks_local_cpus = !user_bound && self.lacks_local_cpus(&cpus);
        let mut plan = TaskPlan {
            task,
            gpus: self.near.gpus.clone(),
            lacks_local_cpus,
            is_trouble: !user_bound
                && !self.near.gpus.is_empty()
                && (verdict == Verdict::Unbound || lacks_local_cpus),
            bind_cpus: !left && slurm != Some(&cpus),
            // Over the user's own policy the default is a change too.
            bind_memory: memory.is_change() || (self.request.user_mem_bind && resets_memory),
            cpus,
            memory,
            verdict,
            message: String::new(),
        };
        plan.message =
            message::task_message(self.machine, self.step, self.request, self.near, &plan);
        plan
    }

    /// Whether fewer CPUs than asked are near the GPUs, whose places are known.
    fn lacks_local_cpus(&self, cpus: &CpuSet) -> bool {
        let is_located = !self.near.gpus.is_empty() && self.near.first_unknown().is_none();
        is_located && cpus.intersection(&self.near.cpus).len() < self.step.asked as usize
    }
}
