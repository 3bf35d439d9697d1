//! The `/proc` of this host, or of a recorded one, read without waiting for anybody.
//!
//! A recorded one is somebody's folder: its paths stay in it, and only regular files are read ([`Inside`]).  On a live host the kernel
//! looks into the process for three files, `cmdline`, `environ` and `numa_maps`, and wants its mmap_lock for that, which the process can keep
//! for as long as a file system of its user's does not answer (`tests/hung-memory.c`).  Where [`ask_by_child`] was called these are read
//! by a child, and what does not answer is left out.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ffi::linux::asked::{Asked, Silent};
use ffi::linux::file::{read_first, read_first_of};
use topology::sysfs::Inside;

/// How long a process is waited for.  A numa_maps of a terabyte in small pages takes the kernel some seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one that only waits is waited for after another did not answer: a thousand such would take hours else.
const LESS_PATIENCE: Duration = Duration::from_millis(250);
/// As many bytes of a file are read where nobody names fewer: each mapping is a line of numa_maps, of which there are 65,530
/// (`vm.max_map_count`) where nobody raised it.
const LARGEST: usize = 60 << 20;
/// Names taken from a recorded folder at most.
const MOST_NAMES: usize = 1 << 20;

thread_local! {
    static CHILD: RefCell<Child> = RefCell::default();
}

/// What reads for this thread.
#[derive(Default)]
struct Child {
    is_wanted: bool,
    /// It could not be started, and is not tried again.
    is_missing: bool,
    asked: Option<Asked>,
    unread: Unread,
    /// For files that did not answer; zero until one did not.
    waited: Duration,
}

/// What could not be read of others' processes.
#[derive(Debug, Default)]
pub struct Unread {
    /// The files that did not answer.
    pub silent: Vec<String>,
    /// Whether there was no child that could have read any.
    pub lacks_child: bool,
}

/// From now on processes of others are read by a child of this one.  For programs of one thread that look at others' processes; no
/// hook of a launch is to call it.  To be called before anything starts threads, such as a library that is asked: a process of
/// several has no such child.
pub fn ask_by_child() {
    CHILD.with_borrow_mut(|child| {
        child.is_wanted = true;
        child.start();
    });
}

/// What could not be read since this was asked last.
pub fn take_unread() -> Unread {
    CHILD.with_borrow_mut(|child| std::mem::take(&mut child.unread))
}

/// How long files were waited for that did not answer, in all.
pub fn waited() -> Duration {
    CHILD.with_borrow(|child| child.waited)
}

/// A folder of a `/proc`: that of a process, or of one of its threads.
#[derive(Debug, Clone)]
pub(crate) struct Folder<'r> {
    root: &'r Path,
    /// Below the root.
    path: String,
}

impl<'r> Folder<'r> {
    /// `/proc` itself.
    pub(crate) fn proc(root: &'r Path) -> Self {
        let path = "proc".to_owned();
        Self { root, path }
    }

    /// That of process `pid`.
    pub(crate) fn of(root: &'r Path, pid: u32) -> Self {
        let path = format!("proc/{pid}");
        Self { root, path }
    }

    pub(crate) fn join(&self, name: &str) -> Self {
        let path = format!("{}/{name}", self.path);
        Self {
            root: self.root,
            path,
        }
    }

    /// Whether it is of this host.
    pub(crate) fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Its path on a live host.
    pub(crate) fn path(&self) -> PathBuf {
        self.root.join(&self.path)
    }

    /// Whether it is there.
    pub(crate) fn is_there(&self) -> bool {
        let found = if self.is_live() {
            fs::symlink_metadata(self.path())
        } else {
            self.inside(|root| root.metadata(&self.path, false))
        };
        found.is_ok()
    }

    /// The names in it.
    pub(crate) fn names(&self) -> Vec<String> {
        if self.is_live() {
            let entries = fs::read_dir(self.path()).into_iter().flatten().flatten();
            return entries
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect();
        }
        let names = self.inside(|root| root.names(&self.path));
        names.map_or_else(|_| Vec::new(), |names| names.take(MOST_NAMES).collect())
    }

    /// The text of a link in it.
    pub(crate) fn link(&self, name: &str) -> Option<PathBuf> {
        let link = self.join(name);
        if self.is_live() {
            return fs::read_link(link.path()).ok();
        }
        self.inside(|root| root.link(&link.path)).ok()
    }

    /// A file in it, of which no byte need be text.
    pub(crate) fn text(&self, name: &str) -> io::Result<String> {
        let (bytes, is_all) = self.first(name, LARGEST)?;
        if !is_all {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// The first `limit` bytes of a file in it, and whether these are all.
    pub(crate) fn first(&self, name: &str, limit: usize) -> io::Result<(Vec<u8>, bool)> {
        let file = self.join(name);
        if !self.is_live() {
            return self.inside(|root| read_recorded(root, &file.path, limit));
        }
        let is_of_memory = matches!(name, "cmdline" | "environ" | "numa_maps");
        let is_ours = || self.path.split('/').nth(1) == Some(&std::process::id().to_string());
        if is_of_memory && !is_ours() {
            return CHILD.with_borrow_mut(|child| child.read(&file.path(), limit));
        }
        read_first(&file.path(), limit)
    }

    fn inside<T>(&self, read: impl FnOnce(&Inside) -> io::Result<T>) -> io::Result<T> {
        read(&Inside::open(self.root)?)
    }
}

fn read_recorded(root: &Inside, path: &str, limit: usize) -> io::Result<(Vec<u8>, bool)> {
    let file = root.open_file(path, false)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    read_first_of(file, limit)
}

impl Child {
    fn start(&mut self) {
        if self.asked.is_none() && !self.is_missing {
            self.asked = start();
            self.is_missing = self.asked.is_none();
            // Once: whoever looks again and again is told so once.
            self.unread.lacks_child |= self.is_missing;
        }
    }

    fn read(&mut self, path: &Path, limit: usize) -> io::Result<(Vec<u8>, bool)> {
        if !self.is_wanted {
            return read_first(path, limit);
        }
        let name = path.display().to_string();
        if self.unread.silent.contains(&name) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.start();
        let asked = self.asked.as_mut().ok_or(io::ErrorKind::ResourceBusy)?;
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let question = [&limit.to_le_bytes(), path.as_os_str().as_bytes()].concat();
        let patience = if self.waited.is_zero() {
            PATIENCE
        } else {
            LESS_PATIENCE
        };
        let start = Instant::now();
        match asked.ask(&question, patience, PATIENCE) {
            Ok(Some(mut bytes)) => {
                let is_all = bytes.pop() == Some(1);
                Ok((bytes, is_all))
            }
            Ok(None) => Err(io::ErrorKind::PermissionDenied.into()),
            Err(Silent) => {
                self.asked = None;
                self.waited += start.elapsed();
                self.unread.silent.push(name);
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }
}

/// A thread that read what another child said may not have ended yet, and only a process of one thread can have this one.
fn start() -> Option<Asked> {
    for _ in 0..100 {
        match Asked::start(answer) {
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Ok(started) => return started,
            Err(_) => return None,
        }
    }
    None
}

/// In the child: the bytes of a file, and one more that says whether they are all.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let (limit, path) = question.split_first_chunk()?;
    let limit = usize::try_from(u64::from_le_bytes(*limit)).ok()?;
    let (mut bytes, is_all) = read_first(Path::new(OsStr::from_bytes(path)), limit).ok()?;
    bytes.push(u8::from(is_all));
    Some(bytes)
}
