//! AMD's declared machines, with GPUs whole and in parts, and with one and two nodes of each socket.

use machines::named;
use topology::machine::{KfdNode, Machine, Package};
use topology::set::NodeSet;
use topology::sysfs::{read_machine, read_overrides};

use super::large::{Report, against_mpibind, judge};

fn read(name: &str) -> Machine {
    let recording = named(name).record();
    let (overrides, _) = read_overrides(recording.root());
    read_machine(recording.root(), &overrides).unwrap()
}

/// With each GPU in so many parts.
fn in_parts(mut machine: Machine, parts: u32) -> Machine {
    for gpu in &mut machine.gpus {
        let kfd = gpu.kfd.get_or_insert_with(Default::default);
        kfd.nodes = (0..parts).map(|_| KfdNode::default()).collect();
    }
    machine
}

/// With so many nodes for each (the processors' NPS2): its caches side by side, its GPUs in turn.
fn in_nodes(mut machine: Machine, parts: u32) -> Machine {
    let whole = std::mem::take(&mut machine.numa_nodes);
    let caches = machine.last_level_caches.clone();
    for node in &whole {
        let own: Vec<_> = caches
            .iter()
            .filter(|cache| cache.is_subset(&node.cpus))
            .collect();
        for part in 0..parts {
            let mut one = node.clone();
            one.id = node.id * parts + part;
            one.cpus = Default::default();
            for cache in own
                .chunks(own.len() / parts as usize)
                .nth(part as usize)
                .unwrap()
            {
                one.cpus.extend_with(cache);
            }
            let distance = |to: u32| match to / parts {
                _ if to == one.id => 10,
                other if other == node.id => 12,
                other => *node.distances.get(&other).unwrap(),
            };
            one.distances = (0..u32::try_from(whole.len()).unwrap() * parts)
                .map(|to| (to, distance(to)))
                .collect();
            machine.numa_nodes.push(one);
        }
    }
    for Package { id, numa_nodes, .. } in &mut machine.packages {
        *numa_nodes = NodeSet::from_range(*id * parts, *id * parts + parts - 1);
    }
    let mut seen = std::collections::BTreeMap::<u32, u32>::new();
    for gpu in &mut machine.gpus {
        let old = gpu.locality.numa_nodes.as_ref().unwrap().first().unwrap();
        let turn = seen.entry(old).or_default();
        let new = old * parts + *turn % parts;
        *turn += 1;
        let nodes: NodeSet = [new].into_iter().collect();
        gpu.locality.cpus = machine
            .numa_nodes
            .iter()
            .find(|node| node.id == new)
            .map(|node| node.cpus.clone());
        gpu.locality.numa_nodes = Some(nodes);
    }
    machine
}

/// Each machine of `tests/machines` with AMD's GPUs that are bound, in the modes that its GPUs and firmware have.
fn all() -> Vec<(String, Machine)> {
    let mut all = Vec::new();
    let mut add = |name: &str, modes: &[(&str, u32)], nodes: &[(&str, u32)]| {
        for (mode, parts) in modes {
            for (nps, each) in nodes {
                let machine = in_parts(in_nodes(read(name), *each), *parts);
                all.push((format!("{name} {mode} {nps}"), machine));
            }
        }
    };
    add("frontier-mi250x", &[("whole", 1)], &[("as declared", 1)]);
    add("mi300a-4s", &[("SPX", 1), ("CPX", 6)], &[("NPS1", 1)]);
    add("mi300a-4s-tpx", &[("TPX", 3)], &[("NPS1", 1)]);
    add(
        "mi300x-2s8g",
        &[("SPX", 1), ("DPX", 2), ("CPX", 8)],
        &[("NPS1", 1), ("NPS2", 2)],
    );
    add("mi300x-2s8g-qpx", &[("QPX", 4), ("CPX", 8)], &[("NPS4", 1)]);
    all
}

#[test]
fn each_step_is_the_optimum() {
    let mut all_steps = Report::default();
    for (name, machine) in all() {
        let report = judge(&name, &machine);
        println!("{name}: {} steps", report.steps);
        all_steps.add(report);
    }
    all_steps.assert_none(1500);
}

#[test]
fn no_task_is_less_local_than_mpibinds() {
    for (name, machine) in all() {
        let report = against_mpibind(&name, &machine);
        println!("{name}: {} steps", report.steps);
        report.assert_none(1);
    }
}
