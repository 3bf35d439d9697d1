//! Searches that pass over what repeats, against those that do as NCCL does, step by step.

use machines::Declared;
use topology::sysfs::{read_machine, read_overrides};

use super::Search;
use crate::emit::{Form, emit};
use crate::graph::{PathType, Reach};
use crate::model::nets::{NetDevice, named_in, rdma_ports, with_nets};
use crate::model::{Conditions, Model, gpus_of, with_links};
use crate::reader;
use crate::rules::Rules;

/// Compares the searches of a machine for a job on one host and on several; how many there were.
fn compare(declared: &Declared) -> usize {
    let recording = declared.record();
    let (overrides, _) = read_overrides(recording.root());
    let machine = read_machine(recording.root(), &overrides).unwrap();
    let mut compared = 0;
    for form in [Form::SingleHost, Form::MultiHost] {
        let Ok(emitted) = emit(&machine, form) else {
            continue;
        };
        let system = with_links(&reader::read(&emitted.xml).system.unwrap(), &machine);
        let orders = [
            gpus_of(&system),
            gpus_of(&system).into_iter().rev().collect(),
        ];
        for nets in [rdma_ports(&machine), vec![NetDevice::socket()]] {
            let system = with_nets(&system, &nets);
            for ranks in &orders {
                for (capability, p2p_limit) in [(75, None), (80, Some(PathType::Loc)), (90, None)] {
                    let conditions = Conditions {
                        compute_capability: capability,
                        rules: Rules::assumed(),
                        reach: Reach {
                            p2p_limit,
                            is_whole: false,
                            without_shm: false,
                        },
                    };
                    let model = Model::of(&system, ranks, conditions);
                    for part in model.parts() {
                        for between_hosts in [false, true] {
                            let search = if between_hosts {
                                Search::between_hosts(&part.graph, &part.paths)
                            } else {
                                Search::of(&part.graph, &part.paths)
                            };
                            let Some(search) = search else { continue };
                            let plain = Search::plain(&part.graph, &part.paths, between_hosts);
                            assert_eq!(
                                search, plain,
                                "{} {form:?} {capability} {between_hosts} {ranks:?}",
                                declared.name
                            );
                            compared += 1;
                        }
                    }
                }
            }
        }
    }
    compared
}

#[test]
fn what_is_passed_over_changes_no_answer() {
    // Where a search ends early; the others, which take as long as NCCL's, are in the test below.
    let few = |declared: &Declared| declared.truth.gpus.len() <= 4;
    let compared: usize = machines::all()
        .iter()
        .filter(|one| few(one))
        .map(compare)
        .sum();
    assert!(compared > 100, "{compared}");
}

#[test]
#[ignore = "takes minutes"]
fn what_is_passed_over_changes_no_answer_on_any_machine() {
    let compared: usize = machines::all().iter().map(compare).sum();
    println!("{compared} searches are the same");
}

/// Eight sockets of Ice Lake with nine GPUs, two of them on the first and two on the last socket, none on the second, and
/// a network device on the first.
fn nine_gpus() -> String {
    let gpus = [2, 0, 1, 1, 1, 1, 1, 2];
    let mut bus = 0x10;
    let mut cpus = String::new();
    for (numaid, count) in gpus.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        cpus += &format!(
            "<cpu numaid=\"{numaid}\" affinity=\"\" arch=\"x86_64\" vendor=\"GenuineIntel\" familyid=\"6\" \
             modelid=\"106\">"
        );
        for _ in 0..count {
            bus += 1;
            cpus += &format!(
                "<pci busid=\"0000:{bus:02x}:00.0\" class=\"0x030200\" link_speed=\"32.0 GT/s PCIe\" \
                 link_width=\"16\"/>"
            );
        }
        if numaid == 0 {
            cpus += "<pci busid=\"0000:80:00.0\" class=\"0x020700\" link_speed=\"32.0 GT/s PCIe\" \
                     link_width=\"16\"><nic><net name=\"mlx5_0\" speed=\"100000\" port=\"1\" guid=\"0x1\" gdr=\"1\"/>\
                     </nic></pci>";
        }
        cpus += "</cpu>";
    }
    format!("<system version=\"1\">{cpus}</system>")
}

#[test]
fn what_is_left_of_pci_links_decides_which_gpu_is_next_between_hosts() {
    let system = reader::read(&nine_gpus()).system.unwrap();
    let system = with_nets(&system, &named_in(&system));
    let conditions = Conditions {
        compute_capability: 90,
        rules: Rules::assumed(),
        reach: Reach::default(),
    };
    let model = Model::of(&system, &gpus_of(&system), conditions);
    let search = Search::between_hosts(&model.graph, &model.paths).unwrap();
    // As NCCL 2.30.7 answers: after its first channel a hop through an Intel CPU has left the last GPU less than others.
    assert_eq!(
        search.ring.orders,
        [[0, 1, 8, 7, 6, 5, 4, 3, 2], [0, 1, 6, 8, 7, 5, 2, 3, 4]]
    );
}

/// Two sockets of Sapphire Rapids, each with four switches that hold two GPUs and four network devices each.
fn sixteen_gpus_on_switches() -> String {
    let device = |bus: usize, function: usize, class: &str, below: &str| {
        format!(
            "<pci busid=\"0000:{bus:02x}:00.{function}\" class=\"{class}\" link_speed=\"32.0 GT/s PCIe\" \
             link_width=\"16\">{below}</pci>"
        )
    };
    let mut cpus = String::new();
    for numaid in 0..2 {
        let mut switches = String::new();
        for switch in numaid * 4..numaid * 4 + 4 {
            let bus = 0x10 + switch * 16;
            let nics = (0..4).map(|nic| {
                let number = switch * 4 + nic;
                let net = format!(
                    "<nic><net name=\"mlx5_{number}\" speed=\"400000\" port=\"1\" guid=\"0x{:x}\" gdr=\"1\"/></nic>",
                    number + 1
                );
                device(bus + 4 + nic, 0, "0x020700", &net)
            });
            let gpus = (0..2).map(|gpu| device(bus + 2 + gpu, 0, "0x030200", ""));
            let below: String = gpus.chain(nics).collect();
            switches += &device(bus, 1, "0x060400", &below);
        }
        cpus += &format!(
            "<cpu numaid=\"{numaid}\" affinity=\"\" arch=\"x86_64\" vendor=\"GenuineIntel\" familyid=\"6\" \
             modelid=\"143\">{switches}</cpu>"
        );
    }
    format!("<system version=\"1\">{cpus}</system>")
}

#[test]
fn sixteen_gpus_and_thirty_two_network_devices_take_few_steps() {
    let system = reader::read(&sixteen_gpus_on_switches()).system.unwrap();
    let system = with_nets(&system, &named_in(&system));
    for (is_whole, between_hosts, most) in [
        (true, false, 40_000),
        (true, true, 60_000),
        (false, true, 150_000),
    ] {
        let conditions = Conditions {
            compute_capability: 90,
            rules: Rules::assumed(),
            reach: Reach {
                is_whole,
                ..Reach::default()
            },
        };
        let model = Model::of(&system, &gpus_of(&system), conditions);
        let part = model.parts().into_iter().next().unwrap();
        let steps = Search::steps(&part.graph, &part.paths, between_hosts);
        // NCCL makes some million.
        println!("{is_whole} {between_hosts}: {steps} steps");
        assert!(
            (1..most).contains(&steps),
            "{is_whole} {between_hosts}: {steps} steps"
        );
    }
}
