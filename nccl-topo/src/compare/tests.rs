//! Files with one thing wrong, against made-up machines.

use super::*;
use crate::emit::{Form, emit};
use crate::reader::{parse, read};
use crate::testing::*;

/// The messages for the file of `from`, changed by `edit`, against `machine`.
fn differences(from: &Machine, machine: &Machine, form: Form) -> Vec<String> {
    let system = parse(&emit(from, form).unwrap().xml).unwrap();
    compare(&system, machine, Rules::assumed())
        .iter()
        .map(|found| found.kind.to_string())
        .collect()
}

#[test]
fn a_machines_own_file_does_not_differ() {
    for machine in [
        with_switches(machine(2, 2, 4), 2),
        without_switches(machine(2, 2, 4), 2, true),
    ] {
        for form in [Form::SingleHost, Form::MultiHost] {
            assert_eq!(differences(&machine, &machine, form), [""; 0]);
        }
    }
}

#[test]
fn missing_and_foreign_devices_are_named() {
    let small = with_switches(machine(2, 1, 4), 1);
    let large = with_switches(machine(2, 1, 4), 2);
    let found = differences(&small, &large, Form::SingleHost);
    assert!(
        found[0].starts_with("GPU 0000:04:00.0 is not in the file"),
        "{found:?}"
    );
    let found = differences(&large, &small, Form::SingleHost);
    assert!(
        found.contains(&"0000:14:00.0 does not exist on this machine".to_owned()),
        "{found:?}"
    );
}

#[test]
fn nodes_taken_for_sockets_and_packages_taken_for_one_are_named() {
    let split = with_switches(machine(4, 1, 4), 1);
    let joined = with_switches(machine(2, 2, 4), 1);
    let found = differences(&split, &joined, Form::SingleHost);
    assert!(
        found[0].starts_with("the GPUs of socket 0 are under <cpu> 0, 1"),
        "{found:?}"
    );
    let found = differences(&joined, &split, Form::SingleHost);
    assert!(
        found[0].starts_with("<cpu numaid=\"0\"> holds GPUs of sockets 0, 1"),
        "{found:?}"
    );
}

#[test]
fn a_link_that_can_do_more_is_named() {
    let fast = with_switches(machine(1, 1, 4), 1);
    let mut slow = fast.clone();
    device(&mut slow, "0000:03:00.0").link.max_speed_gts = Some(2.5);
    let found = differences(&slow, &fast, Form::SingleHost);
    assert!(
        found[0].starts_with("0000:03:00.0: link_speed \"2.5 GT/s PCIe\""),
        "{found:?}"
    );
    let found = differences(&fast, &slow, Form::SingleHost);
    assert!(
        found[0].ends_with("are more than the link supports (2.5 GT/s x16)"),
        "{found:?}"
    );
}

/// The messages for the machine's own file with `old` replaced by `new` where it stands first.
fn edited(machine: &Machine, old: &str, new: &str) -> Vec<String> {
    let xml = emit(machine, Form::SingleHost).unwrap().xml;
    assert!(xml.contains(old), "{old} in {xml}");
    let system = read(&xml.replacen(old, new, 1)).system.unwrap();
    compare(&system, machine, Rules::assumed())
        .iter()
        .map(|found| format!("{}: {}", found.line.unwrap_or_default(), found.kind))
        .collect()
}

#[test]
fn an_affinity_of_other_cpus_is_named_with_its_value() {
    let machine = with_switches(machine(2, 2, 4), 1);
    let own = "affinity=\"000000ff\"";
    for (affinity, expected) in [
        (
            " affinity=\"0000ff00\"",
            "names CPUs 8-15, which are not on socket 0",
        ),
        (
            " affinity=\"ffffffff\"",
            "names CPUs 16-31, which are not online here",
        ),
        (
            " affinity=\"0000000f\"",
            "leaves out CPUs 4-7, which are local to GPU 0000:13:00.0",
        ),
        (
            "",
            "no affinity; NCCL uses that node's CPUs alone, and CPUs 4-7 are local to GPU 0000:13:00.0 too",
        ),
    ] {
        let found = edited(&machine, &format!(" {own}"), affinity);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("2: <cpu numaid=\"0\">: "), "{found:?}");
        assert!(found[0].contains(expected), "{found:?}");
    }
    assert_eq!(edited(&machine, own, "affinity=\"\""), [""; 0]);
}

#[test]
fn a_numaid_of_another_package_is_named_for_each_device() {
    let machine = with_switches(machine(2, 1, 4), 1);
    let found = edited(&machine, "<cpu numaid=\"0\"", "<cpu numaid=\"1\"");
    let place = "0000:03:00.0 is under <cpu numaid=\"1\">, a node of socket 1, but it is at socket 0 (by its \
                 numa_node)";
    assert!(
        found.iter().any(|found| found.ends_with(place)),
        "{found:?}"
    );
    for absent in ["7", "-1"] {
        let found = edited(
            &machine,
            "<cpu numaid=\"0\"",
            &format!("<cpu numaid=\"{absent}\""),
        );
        let none =
            format!("2: <cpu numaid=\"{absent}\">: this machine has no such NUMA node with CPUs");
        assert!(found.contains(&none), "{found:?}");
    }
}

#[test]
fn a_processor_with_another_link_is_named_and_one_with_the_same_is_not() {
    let machine = with_switches(machine(2, 1, 4), 1);
    let found = edited(&machine, "modelid=\"143\"", "modelid=\"85\"");
    assert!(
        found[0]
            .ends_with(
                "a socket link of 10 GB/s; with this machine's \"x86_64 GenuineIntel 6 143\" it assumes 22 GB/s"
            ),
        "{found:?}"
    );
    assert_eq!(
        edited(&machine, "modelid=\"143\"", "modelid=\"173\""),
        [""; 0]
    );
}

#[test]
fn an_architecture_without_vendor_is_a_processor_of_its_own() {
    let machine = with_switches(machine(2, 1, 4), 1);
    let xml = emit(&machine, Form::SingleHost).unwrap().xml;
    let start = xml.find("arch=").unwrap();
    let end = start + xml[start..].find('>').unwrap();
    let own = &xml[start..end];
    for arch in ["arm64", "ppc64"] {
        let found = edited(&machine, own, &format!("arch=\"{arch}\""));
        assert!(
            found.iter().any(|line| line.contains("a socket link of")),
            "{arch}: {found:?}"
        );
    }
    // An x86 processor that is not named whole is any.
    assert_eq!(edited(&machine, own, "arch=\"x86_64\""), [""; 0]);
}

#[test]
fn another_class_another_parent_and_a_stale_number_are_named() {
    let machine = with_switches(machine(2, 1, 4), 1);
    let found = edited(&machine, "class=\"0x030200\"", "class=\"0x060400\"");
    assert_eq!(
        found,
        ["4: 0000:03:00.0: class is \"0x060400\", but the device's is 0x030200"]
    );
    // As NCCL itself writes the class of a device that has none.
    let short = |class: &str| {
        edited(
            &machine,
            "class=\"0x030200\"",
            &format!("class=\"{class}\""),
        )
    };
    assert_eq!(short("0x03"), [""; 0]);
    assert_eq!(
        short("0x02"),
        ["4: 0000:03:00.0: class is \"0x02\", but the device's is 0x030200"]
    );
    let found = edited(&machine, "busid=\"0000:03:00.0\"", "busid=\"0000:13:00.0\"");
    let parent = "4: 0000:13:00.0 is below 0000:01:00.0 in the file, but not on this machine";
    assert!(found.contains(&parent.to_owned()), "{found:?}");

    let xml = emit(&machine, Form::SingleHost).unwrap().xml;
    let gpu = xml
        .lines()
        .find(|line| line.contains("0000:13:00.0"))
        .unwrap();
    let open = gpu.replace("/>", ">");
    let dumped = |dev, target| {
        format!(
            "{open}<gpu dev=\"{dev}\"><nvlink target=\"{target}\" count=\"2\" \
             tclass=\"0x030200\"/></gpu></pci>"
        )
    };
    assert_eq!(edited(&machine, gpu, &dumped(1, "0000:03:00.0")), [""; 0]);
    let found = edited(&machine, gpu, &dumped(0, "0000:77:00.0"));
    assert!(found[0].ends_with("dev is \"0\", but NVML's number is 1; NCCL uses the file's"));
    assert!(
        found[1].ends_with("points to no GPU of this machine"),
        "{found:?}"
    );
}

#[test]
fn a_processor_is_another_only_for_versions_that_tell_the_two_apart() {
    let mut turin = amd(with_switches(machine(2, 1, 4), 1));
    turin.processor.as_mut().unwrap().family = Some(26);
    let mut rome = turin.clone();
    rome.processor.as_mut().unwrap().family = Some(23);
    let system = parse(&emit(&rome, Form::SingleHost).unwrap().xml).unwrap();
    for (version, says) in [
        ("2.29.7", None),
        ("2.30.7", None),
        ("2.31.0", Some(("16", "32"))),
    ] {
        let rules = Rules::of(version.parse().unwrap());
        let found = compare(&system, &turin, rules);
        let Some((takes, truth)) = says else {
            assert_eq!(found, [], "{version}");
            continue;
        };
        let text = found[0].kind.to_string();
        assert!(
            text.contains(&format!("socket link of {takes} GB/s")),
            "{text}"
        );
        assert!(
            text.ends_with(&format!("it assumes {truth} GB/s")),
            "{text}"
        );
    }
}
