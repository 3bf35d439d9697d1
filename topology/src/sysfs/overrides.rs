//! The site's own word on localities.

use super::files::Root;
use crate::locality::Overrides;
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
            Ok((address, nodes)) => {
                if overrides.insert(address, nodes).is_some() {
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

fn parse_line(line: &str) -> Result<(PciAddress, NodeSet), String> {
    let expected = "expected a PCI address and NUMA nodes, as in \"0000:3b:00.0 1\"";
    let (address, nodes) = line
        .split_once(char::is_whitespace)
        .ok_or_else(|| format!("\"{line}\" names no node; {expected}"))?;
    let address = address
        .parse::<PciAddress>()
        .map_err(|error| error.to_string())?;
    let nodes = nodes.trim();
    let set = nodes
        .parse::<NodeSet>()
        .map_err(|error| error.to_string())?;
    if set.is_empty() {
        return Err(format!("\"{nodes}\" names no node; {expected}"));
    }
    Ok((address, set))
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
        assert_eq!(overrides.len(), 1);
        assert_eq!(overrides.values().next().unwrap().to_string(), "1");
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
}
