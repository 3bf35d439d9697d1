//! The made-up servers of `topologies/machines`, each with its truth.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use nccl_topo::crossings::{least_crossings, ring_crossings};
use nccl_topo::emit::{Emitted, Form, NotEmitted, emit};
use nccl_topo::graph::{PathType, Search};
use nccl_topo::model::{Conditions, Model};
use nccl_topo::reader;
use serde_json::Value;
use topology::locality::Overrides;
use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::sysfs::read_machine;

use crate::topologies;

fn at(text: &str) -> PciAddress {
    text.parse().unwrap()
}

/// Each server as read from its `/sys`, with its truth.
fn servers() -> &'static [(Value, Machine)] {
    static SERVERS: OnceLock<Vec<(Value, Machine)>> = OnceLock::new();
    SERVERS.get_or_init(unpack_all)
}

fn unpack_all() -> Vec<(Value, Machine)> {
    let folder = topologies();
    let mut servers = Vec::new();
    for entry in std::fs::read_dir(folder.join("machines")).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path
            .to_str()
            .and_then(|path| path.strip_suffix(".truth.json"))
        else {
            continue;
        };
        let truth = std::fs::read_to_string(&path).unwrap();
        let machine = unpacked(Path::new(&format!("{name}.tar.xz")));
        servers.push((serde_json::from_str(&truth).unwrap(), machine));
    }
    assert!(servers.len() >= 12, "{} servers", servers.len());
    servers
}

fn unpacked(archive: &Path) -> Machine {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new("tar")
        .arg("xf")
        .arg(archive)
        .current_dir(&folder)
        .status();
    assert!(status.unwrap().success(), "{}", archive.display());
    let root = Some(folder.path().to_owned()).filter(|root| root.join("sys").is_dir());
    let inner = || {
        std::fs::read_dir(&folder)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path()
    };
    read_machine(&root.unwrap_or_else(inner), &Overrides::new()).unwrap()
}

/// The package that a careful reader can know of each GPU; nothing where there is one that nobody can.
fn answers(truth: &Value) -> Option<Vec<(PciAddress, u64)>> {
    let gpus = truth["gpus"].as_array().unwrap().iter();
    gpus.map(|gpu| {
        Some((
            at(gpu["busid"].as_str().unwrap()),
            gpu["answer_socket"].as_u64()?,
        ))
    })
    .collect()
}

#[test]
fn every_server_gets_a_true_file_or_none() {
    let mut written = Vec::new();
    for (truth, machine) in servers() {
        let name = truth["name"].as_str().unwrap();
        for form in [Form::SingleHost, Form::MultiHost] {
            match emit(machine, form) {
                Ok(emitted) => {
                    check(name, truth, machine, &emitted);
                    written.push(name.to_owned());
                }
                Err(NotEmitted::LocalityUnknown { .. }) => {}
                Err(other) => panic!("{name}: {other}"),
            }
        }
    }
    written.dedup();
    println!("written: {written:?}");
    // All but the one of which nobody can know where its GPUs are, as far as they fit NCCL's limits.
    assert!(written.len() >= 11, "{written:?}");
}

fn check(name: &str, truth: &Value, machine: &Machine, emitted: &Emitted) {
    let answers = answers(truth).unwrap_or_else(|| panic!("{name}: nobody can know this"));
    let system = reader::parse(&emitted.xml)
        .unwrap_or_else(|found| panic!("{name}: {found:?}\n{}", emitted.xml));
    let model = Model::of_all(&system);
    let modelled: Vec<_> = model.gpus.iter().map(|gpu| at(&gpu.busid)).collect();
    assert_eq!(modelled, emitted.gpus, "{name}");

    let package = |gpu: &PciAddress| answers.iter().find(|(pci, _)| pci == gpu).unwrap().1;
    for (i, a) in modelled.iter().enumerate() {
        for (j, b) in modelled.iter().enumerate() {
            let same_cpu = model.gpus[i].cpu == model.gpus[j].cpu;
            let sys = model.paths.between(i, j).unwrap().kind == PathType::Sys;
            assert_ne!(same_cpu, sys, "{name}: {a} {b}");
            if !emitted.by_numa_node {
                assert_eq!(same_cpu, package(a) == package(b), "{name}: {a} {b}");
            }
        }
    }
    let bound = truth["lower_bound_ring"].as_u64().unwrap();
    assert_eq!(
        least_crossings(machine).map(u64::from),
        Some(bound),
        "{name}"
    );
    assert_eq!(
        ring_crossings(machine, &emitted.gpus).map(u64::from),
        Some(bound),
        "{name}"
    );

    let best = truth["gpus"][0]["link"]["max"].as_str().unwrap();
    assert!(
        emitted.xml.contains(&format!("link_speed=\"{best}\"")),
        "{name}"
    );
    assert!(!emitted.xml.contains("\"2.5 GT/s PCIe\""), "{name}");
    for nic in truth["nics"].as_array().unwrap() {
        let busid = nic["busid"].as_str().unwrap();
        assert!(
            emitted.xml.contains(&format!("<pci busid=\"{busid}\"")),
            "{name}: {busid}"
        );
    }
}

#[test]
fn nccls_own_search_crosses_as_seldom_as_can_be_whatever_the_ranks() {
    // A rank order of the recipe's measurements, unoptimised; all of them else.
    let dealt = if cfg!(debug_assertions) { 3..4 } else { 1..5 };
    for (truth, machine) in servers() {
        let name = truth["name"].as_str().unwrap();
        let Ok(emitted) = emit(machine, Form::SingleHost) else {
            continue;
        };
        let system = reader::parse(&emitted.xml).unwrap();
        let capability = u32::try_from(truth["gpus"][0]["sm"].as_u64().unwrap()).unwrap();
        for step in dealt.clone() {
            let busids: Vec<_> = emitted.gpus.iter().map(ToString::to_string).collect();
            let starts = (0..step).flat_map(|start| busids.iter().skip(start).step_by(step));
            let ranks: Vec<_> = starts.cloned().collect();
            let model = Model::of(&system, &ranks, Conditions::of_capability(capability));
            let search = Search::of(&model.graph, &model.paths).unwrap();
            for order in &search.ring.orders {
                let order: Vec<_> = order
                    .iter()
                    .map(|gpu| at(&model.gpus[*gpu].busid))
                    .collect();
                let crossings = ring_crossings(machine, &order);
                assert_eq!(crossings, least_crossings(machine), "{name}: {order:?}");
            }
        }
    }
}

#[test]
fn only_the_server_with_far_nics_gets_a_cpu_a_node_for_several_hosts() {
    for (truth, machine) in servers() {
        let name = truth["name"].as_str().unwrap();
        if let Ok(emitted) = emit(machine, Form::MultiHost) {
            assert_eq!(
                emitted.by_numa_node,
                name == "genoa-2s-nps2-busmix",
                "{name}"
            );
        }
    }
}
