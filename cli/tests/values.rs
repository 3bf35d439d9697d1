//! Every option of every command, given values that it cannot take.

use std::process::{Command, Output};

use crate::common::Host;

/// Empty, nothing, negative, beyond every number, a hole in a list, two words.
const ODD: [&str; 6] = ["", "0", "-1", "99999999999999999999", "0,,1", "x y"];

/// What some of these mean for an option: by command (`*` for all), option, value.
const FINE: [(&str, &str, &str); 14] = [
    // A name of a device or a CPU.
    ("*", "--gpus", "0"),
    ("show", "--explain", "0"),
    ("plan", "--mask", "0"),
    ("plan", "--allowed", "0"),
    // No item, which is the default.
    ("*", "--option", ""),
    // A level of NCCL_P2P_LEVEL.
    ("nccl paths", "--p2p", "0"),
    ("nccl ranks", "--p2p", "0"),
    // A number that a job can have.
    ("*", "--job", "99999999999999999999"),
    // Names of files and folders.
    ("*", "--svg", "*"),
    ("*", "--lua-table", "*"),
    ("*", "--features", "*"),
    ("*", "--dir", "*"),
    ("*", "--slurm-conf", "*"),
    ("*", "--from", "*"),
];

/// What a command needs beside the option.
fn rest(command: &str) -> &'static [&'static str] {
    match command {
        "run" => &["--", "true"],
        "cache" | "fleet" | "nccl check" => &["/etc/passwd"],
        _ => &[],
    }
}

fn run(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-numa"));
    command.args(words);
    for variable in ["SLURM_CONF", "GPU_NUMA_BIND", "SLURM_JOB_ID"] {
        command.env_remove(variable);
    }
    command.output().unwrap()
}

fn help(command: &[&str]) -> String {
    String::from_utf8(run(&[command, &["--help"]].concat()).stdout).unwrap()
}

/// The commands of a page of help.
fn commands(page: &str) -> Vec<String> {
    let lines = page.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines
        .take_while(|line| line.starts_with("  "))
        .filter(|line| line.as_bytes()[2] != b' ');
    let names = names.map(|line| line.split_whitespace().next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

/// The options of a page of help: each with whether it takes a value.
fn options(page: &str) -> Vec<(String, bool)> {
    let heads = page.lines().filter_map(|line| {
        let head = line.strip_prefix("  ")?;
        let long = if head.starts_with('-') {
            head.split_once(", ")?.1
        } else {
            head.strip_prefix("    ")?
        };
        long.starts_with("--").then_some(long)
    });
    let option = |head: &str| {
        let (name, value) = head.split_once(' ').unwrap_or((head, ""));
        (name.to_owned(), value.trim_start().starts_with(['<', '[']))
    };
    heads
        .map(option)
        .filter(|(name, _)| name != "--help")
        .collect()
}

#[test]
fn every_option_names_the_value_that_it_does_not_take_and_what_it_expects() {
    let host = Host::new();
    let from = host.root().to_str().unwrap();
    let mut inner: Vec<Vec<String>> = Vec::new();
    for name in commands(&help(&[])) {
        let below = commands(&help(&[&name]));
        if below.is_empty() {
            inner.push(vec![name]);
        } else {
            inner.extend(below.into_iter().map(|below| vec![name.clone(), below]));
        }
    }
    assert!(inner.len() >= 14, "{inner:?}");
    let mut faults = Vec::new();
    let mut tried = 0;
    for path in &inner {
        let command: Vec<&str> = path.iter().map(String::as_str).collect();
        let called = command.join(" ");
        let options = options(&help(&command));
        let reads_machine = options.iter().any(|(name, _)| name == "--from");
        let recorded = if reads_machine {
            vec!["--from", from]
        } else {
            Vec::new()
        };
        for (name, takes_value) in &options {
            if !takes_value {
                let output = run(&[&command[..], &[name, name], rest(&called)].concat());
                let said = String::from_utf8(output.stderr).unwrap();
                if output.status.code() != Some(2)
                    || !said.contains(&format!("{name} is given twice"))
                {
                    faults.push(format!("{called} {name} {name}: {said}"));
                }
                continue;
            }
            for value in ODD {
                let is_fine = FINE.iter().any(|(of, option, fine)| {
                    ["*", &called].contains(of)
                        && option == name
                        && (*fine == value || *fine == "*" && !value.is_empty())
                });
                if is_fine {
                    continue;
                }
                tried += 1;
                let own = if name == "--from" { &[][..] } else { &recorded };
                let given = format!("{name}={value}");
                let output = run(&[&command[..], &[&given], own, rest(&called)].concat());
                let said = String::from_utf8(output.stderr).unwrap();
                let names_value = if value == "0,,1" {
                    said.contains('"')
                } else {
                    said.contains(value)
                };
                let expects = said.contains("expected") || said.contains("the machine has no GPU");
                let option = name.trim_start_matches("--");
                if output.status.code() != Some(2)
                    || said.lines().count() != 1
                    || !(names_value && expects && said.contains(option))
                {
                    faults.push(format!(
                        "{called} {given}: {:?}: {said}",
                        output.status.code()
                    ));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(tried > 150, "{tried}");
}
