//! Paths that stay below a recorded root.
//!
//! A recorded root is somebody's folder: whoever reads it, maybe as root, must not be led out of it, so the kernel keeps each
//! path inside (`RESOLVE_IN_ROOT`, Linux 5.6; links are not followed before).  What is found is what is opened: nothing is
//! judged by a path that is opened again later.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, Mode, OFlags, ResolveFlags, open, openat, openat2, readlinkat};
use rustix::io::Errno;

/// A folder that no path leads out of: in it `/` and what lies above it are the folder itself.
///
/// Paths are relative, or absolute within the folder.
#[derive(Debug)]
pub struct Inside(OwnedFd);

impl Inside {
    /// The folder at `root`, which may be a link.
    ///
    /// # Errors
    /// What the system says, such as that there is no such folder.
    pub fn open(root: &Path) -> io::Result<Self> {
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(open(root, folder, Mode::empty())?))
    }

    fn open_at(&self, path: &str, flags: OFlags) -> io::Result<File> {
        let path = match path.trim_start_matches('/') {
            "" => ".",
            path => path,
        };
        let flags = flags | OFlags::CLOEXEC;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let opened = match openat2(&self.0, path, flags, Mode::empty(), inside) {
            // Older kernels, and filters of system calls that do not know it.
            Err(Errno::NOSYS | Errno::PERM) => open_step_by_step(&self.0, path, flags),
            opened => opened,
        };
        Ok(opened?.into())
    }

    /// Opens a file for reading, without waiting for a FIFO.  A link at its end is followed or refused.
    ///
    /// # Errors
    /// What the system says.
    pub fn open_file(&self, path: &str, follows: bool) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.open_at(path, flags | unless(follows))
    }

    /// What `path` leads to, or is itself, a link as a link, unless it `follows`.
    ///
    /// # Errors
    /// What the system says.
    pub fn metadata(&self, path: &str, follows: bool) -> io::Result<Metadata> {
        self.open_at(path, OFlags::PATH | unless(follows))?
            .metadata()
    }

    /// The text of a link, wherever it leads.
    ///
    /// # Errors
    /// What the system says, such as that it is no link.
    pub fn link(&self, path: &str) -> io::Result<PathBuf> {
        let link = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let text = readlinkat(&link, "", Vec::new())?;
        Ok(OsString::from_vec(text.into_bytes()).into())
    }

    /// The names in a folder that are text, as the system orders them.
    ///
    /// # Errors
    /// What the system says.
    pub fn names(&self, path: &str) -> io::Result<impl Iterator<Item = String> + use<>> {
        let folder = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let entries = Dir::new(folder)?;
        Ok(entries.filter_map(|entry| {
            let name = entry.ok()?.file_name().to_str().ok()?.to_owned();
            (name != "." && name != "..").then_some(name)
        }))
    }
}

fn unless(follows: bool) -> OFlags {
    if follows {
        OFlags::empty()
    } else {
        OFlags::NOFOLLOW
    }
}

/// Opens `relative` below `root` where no part of it is a link.
fn open_step_by_step(root: &OwnedFd, relative: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (parents, name) = relative.rsplit_once('/').unwrap_or(("", relative));
    let mut at = openat(root, ".", folder, Mode::empty())?;
    for part in parents.split('/').filter(|part| !part.is_empty()) {
        if part == ".." {
            return Err(Errno::XDEV);
        }
        at = openat(&at, part, folder, Mode::empty())?;
    }
    if name == ".." {
        return Err(Errno::XDEV);
    }
    openat(&at, name, flags | OFlags::NOFOLLOW, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn without_the_kernels_help_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/file"), "1\n").unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("a/in")).unwrap();
        let root = Inside::open(dir.path()).unwrap();
        let opens = |relative| open_step_by_step(&root.0, relative, OFlags::RDONLY).is_ok();
        assert!(opens("a/b/file") && opens("a/b") && opens("a"));
        assert!(!opens("a/in/file") && !opens("a/in") && !opens("a/../a/b/file"));
        assert!(!opens("..") && !opens("a/.."));
    }
}
