//! Whether a device may be opened, asked without opening it.

use std::ffi::CStr;

use rustix::fs::{AtFlags, CWD, accessat};
use rustix::io::Errno;

/// What the kernel answers to "may I open this device for reading and writing?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It may be opened.
    Allowed,
    /// The device cgroup or the file's mode forbids it.
    Denied,
    /// No such device file exists.
    Missing,
}

/// Asks whether the caller may open `device` for reading and writing.
///
/// The kernel's `inode_permission()` asks the device cgroup, version 1 or 2, for `faccessat` as it does
/// for `open`; nothing is opened, so no driver wakes a GPU.  The effective ids count.
pub fn read_access(device: &CStr) -> Access {
    let wanted = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
    match accessat(CWD, device, wanted, AtFlags::EACCESS) {
        Ok(()) => Access::Allowed,
        Err(Errno::NOENT | Errno::NOTDIR) => Access::Missing,
        Err(_) => Access::Denied,
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
