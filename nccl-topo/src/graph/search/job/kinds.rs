//! Types of paths that a machine has, and their order.

use crate::graph::path_type::PathType;
use crate::graph::paths::Paths;

/// The types of the paths between different GPUs.
pub(super) fn kinds(paths: &Paths) -> impl Iterator<Item = PathType> + '_ {
    let count = paths.gpus().len();
    (0..count).flat_map(move |from| {
        let others = (0..count).filter(move |to| *to != from);
        others.filter_map(move |to| paths.between(from, to).map(|path| path.kind))
    })
}

/// The types of the paths from GPUs to network devices.
pub(super) fn net_kinds(paths: &Paths) -> impl Iterator<Item = PathType> + '_ {
    let (gpus, nets) = (paths.gpus().len(), paths.nets().len());
    (0..gpus).flat_map(move |gpu| {
        (0..nets).filter_map(move |net| paths.to_net(gpu, net).map(|path| path.kind))
    })
}

/// The same, both ways.
pub(super) fn all_net_kinds(paths: &Paths) -> impl Iterator<Item = PathType> + '_ {
    let (gpus, nets) = (paths.gpus().len(), paths.nets().len());
    let back = (0..nets).flat_map(move |net| {
        (0..gpus).filter_map(move |gpu| paths.from_net(net, gpu).map(|path| path.kind))
    });
    net_kinds(paths).chain(back)
}

/// The next type of a path.
pub(super) fn farther(kind: PathType) -> PathType {
    use PathType::{C2c, Dis, Loc, Net, Nvb, Nvl, P2c, Phb, Pix, Pxb, Pxn, Sys};
    match kind {
        Loc => Nvl,
        Nvl => Nvb,
        Nvb => C2c,
        C2c => Pix,
        Pix => Pxb,
        Pxb => P2c,
        P2c => Pxn,
        Pxn => Phb,
        Phb => Sys,
        Sys => Net,
        Net | Dis => Dis,
    }
}
