//! The machine as a person would draw it, as SVG; with a plan, each task's colour on its CPUs, memory and GPUs.

mod cores;
mod devices;
mod grid;
mod list;
mod nvlink;
mod svg;
mod tasks;

use topology::binding::TaskPlan;
use topology::machine::{Machine, NodeKind, NumaNode};
use topology::names::GpuNames;
use topology::nics::{NicShare, nics_of_tasks};
use topology::pci::PciAddress;
use topology::words::{Voice, task_message};

use crate::hardware::{self, memory, times_local};
use grid::{Band, GAP};
use list::Item;
use svg::{Anchor, Area, BOLD, FAINT, PLAIN, Paint, Style, Svg};
use tasks::{Tasks, stripes};

/// Around everything.
const MARGIN: f64 = 24.0;
/// Bands side by side are no wider than this together; wider ones stand below each other.
const PAGE: f64 = 1500.0;
/// A package's own heading, and the room below its nodes.
const HEADING: f64 = 26.0;
/// The least width of the lines that tell of tasks.
const LEGEND: f64 = 400.0;
/// The socket link's bar, with its words.
const LINK_ROOM: f64 = 46.0;
/// The socket link.
const LINK: &str = "#b42318";
/// An arrow's lane beside it.
const ARROW: f64 = 14.0;
/// Arrows that can still be told apart; the hatching has all.
const MOST_ARROWS: usize = 8;
/// What is drawn.
pub(crate) struct Picture<'a> {
    machine: &'a Machine,
    tasks: Tasks<'a>,
    /// The NICs that each task is dealt.
    nics: Vec<NicShare>,
    /// In place of the host's name and its summary; none for a picture by itself.
    heading: Option<&'a str>,
    /// What else is to be known, under the summary.
    note: Option<&'a str>,
}

/// The room that a picture takes.
#[derive(Debug, Clone, Copy)]
struct Size {
    width: f64,
    height: f64,
}

/// Two pictures side by side are no wider than this together; wider ones stand below each other.
const PAIR: f64 = 2000.0;

/// The same machine and step before and after, each with its heading.
pub(crate) fn compare(
    machine: &Machine,
    step: &str,
    before: (&str, &[TaskPlan]),
    after: (&str, &[TaskPlan]),
) -> String {
    let [(left, one), (right, other)] = [before, after].map(|(heading, plans)| {
        let picture = Picture {
            heading: Some(heading),
            ..Picture::new(machine, plans, true)
        };
        picture.body()
    });
    let is_beside = one.width + other.width <= PAIR;
    let mut svg = Svg::default();
    let name = format!(
        "{}: {}; {step}",
        hardware::host(machine),
        hardware::summary(machine)
    );
    svg.text((MARGIN, MARGIN + 10.0), 13.0, Anchor::Start, FAINT, &name);
    let top = 20.0;
    svg.place(left, (0.0, top));
    let (at, size) = if is_beside {
        (
            (one.width, top),
            (one.width + other.width, top + one.height.max(other.height)),
        )
    } else {
        (
            (0.0, top + one.height),
            (one.width.max(other.width), top + one.height + other.height),
        )
    };
    svg.place(right, at);
    let width = size.0.max(svg::width(&name, 13.0) + 2.0 * MARGIN);
    svg.finish(width, size.1, hardware::host(machine))
}

impl<'a> Picture<'a> {
    /// A machine, and tasks planned on it; none for the machine alone.  Whether the CPUs are known of tasks that are not
    /// bound, `knows_unbound` says.
    pub(crate) fn new(machine: &'a Machine, plans: &'a [TaskPlan], knows_unbound: bool) -> Self {
        let gpus: Vec<Vec<PciAddress>> = plans.iter().map(|task| task.gpus.clone()).collect();
        Self {
            machine,
            tasks: Tasks {
                plans,
                knows_unbound,
            },
            nics: nics_of_tasks(machine, &gpus),
            heading: None,
            note: None,
        }
    }

    /// The same with a line under the machine's summary.
    pub(crate) fn with_note(mut self, note: &'a str) -> Self {
        self.note = Some(note);
        self
    }

    /// The SVG document.
    pub(crate) fn draw(&self) -> String {
        let (svg, size) = self.body();
        svg.finish(size.width, size.height, hardware::host(self.machine))
    }

    /// The picture, and the room that it takes.
    fn body(&self) -> (Svg, Size) {
        let bands = grid::bands(self.machine, PAGE);
        let mut svg = Svg::default();
        let side_by_side = bands.iter().map(|band| band.width + 2.0 * GAP).sum::<f64>();
        let is_stacked = side_by_side > PAGE && bands.len() > 1;
        let mut y = self.draw_title(&mut svg);
        let mut x = MARGIN;
        let mut right = 0.0_f64;
        let mut places = Vec::new();
        let packages = bands.iter().filter(|band| band.package.is_some()).count();
        if packages > 1 {
            if is_stacked {
                x += LINK_ROOM + self.arrow_room()
            } else {
                y += LINK_ROOM + self.arrow_room()
            }
        }
        let left = x;
        let mut bottom = y;
        let node_height = bands
            .iter()
            .map(|band| self.node_height(band))
            .fold(0.0, f64::max);
        for band in &bands {
            // Packages are all beside or all below each other, as the socket link needs them.
            let is_next = x > left && (band.package.is_some() || x + band.width > PAGE);
            if is_stacked && is_next {
                (x, y) = (left, bottom + 2.0 * GAP);
            }
            let area = Area {
                x,
                y,
                width: band.width,
                height: HEADING + node_height + GAP + devices::height(band),
            };
            self.draw_band(&mut svg, band, area, node_height);
            places.push((band.package, area));
            right = right.max(area.x + area.width);
            bottom = bottom.max(area.bottom());
            x = area.x + area.width + 2.0 * GAP;
        }
        self.draw_socket_link(&mut svg, &places, is_stacked);
        let least = if self.tasks.plans.is_empty() {
            0.0
        } else {
            LEGEND
        };
        let words_end = right.max(MARGIN + self.title_width().max(least));
        bottom = nvlink::draw(
            &mut svg,
            self.machine,
            &self.gpu_places(&bands, &places),
            bottom,
            nvlink::Sides {
                left: MARGIN,
                right,
                words_end,
            },
        );
        let (legend_end, bottom) =
            self.draw_legend(&mut svg, bottom + 2.0 * GAP, words_end - MARGIN);
        let size = Size {
            width: words_end.max(legend_end) + MARGIN,
            height: bottom + MARGIN / 2.0,
        };
        (svg, size)
    }

    /// What the title needs.
    fn title_width(&self) -> f64 {
        let title = match self.heading {
            Some(heading) => svg::width(heading, 18.0),
            None => svg::width(&hardware::summary(self.machine), 12.0),
        };
        let note = self.note.map_or(0.0, |note| svg::width(note, 12.0));
        title.max(note)
    }

    /// The tasks that are far from their GPUs, each with the sockets of its CPUs and of its first GPU.
    fn crossings(&self) -> Vec<(usize, u32, u32)> {
        let crossing = |(place, task): (usize, &TaskPlan)| {
            let of_cpus = self
                .machine
                .packages
                .iter()
                .find(|package| package.cpus.intersects(&task.cpus))?;
            let near = self
                .machine
                .cpus_of(&self.machine.nodes_of_gpus(task.gpus.get(..1)?));
            let of_gpu = self
                .machine
                .packages
                .iter()
                .find(|package| package.cpus.intersects(&near))?;
            (self.tasks.knows_cpus(task) && self.tasks.is_wrong(place) && of_cpus.id != of_gpu.id)
                .then_some((place, of_cpus.id, of_gpu.id))
        };
        let found = (0..).zip(self.tasks.plans).filter_map(crossing);
        found.take(MOST_ARROWS).collect()
    }

    /// What the arrows over the socket link need.
    fn arrow_room(&self) -> f64 {
        self.crossings().iter().map(|_| ARROW).sum()
    }

    fn draw_title(&self, svg: &mut Svg) -> f64 {
        let machine = self.machine;
        let name = self.heading.unwrap_or(hardware::host(machine));
        svg.text((MARGIN, MARGIN + 14.0), 18.0, Anchor::Start, BOLD, name);
        if self.heading.is_some() {
            return MARGIN + 30.0;
        }
        let words = hardware::summary(machine);
        svg.text((MARGIN, MARGIN + 34.0), 12.0, Anchor::Start, FAINT, &words);
        let Some(note) = self.note else {
            return MARGIN + 50.0;
        };
        svg.text((MARGIN, MARGIN + 52.0), 12.0, Anchor::Start, FAINT, note);
        MARGIN + 68.0
    }

    /// The height of the highest node of a band.
    fn node_height(&self, band: &Band<'_>) -> f64 {
        let heights = band.homes.iter().map(|home| {
            home.node
                .map_or(40.0, |node| self.own_height(node, home.width))
        });
        heights.fold(40.0, f64::max)
    }

    fn own_height(&self, node: &NumaNode, width: f64) -> f64 {
        cores::height(self.machine, node, width) + 68.0
    }

    fn draw_band(&self, svg: &mut Svg, band: &Band<'_>, area: Area, node_height: f64) {
        let border = Area {
            height: HEADING + node_height + GAP,
            ..area
        };
        let mut paint = Paint::new("#f1f5f9", "#486581");
        paint.width = 1.5;
        paint.is_dashed = band.package.is_none();
        svg.rectangle(border, 8.0, paint, "");
        svg.text(
            (area.x + GAP, area.y + 18.0),
            13.0,
            Anchor::Start,
            BOLD,
            &self.heading(band),
        );
        let mut x = area.x + GAP;
        for home in &band.homes {
            let place = Area {
                x,
                y: area.y + HEADING,
                width: home.width,
                height: node_height,
            };
            match home.node {
                Some(node) => self.draw_node(svg, node, place),
                None => {
                    let mut paint = Paint::new("none", "#829ab1");
                    paint.is_dashed = true;
                    svg.rectangle(place, 5.0, paint, "");
                    svg.text(
                        (place.middle(), place.y + 18.0),
                        12.0,
                        Anchor::Middle,
                        FAINT,
                        &home.name,
                    );
                }
            }
            let scene = (self.machine, self.tasks, self.nics.as_slice());
            devices::draw(svg, scene, (band, home), (x, border.bottom()));
            x += home.width + GAP;
        }
    }

    /// `socket 0`, and how far its nodes are apart.
    fn heading(&self, band: &Band<'_>) -> String {
        let nodes: Vec<u32> = band
            .homes
            .iter()
            .filter_map(|home| Some(home.node?.id))
            .collect();
        let between = self.distances(&nodes, &nodes);
        match between {
            Some(distance) => format!("{} (between its nodes: SLIT {distance})", band.name),
            None => band.name.clone(),
        }
    }

    /// The distances between nodes of two sets, `12` or `21 to 31`; None where firmware gives none.
    fn distances(&self, from: &[u32], to: &[u32]) -> Option<String> {
        let pairs = from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b)));
        let all: Vec<u32> = pairs
            .filter(|(a, b)| a != b)
            .filter_map(|(a, b)| self.machine.distance(a, b))
            .collect();
        let (low, high) = (all.iter().min()?, all.iter().max()?);
        Some(if low == high {
            low.to_string()
        } else {
            format!("{low} to {high}")
        })
    }

    fn draw_node(&self, svg: &mut Svg, node: &NumaNode, area: Area) {
        svg.rectangle(area, 5.0, Paint::new("#ffffff", "#829ab1"), "");
        let inner = area.width - 16.0;
        svg.text(
            (area.x + 8.0, area.y + 17.0),
            12.0,
            Anchor::Start,
            BOLD,
            &format!("node {}", node.id),
        );
        let cpus = format!("CPUs {}", node.cpus);
        svg.text(
            (area.x + 8.0, area.y + 32.0),
            10.0,
            Anchor::Start,
            FAINT,
            &svg::fit(&cpus, inner, 10.0),
        );
        cores::draw(
            svg,
            (self.machine, self.tasks),
            node,
            Area {
                x: area.x + 8.0,
                y: area.y + 38.0,
                width: inner,
                height: 0.0,
            },
        );
        let bar = Area {
            x: area.x + 8.0,
            y: area.bottom() - 26.0,
            width: inner,
            height: 18.0,
        };
        let holders = self.tasks.on_memory(node.id);
        stripes(svg, bar, &holders, "#e4e7eb", Some(self.tasks));
        svg.rectangle(bar, 2.0, Paint::new("none", "#9aa5b1"), &cpus);
        let words = format!("memory {}", memory(node.memory_bytes));
        if !holders.is_empty() {
            let place = Area {
                y: bar.y + 2.5,
                height: 13.0,
                ..bar
            };
            svg.plate(place, (&words, 10.5), bar.width);
        }
        svg.text(
            (bar.middle(), bar.y + 13.0),
            10.5,
            Anchor::Middle,
            PLAIN,
            &svg::fit(&words, inner, 10.5),
        );
    }

    /// How firmware rates memory access from one socket to another.
    fn socket_link_words(&self, packages: &[(u32, Area)]) -> String {
        let nodes_of = |id: u32| -> Vec<u32> {
            let own = self
                .machine
                .numa_nodes
                .iter()
                .filter(|node| node.package == Some(id) && !node.cpus.is_empty());
            own.map(|node| node.id).collect()
        };
        let mut all = Vec::new();
        for (a, _) in packages {
            for (b, _) in packages.iter().filter(|(b, _)| b > a) {
                let pairs = nodes_of(*a)
                    .into_iter()
                    .flat_map(|x| nodes_of(*b).into_iter().map(move |y| (x, y)));
                all.extend(pairs.filter_map(|(x, y)| self.machine.distance(x, y)));
            }
        }
        if let [(a, _), (b, _)] = packages
            && let Some(words) = self.measured_link(&nodes_of(*a), &nodes_of(*b))
        {
            return words;
        }
        match (all.iter().min(), all.iter().max()) {
            (Some(low), Some(high)) if low == high => format!(
                "socket link: SLIT {low}, {}x local latency",
                times_local(*low)
            ),
            (Some(low), Some(high)) => format!("socket links: SLIT {low} to {high}"),
            _ => "socket link: not rated by firmware".to_owned(),
        }
    }

    /// How long an access from one socket's first node to the other's takes, as measured; none where it was not.
    fn measured_link(&self, from: &[u32], to: &[u32]) -> Option<String> {
        let (a, b) = (*from.first()?, *to.first()?);
        let times = hardware::times_measured(self.machine.latency_pair(a, b)?);
        Some(format!("socket link: {times}x local latency, measured"))
    }

    fn draw_socket_link(&self, svg: &mut Svg, places: &[(Option<u32>, Area)], is_stacked: bool) {
        let packages: Vec<(u32, Area)> = places
            .iter()
            .filter_map(|(id, area)| Some(((*id)?, *area)))
            .collect();
        let (Some((_, first)), Some((_, last))) = (packages.first(), packages.last()) else {
            return;
        };
        if packages.len() < 2 {
            return;
        }
        let words = self.socket_link_words(&packages);
        let paint = Paint::line(LINK, 4.0);
        let style = Style {
            fill: LINK,
            is_bold: true,
            is_upright: is_stacked,
        };
        let gap = 20.0 + self.arrow_room();
        let bar = if is_stacked {
            first.x - 4.0 - gap
        } else {
            first.y - gap
        };
        for (_, area) in &packages {
            let stub = if is_stacked {
                [(bar, area.y + 40.0), (area.x, area.y + 40.0)]
            } else {
                [(area.middle(), bar), (area.middle(), area.y)]
            };
            svg.line(&stub, paint);
        }
        let (ends, at) = if is_stacked {
            // The words may be longer than the bar, but not than the bands.
            let (from, to) = (first.y + 38.0, last.y + 42.0);
            (
                [(bar, from), (bar, to)],
                (bar - 9.0, f64::midpoint(first.y, last.bottom())),
            )
        } else {
            let (from, to) = (first.middle() - 2.0, last.middle() + 2.0);
            (
                [(from, bar), (to, bar)],
                (f64::midpoint(from, to), bar - 8.0),
            )
        };
        svg.line(&ends, paint);
        svg.text(at, 12.0, Anchor::Middle, style, &words);
        self.draw_crossings(svg, &packages, bar, is_stacked);
    }

    /// An arrow for each task that is far from its GPU, from the socket of its CPUs to that of the GPU.
    fn draw_crossings(&self, svg: &mut Svg, packages: &[(u32, Area)], bar: f64, is_stacked: bool) {
        let area = |id: u32| {
            packages
                .iter()
                .find(|(own, _)| *own == id)
                .map(|(_, area)| *area)
        };
        let mut lane = bar;
        for (place, of_cpus, of_gpu) in self.crossings() {
            lane += ARROW;
            let (Some(from), Some(to)) = (area(of_cpus), area(of_gpu)) else {
                continue;
            };
            // Beside the link's own stubs, each in its own lane.
            let aside = 14.0 + lane - bar;
            let mut paint = Paint::line(LINK, 1.6);
            paint.is_dashed = true;
            let words = format!("task {}", self.tasks.number(place));
            let style = Style {
                fill: LINK,
                ..PLAIN
            };
            if is_stacked {
                let inside = 46.0 + (lane - bar) * 0.55;
                let (start, end) = (from.y + inside, to.y + inside);
                svg.arrow(
                    &[(from.x, start), (lane, start), (lane, end), (to.x, end)],
                    paint,
                );
                let middle = f64::midpoint(start, end);
                let plate = Area {
                    x: lane - 6.0,
                    y: middle - 22.0,
                    width: 12.0,
                    height: 44.0,
                };
                svg.rectangle(plate, 3.0, Paint::new("#ffffff", "none"), "");
                let style = Style {
                    is_upright: true,
                    ..style
                };
                svg.text((lane + 3.5, middle), 10.0, Anchor::Middle, style, &words);
            } else {
                let sign = if to.x > from.x { 1.0 } else { -1.0 };
                let (start, end) = (from.middle() + sign * aside, to.middle() - sign * aside);
                svg.arrow(
                    &[(start, from.y), (start, lane), (end, lane), (end, to.y)],
                    paint,
                );
                let middle = f64::midpoint(start, end);
                let plate = Area {
                    x: middle - 22.0,
                    y: lane - 6.0,
                    width: 44.0,
                    height: 12.0,
                };
                svg.rectangle(plate, 3.0, Paint::new("#ffffff", "none"), "");
                svg.text((middle, lane + 3.5), 10.0, Anchor::Middle, style, &words);
            }
        }
    }

    /// Where each GPU stands: the middle of its lower edge.
    fn gpu_places(
        &self,
        bands: &[Band<'_>],
        places: &[(Option<u32>, Area)],
    ) -> Vec<Option<(f64, f64)>> {
        let mut found = vec![None; self.machine.gpus.len()];
        for (band, (_, area)) in bands.iter().zip(places) {
            let mut x = area.x + GAP;
            for home in &band.homes {
                for end in &home.ends {
                    if let grid::What::Gpu(index) = end.what
                        && let Some(place) = found.get_mut(index)
                    {
                        let top = area.bottom() - devices::height(band);
                        let y = top + devices::lower_edge(band, end.shelf);
                        *place = Some((x + end.x + end.width / 2.0, y));
                    }
                }
                x += home.width + GAP;
            }
        }
        found
    }

    /// The lines below the picture, about as wide as it is; where they end on the right and below.
    fn draw_legend(&self, svg: &mut Svg, start: f64, width: f64) -> (f64, f64) {
        let memory: Vec<String> = grid::memory_only(self.machine)
            .iter()
            .map(|node| {
                let kind = match node.kind {
                    NodeKind::Gpu => "GPU memory",
                    NodeKind::Offline => "CPUs offline",
                    NodeKind::Unrecorded => "CPUs not recorded",
                    NodeKind::Cpuless | NodeKind::Dram => "no CPUs",
                };
                format!("node {} ({kind}, {})", node.id, memory(node.memory_bytes))
            })
            .collect();
        let mut notes = Vec::new();
        if !memory.is_empty() {
            notes.push(format!("without CPUs: {}", memory.join(", ")));
        }
        if let Some(link) = hardware::hidden_link(self.machine) {
            notes.push(format!(
                "{link} is not visible here: GPUs may be connected in ways that are not drawn."
            ));
        }
        let notes = notes.into_iter().map(|words| Item { words, task: None });
        let (_, bottom) = list::draw(svg, &notes.collect::<Vec<_>>(), (MARGIN, start), width);
        let tasks = self.tasks.plans.iter().enumerate();
        let tasks = tasks.map(|(index, task)| Item {
            words: self.legend(task),
            task: Some((index, tasks::is_wrong(task))),
        });
        list::draw(svg, &tasks.collect::<Vec<_>>(), (MARGIN, bottom), width)
    }

    /// A task's line below the picture, whose cards have the host's numbers.
    fn legend(&self, task: &TaskPlan) -> String {
        let names = GpuNames::of_host(self.machine);
        let message = task_message(task, names, Voice::Step);
        let refused = if tasks::is_refused(task) {
            "refused: "
        } else {
            ""
        };
        format!("task {}: {refused}{message}", task.task)
    }
}
