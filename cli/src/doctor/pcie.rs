//! PCI Express: links of GPUs and NICs, ACS and IOMMU above GPUs, NICs by socket.

use std::collections::BTreeSet;

use topology::machine::Machine;
use topology::pci::{Link, PciAddress, PciDevice};

use super::report::{DoctorReport, Harm};
use super::tree::Tree;
use super::world::World;
use crate::links;

/// A NIC of at least this many GB/s of PCIe is for jobs; a slower one may be for management.
const JOB_NIC_GB_S: f64 = 12.0;
/// ACS control bits that send peer-to-peer traffic upstream: P2P Request Redirect, P2P Completion Redirect.
const ACS_REDIRECT: u16 = 0x0004 | 0x0008;

pub(crate) fn check(world: &World<'_>, report: &mut DoctorReport) {
    check_links(world.machine, report);
    check_nics(world.machine, report);
    if let Some(tree) = &world.tree {
        check_acs(world, tree, report);
        check_iommu(world, tree, report);
    }
}

/// Links that run below what both ends can do.
fn check_links(machine: &Machine, report: &mut DoctorReport) {
    let gpus = machine
        .gpus
        .iter()
        .enumerate()
        .map(|(index, gpu)| (format!("GPU{index}"), gpu.pci, true));
    let nics = machine
        .nics
        .iter()
        .enumerate()
        .map(|(index, nic)| (format!("NIC{index}"), nic.pci, false));
    let mut is_idle = false;
    let mut slow: Vec<(Link, Vec<String>)> = Vec::new();
    let mut note = |name: String, link: &Link| {
        let same = |own: &Link| {
            links::now(own) == links::now(link) && links::best(own) == links::best(link)
        };
        match slow.iter_mut().find(|(own, _)| same(own)) {
            Some((_, names)) if names.contains(&name) => {}
            Some((_, names)) => names.push(name),
            None => slow.push((link.clone(), vec![name])),
        }
    };
    for (name, pci, is_gpu) in gpus.chain(nics) {
        let Some(device) = machine.device(pci) else {
            continue;
        };
        let above = device.parent.and_then(|parent| machine.device(parent));
        if let Some(bridge) = above.filter(|bridge| is_slow_bridge(bridge)) {
            note(
                format!("the switch port above {name}, {}", bridge.address),
                &bridge.link,
            );
        }
        let link = links::of(machine, pci);
        let is_slow = links::is_below_best(&link);
        if links::reduced(&link).is_some() || (is_slow && !is_gpu) {
            note(format!("{name} {pci}"), &link);
        }
        is_idle |= is_slow && is_gpu && links::reduced(&link).is_none();
    }
    for (link, names) in &slow {
        report_link(names, link, report);
    }
    if is_idle {
        report.skip("the generation of GPU links that are slow now: an idle GPU slows its link; check again under load");
    }
}

/// A bridge that has lost lanes; its speed follows that of an idle GPU below it.
fn is_slow_bridge(bridge: &PciDevice) -> bool {
    let is_downstream_of_switch = bridge.parent.is_some();
    !is_downstream_of_switch
        && links::reduced(&bridge.link).is_some()
        && bridge.link.max_width > Some(8)
}

fn report_link(names: &[String], link: &Link, report: &mut DoctorReport) {
    let now = links::now(link).unwrap_or_default();
    let best = links::best(link).unwrap_or_default();
    let run = if names.len() == 1 { "runs" } else { "run" };
    report.find(
        "link",
        Harm::SlowsJobs,
        format!("{} {run} at {now} of {best}", names.join(", ")),
        format!("every copy over this link takes {} as long", slowdown(link)),
        "hardware: reseat the card or its riser, check the slot's width and bifurcation in firmware setup",
    );
}

fn slowdown(link: &Link) -> String {
    let product = |speed: Option<f64>, width: Option<u32>| Some(speed? * f64::from(width?));
    // A GPU that idles at a low speed will not copy at it; lanes are what is lost.
    let lanes = || Some(f64::from(link.max_width?) / f64::from(link.current_width?));
    let lost = lanes().filter(|ratio| *ratio > 1.0).or_else(|| {
        let best = product(link.max_speed_gts, link.max_width)?;
        Some(best / product(link.current_speed_gts, link.current_width)?)
    });
    lost.map_or_else(
        || "several times".to_owned(),
        |ratio| format!("{ratio:.1} times"),
    )
}

/// Sockets with GPUs whose job network is on another socket only.
fn check_nics(machine: &Machine, report: &mut DoctorReport) {
    let fast: Vec<_> = machine
        .nics
        .iter()
        .filter(|nic| is_for_jobs(machine, nic.pci, nic.vendor))
        .collect();
    if fast.iter().any(|nic| nic.locality.package.is_none()) {
        report.skip("NICs by socket: the NUMA node of a NIC is unknown");
        return;
    }
    let with_nic: BTreeSet<u32> = fast.iter().filter_map(|nic| nic.locality.package).collect();
    let with_gpu: BTreeSet<u32> = machine
        .gpus
        .iter()
        .filter_map(|gpu| gpu.locality.package)
        .collect();
    for package in with_gpu
        .difference(&with_nic)
        .filter(|_| !with_nic.is_empty())
    {
        let gpus: Vec<String> = machine
            .gpus
            .iter()
            .enumerate()
            .filter(|(_, gpu)| gpu.locality.package == Some(*package))
            .map(|(index, _)| format!("GPU{index}"))
            .collect();
        let names: Vec<String> = fast.iter().map(|nic| nic.pci.to_string()).collect();
        report.find(
            "nic-socket",
            Harm::SlowsJobs,
            format!("{} on socket {package} have no fast NIC there ({} on another)", gpus.join(", "), names.join(", ")),
            "data that these GPUs send to other hosts crosses the socket link first, and GPUDirect RDMA is slow or off",
            format!("hardware: move a NIC to a slot of socket {package}, or give multi-host jobs the other GPUs first"),
        );
    }
}

/// InfiniBand and fabrics (class 0207, 0208), NVIDIA's and Amazon's adapters, and whatever has a wide link.
fn is_for_jobs(machine: &Machine, pci: PciAddress, vendor: u16) -> bool {
    let Some(device) = machine.device(pci) else {
        return false;
    };
    let wide = device.link.max_speed_gts.zip(device.link.max_width);
    let gb_s = wide.map_or(0.0, |(speed, width)| speed * f64::from(width) / 8.0);
    matches!(device.class >> 8, 0x0207 | 0x0208)
        || matches!(vendor, 0x15b3 | 0x1d0f)
        || gb_s >= JOB_NIC_GB_S
}

/// ACS on the switch ports above GPUs, from configuration space (PCI Express base specification, ACS
/// extended capability 000d: control at +6).
fn check_acs(world: &World<'_>, tree: &Tree, report: &mut DoctorReport) {
    let machine = world.machine;
    let mut on = Vec::new();
    let mut hidden = false;
    for port in shared_ports(machine) {
        let config = tree.bytes(&format!("/sys/bus/pci/devices/{port}/config"));
        match config.as_deref() {
            // A port of a switch is PCI Express and has 4,096 bytes, 64 of which anyone may read.
            Some(config) if config.len() > 256 => {
                if acs_control(config).is_some_and(|control| control & ACS_REDIRECT != 0) {
                    on.push(port.to_string());
                }
            }
            Some(_) | None => hidden = true,
        }
    }
    if hidden {
        report.skip(if world.is_live {
            "ACS on switches above GPUs: needs root"
        } else {
            "ACS on switches above GPUs: the recording lacks their extended configuration space"
        });
    }
    if let Some(first) = on.first() {
        report.find(
            "acs",
            Harm::SlowsJobs,
            format!("ACS redirects peer-to-peer traffic at {}", on.join(", ")),
            "copies between GPUs and NICs below one switch go up to the processor and back instead of directly",
            format!("at boot: setpci -s {first} ECAP_ACS+6.w=0000 (for each port), or turn ACS off in firmware setup"),
        );
    }
}

/// Bridges inside switches that have a GPU and something for it to talk to below them.
///
/// Root ports are left out: traffic that reaches one has left the switch already.
fn shared_ports(machine: &Machine) -> BTreeSet<PciAddress> {
    let above = |pci: PciAddress| machine.device(pci).and_then(|device| device.parent);
    // Bridges above a device, nearest first, the root port not among them.
    let inside = |pci: PciAddress| {
        let chain = std::iter::successors(above(pci), |bridge| above(*bridge)).take(32);
        chain
            .filter(|bridge| above(*bridge).is_some())
            .collect::<Vec<_>>()
    };
    let gpus: Vec<PciAddress> = machine.gpus.iter().map(|gpu| gpu.pci).collect();
    let nics = machine.nics.iter().map(|nic| nic.pci);
    let chains: Vec<Vec<PciAddress>> = gpus.iter().copied().chain(nics).map(inside).collect();
    let of_gpus: BTreeSet<PciAddress> = chains
        .iter()
        .take(gpus.len())
        .filter_map(|chain| chain.last().copied())
        .collect();
    let is_shared = |switch: &PciAddress| {
        of_gpus.contains(switch)
            && chains
                .iter()
                .filter(|chain| chain.last() == Some(switch))
                .count()
                > 1
    };
    chains
        .iter()
        .filter(|chain| chain.last().is_some_and(is_shared))
        .flatten()
        .copied()
        .collect()
}

/// The ACS control register; None where the function has no such capability.
fn acs_control(config: &[u8]) -> Option<u16> {
    let word = |at: usize| {
        let bytes = config.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let mut at = 0x100;
    // A damaged list of capabilities may be circular.
    for _ in 0..64 {
        let header = word(at)?;
        if header & 0xffff == 0x000d {
            let control = config.get(at + 6..at + 8)?;
            return Some(u16::from_le_bytes(control.try_into().ok()?));
        }
        at = usize::try_from(header >> 20).ok()?;
        if at < 0x100 {
            return None;
        }
    }
    None
}

fn check_iommu(world: &World<'_>, tree: &Tree, report: &mut DoctorReport) {
    let mut translated = Vec::new();
    let mut knows_groups = false;
    for (index, gpu) in world.machine.gpus.iter().enumerate() {
        let Some(group) = tree.link_name(&format!("/sys/bus/pci/devices/{}/iommu_group", gpu.pci))
        else {
            continue;
        };
        knows_groups = true;
        let kind = tree
            .text(&format!("/sys/kernel/iommu_groups/{group}/type"))
            .unwrap_or_default();
        if kind.starts_with("DMA") {
            translated.push(format!("GPU{index} (group {group}: {kind})"));
        }
    }
    let command_line = tree.text("/proc/cmdline").unwrap_or_default();
    let words: Vec<&str> = command_line.split_whitespace().collect();
    let is_on = words
        .iter()
        .any(|word| matches!(*word, "intel_iommu=on" | "amd_iommu=on"));
    let passes = words
        .iter()
        .any(|word| matches!(*word, "iommu=pt" | "iommu.passthrough=1"));
    let evidence = if !translated.is_empty() {
        format!("the IOMMU translates {}", translated.join(", "))
    } else if is_on && !passes && !knows_groups && !world.machine.gpus.is_empty() {
        format!("/proc/cmdline turns the IOMMU on without iommu=pt: {command_line}")
    } else {
        return;
    };
    let is_arm = world
        .machine
        .processor
        .as_ref()
        .is_some_and(|processor| processor.arch == "arm64");
    report.find(
        "iommu",
        Harm::SlowsJobs,
        evidence,
        "peer-to-peer copies and GPUDirect RDMA go through the IOMMU, or fail",
        format!(
            "kernel command line: {}",
            if is_arm {
                "iommu.passthrough=1"
            } else {
                "iommu=pt"
            }
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration space whose second extended capability is ACS with `control`.
    fn config(control: u16) -> Vec<u8> {
        let mut bytes = vec![0u8; 4096];
        bytes[0x100..0x104].copy_from_slice(&(0x0001u32 | 1 << 16 | 0x148 << 20).to_le_bytes());
        bytes[0x148..0x14c].copy_from_slice(&(0x000du32 | 1 << 16).to_le_bytes());
        bytes[0x14e..0x150].copy_from_slice(&control.to_le_bytes());
        bytes
    }

    #[test]
    fn acs_is_found_behind_other_capabilities() {
        assert_eq!(acs_control(&config(0x1d)), Some(0x1d));
        assert_eq!(acs_control(&vec![0; 4096]), None);
        assert_eq!(acs_control(&[0; 64]), None);
        let mut circle = vec![0u8; 4096];
        circle[0x100..0x104].copy_from_slice(&(0x0001u32 | 0x100 << 20).to_le_bytes());
        assert_eq!(acs_control(&circle), None);
    }
}
