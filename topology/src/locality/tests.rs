//! Each rung on a made-up machine: where it answers, and where it must not.

mod site;

use super::*;
use crate::firmware::{Initiator, RootBus, Slot};
use crate::machine::{Gpu, NodeKind, NumaNode, Package};

const GPU: &str = "0000:49:00.0";
const PORT: &str = "0000:48:01.0";

fn at(address: &str) -> PciAddress {
    address.parse().unwrap()
}

fn device(address: &str, parent: Option<&str>, bus: u8) -> PciDevice {
    PciDevice {
        parent: parent.map(at),
        root_bus: Some((0, bus)),
        numa_node: Some(-1),
        ..PciDevice::new(at(address), 0x03_0200, 0x10de, 0x2330)
    }
}

/// Packages of two nodes of two CPUs each, one GPU that its own files do not place.
fn machine(packages: u32) -> Machine {
    let nodes = 2 * packages;
    let node = |id: u32| NumaNode {
        id,
        package: Some(id / 2),
        cpus: [2 * id, 2 * id + 1].into_iter().collect(),
        memory_bytes: Some(1 << 30),
        kind: NodeKind::Dram,
        distances: BTreeMap::new(),
    };
    let mut machine = Machine {
        online: (0..2 * nodes).collect(),
        numa_nodes: (0..nodes).map(node).collect(),
        pci: vec![device(PORT, None, 0x48), device(GPU, Some(PORT), 0x48)],
        gpus: vec![Gpu::of(&device(GPU, None, 0x48))],
        firmware: Some(Firmware::default()),
        ..Machine::default()
    };
    machine.packages = (0..packages)
        .map(|id| Package {
            id,
            cpus: (4 * id..4 * id + 4).collect(),
            numa_nodes: [2 * id, 2 * id + 1].into_iter().collect(),
        })
        .collect();
    machine
}

fn with(firmware: Firmware) -> Machine {
    Machine {
        firmware: Some(firmware),
        ..machine(2)
    }
}

/// The rung that decides, the nodes and the package.
fn place(machine: &Machine) -> (NumaSource, String, Option<u32>) {
    let found = locate(&Facts {
        device: machine.device(at(GPU)).unwrap(),
        machine,
        overrides: &Overrides::new(),
    });
    let nodes = found.numa_nodes.map_or_else(String::new, |n| n.to_string());
    (found.numa_source, nodes, found.package)
}

/// Why `source` has no evidence.
fn refusal(machine: &Machine, source: NumaSource) -> String {
    let facts = Facts {
        device: machine.device(at(GPU)).unwrap(),
        machine,
        overrides: &Overrides::new(),
    };
    let rungs = explain(&facts);
    let (_, finding) = rungs.into_iter().find(|(name, _)| *name == source).unwrap();
    finding.unwrap_err().to_string()
}

fn nodes(list: &str) -> NodeSet {
    list.parse().unwrap()
}

fn unknown() -> (NumaSource, String, Option<u32>) {
    (NumaSource::Unknown, String::new(), None)
}

/// A machine whose GPU's `numa_node` is node 4 or 5, without CPUs, this far from nodes 0 to 3.
fn beside_memory(distances: [u32; 4]) -> Machine {
    let mut machine = machine(2);
    machine.numa_nodes.push(NumaNode {
        id: 4,
        package: None,
        cpus: Default::default(),
        memory_bytes: Some(1 << 30),
        kind: NodeKind::Gpu,
        distances: (0..).zip(distances).collect(),
    });
    machine.pci[1].numa_node = Some(4);
    machine
}

#[test]
fn a_node_without_cpus_stands_for_its_nearest() {
    let near_2 = (NumaSource::NearestNode, "2".to_owned(), Some(1));
    assert_eq!(place(&beside_memory([40, 40, 17, 20])), near_2);
    assert_eq!(place(&beside_memory([255, 255, 17, 20])), near_2);
}

#[test]
fn a_tie_is_the_set_of_the_tied_but_never_the_whole_machine() {
    let tied = place(&beside_memory([40, 40, 17, 17]));
    assert_eq!(tied, (NumaSource::NearestNode, "2-3".to_owned(), Some(1)));
    let across = place(&beside_memory([40, 17, 17, 40]));
    assert_eq!(across, (NumaSource::NearestNode, "1-2".to_owned(), None));
    let all = beside_memory([20, 20, 20, 20]);
    assert_eq!(place(&all), unknown());
    assert_eq!(
        refusal(&all, NumaSource::NearestNode),
        "node 4 is equally far from all of nodes 0-3"
    );
}

#[test]
fn distances_that_cannot_be_are_not_believed() {
    for distances in [[0, 20, 20, 20], [10, 20, 20, 20], [255; 4]] {
        assert_eq!(place(&beside_memory(distances)), unknown());
    }
    let mut machine = beside_memory([0; 4]);
    machine.numa_nodes[4].distances.clear();
    assert_eq!(place(&machine), unknown());
}

#[test]
fn a_numa_node_that_is_not_there_is_none() {
    let mut machine = machine(2);
    machine.pci[1].numa_node = Some(9);
    assert_eq!(place(&machine), unknown());
    let why = refusal(&machine, NumaSource::NumaNode);
    assert_eq!(why, "numa_node is 9, which this machine does not have");
}

#[test]
fn an_attachment_counts_where_it_is_narrower_than_the_machine() {
    let attached = |list: &str| {
        let mut machine = machine(2);
        machine.pci[1].attached_nodes = Some(nodes(list));
        machine
    };
    let placed = place(&attached("2-3"));
    assert_eq!(placed, (NumaSource::Hwloc, "2-3".to_owned(), Some(1)));
    let why = |list| refusal(&attached(list), NumaSource::Hwloc);
    for list in ["0-3", "9"] {
        assert_eq!(place(&attached(list)), unknown(), "{list}");
    }
    assert_eq!(
        why("0-3"),
        "it is attached to nodes 0-3, no narrower than the machine"
    );
    assert_eq!(why("9"), "it is attached to nodes 9, which have no CPUs");
}

/// hwloc up to 2.4 leaves out nodes without memory: what holds a device may hold such a node beside others.
#[test]
fn an_attachment_beside_cpus_of_no_node_is_those_cpus_and_no_node() {
    let mut machine = machine(2);
    let local = machine.cpus_of(&nodes("2-3"));
    machine.numa_nodes.retain(|node| node.id != 2);
    machine.pci[1].attached_nodes = Some(nodes("3"));
    machine.pci[1].local_cpus = Some(local.clone());
    let (source, found, package) = place(&machine);
    assert_eq!((source, package), (NumaSource::LocalCpulist, Some(1)));
    assert_eq!(found, unknown().1);
    let why = refusal(&machine, NumaSource::Hwloc);
    assert!(why.contains("are in no node that is recorded"), "{why}");
    // The whole machine is no place.
    machine.pci[1].local_cpus = Some(machine.online.clone());
    assert_eq!(place(&machine), unknown());
}

#[test]
fn a_local_cpulist_counts_where_it_is_narrower_than_the_machine() {
    let local = |list: &str| {
        let mut machine = machine(2);
        machine.pci[1].local_cpus = Some(list.parse().unwrap());
        machine
    };
    let placed = place(&local("4-5"));
    assert_eq!(placed, (NumaSource::LocalCpulist, "2".to_owned(), Some(1)));
    for list in ["0-7", "64", ""] {
        assert_eq!(place(&local(list)), unknown(), "{list}");
    }
    let why = refusal(&local("64"), NumaSource::LocalCpulist);
    assert_eq!(
        why,
        "local_cpulist is \"64\", which holds no CPU that is online"
    );
}

#[test]
fn a_sibling_below_the_same_port_places_a_device() {
    let below = |list: &str| {
        with(Firmware {
            below: [(at(PORT), nodes(list))].into(),
            ..Firmware::default()
        })
    };
    let placed = place(&below("2"));
    assert_eq!(placed, (NumaSource::Siblings, "2".to_owned(), Some(1)));
    assert_eq!(place(&below("1-2")), unknown());
    assert_eq!(place(&below("9")), unknown());
}

#[test]
fn a_bridge_in_a_ring_ends_the_search() {
    let mut machine = with(Firmware::default());
    machine.pci[0].parent = Some(at(PORT));
    assert_eq!(place(&machine), unknown());
}

fn initiators(list: &[(&str, u32, Option<u32>)]) -> Vec<Initiator> {
    list.iter()
        .map(|(device, domain, node)| Initiator {
            device: at(device),
            domain: *domain,
            node: *node,
        })
        .collect()
}

#[test]
fn a_generic_initiator_is_where_the_srat_has_it() {
    let srat = |list: &[(&str, u32, Option<u32>)]| {
        with(Firmware {
            initiators: initiators(list),
            ..Firmware::default()
        })
    };
    let placed = place(&srat(&[(GPU, 7, Some(3))]));
    assert_eq!(placed, (NumaSource::Acpi, "3".to_owned(), Some(1)));
    let by_port = place(&srat(&[(PORT, 7, Some(3)), ("0000:99:00.0", 1, Some(0))]));
    assert_eq!(by_port, (NumaSource::Acpi, "3".to_owned(), Some(1)));
    assert_eq!(place(&srat(&[(GPU, 7, None)])), unknown());
    assert_eq!(
        place(&srat(&[(GPU, 7, Some(3)), (GPU, 1, Some(0))])),
        unknown()
    );
}

#[test]
fn initiators_on_memory_nodes_of_one_gpu_lead_to_one_place() {
    let mut machine = beside_memory([40, 40, 17, 20]);
    machine.pci[1].numa_node = Some(-1);
    machine.firmware = Some(Firmware {
        initiators: initiators(&[(GPU, 4, Some(4)), (GPU, 2, Some(2))]),
        ..Firmware::default()
    });
    let placed = place(&machine);
    assert_eq!(placed, (NumaSource::Acpi, "2".to_owned(), Some(1)));
}

fn root(bus: u8, list: &str) -> RootBus {
    RootBus {
        bus: (0, bus),
        nodes: nodes(list),
        ..RootBus::default()
    }
}

#[test]
fn a_host_bridge_s_own_node_places_what_is_below() {
    let bridge = |bridge: RootBus| {
        with(Firmware {
            root_buses: vec![bridge],
            ..Firmware::default()
        })
    };
    let by_node = RootBus {
        numa_node: Some(2),
        ..root(0x48, "")
    };
    let by_cpus = RootBus {
        cpus: Some("4-5".parse().unwrap()),
        ..root(0x48, "")
    };
    for placed in [place(&bridge(by_node)), place(&bridge(by_cpus.clone()))] {
        assert_eq!(placed, (NumaSource::Acpi, "2".to_owned(), Some(1)));
    }
    let everywhere = RootBus {
        cpus: Some("0-7".parse().unwrap()),
        ..root(0x48, "")
    };
    assert_eq!(place(&bridge(everywhere)), unknown());
    let mut disagreeing = bridge(by_cpus);
    disagreeing.firmware.as_mut().unwrap().initiators = initiators(&[(GPU, 0, Some(0))]);
    assert_eq!(place(&disagreeing), unknown());
}

fn slot(designation: &str, bus: u8) -> Slot {
    Slot {
        designation: designation.to_owned(),
        address: at(&format!("0000:{bus:02x}:01.0")),
        root_bus: Some((0, bus)),
    }
}

fn with_slots(slots: &[(&str, u8)]) -> Machine {
    with(Firmware {
        slots: slots.iter().map(|(name, bus)| slot(name, *bus)).collect(),
        ..Firmware::default()
    })
}

#[test]
fn a_slot_s_cpu_gives_all_nodes_of_the_package() {
    for (first, second) in [("CPU1 SLOT1", "CPU2 SLOT2"), ("P0 SLOT1", "P1 SLOT2")] {
        let machine = with_slots(&[(first, 0x26), (second, 0x48), ("M.2 Socket 3", 0x15)]);
        let placed = place(&machine);
        assert_eq!(placed, (NumaSource::Dmi, "2-3".to_owned(), Some(1)));
    }
}

#[test]
fn names_that_fit_the_packages_in_one_way_suffice() {
    let four = |slots: &[(&str, u8)], processors: &[&str]| {
        let mut machine = machine(4);
        machine.firmware = with_slots(slots).firmware;
        let firmware = machine.firmware.as_mut().unwrap();
        firmware.processors = processors.iter().map(|name| (*name).to_owned()).collect();
        place(&machine)
    };
    let last = (NumaSource::Dmi, "6-7".to_owned(), Some(3));
    assert_eq!(four(&[("CPU2", 0x26), ("CPU4", 0x48)], &[]), last);
    assert_eq!(four(&[("CPU0", 0x26), ("CPU3", 0x48)], &[]), last);
    // Counted from 0 or 1?
    let doubtful: &[(&str, u8)] = &[("CPU1", 0x26), ("CPU3", 0x48)];
    assert_eq!(four(doubtful, &[]), unknown());
    assert_eq!(four(doubtful, &["CPU0", "CPU1", "CPU2", "CPU3"]), last);
    assert_eq!(four(doubtful, &["CPU1", "CPU3"]), unknown());
}

#[test]
fn slots_that_leave_doubt_say_nothing() {
    let doubtful: [&[(&str, u8)]; 7] = [
        // One name on every slot, though it could only be the second.
        &[("CPU2 SLOT1", 0x26), ("CPU2 SLOT2", 0x48)],
        // One CPU's name: counted from 0 or 1?
        &[("CPU1 SLOT1", 0x48)],
        // More names than packages, a gap, two ways of naming.
        &[("CPU1", 0x26), ("CPU2", 0x48), ("CPU3", 0x59)],
        &[("CPU1", 0x26), ("CPU3", 0x48)],
        &[("CPU1", 0x26), ("P2 SLOT1", 0x48)],
        // Two names below one host bridge.
        &[("CPU1", 0x48), ("CPU2", 0x48)],
        // Nothing below this host bridge.
        &[("CPU1", 0x26), ("CPU2", 0x59)],
    ];
    for slots in doubtful {
        assert_eq!(place(&with_slots(slots)), unknown(), "{slots:?}");
    }
}

#[test]
fn slots_against_a_host_bridge_s_node_or_the_processors_names_say_nothing() {
    let slots: &[(&str, u8)] = &[("CPU1 SLOT1", 0x26), ("CPU2 SLOT2", 0x48)];
    let mut machine = with_slots(slots);
    let firmware = machine.firmware.as_mut().unwrap();
    firmware.root_buses = vec![root(0x26, "1")];
    firmware.processors = vec!["CPU1".to_owned(), "CPU2".to_owned()];
    assert_eq!(place(&machine).0, NumaSource::Dmi);

    let mut contradicted = machine.clone();
    contradicted.firmware.as_mut().unwrap().root_buses = vec![root(0x26, "3")];
    assert_eq!(place(&contradicted), unknown());
    assert_eq!(
        refusal(&contradicted, NumaSource::Dmi),
        "SMBIOS slot \"CPU1 SLOT1\" contradicts the node of host bridge pci0000:26; no slot record is believed"
    );
    machine.firmware.as_mut().unwrap().processors = vec!["CPU0".to_owned(), "CPU1".to_owned()];
    assert_eq!(place(&machine), unknown());
}

fn with_buses(buses: &[(u8, &str)]) -> Machine {
    with(Firmware {
        root_buses: buses.iter().map(|(bus, list)| root(*bus, list)).collect(),
        ..Firmware::default()
    })
}

#[test]
fn host_bridges_on_both_sides_place_the_one_between() {
    let row: &[(u8, &str)] = &[
        (0x15, "0"),
        (0x37, "1"),
        (0x48, ""),
        (0x59, "1"),
        (0x80, "2"),
    ];
    let placed = place(&with_buses(row));
    assert_eq!(placed, (NumaSource::Bus, "1".to_owned(), Some(0)));
    // Of one package but of two nodes, or of nodes dealt in turn: the package.
    let row: &[(u8, &str)] = &[(0x37, "0"), (0x48, ""), (0x59, "1"), (0x80, "2")];
    let placed = place(&with_buses(row));
    assert_eq!(placed, (NumaSource::Bus, "0-1".to_owned(), Some(0)));
    let row: &[(u8, &str)] = &[
        (0x15, "1"),
        (0x26, "0"),
        (0x37, "1"),
        (0x59, "1"),
        (0x80, "2"),
    ];
    let placed = place(&with_buses(row));
    assert_eq!(placed, (NumaSource::Bus, "0-1".to_owned(), Some(0)));
}

#[test]
fn bus_order_that_leaves_doubt_says_nothing() {
    let doubtful: [&[(u8, &str)]; 6] = [
        // No host bridge on one side; two that differ.
        &[(0x15, "0"), (0x37, "2")],
        &[(0x59, "0"), (0x80, "2")],
        &[(0x37, "0"), (0x59, "2")],
        // Dealt to the packages in turn.
        &[(0x37, "0"), (0x59, "0"), (0x80, "2"), (0x95, "0")],
        // The other package is nowhere: the gap may be its.
        &[(0x37, "0"), (0x59, "0")],
        // A host bridge of both packages.
        &[(0x37, "0"), (0x59, "0"), (0x80, "2"), (0x95, "1-2")],
    ];
    for row in doubtful {
        assert_eq!(place(&with_buses(row)), unknown(), "{row:?}");
    }
    let mut other_segment = with_buses(&[(0x37, "0"), (0x59, "0"), (0x80, "2")]);
    for root in &mut other_segment.firmware.as_mut().unwrap().root_buses {
        root.bus.0 = 1;
    }
    assert_eq!(place(&other_segment), unknown());
}

#[test]
fn a_host_bridge_with_placed_devices_places_the_others_below_its_ports() {
    let row: &[(u8, &str)] = &[(0x15, "0"), (0x48, "3"), (0x80, "0")];
    let mut machine = with_buses(row);
    assert_eq!(place(&machine), (NumaSource::Bus, "3".to_owned(), Some(1)));
    // Right on the root bus it may be a virtual machine's.
    machine.pci[1].parent = None;
    assert_eq!(place(&machine), unknown());
    assert_eq!(place(&with_buses(&[(0x48, "3")])), unknown());
}

#[test]
fn one_package_is_known_when_its_node_is_not() {
    let placed = place(&machine(1));
    assert_eq!(placed, (NumaSource::OnePackage, "0-1".to_owned(), Some(0)));
    let mut cut = machine(1);
    cut.packages[0].cpus = "0-1".parse().unwrap();
    assert_eq!(place(&cut), unknown());
}

#[test]
fn rungs_are_tried_in_order_of_trust() {
    let mut machine = with_slots(&[("CPU1", 0x26), ("CPU2", 0x48)]);
    let firmware = machine.firmware.as_mut().unwrap();
    firmware.root_buses = [(0x37, "0"), (0x59, "0"), (0x80, "2")]
        .iter()
        .map(|(bus, list)| root(*bus, list))
        .collect();
    assert_eq!(place(&machine).0, NumaSource::Dmi);
    let firmware = machine.firmware.as_mut().unwrap();
    firmware.initiators = initiators(&[(GPU, 0, Some(0))]);
    assert_eq!(place(&machine).0, NumaSource::Acpi);
    let firmware = machine.firmware.as_mut().unwrap();
    firmware.below = [(at(PORT), nodes("3"))].into();
    assert_eq!(place(&machine).0, NumaSource::Siblings);
    machine.pci[1].attached_nodes = Some(nodes("2"));
    assert_eq!(place(&machine).0, NumaSource::Hwloc);
    machine.pci[1].local_cpus = Some("0-1".parse().unwrap());
    assert_eq!(place(&machine).0, NumaSource::LocalCpulist);
    machine.pci[1].numa_node = Some(1);
    assert_eq!(place(&machine).0, NumaSource::NumaNode);
}

#[test]
fn without_firmware_s_facts_nothing_is_concluded_from_them() {
    let mut machine = machine(2);
    machine.firmware = None;
    assert_eq!(place(&machine), unknown());
}

proptest::proptest! {
    #[test]
    fn an_answer_is_of_nodes_with_cpus(
        buses in proptest::collection::vec((0u8..255, 0u32..6), 0..8),
        slots in proptest::collection::vec((0u8..255, 0u32..4), 0..6),
        initiator in proptest::option::of(0u32..8),
        below in proptest::option::of(0u32..8),
        numa_node in -1i32..8,
    ) {
        let mut machine = with(Firmware {
            root_buses: buses
                .iter()
                .map(|(bus, node)| root(*bus, &node.to_string()))
                .collect(),
            slots: slots
                .iter()
                .map(|(bus, cpu)| slot(&format!("CPU{cpu}"), *bus))
                .collect(),
            initiators: initiators(&[(GPU, 1, initiator)]),
            below: below.map(|node| (at(PORT), NodeSet::single(node))).into_iter().collect(),
            ..Firmware::default()
        });
        machine.pci[1].numa_node = Some(numa_node);
        for (_, finding) in explain(&Facts {
            device: machine.device(at(GPU)).unwrap(),
            machine: &machine,
            overrides: &Overrides::new(),
        }) {
            if let Ok(found) = finding {
                assert!(!found.nodes.is_empty());
                assert!(found.nodes.is_subset(&machine.cpu_nodes()));
            }
        }
    }
}

/// Names the place of the machine's GPU by `numa_node`.
fn placed(mut machine: Machine, numa_node: i32) -> Locality {
    for device in &mut machine.pci {
        device.numa_node = Some(numa_node);
    }
    locate(&Facts {
        device: machine.device(at(GPU)).unwrap(),
        machine: &machine,
        overrides: &Overrides::new(),
    })
}

#[test]
fn cpus_of_another_socket_do_not_stand_in_for_a_socket_that_is_offline() {
    let mut machine = machine(2);
    machine.online = (0..4).collect();
    for node in &mut machine.numa_nodes {
        let is_offline = node.package == Some(1);
        node.distances = (0..4)
            .map(|to| {
                (
                    to,
                    if to == node.id {
                        10
                    } else if to / 2 == node.id / 2 {
                        12
                    } else {
                        21
                    },
                )
            })
            .collect();
        if is_offline {
            (node.kind, node.cpus) = (NodeKind::Offline, CpuSet::new());
        }
    }
    machine.packages[1].cpus = CpuSet::new();
    let place = placed(machine.clone(), 3);
    assert_eq!(place.numa_nodes.unwrap().to_string(), "3");
    assert_eq!((place.package, place.cpus), (Some(1), Some(CpuSet::new())));
    // Where a node of the socket has CPUs, it does.
    machine.online = (0..6).collect();
    machine.packages[1].cpus = (4..6).collect();
    machine.numa_nodes[2].kind = NodeKind::Dram;
    machine.numa_nodes[2].cpus = (4..6).collect();
    let place = placed(machine, 3);
    assert_eq!(place.numa_nodes.unwrap().to_string(), "2");
}

#[test]
fn a_node_over_several_packages_places_nothing() {
    let mut machine = machine(2);
    machine.numa_nodes.truncate(1);
    machine.numa_nodes[0].cpus = (0..8).collect();
    machine.numa_nodes[0].package = None;
    for package in &mut machine.packages {
        package.numa_nodes = NodeSet::single(0);
    }
    machine.cores = (0..8).map(CpuSet::single).collect();
    assert_eq!(placed(machine.clone(), 0).numa_nodes, None);
    // A hypervisor that makes each CPU a package tells of no sockets.
    machine.packages = (0..8)
        .map(|id| Package {
            id,
            cpus: CpuSet::single(id),
            numa_nodes: NodeSet::single(0),
        })
        .collect();
    assert_eq!(placed(machine, 0).numa_nodes, Some(NodeSet::single(0)));
}
