//! Reads Slurm's configuration with all that it includes.

use std::path::{Path, PathBuf};

use slurm_config::config::{self, Line, Statement};
use slurm_config::cores::SocketKind;
use slurm_config::node::{self, Node};
use slurm_config::plugstack::{self, Entry, EntryKind};
use slurm_config::release::Release;

use super::tree::Tree;

/// Where slurm.conf is looked for, in order: installed, and as slurmd keeps it without one of its own
/// ("configless").
const PLACES: [&str; 4] = [
    "/etc/slurm",
    "/run/slurm/conf",
    "/var/spool/slurmd/conf-cache",
    "/etc/slurm-llnl",
];
/// How deep files include others.
const MAX_DEPTH: u32 = 8;
/// Files read at most.
const MAX_FILES: usize = 512;

/// Slurm as the host's files have it.
#[derive(Debug)]
pub(crate) struct Slurm {
    /// The tree that paths in the configuration are in.
    pub(crate) tree: Tree,
    /// slurm.conf.
    pub(crate) path: String,
    /// slurm.conf's lines.
    pub(crate) conf: Vec<Line>,
    /// gres.conf's lines; absent without the file.
    pub(crate) gres: Option<Vec<Line>>,
    /// cgroup.conf's lines; absent without the file.
    pub(crate) cgroup: Option<Vec<Line>>,
    /// plugstack.conf.
    pub(crate) plugstack_path: String,
    /// The plugins that it loads, in order; absent without the file.
    pub(crate) plugstack: Option<Vec<Entry>>,
    /// This host's line.
    pub(crate) node: Option<Node>,
    /// The release found.
    pub(crate) release: Option<Release>,
    /// A libslurm of a release that the plugin does not know.
    pub(crate) strange_library: Option<String>,
    /// What could not be read.
    pub(crate) unread: Vec<String>,
}

/// Which configuration was asked for.
#[derive(Debug)]
pub(crate) enum Asked<'a> {
    /// A file of this host by name.
    File(&'a Path),
    /// Whatever is installed in a tree.
    In(&'a Tree),
}

/// Reads the configuration; absent when there is none.
///
/// A recording may be of a host with another name than its configuration knows; then its only node line counts.
///
/// # Errors
/// The file, and why it cannot be read or is no slurm.conf.
pub(crate) fn read(
    asked: &Asked<'_>,
    hostname: Option<&str>,
    is_live: bool,
) -> Result<Option<Slurm>, String> {
    let (tree, path) = match asked {
        Asked::File(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
            let path = path.to_str().ok_or("a path that is not UTF-8")?.to_owned();
            (Tree::new(Path::new("/")), path)
        }
        Asked::In(tree) => {
            let mut places = PLACES.iter().map(|place| format!("{place}/slurm.conf"));
            let Some(path) = places.find(|path| tree.exists(path)) else {
                return Ok(None);
            };
            (Tree::clone(tree), path)
        }
    };
    let mut reader = Reader {
        tree: &tree,
        folder: folder_of(&path),
        files: 0,
        unread: Vec::new(),
    };
    let Some(conf) = reader.lines(&path, 0) else {
        return Err(reader.unread.pop().unwrap_or(path));
    };
    if !conf.iter().any(is_of_slurm) {
        return Err(format!(
            "{path}: no slurm.conf; expected lines such as ClusterName=, SlurmctldHost= or NodeName="
        ));
    }
    let beside = |name: &str| format!("{}/{name}", folder_of(&path));
    let optional = |reader: &mut Reader<'_>, name: &str| {
        let path = beside(name);
        if reader.tree.exists(&path) {
            reader.lines(&path, 0)
        } else {
            None
        }
    };
    let gres = optional(&mut reader, "gres.conf");
    let cgroup = optional(&mut reader, "cgroup.conf");
    let named = config::last(&conf, "plugstackconfig").map(|(value, _)| value.to_owned());
    let plugstack_path = named.unwrap_or_else(|| beside("plugstack.conf"));
    let plugstack = if reader.tree.exists(&plugstack_path) {
        Some(reader.entries(&plugstack_path, 0))
    } else {
        None
    };
    let mut unread = reader.unread;
    let own = node::find(&conf, hostname);
    let only = if own.is_none() && !is_live {
        node::find(&conf, None)
    } else {
        None
    };
    if let (Some(node), Some(hostname)) = (&only, hostname) {
        unread.push(format!(
            "whether {} is this host: the recording is of \"{hostname}\", but there is no other node line",
            node.name
        ));
    }
    Ok(Some(Slurm {
        node: own.or(only),
        release: None,
        strange_library: None,
        tree,
        path,
        conf,
        gres,
        cgroup,
        plugstack_path,
        plugstack,
        unread,
    }))
}

/// Whether a line is one that slurm.conf has and other files do not; the first two no slurm.conf can lack.
fn is_of_slurm(line: &Line) -> bool {
    let known = [
        "clustername",
        "slurmctldhost",
        "controlmachine",
        "nodename",
        "partitionname",
        "taskplugin",
        "grestypes",
        "slurmdparameters",
        "selecttype",
        "proctracktype",
        "plugstackconfig",
        "slurmduser",
        "slurmuser",
    ];
    line.pairs
        .iter()
        .any(|(key, _)| known.contains(&key.as_str()))
}

impl Slurm {
    /// A value of slurm.conf and its line.
    pub(crate) fn value(&self, key: &str) -> Option<(&str, &Line)> {
        config::last(&self.conf, key)
    }

    /// What slurmd takes for a socket.
    pub(crate) fn socket_kind(&self) -> SocketKind {
        SocketKind::of(
            self.value("slurmdparameters")
                .map_or("", |(value, _)| value),
        )
    }

    /// Whether slurmd believes the configuration over the machine.
    pub(crate) fn overrides_machine(&self) -> bool {
        self.value("slurmdparameters")
            .is_some_and(|(value, _)| config::has_word(value, "config_overrides"))
    }

    /// The path of a file beside slurm.conf.
    pub(crate) fn beside(&self, name: &str) -> String {
        format!("{}/{name}", folder_of(&self.path))
    }
}

fn folder_of(path: &str) -> String {
    let folder = PathBuf::from(path);
    folder
        .parent()
        .and_then(Path::to_str)
        .unwrap_or("/")
        .trim_end_matches('/')
        .to_owned()
}

struct Reader<'a> {
    tree: &'a Tree,
    /// Where relative names are: slurm.conf's folder.
    folder: String,
    files: usize,
    unread: Vec<String>,
}

impl Reader<'_> {
    fn text(&mut self, path: &str, depth: u32) -> Option<String> {
        self.files += 1;
        if depth > MAX_DEPTH || self.files > MAX_FILES {
            self.unread.push(format!(
                "{path}: included too deep, or one of too many files"
            ));
            return None;
        }
        match self.tree.read(path) {
            Ok(text) => Some(text),
            Err(why) => {
                self.unread.push(why);
                None
            }
        }
    }

    fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{}/{path}", self.folder)
        }
    }

    fn lines(&mut self, path: &str, depth: u32) -> Option<Vec<Line>> {
        let text = self.text(path, depth)?;
        let mut lines = Vec::new();
        for statement in config::parse(&text, path) {
            match statement {
                Statement::Line(line) => lines.push(line),
                Statement::Include { path, .. } => {
                    let path = self.absolute(&path);
                    lines.extend(self.lines(&path, depth + 1).unwrap_or_default());
                }
            }
        }
        Some(lines)
    }

    fn entries(&mut self, path: &str, depth: u32) -> Vec<Entry> {
        let Some(text) = self.text(path, depth) else {
            return Vec::new();
        };
        let mut entries = Vec::new();
        for entry in plugstack::parse(&text, path) {
            match &entry.kind {
                EntryKind::Plugin { .. } => entries.push(entry),
                EntryKind::Include(pattern) => {
                    for path in self.matching(&self.absolute(pattern)) {
                        entries.extend(self.entries(&path, depth + 1));
                    }
                }
            }
        }
        entries
    }

    /// The files that a pattern names, in `glob(3)`'s order; wildcards in the last part only.
    fn matching(&self, pattern: &str) -> Vec<String> {
        let Some((folder, name)) = pattern.rsplit_once('/') else {
            return Vec::new();
        };
        let names = self.tree.entries(folder);
        names
            .iter()
            .filter(|own| plugstack::fits(name, own))
            .map(|own| format!("{folder}/{own}"))
            .collect()
    }
}
