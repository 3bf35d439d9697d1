//! The declared machines of `tests/machines`, read from their recorded roots and judged by their truth.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

// For clippy helpers in such a module are tests too.
#[cfg(test)]
mod nics;

use std::sync::OnceLock;

use machines::{Declared, Place};
use topology::binding::{KernelVersion, StepPlan, StepRequest, TaskRequest, Verdict, plan_step};
use topology::machine::{Gpu, Machine};
use topology::nvlink::set_nvlinks;
use topology::option::{Items, Settings};
use topology::path::{crosses_socket, nvlinks, pci_path};
use topology::set::{CpuSet, NodeSet};
use topology::snapshot::{HostNow, Snapshot};
use topology::sysfs::{read_machine, read_overrides, read_speed_classes};

/// A declared machine.
struct One {
    declared: Declared,
    /// As it is declared.
    expected: Machine,
    /// As the product reads it from its root.
    read: Machine,
}

/// Every declared machine.
fn machines() -> &'static [One] {
    static ALL: OnceLock<Vec<One>> = OnceLock::new();
    ALL.get_or_init(|| {
        let one = |declared: Declared| {
            let recording = declared.record();
            let (overrides, _) = read_overrides(recording.root());
            let read = read_machine(recording.root(), &overrides);
            let mut read = read.unwrap_or_else(|error| panic!("{}: {error}", declared.name));
            // What no launch reads.
            read.speed_classes = read_speed_classes(recording.root(), &read.cores);
            One {
                expected: declared.machine(),
                declared,
                read,
            }
        };
        machines::all().into_iter().map(one).collect()
    })
}

impl One {
    fn name(&self) -> &str {
        &self.declared.name
    }

    /// The machine as read, with the NVLinks that its GPUs tell NVML.
    fn with_nvlinks(&self) -> Machine {
        let mut machine = self.read.clone();
        set_nvlinks(&mut machine, &self.declared.links_said());
        machine.nvlink_visible = self.declared.nvlink.is_some();
        machine
    }

    /// Each GPU's true place, with the CPUs near it where that is known.
    fn places(&self) -> impl Iterator<Item = (&Place, Option<CpuSet>)> {
        let near = |place: &Place| {
            let near = self.expected.cpus_of(&nodes_of(place)?);
            // None where all CPUs of its socket are offline.
            (!near.is_empty()).then_some(near)
        };
        self.declared
            .truth
            .gpus
            .iter()
            .map(move |place| (place, near(place)))
    }

    /// One task per GPU, which asks for one CPU.
    fn plan(&self, option: &str) -> StepPlan {
        self.plan_of(option, 1, 1)
    }

    /// So many tasks per GPU, each of which asks for so many CPUs.
    fn plan_of(&self, option: &str, on_each: usize, asked: u32) -> StepPlan {
        let task = |gpu: &Gpu| TaskRequest {
            visible: vec![gpu.pci],
            ..TaskRequest::default()
        };
        let gpus = std::iter::repeat_n(&self.read.gpus, on_each).flatten();
        plan_step(
            &self.read,
            &StepRequest {
                settings: Settings::from(&Items::parse(option).unwrap()),
                step_cpus: self.read.online.clone(),
                asked,
                tasks: gpus.map(task).collect(),
                kernel: KernelVersion { major: 6, minor: 1 },
                allowed_nodes: None,
                owns_cpus: true,
                may_refuse: true,
            },
        )
    }
}

fn nodes_of(place: &Place) -> Option<NodeSet> {
    let nodes = place.nodes.as_ref()?;
    Some(nodes.0.iter().copied().collect())
}

#[test]
fn a_root_is_read_as_it_is_declared() {
    for one in machines() {
        let (name, read, expected) = (one.name(), &one.read, &one.expected);
        assert_eq!(read.online, expected.online, "{name}");
        assert_eq!(read.packages, expected.packages, "{name}");
        assert_eq!(read.numa_nodes, expected.numa_nodes, "{name}");
        assert_eq!(read.cores, expected.cores, "{name}");
        assert_eq!(read.last_level_caches, expected.last_level_caches, "{name}");
        let others = |machine: &Machine| {
            let caches = machine.third_level_caches.clone();
            (caches, machine.dies.clone(), machine.clusters.clone())
        };
        assert_eq!(others(read), others(expected), "{name}");
        assert_eq!(read.pci, expected.pci, "{name}");
        for (gpu, expected) in read.gpus.iter().zip(&expected.gpus) {
            assert_eq!(gpu, expected, "{name}");
        }
        for (nic, expected) in read.nics.iter().zip(&expected.nics) {
            assert_eq!(nic, expected, "{name}");
        }
        let facts = Machine {
            firmware: None,
            remarks: Vec::new(),
            hidden_switches: Vec::new(),
            ..read.clone()
        };
        assert_eq!(facts, *expected, "{name}");
        let remarks = &one.declared.truth.remarks;
        assert_eq!(
            read.remarks.len(),
            remarks.len(),
            "{name}: {:?}",
            read.remarks
        );
        for (remark, begins) in read.remarks.iter().zip(remarks) {
            assert!(remark.starts_with(begins.as_str()), "{name}: {remark}");
        }
    }
}

#[test]
fn the_links_that_gpus_tell_join_those_that_are_joined() {
    for one in machines() {
        let read = one.with_nvlinks();
        for (gpu, expected) in read.gpus.iter().zip(one.declared.machine_by_nvml().gpus) {
            assert_eq!(gpu.nvlinks, expected.nvlinks, "{}: {}", one.name(), gpu.pci);
        }
    }
}

/// As the truth writes it: `NV4/SYS!`.
fn word(machine: &Machine, i: usize, j: usize) -> String {
    let (a, b) = (machine.gpus[i].pci, machine.gpus[j].pci);
    let path = pci_path(machine, a, b).map_or_else(|| "-".to_owned(), |path| path.to_string());
    let joined = match nvlinks(machine, a, b) {
        0 => String::new(),
        count => format!("NV{count}/"),
    };
    let crosses = match crosses_socket(machine, a, b) {
        Some(true) => "!",
        Some(false) => "",
        None => "?",
    };
    format!("{joined}{path}{crosses}")
}

#[test]
fn pairs_reach_each_other_as_they_do() {
    for one in machines() {
        let machine = one.with_nvlinks();
        for (i, row) in one.declared.truth.pairs.iter().enumerate() {
            for (j, expected) in row.split_whitespace().enumerate().filter(|(j, _)| *j != i) {
                assert_eq!(
                    word(&machine, i, j),
                    expected,
                    "{}: {i} and {j}",
                    one.name()
                );
            }
        }
    }
}

#[test]
fn a_snapshot_holds_the_whole_machine() {
    for one in machines() {
        let now = HostNow {
            online: one.read.online.clone(),
            ..HostNow::default()
        };
        let text = Snapshot::new(one.read.clone(), &now, 1).to_json().unwrap();
        let read = Snapshot::parse(&text).unwrap().machine;
        assert_eq!(read, one.read, "{}", one.name());
    }
}

#[test]
fn each_task_is_bound_to_the_cpus_and_memory_of_its_gpu() {
    for one in machines() {
        for width in ["exclusive", "node", "l3"] {
            let plan = one.plan(&format!("best-effort,{width},mem=bind"));
            for (task, (place, near)) in plan.tasks.iter().zip(one.places()) {
                let what = format!("{} {width}: {}", one.name(), place.at);
                let Some(near) = near else {
                    assert_eq!(task.verdict, Verdict::Unbound, "{what}");
                    assert!(!task.bind_cpus, "{what}");
                    continue;
                };
                assert_eq!(task.verdict, Verdict::Local, "{what}");
                assert!(
                    task.cpus.difference(&near).is_empty(),
                    "{what} on {}",
                    task.cpus
                );
                assert!(
                    width != "node" || task.cpus == near,
                    "{what} on {}",
                    task.cpus
                );
                let caches = &one.expected.last_level_caches;
                let is_in_one = caches.iter().any(|cache| task.cpus.is_subset(cache));
                assert!(
                    width != "l3" || caches.is_empty() || is_in_one,
                    "{what} on {}",
                    task.cpus
                );
                let memory = match &place.memory {
                    Some(nodes) => nodes.0.iter().copied().collect(),
                    None => nodes_of(place).unwrap(),
                };
                if task.bind_memory {
                    assert_eq!(task.memory.nodes, memory, "{what}");
                }
            }
        }
    }
}

#[test]
fn width_socket_is_all_of_the_gpus_package() {
    for one in machines() {
        let plan = one.plan("best-effort,socket");
        for (task, (place, near)) in plan.tasks.iter().zip(one.places()) {
            let Some(near) = near else { continue };
            let all = one.expected.packages.iter();
            let package = all
                .clone()
                .find(|package| Some(package.id) == place.package);
            let online = package.filter(|package| !package.cpus.is_empty());
            let expected = online.map_or(&near, |package| &package.cpus);
            assert_eq!(task.cpus, *expected, "{}: {}", one.name(), place.at);
        }
    }
}

#[test]
fn exclusive_deals_out_all_that_is_near() {
    for one in machines() {
        let plan = one.plan("best-effort,exclusive");
        let (mut dealt, mut wanted) = (CpuSet::new(), CpuSet::new());
        let mut is_dealt_twice = false;
        for (task, (_, near)) in plan.tasks.iter().zip(one.places()) {
            if let Some(near) = near {
                is_dealt_twice |= dealt.intersects(&task.cpus);
                dealt.extend_with(&task.cpus);
                wanted.extend_with(&near);
            }
        }
        // A task on a GPU whose place is not known keeps what it asked for, wherever that is.
        let is_known = one.places().all(|(_, near)| near.is_some());
        assert!(dealt.difference(&wanted).is_empty(), "{}", one.name());
        assert!(
            !is_known || dealt == wanted,
            "{}: {dealt} of {wanted}",
            one.name()
        );
        // Where there are more tasks than CPUs, some are shared.
        let is_too_small = wanted.len() < plan.tasks.len();
        assert!(!is_dealt_twice || is_too_small, "{}", one.name());
    }
}

#[test]
fn tasks_with_gpus_near_the_same_node_get_as_many_cores_each_or_an_even_share_below_one_cache() {
    for one in machines() {
        let largest = one.read.cores.iter().map(CpuSet::len).max().unwrap_or(1);
        for (on_each, asked) in [(1, 1), (1, 2), (1, 5), (2, 1), (3, 2), (5, 1)] {
            for width in ["exclusive", "node", "socket"] {
                let plan = one.plan_of(&format!("best-effort,{width}"), on_each, asked);
                let near: Vec<_> = one.places().filter_map(|(_, near)| near).collect();
                if near.len() != one.read.gpus.len() {
                    continue;
                }
                for (gpu, mine) in near.iter().enumerate() {
                    // One near several nodes is on one of them rather than on as many CPUs.
                    if one.read.nodes_of(mine).len() != 1 {
                        continue;
                    }
                    let alike = plan.tasks.iter().enumerate().filter(|(task, plan)| {
                        // With too few CPUs near them some are elsewhere, with what they asked for.
                        near[*task % near.len()] == *mine && plan.cpus.is_subset(mine)
                    });
                    let counts: Vec<usize> = alike.map(|(_, plan)| plan.cpus.len()).collect();
                    let (fewest, most) = (counts.iter().min(), counts.iter().max());
                    let (Some(fewest), Some(most)) = (fewest, most) else {
                        continue;
                    };
                    let caches = one.read.last_level_caches.iter();
                    let has_several = caches.filter(|cache| cache.intersects(mine)).count() > 1;
                    let share = mine.len() / largest / counts.len() * largest;
                    assert!(
                        most - fewest <= largest || has_several && *fewest >= share,
                        "{} {width}, {on_each} per GPU, -c{asked}, GPU {gpu}: {counts:?}",
                        one.name()
                    );
                }
            }
        }
    }
}

#[test]
fn a_strict_step_is_refused_where_a_place_is_not_known() {
    for one in machines() {
        let plan = one.plan("restricted,node");
        let is_known = one.places().all(|(_, near)| near.is_some());
        let is_refused = plan
            .tasks
            .iter()
            .any(|task| task.verdict == Verdict::Refused);
        assert_eq!(is_refused, !is_known, "{}", one.name());
    }
}

#[test]
fn no_deal_of_nics_is_better_on_any_machine() {
    let mut with_several = 0;
    for one in machines() {
        nics::judge_all_of(one.name(), &one.read);
        with_several += usize::from(one.read.gpus.len() > 1 && one.read.nics.len() > 1);
    }
    assert!(
        with_several >= 15,
        "only {with_several} machines have several GPUs and NICs"
    );
}
