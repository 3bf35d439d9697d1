//! What is near a task: the nodes of its GPUs and the step's CPUs on them.

use super::pool::{Area, Pool};
use super::request::{CpusLeft, StepRequest, TaskRequest};
use crate::machine::Machine;
use crate::pci::PciAddress;
use crate::set::{CpuSet, NodeSet};

/// A task's GPUs and what of the step is near them.
#[derive(Debug, Clone)]
pub(super) struct Near {
    /// Its GPUs.
    pub(super) gpus: Vec<PciAddress>,
    /// The nodes of each of them; none where that is not known.
    pub(super) gpu_nodes: Vec<Option<NodeSet>>,
    /// The union of their nodes.
    pub(super) nodes: NodeSet,
    /// The step's CPUs on those nodes.
    pub(super) cpus: CpuSet,
    /// Those of them that are nearer to its GPUs than the rest of their nodes; empty where that is not known of any.
    pub(super) nearest: CpuSet,
    /// Why its own CPUs are not to be changed; none where they may be.
    pub(super) left: Option<CpusLeft>,
}

impl Near {
    /// Looks up the GPUs of one task.
    pub(super) fn of(
        machine: &Machine,
        step: &StepRequest,
        request: &TaskRequest,
        gpus: &[PciAddress],
    ) -> Self {
        let gpu_nodes: Vec<Option<NodeSet>> = gpus
            .iter()
            .map(|address| {
                machine
                    .gpu(*address)
                    .and_then(|gpu| gpu.locality.numa_nodes.clone())
            })
            .collect();
        let nodes = machine.nodes_of_gpus(gpus);
        let cpus = machine.cpus_of(&nodes).intersection(&step.step_cpus);
        let mut nearest = CpuSet::new();
        for gpu in gpus.iter().filter_map(|address| machine.gpu(*address)) {
            if let Some(own) = &gpu.locality.nearest_cpus {
                nearest.extend_with(&own.intersection(&cpus));
            }
        }
        let left = cpus_left(machine, step, request, &nodes);
        Self {
            gpus: gpus.to_vec(),
            gpu_nodes,
            nodes,
            cpus,
            nearest,
            left,
        }
    }

    /// Whether the task can be bound near its GPUs: it has some, all are placed, and the step has a CPU
    /// there.
    pub(super) fn is_placed(&self) -> bool {
        !self.gpus.is_empty() && self.first_unknown().is_none() && !self.cpus.is_empty()
    }

    /// Whether it has GPUs, and no CPU of the step is known to be near them.
    pub(super) fn is_far(&self) -> bool {
        !self.gpus.is_empty() && !self.is_placed()
    }

    /// The first GPU whose locality is not known.
    pub(super) fn first_unknown(&self) -> Option<PciAddress> {
        self.gpus
            .iter()
            .zip(&self.gpu_nodes)
            .find(|(_, nodes)| nodes.is_none())
            .map(|(gpu, _)| *gpu)
    }

    /// Whether the GPUs are on different nodes.
    pub(super) fn is_spanning(&self) -> bool {
        self.gpu_nodes
            .windows(2)
            .any(|pair| pair.first() != pair.last())
    }

    /// How near NUMA node `node` is to the nearest of the GPUs.
    pub(super) fn nearness(&self, machine: &Machine, node: u32) -> u32 {
        self.nodes
            .iter()
            .map(|gpu_node| machine.nearness(gpu_node, node))
            .min()
            .unwrap_or(u32::MAX)
    }

    /// Whether CPUs of these `areas` are near every GPU that the pool has one near to.
    pub(super) fn touches_all(&self, pool: &Pool, areas: &[usize]) -> bool {
        self.gpu_nodes.iter().flatten().all(|nodes| {
            let mut held = areas.iter().filter_map(|area| pool.areas.get(*area));
            let is_near = |area: &Area| area.is_of(nodes);
            held.any(is_near) || !pool.areas.iter().any(is_near)
        })
    }

    /// How many of the GPUs are on each node, where they are on different ones; else empty.
    pub(super) fn gpus_on(&self) -> Vec<(u32, u32)> {
        if !self.is_spanning() {
            return Vec::new();
        }
        let on = |node: u32| {
            let here = self
                .gpu_nodes
                .iter()
                .flatten()
                .filter(|nodes| nodes.contains(node));
            u32::try_from(here.count()).unwrap_or(u32::MAX)
        };
        self.nodes.iter().map(|node| (node, on(node))).collect()
    }
}

/// Why a task with GPUs on `nodes` keeps its CPUs.
fn cpus_left(
    machine: &Machine,
    step: &StepRequest,
    request: &TaskRequest,
    nodes: &NodeSet,
) -> Option<CpusLeft> {
    if !step.owns_cpus {
        return Some(CpusLeft::NotOwned);
    }
    if step.settings.override_user {
        return None;
    }
    if request.user_cpu_bind {
        return Some(CpusLeft::UserCpus);
    }
    // Memory that was named by number stays where it is: CPUs beside it are not moved to a GPU that is not.
    let (memory, cpus) = (request.user_memory.as_ref()?, request.slurm_cpus.as_ref()?);
    let is_beside = machine.cpus_of(&memory.nodes).intersects(cpus);
    let is_named = !memory.is_local && !memory.nodes.is_empty();
    (is_named && is_beside && !memory.nodes.intersects(nodes)).then_some(CpusLeft::UserMemory)
}
