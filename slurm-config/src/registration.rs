//! What slurmd registers of a node's GPUs, and whether slurmctld takes it.
//!
//! The steps are Slurm's own, the same from 22.05 on but for [`CoresRule`]: gres.conf is checked
//! (`_validate_gres_conf`), held against the node's `Gres=` (`_merge_config`, interfaces/gres.c), then against what
//! AutoDetect finds (`_merge_system_gres_conf`, plugins/gres/gpu/gres_gpu.c), and slurmctld judges the rest
//! (`_node_config_validate`, interfaces/gres.c).  `make test-gres` holds them to real daemons.

use std::collections::BTreeSet;
use std::fmt;

use crate::cores::CoreSet;
use crate::gres::{GresLine, NodeGres};
use crate::node::{Node, Shape};
use crate::rules::{CoresRule, FlagsRule, Series};

/// GPUs that Slurm holds as one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its type; None for none.
    pub kind: Option<String>,
    /// Its device files as one text, by which lines and found GPUs are compared; None where none is named.
    pub file: Option<String>,
    /// How many GPUs it is.
    pub count: u64,
    /// Its cores, or what stands there instead of numbers; None where none are named, which means all.
    pub cores: Option<Result<CoreSet, String>>,
    /// How many GPUs its links are to, itself among them; None where no links are named.
    pub links: Option<u64>,
    /// Whether its files are one device (`MultipleFiles=`, MIG).
    pub is_of_several_files: bool,
}

/// Why slurmd does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fatal {
    /// Some lines name device files and others do not.
    SomeFiles,
    /// Some lines name a type and others do not.
    SomeTypes,
    /// Several lines with neither a device file nor a type.
    Duplicate,
    /// A line has `File=` and `MultipleFiles=`.
    BothFiles,
    /// `MultipleFiles=` names one file.
    OneOfSeveral,
    /// `Count=` is no number.
    NoCount {
        /// `Count=`.
        count: String,
    },
    /// Lines for the node have AutoDetect= that differ.
    Detections,
    /// `Flags=` that an earlier line of the GRES does not have.
    Flags {
        /// `Flags=`.
        flags: String,
    },
    /// `Flags=` with `no_gpu_env` and a word for a job's environment.
    FlagsAndNone,
    /// A device file that is given twice.
    SameFile {
        /// The file.
        file: String,
    },
    /// The lines of gres/shard or gres/mps, of which slurmd takes one without a device file, or only such with one.
    SharedLines {
        /// `shard` or `mps`.
        name: String,
    },
    /// Fewer shards in gres.conf than the node's line has.
    SharedShort {
        /// `shard` or `mps`.
        name: String,
        /// How many gres.conf has.
        found: u64,
        /// How many the node's line has.
        declared: u64,
    },
    /// Shards without a GPU that has a device file.
    SharedAlone {
        /// `shard` or `mps`.
        name: String,
    },
    /// `Count=` is not the number of files.
    Count {
        /// `Count=`.
        count: u64,
        /// How many files there are.
        files: u64,
    },
    /// The node's `Gres=` has items with and without a type.
    MixedGres,
}

impl fmt::Display for Fatal {
    /// What is wrong, after "slurmd does not start:".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SomeFiles => f.write_str("some lines name device files and others do not"),
            Self::SomeTypes => f.write_str("some lines have Type= and others do not"),
            Self::Duplicate => {
                f.write_str("several lines with neither File= nor Type= (\"duplicate records\")")
            }
            Self::BothFiles => f.write_str("a line has both File= and MultipleFiles="),
            Self::OneOfSeveral => f.write_str("MultipleFiles= names one file"),
            Self::NoCount { count } => write!(f, "Count={count} is no number"),
            Self::Detections => f.write_str("two AutoDetect= for this node differ"),
            Self::Flags { flags } => write!(
                f,
                "Flags={flags} is not what an earlier line of the GRES has (\"does not match env flags\")"
            ),
            Self::FlagsAndNone => {
                f.write_str("Flags= has no_gpu_env beside a word that sets a variable")
            }
            Self::SameFile { file } => {
                write!(f, "{file} is given twice (\"duplicate device file name\")")
            }
            Self::SharedLines { name } => write!(
                f,
                "gres/{name} has several lines without File=, or lines with and without it"
            ),
            Self::SharedShort {
                name,
                found,
                declared,
            } => write!(
                f,
                "gres.conf has {found} {name} and the node's line {declared} (\"multiple configurations\")"
            ),
            Self::SharedAlone { name } => write!(
                f,
                "gres/{name} without a GPU that has a device file (\"failed to merge SHARED and SHARING configuration\")"
            ),
            Self::Count { count, files } => {
                write!(f, "Count={count}, but File= names {files}")
            }
            Self::MixedGres => {
                f.write_str("some GPUs of the node's Gres= have a type and others do not")
            }
        }
    }
}

/// Why slurmctld sets the node invalid and drains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Fewer GPUs than the node's line declares.
    Fewer {
        /// How many slurmd has.
        found: u64,
        /// How many the line declares.
        declared: u64,
    },
    /// Fewer of a type, which is compared letter by letter.
    FewerOfType {
        /// The type.
        kind: String,
        /// How many slurmd has.
        found: u64,
        /// How many the line declares.
        declared: u64,
    },
    /// A type that the node's line does not have.
    OtherType {
        /// The type that slurmd has.
        kind: String,
    },
    /// Fewer shards than the node's line declares, because their device files are no GPU's of the node.
    FewerShared {
        /// `shard` or `mps`.
        name: String,
        /// How many slurmd has.
        found: u64,
        /// How many the line declares.
        declared: u64,
    },
    /// `Cores=` that is no list of numbers.
    NoNumbers {
        /// `Cores=`.
        cores: String,
    },
    /// Cores that the release does not take.
    Cores {
        /// Slurm's core numbers.
        cores: CoreSet,
        /// What it takes.
        rule: CoresRule,
    },
    /// `Links=`, or links that AutoDetect finds, to more GPUs than the node has (`_links_str2array`).
    Links {
        /// To how many.
        links: u64,
        /// How many the node has.
        gpus: u64,
    },
    /// A core beyond the last.
    NoSuchCore {
        /// Slurm's core numbers.
        cores: CoreSet,
    },
}

impl fmt::Display for Refused {
    /// The reason in a person's words, after "because".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fewer { found, declared } => {
                write!(f, "slurmd has {found} of {declared} GPUs")
            }
            Self::FewerOfType {
                kind,
                found,
                declared,
            } => write!(f, "slurmd has {found} of {declared} GPUs of type {kind}"),
            Self::OtherType { kind } => {
                write!(
                    f,
                    "slurmd has type {kind}, which the node's line does not have"
                )
            }
            Self::FewerShared {
                name,
                found,
                declared,
            } => write!(
                f,
                "slurmd has {found} of {declared} {name}: the others are of device files that are no GPU's of the node"
            ),
            Self::NoNumbers { cores } => {
                write!(f, "Cores={cores} is no list of core numbers")
            }
            Self::Cores { cores, rule } => {
                write!(f, "cores {cores} are not {rule}")
            }
            Self::Links { links, gpus } => write!(
                f,
                "links to {links} GPUs are given and the node's line has {gpus} (\"Invalid GRES Links value\")"
            ),
            Self::NoSuchCore { cores } => {
                write!(f, "cores {cores} go beyond the node's last core")
            }
        }
    }
}

/// The GPUs of a node as slurmd registers them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// What the node's line declares, a type each.
    declared: Vec<(Option<String>, u64)>,
    /// What slurmd has.
    pub records: Vec<Record>,
    /// What it has of gres/shard and gres/mps, which share GPUs.
    shared: Vec<Shared>,
}

/// A GRES that shares GPUs, as slurmd registers it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shared {
    name: &'static str,
    /// How many the node's line declares.
    declared: u64,
    /// How many slurmd has.
    found: u64,
}

/// The GRES that share GPUs (`gres_id_shared`, interfaces/gres.c).
const SHARED: [&str; 2] = ["mps", "shard"];

impl Registration {
    /// What slurmd of `series` registers of the GPUs of `gres` under the line of `node`; `detected` is what AutoDetect finds, one
    /// record each, None where it does not look.
    ///
    /// # Errors
    /// Why slurmd does not start.
    pub fn of(
        gres: &NodeGres<'_>,
        node: &Node,
        detected: Option<Vec<Record>>,
        series: &Series,
    ) -> Result<Self, Fatal> {
        if gres.conflict.is_some() {
            return Err(Fatal::Detections);
        }
        check_lines(&gres.every, series.flags)?;
        let mut lines = read_lines(gres)?;
        let declared: Vec<_> = node
            .gres("gpu")
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        let typed = declared.iter().filter(|(kind, _)| kind.is_some()).count();
        if typed > 0 && typed < declared.len() {
            return Err(Fatal::MixedGres);
        }
        let mut records = Vec::new();
        if typed == 0 {
            let counts = declared.iter().map(|(_, count)| *count);
            let all = counts.fold(0, u64::saturating_add);
            take_lines(&mut lines, None, all, &mut records);
        } else {
            for (kind, count) in &declared {
                take_lines(&mut lines, kind.as_deref(), *count, &mut records);
            }
        }
        if let Some(found) = detected {
            records = merge_detected(records, found);
        }
        records.retain(|record| record.file.is_some());
        check_files(&records)?;
        let mut shared = Vec::new();
        for name in SHARED {
            shared.extend(Shared::of(name, gres, node, &records)?);
        }
        Ok(Self {
            declared,
            records,
            shared,
        })
    }

    /// Whether slurmctld of a release with `rule` takes it for a node of `shape`.
    ///
    /// # Errors
    /// Why it does not.
    pub fn judge(&self, rule: CoresRule, shape: Shape) -> Result<(), Refused> {
        let found: u64 = self.records.iter().map(|record| record.count).sum();
        let wanted: u64 = self.declared.iter().map(|(_, count)| count).sum();
        if found < wanted {
            return Err(Refused::Fewer {
                found,
                declared: wanted,
            });
        }
        // slurmctld looks at places only where a record has cores or a type, or GPUs are shared.
        let looks = self.has_places() || !self.shared.is_empty();
        for record in self.records.iter().filter(|_| looks) {
            let gpus = found.min(wanted);
            if let Some(links) = record.links.filter(|links| *links > gpus) {
                return Err(Refused::Links { links, gpus });
            }
            let cores = match &record.cores {
                None => continue,
                // Before there were rules, nothing looked.
                Some(Err(_)) if rule == CoresRule::AnySet => continue,
                Some(Err(cores)) => {
                    return Err(Refused::NoNumbers {
                        cores: cores.clone(),
                    });
                }
                Some(Ok(cores)) => cores,
            };
            let is_beyond = cores
                .last()
                .is_some_and(|last| u64::from(last) >= shape.cores());
            if is_beyond && rule != CoresRule::AnySet {
                return Err(Refused::NoSuchCore {
                    cores: cores.clone(),
                });
            }
            if !rule.admits_in(shape, cores) {
                return Err(Refused::Cores {
                    cores: cores.clone(),
                    rule,
                });
            }
        }
        self.judge_types()?;
        match self.shared.iter().find(|own| own.found < own.declared) {
            Some(own) => Err(Refused::FewerShared {
                name: own.name.to_owned(),
                found: own.found,
                declared: own.declared,
            }),
            None => Ok(()),
        }
    }

    /// Whether a record has cores or a type.
    fn has_places(&self) -> bool {
        let mut records = self.records.iter();
        records.any(|record| record.cores.is_some() || record.kind.is_some())
    }

    /// Types are compared letter by letter, and only where the node's line has some.
    fn judge_types(&self) -> Result<(), Refused> {
        let typed = self
            .declared
            .iter()
            .filter_map(|(kind, count)| Some((kind.as_ref()?, *count)));
        let typed: Vec<(&String, u64)> = typed.collect();
        if typed.is_empty() || !self.has_places() {
            return Ok(());
        }
        for (kind, count) in &typed {
            let own = self
                .records
                .iter()
                .filter(|record| record.kind.as_ref() == Some(*kind));
            let found: u64 = own.map(|record| record.count).sum();
            if found < *count && self.records.len() > 1 {
                return Err(Refused::FewerOfType {
                    kind: (*kind).clone(),
                    found,
                    declared: *count,
                });
            }
        }
        let kinds = self
            .records
            .iter()
            .filter_map(|record| record.kind.as_ref());
        for kind in kinds {
            if !typed.iter().any(|(own, _)| *own == kind) {
                return Err(Refused::OtherType { kind: kind.clone() });
            }
        }
        Ok(())
    }
}

/// The words of `Flags=` for a job's environment (`GRES_CONF_ENV_SET`).
const ENVIRONMENT_FLAGS: [&str; 4] = [
    "nvidia_gpu_env",
    "amd_gpu_env",
    "intel_gpu_env",
    "opencl_env",
];
/// The other words (`gres_flags_parse`).
const OTHER_FLAGS: [&str; 4] = ["countonly", "one_sharing", "explicit", "env_uuid"];

/// What slurmd remembers of the last line with flags.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flags {
    name: String,
    /// None for those of a line of gres/gpu without any.
    words: Option<Vec<&'static str>>,
    has_none: bool,
}

impl Flags {
    /// Those of a line, by the words that `rule` compares; None where it gives none that count.
    fn of(line: &GresLine<'_>, name: &str, rule: FlagsRule) -> Result<Option<Self>, Fatal> {
        if line.line.get("flags").is_none() {
            return Ok(None);
        }
        let is_given = |word: &&'static str| line.has_flag(word);
        let environment: Vec<&str> = ENVIRONMENT_FLAGS.into_iter().filter(is_given).collect();
        let has_none = line.has_flag("no_gpu_env");
        if !environment.is_empty() && has_none {
            return Err(Fatal::FlagsAndNone);
        }
        if environment.is_empty() && !has_none && rule != FlagsRule::All {
            return Ok(None);
        }
        let others = OTHER_FLAGS
            .into_iter()
            .filter(is_given)
            .filter(|word| match rule {
                FlagsRule::Environment => false,
                FlagsRule::All => *word != "env_uuid",
                FlagsRule::AllWithEnvironment => true,
            });
        Ok(Some(Self {
            name: name.to_owned(),
            words: Some(environment.into_iter().chain(others).collect()),
            has_none,
        }))
    }

    /// Whether a line without `Flags=` takes them.
    fn are_taken_on(&self) -> bool {
        self.has_none || self.words.as_ref().is_none_or(|words| !words.is_empty())
    }
}

/// What slurmd looks for in each line by itself and against the line before, whatever GRES it is for.
fn check_lines(lines: &[GresLine<'_>], rule: FlagsRule) -> Result<(), Fatal> {
    let mut before: Option<Flags> = None;
    for line in lines {
        if line.given_count().is_err() {
            let count = line.line.get("count").unwrap_or_default().to_owned();
            return Err(Fatal::NoCount { count });
        }
        let name = line
            .line
            .get("name")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let same = before.as_ref().filter(|own| own.name == name);
        match Flags::of(line, &name, rule)? {
            Some(own) => {
                if same.is_some_and(|before| *before != own) {
                    let flags = line.line.get("flags").unwrap_or_default().to_owned();
                    return Err(Fatal::Flags { flags });
                }
                before = Some(own);
            }
            None => {
                let has_own = line.line.get("flags").is_some();
                let takes = !has_own && same.is_some_and(Flags::are_taken_on);
                if name == "gpu" && !takes {
                    before = Some(Flags {
                        name,
                        words: None,
                        has_none: false,
                    });
                }
            }
        }
    }
    Ok(())
}

/// Device files that two records name; those of `MultipleFiles=` may (`gres_node_config_load`).
fn check_files(records: &[Record]) -> Result<(), Fatal> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for record in records.iter().filter(|record| !record.is_of_several_files) {
        for file in record.file.iter().flat_map(|files| files.split(',')) {
            if !seen.insert(file) {
                return Err(Fatal::SameFile {
                    file: file.to_owned(),
                });
            }
        }
    }
    Ok(())
}

impl Shared {
    /// What slurmd has of gres/`name`: one line without a file, which it spreads over all GPUs, or lines with the files of
    /// GPUs (`_merge_lists`, plugins/gres/common/gres_c_s.c); None where the node's line has none.
    fn of(
        name: &'static str,
        gres: &NodeGres<'_>,
        node: &Node,
        gpus: &[Record],
    ) -> Result<Option<Self>, Fatal> {
        let lines = gres.of_name(name);
        let with_file = lines.iter().filter(|line| !line.files().is_empty()).count();
        let is_mixed = with_file > 0 && with_file < lines.len();
        let has_types = lines.iter().any(|line| line.kind().is_some());
        if is_mixed || with_file == 0 && !has_types && lines.len() > 1 {
            return Err(Fatal::SharedLines {
                name: name.to_owned(),
            });
        }
        let Some(declared) = node.gres_count(name).filter(|count| *count > 0) else {
            return Ok(None);
        };
        // What is on no line of gres.conf is a record of its own, without a file.
        let mut open = declared;
        let mut records: Vec<(Vec<String>, u64)> = Vec::new();
        for line in &lines {
            let count = line.count().unwrap_or_else(|| line.devices()).min(open);
            if count > 0 {
                open -= count;
                records.push((line.files(), count));
            }
        }
        if open > 0 && !records.is_empty() {
            return Err(Fatal::SharedShort {
                name: name.to_owned(),
                found: declared - open,
                declared,
            });
        }
        if gpus.is_empty() {
            return Err(Fatal::SharedAlone {
                name: name.to_owned(),
            });
        }
        let files: Vec<&str> = gpus
            .iter()
            .filter_map(|gpu| gpu.file.as_deref())
            .flat_map(|files| files.split(','))
            .collect();
        let of_record = |(own, count): &(Vec<String>, u64)| {
            let each = count / (own.len() as u64).max(1);
            let known = own.iter().filter(|file| files.contains(&file.as_str()));
            each.saturating_mul(known.count() as u64)
        };
        let found = if records.iter().all(|(files, _)| files.is_empty()) {
            declared
        } else {
            records.iter().map(of_record).fold(0, u64::saturating_add)
        };
        Ok(Some(Self {
            name,
            declared,
            found,
        }))
    }
}

/// The lines of gres.conf as records, where slurmd takes them.
fn read_lines(gres: &NodeGres<'_>) -> Result<Vec<Record>, Fatal> {
    let mut records = Vec::new();
    for line in &gres.lines {
        let files = line.files();
        let count = files.len() as u64;
        let several = line.several_files();
        if !several.is_empty() && !files.is_empty() {
            return Err(Fatal::BothFiles);
        }
        if several.len() == 1 {
            return Err(Fatal::OneOfSeveral);
        }
        if let Some(given) = line.count() {
            let is = if several.is_empty() { count } else { 1 };
            if is > 0 && given != is {
                return Err(Fatal::Count {
                    count: given,
                    files: is,
                });
            }
        }
        let is_of_several_files = !several.is_empty();
        let file = if is_of_several_files { several } else { files };
        records.push(Record {
            kind: line.kind().map(str::to_owned),
            file: (!file.is_empty()).then(|| file.join(",")),
            count: line.devices(),
            cores: line.cores().map(|cores| {
                let text = || {
                    line.cores_key()
                        .and_then(|key| line.line.get(&key.to_ascii_lowercase()))
                };
                cores.map_err(|_| text().unwrap_or_default().to_owned())
            }),
            links: line.links(),
            is_of_several_files,
        });
    }
    let mixes = |has: &dyn Fn(&Record) -> bool| {
        let having = records.iter().filter(|record| has(record)).count();
        having > 0 && having < records.len()
    };
    if mixes(&|record| record.file.is_some()) {
        return Err(Fatal::SomeFiles);
    }
    if mixes(&|record| record.kind.is_some()) {
        return Err(Fatal::SomeTypes);
    }
    let is_bare = |record: &Record| record.file.is_none() && record.kind.is_none();
    if records.len() > 1 && records.iter().all(is_bare) {
        return Err(Fatal::Duplicate);
    }
    Ok(records)
}

/// Takes from the lines what an item of `Gres=` asks for; what they lack is a record without a file.
fn take_lines(lines: &mut Vec<Record>, kind: Option<&str>, wanted: u64, records: &mut Vec<Record>) {
    let mut open = wanted;
    while open > 0 {
        // Without a type any line is taken, and loses its own.
        let fits = |line: &Record| {
            kind.is_none_or(|kind| {
                let own = line.kind.as_ref();
                own.is_some_and(|own| own.eq_ignore_ascii_case(kind))
            })
        };
        let Some(at) = lines.iter().position(fits) else {
            break;
        };
        let mut line = lines.remove(at);
        if kind.is_none() {
            line.kind = None;
        }
        if line.count > open {
            line.shorten(open);
        }
        open -= line.count;
        records.push(line);
    }
    if open > 0 {
        records.push(Record {
            kind: kind.map(str::to_owned),
            file: None,
            count: open,
            cores: None,
            links: None,
            is_of_several_files: false,
        });
    }
}

impl Record {
    /// Keeps the first `count` devices.
    fn shorten(&mut self, count: u64) {
        self.count = count;
        let kept = usize::try_from(count).unwrap_or(usize::MAX);
        if let Some(files) = &self.file {
            let first: Vec<&str> = files.split(',').take(kept).collect();
            self.file = Some(first.join(","));
        }
    }

    /// One record for each device.
    fn split(self) -> Vec<Self> {
        let one = |file: Option<String>| Self {
            file,
            count: 1,
            ..self.clone()
        };
        match &self.file {
            _ if self.count <= 1 => vec![self],
            Some(files) => files
                .split(',')
                .map(|file| one(Some(file.to_owned())))
                .collect(),
            None => (0..self.count.min(MOST_DEVICES))
                .map(|_| one(None))
                .collect(),
        }
    }
}

/// The most devices that a count without files is taken for.
const MOST_DEVICES: u64 = 1024;

/// Found GPUs take the type of the first item whose type is a part of theirs, the longest first; then each configured
/// GPU takes the found one of its type and file, with its cores.
fn merge_detected(configured: Vec<Record>, mut found: Vec<Record>) -> Vec<Record> {
    let mut single: Vec<Record> = configured.into_iter().flat_map(Record::split).collect();
    let length = |record: &Record| record.kind.as_ref().map_or(0, String::len);
    single.sort_by(|a, b| length(b).cmp(&length(a)).then_with(|| a.kind.cmp(&b.kind)));
    found.sort_by(|a, b| length(b).cmp(&length(a)).then_with(|| a.kind.cmp(&b.kind)));
    let has_types = single.iter().any(|record| record.kind.is_some());
    let mut used = vec![false; single.len()];
    for gpu in &mut found {
        let name = gpu.kind.clone().unwrap_or_default();
        let free = single.iter().zip(&used).position(|(record, used)| {
            let kind = record.kind.as_deref();
            !used && kind.is_some_and(|kind| is_part_of(kind, &name))
        });
        match free {
            Some(at) => {
                if let Some(mark) = used.get_mut(at) {
                    *mark = true;
                }
                gpu.kind = single.get(at).and_then(|record| record.kind.clone());
            }
            None if !has_types => gpu.kind = None,
            None => {}
        }
    }
    // Those with a file first.
    single.sort_by_key(|record| (record.file.is_none(), record.file.clone()));
    found.sort_by_key(|record| record.file.clone());
    let mut merged = Vec::new();
    let mut dropped: Vec<usize> = Vec::new();
    for own in single {
        let fits = |(at, gpu): (usize, &Record)| {
            let is_type = own.kind.is_none() || own.kind == gpu.kind;
            let is_file = own.file.is_none() || own.file == gpu.file;
            !dropped.contains(&at) && is_type && is_file
        };
        match found.iter().enumerate().find(|pair| fits(*pair)) {
            Some((at, gpu)) => {
                dropped.push(at);
                let differs = own.cores.is_some() && gpu.cores.is_some() && own.cores != gpu.cores;
                if !differs {
                    merged.push(gpu.clone());
                }
            }
            None if own.file.is_some() => merged.push(own),
            None => {}
        }
    }
    merged
}

/// The type of a GPU as AutoDetect makes it of the driver's name: in lower case, blanks as underscores
/// (`gpu_common_underscorify_tolower`).
pub fn type_of_name(name: &str) -> String {
    name.to_ascii_lowercase().replace(' ', "_")
}

/// Whether a configured type names a found one: it is a part of it, in any case.
pub fn is_part_of(kind: &str, found: &str) -> bool {
    found
        .to_ascii_lowercase()
        .contains(&kind.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::of_text;
    use crate::node;
    use crate::rules::TABLE;

    /// What a slurmd and slurmctld of `rule` make of a node of two sockets of four cores.
    fn outcome(gres: &str, declared: &str, found: Option<&[(&str, &str, &str)]>) -> String {
        outcome_under(CoresRule::WholeSockets, gres, declared, found)
    }

    fn outcome_under(
        rule: CoresRule,
        gres: &str,
        declared: &str,
        found: Option<&[(&str, &str, &str)]>,
    ) -> String {
        let lines = of_text(gres, "gres.conf");
        let gres = NodeGres::of(&lines, "n1", "gpu");
        let text = format!("NodeName=n1 Sockets=2 CoresPerSocket=4 Gres={declared}");
        let node = node::find(&of_text(&text, "slurm.conf"), None).unwrap();
        let record = |(kind, file, cores): &(&str, &str, &str)| Record {
            kind: Some(type_of_name(kind)),
            file: Some((*file).to_owned()),
            count: 1,
            cores: Some(Ok(cores.parse().unwrap())),
            links: None,
            is_of_several_files: false,
        };
        let found = found.map(|found| found.iter().map(record).collect());
        let series = TABLE.iter().rev().find(|series| series.cores == rule);
        match Registration::of(&gres, &node, found, series.unwrap()) {
            Err(fatal) => format!("fatal: {fatal}"),
            Ok(own) => match own.judge(rule, node.geometry().shape()) {
                Err(refused) => format!("drained: {refused}"),
                Ok(()) => format!("{} records", own.records.len()),
            },
        }
    }

    const TWO: &str =
        "Name=gpu File=/dev/nvidia0 Cores=0-3\nName=gpu File=/dev/nvidia1 Cores=4-7\n";
    const TYPED: &str = "Name=gpu Type=L40S File=/dev/nvidia0 Cores=0-3\n\
                         Name=gpu Type=L40S File=/dev/nvidia1 Cores=4-7\n";

    /// As a real 22.05.8 answered (`make test-gres`).
    #[test]
    fn types_are_compared_letter_by_letter_and_a_line_without_one_has_none() {
        assert_eq!(outcome(TWO, "gpu:2", None), "2 records");
        assert_eq!(
            outcome(TWO, "gpu:l40s:2", None),
            "drained: slurmd has 0 of 2 GPUs"
        );
        assert_eq!(outcome(TYPED, "gpu:2", None), "2 records");
        assert_eq!(outcome(TYPED, "gpu:L40S:2", None), "2 records");
        assert_eq!(
            outcome(TYPED, "gpu:l40s:2", None),
            "drained: slurmd has 0 of 2 GPUs of type l40s"
        );
        assert_eq!(
            outcome(TYPED, "gpu:h100:2", None),
            "drained: slurmd has 0 of 2 GPUs"
        );
    }

    #[test]
    fn files_that_slurmd_refuses_are_named() {
        for (gres, declared, why) in [
            (
                "Name=gpu\nName=gpu\n",
                "gpu:2",
                "several lines with neither",
            ),
            (
                "Name=gpu File=/dev/nvidia0\nName=gpu\n",
                "gpu:2",
                "some lines name device files",
            ),
            (
                "Name=gpu Type=a File=/dev/nvidia0\nName=gpu File=/dev/nvidia1\n",
                "gpu:2",
                "some lines have Type=",
            ),
            (
                "Name=gpu File=/dev/nvidia[0-1] Count=3\n",
                "gpu:2",
                "Count=3, but File= names 2",
            ),
            (
                "Name=gpu MultipleFiles=/dev/nvidia0\n",
                "gpu:1",
                "MultipleFiles= names one",
            ),
            (
                "Name=gpu File=/dev/nvidia0 MultipleFiles=/dev/nvidia0,/dev/nvidia1\n",
                "gpu:1",
                "a line has both File=",
            ),
            (
                "Name=gpu File=/dev/nvidia0 Count=4x\n",
                "gpu:1",
                "Count=4x is no number",
            ),
            (
                "Name=gpu File=/dev/nvidia[0-1]\nName=gpu File=/dev/nvidia1\n",
                "gpu:3",
                "/dev/nvidia1 is given twice",
            ),
            (
                "NodeName=n1 AutoDetect=nvml\nNodeName=n1 AutoDetect=off\n",
                "gpu:1",
                "two AutoDetect=",
            ),
            (
                TYPED,
                "gpu:L40S:1,gpu:1",
                "some GPUs of the node's Gres= have a type",
            ),
        ] {
            let got = outcome(gres, declared, None);
            assert!(got.starts_with(&format!("fatal: {why}")), "{gres} {got}");
        }
    }

    #[test]
    fn cores_are_judged_by_the_release() {
        let half = "Name=gpu File=/dev/nvidia0 Cores=0-1\n";
        assert_eq!(
            outcome_under(CoresRule::AnySet, half, "gpu:1", None),
            "1 records"
        );
        assert_eq!(
            outcome_under(CoresRule::OneSocketOrAll, half, "gpu:1", None),
            "drained: cores 0-1 are not one whole socket or all cores"
        );
        let far = "Name=gpu File=/dev/nvidia0 Cores=8-11\n";
        assert_eq!(
            outcome(far, "gpu:1", None),
            "drained: cores 8-11 go beyond the node's last core"
        );
        assert_eq!(
            outcome_under(CoresRule::AnySet, far, "gpu:1", None),
            "1 records"
        );
    }

    /// As real ones of every release answered: two of four GPUs, each with links to four.
    #[test]
    fn links_are_to_no_more_gpus_than_the_node_has() {
        let gres = "Name=gpu File=/dev/nvidia0 Cores=0-3 Links=-1,0,0\nName=gpu File=/dev/nvidia1 Cores=4-7 Links=0,-1,0\n";
        let got = outcome(gres, "gpu:2", None);
        assert!(
            got.starts_with("drained: links to 3 GPUs are given and the node's line has 2"),
            "{got}"
        );
        assert_eq!(
            outcome(
                &gres.replace(",0\n", "\n").replace("-1,0,0", "-1,0"),
                "gpu:2",
                None
            ),
            "2 records"
        );
    }

    /// As real ones of every release answered (`make test-gres`).
    #[test]
    fn links_count_only_where_slurmctld_looks_at_places() {
        let gres = "Name=gpu File=/dev/nvidia0 Links=-1,0,0\n";
        assert_eq!(outcome(gres, "gpu:1", None), "1 records");
        let typed = gres.replace("File", "Type=a File");
        for (gres, declared) in [
            (gres.to_owned() + "Name=shard Count=2\n", "gpu:1,shard:2"),
            (typed, "gpu:a:1"),
        ] {
            let got = outcome(&gres, declared, None);
            assert!(got.starts_with("drained: links to 3 GPUs"), "{got}");
        }
    }

    #[test]
    fn flags_are_the_same_on_every_line() {
        use FlagsRule::{All, AllWithEnvironment, Environment};
        let of = |gres: &str, rule| {
            let lines = of_text(gres, "gres.conf");
            check_lines(&NodeGres::of(&lines, "n1", "gpu").every, rule).is_err()
        };
        for (first, second, environment, all, with) in [
            ("", "", false, false, false),
            ("nvidia_gpu_env", "nvidia_gpu_env", false, false, false),
            ("nvidia_gpu_env", "", false, false, false),
            ("", "nvidia_gpu_env", true, true, true),
            ("opencl_env", "nvidia_gpu_env", true, true, true),
            (
                "nvidia_gpu_env,opencl_env",
                "opencl_env,NVIDIA_GPU_ENV",
                false,
                false,
                false,
            ),
            ("nvidia_gpu_env,no_gpu_env", "", true, true, true),
            ("", "no_gpu_env", true, true, true),
            ("", "CountOnly", false, true, false),
            ("", "env_uuid", false, true, false),
            ("env_uuid", "", false, false, false),
            ("env_uuid", "env_uuid", false, false, false),
            (
                "nvidia_gpu_env,env_uuid",
                "nvidia_gpu_env",
                false,
                false,
                true,
            ),
        ] {
            let line = |flags: &str| match flags {
                "" => "Name=gpu File=x\n".to_owned(),
                flags => format!("Name=gpu File=x Flags={flags}\n"),
            };
            let gres = line(first) + &line(second);
            let got = (
                of(&gres, Environment),
                of(&gres, All),
                of(&gres, AllWithEnvironment),
            );
            assert_eq!(got, (environment, all, with), "{gres}");
        }
        // Another GRES between them: its flags are not compared with those of GPUs.
        let gres = "Name=gpu File=x\nName=shard Count=8 Flags=one_sharing\nName=gpu File=y Flags=nvidia_gpu_env\n";
        assert!(of(gres, Environment) && !of(gres, All));
    }

    #[test]
    fn shards_need_gpus_and_all_of_them() {
        for (lines, declared, expected) in [
            ("Name=shard Count=8\n", "gpu:2,shard:8", "2 records"),
            ("", "gpu:2,shard:8", "2 records"),
            ("Name=shard Count=16\n", "gpu:2,shard:8", "2 records"),
            ("Name=shard Count=7\n", "gpu:2,shard:7", "2 records"),
            (
                "Name=shard Count=4 File=/dev/nvidia0\nName=shard Count=4 File=/dev/nvidia1\n",
                "gpu:2,shard:8",
                "2 records",
            ),
            (
                "Name=shard Count=8 File=/dev/nvidia0\n",
                "gpu:2,shard:8",
                "2 records",
            ),
            (
                "Name=shard Count=8 File=/dev/nvidia9\n",
                "gpu:2,shard:8",
                "drained: slurmd has 0 of 8 shard: the others are of device files that are no GPU's of the node",
            ),
            (
                "Name=mps Count=100\n",
                "gpu:2,mps:400",
                "fatal: gres.conf has 100 mps and the node's line 400 (\"multiple configurations\")",
            ),
            (
                "Name=shard Count=4\nName=shard Count=4\n",
                "gpu:2",
                "fatal: gres/shard has several lines without File=, or lines with and without it",
            ),
            (
                "Name=shard Count=8\n",
                "shard:8",
                "fatal: gres/shard without a GPU that has a device file (\"failed to merge SHARED and SHARING configuration\")",
            ),
        ] {
            let got = outcome(&(TWO.to_owned() + lines), declared, None);
            assert_eq!(got, expected, "{lines}{declared}");
        }
    }

    #[test]
    fn autodetect_gives_a_type_that_is_a_part_of_the_name() {
        let found: &[(&str, &str, &str)] = &[
            ("NVIDIA A100-PCIE-40GB", "/dev/nvidia0", "0-3"),
            ("NVIDIA RTX PRO 6000 Blackwell", "/dev/nvidia1", "4-7"),
        ];
        for (gres, declared, expected) in [
            ("AutoDetect=nvml\n", "gpu:2", "2 records"),
            (
                "AutoDetect=nvml\n",
                "gpu:a100:1,gpu:rtx_pro_6000:1",
                "2 records",
            ),
            ("AutoDetect=nvml\n", "gpu:A100:1,gpu:6000:1", "2 records"),
            (
                "AutoDetect=nvml\n",
                "gpu:a100:1,gpu:rtxpro6000:1",
                "drained: slurmd has 1 of 2 GPUs",
            ),
            (
                "AutoDetect=nvml\n",
                "gpu:3",
                "drained: slurmd has 2 of 3 GPUs",
            ),
            ("AutoDetect=nvml\n", "gpu:1", "1 records"),
            (
                "AutoDetect=nvml\nName=gpu File=/dev/nvidia0 Cores=4-7\n",
                "gpu:2",
                "drained: slurmd has 1 of 2 GPUs",
            ),
        ] {
            assert_eq!(
                outcome(gres, declared, Some(found)),
                expected,
                "{gres}{declared}"
            );
        }
    }
}
