//! `gpu-numa doctor` on Slurm set-ups: faults that sites make are found, and right ones are not reported.

mod amd;
mod configless;
mod faults;
mod followed;
mod host;
mod namespaces;
mod registration;
mod releases;

use crate::common::Host;
use serde_json::Value;

const CONF: &str = "etc/slurm/slurm.conf";

const NODES: &str = "etc/slurm/nodes.conf";

const GRES: &str = "etc/slurm/gres.conf";

const CGROUP: &str = "etc/slurm/cgroup.conf";

fn document(host: &Host, release: &str) -> Value {
    let output = host.run(&["doctor", "--json", "--slurm-release", release]);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn findings(host: &Host, release: &str) -> Vec<Value> {
    let document = document(host, release);
    document["findings"].as_array().unwrap().clone()
}

/// A driver, with `/dev/nvidiaN` in the order of `minors` by PCI address.
fn driver(host: &Host, minors: [u32; 4]) {
    let gpus = [
        "0000:23:00.0",
        "0000:24:00.0",
        "0000:83:00.0",
        "0000:84:00.0",
    ];
    for (gpu, minor) in gpus.iter().zip(minors) {
        host.write(
            &format!("proc/driver/nvidia/gpus/{gpu}/information"),
            &format!("Model: \t NVIDIA L40S\nBus Location: \t {gpu}\nDevice Minor: \t {minor}\n"),
        );
    }
    host.snapshot_now();
}

/// The sentence about the node's registration.
fn forecast(host: &Host, release: &str) -> String {
    let output = host.run(&["doctor", "--slurm-release", release]);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().filter(|line| line.contains("gpu1"));
    lines.next_back().unwrap_or_default().to_owned()
}

/// The findings of `check`, of each its harm, evidence and change.
fn found(host: &Host, release: &str, check: &str) -> Vec<String> {
    let all = findings(host, release).into_iter();
    all.filter(|finding| finding["check"] == check)
        .map(|finding| {
            let part = |name: &str| finding[name].as_str().unwrap().to_owned();
            format!(
                "{}: {} -> {}",
                part("harm"),
                part("evidence"),
                part("change")
            )
        })
        .collect()
}
