//! GPUs' NVLinks and P2P, asked of an NVML that the process has already loaded and initialised, as NCCL has, and by
//! the functions that NCCL uses (misc/nvmlwrap.cc, 2.30).

use std::ffi::{CStr, CString, c_char, c_uint, c_void};

use super::{Library, symbol};

/// Links that are asked for; NVLink 5 has 18.
const MAX_LINKS: c_uint = 18;
/// `NVML_SUCCESS`.
const SUCCESS: c_uint = 0;
/// `NVML_ERROR_INVALID_ARGUMENT`: the GPU has no such link.
const INVALID_ARGUMENT: c_uint = 2;
/// `NVML_ERROR_NOT_SUPPORTED`: the GPU has no links.
const NOT_SUPPORTED: c_uint = 3;

/// `nvmlPciInfo_t` as the functions without a version fill it in, with room for what later ones add.
#[repr(C)]
struct PciInfo {
    bus_id: [u8; 16],
    rest: [c_uint; 16],
}

/// `NVML_P2P_CAPS_INDEX_READ` and `NVML_P2P_CAPS_INDEX_WRITE`.
const READ_AND_WRITE: [c_uint; 2] = [0, 1];
/// `NVML_P2P_STATUS_OK`.
const P2P_WORKS: c_uint = 0;

type GetHandle = unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_uint;
type GetState = unsafe extern "C" fn(*mut c_void, c_uint, *mut c_uint) -> c_uint;
type GetP2p = unsafe extern "C" fn(*mut c_void, *mut c_void, c_uint, *mut c_uint) -> c_uint;
type GetRemote = unsafe extern "C" fn(*mut c_void, c_uint, *mut PciInfo) -> c_uint;

/// The far end of each active NVLink of the GPU at `pci`, as NVML writes PCI addresses; a far end that NVML
/// does not name is none.
///
/// None at all where no NVML is loaded, or it does not answer.
pub fn read_nvlinks(pci: &str) -> Option<Vec<Option<String>>> {
    let library = Library::loaded(c"libnvidia-ml.so.1")?;
    let function = |name: &CStr| symbol(library.handle(), name);
    let device = device_at(&library, pci)?;
    let get_state = function(c"nvmlDeviceGetNvLinkState")?;
    let get_remote = function(c"nvmlDeviceGetNvLinkRemotePciInfo")?;
    // SAFETY: NVML's function of this name has this type (nvml.h, 11 to 13).
    let get_state = unsafe { std::mem::transmute::<*mut c_void, GetState>(get_state) };
    // SAFETY: as above.
    let get_remote = unsafe { std::mem::transmute::<*mut c_void, GetRemote>(get_remote) };
    let mut ends = Vec::new();
    for link in 0..MAX_LINKS {
        let mut active: c_uint = 0;
        // SAFETY: NVML's own handle and a place to fill in.
        match unsafe { get_state(device, link, &raw mut active) } {
            SUCCESS if active == 0 => {}
            SUCCESS => {
                let mut info = PciInfo {
                    bus_id: [0; 16],
                    rest: [0; 16],
                };
                // SAFETY: NVML's own handle and a place to fill in.
                let result = unsafe { get_remote(device, link, &raw mut info) };
                let name = CStr::from_bytes_until_nul(&info.bus_id).ok();
                let name = name.and_then(|name| name.to_str().ok()).map(str::to_owned);
                ends.push(name.filter(|_| result == SUCCESS));
            }
            INVALID_ARGUMENT | NOT_SUPPORTED => break,
            _ => return None,
        }
    }
    Some(ends)
}

/// The pairs of the GPUs at `addresses`, by their places, between which the driver denies P2P, as NCCL finds them: it reads,
/// and it writes, and where NVML does not answer for a pair there is none.
///
/// None at all where no NVML is loaded, or it does not know a GPU.
pub fn read_denied_p2p(addresses: &[String]) -> Option<Vec<(usize, usize)>> {
    let library = Library::loaded(c"libnvidia-ml.so.1")?;
    let get_p2p = symbol(library.handle(), c"nvmlDeviceGetP2PStatus")?;
    // SAFETY: NVML's function of this name has this type (nvml.h, 11 to 13).
    let get_p2p = unsafe { std::mem::transmute::<*mut c_void, GetP2p>(get_p2p) };
    let devices = addresses.iter().map(|pci| device_at(&library, pci));
    let devices: Vec<_> = devices.collect::<Option<_>>()?;
    let works = |a: *mut c_void, b: *mut c_void| {
        READ_AND_WRITE.into_iter().all(|way| {
            let mut status = c_uint::MAX;
            // SAFETY: NVML's own handles and a place to fill in.
            let result = unsafe { get_p2p(a, b, way, &raw mut status) };
            result == SUCCESS && status == P2P_WORKS
        })
    };
    let mut denied = Vec::new();
    for (place, a) in devices.iter().enumerate() {
        for (other, b) in devices.iter().enumerate().skip(place + 1) {
            if !works(*a, *b) {
                denied.push((place, other));
            }
        }
    }
    Some(denied)
}

/// NVML's handle of a GPU.
fn device_at(library: &Library, pci: &str) -> Option<*mut c_void> {
    let get_handle = symbol(library.handle(), c"nvmlDeviceGetHandleByPciBusId")?;
    // SAFETY: NVML's function of this name has this type (nvml.h, 11 to 13).
    let get_handle = unsafe { std::mem::transmute::<*mut c_void, GetHandle>(get_handle) };
    let pci = CString::new(pci).ok()?;
    let mut device = std::ptr::null_mut();
    // SAFETY: a string and a place to fill in, both live.
    let result = unsafe { get_handle(pci.as_ptr(), &raw mut device) };
    (result == SUCCESS).then_some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_nvml_has_no_answer() {
        assert_eq!(read_nvlinks("0000:01:00.0"), None);
        assert_eq!(read_denied_p2p(&["0000:01:00.0".to_owned()]), None);
    }
}
