//! What NVML's wrapper does not call, or calls wrongly.
//!
//! For programs, behind the feature `nvml`: the plugins link no NVML.  Every function is missing from
//! some driver, and then so is its answer.

use nvml_wrapper::Device;

/// `NVML_SUCCESS`.
const SUCCESS: u32 = 0;

/// `NVML_P2P_CAPS_INDEX_READ`.
const P2P_READ: u32 = 0;

/// What is at the far end of an NVLink (`nvmlIntNvLinkDeviceType_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEnd {
    /// Another GPU.
    Gpu,
    /// A POWER processor.
    Npu,
    /// An NVSwitch.
    Switch,
    /// NVML does not know, or was not asked.
    Unknown,
}

/// What NVLink `link` of a GPU leads to.
///
/// `nvml-wrapper` 0.13 has a call for it that drops the answer (`NvLink::remote_device_type`).
pub fn read_link_end(device: &Device<'_>, link: u32) -> LinkEnd {
    let library = device.nvml().lib();
    let Ok(function) = library.nvmlDeviceGetNvLinkRemoteDeviceType.as_ref() else {
        return LinkEnd::Unknown;
    };
    // SAFETY: the handle goes back to the NVML that gave it, which `device` keeps loaded.
    let handle = unsafe { device.handle() };
    let mut end = u32::MAX;
    // SAFETY: NVML's declaration of the function; the pointer is to a live unsigned int.
    let status = unsafe { function(handle, link, &raw mut end) };
    match (status, end) {
        (SUCCESS, 0) => LinkEnd::Gpu,
        (SUCCESS, 1) => LinkEnd::Npu,
        (SUCCESS, 2) => LinkEnd::Switch,
        _ => LinkEnd::Unknown,
    }
}

/// What keeps one GPU from reading another's memory (`nvmlGpuP2PStatus_t`), in NVML's words; `ok` where nothing
/// does.
///
/// Absent where NVML does not say.
pub fn read_p2p(from: &Device<'_>, to: &Device<'_>) -> Option<&'static str> {
    let library = from.nvml().lib();
    let function = library.nvmlDeviceGetP2PStatus.as_ref().ok()?;
    // SAFETY: the handle goes back to the NVML that gave it, which `from` keeps loaded.
    let first = unsafe { from.handle() };
    // SAFETY: as above, by `to`.
    let second = unsafe { to.handle() };
    let mut state = u32::MAX;
    // SAFETY: NVML's declaration of the function; the pointer is to a live unsigned int.
    let status = unsafe { function(first, second, P2P_READ, &raw mut state) };
    let words = match state {
        0 => "ok",
        1 => "chipset not supported",
        2 => "GPU not supported",
        3 => "topology not supported",
        4 => "disabled by registry key",
        5 => "not supported",
        _ => return None,
    };
    (status == SUCCESS).then_some(words)
}

/// The number of the GPU instance that a MIG device is in; none where NVML does not say.
pub fn read_gpu_instance(mig: &Device<'_>) -> Option<u32> {
    let library = mig.nvml().lib();
    let function = library.nvmlDeviceGetGpuInstanceId.as_ref().ok()?;
    // SAFETY: the handle goes back to the NVML that gave it, which `mig` keeps loaded.
    let handle = unsafe { mig.handle() };
    let mut id = u32::MAX;
    // SAFETY: NVML's declaration of the function; the pointer is to a live unsigned int.
    let status = unsafe { function(handle, &raw mut id) };
    (status == SUCCESS).then_some(id)
}

/// The number of a MIG device's compute instance within its GPU instance; none where NVML does not say.
pub fn read_compute_instance(mig: &Device<'_>) -> Option<u32> {
    let library = mig.nvml().lib();
    let function = library.nvmlDeviceGetComputeInstanceId.as_ref().ok()?;
    // SAFETY: the handle goes back to the NVML that gave it, which `mig` keeps loaded.
    let handle = unsafe { mig.handle() };
    let mut id = u32::MAX;
    // SAFETY: NVML's declaration of the function; the pointer is to a live unsigned int.
    let status = unsafe { function(handle, &raw mut id) };
    (status == SUCCESS).then_some(id)
}
