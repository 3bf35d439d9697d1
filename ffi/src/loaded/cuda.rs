//! The calling thread's CUDA device, asked of a CUDA that the process has already loaded.
//!
//! Nothing is loaded, no context is made, no GPU is opened: where CUDA is not there, the answer is none.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use super::{Library, symbol};

/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `cudaDevAttrComputeCapabilityMajor`.
const CAPABILITY_MAJOR: c_int = 75;
/// The same of the minor number.
const CAPABILITY_MINOR: c_int = 76;

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentDevice {
    /// PCI address as CUDA writes it (`0000:3B:00.0`); of a MIG instance that of its GPU.
    pub pci: String,
    /// Compute capability, as 90 for 9.0; none where CUDA does not tell.
    pub capability: Option<u32>,
}

/// Libraries that may be loaded, each with its functions: the driver, then the runtime by soname.
const LIBRARIES: &[(&CStr, Names)] = &[
    (c"libcuda.so.1", DRIVER),
    (c"libcudart.so.13", RUNTIME),
    (c"libcudart.so.12", RUNTIME),
    (c"libcudart.so.11.0", RUNTIME),
];

/// A program may hold CUDA itself.
const IN_PROGRAM: &[Names] = &[DRIVER, RUNTIME];

/// The functions by which a device is asked for.
#[derive(Clone, Copy)]
struct Names {
    current: &'static CStr,
    address: &'static CStr,
    attribute: &'static CStr,
}

const DRIVER: Names = Names {
    current: c"cuCtxGetDevice",
    address: c"cuDeviceGetPCIBusId",
    attribute: c"cuDeviceGetAttribute",
};

const RUNTIME: Names = Names {
    current: c"cudaGetDevice",
    address: c"cudaDeviceGetPCIBusId",
    attribute: c"cudaDeviceGetAttribute",
};

type GetCurrent = unsafe extern "C" fn(*mut c_int) -> c_int;
type GetAddress = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
type GetAttribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;

/// The calling thread's device; none without a loaded CUDA or a current context.
pub fn read_current_device() -> Option<CurrentDevice> {
    let loaded = LIBRARIES.iter().find_map(|(soname, names)| {
        let library = Library::loaded(soname)?;
        read(library.handle(), names)
    });
    loaded.or_else(|| {
        IN_PROGRAM
            .iter()
            .find_map(|names| read(libc::RTLD_DEFAULT, names))
    })
}

fn read(library: *mut c_void, names: &Names) -> Option<CurrentDevice> {
    let current = symbol(library, names.current)?;
    let address = symbol(library, names.address)?;
    // SAFETY: CUDA's functions of these names have these types (cuda.h, cuda_runtime_api.h, 11 to 13).
    let current = unsafe { std::mem::transmute::<*mut c_void, GetCurrent>(current) };
    // SAFETY: as above.
    let address = unsafe { std::mem::transmute::<*mut c_void, GetAddress>(address) };
    let mut device: c_int = -1;
    // SAFETY: a live int to fill in.
    if unsafe { current(&raw mut device) } != 0 || device < 0 {
        return None;
    }
    let mut pci = [0u8; 32];
    // SAFETY: a live buffer with its length, one byte less, so that it ends in a NUL whatever happens.
    let result = unsafe { address(pci.as_mut_ptr().cast(), 31, device) };
    if result != 0 {
        return None;
    }
    let pci = CStr::from_bytes_until_nul(&pci).ok().map(CString::from)?;
    Some(CurrentDevice {
        pci: pci.into_string().ok()?,
        capability: read_capability(library, names, device),
    })
}

fn read_capability(library: *mut c_void, names: &Names, device: c_int) -> Option<u32> {
    let attribute = symbol(library, names.attribute)?;
    // SAFETY: CUDA's functions of this name have this type (cuda.h, cuda_runtime_api.h, 11 to 13).
    let attribute = unsafe { std::mem::transmute::<*mut c_void, GetAttribute>(attribute) };
    let read = |which| {
        let mut value: c_int = 0;
        // SAFETY: a live int to fill in.
        let result = unsafe { attribute(&raw mut value, which, device) };
        u32::try_from(value).ok().filter(|_| result == 0)
    };
    Some(read(CAPABILITY_MAJOR)? * 10 + read(CAPABILITY_MINOR)?)
        .filter(|capability| *capability > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_cuda_has_no_device() {
        assert_eq!(read_current_device(), None);
    }
}
