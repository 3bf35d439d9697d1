//! Whether a device may be opened, asked without opening it.

use std::ffi::CStr;

/// What the kernel answers to "may I open this device for reading and writing?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It may be opened.
    Allowed,
    /// The device cgroup or the file's mode forbids it.
    Denied,
    /// There is no such device file.
    Missing,
}

/// Asks whether the caller may open `device` for reading and writing.
///
/// The kernel's `inode_permission()` asks the device cgroup, version 1 or 2, for `faccessat` as it does
/// for `open`; nothing is opened, so no driver wakes a GPU.  The effective ids count.
pub fn read_access(device: &CStr) -> Access {
    // SAFETY: the path is a C string that outlives the call.
    let result = unsafe {
        libc::faccessat(
            libc::AT_FDCWD,
            device.as_ptr(),
            libc::R_OK | libc::W_OK,
            libc::AT_EACCESS,
        )
    };
    if result == 0 {
        return Access::Allowed;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => Access::Missing,
        Some(_) | None => Access::Denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_device_from_none() {
        assert_eq!(read_access(c"/dev/null"), Access::Allowed);
        assert_eq!(read_access(c"/dev/nvidia4095"), Access::Missing);
    }
}
