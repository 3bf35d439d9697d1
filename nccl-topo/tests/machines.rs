//! NCCL's file of the declared machines of `tests/machines`: there is a true one, or none.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::sync::OnceLock;

use machines::Declared;
use nccl_topo::crossings::{least_crossings, ring_crossings};
use nccl_topo::emit::{Emitted, Form, emit};
use nccl_topo::graph::{PathType, Search};
use nccl_topo::model::{Conditions, Model};
use nccl_topo::reader::{self, Problem, System};
use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::sysfs::{read_machine, read_overrides};

/// Every declared machine, and what the product reads of its root.
fn machines() -> &'static [(Declared, Machine)] {
    static ALL: OnceLock<Vec<(Declared, Machine)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let read = |declared: Declared| {
            let recording = declared.record();
            let (overrides, _) = read_overrides(recording.root());
            let machine = read_machine(recording.root(), &overrides).unwrap();
            (declared, machine)
        };
        machines::all().into_iter().map(read).collect()
    })
}

/// Those that get a file, with it.
fn with_files(form: Form) -> impl Iterator<Item = (&'static Declared, &'static Machine, Emitted)> {
    let all = machines().iter();
    all.filter_map(move |(declared, machine)| Some((declared, machine, emit(machine, form).ok()?)))
}

/// The variant's name alone.
fn kind(error: &impl std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    text.split([' ', '{', '(']).next().unwrap().to_owned()
}

#[test]
fn a_machine_gets_the_file_that_it_is_said_to_get() {
    for (declared, machine) in machines() {
        let (name, expected) = (&declared.name, declared.truth.nccl.as_str());
        let single = emit(machine, Form::SingleHost);
        let several = match emit(machine, Form::MultiHost) {
            Ok(emitted) if emitted.by_numa_node => "node".to_owned(),
            Ok(_) => "package".to_owned(),
            Err(error) => kind(&error),
        };
        assert_eq!(several, expected, "{name}");
        match single {
            Ok(emitted) => assert!(!emitted.by_numa_node, "{name}"),
            Err(error) => assert_eq!(kind(&error), expected, "{name}"),
        }
    }
}

/// The package of each GPU in NCCL's order, by the declaration; `None` where there is but one package.
fn package(declared: &Declared, gpu: PciAddress) -> Option<u32> {
    let place = declared
        .truth
        .gpus
        .iter()
        .find(|place| place.at.to_string() == gpu.to_string());
    place.unwrap().package
}

/// The file as NCCL reads it, without a fault; a processor that NCCL does not know is written all the same.
fn system_of(declared: &Declared, emitted: &Emitted) -> System {
    let mut reading = reader::read(&emitted.xml);
    let is_strange = declared.processor.vendor.as_deref() == Some("HygonGenuine");
    reading.violations.retain(|found| {
        !(is_strange && matches!(&found.problem, Problem::BadValue { key, .. } if key == "vendor"))
    });
    assert!(
        reading.violations.is_empty(),
        "{}: {:?}\n{}",
        declared.name,
        reading.violations,
        emitted.xml
    );
    reading.system.unwrap()
}

#[test]
fn nccl_sees_the_sockets_that_there_are() {
    for (declared, _, emitted) in with_files(Form::SingleHost) {
        let name = &declared.name;
        let system = system_of(declared, &emitted);
        let model = Model::of_all(&system);
        let modelled: Vec<String> = model.gpus.iter().map(|gpu| gpu.busid.clone()).collect();
        let order: Vec<String> = emitted.gpus.iter().map(ToString::to_string).collect();
        assert_eq!(modelled, order, "{name}");
        for (i, a) in emitted.gpus.iter().enumerate() {
            for (j, b) in emitted.gpus.iter().enumerate() {
                let is_one_cpu = model.gpus[i].cpu == model.gpus[j].cpu;
                let is_one_package = package(declared, *a) == package(declared, *b);
                assert_eq!(is_one_cpu, is_one_package, "{name}: {a} and {b}");
                let is_sys = model.paths.between(i, j).unwrap().kind == PathType::Sys;
                assert_eq!(is_sys, !is_one_cpu, "{name}: {a} and {b}");
            }
        }
    }
}

#[test]
fn every_gpu_and_nic_is_in_the_file_with_its_best_link() {
    for (declared, machine, emitted) in with_files(Form::MultiHost) {
        // NCCL is NVIDIA's, and so are the GPUs of its file.
        let gpus = machine.gpus.iter().filter(|gpu| gpu.vendor == 0x10de);
        let gpus = gpus.map(|gpu| gpu.pci);
        let nics = machine.nics.iter().map(|nic| nic.pci);
        for pci in gpus.chain(nics) {
            let entry = format!("<pci busid=\"{pci}\"");
            let line = emitted.xml.lines().find(|line| line.contains(&entry));
            let line = line.unwrap_or_else(|| panic!("{}: {pci}\n{}", declared.name, emitted.xml));
            let link = &machine.device(pci).unwrap().link;
            if let (Some(speed), Some(width)) = (link.max_speed_gts, link.max_width) {
                let best = format!("link_speed=\"{speed:.1} GT/s PCIe\" link_width=\"{width}\"");
                assert!(line.contains(&best), "{}: {line}", declared.name);
            }
        }
    }
}

#[test]
fn no_ring_crosses_more_often_than_the_gpus_force_it_to() {
    for (declared, machine, emitted) in with_files(Form::SingleHost) {
        let name = &declared.name;
        // Without NVLinks each package that has a GPU is crossed into once.
        let mut packages: Vec<_> = emitted
            .gpus
            .iter()
            .map(|gpu| package(declared, *gpu))
            .collect();
        packages.sort_unstable();
        packages.dedup();
        let forced = if packages.len() == 1 {
            0
        } else {
            packages.len()
        };
        let forced = u32::try_from(forced).unwrap();
        assert_eq!(least_crossings(machine), Some(forced), "{name}");
        assert_eq!(
            ring_crossings(machine, &emitted.gpus),
            Some(forced),
            "{name}"
        );
        let by_nvml = declared.machine_by_nvml();
        assert_eq!(
            least_crossings(&by_nvml),
            declared.truth.ring_crossings,
            "{name}"
        );
    }
}

#[test]
fn nccls_own_search_keeps_to_that_whatever_the_order_of_the_ranks() {
    for (declared, machine, emitted) in with_files(Form::SingleHost) {
        // One GPU has no ring; sixteen take the search long; GPUs of several kinds have no one capability.
        let count = emitted.gpus.len();
        let capability = declared.capability();
        let Some(capability) = capability.filter(|_| (2..=8).contains(&count)) else {
            continue;
        };
        let system = system_of(declared, &emitted);
        let busids: Vec<_> = emitted.gpus.iter().map(ToString::to_string).collect();
        // As a scheduler that deals to the sockets in turn numbers them.
        let dealt = (0..3).flat_map(|start| busids.iter().skip(start).step_by(3));
        let ranks: Vec<_> = dealt.cloned().collect();
        let model = Model::of(&system, &ranks, Conditions::of_capability(capability));
        let search = Search::of(&model.graph, &model.paths)
            .unwrap_or_else(|| panic!("{}: no ring", declared.name));
        for order in &search.ring.orders {
            let gpus = order
                .iter()
                .map(|gpu| model.gpus[*gpu].busid.parse().unwrap());
            let gpus: Vec<PciAddress> = gpus.collect();
            let crossings = ring_crossings(machine, &gpus);
            assert_eq!(
                crossings,
                least_crossings(machine),
                "{}: {gpus:?}",
                declared.name
            );
        }
    }
}
