//! The colour of each task of a plan, on what it holds.

use topology::binding::{TaskCase, TaskPlan, Verdict};
use topology::pci::PciAddress;
use topology::set::CpuSet;

use super::svg::{Anchor, Area, Paint, Style, Svg, WRONG};

/// Colours that people with any colour vision can tell apart (Okabe and Ito's), then lighter ones.
const COLOURS: [&str; 16] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8a6d00", "#6a51a3",
    "#9ecae1", "#ffd27f", "#99d8c9", "#f1c6dc", "#ffb38a", "#d4d4d4", "#d8cf6f", "#cbc3e6",
];

/// Below this relative luminance (WCAG 2) white words have more contrast than black ones.
const DARK: f64 = 0.179;

/// Half of what the words on a memory bar may take.
const WORDS: f64 = 70.0;

/// The tasks of a plan; none in a picture of the machine alone.  A task is named by its place in the plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tasks<'a> {
    pub(crate) plans: &'a [TaskPlan],
    /// Whether the CPUs of tasks that are not bound are known; else a plan has the step's in their place.
    pub(crate) knows_unbound: bool,
}

impl Tasks<'_> {
    /// The tasks that are known to be able to use any of `cpus`.
    pub(crate) fn on_cpus(self, cpus: &CpuSet) -> Vec<usize> {
        self.places(|task| self.knows_cpus(task) && task.cpus.intersects(cpus))
    }

    /// Whether the CPUs of a task are known.
    pub(crate) fn knows_cpus(self, task: &TaskPlan) -> bool {
        self.knows_unbound || task.bind_cpus
    }

    /// The tasks whose memory policy names a node; a task that is refused gets none.
    pub(crate) fn on_memory(self, node: u32) -> Vec<usize> {
        self.places(|task| !is_refused(task) && task.memory.nodes.contains(node))
    }

    /// The tasks that use a GPU.
    pub(crate) fn on_gpu(self, pci: PciAddress) -> Vec<usize> {
        self.places(|task| task.gpus.contains(&pci))
    }

    /// Slurm's number of the task at a place.
    pub(crate) fn number(self, place: usize) -> String {
        self.plans
            .get(place)
            .map_or_else(|| place.to_string(), |task| task.task.to_string())
    }

    /// Whether a task is refused, or has no CPU near its GPUs.
    pub(crate) fn is_wrong(self, place: usize) -> bool {
        self.plans.get(place).is_some_and(is_wrong)
    }

    fn places(self, is_wanted: impl Fn(&TaskPlan) -> bool) -> Vec<usize> {
        (0..)
            .zip(self.plans)
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

/// Whether a task is not started.
pub(crate) fn is_refused(task: &TaskPlan) -> bool {
    task.verdict == Verdict::Refused
}

/// The colour of a task.
pub(crate) fn colour(task: usize) -> &'static str {
    COLOURS
        .get(task % COLOURS.len())
        .copied()
        .unwrap_or("#0072b2")
}

/// The colour of words on it.
pub(crate) fn ink(task: usize) -> &'static str {
    if luminance(colour(task)) < DARK {
        "#ffffff"
    } else {
        "#000000"
    }
}

/// The relative luminance of a colour `#rrggbb`, from 0 to 1 (WCAG 2.2, "relative luminance").
fn luminance(colour: &str) -> f64 {
    let part = |at: usize| {
        let hex = colour.get(at..at + 2).unwrap_or_default();
        let share = f64::from(u8::from_str_radix(hex, 16).unwrap_or(0)) / 255.0;
        if share <= 0.040_45 {
            share / 12.92
        } else {
            ((share + 0.055) / 1.055).powf(2.4)
        }
    };
    0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_on_every_colour_can_be_read() {
        for task in 0..COLOURS.len() {
            let (ground, words) = (luminance(colour(task)), luminance(ink(task)));
            let contrast = (ground.max(words) + 0.05) / (ground.min(words) + 0.05);
            // WCAG 2.2, 1.4.3: at least 4.5.
            assert!(contrast >= 4.5, "{}: {contrast:.1}", colour(task));
        }
    }
}
