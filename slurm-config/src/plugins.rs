//! The plugins that slurm.conf and cgroup.conf name and without which a daemon does not start, or srun and its like do not run.
//!
//! A plugin is a file in PluginDir, `task_cgroup.so` for `task/cgroup` (`plugin_load_and_link`, common/plugin.c), so a
//! site may have some of its own, and its name is compared letter by letter.

use crate::config::{Line, has_word, last};
use crate::demands::Stops;
use crate::release::{Release, Span};
use crate::rules::{Series, TABLE};

/// Whether a key's values have the plugin's kind before the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prefix {
    /// The name is taken as it stands.
    Must,
    /// Slurm writes the kind before a name that lacks it.
    May,
    /// Slurm writes the kind before the whole value, which is one name.
    Never,
}

/// A key that names plugins.
struct PluginKey {
    /// The key as it is shown.
    shown: &'static str,
    /// What stands before each name.
    kind: &'static str,
    prefix: fn(&Series) -> Prefix,
    /// Slurm's own names in a series.
    names: fn(&Series) -> &'static [&'static str],
    /// What does not start without the plugin.
    stops: fn(&Series) -> Stops,
    /// A value that has one of these in it, in any case, means no plugin.
    none_words: fn(&Series) -> &'static [&'static str],
    /// Whether sites have plugins of their own: then only a file that is missing says that a name is wrong.
    is_sites: bool,
    /// Whether sites install a plugin of Slurm's that is a package of its own on slurmctld's host alone.
    is_of_slurmctlds_host: bool,
    /// The releases that load the plugin.
    releases: Span,
}

impl PluginKey {
    const fn of(
        shown: &'static str,
        kind: &'static str,
        names: fn(&Series) -> &'static [&'static str],
    ) -> Self {
        Self {
            shown,
            kind,
            prefix: |_| Prefix::Must,
            names,
            stops: |_| Stops::All,
            none_words: |_| &[],
            is_sites: false,
            is_of_slurmctlds_host: false,
            releases: Span::ALL,
        }
    }

    /// A key that slurmctld alone reads.
    const fn of_slurmctld(
        shown: &'static str,
        kind: &'static str,
        names: fn(&Series) -> &'static [&'static str],
    ) -> Self {
        Self {
            stops: |_| Stops::Slurmctld,
            ..Self::of(shown, kind, names)
        }
    }

    const fn or_none(self) -> Self {
        Self {
            none_words: |_| &["none"],
            ..self
        }
    }
}

/// The plugins of authentication; those of AuthType and AuthAltTypes are loaded alike (`auth_g_init`, interfaces/auth.c).
const fn of_auth(key: PluginKey) -> PluginKey {
    PluginKey {
        prefix: |series| {
            if Span::ALL.since(23, 11).has(series.number) {
                Prefix::May
            } else {
                Prefix::Must
            }
        },
        names: |series| {
            if Span::ALL.since(23, 11).has(series.number) {
                &["jwt", "munge", "none", "slurm"]
            } else {
                &["jwt", "munge", "none"]
            }
        },
        ..key
    }
}

/// What stops without a plugin that slurmd loads in some series and slurmctld in all.
const fn slurmd_or_slurmctld(is_slurmd: bool) -> Stops {
    if is_slurmd {
        Stops::All
    } else {
        Stops::Slurmctld
    }
}

/// The keys of slurm.conf whose plugins a daemon does not start without, or srun and its like do not run.
const KEYS: [PluginKey; 34] = [
    PluginKey {
        // `task_g_init`, interfaces/task.c.
        prefix: |_| Prefix::May,
        ..PluginKey::of("TaskPlugin", "task", |series| series.task_plugins)
    },
    PluginKey {
        // `launch_init`, srun/libsrun/launch.c; later ones take the key and read nothing of it.
        stops: |_| Stops::EverySrun,
        releases: Span::ALL.before(23, 2),
        ..PluginKey::of("LaunchType", "launch", |_| &["slurm"])
    },
    PluginKey::of("ProctrackType", "proctrack", |series| {
        series.proctrack_plugins
    }),
    PluginKey::of("JobAcctGatherType", "jobacct_gather", |_| {
        &["cgroup", "linux", "none"]
    }),
    PluginKey {
        stops: |series| slurmd_or_slurmctld(series.slurmd_loads_select),
        ..PluginKey::of("SelectType", "select", |series| series.select_plugins)
    },
    PluginKey::of("SwitchType", "switch", |series| series.switch_plugins).or_none(),
    PluginKey::of("TopologyPlugin", "topology", |series| {
        series.topology_plugins
    })
    .or_none(),
    PluginKey::of("JobContainerType", "job_container", |series| {
        series.container_plugins
    })
    .or_none(),
    PluginKey::of("NamespaceType", "namespace", |series| {
        series.container_plugins
    })
    .or_none(),
    PluginKey {
        stops: |series| slurmd_or_slurmctld(series.slurmd_loads_storage),
        ..PluginKey::of("AccountingStorageType", "accounting_storage", |series| {
            series.storage_plugins
        })
        .or_none()
    },
    PluginKey::of("AcctGatherEnergyType", "acct_gather_energy", |_| {
        &[
            "gpu",
            "ibmaem",
            "ipmi",
            "pm_counters",
            "rapl",
            "rsmi",
            "xcc",
        ]
    })
    .or_none(),
    PluginKey::of("AcctGatherProfileType", "acct_gather_profile", |_| {
        &["hdf5", "influxdb"]
    })
    .or_none(),
    PluginKey::of("AcctGatherFilesystemType", "acct_gather_filesystem", |_| {
        &["lustre"]
    })
    .or_none(),
    PluginKey::of(
        "AcctGatherInterconnectType",
        "acct_gather_interconnect",
        |_| &["ofed", "sysfs"],
    )
    .or_none(),
    PluginKey::of("CredType", "cred", |_| &["munge", "none", "slurm"]),
    PluginKey::of_slurmctld("JobCompType", "jobcomp", |series| series.jobcomp_plugins).or_none(),
    PluginKey {
        is_sites: true,
        ..PluginKey::of("NodeFeaturesPlugins", "node_features", |_| {
            &["helpers", "knl_cray", "knl_generic"]
        })
    },
    PluginKey {
        prefix: |_| Prefix::May,
        is_sites: true,
        ..PluginKey::of("PrEpPlugins", "prep", |_| &["script"])
    },
    of_auth(PluginKey::of("AuthType", "auth", |_| &[])),
    // Of the daemons that read slurm.conf slurmctld alone loads these, and has the key of auth/jwt.
    of_auth(PluginKey {
        is_of_slurmctlds_host: true,
        ..PluginKey::of_slurmctld("AuthAltTypes", "auth", |_| &[])
    }),
    // `cli_filter_init`, interfaces/cli_filter.c; from 23.11 on `none` is no plugin but a word (common/read_config.c).
    PluginKey {
        prefix: |_| Prefix::May,
        stops: |_| Stops::Submission,
        none_words: |series| {
            if Span::ALL.since(23, 11).has(series.number) {
                &["none"]
            } else {
                &[]
            }
        },
        is_sites: true,
        ..PluginKey::of("CliFilterPlugins", "cli_filter", |series| {
            if Span::ALL.since(23, 11).has(series.number) {
                &["lua", "syslog", "user_defaults"]
            } else {
                &["lua", "none", "syslog", "user_defaults"]
            }
        })
    },
    // `_mpi_init_locked`, interfaces/mpi.c (common/slurm_mpi.c); the daemons load what is there, whatever the default.
    PluginKey {
        prefix: |_| Prefix::Never,
        stops: |_| Stops::Srun,
        none_words: |series| {
            if Span::ALL.since(23, 11).has(series.number) {
                &["none", "openmpi"]
            } else {
                &[]
            }
        },
        is_sites: true,
        ..PluginKey::of("MpiDefault", "mpi", |series| {
            if Span::ALL.since(23, 11).has(series.number) {
                &[
                    "cray_shasta",
                    "pmi2",
                    "pmix",
                    "pmix_v2",
                    "pmix_v3",
                    "pmix_v4",
                    "pmix_v5",
                    "pmix_v6",
                ]
            } else {
                &[
                    "cray_shasta",
                    "none",
                    "openmpi",
                    "pmi2",
                    "pmix",
                    "pmix_v2",
                    "pmix_v3",
                    "pmix_v4",
                    "pmix_v5",
                ]
            }
        })
    },
    PluginKey::of_slurmctld("PreemptType", "preempt", |_| {
        &["none", "partition_prio", "qos"]
    }),
    PluginKey::of_slurmctld("SchedulerType", "sched", |_| &["backfill", "builtin"]),
    PluginKey::of_slurmctld("PriorityType", "priority", |_| &["basic", "multifactor"]),
    PluginKey::of_slurmctld("MCSPlugin", "mcs", |series| series.mcs_plugins).or_none(),
    PluginKey::of_slurmctld("BurstBufferType", "burst_buffer", |_| &["datawarp", "lua"]).or_none(),
    PluginKey {
        prefix: |_| Prefix::May,
        is_sites: true,
        ..PluginKey::of_slurmctld("JobSubmitPlugins", "job_submit", |_| {
            &[
                "all_partitions",
                "cray_aries",
                "defaults",
                "logging",
                "lua",
                "partition",
                "pbs",
                "require_timelimit",
                "throttle",
            ]
        })
    },
    PluginKey {
        releases: Span::ALL.since(23, 2),
        ..PluginKey::of("HashPlugin", "hash", |series| {
            if Span::ALL.since(24, 5).has(series.number) {
                &["k12", "sha3"]
            } else {
                &["k12"]
            }
        })
    },
    PluginKey {
        stops: |series| slurmd_or_slurmctld(Span::ALL.since(25, 5).has(series.number)),
        releases: Span::ALL.since(24, 5),
        ..PluginKey::of("TLSType", "tls", |_| &["none", "s2n"])
    },
    PluginKey {
        releases: Span::ALL.since(24, 11),
        ..PluginKey::of("CertmgrType", "certmgr", |_| &["script"]).or_none()
    },
    PluginKey {
        releases: Span::ALL.since(25, 11),
        ..PluginKey::of_slurmctld("MetricsType", "metrics", |_| &["openmetrics"]).or_none()
    },
    PluginKey {
        is_sites: true,
        releases: Span::ALL.since(23, 2),
        ..PluginKey::of_slurmctld("PrioritySiteFactorPlugin", "site_factor", |_| {
            &["example", "none"]
        })
    },
    PluginKey {
        releases: Span::ALL.before(24, 5),
        ..PluginKey::of_slurmctld("ExtSensorsType", "ext_sensors", |_| &["none", "rrd"])
    },
];

/// Slurm's own names that a build has only where it found a library: its file says whether this one has.
const OF_LIBRARIES: [&str; 23] = [
    "auth/jwt",
    "acct_gather_energy/gpu",
    "acct_gather_energy/ipmi",
    "acct_gather_energy/xcc",
    "acct_gather_interconnect/ofed",
    "acct_gather_profile/hdf5",
    "acct_gather_profile/influxdb",
    "burst_buffer/datawarp",
    "burst_buffer/lua",
    "cli_filter/lua",
    "ext_sensors/rrd",
    "job_submit/lua",
    "jobcomp/elasticsearch",
    "jobcomp/kafka",
    "jobcomp/mysql",
    "mpi/pmix",
    "mpi/pmix_v2",
    "mpi/pmix_v3",
    "mpi/pmix_v4",
    "mpi/pmix_v5",
    "mpi/pmix_v6",
    "switch/hpe_slingshot",
    "tls/s2n",
];

/// CgroupPlugin= of cgroup.conf (`_autodetect_cgroup_version`, interfaces/cgroup.c).
const CGROUP: PluginKey = PluginKey::of("CgroupPlugin", "cgroup", |_| &["v1", "v2"]);

/// A name that is no plugin of Slurm's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown<'a> {
    /// The line that has it.
    pub line: &'a Line,
    /// The key as it is shown.
    pub key: &'static str,
    /// The name as it is written.
    pub name: String,
    /// The names that are Slurm's own in that release.
    pub expected: Vec<String>,
    /// What does not start for it.
    pub stops: Stops,
}

/// A name whose plugin's file was not to be seen: a site's own, or one that not every build of Slurm has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen<'a> {
    /// The line that has it.
    pub line: &'a Line,
    /// The key as it is shown.
    pub key: &'static str,
    /// The name as it is written.
    pub name: String,
    /// What does not start without it.
    pub stops: Stops,
}

/// What is to be said of the names of plugins.
#[derive(Debug, Clone, Default)]
pub struct Names<'a> {
    /// Those that are no plugin.
    pub unknown: Vec<Unknown<'a>>,
    /// Those that may be one.
    pub unseen: Vec<Unseen<'a>>,
}

/// The names of slurm.conf and cgroup.conf that are no plugins of `release`, of any release where that is not known, and those of
/// which nothing is known.  `has_file` says whether PluginDir has a file, None where that is not known.
pub fn names<'a>(
    conf: &'a [Line],
    cgroup: &'a [Line],
    release: Option<Release>,
    has_file: &dyn Fn(&str) -> Option<bool>,
) -> Names<'a> {
    let mut found = Names::default();
    let is_loaded =
        |key: &&PluginKey| release.is_none_or(|own| key.releases.has(Series::of(own).number));
    for key in KEYS.iter().filter(is_loaded) {
        let Some((value, line)) = last(conf, &key.shown.to_ascii_lowercase()) else {
            continue;
        };
        let series = series_of(release);
        let lower = value.to_ascii_lowercase();
        let is_none = |own: &Series| {
            (key.none_words)(own)
                .iter()
                .any(|word| lower.contains(word))
        };
        if series.iter().any(is_none) {
            continue;
        }
        let is_one = series.iter().any(|own| (key.prefix)(own) == Prefix::Never);
        let names = value.split(|own| own == ',' && !is_one).map(str::trim);
        for name in names.filter(|name| !name.is_empty()) {
            key.check(name, line, release, has_file, &mut found);
        }
    }
    if let Some((value, line)) = last(cgroup, "cgroupplugin") {
        let is_word = value == "autodetect"
            || value == "disabled" && release.is_none_or(|own| Series::of(own).loads_cgroup);
        if !is_word && uses_cgroups(conf, release) {
            CGROUP.check(value, line, release, has_file, &mut found);
        }
    }
    found
}

/// The series of a release; where that is not known, all: what one of them has is right.
fn series_of(release: Option<Release>) -> Vec<Series> {
    match release {
        Some(release) => vec![*Series::of(release)],
        None => TABLE.to_vec(),
    }
}

/// Whether slurmd loads its cgroup plugin: in some series only where another plugin needs it.
fn uses_cgroups(conf: &[Line], release: Option<Release>) -> bool {
    let names = |key: &str, word: &str| {
        last(conf, key).is_some_and(|(value, _)| {
            has_word(value, word) || has_word(value, word.trim_start_matches("task/"))
        })
    };
    release.is_none_or(|release| Series::of(release).loads_cgroup)
        || names("taskplugin", "task/cgroup")
        || names("proctracktype", "proctrack/cgroup")
        || names("jobacctgathertype", "jobacct_gather/cgroup")
        // The default.
        || last(conf, "proctracktype").is_none()
}

impl PluginKey {
    fn check<'a>(
        &self,
        name: &str,
        line: &'a Line,
        release: Option<Release>,
        has_file: &dyn Fn(&str) -> Option<bool>,
        found: &mut Names<'a>,
    ) {
        let series = series_of(release);
        let has = |prefix: Prefix| series.iter().any(|own| (self.prefix)(own) == prefix);
        let (kind, bare) = match name.split_once('/') {
            Some(_) | None if has(Prefix::Never) => (self.kind, name),
            Some((kind, bare)) => (kind, bare),
            None if has(Prefix::May) => (self.kind, name),
            None => ("", name),
        };
        // A name with the kind twice is nobody's plugin.
        let is_sites = self.is_sites && !bare.contains('/');
        let is_own = |series: &Series| {
            let names = (self.names)(series);
            // A series that goes on without the plugin has no names.
            names.contains(&bare) || names.is_empty()
        };
        let is_own = kind == self.kind && series.iter().any(is_own);
        let is_of_library = OF_LIBRARIES
            .iter()
            .any(|own| own.split_once('/') == Some((kind, bare)));
        let is_there = if is_own && !is_of_library {
            Some(true)
        } else {
            has_file(&Self::file(kind, bare))
        };
        let stops = series.iter().map(|own| (self.stops)(own));
        // Where the series differ, slurmctld is what all of them stop.
        let stops = stops
            .reduce(|one, other| if one == other { one } else { Stops::Slurmctld })
            .unwrap_or(Stops::Slurmctld);
        let is_elsewhere = is_own && self.is_of_slurmctlds_host;
        let (key, name) = (self.shown, name.to_owned());
        match is_there {
            Some(true) => {}
            Some(false) if is_elsewhere => found.unseen.push(Unseen {
                line,
                key,
                name,
                stops,
            }),
            None if is_sites || is_own => found.unseen.push(Unseen {
                line,
                key,
                name,
                stops,
            }),
            Some(false) | None => found.unknown.push(Unknown {
                line,
                key,
                name,
                expected: series.last().map_or_else(Vec::new, |newest| {
                    let names = (self.names)(newest).iter();
                    let shown = |own: &&str| match (self.prefix)(newest) {
                        Prefix::Must | Prefix::May => format!("{}/{own}", self.kind),
                        Prefix::Never => (*own).to_owned(),
                    };
                    names.map(shown).collect()
                }),
                stops,
            }),
        }
    }

    /// The file of a plugin in PluginDir (`plugin_load_and_link`).
    fn file(kind: &str, bare: &str) -> String {
        let bare = bare.replace('/', "_");
        if kind.is_empty() {
            format!("{bare}.so")
        } else {
            format!("{kind}_{bare}.so")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::of_text;

    #[test]
    fn of_plugins_that_not_every_build_has_the_file_is_asked() {
        let told = |conf: &str, release: &str, has: Option<bool>| {
            let conf = of_text(conf, "f");
            let found = names(&conf, &[], Release::find(release), &|_| has);
            (found.unknown.len(), found.unseen.len())
        };
        for (conf, release, not_seen, missing) in [
            ("JobSubmitPlugins=lua\n", "24.11", (0, 1), (1, 0)),
            ("JobSubmitPlugins=nosuch\n", "24.11", (0, 1), (1, 0)),
            ("JobSubmitPlugins=all_partitions\n", "24.11", (0, 0), (0, 0)),
            ("TLSType=tls/s2n\n", "25.11", (0, 1), (1, 0)),
            ("TLSType=tls/nosuch\n", "25.11", (1, 0), (1, 0)),
            ("TLSType=tls/nosuch\n", "23.11", (0, 0), (0, 0)),
            ("HashPlugin=hash/sha3\n", "23.11", (1, 0), (1, 0)),
            ("HashPlugin=hash/sha3\n", "24.05", (0, 0), (0, 0)),
            ("PrEpPlugins=prep/script\n", "22.05", (0, 0), (0, 0)),
            ("AuthAltTypes=auth/nonsense\n", "22.05", (1, 0), (1, 0)),
            ("AuthAltTypes=auth/nonsense\n", "25.11", (1, 0), (1, 0)),
            // slurmctld's host may have it.
            ("AuthAltTypes=auth/jwt\n", "25.11", (0, 1), (0, 1)),
            ("AuthAltTypes=munge,jwt\n", "23.11", (0, 1), (0, 1)),
            ("AuthAltTypes=munge\n", "23.02", (1, 0), (1, 0)),
            ("AuthAltTypes=auth/slurm\n", "23.02", (1, 0), (1, 0)),
            ("CliFilterPlugins=nosuch\n", "25.11", (0, 1), (1, 0)),
            ("CliFilterPlugins=syslog,lua\n", "25.11", (0, 1), (1, 0)),
            (
                "CliFilterPlugins=cli_filter/none\n",
                "22.05",
                (0, 0),
                (0, 0),
            ),
            ("CliFilterPlugins=None\n", "22.05", (0, 1), (1, 0)),
            ("CliFilterPlugins=nosuch,None\n", "23.11", (0, 0), (0, 0)),
            ("LaunchType=launch/aprun\n", "22.05", (1, 0), (1, 0)),
            ("LaunchType=launch/aprun\n", "23.02", (0, 0), (0, 0)),
            ("LaunchType=launch/slurm\n", "22.05", (0, 0), (0, 0)),
            ("MpiDefault=pmix\n", "25.11", (0, 1), (1, 0)),
            ("MpiDefault=pmi2\n", "22.05", (0, 0), (0, 0)),
            ("MpiDefault=nosuch\n", "22.05", (0, 1), (1, 0)),
            // Slurm looks for mpi_mpi_pmi2.so.
            ("MpiDefault=mpi/pmi2\n", "25.11", (1, 0), (1, 0)),
            ("MpiDefault=openmpi\n", "22.05", (0, 0), (0, 0)),
            ("MpiDefault=OpenMPI\n", "22.05", (0, 1), (1, 0)),
            ("MpiDefault=OpenMPI\n", "25.11", (0, 0), (0, 0)),
            ("MpiDefault=pmi2,pmi2\n", "25.11", (0, 1), (1, 0)),
        ] {
            assert_eq!(told(conf, release, None), not_seen, "{conf} {release}");
            assert_eq!(
                told(conf, release, Some(false)),
                missing,
                "{conf} {release}"
            );
            assert_eq!(told(conf, release, Some(true)), (0, 0), "{conf} {release}");
        }
    }

    /// As real ones of 22.05, 24.11, 25.05, 25.11 and 26.05 answered (`make test-gres`).
    #[test]
    fn names_that_are_no_plugin_are_found() {
        for (conf, cgroup, release, expected) in [
            ("TaskPlugin=task/affinity,cgroup\n", "", "24.11", &[][..]),
            (
                "TaskPlugin=task/afinity,task/cgroup\n",
                "",
                "24.11",
                &["task/afinity"],
            ),
            (
                "TaskPlugin=task/Affinity\n",
                "",
                "24.11",
                &["task/Affinity"],
            ),
            ("TaskPlugin=task/none\n", "", "26.05", &[]),
            (
                "TaskPlugin=task/cray_aries\n",
                "",
                "26.05",
                &["task/cray_aries"],
            ),
            ("TaskPlugin=task/cray_aries\n", "", "22.05", &[]),
            ("TaskPlugin=task/cray_aries\n", "", "", &[]),
            ("TaskPlugin=task/site\n", "", "26.05", &[]),
            ("ProctrackType=cgroup\n", "", "22.05", &["cgroup"]),
            (
                "ProctrackType=proctrack/cgroup\n",
                "CgroupPlugin=cgroup/v3\n",
                "22.05",
                &["cgroup/v3"],
            ),
            (
                "ProctrackType=proctrack/linuxproc\n",
                "CgroupPlugin=cgroup/v3\n",
                "22.05",
                &[],
            ),
            (
                "ProctrackType=proctrack/linuxproc\n",
                "CgroupPlugin=cgroup/v3\n",
                "26.05",
                &["cgroup/v3"],
            ),
            ("ClusterName=c\n", "CgroupPlugin=disabled\n", "26.05", &[]),
            ("ClusterName=c\n", "CgroupPlugin=autodetect\n", "22.05", &[]),
            (
                "JobAcctGatherType=jobacct_gather/linx\n",
                "",
                "22.05",
                &["jobacct_gather/linx"],
            ),
        ] {
            let (conf, cgroup) = (of_text(conf, "f"), of_text(cgroup, "g"));
            let has_file = |file: &str| (file == "task_site.so").then_some(true);
            let found = names(&conf, &cgroup, Release::find(release), &has_file).unknown;
            let names: Vec<&str> = found.iter().map(|own| own.name.as_str()).collect();
            assert_eq!(names, expected, "{conf:?} {cgroup:?} {release}");
        }
    }
}
