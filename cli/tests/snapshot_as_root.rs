//! `gpu-numa snapshot` as the service and an administrator run it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::as_root;

fn snapshot(dir: &Path, arguments: &[&str]) -> Output {
    as_root(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(["snapshot", "--dir", dir.to_str().unwrap()])
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A folder with this machine's snapshot in it.
fn written() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let output = snapshot(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    folder
}

/// Checks that `--check` says no, naming `reason`.
fn refuses(dir: &Path, reason: &str) {
    let output = snapshot(dir, &["--check"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stdout(&output).contains(reason), "{output:?}");
    let json = stdout(&snapshot(dir, &["--check", "--json"]));
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["schema"], "gpu-numa/snapshot-check/1");
    assert_eq!(document["ok"], false);
    assert!(
        document["reason"].as_str().unwrap().contains(reason),
        "{json}"
    );
}

/// Changes one string in node.json.
fn edit(dir: &Path, field: &str, value: serde_json::Value) {
    let file = dir.join("node.json");
    let mut document: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    document[field] = value;
    fs::write(&file, document.to_string()).unwrap();
}

#[test]
fn a_fresh_snapshot_holds() {
    let folder = written();
    let output = snapshot(folder.path(), &["--check"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(stdout(&output).ends_with("node.json: up to date\n"));
}

#[test]
fn a_missing_or_broken_snapshot_is_named() {
    let folder = written();
    let file = folder.path().join("node.json");
    fs::write(&file, "{").unwrap();
    refuses(folder.path(), "not a snapshot");
    fs::remove_file(&file).unwrap();
    refuses(folder.path(), "/node.json");
    assert!(
        Command::new("mkfifo")
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );
    refuses(folder.path(), "not a regular file");
}

#[test]
fn a_stale_snapshot_is_told_with_its_reason() {
    let folder = written();
    edit(folder.path(), "driver", "1.0".into());
    refuses(folder.path(), "stale: it was read under driver 1.0");
    edit(folder.path(), "boot_id", "another".into());
    refuses(folder.path(), "stale: it is from another boot");
}

#[test]
fn a_snapshot_that_others_may_write_is_not_believed() {
    let folder = written();
    let file = folder.path().join("node.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    refuses(
        folder.path(),
        "must be owned by root and writable only by root",
    );
}

/// Whoever owns a folder above could put another in its place while root writes.
#[test]
fn below_a_folder_that_others_may_write_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    fs::create_dir(&users).unwrap();
    let mode = |mode| fs::set_permissions(&users, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    for dir in [users.clone(), users.join("node7")] {
        let output = snapshot(&dir, &[]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        let why = "users: must be owned by root and writable only by root (owner 0, mode 777)";
        assert!(errors.contains(why), "{errors}");
        assert_eq!(fs::read_dir(&users).unwrap().count(), 0);
    }
    // As in /tmp, where nobody else can rename what root made.
    mode(0o1777);
    let output = snapshot(&users.join("node7"), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(users.join("node7/node.json").exists());
}

#[test]
fn if_stale_writes_only_what_no_longer_holds() {
    let folder = written();
    let inode = || {
        folder
            .path()
            .join("node.json")
            .metadata()
            .map(|meta| meta.ino())
    };
    let before = inode().unwrap();
    assert_eq!(
        snapshot(folder.path(), &["--if-stale"]).status.code(),
        Some(0)
    );
    assert_eq!(inode().unwrap(), before);
    edit(folder.path(), "boot_id", "another".into());
    assert_eq!(
        snapshot(folder.path(), &["--if-stale"]).status.code(),
        Some(0)
    );
    assert_eq!(snapshot(folder.path(), &["--check"]).status.code(), Some(0));
}

/// What `gpu-numa snapshot` says in a mount namespace with NVIDIA GPUs in /sys, where an NVML that never answers is
/// installed, and the driver is loaded or not; and how long it took.
fn snapshot_where_nvml_hangs(is_loaded: bool) -> (String, Duration) {
    let folder = written();
    let path = folder.path();
    let source = path.join("nvml.c");
    fs::write(
        &source,
        "#include <unistd.h>\nint nvmlInit_v2(void) { for (;;) pause(); }\n\
         int nvmlInitWithFlags(unsigned f) { for (;;) pause(); }\n",
    )
    .unwrap();
    for name in ["libnvidia-ml.so", "libnvidia-ml.so.1"] {
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-o"])
            .arg(path.join(name))
            .arg(&source);
        assert!(compiler.status().unwrap().success());
    }
    let cpus = std::thread::available_parallelism().unwrap().get();
    let cpus: Vec<u32> = (0..u32::try_from(cpus).unwrap()).collect();
    let server = machines::named("slurm-2s4g").on_cpus(&cpus);
    server.tree().below("sys").write(&path.join("sys")).unwrap();
    let begin = Instant::now();
    let output = as_root("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c"])
        .arg(
            "mount --rbind \"$1/sys\" /sys && mount -t tmpfs tmpfs /proc/driver && mkdir -p $2 && \
             exec \"$0\" snapshot --dir \"$1\"",
        )
        .arg(env!("CARGO_BIN_EXE_gpu-numa"))
        .arg(path)
        .arg(if is_loaded {
            "/proc/driver/nvidia/gpus"
        } else {
            "/proc/driver"
        })
        .env("LD_LIBRARY_PATH", path)
        .output()
        .unwrap();
    let took = begin.elapsed();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(path.join("nccl-topo.xml").exists());
    (errors, took)
}

/// A driver that never answers costs its facts and a few seconds, not the boot.
#[test]
fn a_hanging_nvml_is_given_up() {
    let (errors, took) = snapshot_where_nvml_hangs(true);
    assert!(
        took < Duration::from_secs(20) && errors.contains("NVML: no answer within"),
        "{took:?}: {errors}"
    );
}

/// NVML would load it again, while somebody puts a newer one in its place.
#[test]
fn where_the_driver_is_not_loaded_nvml_is_not_asked() {
    let (errors, took) = snapshot_where_nvml_hangs(false);
    assert!(
        took < Duration::from_secs(8)
            && errors.contains("NVML: not asked, for the driver is not loaded"),
        "{took:?}: {errors}"
    );
}

#[test]
fn a_writer_that_does_not_come_to_its_end_leaves_no_node_json() {
    let folder = written();
    let file = folder.path().join("nccl-topo.xml");
    let _ = fs::remove_file(&file);
    // What can neither be replaced nor removed ends the writer half way.
    fs::create_dir(&file).unwrap();
    fs::write(file.join("full"), "").unwrap();
    let output = snapshot(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    refuses(folder.path(), "no ");
    fs::remove_dir_all(&file).unwrap();
    assert_eq!(snapshot(folder.path(), &[]).status.code(), Some(0));
    assert_eq!(snapshot(folder.path(), &["--check"]).status.code(), Some(0));
}

/// What NCCL's files are for the machine that node.json holds, and what they are.
fn belong_together(dir: &Path) -> bool {
    let form = |form: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
            .args(["nccl", "emit", "--from"])
            .arg(dir.join("node.json"))
            .args(form)
            .output()
            .unwrap();
        output.stdout
    };
    let file = |name: &str| fs::read(dir.join(name)).unwrap_or_default();
    form(&[]) == file("nccl-topo.xml") && form(&["--multi-node"]) == file("nccl-topo-multi.xml")
}

#[test]
fn writers_at_once_and_killed_ones_leave_files_of_one_machine() {
    let hosts = ["l40s-2s-4g-slurm", "dgx-h100"].map(|name| machines::named(name).record());
    let folder = tempfile::tempdir().unwrap();
    let start = |number: usize| {
        as_root(env!("CARGO_BIN_EXE_gpu-numa"))
            .args(["snapshot", "--dir"])
            .arg(folder.path())
            .arg("--from")
            .arg(hosts[number % 2].root())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut kept = 0;
    for round in 0..12 {
        let mut writers: Vec<_> = (0..3).map(|writer| start(round + writer)).collect();
        // Half of the rounds end all of them somewhere on their way, the others let them come to their end.
        if round % 2 == 1 {
            std::thread::sleep(Duration::from_millis(20 * round as u64));
            writers.iter_mut().for_each(|writer| writer.kill().unwrap());
        }
        for mut writer in writers {
            let status = writer.wait().unwrap();
            assert!(round % 2 == 1 || status.success(), "{round}: {status}");
        }
        if folder.path().join("node.json").exists() {
            kept += 1;
            assert!(belong_together(folder.path()), "{round}");
        }
    }
    assert!(kept >= 6);
}

/// A user may lock what all may open, for as long as it likes; that is not what root waits for.
#[test]
fn nobody_else_can_have_a_writer_wait() {
    let folder = written();
    let lock = folder.path().join(".lock");
    assert_eq!(lock.metadata().unwrap().mode() & 0o777, 0o600);
    let held: Vec<_> = [folder.path().to_owned(), folder.path().join("node.json")]
        .into_iter()
        .map(|path| {
            let file = fs::File::open(path).unwrap();
            file.lock().unwrap();
            file
        })
        .collect();
    let begin = Instant::now();
    assert_eq!(snapshot(folder.path(), &[]).status.code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(15));
    drop(held);
}
