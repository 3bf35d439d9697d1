//! What stops slurmd: lines of gres.conf that it refuses by themselves, together, or with the node's `Gres=`.

use std::collections::BTreeSet;
use std::fmt;

use crate::gres::{GresLine, MAX_FILES, NodeGres};
use crate::hostlist;
use crate::rules::FlagsRule;

use super::Record;

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

/// The word of `Flags=` that sets the variable for GPUs which the method `autodetect` of AutoDetect finds, by Slurm's own names of both
/// (`GRES_CONF_ENV_NVML` and so on, interfaces/gres.h); None where a method has no variable of its own.
pub fn variable_flag(autodetect: &str) -> Option<&'static str> {
    match autodetect {
        "nvml" => Some("nvidia_gpu_env"),
        "rsmi" => Some("amd_gpu_env"),
        "oneapi" => Some("intel_gpu_env"),
        _ => None,
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

/// The flags that each line has in the end, its own or those of the line before; None where they say nothing of a job's environment.
///
/// # Errors
/// At which line slurmd stops, whatever GRES it is for.
fn flags_of_lines(lines: &[GresLine<'_>], rule: FlagsRule) -> Result<Vec<Option<Flags>>, Fatal> {
    let mut before: Option<Flags> = None;
    let mut all = Vec::new();
    for line in lines {
        if line.given_count().is_err() {
            let count = line.line.get("count").unwrap_or_default().to_owned();
            return Err(Fatal::NoCount { count });
        }
        // Capitals count: "GPU" is not the name of a line before that has "gpu".
        let name = line.line.get("name").unwrap_or_default();
        let same = before.as_ref().filter(|own| own.name == name);
        let flags = match Flags::of(line, name, rule)? {
            Some(own) => {
                if same.is_some_and(|before| *before != own) {
                    let flags = line.line.get("flags").unwrap_or_default().to_owned();
                    return Err(Fatal::Flags { flags });
                }
                before = Some(own.clone());
                Some(own)
            }
            None => {
                let has_own = line.line.get("flags").is_some();
                let taken = same.filter(|own| !has_own && own.are_taken_on());
                if taken.is_some() {
                    taken.cloned()
                } else if line.is_of("gpu") {
                    before = Some(Flags {
                        name: name.to_owned(),
                        words: None,
                        has_none: false,
                    });
                    before.clone()
                } else {
                    None
                }
            }
        };
        all.push(flags);
    }
    Ok(all)
}

/// What slurmd looks for in each line by itself and against the line before, whatever GRES it is for.
pub(super) fn check_lines(lines: &[GresLine<'_>], rule: FlagsRule) -> Result<(), Fatal> {
    flags_of_lines(lines, rule).map(|_| ())
}

/// Whether jobs get the variable that `word` of `Flags=` stands for, such as `nvidia_gpu_env`, where gres.conf has `lines` (of every
/// GRES, in the order of the file): one line with all variables, or with this one, gives it to all jobs
/// (`gres_common_set_env_types_on_node_flags`, gres_common.c).
///
/// None where slurmd stops at these lines, or where none is for GPUs.
pub fn sets_variable(lines: &[GresLine<'_>], word: &str, rule: FlagsRule) -> Option<bool> {
    let flags = flags_of_lines(lines, rule).ok()?;
    let of_gpus = lines
        .iter()
        .zip(&flags)
        .filter(|(line, _)| line.is_of("gpu"));
    let mut sets = of_gpus.map(|(_, flags)| {
        let words = flags.as_ref().and_then(|flags| flags.words.as_ref());
        words.is_none_or(|words| words.contains(&word))
    });
    let first = sets.next()?;
    Some(first || sets.any(|sets| sets))
}

/// Device files that two records name; those of `MultipleFiles=` may (`gres_node_config_load`).
pub(super) fn check_files(records: &[Record]) -> Result<(), Fatal> {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for record in records.iter().filter(|record| !record.is_of_several_files) {
        let files = record.file.iter();
        for file in files.flat_map(|files| hostlist::expand(files, MAX_FILES)) {
            if seen.contains(&file) {
                return Err(Fatal::SameFile { file });
            }
            seen.insert(file);
        }
    }
    Ok(())
}

/// The lines of gres.conf as records, where slurmd takes them.
pub(super) fn read_lines(gres: &NodeGres<'_>) -> Result<Vec<Record>, Fatal> {
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
        let file = match files.as_slice() {
            _ if is_of_several_files => several.join(","),
            // As it is written, perhaps in brackets: slurmd compares it as text with what it finds.
            [_] => line.file_list().unwrap_or_default().to_owned(),
            all => all.join(","),
        };
        records.push(Record {
            kind: line.kind().map(str::to_owned),
            file: (!file.is_empty()).then_some(file),
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
            is_misspelt: line.is_misspelt("gpu"),
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
