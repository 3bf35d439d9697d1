//! `gpu-numa measure` on this machine, for sanity only.

use std::process::Command;

#[test]
fn every_node_of_this_machine_is_measured_from_every_other() {
    let output = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(["measure", "--json"])
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    crate::schemas::hold(&document);
    let pairs = document["pairs"].as_array().unwrap();
    let refused = document["remarks"].as_array().unwrap();
    assert!(!pairs.is_empty() || !refused.is_empty(), "{document:#}");
    for pair in pairs {
        let figure = |key: &str| pair[key].as_f64().unwrap();
        assert!(
            figure("bandwidth_gb_s") > 0.0 && figure("latency_ns") > 0.1,
            "{pair}"
        );
        if pair["cpu_node"] == pair["memory_node"] {
            assert!((figure("times_local") - 1.0).abs() < 1e-9, "{pair}");
        }
    }
}

/// Stand-ins for the makers' libraries show what is asked of them and in which order; they are no GPU.
#[test]
fn copies_to_a_gpu_are_timed_from_every_node() {
    for (file, library, address) in [
        ("cuda_stand_in.c", "libcuda.so.1", "0000:3b:00.0"),
        ("hip_stand_in.c", "libamdhip64.so.6", "0000:c1:00.0"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let source = format!("{}/tests/{file}", env!("CARGO_MANIFEST_DIR"));
        let built = Command::new("gcc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(folder.path().join(library))
            .arg(source)
            .status();
        assert!(built.unwrap().success());
        let output = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
            .args(["measure", "--json"])
            .env("LD_LIBRARY_PATH", folder.path())
            .output()
            .unwrap();
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let copies = document["copies"].as_array().unwrap();
        let nodes = document["threads"].as_array().unwrap();
        assert_eq!(copies.len(), nodes.len(), "{document:#}");
        for copy in copies {
            assert_eq!(copy["pci"], address);
            assert!(
                copy["to_gpu_gb_s"].as_f64().unwrap() > 0.0
                    && copy["from_gpu_gb_s"].as_f64().unwrap() > 0.0
            );
        }
    }
}
