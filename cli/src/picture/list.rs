//! Lines below the picture: in columns where several fit beside each other, broken where one alone does not fit.

use super::svg::{self, Anchor, Area, PLAIN, Paint, Svg};
use super::tasks;

/// How words are set.
#[derive(Debug, Clone, Copy)]
struct Type {
    size: f64,
    /// From one line to the next.
    line: f64,
    /// A task's colour, before its words.
    swatch: f64,
    /// Between columns.
    between: f64,
}

const USUAL: Type = Type {
    size: 11.0,
    line: 17.0,
    swatch: 22.0,
    between: 24.0,
};
/// Of more lines than are read at a glance.
const SMALL: Type = Type {
    size: 9.5,
    line: 15.0,
    swatch: 18.0,
    between: 16.0,
};
/// So few lines are read one below the other.
const FEW: usize = 8;
/// What these words take of what any might: most are digits and small letters.
const NARROW: f64 = 0.95;

/// One of the lines.
pub(super) struct Item {
    pub(super) words: String,
    /// The task that it tells of, and whether it is hatched.
    pub(super) task: Option<(usize, bool)>,
}

/// How much wider than the picture two columns may be: less is empty than below one.
const WIDER: f64 = 1.2;

/// Draws the lines from `start` on, and returns where they end on the right and where the next ones go.
pub(super) fn draw(
    svg: &mut Svg,
    items: &[Item],
    (left, start): (f64, f64),
    width: f64,
) -> (f64, f64) {
    let is_long = items.len() > FEW;
    let own = if is_long { SMALL } else { USUAL };
    let aside = if items.iter().any(|item| item.task.is_some()) {
        own.swatch
    } else {
        0.0
    };
    let widths = items
        .iter()
        .map(|item| svg::width(&item.words, own.size) * NARROW);
    let column = widths.fold(0.0, f64::max) + aside + own.between;
    let mut columns = 1_usize;
    let mut used = column;
    while is_long && used + column <= width * WIDER {
        columns += 1;
        used += column;
    }
    let right = if columns > 1 { left + used } else { left };
    let rows = items.len().div_ceil(columns).max(1);
    let (mut x, mut y, mut bottom) = (left, start, start);
    for (index, item) in items.iter().enumerate() {
        if index > 0 && index % rows == 0 {
            x += column;
            y = start;
        }
        if let Some((task, is_wrong)) = item.task {
            draw_swatch(svg, (x, y), task, is_wrong);
        }
        for line in svg::wrap(&item.words, width - aside, own.size) {
            svg.text((x + aside, y), own.size, Anchor::Start, PLAIN, &line);
            y += own.line;
        }
        bottom = bottom.max(y);
    }
    (right, bottom)
}

fn draw_swatch(svg: &mut Svg, (x, y): (f64, f64), task: usize, is_wrong: bool) {
    let swatch = Area {
        x,
        y: y - 10.0,
        width: 14.0,
        height: 12.0,
    };
    let paint = Paint::new(tasks::colour(task), "#52606d");
    svg.rectangle(swatch, 2.0, paint, "");
    if is_wrong {
        tasks::hatch(svg, swatch);
    }
}
