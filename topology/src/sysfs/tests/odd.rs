//! Machines whose firmware names no node for a GPU, and machines with odd nodes.

use super::super::{dmi, srat};
use super::*;

const DMI: &str = "sys/firmware/dmi/tables/DMI";
const SRAT: &str = "sys/firmware/acpi/tables/SRAT";
const BRIDGE: &str = "0x060400";

/// Two packages, a GPU below a root port of each of two host bridges, nothing placed.
fn nowhere() -> Tree {
    Tree::two_sockets()
        .device("pci0000:20/0000:20:00.0", BRIDGE, "0x8086", "-1")
        .device("pci0000:20/0000:20:00.0/0000:21:00.0", GPU, NVIDIA, "-1")
        .device("pci0000:80/0000:80:00.0", BRIDGE, "0x8086", "-1")
        .device("pci0000:80/0000:80:00.0/0000:81:00.0", GPU, NVIDIA, "-1")
}

/// Each GPU's source and nodes.
fn places(machine: &Machine) -> Vec<(NumaSource, String)> {
    let place = |gpu: &Gpu| {
        let nodes = gpu.locality.numa_nodes.as_ref();
        let nodes = nodes.map_or_else(String::new, ToString::to_string);
        (gpu.locality.numa_source, nodes)
    };
    machine.gpus.iter().map(place).collect()
}

fn both(source: NumaSource) -> [(NumaSource, String); 2] {
    [(source, "0".to_owned()), (source, "1".to_owned())]
}

fn neither() -> [(NumaSource, String); 2] {
    [
        (NumaSource::Unknown, String::new()),
        (NumaSource::Unknown, String::new()),
    ]
}

#[test]
fn nobody_says_is_unknown() {
    let machine = nowhere().read();
    assert_eq!(places(&machine), neither());
    assert!(machine.firmware.is_some());
    assert!(server().read().firmware.is_none());
}

#[test]
fn a_device_that_is_not_kept_places_its_sibling() {
    let disk = |port: &str, node: &str| {
        nowhere().device(
            &format!("pci0000:{port}/0000:{port}:00.0/0000:82:00.0"),
            "0x010802",
            "0x144d",
            node,
        )
    };
    let machine = disk("80", "1").read();
    assert_eq!(machine.pci.len(), 4);
    assert_eq!(places(&machine)[1], both(NumaSource::Siblings)[1]);
    assert_eq!(places(&machine)[0], neither()[0]);
    assert_eq!(places(&disk("80", "-1").read()), neither());
}

#[test]
fn slots_are_read_from_the_table_or_from_its_entries() {
    let (one, two) = (
        dmi::tests::slot("CPU1", 0x20, 0),
        dmi::tests::slot("CPU2", 0x80, 0),
    );
    let tree = nowhere().bytes(DMI, &[one.clone(), two.clone()].concat());
    assert_eq!(places(&tree.read()), both(NumaSource::Dmi));
    let entry = |n: u32| format!("sys/firmware/dmi/entries/9-{n}/raw");
    let tree = nowhere().bytes(&entry(0), &one).bytes(&entry(1), &two);
    assert_eq!(places(&tree.read()), both(NumaSource::Dmi));
    // A function that is not there is below no host bridge.
    let gone = dmi::tests::slot("CPU2", 0x90, 0);
    let tree = nowhere().bytes(DMI, &[one, gone].concat());
    assert_eq!(places(&tree.read())[1], neither()[1]);
}

#[test]
fn the_srat_places_the_devices_it_lists() {
    let initiators = [
        srat::tests::apic(0, 0),
        srat::tests::apic(2, 1),
        srat::tests::initiator(0x21, 0, 0, 1),
        srat::tests::initiator(0x81, 0, 1, 1),
    ];
    let tree = nowhere().bytes(SRAT, &srat::tests::table(&initiators));
    assert_eq!(places(&tree.read()), both(NumaSource::Acpi));
    let tree = nowhere().bytes(SRAT, &srat::tests::table(&initiators)[..60]);
    assert_eq!(places(&tree.read()), neither());
}

#[test]
fn the_cpus_of_a_host_bridge_are_its_proximity_domain() {
    let affinity = |bus: &str| format!("sys/devices/pci0000:{bus}/pci_bus/0000:{bus}");
    let tree = nowhere()
        .file(&format!("{}/cpulistaffinity", affinity("20")), "0-1")
        .file(&format!("{}/cpuaffinity", affinity("80")), "c");
    assert_eq!(places(&tree.read()), both(NumaSource::Acpi));
    let tree = nowhere().file(&format!("{}/cpulistaffinity", affinity("20")), "0-3");
    assert_eq!(places(&tree.read()), neither());
}

#[test]
fn host_bridges_without_gpus_count_in_bus_order() {
    let tree = nowhere()
        .device("pci0000:10/0000:10:00.0", "0x088000", "0x8086", "0")
        .device("pci0000:30/0000:30:00.0", "0x088000", "0x8086", "0")
        .device("pci0000:70/0000:70:00.0", "0x088000", "0x8086", "1")
        .device("pci0000:90/0000:90:00.0", "0x088000", "0x8086", "1");
    assert_eq!(places(&tree.read()), both(NumaSource::Bus));
}

#[test]
fn a_snapshot_keeps_what_the_rungs_saw() {
    let slots = [
        dmi::tests::slot("CPU1", 0x20, 0),
        dmi::tests::slot("CPU2", 0x80, 0),
    ];
    let machine = nowhere().bytes(DMI, &slots.concat()).read();
    let text = serde_json::to_string(&machine).unwrap();
    let mut again: Machine = serde_json::from_str(&text).unwrap();
    assert_eq!(again, machine);
    locate_all(&mut again, &Overrides::new());
    assert_eq!(again, machine);
    let older = text.replace("\"firmware\"", "\"other\"");
    let older: Machine = serde_json::from_str(&older).unwrap();
    assert_eq!(older.firmware, None);
}

/// `count` packages of `width` CPUs each, a node each, numbered by `id`.
fn wide(count: u32, width: u32, id: fn(u32) -> u32) -> Tree {
    let last = count * width - 1;
    let mut tree = Tree::new().file("sys/devices/system/cpu/online", &format!("0-{last}"));
    for package in 0..count {
        let (low, high) = (package * width, (package + 1) * width - 1);
        let dir = format!("sys/devices/system/cpu/cpu{low}/topology");
        tree = tree
            .file(&format!("{dir}/physical_package_id"), &package.to_string())
            .file(
                &format!("{dir}/core_siblings_list"),
                &format!("{low}-{high}"),
            )
            .node(id(package), &format!("{low}-{high}"), "");
    }
    tree
}

#[test]
fn sixteen_packages_and_thirty_four_nodes_with_gaps_are_read() {
    let mut tree = wide(16, 4, |package| 3 * package);
    for extra in 100..118 {
        tree = tree.node(extra, "", "");
    }
    let columns: Vec<String> = (0..34).map(|n| (10 + n).to_string()).collect();
    let machine = tree
        .file("sys/devices/system/node/node0/distance", &columns.join(" "))
        .device("pci0000:80/0000:80:00.0", GPU, NVIDIA, "45")
        .read();
    assert_eq!((machine.packages.len(), machine.numa_nodes.len()), (16, 34));
    assert_eq!(machine.packages[15].numa_nodes.to_string(), "45");
    assert_eq!(machine.distance(0, 45), Some(25));
    assert_eq!(machine.distance(0, 117), Some(43));
    assert_eq!(machine.node(117).unwrap().kind, NodeKind::Cpuless);
    let gpu = &machine.gpus[0].locality;
    assert_eq!(gpu.package, Some(15));
    assert_eq!(gpu.cpus.as_ref().unwrap().to_string(), "60-63");
}

#[test]
fn more_than_1024_cpus_are_read_from_lists_and_masks() {
    let tree = wide(2, 1024, |package| package);
    let masks = format!("{}{}", "ffffffff,".repeat(32), vec!["0"; 32].join(","));
    fs::remove_file(tree.0.path().join("sys/devices/system/node/node1/cpulist")).unwrap();
    let machine = tree
        .file("sys/devices/system/node/node1/cpumap", &masks)
        .device("pci0000:80/0000:80:00.0", GPU, NVIDIA, "-1")
        .file("sys/devices/pci0000:80/0000:80:00.0/local_cpus", &masks)
        .read();
    assert_eq!(machine.online.len(), 2048);
    assert_eq!(machine.numa_nodes[1].cpus.to_string(), "1024-2047");
    let gpu = &machine.gpus[0].locality;
    assert_eq!(gpu.numa_source, NumaSource::LocalCpulist);
    assert_eq!(gpu.cpus.as_ref().unwrap().to_string(), "1024-2047");
}

#[test]
fn offline_cpus_are_nowhere() {
    let machine = server().file("sys/devices/system/cpu/online", "0-2").read();
    assert_eq!(machine.packages[1].cpus.to_string(), "2");
    assert_eq!(machine.numa_nodes[1].cpus.to_string(), "2");
    let cpus = machine.gpus[1].locality.cpus.as_ref().unwrap();
    assert_eq!(cpus.to_string(), "2");
}

#[test]
fn dies_clusters_and_third_level_caches_are_read_where_they_are_parts_of_their_own() {
    let mut tree = server();
    let parts = [
        ("0", "0-1", "0"),
        ("1", "0-1", "1"),
        ("2", "2-3", "2-3"),
        ("3", "2-3", "2-3"),
    ];
    for (cpu, package, part) in parts {
        let folder = format!("sys/devices/system/cpu/cpu{cpu}");
        tree = tree
            .file(&format!("{folder}/topology/die_cpus_list"), package)
            .file(&format!("{folder}/topology/cluster_cpus_list"), part)
            .file(&format!("{folder}/cache/index0/level"), "2")
            .file(&format!("{folder}/cache/index0/type"), "Unified")
            .file(&format!("{folder}/cache/index0/shared_cpu_list"), part);
    }
    let lists = |sets: &[CpuSet]| {
        let texts: Vec<String> = sets.iter().map(CpuSet::to_string).collect();
        texts.join(" ")
    };
    // A die or a cluster that is a package is none of its own.
    let machine = tree.read();
    assert_eq!(lists(&machine.dies), "");
    assert_eq!(lists(&machine.clusters), "");
    assert_eq!(lists(&machine.last_level_caches), "0 1 2-3");
    assert_eq!(machine.third_level_caches, Some(Vec::new()));
    let package = "sys/devices/system/cpu/cpu0/topology/core_siblings_list";
    let tree = (0..4).fold(tree, |tree, cpu| {
        tree.file(&package.replace("cpu0", &format!("cpu{cpu}")), "0-3")
            .file(
                &format!("sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id"),
                "0",
            )
            .file(
                &format!("sys/devices/system/cpu/cpu{cpu}/cache/index1/level"),
                "3",
            )
            .file(
                &format!("sys/devices/system/cpu/cpu{cpu}/cache/index1/shared_cpu_list"),
                "0-3",
            )
    });
    let machine = tree.read();
    assert_eq!(lists(&machine.dies), "0-1 2-3");
    assert_eq!(lists(&machine.clusters), "");
    assert_eq!(lists(&machine.last_level_caches), "0-3");
    assert_eq!(machine.third_level_caches, None);
}

#[test]
fn a_socket_whose_cpus_are_all_offline_keeps_its_devices() {
    let tree = || {
        wide(3, 4, |package| package)
            .file("sys/devices/system/cpu/present", "0-11")
            .file("sys/devices/system/cpu/online", "0-7")
            .file("sys/devices/system/node/node2/distance", "30 20 10")
            .device("pci0000:80/0000:80:00.0", GPU, NVIDIA, "2")
    };
    let machine = tree().read();
    assert_eq!(machine.node(2).unwrap().kind, NodeKind::Offline);
    assert_eq!(machine.gpus[0].locality.package, Some(2));
    // It is on its own node: CPUs of another socket are not near it.
    let nearest = (NumaSource::NumaNode, "2".to_owned());
    assert_eq!(places(&machine), [nearest]);
    // A GPU of which nothing is known may be there too.
    let machine = tree()
        .device("pci0000:90/0000:90:00.0", GPU, NVIDIA, "-1")
        .read();
    assert_eq!(machine.gpus[1].locality.package, None);
    // Offline CPUs that are linked to other nodes leave memory what it is.
    let machine = tree()
        .file("sys/devices/system/node/node1/cpu11/online", "0")
        .read();
    assert_eq!(machine.node(2).unwrap().kind, NodeKind::Cpuless);
}

#[test]
fn a_node_whose_cpus_are_all_offline_stands_for_its_nearest() {
    let tree = wide(3, 4, |package| package)
        .file("sys/devices/system/cpu/online", "0-7")
        .file("sys/devices/system/node/node2/distance", "30 20 10")
        .device("pci0000:80/0000:80:00.0", GPU, NVIDIA, "2");
    let machine = tree.read();
    let nearest = (NumaSource::NearestNode, "1".to_owned());
    assert_eq!(places(&machine), [nearest]);
    assert!(machine.gpus[0].locality.cpus.as_ref().unwrap().len() == 4);
}

#[test]
fn memory_without_cpus_and_cpus_without_memory_keep_their_nodes() {
    let machine = server()
        .node(7, "", "40 17 10")
        .file(
            "sys/devices/system/node/node1/meminfo",
            "Node 1 MemTotal: 0 kB",
        )
        .read();
    assert_eq!(machine.node(7).unwrap().kind, NodeKind::Cpuless);
    assert_eq!(machine.node(7).unwrap().package, None);
    assert_eq!(machine.distance(7, 1), Some(17));
    let without_memory = machine.node(1).unwrap();
    assert!(!without_memory.has_memory());
    assert_eq!(without_memory.kind, NodeKind::Dram);
    assert_eq!(machine.packages[1].numa_nodes.to_string(), "1");
    assert_eq!(machine.gpus[1].locality.package, Some(1));
}

#[test]
fn distances_that_cannot_be_are_left_out_one_by_one_or_by_row() {
    let of = |first: &str, second: &str| {
        let machine = Tree::two_sockets()
            .node(0, "0-1", first)
            .node(1, "2-3", second)
            .read();
        [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(a, b)| machine.distance(a, b))
    };
    assert_eq!(of("0 0", "0 0"), [None; 4]);
    assert_eq!(
        of("10 20", "31 10"),
        [Some(10), Some(20), Some(31), Some(10)]
    );
    assert_eq!(of("10 21", ""), [Some(10), Some(21), None, None]);
    assert_eq!(of("10", "21 10 10"), [None; 4]);
    assert_eq!(of("10 -1", "99999999999999999999 10"), [None; 4]);
}

#[test]
fn a_numa_node_that_is_not_there_is_no_evidence() {
    let tree = |node: &str| {
        Tree::two_sockets()
            .device("pci0000:20/0000:20:00.0", BRIDGE, "0x8086", "-1")
            .device("pci0000:20/0000:20:00.0/0000:21:00.0", GPU, NVIDIA, node)
    };
    let cpus = "sys/devices/pci0000:20/0000:20:00.0/0000:21:00.0/local_cpulist";
    for node in ["5", "-7", "99999999999", "x"] {
        assert_eq!(places(&tree(node).read())[0], neither()[0], "{node}");
        // CPUs that are not online are no evidence either, nor do they spoil it.
        let offline = tree(node).file(cpus, "64-127").read();
        assert_eq!(places(&offline)[0], neither()[0], "{node}");
        let some = tree(node).file(cpus, "2-3,64-127").read();
        let found = (NumaSource::LocalCpulist, "1".to_owned());
        assert_eq!(places(&some)[0], found, "{node}");
    }
}

#[test]
fn a_gpu_is_nvidias_or_amds_of_display_or_accelerator_class() {
    let mut tree = Tree::two_sockets();
    for (bus, class, vendor) in [
        (0x10, "0x030000", "0x10de"),
        (0x11, "0x030200", "0x10de"),
        (0x12, "0x038000", "0x1002"),
        (0x13, "0x120000", "0x1002"),
        (0x14, "0x030000", "0x1002"),
        (0x20, "0x030000", "0x1a03"),
        (0x21, "0x030000", "0x8086"),
        (0x22, "0x030000", "0x1af4"),
        (0x23, "0x040300", "0x10de"),
        (0x24, "0x068000", "0x10de"),
    ] {
        let path = format!("pci0000:{bus:02x}/0000:{bus:02x}:00.0");
        tree = tree.device(&path, class, vendor, "0");
    }
    let tree = tree.device("pci10000:00/10000:01:00.0", GPU, NVIDIA, "1");
    let machine = tree.read();
    let found: Vec<u32> = machine.gpus.iter().map(|gpu| gpu.pci.bus.into()).collect();
    assert_eq!(found, [0x10, 0x11, 0x12, 0x13, 0x14, 0x01]);
    assert_eq!(machine.gpus[5].pci.to_string(), "10000:01:00.0");
}

#[test]
fn a_gpu_named_beside_its_own_memory_is_at_the_nearest_cpus() {
    let machine = Tree::two_sockets()
        .device("pci0004:80/0004:80:00.0", GPU, NVIDIA, "9")
        .node(9, "", "80 40 10")
        .file(
            "proc/driver/nvidia/gpus/0004:80:00.0/numa_status",
            "Node:      9",
        )
        .read();
    assert_eq!(machine.node(9).unwrap().kind, NodeKind::Gpu);
    let nearest = (NumaSource::NearestNode, "1".to_owned());
    assert_eq!(places(&machine), [nearest]);
}

/// A GPU of AMD's on each side of [`Tree::two_sockets`], with a topology of KFD's that says `properties` of the first and
/// `link` of its one link.
fn with_kfd(properties: &str, link: &str) -> Tree {
    let nodes = "sys/class/kfd/kfd/topology/nodes";
    let mut tree = Tree::two_sockets();
    for (bus, node) in [(0x10, "-1"), (0x20, "-1")] {
        let path = format!("pci0000:{bus:02x}/0000:{bus:02x}:00.0");
        tree = tree.device(&path, "0x038000", "0x1002", node);
    }
    tree.file(&format!("{nodes}/0/properties"), "cpu_cores_count 4\nsimd_count 0")
        .file(&format!("{nodes}/1/properties"), "cpu_cores_count 4\nsimd_count 0")
        .file(&format!("{nodes}/2/properties"), properties)
        .file(
            &format!("{nodes}/3/properties"),
            "cpu_cores_count 0\nsimd_count 208\nlocation_id 8192\ndomain 0\ndrm_render_minor 129\nunique_id 255",
        )
        .file(&format!("{nodes}/2/io_links/0/properties"), link)
}

const FIRST: &str =
    "cpu_cores_count 0\nsimd_count 208\nlocation_id 4096\ndomain 0\ndrm_render_minor 128";

#[test]
fn kfd_places_a_gpu_that_it_links_to_another_node_than_0() {
    let at = |to: u32| {
        places(&with_kfd(FIRST, &format!("type 2\nnode_to {to}\nweight 20")).read())[0].clone()
    };
    assert_eq!(at(1), (NumaSource::Kfd, "1".to_owned()));
    // Linux writes 0 where it knows no node, and a GPU's node is none of the CPUs'.
    for to in [0, 3, 7, u32::MAX] {
        assert_eq!(at(to), neither()[0], "{to}");
    }
}

#[test]
fn kfd_names_device_files_unique_ids_and_links() {
    let link = "type 11\nnode_to 3\nweight 15\nmin_bandwidth 50000\nmax_bandwidth 200000";
    let machine = with_kfd(FIRST, link).read();
    let [first, second] = machine.gpus.as_slice() else {
        panic!("{:?}", machine.gpus)
    };
    assert_eq!((first.minor, second.minor), (Some(128), Some(129)));
    assert_eq!(
        (first.uuid.as_deref(), second.uuid.as_deref()),
        (None, Some("GPU-00000000000000ff"))
    );
    assert_eq!(first.nvlinks.get(&second.pci), Some(&4));
    assert_eq!(
        crate::path::crosses_socket(&machine, first.pci, second.pci),
        Some(false)
    );
}

#[test]
fn the_parts_of_a_gpu_are_numbered_in_the_function_or_above_the_address() {
    // 10:00.0 and 20:00.0 in three parts each, with a unique id for each part.
    let nodes = "sys/class/kfd/kfd/topology/nodes";
    for above in [false, true] {
        let mut tree = with_kfd("", "");
        for index in 0..6_u32 {
            let (gpu, part) = (index / 3, index % 3);
            let number = if above { part << 28 } else { part };
            let location = (gpu + 1) << 12 | number;
            let minor = 128 + 8 * gpu + part;
            tree = tree.file(
                &format!("{nodes}/{}/properties", 2 + index),
                &format!(
                    "simd_count 152\nlocation_id {location}\ndomain 0\ndrm_render_minor {minor}\nunique_id {}",
                    16 + index
                ),
            );
        }
        let machine = tree.read();
        for (gpu, first) in machine.gpus.iter().zip([128, 136]) {
            let parts = &gpu.kfd.as_ref().unwrap().nodes;
            let minors: Vec<Option<u32>> = parts.iter().map(|part| part.minor).collect();
            let expected = [first, first + 1, first + 2].map(Some);
            assert_eq!(minors, expected, "{above}: {gpu:?}");
            assert_eq!(gpu.parts(), 3);
        }
        let last = &machine.gpus[1].kfd.as_ref().unwrap().nodes[2];
        assert_eq!(last.uuid.as_deref(), Some("GPU-0000000000000015"));
    }
}

#[test]
fn kfd_names_the_gpus_on_which_a_process_has_queues() {
    let (nodes, processes) = ("sys/class/kfd/kfd/topology/nodes", "sys/class/kfd/kfd/proc");
    let tree = with_kfd(FIRST, "")
        .file(&format!("{nodes}/0/gpu_id"), "0")
        .file(&format!("{nodes}/2/gpu_id"), "51111\n")
        .file(&format!("{nodes}/3/gpu_id"), "4021\n")
        // Every GPU that it may use has such a file.
        .file(&format!("{processes}/4711/vram_51111"), "0\n")
        .file(&format!("{processes}/4711/vram_4021"), "2097152\n")
        .file(&format!("{processes}/4711/queues/0/gpuid"), "4021")
        .file(&format!("{processes}/4711/queues/1/gpuid"), "4021")
        .file(&format!("{processes}/4712/queues/0/gpuid"), "7")
        .file(
            &format!("{processes}/4713/context_1/queues/0/gpuid"),
            "51111",
        );
    let machine = tree.read();
    let used = |pid| gpus_used_by(tree.0.path(), &machine, pid);
    let [first, second] = [0, 1].map(|gpu| machine.gpus[gpu].pci);
    assert_eq!(used(4711), [second]);
    assert_eq!(used(4712), [], "a GPU that is not the machine's");
    assert_eq!(used(4713), [first], "a further context");
    assert_eq!(used(1), []);
}

#[test]
fn what_kfd_cannot_mean_is_left_out() {
    for properties in [
        "",
        "simd_count",
        "simd_count 18446744073709551616",
        "simd_count 4\nlocation_id 9\ndomain -1",
    ] {
        let machine = with_kfd(properties, "type 11\nnode_to 3").read();
        assert!(machine.gpus[0].kfd.is_none(), "{properties}");
    }
    let much = "type 11\nnode_to 3\nweight 15\nmin_bandwidth 1\nmax_bandwidth 4294967295";
    let machine = with_kfd(FIRST, much).read();
    assert_eq!(machine.gpus[0].nvlinks.values().collect::<Vec<_>>(), [&16]);
    // A node at an address where the machine has no GPU.
    let elsewhere = FIRST.replace("location_id 4096", "location_id 12288");
    let machine = with_kfd(&elsewhere, "type 11\nnode_to 3\nweight 15")
        .file(
            "sys/class/kfd/kfd/topology/nodes/3/io_links/0/properties",
            "type 11\nnode_to 2\nweight 15",
        )
        .read();
    assert!(machine.gpus[0].kfd.is_none());
    assert!(machine.gpus[1].nvlinks.is_empty());
    let far = "type 11\nnode_to 3\nweight 30";
    let machine = with_kfd(FIRST, far).read();
    assert!(machine.gpus[0].nvlinks.is_empty());
    assert_eq!(
        machine.gpus[0].kfd.as_ref().unwrap().beyond,
        [machine.gpus[1].pci]
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]
    #[test]
    fn odd_tables_never_panic(bytes in proptest::collection::vec(0u8..=255, 0..200)) {
        let entry = [dmi::tests::slot("CPU1", 0x20, 0), bytes.clone()].concat();
        let table = srat::tests::table(&[srat::tests::apic(0, 0), bytes]);
        let _ = nowhere().bytes(DMI, &entry).bytes(SRAT, &table).read();
    }

    #[test]
    fn odd_topologies_never_panic(name in "[a-z_]{0,20}", value in proptest::num::u64::ANY, other in proptest::num::u64::ANY) {
        let properties = format!("simd_count 4\nlocation_id {value}\ndomain {other}\ndrm_render_minor {value}\n{name} {value}");
        let link = format!("type 11\nnode_to {}\nweight {other}\nmin_bandwidth {other}\nmax_bandwidth {value}", value % 5);
        let _ = with_kfd(&properties, &link).read();
    }
}
