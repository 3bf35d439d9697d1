//! The NICs of GPUs and tasks, in words.

use topology::machine::Machine;
use topology::nics::{NicPath, NicShare, name};
use topology::pci::PciAddress;

use crate::hardware::join;

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
