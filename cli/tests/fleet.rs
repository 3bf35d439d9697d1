//! `gpu-numa fleet` on files as a cluster gives them, and on what it should not.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

fn fleet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .arg("fleet")
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A host of two nodes with `gpus` GPUs, as a snapshot.
fn host(name: &str, gpus: u32) -> Value {
    let node = |id: u32, cpus: &str| {
        json!({"id": id, "package": id, "cpus": cpus, "kind": "dram", "memory_bytes": (512_u64 << 30) + u64::from(id),
               "distances": {"0": 10 + 11 * id, "1": 21 - 11 * id}})
    };
    let gpu = |index: u32| {
        let node = u32::from(index >= 4);
        json!({"pci": format!("0000:{:02x}:00.0", 0x20 + index), "vendor": "10de", "device": "2330",
               "package": node, "numa_nodes": node.to_string(), "numa_source": "numa_node",
               "cpus": if node == 0 { "0-31" } else { "32-63" }, "uuid": format!("GPU-{name}-{index}")})
    };
    json!({"schema": "gpu-numa/snapshot/1", "boot_id": name, "driver": "580.82", "created_unix": 1_800_000_000,
        "machine": {"hostname": name, "online": "0-63",
            "packages": [{"id": 0, "cpus": "0-31", "numa_nodes": "0"}, {"id": 1, "cpus": "32-63", "numa_nodes": "1"}],
            "numa_nodes": [node(0, "0-31"), node(1, "32-63")],
            "processor": {"arch": "x86_64", "vendor": "GenuineIntel", "family": 6, "model": 143},
            "gpus": (0..gpus).map(gpu).collect::<Vec<_>>()}})
}

fn put(folder: &Path, document: &Value) {
    let name = document["machine"]["hostname"].as_str().unwrap();
    fs::write(folder.join(format!("{name}.json")), document.to_string()).unwrap();
}

/// `count` hosts with eight GPUs.
fn cluster(count: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..count {
        put(folder.path(), &host(&format!("gpu{index:05}"), 8));
    }
    folder
}

fn json_of(folder: &Path) -> (Option<i32>, Value) {
    let output = fleet(&["--json", folder.to_str().unwrap()]);
    let document = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code(), document)
}

#[test]
fn like_hosts_are_one_kind() {
    let folder = cluster(12);
    let output = fleet(&[folder.path().to_str().unwrap()]);
    let page = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{page}");
    assert!(page.starts_with("12 hosts in 1 kind; 0 differ"), "{page}");
    assert!(
        page.contains("gpu[00000-00011]") && page.contains("8 of 10de:2330 NVIDIA H100 SXM5 80GB"),
        "{page}"
    );
}

#[test]
fn a_host_whose_gpus_are_divided_is_told_and_its_parts_are_seats() {
    let folder = tempfile::tempdir().unwrap();
    let amd = |name: &str, parts: u32| {
        let mut host = host(name, 8);
        let mode = if parts == 1 { "SPX" } else { "CPX" };
        for gpu in host["machine"]["gpus"].as_array_mut().unwrap() {
            gpu["vendor"] = "1002".into();
            gpu["device"] = "74a1".into();
            gpu["name"] = "AMD Instinct MI300X".into();
            let nodes = (0..parts).map(|part| json!({"node": 2 + part, "minor": 128 + part}));
            gpu["kfd"] = json!({"nodes": nodes.collect::<Vec<_>>(), "compute_partition": mode});
        }
        host
    };
    for index in 0..6 {
        put(folder.path(), &amd(&format!("gpu{index}"), 1));
    }
    put(folder.path(), &amd("gpu6", 8));
    let (status, document) = json_of(folder.path());
    assert_eq!(status, Some(1), "{document}");
    let told = document["kinds"][0]["differing"].to_string();
    assert!(
        told.contains("compute partition CPX; its kind: SPX"),
        "{document}"
    );
    assert!(told.contains("parts 8; its kind: 1"), "{document}");
    let table = folder.path().join("hosts.lua");
    fleet(&[
        "--lua-table",
        table.to_str().unwrap(),
        folder.path().to_str().unwrap(),
    ]);
    let table = fs::read_to_string(table).unwrap();
    assert!(table.contains("hosts = \"gpu[0-5]\", gpus = 8,"), "{table}");
    assert!(table.contains("hosts = \"gpu6\", gpus = 64,"), "{table}");
}

#[test]
fn what_sets_a_host_apart_is_told() {
    let folder = cluster(12);
    let mut odd = host("gpu00003", 8);
    odd["machine"]["gpus"][7]["numa_nodes"] = "0".into();
    put(folder.path(), &odd);
    put(folder.path(), &host("gpu00005", 7));
    let mut small = host("gpu00007", 8);
    small["machine"]["numa_nodes"][1]["memory_bytes"] = (448_u64 << 30).into();
    put(folder.path(), &small);
    let mut old = host("gpu00008", 8);
    old["driver"] = "535.1".into();
    put(folder.path(), &old);
    let (status, document) = json_of(folder.path());
    assert_eq!(status, Some(1));
    assert_eq!(document["kinds"].as_array().unwrap().len(), 1);
    let told: Vec<(&str, &Value)> = document["kinds"][0]["differing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|differing| {
            (
                differing["host"].as_str().unwrap(),
                &differing["differences"],
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (
                "gpu00003",
                &json!(["GPU 0000:27:00.0: NUMA node 0; its kind: 1"])
            ),
            ("gpu00005", &json!(["GPU 0000:27:00.0 is missing"])),
            (
                "gpu00007",
                &json!(["node 1: memory 448.0 GiB; its kind: 512.0 GiB"])
            ),
            ("gpu00008", &json!(["driver 535.1; its kind: 580.82"])),
        ]
    );
}

/// What `show --json` prints on each host has the driver too.
#[test]
fn another_driver_is_told_by_what_show_prints() {
    let (snapshots, shown) = (cluster(3), tempfile::tempdir().unwrap());
    let mut old = host("gpu00001", 8);
    old["driver"] = "535.1".into();
    put(snapshots.path(), &old);
    for entry in fs::read_dir(snapshots.path()).unwrap() {
        let path = entry.unwrap().path();
        let output = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
            .args(["show", "--json", "--from", path.to_str().unwrap()])
            .output()
            .unwrap();
        fs::write(shown.path().join(path.file_name().unwrap()), output.stdout).unwrap();
    }
    let (status, document) = json_of(shown.path());
    assert_eq!(status, Some(1));
    let differing = &document["kinds"][0]["differing"];
    assert_eq!(
        differing[0]["differences"],
        json!(["driver 535.1; its kind: 580.82"]),
        "{differing:#}"
    );
}

#[test]
fn a_feature_goes_by_the_host_alone() {
    let lines = |folder: &Path| {
        let output = fleet(&["--features", "-", folder.to_str().unwrap()]);
        text(&output.stdout)
    };
    let folder = cluster(3);
    let own = "NodeName=gpu[00000-00002] Features=h100x8_2s2n_4per_node\n";
    let first = lines(folder.path());
    assert!(first.ends_with(own) && first.starts_with("# "), "{first}");
    for index in 0..9 {
        put(folder.path(), &host(&format!("half{index}"), 4));
    }
    put(folder.path(), &host("login1", 0));
    // Neither what others there are nor the driver changes a name.
    let mut renamed = host("gpu00002", 8);
    renamed["driver"] = Value::Null;
    for gpu in renamed["machine"]["gpus"].as_array_mut().unwrap() {
        gpu["name"] = "NVIDIA H100 80GB HBM3".into();
    }
    put(folder.path(), &renamed);
    let all = lines(folder.path());
    assert!(all.ends_with(own), "{all}");
    assert!(
        all.contains("\nNodeName=half[0-8] Features=h100x4_2s2n_n0x4\n"),
        "{all}"
    );
    assert!(!all.contains("login1"), "{all}");
}

#[test]
fn two_common_shapes_are_two_kinds() {
    let folder = cluster(6);
    for index in 0..5 {
        put(folder.path(), &host(&format!("half{index}"), 4));
    }
    let (status, document) = json_of(folder.path());
    assert_eq!(status, Some(0), "{document}");
    assert_eq!(document["kinds"].as_array().unwrap().len(), 2);
    assert_eq!(document["kinds"][0]["hosts"].as_array().unwrap().len(), 6);
}

#[test]
fn reports_of_doctor_are_folded_by_check() {
    let folder = cluster(3);
    let report = |name: &str| {
        json!({"schema": "gpu-numa/doctor/1", "host": name, "ok": false, "findings": [
            {"check": "zone-reclaim", "harm": "slows-jobs", "evidence": "it is 1", "effect": "e", "change": "set 0"}]})
    };
    // Several documents in one file, as one srun's output has them.
    let all = format!("{}\n{}\n", report("gpu00000"), report("gpu00002"));
    fs::write(folder.path().join("doctor.json"), all).unwrap();
    let (status, document) = json_of(folder.path());
    assert_eq!(status, Some(1));
    assert_eq!(document["hosts"], 3);
    assert_eq!(
        document["findings"][0]["hosts"],
        json!(["gpu00000", "gpu00002"])
    );
    assert_eq!(document["findings"][0]["change"], "set 0");
}

#[test]
fn broken_and_hostile_files_are_named_and_skipped() {
    let folder = cluster(3);
    let path = |name: &str| folder.path().join(name);
    let whole = host("x", 8).to_string();
    fs::write(path("cut.json"), &whole[..whole.len() / 2]).unwrap();
    fs::write(path("empty.json"), "").unwrap();
    fs::write(path("binary.json"), [0xff_u8, 0xfe, 0]).unwrap();
    fs::write(path("deep.json"), "[".repeat(1 << 20)).unwrap();
    fs::write(path("other.json"), "{\"schema\":\"\\u001b[31mred\"}").unwrap();
    fs::write(path("huge.json"), " ".repeat((16 << 20) + 1)).unwrap();
    let many: Vec<u32> = (0..5000).collect();
    let mut crowd = host("crowd", 1);
    crowd["machine"]["packages"] = many
        .iter()
        .map(|id| json!({"id": id, "cpus": "0", "numa_nodes": "0"}))
        .collect();
    fs::write(path("crowd.json"), crowd.to_string()).unwrap();
    fs::create_dir(path("folder.json")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path("zero.json")).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(path("fifo.json"))
            .status()
            .unwrap()
            .success()
    );
    let begin = Instant::now();
    let output = fleet(&[folder.path().to_str().unwrap(), "/nonexistent.json"]);
    assert!(begin.elapsed().as_secs() < 20);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    for name in [
        "cut",
        "empty",
        "binary",
        "deep",
        "other",
        "huge",
        "crowd",
        "folder",
        "zero",
        "fifo",
        "/nonexistent",
    ] {
        let line = errors
            .lines()
            .find(|line| line.contains(&format!("{name}.json: ")));
        assert!(
            line.is_some_and(|line| line.ends_with("; skipped")),
            "{name}: {errors}"
        );
    }
    assert!(!errors.contains('\u{1b}'), "{errors:?}");
    assert!(text(&output.stdout).starts_with("3 hosts in 1 kind; 0 differ"));
    // Nothing but trouble: it could not run.
    let output = fleet(&[path("cut.json").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn standard_error_in_a_file_is_called_that() {
    let folder = cluster(1);
    let file = folder.path().join("both.json");
    let whole = host("both", 8).to_string();
    for (content, expected) in [
        (
            format!("slurmstepd: mind\u{1b}\n{whole}\n"),
            "text before its JSON: \"slurmstepd: mind\\u{1b}\"",
        ),
        (
            format!("{whole}\nsrun: error: x\n"),
            "text after its JSON: \"srun: error: x\"",
        ),
        ("srun: error: x\n".to_owned(), "no JSON: \"srun: error: x\""),
    ] {
        fs::write(&file, content).unwrap();
        let output = fleet(&[file.to_str().unwrap()]);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(expected), "{errors}");
    }
}

#[test]
fn a_folder_without_files_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = fleet(&[folder.path().to_str().unwrap()]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    let name = folder.path().to_str().unwrap();
    assert!(
        errors.contains(&format!("{name}: no file in this folder ends in .json"))
            && errors.contains(&format!("no host in {name}; expected")),
        "{errors}"
    );
}

#[test]
fn a_name_cannot_act_on_the_terminal() {
    let folder = cluster(2);
    let mut evil = host("evil", 8);
    evil["machine"]["hostname"] = "\u{1b}]0;owned\u{7}\n".into();
    evil["driver"] = "\u{1b}[2J".into();
    fs::write(folder.path().join("evil.json"), evil.to_string()).unwrap();
    let output = fleet(&[folder.path().to_str().unwrap()]);
    assert!(!text(&output.stdout).contains('\u{1b}'));
}

#[test]
fn thousands_of_hosts_take_seconds() {
    let folder = cluster(2000);
    let begin = Instant::now();
    let output = fleet(&[folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

#[test]
fn the_table_for_lua_has_the_cpus_beside_the_gpus_of_each_kind_of_host() {
    let folder = cluster(3);
    put(folder.path(), &host("login", 0));
    // A name that is none: the file is left out.
    put(folder.path(), &host("odd\"]..os.exit()--", 6));
    let mut lost = host("lost", 2);
    lost["machine"]["gpus"][1]["numa_nodes"] = Value::Null;
    put(folder.path(), &lost);
    let mut mixed = host("mixed", 6);
    for gpu in 0..4 {
        mixed["machine"]["gpus"][gpu]["name"] = json!("NVIDIA H100 80GB HBM3");
    }
    mixed["machine"]["gpus"][4]["name"] = json!("L4\"] = 1 }; os.exit()");
    put(folder.path(), &mixed);
    let table = folder.path().join("gpu_numa_hosts.lua");
    fleet(&[
        "--lua-table",
        table.to_str().unwrap(),
        folder.path().to_str().unwrap(),
    ]);
    let text = fs::read_to_string(&table).unwrap();
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("hosts ="))
        .collect();
    assert_eq!(
        rows,
        [
            "    { hosts = \"lost\", gpus = 2, threads = 1, areas = {  } },",
            "    { hosts = \"mixed\", gpus = 6, threads = 1, areas = { { gpus = 4, cpus = 32, types = { [\"nvidia_h100_80gb_hbm3\"] = 4 } }, \
             { gpus = 2, cpus = 32, types = { [\"\"] = 1, [\"l4_____1____os.exit()\"] = 1 } } } },",
            "    { hosts = \"gpu[00000-00002]\", gpus = 8, threads = 1, areas = { { gpus = 4, cpus = 32, types = { [\"\"] = 4 } }, \
             { gpus = 4, cpus = 32, types = { [\"\"] = 4 } } } },",
        ]
    );
}
