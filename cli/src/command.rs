//! What commands share: their arguments, how they end, and how they fail.

use std::io;
use std::path::PathBuf;

use clap::Args;
use discovery::{DiscoveryError, Source};
use topology::machine::Machine;

use crate::out;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Exit status 0.
    Done,
}

/// Why a command could not run: exit status 2.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The machine cannot be read.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// Standard output cannot be written.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
    /// An argument that clap cannot judge.
    #[error("{0}")]
    Argument(String),
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
