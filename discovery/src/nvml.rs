//! What NVML says.  Runs in the child process only, where a hanging driver can be given up.

use nvml_wrapper::Nvml;
use nvml_wrapper::device::Device;
use nvml_wrapper::enum_wrappers::nv_link::IntDeviceType;
use nvml_wrapper::error::NvmlError;
use serde::{Deserialize, Serialize};
use topology::pci::PciAddress;

/// Links asked for on one GPU at most; NVLink 5 has 18.
const MAX_LINKS: u32 = 64;
/// Where a link leads whose far end gives no address (an NVSwitch behind a fabric manager).
pub(crate) const SOME_SWITCH: PciAddress = PciAddress {
    domain: u32::MAX,
    bus: 0xff,
    device: 0x1f,
    function: 0,
};

/// NVML's GPUs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NvmlAnswer {
    /// By NVML's index.
    pub(crate) gpus: Vec<NvmlGpu>,
    /// Whether every GPU answered about NVLink (having none is an answer).
    pub(crate) nvlink_asked: bool,
    /// What could not be read.
    pub(crate) remarks: Vec<String>,
}

/// A GPU as NVML has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NvmlGpu {
    /// PCI address.
    pub(crate) pci: PciAddress,
    /// UUID.
    pub(crate) uuid: Option<String>,
    /// Minor number.
    pub(crate) minor: Option<u32>,
    /// Product name.
    pub(crate) name: Option<String>,
    /// UUIDs of its MIG instances.
    pub(crate) mig: Vec<String>,
    /// Active NVLinks to other GPUs and to switches, by address of the far end.
    pub(crate) links: Vec<(PciAddress, u32)>,
}

/// Asks NVML.
pub(crate) fn read() -> Result<NvmlAnswer, String> {
    let nvml = Nvml::init().map_err(|error| error.to_string())?;
    let count = nvml.device_count().map_err(|error| error.to_string())?;
    let mut answer = NvmlAnswer {
        nvlink_asked: true,
        ..NvmlAnswer::default()
    };
    for index in 0..count.min(1024) {
        match nvml
            .device_by_index(index)
            .and_then(|device| read_gpu(&device))
        {
            Ok((gpu, asked)) => {
                answer.nvlink_asked &= asked;
                answer.gpus.push(gpu);
            }
            Err(error) => answer.remarks.push(format!("NVML: GPU {index}: {error}")),
        }
    }
    Ok(answer)
}

fn read_gpu(device: &Device<'_>) -> Result<(NvmlGpu, bool), NvmlError> {
    let pci = device.pci_info()?;
    let pci = pci
        .bus_id
        .parse()
        .map_err(|_| NvmlError::UnexpectedVariant(0))?;
    let links = read_links(device);
    let gpu = NvmlGpu {
        pci,
        uuid: device.uuid().ok(),
        minor: device.minor_number().ok(),
        name: device.name().ok(),
        mig: read_mig(device),
        links: links.clone().unwrap_or_default(),
    };
    Ok((gpu, links.is_some()))
}

fn read_mig(device: &Device<'_>) -> Vec<String> {
    // Also the count of possible instances where MIG is off or unknown: absent ones give an error.
    let count = device.mig_device_count().unwrap_or(0).min(64);
    (0..count)
        .filter_map(|index| device.mig_device_by_index(index).ok()?.uuid().ok())
        .collect()
}

/// Active links by far end; absent when NVML did not answer about them.
fn read_links(device: &Device<'_>) -> Option<Vec<(PciAddress, u32)>> {
    let mut links: Vec<(PciAddress, u32)> = Vec::new();
    for index in 0..MAX_LINKS {
        let link = device.link_wrapper_for(index);
        match link.is_active() {
            Ok(true) => {}
            Ok(false) => continue,
            // The first link beyond the last, or a GPU without NVLink.
            Err(NvmlError::InvalidArg | NvmlError::NotSupported) => break,
            Err(_) => return None,
        }
        let address = link
            .remote_pci_info()
            .ok()
            .and_then(|pci| pci.bus_id.parse().ok());
        let to = match link.remote_device_type(index) {
            Ok(IntDeviceType::Gpu) => address,
            Ok(IntDeviceType::Switch) | Err(_) => address.or(Some(SOME_SWITCH)),
            Ok(IntDeviceType::Ibmnpu | IntDeviceType::Unknown) => None,
        };
        let Some(to) = to else { continue };
        // All switches are one: what counts is how many links lead into the fabric.
        match links.iter_mut().find(|(known, _)| *known == to) {
            Some((_, count)) => *count += 1,
            None => links.push((to, 1)),
        }
    }
    Some(links)
}

#[cfg(test)]
impl Default for NvmlGpu {
    fn default() -> Self {
        Self {
            pci: SOME_SWITCH,
            uuid: None,
            minor: None,
            name: None,
            mig: Vec::new(),
            links: Vec::new(),
        }
    }
}
