//! `gpu-numa snapshot`: the files that the plugins read.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use nccl_topo::emit::{Form, emit};
use topology::machine::Machine;
use topology::snapshot::{DIRECTORY, NCCL_FILE, NCCL_MULTI_FILE, NODE_FILE, Snapshot as Stamped};
use topology::sysfs;

use crate::command::{CommandError, From, Outcome};
use crate::out::{self, Out};

/// Writes node.json, nccl-topo.xml and nccl-topo-multi.xml.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  gpu-numa snapshot\n  gpu-numa snapshot --from /srv/recorded/node7 --dir /tmp/node7\n\nRun at boot by gpu-numa-bind.service, before slurmd.  Each file is replaced in one \
step.  A machine for which no true NCCL file can be written has none, and NCCL is left to itself there."
)]
pub(crate) struct Snapshot {
    #[command(flatten)]
    from: From,
    /// Where to write
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    dir: PathBuf,
}

impl Snapshot {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let machine = self.from.read()?;
        // Nobody else's to write whatever the umask, or the plugins will not trust what is in it.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.dir)
            .map_err(|error| failed("make", &self.dir, &error))?;
        for (name, form) in [
            (NCCL_FILE, Form::SingleHost),
            (NCCL_MULTI_FILE, Form::MultiHost),
        ] {
            write_nccl(out, &machine, &self.dir.join(name), form)?;
        }
        // Last: the plugins look for this one first.
        let path = self.dir.join(NODE_FILE);
        let text = stamp(machine)
            .to_json()
            .map_err(|error| CommandError::Argument(format!("{}: {error}", path.display())))?;
        write_atomically(&path, &text)?;
        out.line(format_args!("{} written", path.display()))?;
        Ok(Outcome::Done)
    }
}

/// The machine with what the host says now; of a recorded one too, so that a plugin here finds it stale.
fn stamp(machine: Machine) -> Stamped {
    let gpus: Vec<_> = machine.gpus.iter().map(|gpu| gpu.pci).collect();
    let now = sysfs::read_now(Path::new("/"), &gpus);
    let created = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    Stamped::new(machine, &now, created)
}

/// Writes NCCL's file, or removes an old one that no longer holds.
fn write_nccl(
    out: &mut Out,
    machine: &Machine,
    path: &Path,
    form: Form,
) -> Result<(), CommandError> {
    match emit(machine, form) {
        Ok(emitted) => {
            write_atomically(path, &emitted.xml)?;
            out.line(format_args!("{} written", path.display()))?;
        }
        Err(why) => {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", path, &error));
                }
                Ok(()) | Err(_) => {}
            }
            out::message(&format!("{} not written: {why}", path.display()));
        }
    }
    Ok(())
}

/// Replaces a file in one step, readable by all.
fn write_atomically(path: &Path, text: &str) -> Result<(), CommandError> {
    use std::os::unix::fs::PermissionsExt;
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&new)
        .and_then(|mut file| {
            // Whatever the umask: NCCL reads its file as the user.
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&new, path));
    written.map_err(|error| {
        // The error below is the one to tell.
        let _ = fs::remove_file(&new);
        failed("write", path, &error)
    })
}

fn failed(what: &str, path: &Path, error: &io::Error) -> CommandError {
    CommandError::Argument(format!("cannot {what} {}: {error}", path.display()))
}
