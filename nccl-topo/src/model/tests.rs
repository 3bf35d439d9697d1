//! Small files, each with one rule of NCCL's paths.

use super::*;
use crate::reader::read;

const AMD: &str = "arch=\"x86_64\" vendor=\"AuthenticAMD\" familyid=\"175\" modelid=\"1\"";
const LINK: &str = "link_speed=\"16.0 GT/s PCIe\" link_width=\"16\"";

/// A GPU at bus `bus`, with `inside` in its `<gpu>`.
fn gpu(bus: u8, inside: &str) -> String {
    format!(
        "<pci busid=\"0000:{bus:02x}:00.0\" class=\"0x030200\" {LINK}><gpu sm=\"80\">{inside}</gpu></pci>"
    )
}

fn nvlink(to: &str) -> String {
    format!("<nvlink target=\"{to}\" count=\"2\"/>")
}

fn at(bus: u8) -> String {
    format!("0000:{bus:02x}:00.0")
}

/// A `<cpu>` for each of `cpus`.
fn system(cpus: &[String]) -> System {
    let cpus = (0..).zip(cpus).map(|(id, inside)| {
        let id: u32 = id;
        format!("<cpu numaid=\"{id}\" affinity=\"\" {AMD}>{inside}</cpu>")
    });
    let text = format!(
        "<system version=\"1\">{}</system>",
        cpus.collect::<String>()
    );
    read(&text).system.unwrap_or_else(|| panic!("{text}"))
}

/// The path between the first and last GPU.
fn path(system: &System, rules: &'static Rules) -> (PathType, f32) {
    let conditions = Conditions {
        rules,
        ..Conditions::of_capability(80)
    };
    let model = Model::of(system, &gpus_of(system), conditions);
    let path = model.paths.between(0, model.gpus.len() - 1).unwrap();
    (path.kind, path.bandwidth_gb_s)
}

#[test]
fn nvlink_joins_gpus_directly_through_a_third_and_through_a_switch() {
    let rules = Rules::assumed();
    let direct = system(&[gpu(1, &nvlink(&at(2))), gpu(2, &nvlink(&at(1)))]);
    assert_eq!(path(&direct, rules), (PathType::Nvl, 40.0));
    let middle = nvlink(&at(1)) + &nvlink(&at(3));
    let relayed = system(&[
        gpu(1, &nvlink(&at(2))),
        gpu(2, &middle),
        gpu(3, &nvlink(&at(2))),
    ]);
    assert_eq!(path(&relayed, rules), (PathType::Nvb, 40.0));
    let middle = nvlink(&at(2)) + &nvlink(&at(4));
    let twice = system(&[
        gpu(1, &nvlink(&at(2))),
        gpu(2, &(nvlink(&at(1)) + &nvlink(&at(3)))),
        gpu(3, &middle),
        gpu(4, &nvlink(&at(3))),
    ]);
    assert_eq!(path(&twice, rules).0, PathType::Sys);
    let unseen = nvlink("fffffff:ffff:ff");
    let switched = system(&[gpu(1, &unseen), gpu(2, &unseen)]);
    assert_eq!(path(&switched, rules), (PathType::Nvl, 40.0));
}

#[test]
fn c2c_carries_what_the_file_says_and_with_pci_makes_p2c() {
    let c2c = "<c2c bw=\"25000\" count=\"10\"/>";
    let both = system(&[gpu(1, c2c) + &gpu(2, c2c) + &gpu(3, c2c)]);
    assert_eq!(path(&both, Rules::assumed()), (PathType::C2c, 250.0));
    let wide = "<c2c bw=\"70000\" count=\"10\"/>";
    let wide = system(&[gpu(1, wide) + &gpu(2, wide) + &gpu(3, wide)]);
    assert_eq!(path(&wide, Rules::assumed()), (PathType::C2c, 700.0));
    let one = system(&[gpu(1, c2c) + &gpu(2, "") + &gpu(3, "")]);
    assert_eq!(path(&one, Rules::assumed()).0, PathType::P2c);
    let old = Rules::of("2.27.3".parse().unwrap());
    assert_eq!(path(&one, old).0, PathType::Phb);
}

#[test]
fn broadcoms_two_levels_count_as_one_switch() {
    let switch = |bus: u8, ids: &str, inside: &str| {
        format!(
            "<pci busid=\"{}\" class=\"0x060400\" {ids} {LINK}>{inside}</pci>",
            at(bus)
        )
    };
    let two_levels = |ids: &str| {
        let lower = switch(2, ids, &gpu(3, "")) + &switch(4, ids, &gpu(5, ""));
        system(&[switch(1, ids, &lower)])
    };
    let broadcom = "vendor=\"0x1000\" device=\"0xc010\" subsystem_vendor=\"0x1000\" subsystem_device=\"0xa000\"";
    let other = broadcom.replace("0xc010", "0x1234");
    let rules = Rules::assumed();
    assert_eq!(path(&two_levels(broadcom), rules).0, PathType::Pix);
    assert_eq!(path(&two_levels(&other), rules).0, PathType::Pxb);
}

#[test]
fn a_network_device_keeps_its_cpu_first_in_every_ranks_tree() {
    let net = "<nic><net name=\"eth0\"/></nic>";
    let ranks = [at(2), at(1)];
    let order = |first: &str| {
        let system = system(&[first.to_owned() + &gpu(1, ""), gpu(2, "")]);
        let model = Model::of(&system, &ranks, Conditions::of_capability(80));
        let busids = model.gpus.iter().map(|gpu| gpu.busid.clone());
        busids.collect::<Vec<_>>()
    };
    assert_eq!(order(""), [at(2), at(1)]);
    assert_eq!(order(net), [at(1), at(2)]);
}

#[test]
fn of_two_cpus_of_one_number_the_second_is_taken_for_the_first_on_its_way_out() {
    let two = |numaid: u32| {
        let cpu = |id: u32, mask: &str, bus: u8| {
            let pci = gpu(bus, "");
            format!(
                "<cpu numaid=\"{id}\" affinity=\"{mask}\" {AMD}>{pci}{}</cpu>",
                gpu(bus + 1, "")
            )
        };
        let text = cpu(0, "3", 1) + &cpu(numaid, "c", 3);
        read(&format!("<system version=\"1\">{text}</system>"))
            .system
            .unwrap()
    };
    for version in ["2.29.7", "2.30.7", "2.31.0"] {
        let rules = Rules::of(version.parse().unwrap());
        let paths = |system: &System| {
            let conditions = Conditions {
                rules,
                ..Conditions::of_capability(80)
            };
            let model = Model::of(system, &gpus_of(system), conditions);
            let kind = |from, to| model.paths.between(from, to).unwrap().kind;
            (kind(0, 3), kind(3, 0))
        };
        assert_eq!(paths(&two(1)), (PathType::Sys, PathType::Sys), "{version}");
        assert_eq!(paths(&two(0)).0, PathType::Sys, "{version}");
        if rules.nearer_path_is_taken {
            assert_eq!(paths(&two(0)).1, PathType::Phb, "{version}");
        }
    }
}

/// The type and GB/s of the path between two of `ranks`, by their names.
fn path_of(system: &System, ranks: &[String], ends: [&str; 2]) -> (PathType, f32) {
    let model = Model::of(system, ranks, Conditions::of_capability(80));
    let place = |name: &str| model.gpus.iter().position(|gpu| gpu.name == name).unwrap();
    let [from, to] = ends.map(place);
    let path = model.paths.between(from, to).unwrap();
    (path.kind, path.bandwidth_gb_s)
}

#[test]
fn parts_of_a_gpu_are_joined_and_divide_its_links() {
    let part = |bus: u8, part: u8| format!("{}/{part}", at(bus));
    let ranks = [part(1, 0), part(1, 1), part(2, 0), at(3)];
    let link = |targets: [u8; 2]| {
        let links = targets.map(|bus| nvlink(&at(bus)));
        links.concat()
    };
    let linked = system(&[
        gpu(1, &link([2, 3])) + &gpu(2, &link([1, 3])),
        gpu(3, &link([1, 2])),
    ]);
    let between = |a: &str, b: &str| path_of(&linked, &ranks, [a, b]);
    let [first, second, other, whole] = ranks.each_ref();
    assert_eq!(between(first, second), (PathType::Loc, 2618.0));
    // Two links of 20 GB/s, of which each part has its share.
    assert_eq!(between(second, whole), (PathType::Nvl, 20.0));
    assert_eq!(between(other, whole), (PathType::Nvl, 40.0));
    let c2c = "<c2c bw=\"25000\" count=\"10\"/>";
    let on_module = system(&[gpu(1, c2c) + &gpu(2, c2c) + &gpu(3, c2c)]);
    let ways = path_of(&on_module, &ranks, [first, whole]);
    assert_eq!(ways, (PathType::C2c, 250.0));
    // What the parts share is one link more on the way.
    let hops = |from: usize| {
        let model = Model::of(&on_module, &ranks, Conditions::of_capability(80));
        model.paths.between(from, 3).unwrap().hops.len()
    };
    assert_eq!((hops(0), hops(2)), (5, 4));
}

#[test]
fn parts_are_those_of_the_ranks_and_not_of_the_file() {
    let parts = "<gpu sm=\"80\" mlopart=\"0\"/><gpu sm=\"80\" mlopart=\"1\"/>";
    let pci = format!(
        "<pci busid=\"{}\" class=\"0x030200\" {LINK}>{parts}</pci>",
        at(1)
    );
    let file = system(&[pci, gpu(2, "")]);
    let named = |part: u8| format!("{}/{part}", at(1));
    assert_eq!(parts::held_of(&file), [named(0), named(1), at(2)]);
    assert_eq!(parts::in_parts(&file), [at(1)]);
    assert!(parts::shared(&file).is_empty());
    let whole = system(&[gpu(1, ""), gpu(2, "")]);
    assert_eq!(Model::of_all(&file).graph, Model::of_all(&whole).graph);
    let names = |ranks: &[String]| {
        let model = Model::of(&file, ranks, Conditions::of_capability(80));
        model.gpus.len()
    };
    assert_eq!(names(&[named(1), named(0), at(2)]), 3);
    // There are two parts at most.
    assert_eq!(names(&[named(2), at(2)]), 1);
}
