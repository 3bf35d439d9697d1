//! Machines made up for tests.

use topology::machine::NumaSource;
use topology::machine::{Gpu, Locality, Machine, Nic, NodeKind, NumaNode, Package, Processor};
use topology::pci::{Link, PciAddress, PciDevice};
use topology::set::{CpuSet, NodeSet};

pub(crate) const H100: (u16, u16) = (0x10de, 0x2330);

/// A machine of `packages` with `nodes` each, `cpus` to a node, numbered through.
pub(crate) fn machine(packages: u32, nodes: u32, cpus: u32) -> Machine {
    let mut machine = Machine {
        processor: Some(Processor {
            arch: "x86_64".into(),
            vendor: Some("GenuineIntel".into()),
            family: Some(6),
            model: Some(143),
        }),
        nvlink_visible: true,
        ..Machine::default()
    };
    for package in 0..packages {
        let mut all = CpuSet::new();
        for node in package * nodes..(package + 1) * nodes {
            let own = CpuSet::from_range(node * cpus, (node + 1) * cpus - 1);
            all.extend_with(&own);
            machine.numa_nodes.push(NumaNode {
                id: node,
                package: Some(package),
                cpus: own,
                memory_bytes: Some(1 << 30),
                kind: NodeKind::Dram,
                distances: [].into(),
            });
        }
        machine.online.extend_with(&all);
        machine.packages.push(Package {
            id: package,
            cpus: all,
            numa_nodes: NodeSet::from_range(package * nodes, (package + 1) * nodes - 1),
        });
    }
    machine
}

pub(crate) fn amd(mut machine: Machine) -> Machine {
    machine.processor = Some(Processor {
        arch: "x86_64".into(),
        vendor: Some("AuthenticAMD".into()),
        family: Some(25),
        model: Some(17),
    });
    machine
}

pub(crate) fn at(text: &str) -> PciAddress {
    text.parse().unwrap()
}

fn gen5() -> Link {
    Link {
        max_speed_gts: Some(32.0),
        max_width: Some(16),
        current_speed_gts: Some(32.0),
        current_width: Some(16),
        ..Link::default()
    }
}

fn add(machine: &mut Machine, device: PciDevice) {
    machine.pci.push(device);
    machine.pci.sort_by_key(|device| device.address);
}

fn pci(
    address: PciAddress,
    parent: Option<PciAddress>,
    class: u32,
    ids: (u16, u16),
    node: u32,
) -> PciDevice {
    PciDevice {
        parent,
        subsystem: Some((0x10de, 0x1626)),
        link: gen5(),
        numa_node: i32::try_from(node).ok(),
        ..PciDevice::new(address, class, ids.0, ids.1)
    }
}

/// A root port.
pub(crate) fn root_port(machine: &mut Machine, address: &str, node: u32) -> PciAddress {
    let address = at(address);
    add(
        machine,
        pci(address, None, 0x06_0400, (0x8086, 0x352a), node),
    );
    address
}

/// A switch at bus `bus` below `parent`: its upstream port, and a downstream port for each of `ports`.
pub(crate) fn switch(
    machine: &mut Machine,
    parent: PciAddress,
    bus: u8,
    ports: u8,
    node: u32,
) -> Vec<PciAddress> {
    let upstream = PciAddress {
        domain: 0,
        bus,
        device: 0,
        function: 0,
    };
    let ids = (0x1000, 0xc030);
    add(machine, pci(upstream, Some(parent), 0x06_0400, ids, node));
    let downstream = |device| PciAddress {
        domain: 0,
        bus: bus + 1,
        device,
        function: 0,
    };
    let all: Vec<_> = (0..ports).map(downstream).collect();
    for port in &all {
        add(machine, pci(*port, Some(upstream), 0x06_0400, ids, node));
    }
    all
}

fn locality(machine: &Machine, node: u32) -> Locality {
    let nodes = NodeSet::single(node);
    Locality {
        package: machine.node(node).and_then(|node| node.package),
        cpus: Some(machine.cpus_of(&nodes)),
        numa_nodes: Some(nodes),
        numa_source: NumaSource::NumaNode,
        ..Locality::default()
    }
}

pub(crate) fn gpu(machine: &mut Machine, address: &str, parent: PciAddress, node: u32) {
    let address = at(address);
    let device = pci(address, Some(parent), 0x03_0200, H100, node);
    machine.gpus.push(Gpu {
        locality: locality(machine, node),
        ..Gpu::of(&device)
    });
    add(machine, device);
    machine.gpus.sort_by_key(|gpu| gpu.pci);
}

pub(crate) fn nic(machine: &mut Machine, address: &str, parent: PciAddress, node: u32) {
    let address = at(address);
    let ids = (0x15b3, 0x1021);
    add(machine, pci(address, Some(parent), 0x02_0700, ids, node));
    let locality = locality(machine, node);
    machine.nics.push(Nic {
        pci: address,
        vendor: ids.0,
        device: ids.1,
        ports: Vec::new(),
        aside: None,
        names: Vec::new(),
        locality,
    });
    machine.nics.sort_by_key(|nic| nic.pci);
}

/// The device at `address`, to change it.
pub(crate) fn device<'m>(machine: &'m mut Machine, address: &str) -> &'m mut PciDevice {
    let address = at(address);
    machine
        .pci
        .iter_mut()
        .find(|device| device.address == address)
        .unwrap()
}

/// On each node of `machine`: a root port, a switch, `gpus` GPUs and a NIC below it.
///
/// Node N has the buses from 0xN0: root port N0:01.0, switch at N1 and N2, GPUs N3:00.0, N4:00.0 ..., the NIC
/// Nf:00.0.
pub(crate) fn with_switches(mut machine: Machine, gpus: u8) -> Machine {
    let nodes: Vec<_> = machine.numa_nodes.iter().map(|node| node.id).collect();
    for node in nodes {
        let bus = u8::try_from(node * 16).unwrap();
        let root = root_port(&mut machine, &format!("0000:{bus:02x}:01.0"), node);
        let ports = switch(&mut machine, root, bus + 1, gpus + 1, node);
        for (index, port) in (3..).zip(&ports[..usize::from(gpus)]) {
            gpu(
                &mut machine,
                &format!("0000:{:02x}:00.0", bus + index),
                *port,
                node,
            );
        }
        let last = ports[usize::from(gpus)];
        nic(
            &mut machine,
            &format!("0000:{:02x}:00.0", bus + 15),
            last,
            node,
        );
    }
    machine
}

/// On each node of `machine`: `gpus` GPUs, and a NIC where `nics`, each below its own root port.
///
/// Node N has root ports N0:01.0, N0:02.0 ..., GPUs N1:00.0, N2:00.0 ..., the NIC Nf:00.0.
pub(crate) fn without_switches(mut machine: Machine, gpus: u8, nics: bool) -> Machine {
    let nodes: Vec<_> = machine.numa_nodes.iter().map(|node| node.id).collect();
    for node in nodes {
        let bus = u8::try_from(node * 16).unwrap();
        for index in 1..=gpus {
            let port = format!("0000:{bus:02x}:{index:02x}.0");
            let root = root_port(&mut machine, &port, node);
            gpu(
                &mut machine,
                &format!("0000:{:02x}:00.0", bus + index),
                root,
                node,
            );
        }
        if nics {
            let root = root_port(&mut machine, &format!("0000:{bus:02x}:1f.0"), node);
            nic(
                &mut machine,
                &format!("0000:{:02x}:00.0", bus + 15),
                root,
                node,
            );
        }
    }
    machine
}
