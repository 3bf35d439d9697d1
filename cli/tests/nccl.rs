//! `gpu-numa nccl` as a person runs it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::common::Host;

/// Two sockets with two GPUs each, no switches.
fn two_sockets() -> String {
    let gpu = |bus: &str| {
        format!(
            "    <pci busid=\"0000:{bus}:00.0\" class=\"0x030200\" vendor=\"0x10de\" device=\"0x26b9\" \
             subsystem_vendor=\"0x10de\" subsystem_device=\"0x1851\" link_speed=\"16.0 GT/s PCIe\" \
             link_width=\"16\"/>\n"
        )
    };
    let cpu = |numaid: u32, mask: &str, gpus: String| {
        format!(
            "  <cpu numaid=\"{numaid}\" affinity=\"{mask}\" arch=\"x86_64\" vendor=\"GenuineIntel\" \
             familyid=\"6\" modelid=\"143\">\n{gpus}  </cpu>\n"
        )
    };
    let first = cpu(0, "00000003", gpu("21") + &gpu("22"));
    let second = cpu(1, "0000000c", gpu("81") + &gpu("82"));
    format!("<system version=\"1\">\n{first}{second}</system>\n")
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

fn nccl(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_gpu-numa");
    Command::new(program)
        .arg("nccl")
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn paths_gives_the_documented_json() {
    let scratch = Scratch::new();
    let path = scratch.file("topo.xml", &two_sockets());
    let output = nccl(&["paths", path.to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["schema"], "gpu-numa/nccl-paths/1");
    assert_eq!(document["gpus"][3]["pci"], "0000:82:00.0");
    assert_eq!(document["gpus"][3]["numaid"], 1);
    let pairs = document["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 12);
    assert_eq!(
        (&pairs[0]["type"], &pairs[1]["type"]),
        (&"PHB".into(), &"SYS".into())
    );
    assert_eq!(pairs[1]["bandwidth_gb_s"], 22.0);
    let ring = &document["ring"];
    assert_eq!(ring["type"], "SYS");
    assert_eq!(
        ring["order"].as_array().unwrap().len(),
        usize::try_from(ring["channels"].as_u64().unwrap()).unwrap()
    );
    assert_eq!(
        (&ring["sys_hops"][0], &ring["socket_crossings"][0]),
        (&2.into(), &2.into())
    );
    assert_eq!(document["tree"]["socket_crossings"][0], 1);
    assert!(document["verdict"].as_str().unwrap().contains("2 times"));
}

#[test]
fn paths_of_another_version_and_job_are_those_of_that() {
    let scratch = Scratch::new();
    let path = scratch.file("topo.xml", &two_sockets());
    let paths = |more: &[&str]| -> Value {
        let output = nccl(&[&["paths", path.to_str().unwrap(), "--json"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let here = paths(&["--nccl", "2.29"]);
    assert_eq!(here["nccl"], "2.29");
    assert_eq!(here["others"].as_array().unwrap().len(), 0);
    assert_eq!(here["also"].as_array().unwrap().len(), 0);
    assert_eq!(paths(&[])["also"], serde_json::json!(["2.31"]));
    assert_eq!(here["nics"][0]["name"], "eth0");
    let several = paths(&["--nccl", "2.30", "--hosts", "2", "--p2p", "off"]);
    // Between hosts a ring is a chain here, which begins and ends at a NIC.
    assert_eq!(several["ring"]["socket_crossings"][0], 1);
    assert_eq!(several["ring"]["nics"][0][0], "eth0");
    assert!(
        paths(&["--nets", "none"])["nics"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let wrong = nccl(&["paths", path.to_str().unwrap(), "--nccl", "2.7"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn paths_say_where_nccl_uses_fewer_channels_than_a_search_found() {
    let recording = machines::named("clx-4s-8g").record();
    let job = [
        "--nccl", "2.30", "--p2p", "off", "--nets", "ib", "--hosts", "2",
    ];
    let from = ["paths", "--from", recording.root().to_str().unwrap()];
    let output = nccl(&[&from[..], &job].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let page = stdout(&output);
    // One of the two nodes as which NCCL counts the host finds one channel, the other two.
    assert!(page.contains("ring: 1 channel of "), "{page}");
    assert!(page.contains("ring: 2 channels of "), "{page}");
    assert!(page.contains("NCCL uses 1 channel of each"), "{page}");
}

#[test]
fn paths_takes_the_ranks_that_were_asked_for() {
    let scratch = Scratch::new();
    let path = scratch.file("topo.xml", &two_sockets());
    let path = path.to_str().unwrap();
    let output = nccl(&["paths", path, "--gpus", "0000:81:00.0,0", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["gpus"][0]["pci"], "0000:81:00.0");
    assert_eq!(document["gpus"][1]["pci"], "0000:21:00.0");
    let wrong = nccl(&["paths", path, "--gpus", "9"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        stderr(&wrong).contains("\"9\": no such GPU in the file"),
        "{}",
        stderr(&wrong)
    );
}

#[test]
fn gpus_in_parts_are_ranks_of_their_own_and_shared_ones_are_refused_by_name() {
    let scratch = Scratch::new();
    let file = |gpus: &str| {
        let whole = "link_width=\"16\"/>\n";
        let text = two_sockets().replacen(whole, &format!("link_width=\"16\">{gpus}</pci>\n"), 1);
        scratch.file("topo.xml", &text)
    };
    let refused = |args: &[&str], words: &str| {
        let output = nccl(args);
        assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    };
    let path = file("<gpu rank=\"0\"/><gpu rank=\"1\"/>");
    let path = path.to_str().unwrap();
    refused(
        &["paths", path],
        "no paths: 0000:21:00.0 is shared by several ranks, and",
    );
    assert_eq!(
        nccl(&["paths", path, "--gpus", "1,2"]).status.code(),
        Some(0)
    );
    file("<gpu mlopart=\"-1\"/>");
    assert_eq!(nccl(&["paths", path]).status.code(), Some(0));
    file("<gpu mlopart=\"0\"/><gpu mlopart=\"1\"/>");
    refused(
        &["paths", path, "--nccl", "2.29"],
        "no paths: parts of a GPU (MLOPart) are devices of their own from NCCL 2.30.7 on, and not in 2.29",
    );
    let of = |gpus: &[&str]| -> Value {
        let output = nccl(&[&["paths", path, "--json"], gpus].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let all = of(&[]);
    let names: Vec<&str> = (0..5)
        .filter_map(|rank| all["gpus"][rank]["pci"].as_str())
        .collect();
    let whole = ["0000:22:00.0", "0000:81:00.0", "0000:82:00.0"];
    let parts = ["0000:21:00.0/0", "0000:21:00.0/1"];
    assert_eq!(names, [&parts[..], &whole[..]].concat());
    assert_eq!(all["pairs"][0]["type"], "LOC");
    // Any GPU may be in parts, whatever the file says.
    let asked = of(&["--gpus", "0000:81:00.0/1,0000:81:00.0/0,0000:21:00.0"]);
    assert_eq!(asked["pairs"][0]["type"], "LOC");
    assert_eq!(asked["pairs"][1]["type"], "SYS");
    let both = nccl(&["paths", path, "--gpus", "0000:81:00.0,0000:81:00.0/0"]);
    assert_eq!(both.status.code(), Some(2));
    // A part has one name, so that none is named twice.
    for entry in [
        "0000:81:00.0/00",
        "0000:81:00.0/0x1",
        "0000:81:00.0/2",
        "0/1",
    ] {
        let output = nccl(&["paths", path, "--gpus", &format!("0000:81:00.0/0,{entry}")]);
        assert_eq!(output.status.code(), Some(2), "{entry}");
        let said = stderr(&output);
        assert!(
            said.contains("a part of a GPU is its PCI address with /0 or /1"),
            "{said}"
        );
    }
    // It is no machine with one GPU there.
    for args in [["emit", "--from", path], ["paths", "--from", path]] {
        let output = nccl(&args);
        assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
        let said = stderr(&output);
        assert!(said.contains("GPU 0000:21:00.0 is in parts"), "{said}");
    }
    let checked = stdout(&nccl(&["check", path]));
    assert!(
        checked.contains("note: 0000:21:00.0 is in parts (MLOPart)"),
        "{checked}"
    );
}

#[test]
fn check_names_line_and_value_and_exits_1() {
    let scratch = Scratch::new();
    let wrong = two_sockets().replace("0000:22:00.0", "22:00.0");
    let path = scratch.file("topo.xml", &wrong);
    let output = nccl(&["check", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let line = format!(
        "{}:4: misread: <pci busid=\"22:00.0\">: busid is \"22:00.0\"",
        path.display()
    );
    assert!(stdout(&output).starts_with(&line), "{}", stdout(&output));
    let json = nccl(&["check", path.to_str().unwrap(), "--json"]);
    assert_eq!(json.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(document["findings"][0]["line"], 4);
}

#[test]
fn check_of_a_refused_file_says_so_and_paths_cannot_run() {
    let scratch = Scratch::new();
    let text = format!("<?xml version=\"1.0\"?>\n{}", two_sockets());
    let path = scratch.file("topo.xml", &text);
    let path = path.to_str().unwrap();
    let output = nccl(&["check", path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains(":1: refused: an XML header"),
        "{}",
        stdout(&output)
    );
    let output = nccl(&["paths", path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("NCCL refuses this file"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn check_against_a_machine_names_what_is_missing() {
    let scratch = Scratch::new();
    let machine = scratch.file("machine.xml", &two_sockets());
    let machine = machine.to_str().unwrap();
    let same = nccl(&["check", machine, "--from", machine]);
    assert_eq!(same.status.code(), Some(0), "{}", stdout(&same));
    let fewer: Vec<_> = two_sockets()
        .lines()
        .filter(|line| !line.contains("82:00.0"))
        .map(str::to_owned)
        .collect();
    let path = scratch.file("topo.xml", &fewer.join("\n"));
    let output = nccl(&["check", path.to_str().unwrap(), "--from", machine]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("GPU 0000:82:00.0 is not in the file"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn a_machine_without_gpus_gets_no_file_and_exit_1() {
    let scratch = Scratch::new();
    let machine = scratch.file(
        "machine.xml",
        &two_sockets().replace("0x030200", "0x060400"),
    );
    let output = nccl(&["emit", "--from", machine.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    assert!(
        stderr(&output).contains("no NCCL topology file"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn files_that_are_none_are_refused_by_name() {
    for path in ["/dev/null", "/nonexistent/topo.xml"] {
        let output = nccl(&["check", path]);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            stderr(&output).starts_with(&format!("gpu-numa: {path}: ")),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn ranks_says_when_an_order_only_brings_groups_nearer_and_what_p2p_it_assumes() {
    let host = Host::of("spr-2s-8g-snc2-idle-links");
    let said = |words: &[&str]| stdout(&host.run(&[&["nccl", "ranks"], words].concat()));
    let nearer = "no order crosses less; in this one the GPUs of a group are nearer to each other";
    // Neighbours are a pipeline, and every other one exchanges gradients.
    let every_other = |gpus| {
        said(&[
            "--dp", "2", "--pp", "2", "--order", "tp-pp-dp", "--gpus", gpus,
        ])
    };
    let two_of_each_node = every_other("0,1,2,3");
    assert!(two_of_each_node.contains(nearer), "{two_of_each_node}");
    let by_turns = every_other("0,1,4,5");
    assert!(by_turns.contains("set for the ranks"), "{by_turns}");
    assert!(!by_turns.contains(nearer), "{by_turns}");
    assert_eq!(every_other("5,0,4,1"), by_turns);
    let without = said(&["--tp", "8", "--p2p", "off"]);
    assert!(
        without.contains("with the file of gpu-numa nccl emit, without P2P)"),
        "{without}"
    );
    assert!(!without.contains("NVLink"), "{without}");
    // Both hosts have a part of each data-parallel group.
    let between = said(&["--tp", "8", "--dp", "2"]);
    assert!(between.contains("1 group of 8: 1 crosses"), "{between}");
}
