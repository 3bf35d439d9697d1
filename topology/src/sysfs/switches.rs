//! The PCI switches that a hypervisor hides and the site names.

use super::files::Root;
use super::site::{SiteLineError, SiteLineFault, lines, parse_address};
use crate::machine::HiddenSwitch;
use crate::option::printable;
use crate::pci::PciAddress;

/// Where a site names devices that share a switch, below the root.
pub const SWITCH_FILE: &str = "etc/gpu-numa-bind/switches";

/// Reads [`SWITCH_FILE`]; the second value says what was wrong with it.
pub(super) fn read(root: Root<'_>) -> (Vec<HiddenSwitch>, Vec<SiteLineError>) {
    root.text(SWITCH_FILE)
        .map(|text| parse_switches(&text, &format!("/{SWITCH_FILE}")))
        .unwrap_or_default()
}

/// Takes lines `0000:03:00.0 0000:04:00.0 ...`: the PCI addresses of GPUs and NICs below one switch; `#`
/// starts a comment.
///
/// A bad line is ignored, with an error that names `file`, the line and the value.
pub fn parse_switches(text: &str, file: &str) -> (Vec<HiddenSwitch>, Vec<SiteLineError>) {
    let mut switches: Vec<HiddenSwitch> = Vec::new();
    let mut errors = Vec::new();
    for (line, words) in lines(text) {
        match parse_line(words, &switches) {
            Ok(devices) => switches.push(HiddenSwitch {
                devices,
                said_by: format!("{file}:{line}"),
            }),
            Err(fault) => errors.push(SiteLineError {
                file: file.to_owned(),
                line,
                fault,
            }),
        }
    }
    (switches, errors)
}

fn parse_line(line: &str, before: &[HiddenSwitch]) -> Result<Vec<PciAddress>, SiteLineFault> {
    let mut devices = Vec::new();
    for word in line.split_whitespace() {
        let address = parse_address(word)?;
        let named = |switch: &HiddenSwitch| switch.devices.contains(&address);
        if devices.contains(&address) || before.iter().any(named) {
            return Err(SiteLineFault::SwitchTwice(address));
        }
        devices.push(address);
    }
    if devices.len() < 2 {
        return Err(SiteLineFault::OneDevice(printable(line)));
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_lines_count_and_bad_ones_are_named() {
        let (switches, errors) = parse_switches(
            "# VM\n0000:03:00.0 0000:04:00.0 # pair\n\n0000:05:00.0\n0000:03:00.0 0000:06:00.0\n3:00.0 x\n",
            "/etc/f",
        );
        let remarks: Vec<String> = errors.iter().map(ToString::to_string).collect();
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
