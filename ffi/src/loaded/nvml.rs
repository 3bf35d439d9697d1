//! A GPU's NVLinks, asked of an NVML that the process has already loaded and initialised, as NCCL has, and by
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

type GetHandle = unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_uint;
type GetState = unsafe extern "C" fn(*mut c_void, c_uint, *mut c_uint) -> c_uint;
type GetRemote = unsafe extern "C" fn(*mut c_void, c_uint, *mut PciInfo) -> c_uint;

/// The far end of each active NVLink of the GPU at `pci`, as NVML writes PCI addresses; a far end that NVML
/// does not name is none.
///
/// None at all where no NVML is loaded, or it does not answer.
pub fn read_nvlinks(pci: &str) -> Option<Vec<Option<String>>> {
    let library = Library::loaded(c"libnvidia-ml.so.1")?;
    let function = |name: &CStr| symbol(library.handle(), name);
    let get_handle = function(c"nvmlDeviceGetHandleByPciBusId")?;
    let get_state = function(c"nvmlDeviceGetNvLinkState")?;
    let get_remote = function(c"nvmlDeviceGetNvLinkRemotePciInfo")?;
    // SAFETY: NVML's function of this name has this type (nvml.h, 11 to 13).
    let get_handle = unsafe { std::mem::transmute::<*mut c_void, GetHandle>(get_handle) };
    // SAFETY: as above.
    let get_state = unsafe { std::mem::transmute::<*mut c_void, GetState>(get_state) };
    // SAFETY: as above.
    let get_remote = unsafe { std::mem::transmute::<*mut c_void, GetRemote>(get_remote) };
    let pci = CString::new(pci).ok()?;
    let mut device = std::ptr::null_mut();
    // SAFETY: a string and a place to fill in, both live.
    if unsafe { get_handle(pci.as_ptr(), &raw mut device) } != SUCCESS {
        return None;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_nvml_has_no_answer() {
        assert_eq!(read_nvlinks("0000:01:00.0"), None);
    }
}
