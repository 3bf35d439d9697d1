//! Which of the GPUs that a task sees it is taken to use.

use super::request::TaskRequest;
use crate::option::Map;
use crate::pci::{PciAddress, once_each};

/// The GPUs of each task under `map`, and whether tasks that see several were given a share.
pub(super) fn choose(tasks: &[TaskRequest], map: Map) -> (Vec<Vec<PciAddress>>, bool) {
    let shares = match map {
        Map::Visible => None,
        Map::Auto => shares_of(tasks),
        Map::Localid => Some(Share::One),
    };
    let chosen = tasks
        .iter()
        .enumerate()
        .map(|(task, request)| {
            let own = match shares {
                None => request.visible.clone(),
                Some(Share::One) => nth(&request.visible, task),
                Some(Share::Block(size)) => request
                    .visible
                    .iter()
                    .skip(task * size)
                    .take(size)
                    .copied()
                    .collect(),
            };
            once_each(own)
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

/// How tasks that all see the same GPUs divide them, as the frameworks' local rank does: in blocks where these come out
/// even, else each the one of its local id; none when they see different ones, or one.
fn shares_of(tasks: &[TaskRequest]) -> Option<Share> {
    let visible = &tasks.first()?.visible;
    let alike = tasks.iter().all(|task| task.visible == *visible);
    if !alike || visible.len() < 2 || tasks.len() < 2 {
        return None;
    }
    let is_even = visible.len() > tasks.len() && visible.len().is_multiple_of(tasks.len());
    Some(if is_even {
        Share::Block(visible.len() / tasks.len())
    } else {
        Share::One
    })
}

fn nth(visible: &[PciAddress], task: usize) -> Vec<PciAddress> {
    task.checked_rem(visible.len())
        .and_then(|k| visible.get(k))
        .copied()
        .into_iter()
        .collect()
}
