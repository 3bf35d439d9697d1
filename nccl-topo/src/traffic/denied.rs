//! Where the driver denies P2P that NCCL would use: in virtual machines, behind switches that redirect it, between GPUs that
//! have none.  NCCL asks NVML of each pair (`graph/paths.cc` `ncclTopoCheckP2p`) and takes the way through host memory.

use std::borrow::Cow;

use topology::machine::Machine;
use topology::pci::PciAddress;

use super::Members;
use crate::graph::{PathType, Reach, p2p_limit};
use crate::model::{Conditions, Model, with_links};
use crate::reader::System;

/// The members with P2P no farther than the driver allows it.
///
/// None where it denies some pairs of a type of path and allows others, or denies nearer ones than it allows: such a
/// communicator is not modelled.
pub(super) fn as_driver_allows<'m>(
    machine: &Machine,
    members: &'m Members,
    file: &System,
) -> Option<Cow<'m, Members>> {
    if members.denied_p2p.is_empty() {
        return Some(Cow::Borrowed(members));
    }
    let gpus = members.known();
    let ranks: Vec<String> = gpus.iter().map(ToString::to_string).collect();
    let conditions = Conditions {
        // With no limit no path is led around through host memory: each has the type by which NCCL judges it.
        reach: Reach {
            p2p_limit: Some(PathType::Sys),
            is_whole: true,
            ..members.reach
        },
        ..members.conditions()
    };
    let model = Model::of(&with_links(file, machine), &ranks, conditions);
    let limit = members.reach.p2p_limit;
    let limit = limit.unwrap_or_else(|| p2p_limit(&model.graph));
    let denies = |a: PciAddress, b: PciAddress| {
        members.denied_p2p.contains(&(a, b)) || members.denied_p2p.contains(&(b, a))
    };
    let mut farthest_allowed = PathType::Loc;
    let mut nearest_denied = PathType::Dis;
    for (from, a) in model.gpus.iter().enumerate() {
        for (to, b) in model.gpus.iter().enumerate().filter(|(to, _)| *to != from) {
            let kind = model.paths.between(from, to)?.kind;
            let (a, b) = (*gpus.get(a.rank)?, *gpus.get(b.rank)?);
            if kind > limit {
                continue;
            }
            if denies(a, b) {
                nearest_denied = nearest_denied.min(kind);
            } else {
                farthest_allowed = farthest_allowed.max(kind);
            }
        }
    }
    if nearest_denied == PathType::Dis {
        return Some(Cow::Borrowed(members));
    }
    (farthest_allowed < nearest_denied).then(|| {
        let mut members = members.clone();
        members.reach.p2p_limit = Some(farthest_allowed);
        Cow::Owned(members)
    })
}
