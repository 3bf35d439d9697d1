//! The `<pci>` elements against the machine's devices.

use topology::machine::Machine;
use topology::pci::{PciAddress, PciDevice};

use super::difference::{DifferenceKind, Found};
use crate::element::{Element, GPU_CLASS};
use crate::rules::pci_bandwidth_gb_s;

/// The deepest chain of bridges that is followed.
const MAX_DEPTH: usize = 32;

/// A `<pci>` and those below it; `above` is the nearest device of the machine that the file puts above
/// it.  Adds the addresses that the machine has to `below`.
pub(super) fn compare(
    found: &mut Found<'_>,
    element: &Element,
    above: Option<PciAddress>,
    below: &mut Vec<PciAddress>,
) {
    let address = device(found, element, above);
    below.extend(address);
    for child in element.named("pci") {
        compare(found, child, address.or(above), below);
    }
}

/// One `<pci>`; gives its address where the machine has it.
fn device(
    found: &mut Found<'_>,
    element: &Element,
    above: Option<PciAddress>,
) -> Option<PciAddress> {
    let machine = found.machine;
    let busid = element.get("busid").unwrap_or_default();
    let parsed = busid
        .parse::<PciAddress>()
        .ok()
        .filter(|real| real.to_string() == busid);
    let Some(device) = parsed.and_then(|address| machine.device(address)) else {
        let class = element.get("class").unwrap_or_default();
        // A switch may be made up, to say how devices hang together.
        if class.starts_with(GPU_CLASS) || class.starts_with("0x02") {
            let kind = DifferenceKind::NotHere(busid.to_owned());
            found.note(Some(element.line), kind);
        }
        return None;
    };
    link(found, element, device);
    class(found, element, device);
    if let Some(above) = above.filter(|above| !is_above(machine, *above, device)) {
        let kind = DifferenceKind::OtherParent {
            device: device.address,
            above,
        };
        found.note(Some(element.line), kind);
    }
    for gpu in element.named("gpu") {
        nvidia_gpu(found, gpu, device.address);
    }
    Some(device.address)
}

fn link(found: &mut Found<'_>, element: &Element, device: &PciDevice) {
    let speed = element.get("link_speed").unwrap_or_default();
    let width = element.get("link_width").unwrap_or_default();
    let in_file = f64::from(pci_bandwidth_gb_s(speed, width.parse().unwrap_or_default()));
    let end = |device: &PciDevice| {
        let link = &device.link;
        Some((link.max_speed_gts?, link.max_width?))
    };
    let port = device.parent.and_then(|port| found.machine.device(port));
    let ends = [end(device), port.and_then(end)];
    let least = ends
        .into_iter()
        .flatten()
        .reduce(|a, b| (a.0.min(b.0), a.1.min(b.1)));
    let Some((most, lanes)) = least.filter(|(speed, lanes)| *speed > 0.0 && *lanes > 0) else {
        return;
    };
    // NCCL's figures: 8 GT/s with 16 lanes is 12 GB/s.
    let can_do = most * f64::from(lanes) * 12.0 / 128.0;
    let (device, speed, width) = (device.address.to_string(), speed.into(), width.into());
    let can = format!("{most} GT/s x{lanes}");
    if in_file < can_do * 0.9 {
        let kind = DifferenceKind::Slow {
            device,
            speed,
            width,
            can,
        };
        found.note(Some(element.line), kind);
    } else if in_file > can_do * 1.1 && !speed.is_empty() {
        let kind = DifferenceKind::Fast {
            device,
            speed,
            width,
            can,
        };
        found.note(Some(element.line), kind);
    }
}

/// The class in 16 bits; NCCL looks at no more.
fn class(found: &mut Found<'_>, element: &Element, device: &PciDevice) {
    let Some(class) = element.get("class") else {
        return;
    };
    let hex = class.strip_prefix("0x").unwrap_or(class);
    let given = u32::from_str_radix(hex.get(..4).unwrap_or(hex), 16).ok();
    let same = match hex.len() {
        // "0x03", as NCCL itself writes it for a device that has none.
        2 => given.is_some_and(|given| given == device.class >> 16),
        _ => given.is_some_and(|given| given == device.class >> 8),
    };
    if !same {
        let kind = DifferenceKind::OtherClass {
            device: device.address,
            class: class.to_owned(),
            real: device.class,
        };
        found.note(Some(element.line), kind);
    }
}

fn is_above(machine: &Machine, above: PciAddress, device: &PciDevice) -> bool {
    let next = |at: &PciAddress| machine.device(*at)?.parent;
    std::iter::successors(device.parent, next)
        .take(MAX_DEPTH)
        .any(|address| address == above)
}

fn nvidia_gpu(found: &mut Found<'_>, gpu: &Element, device: PciAddress) {
    let mut gpus: Vec<_> = found.machine.nccl_gpus().map(|gpu| gpu.pci).collect();
    gpus.sort_unstable();
    let number = gpus.iter().position(|gpu| *gpu == device);
    if let (Some(dev), Some(real)) = (gpu.get("dev"), number)
        && dev.parse() != Ok(real)
    {
        let dev = dev.to_owned();
        found.note(
            Some(gpu.line),
            DifferenceKind::StaleDev { device, dev, real },
        );
    }
    for link in gpu.named("nvlink") {
        let target = link.get("target").unwrap_or_default();
        let to_gpu = link
            .get("tclass")
            .is_some_and(|class| class.starts_with(GPU_CLASS));
        let known = target.parse().is_ok_and(|target| gpus.contains(&target));
        if to_gpu && !known {
            let target = target.to_owned();
            found.note(
                Some(link.line),
                DifferenceKind::LinkToNothing { device, target },
            );
        }
    }
}
