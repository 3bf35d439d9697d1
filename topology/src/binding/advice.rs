//! What would give the tasks of a step the local CPUs that they lack: each way is tried with [`plan_step`] on this host
//! before it is named.

use std::collections::{BTreeMap, BTreeSet};

use super::decide::plan_step;
use super::plan::{Misfit, StepPlan, TaskPlan};
use super::request::StepRequest;
use crate::machine::Machine;
use crate::pci::PciAddress;
use crate::set::{CpuSet, NodeSet};

/// How often fewer CPUs per task are tried.
const MOST_TRIES: u32 = 4;

/// What decides how many of its job's CPUs a step has.
///
/// A step whose `srun` was told a number (`--cpus-per-task`, which steps of `sbatch` and `salloc` inherit from 23.11 on,
/// and `--cpus-per-gpu`, `--exact` or `--exclusive`) has that many and no more, also where the job has the whole host:
/// each of them sets `exact`, and only without it `SSF_WHOLE` is sent (`_create_job_step_create_request` of
/// src/srun/launch.c, libsrun/launch.c in 22.05; `arg_set_exclusive` of src/common/slurm_opt.c; the same from 22.05 to
/// 26.05, where `--exclusive=allocation` is new).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchedBy {
    /// `srun`.
    Srun {
        /// Whether the step has GPUs that no task sees (`--gpu-bind`).
        has_unseen_gpus: bool,
    },
    /// A script's shell or an interactive one: it has all that its job has on the host, and asks for what so many tasks
    /// would.
    Shell {
        /// The job's tasks on this host.
        tasks: u32,
    },
}

/// Ways to launch by which no task would lack local CPUs; each alone is enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Advice {
    /// In a job that has the host to itself (`--exclusive`).
    pub whole_host: Option<WholeHost>,
    /// With the CPUs of the GPUs' sockets (`--gres-flags=enforce-binding`), where Slurm would not refuse that.
    pub enforce_binding: bool,
    /// With so many CPUs per task (`--cpus-per-task`), fewer than were asked for.
    pub cpus_per_task: Option<u32>,
    /// With one GPU per task (`--gpus-per-task=1`).
    pub one_gpu: bool,
}

/// What has all CPUs of a host whose job has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WholeHost {
    /// The script's shell.
    Shell,
    /// A step that does not say how many it wants.
    Step,
}

impl Advice {
    /// Whether nothing is known to help.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What would help `plan`, which is the plan of `step`; nothing where no task lacks local CPUs or nothing would do.
pub fn advise(machine: &Machine, step: &StepRequest, plan: &StepPlan, by: LaunchedBy) -> Advice {
    let misfit = plan.refusal.as_ref().map(|refusal| &refusal.misfit);
    match misfit {
        None if !plan.lacks_local_cpus() => return Advice::default(),
        // The user's own choice, and a place that is not known, are no matter of how much is asked for.
        Some(Misfit::UnknownNode { .. } | Misfit::LeftFar { .. } | Misfit::UserMemory { .. }) => {
            return Advice::default();
        }
        None | Some(_) => {}
    }
    let is_more = step.step_cpus != machine.online;
    let whole_host = is_more.then(|| whole_host(machine, step, by)).flatten();
    let near = near_all(machine, step, by);
    let shares_no_node = matches!(misfit, Some(Misfit::NoSharedNode { .. }));
    // A shell sees the GPUs of all tasks.
    let is_one_task = !matches!(by, LaunchedBy::Shell { tasks: 2.. });
    Advice {
        whole_host,
        enforce_binding: near
            .as_ref()
            .is_some_and(|near| is_more && enforced(machine, step, near)),
        cpus_per_task: near.and_then(|near| fewer_cpus(machine, step, &near, by)),
        one_gpu: shares_no_node
            && is_one_task
            && with_one_gpu(step).iter().all(|one| fits(machine, one)),
    }
}

/// The CPUs near all GPUs of the step, where these are on one node.
///
/// A step that has the CPUs it asks for gets cores near all of its GPUs first (`_pick_step_cores` of
/// src/stepmgr/stepmgr.c, slurmctld/step_mgr.c before 24.05), and with `--gres-flags=enforce-binding` its job no others.
/// Where its GPUs are on several nodes, cores of any of them count, a task's worth of each in turn: whether that is where
/// the tasks that need them are is not known. Nor is it where a socket has several nodes: gres.conf may name whole sockets
/// only, and Slurm then gives any node's CPUs.
fn near_all(machine: &Machine, step: &StepRequest, by: LaunchedBy) -> Option<CpuSet> {
    if by
        == (LaunchedBy::Srun {
            has_unseen_gpus: true,
        })
    {
        return None;
    }
    let gpus: Vec<PciAddress> = step
        .tasks
        .iter()
        .flat_map(|task| task.visible.iter().copied())
        .collect();
    let nodes = machine.nodes_of_gpus(&gpus);
    let mut packages = machine.packages.iter();
    let has_one_node_each = packages.all(|package| package.numa_nodes.len() == 1);
    (nodes.len() == 1 && has_one_node_each).then(|| machine.cpus_of(&nodes))
}

/// Whether the step would be local with the CPUs that `--gres-flags=enforce-binding` gives.
fn enforced(machine: &Machine, step: &StepRequest, near: &CpuSet) -> bool {
    // No job gets CPUs of other sockets then, so one that asks for more than these is refused.
    let has_room = step.tasks.len() * step.asked as usize <= near.len();
    if machine.packages.len() < 2 || !has_room {
        return false;
    }
    let mut enforced = on_the_host(machine, step);
    enforced.step_cpus = near.clone();
    fits(machine, &enforced)
}

/// The step with CPUs of the host as they are needed.
fn on_the_host(machine: &Machine, step: &StepRequest) -> StepRequest {
    let mut whole = step.clone();
    whole.step_cpus = machine.online.clone();
    whole.owns_cpus = true;
    for task in whole.tasks.iter_mut().filter(|task| !task.user_cpu_bind) {
        task.slurm_cpus = None;
    }
    whole
}

/// Whether the step would have as many local CPUs as it asks for in a job that has the host to itself; to have more than
/// it asks for, an `srun` may not ask.
///
/// Such a job has all of the host's GPUs, and the step may be given others of them than now: on four sockets with two GPUs each,
/// one that had a GPU of each had the four of two sockets then.
fn whole_host(machine: &Machine, step: &StepRequest, by: LaunchedBy) -> Option<WholeHost> {
    let what = match by {
        LaunchedBy::Shell { .. } => WholeHost::Shell,
        LaunchedBy::Srun { .. } => WholeHost::Step,
    };
    // Of GPUs that no task sees neither the number is known.
    let may_change = by
        != (LaunchedBy::Srun {
            has_unseen_gpus: true,
        });
    let helps = |step: &StepRequest| would_be_local(machine, step, what);
    let others = may_change.then(|| with_other_gpus(machine, step));
    (helps(step) && others.into_iter().flatten().all(|other| helps(&other))).then_some(what)
}

/// The step with as many other GPUs of the host in place of its own: those of each node first in turn, which are the fewest nodes
/// that these can be on.  None where it has all of them.
fn with_other_gpus(machine: &Machine, step: &StepRequest) -> Vec<StepRequest> {
    let own: BTreeSet<PciAddress> = step
        .tasks
        .iter()
        .flat_map(|task| task.visible.iter().copied())
        .collect();
    let all: Vec<PciAddress> = machine.gpus.iter().map(|gpu| gpu.pci).collect();
    if own.len() >= all.len() {
        return Vec::new();
    }
    let homes: BTreeSet<NodeSet> = all
        .iter()
        .map(|gpu| machine.nodes_of_gpus(&[*gpu]))
        .collect();
    let with_first = |home: &NodeSet| {
        let mut order = all.clone();
        order.sort_by_key(|gpu| machine.nodes_of_gpus(&[*gpu]) != *home);
        let others: BTreeSet<PciAddress> = order.into_iter().take(own.len()).collect();
        let other: BTreeMap<PciAddress, PciAddress> = own.iter().copied().zip(others).collect();
        let mut changed = step.clone();
        for gpu in changed.tasks.iter_mut().flat_map(|task| &mut task.visible) {
            *gpu = other.get(gpu).copied().unwrap_or(*gpu);
        }
        changed
    };
    homes.iter().map(with_first).collect()
}

/// Whether the tasks of the step would have as many local CPUs as they ask for where it has all of the host's.
fn would_be_local(machine: &Machine, step: &StepRequest, what: WholeHost) -> bool {
    let mut whole = on_the_host(machine, step);
    if what == WholeHost::Step {
        whole.asked = 1;
    }
    let plan = plan_step(machine, &whole);
    let is_wide = |task: &TaskPlan| {
        let near = machine.cpus_of(&machine.nodes_of_gpus(&task.gpus));
        task.gpus.is_empty() || task.cpus.intersection(&near).len() >= step.asked as usize
    };
    let fits = plan.refusal.is_none() && !plan.lacks_local_cpus();
    fits && plan.tasks.iter().all(is_wide)
}

/// The step with a GPU for each task: the first that it has now, and the first ones of the step, which Slurm may give in their place.
fn with_one_gpu(step: &StepRequest) -> [StepRequest; 2] {
    let mut first_of_each = step.clone();
    for task in &mut first_of_each.tasks {
        task.visible.truncate(1);
    }
    let visible = step.tasks.iter().flat_map(|task| &task.visible);
    let own: BTreeSet<PciAddress> = visible.copied().collect();
    let mut first_of_all = step.clone();
    for (task, gpu) in first_of_all.tasks.iter_mut().zip(own.iter().cycle()) {
        task.visible = vec![*gpu];
    }
    [first_of_each, first_of_all]
}

/// The most CPUs per task, below what was asked for, with which no task would lack any of those that are `near`.
fn fewer_cpus(machine: &Machine, step: &StepRequest, near: &CpuSet, by: LaunchedBy) -> Option<u32> {
    let tasks = match by {
        LaunchedBy::Srun { .. } => 1,
        LaunchedBy::Shell { tasks } => tasks.max(1),
    };
    let near = u32::try_from(near.intersection(&step.step_cpus).len()).ok()?;
    let most = (near / tasks).min((step.asked / tasks).saturating_sub(1));
    let mut tries = (most.saturating_sub(MOST_TRIES - 1).max(1)..=most).rev();
    tries.find(|asked| {
        let mut fewer = step.clone();
        fewer.asked = asked.saturating_mul(tasks);
        fits(machine, &fewer)
    })
}

fn fits(machine: &Machine, step: &StepRequest) -> bool {
    let plan = plan_step(machine, step);
    plan.refusal.is_none() && !plan.lacks_local_cpus()
}
