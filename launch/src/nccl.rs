//! What is set for NCCL, and who already answers for it.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use ffi::linux::file::{FileError, FileId, read_own_text, roots_file};
use ffi::linux::process::own_library;
use ffi::linux::users_file::{Unread, read_users_text};
use nccl_topo::conf::set_in;
use nccl_topo::emit::Form;
use nccl_topo::settings::reach;
use nccl_topo::site::form_for_job;
use topology::binding::{StepPlan, first_apart, first_crossing};
use topology::machine::Machine;
use topology::option::Nccl;

use crate::environment::{PROFILER, TOPO_FILE};
use crate::host::Trust;
use crate::variables::Environment;

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
    let file = topology_path(machine, folder, hosts, despite_efa)?;
    trust.is_usable(&file).then_some(file)
}

fn topology_path(
    machine: &Machine,
    folder: &Path,
    hosts: u32,
    despite_efa: bool,
) -> Option<PathBuf> {
    let name = form_for_job(machine, hosts, despite_efa).map(Form::file_name)?;
    Some(folder.join(name))
}

/// A file of root's that may be used, as it was found.
#[derive(Debug)]
pub struct UsableFile {
    path: PathBuf,
    /// The path as a variable has it.
    text: String,
    id: FileId,
}

impl UsableFile {
    fn find(path: PathBuf) -> Option<Self> {
        let id = roots_file(&path)?;
        let text = path.to_string_lossy().into_owned();
        Some(Self { path, text, id })
    }

    /// Its path.
    pub fn path(&self) -> &str {
        &self.text
    }

    /// Whether the caller, maybe in a mount namespace of its own, may use it too.
    fn is_usable_here(&self) -> bool {
        self.id.is_at(&self.path) || Trust::Root.is_usable(&self.path)
    }
}

/// The files that a step on this host may name to NCCL, found before its tasks begin.
#[derive(Debug, Default)]
pub struct StepFiles {
    /// The site's topology file for the job.
    pub topology: Option<UsableFile>,
    /// The profiler plugin, beside this library.
    pub profiler: Option<UsableFile>,
}

impl StepFiles {
    /// Finds those that `nccl` lets a step name; `site_nccl` is what the site asked for by itself.
    pub fn find(
        machine: &Machine,
        folder: Option<&Path>,
        hosts: u32,
        nccl: Nccl,
        site_nccl: Option<Nccl>,
    ) -> Self {
        let despite_efa = site_nccl == Some(Nccl::Topo);
        let topology = || UsableFile::find(topology_path(machine, folder?, hosts, despite_efa)?);
        let profiler = || UsableFile::find(own_library()?.parent()?.join(PROFILER_FILE));
        Self {
            topology: (nccl != Nccl::Off).then(topology).flatten(),
            profiler: matches!(nccl, Nccl::Log | Nccl::On)
                .then(profiler)
                .flatten(),
        }
    }

    /// Whether `nccl` asks for a line in NCCL's log always, and the plugin that writes it may not be used or is not there.
    pub fn lacks_log(&self, nccl: Nccl) -> bool {
        nccl == Nccl::Log && self.profiler.is_none()
    }

    /// Which of them the tasks of a step with this plan name, as far as that is the same for all: none that somebody
    /// answers for on the whole host.  `answered` is of any of them: P2P is set for a step, not for a task.
    pub fn wanted<E: Environment>(
        &self,
        nccl: Nccl,
        machine: &Machine,
        plan: &StepPlan,
        answered: &Answered<'_, E>,
    ) -> WantedFiles {
        let speaks = match nccl {
            Nccl::Log => Speaks::Always,
            Nccl::On if first_crossing(machine, plan).is_some() => Speaks::Always,
            Nccl::On if first_apart(machine, plan).is_some() => Speaks::WithoutNvlink,
            Nccl::On | Nccl::Topo | Nccl::Off => Speaks::Never,
        };
        // RCCL, which reads the same variables, ends a job at a file of NCCL's (rccl, src/graph/xml.cc,
        // `ncclTopoXmlLoadSystem`: another version of the format).
        let gpus = plan.tasks.iter().flat_map(|task| &task.gpus);
        let mut gpus = gpus.filter_map(|pci| machine.gpu(*pci));
        if gpus.any(|gpu| !gpu.has_nccl()) {
            return WantedFiles::default();
        }
        let is_there = |file: &&UsableFile| file.is_usable_here();
        let topology = self.topology.as_ref().filter(is_there);
        let profiler = self.profiler.as_ref();
        let profiler = profiler
            .filter(|_| speaks != Speaks::Never)
            .filter(is_there);
        if topology.is_none() && profiler.is_none() {
            return WantedFiles::default();
        }
        let conf = read_host_conf();
        let conf = conf.as_deref();
        let is_named = |variable| conf.is_some_and(|text| set_in(text, variable).is_some());
        let speaks_here = || match speaks {
            Speaks::Always => true,
            Speaks::WithoutNvlink => {
                let value = |name: &str| {
                    let by_host = || set_in(conf?, name).map(str::to_owned);
                    answered.value(name).or_else(by_host)
                };
                reach(value).leaves_nvlinks()
            }
            Speaks::Never => false,
        };
        WantedFiles {
            topology: topology.is_some() && !is_named(TOPO_FILE) && virtual_topology().is_none(),
            profiler: profiler.is_some() && !is_named(PROFILER) && speaks_here(),
        }
    }
}

/// When the profiler plugin has something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// Whatever NCCL's settings are.
    Always,
    /// Where they let NVLinks carry nothing: the GPUs are at several packages.
    WithoutNvlink,
    /// Never.
    Never,
}

/// Which files the tasks of a step name to NCCL, where their users do not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WantedFiles {
    /// The site's topology file.
    pub topology: bool,
    /// The profiler plugin.
    pub profiler: bool,
}

/// What a task's user answers NCCL: its environment, and the configuration file that its NCCL will read.
///
/// The file is read only where the environment leaves something open, and never waited for ([`ffi::linux::users_file`]).
#[derive(Debug)]
pub struct Answered<'e, E> {
    environment: &'e E,
    conf: OnceCell<UsersConf>,
}

/// A user's configuration file.
#[derive(Debug)]
enum UsersConf {
    /// None that NCCL could read.
    None,
    /// Its text.
    Text(String),
    /// It may name anything: its file system was not waited for, or NCCL reads what is read in no other way.
    AnyThing(Unread),
}

impl<'e, E: Environment> Answered<'e, E> {
    /// Of a task with this environment.
    pub fn in_task(environment: &'e E) -> Self {
        Self {
            environment,
            conf: OnceCell::new(),
        }
    }

    /// Whether the user or the user's configuration file sets a variable; true too where the file cannot be read.
    pub fn names(&self, variable: &str) -> bool {
        let in_conf = || match self.conf() {
            UsersConf::None => false,
            UsersConf::Text(text) => set_in(text, variable).is_some(),
            UsersConf::AnyThing(_) => true,
        };
        self.environment.has(variable) || in_conf()
    }

    /// What the user or the user's configuration file sets a variable to; none where neither does, and where the file cannot
    /// be read.
    fn value(&self, variable: &str) -> Option<String> {
        let in_conf = || match self.conf() {
            UsersConf::Text(text) => set_in(text, variable).map(str::to_owned),
            UsersConf::None | UsersConf::AnyThing(_) => None,
        };
        self.environment.get(variable).or_else(in_conf)
    }

    /// Why it is not known what the configuration file sets; none where that is known, or where it was not looked at.
    pub fn unread(&self) -> Option<&Unread> {
        match self.conf.get()? {
            UsersConf::AnyThing(why) => Some(why),
            UsersConf::None | UsersConf::Text(_) => None,
        }
    }

    fn conf(&self) -> &UsersConf {
        self.conf.get_or_init(|| {
            let Some(path) = self.conf_path() else {
                return UsersConf::None;
            };
            match read_users_text(&path, LONGEST_CONF) {
                Ok(text) => UsersConf::Text(text),
                Err(Unread::Missing) => UsersConf::None,
                Err(why @ (Unread::Unusable | Unread::NotAsked { .. })) => UsersConf::AnyThing(why),
            }
        })
    }

    /// The user's own file (`misc/param.cc` `initEnvFunc`, 2.30).
    fn conf_path(&self) -> Option<PathBuf> {
        let named = self.environment.path("NCCL_CONF_FILE");
        let named = named.filter(|path| !path.as_os_str().is_empty());
        let own = || {
            let mut file = self.environment.path("HOME")?.into_os_string();
            file.push("/.nccl.conf");
            Some(PathBuf::from(file))
        };
        named.or_else(own)
    }
}

/// The configuration file of all users; none where there is none that NCCL could read.  One that cannot be read to its
/// end might name anything.
fn read_host_conf() -> Option<String> {
    match read_own_text(Path::new(HOST_CONF), LONGEST_CONF) {
        Ok(text) => Some(text),
        Err(FileError::TooLarge { .. } | FileError::NotText(_)) => {
            Some(format!("{TOPO_FILE}=\n{PROFILER}=\n"))
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::tests::Variables;

    fn answered(conf: &[u8], variables: &[(&str, &str)]) -> (bool, bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nccl.conf");
        std::fs::write(&path, conf).unwrap();
        let mut all = variables.to_vec();
        all.push(("NCCL_CONF_FILE", path.to_str().unwrap()));
        let task = Variables::of(&all);
        let answered = Answered::in_task(&task);
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
    fn a_file_that_is_not_there_names_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nccl.conf");
        let task = Variables::of(&[("NCCL_CONF_FILE", path.to_str().unwrap())]);
        assert!(!Answered::in_task(&task).names(TOPO_FILE));
        assert!(!Answered::in_task(&Variables::of(&[])).names(PROFILER));
    }

    #[test]
    fn a_file_that_cannot_be_read_whole_may_name_anything() {
        assert_eq!(answered(&[0xff], &[]), (true, true));
        assert_eq!(answered(&vec![b'#'; 70_000], &[]), (true, true));
    }
}
