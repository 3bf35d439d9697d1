//! The page for people.

use std::collections::BTreeMap;
use std::io;

use topology::quantity::count;

use super::document::{FleetDocument, FleetFinding, HostKind};
use super::names::fold;
use crate::out::Out;
use crate::paper::Ink;

/// Differences that are listed of a kind or a group of hosts; `--json` has the rest.
const MOST_DIFFERENCES: usize = 6;
/// Groups of hosts with the same differences that are listed per kind.
const MOST_GROUPS: usize = 20;
/// The longest list of hosts, in characters.
const LONGEST_LIST: usize = 300;

/// Prints the document.
pub(super) fn print(out: &mut Out, document: &FleetDocument) -> io::Result<()> {
    let sorted: usize = document.kinds.iter().map(|kind| kind.hosts.len()).sum();
    let differing: usize = document.kinds.iter().map(|kind| kind.differing.len()).sum();
    out.told(
        Ink::Head,
        format_args!(
            "{}{} in {}; {}; {}; {} skipped",
            count(document.hosts, "host"),
            // Of the others there is no more than what doctor says.
            if sorted == document.hosts {
                String::new()
            } else {
                format!(", {sorted} of them")
            },
            count(document.kinds.len(), "kind"),
            if differing == 1 {
                "1 differs from its kind".to_owned()
            } else {
                format!("{differing} differ from their kind")
            },
            count(document.findings.len(), "finding"),
            count(document.skipped.len(), "file"),
        ),
    )?;
    for kind in &document.kinds {
        print_kind(out, kind)?;
    }
    if !document.findings.is_empty() {
        out.line("")?;
        out.told(Ink::Head, "found by doctor:")?;
    }
    for finding in &document.findings {
        print_finding(out, finding)?;
    }
    Ok(())
}

fn print_kind(out: &mut Out, kind: &HostKind) -> io::Result<()> {
    out.line("")?;
    out.told(
        Ink::Head,
        format_args!(
            "kind {}: {}: {}",
            kind.number,
            count(kind.hosts.len(), "host"),
            list(kind.hosts.iter().map(String::as_str))
        ),
    )?;
    out.told(Ink::Plain, format_args!("  {}", kind.summary))?;
    if let Some(like) = kind.like {
        out.told(Ink::Plain, format_args!("  like kind {like}, except:"))?;
        print_differences(out, &kind.unlike)?;
    }
    // Hosts with the same differences share their lines.
    let mut groups: BTreeMap<&[String], Vec<&str>> = BTreeMap::new();
    for differing in &kind.differing {
        groups
            .entry(&differing.differences)
            .or_default()
            .push(&differing.host);
    }
    let mut groups: Vec<(&[String], Vec<&str>)> = groups.into_iter().collect();
    groups.sort_by_key(|(_, hosts)| std::cmp::Reverse(hosts.len()));
    for (differences, hosts) in groups.iter().take(MOST_GROUPS) {
        let verb = if hosts.len() == 1 {
            "differs"
        } else {
            "differ"
        };
        out.told(
            Ink::Far,
            format_args!("  {} {verb}:", list(hosts.iter().copied())),
        )?;
        print_differences(out, differences)?;
    }
    if groups.len() > MOST_GROUPS {
        let hosts: usize = groups
            .iter()
            .skip(MOST_GROUPS)
            .map(|(_, hosts)| hosts.len())
            .sum();
        out.told(
            Ink::Plain,
            format_args!(
                "  and {} more that differ (--json has all)",
                count(hosts, "host")
            ),
        )?;
    }
    Ok(())
}

fn print_differences(out: &mut Out, differences: &[String]) -> io::Result<()> {
    for difference in differences.iter().take(MOST_DIFFERENCES) {
        out.told(Ink::Plain, format_args!("    {difference}"))?;
    }
    if differences.len() > MOST_DIFFERENCES {
        let more = differences.len() - MOST_DIFFERENCES;
        out.told(
            Ink::Plain,
            format_args!("    and {more} more (--json has all)"),
        )?;
    }
    Ok(())
}

fn print_finding(out: &mut Out, finding: &FleetFinding) -> io::Result<()> {
    out.told(
        Ink::Plain,
        format_args!(
            "  {} on {}: {}",
            finding.check,
            count(finding.hosts.len(), "host"),
            list(finding.hosts.iter().map(String::as_str))
        ),
    )?;
    out.told(Ink::Plain, format_args!("    {}", finding.evidence))?;
    out.told(Ink::Plain, format_args!("    change: {}", finding.change))
}

fn list<'a>(hosts: impl IntoIterator<Item = &'a str>) -> String {
    let folded = fold(hosts);
    if folded.chars().count() <= LONGEST_LIST {
        return folded;
    }
    let cut: String = folded.chars().take(LONGEST_LIST).collect();
    format!("{cut}...")
}
