//! Machines for tests, each declared once, in `tests/machines/NAME.toml`.
//!
//! One declaration gives the recorded root ([`Declared::record`]), the model that the product is to make of it
//! ([`Declared::machine`]), QEMU's arguments ([`Declared::qemu`]) and a fuzz seed ([`Declared::seed`]); scripts
//! ask the program `gpu-numa-machine` for them.  The `truth` of a declaration says what a careful person knows of
//! the machine; it is not worked out by the product.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "this is test code: a wrong declaration stops the test that reads it"
)]

mod declared;
mod firmware;
mod machine;
mod models;
mod qemu;
mod root;
mod tree;
mod values;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use declared::{
    Amdgpu, Cores, Declared, Device, Dmi, Driver, HostBridge, Mig, Models, Node, NvLink, Place,
    Port, Processor, Quirk, Siblings, Srat, Truth,
};
pub use qemu::{NotForQemu, Qemu};
pub use tree::Tree;
pub use values::{Address, Bytes, Indexes, RootBus, Way};

use topology::machine::Machine;
use topology::nvlink::Links;
use topology::pci::PciAddress;

/// Why a machine cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// There is no such declaration, or it cannot be read.
    #[error("{path}: {source}")]
    NotRead {
        /// The declaration.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// It is no declaration, or contradicts itself.
    #[error("{path}: {what}")]
    NotDeclared {
        /// The declaration.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Where the declarations are: the folder that `GPU_NUMA_MACHINES` names, for a program that was built
/// elsewhere, else the one above this crate.
pub fn folder() -> PathBuf {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::var_os("GPU_NUMA_MACHINES").map_or(above, PathBuf::from)
}

/// The names of all declared machines, sorted.
///
/// # Errors
/// The folder cannot be read.
pub fn names() -> Result<Vec<String>, MachineError> {
    let path = folder();
    let failed = |source| MachineError::NotRead {
        path: path.clone(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(&path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        names.extend(
            name.to_str()
                .and_then(|name| name.strip_suffix(".toml"))
                .map(str::to_owned),
        );
    }
    names.sort_unstable();
    Ok(names)
}

/// The machine that is declared under `name`.
///
/// # Errors
/// [`MachineError`]: it is not declared, or wrongly.
pub fn load(name: &str) -> Result<Declared, MachineError> {
    let path = folder().join(format!("{name}.toml"));
    let text = fs::read_to_string(&path);
    let text = text.map_err(|source| MachineError::NotRead {
        path: path.clone(),
        source,
    })?;
    Declared::parse(name, &text).map_err(|what| MachineError::NotDeclared { path, what })
}

/// As [`load`], for tests, which end where there is no such machine.
pub fn named(name: &str) -> Declared {
    load(name).unwrap_or_else(|error| panic!("{error}"))
}

/// Every declared machine, by name.
pub fn all() -> Vec<Declared> {
    let names = names().unwrap_or_else(|error| panic!("{error}"));
    assert!(!names.is_empty(), "no machine is declared");
    names.iter().map(|name| named(name)).collect()
}

/// A machine's filesystem root, which goes with this value.
#[derive(Debug)]
pub struct Recording(tempfile::TempDir);

impl Recording {
    /// The root.
    pub fn root(&self) -> &Path {
        self.0.path()
    }
}

impl Declared {
    /// The machine's files.
    pub fn tree(&self) -> Tree {
        root::build(self)
    }

    /// The files of each PCI function, by themselves.
    pub fn function_trees(&self) -> Vec<(PciAddress, Tree)> {
        let all = self.tree();
        let functions = self.functions().into_iter();
        functions
            .map(|function| (function.address.pci(), all.below(&function.folder)))
            .collect()
    }

    /// Writes the machine's files into a folder of their own, in memory where the system has such folders.
    pub fn record(&self) -> Recording {
        // Thousands of small files: seconds on a disk.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.expect("a scratch folder");
        self.tree()
            .write(folder.path())
            .expect("its files can be written");
        Recording(folder)
    }

    /// The machine as it is to be read from [`Declared::record`]: everything but `firmware` (raw tables), `remarks`
    /// and `hidden_switches`, which are left empty.
    pub fn machine(&self) -> Machine {
        machine::build(self)
    }

    /// The machine as [`Declared::machine`] has it, with the NVLinks and MIG instances that NVML tells.
    pub fn machine_by_nvml(&self) -> Machine {
        let mut machine = self.machine();
        machine::add_nvml(self, &mut machine);
        machine
    }

    /// What each GPU tells NVML of its links; empty where NVML is not asked.
    pub fn links_said(&self) -> BTreeMap<PciAddress, Links> {
        machine::said(self)
    }

    /// QEMU's arguments.
    ///
    /// # Errors
    /// [`NotForQemu`]: a virtual machine cannot be like it.
    pub fn qemu(&self) -> Result<Qemu, NotForQemu> {
        qemu::build(self)
    }

    /// The compute capability of its NVIDIA GPUs, as NCCL writes it (`80`); none without any, or of several kinds.
    pub fn capability(&self) -> Option<u32> {
        let gpus = self.gpus();
        let mut all = gpus
            .iter()
            .map(|gpu| gpu.model.capability)
            .filter(|of| *of > 0);
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }

    /// The same machine with `cpus` in place of its own, dealt evenly to its groups of cores in their order; each
    /// is then a core.  For machines whose CPUs must be those of the host that a test runs on.
    #[must_use]
    pub fn on_cpus(mut self, cpus: &[u32]) -> Self {
        let (groups, each) = (self.cores.len(), cpus.len() / self.cores.len().max(1));
        for (index, group) in self.cores.iter_mut().enumerate() {
            let end = if index + 1 == groups {
                cpus.len()
            } else {
                (index + 1) * each
            };
            group.cpus = Indexes(cpus[index * each..end].to_vec());
            group.threads = 1;
        }
        self
    }
}
