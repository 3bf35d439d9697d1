//! A recorded host for tests, and the program run on it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Two packages with 4 cores and 8 CPUs each (hyper-threads 8 above), a NUMA node each, and below each a
/// switch with two GPUs (L40S) and an InfiniBand NIC.
pub(crate) struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    /// A host that `doctor` has nothing to say of.
    pub(crate) fn new() -> Self {
        let host = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for cpu in 0..16 {
            let package = cpu % 8 / 4;
            let topology = format!("sys/devices/system/cpu/cpu{cpu}/topology");
            host.write(
                &format!("{topology}/physical_package_id"),
                &package.to_string(),
            );
            let core = cpu % 8;
            host.write(
                &format!("{topology}/thread_siblings_list"),
                &format!("{core},{}", core + 8),
            );
            host.write(
                &format!("{topology}/core_siblings_list"),
                Self::cpus(package),
            );
        }
        host.write("sys/devices/system/cpu/online", "0-15");
        for node in 0..2 {
            let dir = format!("sys/devices/system/node/node{node}");
            host.write(&format!("{dir}/cpulist"), Self::cpus(node));
            host.write(
                &format!("{dir}/meminfo"),
                &format!("Node {node} MemTotal: 65536000 kB"),
            );
            host.write(
                &format!("{dir}/distance"),
                if node == 0 { "10 21" } else { "21 10" },
            );
        }
        host.write("proc/meminfo", "MemTotal:       131072000 kB\n");
        for (bus, node) in [(0x20, 0), (0x80, 1)] {
            host.switch(bus, node);
        }
        for name in ["kernel/numa_balancing", "vm/zone_reclaim_mode"] {
            host.write(&format!("proc/sys/{name}"), "0\n");
        }
        host.write("proc/sys/kernel/hostname", "gpu1\n");
        host.write("proc/sys/kernel/random/boot_id", "b-1\n");
        host.write("run/nvidia-persistenced/socket", "");
        host.write("usr/lib64/gpu-numa-bind/gpu_numa_bind.so", "");
        host.write("usr/lib64/libslurm.so.38.0.0", "");
        host.slurm();
        host.snapshot();
        host
    }

    fn cpus(package: u32) -> &'static str {
        if package == 0 {
            "0-3,8-11"
        } else {
            "4-7,12-15"
        }
    }

    /// Root port, upstream port, and three downstream ports with two GPUs and a NIC.
    fn switch(&self, bus: u32, node: i32) {
        let port = format!("0000:{bus:02x}:00.0");
        let root = format!("sys/devices/pci0000:{bus:02x}/{port}");
        let up = format!("{root}/0000:{:02x}:00.0", bus + 1);
        self.device(&root, "0x060400", "0x8086", "0x352a", node);
        self.device(&up, "0x060400", "0x1000", "0xc030", node);
        for slot in 0..3 {
            let down = format!("{up}/0000:{:02x}:{slot:02x}.0", bus + 2);
            self.device(&down, "0x060400", "0x1000", "0xc030", node);
            let end = format!("{down}/0000:{:02x}:00.0", bus + 3 + slot);
            if slot < 2 {
                self.device(&end, "0x030200", "0x10de", "0x26b9", node);
            } else {
                self.device(&end, "0x020700", "0x15b3", "0x1021", node);
            }
        }
    }

    fn device(&self, dir: &str, class: &str, vendor: &str, device: &str, node: i32) {
        let address = dir.rsplit('/').next().unwrap().to_owned();
        for (file, value) in [
            ("class", class),
            ("vendor", vendor),
            ("device", device),
            ("numa_node", &node.to_string()),
            ("local_cpulist", Self::cpus(node.unsigned_abs())),
            ("max_link_speed", "16.0 GT/s PCIe"),
            ("max_link_width", "16"),
            ("current_link_speed", "16.0 GT/s PCIe"),
            ("current_link_width", "16"),
        ] {
            self.write(&format!("{dir}/{file}"), value);
        }
        fs::write(self.path(&format!("{dir}/config")), vec![0u8; 4096]).unwrap();
        let links = self.path("sys/bus/pci/devices");
        fs::create_dir_all(&links).unwrap();
        symlink(
            format!("../../../{}", dir.strip_prefix("sys/").unwrap()),
            links.join(address),
        )
        .unwrap();
    }

    /// A right configuration.
    fn slurm(&self) {
        self.write(
            "etc/slurm/slurm.conf",
            "clustername=c\nTaskPlugin = task/affinity, # comment\nInclude nodes.conf\ntaskplugin=task/affinity,task/cgroup\n\
             GresTypes=gpu\nPartitionName=p Nodes=ALL\n",
        );
        self.write(
            "etc/slurm/nodes.conf",
            "NodeName=DEFAULT ThreadsPerCore=2\nNodeName=gpu[1-3] Sockets=2 \\\n  CoresPerSocket=4 Gres=gpu:l40s:4\n",
        );
        self.write(
            "etc/slurm/gres.conf",
            "NodeName=gpu[1-3] Name=gpu Type=l40s File=/dev/nvidia[0-1] Cores=0-3\n\
             NodeName=gpu[1-3] Name=gpu Type=l40s File=/dev/nvidia[2-3] COREs=4-7\n\
             NodeName=gpu9 Name=gpu File=/dev/nvidia[0-7] Cores=60-63\n",
        );
        self.write(
            "etc/slurm/cgroup.conf",
            "constraincores=yes\nConstrainDevices=Yes\n",
        );
        self.write(
            "etc/slurm/plugstack.conf",
            "# our own\ninclude /etc/slurm/plugstack.conf.d/*.conf\n",
        );
        self.write(
            "etc/slurm/plugstack.conf.d/gpu-numa-bind.conf",
            "optional /usr/lib64/gpu-numa-bind/gpu_numa_bind.so default=best-effort\n",
        );
        self.write(
            "etc/slurm/plugstack.conf.d/pyxis.conf",
            "required /usr/lib64/slurm/spank_pyxis.so\n",
        );
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
        self.folder.path()
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
