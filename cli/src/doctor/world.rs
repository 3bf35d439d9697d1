//! What the checks look at: the machine, the host's files, and the Slurm on it.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use clap::Args;
use discovery::Source;
use slurm_config::block_map::BlockMap;
use slurm_config::config::Line;
use slurm_config::cores::{CoreMap, Counts, SocketKind, stops_slurmd};
use slurm_config::node::{self, Node, Shape};
use slurm_config::parameters::{SlurmdParameters, SocketWord};
use slurm_config::release::Release;
use topology::machine::{Gpu, Machine};
use topology::set::CpuSet;

use super::devices;
use super::foretold::Foretold;
use super::installed::{self, Hwloc};
use super::slurm::{self, Asked, Slurm};
use super::tree::Tree;
use crate::command::{CommandError, parse_release};

/// The host that is examined.
pub(crate) struct World<'a> {
    pub(crate) machine: &'a Machine,
    /// The host's files; None for a machine from a single file.
    pub(crate) tree: Option<Tree>,
    /// Whether it is this host.
    pub(crate) is_live: bool,
    /// Whether the GPUs' driver may be asked, which can take seconds; only where this is this host.
    pub(crate) asks_driver: bool,
    /// Slurm's configuration; None where there is no slurm.conf.
    pub(crate) slurm: Option<Slurm>,
    /// The Slurm that is installed, or that the user named; None where not known.
    pub(crate) release: Option<Release>,
    /// A libslurm that no release of the table has; only where the release is not known.
    pub(crate) strange_library: Option<String>,
    /// The hwloc that Slurm is linked with; None where the host has both or none is recorded.
    pub(crate) hwloc: Option<Hwloc>,
    /// What could not be read on the way.
    pub(crate) unread: Vec<String>,
    /// What becomes of the node, by release; found when it is asked for.
    pub(super) foretold: OnceCell<Vec<Foretold>>,
}

/// Which Slurm configuration and release to take, where the user says so.
#[derive(Debug, Default, Args)]
pub(crate) struct Choice {
    /// Read this slurm.conf and the files beside it
    #[arg(long, value_name = "FILE")]
    slurm_conf: Option<PathBuf>,
    /// The release of Slurm, such as 24.11.7, instead of the one found on the host: what an upgrade will say
    #[arg(long, value_name = "RELEASE", value_parser = parse_release)]
    slurm_release: Option<Release>,
}

impl<'a> World<'a> {
    /// The host behind a source, and the Slurm on it.
    pub(crate) fn read(
        machine: &'a Machine,
        source: &Source,
        choice: &Choice,
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
            slurm::read(asked, tree.as_ref(), hostname, is_live).unwrap_or_else(|why| {
                unread.push(format!("Slurm's configuration: {why}"));
                None
            })
        };
        let slurm = match (choice.slurm_conf.as_deref(), &named, &tree) {
            (Some(path), ..) => {
                slurm::read(&Asked::File(path), tree.as_ref(), hostname, is_live)
                    .map_err(|why| CommandError::Argument(format!("--slurm-conf: {why}")))?
            }
            (None, Some(path), _) if is_live => found(&Asked::File(path), &mut unread),
            (None, _, Some(tree)) => found(&Asked::In(tree), &mut unread),
            (None, Some(path), None) => found(&Asked::File(path), &mut unread),
            (None, None, None) => None,
        };
        let (mut release, mut strange_library) = (choice.slurm_release, None);
        // Programs of a slurmd that has files of its own are not run.
        let own = slurm.as_ref().and_then(|own| own.host.as_ref());
        let own = own.filter(|own| is_live && !own.is_this_host());
        let programs = own.or(tree.as_ref());
        if let (Some(_), Some(programs), None) = (&slurm, programs, release) {
            release = installed::find(programs, is_live && own.is_none());
            strange_library = installed::find_strange(programs).filter(|_| release.is_none());
        }
        let hwloc = programs.and_then(installed::find_hwloc);
        Ok(Self {
            machine,
            hwloc,
            tree,
            is_live,
            asks_driver: is_live,
            slurm,
            release,
            strange_library,
            unread,
            foretold: OnceCell::new(),
        })
    }

    /// The same host as it would be with `sockets` of its NUMA nodes for sockets: the word where it goes, and the node's line with them.
    /// None where the word goes nowhere.  Advice is tried in it before it is given.
    pub(crate) fn with_nodes_as_sockets(&self, sockets: &CoreMap) -> Option<Self> {
        let mut slurm = self.slurm.clone()?;
        let mut node = slurm.node.clone()?;
        let mut pairs = sockets.socket_pairs(&node);
        match self.socket_word(SocketKind::NumaNode)? {
            SocketWord::OfNode(words) => pairs.push(("parameters".to_owned(), words)),
            SocketWord::OfCluster(words) => slurm.conf.push(Line {
                file: slurm.path.clone(),
                number: 0,
                pairs: vec![("slurmdparameters".to_owned(), words)],
                spelled: Vec::new(),
                stray: None,
            }),
        }
        node.line.pairs.extend(pairs.iter().cloned());
        node.whole.pairs.extend(pairs);
        slurm.node = Some(node);
        Some(Self {
            machine: self.machine,
            tree: self.tree.clone(),
            is_live: self.is_live,
            asks_driver: false,
            slurm: Some(slurm),
            release: self.release,
            strange_library: self.strange_library.clone(),
            hwloc: self.hwloc,
            unread: Vec::new(),
            foretold: OnceCell::new(),
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
        CoreMap::without(self.machine, kind, &self.left_out(self.release))
    }

    /// The machine as slurmd of `release` counts it; None where its sockets differ.
    pub(crate) fn map_of(&self, release: Option<Release>) -> Option<CoreMap> {
        let kind = self.socket_kind_of(release);
        CoreMap::without(self.machine, kind, &self.left_out(release))
    }

    /// slurmd's map of the machine's CPUs; None where what it counts is not known.
    pub(crate) fn block_map(&self, release: Option<Release>) -> Option<BlockMap> {
        let kind = self.socket_kind_of(release);
        BlockMap::of(self.machine, kind, &self.left_out(release))
    }

    /// What `slurmd -C` of `release` prints; None for a machine without cores.
    pub(crate) fn counts(&self, release: Option<Release>) -> Option<Counts> {
        let kind = self.socket_kind_of(release);
        Counts::of(self.machine, kind, &self.left_out(release))
    }

    /// What slurmctld of `release` holds of a node: what its line declares, or what the machine has where slurmd says that.
    pub(crate) fn shape_of(&self, node: &Node, release: Option<Release>) -> Shape {
        let counts = self.counts(release);
        let shape = |counts: Counts| Shape {
            cpus: counts.cpus as u64,
            sockets: counts.sockets as u64,
            cores_per_socket: counts.cores_per_socket as u64,
            threads_per_core: counts.threads_per_core as u64,
        };
        let own = counts.filter(|_| node.takes_machines_shape()).map(shape);
        own.unwrap_or_else(|| node.geometry().shape())
    }

    /// What `slurmd -C` prints with `kind` for a socket; None for a machine without cores.
    pub(crate) fn counts_with(&self, kind: SocketKind) -> Option<Counts> {
        Counts::of(self.machine, kind, &self.left_out(self.release))
    }

    /// Whether slurmd of `release` does not start here, because it cannot count what it is told to take for sockets.
    pub(crate) fn stops_at_sockets(&self, release: Option<Release>) -> bool {
        stops_slurmd(self.machine, self.socket_kind_of(release))
    }

    /// What the Slurm at hand takes for a socket.
    pub(crate) fn socket_kind(&self) -> SocketKind {
        self.socket_kind_of(self.release)
    }

    /// What slurmd of `release` takes for a socket.
    fn socket_kind_of(&self, release: Option<Release>) -> SocketKind {
        let Some(slurm) = &self.slurm else {
            return SocketKind::Package;
        };
        if self.hwloc != Some(Hwloc::One) {
            return slurm.parameters(release).socket_kind();
        }
        // xcpuinfo.c of hwloc 1: nodes within a socket are sockets, whatever the parameters say.
        let ignores = slurm
            .value("schedulerparameters")
            .is_some_and(|(value, _)| value.to_ascii_lowercase().contains("ignore_numa"));
        if ignores {
            SocketKind::Package
        } else {
            SocketKind::NumaNode
        }
    }

    /// Where the word goes that makes `kind` a socket of this host; None for packages.
    pub(crate) fn socket_word(&self, kind: SocketKind) -> Option<SocketWord> {
        let slurm = self.slurm.as_ref();
        let conf = slurm.map(|slurm| slurm.conf.as_slice());
        let node = slurm.and_then(|slurm| slurm.node.as_ref());
        SocketWord::of(kind, conf.unwrap_or_default(), node, self.release)
    }

    /// The CPUs of E-cores that slurmd of `release` leaves out; empty on processors with one kind of core.
    ///
    /// Linux lists the others in `/sys/devices/cpu_core/cpus` where an Intel processor has both kinds.
    fn left_out(&self, release: Option<Release>) -> CpuSet {
        // `_remove_ecores` is empty in a Slurm that was built with hwloc before 2.5 (slurmd/common/xcpuinfo.c).
        if matches!(self.hwloc, Some(Hwloc::One | Hwloc::WithoutKinds)) {
            return CpuSet::new();
        }
        let parameters = self.slurm.as_ref().map(|slurm| slurm.parameters(release));
        if !parameters.unwrap_or_default().leaves_out_ecores(release) {
            return CpuSet::new();
        }
        let text = self.tree.as_ref().and_then(|tree| {
            tree.exists("/sys/devices/cpu_atom/cpus")
                .then(|| tree.text("/sys/devices/cpu_core/cpus"))?
        });
        let kept = text.and_then(|text| text.parse::<CpuSet>().ok());
        kept.map_or_else(CpuSet::new, |kept| self.machine.online.difference(&kept))
    }

    /// The GPUs that Slurm can give to jobs: those that no other kernel driver has, and that their own has where it has any.
    pub(crate) fn given(&self) -> impl Iterator<Item = &'a Gpu> {
        let gpus = self.machine.gpus.iter();
        gpus.filter(|gpu| self.other_driver(gpu).is_none() && !self.is_left_by_driver(gpu))
    }

    /// How many of them Slurm counts: each part of a GPU that is divided is one.
    pub(crate) fn given_count(&self) -> usize {
        self.given().map(Gpu::parts).sum()
    }

    /// Whether the driver has numbered other GPUs of the vendor and not this one, so that it has no device file.
    pub(crate) fn is_left_by_driver(&self, gpu: &Gpu) -> bool {
        gpu.minor.is_none() && devices::knows_minors(self.machine, gpu.vendor)
    }

    /// The kernel driver that has a GPU instead of its vendor's, such as vfio-pci; None where that is not so or not
    /// recorded.
    pub(crate) fn other_driver(&self, gpu: &Gpu) -> Option<String> {
        let tree = self.tree.as_ref()?;
        let bound = tree.link_name(&format!("/sys/bus/pci/devices/{}/driver", gpu.pci))?;
        let own = gpu.maker().map_or(&[][..], |maker| maker.driver.modules);
        (!own.contains(&bound.as_str())).then_some(bound)
    }

    /// Whether the host has a device file; None where its `/dev` is not recorded.
    pub(crate) fn has_device_file(&self, file: &str) -> Option<bool> {
        let tree = self.tree.as_ref()?;
        tree.exists("/dev").then(|| tree.exists(file))
    }

    /// Whether slurmctld takes a node that has `there` MiB of memory where its line says `given`: `node_reg_mem_percent` of it must
    /// be there (`validate_node_specs`, slurmctld/node_mgr.c).
    #[allow(
        clippy::cast_precision_loss,
        reason = "slurmctld reckons so, and memory in MiB has fewer digits than a double"
    )]
    pub(crate) fn takes_memory(&self, given: u64, there: u64) -> bool {
        let Some(slurm) = &self.slurm else {
            return true;
        };
        let percent = slurm.value("slurmctldparameters").and_then(|(value, _)| {
            let mut words = value.split(',').map(str::trim);
            words.find_map(|word| {
                word.strip_prefix("node_reg_mem_percent=")?
                    .parse::<f64>()
                    .ok()
            })
        });
        let is_cloud = slurm.node.as_ref().is_some_and(Node::is_cloud);
        let percent = percent.unwrap_or(if is_cloud { 90.0 } else { 100.0 });
        there as f64 / given as f64 * 100.0 >= percent
    }

    /// The file system that TmpDisk= is held against: `TmpFS=` with the names of node and host in it, `/tmp` without.
    pub(crate) fn tmp_fs(&self) -> String {
        let slurm = self.slurm.as_ref();
        let given = slurm.and_then(|slurm| slurm.value("tmpfs"));
        let Some((path, _)) = given else {
            return "/tmp".to_owned();
        };
        let node = slurm.and_then(|slurm| slurm.node.as_ref());
        let name = node.map_or("", |node| node.name.as_str());
        let host = self.machine.hostname.as_deref().unwrap_or_default();
        path.replace("%n", name).replace("%h", host)
    }

    /// The size in MiB of that file system as slurmd reports it (`get_tmp_disk`, slurmd/get_mach_stat.c); None where it is not that
    /// of this host.
    pub(crate) fn tmp_disk_mib(&self) -> Option<u64> {
        let bytes = self
            .is_live
            .then(|| ffi::linux::file::file_system_bytes(Path::new(&self.tmp_fs())))?;
        // One that cannot be asked has none, for slurmd.
        Some(bytes.unwrap_or(0) >> 20)
    }

    /// The host's memory in MiB as slurmd reports it; None where `/proc/meminfo` is not recorded.
    pub(crate) fn real_memory_mib(&self) -> Option<u64> {
        let tree = self.tree.as_ref()?;
        node::real_memory_mib(&tree.text("/proc/meminfo")?)
    }
}
