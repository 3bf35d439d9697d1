//! The NICs of GPUs and tasks, in words and in JSON.

use serde::Serialize;
use topology::binding::StepPlan;
use topology::machine::Machine;
use topology::nics::{NicPath, NicShare, nics_of_tasks};
use topology::pci::PciAddress;

use crate::hardware::join;

/// The NICs of each task of a plan.
pub(crate) fn of_plan(machine: &Machine, plan: &StepPlan) -> Vec<NicShare> {
    let gpus: Vec<Vec<PciAddress>> = plan.tasks.iter().map(|task| task.gpus.clone()).collect();
    nics_of_tasks(machine, &gpus)
}

/// The NICs of a GPU or a task.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NicDocument {
    /// Them, in the order of their addresses; empty where there are none, or which are near is not known.
    nics: Vec<PciAddress>,
    /// The names that programs know them by: RDMA devices (`mlx5_0`), else interfaces.
    names: Vec<String>,
    /// What is between: `one-switch`, `switches`, `host-bridge`, `node` (host bridges of a NUMA node), `package` (NUMA nodes of
    /// a socket) or `socket-link`; of a task the farthest of its GPUs'.  Null without NICs.
    path: Option<&'static str>,
    /// How many GPUs share the one that most share; 0 without NICs.
    sharing: usize,
}

impl NicDocument {
    pub(crate) fn new(machine: &Machine, share: &NicShare) -> Self {
        Self {
            nics: share.nics.clone(),
            names: share.nics.iter().map(|nic| name(machine, *nic)).collect(),
            path: share.path.and_then(word),
            sharing: share.sharing,
        }
    }
}

fn word(path: NicPath) -> Option<&'static str> {
    match path {
        NicPath::OneSwitch => Some("one-switch"),
        NicPath::Switches => Some("switches"),
        NicPath::HostBridge => Some("host-bridge"),
        NicPath::Node => Some("node"),
        NicPath::Package => Some("package"),
        NicPath::SocketLink => Some("socket-link"),
        NicPath::Unknown => None,
    }
}

/// `mlx5_0`: the RDMA device with a port that is up, else the first interface, else the address.
pub(crate) fn name(machine: &Machine, nic: PciAddress) -> String {
    let own = machine.nics.iter().find(|own| own.pci == nic);
    let port = own.and_then(|own| own.ports.first().map(|port| &port.device));
    let name = port.or_else(|| own.and_then(|own| own.names.first()));
    name.cloned().unwrap_or_else(|| nic.to_string())
}

/// `mlx5_0 and mlx5_1`; nothing where there are none.
pub(crate) fn names(machine: &Machine, nics: &[PciAddress]) -> String {
    let names: Vec<String> = nics.iter().map(|nic| name(machine, *nic)).collect();
    join(&names)
}

/// What a task's NICs are, behind its name: `mlx5_0`, `mlx5_0 (over the socket link)`.
fn words(machine: &Machine, share: &NicShare) -> String {
    let names = names(machine, &share.nics);
    match (share.nics.len(), share.path) {
        (0, _) => "not known".to_owned(),
        (_, Some(NicPath::SocketLink)) => format!("{names} (over the socket link)"),
        _ => names,
    }
}

/// The line of a step: `gpu1: nearest NICs: task 0 mlx5_0; task 1 mlx5_3`.
pub(crate) fn of_tasks(machine: &Machine, host: &str, shares: &[NicShare]) -> String {
    let parts: Vec<String> = shares
        .iter()
        .enumerate()
        .map(|(task, share)| format!("task {task} {}", words(machine, share)))
        .collect();
    format!("{host}: nearest NICs: {}", parts.join("; "))
}

/// The line of one process: `gpu1: nearest NIC: mlx5_0`.
pub(crate) fn of_process(machine: &Machine, host: &str, share: &NicShare) -> String {
    let words = words(machine, share);
    if share.nics.len() > 1 {
        format!("{host}: nearest NICs: {words}")
    } else {
        format!("{host}: nearest NIC: {words}")
    }
}
