//! The plugin, the hosts and the machines, built once per run.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use gpu_numa_tests::build::{by_c_compiler, by_cargo, folder};
use nccl_topo::emit::Form;
use serde_json::Value;
use tempfile::TempDir;
use topology::machine::Machine;
use topology::snapshot::{NODE_FILE, Snapshot};

/// The plugin to test.
pub(crate) fn plugin() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| match std::env::var_os("GPU_NUMA_NCCL_SO") {
        Some(path) => PathBuf::from(path),
        None => {
            by_cargo("gpu-numa-nccl-profiler", "libnccl_profiler_gpu_numa.so").expect("it builds")
        }
    })
}

/// A C host of this folder.
pub(crate) fn host(name: &'static str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    built.entry(name).or_insert_with(|| compile(name)).clone()
}

fn compile(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nccl-{name}"));
    let source = format!("{name}.c");
    by_c_compiler(&folder("nccl"), &[&source], &["-rdynamic"], &program)
        .expect("the host compiles");
    program
}

/// A machine whose snapshot and topology file are in a folder of its own.
pub(crate) struct World {
    folder: TempDir,
    pub(crate) machine: Machine,
}

impl World {
    /// `packages` with a node and `gpus` each, no NVLink, and the topology file that says so.
    pub(crate) fn new(packages: u32, gpus: u32) -> Self {
        Self::of(machine(packages, gpus))
    }

    pub(crate) fn of(machine: Machine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let world = Self { folder, machine };
        let now = topology::sysfs::read_now(Path::new("/"), &world.machine);
        let snapshot = Snapshot::new(world.machine.clone(), &now, 1);
        world.write(NODE_FILE, &snapshot.to_json().unwrap());
        world.write(Form::SingleHost.file_name(), &topology_file(&world.machine));
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A library with RCCL's name and nothing in it, to be loaded before others.
    pub(crate) fn empty_rccl(&self) -> PathBuf {
        let library = self.path("librccl.so.1");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-Wl,-soname,librccl.so.1"]);
        compiler.args(["-x", "c", "/dev/null", "-o"]);
        assert!(compiler.arg(&library).status().unwrap().success());
        library
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The GPUs in PCI order, with commas.
    pub(crate) fn gpus(&self) -> String {
        let names = self.machine.gpus.iter().map(|gpu| gpu.pci.to_string());
        names.collect::<Vec<_>>().join(",")
    }

    /// Runs the host with the plugin's profiler of `version`; further options stand before the GPUs.
    pub(crate) fn profile(&self, version: u32, options: &str, words: &str) -> Run {
        self.profile_by(&mut self.command(version, options, words))
    }

    pub(crate) fn command(&self, version: u32, options: &str, words: &str) -> Command {
        let mut command = Command::new(host("host"));
        self.fill(&mut command, version, options, words);
        command
    }

    /// The host under valgrind, whose findings make it fail.
    pub(crate) fn command_under_valgrind(
        &self,
        version: u32,
        options: &str,
        words: &str,
    ) -> Command {
        let mut command = Command::new("valgrind");
        command
            .args([
                "--quiet",
                "--error-exitcode=9",
                "--leak-check=full",
                "--show-leak-kinds=definite",
            ])
            .args(["--errors-for-leak-kinds=definite", "--track-fds=no"])
            .arg(host("host"));
        self.fill(&mut command, version, options, words);
        command
    }

    fn fill(&self, command: &mut Command, version: u32, options: &str, words: &str) {
        // Tests run beside each other, and an id is one communicator's.
        static NEXT_ID: AtomicU32 = AtomicU32::new(0x1f2e);
        let id = format!("{:x}", NEXT_ID.fetch_add(1, Ordering::Relaxed));
        command
            .arg(plugin())
            .args(["profiler", &version.to_string(), "--ids", &id])
            .args(options.split_whitespace())
            .arg(self.gpus())
            .args(words.split_whitespace())
            .env("NCCL_TOPO_FILE", self.path(Form::SingleHost.file_name()))
            .env("GPU_NUMA_BIND_LOG", self.path("log.%h.%p.jsonl"))
            .env_remove("NCCL_DEBUG");
    }

    pub(crate) fn profile_by(&self, command: &mut Command) -> Run {
        let output = command.output().expect("the host runs");
        let run = Run {
            output,
            records: self.take_records(),
        };
        assert!(
            run.output.status.success(),
            "{}\n{}",
            run.output.status,
            run.stderr()
        );
        run
    }

    fn take_records(&self) -> Vec<Value> {
        let mut records = Vec::new();
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "jsonl")
            {
                let text = fs::read_to_string(&path).unwrap();
                records.extend(
                    text.lines()
                        .map(|line| serde_json::from_str::<Value>(line).unwrap()),
                );
                fs::remove_file(path).unwrap();
            }
        }
        records
    }
}

/// What a run of the host left.
pub(crate) struct Run {
    output: Output,
    /// The lines of `GPU_NUMA_BIND_LOG`.
    pub(crate) records: Vec<Value>,
}

impl Run {
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// The plugin's lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        let stderr = self.stderr();
        let lines = stderr
            .lines()
            .filter_map(|line| line.strip_prefix("gpu-numa: "));
        lines.map(str::to_owned).collect()
    }

    /// The record of the summary.
    pub(crate) fn summary(&self) -> &Value {
        let mut summaries = self
            .records
            .iter()
            .filter(|record| record["event"] == "summary");
        let first = summaries
            .next()
            .unwrap_or_else(|| panic!("no summary\n{}", self.stderr()));
        assert!(summaries.next().is_none(), "one summary\n{}", self.stderr());
        first
    }

    /// Bytes over the link in the summary, both ways.
    pub(crate) fn over_link(&self) -> (u64, u64) {
        let load = &self.summary()["over_link"];
        let number = |name: &str| load[name].as_u64().unwrap();
        (number("up_bytes"), number("down_bytes"))
    }

    /// The mask that each rank got, by rank.
    pub(crate) fn masks(&self) -> BTreeMap<u32, u64> {
        let stdout = self.stdout();
        let masks = stdout.lines().filter_map(|line| line.strip_prefix("mask "));
        let masks = masks.filter_map(|line| line.split_once(" 0x"));
        masks
            .map(|(rank, mask)| {
                (
                    rank.parse().unwrap(),
                    u64::from_str_radix(mask, 16).unwrap(),
                )
            })
            .collect()
    }
}

/// The declared machine of so many packages, a node and `gpus` GPUs each.
pub(crate) fn machine(packages: u32, gpus: u32) -> Machine {
    machines::named(&format!("nccl-{packages}s{}g", packages * gpus)).machine_by_nvml()
}

/// A `<cpu>` a package, GPUs of gen 5 below it.
fn topology_file(machine: &Machine) -> String {
    let mut text = String::from("<system version=\"1\">\n");
    for package in &machine.packages {
        let id = package.id;
        text.push_str(&format!(
            "  <cpu numaid=\"{id}\" affinity=\"\" arch=\"x86_64\" vendor=\"GenuineIntel\" familyid=\"6\" modelid=\"143\">\n"
        ));
        for gpu in machine
            .gpus
            .iter()
            .filter(|gpu| gpu.locality.package == Some(id))
        {
            let pci = gpu.pci;
            text.push_str(&format!(
                "    <pci busid=\"{pci}\" class=\"0x030200\" link_speed=\"32.0 GT/s PCIe\" link_width=\"16\"/>\n"
            ));
        }
        text.push_str("  </cpu>\n");
    }
    text + "</system>\n"
}

/// Fails a test that needs root where there is none.
pub(crate) fn require_root() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    assert!(is_root, "this test needs root");
}
