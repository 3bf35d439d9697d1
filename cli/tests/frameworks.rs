//! `gpu-numa plan --for`: flags that fit the host.

use crate::common::Host;

const EIGHT_CPUS: &str = "0-3,8-11";

fn flags(host: &Host, arguments: &[&str]) -> String {
    host.page(&[&["plan"], arguments].concat())
        .trim_end()
        .to_owned()
}

#[test]
fn each_worker_gets_the_node_of_its_gpu_and_cpus_of_its_own() {
    let host = Host::new();
    let all = ["--for", "vllm", "--cpus-per-task", "2"];
    assert_eq!(
        flags(&host, &all),
        "--numa-bind --numa-bind-nodes 0 0 1 1 --numa-bind-cpus 0-1,8-9 2-3,10-11 4-5,12-13 6-7,14-15"
    );
    assert_eq!(
        flags(&host, &["--for", "sglang", "--gpus", "1,2"]),
        "--numa-node 0 1"
    );
}

#[test]
fn where_all_cpus_are_near_all_gpus_nothing_is_needed() {
    let host = Host::new();
    let near = ["--gpus", "0,1", "--allowed", EIGHT_CPUS];
    for word in ["vllm", "sglang"] {
        assert_eq!(
            flags(&host, &[&["--for", word], &near[..]].concat()),
            "",
            "{word}"
        );
    }
    let of = |arguments: &[&str]| flags(&host, &[&["--for", "trtllm"], arguments].concat());
    assert_eq!(of(&near), "TLLM_NUMA_AWARE_WORKER_AFFINITY=0");
    assert_eq!(of(&[]), "TLLM_NUMA_AWARE_WORKER_AFFINITY=1");
}

#[test]
fn launchers_start_our_program_for_each_rank() {
    let host = Host::new();
    for (word, expected) in [
        (
            "torchrun",
            "--nproc-per-node 4 --no-python gpu-numa run --per-rank --",
        ),
        (
            "accelerate",
            "--num_processes 4 --no_python gpu-numa run --per-rank --",
        ),
        ("mpirun", "-np 4 --bind-to none gpu-numa run --per-rank --"),
        ("ray", "--num-gpus 4 --num-cpus 16"),
    ] {
        assert_eq!(flags(&host, &["--for", word]), expected);
    }
}

#[test]
fn a_gpu_whose_node_is_unknown_has_no_flag() {
    let declared = machines::named("vm-flat-unknown").record();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(["plan", "--for", "vllm", "--json", "--from"])
        .arg(declared.root())
        .output()
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{document}");
    assert_eq!(document["flags"], serde_json::json!([]));
    assert!(
        document["notes"][0]
            .as_str()
            .unwrap()
            .contains("is unknown: leave --numa-bind out")
    );
}
