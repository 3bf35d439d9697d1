//! What is set for NCCL, and who already answers for it.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use ffi::linux::file::{FileError, read_own_text};
use ffi::linux::process::own_library;
use nccl_topo::emit::Form;
use nccl_topo::site::form_for_job;
use topology::binding::{StepPlan, first_crossing};
use topology::machine::Machine;
use topology::option::Nccl;

use crate::environment::{Environment, PROFILER, TOPO_FILE};
use crate::host::Trust;

/// The profiler plugin's file, beside the library that looks for it.
const PROFILER_FILE: &str = "libnccl-profiler-gpu-numa.so";
/// The file that a virtual machine's fabric manager leaves, which NCCL takes where no other is named
/// (`graph/topo.cc`, 2.30).
const VIRTUAL_TOPOLOGY: &str = "/var/run/nvidia-topologyd/virtualTopology.xml";
/// The configuration file of all users (`misc/param.cc`, 2.30).
const HOST_CONF: &str = "/etc/nccl.conf";
/// The longest NCCL configuration file that is read, in bytes.
const LONGEST_CONF: u64 = 64 << 10;

/// The file that a virtual machine's fabric manager left; none where there is none.
pub fn virtual_topology() -> Option<PathBuf> {
    let path = PathBuf::from(VIRTUAL_TOPOLOGY);
    path.exists().then_some(path)
}

/// The site's topology file in `folder` for a job on `hosts` hosts, where there is one that may be used; with
/// `despite_efa` also where Amazon's adapters bring a topology of their own.
pub fn topology_file(
    machine: &Machine,
    folder: &Path,
    hosts: u32,
    despite_efa: bool,
    trust: Trust,
) -> Option<PathBuf> {
    let name = form_for_job(machine, hosts, despite_efa).map(Form::file_name)?;
    let file = folder.join(name);
    trust.is_usable(&file).then_some(file)
}

/// NCCL's profiler plugin, where it is installed beside this library and it has something to say: always where the
/// user asks for it, else where two GPUs of the job here have no path but the socket link.
pub fn profiler_file(nccl: Nccl, machine: &Machine, plan: &StepPlan) -> Option<PathBuf> {
    let is_wanted = match nccl {
        Nccl::Log => true,
        Nccl::On => first_crossing(machine, plan).is_some(),
        Nccl::Topo | Nccl::Off => false,
    };
    let file = || Some(own_library()?.parent()?.join(PROFILER_FILE));
    is_wanted
        .then(file)?
        .filter(|file| Trust::Root.is_usable(file))
}

/// What already answers NCCL's questions in a task: its environment, and the configuration files that its NCCL will
/// read.
///
/// The files are read only where the environment leaves something open: they may be on a file system that does not
/// answer, and nothing here could end that.
#[derive(Debug)]
pub struct Answered<'e, E> {
    environment: &'e E,
    host_conf: &'e str,
    texts: OnceCell<Vec<String>>,
}

impl<'e, E: Environment> Answered<'e, E> {
    /// Of a task with this environment.
    pub fn in_task(environment: &'e E) -> Self {
        Self {
            environment,
            host_conf: HOST_CONF,
            texts: OnceCell::new(),
        }
    }

    /// Whether the user or a configuration file sets a variable.
    pub fn names(&self, variable: &str) -> bool {
        let sets = |line: &str| {
            let value = line.strip_prefix(variable);
            value.is_some_and(|value| value.starts_with('='))
        };
        self.environment.get(variable).is_some()
            || self.texts().iter().any(|text| text.lines().any(sets))
    }

    /// Whether somebody else already answers for the topology, the fabric manager of a virtual machine too.
    pub fn topology(&self) -> bool {
        virtual_topology().is_some() || self.names(TOPO_FILE)
    }

    /// The texts of those files that there are: the user's own, then the host's (`misc/param.cc` `initEnvFunc`, 2.30).
    /// One that cannot be read to its end might name anything.
    fn texts(&self) -> &[String] {
        self.texts.get_or_init(|| {
            let variable = |name: &str| self.environment.get(name);
            let named = variable("NCCL_CONF_FILE").filter(|path| !path.is_empty());
            let own = named.or_else(|| variable("HOME").map(|home| format!("{home}/.nccl.conf")));
            let files = own.into_iter().chain([self.host_conf.to_owned()]);
            let texts =
                files.filter_map(|path| match read_own_text(Path::new(&path), LONGEST_CONF) {
                    Ok(text) => Some(text),
                    Err(FileError::TooLarge { .. } | FileError::NotText(_)) => {
                        Some(format!("{TOPO_FILE}=\n{PROFILER}=\n"))
                    }
                    Err(_) => None,
                });
            texts.collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::Variables;

    fn answered(conf: &[u8], variables: &[(&str, &str)]) -> (bool, bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nccl.conf");
        std::fs::write(&path, conf).unwrap();
        let mut all = variables.to_vec();
        all.push(("NCCL_CONF_FILE", path.to_str().unwrap()));
        let task = Variables::of(&all);
        let answered = Answered {
            host_conf: "/nonexistent",
            ..Answered::in_task(&task)
        };
        (answered.names(TOPO_FILE), answered.names(PROFILER))
    }

    #[test]
    fn environment_and_configuration_files_answer() {
        assert_eq!(answered(b"", &[("NCCL_TOPO_FILE", "/x")]), (true, false));
        assert_eq!(
            answered(b"NCCL_DEBUG=INFO\nNCCL_PROFILER_PLUGIN=x\n", &[]),
            (false, true)
        );
        assert_eq!(
            answered(b"#NCCL_TOPO_FILE=x\nNCCL_TOPO_FILES=x\n", &[]),
            (false, false)
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_whole_may_name_anything() {
        assert_eq!(answered(&[0xff], &[]), (true, true));
        assert_eq!(answered(&vec![b'#'; 70_000], &[]), (true, true));
    }
}
