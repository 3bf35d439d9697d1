//! A file system that does not answer, for as long as the value lives.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::by_c_compiler;

/// What such a file system still tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tells {
    /// Nothing but that it is mounted.
    Nothing,
    /// That every name is a regular file, which opens and cannot be read.
    Files,
}

/// One that is mounted.
#[derive(Debug)]
pub struct HungFs {
    at: PathBuf,
    server: String,
}

impl HungFs {
    /// Mounts one on a folder; `scratch` is where its program is built.
    ///
    /// # Errors
    /// Its program does not build, or cannot mount: that needs root and `/dev/fuse`.
    pub fn mount(at: &Path, tells: Tells, scratch: &Path) -> io::Result<Self> {
        let program = scratch.join("hung-fs");
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        by_c_compiler(source, &["hung-fs.c"], &[], &program)?;
        let mut command = Command::new(program);
        command.arg(at);
        if tells == Tells::Files {
            command.arg("file");
        }
        let output = command.output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(io::Error::other(why));
        }
        Ok(Self {
            at: at.to_owned(),
            server: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        })
    }
}

impl Drop for HungFs {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.server]).status();
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}
