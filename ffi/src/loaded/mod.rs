//! Libraries that the process has loaded by itself, and what they tell: nothing is loaded here.

pub mod cuda;
pub mod nvml;

use std::ffi::{CStr, c_void};

/// A library that was loaded before.
struct Library(*mut c_void);

impl Library {
    /// The library of this soname, if it is loaded; nothing is loaded and no code runs.
    fn loaded(soname: &CStr) -> Option<Self> {
        // SAFETY: RTLD_NOLOAD only looks among what is loaded.
        let handle = unsafe { libc::dlopen(soname.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        (!handle.is_null()).then(|| Self(handle))
    }

    /// For [`symbol`].
    fn handle(&self) -> *mut c_void {
        self.0
    }
}

/// Whether the process has loaded libibverbs, through which programs reach RDMA devices.
pub fn has_ibverbs() -> bool {
    is_loaded(c"libibverbs.so.1")
}

fn is_loaded(soname: &CStr) -> bool {
    // SAFETY: RTLD_NOLOAD only looks among what is loaded.
    let handle = unsafe { libc::dlopen(soname.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    let loaded = (!handle.is_null()).then(|| Library(handle));
    loaded.is_some()
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: the handle is dlopen's, given back once; whoever loaded the library holds another.
        unsafe { libc::dlclose(self.0) };
    }
}

/// The address of a function in a library, or in the program (`RTLD_DEFAULT`); none where it is not there.
fn symbol(library: *mut c_void, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the handle is a live one or RTLD_DEFAULT, the name a string.
    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}
