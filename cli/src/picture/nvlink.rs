//! NVLink below the GPUs: one bar where every pair is connected alike, else one bow per pair.

use std::collections::BTreeMap;

use topology::machine::{Gpu, Machine};
use topology::path::nvlinks;

use super::list::{self, Item};
use super::svg::{self, Anchor, Area, BOLD, PLAIN, Paint, Style, Svg};
use crate::hardware::{link_names, links_word};

const GREEN: &str = "#3f9142";
/// Bows that can still be told apart.
const MAX_BOWS: usize = 28;
/// How much deeper the next bow hangs.
const STEP: f64 = 15.0;
/// The most NVLinks that a GPU has (H100 and later); with more to its peers together, a switch must be between.
const MOST_LINKS: u32 = 18;
/// How far below its GPUs a row's bar is.
const BELOW: f64 = 9.0;

/// How far the picture reaches.
pub(super) struct Sides {
    pub(super) left: f64,
    /// The right edge of what holds the GPUs.
    pub(super) right: f64,
    /// Where words end.
    pub(super) words_end: f64,
}

/// Draws below `top`, and returns where it ended.
pub(super) fn draw(
    svg: &mut Svg,
    machine: &Machine,
    places: &[Option<(f64, f64)>],
    top: f64,
    sides: Sides,
) -> f64 {
    let pairs = pairs(machine);
    if pairs.is_empty() {
        return top;
    }
    let count = machine.gpus.len();
    let first = pairs.first().map_or(0, |(_, _, links)| *links);
    let is_uniform =
        pairs.len() == count * (count - 1) / 2 && pairs.iter().all(|(_, _, links)| *links == first);
    let lowest = places.iter().flatten().map(|(_, y)| *y).fold(0.0, f64::max);
    let is_one_row = places
        .iter()
        .flatten()
        .all(|(_, y)| (*y - lowest).abs() < 1.0);
    let style = Style {
        fill: GREEN,
        ..BOLD
    };
    let what = link_names(&machine.gpus);
    let gpu = machine.gpus.first().map(|gpu| gpu.pci);
    let mark = gpu.map_or_else(String::new, |gpu| links_word(machine, gpu, first));
    let peers = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX);
    let by = if is_uniform && first.saturating_mul(peers) > MOST_LINKS {
        " by NVSwitch"
    } else if machine.gpus.iter().all(Gpu::is_in_processor) {
        ", which is the socket link"
    } else {
        ""
    };
    if is_uniform && is_one_row {
        bar(svg, places, lowest + 28.0);
        let words = format!("{what}: {mark} between every pair of GPUs{by}");
        let middle = places.iter().flatten().map(|(x, _)| *x);
        let (left, right) = middle.fold((f64::MAX, 0.0_f64), |(low, high), x| {
            (low.min(x), high.max(x))
        });
        svg.text(
            (f64::midpoint(left, right), lowest + 46.0),
            12.0,
            Anchor::Middle,
            style,
            &words,
        );
        return lowest + 54.0;
    }
    if is_uniform {
        rows(svg, places, sides.right + 10.0);
        let words = format!("{what}: {mark} between every pair of GPUs{by}");
        svg.text((sides.left, top + 20.0), 12.0, Anchor::Start, style, &words);
        return top + 28.0;
    }
    if is_one_row && pairs.len() <= MAX_BOWS {
        return bows(svg, machine, &pairs, places, lowest);
    }
    draw_list(svg, machine, &what, top + 20.0, sides)
}

/// Pairs of GPUs with links, by number.
fn pairs(machine: &Machine) -> Vec<(usize, usize, u32)> {
    let mut pairs = Vec::new();
    for (a, gpu) in machine.gpus.iter().enumerate() {
        for (b, other) in machine.gpus.iter().enumerate().skip(a + 1) {
            let links = nvlinks(machine, gpu.pci, other.pci);
            if links > 0 {
                pairs.push((a, b, links));
            }
        }
    }
    pairs
}

fn bar(svg: &mut Svg, places: &[Option<(f64, f64)>], y: f64) {
    let xs = || places.iter().flatten().map(|(x, _)| *x);
    let (left, right) = xs().fold((f64::MAX, 0.0_f64), |(low, high), x| {
        (low.min(x), high.max(x))
    });
    for (x, from) in places.iter().flatten() {
        svg.line(&[(*x, *from), (*x, y)], Paint::line(GREEN, 2.0));
    }
    svg.line(&[(left, y), (right, y)], Paint::line(GREEN, 5.0));
}

/// A bar below each row of GPUs, joined to the others by a line at `right`.
fn rows(svg: &mut Svg, places: &[Option<(f64, f64)>], right: f64) {
    let mut rows: Vec<Vec<Option<(f64, f64)>>> = Vec::new();
    for place in places.iter().flatten() {
        let is_in = |row: &Vec<Option<(f64, f64)>>| {
            let first = row.iter().flatten().next();
            first.is_some_and(|(_, y)| (*y - place.1).abs() < 1.0)
        };
        match rows.iter_mut().find(|row| is_in(row)) {
            Some(row) => row.push(Some(*place)),
            None => rows.push(vec![Some(*place)]),
        }
    }
    let mut ends = Vec::new();
    for row in &rows {
        let Some((left, from)) = row.iter().flatten().next() else {
            continue;
        };
        let y = from + BELOW;
        bar(svg, row, y);
        svg.line(&[(*left, y), (right, y)], Paint::line(GREEN, 5.0));
        ends.push((right, y));
    }
    svg.line(&ends, Paint::line(GREEN, 5.0));
}

/// Shorter bows hang higher, with one depth for each length.
fn bows(
    svg: &mut Svg,
    machine: &Machine,
    pairs: &[(usize, usize, u32)],
    places: &[Option<(f64, f64)>],
    top: f64,
) -> f64 {
    let mark = |index: usize, links| {
        let gpu = machine.gpus.get(index).map(|gpu| gpu.pci);
        gpu.map_or_else(String::new, |gpu| links_word(machine, gpu, links))
    };
    let place = |index: usize| places.get(index).copied().flatten();
    let mut drawn: Vec<_> = pairs
        .iter()
        .filter_map(|(a, b, links)| {
            let (from, to) = (place(*a)?, place(*b)?);
            Some(((from.0 - to.0).abs(), from, to, (*a, *links)))
        })
        .collect();
    drawn.sort_by(|x, y| x.0.total_cmp(&y.0));
    let mut depth = 10.0;
    let mut before = 0.0;
    for (length, from, to, (gpu, links)) in drawn {
        if length > before + 1.0 {
            depth += STEP;
            before = length;
        }
        svg.bow(
            from,
            to,
            depth,
            Paint::line(GREEN, 1.0 + f64::from(links.min(6)) * 0.5),
        );
        let at = (f64::midpoint(from.0, to.0), top + depth + 3.5);
        let label = mark(gpu, links);
        let width = svg::width(&label, 10.0) + 6.0;
        svg.rectangle(
            Area {
                x: at.0 - width / 2.0,
                y: at.1 - 9.5,
                width,
                height: 12.0,
            },
            3.0,
            Paint::new("#ffffff", "none"),
            "",
        );
        svg.text(at, 10.0, Anchor::Middle, PLAIN, &label);
    }
    top + depth + 24.0
}

/// One line per GPU.
fn draw_list(svg: &mut Svg, machine: &Machine, what: &str, top: f64, sides: Sides) -> f64 {
    let style = Style {
        fill: GREEN,
        ..BOLD
    };
    svg.text((sides.left, top), 12.0, Anchor::Start, style, what);
    let mut lines = Vec::new();
    for (index, gpu) in machine.gpus.iter().enumerate() {
        let mut by_links: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for (other, to) in machine.gpus.iter().enumerate() {
            let links = nvlinks(machine, gpu.pci, to.pci);
            if links > 0 {
                by_links.entry(links).or_default().push(other.to_string());
            }
        }
        if by_links.is_empty() {
            continue;
        }
        let words: Vec<String> = by_links
            .iter()
            .rev()
            .map(|(links, others)| {
                let mark = links_word(machine, gpu.pci, *links);
                format!("{mark} to GPU {}", others.join(","))
            })
            .collect();
        lines.push(Item {
            words: format!("GPU{index}: {}", words.join("; ")),
            task: None,
        });
    }
    let width = sides.words_end - sides.left;
    list::draw(svg, &lines, (sides.left, top + 17.0), width).1
}
