//! GPUs in parts (MLOPart), and GPUs that several ranks share.
//!
//! Which part a rank holds NCCL asks CUDA (`init.cc` `fillInfo`), and says so in its own tree, over whatever the file says of
//! the first `<gpu>` below that PCI device; others there are left out (`graph/topo.cc` `ncclTopoGetSystem`,
//! `ncclTopoTrimXml`).

use crate::element::{Element, integer};
use crate::reader::System;

/// Between the `busid` of a GPU and the number of its part, in the name of a rank's GPU.
const MARK: char = '/';

/// The parts that a GPU can have (`graph/topo.h` `NCCL_TOPO_MLOPART_DEV_MAX`), each with the one way to name it.
const PARTS: [(&str, i64); 2] = [("0", 0), ("1", 1)];

/// What a rank holds by its name: `0000:03:00.0`, or `0000:03:00.0/1` for the second part of that GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held<'r> {
    /// The GPU's `busid`.
    pub busid: &'r str,
    /// The number of the part; none of a whole GPU.
    pub part: Option<i64>,
}

impl<'r> Held<'r> {
    /// From a name; one that names no part that can be is taken as it is.
    pub fn of(name: &'r str) -> Self {
        let parts = name.split_once(MARK).and_then(|(busid, part)| {
            let (_, part) = PARTS.into_iter().find(|(name, _)| *name == part)?;
            Some((busid, part))
        });
        match parts {
            Some((busid, part)) => Self {
                busid,
                part: Some(part),
            },
            None => Self {
                busid: name,
                part: None,
            },
        }
    }
}

/// The parts that a file has of a GPU, in document order.
fn parts_of(pci: &Element) -> Vec<i64> {
    let parts = pci
        .named("gpu")
        .filter_map(|gpu| gpu.get("mlopart").and_then(integer));
    let mut found = Vec::new();
    for part in parts.filter(|part| *part >= 0) {
        if !found.contains(&part) {
            found.push(part);
        }
    }
    found
}

/// What the ranks held that a file was written by, in document order: each part where a GPU is in parts, else each GPU.
pub fn held_of(system: &System) -> Vec<String> {
    let mut found = Vec::new();
    system.root.walk(&mut |element| {
        let busid = element.get("busid").filter(|_| element.is_gpu());
        let Some(busid) = busid else { return };
        let parts = parts_of(element);
        if parts.is_empty() {
            found.push(busid.to_owned());
        }
        let names = parts.iter().map(|part| format!("{busid}{MARK}{part}"));
        found.extend(names);
    });
    found
}

/// The GPUs that a file has in parts, by `busid`.
pub fn in_parts(system: &System) -> Vec<String> {
    gpus_where(system, |gpu| !parts_of(gpu).is_empty())
}

/// The GPUs of which a file has one for each of several ranks, by `busid`.  NCCL has a place for each such rank from 2.30.3
/// on (`graph/topo.cc` `ncclTopoAddGpuSub`); the model has one GPU there.
pub fn shared(system: &System) -> Vec<String> {
    gpus_where(system, |gpu| {
        gpu.named("gpu").count() > parts_of(gpu).len().max(1)
    })
}

/// The GPUs of a file of which `test` is true, by `busid`, in document order.
pub(super) fn gpus_where(system: &System, test: impl Fn(&Element) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    system.root.walk(&mut |element| {
        if element.is_gpu() && test(element) {
            found.extend(element.get("busid").map(str::to_owned));
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_one_name() {
        for (name, part) in [
            ("0000:16:00.0/0", Some(0)),
            ("0000:16:00.0/1", Some(1)),
            ("0000:16:00.0/00", None),
            ("0000:16:00.0/0x1", None),
            ("0000:16:00.0/2", None),
            ("0000:16:00.0", None),
        ] {
            let held = Held::of(name);
            assert_eq!(held.part, part, "{name}");
            let busid = if part.is_some() { "0000:16:00.0" } else { name };
            assert_eq!(held.busid, busid, "{name}");
        }
    }
}
