//! Advice is followed: whatever `doctor` tells to change of cores and sockets, alone and together, leaves nothing of the kind to find.
//!
//! With GPU_NUMA_ALL_RELEASES=1 under each release on every machine; without it under one release on each in turn, and under the
//! first with the narrowest rule on all.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Ways of one finding that exclude each other.
const EITHER: (&str, &str, &str) = (
    "either ",
    " (the lines of gres.conf are right then), or leave that and write ",
    ": jobs then get cores of any NUMA node",
);

/// Releases whose rules differ (slurm-config's table), that with the narrowest of them first.
const RELEASES: [&str; 4] = ["25.11", "22.05", "24.11", "26.05"];
/// Of the machines one in so many is also tried under each of the other releases.
const OTHERS_EVERY: usize = 5;

fn output(root: &Path, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-numa"));
    command.args(arguments).arg("--from").arg(root);
    command.env_remove("SLURM_CONF").output().unwrap().stdout
}

fn text(root: &Path, arguments: &[&str]) -> String {
    String::from_utf8(output(root, arguments)).unwrap()
}

/// The changes of the findings of cores, sockets and registration that stop or weaken something, with their checks.
fn changes(root: &Path, release: &str) -> Vec<(String, String)> {
    let document = output(root, &["doctor", "--json", "--slurm-release", release]);
    let document: Value = serde_json::from_slice(&document).unwrap();
    let findings = document["findings"].as_array().unwrap().iter();
    let part = |own: &Value, name: &str| own[name].as_str().unwrap().to_owned();
    let is_ours = |check: &str| {
        check.starts_with("gres-")
            || ["node-line", "numa-node-as-socket", "registration"].contains(&check)
    };
    let ours = findings.map(|own| (part(own, "check"), part(own, "change")));
    ours.filter(|(check, _)| is_ours(check)).collect()
}

/// The ways that a change leaves to choose from.
fn ways(change: &str) -> Vec<String> {
    let (either, or, end) = EITHER;
    match change
        .strip_prefix(either)
        .and_then(|rest| rest.split_once(or))
    {
        Some((first, second)) => {
            let second = second.split(end).next().unwrap();
            vec![first.to_owned(), second.to_owned()]
        }
        None => vec![change.to_owned()],
    }
}

/// Sets keys on a line of a file; in a NodeName line or one of gres.conf.
pub(super) fn set(root: &Path, file: &str, number: usize, pairs: &str) {
    let path = root.join(file.trim_start_matches('/'));
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let line = &mut lines[number - 1];
    let bare = line.split('#').next().unwrap().trim().to_owned();
    let mut words: Vec<String> = bare.split_whitespace().map(str::to_owned).collect();
    for pair in pairs.split_whitespace().filter(|word| word.contains('=')) {
        let key = |word: &str| word.split('=').next().unwrap().to_lowercase();
        match words.iter_mut().find(|word| key(word) == key(pair)) {
            Some(word) => *word = pair.to_owned(),
            None => words.push(pair.to_owned()),
        }
    }
    *line = words.join(" ");
    fs::write(path, lines.join("\n") + "\n").unwrap();
}

/// The number of the node's line.
fn node_line(root: &Path) -> usize {
    let text = fs::read_to_string(root.join("etc/slurm/slurm.conf")).unwrap();
    let at = text.lines().position(|line| line.starts_with("NodeName="));
    at.unwrap() + 1
}

/// Follows one way; panics where it is told in a way that is not known here.
fn follow(root: &Path, way: &str, release: &str) {
    if way.contains("as `gpu-numa gres-conf` prints them") {
        let lines = text(root, &["gres-conf", "--slurm-release", release]);
        fs::write(root.join("etc/slurm/gres.conf"), lines).unwrap();
        return;
    }
    if let Some(way) =
        way.strip_suffix(", and in gres.conf the lines that `gpu-numa gres-conf` prints")
    {
        let (place, pairs) = way.split_once(": ").unwrap();
        let (file, number) = place.rsplit_once(':').unwrap();
        set(root, file, number.parse().unwrap(), pairs);
        let lines = text(root, &["gres-conf", "--slurm-release", release]);
        fs::write(root.join("etc/slurm/gres.conf"), lines).unwrap();
        return;
    }
    let takes_lines = way.contains("in gres.conf the lines that it prints");
    let way = way.split(" (`gpu-numa").next().unwrap();
    for part in way.split("; ") {
        let part = part.split("   (").next().unwrap();
        let (place, rest) = part.split_once(": ").unwrap();
        if let Some((words, geometry)) = rest.split_once(", and on the node's line ") {
            set(root, "etc/slurm/slurm.conf", node_line(root), geometry);
            let path = root.join("etc/slurm/slurm.conf");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, format!("{text}{words}\n")).unwrap();
        } else {
            let (file, number) = place.rsplit_once(':').unwrap_or_else(|| panic!("{way}"));
            set(root, file, number.parse().unwrap(), rest);
        }
    }
    if takes_lines {
        let arguments = [
            "gres-conf",
            "--slurm-release",
            release,
            "--numa-node-as-socket",
        ];
        let lines = text(root, &arguments);
        fs::write(root.join("etc/slurm/gres.conf"), lines).unwrap();
    }
}

/// slurm.conf and gres.conf.
struct Files {
    slurm: String,
    gres: String,
}

impl Files {
    /// The node's line as `gres-conf` prints it for `release`, and gres.conf as it prints it for `lines_of`; none where it prints no
    /// lines of GPUs.
    fn of(root: &Path, release: &str, lines_of: &str) -> Option<Self> {
        // What was written before is no part of the machine.
        let _ = fs::remove_dir_all(root.join("etc/slurm"));
        let printed = text(root, &["gres-conf", "--slurm-release", release]);
        let mut lines = printed.lines();
        let node = lines.find_map(|line| line.strip_prefix("# NodeName="))?;
        let slurm = format!(
            "ClusterName=c\nSlurmctldHost=c\nGresTypes=gpu\nSelectType=select/cons_tres\nNodeName={node}\nPartitionName=p Nodes=ALL\n"
        );
        let gres = if lines_of == release {
            printed.clone()
        } else {
            text(root, &["gres-conf", "--slurm-release", lines_of])
        };
        printed.contains("Name=gpu").then_some(Self { slurm, gres })
    }

    fn write(&self, root: &Path) {
        let folder = root.join("etc/slurm");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("slurm.conf"), &self.slurm).unwrap();
        fs::write(folder.join("gres.conf"), &self.gres).unwrap();
    }
}

/// Follows every advice under a release alone, and all together; returns how many leave a choice.
fn follow_all(name: &str, root: &Path, release: &str) -> usize {
    let mut choices = 0;
    // Cores of each GPU's NUMA node, and those that this release takes with packages for sockets.
    let mut kinds = vec!["22.05", release];
    kinds.dedup();
    for lines_of in kinds {
        let Some(files) = Files::of(root, release, lines_of) else {
            continue;
        };
        files.write(root);
        let about = format!("{name} under {release}, lines of {lines_of}");
        let all = changes(root, release);
        for (check, change) in &all {
            let ways = ways(change);
            choices += usize::from(ways.len() > 1);
            for (at, way) in ways.iter().enumerate() {
                files.write(root);
                follow(root, way, release);
                let mut left = changes(root, release);
                // The other findings stay, and where the second way was taken that nodes could be sockets.
                left.retain(|(own, _)| own == check || !all.iter().any(|(other, _)| other == own));
                left.retain(|(own, _)| at == 0 || own != "numa-node-as-socket");
                assert_eq!(left, [], "{about}: {way}");
            }
        }
        if all.len() > 1 {
            files.write(root);
            for (_, change) in &all {
                follow(root, &ways(change)[0], release);
            }
            assert_eq!(changes(root, release), [], "{about}: {all:?}");
        }
    }
    choices
}

#[test]
fn each_advice_alone_and_all_together_leave_nothing_to_advise() {
    let is_whole = std::env::var_os("GPU_NUMA_ALL_RELEASES").is_some();
    let mut choices = 0;
    for (at, declared) in machines::all().iter().enumerate() {
        let record = declared.record();
        let root = record.root();
        if root.join("etc/slurm/slurm.conf").exists() {
            continue;
        }
        for (number, release) in RELEASES.into_iter().enumerate() {
            if is_whole || number == 0 || at % OTHERS_EVERY == number {
                choices += follow_all(&declared.name, root, release);
            }
        }
    }
    assert!(choices > 0, "no machine has a choice");
}
