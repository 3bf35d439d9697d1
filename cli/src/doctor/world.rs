//! What the checks look at: the machine, the host's files, and the Slurm on it.

use std::path::{Path, PathBuf};

use discovery::Source;
use slurm_config::cores::{CoreMap, SocketKind};
use slurm_config::node;
use slurm_config::parameters::SlurmdParameters;
use slurm_config::release::Release;
use slurm_config::rules;
use topology::machine::Machine;
use topology::set::CpuSet;

use super::installed;
use super::slurm::{self, Asked, Slurm};
use super::tree::Tree;
use crate::command::CommandError;

/// The host that is examined.
pub(crate) struct World<'a> {
    pub(crate) machine: &'a Machine,
    /// The host's files; None for a machine from a single file.
    pub(crate) tree: Option<Tree>,
    /// Whether it is this host.
    pub(crate) is_live: bool,
    /// Slurm's configuration; None where there is no slurm.conf.
    pub(crate) slurm: Option<Slurm>,
    /// The Slurm that is installed, or that the user named; None where not known.
    pub(crate) release: Option<Release>,
    /// A libslurm that no release of the table has; only where the release is not known.
    pub(crate) strange_library: Option<String>,
    /// What could not be read on the way.
    pub(crate) unread: Vec<String>,
}

/// Which Slurm configuration and release to take, where the user says so.
#[derive(Debug, Default)]
pub(crate) struct Choice<'a> {
    /// `--slurm-conf`.
    pub(crate) slurm_conf: Option<&'a Path>,
    /// `--slurm-release`.
    pub(crate) release: Option<Release>,
}

/// Reads a release of the table, as `24.11` or `24.11.7`, for clap.
pub(crate) fn parse_release(text: &str) -> Result<Release, String> {
    let found = Release::find(text).filter(|release| rules::is_in_table(*release));
    found.ok_or_else(|| {
        format!(
            "expected one of {}, with or without a patch as in 24.11.7",
            rules::list()
        )
    })
}

impl<'a> World<'a> {
    /// The host behind a source, and the Slurm on it.
    pub(crate) fn read(
        machine: &'a Machine,
        source: &Source,
        choice: &Choice<'_>,
    ) -> Result<Self, CommandError> {
        let is_live = *source == Source::ThisMachine;
        let tree = match source {
            Source::ThisMachine => Some(Tree::new(Path::new("/"))),
            Source::Path(path) => path.is_dir().then(|| Tree::new(path)),
        };
        let named = std::env::var_os("SLURM_CONF").map(PathBuf::from);
        let hostname = machine.hostname.as_deref();
        let mut unread = Vec::new();
        let found = |asked: &Asked<'_>, unread: &mut Vec<String>| {
            slurm::read(asked, hostname, is_live).unwrap_or_else(|why| {
                unread.push(format!("Slurm's configuration: {why}"));
                None
            })
        };
        let slurm = match (choice.slurm_conf, &named, &tree) {
            (Some(path), ..) => slurm::read(&Asked::File(path), hostname, is_live)
                .map_err(|why| CommandError::Argument(format!("--slurm-conf: {why}")))?,
            (None, Some(path), _) if is_live => found(&Asked::File(path), &mut unread),
            (None, _, Some(tree)) => found(&Asked::In(tree), &mut unread),
            (None, Some(path), None) => found(&Asked::File(path), &mut unread),
            (None, None, None) => None,
        };
        let (mut release, mut strange_library) = (choice.release, None);
        if let (Some(slurm), None) = (&slurm, release) {
            let programs = tree.as_ref().unwrap_or(&slurm.tree);
            release = installed::find(programs, is_live);
            strange_library = installed::find_strange(programs).filter(|_| release.is_none());
        }
        Ok(Self {
            machine,
            tree,
            is_live,
            slurm,
            release,
            strange_library,
            unread,
        })
    }

    /// What slurmd is told of this host.
    pub(crate) fn parameters(&self) -> SlurmdParameters {
        self.slurm
            .as_ref()
            .map(|slurm| slurm.parameters(self.release))
            .unwrap_or_default()
    }

    /// The machine as Slurm counts it, with `kind` for a socket; None where its sockets differ.
    pub(crate) fn core_map(&self, kind: SocketKind) -> Option<CoreMap> {
        CoreMap::without(self.machine, kind, &self.left_out())
    }

    /// The CPUs of E-cores that slurmd leaves out; empty on processors with one kind of core.
    ///
    /// Linux lists the others in `/sys/devices/cpu_core/cpus` where an Intel processor has both kinds.
    fn left_out(&self) -> CpuSet {
        if !self.parameters().leaves_out_ecores(self.release) {
            return CpuSet::new();
        }
        let text = self.tree.as_ref().and_then(|tree| {
            tree.exists("/sys/devices/cpu_atom/cpus")
                .then(|| tree.text("/sys/devices/cpu_core/cpus"))?
        });
        let kept = text.and_then(|text| text.parse::<CpuSet>().ok());
        kept.map_or_else(CpuSet::new, |kept| self.machine.online.difference(&kept))
    }

    /// The host's memory in MiB as slurmd reports it; None where `/proc/meminfo` is not recorded.
    pub(crate) fn real_memory_mib(&self) -> Option<u64> {
        let tree = self.tree.as_ref()?;
        node::real_memory_mib(&tree.text("/proc/meminfo")?)
    }
}
