//! What the file says that NCCL would not have found, and the evidence.

use topology::machine::Machine;
use topology::pci::{PciAddress, PciDevice};

use super::devices::{Devices, Leaf};
use super::layout::{Cpu, Grouping, Layout, WhyNodes};
use super::values::{MAX_AFFINITY_WORDS, affinity};
use crate::link::LinkMaximum;
use crate::rules::since;

/// Something that the file says and NCCL would not have found, or not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// The device it is about; none where it is about the whole machine or a package.
    pub device: Option<PciAddress>,
    /// What the file says.
    pub what: String,
    /// What was read, and what NCCL makes of it without the file.
    pub evidence: String,
}

/// All corrections: of packages, then of places, then of links, then what is left out.
pub(super) fn corrections(
    machine: &Machine,
    devices: &Devices<'_>,
    layout: &Layout,
) -> Vec<Correction> {
    let mut list = Vec::new();
    for cpu in &layout.cpus {
        list.extend(merged_nodes(cpu));
        list.extend(long_affinity(cpu));
    }
    if let Grouping::NumaNodes(why) = layout.grouping {
        list.push(split_nodes(why));
    }
    for leaf in &devices.leaves {
        list.extend(place(machine, devices, layout, leaf));
    }
    list.extend(made_up(devices));
    for device in devices.recorded.values() {
        list.extend(link(machine, device));
    }
    list.extend(devices.left_out.iter().map(|nic| left_out(*nic)));
    list.extend(
        devices
            .of_unknown_place
            .iter()
            .map(|nic| of_unknown_place(*nic)),
    );
    list
}

fn merged_nodes(cpu: &Cpu) -> Option<Correction> {
    let Cpu {
        package,
        nodes,
        numaid,
        ..
    } = cpu;
    (nodes.len() > 1).then(|| Correction {
        device: None,
        what: format!(
            "NUMA nodes {nodes} are one <cpu numaid=\"{numaid}\"> with CPUs {}",
            cpu.cpus
        ),
        evidence: format!(
            "all of these CPUs are on socket {package}; without the file NCCL takes each NUMA node for a socket, and \
             each path between two of them for the socket link (SYS)"
        ),
    })
}

fn long_affinity(cpu: &Cpu) -> Option<Correction> {
    affinity(&cpu.cpus).is_none().then(|| Correction {
        device: None,
        what: format!("<cpu numaid=\"{}\"> has an empty affinity", cpu.numaid),
        evidence: format!(
            "CPUs {} need more than {MAX_AFFINITY_WORDS} words of 32 bits, and NCCL refuses longer values; with an \
             empty value it keeps the task's own binding",
            cpu.cpus
        ),
    })
}

fn split_nodes(why: WhyNodes) -> Correction {
    let evidence = match why {
        WhyNodes::Nics => {
            "a GPU here shares no switch with a NIC, and with one <cpu> per socket NCCL would assign NICs by number; \
             this order keeps the ring's crossings between sockets at the minimum"
        }
        WhyNodes::Crossings => {
            "with one <cpu> per socket, NCCL's rings and trees would cross between sockets more often: it counts a \
             hop through an Intel CPU as 6/5 of its bandwidth, and a hop between two <cpu> as no more than its own"
        }
    };
    Correction {
        device: None,
        what: "one <cpu> per NUMA node, ordered by socket".to_owned(),
        evidence: evidence.to_owned(),
    }
}

/// A device that NCCL would put elsewhere.
fn place(
    machine: &Machine,
    devices: &Devices<'_>,
    layout: &Layout,
    leaf: &Leaf<'_>,
) -> Option<Correction> {
    let address = leaf.device.address;
    let top = devices.top(address);
    let cpu = layout.cpus.iter().find(|cpu| cpu.tops.contains(&top))?;
    let recorded = devices.recorded.get(&top).copied();
    let raw = recorded.unwrap_or(leaf.device).numa_node;
    let says = match raw.map(u32::try_from) {
        Some(Ok(node)) if cpu.nodes.contains(node) => return None,
        Some(Ok(node)) if !machine.cpu_nodes().contains(node) => {
            format!("numa_node says {node}, which has no CPUs")
        }
        Some(Ok(node)) => format!("numa_node says {node}, and NCCL would believe it"),
        Some(Err(_)) => {
            "firmware reports no NUMA node, so without the file NCCL adds a <cpu numaid=\"-1\"> for it".into()
        }
        None => "its numa_node is not recorded".into(),
    };
    let nodes = leaf.locality.numa_nodes.as_ref();
    let known = nodes.map_or_else(
        || format!("socket {} is the only one", cpu.package),
        |nodes| {
            let (its, are) = if nodes.len() == 1 {
                ("its NUMA node", "is")
            } else {
                ("its NUMA nodes", "are")
            };
            format!(
                "{its} {are} {nodes}, known by {}",
                leaf.locality.numa_source.words()
            )
        },
    );
    Some(Correction {
        device: Some(address),
        what: format!("{address} is under <cpu numaid=\"{}\">", cpu.numaid),
        evidence: format!("{known}; {says}"),
    })
}

fn link(machine: &Machine, device: &PciDevice) -> Option<Correction> {
    let address = device.address;
    let most = LinkMaximum::of(machine, device);
    if most.speed_gts.is_none() || most.width.is_none() {
        return Some(Correction {
            device: Some(address),
            what: format!("{address} has no link_speed or link_width: it is empty"),
            evidence: "the maximum is not known at either end of the link; NCCL then assumes 8.0 GT/s and 16 lanes"
                .to_owned(),
        });
    }
    if most.is_least {
        return Some(Correction {
            device: Some(address),
            what: link_words(address, &most),
            evidence: "the link ran so when the machine was read; its maximum is unknown"
                .to_owned(),
        });
    }
    let slower = device.link.current_speed_gts < most.speed_gts;
    let narrower = device.link.current_width < most.width;
    let read = device.link.current_speed_gts.zip(device.link.current_width);
    let (speed, width) = read.filter(|_| slower || narrower)?;
    let from = since(|rules| rules.gpu_link_speed_is_of_the_moment)?;
    Some(Correction {
        device: Some(address),
        what: link_words(address, &most),
        evidence: format!(
            "device and port support this; when the machine was read, the link ran at {speed} GT/s x{width}, and \
             without the file NCCL {from} and later take a GPU's link as it runs at that moment"
        ),
    })
}

/// `0000:3b:00.0 has link_speed "32.0 GT/s PCIe" and link_width 16`.
fn link_words(address: PciAddress, most: &LinkMaximum) -> String {
    format!(
        "{address} has link_speed \"{}\" and link_width {}",
        most.speed_word(),
        most.width_word()
    )
}

fn made_up<'a>(devices: &'a Devices<'_>) -> impl Iterator<Item = Correction> + 'a {
    devices.made_up.iter().map(|(address, made_up)| {
        let below: Vec<_> = made_up.below.iter().map(ToString::to_string).collect();
        Correction {
            device: Some(*address),
            what: format!("{} are below an invented switch, {address}", below.join(" and ")),
            evidence: format!(
                "{} says that they share a switch, and the machine shows none; without the file NCCL sends their \
                 traffic through the CPU",
                made_up.switch.said_by
            ),
        }
    })
}

fn of_unknown_place(nic: PciAddress) -> Correction {
    Correction {
        device: Some(nic),
        what: format!("{nic} is left out"),
        evidence: "its socket is unknown; NCCL finds it without the file, and in jobs on one host, for which this file \
                   is, uses no NIC"
            .to_owned(),
    }
}

fn left_out(nic: PciAddress) -> Correction {
    Correction {
        device: Some(nic),
        what: format!("{nic} is left out"),
        evidence:
            "NCCL accepts 256 elements, and treats this port or virtual function as its adapter's first"
                .to_owned(),
    }
}
