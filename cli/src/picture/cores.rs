//! The cores of a NUMA node, one cell each, boxed by last-level cache.

use topology::machine::{Machine, NumaNode};
use topology::set::CpuSet;

use super::svg::{Anchor, Area, Paint, Style, Svg};
use super::tasks::{self, Tasks, hatch, stripes};

/// A cell with its gap.
const CELL: f64 = 12.0;
/// Around a cache's cells.
const BORDER: f64 = 3.0;
/// A core that no task may use.
const FREE: &str = "#cbd2d9";

/// The cells of a cache.
struct Block {
    cores: Vec<CpuSet>,
    /// Whether a cache is known to hold them together.
    is_cache: bool,
}

/// How blocks are set out.
struct Layout {
    blocks: Vec<Block>,
    /// Cells in a row of a block.
    columns: usize,
    /// Rows of cells in a block.
    rows: usize,
    /// Blocks in a row.
    across: usize,
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

impl Layout {
    fn new(machine: &Machine, node: &NumaNode, width: f64) -> Self {
        let own: Vec<CpuSet> = machine
            .cores
            .iter()
            .filter(|core| core.intersects(&node.cpus))
            .cloned()
            .collect();
        let mut blocks: Vec<Block> = Vec::new();
        let caches = machine
            .last_level_caches
            .iter()
            .filter(|cache| cache.intersects(&node.cpus));
        for cache in caches {
            let cores: Vec<CpuSet> = own
                .iter()
                .filter(|core| core.is_subset(cache))
                .cloned()
                .collect();
            if !cores.is_empty() {
                blocks.push(Block {
                    cores,
                    is_cache: true,
                });
            }
        }
        let boxed: usize = blocks.iter().map(|block| block.cores.len()).sum();
        if boxed != own.len() {
            blocks = vec![Block {
                cores: own,
                is_cache: false,
            }];
        }
        let largest = blocks
            .iter()
            .map(|block| block.cores.len())
            .max()
            .unwrap_or(0);
        let room = |columns: usize| number(columns) * CELL + 2.0 * BORDER <= width;
        let wanted = match largest {
            0..=4 => largest.max(1),
            5..=8 => 4,
            9..=16 => 8,
            _ => 16,
        };
        let mut columns = wanted;
        while columns > 1 && !room(columns) {
            columns -= 1;
        }
        // A single cache may take the whole width.
        while blocks.len() == 1 && columns < largest && room(columns + 1) {
            columns += 1;
        }
        let mut across = 1;
        while (number(across) + 1.0) * (number(columns) * CELL + 2.0 * BORDER + 2.0) <= width {
            across += 1;
        }
        Self {
            rows: largest.div_ceil(columns),
            blocks,
            columns,
            across,
        }
    }

    fn block_height(&self) -> f64 {
        number(self.rows) * CELL + 2.0 * BORDER
    }
}

/// The height that the cores of a node take in a box of `width`.
pub(super) fn height(machine: &Machine, node: &NumaNode, width: f64) -> f64 {
    let layout = Layout::new(machine, node, width - 16.0);
    number(layout.blocks.len().div_ceil(layout.across)) * (layout.block_height() + 3.0)
}

/// Draws the cores from the upper left corner of `area`, as wide as it is.
pub(super) fn draw(
    svg: &mut Svg,
    (machine, tasks): (&Machine, Tasks<'_>),
    node: &NumaNode,
    area: Area,
) {
    let layout = Layout::new(machine, node, area.width);
    let width = number(layout.columns) * CELL + 2.0 * BORDER;
    for (index, block) in layout.blocks.iter().enumerate() {
        let x = area.x + number(index % layout.across) * (width + 2.0);
        let y = area.y + number(index / layout.across) * (layout.block_height() + 3.0);
        if block.is_cache {
            let cpus = block
                .cores
                .iter()
                .fold(CpuSet::new(), |all, core| all.union(core));
            let place = Area {
                x,
                y,
                width,
                height: layout.block_height(),
            };
            svg.rectangle(
                place,
                2.0,
                Paint::new("#f5f7fa", "#9aa5b1"),
                &format!("last-level cache of CPUs {cpus}"),
            );
        }
        for (place, core) in block.cores.iter().enumerate() {
            let cell = Area {
                x: x + BORDER + number(place % layout.columns) * CELL + 1.0,
                y: y + BORDER + number(place / layout.columns) * CELL + 1.0,
                width: CELL - 2.0,
                height: CELL - 2.0,
            };
            let users = tasks.on_cpus(core);
            stripes(svg, cell, &users, FREE, None);
            if let [one] = users.as_slice() {
                write_in_cell(svg, tasks, *one, cell);
            }
            svg.rectangle(
                cell,
                1.5,
                Paint::new("none", "none"),
                &format!("CPUs {core}"),
            );
        }
    }
}

/// The number of a core's only task, for a grey print; a task that is wrong is hatched.
fn write_in_cell(svg: &mut Svg, tasks: Tasks<'_>, task: usize, cell: Area) {
    if tasks.is_wrong(task) {
        hatch(svg, cell);
        return;
    }
    let style = Style {
        fill: tasks::ink(task),
        is_bold: false,
        is_upright: false,
    };
    let at = (cell.middle(), cell.y + 7.5);
    svg.text(at, 7.0, Anchor::Middle, style, &tasks.number(task));
}
