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

/// A source of numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    /// What means something to a terminal, to XML, to Slurm's files, or to who reads from right to left.
    fn text(&mut self) -> String {
        const PIECES: [&str; 36] = [
            "\u{1b}[2J",
            "\u{1b}]0;x\u{7}",
            "\n",
            "\r",
            "\t",
            "\u{0}",
            "\u{7f}",
            "\u{9b}31m",
            "\u{202e}",
            "\u{2066}",
            "\u{2028}",
            "\u{feff}",
            "\u{fffe}",
            "\u{e0041}",
            "\u{200b}",
            "<",
            ">",
            "&",
            "&amp;",
            "]]>",
            "<!--",
            "\"",
            "'",
            "\\",
            "#",
            ",",
            "=",
            " ",
            "Name=gpu",
            "NodeName=x",
            "File=/dev/sda",
            "/",
            "..",
            "%n",
            "$(id)",
            "H100",
        ];
        let length = 1 + self.roll(6);
        (0..length)
            .map(|_| PIECES[self.roll(PIECES.len())])
            .collect()
    }

    /// Puts such texts in place of a document's own, but for what `stays` of its keys.
    fn spoil(&mut self, value: &mut Value, stays: fn(&str) -> bool) {
        match value {
            Value::Object(fields) => {
                for (_, field) in fields.iter_mut().filter(|(key, _)| !stays(key)) {
                    self.spoil(field, stays);
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|one| self.spoil(one, stays)),
            Value::String(text) if self.roll(3) > 0 => *text = self.text(),
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// What tells a machine's devices and CPUs apart: text that is none of these there is refused.
fn is_structure(key: &str) -> bool {
    matches!(
        key,
        "schema"
            | "hostname"
            | "online"
            | "cpus"
            | "numa_nodes"
            | "cores"
            | "last_level_caches"
            | "pci"
            | "address"
            | "parent"
            | "vendor"
            | "device"
            | "kind"
            | "numa_source"
            | "minor_source"
            | "pairs"
            | "arch"
            | "a"
            | "b"
            | "path"
            | "nodes"
    )
}

/// The devices and cores of each GPU's line, by Slurm's own rules; not its type, which is a name.
fn read_gres(page: &str) -> Vec<(Vec<String>, Option<String>)> {
    use slurm_config::config::{Line, Statement, parse};
    let lines: Vec<Line> = parse(page, "gres.conf")
        .into_iter()
        .map(|statement| match statement {
            Statement::Line(line) => line,
            Statement::Include { path, .. } => panic!("includes {path}\n{page}"),
        })
        .collect();
    let gpus = slurm_config::gres::NodeGres::of(&lines, "gpu1", "gpu");
    assert_eq!(
        gpus.lines.len(),
        lines.len(),
        "a line of another node or GRES\n{page}"
    );
    let of = |line: &slurm_config::gres::GresLine<'_>| {
        (
            line.files(),
            line.cores().map(|cores| cores.unwrap().to_string()),
        )
    };
    gpus.lines.iter().map(of).collect()
}

#[test]
fn whatever_names_a_machine_has_what_is_printed_acts_on_nothing_and_reads_back() {
    let host = Host::new();
    let clean: Value = serde_json::from_slice(&host.run(&["show", "--json"]).stdout).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let gres_of = |machine: &Value| {
        let file = folder.path().join("machine.json");
        std::fs::write(&file, machine.to_string()).unwrap();
        let output = run(&["gres-conf", "--from", file.to_str().unwrap()]);
        read_gres(&String::from_utf8(output.stdout).unwrap())
    };
    let expected = gres_of(&clean);
    assert_eq!(expected.len(), clean["gpus"].as_array().unwrap().len());
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..8 {
        let mut machine = clean.clone();
        machine["remarks"] = Value::from(vec![dice.text()]);
        dice.spoil(&mut machine, is_structure);
        machine["processor"]["vendor"] = dice.text().into();
        for nic in machine["nics"].as_array_mut().unwrap() {
            nic["names"] = Value::from(vec![dice.text(), dice.text()]);
        }
        for gpu in machine["gpus"].as_array_mut().unwrap() {
            gpu["name"] = dice.text().into();
        }
        assert_eq!(gres_of(&machine), expected, "{machine}");
        let file = folder.path().join("machine.json");
        let file = file.to_str().unwrap();
        for words in [
            ["show", "--from", file].as_slice(),
            &["show", "--json", "--from", file],
            &["show", "--explain", "GPU0", "--from", file],
            &["show", "--svg", "-", "--from", file],
            &["plan", "--tasks", "4", "--from", file],
            &["plan", "--tasks", "4", "--svg", "-", "--from", file],
            &["plan", "--tasks", "4", "--json", "--from", file],
            &["doctor", "--from", file],
            &["gres-conf", "--from", file],
            &["fleet", file],
            &["nccl", "emit", "--from", file],
        ] {
            let output = run(words);
            let page = String::from_utf8(output.stdout).unwrap();
            let text = format!("{page}{}", String::from_utf8_lossy(&output.stderr));
            assert!(
                matches!(output.status.code(), Some(0 | 1)),
                "{round} {words:?}: {text}"
            );
            let odd = text.chars().find(|c| !shows_itself(*c));
            assert_eq!(odd, None, "{round} {words:?}\n{text:?}");
            let is_xml = words.contains(&"--svg") || words[0] == "nccl" && !page.is_empty();
            if is_xml {
                let document = roxmltree::Document::parse(&page);
                assert!(document.is_ok(), "{round} {words:?}: {document:?}\n{page}");
            }
        }
    }
}
