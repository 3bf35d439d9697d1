use super::*;
use crate::emit::{Form, emit};
use crate::model::nets::rdma_ports;
use crate::reader::read;
use crate::testing::*;
use topology::machine::RdmaPort;

fn members(machine: &Machine) -> Members {
    Members {
        denied_p2p: BTreeSet::new(),
        gpus: machine.gpus.iter().map(|gpu| Some(gpu.pci)).collect(),
        others: 0,
        hosts: 1,
        capability: 90,
        ranks: (0..machine.gpus.len()).collect(),
        reach: Reach::default(),
        nets: vec![vec![NetDevice::socket()]],
        rules: None,
    }
}

const ONCE_EACH_WAY: Hops = Hops {
    up: 1,
    down: 1,
    both: 2,
    is_exact: true,
};

fn file(machine: &Machine) -> System {
    let text = emit(machine, Form::SingleHost).unwrap().xml;
    read(&text).system.unwrap()
}

#[test]
fn gpus_at_one_package_never_cross() {
    let machine = with_switches(machine(1, 4, 4), 2);
    assert_eq!(crossing(&machine, &members(&machine)), Crossing::Never);
}

#[test]
fn gpus_at_two_packages_cross_unless_nvlink_joins_or_may_join_them() {
    let mut machine = with_switches(machine(2, 1, 4), 1);
    let all = members(&machine);
    assert_eq!(crossing(&machine, &all), Crossing::Some);
    machine.nvlink_visible = false;
    assert_eq!(crossing(&machine, &all), Crossing::Unknown(Unknown::Place));
    machine.nvlink_visible = true;
    let far = machine.gpus[1].pci;
    machine.gpus[0].nvlinks = [(far, 4)].into();
    assert_eq!(crossing(&machine, &all), Crossing::Never);
}

#[test]
fn where_the_driver_denies_p2p_the_ring_is_that_of_a_job_without() {
    // Gen 3 switches at four sockets: without P2P NCCL takes rings that cross twice as often.
    let machine = machines::named("clx-4s-8g").machine_by_nvml();
    let file = file(&machine);
    let forecast = |members: &Members| Forecast::of(&machine, members, Some(&file));
    let pairs = |keep: &dyn Fn(usize, usize) -> bool| {
        let all = (0..machine.gpus.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
        let kept = all.filter(|(a, b)| keep(*a, *b));
        let pci = |place: usize| machine.gpus[place].pci;
        kept.map(|(a, b)| (pci(a), pci(b))).collect()
    };
    let allowed = forecast(&members(&machine));
    assert_eq!(allowed.ring().both, 4);
    let mut off = members(&machine);
    off.reach.p2p_limit = Some(PathType::Loc);
    let denied = |keep: &dyn Fn(usize, usize) -> bool| Members {
        denied_p2p: pairs(keep),
        ..members(&machine)
    };
    let without = forecast(&off);
    assert_eq!(without.ring().both, 8);
    assert_eq!(forecast(&denied(&|_, _| true)), without);
    // Over the socket link NCCL uses none anyway.
    let package = |place: usize| machine.gpus[place].locality.package;
    let far = denied(&|a, b| package(a) != package(b));
    assert_eq!(forecast(&far), allowed);
    // One of the pairs that would use it: what NCCL's search makes of that is not modelled.
    let one = denied(&|a, b| (a, b) == (1, 0));
    assert!(!forecast(&one).is_modelled());
    assert_eq!(forecast(&one).ring().both, 4, "the least of all rings");
}

#[test]
fn nvlink_joins_nothing_where_the_job_allows_no_p2p() {
    let mut machine = with_switches(machine(2, 1, 4), 1);
    let mut all = members(&machine);
    let far = machine.gpus[1].pci;
    machine.gpus[0].nvlinks = [(far, 4)].into();
    all.reach.p2p_limit = Some(PathType::Nvl);
    assert_eq!(crossing(&machine, &all), Crossing::Never);
    all.reach.p2p_limit = Some(PathType::Loc);
    assert_eq!(crossing(&machine, &all), Crossing::Some);
    assert_eq!(Forecast::of(&machine, &all, None).ring().both, 2);
    machine.nvlink_visible = false;
    assert_eq!(crossing(&machine, &all), Crossing::Some);
}

#[test]
fn ranks_that_share_a_gpu_have_lower_bounds() {
    // Instances of MIG, parts by MLOPart, or ranks that NCCL_MULTI_RANK_GPU_ENABLE=1 lets share a GPU: each tells the
    // GPU's address.
    let machine = with_switches(machine(2, 1, 4), 1);
    let mut all = members(&machine);
    all.gpus = machine
        .gpus
        .iter()
        .flat_map(|gpu| [Some(gpu.pci); 2])
        .collect();
    all.ranks = (0..all.gpus.len()).collect();
    assert_eq!(crossing(&machine, &all), Crossing::Some);
    let forecast = Forecast::of(&machine, &all, Some(&file(&machine)));
    assert!(!forecast.is_modelled() && !forecast.is_even());
    assert_eq!(forecast.ring().both, 2);
    all.gpus.truncate(2);
    all.ranks.truncate(2);
    assert_eq!(crossing(&machine, &all), Crossing::Never);
}

const WHOLE: Reach = Reach {
    p2p_limit: None,
    is_whole: true,
    without_shm: false,
};

fn rules(version: &str) -> Option<&'static Rules> {
    Some(Rules::of(version.parse().unwrap()))
}

#[test]
fn on_several_hosts_nics_below_the_gpus_switches_may_carry_it() {
    let mut machine = with_switches(machine(2, 1, 4), 1);
    let mut all = members(&machine);
    (all.hosts, all.others) = (2, 2);
    let over_network = Crossing::Unknown(Unknown::Network);
    assert_eq!(crossing(&machine, &all), over_network);
    all.reach = WHOLE;
    assert_eq!(crossing(&machine, &all), Crossing::Some);
    let bounds = |all: &Members| {
        let forecast = Forecast::of(&machine, all, None);
        (forecast.ring().both, forecast.tree().both)
    };
    assert_eq!(bounds(&all), (1, 2));
    all.reach = Reach::default();
    all.rules = rules("2.30.3");
    assert_eq!(crossing(&machine, &all), Crossing::Some);
    // Of two nodes each is a host; of more, a tree may join each part of this host with a part of another alone.
    assert_eq!(bounds(&all), (1, 2));
    all.hosts = 4;
    assert_eq!(crossing(&machine, &all), Crossing::Some);
    assert_eq!(bounds(&all), (1, 0));
    // With the network that the file's NICs are not, it is not cut.
    let forecast = Forecast::of(&machine, &all, Some(&file(&machine)));
    assert_eq!(forecast.tree().both, 2);
    // Parts of another host may stand between those of this one.
    all.ranks = vec![0, 2];
    assert_eq!(crossing(&machine, &all), over_network);
    machine.nics.pop();
    assert_eq!(
        crossing(&machine, &all),
        Crossing::Some,
        "one socket's alone do not"
    );
}

#[test]
fn one_host_that_nccl_counts_as_two_crosses_from_2_30_3_on() {
    let machine = with_switches(machine(2, 1, 4), 1);
    let mut all = members(&machine);
    all.hosts = 2;
    for (version, expected) in [
        ("2.29.7", Crossing::OverNetwork),
        ("2.30.3", Crossing::Some),
        ("2.31.2", Crossing::Some),
    ] {
        all.rules = rules(version);
        assert_eq!(crossing(&machine, &all), expected, "{version}");
        all.reach.without_shm = true;
        let unknown = Crossing::Unknown(Unknown::Network);
        assert_eq!(crossing(&machine, &all), unknown, "{version}");
        all.reach.without_shm = false;
    }
}

#[test]
fn the_parts_of_a_host_are_modelled_with_its_nics() {
    let mut machine = with_switches(machine(2, 1, 4), 2);
    for nic in &mut machine.nics {
        nic.ports = vec![RdmaPort {
            device: format!("mlx5_{}", nic.pci.bus),
            port: 1,
            speed_mbit_s: Some(400_000),
        }];
    }
    let file = file(&machine);
    let mut all = members(&machine);
    (all.hosts, all.rules) = (2, rules("2.30.7"));
    all.nets.insert(0, rdma_ports(&machine));
    let forecast = Forecast::of(&machine, &all, Some(&file));
    assert!(forecast.is_even(), "{forecast:?}");
    assert_eq!(forecast.parts, Some(2));
    assert_eq!(forecast.ring().both, 2);
    assert_eq!(forecast.crossing_hops().len(), 2);
    // Kept whole, the sockets are crossed as often.
    (all.hosts, all.reach) = (1, WHOLE);
    let forecast = Forecast::of(&machine, &all, Some(&file));
    assert_eq!(forecast.parts, Some(1));
    assert_eq!(forecast.ring().both, 2);
}

#[test]
fn a_rank_whose_gpu_is_not_known_leaves_it_unknown() {
    let machine = with_switches(machine(1, 1, 4), 2);
    let mut some = members(&machine);
    some.gpus[0] = None;
    let unknown = Crossing::Unknown(Unknown::Place);
    assert_eq!(crossing(&machine, &some), unknown);
}

#[test]
fn a_modelled_ring_over_two_packages_crosses_once_each_way_in_any_order_of_ranks() {
    let machine = with_switches(machine(2, 2, 4), 2);
    let mut all = members(&machine);
    let file = file(&machine);
    for turn in 0..all.gpus.len() {
        all.gpus.rotate_left(1);
        all.gpus.swap(0, turn / 2);
        let forecast = Forecast::of(&machine, &all, Some(&file));
        assert!(forecast.is_modelled() && forecast.is_even());
        assert_eq!(forecast.ring(), ONCE_EACH_WAY);
        assert_eq!(forecast.tree(), ONCE_EACH_WAY);
        assert_eq!(forecast.crossing_hops().len(), 2);
        let (crossing, inside) = (
            forecast.crossing_gb_s.unwrap(),
            forecast.inside_gb_s.unwrap(),
        );
        assert!(crossing < inside, "{crossing} {inside}");
    }
}

#[test]
fn a_tree_that_the_search_does_not_find_leaves_one_channel() {
    // NCCL 2.31 finds two rings of 15 GB/s and no tree for two, and falls back to one channel (its own code in a job).
    let mut machine = amd(without_switches(machine(2, 1, 4), 2, false));
    let processor = machine.processor.as_mut().unwrap();
    (processor.family, processor.model) = (Some(26), Some(2));
    let mut all = members(&machine);
    (all.capability, all.rules) = (120, rules("2.31.0"));
    let forecast = Forecast::of(&machine, &all, Some(&file(&machine)));
    assert!(forecast.is_modelled() && forecast.is_even(), "{forecast:?}");
    assert_eq!(forecast.ring(), ONCE_EACH_WAY);
    assert_eq!(forecast.tree(), ONCE_EACH_WAY);
}

#[test]
fn channels_that_go_another_way_round_have_the_ways_of_none() {
    let one = Hops {
        up: 3,
        down: 1,
        both: 4,
        is_exact: true,
    };
    let reversed = Hops {
        up: 1,
        down: 3,
        ..one
    };
    let all = one.and(reversed);
    assert_eq!((all.up, all.down, all.both, all.is_exact), (1, 1, 4, true));
    assert!(!one.and(ONCE_EACH_WAY).is_exact);
}

#[test]
fn without_a_file_what_holds_for_every_ring_is_said() {
    for (packages, ring, chain) in [(2, 2, 1), (4, 4, 3)] {
        let machine = with_switches(machine(packages, 1, 4), 2);
        let mut all = members(&machine);
        let forecast = Forecast::of(&machine, &all, None);
        assert!(!forecast.is_modelled() && !forecast.is_even());
        assert_eq!(forecast.ring().both, ring);
        assert_eq!(forecast.tree().up, chain);
        // On several hosts a ring is a chain here, whatever the file.
        (all.hosts, all.others) = (2, 2);
        let forecast = Forecast::of(&machine, &all, Some(&file(&machine)));
        assert_eq!(forecast.ring().both, chain);
    }
}

#[test]
fn the_hop_into_a_broadcasts_root_carries_nothing() {
    let machine = with_switches(machine(2, 1, 4), 1);
    let forecast = Forecast::of(&machine, &members(&machine), Some(&file(&machine)));
    assert_eq!(forecast.ring().both, 2);
    for root in [0, 1] {
        assert_eq!(forecast.rooted_ring(Some(root), true).both, 1);
        assert_eq!(forecast.rooted_ring(Some(root), false).both, 1);
    }
}

#[test]
fn nvlinks_of_the_machine_carry_what_they_can() {
    let mut machine = with_switches(machine(2, 1, 4), 2);
    let gpus: Vec<PciAddress> = machine.gpus.iter().map(|gpu| gpu.pci).collect();
    // A square: 0-1 and 2-3 inside the packages, 0-2 and 1-3 across.
    for (a, b) in [(0, 1), (2, 3), (0, 2), (1, 3)] {
        machine.gpus[a].nvlinks.insert(gpus[b], 4);
        machine.gpus[b].nvlinks.insert(gpus[a], 4);
    }
    let all = members(&machine);
    assert_eq!(crossing(&machine, &all), Crossing::Some);
    let forecast = Forecast::of(&machine, &all, Some(&file(&machine)));
    assert!(forecast.is_modelled());
    assert_eq!(forecast.ring().both, 0);
}
