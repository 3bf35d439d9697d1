//! What a page is printed on: how wide, and whether in colour.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _};

use topology::text::is_printable;

/// Below this many columns no page can be read, and the usual width is taken.
const NARROWEST: usize = 40;

/// Before every line of a sentence but the first.
const INDENT: &str = "  ";

/// Standard output's width and colours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paper {
    /// Columns of the terminal, or what COLUMNS says; None where there is neither, or fewer than a page needs.
    width: Option<usize>,
    is_coloured: bool,
}

/// What `--color` takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless NO_COLOR is set; everywhere if CLICOLOR_FORCE is set
    #[default]
    Auto,
    /// Also into files and pipes
    Always,
    /// Not at all
    Never,
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    Plain,
    /// Near, joined, right.
    Good,
    /// Far.
    Far,
    /// Wrong.
    Bad,
    /// Of less interest.
    Faint,
    /// A heading.
    Head,
}

impl Paper {
    /// Standard output, coloured as `--color` says; under `auto` on a terminal only, and not under NO_COLOR (no-color.org) or TERM=dumb; under CLICOLOR_FORCE
    /// (bixense.com/clicolors) everywhere.
    pub(crate) fn of_stdout(colour: Colour) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_forced = std::env::var_os("CLICOLOR_FORCE")
            .is_some_and(|value| !value.is_empty() && value != "0");
        let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let is_coloured = match colour {
            Colour::Auto => !is_set("NO_COLOR") && (is_forced || (is_terminal && !is_dumb)),
            Colour::Always => true,
            Colour::Never => false,
        };
        let columns = std::env::var("COLUMNS")
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let seen =
            terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
        Self {
            width: columns.or(seen).filter(|width| *width >= NARROWEST),
            is_coloured,
        }
    }

    /// Of no known width and without colour.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self {
            width: None,
            is_coloured: false,
        }
    }

    /// Its width, or else `usual`.
    pub(crate) fn width(&self, usual: usize) -> usize {
        self.width.unwrap_or(usual)
    }

    /// `text` in a colour.
    pub(crate) fn ink(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Plain => return text.to_owned(),
            Ink::Good => "32",
            Ink::Far => "33",
            Ink::Bad => "1;31",
            Ink::Faint => "2",
            Ink::Head => "1",
        };
        if self.is_coloured && !text.trim().is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// `text` in lines of at most `width` columns, all but the first indented; a line break in it stays one.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in text.split('\n') {
        let mut line = if lines.is_empty() { "" } else { INDENT }.to_owned();
        let mut is_begun = false;
        for word in part.split(' ') {
            let is_full = line.chars().count() + 1 + word.chars().count() > width;
            if is_begun && is_full {
                lines.push(std::mem::replace(&mut line, INDENT.to_owned()));
            } else if is_begun {
                line.push(' ');
            }
            line.push_str(word);
            is_begun = true;
        }
        lines.push(line);
    }
    lines
}

/// Lines that others' text cannot act on a terminal from: what is not seen as itself is U+FFFD, but for line ends and
/// [`Paper::ink`]'s colours.
pub(crate) fn safe(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c == '\n' || is_printable(c);
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = colour_length(rest).unwrap_or(c.len_utf8());
        let (part, after) = rest.split_at(length);
        if length > c.len_utf8() || is_plain(c) {
            safe.push_str(part);
        } else {
            safe.push(char::REPLACEMENT_CHARACTER);
        }
        rest = after;
    }
    Cow::Owned(safe)
}

/// Bytes of the colour that a text begins with: `ESC [`, digits, `m`.
fn colour_length(text: &str) -> Option<usize> {
    let code = text.strip_prefix("\u{1b}[")?;
    let digits = code.bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0 && code.as_bytes().get(digits) == Some(&b'm')).then_some(digits + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_written_where_it_is_wanted() {
        let paper = Paper {
            is_coloured: true,
            ..Paper::plain()
        };
        assert_eq!(paper.ink(Ink::Good, "NV4"), "\u{1b}[32mNV4\u{1b}[0m");
        assert_eq!(Paper::plain().ink(Ink::Good, "NV4"), "NV4");
    }

    #[test]
    fn sentences_are_wrapped_at_words() {
        assert_eq!(wrap("one two three", 9), ["one two", "  three"]);
        assert_eq!(wrap("unbreakable", 4), ["unbreakable"]);
        assert_eq!(wrap("to do it:\nrun this", 20), ["to do it:", "  run this"]);
    }

    #[test]
    fn others_text_keeps_nothing_but_colours() {
        let good = "\u{1b}[32mNV4\u{1b}[0m\nnext \"line\"";
        assert_eq!(safe(good), good);
        assert_eq!(
            safe("a\u{1b}[2Jb\u{202e}c\r\u{1b}"),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}\u{fffd}"
        );
    }
}
