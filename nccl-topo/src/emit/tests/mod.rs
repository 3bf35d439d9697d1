use topology::machine::{HiddenSwitch, Locality, Machine, Processor};
use topology::pci::PciAddress;
use topology::set::{CpuSet, NodeSet};

use super::*;
use crate::element::Element;
use crate::predict::predict;
use crate::reader;
use crate::testing::*;

mod limits;
mod links;
mod places;

/// Emits and reads back by NCCL's rules, none of which may be broken.
fn emitted(machine: &Machine, form: Form) -> (Emitted, Element) {
    let emitted = emit(machine, form).unwrap();
    assert_keeps_the_grammar(&emitted.xml);
    let system =
        reader::parse(&emitted.xml).unwrap_or_else(|found| panic!("{}\n{found:?}", emitted.xml));
    (emitted, system.root)
}

/// What is written where NCCL's search does not matter.
fn preferred(machine: &Machine, form: Form) -> (bool, Element) {
    let devices = Devices::collect(machine, Functions::All).unwrap();
    let (layout, _) = Layout::of(machine, &devices, form).unwrap();
    let system = layout::system(machine, &devices, &layout).unwrap();
    (layout.is_by_numa_node(), system)
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
