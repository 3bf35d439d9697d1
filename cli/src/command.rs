//! What commands share: their arguments, how they end, and how they fail.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use discovery::{DiscoveryError, Source};
use topology::machine::Machine;
use topology::pci::PciAddress;

use crate::hardware;
use crate::out::{self, WriteError};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Exit status 0.
    Done,
    /// Exit status 1: checked and found wanting.
    Wanting,
    /// The status of a command that could not be started in our place.
    Status(u8),
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
    /// Read the machine from a directory holding sys/, an hwloc XML, an NCCL XML or a snapshot
    /// instead of this one
    #[arg(long = "from", value_name = "PATH")]
    path: Option<PathBuf>,
}

impl From {
    /// The source that was asked for.
    pub(crate) fn source(&self) -> Source {
        self.path.clone().map_or(Source::ThisMachine, Source::Path)
    }

    /// The filesystem root that it is read from; that of this machine where none is named.
    pub(crate) fn root(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new("/"))
    }

    /// Whether it is this machine.
    pub(crate) fn is_this_machine(&self) -> bool {
        self.path.is_none()
    }

    /// Reads the machine, and says on standard error what could not be read.
    pub(crate) fn read(&self) -> Result<Machine, CommandError> {
        let machine = discovery::read_machine(&self.source())?;
        for remark in &machine.remarks {
            out::message(remark);
        }
        Ok(machine)
    }
}

/// In what form the answer is given.
#[derive(Debug, Args)]
pub(crate) struct Format {
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
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
    for entry in list.split(',') {
        let gpu = parse_gpu(machine, argument, entry.trim())?;
        if gpus.contains(&gpu) {
            // Instances of one GPU are all where it is.
            if entry.trim().starts_with("MIG-") {
                continue;
            }
            return Err(CommandError::Argument(format!(
                "{argument} \"{list}\": GPU {gpu} is named twice; expected each GPU once"
            )));
        }
        gpus.push(gpu);
    }
    Ok(gpus)
}

fn parse_gpu(machine: &Machine, argument: &str, entry: &str) -> Result<PciAddress, CommandError> {
    hardware::find_gpu(machine, entry).ok_or_else(|| {
        let known: Vec<String> = machine.gpus.iter().map(|gpu| gpu.pci.to_string()).collect();
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
