//! `gpu-numa snapshot`: the files that the plugins read.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use ffi::linux::file::{is_roots_file, read_roots_text};
use ffi::linux::written::Folder;
use launch::host::{Trust, read_snapshot};
use nccl_topo::emit::{Form, emit};
use serde::Serialize;
use topology::machine::Machine;
use topology::snapshot::{DIRECTORY, MAX_BYTES, NODE_FILE, Snapshot as Stamped};
use topology::sysfs;

use crate::command::{CommandError, From, Outcome};
use crate::out::{self, Out, WriteError};

/// Held by who writes: two at once would leave files of two machines, or of two drivers, beside each other.
const LOCK_FILE: &str = ".lock";
/// The service is ended after 30 s; reading a host takes less than one, where its libraries answer.
const PATIENCE: Duration = Duration::from_secs(25);

/// Writes node.json, nccl-topo.xml and nccl-topo-multi.xml.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa snapshot
  gpu-numa snapshot --from /srv/recorded/node7 --dir /tmp/node7
  gpu-numa snapshot --check

Run at boot by gpu-numa-bind.service, before slurmd.  Each file is replaced in one step, one process writes at a time, and node.json is there only while all of them are of one machine.  If no correct NCCL file can be written for the machine, none is written, and NCCL detects the machine by itself.")]
pub(crate) struct Snapshot {
    #[command(flatten)]
    from: From,
    /// Where to write
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    dir: PathBuf,
    /// Write nothing; say whether the plugins would use the files that are there (exit 1: no)
    #[arg(long, conflicts_with = "path")]
    check: bool,
    /// Write only if the plugins would not use the files that are there
    #[arg(long, conflicts_with_all = ["path", "check"])]
    if_stale: bool,
    /// With --check: print one JSON document
    #[arg(long, requires = "check", conflicts_with_all = ["path", "if_stale"])]
    json: bool,
}

/// What `--check --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SnapshotCheckDocument {
    schema: &'static str,
    file: PathBuf,
    ok: bool,
    /// Why it cannot be used; null when it can.
    reason: Option<String>,
}

impl Snapshot {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        if self.check {
            return self.check(out);
        }
        if self.if_stale && find_fault(&self.dir).is_none() {
            return Ok(Outcome::Done);
        }
        self.write(out)
    }

    fn check(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let reason = find_fault(&self.dir);
        let file = self.dir.join(NODE_FILE);
        let ok = reason.is_none();
        if self.json {
            let schema = "gpu-numa/snapshot-check/1";
            out.json(&SnapshotCheckDocument {
                schema,
                file,
                ok,
                reason,
            })?;
        } else if let Some(reason) = &reason {
            out.line(reason)?;
        } else {
            out.line(format_args!("{}: up to date", file.display()))?;
        }
        Ok(if ok { Outcome::Done } else { Outcome::Wanting })
    }

    fn write(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let folder = make_folder(&self.dir)?;
        // From before the host is read: what is written last was read last.
        let _lock = folder
            .lock(LOCK_FILE.as_ref(), PATIENCE)
            .map_err(|error| WriteError::refused("write into", error))?;
        // A service that loaded the driver would undo who has just unloaded it, to put a newer one in its place.
        let machine = self.from.read_as_it_is()?;
        // First gone and last written: without it the plugins use none of the files, so that one who is ended in between
        // leaves no file of NCCL's beside another machine.
        let path = self.dir.join(NODE_FILE);
        folder
            .remove(NODE_FILE.as_ref())
            .map_err(|error| WriteError::refused("remove", error))?;
        for form in Form::ALL {
            write_nccl(out, &machine, &folder, form)?;
        }
        let text = stamp(machine)
            .to_json()
            .map_err(|error| CommandError::Argument(format!("{}: {error}", path.display())))?;
        folder
            .replace(NODE_FILE.as_ref(), text.as_bytes())
            .map_err(|error| WriteError::refused("write", error))?;
        out.line(format_args!("{} written", path.display()))?;
        Ok(Outcome::Done)
    }
}

/// Opens, or makes, a folder for what the plugins trust: as root only one that nobody else can write or rename.
pub(crate) fn make_folder(folder: &Path) -> Result<Folder, WriteError> {
    Folder::make(folder).map_err(|error| WriteError::refused("write into", error))
}

/// The first reason why the plugins would not use what is in `dir`, with the file's name; None if they would.
///
/// Asked as the Slurm plugin asks; and whether NCCL's files are those that this program makes from `node.json`, which
/// the plugins take on trust.
fn find_fault(dir: &Path) -> Option<String> {
    let machine = match read_snapshot(dir, Trust::Root) {
        Ok(machine) => machine,
        Err(fault) => return Some(fault.to_string()),
    };
    Form::ALL
        .into_iter()
        .find_map(|form| find_nccl_fault(&machine, &dir.join(form.file_name()), form))
}

fn find_nccl_fault(machine: &Machine, file: &Path, form: Form) -> Option<String> {
    match emit(machine, form) {
        Ok(emitted) => match read_roots_text(file, MAX_BYTES) {
            Ok(text) if text == emitted.xml => None,
            Ok(_) => Some(format!(
                "{}: does not match {NODE_FILE}; expected the file that this gpu-numa writes from it",
                file.display()
            )),
            Err(error) => Some(error.to_string()),
        },
        Err(_) if is_roots_file(file) => Some(format!(
            "{}: should not exist: no correct file can be written for this machine",
            file.display()
        )),
        Err(_) => None,
    }
}

/// The machine with this host's boot id and driver; a recorded machine too, so that a plugin here finds it stale.
fn stamp(machine: Machine) -> Stamped {
    let now = sysfs::read_now(Path::new("/"), &machine);
    let created = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    Stamped::new(machine, &now, created)
}

/// Writes NCCL's file, or removes an old one where none can be written now.
fn write_nccl(
    out: &mut Out,
    machine: &Machine,
    folder: &Folder,
    form: Form,
) -> Result<(), CommandError> {
    let name = form.file_name();
    let path = folder.path().join(name);
    match emit(machine, form) {
        Ok(emitted) => {
            folder
                .replace(name.as_ref(), emitted.xml.as_bytes())
                .map_err(|error| WriteError::refused("write", error))?;
            out.line(format_args!("{} written", path.display()))?;
        }
        Err(why) => {
            folder
                .remove(name.as_ref())
                .map_err(|error| WriteError::refused("remove", error))?;
            out::message(&format!("{} not written: {why}", path.display()));
        }
    }
    Ok(())
}

/// Replaces a file in one step, readable by all; a link in its place is replaced, not followed.
pub(crate) fn write_atomically(path: &Path, text: &str) -> Result<(), WriteError> {
    let name = path.file_name().unwrap_or_default();
    Folder::open(path.parent().unwrap_or(Path::new("/")))
        .and_then(|folder| folder.replace(name, text.as_bytes()))
        .map_err(|error| WriteError::refused("write", error))
}
