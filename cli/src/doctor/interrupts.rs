//! Interrupts of GPUs, NICs and NVMe drives that CPUs of another NUMA node serve.

use topology::pci::PciAddress;
use topology::set::{CpuSet, NodeSet};

use super::report::{DoctorReport, Harm};
use super::tree::Tree;
use super::world::World;
use crate::hardware;

/// Class and subclass of non-volatile memory controllers (PCI Code and ID Assignment specification, 01 08).
const NVME: u32 = 0x0108;
/// Interrupts whose numbers a line of advice names.
const NAMED: usize = 8;

/// A device, none of whose interrupts is served near it.
struct FarDevice {
    label: String,
    nodes: NodeSet,
    local: CpuSet,
    interrupts: Vec<u32>,
    served: CpuSet,
}

/// A device with several queues has an interrupt for many CPUs of the host, near ones and far ones; only where all are far has it no
/// queue that could be used from nearby.
pub(crate) fn check(world: &World<'_>, report: &mut DoctorReport) {
    let Some(tree) = &world.tree else {
        return;
    };
    let machine = world.machine;
    if machine.cpu_nodes().len() < 2 {
        return;
    }
    let gpus = machine.gpus.iter().map(|gpu| (gpu.pci, &gpu.locality));
    let nics = machine.nics.iter().map(|nic| (nic.pci, &nic.locality));
    let own = gpus.chain(nics).filter_map(|(pci, place)| {
        Some((
            pci,
            hardware::device_label(machine, pci),
            place.numa_nodes.clone()?,
        ))
    });
    let drives = machine
        .pci
        .iter()
        .filter(|device| device.class >> 8 == NVME);
    let drives = drives.filter_map(|drive| {
        let node = u32::try_from(drive.numa_node?).ok()?;
        Some((
            drive.address,
            format!("NVMe {}", drive.address),
            NodeSet::single(node),
        ))
    });
    let far: Vec<FarDevice> = own
        .chain(drives)
        .filter_map(|(pci, label, nodes)| {
            let local = machine.cpus_of(&nodes);
            let (interrupts, served) = served(tree, pci)?;
            (!local.is_empty() && !served.intersects(&local)).then_some(FarDevice {
                label,
                nodes,
                local,
                interrupts,
                served,
            })
        })
        .collect();
    let Some(first) = far.first() else {
        return;
    };
    let evidence: Vec<String> = far
        .iter()
        .map(|device| {
            format!(
                "all interrupts of {} (node {}) are served by CPUs {}, on node {}",
                device.label,
                device.nodes,
                device.served,
                machine.nodes_of(&device.served)
            )
        })
        .collect();
    let numbers: Vec<String> = first
        .interrupts
        .iter()
        .take(NAMED)
        .map(u32::to_string)
        .collect();
    report.find(
        "interrupts",
        Harm::SlowsJobs,
        evidence.join("; "),
        "they are handled far from the device, and what their handlers read and write comes from another NUMA node",
        format!(
            "for {}: for i in {}; do echo {} >/proc/irq/$i/smp_affinity_list; done{}; \
             irqbalance moves them again unless --banirq= names them",
            first.label,
            numbers.join(" "),
            first.local,
            if first.interrupts.len() > NAMED {
                " (and its others in msi_irqs)"
            } else {
                ""
            }
        ),
    );
}

/// The device's interrupts that are in use and the CPUs that serve them; None where there is none or it is not recorded.
///
/// `msi_irqs` below the device has a file for each (Documentation/ABI/testing/sysfs-bus-pci).  `effective_affinity_list` is what the interrupt
/// controller was told, and empty for one that is not in use; kernels without it have what may be used, `smp_affinity_list`
/// (Documentation/core-api/irq/irq-affinity.rst).
fn served(tree: &Tree, pci: PciAddress) -> Option<(Vec<u32>, CpuSet)> {
    let numbers = tree.entries(&format!("/sys/bus/pci/devices/{pci}/msi_irqs"));
    let mut interrupts = Vec::new();
    let mut cpus = CpuSet::new();
    for number in numbers.iter().filter_map(|name| name.parse::<u32>().ok()) {
        let list = |file: &str| tree.text(&format!("/proc/irq/{number}/{file}"));
        let text = list("effective_affinity_list").or_else(|| list("smp_affinity_list"));
        let Some(own) = text.and_then(|text| text.parse::<CpuSet>().ok()) else {
            continue;
        };
        if !own.is_empty() {
            interrupts.push(number);
            cpus = cpus.union(&own);
        }
    }
    interrupts.sort_unstable();
    (!cpus.is_empty()).then_some((interrupts, cpus))
}
