//! The NUMA nodes that the site gives devices itself.

use super::files::Root;
use super::site::{SiteLineError, SiteLineFault, lines, parse_address};
use crate::locality::{Overrides, SiteWord};
use crate::option::printable;
use crate::pci::PciAddress;
use crate::set::NodeSet;

/// Where a site names the nodes of devices itself, below the root.
pub const OVERRIDE_FILE: &str = "etc/gpu-numa-bind/localities";

/// Reads [`OVERRIDE_FILE`]; the second value says what was wrong with it.
pub(super) fn read(root: Root<'_>) -> (Overrides, Vec<SiteLineError>) {
    root.text(OVERRIDE_FILE)
        .map(|text| parse_overrides(&text, &format!("/{OVERRIDE_FILE}")))
        .unwrap_or_default()
}

/// Takes lines `0000:3b:00.0 1`: a PCI address and a node list; `#` starts a comment.
///
/// A third word `measured` says that the site does not know but has measured: such a line counts only
/// where no other evidence does, and a device may have one line of each kind.
///
/// A bad line is ignored, with an error that names `file`, the line and the value.
pub fn parse_overrides(text: &str, file: &str) -> (Overrides, Vec<SiteLineError>) {
    let mut overrides = Overrides::new();
    let mut errors = Vec::new();
    for (line, words) in lines(text) {
        let mut fail = |fault| {
            errors.push(SiteLineError {
                file: file.to_owned(),
                line,
                fault,
            });
        };
        match parse_line(words) {
            Ok((address, nodes, word)) => {
                let named = match word {
                    SiteWord::Named => &mut overrides.named,
                    SiteWord::Measured => &mut overrides.measured,
                };
                if named.insert(address, nodes).is_some() {
                    fail(SiteLineFault::LocalityTwice(address));
                }
            }
            Err(fault) => fail(fault),
        }
    }
    (overrides, errors)
}

fn parse_line(line: &str) -> Result<(PciAddress, NodeSet, SiteWord), SiteLineFault> {
    let mut words = line.split_whitespace();
    let address = parse_address(words.next().unwrap_or_default())?;
    let nodes = words.next();
    let nodes = nodes.ok_or_else(|| SiteLineFault::NoNode(printable(line)))?;
    let nodes = printable(nodes).parse()?;
    let word = match (words.next(), words.next()) {
        (None, _) => SiteWord::Named,
        (Some("measured"), None) => SiteWord::Measured,
        (Some(odd), _) => return Err(SiteLineFault::Extra(printable(odd))),
    };
    Ok((address, nodes, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_lines_count_and_bad_ones_are_named() {
        let (overrides, errors) = parse_overrides(
            "# site\n0000:3b:00.0 1 # left riser\n\n3c:00.0 1\n0000:3d:00.0 x\n0000:3e:00.0\n",
            "/etc/f",
        );
        let remarks: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(overrides.named.len(), 1);
        assert_eq!(overrides.named.values().next().unwrap().to_string(), "1");
        assert!(
            remarks[0].starts_with("/etc/f:4: \"3c:00.0\" is no PCI address"),
            "{remarks:?}"
        );
        assert!(
            remarks[1].starts_with("/etc/f:5: \"x\" in a list"),
            "{remarks:?}"
        );
        assert!(
            remarks[2].starts_with("/etc/f:6: \"0000:3e:00.0\" names no node"),
            "{remarks:?}"
        );
    }

    #[test]
    fn a_measured_line_stands_beside_a_named_one() {
        let (overrides, errors) = parse_overrides(
            "0000:3b:00.0\t0-1\n0000:3b:00.0 1  measured # 24 against 11 GB/s\n0000:3c:00.0 1 guessed\n",
            "/etc/f",
        );
        let remarks: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let (named, measured) = (&overrides.named, &overrides.measured);
        let address = "0000:3b:00.0".parse().unwrap();
        assert_eq!(
            (named.len(), named[&address].to_string().as_str()),
            (1, "0-1")
        );
        assert_eq!(
            (measured.len(), measured[&address].to_string().as_str()),
            (1, "1")
        );
        assert!(
            remarks[0].starts_with("/etc/f:3: \"guessed\" after the nodes"),
            "{remarks:?}"
        );
    }
}
