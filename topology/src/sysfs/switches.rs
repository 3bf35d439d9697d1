//! The site's own word on PCI switches that a hypervisor hides.

use super::files::Root;
use crate::machine::HiddenSwitch;
use crate::pci::PciAddress;

/// Where a site names devices that share a switch, below the root.
pub const SWITCH_FILE: &str = "etc/gpu-numa-bind/switches";

/// Reads [`SWITCH_FILE`]; the second value says which lines were left aside and why.
pub(super) fn read(root: Root<'_>) -> (Vec<HiddenSwitch>, Vec<String>) {
    root.text(SWITCH_FILE)
        .map(|text| parse_switches(&text, &format!("/{SWITCH_FILE}")))
        .unwrap_or_default()
}

/// Takes lines `0000:03:00.0 0000:04:00.0 ...`: the PCI addresses of GPUs and NICs below one switch; `#`
/// starts a comment.
///
/// A bad line is left aside with a remark that names `file`, the line and the value.
pub fn parse_switches(text: &str, file: &str) -> (Vec<HiddenSwitch>, Vec<String>) {
    let mut switches: Vec<HiddenSwitch> = Vec::new();
    let mut remarks = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match parse_line(line, &switches) {
            Ok(devices) => switches.push(HiddenSwitch {
                devices,
                said_by: format!("{file}:{number}"),
            }),
            Err(why) => remarks.push(format!("{file}:{number}: {why}; line left aside")),
        }
    }
    (switches, remarks)
}

fn parse_line(line: &str, before: &[HiddenSwitch]) -> Result<Vec<PciAddress>, String> {
    let mut devices = Vec::new();
    for word in line.split_whitespace() {
        let address: PciAddress = word
            .parse()
            .map_err(|error: <PciAddress as std::str::FromStr>::Err| error.to_string())?;
        let named = |switch: &HiddenSwitch| switch.devices.contains(&address);
        if devices.contains(&address) || before.iter().any(named) {
            return Err(format!("{address} is named twice"));
        }
        devices.push(address);
    }
    if devices.len() < 2 {
        return Err(format!(
            "\"{line}\" names one device; expected those that share a switch, as in \"0000:03:00.0 0000:04:00.0\""
        ));
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_lines_count_and_bad_ones_are_named() {
        let (switches, remarks) = parse_switches(
            "# VM\n0000:03:00.0 0000:04:00.0 # pair\n\n0000:05:00.0\n0000:03:00.0 0000:06:00.0\n3:00.0 x\n",
            "/etc/f",
        );
        assert_eq!(switches.len(), 1);
        assert_eq!(switches[0].said_by, "/etc/f:2");
        assert_eq!(switches[0].devices.len(), 2);
        assert!(remarks[0].starts_with("/etc/f:4: \"0000:05:00.0\" names one device"));
        assert!(remarks[1].starts_with("/etc/f:5: 0000:03:00.0 is named twice"));
        assert!(
            remarks[2].starts_with("/etc/f:6: \"3:00.0\" is no PCI address"),
            "{remarks:?}"
        );
    }
}
