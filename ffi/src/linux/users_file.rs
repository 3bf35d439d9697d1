//! A small file that a user chose, read without waiting for a file system that may never answer.
//!
//! A task that waits in the kernel cannot be ended, and Slurm drains the node of a task that it cannot end.  So a launch asks
//! a user's file system only
//! - what the kernel has cached (`RESOLVE_CACHED`, Linux 5.12): that a file is not there is mostly known so;
//! - where every folder on the way is on this host's own disks or memory;
//! - by a child that is killed after [`PATIENCE`], where a process that waits can be killed, or where Slurm has used the
//!   same file system for this very launch, whose working folder it is.
//!
//! Otherwise the answer is that it is not known.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::pipe::{PipeFlags, pipe_with};

use super::file::{FileError, READING, read_opened_text};
use super::mounts::{Answers, Mount, Mounts, read_mountinfo};

/// How long a file system is waited for.  A file of an idle NFS server comes in a few milliseconds.
pub const PATIENCE: Duration = Duration::from_millis(250);
/// As many links on the way as the kernel follows (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// Why a user's file is not read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// There is no regular file that the caller may read.
    #[error("which is not there")]
    Missing,
    /// It is there, and is no text of at most the size that was asked for.
    #[error("which is no text of a usual size")]
    Unusable,
    /// Whether it is there is not known: its file system was not waited for, or not longer.
    #[error("whose file system ({kind}) was not waited for")]
    NotAsked {
        /// The type of the file system; `unknown` where `/proc` does not tell.
        kind: String,
    },
}

/// Reads a text file of at most `limit` bytes; relative to the working folder, links are followed.
///
/// # Errors
/// [`Unread`] by what is known.
pub fn read_users_text(path: &Path, limit: u64) -> Result<String, Unread> {
    if is_cached_absence(path) {
        return Err(Unread::Missing);
    }
    read_by_mounts(path, limit)
}

/// The same by what is mounted.  Few users have such a file, and this is much code, which is then not even looked at.
#[cold]
#[inline(never)]
fn read_by_mounts(path: &Path, limit: u64) -> Result<String, Unread> {
    let mounts = read_mountinfo();
    read_by(
        &Mounts::parse(&mounts),
        working_folder().as_deref(),
        path,
        limit,
    )
}

/// The same by what is mounted and where the process works, for a file that the caches do not know to be missing.
fn read_by(
    mounts: &Mounts<'_>,
    folder: Option<&Path>,
    path: &Path,
    limit: u64,
) -> Result<String, Unread> {
    let whole = folder.unwrap_or(Path::new("/")).join(path);
    let not_asked = |kind: &str| Unread::NotAsked {
        kind: kind.to_owned(),
    };
    match find(mounts, &whole) {
        Way::Missing => Err(Unread::Missing),
        Way::Unknown => Err(not_asked("unknown")),
        Way::Local(path) => match open_local(mounts, &path) {
            Ok(file) => read_opened_text(file, &path, limit).map_err(|error| match error {
                FileError::Io { .. }
                | FileError::NotRegular(_)
                | FileError::NotRoots { .. }
                | FileError::UsersLink { .. } => Unread::Missing,
                FileError::TooLarge { .. } | FileError::NotText(_) => Unread::Unusable,
            }),
            // Another link, or a file system that was mounted meanwhile: its user may be whom to wait for.
            Err(Errno::LOOP | Errno::XDEV) => Err(not_asked("unknown")),
            Err(_) => Err(Unread::Missing),
        },
        Way::Into(mount, rest) => {
            let is_slurms = || {
                let own = folder.and_then(|folder| mounts.of(folder));
                own.is_some_and(|own| own.is_same(mount))
            };
            let may_ask = match mount.answers() {
                Answers::Always | Answers::UnlessKilled => true,
                Answers::Late => is_slurms(),
                Answers::Perhaps => false,
            };
            let told = may_ask.then(|| ask_child(mount, &rest, limit)).flatten();
            match told {
                Some(Told::Text(bytes)) => String::from_utf8(bytes).map_err(|_| Unread::Unusable),
                Some(Told::Missing) => Err(Unread::Missing),
                Some(Told::Unusable) => Err(Unread::Unusable),
                None => Err(not_asked(&mount.kind())),
            }
        }
    }
}

/// Whether the kernel knows without asking anybody that the file is not there, or not for this user.
fn is_cached_absence(path: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED);
    matches!(found, Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS))
}

/// As the kernel has it; a look at the folder itself might wait.
fn working_folder() -> Option<PathBuf> {
    std::fs::read_link("/proc/self/cwd").ok()
}

/// Where a path leads, as far as it can be followed without waiting.
#[derive(Debug, PartialEq, Eq)]
enum Way<'m> {
    /// To this file, on this host's own file systems all the way; it has no links.
    Local(PathBuf),
    /// Into this mount, by this path below it.
    Into(&'m Mount<'m>, PathBuf),
    /// Nowhere.
    Missing,
    /// What is mounted is not known.
    Unknown,
}

fn find<'m>(mounts: &'m Mounts<'m>, path: &Path) -> Way<'m> {
    let mut links = 0;
    let mut here = PathBuf::from("/");
    let mut left = names_of(path);
    if mounts.at(&here).is_none() {
        return Way::Unknown;
    }
    while let Some(name) = left.pop_front() {
        if name == OsStr::new("..") {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        if let Some(mount) = mounts.at(&next)
            && mount.answers() != Answers::Always
        {
            let below: PathBuf = left.iter().collect();
            return Way::Into(mount, Path::new(".").join(below));
        }
        match std::fs::symlink_metadata(&next) {
            Err(_) => return Way::Missing,
            Ok(meta) if meta.is_symlink() => {
                links += 1;
                let Ok(to) = std::fs::read_link(&next) else {
                    return Way::Missing;
                };
                if links > MOST_LINKS {
                    return Way::Missing;
                }
                if to.is_absolute() {
                    here = PathBuf::from("/");
                }
                let mut names = names_of(&to);
                names.append(&mut left);
                left = names;
            }
            Ok(_) => here = next,
        }
    }
    Way::Local(here)
}

fn names_of(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

/// Opens a file that was found on this host's own file systems, in the mount in which it was found, without following a link that has
/// taken the place of one of its folders or of itself since.
fn open_local(mounts: &Mounts<'_>, file: &Path) -> Result<File, Errno> {
    let top = mounts.of(file).map_or(Path::new("/"), Mount::at);
    let rest = file.strip_prefix(top).map_err(|_| Errno::NOENT)?;
    if rest.as_os_str().is_empty() {
        let flags = READING | OFlags::NOFOLLOW;
        return Ok(rustix::fs::open(file, flags, Mode::empty())?.into());
    }
    let one_way = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    Ok(open_below(top, rest, one_way)?.into())
}

/// What a child found.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Text(Vec<u8>),
    Missing,
    Unusable,
}

/// The first byte that a child writes.
const MISSING: u8 = b'0';
const TEXT: u8 = b'1';
const UNUSABLE: u8 = b'2';
/// Of a link into another file system, which is not followed there.
const ELSEWHERE: u8 = b'3';

/// Asks a child, which is killed when its time is up; none where it does not answer.
fn ask_child(mount: &Mount<'_>, rest: &Path, limit: u64) -> Option<Told> {
    let top = CString::new(mount.at().as_os_str().as_bytes()).ok()?;
    let rest = CString::new(rest.as_os_str().as_bytes()).ok()?;
    let limit = usize::try_from(limit).ok()?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(limit + 2).ok()?;
    bytes.resize(limit + 2, 0);
    let (from, to) = pipe_with(PipeFlags::CLOEXEC).ok()?;
    // SAFETY: without flags it is fork(), and the child shares nothing with this process.  It has no exit signal, so that
    // neither Slurm nor the task's program, which may wait for its children, ever hears of it.
    let child = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    if child == 0 {
        answer(&top, &rest, &mut bytes, &to);
    }
    let child = libc::pid_t::try_from(child)
        .ok()
        .filter(|child| *child > 0)?;
    drop(to);
    let told = hear(&from, bytes);
    // SAFETY: a child of this process that nobody has waited for yet, so the number is still its own.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG);
    }
    told
}

/// What the child says before its time is up, into `bytes`.
fn hear(from: &OwnedFd, mut bytes: Vec<u8>) -> Option<Told> {
    let end = Instant::now() + PATIENCE;
    let mut used = 0;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok()?;
        let mut waits = [PollFd::new(from, PollFlags::IN)];
        match poll(&mut waits, Some(&left)) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return None,
        }
        match rustix::io::read(from.as_fd(), bytes.get_mut(used..)?) {
            Ok(0) => break,
            Ok(read) => used += read,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    bytes.truncate(used);
    let text = bytes.split_off(used.min(1));
    match *bytes.first()? {
        TEXT => Some(Told::Text(text)),
        MISSING => Some(Told::Missing),
        UNUSABLE => Some(Told::Unusable),
        _ => None,
    }
}

/// The child: only system calls, on memory that is there already.
fn answer(top: &CString, rest: &CString, bytes: &mut [u8], to: &OwnedFd) -> ! {
    let mut used = 1;
    let first = match open_below(top.as_c_str(), rest.as_c_str(), ResolveFlags::NO_XDEV) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::PERM) => MISSING,
        Err(_) => ELSEWHERE,
        Ok(file) if !is_regular(file.as_fd()) => MISSING,
        Ok(file) => match read_whole(file.as_fd(), bytes.get_mut(1..).unwrap_or_default()) {
            Some(read) => {
                used += read;
                TEXT
            }
            None => UNUSABLE,
        },
    };
    if let Some(place) = bytes.first_mut() {
        *place = first;
    }
    let mut left = bytes.get(..used).unwrap_or_default();
    while let Ok(written) = rustix::io::write(to, left) {
        left = left.get(written..).unwrap_or_default();
        if left.is_empty() {
            break;
        }
    }
    super::process::exit_now(0)
}

/// Opens a file below a mount's top, as far as `resolve` lets the way there lead.
fn open_below<P: Arg + Copy>(top: P, rest: P, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let folder = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::open(top, folder, Mode::empty())?;
    match openat2(&top, rest, READING, Mode::empty(), resolve) {
        // Before Linux 5.6, and under filters that do not know it.
        Err(Errno::NOSYS | Errno::PERM) => {
            rustix::fs::openat(&top, rest, READING | OFlags::NOFOLLOW, Mode::empty())
        }
        found => found,
    }
}

fn is_regular(file: BorrowedFd<'_>) -> bool {
    let mode = rustix::fs::fstat(file).map_or(0, |meta| meta.st_mode);
    FileType::from_raw_mode(mode).is_file()
}

/// A file's bytes; none where they leave no room for one byte more.
fn read_whole(file: BorrowedFd<'_>, room: &mut [u8]) -> Option<usize> {
    let mut used = 0;
    loop {
        let free = room.get_mut(used..).filter(|free| !free.is_empty())?;
        match rustix::io::read(file, free) {
            Ok(0) => return Some(used),
            Ok(read) => used += read,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A folder, said to be a mount of this type, and what is read of a file in it.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn with(text: &[u8]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("home")).unwrap();
            fs::write(folder.path().join("home/conf"), text).unwrap();
            Self(folder)
        }

        fn read(&self, kind: &str, working: &str, name: &str) -> Result<String, Unread> {
            let path = self.0.path().display();
            let info = format!(
                "1 0 8:1 / / rw - tmpfs none rw\n2 1 0:40 / {path}/home rw - {kind} none rw\n"
            );
            let working = self.0.path().join(working);
            let mounts = Mounts::parse(info.as_bytes());
            read_by(&mounts, Some(&working), Path::new(name), 100)
        }
    }

    #[test]
    fn local_and_killable_file_systems_are_asked() {
        let folder = Folder::with(b"A=1\n");
        for kind in ["ext4", "nfs4", "ceph"] {
            assert_eq!(
                folder.read(kind, "", "home/conf").unwrap(),
                "A=1\n",
                "{kind}"
            );
            let none = folder.read(kind, "", "home/none");
            assert!(matches!(none, Err(Unread::Missing)), "{kind}");
            let a_folder = folder.read(kind, "", "home");
            assert!(matches!(a_folder, Err(Unread::Missing)), "{kind}");
        }
    }

    #[test]
    fn others_are_asked_where_slurm_did_or_not_at_all() {
        let folder = Folder::with(b"A=1\n");
        let not_asked = |read| matches!(read, Err(Unread::NotAsked { .. }));
        assert!(not_asked(folder.read("lustre", "", "home/conf")));
        assert_eq!(folder.read("lustre", "home", "conf").unwrap(), "A=1\n");
        for kind in ["fuse.sshfs", "autofs", "new-type", "proc"] {
            assert!(not_asked(folder.read(kind, "", "home/conf")), "{kind}");
            assert!(not_asked(folder.read(kind, "home", "conf")), "{kind}");
        }
    }

    #[test]
    fn links_lead_into_what_is_mounted() {
        let folder = Folder::with(b"A=1\n");
        symlink("home/../home/conf", folder.0.path().join("link")).unwrap();
        symlink("loop", folder.0.path().join("loop")).unwrap();
        symlink("conf", folder.0.path().join("home/inside")).unwrap();
        symlink("/etc/hostname", folder.0.path().join("home/outside")).unwrap();
        assert_eq!(folder.read("xfs", "", "link").unwrap(), "A=1\n");
        assert_eq!(folder.read("nfs", "", "link").unwrap(), "A=1\n");
        assert_eq!(folder.read("nfs", "", "home/inside").unwrap(), "A=1\n");
        let fuse = folder.read("fuse", "", "link");
        assert!(matches!(fuse, Err(Unread::NotAsked { .. })));
        assert!(matches!(
            folder.read("nfs", "", "loop"),
            Err(Unread::Missing)
        ));
    }

    /// Its user may put a link in the file's place, or mount something over it, between the two looks.
    #[test]
    fn what_takes_the_place_of_a_file_that_was_found_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (file, aside) = (folder.path().join("conf"), folder.path().join("aside"));
        fs::write(&file, "A=1\n").unwrap();
        fs::create_dir(&aside).unwrap();
        fs::write(aside.join("conf"), "A=1\n").unwrap();
        let mounts = read_mountinfo();
        let mounts = Mounts::parse(&mounts);
        let Way::Local(found) = find(&mounts, &file) else {
            panic!("{} is on no file system of this host", file.display());
        };
        assert!(open_local(&mounts, &found).is_ok());
        fs::remove_file(&file).unwrap();
        symlink(aside.join("conf"), &file).unwrap();
        assert_eq!(open_local(&mounts, &found).unwrap_err(), Errno::LOOP);
        // The file is found in a folder, which a link then replaces.
        let inside = aside.join("conf");
        let Way::Local(found) = find(&mounts, &inside) else {
            panic!("{} is on no file system of this host", inside.display());
        };
        fs::rename(&aside, folder.path().join("other")).unwrap();
        symlink(folder.path().join("other"), &aside).unwrap();
        assert_eq!(open_local(&mounts, &found).unwrap_err(), Errno::LOOP);
    }

    #[test]
    fn what_is_too_large_is_unusable() {
        let whole = Folder::with(&[b'#'; 100]);
        let large = Folder::with(&[b'#'; 101]);
        for kind in ["ext4", "nfs"] {
            assert_eq!(
                whole.read(kind, "", "home/conf").unwrap().len(),
                100,
                "{kind}"
            );
            let read = large.read(kind, "", "home/conf");
            assert!(matches!(read, Err(Unread::Unusable)), "{kind}");
        }
    }

    #[test]
    fn nothing_is_asked_where_mounts_are_unknown() {
        let read = read_by(&Mounts::default(), None, Path::new("/etc/hostname"), 100);
        assert!(matches!(read, Err(Unread::NotAsked { .. })));
    }
}
