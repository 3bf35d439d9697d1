use topology::machine::{HiddenSwitch, Locality, Machine, Processor};
use topology::pci::PciAddress;
use topology::set::{CpuSet, NodeSet};

use super::*;
use crate::element::Element;
use crate::reader;
use crate::testing::*;

/// Emits and reads back by NCCL's rules, none of which may be broken.
fn emitted(machine: &Machine, form: Form) -> (Emitted, Element) {
    let emitted = emit(machine, form).unwrap();
    assert_keeps_the_grammar(&emitted.xml);
    let system =
        reader::parse(&emitted.xml).unwrap_or_else(|found| panic!("{}\n{found:?}", emitted.xml));
    (emitted, system.root)
}

/// What the reader's rules say, once more without the reader.
fn assert_keeps_the_grammar(xml: &str) {
    assert!(xml.starts_with("<system version=\"1\">\n"), "{xml}");
    for unwanted in [
        "<?",
        "<!",
        "\t",
        "\r",
        "&",
        "<gpu",
        "<net",
        "<nvlink",
        "<c2c",
        "host_hash",
        "'",
    ] {
        assert!(!xml.contains(unwanted), "{unwanted:?} in {xml}");
    }
    for line in xml.lines() {
        let tag = line.trim_start_matches(' ');
        assert!(tag.starts_with('<') && tag.ends_with('>'), "{line}");
        assert!(
            !tag.contains("  ") && !tag.contains(" >") && !tag.contains(" />"),
            "{line}"
        );
        assert!(tag.matches('=').count() <= 8, "{line}");
        for key in [
            "busid",
            "class",
            "link_speed",
            "link_width",
            "vendor",
            "device",
        ] {
            assert!(
                !tag.starts_with("<pci") || tag.contains(&format!(" {key}=\"")),
                "{line}"
            );
        }
        for key in [
            "numaid", "affinity", "arch", "vendor", "familyid", "modelid",
        ] {
            assert!(
                !tag.starts_with("<cpu") || tag.contains(&format!(" {key}=\"")),
                "{line}"
            );
        }
        assert!(tag.split('"').all(|value| value.len() < 254), "{line}");
    }
    assert!(xml.matches('<').count() - xml.matches("</").count() < 256);
}

fn values<'e>(root: &'e Element, name: &str, key: &str) -> Vec<&'e str> {
    let mut found = Vec::new();
    root.walk(&mut |element| {
        if element.name == name {
            found.push(element.get(key).unwrap());
        }
    });
    found
}

fn addresses(texts: &[&str]) -> Vec<PciAddress> {
    texts.iter().map(|text| at(text)).collect()
}

#[test]
fn a_plain_two_package_server_is_written_as_nccl_sees_it() {
    let machine = with_switches(machine(2, 1, 4), 2);
    let (emitted, _) = emitted(&machine, Form::SingleHost);
    let expected = "<system version=\"1\">
  <cpu numaid=\"0\" affinity=\"0000000f\" arch=\"x86_64\" vendor=\"GenuineIntel\" familyid=\"6\" modelid=\"143\">
    <pci busid=\"0000:01:00.0\" class=\"0x060400\" vendor=\"0x1000\" device=\"0xc030\" \
subsystem_vendor=\"0x10de\" subsystem_device=\"0x1626\" link_speed=\"32.0 GT/s PCIe\" link_width=\"16\">
      <pci busid=\"0000:03:00.0\" class=\"0x030200\" vendor=\"0x10de\" device=\"0x2330\" \
subsystem_vendor=\"0x10de\" subsystem_device=\"0x1626\" link_speed=\"32.0 GT/s PCIe\" link_width=\"16\"/>
";
    assert!(emitted.xml.starts_with(expected), "{}", emitted.xml);
    assert_eq!(emitted.corrections, []);
    let order = [
        "0000:03:00.0",
        "0000:04:00.0",
        "0000:13:00.0",
        "0000:14:00.0",
    ];
    assert_eq!(emitted.gpus, addresses(&order));
}

#[test]
fn the_same_machine_gives_the_same_text() {
    let machine = with_switches(machine(2, 4, 8), 2);
    assert_eq!(
        emit(&machine, Form::SingleHost),
        emit(&machine, Form::SingleHost)
    );
}

#[test]
fn numa_nodes_of_a_package_become_one_cpu_with_all_its_cpus() {
    for (machine, numaids, masks) in [
        (
            machine(2, 2, 8),
            vec!["0", "2"],
            vec!["0000ffff", "ffff0000"],
        ),
        (
            amd(machine(2, 4, 16)),
            vec!["0", "4"],
            vec!["ffffffff,ffffffff", "ffffffff,ffffffff,00000000,00000000"],
        ),
        (
            machine(4, 1, 8),
            vec!["0", "1", "2", "3"],
            vec!["000000ff", "0000ff00", "00ff0000", "ff000000"],
        ),
    ] {
        let nodes = machine.numa_nodes.len() > machine.packages.len();
        let (emitted, root) = emitted(&with_switches(machine, 2), Form::SingleHost);
        assert_eq!(values(&root, "cpu", "numaid"), numaids);
        assert_eq!(values(&root, "cpu", "affinity"), masks);
        let merges = emitted
            .corrections
            .iter()
            .any(|c| c.what.contains("are one <cpu"));
        assert_eq!(merges, nodes);
    }
}

#[test]
fn amd_family_25_is_written_175_on_every_cpu() {
    let (_, root) = emitted(&with_switches(amd(machine(2, 4, 2)), 1), Form::SingleHost);
    assert_eq!(values(&root, "cpu", "familyid"), ["175", "175"]);
    assert_eq!(values(&root, "cpu", "modelid"), ["17", "17"]);
    assert_eq!(
        values(&root, "cpu", "vendor"),
        ["AuthenticAMD", "AuthenticAMD"]
    );
}

#[test]
fn root_ports_and_downstream_ports_are_not_written() {
    let (_, root) = emitted(&with_switches(machine(1, 1, 4), 2), Form::SingleHost);
    let expected = [
        "0000:01:00.0",
        "0000:03:00.0",
        "0000:04:00.0",
        "0000:0f:00.0",
    ];
    assert_eq!(values(&root, "pci", "busid"), expected);
    let (_, root) = emitted(
        &without_switches(machine(1, 1, 4), 2, false),
        Form::SingleHost,
    );
    assert_eq!(
        values(&root, "pci", "busid"),
        ["0000:01:00.0", "0000:02:00.0"]
    );
}

#[test]
fn a_switch_below_a_switch_is_kept() {
    let mut machine = machine(1, 1, 4);
    let root = root_port(&mut machine, "0000:00:01.0", 0);
    let upper = switch(&mut machine, root, 0x10, 2, 0);
    let lower = switch(&mut machine, upper[1], 0x20, 2, 0);
    gpu(&mut machine, "0000:30:00.0", lower[0], 0);
    gpu(&mut machine, "0000:18:00.0", upper[0], 0);
    let (emitted, root) = emitted(&machine, Form::SingleHost);
    let expected = [
        "0000:10:00.0",
        "0000:18:00.0",
        "0000:20:00.0",
        "0000:30:00.0",
    ];
    assert_eq!(values(&root, "pci", "busid"), expected);
    assert_eq!(emitted.gpus, addresses(&["0000:18:00.0", "0000:30:00.0"]));
}

#[test]
fn gpus_of_a_cpu_stand_together_where_bus_order_alternates_packages() {
    let mut machine = machine(2, 1, 4);
    for bus in [0x10_u32, 0x20, 0x30, 0x40] {
        let node = bus / 16 % 2;
        let root = root_port(&mut machine, &format!("0000:{bus:02x}:01.0"), node);
        gpu(
            &mut machine,
            &format!("0000:{:02x}:00.0", bus + 1),
            root,
            node,
        );
    }
    let (emitted, _) = emitted(&machine, Form::SingleHost);
    let order = [
        "0000:21:00.0",
        "0000:41:00.0",
        "0000:11:00.0",
        "0000:31:00.0",
    ];
    assert_eq!(emitted.gpus, addresses(&order));
}

#[test]
fn links_are_the_lesser_maximum_of_device_and_port_and_never_the_current() {
    let mut machine = with_switches(machine(2, 1, 4), 2);
    device(&mut machine, "0000:03:00.0").link.current_speed_gts = Some(2.5);
    device(&mut machine, "0000:02:00.0").link.max_speed_gts = Some(16.0);
    device(&mut machine, "0000:04:00.0").link.max_width = Some(8);
    let (emitted, root) = emitted(&machine, Form::SingleHost);
    assert_eq!(
        values(&root, "pci", "link_speed")[1..3],
        ["16.0 GT/s PCIe", "32.0 GT/s PCIe"]
    );
    assert_eq!(values(&root, "pci", "link_width")[1..3], ["16", "8"]);
    let [idle] = emitted
        .corrections
        .iter()
        .filter(|c| c.what.contains("x16"))
        .collect::<Vec<_>>()[..]
    else {
        panic!("{:?}", emitted.corrections)
    };
    assert_eq!(idle.device, Some(at("0000:03:00.0")));
    assert!(idle.evidence.contains("2.5 GT/s x16"), "{}", idle.evidence);
}

#[test]
fn a_gpu_link_that_is_not_recorded_stops_the_file_where_gpus_are_on_several_packages() {
    let mut two = with_switches(machine(2, 1, 4), 1);
    for address in ["0000:03:00.0", "0000:02:00.0"] {
        device(&mut two, address).link = topology::pci::Link::default();
    }
    let device_unknown = at("0000:03:00.0");
    assert_eq!(
        emit(&two, Form::SingleHost),
        Err(NotEmitted::LinkUnknown {
            device: device_unknown
        })
    );
}

/// Every link with nothing recorded but its bandwidth when read, as in hwloc's XML.
fn with_bandwidth(mut machine: Machine, gb_s: f64) -> Machine {
    for device in &mut machine.pci {
        device.link = topology::pci::Link {
            current_bandwidth_gb_s: Some(gb_s),
            ..Default::default()
        };
    }
    machine
}

#[test]
fn the_speed_when_read_serves_where_the_ring_is_as_forced_on_it() {
    let two = with_bandwidth(with_switches(machine(2, 1, 4), 2), 63.015_385);
    let (emitted, root) = emitted(&two, Form::SingleHost);
    assert_eq!(values(&root, "pci", "link_speed")[1], "32.0 GT/s PCIe");
    let of_links = emitted
        .corrections
        .iter()
        .filter(|c| c.what.ends_with("32.0 GT/s PCIe x16"));
    assert!(of_links.clone().count() >= 4);
    assert!(
        of_links
            .into_iter()
            .all(|c| c.evidence.contains("not recorded"))
    );
}

#[test]
fn the_speed_of_a_link_that_slept_does_not_serve() {
    let two = with_bandwidth(with_switches(machine(2, 1, 4), 2), 4.0);
    let found = emit(&two, Form::SingleHost);
    assert!(
        matches!(found, Err(NotEmitted::LinkUnknown { .. })),
        "{found:?}"
    );
}

#[test]
fn the_speed_when_read_does_not_serve_where_the_ring_would_cross_too_often() {
    let four = with_bandwidth(without_switches(machine(4, 1, 4), 2, false), 15.753_846);
    let found = emit(&four, Form::SingleHost).unwrap_err().to_string();
    assert!(
        found.contains("were it 8 GT/s x16 as when it was read, NCCL's ring would cross"),
        "{found}"
    );
}

#[test]
fn a_link_that_is_not_recorded_is_written_empty_where_nothing_hangs_on_it() {
    let mut one = with_switches(machine(1, 2, 4), 1);
    for address in ["0000:03:00.0", "0000:02:00.0"] {
        device(&mut one, address).link = topology::pci::Link::default();
    }
    let (emitted, root) = emitted(&one, Form::SingleHost);
    assert_eq!(values(&root, "pci", "link_speed")[1], "");
    assert!(
        emitted
            .corrections
            .iter()
            .any(|c| c.what.contains("is empty"))
    );
}

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
        .filter(|c| c.evidence.contains("names no NUMA node"));
    assert_eq!(placed.count(), 4);
}

#[test]
fn an_unknown_place_of_a_gpu_or_nic_leaves_nccl_to_itself() {
    let known = with_switches(machine(2, 1, 4), 1);
    let mut gpu = known.clone();
    gpu.gpus[0].locality = Locality::default();
    let mut nic = known.clone();
    nic.nics[1].locality = Locality::default();
    for (machine, address) in [(gpu, "0000:03:00.0"), (nic, "0000:1f:00.0")] {
        let device = at(address);
        assert_eq!(
            emit(&machine, Form::SingleHost),
            Err(NotEmitted::LocalityUnknown { device })
        );
    }
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
    let (emitted, root) = emitted(&far, Form::MultiHost);
    assert!(emitted.by_numa_node);
    assert_eq!(values(&root, "cpu", "numaid"), ["0", "1", "2", "3"]);
    assert_eq!(values(&root, "cpu", "affinity")[1], "000000f0");
    assert_eq!(values(&root, "nic", "keep"), ["1", "1", "1", "1"]);
    for cpu in &root.children {
        assert!(cpu.named("nic").all(|nic| nic.children.is_empty()));
    }
    let single = super::tests::emitted(&far, Form::SingleHost).1;
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
    let (_, root) = emitted(&machine, Form::MultiHost);
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
        "0000:01:00.0 and 0000:0f:00.0 are below a made-up switch, ffff:01:00.0"
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

#[test]
fn sixteen_gpus_fit() {
    let (emitted, root) = emitted(&with_switches(machine(2, 4, 8), 2), Form::SingleHost);
    assert_eq!(emitted.gpus.len(), 16);
    assert_eq!(root.count(), 1 + 2 + 8 + 16 + 8);
}

#[test]
fn virtual_functions_are_left_out_when_there_is_no_room() {
    let mut machine = with_switches(machine(2, 1, 4), 2);
    let port = device(&mut machine, "0000:0f:00.0").parent.unwrap();
    for index in 1..=200_u32 {
        nic(
            &mut machine,
            &format!("0000:0f:{:02x}.{}", index / 8, index % 8),
            port,
            0,
        );
    }
    let (emitted, root) = emitted(&machine, Form::SingleHost);
    let nics = values(&root, "pci", "class")
        .into_iter()
        .filter(|c| c.starts_with("0x02"));
    assert_eq!(nics.count(), 2);
    assert_eq!(
        emitted
            .corrections
            .iter()
            .filter(|c| c.what.contains("left out"))
            .count(),
        200
    );
}

#[test]
fn too_many_adapters_give_no_file() {
    let mut machine = with_switches(machine(2, 1, 4), 2);
    for bus in 0x20..0xa0 {
        let root = root_port(
            &mut machine,
            &format!("0000:00:{:02x}.{}", bus / 8, bus % 8),
            0,
        );
        nic(&mut machine, &format!("0000:{bus:02x}:00.0"), root, 0);
    }
    assert!(matches!(
        emit(&machine, Form::SingleHost),
        Err(NotEmitted::TooLarge { limit: 256, .. })
    ));
}

#[test]
fn other_network_controllers_and_other_vendors_gpus_are_not_written() {
    let mut machine = with_switches(machine(2, 1, 4), 2);
    device(&mut machine, "0000:0f:00.0").class = 0x02_8000;
    machine.gpus[1].vendor = 0x1002;
    let (_, root) = emitted(&machine, Form::SingleHost);
    let busids = values(&root, "pci", "busid");
    assert!(
        !busids.contains(&"0000:0f:00.0") && !busids.contains(&"0000:04:00.0"),
        "{busids:?}"
    );
}

#[test]
fn a_value_that_nccl_cannot_read_back_gives_no_file() {
    for vendor in [
        "Genuine\"Intel",
        "Genuine\tIntel",
        "G\u{e9}nuine",
        &"x".repeat(254),
    ] {
        let mut machine = with_switches(machine(1, 1, 4), 1);
        machine.processor.as_mut().unwrap().vendor = Some(vendor.to_owned());
        let value = vendor.to_owned();
        assert_eq!(
            emit(&machine, Form::SingleHost),
            Err(NotEmitted::Unwritable { value })
        );
    }
}

#[test]
fn a_bridge_that_is_not_recorded_gives_no_file() {
    let mut machine = with_switches(machine(1, 1, 4), 1);
    machine
        .pci
        .retain(|device| device.address != at("0000:01:00.0"));
    let device = at("0000:01:00.0");
    assert_eq!(
        emit(&machine, Form::SingleHost),
        Err(NotEmitted::DeviceNotRecorded { device })
    );
}

#[test]
fn the_climb_ends_at_a_domain_beyond_16_bits_as_nccls_does() {
    let mut machine = machine(1, 1, 4);
    let root = root_port(&mut machine, "10000:e0:02.0", 0);
    let upstream = root_port(&mut machine, "10000:e1:00.0", 0);
    let downstream = root_port(&mut machine, "10000:e2:00.0", 0);
    device(&mut machine, "10000:e1:00.0").parent = Some(root);
    device(&mut machine, "10000:e2:00.0").parent = Some(upstream);
    gpu(&mut machine, "10000:e3:00.0", downstream, 0);
    let (_, root) = emitted(&machine, Form::SingleHost);
    assert_eq!(values(&root, "pci", "busid"), ["10000:e3:00.0"]);
}

#[test]
fn bridges_that_form_a_circle_give_no_file() {
    let mut machine = with_switches(machine(1, 1, 4), 1);
    let low = at("0000:02:00.0");
    device(&mut machine, "0000:00:01.0").parent = Some(low);
    let device = at("0000:03:00.0");
    assert_eq!(
        emit(&machine, Form::SingleHost),
        Err(NotEmitted::EndlessBridges { device })
    );
}
