//! `gpu-numa show` and `snapshot` as a person runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Two sockets with a GPU without NVLink (L40S) each, as an NCCL topology file.
const TWO_SOCKETS: &str = r#"<system version="1">
  <cpu numaid="0" affinity="00000003" arch="x86_64" vendor="GenuineIntel" familyid="6" modelid="143">
    <pci busid="0000:21:00.0" class="0x030200" vendor="0x10de" device="0x26b9" link_speed="16.0 GT/s PCIe" link_width="16"/>
  </cpu>
  <cpu numaid="1" affinity="0000000c" arch="x86_64">
    <pci busid="0000:81:00.0" class="0x030200" vendor="0x10de" device="0x26b9" link_speed="16.0 GT/s PCIe" link_width="16"/>
    <pci busid="0000:82:00.0" class="0x020700" vendor="0x15b3" device="0x1021"/>
  </cpu>
</system>
"#;

fn gpu_numa(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What is printed in a place without COLUMNS.
fn text_of(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-numa"));
    text(
        &command
            .args(arguments)
            .env_remove("COLUMNS")
            .output()
            .unwrap()
            .stdout,
    )
}

fn two_sockets(folder: &Path) -> PathBuf {
    let path = folder.join("topo.xml");
    fs::write(&path, TWO_SOCKETS).unwrap();
    path
}

#[test]
fn this_machine_is_shown() {
    let output = gpu_numa(&["show"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("NUMA node"));
}

#[test]
fn the_page_holds_matrix_nodes_and_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let path = two_sockets(folder.path());
    let page = text(&gpu_numa(&["show", "--from", path.to_str().unwrap()]).stdout);
    let row = page.lines().find(|line| line.starts_with("GPU1")).unwrap();
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!(
        cells[..6],
        ["GPU1", "SYS", "X", "NODE", "1", "2-3"],
        "{page}"
    );
    assert!(
        row.contains("gen4 x16") && row.contains("0000:81:00.0"),
        "{page}"
    );
    assert!(
        page.contains("distances between NUMA nodes are not known"),
        "{page}"
    );
}

#[test]
fn eight_gpus_fit_80_columns_and_a_pipe_gets_no_colour() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("topo.xml");
    let gpus = |bus: u8| -> String {
        let gpu = |n| {
            format!(
                "<pci busid=\"0000:{:02x}:00.0\" class=\"0x030200\" vendor=\"0x10de\" device=\"0x26b9\"/>",
                bus + n
            )
        };
        (0..4).map(gpu).collect()
    };
    let (left, right) = (gpus(0x10), gpus(0x90));
    let text = format!(
        "<system version=\"1\"><cpu numaid=\"0\" affinity=\"0000ffff\">{left}</cpu>\
         <cpu numaid=\"1\" affinity=\"ffff0000\">{right}</cpu></system>"
    );
    fs::write(&path, text).unwrap();
    let page = text_of(&["show", "--from", path.to_str().unwrap()]);
    for line in page.lines().filter(|line| !line.starts_with("(from ")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(!page.contains('\u{1b}'));
    assert!(
        page.contains("GPU0-3 and GPU4-7 are on different NUMA nodes"),
        "{page}"
    );
}

#[test]
fn json_begins_with_its_schema_and_lists_every_pair() {
    let folder = tempfile::tempdir().unwrap();
    let path = two_sockets(folder.path());
    let json = text(&gpu_numa(&["show", "--json", "--from", path.to_str().unwrap()]).stdout);
    assert!(
        json.starts_with("{\n  \"schema\": \"gpu-numa/machine/1\""),
        "{json}"
    );
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    let pairs = document["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 3);
    assert_eq!(pairs[0]["path"], "SYS");
    // Packages are not in an NCCL file.
    assert!(pairs[0]["crosses_socket"].is_null());
    let gpu = &document["gpus"][0];
    assert_eq!(
        (&gpu["pci"], &gpu["vendor"]),
        (&"0000:21:00.0".into(), &"10de".into())
    );
    assert_eq!(
        (&gpu["numa_nodes"], &gpu["cpus"]),
        (&"0".into(), &"0-1".into())
    );
    assert!(gpu["minor"].is_null() && gpu["uuid"].is_null() && gpu["package"].is_null());
    let again = folder.path().join("machine.json");
    fs::write(&again, &json).unwrap();
    let second = text(&gpu_numa(&["show", "--json", "--from", again.to_str().unwrap()]).stdout);
    assert_eq!(second, json);
}

#[test]
fn the_evidence_is_explained_rung_by_rung() {
    let folder = tempfile::tempdir().unwrap();
    let path = two_sockets(folder.path());
    let explain = |device: &str| {
        gpu_numa(&[
            "show",
            "--from",
            path.to_str().unwrap(),
            "--explain",
            device,
        ])
    };
    for device in ["GPU1", "1", "0000:81:00.0"] {
        let page = text(&explain(device).stdout);
        assert!(page.contains("0000:81:00.0: NUMA node 1\n"), "{page}");
        assert!(page.contains("=>  hwloc "), "{page}");
    }
    let unknown = explain("GPU7");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        text(&unknown.stderr).starts_with("gpu-numa: --explain \"GPU7\": no such device; expected")
    );
}

#[test]
fn what_cannot_be_read_is_one_line_and_status_2() {
    let output = gpu_numa(&["show", "--from", "/nonexistent"]);
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(2), "")
    );
    let message = text(&output.stderr);
    assert!(
        message.starts_with("gpu-numa: /nonexistent: No such file"),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1);
    assert_eq!(gpu_numa(&["show", "--what"]).status.code(), Some(2));
    assert_eq!(gpu_numa(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .arg("show")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_snapshot_is_written_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = two_sockets(folder.path());
    let dir = folder.path().join("run");
    let dir = dir.to_str().unwrap();
    let output = gpu_numa(&["snapshot", "--from", path.to_str().unwrap(), "--dir", dir]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(names.contains(&"node.json".into()), "{names:?}");
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().contains("new-")),
        "{names:?}"
    );
    let show = |path: &str| text(&gpu_numa(&["show", "--json", "--from", path]).stdout);
    assert_eq!(
        show(&format!("{dir}/node.json")),
        show(path.to_str().unwrap())
    );
}
