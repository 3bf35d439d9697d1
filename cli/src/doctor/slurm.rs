//! Reads Slurm's configuration with all that it includes.

use std::fmt;
use std::path::{Path, PathBuf};

use launch::site::SiteConfig;
use slurm_config::cluster::{self, ClusterFault};
use slurm_config::config::{self, Line, Statement};
use slurm_config::demands::{self, Breach, Need};
use slurm_config::node::{self, Node};
use slurm_config::parameters::{SlurmdOptions, SlurmdParameters};
use slurm_config::plugstack::{self, Entry, EntryKind};
use slurm_config::release::Release;

use super::slurmd;
use super::tree::{Tree, TreeError};

/// The file name of our plugin, without its ending.
pub(crate) const PLUGIN: &str = "gpu_numa_bind";
/// Where Slurm's plugins are without PluginDir=: those of packages and of a Slurm that was built by hand.
const PLUGIN_FOLDERS: [&str; 5] = [
    "/usr/lib64/slurm",
    "/usr/lib/slurm",
    "/usr/lib/x86_64-linux-gnu/slurm-wlm",
    "/usr/lib/aarch64-linux-gnu/slurm-wlm",
    "/usr/local/lib/slurm",
];
/// How deep files may include others.
const MAX_DEPTH: u32 = 8;
/// Files read at most.
const MAX_FILES: usize = 512;

/// Slurm as the host's files have it.
#[derive(Debug, Clone)]
pub(crate) struct Slurm {
    /// The tree that the configuration is in.
    pub(crate) tree: Tree,
    /// The host that it is for, which is another tree where a machine is recorded and the configuration is a named file of this host;
    /// the files of a slurmd that has its own; None where the host's files are not recorded.
    pub(crate) host: Option<Tree>,
    /// slurm.conf.
    pub(crate) path: String,
    /// Why it is this file and no other; None where it is the one that Slurm was built for, or that the user named.
    pub(crate) why: Option<String>,
    /// The folder of slurm.conf where slurmd keeps its copies of slurmctld's files there ("configless"): what is changed in them is
    /// overwritten.
    pub(crate) copies: Option<String>,
    /// slurm.conf's lines.
    pub(crate) conf: Vec<Line>,
    /// gres.conf's lines; None where there is no such file.
    pub(crate) gres: Option<Vec<Line>>,
    /// cgroup.conf's lines; None where there is no such file.
    pub(crate) cgroup: Option<Vec<Line>>,
    /// Where plugstack.conf is, or would be.
    pub(crate) plugstack_path: String,
    /// The plugins that it loads, in order; None where there is no such file.
    pub(crate) plugstack: Option<Vec<Entry>>,
    /// The place and the file of the first line of it that ends in a carriage return.
    pub(crate) carriage_return: Option<(String, String)>,
    /// This host's line.
    pub(crate) node: Option<Node>,
    /// The options that slurmd runs with, or that its service would give it.
    pub(crate) options: SlurmdOptions,
    /// Whether slurmd runs, so that it has found its node.
    pub(crate) is_running: bool,
    /// Files that slurm.conf, gres.conf or cgroup.conf include and that Slurm cannot.
    pub(crate) unincluded: Vec<Unincluded>,
    /// Whether all that the files include was read.
    pub(crate) is_all: bool,
    /// Whether the host is this one, and not a recorded one.
    is_live: bool,
    /// What could not be read.
    pub(crate) unread: Vec<String>,
}

/// An `Include` that Slurm cannot follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unincluded {
    /// Where it is asked for.
    pub(crate) place: String,
    /// The file, as written.
    pub(crate) path: String,
}

impl Unincluded {
    /// Whether it names the cluster before ClusterName= does (`_parse_for_format`).
    pub(crate) fn lacks_cluster(&self) -> bool {
        self.path.contains("%c")
    }

    /// Whether it is a pattern: Slurm includes files by name only (`_parse_include_directive`, common/parse_config.c).
    pub(crate) fn is_pattern(&self) -> bool {
        self.path.contains('*')
    }
}

impl fmt::Display for Unincluded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, path } = self;
        if self.lacks_cluster() {
            write!(
                f,
                "{place}: Include {path}: no ClusterName= stands before it in this file"
            )
        } else if self.is_pattern() {
            write!(
                f,
                "{place}: Include {path} is a pattern, and Slurm includes only files by name"
            )
        } else {
            write!(f, "{place}: Include {path}: no such file")
        }
    }
}

/// Why Slurm's configuration cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlurmError {
    /// The path of slurm.conf.
    #[error("the path is not UTF-8")]
    Path,
    /// slurm.conf itself.
    #[error(transparent)]
    Read(#[from] TreeError),
    /// Another file.
    #[error("{0}: no slurm.conf; expected lines such as ClusterName=, SlurmctldHost= or NodeName=")]
    NotSlurm(String),
    /// slurmd goes by a file that is not there or not known.
    #[error("{0}")]
    Elsewhere(String),
}

/// Which configuration was asked for.
#[derive(Debug)]
pub(crate) enum Asked<'a> {
    /// A file of this host by name.
    File(&'a Path),
    /// Whatever is installed in a tree.
    In(&'a Tree),
}

/// Reads the configuration; None when there is none.
///
/// `host` has the files of the machine, of which nothing is taken from this host where another is recorded.  A recording may be of a host
/// with another name than its configuration knows; then its only node line counts.
///
/// # Errors
/// slurm.conf cannot be read, or is another file.
pub(crate) fn read(
    asked: &Asked<'_>,
    host: Option<&Tree>,
    hostname: Option<&str>,
    is_live: bool,
) -> Result<Option<Slurm>, SlurmError> {
    let (options, is_running) = host.map(slurmd::options).unwrap_or_default();
    let own = match asked {
        Asked::In(tree) if is_live && is_running => slurmd::own_files(tree, &options),
        Asked::In(_) | Asked::File(_) => None,
    };
    let host = own.as_ref().map(|(files, _)| files).or(host);
    let (tree, path, why) = match asked {
        Asked::File(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
            let path = path.to_str().ok_or(SlurmError::Path)?.to_owned();
            let own = host.filter(|_| is_live);
            let why = own.and_then(|own| slurmd::other_than(&path, own, &options, is_running));
            (Tree::new(Path::new("/")), path, why)
        }
        Asked::In(tree) => match own.clone() {
            Some((files, place)) => (files, place.path, place.why),
            None => {
                let place = slurmd::conf_place(tree, &options, is_running);
                let Some(place) = place.map_err(SlurmError::Elsewhere)? else {
                    return Ok(None);
                };
                (Tree::clone(tree), place.path, place.why)
            }
        },
    };
    let is_hosts = is_live || matches!(asked, Asked::In(_));
    let copies =
        Some(folder_of(&path)).filter(|folder| is_hosts && slurmd::keeps_copies_in(folder));
    let mut reader = Reader {
        tree: &tree,
        host,
        folder: folder_of(&path),
        is_apart: !is_live && matches!(asked, Asked::File(_)),
        is_whole: is_live && matches!(asked, Asked::In(_)),
        files: 0,
        unread: Vec::new(),
        unincluded: Vec::new(),
        cluster: None,
        carriage_return: None,
    };
    let text = tree.read(&path)?;
    let conf = reader.lines_of(&text, &path, 0);
    // No other file has the key.
    reader.cluster = None;
    if !config::is_slurm_conf(&conf) {
        return Err(SlurmError::NotSlurm(path));
    }
    let beside = |name: &str| format!("{}/{name}", folder_of(&path));
    let optional = |reader: &mut Reader<'_>, name: &str| {
        let path = beside(name);
        if reader.exists(&path) {
            reader.lines(&path, 0)
        } else {
            None
        }
    };
    let gres = optional(&mut reader, "gres.conf");
    let cgroup = optional(&mut reader, "cgroup.conf");
    let named = config::last(&conf, "plugstackconfig").map(|(value, _)| value.to_owned());
    let plugstack_path = named.unwrap_or_else(|| beside("plugstack.conf"));
    let plugstack = if reader.exists(&plugstack_path) {
        Some(reader.entries(&plugstack_path, 0))
    } else {
        None
    };
    let carriage_return = reader.carriage_return;
    let (mut unread, unincluded) = (reader.unread, reader.unincluded);
    let is_all = unread.is_empty() && unincluded.is_empty();
    let itself = hostname.zip(options.dynamic()).and_then(|(name, conf)| {
        let name = name.split('.').next().unwrap_or(name);
        node::dynamic(name, conf, "slurmd -Z --conf")
    });
    let told = options.node_name();
    let own = told
        .and_then(|name| node::called(&conf, name))
        .or_else(|| own_line(host, &conf, hostname?))
        .or(itself);
    let only = if own.is_none() && !is_live {
        node::find(&conf, None).filter(|node| !hostname.is_some_and(|own| node.is_kin_of(own)))
    } else {
        None
    };
    if let (Some(node), Some(hostname)) = (&only, hostname) {
        unread.push(format!(
            "whether {} is this host: the recording is of \"{hostname}\", and {} is the only node line",
            node.name, node.name
        ));
    }
    Ok(Some(Slurm {
        node: own.or(only),
        options,
        is_running,
        unincluded,
        tree,
        host: host.cloned(),
        path,
        why,
        copies,
        conf,
        gres,
        cgroup,
        plugstack_path,
        plugstack,
        carriage_return,
        is_all,
        is_live,
        unread,
    }))
}

impl Slurm {
    /// A value of slurm.conf and its line.
    pub(crate) fn value(&self, key: &str) -> Option<(&str, &Line)> {
        config::last(&self.conf, key)
    }

    /// Whether slurm.conf has the GRES `gpu`.
    pub(crate) fn has_gpu_type(&self) -> bool {
        let types = self.value("grestypes");
        // slurmctld compares names of GRES as they are written (`_get_gres_context_by_name`, interfaces/gres.c).
        types.is_some_and(|(value, _)| value.split(',').any(|word| word.trim() == "gpu"))
    }

    /// A node that two lines name, whichever it is: what to say, the node and the second line.
    pub(crate) fn named_twice(&self) -> Option<(String, String, &Line)> {
        let (name, line) = node::named_twice(&self.conf)?;
        let place = line.place();
        let evidence = format!("{place}: {name} is named by an earlier NodeName line, too");
        Some((evidence, name, line))
    }

    /// Whether jobs are given cores rather than whole nodes, or preemption is by GANG: slurmd then goes by the node's line where it
    /// can (`_read_config`, slurmd/slurmd.c).
    pub(crate) fn selects_cores(&self) -> bool {
        let value = |key| self.value(key).map(|(value, _)| value.to_ascii_lowercase());
        let select = value("selecttype").unwrap_or_default();
        let preempt = value("preemptmode").unwrap_or_default();
        !select.contains("linear") || preempt.contains("gang")
    }

    /// Whether it is a part of a slurm.conf: no daemon starts without a host of slurmctld, so a recording that has none is not the whole
    /// file.  That of a live host is.
    pub(crate) fn is_excerpt(&self) -> bool {
        let mut hosts = ["slurmctldhost", "controlmachine"].into_iter();
        !self.is_live && !hosts.any(|key| self.value(key).is_some())
    }

    /// Whether users, folders and files that slurm.conf needs are looked for: where it was read whole.
    pub(crate) fn looks_for_needs(&self) -> bool {
        self.is_all && !self.is_excerpt()
    }

    /// What Slurm of `release` demands of slurm.conf as a whole and does not find; nothing where it was not read whole.
    pub(crate) fn breaches(&self, release: Option<Release>) -> Vec<Breach<'_>> {
        if !self.is_all {
            return Vec::new();
        }
        let cgroup = self.cgroup.as_deref().unwrap_or_default();
        demands::breaches(&self.conf, cgroup, release, !self.is_excerpt())
    }

    /// What Slurm of `release` needs of the host; nothing where the configuration was not read whole.
    pub(crate) fn needs(&self, release: Option<Release>) -> Vec<Need<'_>> {
        if self.looks_for_needs() {
            demands::needs(&self.conf, release)
        } else {
            Vec::new()
        }
    }

    /// What slurmctld refuses; nothing where the configuration was not read whole.
    pub(crate) fn cluster_faults(&self, release: Option<Release>) -> Vec<ClusterFault<'_>> {
        if self.is_all {
            cluster::faults_of(&self.conf, release)
        } else {
            Vec::new()
        }
    }

    /// What slurmd of `release` is told of this host before it counts it.  A node that registers itself with the machine's shape is
    /// counted before its own words and slurmd's option are looked at (`_dynamic_init`, slurmd/slurmd.c).
    pub(crate) fn parameters(&self, release: Option<Release>) -> SlurmdParameters {
        let is_counted_first = self.node.as_ref().is_some_and(Node::takes_machines_shape);
        if is_counted_first {
            SlurmdParameters::of(&self.conf, None, None, release)
        } else {
            self.all_parameters(release)
        }
    }

    /// What slurmd of `release` is told of this host, at whatever time.
    pub(crate) fn all_parameters(&self, release: Option<Release>) -> SlurmdParameters {
        let option = self.options.parameters();
        SlurmdParameters::of(&self.conf, self.node.as_ref(), option, release)
    }

    /// What the first line that loads our plugin says; the defaults where there is none.
    pub(crate) fn site(&self) -> SiteConfig {
        let entries = self.plugstack.iter().flatten();
        let mut ours = entries.filter_map(|entry| match &entry.kind {
            EntryKind::Plugin { arguments, .. } if entry.loads(PLUGIN) => Some(arguments),
            EntryKind::Plugin { .. } | EntryKind::Include(_) => None,
        });
        ours.next()
            .map(|arguments| SiteConfig::parse(arguments))
            .unwrap_or_default()
    }

    /// The folders of PluginDir that have Slurm's plugins; empty where they are not recorded.
    pub(crate) fn plugin_folders(&self) -> Vec<String> {
        let named = self.value("plugindir").map(|(value, _)| value.to_owned());
        let folders: Vec<String> = match named {
            Some(named) => named.split(':').map(str::to_owned).collect(),
            None => PLUGIN_FOLDERS.map(str::to_owned).to_vec(),
        };
        let is_slurms = |folder: &String| self.host_has(&format!("{folder}/task_affinity.so"));
        folders.into_iter().filter(is_slurms).collect()
    }

    /// Whether the host has something at an absolute path; no where its files are not recorded.
    pub(crate) fn host_has(&self, path: &str) -> bool {
        self.host.as_ref().is_some_and(|host| host.exists(path))
    }

    /// Whether the host has something at an absolute path; None where a recording lacks it.
    pub(crate) fn host_has_all(&self, path: &str) -> Option<bool> {
        let is_there = self.host_has(path);
        (is_there || self.is_live).then_some(is_there)
    }

    /// Whether there is a file beside slurm.conf; None where a recording lacks it.
    pub(crate) fn has_beside(&self, name: &str) -> Option<bool> {
        let is_there = self.tree.exists(&self.beside(name));
        (is_there || self.is_live).then_some(is_there)
    }

    /// The path of a file beside slurm.conf.
    pub(crate) fn beside(&self, name: &str) -> String {
        format!("{}/{name}", folder_of(&self.path))
    }
}

/// The line of a host as slurmd looks for it: by its name, by its other names in /etc/hosts, and as `localhost`
/// (`_read_config` and `slurm_conf_get_aliased_nodename`).
fn own_line(host: Option<&Tree>, conf: &[Line], hostname: &str) -> Option<Node> {
    let hosts = host
        .and_then(|host| host.text("/etc/hosts"))
        .unwrap_or_default();
    let names = |line: &str| -> Vec<String> {
        let line = line.split('#').next().unwrap_or_default();
        line.split_whitespace().skip(1).map(str::to_owned).collect()
    };
    let aliases = hosts
        .lines()
        .map(names)
        .filter(|names| names.iter().any(|name| name == hostname))
        .flatten();
    let all = std::iter::once(hostname.to_owned()).chain(aliases);
    all.chain(["localhost".to_owned()])
        .find_map(|name| node::find(conf, Some(&name)))
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
    host: Option<&'a Tree>,
    /// Where relative names are: slurm.conf's folder.
    folder: String,
    /// Whether that folder is this host's and the machine another: what lies elsewhere is then the machine's.
    is_apart: bool,
    /// Whether all of the host is there, so that a file that is not found is missing.
    is_whole: bool,
    files: usize,
    unread: Vec<String>,
    unincluded: Vec<Unincluded>,
    /// ClusterName= of what was read of the file.
    cluster: Option<String>,
    carriage_return: Option<(String, String)>,
}

impl Reader<'_> {
    /// The tree that has a path; None where it is not recorded.
    fn tree_of(&self, path: &str) -> Option<&Tree> {
        let is_beside = Path::new(path).starts_with(&self.folder);
        if self.is_apart && !is_beside {
            self.host
        } else {
            Some(self.tree)
        }
    }

    fn exists(&self, path: &str) -> bool {
        self.tree_of(path).is_some_and(|tree| tree.exists(path))
    }

    fn text(&mut self, path: &str, depth: u32) -> Option<String> {
        self.files += 1;
        if depth > MAX_DEPTH || self.files > MAX_FILES {
            self.unread.push(format!(
                "{path}: not read, as files include each other more than {MAX_DEPTH} deep or are more than {MAX_FILES}"
            ));
            return None;
        }
        let read = match self.tree_of(path) {
            Some(tree) => tree.read(path).map_err(|why| why.to_string()),
            None => Err(format!("{path}: not recorded")),
        };
        read.map_err(|why| self.unread.push(why)).ok()
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
        Some(self.lines_of(&text, path, depth))
    }

    fn lines_of(&mut self, text: &str, path: &str, depth: u32) -> Vec<Line> {
        let mut lines = Vec::new();
        for statement in config::parse(text, path) {
            match statement {
                Statement::Line(line) => {
                    if let Some(name) = line.get("clustername") {
                        self.cluster = Some(name.to_owned());
                    }
                    lines.push(line);
                }
                Statement::Include { path: asked, place } => {
                    let named = config::with_cluster(&asked, self.cluster.as_deref());
                    let Some(file) = named else {
                        self.unincluded.push(Unincluded { place, path: asked });
                        continue;
                    };
                    let path = self.absolute(&file);
                    let asked = Unincluded { place, path: file };
                    // A recording may lack the whole folder.
                    let is_missing = self.tree_of(&path).is_some_and(|tree| tree.lacks(&path))
                        || self.is_whole && !self.exists(&path);
                    if asked.is_pattern() || is_missing {
                        self.unincluded.push(asked);
                        continue;
                    }
                    lines.extend(self.lines(&path, depth + 1).unwrap_or_default());
                }
            }
        }
        lines
    }

    fn entries(&mut self, path: &str, depth: u32) -> Vec<Entry> {
        let Some(text) = self.text(path, depth) else {
            return Vec::new();
        };
        let mut entries = Vec::new();
        for entry in plugstack::parse(&text, path) {
            if entry.has_carriage_return() {
                let place = (entry.place(), entry.file.clone());
                self.carriage_return.get_or_insert(place);
            }
            match &entry.kind {
                EntryKind::Plugin { .. } => entries.push(entry),
                EntryKind::Include(pattern) => {
                    for path in self.matching(&beside(path, pattern)) {
                        entries.extend(self.entries(&path, depth + 1));
                    }
                }
            }
        }
        entries
    }

    /// The files that a pattern names, in `glob(3)`'s order.
    fn matching(&self, pattern: &str) -> Vec<String> {
        let mut found = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let within = |folder: &String| -> Vec<String> {
                if !plugstack::has_wildcard(part) {
                    return vec![format!("{folder}/{part}")];
                }
                let tree = self.tree_of(&format!("{folder}/"));
                let names = tree.map(|tree| tree.entries(folder)).unwrap_or_default();
                let names = names.iter().filter(|own| plugstack::fits(part, own));
                names.map(|own| format!("{folder}/{own}")).collect()
            };
            found = found.iter().flat_map(within).take(MOST_FILES).collect();
        }
        found.retain(|path| !path.is_empty());
        found
    }
}

/// So many files of a pattern are looked at.
const MOST_FILES: usize = 1024;

/// What a line of `file` includes: a path that does not begin at the root is in that file's own folder (spank.c,
/// `_spank_conf_include`).
fn beside(file: &str, pattern: &str) -> String {
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    if pattern.starts_with('/') {
        pattern.to_owned()
    } else {
        format!("{folder}/{pattern}")
    }
}
