//! NVML as a stand-in plays it, seen through `gpu-numa show`.
//!
//! The machine is this one; the GPUs are the stand-in's.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use gpu_numa_tests::stand_in_nvml::{SCENARIO, build, build_as};
use serde_json::Value;

const TWO_GPUS: &str = "\
gpu 0:3b:0.0 GPU-5C89852c-d268-c3f3-1b07-005d5ae1dc3f 3 NVIDIA H100 80GB HBM3
mig MIG-11111111-2222-3333-4444-555555555555 1 0
mig - 0 0
mig MIG-GPU-5C89852c-d268-c3f3-1b07-005d5ae1dc3f/2/1 2 1
link switch 0:c4:0.0
link switch -
gpu 10000:86:0.0 GPU-86868686-d268-c3f3-1b07-005d5ae1dc3f 0 NVIDIA H100 80GB HBM3
link switch 0:c4:0.0
link switch 0:c5:0.0
link switch 0:c5:0.0
";

/// A folder with the stand-in and its scenario.
struct Nvml(tempfile::TempDir);

impl Nvml {
    fn new(scenario: &str, without: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        build(folder.path(), without).unwrap();
        fs::write(folder.path().join("scenario"), scenario).unwrap();
        Self(folder)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        gpu_numa(self.0.path(), arguments)
    }

    /// What `show --json` prints, and its remarks in one text.
    fn show(&self) -> (Value, String) {
        let output = self.run(&["show", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let machine: Value = serde_json::from_slice(&output.stdout).unwrap();
        let remarks = machine["remarks"].to_string();
        (machine, remarks)
    }
}

fn gpu_numa(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .env("LD_LIBRARY_PATH", folder)
        .env(SCENARIO, folder.join("scenario"))
        .args(arguments)
        .output()
        .unwrap()
}

/// Every fault but a hang is over at once.
fn faulty(fault: &str) -> (Value, String) {
    Nvml::new(&format!("{TWO_GPUS}{fault}\n"), &[]).show()
}

#[test]
fn names_uuids_mig_and_nvlink_come_from_nvml() {
    let nvml = Nvml::new(TWO_GPUS, &[]);
    let (machine, remarks) = nvml.show();
    let gpu = &machine["gpus"][0];
    assert_eq!(gpu["pci"], "0000:3b:00.0");
    assert_eq!(gpu["uuid"], "GPU-5C89852c-d268-c3f3-1b07-005d5ae1dc3f");
    assert_eq!(gpu["name"], "NVIDIA H100 80GB HBM3");
    assert_eq!(
        (&gpu["minor"], &gpu["minor_source"]),
        (&3.into(), &"nvml".into())
    );
    assert_eq!(gpu["mig"].as_array().unwrap().len(), 2);
    assert_eq!(gpu["mig"][1]["gpu_instance"], 2);
    assert_eq!(gpu["mig"][1]["compute_instance"], 1);
    assert_eq!(machine["gpus"][1]["pci"], "10000:86:00.0");
    assert_eq!(machine["pairs"][0]["path"], "NV2", "{machine}");
    assert!(remarks.contains("listed by NVML, not by /sys"), "{remarks}");
    let page = String::from_utf8(nvml.run(&["show"]).stdout).unwrap();
    let line = "GPU0 is divided into MIG instances: MIG-11111111-2222-3333-4444-555555555555 (gi 1 ci 0), ";
    // The page is as wide as the terminal.
    let words: Vec<&str> = page.split_whitespace().collect();
    assert!(words.join(" ").contains(line), "{page}");
}

#[test]
fn p2p_is_told_where_it_works_and_why_where_it_does_not() {
    let works = Nvml::new(TWO_GPUS, &[]);
    let (machine, _) = works.show();
    assert_eq!(machine["pairs"][0]["p2p"], "ok");
    let page = String::from_utf8(works.run(&["show"]).stdout).unwrap();
    assert!(
        page.contains("All GPUs can read each other's memory (P2P, according to NVML)."),
        "{page}"
    );

    let scenario = format!("{TWO_GPUS}p2p 0:3b:0.0 1\n");
    let (machine, _) = Nvml::new(&scenario, &[]).show();
    assert_eq!(machine["pairs"][0]["p2p"], "chipset not supported");
    let page = Nvml::new(&scenario, &[]).run(&["show"]).stdout;
    let page = String::from_utf8(page).unwrap();
    assert!(
        page.contains("No P2P for GPU0 with GPU1: chipset not supported (according to NVML)"),
        "{page}"
    );

    let (machine, _) = Nvml::new(TWO_GPUS, &["nvmlDeviceGetP2PStatus"]).show();
    assert!(machine["pairs"][0].get("p2p").is_none() && machine.get("p2p").is_none());
}

#[test]
fn a_gpu_is_named_by_uuid_in_any_case_and_by_its_beginning() {
    let nvml = Nvml::new(TWO_GPUS, &[]);
    for (name, pci) in [
        ("GPU-5c89852c", "0000:3b:00.0"),
        ("gpu-8", "10000:86:00.0"),
        ("MIG-1111", "0000:3b:00.0"),
        (
            "MIG-GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f/2/1",
            "0000:3b:00.0",
        ),
    ] {
        let output = nvml.run(&["plan", "--json", "--gpus", name]);
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(plan["tasks"][0]["gpus"][0], pci, "{name}");
    }
    assert_eq!(nvml.run(&["plan", "--gpus", "GPU-"]).status.code(), Some(2));
}

#[test]
fn a_function_that_is_missing_costs_its_own_answer() {
    for without in [
        "nvmlDeviceGetCount_v2",
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetName",
        "nvmlDeviceGetMinorNumber",
        "nvmlDeviceGetMaxMigDeviceCount",
        "nvmlDeviceGetMigDeviceHandleByIndex",
        "nvmlDeviceGetGpuInstanceId",
        "nvmlDeviceGetNumaNodeId",
        "nvmlDeviceGetMemoryAffinity",
        "nvmlDeviceGetCpuAffinity",
        "nvmlDeviceGetNvLinkState",
        "nvmlDeviceGetNvLinkRemoteDeviceType",
    ] {
        let (machine, _) = Nvml::new(TWO_GPUS, &[without]).show();
        let gpu = &machine["gpus"][0];
        assert_eq!(machine["gpus"].as_array().unwrap().len(), 2, "{without}");
        assert_eq!(gpu["uuid"].is_null(), without == "nvmlDeviceGetUUID");
        assert_eq!(gpu["name"].is_null(), without == "nvmlDeviceGetName");
        assert_eq!(
            gpu["minor"].is_null(),
            without == "nvmlDeviceGetMinorNumber"
        );
        let has_mig = !matches!(
            without,
            "nvmlDeviceGetMigDeviceHandleByIndex" | "nvmlDeviceGetUUID"
        );
        assert_eq!(gpu["mig"].is_array(), has_mig, "{without}");
        let old_form = &gpu["mig"][1]["compute_instance"];
        assert_eq!(has_mig, *old_form == 1, "{without}");
        let is_visible = !without.contains("NvLink");
        assert_eq!(machine["nvlink_visible"], is_visible, "{without}");
    }
}

#[test]
fn a_library_that_crashes_or_hangs_is_said_and_costs_nothing_else() {
    let (machine, remarks) = faulty("crash nvmlDeviceGetName");
    assert!(machine["gpus"].as_array().unwrap().is_empty());
    assert!(
        remarks.contains("NVML: it stopped its helper process"),
        "{remarks}"
    );
    let start = Instant::now();
    let hangs = Nvml::new(&format!("{TWO_GPUS}hang nvmlInit_v2\n"), &[]).run(&["show", "--json"]);
    let told = String::from_utf8(hangs.stderr).unwrap();
    assert!(
        told.contains("gpu-numa: NVML does not answer yet; going on without it in 9 s"),
        "{told}"
    );
    let machine: Value = serde_json::from_slice(&hangs.stdout).unwrap();
    let remarks = machine["remarks"].to_string();
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(!machine["numa_nodes"].as_array().unwrap().is_empty());
    assert!(remarks.contains("NVML: no answer within 10 s"), "{remarks}");
    // One that would not end, or that prints, has answered all the same.
    for fault in ["hang nvmlShutdown", "babble nvmlDeviceGetName"] {
        let (machine, _) = faulty(fault);
        assert_eq!(machine["gpus"].as_array().unwrap().len(), 2, "{fault}");
    }
}

#[test]
fn a_gpu_that_is_lost_is_said_and_the_others_are_there() {
    let (machine, remarks) = faulty("lost");
    assert_eq!(machine["gpus"].as_array().unwrap().len(), 1);
    assert_eq!(machine["nvlink_visible"], false, "{machine}");
    assert!(
        remarks.contains("NVML: GPU 1: device fell off the bus"),
        "{remarks}"
    );
}

#[test]
fn a_far_end_that_is_not_told_is_no_proof_that_there_is_no_nvlink() {
    let (machine, _) = Nvml::new("gpu 0:3b:0.0 GPU-1 0 H100\nlink unknown -\n", &[]).show();
    assert_eq!(machine["nvlink_visible"], false);
}

#[test]
fn the_development_packages_name_of_the_library_will_do() {
    let folder = tempfile::tempdir().unwrap();
    build_as(folder.path(), "libnvidia-ml.so", &[]).unwrap();
    fs::write(folder.path().join("scenario"), TWO_GPUS).unwrap();
    let output = gpu_numa(folder.path(), &["show", "--json"]);
    let machine: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(machine["gpus"].as_array().unwrap().len(), 2);
}

#[test]
fn without_nvidia_gpus_a_library_that_fails_is_not_missed() {
    for (without, fault) in [(&["nvmlInit_v2"][..], ""), (&[], "fail nvmlInit_v2 9")] {
        let (machine, remarks) = Nvml::new(fault, without).show();
        assert!(machine["gpus"].as_array().unwrap().is_empty(), "{remarks}");
        assert_eq!(remarks, "null");
    }
}

#[test]
fn the_gpu_of_a_process_is_the_one_on_which_nvml_lists_it() {
    let mut process = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = process.id().to_string();
    let verify = |scenario: &str, without: &[&str]| {
        let output = Nvml::new(scenario, without).run(&["verify", &pid, "--json"]);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        document["gpus"].to_string()
    };
    let of_second = format!("{TWO_GPUS}process 1\nprocess {pid}\n");
    // In a process namespace of our own NVML's numbers are those of other processes.
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap();
    let is_first = namespace == Path::new("pid:[4026531836]");
    let all_seen = r#"["0000:3b:00.0","10000:86:00.0"]"#;
    let listed = if is_first {
        r#"["10000:86:00.0"]"#
    } else {
        all_seen
    };
    let found = verify(&of_second, &[]);
    let old = verify(&of_second, &["nvmlDeviceGetComputeRunningProcesses_v3"]);
    let other = verify(&format!("{TWO_GPUS}process 1\n"), &[]);
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(found, listed);
    assert_eq!((old.as_str(), other.as_str()), (all_seen, all_seen));
}
