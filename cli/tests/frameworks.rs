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
        flags(&host, &["--for", "SGLang", "--gpus", "1,2"]),
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

/// What is said beside the flags.
fn said(host: &Host, arguments: &[&str]) -> String {
    let output = host.run(&[&["plan"], arguments].concat());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_command_that_is_printed_keeps_what_was_given() {
    let host = Host::new();
    let given = [
        "--cpus-per-task",
        "2",
        "--option",
        "node",
        "--allowed",
        "0-7",
    ];
    let text = said(&host, &[&["--for", "torchrun"], &given[..]].concat());
    let root = host.root().display();
    let wanted = format!(
        "gpu-numa: for: taskset -c 0-7 torchrun $(gpu-numa plan --for torchrun --from {root} --cpus-per-task 2 --option node \
         --allowed 0-7) python train.py\n"
    );
    assert_eq!(text, wanted);
    let flags = flags(&host, &[&["--for", "torchrun"], &given[..]].concat());
    assert!(
        flags.ends_with("gpu-numa run --cpus-per-task 2 --option node --per-rank --"),
        "{flags}"
    );
}

#[test]
fn launchers_of_workers_on_other_gpus_than_the_first_are_told_which_to_see() {
    let host = Host::new();
    for (word, launcher) in [
        ("torchrun", "torchrun"),
        ("accelerate", "accelerate launch"),
        ("mpirun", "mpirun"),
        ("vllm", "vllm serve"),
        ("sglang", "python -m sglang.launch_server"),
        ("trtllm", "env"),
    ] {
        let text = said(&host, &["--for", word, "--gpus", "1,3"]);
        let wanted = format!(" CUDA_VISIBLE_DEVICES=1,3 {launcher} ");
        assert!(text.contains(&wanted), "{word}: {text}");
        let first = said(&host, &["--for", word, "--gpus", "0,1,2"]);
        assert!(!first.contains("CUDA_VISIBLE_DEVICES"), "{word}: {first}");
    }
}

#[test]
fn an_engine_that_runs_on_another_vendors_gpus_alone_has_no_flags() {
    let output = Host::of("frontier-mi250x").run(&["plan", "--for", "trtllm"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "gpu-numa: --for trtllm: TensorRT-LLM runs on NVIDIA's GPUs alone, and these are AMD's\n"
    );
}

/// ROCm numbers Frontier's GPUs from those of node 0, whose addresses come after those of node 3.
#[test]
fn workers_on_amds_gpus_are_in_the_order_of_rocm() {
    let host = Host::of("frontier-mi250x");
    let all = flags(&host, &["--for", "vllm"]);
    let nodes = "--numa-bind --numa-bind-nodes 0 0 1 1 2 2 3 3 ";
    assert!(all.starts_with(nodes), "{all}");
    let own = ["--for", "vllm", "--gpus", "0,1"];
    let nodes = "--numa-bind --numa-bind-nodes 3 3 ";
    assert!(flags(&host, &own).starts_with(nodes));
    assert!(said(&host, &own).contains(" ROCR_VISIBLE_DEVICES="));
    let first = ["--for", "vllm", "--gpus", "0000:d1:00.0,0000:d6:00.0"];
    assert!(!said(&host, &first).contains("VISIBLE_DEVICES"));
    let parts = Host::of("mi300a-4s-tpx");
    let text = said(&parts, &["--for", "torchrun", "--gpus", "1,3"]);
    assert!(
        text.contains(" ROCR_VISIBLE_DEVICES=3,9 torchrun "),
        "{text}"
    );
}

#[test]
fn a_path_with_blanks_is_quoted_in_the_command_that_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("a host's");
    let host = Host::new();
    std::os::unix::fs::symlink(host.root(), &link).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(["plan", "--for", "mpirun", "--from"])
        .arg(&link)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let wanted = format!("--from '{}/a host'\\''s')", folder.path().display());
    assert!(text.contains(&wanted), "{text}");
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
