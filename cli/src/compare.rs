//! The "before" of `gpu-numa plan --svg FILE --compare`: the tasks on the CPUs that Slurm gives them, judged as a plan is.

use slurm_config::cores::{CoreMap, SocketKind};
use slurm_config::release::Release;
use slurm_config::rules::CoresRule;
use slurm_config::step::{Picked, Request, Sockets};
use topology::binding::{MemoryPlan, StepPlan, TaskCase, TaskPlan, Verdict, judge_cpus};
use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::set::CpuSet;

use crate::assumed::Near;

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
        let picked = Sockets::of(machine).pick(
            &StepCores::new(machine, release).turns(free, gpus),
            request,
            release,
        );
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

/// What Slurm of a release knows of cores near GPUs where gres.conf is as `gpu-numa gres-conf` writes it for packages as sockets.
pub(crate) struct StepCores<'a> {
    machine: &'a Machine,
    rule: CoresRule,
    /// None where sockets or cores differ, so that no core has a number that is known.
    map: Option<CoreMap>,
}

impl<'a> StepCores<'a> {
    pub(crate) fn new(machine: &'a Machine, release: Release) -> Self {
        Self {
            machine,
            rule: CoresRule::of(Some(release)),
            map: CoreMap::new(machine, SocketKind::Package),
        }
    }

    /// The CPUs that `Cores=` of a GPU names; None where no line can have any.
    fn near_of(&self, gpu: PciAddress) -> Option<CpuSet> {
        let map = self.map.as_ref()?;
        let place = &self.machine.gpu(gpu)?.locality;
        let cores = self.rule.cores_to_write(Some(map), place)?;
        Some(map.cpus_of(&cores)).filter(|cpus| !cpus.is_empty())
    }

    /// How Slurm knows which cores are near `gpus`.
    pub(crate) fn near(&self, gpus: &[PciAddress]) -> Near {
        let known: Vec<(PciAddress, CpuSet)> = gpus
            .iter()
            .filter_map(|gpu| Some((*gpu, self.near_of(*gpu)?)))
            .collect();
        let is_wider = |(gpu, named): &(PciAddress, CpuSet)| {
            let own = self
                .machine
                .gpu(*gpu)
                .and_then(|gpu| gpu.locality.cpus.as_ref());
            own.zip(self.map.as_ref())
                .is_some_and(|(own, map)| map.cpus_of(&map.cores_of(own)) != *named)
        };
        if known.is_empty() && !gpus.is_empty() {
            Near::Unknown
        } else if known.iter().any(is_wider) {
            Near::Widened(self.rule)
        } else {
            Near::Told
        }
    }

    /// The CPUs that Slurm looks at for the cores of a step with `gpus`, in turn: those of `free` near all of the GPUs, near any of
    /// them, the rest (`_pick_step_cores` of src/stepmgr/stepmgr.c, slurmctld/step_mgr.c before 24.05; the same from 22.05 to 26.05).
    ///
    /// A GPU without `Cores=` says nothing and is near all (`_gres_filter_avail_cores`).
    fn turns(&self, free: &CpuSet, gpus: &[PciAddress]) -> [CpuSet; 3] {
        let (mut all, mut any) = (free.clone(), CpuSet::new());
        for gpu in gpus {
            match self.near_of(*gpu) {
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
        (None, Some(gpu)) => TaskCase::UnknownNode {
            gpu: *gpu,
            can_be_named: machine.has_node_of_one_package(),
        },
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
