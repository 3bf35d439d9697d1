//! What hangs below a node: root complexes, switches, GPUs and NICs, joined by lines.

use topology::machine::{Gpu, Machine};
use topology::nics::{NicPath, NicShare};

use super::grid::{Band, End, GAP, Home, What};
use super::svg::{self, Anchor, Area, BOLD, FAINT, PLAIN, Paint, Style, Svg};
use super::tasks::{self, Tasks, colour, stripes};
use crate::{hardware, links};

/// What is drawn: a machine, the tasks planned on it, and the NICs that each of them is dealt.
type Scene<'a> = (&'a Machine, Tasks<'a>, &'a [NicShare]);

/// A root complex or switch.
const PILL: f64 = 20.0;
/// Between rows.
const STEP: f64 = 18.0;
/// A GPU or NIC.
const BOX: f64 = 92.0;
/// Below them.
const TAIL: f64 = 6.0;
/// Between two rows of devices below one home.
const SHELF_GAP: f64 = 14.0;
/// The size of a GPU's heading.
const TITLE: f64 = 11.5;
const WIRE: &str = "#627d98";

/// The height of the devices below a band.
pub(super) fn height(band: &Band<'_>) -> f64 {
    let shelves = band.homes.iter().map(|home| home.shelves().count());
    let shelves = shelves.max().unwrap_or(0);
    let shelves = f64::from(u32::try_from(shelves).unwrap_or(0));
    shelves * (shelf_height(band) + SHELF_GAP) - if shelves > 0.0 { SHELF_GAP } else { 0.0 }
}

/// The height of one row of devices below a band.
fn shelf_height(band: &Band<'_>) -> f64 {
    STEP + PILL + levels(band.homes.iter()) * (STEP + PILL) + STEP + BOX + TAIL
}

/// How far the lower edges of the devices of a row are below the upper edge of the first row.
pub(super) fn lower_edge(band: &Band<'_>, shelf: usize) -> f64 {
    let above = f64::from(u32::try_from(shelf).unwrap_or(0));
    above * (shelf_height(band) + SHELF_GAP) + shelf_height(band) - TAIL
}

/// Rows of switches.
fn levels<'a>(homes: impl Iterator<Item = &'a Home<'a>>) -> f64 {
    let deepest = homes
        .flat_map(|home| &home.ends)
        .map(|end| end.switches.len())
        .max();
    f64::from(u32::try_from(deepest.unwrap_or(0)).unwrap_or(0))
}

/// Draws what hangs below a home of a band, whose left edge is `x`, from `top` on.
pub(super) fn draw(
    svg: &mut Svg,
    scene: Scene<'_>,
    (band, home): (&Band<'_>, &Home<'_>),
    (x, top): (f64, f64),
) {
    let mut y = top;
    for (number, ends) in home.shelves().enumerate() {
        // Beside the rows above.
        let trunk = (number > 0).then_some((x - GAP / 2.0, top));
        draw_shelf(svg, scene, ends, (x, y), trunk);
        y += shelf_height(band) + SHELF_GAP;
    }
}

/// Draws one row of devices; wires come from above, or from `trunk`.
fn draw_shelf(
    svg: &mut Svg,
    scene: Scene<'_>,
    ends: &[End],
    (x, top): (f64, f64),
    trunk: Option<(f64, f64)>,
) {
    let wire = Paint::line(WIRE, 1.5);
    let roots_at = top + STEP;
    for (root, place) in spans(ends, |end| Some(end.root)) {
        let place = Area {
            x: x + place.x + 3.0,
            y: roots_at,
            width: place.width - 6.0,
            height: PILL,
        };
        let (middle, bend) = (place.middle(), top + STEP / 2.0);
        match trunk {
            Some((beside, start)) => {
                let way = [
                    (beside, start),
                    (beside, bend),
                    (middle, bend),
                    (middle, place.y),
                ];
                svg.line(&way, wire);
            }
            None => svg.line(&[(middle, top), (middle, place.y)], wire),
        }
        let name = root.map_or_else(
            || "host bridge".to_owned(),
            |(domain, bus)| format!("host bridge {domain:04x}:{bus:02x}"),
        );
        pill(svg, place, "#d9e2ec", &name);
    }
    let mut y = roots_at + PILL;
    let mut level = 0;
    let deepest = ends.iter().map(|end| end.switches.len()).max().unwrap_or(0);
    while level < deepest {
        let at = y + STEP;
        for (_, place) in spans(ends, |end| {
            end.switches.get(level).map(|own| (end.root, *own))
        }) {
            let place = Area {
                x: x + place.x + 6.0,
                y: at,
                width: place.width - 12.0,
                height: PILL,
            };
            svg.line(&[(place.middle(), y), (place.middle(), at)], wire);
            pill(svg, place, "#bcccdc", "PCIe switch");
        }
        for end in ends.iter().filter(|end| end.switches.len() <= level) {
            let middle = x + end.x + end.width / 2.0;
            svg.line(&[(middle, y), (middle, at + PILL)], wire);
        }
        y = at + PILL;
        level += 1;
    }
    for end in ends {
        let place = Area {
            x: x + end.x + 4.0,
            y: y + STEP,
            width: end.width - 8.0,
            height: BOX,
        };
        svg.line(&[(place.middle(), y), (place.middle(), place.y)], wire);
        match end.what {
            What::Gpu(index) => draw_gpu(svg, scene, index, place),
            What::Nic(index) => draw_nic(svg, scene, index, place),
        }
    }
}

/// Neighbours that share a key, and the width they take together.
fn spans<K: PartialEq>(ends: &[End], key: impl Fn(&End) -> Option<K>) -> Vec<(K, Area)> {
    let mut spans: Vec<(K, Area)> = Vec::new();
    let mut is_open = false;
    for end in ends {
        let Some(own) = key(end) else {
            is_open = false;
            continue;
        };
        match spans.last_mut() {
            Some((known, area)) if is_open && *known == own => {
                area.width = end.x + end.width - area.x
            }
            _ => spans.push((
                own,
                Area {
                    x: end.x,
                    y: 0.0,
                    width: end.width,
                    height: 0.0,
                },
            )),
        }
        is_open = true;
    }
    spans
}

fn pill(svg: &mut Svg, area: Area, fill: &str, name: &str) {
    svg.rectangle(area, 9.0, Paint::new(fill, WIRE), name);
    let name = if svg::width(name, 10.0) > area.width {
        name.rsplit(' ').next().unwrap_or(name)
    } else {
        name
    };
    svg.text(
        (area.middle(), area.y + 14.0),
        10.0,
        Anchor::Middle,
        PLAIN,
        &svg::fit(name, area.width, 10.0),
    );
}

fn draw_gpu(svg: &mut Svg, (machine, tasks, _): Scene<'_>, index: usize, area: Area) {
    let Some(gpu) = machine.gpus.get(index) else {
        return;
    };
    let users = tasks.on_gpu(gpu.pci);
    let name = hardware::model(gpu);
    let mut paint = Paint::new("#e3f9e5", "#3f9142");
    paint.width = 1.5;
    svg.rectangle(area, 5.0, paint, &name);
    draw_head(svg, tasks, &users, &format!("GPU{index}"), area);
    write_facts(svg, machine, gpu, &name, area);
    if users.iter().any(|user| tasks.is_wrong(*user)) {
        hatch_ends(svg, area);
    }
    draw_frame(svg, &users, &name, area);
}

/// The head of a device: what it is called, and the colours of the tasks whose it is.
fn draw_head(svg: &mut Svg, tasks: Tasks<'_>, users: &[usize], label: &str, area: Area) {
    if !users.is_empty() {
        let band = Area {
            height: 24.0,
            ..area
        };
        stripes(svg, band, users, "none", None);
    }
    let (title, size) = match users {
        [] => (label.to_owned(), TITLE),
        [one] => {
            let named = format!("{label} task {}", tasks.number(*one));
            let sizes = [(TITLE, 10.0), (TITLE - 1.5, 0.0), (TITLE - 3.0, 0.0)];
            let fits = |(size, room): &(f64, f64)| svg::width(&named, *size) <= area.width - room;
            let fitting = sizes.into_iter().find(fits);
            let size = fitting.map_or(TITLE - 3.0, |(size, _)| size);
            (named, size)
        }
        several => {
            let numbers: Vec<String> = several.iter().map(|user| tasks.number(*user)).collect();
            let (named, counted) = (
                format!("{label} tasks {}", numbers.join(",")),
                format!("{label} {} tasks", several.len()),
            );
            let forms = [
                (named, TITLE - 1.5),
                (counted.clone(), TITLE),
                (counted, TITLE - 1.5),
            ];
            let fits = |(form, size): &(String, f64)| svg::width(form, *size) <= area.width;
            let fitting = forms.into_iter().find(fits);
            fitting.unwrap_or_else(|| (label.to_owned(), TITLE))
        }
    };
    let style = match users {
        [one] => Style {
            fill: tasks::ink(*one),
            ..BOLD
        },
        [] => BOLD,
        // No colour can be read on several others.
        _ => {
            let place = Area {
                y: area.y + 4.0,
                height: 16.0,
                ..area
            };
            svg.plate(place, (&title, size), area.width - 4.0);
            BOLD
        }
    };
    svg.text(
        (area.middle(), area.y + 16.0),
        size,
        Anchor::Middle,
        style,
        &svg::fit(&title, area.width + 6.0, size),
    );
}

/// Marks a device as one that is on the wrong side for a task.
fn hatch_ends(svg: &mut Svg, area: Area) {
    let rest = Area {
        y: area.y + 24.0,
        height: 6.0,
        ..area
    };
    tasks::hatch(svg, rest);
    tasks::hatch(
        svg,
        Area {
            y: area.bottom() - 7.0,
            height: 7.0,
            ..area
        },
    );
}

/// A frame in the colour of the one task whose a device is.
fn draw_frame(svg: &mut Svg, users: &[usize], name: &str, area: Area) {
    if let [one] = users {
        let mut paint = Paint::new("none", colour(*one));
        paint.width = 2.5;
        svg.rectangle(area, 5.0, paint, name);
    }
}

/// Model, address and links of a GPU, below its head.
fn write_facts(svg: &mut Svg, machine: &Machine, gpu: &Gpu, name: &str, area: Area) {
    let short = name
        .trim_start_matches("NVIDIA ")
        .trim_start_matches("Tesla ")
        .trim_start_matches("AMD ")
        .trim_start_matches("Instinct ");
    let link = links::describe(&links::of(machine, gpu.pci), true);
    let link = if link == "-" { String::new() } else { link };
    let links: u32 = gpu.nvlinks.values().copied().max().unwrap_or(0);
    let nvlink = if links > 0 {
        hardware::links_word(machine, gpu.pci, links)
    } else {
        String::new()
    };
    write_model(svg, short, area);
    for (text, style, below) in [
        (gpu.pci.to_string(), PLAIN, 54.0),
        (link, PLAIN, 69.0),
        (nvlink, FAINT, 84.0),
    ] {
        let room = area.width - GAP;
        svg.text(
            (area.middle(), area.y + below),
            10.0,
            Anchor::Middle,
            style,
            &svg::fit(&text, room, 10.0),
        );
    }
}

/// A GPU's model; a long name rather small and in two lines than cut.
fn write_model(svg: &mut Svg, name: &str, area: Area) {
    let room = area.width - GAP;
    let fits = |size: f64| svg::width(name, size) <= room;
    let sizes = [10.0, 8.5];
    let fitting = sizes.into_iter().find(|size| fits(*size));
    let (size, lines) = match fitting {
        Some(size) => (size, vec![name.to_owned()]),
        None => (8.0, svg::wrap(name, room, 8.0)),
    };
    let rest = lines.get(1..).unwrap_or_default().join(" ");
    let first = lines.into_iter().next().unwrap_or_default();
    let rows = if rest.is_empty() {
        vec![(first, 39.0)]
    } else {
        vec![(first, 37.0), (rest, 45.0)]
    };
    for (text, below) in rows {
        svg.text(
            (area.middle(), area.y + below),
            size,
            Anchor::Middle,
            FAINT,
            &svg::fit(&text, room, size),
        );
    }
}

/// A NIC, with the tasks for whose GPUs it is a nearest one.
fn draw_nic(svg: &mut Svg, (machine, tasks, shares): Scene<'_>, index: usize, area: Area) {
    let Some(nic) = machine.nics.get(index) else {
        return;
    };
    let title = format!("{} {}", nic.pci, nic.names.join(" "));
    svg.rectangle(area, 5.0, Paint::new("#fff3c4", "#b58105"), &title);
    let own = (0..)
        .zip(shares)
        .filter(|(_, share)| share.nics.contains(&nic.pci));
    let is_far = own
        .clone()
        .any(|(_, share)| share.path == Some(NicPath::SocketLink));
    let users: Vec<usize> = own.map(|(task, _)| task).collect();
    draw_head(svg, tasks, &users, &format!("NIC{index}"), area);
    if is_far {
        hatch_ends(svg, area);
    }
    draw_frame(svg, &users, &title, area);
    let name = nic.names.first().cloned().unwrap_or_default();
    let link = links::describe(&links::of(machine, nic.pci), false);
    let link = if link == "-" { String::new() } else { link };
    for (line, (text, style)) in [(name, FAINT), (nic.pci.to_string(), PLAIN), (link, PLAIN)]
        .iter()
        .enumerate()
    {
        let y = area.y + 39.0 + 15.0 * f64::from(u32::try_from(line).unwrap_or(0));
        // An address with its domain rather small than cut.
        let is_wide = svg::width(text, 9.5) > area.width;
        let size = if is_wide { 8.5 } else { 9.5 };
        svg.text(
            (area.middle(), y),
            size,
            Anchor::Middle,
            *style,
            &svg::fit(text, area.width, size),
        );
    }
}
