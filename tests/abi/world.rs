//! Made-up machines: the snapshot that the plugin reads, and the files of `/sys` and `/dev` that agree.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use machines::Declared;
use nccl_topo::emit::Form;
use tempfile::TempDir;
use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::set::{CpuSet, NodeSet};
use topology::snapshot::{HostNow, NODE_FILE, Snapshot};

/// A machine and the folder of its files, which goes with it.
pub(crate) struct World {
    pub(crate) machine: Machine,
    /// Its CPUs are made up too, and so is the kernel that binds to them.
    pub(crate) is_made_up: bool,
    folder: TempDir,
}

impl World {
    /// This host's own CPUs, as two nodes with a GPU each: GPU 0 on the lower half of the CPUs.
    pub(crate) fn with_real_cpus() -> Self {
        let online = topology::sysfs::read_now(Path::new("/"), &Machine::default()).online;
        assert!(online.len() >= 2, "needs two CPUs; here are {online}");
        let cpus: Vec<u32> = online.iter().collect();
        Self::new(&machines::named("abi-2s1n1c1t").on_cpus(&cpus), false)
    }

    /// The machine that `tests/machines` declares under this name.
    pub(crate) fn declared(name: &str) -> Self {
        Self::new(&machines::named(name), true)
    }

    fn new(declared: &Declared, is_made_up: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o755);
        let world = Self {
            machine: declared.machine_by_nvml(),
            is_made_up,
            folder,
        };
        for part in ["snapshot", "devices"] {
            fs::create_dir(world.path(part)).unwrap();
            set_mode(&world.path(part), 0o755);
        }
        world.write_snapshot(&world.snapshot());
        world.write_sysfs(declared);
        for file in Form::ALL.map(Form::file_name) {
            world.write(&format!("snapshot/{file}"), "<system version=\"1\"/>\n");
        }
        world.write("online", &format!("{}\n", world.machine.online));
        let nodes: NodeSet = world
            .machine
            .numa_nodes
            .iter()
            .map(|node| node.id)
            .collect();
        world.write("status", &format!("Mems_allowed_list:\t{nodes}\n"));
        world
    }

    /// The PCI devices and NUMA nodes as `/sys` has them.
    fn write_sysfs(&self, declared: &Declared) {
        for (pci, files) in declared.function_trees() {
            files.write(&self.path(&format!("devices/{pci}"))).unwrap();
        }
        let nodes = declared.tree().below("sys/devices/system/node");
        nodes.write(&self.path("node")).unwrap();
    }

    /// The world's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the world's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that everybody may read, and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        set_mode(&path, 0o644);
        path
    }

    /// The path of the snapshot's machine.
    pub(crate) fn node_file(&self) -> PathBuf {
        self.path("snapshot").join(NODE_FILE)
    }

    /// The path of NCCL's file for one host.
    pub(crate) fn nccl_file(&self) -> String {
        self.path("snapshot")
            .join(Form::SingleHost.file_name())
            .display()
            .to_string()
    }

    /// A fresh snapshot.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let now = HostNow {
            online: self.machine.online.clone(),
            ..topology::sysfs::read_now(Path::new("/"), &self.machine)
        };
        Snapshot::new(self.machine.clone(), &now, 1)
    }

    /// Replaces the snapshot.
    pub(crate) fn write_snapshot(&self, snapshot: &Snapshot) {
        self.write("snapshot/node.json", &snapshot.to_json().unwrap());
    }

    /// The CPUs of a GPU's node, as a kernel list.
    pub(crate) fn cpus_of_gpu(&self, gpu: usize) -> CpuSet {
        self.machine.gpus[gpu].locality.cpus.clone().unwrap()
    }

    /// The variable that lists the GPUs of its vendor.
    pub(crate) fn variable(&self, gpu: usize) -> &'static str {
        self.machine.gpus[gpu].maker().unwrap().variables.visible
    }

    /// The minor of the `gpu`th GPU by address.
    pub(crate) fn minor(&self, gpu: usize) -> u32 {
        self.machine.gpus[gpu].minor.unwrap()
    }
}

/// Gives a file to an ordinary user.
pub(crate) fn give_to_user(path: &Path) {
    chown(path, Some(65_534), None).expect("these tests need root");
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The address of the `index`th GPU.
pub(crate) fn pci(index: u32) -> PciAddress {
    format!("0000:{:02x}:00.0", 0x23 + 0x10 * index)
        .parse()
        .unwrap()
}
