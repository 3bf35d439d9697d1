//! Which of the GPUs that a task sees it is taken to use.

use super::request::TaskRequest;
use crate::option::Map;
use crate::pci::PciAddress;

/// The GPUs of each task under `map`, and whether tasks that see several were given a share.
pub(super) fn choose(tasks: &[TaskRequest], map: Map) -> (Vec<Vec<PciAddress>>, bool) {
    let shares = match map {
        Map::Visible => None,
        Map::Auto => even_shares(tasks),
        Map::Localid => Some(Share::One),
    };
    let chosen = tasks
        .iter()
        .enumerate()
        .map(|(task, request)| match shares {
            None => request.visible.clone(),
            Some(Share::One) => nth(&request.visible, task),
            Some(Share::Block(size)) => request
                .visible
                .iter()
                .skip(task * size)
                .take(size)
                .copied()
                .collect(),
        })
        .collect();
    (
        chosen,
        shares.is_some() && tasks.iter().any(|task| task.visible.len() > 1),
    )
}

#[derive(Clone, Copy)]
enum Share {
    /// The GPU of the local id, modulo.
    One,
    /// The local id's block of so many GPUs.
    Block(usize),
}

/// How tasks that all see the same GPUs divide them evenly, as the frameworks' local rank does; none
/// when they see different ones, see one, or cannot divide them.
fn even_shares(tasks: &[TaskRequest]) -> Option<Share> {
    let visible = &tasks.first()?.visible;
    let alike = tasks.iter().all(|task| task.visible == *visible);
    if !alike || visible.len() < 2 || tasks.len() < 2 {
        return None;
    }
    if tasks.len().is_multiple_of(visible.len()) {
        Some(Share::One)
    } else if visible.len().is_multiple_of(tasks.len()) {
        Some(Share::Block(visible.len() / tasks.len()))
    } else {
        None
    }
}

fn nth(visible: &[PciAddress], task: usize) -> Vec<PciAddress> {
    task.checked_rem(visible.len())
        .and_then(|k| visible.get(k))
        .copied()
        .into_iter()
        .collect()
}
