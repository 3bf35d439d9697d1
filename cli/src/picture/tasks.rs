//! The colour of each task of a plan, on what it holds.

use topology::binding::{TaskCase, TaskPlan, Verdict};
use topology::pci::PciAddress;
use topology::set::CpuSet;

use super::svg::{Anchor, Area, Paint, Style, Svg, WRONG};

/// Colours that people with any colour vision can tell apart (Okabe and Ito's), then lighter ones, and
/// whether words on them are white.
const COLOURS: [(&str, bool); 16] = [
    ("#0072b2", true),
    ("#e69f00", true),
    ("#009e73", true),
    ("#cc79a7", true),
    ("#d55e00", true),
    ("#56b4e9", true),
    ("#8a6d00", true),
    ("#6a51a3", true),
    ("#9ecae1", false),
    ("#ffd27f", false),
    ("#99d8c9", false),
    ("#f1c6dc", false),
    ("#ffb38a", false),
    ("#d4d4d4", false),
    ("#d8cf6f", false),
    ("#cbc3e6", false),
];

/// Half of what the words on a memory bar may take.
const WORDS: f64 = 70.0;

/// The tasks of a plan; none in a picture of the machine alone.  A task is named by its place in the plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tasks<'a>(pub(crate) &'a [TaskPlan]);

impl Tasks<'_> {
    /// The tasks that may use any of `cpus`.
    pub(crate) fn on_cpus(self, cpus: &CpuSet) -> Vec<usize> {
        self.places(|task| task.cpus.intersects(cpus))
    }

    /// The tasks whose memory policy names a node.
    pub(crate) fn on_memory(self, node: u32) -> Vec<usize> {
        self.places(|task| task.memory.nodes.contains(node))
    }

    /// The tasks that use a GPU.
    pub(crate) fn on_gpu(self, pci: PciAddress) -> Vec<usize> {
        self.places(|task| task.gpus.contains(&pci))
    }

    /// Slurm's number of the task at a place.
    pub(crate) fn number(self, place: usize) -> String {
        self.0
            .get(place)
            .map_or_else(|| place.to_string(), |task| task.task.to_string())
    }

    /// Whether a task is refused, or has no CPU near its GPUs.
    pub(crate) fn is_wrong(self, place: usize) -> bool {
        self.0.get(place).is_some_and(is_wrong)
    }

    fn places(self, is_wanted: impl Fn(&TaskPlan) -> bool) -> Vec<usize> {
        (0..)
            .zip(self.0)
            .filter(|(_, task)| is_wanted(task))
            .map(|(place, _)| place)
            .collect()
    }
}

/// Whether a task is refused, or has no CPU near its GPUs; one without a GPU, or whose GPU's node is unknown, is neither.
pub(crate) fn is_wrong(task: &TaskPlan) -> bool {
    match task.verdict {
        Verdict::Refused | Verdict::Remote => true,
        Verdict::Unbound => matches!(task.case, TaskCase::Far { .. }),
        Verdict::Partial | Verdict::Spanning | Verdict::Local => false,
    }
}

/// The colour of a task.
pub(crate) fn colour(task: usize) -> &'static str {
    COLOURS
        .get(task % COLOURS.len())
        .map_or("#0072b2", |(fill, _)| fill)
}

/// The colour of words on it.
pub(crate) fn ink(task: usize) -> &'static str {
    let is_white = COLOURS
        .get(task % COLOURS.len())
        .is_none_or(|(_, is_white)| *is_white);
    if is_white { "#ffffff" } else { "#1f2933" }
}

/// Fills an area with the colours of tasks side by side, or with `plain` where there are none; with `numbers` each has its own
/// where there is room.
pub(crate) fn stripes(
    svg: &mut Svg,
    area: Area,
    tasks: &[usize],
    plain: &str,
    numbers: Option<Tasks<'_>>,
) {
    if tasks.is_empty() {
        svg.rectangle(area, 1.5, Paint::new(plain, "none"), "");
        return;
    }
    let count = tasks.iter().fold(0.0, |count, _| count + 1.0);
    let mut x = area.x;
    for task in tasks {
        let width = area.width / count;
        svg.rectangle(
            Area { x, width, ..area },
            1.5,
            Paint::new(colour(*task), "none"),
            "",
        );
        x += width;
        if let Some(numbers) = numbers
            && width >= 26.0
        {
            let stripe = Area {
                x: x - width,
                width,
                ..area
            };
            let number = numbers.number(*task);
            write_number(svg, &number, ink(*task), (stripe, area.middle()));
        }
    }
}

/// A task's number on its stripe, so that a grey print tells tasks apart; beside the words in the middle of the bar.
fn write_number(svg: &mut Svg, number: &str, fill: &'static str, (stripe, words_at): (Area, f64)) {
    let style = Style {
        fill,
        is_bold: true,
        is_upright: false,
    };
    let from_words = stripe.middle() - words_at;
    let x = if from_words.abs() > WORDS {
        stripe.middle()
    } else if from_words > 1.0 {
        stripe.x + stripe.width - 9.0
    } else {
        stripe.x + 9.0
    };
    let at = (x, stripe.y + stripe.height / 2.0 + 3.5);
    svg.text(at, 9.5, Anchor::Middle, style, number);
}

/// Hatches an area whose task is wrong.
pub(crate) fn hatch(svg: &mut Svg, area: Area) {
    svg.rectangle(area, 1.5, Paint::new(WRONG, "none"), "");
}
