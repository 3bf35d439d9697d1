//! The "before" of `gpu-numa plan --svg FILE --compare`: the tasks on the CPUs that Slurm gives them, judged as a plan is.

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

    /// Of `tasks` tasks with `asked` CPUs each in a step with `gpus` that has just the CPUs of `free` that they ask for, in whole
    /// cores.
    pub(crate) fn in_own_step(
        machine: &Machine,
        free: &CpuSet,
        gpus: &[PciAddress],
        tasks: usize,
        asked: usize,
    ) -> Self {
        let turns = turns(machine, free, gpus);
        let picked = pick_cores(machine, &turns, tasks, asked);
        let masks = distribute(machine, &picked, tasks, asked);
        if masks.iter().all(|mask| mask.len() >= asked) {
            return Self {
                heading: BY_DEFAULT,
                masks,
            };
        }
        // Tasks that share a core get no mask of their own.
        let mut cpus = CpuSet::new();
        for core in turns.iter().flat_map(|turn| cores_of(machine, turn)) {
            if cpus.len() < tasks * asked {
                cpus.extend_with(&core);
            }
        }
        Self::in_step(machine, &cpus, tasks, asked)
    }

    /// Of `tasks` tasks with `asked` CPUs each in a step that has `allowed`.
    ///
    /// Slurm binds tasks by itself only where they ask for as many CPUs as the step has sockets, cores or threads
    /// (`lllp_distribution` in src/plugins/task/affinity/dist_tasks.c); otherwise each may use all of the step.
    pub(crate) fn in_step(machine: &Machine, allowed: &CpuSet, tasks: usize, asked: usize) -> Self {
        let packages = machine.packages.iter().map(|package| &package.cpus);
        let sockets: Vec<&CpuSet> = packages.filter(|cpus| cpus.intersects(allowed)).collect();
        let are_whole = sockets.iter().all(|cpus| cpus.is_subset(allowed));
        let masks = if are_whole && sockets.len() == tasks * asked {
            let of_task = |task: usize| {
                let own = sockets.iter().skip(task).step_by(tasks);
                own.fold(CpuSet::new(), |all, cpus| all.union(cpus))
            };
            Some((0..tasks).map(of_task).collect())
        } else {
            let masks = distribute(machine, allowed, tasks, asked);
            let is_even = masks.iter().all(|mask| mask.len() >= asked);
            (is_even && union(&masks) == *allowed).then_some(masks)
        };
        match masks {
            Some(masks) => Self {
                heading: BY_DEFAULT,
                masks,
            },
            None => Self {
                heading: "Slurm alone (binds no task)",
                masks: vec![allowed.clone(); tasks],
            },
        }
    }

    /// The CPUs of all tasks.
    pub(crate) fn cpus(&self) -> CpuSet {
        union(&self.masks)
    }
}

fn union(masks: &[CpuSet]) -> CpuSet {
    masks
        .iter()
        .fold(CpuSet::new(), |all, mask| all.union(mask))
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

/// The cores of a step of `tasks` tasks with `asked` CPUs each: a task's worth of each socket in turn, as long as there are any
/// of the first of `turns`, then of the next (`_handle_core_select`, `SLURM_DIST_SOCKCYCLIC`).
fn pick_cores(machine: &Machine, turns: &[CpuSet], tasks: usize, asked: usize) -> CpuSet {
    let cores = || turns.iter().flat_map(|turn| cores_of(machine, turn));
    let threads = cores().map(|core| core.len()).max().unwrap_or(1);
    let each = asked.div_ceil(threads).max(1);
    let (mut missing, mut picked) = (tasks.saturating_mul(each), CpuSet::new());
    for turn in turns {
        let mut free = by_socket(machine, turn);
        let mut owed = each;
        while missing > 0 && free.iter().any(|cores| !cores.is_empty()) {
            for cores in &mut free {
                let taken = owed.min(missing).min(cores.len());
                for core in cores.drain(..taken) {
                    picked.extend_with(&core);
                }
                missing -= taken;
                owed = if taken == owed { each } else { owed - taken };
            }
        }
    }
    picked
}

/// What of each core is among `cpus`, without those that have none there.
fn cores_of(machine: &Machine, cpus: &CpuSet) -> Vec<CpuSet> {
    let cores = machine.cores.iter().map(|core| core.intersection(cpus));
    cores.filter(|core| !core.is_empty()).collect()
}

/// The same by socket; as if on one where none is known.
fn by_socket(machine: &Machine, cpus: &CpuSet) -> Vec<Vec<CpuSet>> {
    let cores = cores_of(machine, cpus);
    let on = |cpus: &CpuSet| {
        let here = cores.iter().filter(|core| core.intersects(cpus));
        here.cloned().collect()
    };
    let packages = machine.packages.iter();
    let sockets: Vec<Vec<CpuSet>> = packages.map(|package| on(&package.cpus)).collect();
    if sockets.is_empty() {
        vec![cores]
    } else {
        sockets
    }
}

/// The CPUs of each of `tasks` tasks with `asked` CPUs each by Slurm's default distribution, `block:cyclic` (sbatch(1),
/// `--distribution`): whole cores, each task on one socket, the next task on the next socket; on any with room where that one is
/// full, and none for a task that finds no core.
fn distribute(machine: &Machine, step_cpus: &CpuSet, tasks: usize, asked: usize) -> Vec<CpuSet> {
    let mut free = by_socket(machine, step_cpus);
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
