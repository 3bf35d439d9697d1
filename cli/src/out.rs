//! Where output goes: data to standard output, messages to standard error.

use std::fmt;
use std::fs;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::Path;

use serde::Serialize;

use crate::command::CommandError;
use crate::paper::Paper;

/// Standard output, locked and buffered.
#[derive(Debug)]
pub(crate) struct Out(BufWriter<StdoutLock<'static>>, Paper);

impl Out {
    pub(crate) fn new() -> Self {
        Self(BufWriter::new(io::stdout().lock()), Paper::of_stdout())
    }

    /// What it is printed on.
    pub(crate) fn paper(&self) -> Paper {
        self.1
    }

    /// One line, as in `out.line(format_args!("..."))`.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(self.0, "{line}")
    }

    /// One JSON document.
    pub(crate) fn json(&mut self, document: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.0, document)?;
        writeln!(self.0)
    }

    /// A text into a file, `-` is standard output.
    ///
    /// # Errors
    /// The file and what the system says.
    pub(crate) fn file(&mut self, path: &Path, text: &str) -> Result<(), CommandError> {
        if path.as_os_str() == "-" {
            return Ok(self.0.write_all(text.as_bytes())?);
        }
        fs::write(path, text).map_err(|error| {
            CommandError::Argument(format!("cannot write {}: {error}", path.display()))
        })
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A line on standard error; a recorded machine's own text in it cannot act on the terminal.
pub(crate) fn message(text: &str) {
    let text = topology::option::one_line(text);
    // When standard error is closed there is nobody left to tell.
    let _ = writeln!(io::stderr(), "gpu-numa: {text}");
}
