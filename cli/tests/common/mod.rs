//! A recorded host for tests, and the program run on it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use machines::Recording;

/// The declared machine `l40s-2s-4g-slurm`, with its snapshot.
pub(crate) struct Host {
    recording: Recording,
}

impl Host {
    /// A host that `doctor` has nothing to say of.
    pub(crate) fn new() -> Self {
        let recording = machines::named("l40s-2s-4g-slurm").record();
        let host = Self { recording };
        host.snapshot();
        host
    }

    /// Another declared machine, as it was recorded.
    pub(crate) fn of(name: &str) -> Self {
        let recording = machines::named(name).record();
        Self { recording }
    }

    /// Writes the snapshot that the service would have written.
    pub(crate) fn snapshot(&self) {
        // All hosts are the same before a test spoils one.
        static MACHINE: OnceLock<Vec<u8>> = OnceLock::new();
        let machine = MACHINE.get_or_init(|| self.run(&["show", "--json"]).stdout);
        let machine: serde_json::Value = serde_json::from_slice(machine).unwrap();
        let snapshot = serde_json::json!({
            "schema": "gpu-numa/snapshot/1", "boot_id": "b-1", "driver": null, "created_unix": 1, "machine": machine,
        });
        self.write("run/gpu-numa-bind/node.json", &snapshot.to_string());
    }

    /// Writes the snapshot of the host as it is now.
    pub(crate) fn snapshot_now(&self) {
        let machine = self.run(&["show", "--json"]).stdout;
        let machine: serde_json::Value = serde_json::from_slice(&machine).unwrap();
        let snapshot = serde_json::json!({
            "schema": "gpu-numa/snapshot/1", "boot_id": "b-1", "driver": null, "created_unix": 1, "machine": machine,
        });
        self.write("run/gpu-numa-bind/node.json", &snapshot.to_string());
    }

    /// Gives each package two NUMA nodes, 0 and 1, 2 and 3; the GPUs are then at nodes 0 and 2.
    pub(crate) fn split_packages(&self) {
        let nodes = [
            ("0-1,8-9", "10 12 21 21"),
            ("2-3,10-11", "12 10 21 21"),
            ("4-5,12-13", "21 21 10 12"),
            ("6-7,14-15", "21 21 12 10"),
        ];
        for (node, (cpus, distances)) in nodes.iter().enumerate() {
            let folder = format!("sys/devices/system/node/node{node}");
            self.write(&format!("{folder}/cpulist"), cpus);
            self.write(&format!("{folder}/distance"), distances);
            self.write(
                &format!("{folder}/meminfo"),
                &format!("Node {node} MemTotal: 32768000 kB"),
            );
        }
        for (gpus, node, cpus) in [
            (["0000:23:00.0", "0000:24:00.0"], "0", "0-1,8-9"),
            (["0000:83:00.0", "0000:84:00.0"], "2", "4-5,12-13"),
        ] {
            for gpu in gpus {
                self.write(&self.pci(gpu, "numa_node"), node);
                self.write(&self.pci(gpu, "local_cpulist"), cpus);
            }
        }
        self.snapshot_now();
    }

    /// Its root.
    pub(crate) fn root(&self) -> &Path {
        self.recording.root()
    }

    /// A path in it.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root().join(relative)
    }

    /// Writes a file with the folders above it.
    pub(crate) fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Changes a file's text.
    pub(crate) fn replace(&self, relative: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(relative)).unwrap();
        assert!(text.contains(from), "{relative}: {text}");
        self.write(relative, &text.replace(from, to));
    }

    /// Where a PCI device of it is.
    pub(crate) fn pci(&self, address: &str, file: &str) -> String {
        format!("sys/bus/pci/devices/{address}/{file}")
    }

    /// Runs the program with `--from` this host.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
            .args(arguments)
            .arg("--from")
            .arg(self.root())
            .env_remove("SLURM_CONF")
            .env_remove("COLUMNS")
            .output()
            .unwrap()
    }

    /// What the program prints where it succeeds.
    pub(crate) fn page(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

/// `program`, to which our files are root's: as an ordinary user in a user namespace of its own.
pub(crate) fn as_root(program: &str) -> Command {
    let is_root = tempfile::tempdir()
        .unwrap()
        .path()
        .metadata()
        .unwrap()
        .uid()
        == 0;
    if is_root {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", program]);
    command
}
