//! Slurm's rules by release: the one table of what changed when.
//!
//! Each row of [`TABLE`] is a series; it states what it changed and takes the rest from the row before.  Each
//! field of [`Series`] names the place in Slurm's sources where its rule is read.  To add a release, see
//! ARCHITECTURE.md, "To add a Slurm release".

use std::fmt;

use crate::cores::{CoreMap, CoreSet};
use crate::node::Shape;
use crate::release::Release;
use topology::machine::Locality;

/// The rules of one series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    /// Year and month.
    pub number: (u32, u32),
    /// `SLURM_API_CURRENT` (META): N of `libslurm.so.N`, and what `slurm_api_version()` gives, shifted by 16.
    pub api: u32,
    /// Whether our SPANK plugin offers itself to this series: its released `spank.h` (slurm/) was compared, and has
    /// only gained functions that the plugin does not call.
    pub loads_plugin: bool,
    /// Which `Cores=` of gres.conf, and which cores found by AutoDetect, slurmctld takes
    /// (`_check_core_range_matches_sock`, interfaces/gres.c; in 24.11.0 and 24.11.1 a loop in `_foreach_rebuild_topo`).
    pub cores: CoresRule,
    /// The methods of gres.conf's `AutoDetect=` other than off (`_handle_autodetect_flags`, interfaces/gres.c;
    /// common/gres.c in 22.05).
    pub autodetect: &'static [&'static str],
    /// Whether slurmd registers the machine's sockets where the node's line divides as many cores into other ones
    /// (`_read_config`, slurmd/slurmd.c); else it registers those of the line.
    pub divides_as_the_machine: bool,
    /// What `RestrictedCoresPerGPU=` of a node's line does (`validate_node_specs` and `_set_gpu_spec`, slurmctld/node_mgr.c).
    pub restricted_cores: RestrictedCores,
    /// Whether `Parameters=` on a node's line and `slurmd --parameters` are joined to SlurmdParameters
    /// (`_parse_nodename`, common/read_config.c; slurmd/slurmd.c).
    pub has_node_parameters: bool,
    /// Whether slurmd leaves Intel's E-cores out unless SlurmdParameters has `allow_ecores`
    /// (`_remove_ecores`, slurmd/common/xcpuinfo.c).
    pub leaves_out_ecores: bool,
    /// Whether gres.conf has `Flags=env_uuid`, which puts UUIDs in CUDA_VISIBLE_DEVICES; series without it ignore
    /// the word (`gres_flags_parse`, interfaces/gres.c).
    pub has_env_uuid: bool,
    /// The plugins of TaskPlugin=, ProctrackType= and SelectType= (src/plugins/task, proctrack and select); `none` is no task
    /// plugin in every series.
    pub task_plugins: &'static [&'static str],
    /// See [`Series::task_plugins`].
    pub proctrack_plugins: &'static [&'static str],
    /// See [`Series::task_plugins`].
    pub select_plugins: &'static [&'static str],
    /// What stands for SelectType= where there is none (`DEFAULT_SELECT_TYPE`, common/read_config.h).
    pub default_select: &'static str,
    /// The plugins of TopologyPlugin= (src/plugins/topology); `none` and, while it is one, `default` stand for no plugin.
    pub topology_plugins: &'static [&'static str],
    /// The plugins of SwitchType=.
    pub switch_plugins: &'static [&'static str],
    /// The plugins of MCSPlugin=.
    pub mcs_plugins: &'static [&'static str],
    /// The plugins of JobContainerType=, and of NamespaceType= where the series has it.
    pub container_plugins: &'static [&'static str],
    /// The plugins of AccountingStorageType=; mysql is slurmdbd's own, which [`crate::demands`] says.
    pub storage_plugins: &'static [&'static str],
    /// The plugins of JobCompType=; empty where slurmctld goes on without one (`jobcomp_g_init`, slurmctld/read_config.c).
    pub jobcomp_plugins: &'static [&'static str],
    /// Whether slurmd loads the plugin of AccountingStorageType= (`acct_storage_g_init`, slurmd/slurmd.c); slurmctld does in every series.
    pub slurmd_loads_storage: bool,
    /// Whether slurmd loads the plugin of SelectType= (`select_g_init`, slurmd/slurmd.c); slurmctld does in every series.
    pub slurmd_loads_select: bool,
    /// Whether slurmd loads its cgroup plugin although no other plugin needs it, and CgroupPlugin= may be `disabled`
    /// (`cgroup_g_init`, interfaces/cgroup.c).
    pub loads_cgroup: bool,
    /// Which `Flags=` of gres.conf must be the same on every line of a GRES (`_parse_gres_config`, interfaces/gres.c).
    pub flags: FlagsRule,
}

/// What becomes of a node whose line has `RestrictedCoresPerGPU=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestrictedCores {
    /// The release does not have it.
    NotThere,
    /// It is drained where its GPUs do not have as many cores; what else slurmctld has against its GPUs is forgotten.
    Alone,
    /// It is drained where its GPUs do not have as many cores, and for all that a node without it is drained for.
    Besides,
}

/// Which `Flags=` must be the same on every line of a GRES.  A line without Flags= takes those of the line before, and the
/// first line without any has flags that no Flags= can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagsRule {
    /// The words for a job's environment, such as `nvidia_gpu_env`, alone.
    Environment,
    /// All words of a line that has any, also of one whose words are all unknown.
    All,
    /// All words of a line that has one for a job's environment.
    AllWithEnvironment,
}

/// Which sets of Slurm's core numbers may stand for a GPU's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoresRule {
    /// Any set of cores.
    AnySet,
    /// Every socket that is touched must be touched whole; several whole sockets are fine.
    WholeSockets,
    /// All cores of the node, or all cores of exactly one socket.
    OneSocketOrAll,
}

const V22_05: Series = Series {
    number: (22, 5),
    api: 38,
    loads_plugin: true,
    cores: CoresRule::AnySet,
    autodetect: &["nvml", "rsmi", "oneapi"],
    divides_as_the_machine: true,
    restricted_cores: RestrictedCores::NotThere,
    has_node_parameters: false,
    leaves_out_ecores: false,
    has_env_uuid: false,
    flags: FlagsRule::Environment,
    task_plugins: &["affinity", "cgroup", "none", "cray_aries"],
    proctrack_plugins: &["cgroup", "linuxproc", "pgid", "cray_aries"],
    select_plugins: &["cons_tres", "linear", "cons_res", "cray_aries"],
    default_select: "select/linear",
    topology_plugins: &["3d_torus", "hypercube", "tree"],
    switch_plugins: &["cray_aries", "hpe_slingshot"],
    mcs_plugins: &["account", "group", "user"],
    container_plugins: &["cncu", "tmpfs"],
    storage_plugins: &["mysql", "slurmdbd"],
    jobcomp_plugins: &[],
    slurmd_loads_storage: false,
    slurmd_loads_select: true,
    loads_cgroup: false,
};
const V23_02: Series = Series {
    number: (23, 2),
    api: 39,
    flags: FlagsRule::All,
    jobcomp_plugins: &[
        "elasticsearch",
        "filetxt",
        "kafka",
        "lua",
        "mysql",
        "script",
    ],
    leaves_out_ecores: true,
    ..V22_05
};
const V23_11: Series = Series {
    number: (23, 11),
    api: 40,
    autodetect: &["nvml", "rsmi", "oneapi", "nrt"],
    select_plugins: &["cons_tres", "linear", "cray_aries"],
    default_select: "select/cons_tres",
    topology_plugins: &["3d_torus", "block", "default", "tree"],
    ..V23_02
};
const V24_05: Series = Series {
    number: (24, 5),
    api: 41,
    restricted_cores: RestrictedCores::Alone,
    task_plugins: &["affinity", "cgroup", "none"],
    proctrack_plugins: &["cgroup", "linuxproc", "pgid"],
    select_plugins: &["cons_tres", "linear"],
    switch_plugins: &["hpe_slingshot", "nvidia_imex"],
    container_plugins: &["tmpfs"],
    storage_plugins: &["ctld_relay", "mysql", "slurmdbd"],
    loads_cgroup: true,
    ..V23_11
};
const V24_11: Series = Series {
    number: (24, 11),
    api: 42,
    cores: CoresRule::WholeSockets,
    autodetect: &["nvml", "rsmi", "oneapi", "nrt", "nvidia"],
    mcs_plugins: &["account", "group", "label", "user"],
    ..V24_05
};
const V25_05: Series = Series {
    number: (25, 5),
    api: 43,
    restricted_cores: RestrictedCores::Besides,
    slurmd_loads_select: false,
    slurmd_loads_storage: true,
    topology_plugins: &["block", "default", "flat", "tree"],
    ..V24_11
};
const V25_11: Series = Series {
    number: (25, 11),
    api: 44,
    cores: CoresRule::OneSocketOrAll,
    divides_as_the_machine: false,
    has_node_parameters: true,
    container_plugins: &["linux", "tmpfs"],
    ..V25_05
};
const V26_05: Series = Series {
    number: (26, 5),
    api: 45,
    autodetect: &["full", "nvml", "rsmi", "oneapi", "nrt", "nvidia"],
    has_env_uuid: true,
    flags: FlagsRule::AllWithEnvironment,
    topology_plugins: &["block", "default", "flat", "ring", "torus3d", "tree"],
    ..V25_11
};
// Read in the development tree (26.11.0-0rc1).
const V26_11: Series = Series {
    number: (26, 11),
    api: 46,
    loads_plugin: false,
    ..V26_05
};

/// Every series, oldest first.
pub const TABLE: &[Series] = &[
    V22_05, V23_02, V23_11, V24_05, V24_11, V25_05, V25_11, V26_05, V26_11,
];

impl Series {
    /// The rules that hold for `release`: its own row, else that of the newest series before it; the oldest row for
    /// releases before the table.
    pub fn of(release: Release) -> &'static Self {
        let before = TABLE
            .iter()
            .rev()
            .find(|series| series.number <= release.series());
        before.unwrap_or(&V22_05)
    }

    /// The last row.
    pub fn newest() -> &'static Self {
        TABLE.last().unwrap_or(&V22_05)
    }

    /// The series whose library is `libslurm.so.API`.
    pub fn of_api(api: u32) -> Option<&'static Self> {
        TABLE.iter().find(|series| series.api == api)
    }

    /// Its release number, without a patch.
    pub const fn release(&self) -> Release {
        Release::of_series(self.number)
    }

    /// The method of [`Series::autodetect`] that slurmd takes from `value`: the first that is found in it.
    pub fn autodetect_of(&self, value: &str) -> Option<&'static str> {
        let value = value.to_ascii_lowercase();
        let mut methods = self.autodetect.iter().copied();
        methods.find(|method| value.contains(method))
    }
}

/// The series that first knew an AutoDetect method; None where no series of the table knows it.
pub fn first_with_autodetect(value: &str) -> Option<&'static Series> {
    TABLE
        .iter()
        .find(|series| series.autodetect_of(value).is_some())
}

/// The series that first had `Parameters=` on a node's line.
pub fn first_with_node_parameters() -> Option<&'static Series> {
    TABLE.iter().find(|series| series.has_node_parameters)
}

/// The method that the newest series takes from an AutoDetect= value.
pub fn newest_autodetect(value: &str) -> Option<&'static str> {
    Series::newest().autodetect_of(value)
}

/// The words of `Flags=` in gres.conf, which slurmd looks for anywhere in the value (`gres_flags_parse`, interfaces/gres.c), and the first
/// series that has them.
const GRES_FLAGS: [(&str, (u32, u32)); 10] = [
    ("countonly", (0, 0)),
    ("nvidia_gpu_env", (0, 0)),
    ("amd_gpu_env", (0, 0)),
    ("intel_gpu_env", (0, 0)),
    ("opencl_env", (0, 0)),
    ("no_gpu_env", (0, 0)),
    ("one_sharing", (0, 0)),
    ("all_sharing", (0, 0)),
    ("explicit", (23, 2)),
    ("env_uuid", (26, 5)),
];

/// The words of a `Flags=` that slurmd of `release` passes over, and the word that each may be meant for.
pub fn unknown_flags(value: &str, release: Release) -> Vec<(String, Option<&'static str>)> {
    let known = || {
        let all = GRES_FLAGS.iter();
        all.filter(move |(_, since)| *since <= release.series())
            .map(|(name, _)| *name)
    };
    let words = value
        .split(',')
        .map(|word| word.trim().to_ascii_lowercase());
    let strange = words.filter(|word| !word.is_empty() && !known().any(|name| word.contains(name)));
    // `nvidia_env` is too far from its word to be a slip of letters.
    let meant = |word: &str| {
        let first = word.split('_').next().unwrap_or_default();
        let by_maker = known()
            .find(|name| name.ends_with("_gpu_env") && name.split('_').next() == Some(first));
        topology::text::nearest(word, known()).or(by_maker)
    };
    strange.map(|word| (word.clone(), meant(&word))).collect()
}

/// Whether a method of AutoDetect tries all the others.
pub fn tries_every_method(method: &str) -> bool {
    method == "full"
}

/// Whether a method of AutoDetect gives each GPU a list of links to all that it finds, linked or not: all but `nvidia` do
/// (`gres_links_create_empty` and its like in plugins/gpu/*, 22.05 to 26.05).
pub fn gives_links(method: &str) -> bool {
    method != "nvidia"
}

/// The first release that looks for NVML under its versioned name, too (`_get_gpu_type`, interfaces/gpu.c).
pub const VERSIONED_NVML: Release = Release {
    major: 24,
    minor: 5,
    micro: Some(5),
};

/// The names by which slurmd of `release` looks for the vendor's library of an AutoDetect method; it finds no GPU where it has none
/// of them.  Empty where the method needs none; a series without a patch stands for its newest one.
pub fn libraries_of_detection(method: &str, release: Release) -> &'static [&'static str] {
    match method {
        "nvml" if is_before(release, VERSIONED_NVML) => &["libnvidia-ml.so"],
        "nvml" => &["libnvidia-ml.so", "libnvidia-ml.so.1"],
        "rsmi" => &["librocm_smi64.so"],
        "oneapi" => &["libze_loader.so"],
        _ => &[],
    }
}

/// The first release whose slurmctld goes on where gres.conf has AutoDetect for a node with State=CLOUD (`gres_g_node_config_load`,
/// interfaces/gres.c; `fatal` before it).
pub const DETECTION_OF_CLOUDS: Release = Release {
    major: 23,
    minor: 11,
    micro: Some(4),
};

/// Whether slurmctld of `release` stops where gres.conf has AutoDetect for a node with State=CLOUD; a series without a patch stands for
/// its newest one.
pub fn stops_at_detection_of_clouds(release: Release) -> bool {
    is_before(release, DETECTION_OF_CLOUDS)
}

/// Whether slurmctld of `release` refuses a node that registers itself with a `Topology=` that it does not have
/// (`validate_node_specs`, slurmctld/node_mgr.c); before it such a value is forgotten (`create_dynamic_reg_node`).
pub fn refuses_topologies(release: Release) -> bool {
    release.series() >= (26, 5)
}

/// The first release whose slurmd keeps a GPU of several files whole beside gres/shard and gres/mps (`_build_sharing_list`,
/// plugins/gres/common/gres_c_s.c).
pub const SEVERAL_FILES_BESIDE_SHARING: Release = Release {
    major: 23,
    minor: 2,
    micro: Some(7),
};

/// Whether slurmd of `release` takes each file of `MultipleFiles=`, and of a MIG instance that AutoDetect finds, for a GPU of its own
/// where GresTypes= has a GRES that shares GPUs; a series without a patch stands for its newest one.
pub fn splits_several_files(release: Release) -> bool {
    is_before(release, SEVERAL_FILES_BESIDE_SHARING)
}

/// The first release whose slurmctld counts the cores of all tasks of a step together (`_pick_step_cores`, slurmctld/step_mgr.c).
pub(crate) const COUNTS_CORES_OF_ALL_TASKS: Release = Release {
    major: 23,
    minor: 2,
    micro: Some(3),
};

/// Whether slurmctld of `release` gives a step whole cores for each task that asks for more CPUs than a core has, so that two tasks of
/// 3 CPUs get four cores of two threads and not three; a series without a patch stands for its newest one.
pub fn counts_cores_of_each_task(release: Release) -> bool {
    is_before(release, COUNTS_CORES_OF_ALL_TASKS)
}

/// The first release whose slurmd finds a core's CPUs by the machine's threads of a core (`xcpuinfo_mac_to_abs` and
/// `xcpuinfo_abs_to_mac`, slurmd/common/xcpuinfo.c).
pub const COUNTS_THE_MACHINES_THREADS: Release = Release {
    major: 23,
    minor: 11,
    micro: None,
};

/// Whether slurmd of `release` finds a core's CPUs by the machine's threads of a core; before that by those of the node's line, and where
/// these are fewer it takes CPUs for those of other cores.
pub fn counts_the_machines_threads(release: Release) -> bool {
    release.series() >= COUNTS_THE_MACHINES_THREADS.series()
}

/// The first release whose slurmctld rounds a task's share of a step's cores up (`_pick_step_cores`, slurmctld/step_mgr.c).
pub(crate) const ROUNDS_CORES_UP: Release = Release {
    major: 23,
    minor: 2,
    micro: Some(5),
};

/// Whether slurmctld of `release` takes one core of each socket in turn where a step has fewer cores than tasks; before that it takes all
/// of one socket before it goes to the next.  A series without a patch stands for its newest one.
pub fn rounds_cores_up(release: Release) -> bool {
    !is_before(release, ROUNDS_CORES_UP)
}

/// The patch before `first`; before the first of a series the newest of the series before, where the table has one.
pub fn release_before(first: Release) -> Release {
    if let Some(micro @ 1..) = first.micro {
        return Release {
            micro: Some(micro - 1),
            ..first
        };
    }
    let mut older = TABLE.iter().rev().filter(|row| row.number < first.series());
    older.next().map_or(first, Series::release)
}

/// The first release whose slurmctld counts a job's cores where a step takes all of them (`_pick_step_cores`, slurmctld/step_mgr.c);
/// before it took the number of the job's CPUs for that of cores.
pub(crate) const COUNTS_CORES_OF_WHOLE_JOB: Release = Release {
    major: 23,
    minor: 11,
    micro: Some(0),
};

/// Whether slurmctld of `release` looks for as many cores as the job has, for a step that takes them all, and not for as many as it
/// has CPUs.
pub fn counts_cores_of_whole_job(release: Release) -> bool {
    !is_before(release, COUNTS_CORES_OF_WHOLE_JOB)
}

/// Whether `release` is before the patch `first`; a series without a patch stands for its newest one.
fn is_before(release: Release, first: Release) -> bool {
    release.series() < first.series() || release.micro.is_some() && release < first
}

/// Whether `release` stands in the table, whatever its patch.
pub fn is_in_table(release: Release) -> bool {
    Series::of(release).number == release.series()
}

/// Whether the plugin offers itself to `release`.
pub fn loads_plugin(release: Release) -> bool {
    is_in_table(release) && Series::of(release).loads_plugin
}

/// Every series as `22.05, 23.02, ...`.
pub fn list() -> String {
    let numbers: Vec<String> = TABLE
        .iter()
        .map(|series| series.release().to_string())
        .collect();
    numbers.join(", ")
}

/// Every series of a year that is written as `25`; none where `text` is no year of the table.
pub fn of_year(text: &str) -> Vec<String> {
    let numbers = TABLE.iter().map(|series| series.release().to_string());
    let of_year = numbers.filter(|number| number.split('.').next() == Some(text));
    of_year.collect()
}

/// The series that load the plugin, as `22.05 to 26.05`.
pub fn plugin_range() -> String {
    let mut loading = TABLE.iter().filter(|series| series.loads_plugin);
    let first = loading.next();
    let last = loading.next_back().or(first);
    let [first, last] = [first, last]
        .map(|series| series.map_or_else(String::new, |own| own.release().to_string()));
    format!("{first} to {last}")
}

impl CoresRule {
    /// The rule of a release.  Where it is not known, the newest series' rule, which no other series refuses.
    pub fn of(release: Option<Release>) -> Self {
        release.map_or(Self::OneSocketOrAll, |release| Series::of(release).cores)
    }

    /// Whether slurmctld takes `cores` for a GPU.
    pub fn admits(self, map: &CoreMap, cores: &CoreSet) -> bool {
        self.admits_in(map.shape(), cores)
    }

    /// Whether slurmctld takes `cores` for a GPU of a node of `shape`, which is what its line says, also where the
    /// machine has more.
    pub fn admits_in(self, shape: Shape, cores: &CoreSet) -> bool {
        let size = u32::try_from(shape.cores_per_socket)
            .unwrap_or(u32::MAX)
            .max(1);
        let mut held: Vec<(u32, u32)> = Vec::new();
        for core in cores.iter() {
            let socket = core / size;
            match held.last_mut().filter(|(own, _)| *own == socket) {
                Some((_, count)) => *count += 1,
                None => held.push((socket, 1)),
            }
        }
        let is_whole = held.iter().all(|(_, count)| *count == size);
        match self {
            Self::AnySet => true,
            Self::WholeSockets => is_whole,
            Self::OneSocketOrAll => {
                cores.len() as u64 == shape.cores() || (is_whole && held.len() <= 1)
            }
        }
    }

    /// The smallest set that slurmctld takes and that holds `cores`.
    pub fn widen(self, map: &CoreMap, cores: &CoreSet) -> CoreSet {
        let whole = map.whole_sockets(cores);
        match self {
            Self::AnySet => cores.clone(),
            Self::OneSocketOrAll if map.sockets_of(cores) > 1 => map.all_cores(),
            Self::WholeSockets | Self::OneSocketOrAll => whole,
        }
    }

    /// The `Cores=` that may be written for a GPU at `place`: its nearest ones where they are whole sockets, as where a socket is the
    /// last-level cache that it hangs from; None where no CPU is known to be near it, and where it is unknown which cores Slurm's
    /// numbers are.
    pub fn cores_to_write(self, map: Option<&CoreMap>, place: &Locality) -> Option<CoreSet> {
        let map = map?;
        let near = map.cores_of(place.near_cpus()?);
        let nearest = place.nearest_cpus.as_ref().map(|cpus| map.cores_of(cpus));
        let whole = nearest.filter(|cores| {
            !cores.is_empty() && map.whole_sockets(cores) == *cores && self.admits(map, cores)
        });
        Some(whole.unwrap_or_else(|| self.widen(map, &near)))
    }

    /// The series that first has the rule.
    pub fn since(self) -> Release {
        let mut having = TABLE.iter().filter(|series| series.cores == self);
        having.next().unwrap_or(&V22_05).release()
    }

    /// The end of what slurmctld logs where a node breaks the rule; it then sets the node invalid and drains it.
    /// None where nothing breaks the rule.
    pub fn complaint(self) -> Option<&'static str> {
        match self {
            Self::AnySet => None,
            Self::WholeSockets | Self::OneSocketOrAll => Some("doesn't match socket boundaries"),
        }
    }
}

impl fmt::Display for CoresRule {
    /// What is taken, as in "takes only whole sockets".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AnySet => "any cores",
            Self::WholeSockets => "whole sockets",
            Self::OneSocketOrAll => "one whole socket or all cores",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cores::SocketKind;
    use topology::machine::{Machine, Package};
    use topology::set::{CpuSet, NodeSet};

    #[test]
    fn detection_of_clouds_stops_slurmctld_before_a_patch_of_23_11() {
        for (text, stops) in [
            ("22.05", true),
            ("23.02.8", true),
            ("23.11.3", true),
            ("23.11.4", false),
            ("23.11", false),
            ("26.05", false),
        ] {
            assert_eq!(stops_at_detection_of_clouds(release(text)), stops, "{text}");
        }
    }

    #[test]
    fn nvml_is_looked_for_by_its_versioned_name_from_a_patch_of_24_05_on() {
        for (text, names) in [
            ("22.05.8", 1),
            ("24.05.4", 1),
            ("24.05.5", 2),
            ("24.05", 2),
            ("26.05", 2),
        ] {
            let all = libraries_of_detection("nvml", release(text));
            assert_eq!(all.len(), names, "{text}");
        }
        assert!(libraries_of_detection("nvidia", release("24.11")).is_empty());
    }

    #[test]
    fn several_files_are_split_before_a_patch_of_23_02() {
        for (text, splits) in [
            ("22.05.11", true),
            ("23.02.6", true),
            ("23.02.7", false),
            ("23.02", false),
            ("24.11", false),
        ] {
            assert_eq!(splits_several_files(release(text)), splits, "{text}");
        }
    }

    fn release(text: &str) -> Release {
        Release::find(text).unwrap()
    }

    /// Four sockets of four cores of one thread: cores 0-15 are CPUs 0-15.
    fn map() -> CoreMap {
        let packages = (0..4).map(|id| Package {
            id,
            cpus: CpuSet::from_range(4 * id, 4 * id + 3),
            numa_nodes: NodeSet::single(id),
        });
        let machine = Machine {
            packages: packages.collect(),
            cores: (0..16).map(CpuSet::single).collect(),
            ..Machine::default()
        };
        CoreMap::new(&machine, SocketKind::Package).unwrap()
    }

    fn cores(list: &str) -> CoreSet {
        list.parse().unwrap()
    }

    /// One release's facts.
    type Fact = (
        &'static str,
        u32,
        bool,
        CoresRule,
        bool,
        bool,
        bool,
        FlagsRule,
    );

    /// The table again, as facts of each release and not as what changed: a boundary that moves is noticed here.
    const FACTS: &[Fact] = {
        use CoresRule::{AnySet, OneSocketOrAll, WholeSockets};
        use FlagsRule::{All, AllWithEnvironment, Environment};
        &[
            // release, API, loads the plugin, Cores=, Parameters= of a node, without E-cores, env_uuid, Flags=
            ("22.05", 38, true, AnySet, false, false, false, Environment),
            ("23.02", 39, true, AnySet, false, true, false, All),
            ("23.11", 40, true, AnySet, false, true, false, All),
            ("24.05", 41, true, AnySet, false, true, false, All),
            ("24.11", 42, true, WholeSockets, false, true, false, All),
            ("25.05", 43, true, WholeSockets, false, true, false, All),
            ("25.11", 44, true, OneSocketOrAll, true, true, false, All),
            (
                "26.05",
                45,
                true,
                OneSocketOrAll,
                true,
                true,
                true,
                AllWithEnvironment,
            ),
            (
                "26.11",
                46,
                false,
                OneSocketOrAll,
                true,
                true,
                true,
                AllWithEnvironment,
            ),
        ]
    };

    #[test]
    fn every_release_has_its_own_rules() {
        assert_eq!(TABLE.len(), FACTS.len());
        for (row, fact) in TABLE.iter().zip(FACTS) {
            let own = release(fact.0);
            let read = (
                fact.0,
                row.api,
                loads_plugin(own),
                CoresRule::of(Some(own)),
                row.has_node_parameters,
                row.leaves_out_ecores,
                row.has_env_uuid,
                row.flags,
            );
            assert_eq!(read, *fact);
            assert_eq!(row.release(), own);
            assert_eq!(Series::of_api(fact.1), Some(row));
            assert!(is_in_table(own));
        }
    }

    #[test]
    fn patches_and_releases_beside_the_table_have_the_rules_of_the_series_before() {
        for (text, rule) in [
            ("21.08.8", CoresRule::AnySet),
            ("24.05.8", CoresRule::AnySet),
            ("24.11.0", CoresRule::WholeSockets),
            ("24.11.7", CoresRule::WholeSockets),
            ("25.05.8", CoresRule::WholeSockets),
            ("25.11.0", CoresRule::OneSocketOrAll),
            ("27.05", CoresRule::OneSocketOrAll),
        ] {
            assert_eq!(CoresRule::of(Some(release(text))), rule, "{text}");
        }
        for unknown in ["21.08", "22.06", "27.05"] {
            assert!(!is_in_table(release(unknown)) && !loads_plugin(release(unknown)));
        }
        assert!(loads_plugin(release("26.05.3")) && !loads_plugin(release("26.11.0")));
        assert_eq!((Series::of_api(37), Series::of_api(47)), (None, None));
    }

    #[test]
    fn rows_are_in_order_and_no_two_share_a_number() {
        let ordered =
            |pair: &[Series]| pair[0].number < pair[1].number && pair[0].api + 1 == pair[1].api;
        assert!(TABLE.windows(2).all(ordered));
        assert_eq!(plugin_range(), "22.05 to 26.05");
        assert_eq!(
            list(),
            "22.05, 23.02, 23.11, 24.05, 24.11, 25.05, 25.11, 26.05, 26.11"
        );
    }

    /// As a real slurmctld answered: 25.11.7 took 0-3 and 0-15 and refused 0-7 and 0-1; 22.05.8 took all four.
    #[test]
    fn cores_are_legal_by_rule() {
        let map = map();
        for (list, any, whole, one) in [
            ("0-3", true, true, true),
            ("4-7", true, true, true),
            ("12-15", true, true, true),
            ("0-7", true, true, false),
            ("0-3,8-11", true, true, false),
            ("0-11", true, true, false),
            ("0-15", true, true, true),
            ("0-1", true, false, false),
            ("2-5", true, false, false),
            ("0-4", true, false, false),
            ("1-15", true, false, false),
        ] {
            let legal = |rule: CoresRule| rule.admits(&map, &cores(list));
            assert_eq!(legal(CoresRule::AnySet), any, "{list}");
            assert_eq!(legal(CoresRule::WholeSockets), whole, "{list}");
            assert_eq!(legal(CoresRule::OneSocketOrAll), one, "{list}");
        }
    }

    #[test]
    fn cores_are_widened_to_the_smallest_legal_set() {
        use CoresRule::{AnySet, OneSocketOrAll, WholeSockets};
        let map = map();
        for (rule, list, wide) in [
            (AnySet, "0-1", "0-1"),
            (WholeSockets, "0-1", "0-3"),
            (WholeSockets, "3-4", "0-7"),
            (OneSocketOrAll, "5", "4-7"),
            (OneSocketOrAll, "3-4", "0-15"),
            (OneSocketOrAll, "0-7", "0-15"),
        ] {
            let got = rule.widen(&map, &cores(list));
            assert_eq!(got.to_string(), wide, "{rule:?} {list}");
            assert!(rule.admits(&map, &got), "{rule:?} {list}");
        }
    }

    #[test]
    fn what_is_written_for_an_unknown_release_is_legal_in_every_release() {
        let map = map();
        for list in ["0-1", "3-4", "0-7", "0-15", "9"] {
            let written = CoresRule::of(None).widen(&map, &cores(list));
            for series in TABLE {
                assert!(
                    series.cores.admits(&map, &written),
                    "{list} {:?}",
                    series.number
                );
            }
        }
    }

    #[test]
    fn only_rules_that_can_be_broken_have_a_complaint() {
        let map = map();
        for series in TABLE {
            let breaks = !series.cores.admits(&map, &cores("0-1"));
            assert_eq!(series.cores.complaint().is_some(), breaks);
        }
        assert_eq!(CoresRule::WholeSockets.since().to_string(), "24.11");
        assert_eq!(CoresRule::OneSocketOrAll.since().to_string(), "25.11");
    }

    #[test]
    fn autodetect_methods_begin_with_their_release() {
        for (value, first) in [
            ("nvml", Some("22.05")),
            ("NVML", Some("22.05")),
            ("rsmi", Some("22.05")),
            ("oneapi", Some("22.05")),
            ("nrt", Some("23.11")),
            ("nvidia", Some("24.11")),
            ("full", Some("26.05")),
            ("nvlm", None),
            ("off", None),
        ] {
            let found = first_with_autodetect(value).map(|series| series.release().to_string());
            assert_eq!(found.as_deref(), first, "{value}");
            // Once there, it stays.
            for series in TABLE {
                let known = first.is_some_and(|first| series.release() >= release(first));
                assert_eq!(series.autodetect_of(value).is_some(), known, "{value}");
            }
        }
    }
}
