//! Recorded machines with AMD's GPUs: what hwloc's files say of the GPUs, and the plan of each step against the optimum and
//! against mpibind's rule.

use std::path::PathBuf;

use topology::machine::{Gpu, Machine};
use topology::path::crosses_socket;

use crate::discovery::read;
use crate::large::{Report, against_mpibind, judge};
use crate::topologies;

/// The machines of hwloc's files with GPUs that ROCm runs.
fn machines() -> Vec<(String, Machine)> {
    let files = std::fs::read_dir(topologies().join("hwloc-xml")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let is_rocms = |gpu: &Gpu| {
        gpu.maker()
            .is_some_and(|maker| maker.driver.topology.is_some())
    };
    let machine = |file: PathBuf| {
        let machine = read(&file).ok()?;
        let name = file.file_stem()?.to_str()?.to_owned();
        machine.gpus.iter().any(is_rocms).then_some((name, machine))
    };
    files.into_iter().filter_map(machine).collect()
}

/// That machine.
fn machine(name: &str) -> Machine {
    read(&topologies().join(format!("hwloc-xml/{name}.xml"))).unwrap()
}

#[test]
fn each_step_is_the_optimum() {
    let machines = machines();
    let mut all = Report::default();
    for (name, machine) in &machines {
        let report = judge(name, machine);
        println!("{name}: {} steps", report.steps);
        all.add(report);
    }
    all.assert_none(1000);
    assert!(machines.len() >= 4, "only {} machines", machines.len());
}

#[test]
fn no_task_is_less_local_than_mpibinds() {
    let mut all = Report::default();
    for (name, machine) in machines() {
        let report = against_mpibind(&name, &machine);
        println!("{name}: {} steps", report.steps);
        all.add(report);
    }
    all.assert_none(100);
}

#[test]
fn the_parts_of_gpus_and_their_ids_are_hwlocs_rsmi_devices() {
    let parts = |name| {
        let gpus = machine(name).gpus;
        gpus.iter().map(Gpu::parts).collect::<Vec<_>>()
    };
    assert_eq!(parts("fluxcore-tuo.SPX"), [1; 4]);
    assert_eq!(parts("fluxcore-tuo.CPX"), [6; 4]);
    assert_eq!(parts("mpibind-eas-tioga"), [1; 8]);
    let tioga = machine("mpibind-eas-tioga");
    let uuids: Vec<&str> = tioga
        .gpus
        .iter()
        .filter_map(|gpu| gpu.uuid.as_deref())
        .collect();
    assert_eq!(uuids.first(), Some(&"GPU-4a7c19da329a2b8c"));
    assert_eq!(uuids.len(), 8);
    // The library knows none there.
    assert!(
        machine("fluxcore-tuo.SPX")
            .gpus
            .iter()
            .all(|gpu| gpu.uuid.is_none())
    );
}

#[test]
fn xgmi_keeps_traffic_off_the_socket_link() {
    for name in ["fluxcore-tuo.SPX", "fluxcore-tuo.CPX", "mpibind-eas-tioga"] {
        let machine = machine(name);
        for a in &machine.gpus {
            // hwloc does not say which are joined directly.
            assert!(
                a.nvlinks.is_empty() && machine.hides_links_of(a),
                "{name}: {}",
                a.pci
            );
            for b in machine.gpus.iter().filter(|b| b.pci != a.pci) {
                let crosses = crosses_socket(&machine, a.pci, b.pci);
                assert_eq!(crosses, Some(false), "{name}: {} {}", a.pci, b.pci);
            }
        }
    }
}
