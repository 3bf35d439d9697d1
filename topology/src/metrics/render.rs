//! A table in the words of Prometheus.

use std::fmt::Write as _;

use super::{BUCKETS, BUCKETS_OF_HOOK, Counts, Figure, HOOKS};

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// OpenMetrics 1.0, in which a counter's family is named without `_total`.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, which node_exporter's textfile collector reads.
    Prometheus,
}

/// What is known of a host besides its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host<'a> {
    /// The release of the program that writes.
    pub version: &'a str,
    /// Whether the plugins can use the host's snapshot now.
    pub snapshot_is_usable: bool,
}

/// A host's figures as text, each with what it is.
///
/// Writing to a string cannot fail.
pub fn render(counts: &Counts, host: Host<'_>, syntax: Syntax) -> String {
    let mut text = String::with_capacity(8192);
    let version = escape(host.version);
    match syntax {
        Syntax::OpenMetrics => head(&mut text, "gpu_numa_bind_build", "info", BUILD),
        Syntax::Prometheus => head(&mut text, "gpu_numa_bind_build_info", "gauge", BUILD),
    }
    let _ = writeln!(text, "gpu_numa_bind_build_info{{version=\"{version}\"}} 1");
    head(&mut text, "gpu_numa_bind_snapshot_usable", "gauge", USABLE);
    let usable = u8::from(host.snapshot_is_usable);
    let _ = writeln!(text, "gpu_numa_bind_snapshot_usable {usable}");
    for figure in Figure::ALL {
        if figure == Figure::HookRuns {
            hooks(&mut text, counts, syntax);
        } else if figure != Figure::HookMicros {
            counter(&mut text, counts, figure, syntax);
        }
    }
    if syntax == Syntax::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

const BUILD: &str = "The release of gpu-numa that wrote this";
const USABLE: &str =
    "Whether the plugins can use this host's snapshot now; without it they read /sys";

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}");
    let _ = writeln!(text, "# TYPE {name} {kind}");
}

fn counter(text: &mut String, counts: &Counts, figure: Figure, syntax: Syntax) {
    let row = figure.row();
    match syntax {
        Syntax::OpenMetrics => head(text, row.name, "counter", row.help),
        Syntax::Prometheus => head(text, &format!("{}_total", row.name), "counter", row.help),
    }
    for (value, count) in counts.values(figure) {
        let (name, label) = (row.name, row.label);
        let _ = writeln!(text, "{name}_total{{{label}=\"{value}\"}} {count}");
    }
}

fn hooks(text: &mut String, counts: &Counts, syntax: Syntax) {
    let row = Figure::HookRuns.row();
    let (name, label) = (row.name, row.label);
    head(text, name, "histogram", row.help);
    if syntax == Syntax::OpenMetrics {
        let _ = writeln!(text, "# UNIT {name} seconds");
    }
    let runs = counts.of(Figure::HookRuns).chunks(BUCKETS_OF_HOOK);
    let bounds = || BUCKETS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
    for ((hook, runs), micros) in HOOKS.iter().zip(runs).zip(counts.of(Figure::HookMicros)) {
        let mut sum = 0u64;
        for (bound, count) in bounds().zip(runs) {
            sum = sum.wrapping_add(*count);
            let _ = writeln!(
                text,
                "{name}_bucket{{{label}=\"{hook}\",le=\"{bound}\"}} {sum}"
            );
        }
        let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
        let _ = writeln!(text, "{name}_sum{{{label}=\"{hook}\"}} {seconds}.{rest:06}");
        let _ = writeln!(text, "{name}_count{{{label}=\"{hook}\"}} {sum}");
    }
}

/// A label's value.
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
