//! What a page is printed on: how wide, and whether in colour.

use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, IsTerminal as _};
use std::sync::OnceLock;

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
    #[allow(
        clippy::disallowed_methods,
        reason = "it is asked what it is, and nothing is written"
    )]
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
            let mark = mark();
            format!("{mark}{code}m{text}{mark}0m")
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

/// What stands for the beginning of [`Paper::ink`]'s colours until a line is [`safe`]: nobody who wrote a text that is printed
/// can have known it, so others' text has no colours, not even ours.
fn mark() -> &'static str {
    static MARK: OnceLock<String> = OnceLock::new();
    MARK.get_or_init(|| {
        let random = RandomState::new().build_hasher().finish();
        // Characters for private use.
        let character = |bits: u64| {
            let low = u32::try_from(bits & 0xffff).unwrap_or_default();
            char::from_u32(0xf_0000 + low).unwrap_or('\u{f0000}')
        };
        [0, 16, 32, 48]
            .map(|shift| character(random >> shift))
            .iter()
            .collect()
    })
}

/// Lines that others' text cannot act on a terminal from: what is not seen as itself is U+FFFD, but for line ends; and
/// [`Paper::ink`]'s colours.
pub(crate) fn safe(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c == '\n' || is_printable(c);
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| {
        if is_plain(c) {
            c
        } else {
            char::REPLACEMENT_CHARACTER
        }
    };
    let mut parts = text.split(mark());
    let mut safe: String = parts
        .next()
        .unwrap_or_default()
        .chars()
        .map(shown)
        .collect();
    for part in parts {
        // Each mark has its code behind it.
        let (code, rest) = part.split_once('m').unwrap_or_default();
        safe.push_str(&format!("\u{1b}[{code}m"));
        safe.extend(rest.chars().map(shown));
    }
    Cow::Owned(safe)
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
        let shown = |ink| safe(&paper.ink(ink, "NV4")).into_owned();
        assert_eq!(shown(Ink::Good), "\u{1b}[32mNV4\u{1b}[0m");
        assert_eq!(shown(Ink::Bad), "\u{1b}[1;31mNV4\u{1b}[0m");
        assert_eq!(Paper::plain().ink(Ink::Good, "NV4"), "NV4");
    }

    #[test]
    fn sentences_are_wrapped_at_words() {
        assert_eq!(wrap("one two three", 9), ["one two", "  three"]);
        assert_eq!(wrap("unbreakable", 4), ["unbreakable"]);
        assert_eq!(wrap("to do it:\nrun this", 20), ["to do it:", "  run this"]);
    }

    #[test]
    fn others_text_keeps_nothing_and_has_no_colours() {
        let plain = "NV4\nnext \"line\"";
        assert_eq!(safe(plain), plain);
        assert_eq!(
            safe("a\u{1b}[2Jb\u{202e}c\r\u{1b}"),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}\u{fffd}"
        );
        let paper = Paper {
            is_coloured: true,
            ..Paper::plain()
        };
        let line = paper.ink(Ink::Far, "a\u{1b}[8mb") + "\u{1b}[8mc\u{f0000}";
        assert_eq!(
            safe(&line),
            "\u{1b}[33ma\u{fffd}[8mb\u{1b}[0m\u{fffd}[8mc\u{fffd}"
        );
    }
}
