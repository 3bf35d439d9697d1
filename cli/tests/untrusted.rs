//! Text that others chose, in a machine that somebody sent: no page, picture or configuration file takes it raw.

use std::process::{Command, Output};

use serde_json::Value;

use crate::common::Host;

/// Acts on a terminal, breaks a line of gres.conf, turns the direction of writing.
const FORGED: &str = "H100\u{1b}[2J\nNodeName=x Name=gpu File=/dev/sda #\u{202e}\u{9b}1m";

/// Puts the text wherever a machine has text of others.
fn forge(machine: &mut Value) {
    for gpu in machine["gpus"].as_array_mut().unwrap() {
        gpu["name"] = FORGED.into();
        gpu["uuid"] = FORGED.into();
    }
    for nic in machine["nics"].as_array_mut().unwrap() {
        nic["names"] = Value::from(vec![FORGED]);
        nic["ports"] = serde_json::json!([{ "device": FORGED, "port": 1, "speed_mbit_s": null }]);
    }
    machine["remarks"] = Value::from(vec![FORGED]);
    machine["processor"]["vendor"] = FORGED.into();
}

fn run(words: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_gpu-numa"));
    program
        .args(words)
        .env_remove("SLURM_CONF")
        .output()
        .unwrap()
}

fn shows_itself(c: char) -> bool {
    c == '\n' || matches!(c, '"' | '\'' | '\\') || c.escape_debug().len() == 1
}

#[test]
fn forged_text_acts_on_nothing() {
    let host = Host::new();
    let machine = host.run(&["show", "--json"]).stdout;
    let mut machine: Value = serde_json::from_slice(&machine).unwrap();
    forge(&mut machine);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("machine.json");
    std::fs::write(&file, machine.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let nccl = ["nccl", "emit", "--from", file];
    for words in [
        ["show", "--from", file].as_slice(),
        &["show", "--json", "--from", file],
        &["show", "--explain", "GPU0", "--from", file],
        &["show", "--svg", "-", "--from", file],
        &["plan", "--tasks", "2", "--from", file],
        &["plan", "--tasks", "2", "--json", "--from", file],
        &["doctor", "--from", file],
        &["gres-conf", "--from", file],
        &["fleet", file],
        &nccl,
    ] {
        let output = run(words);
        let page = String::from_utf8(output.stdout).unwrap();
        let text = format!("{page}{}", String::from_utf8_lossy(&output.stderr));
        assert!(!text.is_empty(), "{words:?}");
        let odd = text.chars().find(|c| !shows_itself(*c));
        assert_eq!(odd, None, "{words:?}\n{text:?}");
        if words[0] == "gres-conf" {
            let is_ours = |line: &str| {
                line.is_empty() || line.starts_with('#') || line.starts_with("NodeName=gpu1 ")
            };
            assert!(page.lines().all(is_ours), "{text}");
        }
    }
}

#[test]
fn a_forged_host_name_is_refused() {
    let host = Host::new();
    let machine = host.run(&["show", "--json"]).stdout;
    let mut machine: Value = serde_json::from_slice(&machine).unwrap();
    machine["hostname"] = "gpu1\nNodeName=x Gres=gpu:99".into();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("machine.json");
    std::fs::write(&file, machine.to_string()).unwrap();
    let output = run(&["gres-conf", "--from", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("expected letters, digits"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(output.stdout.is_empty());
}
