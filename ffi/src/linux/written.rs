//! Files that root, or a user, writes into folders that others may own.
//!
//! A path is walked part by part, and what is judged is what is held: nothing can be put in its place meanwhile.  Root is led by
//! no link that root does not own, for a user would choose by it which file is written.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, Permissions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, fcntl_lock, fcntl_setfl, ftruncate, mkdirat, open,
    openat, readlinkat, renameat, unlinkat,
};
use rustix::io::Errno;

use super::file::{FileError, io, not_trusted, only_roots, unmapped_user};
use super::process::effective_user;

/// Links that are followed in one path at most, as in the kernel.
const MAX_LINKS: u32 = 40;
/// Between two looks whether a lock is free.
const PAUSE: Duration = Duration::from_millis(20);
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What is asked of the folders on the way, where the process is root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// That links are root's.
    Links,
    /// That folders are, too: nobody else can rename what is in them.
    Owners,
}

/// A path that is walked; `at` is the folder that it has come to.
struct Walk {
    at: OwnedFd,
    place: PathBuf,
    left: Vec<OsString>,
    asks: Asks,
    is_root: bool,
    links: u32,
}

impl Walk {
    fn new(path: &Path, asks: Asks) -> Result<Self, FileError> {
        let is_root = effective_user() == 0;
        let path = if is_root && asks == Asks::Owners {
            std::path::absolute(path).map_err(|error| io(path, error))?
        } else {
            path.to_owned()
        };
        let here = open(".", FOLDER, Mode::empty()).map_err(|error| io(&path, error.into()))?;
        let mut walk = Self {
            at: here,
            place: PathBuf::new(),
            left: Vec::new(),
            asks,
            is_root,
            links: 0,
        };
        walk.turn_to(&path)?;
        Ok(walk)
    }

    /// Puts `path` before what is left.
    fn turn_to(&mut self, path: &Path) -> Result<(), FileError> {
        if path.is_absolute() {
            let top = open("/", FOLDER, Mode::empty());
            self.at = top.map_err(|error| io(path, error.into()))?;
            self.place = PathBuf::from("/");
        }
        let parts = path.components().rev().filter_map(|part| match part {
            Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
        });
        self.left.extend(parts);
        Ok(())
    }

    /// Goes into a folder, makes it where it is not there and `makes` says so, or turns to where a link leads.
    fn enter(&mut self, name: &OsStr, makes: bool) -> Result<(), FileError> {
        let place = self.place.join(name);
        let failed = |error: Errno| io(&place, error.into());
        let look = || {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(&self.at, name, flags, Mode::empty())
        };
        let found = match look() {
            Err(Errno::NOENT) if makes => {
                // Only root can write it, whatever the umask, or the plugins will not trust what is in it.
                match mkdirat(&self.at, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => look(),
                    Err(error) => Err(error),
                }
            }
            found => found,
        };
        let found = File::from(found.map_err(failed)?);
        let meta = found.metadata().map_err(|error| io(&place, error))?;
        if meta.is_symlink() {
            self.links += 1;
            if self.links > MAX_LINKS {
                return Err(failed(Errno::LOOP));
            }
            if self.is_root && !is_roots(meta.uid()) {
                return Err(FileError::UsersLink {
                    owner: meta.uid(),
                    path: place,
                });
            }
            let text = readlinkat(&found, "", Vec::new()).map_err(failed)?;
            return self.turn_to(Path::new(&OsString::from_vec(text.into_bytes())));
        }
        if !meta.is_dir() {
            return Err(failed(Errno::NOTDIR));
        }
        self.judge(&place, &meta)?;
        self.at = found.into();
        self.place = place;
        Ok(())
    }

    fn judge(&self, place: &Path, meta: &Metadata) -> Result<(), FileError> {
        if !self.is_root || self.asks == Asks::Links {
            return Ok(());
        }
        if self.left.is_empty() {
            return only_roots(place, meta);
        }
        // In a sticky one nobody else can rename what root has made.
        let is_kept = meta.mode() & 0o022 == 0 || meta.mode() & 0o1000 != 0;
        if !is_roots(meta.uid()) || !is_kept {
            return Err(not_trusted(place, meta));
        }
        Ok(())
    }
}

/// Whether an owner is root; in a user namespace, also whoever owns what the host's root does, as none of its users can.
fn is_roots(owner: u32) -> bool {
    owner == 0 || (owner == unmapped_user() && !maps_all_users())
}

/// Whether the process's user namespace has all users, as the host's own has.
fn maps_all_users() -> bool {
    let Ok(map) = std::fs::read_to_string("/proc/self/uid_map") else {
        return true;
    };
    let lengths = map.lines().filter_map(|line| {
        let length = line.split_ascii_whitespace().nth(2)?;
        length.parse::<u64>().ok()
    });
    lengths.sum::<u64>() >= u64::from(u32::MAX)
}

/// A folder in which files are replaced; held, so that another in its place is not written to.
#[derive(Debug)]
pub struct Folder {
    at: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`.
    ///
    /// # Errors
    /// As root, a link on the way that root does not own; else what the system says.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Self::walk(path, Asks::Links, false)
    }

    /// The folder at `path` for what root's plugins trust; it and those above it are made where they are not there.
    ///
    /// # Errors
    /// As root, that another user can write it or rename it; else what the system says.
    pub fn make(path: &Path) -> Result<Self, FileError> {
        Self::walk(path, Asks::Owners, true)
    }

    fn walk(path: &Path, asks: Asks, makes: bool) -> Result<Self, FileError> {
        let mut walk = Walk::new(path, asks)?;
        while let Some(name) = walk.left.pop() {
            walk.enter(&name, makes)?;
        }
        Ok(Self {
            at: walk.at,
            path: path.to_owned(),
        })
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until no other process writes several files here that belong together, at most for `patience`; none does until
    /// the answer is dropped.  A process that ends, however it does, is waited for no longer.
    ///
    /// The lock is that of a file which its owner alone can open: of the folder itself, or of a file that all may read, any user
    /// could take it and have root wait.  It is the process's, not the file's: a child that hangs in a driver does not keep it.
    ///
    /// # Errors
    /// Another process writes all that time; else what the system says.
    pub fn lock(&self, name: &OsStr, patience: Duration) -> Result<FolderLock, FileError> {
        let path = self.path.join(name);
        let failed = |error: Errno| io(&path, error.into());
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let file = openat(&self.at, name, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
        let begin = Instant::now();
        loop {
            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(FolderLock { _file: file }),
                Err(Errno::ACCESS | Errno::AGAIN) if begin.elapsed() < patience => {
                    std::thread::sleep(PAUSE);
                }
                Err(Errno::ACCESS | Errno::AGAIN) => {
                    let seconds = patience.as_secs();
                    let why = format!("another process writes there, for {seconds} s already");
                    let why = std::io::Error::new(std::io::ErrorKind::WouldBlock, why);
                    return Err(io(&path, why));
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Replaces a file in one step, readable by all, whatever the umask.
    ///
    /// # Errors
    /// What the system says; the file is then as it was.
    pub fn replace(&self, name: &OsStr, text: &[u8]) -> Result<(), FileError> {
        let new = Path::new(name).with_extension(format!("new-{}", std::process::id()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let failed = |error| io(&self.path.join(name), error);
        let file = openat(&self.at, &new, flags, Mode::from_raw_mode(0o600));
        let mut file = File::from(file.map_err(|error| failed(error.into()))?);
        let written = file
            .set_permissions(Permissions::from_mode(0o644))
            .and_then(|()| file.write_all(text))
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(renameat(&self.at, &new, &self.at, name)?));
        written.map_err(|error| {
            // The first error is the one to report.
            let _ = unlinkat(&self.at, &new, AtFlags::empty());
            failed(error)
        })
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, name: &OsStr) -> Result<(), FileError> {
        match unlinkat(&self.at, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(io(&self.path.join(name), error.into())),
        }
    }
}

/// That no other process writes into a folder; ends where it is dropped.
#[derive(Debug)]
pub struct FolderLock {
    _file: OwnedFd,
}

/// Opens a file that a user names for output, new or emptied.  A FIFO is not waited for.
///
/// # Errors
/// It is no regular file, terminal or other character device, nor what the process was started with (`/dev/stdout`); as root, a
/// link on the way that root does not own; else what the system says.
pub fn create_output(path: &Path) -> Result<File, FileError> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o666);
    let is_inherited = is_inherited(path);
    let opened = if is_inherited || effective_user() != 0 {
        open(path, flags, mode)
    } else {
        create_as_root(path, flags, mode)?
    };
    let file = File::from(opened.map_err(|error| match error {
        // A FIFO that nobody reads, or a socket.
        Errno::NXIO => FileError::NotRegular(path.to_owned()),
        error => io(path, error.into()),
    })?);
    let meta = file.metadata().map_err(|error| io(path, error))?;
    if meta.is_file() {
        ftruncate(&file, 0).map_err(|error| io(path, error.into()))?;
    } else if !is_inherited && !meta.file_type().is_char_device() {
        return Err(FileError::NotRegular(path.to_owned()));
    }
    // What is a terminal or the process's own pipe may be waited for.
    fcntl_setfl(&file, OFlags::empty()).map_err(|error| io(path, error.into()))?;
    Ok(file)
}

fn create_as_root(
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> Result<rustix::io::Result<OwnedFd>, FileError> {
    let mut walk = Walk::new(path, Asks::Links)?;
    while let Some(name) = walk.left.pop() {
        if walk.left.is_empty() {
            match openat(&walk.at, &name, flags | OFlags::NOFOLLOW, mode) {
                Err(Errno::LOOP) => {}
                opened => return Ok(opened),
            }
        }
        walk.enter(&name, false)?;
    }
    Err(FileError::NotRegular(path.to_owned()))
}

/// Whether a path names a file that the process was started with: whoever started it chose that file.
fn is_inherited(path: &Path) -> bool {
    let folders = ["/dev/fd", "/proc/self/fd"].map(Path::new);
    let names = ["/dev/stdout", "/dev/stderr"].map(Path::new);
    names.contains(&path)
        || path
            .parent()
            .is_some_and(|folder| folders.contains(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{chown, lchown, symlink};

    const USER: Option<u32> = Some(65_534);

    fn is_root() -> bool {
        effective_user() == 0
    }

    fn write(path: &Path) -> Result<(), FileError> {
        let mut file = create_output(path)?;
        file.write_all(b"new").map_err(|error| io(path, error))
    }

    #[test]
    fn output_replaces_a_regular_file_and_follows_ones_own_links() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let link = folder.path().join("link");
        fs::write(&path, "old and longer").unwrap();
        symlink("file", &link).unwrap();
        write(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        fs::write(&path, "old and longer").unwrap();
        write(&link).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        write(&folder.path().join("made")).unwrap();
        write(Path::new("/dev/null")).unwrap();
        symlink("loop", folder.path().join("loop")).unwrap();
        for refused in ["", "loop", "none/file", "file/x"] {
            assert!(write(&folder.path().join(refused)).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_fifo_is_not_waited_for_whether_it_has_a_reader_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert!(matches!(write(&path), Err(FileError::NotRegular(_))));
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let _reader = open(&path, flags, Mode::empty()).unwrap();
        assert!(matches!(write(&path), Err(FileError::NotRegular(_))));
    }

    #[test]
    fn root_is_led_by_no_link_of_a_user() {
        if !is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        let users = folder.path().join("users");
        fs::create_dir(&own).unwrap();
        fs::create_dir(&users).unwrap();
        fs::write(own.join("file"), "old").unwrap();
        symlink(own.join("file"), users.join("file")).unwrap();
        symlink(&own, users.join("folder")).unwrap();
        lchown(users.join("file"), USER, USER).unwrap();
        lchown(users.join("folder"), USER, USER).unwrap();
        chown(&users, USER, USER).unwrap();
        for path in ["file", "folder/file", "folder/other"] {
            let path = users.join(path);
            assert!(
                matches!(write(&path), Err(FileError::UsersLink { .. })),
                "{path:?}"
            );
        }
        assert!(Folder::open(&users.join("folder")).is_err());
        assert_eq!(fs::read(own.join("file")).unwrap(), b"old");
        assert!(!own.join("other").exists());
        write(&users.join("plain")).unwrap();
        let held = Folder::open(&users).unwrap();
        // A link is replaced, not followed.
        held.replace(OsStr::new("file"), b"text").unwrap();
        assert_eq!(fs::read(users.join("file")).unwrap(), b"text");
        assert_eq!(fs::read(own.join("file")).unwrap(), b"old");
    }

    #[test]
    fn what_plugins_trust_is_written_only_where_every_folder_is_roots() {
        if !is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("users");
        fs::create_dir_all(users.join("own")).unwrap();
        chown(&users, USER, USER).unwrap();
        for path in [users.clone(), users.join("own"), users.join("new")] {
            let made = Folder::make(&path);
            assert!(
                matches!(made, Err(FileError::NotRoots { .. })),
                "{path:?}: {made:?}"
            );
        }
        assert!(!users.join("new").exists());
        let open_to_all = folder.path().join("open");
        fs::create_dir(&open_to_all).unwrap();
        let mode = |mode| fs::set_permissions(&open_to_all, Permissions::from_mode(mode)).unwrap();
        mode(0o777);
        assert!(Folder::make(&open_to_all.join("x")).is_err());
        // As /tmp is: what root made in it, nobody else can rename.
        mode(0o1777);
        assert!(Folder::make(&open_to_all).is_err());
        Folder::make(&open_to_all.join("x")).unwrap();
    }

    #[test]
    fn a_folder_that_is_held_is_the_one_that_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let held = Folder::make(&path).unwrap();
        let moved = folder.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("node.json"), "other").unwrap();
        held.replace(OsStr::new("node.json"), b"text").unwrap();
        assert_eq!(fs::read(moved.join("node.json")).unwrap(), b"text");
        assert_eq!(
            fs::metadata(moved.join("node.json")).unwrap().mode() & 0o777,
            0o644
        );
        held.remove(OsStr::new("node.json")).unwrap();
        held.remove(OsStr::new("node.json")).unwrap();
        assert_eq!(fs::read_dir(&moved).unwrap().count(), 0);
        assert_eq!(fs::read(path.join("node.json")).unwrap(), b"other");
    }
}
