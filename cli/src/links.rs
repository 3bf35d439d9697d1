//! PCI Express links in words.

use topology::machine::Machine;
use topology::pci::{Link, PciAddress};

/// The link of a device, with its best speed lowered to that of the port above it, which it never exceeds.
///
/// The number of lanes stays the device's own: a card in a slot with fewer lanes is a fault that can be fixed.
pub(crate) fn of(machine: &Machine, pci: PciAddress) -> Link {
    let Some(device) = machine.device(pci) else {
        return Link::default();
    };
    let mut link = device.link.clone();
    let port = device
        .parent
        .and_then(|parent| machine.device(parent)?.link.max_speed_gts);
    if let (Some(own), Some(port)) = (link.max_speed_gts, port) {
        link.max_speed_gts = Some(own.min(port));
    }
    link
}

/// The generations of a device and of the slot that is older than it: `(5, 4)`.
pub(crate) fn older_slot(machine: &Machine, pci: PciAddress) -> Option<(u32, u32)> {
    let card = &machine.device(pci)?.link;
    // A virtual machine gives its devices no lanes, and its bridges made-up ones.
    if card.max_width == Some(0) {
        return None;
    }
    let own = generation(card.max_speed_gts?)?;
    let slot = generation(of(machine, pci).max_speed_gts?)?;
    (slot < own).then_some((own, slot))
}

/// 5 of 32 GT/s; None for a speed that no generation has.
fn generation(speed_gts: f64) -> Option<u32> {
    [2.5, 5.0, 8.0, 16.0, 32.0, 64.0]
        .into_iter()
        .zip(1..)
        .find(|(speed, _)| (speed_gts - speed).abs() < 0.1)
        .map(|(_, generation)| generation)
}

fn words(speed: Option<f64>, width: Option<u32>) -> Option<String> {
    Some(format!("gen{} x{}", generation(speed?)?, width?))
}

/// What the link can do.
pub(crate) fn best(link: &Link) -> Option<String> {
    words(link.max_speed_gts, link.max_width)
}

/// What the link does.
pub(crate) fn now(link: &Link) -> Option<String> {
    words(link.current_speed_gts, link.current_width)
}

/// What the link does when that is less than it can, and no idle state explains it.
///
/// Lanes are never put to sleep.  An idle GPU has its link at 2.5 or 5 GT/s; at a speed between that and
/// its best it is held back.
pub(crate) fn reduced(link: &Link) -> Option<String> {
    let is_narrow = link.current_width? < link.max_width?;
    let is_slow = is_below_best(link) && link.current_speed_gts? > IDLE_GTS;
    (is_narrow || is_slow).then(|| words(link.current_speed_gts, link.current_width))?
}

/// The highest speed of an idle GPU's link.
const IDLE_GTS: f64 = 5.1;

/// Whether the link is slower than it could be.
pub(crate) fn is_below_best(link: &Link) -> bool {
    match (link.current_speed_gts, link.max_speed_gts) {
        (Some(now), Some(best)) => now < best,
        _ => false,
    }
}

/// A few words for the table; only a GPU's link idles.
pub(crate) fn describe(link: &Link, is_gpu: bool) -> String {
    let is_slow = is_below_best(link);
    let reduced = reduced(link).or_else(|| now(link).filter(|_| is_slow && !is_gpu));
    if let Some(reduced) = reduced {
        return format!("{reduced} LOW");
    }
    match (best(link), link.current_bandwidth_gb_s) {
        (Some(best), _) if is_slow => format!("{best} idle"),
        (Some(best), _) => best,
        (None, Some(bandwidth)) => format!("{bandwidth:.1} GB/s"),
        (None, None) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(max: (f64, u32), current: (f64, u32)) -> Link {
        Link {
            max_speed_gts: Some(max.0),
            max_width: Some(max.1),
            current_speed_gts: Some(current.0),
            current_width: Some(current.1),
            ..Link::default()
        }
    }

    #[test]
    fn fewer_lanes_are_low_and_the_speed_of_an_idle_gpu_is_idle() {
        assert_eq!(describe(&link((32.0, 16), (32.0, 16)), true), "gen5 x16");
        assert_eq!(
            describe(&link((32.0, 16), (2.5, 16)), true),
            "gen5 x16 idle"
        );
        let held_back = link((32.0, 16), (16.0, 16));
        assert_eq!(describe(&held_back, true), "gen4 x16 LOW");
        assert_eq!(
            describe(&link((32.0, 16), (2.5, 16)), false),
            "gen1 x16 LOW"
        );
        assert_eq!(describe(&link((32.0, 16), (8.0, 8)), true), "gen3 x8 LOW");
        assert_eq!(describe(&Link::default(), true), "-");
    }
}
