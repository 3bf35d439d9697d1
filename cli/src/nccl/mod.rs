//! `gpu-numa nccl`: NCCL's topology file, written, explained and checked.

use std::path::Path;

use clap::{Args, Subcommand};
use ffi::linux::file::{FileError, read_regular};
use nccl_topo::reader::{self, Effect, System, Violation};

use crate::command::{CommandError, Outcome};
use crate::nccl::version::{For, for_versions, merged};
use crate::out::{self, Out};

pub(crate) mod check;
pub(crate) mod emit;
pub(crate) mod paths;
pub(crate) mod ranks;
mod version;

/// The largest topology file that is read, in bytes; NCCL takes at most 255 elements.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Write, explain and check NCCL's topology files
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa nccl emit --explain
  gpu-numa nccl check /etc/nccl/topo.xml
  gpu-numa nccl paths /etc/nccl/topo.xml
  gpu-numa nccl ranks --tp 4 --dp 2")]
pub(crate) struct Nccl {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the corrected topology file of a machine
    Emit(emit::Emit),
    /// Show the paths, rings and trees that NCCL makes of a file
    Paths(paths::PathsOf),
    /// Check a file against NCCL's reader's rules, and against a machine
    Check(check::Check),
    /// Find the order of GPUs in which a parallel layout's communicators cross sockets least
    Ranks(ranks::Ranks),
}

impl Nccl {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        match &self.command {
            Command::Emit(emit) => emit.run(out),
            Command::Paths(paths) => paths.run(out),
            Command::Check(check) => check.run(out),
            Command::Ranks(ranks) => ranks.run(out),
        }
    }
}

/// The text of NCCL's file.
fn read(path: &Path) -> Result<String, CommandError> {
    let failed =
        |why: &dyn std::fmt::Display| CommandError::Argument(format!("{}: {why}", path.display()));
    let bytes = read_regular(path, MAX_FILE_BYTES).map_err(|error| match error {
        _ if path.is_dir() => {
            failed(&"a folder; expected NCCL's XML file, or --from FOLDER for a recorded machine")
        }
        FileError::Io { error, .. } => failed(&error),
        FileError::TooLarge { limit, .. } => failed(&format_args!("larger than {limit} bytes")),
        FileError::NotRegular(_)
        | FileError::NotRoots { .. }
        | FileError::UsersLink { .. }
        | FileError::NotText(_) => failed(&"not a regular file"),
    })?;
    let text = String::from_utf8_lossy(&bytes);
    if is_hwloc(&text) {
        return Err(failed(
            &"hwloc's description of a machine, which NCCL cannot read; --from reads it (gpu-numa nccl emit --from FILE writes \
              NCCL's file of that machine)",
        ));
    }
    Ok(text.into_owned())
}

/// Whether a document is hwloc's: its root is `<topology>`, NCCL's is `<system>`.
fn is_hwloc(text: &str) -> bool {
    let mut elements = text.split('<').skip(1);
    let root = elements.find(|element| !element.starts_with(['?', '!']));
    root.is_some_and(|root| {
        let rest = root.strip_prefix("topology");
        rest.is_some_and(|rest| rest.starts_with([' ', '>', '\n', '\t', '\r']))
    })
}

/// The file as each version takes it that does; what is wrong with it goes to standard error.
fn read_accepted(path: &Path, versions: &[For]) -> Result<Vec<(For, System)>, CommandError> {
    let text = read(path)?;
    let mut taken = Vec::new();
    let mut each = Vec::new();
    for one in versions {
        let reading = reader::read_for(&text, one.rules);
        let worth = |violation: &Violation| violation.effect != Effect::Note;
        each.push((one, reading.violations.into_iter().filter(worth).collect()));
        taken.extend(reading.system.map(|system| (one.clone(), system)));
    }
    for (violation, names) in merged(versions.len(), each) {
        out::message(&for_versions(at(path, &violation), names.as_ref()));
    }
    if taken.is_empty() {
        return Err(CommandError::Argument(format!(
            "{}: NCCL refuses this file",
            path.display()
        )));
    }
    for one in versions {
        if taken.iter().all(|(own, _)| own.name != one.name) {
            out::message(&format!(
                "{}: NCCL {} refuses this file",
                path.display(),
                one.name
            ));
        }
    }
    Ok(taken)
}

/// A finding with its file and line.
fn at(path: &Path, violation: &Violation) -> String {
    format!("{}:{violation}", path.display())
}

#[cfg(test)]
mod tests {
    use super::is_hwloc;

    #[test]
    fn hwlocs_document_is_told_from_nccls() {
        let head = "<?xml version=\"1.0\"?>\n<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n";
        assert!(is_hwloc(&format!(
            "{head}<topology version=\"2.0\">\n<object/>"
        )));
        assert!(is_hwloc("<topology>"));
        assert!(!is_hwloc("<system version=\"1\">\n<topology>"));
        assert!(!is_hwloc("topology") && !is_hwloc(""));
    }
}
