//! The "before" of `gpu-numa plan --svg FILE --compare`: the tasks on the CPUs that Slurm gives them, judged as a plan is.

use slurm_config::release::Release;
use slurm_config::step::{Picked, Request, Sockets};
use topology::binding::{MemoryPlan, StepPlan, TaskCase, TaskPlan, Verdict, judge_cpus};
use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::set::CpuSet;

/// The heading of tasks that Slurm binds by itself.
const BY_DEFAULT: &str = "Slurm alone (default distribution)";

/// A step as it runs without the plugin.
#[derive(Debug)]
pub(crate) struct Alone {
    /// Where the masks are from.
    pub(crate) heading: &'static str,
    /// The CPUs of each task.
    pub(crate) masks: Vec<CpuSet>,
}

impl Alone {
    /// On the masks that the user names.
    pub(crate) fn with_masks(masks: Vec<CpuSet>) -> Self {
        Self {
            heading: "Slurm alone (--mask)",
            masks,
        }
    }

    /// In a step with `gpus` that has just the CPUs of `free` that its tasks ask for, as Slurm of `release` takes them.
    pub(crate) fn in_own_step(
        machine: &Machine,
        free: &CpuSet,
        gpus: &[PciAddress],
        request: Request,
        release: Release,
    ) -> (Self, Picked) {
        let picked = Sockets::of(machine).pick(&turns(machine, free, gpus), request, release);
        (Self::in_step(machine, &picked.cpus, request), picked)
    }

    /// In a step that has `allowed`.
    pub(crate) fn in_step(machine: &Machine, allowed: &CpuSet, request: Request) -> Self {
        match Sockets::of(machine).bind(allowed, request) {
            Some(masks) => Self {
                heading: BY_DEFAULT,
                masks,
            },
            None => Self {
                heading: "Slurm alone (binds no task)",
                masks: vec![allowed.clone(); request.tasks],
            },
        }
    }
}

/// The CPUs that Slurm looks at for the cores of a step with `gpus`, in turn: those of `free` near all of the GPUs, near any of
/// them, the rest (`_pick_step_cores` of src/stepmgr/stepmgr.c, slurmctld/step_mgr.c before 24.05; the same from 22.05 to 26.05).
///
/// It knows what is near a GPU by `Cores=` of gres.conf; one without says nothing and is near all (`_gres_filter_avail_cores`),
/// as is one whose node is unknown here.
fn turns(machine: &Machine, free: &CpuSet, gpus: &[PciAddress]) -> [CpuSet; 3] {
    let (mut all, mut any) = (free.clone(), CpuSet::new());
    for gpu in gpus {
        let nodes = machine
            .gpu(*gpu)
            .and_then(|gpu| gpu.locality.numa_nodes.as_ref());
        match nodes.map(|nodes| machine.cpus_of(nodes)) {
            Some(near) => {
                all = all.intersection(&near);
                any.extend_with(&near.intersection(free));
            }
            None => any.extend_with(free),
        }
    }
    let any = any.difference(&all);
    let rest = free.difference(&all).difference(&any);
    [all, any, rest]
}

/// The tasks of `plan` on `masks` instead, with the memory policy that they began with.
pub(crate) fn before(machine: &Machine, plan: &StepPlan, masks: &[CpuSet]) -> Vec<TaskPlan> {
    let tasks = plan.tasks.iter().zip(masks);
    tasks
        .map(|(task, mask)| on_mask(machine, task, mask))
        .collect()
}

/// The tasks of `plan`, of which those that it leaves as Slurm made them are on `masks`.
pub(crate) fn after(plan: &StepPlan, masks: &[CpuSet]) -> Vec<TaskPlan> {
    let tasks = plan.tasks.iter().zip(masks);
    tasks
        .map(|(task, mask)| TaskPlan {
            cpus: if task.bind_cpus { &task.cpus } else { mask }.clone(),
            ..task.clone()
        })
        .collect()
}

fn on_mask(machine: &Machine, task: &TaskPlan, mask: &CpuSet) -> TaskPlan {
    let gpu_nodes = machine.nodes_of_gpus(&task.gpus);
    let local = machine.cpus_of(&gpu_nodes).intersection(mask);
    let far = task.gpus.iter().filter(|gpu| {
        !machine
            .cpus_of(&machine.nodes_of_gpus(&[**gpu]))
            .intersects(mask)
    });
    let verdict = judge_cpus(machine, &task.gpus, mask);
    let case = match (verdict, task.gpus.first()) {
        (_, None) => TaskCase::NoGpu,
        (Some(_), _) => TaskCase::Placed {
            gpu_nodes,
            local_cpus: local.len(),
            far_gpus: far.copied().collect(),
        },
        (None, Some(gpu)) => TaskCase::UnknownNode { gpu: *gpu },
    };
    TaskPlan {
        cpus: mask.clone(),
        memory: MemoryPlan::unchanged(),
        verdict: verdict.unwrap_or(Verdict::Unbound),
        case,
        bind_cpus: false,
        bind_memory: false,
        ..task.clone()
    }
}
