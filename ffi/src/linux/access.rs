//! Whether a device may be opened, asked without opening it.

use std::ffi::CStr;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, accessat, statx};
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

/// A character device's number, major and minor.
pub type DeviceNumber = (u32, u32);

/// The number of the character device at `path`, and of the one that a link of `/proc/PID/fd` stands for; none where
/// there is none.
///
/// `AT_STATX_DONT_SYNC`: a file server or FUSE that does not answer is not asked.
pub fn read_device_number(path: &Path) -> Option<DeviceNumber> {
    let found = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE).ok()?;
    let kind = FileType::from_raw_mode(u32::from(found.stx_mode));
    (kind == FileType::CharacterDevice).then_some((found.stx_rdev_major, found.stx_rdev_minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_a_number_by_any_path() {
        // devices.txt of the kernel.
        assert_eq!(read_device_number(Path::new("/dev/null")), Some((1, 3)));
        let file = std::fs::File::open("/dev/zero").unwrap();
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        assert_eq!(read_device_number(Path::new(&link)), Some((1, 5)));
        assert_eq!(read_device_number(Path::new("/etc/passwd")), None);
    }

    #[test]
    fn tells_a_device_from_none() {
        assert_eq!(read_access(c"/dev/null"), Access::Allowed);
        assert_eq!(read_access(c"/dev/nvidia4095"), Access::Missing);
    }
}
