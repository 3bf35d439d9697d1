//! `gpu-numa snapshot`: the files that the plugins read.

use std::path::PathBuf;

use clap::Args;

use crate::command::{CommandError, From, Outcome};
use crate::out::Out;

/// Writes node.json.
#[derive(Debug, Args)]
pub(crate) struct Snapshot {
    #[command(flatten)]
    from: From,
    /// Where to write
    #[arg(long, value_name = "DIR", default_value = "/run/gpu-numa-bind")]
    dir: PathBuf,
}

impl Snapshot {
    pub(crate) fn run(&self, _out: &mut Out) -> Result<Outcome, CommandError> {
        let _machine = self.from.read()?;
        Err(CommandError::Argument(format!(
            "{}: snapshots cannot be written yet",
            self.dir.display()
        )))
    }
}
