//! Which `<cpu>` a device stands under, and what of the processors is written.

use super::*;

#[test]
fn a_device_without_a_node_is_placed_with_the_evidence_said() {
    let mut machine = with_switches(machine(2, 1, 4), 1);
    for device in &mut machine.pci {
        device.numa_node = Some(-1);
    }
    let (emitted, root) = emitted(&machine, Form::SingleHost);
    assert_eq!(values(&root, "cpu", "numaid"), ["0", "1"]);
    let placed = emitted
        .corrections
        .iter()
        .filter(|c| c.evidence.contains("reports no NUMA node"));
    assert_eq!(placed.count(), 4);
}

#[test]
fn an_unknown_place_of_a_gpu_or_nic_leaves_nccl_to_itself() {
    let known = with_switches(machine(2, 1, 4), 1);
    let mut gpu = known.clone();
    gpu.gpus[0].locality = Locality::default();
    let mut nic = known.clone();
    nic.nics[1].locality = Locality::default();
    for (machine, address, form) in [
        (gpu, "0000:03:00.0", Form::SingleHost),
        (nic.clone(), "0000:1f:00.0", Form::MultiHost),
    ] {
        let device = at(address);
        assert_eq!(
            emit(&machine, form),
            Err(NotEmitted::LocalityUnknown { device })
        );
    }
    // On one host no NIC matters.
    let (emitted, _) = emitted(&nic, Form::SingleHost);
    assert!(!emitted.xml.contains("0000:1f:00.0"), "{}", emitted.xml);
    let left_out = emitted.corrections.last().unwrap();
    assert_eq!(left_out.what, "0000:1f:00.0 is left out");
    let mut torn = known.clone();
    torn.gpus[0].locality = torn.gpus[1].locality.clone();
    let switch = at("0000:01:00.0");
    assert_eq!(
        emit(&torn, Form::SingleHost),
        Err(NotEmitted::SwitchTornApart { switch })
    );
    let mut wide = known;
    wide.gpus[0].locality.package = None;
    wide.gpus[0].locality.numa_nodes = Some(NodeSet::from_range(0, 1));
    assert!(matches!(
        emit(&wide, Form::SingleHost),
        Err(NotEmitted::SeveralPackages { .. })
    ));
}

#[test]
fn an_unknown_node_in_the_only_package_is_no_obstacle() {
    let mut machine = without_switches(machine(1, 4, 4), 1, false);
    for gpu in &mut machine.gpus {
        gpu.locality = Locality::default();
    }
    let (_, root) = emitted(&machine, Form::MultiHost);
    assert_eq!(values(&root, "cpu", "numaid"), ["0"]);
}

#[test]
fn machines_without_nvidia_gpus_get_no_file() {
    let mut amd = with_switches(machine(2, 1, 4), 1);
    for gpu in &mut amd.gpus {
        gpu.vendor = 0x1002;
    }
    assert_eq!(emit(&amd, Form::SingleHost), Err(NotEmitted::OtherVendor));
    amd.gpus.clear();
    assert_eq!(emit(&amd, Form::SingleHost), Err(NotEmitted::NoNvidiaGpu));
}

#[test]
fn what_nccl_must_know_of_the_processor_must_be_recorded() {
    let mut machine = with_switches(machine(2, 1, 4), 1);
    machine.processor.as_mut().unwrap().model = None;
    let missing = |missing| Err(NotEmitted::ProcessorUnknown { missing });
    assert_eq!(emit(&machine, Form::SingleHost), missing("model"));
    machine.processor.as_mut().unwrap().arch = "riscv64".into();
    assert_eq!(emit(&machine, Form::SingleHost), missing("arch"));
    machine.processor = None;
    assert_eq!(emit(&machine, Form::SingleHost), missing("arch"));
}

#[test]
fn an_affinity_beyond_896_cpus_is_empty_and_never_left_out() {
    let (emitted, root) = emitted(&with_switches(machine(2, 1, 448), 1), Form::SingleHost);
    assert_eq!(values(&root, "cpu", "affinity")[1].len(), 28 * 9 - 1);
    assert_eq!(emitted.corrections, []);
    let (emitted, root) =
        super::tests::emitted(&with_switches(machine(2, 1, 460), 1), Form::SingleHost);
    assert_eq!(values(&root, "cpu", "affinity")[1], "");
    assert!(emitted.corrections[0].what.contains("empty affinity"));
}

#[test]
fn a_node_without_cpus_is_never_a_numaid() {
    let mut machine = with_switches(machine(2, 1, 4), 1);
    for node in &mut machine.numa_nodes {
        node.id += 1;
    }
    let mut cpuless = machine.numa_nodes[0].clone();
    cpuless.id = 0;
    cpuless.cpus = CpuSet::new();
    machine.numa_nodes.insert(0, cpuless);
    machine.packages[0].numa_nodes = NodeSet::from_range(0, 1);
    machine.packages[1].numa_nodes = NodeSet::single(2);
    let (_, root) = emitted(&machine, Form::SingleHost);
    assert_eq!(values(&root, "cpu", "numaid"), ["1", "2"]);
}

#[test]
fn offline_cpus_are_not_in_the_affinity() {
    let mut machine = with_switches(machine(2, 1, 4), 1);
    machine.packages[1].cpus.remove(5);
    let (_, root) = emitted(&machine, Form::SingleHost);
    assert_eq!(values(&root, "cpu", "affinity"), ["0000000f", "000000d0"]);
}

#[test]
fn several_hosts_get_a_cpu_each_node_where_a_gpu_shares_no_switch_with_a_nic() {
    let far = without_switches(machine(2, 2, 4), 2, true);
    let (by_numa_node, root) = preferred(&far, Form::MultiHost);
    assert!(by_numa_node);
    assert_eq!(values(&root, "cpu", "numaid"), ["0", "1", "2", "3"]);
    assert_eq!(values(&root, "cpu", "affinity")[1], "000000f0");
    assert_eq!(values(&root, "nic", "keep"), ["1", "1", "1", "1"]);
    for cpu in &root.children {
        assert!(cpu.named("nic").all(|nic| nic.children.is_empty()));
    }
    let (_, single) = preferred(&far, Form::SingleHost);
    assert_eq!(values(&single, "cpu", "numaid"), ["0", "2"]);
    assert_eq!(
        single.named("cpu").flat_map(|cpu| cpu.named("nic")).count(),
        0
    );
}

#[test]
fn node_order_follows_packages_where_node_numbers_alternate() {
    let mut machine = without_switches(machine(2, 2, 4), 1, true);
    for (node, package) in machine.numa_nodes.iter_mut().zip([0, 1, 0, 1]) {
        node.package = Some(package);
    }
    for (package, nodes) in machine.packages.iter_mut().zip(["0,2", "1,3"]) {
        package.numa_nodes = nodes.parse().unwrap();
    }
    let packages = [0, 1, 0, 1].map(Some);
    for (gpu, package) in machine.gpus.iter_mut().zip(packages) {
        gpu.locality.package = package;
    }
    for (nic, package) in machine.nics.iter_mut().zip(packages) {
        nic.locality.package = package;
    }
    let (_, root) = preferred(&machine, Form::MultiHost);
    assert_eq!(values(&root, "cpu", "numaid"), ["0", "2", "1", "3"]);
}

#[test]
fn several_hosts_get_the_same_file_where_nothing_is_lost_by_packages() {
    for machine in [
        with_switches(machine(2, 2, 4), 2),
        without_switches(machine(2, 2, 4), 2, false),
        without_switches(machine(2, 1, 4), 2, true),
    ] {
        let (several, _) = emitted(&machine, Form::MultiHost);
        assert_eq!(several, emit(&machine, Form::SingleHost).unwrap());
    }
}

#[test]
fn nodes_stand_for_packages_where_the_search_does_better_with_them() {
    // At 5 GT/s a hop through a CPU takes 7.2 of 6 GB/s, and a hop between two <cpu> 6.
    let mut machine = with_switches(machine(2, 2, 4), 2);
    for device in &mut machine.pci {
        device.link.max_speed_gts = Some(5.0);
    }
    let (found, root) = emitted(&machine, Form::SingleHost);
    assert!(found.by_numa_node);
    assert_eq!(values(&root, "cpu", "numaid"), ["0", "1", "2", "3"]);
    assert!(
        found
            .corrections
            .iter()
            .any(|correction| correction.evidence.contains("6/5"))
    );
    // One whose devices are not known to be at one node stays whole.
    let last = machine.gpus.len() - 1;
    machine.gpus[last].locality.numa_nodes = Some(NodeSet::from_range(2, 3));
    let devices = Devices::collect(&machine, Functions::All).unwrap();
    let (_, other) = Layout::of(&machine, &devices, Form::SingleHost).unwrap();
    let numbers: Vec<u32> = other.unwrap().cpus.iter().map(|cpu| cpu.numaid).collect();
    assert!(numbers.len() == 3, "{numbers:?}");
}

/// Four sockets of Emerald Rapids at 16 GT/s, with a GPU each but the last, which has five.
fn one_full_socket() -> Machine {
    let mut machine = machine(4, 1, 2);
    machine.processor.as_mut().unwrap().model = Some(0xcf);
    for node in 0..4 {
        let bus = u8::try_from(node * 32).unwrap();
        let root = root_port(&mut machine, &format!("0000:{bus:02x}:01.0"), node);
        gpu(
            &mut machine,
            &format!("0000:{:02x}:00.0", bus + 31),
            root,
            node,
        );
    }
    for first in [0x62, 0x6a] {
        let root = root_port(
            &mut machine,
            &format!("0000:60:{first:02x}.0", first = first - 0x60),
            3,
        );
        let ports = switch(&mut machine, root, first, 2, 3);
        for (port, bus) in ports.into_iter().zip(first + 2..) {
            gpu(&mut machine, &format!("0000:{bus:02x}:00.0"), port, 3);
        }
    }
    for device in &mut machine.pci {
        device.link.max_speed_gts = Some(16.0);
    }
    machine
}

#[test]
fn the_package_comes_first_from_which_the_search_crosses_least() {
    // In file order, backwards and by turns NCCL's ring crosses four times whatever comes first; with the first package in
    // front it crosses six times for one order of ranks in three, and with the last one for none (NCCL's own code, 2.30.7).
    let mut machine = one_full_socket();
    for gpu in &mut machine.gpus {
        gpu.device = 0x20b0;
    }
    let (_, root) = preferred(&machine, Form::SingleHost);
    assert_eq!(values(&root, "cpu", "numaid"), ["0", "1", "2", "3"]);
    let (_, root) = emitted(&machine, Form::SingleHost);
    assert_eq!(values(&root, "cpu", "numaid"), ["3", "0", "1", "2"]);
    assert!(predict(&machine).iter().all(|found| !found.with_p2p));
}

#[test]
fn a_nic_that_is_near_no_gpu_leaves_packages_whole() {
    let mut machine = without_switches(machine(2, 2, 4), 2, true);
    machine.nics.retain(|nic| nic.pci == at("0000:3f:00.0"));
    machine.gpus.retain(|gpu| gpu.pci < at("0000:30:00.0"));
    let (several, _) = emitted(&machine, Form::MultiHost);
    assert_eq!(several, emit(&machine, Form::SingleHost).unwrap());
}

#[test]
fn an_arm_host_has_the_attributes_that_nccl_fills_in_on_x86_and_no_values() {
    let mut machine = with_switches(machine(2, 1, 4), 1);
    machine.processor = Some(Processor {
        arch: "arm64".into(),
        vendor: None,
        family: None,
        model: None,
    });
    let (_, root) = emitted(&machine, Form::SingleHost);
    assert_eq!(values(&root, "cpu", "arch"), ["arm64", "arm64"]);
    for key in ["vendor", "familyid", "modelid"] {
        assert_eq!(values(&root, "cpu", key), ["", ""]);
    }
}

#[test]
fn a_switch_that_the_site_names_is_made_up_above_its_devices() {
    let mut machine = without_switches(machine(2, 1, 4), 2, true);
    machine.hidden_switches = vec![HiddenSwitch {
        devices: ["0000:01:00.0", "0000:0f:00.0", "0000:99:00.0"]
            .map(at)
            .into(),
        said_by: "/etc/f:3".into(),
    }];
    let (emitted, root) = emitted(&machine, Form::SingleHost);
    let switch = root.children[0]
        .named("pci")
        .find(|pci| pci.get("busid") == Some("ffff:01:00.0"));
    let switch = switch.unwrap();
    assert_eq!(switch.get("class"), Some("0x060400"));
    assert_eq!(switch.get("link_speed"), Some("32.0 GT/s PCIe"));
    assert_eq!(
        values(switch, "pci", "busid")[1..],
        ["0000:01:00.0", "0000:0f:00.0"]
    );
    let said = &emitted.corrections[0];
    assert_eq!(
        said.what,
        "0000:01:00.0 and 0000:0f:00.0 are below an invented switch, ffff:01:00.0"
    );
    assert!(said.evidence.starts_with("/etc/f:3 says"), "{said:?}");
    assert_eq!(emitted.gpus.len(), 4);
}

#[test]
fn a_switch_that_the_machine_shows_is_not_made_up_again() {
    let mut machine = with_switches(machine(2, 1, 4), 2);
    let plain = emit(&machine, Form::SingleHost).unwrap();
    machine.hidden_switches = vec![HiddenSwitch {
        devices: ["0000:03:00.0", "0000:04:00.0"].map(at).into(),
        said_by: "/etc/f:3".into(),
    }];
    assert_eq!(emit(&machine, Form::SingleHost).unwrap(), plain);
}

#[test]
fn a_named_switch_with_devices_at_two_packages_gives_no_file() {
    let mut machine = without_switches(machine(2, 1, 4), 2, true);
    machine.hidden_switches = vec![HiddenSwitch {
        devices: ["0000:01:00.0", "0000:11:00.0"].map(at).into(),
        said_by: "/etc/f:3".into(),
    }];
    let torn = emit(&machine, Form::SingleHost);
    assert!(
        matches!(torn, Err(NotEmitted::SwitchTornApart { .. })),
        "{torn:?}"
    );
}
