//! A recorded machine in a tarball, such as hwloc-gather-topology writes: unpacked where only its reader sees it.

pub(crate) mod packing;

use std::fs::{self, Permissions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use ffi::linux::file::open_regular;
use tar::Archive;
use tempfile::TempDir;
use thiserror::Error;

use packing::{Packing, Unpacking};

/// The most that a tarball unpacks to, in bytes.  A recorded machine with 8 GPUs is some 10 MB.
const MOST_BYTES: u64 = 256 << 20;
/// The most files, folders and links of a tarball.
const MOST_ENTRIES: usize = 200_000;
/// The folders of a filesystem root that are read.
const READ: [&str; 6] = ["dev", "etc", "proc", "run", "sys", "usr"];

/// Why a tarball is not read.
#[derive(Debug, Error)]
pub(crate) enum ArchiveError {
    /// It cannot be read or unpacked.
    #[error("cannot unpack it: {0}")]
    Io(#[from] io::Error),
    /// What compressed it cannot be undone.
    #[error("cannot unpack it: {0}")]
    Unpacking(String),
    /// There is too much in it.
    #[error("it has more than {MOST_ENTRIES} files or {} MiB", MOST_BYTES >> 20)]
    TooLarge,
    /// There is no `sys/` in it.
    #[error("it has no sys/, neither by itself nor in its one folder")]
    NoRoot,
}

/// A tarball's content, in a folder of its own that is removed with this.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Kept for its end.
    _folder: TempDir,
    /// The filesystem root in it.
    pub(crate) root: PathBuf,
}

/// Unpacks `path` where it is a tarball; none where it is something else, or not there.
///
/// Nothing is written outside of the new folder: links that lead out of it are left out, as are device files.
pub(crate) fn unpack(path: &Path) -> Result<Option<Unpacked>, ArchiveError> {
    // What cannot be opened is for its reader to say.
    let Ok(mut file) = open_regular(path) else {
        return Ok(None);
    };
    let mut head = Vec::new();
    (&file).take(512).read_to_end(&mut head)?;
    let Some(packing) = Packing::of(&head) else {
        return Ok(None);
    };
    file.rewind()?;
    let folder = tempfile::tempdir()?;
    match packing {
        Packing::None => write(file, folder.path())?,
        Packing::By(compressor) => {
            let mut unpacking = Unpacking::start(compressor, file)?;
            let written = write(unpacking.output(), folder.path());
            let complaint = unpacking.complaint();
            match (written, complaint) {
                (Err(error @ ArchiveError::TooLarge), _) => return Err(error),
                // What there was of it may have looked like a whole tarball.
                (_, Some(complaint)) => return Err(complaint),
                (written, None) => written?,
            }
        }
    }
    let root = find_root(folder.path()).ok_or(ArchiveError::NoRoot)?;
    Ok(Some(Unpacked {
        _folder: folder,
        root,
    }))
}

fn write(content: impl Read, to: &Path) -> Result<(), ArchiveError> {
    let mut archive = Archive::new(content.take(MOST_BYTES));
    let mut room = MOST_BYTES;
    for (count, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        // A sparse file's size is more than the tarball has of it.
        room = room.saturating_sub(entry.size());
        if count == MOST_ENTRIES || room == 0 {
            return Err(ArchiveError::TooLarge);
        }
        let Some(path) = inside(&entry.path()?) else {
            continue;
        };
        let kind = entry.header().entry_type();
        let wanted = if kind.is_symlink() {
            entry
                .link_name()?
                .is_some_and(|target| stays_inside(&path, &target))
        } else {
            kind.is_file() || kind.is_dir()
        };
        if !wanted || !is_read(&path) {
            continue;
        }
        entry.set_preserve_permissions(false);
        entry.set_preserve_mtime(false);
        // It refuses a path below a link that leads out.
        let is_written = entry.unpack_in(to)?;
        let at = to.join(&path);
        let kind = fs::symlink_metadata(&at).map(|metadata| metadata.file_type());
        if let Ok(kind) = kind.as_ref()
            && is_written
            && !kind.is_symlink()
        {
            // What is kept from writing, as much of /sys is, would keep the rest from being unpacked and removed.
            let mode = if kind.is_dir() { 0o700 } else { 0o600 };
            fs::set_permissions(&at, Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// An entry's path below the folder that it is unpacked in, as [`tar::Entry::unpack_in`] takes it: `/sys/a` is `sys/a`; none
/// where the path goes up.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut own = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => own.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => (),
            Component::ParentDir => return None,
        }
    }
    Some(own)
}

/// Whether a path is of a folder that is read, at the top or in a folder there.
fn is_read(path: &Path) -> bool {
    let mut names = path.components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        Component::CurDir | Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
            None
        }
    });
    let of = |name: Option<&str>| name.is_some_and(|name| READ.contains(&name));
    let (first, second) = (names.next(), names.next());
    of(first) || second.is_none() || of(second)
}

/// Whether a link's target, as written, is below the folder that all is in.
fn stays_inside(link: &Path, target: &Path) -> bool {
    let Some(folder) = link.parent().filter(|_| target.is_relative()) else {
        return false;
    };
    let mut depth = 0_u32;
    for part in folder.join(target).components() {
        let next = match part {
            Component::Normal(_) => depth.checked_add(1),
            Component::ParentDir => depth.checked_sub(1),
            Component::CurDir => Some(depth),
            Component::RootDir | Component::Prefix(_) => None,
        };
        let Some(next) = next else { return false };
        depth = next;
    }
    true
}

/// The folder that holds `sys/`: this one, or the only one in it.
fn find_root(folder: &Path) -> Option<PathBuf> {
    if folder.join("sys").is_dir() {
        return Some(folder.to_owned());
    }
    let mut inside = fs::read_dir(folder).ok()?.flatten();
    let only = inside.next().filter(|_| inside.next().is_none())?.path();
    only.join("sys").is_dir().then_some(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_taken_where_it_stays_inside() {
        let inside = |link: &str, target: &str| stays_inside(Path::new(link), Path::new(target));
        let device = "../../../devices/pci0000:00/0000:00:01.0";
        assert!(inside("sys/bus/pci/devices/0000:00:01.0", device));
        assert!(inside("node/sys/a", "../b"));
        assert!(!inside("sys/a", "../../b"));
        assert!(!inside("sys/a", "/etc/shadow"));
        assert!(!inside("a", ".."));
    }

    #[test]
    fn a_path_is_below_the_folder_or_none() {
        let own = |path: &str| inside(Path::new(path));
        assert_eq!(own("/etc/passwd"), Some(PathBuf::from("etc/passwd")));
        assert_eq!(own("./sys/a"), Some(PathBuf::from("sys/a")));
        assert_eq!(own("sys/../../a"), None);
    }

    #[test]
    fn only_a_roots_own_folders_are_unpacked() {
        let read = |path: &str| is_read(Path::new(path));
        assert!(read("sys/devices/system/cpu/online") && read("./proc/cpuinfo"));
        assert!(read("node7/sys/devices") && read("node7"));
        assert!(!read("home/me/secret") && !read("node7/var/log/messages"));
    }

    /// As `tar -P` writes it, and one who means harm.
    #[test]
    fn a_file_that_is_named_from_the_root_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("etc/own");
        fs::create_dir(own.parent().unwrap()).unwrap();
        fs::write(&own, "mine").unwrap();
        fs::set_permissions(&own, Permissions::from_mode(0o644)).unwrap();
        let mut tarball = tar::Builder::new(Vec::new());
        for name in [own.to_str().unwrap(), "sys/devices/online"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(2);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tarball.append(&header, &b"0\n"[..]).unwrap();
        }
        let path = folder.path().join("host.tar");
        fs::write(&path, tarball.into_inner().unwrap()).unwrap();
        let unpacked = unpack(&path).unwrap().unwrap();
        assert!(unpacked.root.join("sys/devices/online").is_file());
        assert_eq!(
            fs::metadata(&own).unwrap().permissions().mode() & 0o777,
            0o644
        );
        assert_eq!(fs::read_to_string(&own).unwrap(), "mine");
    }
}
