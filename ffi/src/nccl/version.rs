//! The version of the NCCL that has loaded this library.

use std::ffi::{CStr, c_int, c_void};

use super::log::NcclLog;

/// `ncclGetVersion`.
type GetVersion = unsafe extern "C" fn(*mut c_int) -> c_int;

/// What `ncclGetVersion` gives, of the library or program that a logger is in: 23007 for 2.30.7.
///
/// None where that has no such function to be found: NCCL is linked into the program without its symbols.
pub fn read_version(log: NcclLog) -> Option<u32> {
    let logger = log.address()?;
    let (name, base) = object_of(logger)?;
    // SAFETY: NCCL's own name of a library that is loaded; RTLD_NOLOAD loads nothing.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    let from = if handle.is_null() {
        libc::RTLD_DEFAULT
    } else {
        handle
    };
    // SAFETY: a live handle or RTLD_DEFAULT, and a string.
    let function = unsafe { libc::dlsym(from, c"ncclGetVersion".as_ptr()) };
    let is_nccls = object_of(function).is_some_and(|(_, own)| own == base);
    let version = is_nccls.then(|| call(function)).flatten();
    if !handle.is_null() {
        // SAFETY: the handle is dlopen's, given back once; the library stays, for its caller is in it.
        unsafe { libc::dlclose(handle) };
    }
    version
}

/// Whether this process has loaded RCCL, which looks up the same plugins and reads other files.
pub fn is_rccl_loaded() -> bool {
    [c"librccl.so.1", c"librccl.so"].iter().any(|name| {
        // SAFETY: a string; RTLD_NOLOAD loads nothing.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        if handle.is_null() {
            return false;
        }
        // SAFETY: the handle is dlopen's, given back once; whoever loaded the library keeps it.
        unsafe { libc::dlclose(handle) };
        true
    })
}

/// The file and the start of the library or program that an address is in; none for no address.
fn object_of(address: *mut c_void) -> Option<(&'static CStr, *mut c_void)> {
    if address.is_null() {
        return None;
    }
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: any address may be asked for; the answer is written into `info`.
    let found = unsafe { libc::dladdr(address, &raw mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the loader's own string, which lives as long as the object that this call came from.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Some((name, info.dli_fbase))
}

fn call(function: *mut c_void) -> Option<u32> {
    // SAFETY: the function of this name in NCCL (nccl.h): one pointer to an int, gives a result.
    let function: GetVersion = unsafe { std::mem::transmute::<*mut c_void, GetVersion>(function) };
    let mut version: c_int = 0;
    // SAFETY: a place for the answer.
    let result = unsafe { function(&raw mut version) };
    u32::try_from(version)
        .ok()
        .filter(|version| result == 0 && *version > 0)
}
