//! Files of a megabyte (Slurm's: a quarter) that were made to cost more: each is read, or refused, in 256 MB of memory and
//! little time.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::common::Host;

const SIZE: usize = 1 << 20;
/// Of Slurm's files, which an administrator wrote: a finding for each of 23,000 lines is a page of 16 MB.
const SLURMS_SIZE: usize = SIZE / 4;

/// What a command may take: address space in KiB, and seconds of processor time in a build that is not optimised.
const MEMORY_KIB: u32 = 256 << 10;
const SECONDS: u32 = 20;

/// As often as fits into a megabyte.
fn filled(of: impl Fn(usize) -> String) -> String {
    filled_to(SIZE, of)
}

fn filled_to(size: usize, of: impl Fn(usize) -> String) -> String {
    let mut text = String::with_capacity(size + 4096);
    let mut number = 0;
    while text.len() < size {
        text.push_str(&of(number));
        number += 1;
    }
    text
}

fn address(number: usize) -> String {
    let (domain, bus, slot, function) = (
        number >> 16,
        number >> 8 & 255,
        number >> 3 & 31,
        number & 7,
    );
    format!("{domain:04x}:{bus:02x}:{slot:02x}.{function}")
}

/// Documents in which one list of a machine is as long as fits.
fn documents() -> Vec<(&'static str, String)> {
    let host = Host::new();
    let machine: Value = serde_json::from_slice(&host.run(&["show", "--json"]).stdout).unwrap();
    let with = |key: &str, most: usize, of: &dyn Fn(usize) -> Value| {
        let one = of(0).to_string().len() + 1;
        let list: Vec<Value> = (0..most.min(SIZE / one)).map(of).collect();
        let mut machine = machine.clone();
        machine[key] = list.into();
        machine.to_string()
    };
    let moved = |what: &Value, key: &str, value: Value| {
        let mut what = what.clone();
        what[key] = value;
        what
    };
    let gpu = |number: usize| moved(&machine["gpus"][0], "pci", address(number).into());
    let nic = |number: usize| moved(&machine["nics"][0], "pci", address(number).into());
    let node = |number: usize| moved(&machine["numa_nodes"][0], "id", number.into());
    let mut far = machine.clone();
    let every: Vec<(String, Value)> = (0..100_000).map(|id| (id.to_string(), json!(10))).collect();
    far["numa_nodes"][0]["distances"] = every.into_iter().collect::<serde_json::Map<_, _>>().into();
    vec![
        (
            "cores-wide.json",
            with("cores", usize::MAX, &|_| "0-8191".into()),
        ),
        (
            "cores.json",
            with("cores", 16_384, &|cpu| cpu.to_string().into()),
        ),
        (
            "caches.json",
            with("last_level_caches", usize::MAX, &|_| "0-8191".into()),
        ),
        ("gpus.json", with("gpus", usize::MAX, &gpu)),
        ("gpus-most.json", with("gpus", 512, &gpu)),
        ("nics.json", with("nics", 4_096, &nic)),
        ("nodes.json", with("numa_nodes", usize::MAX, &node)),
        (
            "remarks.json",
            with("remarks", usize::MAX, &|_| "\u{202e}x".into()),
        ),
        ("distances.json", far.to_string()),
        (
            "nested.json",
            format!(
                "{{\"schema\":\"gpu-numa/machine/1\",\"x\":{}",
                "[".repeat(SIZE)
            ),
        ),
    ]
}

/// NCCL's and hwloc's files.
fn xmls() -> Vec<(&'static str, String)> {
    let cpu = "<cpu numaid=\"0\" affinity=\"f\" arch=\"x86_64\" vendor=\"GenuineIntel\" familyid=\"6\" modelid=\"143\">";
    let nccl = |inner: String| format!("<system version=\"1\">{cpu}{inner}</cpu></system>");
    let own = "cpuset=\"0xf\" complete_cpuset=\"0xf\" nodeset=\"0x1\" complete_nodeset=\"0x1\"";
    let allowed = "allowed_cpuset=\"0xf\" allowed_nodeset=\"0x1\"";
    let node = format!(
        "<object type=\"NUMANode\" os_index=\"0\" {own} gp_index=\"2\" local_memory=\"1\"/>"
    );
    let hwloc = |inner: String| {
        format!(
            "<topology version=\"2.0\"><object type=\"Machine\" os_index=\"0\" {own} {allowed} gp_index=\"1\">{node}{inner}\
             </object></topology>"
        )
    };
    let mut entities = String::from("<!ENTITY a \"aaaaaaaaaa\">");
    for letter in 'b'..='j' {
        let before = char::from(letter as u8 - 1);
        let _ = write!(
            entities,
            "<!ENTITY {letter} \"{}\">",
            format!("&{before};").repeat(10)
        );
    }
    let gpu = |number: usize| {
        let at = address(number);
        format!(
            "<pci busid=\"{at}\" class=\"0x030200\" link_speed=\"32.0 GT/s PCIe\" link_width=\"16\"><gpu dev=\"{number}\" sm=\"90\" rank=\"{number}\" gdr=\"1\"/></pci>"
        )
    };
    let device = |number: usize| {
        let at = address(number);
        let kind = "pci_type=\"0302 [10de:26b9] [0000:0000] a1\" pci_link_speed=\"31.5\"";
        format!(
            "<object type=\"PCIDev\" gp_index=\"{}\" pci_busid=\"{at}\" {kind}/>",
            number + 100
        )
    };
    let bridge = "<object type=\"Bridge\" gp_index=\"10\" bridge_type=\"0-1\" depth=\"0\" bridge_pci=\"0000:[00-ff]\">";
    let group = |_| format!("<object type=\"Group\" os_index=\"0\" {own} gp_index=\"5\">");
    let groups = filled(group);
    let closed = "</object>".repeat(groups.matches("<object").count());
    vec![
        ("gpus.xml", nccl(filled(gpu))),
        ("gpus-half.xml", nccl((0..4_000).map(gpu).collect())),
        (
            "nested.xml",
            nccl(filled(|_| {
                "<pci busid=\"0000:01:00.0\" class=\"0x060400\">".to_owned()
            })),
        ),
        (
            "attributes.xml",
            format!("<system {}/>", filled(|number| format!("a{number}=\"1\" "))),
        ),
        (
            "value.xml",
            nccl(format!("<pci busid=\"{}\"/>", "f".repeat(SIZE))),
        ),
        (
            "entities.xml",
            format!(
                "<!DOCTYPE system [{entities}]><system version=\"1\"><cpu numaid=\"&j;\"/></system>"
            ),
        ),
        (
            "pus.hwloc.xml",
            hwloc(filled(|number| {
                format!(
                    "<object type=\"PU\" os_index=\"{number}\" {own} gp_index=\"{}\"/>",
                    number + 9
                )
            })),
        ),
        ("groups.hwloc.xml", hwloc(groups + &closed)),
        (
            "devices.hwloc.xml",
            hwloc(format!("{bridge}{}</object>", filled(device))),
        ),
        (
            "infos.hwloc.xml",
            hwloc(filled(|_| "<info name=\"a\" value=\"b\"/>".to_owned())),
        ),
        (
            "wide.hwloc.xml",
            hwloc(String::new()).replacen("0xf", &("0xffffffff,".repeat(SIZE / 11) + "0xf"), 1),
        ),
        (
            "entities.hwloc.xml",
            format!(
                "<!DOCTYPE topology [{entities}]><topology version=\"3.0\"><info value=\"&j;\"/></topology>"
            ),
        ),
    ]
}

/// Slurm's.
fn configurations() -> Vec<(&'static str, String, String)> {
    let head = "ClusterName=x\nSlurmctldHost=a\nGresTypes=gpu\nNodeName=gpu1 CPUs=16 Gres=gpu:4\n";
    let conf = |rest: &str| format!("{head}{rest}\n");
    let many = |line: &str| {
        conf(&filled_to(SLURMS_SIZE, |number| {
            line.replace('#', &number.to_string())
        }))
    };
    let none = String::new;
    vec![
        (
            "hosts",
            conf("NodeName=n[0-99999999] CPUs=1\nPartitionName=p Nodes=n[0-99999999]"),
            none(),
        ),
        (
            "lists",
            many("NodeName=a[0-9]b[0-9]c[0-9]d[0-9]e[0-9]f[0-9] CPUs=1\n"),
            none(),
        ),
        ("nodes", many("NodeName=n# CPUs=1 Gres=gpu:4\n"), none()),
        ("partitions", many("PartitionName=p# Nodes=ALL\n"), none()),
        (
            "gres",
            conf(&format!(
                "NodeName=n Gres=gpu:1{}",
                filled_to(SLURMS_SIZE, |_| ",gpu:a:1".to_owned())
            )),
            none(),
        ),
        (
            "keys",
            conf(&filled_to(SLURMS_SIZE, |_| "A=1 ".to_owned())),
            none(),
        ),
        ("include", many("Include slurm.conf\n"), none()),
        (
            "files",
            conf(""),
            "Name=gpu File=/dev/nvidia[0-99999999] Cores=0-99999999\n".to_owned(),
        ),
        (
            "lines",
            conf(""),
            filled_to(SLURMS_SIZE, |_| {
                "Name=gpu File=/dev/nvidia[0-3] Cores=0-3\n".to_owned()
            }),
        ),
        (
            "cores",
            conf(""),
            format!(
                "Name=gpu File=/dev/nvidia0 Cores={}0\n",
                filled_to(SLURMS_SIZE, |number| format!("{number},"))
            ),
        ),
    ]
}

/// Runs the program within the limits; it ends by itself, with one of its own statuses.
fn hold(words: &[&str], name: &str) {
    let begin = Instant::now();
    let mut shell = Command::new("sh");
    let script = format!("ulimit -v {MEMORY_KIB} && ulimit -t {SECONDS} && exec \"$0\" \"$@\"");
    let output = shell
        .args(["-c", &script, env!("CARGO_BIN_EXE_gpu-numa")])
        .args(words)
        .env_remove("SLURM_CONF")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.chars().take(400).collect();
    println!(
        "{name}: {}: {:.1} s",
        words[0],
        begin.elapsed().as_secs_f64()
    );
    let is_own = matches!(output.status.code(), Some(0..=2));
    assert!(
        is_own && !said.contains("panicked"),
        "{name}: {words:?}: {}\n{said}",
        output.status
    );
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn documents_of_a_megabyte_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in documents() {
        let file = write(folder.path(), name, &text);
        let file = file.to_str().unwrap();
        for words in [
            ["show", "--from", file].as_slice(),
            &["show", "--json", "--from", file],
            &["plan", "--tasks", "4", "--from", file],
            &["gres-conf", "--from", file],
            &["fleet", file],
        ] {
            hold(words, name);
        }
    }
}

#[test]
fn xmls_of_a_megabyte_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in xmls() {
        let file = write(folder.path(), name, &text);
        let file = file.to_str().unwrap();
        for words in [
            ["show", "--from", file].as_slice(),
            &["nccl", "paths", file],
        ] {
            hold(words, name);
        }
    }
}

#[test]
fn slurms_files_are_bounded() {
    let host = Host::new();
    let folder = tempfile::tempdir().unwrap();
    for (name, slurm, gres) in configurations() {
        let file = write(folder.path(), "slurm.conf", &slurm);
        write(folder.path(), "gres.conf", &gres);
        let root = host.root().to_str().unwrap();
        hold(
            &[
                "doctor",
                "--from",
                root,
                "--slurm-conf",
                file.to_str().unwrap(),
            ],
            name,
        );
    }
}
