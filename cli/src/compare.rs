//! The "before" of `gpu-numa plan --svg FILE --compare`: the tasks on the CPUs that Slurm gives them, judged as a plan is.

use topology::binding::{MemoryPlan, StepPlan, TaskCase, TaskPlan, Verdict, judge_cpus};
use topology::machine::Machine;
use topology::set::CpuSet;

/// The CPUs of each of `tasks` tasks with `asked` CPUs each by Slurm's default distribution, `block:cyclic` (sbatch(1),
/// `--distribution`): whole cores, each task on one socket, the next task on the next socket; on any with room where that one is
/// full, and none for a task that finds no core.
pub(crate) fn slurm_masks(
    machine: &Machine,
    step_cpus: &CpuSet,
    tasks: usize,
    asked: usize,
) -> Vec<CpuSet> {
    let cores = machine
        .cores
        .iter()
        .map(|core| core.intersection(step_cpus));
    let cores: Vec<CpuSet> = cores.filter(|core| !core.is_empty()).collect();
    let on = |cpus: &CpuSet| {
        cores
            .iter()
            .filter(|core| core.intersects(cpus))
            .cloned()
            .collect()
    };
    let mut free: Vec<Vec<CpuSet>> = machine
        .packages
        .iter()
        .map(|package| on(&package.cpus))
        .collect();
    if free.is_empty() {
        free.push(cores.clone());
    }
    let sockets = free.len();
    (0..tasks)
        .map(|task| {
            let mut mask = CpuSet::new();
            for next in 0..sockets {
                let socket = (task + next) % sockets;
                while mask.len() < asked
                    && let Some(own) = free.get_mut(socket)
                    && !own.is_empty()
                {
                    mask.extend_with(&own.remove(0));
                }
            }
            mask
        })
        .collect()
}

/// The tasks of `plan` on `masks` instead, with the memory policy that they began with.
pub(crate) fn before(machine: &Machine, plan: &StepPlan, masks: &[CpuSet]) -> Vec<TaskPlan> {
    let tasks = plan.tasks.iter().zip(masks);
    tasks
        .map(|(task, mask)| on_mask(machine, task, mask))
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
