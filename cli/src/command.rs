//! What commands share: their arguments, how they end, and how they fail.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use discovery::{DiscoveryError, Source};
use slurm_config::release::Release;
use slurm_config::rules;
use topology::machine::Machine;
use topology::option::printable;
use topology::pci::PciAddress;
use topology::set::CpuSet;

use crate::archive::{self, ArchiveError, Unpacked};
use crate::hardware;
use crate::out::{self, WriteError};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Exit status 0.
    Done,
    /// Exit status 1: checked and found wanting.
    Wanting,
    /// Another exit status: of a command that could not be started in our place, or of the class of what was found.
    Status(u8),
}

/// Reads a release of the table, as `24.11` or `24.11.7`, for clap.
pub(crate) fn parse_release(text: &str) -> Result<Release, String> {
    let found = Release::find(text).filter(|release| rules::is_in_table(*release));
    found.ok_or_else(|| {
        let of_year = rules::of_year(text);
        if !of_year.is_empty() {
            return format!("that is a year; expected {}", of_year.join(" or "));
        }
        format!(
            "expected one of {}, with or without a patch as in 24.11.7",
            rules::list()
        )
    })
}

/// Why a command could not run: exit status 2.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The machine cannot be read.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// The answer cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// An argument that clap cannot judge.
    #[error("{0}")]
    Argument(String),
}

impl std::convert::From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        Self::Write(WriteError::Answer(error))
    }
}

/// Which machine, for every command that reads one.
#[derive(Debug, Args)]
pub(crate) struct From {
    /// Read the machine from a directory holding sys/ or a tarball of one, an hwloc XML, an NCCL XML or a snapshot
    /// instead of this one
    #[arg(long = "from", value_name = "PATH", value_parser = PathBufValueParser::new().try_map(Recorded::open))]
    path: Option<Recorded>,
}

/// What `--from` names.
#[derive(Debug, Clone)]
struct Recorded {
    /// As it was named.
    path: PathBuf,
    /// Where it is a tarball, its content; in common, for clap keeps a copy.
    unpacked: Option<Arc<Unpacked>>,
}

impl Recorded {
    fn open(path: PathBuf) -> Result<Self, ArchiveError> {
        let unpacked = archive::unpack(&path)?.map(Arc::new);
        Ok(Self { path, unpacked })
    }

    /// What is read.
    fn place(&self) -> &Path {
        self.unpacked
            .as_ref()
            .map_or(&self.path, |unpacked| &unpacked.root)
    }
}

impl From {
    /// The source that was asked for.
    pub(crate) fn source(&self) -> Source {
        let place = |recorded: &Recorded| Source::Path(recorded.place().to_owned());
        self.path.as_ref().map_or(Source::ThisMachine, place)
    }

    /// The path that was asked for, as it was named; none for this machine.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_ref().map(|recorded| &*recorded.path)
    }

    /// The filesystem root that it is read from; that of this machine where none is named.
    pub(crate) fn root(&self) -> &Path {
        self.path.as_ref().map_or(Path::new("/"), Recorded::place)
    }

    /// Whether it is this machine.
    pub(crate) fn is_this_machine(&self) -> bool {
        self.path.is_none()
    }

    /// Reads the machine, and says on standard error what could not be read.
    pub(crate) fn read(&self) -> Result<Machine, CommandError> {
        Ok(remarked(discovery::read_machine(&self.source())?))
    }

    /// The same, without loading the driver of this machine's GPUs.
    pub(crate) fn read_as_it_is(&self) -> Result<Machine, CommandError> {
        if self.is_this_machine() {
            return Ok(remarked(discovery::read_this_machine_as_it_is()?));
        }
        self.read()
    }

    /// The same, without asking that driver at all, and without a remark.
    pub(crate) fn read_without_driver(&self) -> Result<Machine, CommandError> {
        if self.is_this_machine() {
            return Ok(discovery::read_this_machine_without_driver()?);
        }
        Ok(discovery::read_machine(&self.source())?)
    }
}

/// The machine, once what could not be read has been said.
fn remarked(machine: Machine) -> Machine {
    for remark in &machine.remarks {
        out::message(remark);
    }
    machine
}

/// A word of a command that is printed, quoted where a shell would split or change it.
pub(crate) fn shell_word(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:,=@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', "'\\''")))
    }
}

/// In what form the answer is given.
#[derive(Debug, Args)]
pub(crate) struct Format {
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reads a list of CPUs as the kernel writes it, which names at least one.
///
/// # Errors
/// One line that names the list and what is accepted.
pub(crate) fn parse_cpus(argument: &str, list: &str) -> Result<CpuSet, CommandError> {
    let fault = |why: &dyn std::fmt::Display| {
        CommandError::Argument(format!("{argument} \"{}\": {why}", printable(list)))
    };
    let cpus: CpuSet = list.parse().map_err(|problem| fault(&problem))?;
    if cpus.is_empty() {
        return Err(fault(&"the list is empty; expected CPUs such as 0-3,8"));
    }
    Ok(cpus)
}

/// Reads a list of GPUs, each named as [`hardware::find_gpu`] takes it.
///
/// # Errors
/// One line that names the entry and what is accepted.
pub(crate) fn parse_gpus(
    machine: &Machine,
    argument: &str,
    list: &str,
) -> Result<Vec<PciAddress>, CommandError> {
    let mut gpus = Vec::new();
    for entry in gpu_entries(argument, list)? {
        let gpu = parse_gpu(machine, argument, entry)?;
        if gpus.contains(&gpu) {
            // Instances of one GPU are all where it is.
            if entry.starts_with("MIG-") {
                continue;
            }
            return Err(CommandError::Argument(format!(
                "{argument} \"{list}\": {} is named twice; expected each GPU once",
                hardware::gpu_label(machine, gpu)
            )));
        }
        gpus.push(gpu);
    }
    Ok(gpus)
}

/// The entries of a list of GPUs.
///
/// # Errors
/// One line, where an entry is empty.
pub(crate) fn gpu_entries<'a>(argument: &str, list: &'a str) -> Result<Vec<&'a str>, CommandError> {
    let entries: Vec<&str> = list.split(',').map(str::trim).collect();
    if entries.iter().any(|entry| entry.is_empty()) {
        return Err(CommandError::Argument(format!(
            "{argument} \"{}\": an entry is empty; expected GPUs such as 0,1",
            printable(list)
        )));
    }
    let is_range = |entry: &&&str| {
        let numbers = entry.split_once('-');
        numbers.is_some_and(|(a, b)| a.parse::<u16>().is_ok() && b.parse::<u16>().is_ok())
    };
    if let Some(range) = entries.iter().find(is_range) {
        return Err(CommandError::Argument(format!(
            "{argument} \"{range}\": ranges are not taken; expected each GPU, such as 0,1,2"
        )));
    }
    Ok(entries)
}

fn parse_gpu(machine: &Machine, argument: &str, entry: &str) -> Result<PciAddress, CommandError> {
    hardware::find_gpu(machine, entry).ok_or_else(|| {
        let known: Vec<String> = machine
            .gpus
            .iter()
            .map(|gpu| hardware::gpu_label(machine, gpu.pci))
            .collect();
        let why = if known.is_empty() {
            "the machine has no GPU".to_owned()
        } else {
            format!(
                "no such GPU; expected a number from 0, a UUID or a PCI address ({})",
                known.join(", ")
            )
        };
        CommandError::Argument(format!("{argument} \"{entry}\": {why}"))
    })
}
