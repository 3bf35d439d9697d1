//! Text that others chose, in a machine that somebody sent: no page, picture or configuration file takes it raw.

use std::process::{Command, Output};

use serde_json::Value;

use crate::common::Host;

/// Acts on a terminal, breaks a line of gres.conf, turns the direction of writing.
const FORGED: &str = "H100\u{1b}[2J\u{1b}[31m\nNodeName=x Name=gpu File=/dev/sda #\u{202e}\u{9b}1m";

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

/// Slurm's word for a node may have anything in it where it is quoted.
#[test]
fn a_forged_node_name_is_refused() {
    let host = Host::new();
    for name in [
        "\"gpu1 Name=gpu File=/dev/sda #\"",
        "xName=gpu",
        "\"gpu1\u{1b}[2J\"",
    ] {
        host.write(
            "etc/slurm/slurm.conf",
            &format!("ClusterName=x\nSlurmctldHost=a\nGresTypes=gpu\nNodeName={name} CPUs=16 Gres=gpu:4\n"),
        );
        let output = host.run(&["gres-conf"]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name:?}: {text}");
        assert!(text.contains("expected letters, digits"), "{text}");
        assert!(output.stdout.is_empty());
    }
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
        const PIECES: [&str; 37] = [
            "\u{1b}[2J",
            // As our own colours.
            "\u{1b}[31m",
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
    read_gres_of(page, "gpu1")
}

fn read_gres_of(page: &str, node: &str) -> Vec<(Vec<String>, Option<String>)> {
    use slurm_config::config::{Line, Statement, parse};
    let lines: Vec<Line> = parse(page, "gres.conf")
        .into_iter()
        .map(|statement| match statement {
            Statement::Line(line) => line,
            Statement::Include { path, .. } => panic!("includes {path}\n{page}"),
        })
        .collect();
    let gpus = slurm_config::gres::NodeGres::of(&lines, node, "gpu");
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
            &["doctor", "--json", "--from", file],
            &[
                "plan",
                "--tasks",
                "4",
                "--compare",
                "--svg",
                "-",
                "--from",
                file,
            ],
            &["fleet", file],
            &["fleet", "--json", file],
            &["fleet", "--features", "-", file],
            &["fleet", "--lua-table", "-", file],
            &["nccl", "emit", "--from", file],
            &["nccl", "ranks", "--tp", "2", "--dp", "2", "--from", file],
            &["nccl", "paths", "--from", file],
        ] {
            let output = run(words);
            let page = String::from_utf8(output.stdout).unwrap();
            let text = format!("{page}{}", String::from_utf8_lossy(&output.stderr));
            assert!(
                matches!(output.status.code(), Some(0 | 1))
                    || words[0] == "nccl" && output.status.code() == Some(2),
                "{round} {words:?}: {text}"
            );
            let odd = text.chars().find(|c| !shows_itself(*c));
            assert_eq!(odd, None, "{round} {words:?}\n{text:?}");
            let is_xml = words.contains(&"--svg") || words[1] == "emit" && !page.is_empty();
            if is_xml {
                let document = roxmltree::Document::parse(&page);
                assert!(document.is_ok(), "{round} {words:?}: {document:?}\n{page}");
            }
        }
    }
}

/// Commands on a recorded root; `{}` is the root.
const OF_A_TREE: [&[&str]; 15] = [
    &["show", "--from", "{}"],
    &["show", "--json", "--from", "{}"],
    &["show", "--explain", "GPU0", "--from", "{}"],
    &["show", "--svg", "-", "--from", "{}"],
    &["plan", "--tasks", "2", "--from", "{}"],
    &["doctor", "--from", "{}"],
    &["doctor", "--json", "--from", "{}"],
    &["verify", "1", "--gpus", "0", "--from", "{}"],
    &["gres-conf", "--from", "{}"],
    &["nccl", "emit", "--from", "{}"],
    &["fleet", "{}"],
    &["fleet", "--json", "{}"],
    &["fleet", "--features", "-", "{}"],
    &["fleet", "--lua-table", "-", "{}"],
    &["nccl", "ranks", "--tp", "2", "--dp", "2", "--from", "{}"],
];

/// What a command said, none of which acts on a terminal; and with which status.
fn say_safely(words: &[&str], what: &str) -> (String, Option<i32>) {
    let output = run(words);
    let page = String::from_utf8(output.stdout).unwrap();
    let text = format!("{page}{}", String::from_utf8_lossy(&output.stderr));
    let status = output.status.code();
    assert!(
        matches!(status, Some(0..=2)) && !text.contains("panicked"),
        "{what}: {words:?}: {}\n{text}",
        output.status
    );
    let odd = text.chars().find(|c| !shows_itself(*c));
    assert_eq!(odd, None, "{what}: {words:?}\n{text:?}");
    (page, status)
}

/// Regular files below a folder of a recorded root, and names in it.
fn files_below(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_below(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

/// Whatever somebody put into the files of a host that it sent: each is spoiled in one round or another, alone and with
/// others, by other text around its own or in its place.
#[test]
fn whatever_a_recorded_host_says_what_is_printed_acts_on_nothing() {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for round in 0..10 {
        let host = Host::new();
        host.write(
            "etc/slurm/slurm.conf",
            "ClusterName=x\nSlurmctldHost=a\nGresTypes=gpu\nNodeName=gpu1 CPUs=16 Gres=gpu:4\n",
        );
        host.write("etc/slurm/gres.conf", "Name=gpu File=/dev/nvidia[0-3]\n");
        host.write("proc/1/comm", "init\n");
        let mut files = Vec::new();
        files_below(host.root(), &mut files);
        files.sort();
        let mut spoiled = Vec::new();
        for file in &files {
            // A few of those that have a number alone, and half of those that have words in them.
            let text = std::fs::read(file).unwrap();
            let has_words = text
                .iter()
                .filter(|byte| byte.is_ascii_alphabetic())
                .count()
                > 12;
            if dice.roll(if has_words { 2 } else { 30 }) != 0 {
                continue;
            }
            let own = String::from_utf8_lossy(&text).into_owned();
            let at = own
                .char_indices()
                .map(|(at, _)| at)
                .nth(dice.roll(40))
                .unwrap_or(0);
            let (before, after) = own.split_at(at);
            let text = match dice.roll(3) {
                0 => dice.text(),
                1 => format!("{before}{}{after}", dice.text()),
                _ => format!("{before}{}\n", dice.text()),
            };
            std::fs::write(file, text).unwrap();
            spoiled.push(
                file.strip_prefix(host.root())
                    .unwrap()
                    .display()
                    .to_string(),
            );
        }
        assert!(spoiled.len() > 2, "{spoiled:?}");
        let root = host.root().to_str().unwrap();
        for words in OF_A_TREE {
            let words: Vec<_> = words
                .iter()
                .map(|word| if *word == "{}" { root } else { word })
                .collect();
            let (page, status) = say_safely(&words, &format!("{round}: {spoiled:?}"));
            let is_xml = words.contains(&"--svg") || words[1] == "emit";
            if is_xml && status == Some(0) {
                let document = roxmltree::Document::parse(&page);
                assert!(document.is_ok(), "{round} {words:?}: {document:?}\n{page}");
            }
            if words[0] == "gres-conf" {
                // Device files, cores and links of this host's GPUs alone, whatever a GPU calls itself.
                let node = page
                    .lines()
                    .find_map(|line| line.strip_prefix("NodeName="))
                    .and_then(|line| line.split(' ').next())
                    .unwrap_or("gpu1");
                for (files, _) in read_gres_of(&page, node) {
                    let is_gpus = |file: &String| {
                        let number = file.strip_prefix("/dev/nvidia");
                        number
                            .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
                    };
                    assert!(files.iter().all(is_gpus), "{round}: {files:?}\n{page}");
                }
            }
        }
    }
}

/// Names of files, folders and of what is in them are text of others too.
#[test]
fn names_of_files_act_on_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::new();
    let mut dice = Dice(0x1234_5678_9abc_def1);
    for round in 0..12 {
        let name = dice.text().replace(['/', '\0'], "x");
        let inner = folder.path().join(format!("{round}{name}"));
        std::fs::create_dir(&inner).unwrap();
        let file = inner.join(format!("{name}.json"));
        let page = host.run(&["show", "--json"]).stdout;
        std::fs::write(
            &file,
            if round % 2 == 0 {
                page
            } else {
                dice.text().into_bytes()
            },
        )
        .unwrap();
        let (inner, file) = (inner.to_str().unwrap(), file.to_str().unwrap());
        for words in [
            ["show", "--from", file].as_slice(),
            &["show", "--from", inner],
            &["plan", "--tasks", "2", "--json", "--from", file],
            &["fleet", inner],
            &["fleet", "--json", file],
            &["nccl", "check", file],
            &["nccl", "paths", file],
            &["doctor", "--from", inner, "--slurm-conf", file],
            &["show", name.trim_start_matches('-')],
        ] {
            say_safely(words, &format!("{round}: {name:?}"));
        }
    }
}

/// Attributes of NCCL's files, and names of elements.
#[test]
fn whatever_an_nccl_file_says_what_is_printed_acts_on_nothing() {
    let host = Host::new();
    let clean = String::from_utf8(host.run(&["nccl", "emit"]).stdout).unwrap();
    assert!(clean.contains("<system"), "{clean}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("topo.xml");
    let mut dice = Dice(0x0fed_cba9_8765_4321);
    for round in 0..16 {
        let mut text = String::new();
        for part in clean.split_inclusive('"') {
            // What stands between two quotes, and what is between attributes.
            text.push_str(part);
            if dice.roll(12) == 0 {
                text.push_str(&dice.text().replace(['"', '<'], ""));
            }
        }
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        for words in [
            ["nccl", "check", file].as_slice(),
            &["nccl", "paths", file],
            &["nccl", "paths", "--json", file],
            &["show", "--from", file],
            &["show", "--svg", "-", "--from", file],
        ] {
            let (page, status) = say_safely(words, &format!("{round}"));
            if words.contains(&"--svg") && status == Some(0) {
                assert!(roxmltree::Document::parse(&page).is_ok(), "{page}");
            }
        }
    }
}

/// A user's processes have whatever names that user likes.
#[test]
fn the_name_of_a_process_acts_on_nothing() {
    let host = Host::new();
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "\u{1b}[2J\n\u{202e}x",
        "a) R 1 (b",
        "\u{9b}1m\r\t#",
        "\u{e0041}\u{200b}",
    ] {
        let program = folder.path().join(name);
        std::fs::copy("/bin/sleep", &program).unwrap();
        let mut process = Command::new(&program).arg("60").spawn().unwrap();
        let (pid, root) = (process.id().to_string(), host.root().to_str().unwrap());
        for words in [
            ["verify", &pid, "--gpus", "0", "--from", root].as_slice(),
            &["verify", &pid, "--gpus", "0", "--json", "--from", root],
            &["verify", &pid, "--children", "--from", root],
            &["verify", &pid],
        ] {
            say_safely(words, name);
        }
        process.kill().unwrap();
        process.wait().unwrap();
    }
}
