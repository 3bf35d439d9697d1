//! The few SVG elements that a picture needs, with every text escaped.

use std::fmt::{self, Write as _};

use crate::paper;

/// Family of all text.
const FONT: &str = "DejaVu Sans, Helvetica, Arial, sans-serif";
/// Width of a character of size 1, on average, rounded up.
const CHARACTER: f64 = 0.62;

/// On a dark page light and dark change places, and colours keep their hue; print stays as drawn.
const DARK: &str = "@media screen and (prefers-color-scheme: dark) { svg { filter: invert(0.9) hue-rotate(180deg); } }";
/// Over what is wrong: told from the rest without colour too.
pub(crate) const WRONG: &str = "url(#wrong)";
const HATCH: &str = "<defs><pattern id=\"wrong\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
                     patternTransform=\"rotate(45)\"><rect width=\"2.2\" height=\"6\" fill=\"#b42318\"/></pattern></defs>";

/// How text stands to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
}

/// A rectangle's place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Area {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Area {
    pub(crate) fn middle(&self) -> f64 {
        self.x + self.width / 2.0
    }

    pub(crate) fn bottom(&self) -> f64 {
        self.y + self.height
    }
}

/// How a shape is painted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint<'a> {
    pub(crate) fill: &'a str,
    pub(crate) stroke: &'a str,
    pub(crate) width: f64,
    pub(crate) is_dashed: bool,
}

impl<'a> Paint<'a> {
    pub(crate) fn new(fill: &'a str, stroke: &'a str) -> Self {
        Self {
            fill,
            stroke,
            width: 1.0,
            is_dashed: false,
        }
    }

    pub(crate) fn line(stroke: &'a str, width: f64) -> Self {
        Self {
            fill: "none",
            stroke,
            width,
            is_dashed: false,
        }
    }
}

impl fmt::Display for Paint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fill, stroke, width) = (self.fill, self.stroke, self.width);
        write!(
            f,
            "fill=\"{fill}\" stroke=\"{stroke}\" stroke-width=\"{width}\""
        )?;
        if self.is_dashed {
            f.write_str(" stroke-dasharray=\"5 4\"")?;
        }
        Ok(())
    }
}

/// An SVG under construction.
#[derive(Debug, Default)]
pub(crate) struct Svg {
    body: String,
}

impl Svg {
    fn element(&mut self, text: fmt::Arguments<'_>) {
        // A String takes all that is written.
        let _ = self.body.write_fmt(text);
        self.body.push('\n');
    }

    /// A white plate for words of that size in the middle of `place`, `most` wide at most: dark words on a dark colour
    /// cannot be read.
    pub(crate) fn plate(&mut self, place: Area, (words, size): (&str, f64), most: f64) {
        let width = (width(words, size) + 8.0).min(most);
        let plate = Area {
            x: place.middle() - width / 2.0,
            width,
            ..place
        };
        self.rectangle(plate, 6.0, Paint::new("#ffffff", "none"), "");
    }

    /// A rectangle with rounded corners; `title` shows when a pointer rests on it.
    pub(crate) fn rectangle(&mut self, area: Area, radius: f64, paint: Paint<'_>, title: &str) {
        let Area {
            x,
            y,
            width,
            height,
        } = area;
        let title = if title.is_empty() {
            String::new()
        } else {
            format!("<title>{}</title>", escape(title))
        };
        self.element(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{radius}\" {paint}>{title}</rect>"
        ));
    }

    /// A line through points.
    pub(crate) fn line(&mut self, points: &[(f64, f64)], paint: Paint<'_>) {
        let points: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        self.element(format_args!(
            "<polyline points=\"{}\" {paint}/>",
            points.join(" ")
        ));
    }

    /// A bow that hangs `depth` below the line from `a` to `b`.
    pub(crate) fn bow(
        &mut self,
        (ax, ay): (f64, f64),
        (bx, by): (f64, f64),
        depth: f64,
        paint: Paint<'_>,
    ) {
        // A cubic reaches three quarters of the way to its control points.
        let low = ay.max(by) + depth / 0.75;
        self.element(format_args!(
            "<path d=\"M{ax:.1},{ay:.1} C{ax:.1},{low:.1} {bx:.1},{low:.1} {bx:.1},{by:.1}\" {paint}/>"
        ));
    }

    /// A line of text.
    pub(crate) fn text(
        &mut self,
        (x, y): (f64, f64),
        size: f64,
        anchor: Anchor,
        style: Style,
        text: &str,
    ) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
        };
        let weight = if style.is_bold {
            " font-weight=\"bold\""
        } else {
            ""
        };
        let turn = if style.is_upright {
            format!(" transform=\"rotate(-90 {x:.1} {y:.1})\"")
        } else {
            String::new()
        };
        self.element(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{}\"{weight}{turn}>{}</text>",
            style.fill,
            escape(text)
        ));
    }

    /// Another picture, moved by `x` and `y`.
    pub(crate) fn place(&mut self, other: Self, (x, y): (f64, f64)) {
        let body = other.body;
        self.element(format_args!(
            "<g transform=\"translate({x:.1} {y:.1})\">\n{body}</g>"
        ));
    }

    /// A line through points with a head at its end.
    pub(crate) fn arrow(&mut self, points: &[(f64, f64)], paint: Paint<'_>) {
        self.line(points, paint);
        let [.., (fx, fy), (x, y)] = points else {
            return;
        };
        let (dx, dy) = (x - fx, y - fy);
        let length = dx.hypot(dy).max(1.0);
        let (dx, dy) = (6.0 * dx / length, 6.0 * dy / length);
        self.line(
            &[
                (x - dx - dy / 1.5, y - dy + dx / 1.5),
                (*x, *y),
                (x - dx + dy / 1.5, y - dy - dx / 1.5),
            ],
            Paint {
                is_dashed: false,
                ..paint
            },
        );
    }

    /// The document, `width` by `height`.
    pub(crate) fn finish(self, width: f64, height: f64, title: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" \
             height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"{FONT}\">\n<title>{}</title>\n\
             <style>{DARK}</style>\n{HATCH}\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            escape(title),
            self.body
        )
    }
}

/// How text looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub(crate) fill: &'static str,
    pub(crate) is_bold: bool,
    /// Read from bottom to top.
    pub(crate) is_upright: bool,
}

/// Ordinary text.
pub(crate) const PLAIN: Style = Style {
    fill: "#1f2933",
    is_bold: false,
    is_upright: false,
};
/// Names.
pub(crate) const BOLD: Style = Style {
    fill: "#1f2933",
    is_bold: true,
    is_upright: false,
};
/// Details.
pub(crate) const FAINT: Style = Style {
    fill: "#52606d",
    is_bold: false,
    is_upright: false,
};

/// Text safe in XML, characters that XML forbids replaced.
fn escape(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// `text` cut so that it fits `width` at `size`.
pub(crate) fn fit(text: &str, width: f64, size: f64) -> String {
    let room = characters(width, size);
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(room.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// `text` in lines that fit `width` at `size`, broken at spaces.
pub(crate) fn wrap(text: &str, width: f64, size: f64) -> Vec<String> {
    let lines = paper::wrap(text, characters(width, size));
    lines
        .iter()
        .map(|line| line.trim_start().to_owned())
        .collect()
}

/// How many characters of `size` fit `width`.
fn characters(width: f64, size: f64) -> usize {
    let mut room = 0usize;
    let mut used = CHARACTER * size;
    while used <= width && room < 4096 {
        room += 1;
        used += CHARACTER * size;
    }
    room
}

/// About what `text` takes at `size`.
pub(crate) fn width(text: &str, size: f64) -> f64 {
    text.chars().map(|_| CHARACTER * size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_become_markup() {
        let mut svg = Svg::default();
        svg.text(
            (0.0, 0.0),
            10.0,
            Anchor::Start,
            PLAIN,
            "</text><script>\u{1}\"&",
        );
        let document = svg.finish(1.0, 1.0, "<title>");
        assert!(
            !document.contains("<script") && !document.contains('\u{1}'),
            "{document}"
        );
        assert!(
            document.contains("&lt;/text&gt;&lt;script&gt;\u{fffd}&quot;&amp;"),
            "{document}"
        );
    }

    #[test]
    fn long_text_is_cut_to_its_room() {
        assert_eq!(fit("abcdef", 100.0, 10.0), "abcdef");
        assert_eq!(fit("abcdef", 19.0, 10.0), "ab…");
    }
}
