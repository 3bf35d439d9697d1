//! What a vendor's driver says of its GPUs below `/proc`: one folder for each, as NVIDIA's writes them.

use std::collections::BTreeMap;

use super::files::Root;
use crate::pci::PciAddress;
use crate::text;
use crate::vendor::{GpuVendor, VENDORS};

/// A GPU that the driver knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DriverGpu {
    /// PCI id of the vendor whose driver it is.
    pub(super) vendor: u16,
    /// `Model:`.
    pub(super) model: Option<String>,
    /// `GPU UUID:`; none while the driver has not read it (it then writes question marks).
    pub(super) uuid: Option<String>,
    /// `Device Minor:`.
    pub(super) minor: Option<u32>,
    /// The NUMA node of its own memory, from `numa_status`.
    pub(super) memory_node: Option<u32>,
}

/// Whether this vendor's driver lists GPUs in a folder of its own.
pub(super) fn is_loaded(root: Root<'_>, vendor: &GpuVendor) -> bool {
    let folder = vendor.driver.gpus;
    folder.is_some_and(|folder| root.is_dir(folder))
}

/// The drivers' GPUs by address: the `Bus Location` in their file, else their directory's name.
pub(super) fn read(root: Root<'_>) -> BTreeMap<PciAddress, DriverGpu> {
    let mut gpus = BTreeMap::new();
    for vendor in &VENDORS {
        if let Some(folder) = vendor.driver.gpus {
            read_folder(root, vendor, folder, &mut gpus);
        }
    }
    gpus
}

fn read_folder(
    root: Root<'_>,
    vendor: &GpuVendor,
    folder: &str,
    gpus: &mut BTreeMap<PciAddress, DriverGpu>,
) {
    for name in root.entries(folder) {
        let information = root
            .text(&format!("{folder}/{name}/information"))
            .unwrap_or_default();
        let address = field(&information, "Bus Location")
            .and_then(|text| text.parse().ok())
            .or_else(|| name.parse().ok());
        let Some(address) = address else { continue };
        let status = root
            .text(&format!("{folder}/{name}/numa_status"))
            .unwrap_or_default();
        gpus.insert(
            address,
            DriverGpu {
                vendor: vendor.id,
                model: field(&information, "Model").map(text::plain),
                uuid: field(&information, "GPU UUID")
                    .filter(|uuid| !uuid.contains('?'))
                    .map(str::to_owned),
                minor: field(&information, "Device Minor").and_then(|text| text.parse().ok()),
                memory_node: field(&status, "Node").and_then(|text| text.parse().ok()),
            },
        );
    }
}

/// The value of a line `Name: value`; none when empty.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim())
        })
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "Model: \t\t NVIDIA H100\nDevice Minor: \t 3\nGPU UUID: \t GPU-1\n";
        assert_eq!(field(text, "Model"), Some("NVIDIA H100"));
        assert_eq!(field(text, "Device Minor"), Some("3"));
        assert_eq!(field(text, "Minor"), None);
    }
}
