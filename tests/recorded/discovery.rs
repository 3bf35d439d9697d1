//! What discovery reads of recorded machines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use discovery::{DiscoveryError, Source, read_machine_with};
use gpu_numa_tests::build::by_cargo;
use topology::machine::NumaSource;
use topology::machine::{Machine, NodeKind};

use crate::topologies;

/// Reads a machine with the help of a program that answers as `gpu-numa` does under its hidden subcommand.
pub(crate) fn read(path: &Path) -> Result<Machine, DiscoveryError> {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    let build = || by_cargo("gpu-numa-discovery", "gpu-numa-probe").expect("it builds");
    let probe = PROBE.get_or_init(build);
    read_machine_with(&Source::Path(path.to_owned()), probe)
}

/// A row of expected.tsv by column name.
pub(crate) type Row = BTreeMap<String, String>;

/// Boards' display controllers, which hwloc counts as GPUs for their class.  ATI's ES1000 (2005) is one: amdgpu's list does
/// not have it, and no job is given it.
const DISPLAYS: [&str; 1] = ["1002:515e"];

/// The rows of one kind, by file and by the root folder that the notes name.
pub(crate) fn rows(folder: &Path, kind: &str) -> BTreeMap<(String, String), Vec<Row>> {
    let text = std::fs::read_to_string(folder.join("expected.tsv")).unwrap();
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().unwrap().split('\t').collect();
    let mut files: BTreeMap<_, Vec<Row>> = BTreeMap::new();
    for line in lines {
        let row: Row = names
            .iter()
            .zip(line.split('\t'))
            .map(|(name, value)| ((*name).to_owned(), value.to_owned()))
            .collect();
        if row["kind"] != kind {
            continue;
        }
        let root = row["notes"]
            .split("fsroot dir: ")
            .nth(1)
            .and_then(|rest| rest.split(';').next())
            .unwrap_or_default();
        files
            .entry((row["file"].clone(), root.to_owned()))
            .or_default()
            .push(row);
    }
    files
}

/// What differs between a machine and its rows.
fn differences(machine: &Machine, rows: &[Row]) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |what: &str, is: String, expected: &str| {
        if !expected.is_empty() && expected != "?" && is != expected {
            found.push(format!("{what} is {is}, expected {expected}"));
        }
    };
    let (displays, rows): (Vec<&Row>, Vec<&Row>) = rows
        .iter()
        .partition(|row| DISPLAYS.iter().any(|id| row["notes"].contains(id)));
    for row in rows {
        if row["row"] == "machine" {
            let nodes = machine
                .numa_nodes
                .iter()
                .filter(|node| node.kind != NodeKind::Gpu);
            check(
                "packages",
                machine.packages.len().to_string(),
                &row["n_packages"],
            );
            check("nodes", nodes.count().to_string(), &row["n_numa"]);
            let gpus = machine.gpus.len() + displays.len();
            check("GPUs", gpus.to_string(), &row["n_gpus"]);
            continue;
        }
        let busid = &row["busid"];
        let Some(gpu) = machine.gpu(busid.parse().unwrap()) else {
            check("GPU", "missing".to_owned(), busid);
            continue;
        };
        let text = |set: Option<String>| set.unwrap_or_else(|| "unknown".to_owned());
        let locality = &gpu.locality;
        if !machine.packages.is_empty() {
            let package = text(locality.package.map(|id| id.to_string()));
            check(&format!("{busid}'s package"), package, &row["package"]);
        }
        if !row["numa_local"].starts_with("GPU-memory") {
            let nodes = text(locality.numa_nodes.as_ref().map(ToString::to_string));
            check(&format!("{busid}'s nodes"), nodes, &row["numa_local"]);
        }
        // hwloc hangs these below a cache, narrower than the node whose CPUs we give.
        if !row["notes"].contains("under L3Cache") {
            let cpus = text(locality.cpus.as_ref().map(ToString::to_string));
            check(&format!("{busid}'s CPUs"), cpus, &row["cpuset_local"]);
        }
    }
    found
}

/// The differences, each with the file that it is of.
fn named_differences(file: &str, machine: &Machine, rows: &[Row]) -> Vec<String> {
    let differences = differences(machine, rows);
    let named = differences.iter().map(|what| format!("{file}: {what}"));
    named.collect()
}

fn assert_none(faults: &[String], least: usize, looked: usize) {
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
    assert!(looked >= least, "only {looked} files looked at");
}

#[test]
fn hwloc_xmls_give_what_hwloc_gives() {
    let folder = topologies();
    let mut faults = Vec::new();
    let files = rows(&folder, "hwloc-xml");
    for ((file, _), rows) in &files {
        match read(&folder.join(file)) {
            Err(error) => faults.push(format!("{file}: {error}")),
            Ok(machine) => {
                faults.extend(named_differences(file, &machine, rows));
            }
        }
    }
    assert_none(&faults, 30, files.len());
}

#[test]
fn nccl_xmls_give_their_gpus_and_nodes() {
    let folder = topologies();
    let mut faults = Vec::new();
    let files = rows(&folder, "nccl-xml");
    for ((file, _), rows) in &files {
        let is_broken = rows
            .iter()
            .any(|row| row["notes"].contains("NOT well-formed"));
        match read(&folder.join(file)) {
            Err(DiscoveryError::NcclXml { .. }) if is_broken => {}
            Err(error) => faults.push(format!("{file}: {error}")),
            Ok(_) if is_broken => faults.push(format!("{file}: was not refused")),
            Ok(machine) => {
                faults.extend(named_differences(file, &machine, rows));
            }
        }
    }
    assert_none(&faults, 30, files.len());
}

/// Unpacks a recorded tree with the system's tar.
pub(crate) fn unpack(archive: &Path) -> tempfile::TempDir {
    // Thousands of small files: seconds on a disk, nothing in memory.
    let folder = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let unread = [
        "memory[0-9]*",
        "cpuidle",
        "thermal_throttle",
        "microcode",
        "power",
        "hugepages",
    ];
    let status = Command::new("tar")
        .args(unread.map(|name| format!("--exclude=*/{name}")))
        .arg("-xf")
        .arg(archive)
        .arg("-C")
        .arg(folder.path())
        .status()
        .expect("tar is needed for the recorded trees");
    assert!(status.success(), "{} cannot be unpacked", archive.display());
    folder
}

/// Recorded trees whose cores differ by more than 5 percent in what the kernel says of their speed, the fastest first.  GB10's
/// fast cores are 5-9 and 15-19, of which the second ones are a little faster by firmware's figure.
const CORES_OF_SEVERAL_KINDS: [(&str, [&str; 2]); 3] = [
    ("hwloc-nvidia-dgx-gb10", ["5-9,15-19", "0-4,10-14"]),
    ("hwloc-fakeheterocpunuma", ["0-11", "12-23"]),
    ("nri-sysfs-sample1", ["0-7", "8-15"]),
];

/// Whether the classes of a tree's CPUs are not those of its files.
fn classes_fault(file: &str, machine: &Machine) -> Option<String> {
    let known = CORES_OF_SEVERAL_KINDS.iter();
    let expected = known.filter(|(name, _)| file.contains(name));
    let expected: Vec<&str> = expected.flat_map(|(_, classes)| classes).copied().collect();
    let found: Vec<String> = machine
        .speed_classes
        .iter()
        .map(ToString::to_string)
        .collect();
    (found != expected)
        .then(|| format!("{file}: CPUs by speed are {found:?}, expected {expected:?}"))
}

#[test]
fn recorded_trees_give_what_hwloc_gives() {
    let folder = topologies();
    let mut faults = Vec::new();
    let files = rows(&folder, "sysfs-tar");
    // GPU rows name no root; their archive holds one.
    let roots = files.iter().filter(|((_, root), _)| !root.is_empty());
    let mut looked = 0;
    for ((file, root), rows) in roots {
        let tree = unpack(&folder.join(file));
        let gpus = files
            .get(&(file.clone(), String::new()))
            .cloned()
            .unwrap_or_default();
        looked += 1;
        match read(&tree.path().join(root)) {
            Err(error) => faults.push(format!("{file}: {error}")),
            Ok(machine) => {
                let all: Vec<Row> = rows.iter().cloned().chain(gpus).collect();
                let name = format!("{file} {root}");
                faults.extend(named_differences(&name, &machine, &all));
                let hwloc = machine
                    .remarks
                    .iter()
                    .find(|remark| remark.starts_with("hwloc:"));
                faults.extend(hwloc.map(|remark| format!("{file} {root}: {remark}")));
                faults.extend(classes_fault(file, &machine));
            }
        }
    }
    assert_none(&faults, 15, looked);
}

/// What a careful reader can know is known, and nothing else.
#[test]
fn made_up_machines_are_answered_as_a_careful_reader_would() {
    let folder = topologies();
    let mut faults = Vec::new();
    let mut looked = 0;
    for entry in std::fs::read_dir(folder.join("machines")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(".truth.json") else {
            continue;
        };
        let text = std::fs::read_to_string(&path).unwrap();
        let truth: serde_json::Value = serde_json::from_str(&text).unwrap();
        let tree = unpack(&folder.join(format!("machines/{name}.tar.xz")));
        let machine = read(tree.path()).unwrap();
        looked += 1;
        assert_eq!(
            machine.packages.len(),
            truth["sockets"].as_array().unwrap().len(),
            "{name}"
        );
        for gpu in truth["gpus"].as_array().unwrap() {
            faults.extend(judge(name, &machine, gpu));
        }
        for nic in truth["nics"].as_array().unwrap() {
            let address = nic["busid"].as_str().unwrap().parse().unwrap();
            let Some(found) = machine.nics.iter().find(|nic| nic.pci == address) else {
                faults.push(format!("{name}: NIC {address} is missing"));
                continue;
            };
            let node = found.locality.numa_nodes.as_ref();
            let truth = nic["node"].as_u64().map(|node| node.to_string());
            if node.is_some_and(|node| Some(node.to_string()) != truth) {
                faults.push(format!("{name}: NIC {address} is on another node"));
            }
        }
    }
    assert_none(&faults, 12, looked);
}

fn judge(name: &str, machine: &Machine, truth: &serde_json::Value) -> Option<String> {
    let busid = truth["busid"].as_str().unwrap();
    let Some(gpu) = machine.gpu(busid.parse().unwrap()) else {
        return Some(format!("{name}: {busid} is missing"));
    };
    let found = &gpu.locality;
    let node = found.numa_nodes.as_ref().map(ToString::to_string);
    let expected = |key: &str| truth[key].as_u64();
    let is_right = node == expected("answer_node").map(|node| node.to_string())
        && found.package.map(u64::from) == expected("answer_socket")
        && (found.numa_source == NumaSource::Unknown) == (truth["answer_node"] == "unknown");
    let is_by = match truth["evidence"].as_str().unwrap() {
        "dmi" => found.numa_source == NumaSource::Dmi,
        "bus" => found.numa_source == NumaSource::Bus,
        _ => true,
    };
    (!is_right || !is_by).then(|| {
        format!(
            "{name}: {busid} is on node {node:?} of package {:?} by {:?}, expected {} of {}, by {}",
            found.package,
            found.numa_source,
            truth["answer_node"],
            truth["answer_socket"],
            truth["evidence"]
        )
    })
}

/// A shape's name, packages and NUMA nodes, and each GPU's bus and node.
type Shape = (
    &'static str,
    usize,
    usize,
    &'static [(&'static str, &'static str)],
);

/// The virtual server's shapes, with what MANIFEST says of each.
#[test]
fn the_virtual_server_is_read_in_every_shape() {
    let folder = topologies();
    let shapes: [Shape; 7] = [
        (
            "2s4g",
            2,
            2,
            &[("23", "0"), ("24", "0"), ("83", "1"), ("84", "1")],
        ),
        (
            "2s4g_smt",
            2,
            2,
            &[("23", "0"), ("24", "0"), ("83", "1"), ("84", "1")],
        ),
        (
            "2s4n",
            2,
            4,
            &[("23", "0"), ("53", "1"), ("83", "2"), ("b3", "3")],
        ),
        (
            "nonode",
            2,
            2,
            &[
                ("23", "0"),
                ("24", "0"),
                ("83", "unknown"),
                ("84", "unknown"),
            ],
        ),
        ("cpuless", 2, 4, &[("21", "0"), ("81", "1")]),
        ("memless", 2, 2, &[("21", "0"), ("81", "1")]),
        ("1s1n", 1, 1, &[("23", "0"), ("24", "0")]),
    ];
    for (shape, packages, nodes, gpus) in shapes {
        let tree = unpack(&folder.join(format!("sysfs-vm/{shape}.tar.xz")));
        let machine = read(tree.path()).unwrap();
        assert_eq!(machine.packages.len(), packages, "{shape}");
        assert_eq!(machine.numa_nodes.len(), nodes, "{shape}");
        assert_eq!(machine.gpus.len(), gpus.len(), "{shape}");
        for (bus, node) in gpus {
            let gpu = machine
                .gpu(format!("0000:{bus}:00.0").parse().unwrap())
                .unwrap();
            let nodes = gpu.locality.numa_nodes.as_ref().map(ToString::to_string);
            assert_eq!(
                nodes.as_deref().unwrap_or("unknown"),
                *node,
                "{shape} {bus}"
            );
            let is_known = gpu.locality.numa_source != NumaSource::Unknown;
            assert_eq!(is_known, *node != "unknown", "{shape} {bus}");
        }
    }
}

#[test]
fn hwloc_xmls_give_the_nvlinks_that_nvml_told_hwloc() {
    let folder = topologies();
    // Sixteen V100 on NVSwitches, and four H100 joined directly: six links each way.
    for (file, gpus) in [("hwloc2-nvidiaDGX2", 16), ("fluxcore-ipa20", 4)] {
        let machine = read(&folder.join(format!("hwloc-xml/{file}.xml"))).unwrap();
        assert!(machine.nvlink_visible, "{file}");
        for gpu in &machine.gpus {
            assert_eq!(gpu.nvlinks.len(), gpus - 1, "{file} {}", gpu.pci);
            assert!(gpu.nvlinks.values().all(|count| *count == 6), "{file}");
        }
    }
}
