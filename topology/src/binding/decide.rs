//! The plan of a step, put together from what is near each task, the CPUs that it is dealt and its memory policy.

use super::gpus;
use super::judge;
use super::memory::{self, MemoryLeft, MemoryPlan};
use super::near::Near;
use super::plan::{Cost, StepPlan, TaskCase, TaskPlan, Verdict};
use super::request::{StepRequest, TaskRequest};
use super::{split, width};
use crate::machine::Machine;
use crate::option::{Map, Memory, Policy, Width};
use crate::set::CpuSet;

/// Decides for all tasks of a step on this host.
pub fn plan_step(machine: &Machine, step: &StepRequest) -> StepPlan {
    let (mapped, is_mapped) = gpus::choose(&step.tasks, step.settings.map);
    let near: Vec<Near> = mapped
        .iter()
        .zip(&step.tasks)
        .map(|(gpus, request)| Near::of(machine, step, request, gpus))
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
            TaskPlan {
                is_share: is_mapped,
                ..draft.finish(task, cpus)
            }
        })
        .collect();
    if step.settings.policy == Policy::Off {
        tasks.iter_mut().for_each(|task| leave(task, step));
    }
    let refusal = judge::refuse(machine, step, &near, &tasks);
    if let Some(refusal) = &refusal {
        for plan in &mut tasks {
            plan.verdict = Verdict::Refused;
            plan.bind_cpus = false;
            plan.bind_memory = false;
            plan.case = TaskCase::Refused(refusal.clone());
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
    task.case = TaskCase::Off;
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
    let near = Near::of(machine, step, request, &request.visible);
    let touches_each = near
        .gpu_nodes
        .iter()
        .flatten()
        .all(|nodes| machine.cpus_of(nodes).intersects(mask));
    let is_good = near.is_placed() && touches_each && mask.is_subset(&near.cpus);
    if task.bind_cpus && is_good && mask.len() >= step.asked as usize {
        task.cpus = mask.clone();
        task.bind_cpus = false;
        if let TaskCase::Placed { local_cpus, .. } = &mut task.case {
            *local_cpus = mask.len();
        }
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
        let user_bound = self.near.left.is_some();
        // Not known to be near its GPUs and in the way of a task that can be: it is given other CPUs.
        let is_moved = self.near.is_far() && slurm.is_some_and(|mask| *mask != found);
        let left = user_bound || found.is_empty() || (!self.near.is_placed() && !is_moved);
        let cpus = match slurm {
            Some(mask) if left => mask.clone(),
            // Left with a mask that is not known, it may run wherever the step may.
            None if left => self.step.step_cpus.clone(),
            Some(_) | None => found,
        };
        // Where a GPU's place is not known there is nothing to judge.
        let verdict = if left || self.near.first_unknown().is_some() {
            Verdict::Unbound
        } else {
            judge::judge(self.machine, self.near, &cpus)
        };
        let bind_cpus = !left && slurm != Some(&cpus);
        let memory = self.memory(bind_cpus.then_some(&cpus));
        let resets_memory = self.near.is_placed()
            && self.request.user_memory.is_some()
            && settings.override_user
            && settings.memory != Memory::None;
        let lacks_local_cpus = !user_bound && self.lacks_local_cpus(&cpus);
        TaskPlan {
            task,
            gpus: self.near.gpus.clone(),
            is_share: false,
            case: self.case(left, &cpus),
            is_dry_run: settings.policy == Policy::None,
            lacks_local_cpus,
            is_trouble: !user_bound
                && !self.near.gpus.is_empty()
                && (verdict == Verdict::Unbound || lacks_local_cpus),
            bind_cpus,
            // Over the user's own policy the default is a change too.
            bind_memory: memory.is_change() || resets_memory,
            cpus,
            memory,
            verdict,
        }
    }

    /// The memory policy of the task, whose CPUs become `moved_to`; none where they stay.
    fn memory(&self, moved_to: Option<&CpuSet>) -> MemoryPlan {
        let mut memory = self.find_memory(moved_to);
        let is_users = memory.follows_cpus || memory.left == Some(MemoryLeft::UserBound);
        if is_users {
            let serving = memory::memory_nodes(self.machine, &self.near.nodes);
            memory.is_far = !serving.is_empty() && !memory.nodes.intersects(&serving);
        }
        memory
    }

    fn find_memory(&self, moved_to: Option<&CpuSet>) -> MemoryPlan {
        let (machine, step, near) = (self.machine, self.step, self.near);
        match &self.request.user_memory {
            Some(user) if !step.settings.override_user => match moved_to {
                Some(cpus) if user.is_local => {
                    memory::follow_cpus(machine, step, user, cpus, &near.nodes)
                }
                Some(_) | None => MemoryPlan::of_user(user),
            },
            // Only a task whose CPUs are left for a reason of their own still gets its memory policy.
            Some(_) | None if near.is_placed() => memory::plan_memory(machine, step, &near.nodes),
            Some(_) | None => MemoryPlan::unchanged(),
        }
    }

    /// What led to `cpus`.
    fn case(&self, left: bool, cpus: &CpuSet) -> TaskCase {
        let near = self.near;
        let gpu_nodes = near.nodes.clone();
        if near.gpus.is_empty() {
            TaskCase::NoGpu
        } else if let Some(gpu) = near.first_unknown() {
            let can_be_named = self.machine.has_node_of_one_package();
            TaskCase::UnknownNode { gpu, can_be_named }
        } else if let Some(why) = near.left {
            // Wherever the step has CPUs: it would keep its own.
            TaskCase::CpusLeft { gpu_nodes, why }
        } else if near.cpus.is_empty() {
            TaskCase::Far {
                gpu_nodes,
                step: judge::place_of_step(self.machine, self.step),
                cost: self.cost(cpus),
            }
        } else if left {
            TaskCase::Crowded { gpu_nodes }
        } else {
            TaskCase::Placed {
                gpu_nodes,
                local_cpus: cpus.common(&near.cpus),
                far_gpus: judge::far_gpus(self.machine, near, cpus).collect(),
            }
        }
    }

    /// What a copy between the GPUs and the task's `cpus` pays; between them and the step's where the task's own are not known.
    fn cost(&self, cpus: &CpuSet) -> Cost {
        let cpus = if cpus.is_empty() {
            &self.step.step_cpus
        } else {
            cpus
        };
        let here = self.machine.nodes_of(cpus);
        let package = |node: u32| self.machine.node(node).and_then(|node| node.package);
        let pairs = || {
            let gpu_nodes = self.near.nodes.iter();
            gpu_nodes.flat_map(|a| here.iter().map(move |b| (a, b)))
        };
        Cost {
            crosses_socket: pairs()
                .all(|(a, b)| matches!((package(a), package(b)), (Some(x), Some(y)) if x != y)),
            rating: pairs()
                .filter_map(|(gpu, cpu)| self.machine.rating(cpu, gpu))
                .min_by_key(|rating| rating.tenths()),
        }
    }

    /// Whether fewer CPUs than asked are near the GPUs, whose places are known, or none near one of them.
    fn lacks_local_cpus(&self, cpus: &CpuSet) -> bool {
        let is_located = !self.near.gpus.is_empty() && self.near.first_unknown().is_none();
        let is_short = cpus.common(&self.near.cpus) < self.step.asked as usize;
        let misses_one = judge::far_gpus(self.machine, self.near, cpus)
            .next()
            .is_some();
        is_located && (is_short || misses_one)
    }
}
