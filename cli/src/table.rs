//! Rows of cells, aligned below their heads: the one table that pages are made of.

use crate::paper::{Ink, Paper, wrap};

/// Blanks between two columns.
const GAP: usize = 2;
/// Less room than this for a column of sentences is none.
const LEAST_ROOM: usize = 20;

/// A text and its colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    ink: Ink,
}

impl Cell {
    /// A cell in a colour.
    pub(crate) fn new(text: impl Into<String>, ink: Ink) -> Self {
        Self {
            text: text.into(),
            ink,
        }
    }

    /// A cell in the terminal's own colour.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self::new(text, Ink::Plain)
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// On which side of a column its cells stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// A head and the side on which its column's cells stand.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    head: String,
    side: Side,
}

impl Column {
    /// Words and names.
    pub(crate) fn left(head: impl Into<String>) -> Self {
        Self {
            head: head.into(),
            side: Side::Left,
        }
    }

    /// Figures that are compared with those above and below.
    pub(crate) fn right(head: impl Into<String>) -> Self {
        Self {
            head: head.into(),
            side: Side::Right,
        }
    }
}

/// A table; columns all without a head have no line of heads.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these columns and no row yet.
    pub(crate) fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self {
            columns: columns.into_iter().collect(),
            rows: Vec::new(),
        }
    }

    /// A row; as many cells as there are columns.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Takes out a column.
    pub(crate) fn drop_column(&mut self, head: &str) {
        let Some(at) = self.columns.iter().position(|own| own.head == head) else {
            return;
        };
        self.columns.remove(at);
        for row in self.rows.iter_mut().filter(|row| row.len() > at) {
            row.remove(at);
        }
    }

    /// Breaks the sentences of the last column so that the table is at most `width` wide, where that leaves them room.
    pub(crate) fn fold_last(&mut self, width: usize) {
        let mut before = self.widths();
        before.pop();
        let taken = before.iter().map(|own| own + GAP).sum::<usize>();
        let Some(room) = width.checked_sub(taken).filter(|room| *room >= LEAST_ROOM) else {
            return;
        };
        let rows = std::mem::take(&mut self.rows);
        for mut row in rows {
            let Some(last) = row.pop() else { continue };
            for (place, line) in wrap(&last.text, room).into_iter().enumerate() {
                let mut own: Vec<Cell> = if place == 0 {
                    std::mem::take(&mut row)
                } else {
                    before.iter().map(|_| Cell::plain("")).collect()
                };
                own.push(Cell::new(line, last.ink));
                self.rows.push(own);
            }
        }
    }

    fn widths(&self) -> Vec<usize> {
        let width = |(at, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            let widest = cells.map(Cell::width).max().unwrap_or(0);
            widest.max(column.head.chars().count())
        };
        self.columns.iter().enumerate().map(width).collect()
    }

    /// The terminal columns that it takes.
    pub(crate) fn width(&self) -> usize {
        let widths = self.widths();
        widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
    }

    /// Its lines, without blanks at the end.
    pub(crate) fn lines(&self, paper: &Paper) -> Vec<String> {
        let widths = self.widths();
        let heads: Vec<Cell> = self
            .columns
            .iter()
            .map(|column| Cell::new(column.head.clone(), Ink::Head))
            .collect();
        let has_heads = heads.iter().any(|head| !head.text.is_empty());
        let line = |row: &Vec<Cell>| {
            let mut line = String::new();
            let mut blanks = 0;
            for ((cell, column), width) in row.iter().zip(&self.columns).zip(&widths) {
                let room = width.saturating_sub(cell.width());
                let before = if column.side == Side::Right { room } else { 0 };
                if !cell.text.is_empty() {
                    line.push_str(&" ".repeat(blanks + before));
                    line.push_str(&paper.ink(cell.ink, &cell.text));
                    blanks = room - before + GAP;
                } else {
                    blanks += width + GAP;
                }
            }
            line
        };
        std::iter::once(&heads)
            .filter(|_| has_heads)
            .chain(&self.rows)
            .map(line)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_their_heads_and_lines_end_with_text() {
        let mut table = Table::new(["a", "b", "c"].map(Column::left));
        table.row(["long", "", "x"].map(Cell::plain));
        table.row(["y", "z", ""].map(Cell::plain));
        let paper = Paper::plain();
        assert_eq!(table.lines(&paper), ["a     b  c", "long     x", "y     z"]);
        assert_eq!(table.width(), 10);
        table.drop_column("b");
        assert_eq!(table.lines(&paper), ["a     c", "long  x", "y"]);
    }

    #[test]
    fn sentences_in_the_last_column_are_broken_below_its_head() {
        let rows = || {
            let mut table = Table::new([Column::right(""), Column::left("")]);
            table.row(["=>", "node 0, which is the only one with CPUs"].map(Cell::plain));
            table
        };
        let mut table = rows();
        table.fold_last(28);
        assert_eq!(
            table.lines(&Paper::plain()),
            ["=>  node 0, which is the", "      only one with CPUs"]
        );
        // Wide enough, and too narrow for sentences.
        for width in [usize::MAX, 10] {
            let mut table = rows();
            table.fold_last(width);
            assert_eq!(table.lines(&Paper::plain()), rows().lines(&Paper::plain()));
        }
    }

    #[test]
    fn figures_end_where_their_head_ends() {
        let mut table = Table::new([Column::left(""), Column::right("to 0"), Column::right("1")]);
        table.row(["from 0", "10", "21"].map(Cell::plain));
        assert_eq!(
            table.lines(&Paper::plain()),
            ["        to 0   1", "from 0    10  21"]
        );
    }

    #[test]
    fn a_table_without_heads_begins_with_its_rows() {
        let mut table = Table::new([Column::right(""), Column::left("")]);
        table.row(["=>", "hwloc"].map(Cell::plain));
        assert_eq!(table.lines(&Paper::plain()), ["=>  hwloc"]);
    }
}
