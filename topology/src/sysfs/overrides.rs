//! The site's own word on localities.

use super::files::Root;
use crate::locality::Overrides;
use crate::option::printable;
use crate::pci::PciAddress;
use crate::set::NodeSet;

/// Where a site names the nodes of devices itself, below the root.
pub const OVERRIDE_FILE: &str = "etc/gpu-numa-bind/localities";

/// Reads [`OVERRIDE_FILE`]; the second value says which lines were left aside and why.
pub(super) fn read(root: Root<'_>) -> (Overrides, Vec<String>) {
    root.text(OVERRIDE_FILE)
        .map(|text| parse_overrides(&text, &format!("/{OVERRIDE_FILE}")))
        .unwrap_or_default()
}

/// Takes lines `0000:3b:00.0 1`: a PCI address and a node list; `#` starts a comment.
///
/// A third word `measured` says that the site does not know but has measured: such a line counts only
/// where nothing else says anything, and a device may have one line of each kind.
///
/// A bad line is left aside with a remark that names `file`, the line and the value.
pub fn parse_overrides(text: &str, file: &str) -> (Overrides, Vec<String>) {
    let mut overrides = Overrides::new();
    let mut remarks = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match parse_line(line) {
            Ok((address, nodes, kind)) => {
                let lines = match kind {
                    Kind::Named => &mut overrides.named,
                    Kind::Measured => &mut overrides.measured,
                };
                if lines.insert(address, nodes).is_some() {
                    remarks.push(format!(
                        "{file}:{number}: {address} is named twice; the last counts"
                    ));
                }
            }
            Err(why) => remarks.push(format!("{file}:{number}: {why}; line left aside")),
        }
    }
    (overrides, remarks)
}

/// What a line is.
enum Kind {
    Named,
    Measured,
}

fn parse_line(line: &str) -> Result<(PciAddress, NodeSet, Kind), String> {
    let expected = "expected a PCI address and NUMA nodes, as in \"0000:3b:00.0 1\", \
                    and \"measured\" where that is how you know";
    let mut words = line.split_whitespace().map(printable);
    let address = words.next().unwrap_or_default();
    let address = address
        .parse::<PciAddress>()
        .map_err(|error| error.to_string())?;
    let nodes = words
        .next()
        .ok_or_else(|| format!("\"{}\" names no node; {expected}", printable(line)))?;
    let set = nodes
        .parse::<NodeSet>()
        .map_err(|error| error.to_string())?;
    let kind = match (words.next().as_deref(), words.next()) {
        (None, _) => Kind::Named,
        (Some("measured"), None) => Kind::Measured,
        (Some(odd), _) => return Err(format!("\"{odd}\" after the nodes; {expected}")),
    };
    Ok((address, set, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_lines_count_and_bad_ones_are_named() {
        let (overrides, remarks) = parse_overrides(
            "# site\n0000:3b:00.0 1 # left riser\n\n3c:00.0 1\n0000:3d:00.0 x\n0000:3e:00.0\n",
            "/etc/f",
        );
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
        let (overrides, remarks) = parse_overrides(
            "0000:3b:00.0\t0-1\n0000:3b:00.0 1  measured # 24 against 11 GB/s\n0000:3c:00.0 1 guessed\n",
            "/etc/f",
        );
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
