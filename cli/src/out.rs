//! Where output goes: data to standard output, messages to standard error.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::{Path, PathBuf};

use ffi::linux::file::FileError;
use ffi::linux::written::create_output;
use serde::Serialize;
use topology::text::is_printable;

use crate::paper::{Colour, Ink, Paper, safe, wrap};
use crate::table::Table;

/// Why an answer did not get to where it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// Standard output cannot be written.
    #[error("cannot write the answer: {0}")]
    Answer(#[from] io::Error),
    /// A file or folder cannot be made, written or removed.
    #[error("cannot {verb} {}: {error}", path.display())]
    File {
        /// `write`.
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The same, by the rules for what root writes too.
    #[error("cannot {verb} {error}")]
    Refused {
        /// `write`.
        verb: &'static str,
        /// Which, and why.
        error: FileError,
    },
}

impl WriteError {
    /// What `verb` does to `path` failed.
    pub(crate) fn file(verb: &'static str, path: &Path, error: io::Error) -> Self {
        Self::File {
            verb,
            path: path.to_owned(),
            error,
        }
    }

    /// What `verb` does to a file or folder is refused.
    pub(crate) fn refused(verb: &'static str, error: FileError) -> Self {
        Self::Refused { verb, error }
    }
}

/// Standard output, locked and buffered.
#[derive(Debug)]
pub(crate) struct Out(BufWriter<StdoutLock<'static>>, Paper);

impl Out {
    #[allow(
        clippy::disallowed_methods,
        reason = "what goes to it is made safe below"
    )]
    pub(crate) fn new(colour: Colour) -> Self {
        Self(
            BufWriter::new(io::stdout().lock()),
            Paper::of_stdout(colour),
        )
    }

    /// What it is printed on.
    pub(crate) fn paper(&self) -> Paper {
        self.1
    }

    /// One line, as in `out.line(format_args!("..."))`.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(self.0, "{}", safe(&line.to_string()))
    }

    /// One JSON document.
    pub(crate) fn json(&mut self, document: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string_pretty(document)?;
        writeln!(self.0, "{}", escape(&text))
    }

    /// A blank line and a table.
    pub(crate) fn table(&mut self, table: &Table) -> io::Result<()> {
        self.line("")?;
        self.lines(table)
    }

    /// A table's lines.
    pub(crate) fn lines(&mut self, table: &Table) -> io::Result<()> {
        for line in table.lines(&self.1) {
            self.line(line)?;
        }
        Ok(())
    }

    /// A sentence in lines of at most `width` columns.
    pub(crate) fn sentence(&mut self, text: &str, ink: Ink, width: usize) -> io::Result<()> {
        for line in wrap(text, width) {
            let line = self.1.ink(ink, &line);
            self.line(line)?;
        }
        Ok(())
    }

    /// A line in a colour; where the width of the paper is known, in as many lines as it needs.
    pub(crate) fn told(&mut self, ink: Ink, text: impl fmt::Display) -> io::Result<()> {
        let width = self.1.width(usize::MAX);
        self.sentence(&text.to_string(), ink, width)
    }

    /// A comment of a configuration file; where the width of the paper is known, in as many lines as it needs.
    pub(crate) fn comment(&mut self, text: &str) -> io::Result<()> {
        const MARK: &str = "# ";
        let width = self.1.width(usize::MAX).saturating_sub(MARK.len());
        for line in wrap(text, width) {
            self.line(format_args!("{MARK}{line}"))?;
        }
        Ok(())
    }

    /// A text into a file, `-` is standard output.
    ///
    /// # Errors
    /// The file and what the system says.
    pub(crate) fn file(&mut self, path: &Path, text: &str) -> Result<(), WriteError> {
        if path.as_os_str() == "-" {
            return Ok(self.0.write_all(text.as_bytes())?);
        }
        let mut file = create_output(path).map_err(|error| WriteError::refused("write", error))?;
        file.write_all(text.as_bytes())
            .map_err(|error| WriteError::file("write", path, error))
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A line on standard error; a recorded machine's own text in it cannot act on the terminal.
#[allow(clippy::disallowed_methods, reason = "the one line is made safe")]
pub(crate) fn message(text: &str) {
    let text = topology::option::one_line(text);
    // When standard error is closed there is nobody left to tell.
    let _ = writeln!(io::stderr(), "gpu-numa: {text}");
}

/// A JSON text in which what is not seen as itself is escaped; outside of strings there is nothing such.
fn escape(json: &str) -> Cow<'_, str> {
    let is_safe = |c: char| c == '\n' || is_printable(c);
    if json.chars().all(is_safe) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_safe(c) {
            text.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_says_the_same_and_cannot_act_on_a_terminal() {
        let document = ["a\u{1b}[2J", "\u{202e}b\u{e9}", "\u{e0041}", "\"\\"];
        let text = serde_json::to_string_pretty(&document).unwrap();
        let escaped = escape(&text);
        assert!(
            escaped.chars().all(|c| c == '\n' || is_printable(c)),
            "{escaped}"
        );
        let read: Vec<String> = serde_json::from_str(&escaped).unwrap();
        assert_eq!(read, document);
    }
}
