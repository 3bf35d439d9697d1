//! Which NIC each GPU should use.

use topology::machine::{Machine, NicAside};
use topology::nics::{NicPath, NicShare, data_nics, deal_nics};
use topology::pci::PciAddress;

use super::sockets::{GpuSet, number};
use crate::nics;

/// The sentences; none on a machine without GPUs or NICs, or with one of each.
pub(super) fn sentences(machine: &Machine) -> Vec<String> {
    if machine.gpus.is_empty()
        || machine.nics.is_empty()
        || machine.gpus.len() + machine.nics.len() == 2
    {
        return Vec::new();
    }
    let gpus: Vec<PciAddress> = machine.gpus.iter().map(|gpu| gpu.pci).collect();
    let shares = deal_nics(machine, &gpus);
    let where_is = |is: &dyn Fn(&NicShare) -> bool| -> GpuSet {
        let found = shares.iter().enumerate().filter(|(_, share)| is(share));
        found.map(|(gpu, _)| number(gpu)).collect()
    };
    let mut groups: Vec<(&[PciAddress], GpuSet)> = Vec::new();
    for (gpu, share) in shares.iter().enumerate() {
        match groups.iter_mut().find(|(own, _)| *own == share.nics) {
            Some((_, set)) => {
                set.insert(number(gpu));
            }
            None => groups.push((&share.nics, GpuSet::single(number(gpu)))),
        }
    }
    groups.retain(|(own, _)| !own.is_empty());
    let mut sentences = Vec::new();
    let parts: Vec<String> = groups
        .iter()
        .map(|(own, gpus)| format!("GPU{gpus} {}", nics::names(machine, own)))
        .collect();
    if !parts.is_empty() {
        sentences.push(format!(
            "NIC for each GPU, the nearest: {}.",
            parts.join("; ")
        ));
    }
    let far = where_is(&|share| share.path == Some(NicPath::SocketLink));
    if !far.is_empty() {
        let all = if data_nics(machine).len() == machine.nics.len() {
            "every NIC"
        } else {
            "every NIC that jobs are told of"
        };
        sentences.push(format!("GPU{far}: {all} is across the socket link."));
    }
    let unknown = where_is(&|share| share.nics.is_empty());
    if !unknown.is_empty() {
        sentences.push(match machine.nics.as_slice() {
            [only] => format!(
                "GPU{unknown}: how far {}, the only NIC, is from them is not known.",
                nics::names(machine, &[only.pci])
            ),
            _ => format!("GPU{unknown}: which NIC is nearest is not known."),
        });
    }
    for (why, words) in [
        (NicAside::Down, "down, so jobs are told of others."),
        (
            NicAside::VirtualFunction,
            "a virtual function of another NIC, so jobs are told of that one.",
        ),
    ] {
        let aside = (machine.nics.iter().enumerate()).filter(|(_, nic)| nic.aside == Some(why));
        let set: GpuSet = aside.map(|(nic, _)| number(nic)).collect();
        // Where all are, they are named all the same.
        let is_told = (machine.nics.iter()).any(|nic| nic.aside.is_none());
        if !set.is_empty() && is_told {
            sentences.push(format!("NIC{set}: {words}"));
        }
    }
    sentences
}
