//! What each command's `--json` prints, held to the schema that the packages ship.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use launch::environment::BindReport;
use launch::site::asked_without_site;
use serde_json::Value;
use topology::binding::{StepRequest, TaskRequest, plan_step};
use topology::names::GpuNames;
use topology::nics::{NicDocument, nics_of_tasks};
use topology::set::CpuSet;

use crate::common::Host;

/// Holds a document to `schemas/NAME.json`, which it names itself.
pub(crate) fn hold(document: &Value) {
    let name = document["schema"].as_str().unwrap();
    let file = name.trim_start_matches("gpu-numa/").replace('/', "-");
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas"));
    let text = fs::read_to_string(folder.join(format!("{file}.json"))).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let faults: Vec<String> = validator
        .iter_errors(document)
        .map(|fault| format!("{}: {fault}", fault.instance_path))
        .collect();
    assert!(faults.is_empty(), "{name}: {faults:#?}\n{document:#}");
}

fn document_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn what_is_printed_of_a_host_keeps_to_its_schema() {
    let host = Host::new();
    // A device without a node, and a configuration with a fault, have more to say.
    host.write(&host.pci("0000:24:00.0", "numa_node"), "-1");
    host.replace("etc/slurm/gres.conf", "Cores=0-3", "Cores=4-7");
    for arguments in [
        &["show"][..],
        &["show", "--explain", "GPU1"],
        &["plan", "--tasks", "4", "--cpus-per-task", "2"],
        &["doctor"],
        &["gres-conf"],
    ] {
        hold(&document_of(&host.run(&[arguments, &["--json"]].concat())));
    }
    let show = host.run(&["show", "--json"]).stdout;
    let doctor = host.run(&["doctor", "--json"]).stdout;
    host.write("fleet/one.json", &String::from_utf8(show).unwrap());
    host.write("fleet/two.json", &String::from_utf8(doctor).unwrap());
    host.write("fleet/three.json", "{}");
    let fleet = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(["fleet", "--json"])
        .arg(host.path("fleet"))
        .output();
    hold(&document_of(&fleet.unwrap()));
}

#[test]
fn what_nccl_makes_of_a_host_keeps_to_its_schema() {
    let recording = machines::named("vm-2s4g").record();
    let run = |arguments: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_gpu-numa"));
        program.args(arguments).arg("--json").arg("--from");
        program.arg(recording.root()).output().unwrap()
    };
    let emitted = document_of(&run(&["nccl", "emit"]));
    hold(&emitted);
    let graph = document_of(&run(&["nccl", "emit", "--graph"]));
    hold(&graph);
    assert!(graph["xml"].as_str().unwrap().contains("<graph id=\"0\""));
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("topo.xml");
    fs::write(&file, emitted["xml"].as_str().unwrap()).unwrap();
    for command in ["paths", "check"] {
        hold(&document_of(&run(&[
            "nccl",
            command,
            file.to_str().unwrap(),
        ])));
    }
}

#[test]
fn a_snapshot_and_its_check_keep_to_their_schemas() {
    let host = Host::new();
    let folder = host.path("run");
    let dir = folder.to_str().unwrap();
    assert!(host.run(&["snapshot", "--dir", dir]).status.success());
    let text = fs::read_to_string(folder.join("node.json")).unwrap();
    hold(&serde_json::from_str(&text).unwrap());
    let check = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(["snapshot", "--check", "--json", "--dir", dir])
        .output();
    hold(&document_of(&check.unwrap()));
}

#[test]
fn a_process_of_this_host_keeps_to_its_schema() {
    let verify = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(["verify", "--self", "--json"])
        .output();
    hold(&document_of(&verify.unwrap()));
}

#[test]
fn a_tasks_report_keeps_to_its_schema() {
    let machine = machines::named("dgx-h100").machine();
    let gpus: Vec<_> = machine.gpus.iter().map(|gpu| gpu.pci).collect();
    for (option, cpus) in [
        ("", "0-223"),
        ("verbose", "0-3"),
        ("node,mem=bind", "56-111"),
        ("none", "0-223"),
        ("single-numa-node", "0-3"),
        ("off", "0-3"),
    ] {
        let task = |visible: &[_]| TaskRequest {
            visible: visible.to_vec(),
            slurm_cpus: Some(CpuSet::single(0)),
            ..TaskRequest::default()
        };
        let step = StepRequest {
            settings: asked_without_site(option, None).settings,
            step_cpus: cpus.parse().unwrap(),
            owns_cpus: true,
            asked: 2,
            tasks: vec![task(&gpus[..1]), task(&gpus[2..6]), task(&[])],
            kernel: "5.15".parse().unwrap(),
            allowed_nodes: None,
            may_refuse: true,
        };
        for plan in &plan_step(&machine, &step).tasks {
            let share = nics_of_tasks(&machine, std::slice::from_ref(&plan.gpus));
            let nic = share.first().map(|share| NicDocument::new(&machine, share));
            let report = BindReport::new(
                "gpu1",
                7,
                "7.0",
                plan,
                GpuNames::of_host(&machine),
                nic.as_ref(),
            );
            let document = serde_json::to_value(&report).unwrap();
            hold(&document);
            // As verify reads it.
            let text = document.to_string();
            let read = launch::environment::reported_gpus(&Reported(text));
            assert_eq!(read, plan.gpus, "{document:#}");
        }
    }
}

/// An environment with a report alone.
struct Reported(String);

impl launch::variables::Environment for Reported {
    fn get(&self, name: &str) -> Option<String> {
        (name == "GPU_NUMA_BIND_REPORT").then(|| self.0.clone())
    }
}
