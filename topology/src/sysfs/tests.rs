//! The reader against small made-up trees.

mod odd;

use super::*;
use crate::machine::{NicAside, NumaSource};
use std::fs;
use std::os::unix::fs::symlink;

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
        self
    }

    fn bytes(self, path: &str, bytes: &[u8]) -> Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    /// Two packages of two cores, a node each.
    fn two_sockets() -> Self {
        let mut tree = Self::new()
            .file("sys/devices/system/cpu/online", "0-3")
            .file(
                "proc/cpuinfo",
                "vendor_id : GenuineIntel\ncpu family : 6\nmodel : 143",
            );
        for (cpu, package, siblings) in [(0, 0, "0-1"), (1, 0, "0-1"), (2, 1, "2-3"), (3, 1, "2-3")]
        {
            let dir = format!("sys/devices/system/cpu/cpu{cpu}/topology");
            tree = tree
                .file(&format!("{dir}/physical_package_id"), &package.to_string())
                .file(&format!("{dir}/core_siblings_list"), siblings);
        }
        tree.node(0, "0-1", "10 21").node(1, "2-3", "21 10")
    }

    fn node(self, id: u32, cpus: &str, distance: &str) -> Self {
        let dir = format!("sys/devices/system/node/node{id}");
        self.file(&format!("{dir}/cpulist"), cpus)
            .file(&format!("{dir}/distance"), distance)
            .file(
                &format!("{dir}/meminfo"),
                &format!("Node {id} MemTotal:  1024 kB"),
            )
    }

    fn device(self, path: &str, class: &str, vendor: &str, numa_node: &str) -> Self {
        let dir = format!("sys/devices/{path}");
        let name = path.rsplit('/').next().unwrap();
        let links = self.0.path().join("sys/bus/pci/devices");
        fs::create_dir_all(&links).unwrap();
        symlink(format!("../../../devices/{path}"), links.join(name)).unwrap();
        self.file(&format!("{dir}/class"), class)
            .file(&format!("{dir}/vendor"), vendor)
            .file(&format!("{dir}/device"), "0x2330")
            .file(&format!("{dir}/numa_node"), numa_node)
    }

    fn read(&self) -> Machine {
        read_machine(self.0.path(), &Overrides::new()).unwrap()
    }
}

const GPU: &str = "0x030200";
const NVIDIA: &str = "0x10de";

fn server() -> Tree {
    Tree::two_sockets()
        .device("pci0000:20/0000:20:00.0", "0x060400", "0x8086", "0")
        .device("pci0000:20/0000:20:00.0/0000:21:00.0", GPU, NVIDIA, "0")
        .device("pci0000:80/0000:80:00.0", "0x060400", "0x8086", "1")
        .device("pci0000:80/0000:80:00.0/0000:81:00.0", GPU, NVIDIA, "1")
        .device("pci0000:80/0000:80:01.0", "0x010802", "0x144d", "1")
}

/// A host that gives parts of its GPU to virtual machines, and such a machine.
#[test]
fn a_virtual_function_is_a_gpu_only_where_its_physical_one_is_not() {
    let part = "pci0000:00/0000:00:01.0/0000:01:00.4";
    let tree = Tree::two_sockets()
        .device(
            "pci0000:00/0000:00:01.0/0000:01:00.0",
            "0x030200",
            "0x10de",
            "0",
        )
        .device(part, "0x030200", "0x10de", "0");
    let link = tree.0.path().join(format!("sys/devices/{part}/physfn"));
    symlink("../0000:01:00.0", link).unwrap();
    let gpus = |tree: &Tree| {
        let all = read_pci(tree.0.path()).gpus;
        all.iter()
            .map(|gpu| gpu.pci.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(gpus(&tree), ["0000:01:00.0"]);
    fs::remove_file(tree.0.path().join("sys/bus/pci/devices/0000:01:00.0")).unwrap();
    assert_eq!(gpus(&tree), ["0000:01:00.4"]);
}

/// Virtual functions of a NIC are for virtual machines and containers, but for one that the host itself uses.
#[test]
fn a_virtual_function_is_a_nic_where_it_has_a_port_or_its_physical_one_is_not_there() {
    let folder = "pci0000:00/0000:00:01.0/0000:01:00";
    let tree = (0..3).fold(Tree::two_sockets(), |tree, function| {
        tree.device(&format!("{folder}.{function}"), "0x020000", "0x15b3", "0")
    });
    let file = |path: &str| {
        let path = tree.0.path().join("sys/devices").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    for part in [1, 2] {
        symlink("../0000:01:00.0", file(&format!("{folder}.{part}/physfn"))).unwrap();
    }
    let state = |state: &str| {
        let path = file(&format!("{folder}.2/infiniband/mlx5_2/ports/1/state"));
        fs::write(path, state).unwrap();
    };
    let nics = || {
        let all = read_pci(tree.0.path()).nics;
        all.iter()
            .map(|nic| nic.pci.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(nics(), ["0000:01:00.0"]);
    state("1: DOWN\n");
    assert_eq!(nics(), ["0000:01:00.0"]);
    state("4: ACTIVE\n");
    assert_eq!(nics(), ["0000:01:00.0", "0000:01:00.2"]);
    fs::remove_file(tree.0.path().join("sys/bus/pci/devices/0000:01:00.0")).unwrap();
    assert_eq!(nics(), ["0000:01:00.1", "0000:01:00.2"]);
}

const HCA: &str = "pci0000:01/0000:01:00.0";
const OTHER: &str = "pci0000:02/0000:02:00.0";

/// Two NICs.
fn nics() -> Tree {
    Tree::two_sockets()
        .device(HCA, "0x020700", "0x15b3", "0")
        .device(OTHER, "0x020000", "0x15b3", "0")
}

impl Tree {
    fn port(self, nic: &str, device: &str, state: &str, rate: &str) -> Self {
        let folder = format!("sys/devices/{nic}/infiniband/{device}/ports/1");
        self.file(&format!("{folder}/state"), state).file(
            &format!("{folder}/rate"),
            &format!("{rate} Gb/sec (4X NDR)"),
        )
    }

    fn interface(self, nic: &str, name: &str, state: &str) -> Self {
        self.file(&format!("sys/devices/{nic}/net/{name}/operstate"), state)
    }

    /// What is said of each NIC, and the names of those that jobs are told of.
    fn data_nics(&self) -> (Vec<Option<NicAside>>, String) {
        let machine = read_pci(self.0.path());
        let machine = Machine {
            nics: machine.nics,
            ..Machine::default()
        };
        let data = crate::nics::data_nics(&machine);
        let names: Vec<String> = data
            .iter()
            .map(|nic| crate::nics::name(&machine, *nic))
            .collect();
        let aside = machine.nics.iter().map(|nic| nic.aside).collect();
        (aside, names.join(" "))
    }
}

#[test]
fn nics_that_are_down_are_aside() {
    let down = Some(NicAside::Down);
    let of = |tree: Tree, aside: [Option<NicAside>; 2], data: &str| {
        assert_eq!(tree.data_nics(), (aside.to_vec(), data.to_owned()));
    };
    // InfiniBand without a link beside Ethernet with one, and before any link is up.
    let dark = || nics().port(HCA, "mlx5_0", "1: DOWN", "10");
    of(dark().interface(OTHER, "eno1", "up"), [down, None], "eno1");
    of(
        dark().interface(OTHER, "eno1", "down"),
        [down, down],
        "mlx5_0",
    );
    // A port without a cable beside a driver that does not tell; bonds are of interfaces that are up.
    let tree = nics().interface(HCA, "eno1", "lowerlayerdown");
    of(
        tree.interface(OTHER, "eno2", "unknown"),
        [down, None],
        "eno2",
    );
    // Below a virtio device.
    let tree = nics().interface(HCA, "eno1", "down");
    let virtio = format!("sys/devices/{OTHER}/virtio3/net/eth0/operstate");
    of(tree.file(&virtio, "up"), [down, None], "eth0");
    // An interface of IP over InfiniBand may be off while the port is up.
    let tree = nics().port(HCA, "mlx5_0", "4: ACTIVE", "400");
    of(tree.interface(HCA, "ib0", "down"), [None, None], "mlx5_0");
}

#[test]
fn a_slow_port_and_a_virtual_function_are_for_no_job() {
    let fast = || nics().port(HCA, "mlx5_0", "4: ACTIVE", "400");
    for (rate, data) in [("25", "mlx5_0"), ("200", "mlx5_0 mlx5_1")] {
        let tree = fast().port(OTHER, "mlx5_1", "4: ACTIVE", rate);
        assert_eq!(tree.data_nics(), (vec![None, None], data.to_owned()));
    }
    let part = |tree: Tree| {
        let link = tree.0.path().join(format!("sys/devices/{OTHER}/physfn"));
        symlink("../0000:01:00.0", link).unwrap();
        tree.port(OTHER, "mlx5_1", "4: ACTIVE", "400").data_nics()
    };
    let aside = vec![None, Some(NicAside::VirtualFunction)];
    assert_eq!(part(fast()), (aside, "mlx5_0".to_owned()));
    // The whole one may be a virtual machine's, or without a port of its own.
    assert_eq!(part(nics()), (vec![None, None], "mlx5_1".to_owned()));
}

#[test]
fn a_server_is_read_whole() {
    let machine = server().read();
    assert_eq!(machine.online.to_string(), "0-3");
    assert_eq!(machine.packages.len(), 2);
    assert_eq!(machine.packages[1].numa_nodes.to_string(), "1");
    assert_eq!(machine.numa_nodes[1].package, Some(1));
    assert_eq!(machine.numa_nodes[0].memory_bytes, Some(1 << 20));
    assert_eq!(machine.distance(0, 1), Some(21));
    assert_eq!(machine.cores.len(), 4);
    let gpu = &machine.gpus[1];
    assert_eq!(gpu.pci.to_string(), "0000:81:00.0");
    assert_eq!(gpu.locality.cpus.as_ref().unwrap().to_string(), "2-3");
    assert_eq!(gpu.locality.numa_source, NumaSource::NumaNode);
    assert_eq!(machine.processor.unwrap().model, Some(143));
}

#[test]
fn only_gpus_nics_and_what_is_above_them_are_kept() {
    let machine = server().read();
    let kept: Vec<_> = machine.pci.iter().map(|d| d.address.to_string()).collect();
    assert_eq!(
        kept,
        [
            "0000:20:00.0",
            "0000:21:00.0",
            "0000:80:00.0",
            "0000:81:00.0"
        ]
    );
    assert_eq!(machine.pci[1].parent, Some(machine.pci[0].address));
    assert_eq!(machine.pci[1].root_bus, Some((0, 0x20)));
}

#[test]
fn a_tree_without_the_bus_directory_is_walked() {
    let tree = server();
    fs::remove_dir_all(tree.0.path().join("sys/bus")).unwrap();
    assert_eq!(tree.read().gpus.len(), 2);
}

#[test]
fn minors_come_from_the_driver_when_it_is_there() {
    let information =
        "Model: \t H100\nGPU UUID: \t GPU-ab\nBus Location: \t 0000:81:00.0\nDevice Minor: \t 0";
    let machine = server()
        .file(
            "proc/driver/nvidia/gpus/0000:81:00.0/information",
            information,
        )
        .file("dev/nvidia0", "")
        .file("dev/nvidia1", "")
        .read();
    let gpu = &machine.gpus[1];
    assert_eq!(
        (gpu.minor, gpu.minor_source),
        (Some(0), MinorSource::Driver)
    );
    assert_eq!(
        (gpu.uuid.as_deref(), gpu.name.as_deref()),
        (Some("GPU-ab"), Some("H100"))
    );
    assert_eq!(machine.gpus[0].minor, None);
}

#[test]
fn minors_follow_pci_order_when_there_are_as_many_files_as_gpus() {
    let tree = server().file("dev/nvidia0", "").file("dev/nvidiactl", "");
    assert_eq!(tree.read().gpus[0].minor_source, MinorSource::Unknown);
    let machine = tree.file("dev/nvidia1", "").read();
    assert_eq!(machine.gpus[1].minor, Some(1));
    assert_eq!(machine.gpus[1].minor_source, MinorSource::DeviceOrder);
}

#[test]
fn a_gpu_that_only_the_driver_lists_is_a_gpu_and_its_memory_node_its_own() {
    let machine = Tree::two_sockets()
        .node(255, "", "80 80 10")
        .file(
            "proc/driver/nvidia/gpus/0004:05:00.0/numa_status",
            "Node:      255",
        )
        .read();
    assert_eq!(machine.gpus[0].pci.to_string(), "0004:05:00.0");
    assert_eq!(machine.gpus[0].locality.numa_source, NumaSource::Unknown);
    assert_eq!(machine.node(255).unwrap().kind, NodeKind::Gpu);
}

#[test]
fn a_kernel_without_numa_counts_as_one_node() {
    let machine = Tree::new()
        .file("sys/devices/system/cpu/online", "0-1")
        .read();
    assert_eq!(machine.numa_nodes.len(), 1);
    assert_eq!(machine.numa_nodes[0].cpus.to_string(), "0-1");
    assert!(machine.packages.is_empty());
    assert!(machine.remarks[0].contains("sys/bus/pci"));
}

#[test]
fn a_node_with_the_cpus_of_another_is_left_out_with_a_remark() {
    let machine = Tree::two_sockets().node(2, "1-2", "30 30 10").read();
    assert_eq!(machine.numa_nodes.len(), 2);
    assert!(
        machine.remarks[0].contains("node 2"),
        "{:?}",
        machine.remarks
    );
}

#[test]
fn a_folder_that_is_no_root_is_an_error_that_names_it() {
    let tree = Tree::new();
    let error = read_machine(tree.0.path(), &Overrides::new())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(tree.0.path().to_str().unwrap()),
        "{error}"
    );
    assert!(error.ends_with("holds no sys/devices/system; expected a filesystem root"));
}

#[test]
fn a_link_out_of_the_tree_is_not_followed() {
    let tree = server();
    let links = tree.0.path().join("sys/bus/pci/devices");
    symlink("/etc/devices/../0000:99:00.0", links.join("0000:99:00.0")).unwrap();
    assert_eq!(tree.read().gpus.len(), 2);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn odd_contents_never_panic(text in "[0-9a-f,:x .\\-]{0,40}", which in 0usize..8) {
        let path = [
            "sys/devices/system/cpu/online",
            "sys/devices/system/node/node0/cpulist",
            "sys/devices/system/node/node1/distance",
            "sys/devices/system/node/node1/meminfo",
            "sys/devices/system/cpu/cpu0/topology/physical_package_id",
            "sys/devices/system/cpu/cpu0/topology/core_siblings_list",
            "sys/devices/pci0000:80/0000:80:00.0/0000:81:00.0/numa_node",
            "sys/devices/pci0000:80/0000:80:00.0/0000:81:00.0/class",
        ][which];
        let tree = server().file(path, &text);
        let _ = read_machine(tree.0.path(), &Overrides::new());
    }
}
