//! What would give the tasks of a step the local CPUs that they lack: each way is tried with [`plan_step`] on this host
//! before it is named.

use super::decide::plan_step;
use super::plan::{Misfit, StepPlan};
use super::request::StepRequest;
use crate::machine::Machine;

/// How often fewer CPUs per task are tried.
const MOST_TRIES: u32 = 4;

/// Ways to launch by which no task would lack local CPUs; each alone is enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Advice {
    /// With all CPUs of the host (`--exclusive`).
    pub whole_host: bool,
    /// With the CPUs of the GPUs' sockets (`--gres-flags=enforce-binding`), where Slurm would not refuse that.
    pub enforce_binding: bool,
    /// With so many CPUs per task (`--cpus-per-task`), fewer than were asked for.
    pub cpus_per_task: Option<u32>,
    /// With one GPU per task (`--gpus-per-task=1`).
    pub one_gpu: bool,
}

impl Advice {
    /// Whether nothing is known to help.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What would help `plan`, which is the plan of `step`; nothing where no task lacks local CPUs or nothing would do.
pub fn advise(machine: &Machine, step: &StepRequest, plan: &StepPlan) -> Advice {
    let misfit = plan.refusal.as_ref().map(|refusal| &refusal.misfit);
    match misfit {
        None if !plan.lacks_local_cpus() => return Advice::default(),
        // The user's own choice, and a place that is not known, are no matter of how much is asked for.
        Some(Misfit::UnknownNode { .. } | Misfit::LeftFar { .. } | Misfit::UserMemory { .. }) => {
            return Advice::default();
        }
        None | Some(_) => {}
    }
    let whole = whole_host(machine, step);
    let is_more = whole.step_cpus != step.step_cpus;
    let whole_host = is_more && fits(machine, &whole);
    // Slurm schedules by socket: within one of several nodes it gives any node's CPUs.
    let one_node_each = machine
        .packages
        .iter()
        .all(|package| package.numa_nodes.len() == 1);
    let shares_no_node = matches!(misfit, Some(Misfit::NoSharedNode { .. }));
    Advice {
        whole_host,
        enforce_binding: whole_host && one_node_each && machine.packages.len() > 1,
        cpus_per_task: fewer_cpus(machine, step, plan),
        one_gpu: shares_no_node && fits(machine, &with_one_gpu(step)),
    }
}

/// The step as it would be with the host to itself.
fn whole_host(machine: &Machine, step: &StepRequest) -> StepRequest {
    let mut whole = step.clone();
    whole.step_cpus = machine.online.clone();
    whole.owns_cpus = true;
    for task in whole.tasks.iter_mut().filter(|task| !task.user_cpu_bind) {
        task.slurm_cpus = None;
    }
    whole
}

fn with_one_gpu(step: &StepRequest) -> StepRequest {
    let mut one = step.clone();
    for task in &mut one.tasks {
        task.visible.truncate(1);
    }
    one
}

/// The most CPUs per task, below what was asked for, with which no task would lack any.
fn fewer_cpus(machine: &Machine, step: &StepRequest, plan: &StepPlan) -> Option<u32> {
    let with_gpus = plan.tasks.iter().filter(|task| !task.gpus.is_empty());
    let near = with_gpus.map(|task| {
        let cpus = machine.cpus_of(&machine.nodes_of_gpus(&task.gpus));
        cpus.intersection(&step.step_cpus).len()
    });
    let fewest = near.min()?;
    let most = u32::try_from(fewest)
        .ok()?
        .min(step.asked.saturating_sub(1));
    let mut tries = (most.saturating_sub(MOST_TRIES - 1).max(1)..=most).rev();
    tries.find(|asked| {
        let mut fewer = step.clone();
        fewer.asked = *asked;
        fits(machine, &fewer)
    })
}

fn fits(machine: &Machine, step: &StepRequest) -> bool {
    let plan = plan_step(machine, step);
    plan.refusal.is_none() && !plan.lacks_local_cpus()
}
