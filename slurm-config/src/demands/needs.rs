//! What slurm.conf needs of the host, and no line of it says: users, folders, files beside it, plugins' own files, a database.

use super::Stops;
use crate::config::{Line, has_word, last};
use crate::release::{Release, Span};
use crate::rules::Series;

/// What must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A user, by name or number (`uid_from_string`, common/uid.c).
    User,
    /// That slurmd is started by this user (`main`, slurmd/slurmd.c).
    StartedBy,
    /// A folder, by its absolute path (`_is_valid_path`, common/read_config.c).
    Folder,
    /// One of these files beside slurm.conf.
    FileBeside(&'static [&'static str]),
    /// A line with this key in `topology.conf`, where that is the file that a topology is read from: it is there, and no
    /// `topology.yaml` is.
    TopologyLine(&'static str),
    /// slurmdbd, or the state that slurmctld kept when it last answered (`_init_tres`, slurmctld/controller.c).
    Database,
    /// A quality of service that slurmdbd has (`_build_single_partitionline_info`, slurmctld/read_config.c).
    Qos,
    /// A key of auth/jwt: what AuthAltParameters= says, else jwt_hs256.key in StateSaveLocation (`_init_hs256`,
    /// plugins/auth/jwt), on slurmctld's host.
    JwtKey,
    /// A key of auth/slurm and cred/slurm, one of these beside slurm.conf unless a daemon's own SLURM_SACK_KEY or SLURM_SACK_JWKS says
    /// where it is (`init_internal`, plugins/auth/slurm/internal.c).
    SlurmKey(&'static [&'static str]),
    /// Here, and on every other line that names some: a topology of each name, and in it the switch or block that stands behind a
    /// colon, in what slurmctld reads of topologies (`_set_nodes_topo` and `set_part_topology_idx`, slurmctld): topology.yaml, else
    /// topology.conf alone, whose name is `default`.
    Topology,
}

/// One thing that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need<'a> {
    /// The line that needs it.
    pub line: &'a Line,
    /// The key as it is shown.
    pub key: &'static str,
    /// The user, the folder, or the key's value.
    pub name: &'a str,
    /// What it is.
    pub wanted: Wanted,
    /// Who does not start without it.
    pub stops: Stops,
}

/// A file that a plugin reads and does not load without.
struct FileOf {
    key: &'static str,
    /// Part of the key's value.
    word: &'static str,
    files: &'static [&'static str],
    stops: Stops,
    releases: Span,
}

const fn file_of(
    key: &'static str,
    word: &'static str,
    files: &'static [&'static str],
    stops: Stops,
) -> FileOf {
    FileOf {
        key,
        word,
        files,
        stops,
        releases: Span::ALL,
    }
}

/// Read where the plugin is loaded: by slurmctld and slurmd, or by slurmd alone.
const FILES: &[FileOf] = &[
    FileOf {
        releases: Span::ALL.before(25, 5),
        ..file_of(
            "TopologyPlugin",
            "topology/tree",
            &["topology.conf"],
            Stops::All,
        )
    },
    FileOf {
        releases: Span::ALL.since(25, 5),
        ..file_of(
            "TopologyPlugin",
            "topology/tree",
            &["topology.yaml", "topology.conf"],
            Stops::All,
        )
    },
    FileOf {
        releases: Span::ALL.since(23, 11).before(25, 5),
        ..file_of(
            "TopologyPlugin",
            "topology/block",
            &["topology.conf"],
            Stops::All,
        )
    },
    FileOf {
        releases: Span::ALL.since(25, 5),
        ..file_of(
            "TopologyPlugin",
            "topology/block",
            &["topology.yaml", "topology.conf"],
            Stops::All,
        )
    },
    FileOf {
        releases: Span::ALL.before(23, 11),
        ..file_of(
            "TopologyPlugin",
            "topology/hypercube",
            &["topology.conf"],
            Stops::Slurmctld,
        )
    },
    file_of(
        "JobContainerType",
        "tmpfs",
        &["job_container.conf"],
        Stops::Slurmd,
    ),
    file_of(
        "NamespaceType",
        "namespace/tmpfs",
        &["job_container.conf"],
        Stops::Slurmd,
    ),
    file_of(
        "NamespaceType",
        "namespace/linux",
        &["namespace.yaml"],
        Stops::Slurmd,
    ),
    file_of(
        "NodeFeaturesPlugins",
        "helpers",
        &["helpers.conf"],
        Stops::All,
    ),
];

/// A line without which a topology's file is as good as none.
struct LineOf {
    /// Part of TopologyPlugin=.
    word: &'static str,
    line: &'static str,
    stops: Stops,
    releases: Span,
}

/// The lines that a topology is made of (`switch_record_validate` and `block_record_validate`, plugins/topology).  Before 25.05 the
/// plugins do without; those of 25.05 then have no table, and slurmd, which looks itself up in it, ends by a segmentation fault.
const LINES: &[LineOf] = &[
    line_of("topology/tree", "SwitchName", Stops::Slurmd).in_25_05(),
    line_of("topology/tree", "SwitchName", Stops::All),
    line_of("topology/block", "BlockName", Stops::Slurmd).in_25_05(),
    line_of("topology/block", "BlockName", Stops::All),
];

const fn line_of(word: &'static str, line: &'static str, stops: Stops) -> LineOf {
    LineOf {
        word,
        line,
        stops,
        releases: Span::ALL.since(25, 11),
    }
}

impl LineOf {
    const fn in_25_05(self) -> Self {
        Self {
            releases: Span::ALL.since(25, 5).before(25, 11),
            ..self
        }
    }
}

/// What these lines need of the host under `release`; of every release where that is not known.
pub fn needs(conf: &[Line], release: Option<Release>) -> Vec<Need<'_>> {
    let asked = Asked { conf, release };
    [
        asked.users_and_folders(),
        asked.files(),
        asked.keys(),
        asked.topologies(),
        asked.database(),
    ]
    .concat()
}

/// The lines, and the release that is to read them.
struct Asked<'a> {
    conf: &'a [Line],
    release: Option<Release>,
}

impl<'a> Asked<'a> {
    fn given(&self, key: &str) -> Option<(&'a str, &'a Line)> {
        last(self.conf, &key.to_ascii_lowercase())
    }

    fn is_of(&self, span: Span) -> bool {
        self.release
            .is_none_or(|own| span.has(Series::of(own).number))
    }

    fn users_and_folders(&self) -> Vec<Need<'a>> {
        let mut found = Vec::new();
        for key in ["SlurmUser", "SlurmdUser"] {
            let user = self.given(key);
            let user = user.filter(|(name, _)| *name != "root" && *name != "0");
            found.extend(user.map(|(name, line)| Need {
                line,
                key,
                name,
                wanted: Wanted::User,
                stops: Stops::All,
            }));
            let other = user.filter(|_| key == "SlurmdUser");
            found.extend(other.map(|(name, line)| Need {
                line,
                key,
                name,
                wanted: Wanted::StartedBy,
                stops: Stops::Slurmd,
            }));
        }
        if let Some((value, line)) = self.given("PluginDir") {
            let folders = value.split(':').filter(|folder| !folder.is_empty());
            found.extend(folders.map(|name| Need {
                line,
                key: "PluginDir",
                name,
                wanted: Wanted::Folder,
                stops: Stops::All,
            }));
        }
        found
    }

    /// Files beside slurm.conf that no key's value names.
    fn files(&self) -> Vec<Need<'a>> {
        let mut found = Vec::new();
        for own in FILES.iter().filter(|own| self.is_of(own.releases)) {
            let Some((name, line)) = self.given(own.key) else {
                continue;
            };
            if name.to_ascii_lowercase().contains(own.word) {
                found.push(Need {
                    line,
                    key: own.key,
                    name,
                    wanted: Wanted::FileBeside(own.files),
                    stops: own.stops,
                });
            }
        }
        found.extend(script_of_cli_filter(
            self.conf,
            self.is_of(NONE_IS_NO_CLI_FILTER),
        ));
        found
    }

    /// Keys of auth/jwt and auth/slurm.
    fn keys(&self) -> Vec<Need<'a>> {
        let mut found = Vec::new();
        if let Some((name, line)) = self.given("AuthAltTypes")
            && has_plugin(name, "auth/", "jwt")
        {
            found.push(Need {
                line,
                key: "AuthAltTypes",
                name,
                wanted: Wanted::JwtKey,
                stops: Stops::Slurmctld,
            });
        }
        let files: &[&str] = if self.is_of(HAS_JWKS) {
            KEYS
        } else {
            KEY_ALONE
        };
        for (key, kind, stops) in OF_SLURM_KEY {
            let value = self
                .given(key)
                .filter(|(name, _)| self.is_of(HAS_AUTH_SLURM) && has_plugin(name, kind, "slurm"));
            found.extend(value.map(|(name, line)| Need {
                line,
                key,
                name,
                wanted: Wanted::SlurmKey(files),
                stops,
            }));
        }
        found
    }

    fn topologies(&self) -> Vec<Need<'a>> {
        let mut found = Vec::new();
        for own in LINES.iter().filter(|own| self.is_of(own.releases)) {
            let Some((name, line)) = self.given("TopologyPlugin") else {
                continue;
            };
            if name.to_ascii_lowercase().contains(own.word) {
                found.push(Need {
                    line,
                    key: "TopologyPlugin",
                    name,
                    wanted: Wanted::TopologyLine(own.line),
                    stops: own.stops,
                });
            }
        }
        if self.is_of(NAMES_TOPOLOGIES) {
            // A large cluster has one for each of its nodes, and they are all in the same file.
            found.extend(named_topologies(self.conf).next().map(|(line, name)| Need {
                line,
                key: "Topology",
                name,
                wanted: Wanted::Topology,
                stops: Stops::Slurmctld,
            }));
        }
        found
    }

    /// The database, and the QOS that it must have.
    fn database(&self) -> Vec<Need<'a>> {
        let given = self.given("AccountingStorageType");
        let Some((name, line)) = given.filter(|own| is_database(own.0)) else {
            return Vec::new();
        };
        let database = Need {
            line,
            key: "AccountingStorageType",
            name,
            wanted: Wanted::Database,
            stops: Stops::Slurmctld,
        };
        let is_strict = self.is_of(QOS_MUST_BE_THERE);
        let named = named_qos(self.conf).filter(|own| is_strict || own.1 == "QOS");
        let named = named.map(|(line, key, name)| Need {
            line,
            key,
            name,
            wanted: Wanted::Qos,
            stops: Stops::Slurmctld,
        });
        std::iter::once(database).chain(named).collect()
    }
}

/// The releases in which CliFilterPlugins= with `none` in it is none (`_validate_and_set_defaults`, common/read_config.c).
const NONE_IS_NO_CLI_FILTER: Span = Span::ALL.since(23, 11);

/// The releases with auth/slurm and cred/slurm.
const HAS_AUTH_SLURM: Span = Span::ALL.since(23, 11);
/// Those of them that read several keys from one file.
const HAS_JWKS: Span = Span::ALL.since(24, 5);
/// Their keys' files.
const KEYS: &[&str] = &["slurm.key", "slurm.jwks"];
/// That of the releases before.
const KEY_ALONE: &[&str] = &["slurm.key"];
/// The keys of slurm.conf that name one of the two; slurmctld alone loads AuthAltTypes (`auth_g_init`, interfaces/auth.c).
const OF_SLURM_KEY: [(&str, &str, Stops); 3] = [
    ("AuthType", "auth/", Stops::All),
    ("CredType", "cred/", Stops::All),
    ("AuthAltTypes", "auth/", Stops::Slurmctld),
];

/// Whether a list of plugins has one, with or without its kind.
fn has_plugin(list: &str, kind: &str, name: &str) -> bool {
    let names = list.split(',').map(str::trim);
    let mut names = names.map(|own| own.strip_prefix(kind).unwrap_or(own));
    names.any(|own| own == name)
}

/// The script of cli_filter/lua (`init`, plugins/cli_filter/lua), unless CliFilterParameters=, which newer releases have, names
/// another.
fn script_of_cli_filter(conf: &[Line], is_none_none: bool) -> Option<Need<'_>> {
    let (name, line) = last(conf, "clifilterplugins")?;
    let is_none = is_none_none && name.to_ascii_lowercase().contains("none");
    let parameters = last(conf, "clifilterparameters");
    let is_elsewhere = parameters.is_some_and(|(value, _)| value.contains("cli_filter_lua_path="));
    let is_wanted = has_plugin(name, "cli_filter/", "lua") && !is_none && !is_elsewhere;
    is_wanted.then_some(Need {
        line,
        key: "CliFilterPlugins",
        name,
        wanted: Wanted::FileBeside(&["cli_filter.lua"]),
        stops: Stops::Submission,
    })
}

/// The releases in which a QOS of a partition's line must be known, whatever is enforced.
pub(super) const QOS_MUST_BE_THERE: Span = Span::ALL.since(25, 11);

/// The releases in which lines of nodes and partitions name topologies.
const NAMES_TOPOLOGIES: Span = Span::ALL.since(25, 5);

/// Whether daemons of `release` read a `topology.yaml` beside slurm.conf, which lines may name topologies of.
pub fn reads_topologies(release: Release) -> bool {
    NAMES_TOPOLOGIES.has(Series::of(release).number)
}

/// What lines of nodes and partitions say of topologies: the line and the value.
fn named_topologies(conf: &[Line]) -> impl Iterator<Item = (&Line, &str)> {
    let lines = conf.iter().filter(|line| {
        ["nodename", "partitionname"]
            .iter()
            .any(|key| line.get(key).is_some())
    });
    let values = lines.filter_map(|line| Some((line, line.get("topology")?)));
    values.filter(|(_, value)| !value.is_empty())
}

/// Whether a value of AccountingStorageType= is the database.
pub(super) fn is_database(value: &str) -> bool {
    value.to_ascii_lowercase().contains("slurmdbd")
}

/// What partitions' lines say of QOS: the line, the key, and its value; ALL is none that must be known.
pub(super) fn named_qos(conf: &[Line]) -> impl Iterator<Item = (&Line, &'static str, &str)> {
    let lines = conf.iter();
    let lines = lines.filter(|line| line.get("partitionname").is_some());
    lines.flat_map(|line| {
        ["QOS", "AllowQOS", "DenyQOS"]
            .into_iter()
            .filter_map(move |key| {
                let value = line.get(&key.to_ascii_lowercase())?;
                let is_all = key != "QOS" && has_word(value, "ALL") && !value.contains(',');
                (!value.is_empty() && !is_all).then_some((line, key, value))
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::of_text;

    #[test]
    fn users_folders_files_and_the_database_are_needed() {
        let told = |text: &str, release: &str| {
            let lines = of_text(text, "f");
            let found = needs(&lines, Release::find(release));
            let words = found
                .iter()
                .map(|own| (own.key, own.name.to_owned(), own.wanted));
            words.collect::<Vec<_>>()
        };
        let users = "SlurmUser=slurm\nSlurmdUser=root\nPluginDir=/a:/b\n";
        assert_eq!(
            told(users, "22.05"),
            [
                ("SlurmUser", "slurm".to_owned(), Wanted::User),
                ("PluginDir", "/a".to_owned(), Wanted::Folder),
                ("PluginDir", "/b".to_owned(), Wanted::Folder),
            ]
        );
        let tree = "TopologyPlugin=topology/tree\n";
        let wanted = |release| told(tree, release).first().map(|own| own.2);
        assert_eq!(
            wanted("24.11"),
            Some(Wanted::FileBeside(&["topology.conf"]))
        );
        assert_eq!(
            wanted("25.11"),
            Some(Wanted::FileBeside(&["topology.yaml", "topology.conf"]))
        );
        let stops = |release: &str| {
            let lines = of_text("TopologyPlugin=topology/block\n", "f");
            let found = needs(&lines, Release::find(release));
            let line = Wanted::TopologyLine("BlockName");
            let own = found.iter().find(|own| own.wanted == line);
            own.map(|own| own.stops)
        };
        assert_eq!(stops("24.11"), None);
        assert_eq!(stops("25.05"), Some(Stops::Slurmd));
        assert_eq!(stops("25.11"), Some(Stops::All));
        let script = [(
            "CliFilterPlugins",
            "syslog,lua".to_owned(),
            Wanted::FileBeside(&["cli_filter.lua"]),
        )];
        assert_eq!(told("CliFilterPlugins=syslog,lua\n", "22.05"), script);
        assert_eq!(told("CliFilterPlugins=site_lua\n", "22.05"), []);
        assert_eq!(told("CliFilterPlugins=lua,none\n", "23.11"), []);
        let path = "CliFilterPlugins=lua\nCliFilterParameters=cli_filter_lua_path=/a\n";
        assert_eq!(told(path, "25.11"), []);
        let key = [("AuthAltTypes", "auth/jwt".to_owned(), Wanted::JwtKey)];
        assert_eq!(told("AuthAltTypes=auth/jwt\n", "22.05"), key);
        let wanted = Wanted::SlurmKey(&["slurm.key", "slurm.jwks"]);
        let key = [("AuthAltTypes", "munge,slurm".to_owned(), wanted)];
        assert_eq!(told("AuthAltTypes=munge,slurm\n", "24.11"), key);
        let wanted = Wanted::SlurmKey(&["slurm.key"]);
        let key = [("AuthType", "auth/slurm".to_owned(), wanted)];
        assert_eq!(told("AuthType=auth/slurm\n", "23.11"), key);
        assert_eq!(
            told("AuthType=auth/munge\nCredType=cred/slurm\n", "22.05"),
            []
        );
        let qos = "AccountingStorageType=accounting_storage/slurmdbd\nPartitionName=p Nodes=n QOS=a AllowQOS=b DenyQOS=\n\
                   PartitionName=q AllowQOS=ALL\n";
        assert_eq!(told(qos, "24.11").len(), 2);
        assert_eq!(told(qos, "25.11").len(), 3);
        assert_eq!(told("PartitionName=p QOS=a\n", "25.11"), []);
        let topologies = "NodeName=a Topology=t:s1\nPartitionName=p Nodes=a Topology=u\nNodeName=b Topology=\nTopology=v\n";
        assert_eq!(told(topologies, "24.11"), []);
        assert_eq!(
            told(topologies, "25.05"),
            [("Topology", "t:s1".to_owned(), Wanted::Topology)]
        );
    }
}
