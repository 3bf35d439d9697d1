//! What a GPU's model is called where no driver says it.

use topology::machine::Gpu;

/// Names by PCI vendor and device id, one vendor's below its id.
///
/// A list of our own: the crate `pci-ids` fetches its list from the network whenever it is built, so that no two builds
/// need be the same.
const NAMES: &str = include_str!("gpu-models.ids");

/// The name of the model with this GPU's PCI ids, with its maker's; none where the list does not have it.
pub(crate) fn name(gpu: &Gpu) -> Option<String> {
    let (vendor, device) = (
        format!("{:04x}", gpu.vendor),
        format!("\t{:04x} ", gpu.device),
    );
    let mut lines = NAMES.lines().skip_while(|line| *line != vendor).skip(1);
    let own = lines.by_ref().take_while(|line| line.starts_with('\t'));
    let name = own.filter_map(|line| line.strip_prefix(&device)).next()?;
    Some(format!("{} {name}", gpu.maker()?.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use topology::pci::{CLASS_3D, PciDevice};

    fn name_of(vendor: u16, device: u16) -> Option<String> {
        let address = "0000:21:00.0".parse().unwrap();
        name(&Gpu::of(&PciDevice::new(address, CLASS_3D, vendor, device)))
    }

    #[test]
    fn a_model_is_found_below_its_own_vendor() {
        assert_eq!(
            name_of(0x10de, 0x2330).as_deref(),
            Some("NVIDIA H100 SXM5 80GB")
        );
        assert_eq!(
            name_of(0x1002, 0x74a1).as_deref(),
            Some("AMD Instinct MI300X")
        );
        assert_eq!(name_of(0x1002, 0x2330), None);
        assert_eq!(name_of(0x8086, 0x2330), None);
        assert_eq!(name_of(0x10de, 0), None);
    }

    #[test]
    fn every_line_is_a_comment_a_vendor_or_a_model_and_no_model_stands_twice() {
        let mut vendor = "";
        let mut seen = BTreeSet::new();
        for line in NAMES.lines().filter(|line| !line.starts_with('#')) {
            let id = line.strip_prefix('\t').map_or(line, |model| {
                let (id, name) = model.split_once(' ').unwrap();
                assert!(!name.trim().is_empty(), "{line}");
                assert!(seen.insert((vendor, id)), "{line}");
                id
            });
            assert!(
                id.len() == 4 && u16::from_str_radix(id, 16).is_ok(),
                "{line}"
            );
            if !line.starts_with('\t') {
                vendor = line;
            }
        }
        assert!(seen.len() > 300);
    }
}
