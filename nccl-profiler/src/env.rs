//! The env plugin: `NCCL_TOPO_FILE` where nothing else answers for it.
//!
//! NCCL asks the plugin for every variable, after it has merged its configuration files into the
//! environment (`misc/param.cc` `initEnv`), and after a network plugin such as aws-ofi-nccl may have set one.
//! So each question looks at the environment afresh.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ffi::linux::process::raw_environment;
use once_cell::sync::OnceCell;
use topology::snapshot::nccl_file;

use crate::host;

/// The one variable that is answered.
const TOPO_FILE: &CStr = c"NCCL_TOPO_FILE";
/// The file that a virtual machine's fabric manager leaves, which NCCL takes where no other is named
/// (`graph/topo.cc`).
const VIRTUAL_TOPOLOGY: &str = "/var/run/nvidia-topologyd/virtualTopology.xml";

/// Whether NCCL has this library as its env plugin, and not as its profiler alone.
static IS_ASKED: AtomicBool = AtomicBool::new(false);

/// The value of a variable; null where it has none.
pub(crate) fn answer(name: &CStr) -> *const c_char {
    IS_ASKED.store(true, Ordering::Relaxed);
    let set = raw_environment(name);
    if !set.is_null() || name != TOPO_FILE {
        return set;
    }
    sites_file().map_or(std::ptr::null(), CStr::as_ptr)
}

/// The topology file that NCCL reads in this process; absent where it reads none.
pub(crate) fn topology_path() -> Option<PathBuf> {
    let path = |text: &CStr| PathBuf::from(OsStr::from_bytes(text.to_bytes()));
    let named = std::env::var_os("NCCL_TOPO_FILE").map(PathBuf::from);
    let answered = || {
        sites_file()
            .filter(|_| IS_ASKED.load(Ordering::Relaxed))
            .map(path)
    };
    named.or_else(answered).or_else(|| {
        let virtual_machine = PathBuf::from(VIRTUAL_TOPOLOGY);
        virtual_machine.exists().then_some(virtual_machine)
    })
}

/// The site's file for this job; absent where NCCL has a virtual machine's, and where there is none that
/// fits this machine.
fn sites_file() -> Option<&'static CStr> {
    static FILE: OnceCell<Option<CString>> = OnceCell::new();
    if Path::new(VIRTUAL_TOPOLOGY).exists() {
        return None;
    }
    FILE.get_or_init(find_file).as_deref()
}

fn find_file() -> Option<CString> {
    let machine = host::snapshot_machine()?;
    let hosts = if is_on_several_hosts(|name| std::env::var(name).ok()) {
        2
    } else {
        1
    };
    let file = host::folder().join(nccl_file(machine, hosts, false)?);
    host::is_usable_file(&file)
        .then(|| CString::new(file.into_os_string().into_encoded_bytes()).ok())?
}

/// Whether the job runs on several hosts, by what its launcher says; every rank of a host says the same.
fn is_on_several_hosts(variable: impl Fn(&str) -> Option<String>) -> bool {
    let number = |name: &str| variable(name)?.trim().parse::<u64>().ok();
    let counted = [
        "SLURM_JOB_NUM_NODES",
        "SLURM_NNODES",
        "SLURM_STEP_NUM_NODES",
    ];
    if counted
        .iter()
        .filter_map(|name| number(name))
        .any(|hosts| hosts > 1)
    {
        return true;
    }
    [
        ("WORLD_SIZE", "LOCAL_WORLD_SIZE"),
        ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
        ("PMI_SIZE", "MPI_LOCALNRANKS"),
    ]
    .iter()
    .any(|(all, here)| matches!((number(all), number(here)), (Some(all), Some(here)) if all > here))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launcher_tells_how_many_hosts_there_are() {
        let among = |set: &'static [(&'static str, &'static str)]| {
            is_on_several_hosts(move |name| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(!among(&[]));
        assert!(among(&[("SLURM_JOB_NUM_NODES", "2")]));
        assert!(!among(&[("SLURM_JOB_NUM_NODES", "1"), ("WORLD_SIZE", "8")]));
        assert!(among(&[("WORLD_SIZE", "16"), ("LOCAL_WORLD_SIZE", "8")]));
        assert!(!among(&[("WORLD_SIZE", "8"), ("LOCAL_WORLD_SIZE", "8")]));
        assert!(!among(&[("WORLD_SIZE", "many"), ("LOCAL_WORLD_SIZE", "8")]));
    }

    #[test]
    fn what_the_environment_holds_is_given_as_it_is() {
        assert!(answer(c"GPU_NUMA_NO_SUCH_VARIABLE").is_null());
        assert!(!answer(c"PATH").is_null());
    }
}
