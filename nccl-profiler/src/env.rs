//! The env plugin: `NCCL_TOPO_FILE` where nothing else answers for it.
//!
//! NCCL asks the plugin for every variable, after it has merged its configuration files into the
//! environment (`misc/param.cc` `initEnv`), and after a network plugin such as aws-ofi-nccl may have set one.
//! So each question looks at the environment afresh.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use ffi::linux::process::raw_environment;
use ffi::nccl::is_rccl_loaded;
use launch::host::Trust;
use launch::nccl::{topology_file, virtual_topology};
use launch::rank::is_on_several_hosts;
use launch::variables::OwnEnvironment;
use once_cell::sync::OnceCell;

use crate::host;

/// The one variable that is answered.
const TOPO_FILE: &CStr = c"NCCL_TOPO_FILE";
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

/// The topology file that NCCL reads in this process; none where it reads none.
pub(crate) fn topology_path() -> Option<PathBuf> {
    let path = |text: &CStr| PathBuf::from(OsStr::from_bytes(text.to_bytes()));
    let named = std::env::var_os("NCCL_TOPO_FILE").map(PathBuf::from);
    let answered = || {
        sites_file()
            .filter(|_| IS_ASKED.load(Ordering::Relaxed))
            .map(path)
    };
    named.or_else(answered).or_else(virtual_topology)
}

/// The site's file for this job; none where NCCL has a virtual machine's, and where there is none that
/// fits this machine.
fn sites_file() -> Option<&'static CStr> {
    static FILE: OnceCell<Option<CString>> = OnceCell::new();
    if virtual_topology().is_some() {
        return None;
    }
    FILE.get_or_init(find_file).as_deref()
}

fn find_file() -> Option<CString> {
    // It ends the job at a file of NCCL's (rccl, src/graph/xml.cc, `ncclTopoXmlLoadSystem`).
    if is_rccl_loaded() {
        return None;
    }
    let machine = host::snapshot_machine()?;
    let hosts = if is_on_several_hosts(&OwnEnvironment) {
        2
    } else {
        1
    };
    let file = topology_file(machine, host::folder(), hosts, false, Trust::RootOrUser)?;
    CString::new(file.into_os_string().into_encoded_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_holds_is_given_as_it_is() {
        assert!(answer(c"GPU_NUMA_NO_SUCH_VARIABLE").is_null());
        assert!(!answer(c"PATH").is_null());
    }
}
