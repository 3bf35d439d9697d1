//! What a page is printed on: how wide, and whether in colour.

use std::io::{self, IsTerminal as _};

/// Standard output's width and colours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paper {
    /// Columns of the terminal, or what COLUMNS says; absent where neither is there.
    width: Option<usize>,
    is_coloured: bool,
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
    /// As standard output is: colour on a terminal only, and not under NO_COLOR (no-color.org) or TERM=dumb.
    pub(crate) fn of_stdout() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let columns = std::env::var("COLUMNS")
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let seen =
            terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
        Self {
            width: columns.or(seen).filter(|width| *width >= 40),
            is_coloured: is_terminal && !is_unwanted,
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

/// `text` in lines of at most `width` columns, all but the first indented.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let is_full = line.chars().count() + 1 + word.chars().count() > width;
        if is_full && !line.trim().is_empty() {
            lines.push(std::mem::replace(&mut line, "  ".to_owned()));
            line.push_str(word);
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.push(line);
    lines
}

/// Rows of cells, aligned under their heads.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<(String, Ink)>>,
}

impl Table {
    /// A table with these heads.
    pub(crate) fn new<'a>(heads: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            rows: vec![
                heads
                    .into_iter()
                    .map(|head| (head.to_owned(), Ink::Head))
                    .collect(),
            ],
        }
    }

    /// A row; as many cells as there are heads.
    pub(crate) fn row(&mut self, cells: Vec<(String, Ink)>) {
        self.rows.push(cells);
    }

    /// Takes out a column.
    pub(crate) fn drop_column(&mut self, head: &str) {
        let at = self
            .rows
            .first()
            .and_then(|heads| heads.iter().position(|(own, _)| own == head));
        let Some(at) = at else { return };
        for row in self.rows.iter_mut().filter(|row| row.len() > at) {
            row.remove(at);
        }
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|(text, _)| text.chars().count())
                .max()
                .unwrap_or(0)
        };
        (0..columns).map(width).collect()
    }

    /// The columns that it takes.
    pub(crate) fn width(&self) -> usize {
        let widths = self.widths();
        widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)
    }

    /// Its lines, without blanks at the end.
    pub(crate) fn lines(&self, paper: &Paper) -> Vec<String> {
        let widths = self.widths();
        let line = |row: &Vec<(String, Ink)>| {
            let mut line = String::new();
            let mut blanks = 0;
            for ((text, ink), width) in row.iter().zip(&widths) {
                if !text.is_empty() {
                    line.push_str(&" ".repeat(blanks));
                    line.push_str(&paper.ink(*ink, text));
                    blanks = 0;
                }
                blanks += width - text.chars().count().min(*width) + 2;
            }
            line
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Paper = Paper {
        width: None,
        is_coloured: false,
    };

    #[test]
    fn columns_stand_below_their_heads_and_lines_end_with_text() {
        let mut table = Table::new(["a", "b", "c"]);
        table.row(vec![
            ("long".to_owned(), Ink::Plain),
            (String::new(), Ink::Plain),
            ("x".to_owned(), Ink::Bad),
        ]);
        table.row(vec![
            ("y".to_owned(), Ink::Plain),
            ("z".to_owned(), Ink::Plain),
            (String::new(), Ink::Plain),
        ]);
        assert_eq!(table.lines(&PLAIN), ["a     b  c", "long     x", "y     z"]);
        assert_eq!(table.width(), 10);
        table.drop_column("b");
        assert_eq!(table.lines(&PLAIN), ["a     c", "long  x", "y"]);
    }

    #[test]
    fn colour_does_not_count_as_width() {
        let paper = Paper {
            is_coloured: true,
            ..PLAIN
        };
        assert_eq!(paper.ink(Ink::Good, "NV4"), "\u{1b}[32mNV4\u{1b}[0m");
        assert_eq!(PLAIN.ink(Ink::Good, "NV4"), "NV4");
    }

    #[test]
    fn sentences_are_wrapped_at_words() {
        assert_eq!(wrap("one two three", 9), ["one two", "  three"]);
        assert_eq!(wrap("unbreakable", 4), ["unbreakable"]);
    }
}
