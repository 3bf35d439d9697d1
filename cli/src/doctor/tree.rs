//! Files of the host below its root, live or recorded.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ffi::linux::file::{FileError, read_opened, read_regular};
use topology::sysfs::Inside;

/// The longest configuration file that is read, in bytes; 10,000 `NodeName` lines need a megabyte.
const MAX_BYTES: u64 = 8 << 20;
/// Entries taken from one directory at most.
const MAX_ENTRIES: usize = 4096;
/// Process ids that Linux gives at most (`PID_MAX_LIMIT`), and room for what else is in `/proc`.
const MAX_PROCESSES: usize = (1 << 22) + MAX_ENTRIES;

/// Why a file of the host cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// There is none; in a recorded tree, none where its links lead inside the tree.
    #[error("{0}: no such file")]
    Missing(String),
    /// A directory, device or pipe.
    #[error("{0}: not a regular file")]
    NotRegular(String),
    /// The system refuses its path, or to read it.
    #[error("{0}: {1}")]
    Path(String, io::Error),
    /// It is too long.
    #[error("{0}: {1} bytes; expected at most {MAX_BYTES}")]
    TooLarge(String, u64),
    /// It cannot be read; the error names where it lies.
    #[error("{0}")]
    Text(FileError),
}

/// A filesystem root; `/` is this host's.
///
/// A recorded one is somebody's folder: it is opened once, and no link in it leads out of it, an absolute one neither.  What is
/// judged is what was opened, so that nothing can be put into a file's place meanwhile.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    base: PathBuf,
    /// The folder of a recorded tree; None for this host, where links lead anywhere.
    recorded: Option<Arc<io::Result<Inside>>>,
}

impl Tree {
    /// The tree at `base`.
    pub(crate) fn new(base: &Path) -> Self {
        let is_this_host = base == Path::new("/");
        Self {
            base: base.to_owned(),
            recorded: (!is_this_host).then(|| Arc::new(Inside::open(base))),
        }
    }

    /// By what a recorded tree is read; None for this host.
    ///
    /// # Errors
    /// The tree cannot be opened.
    fn inside(&self) -> io::Result<Option<&Inside>> {
        let Some(recorded) = &self.recorded else {
            return Ok(None);
        };
        match recorded.as_ref() {
            Ok(inside) => Ok(Some(inside)),
            Err(error) => Err(error.kind().into()),
        }
    }

    /// What an absolute path leads to, or is itself, a link as a link, unless it `follows`.
    fn metadata(&self, absolute: &str, follows: bool) -> io::Result<Metadata> {
        match self.inside()? {
            Some(inside) => inside.metadata(absolute, follows),
            None if follows => fs::metadata(absolute),
            None => fs::symlink_metadata(absolute),
        }
    }

    /// Whether there is something at an absolute path.
    pub(crate) fn exists(&self, absolute: &str) -> bool {
        self.metadata(absolute, true).is_ok()
    }

    /// Whether two absolute paths lead to one file.
    pub(crate) fn are_one(&self, one: &str, other: &str) -> bool {
        let file = |path| {
            let meta = self.metadata(path, true).ok()?;
            Some((meta.dev(), meta.ino()))
        };
        one == other || file(one).is_some_and(|own| Some(own) == file(other))
    }

    /// Whether an absolute path leads to the same file in another tree.
    pub(crate) fn shares(&self, other: &Self, absolute: &str) -> bool {
        let file = |tree: &Self| {
            let meta = tree.metadata(absolute, true).ok()?;
            Some((meta.dev(), meta.ino()))
        };
        file(self).is_some_and(|own| Some(own) == file(other))
    }

    /// Whether it is this host's own.
    pub(crate) fn is_this_host(&self) -> bool {
        self.recorded.is_none()
    }

    /// Whether a folder that is there has nothing of that name, not even a link that leads nowhere.
    pub(crate) fn lacks(&self, absolute: &str) -> bool {
        let Some((folder, _)) = absolute.rsplit_once('/') else {
            return false;
        };
        self.exists(folder) && self.metadata(absolute, false).is_err()
    }

    /// The bytes of a regular file.
    ///
    /// # Errors
    /// The file, and why it cannot be read.
    fn read_bytes(&self, absolute: &str) -> Result<Vec<u8>, TreeError> {
        let path = Path::new(absolute);
        let failed = |error: io::Error| {
            if error.kind() == io::ErrorKind::NotFound {
                TreeError::Missing(absolute.to_owned())
            } else {
                TreeError::Path(absolute.to_owned(), error)
            }
        };
        let read = match self.inside().map_err(failed)? {
            Some(inside) => {
                let file = inside.open_file(absolute, true).map_err(failed)?;
                read_opened(file, path, MAX_BYTES)
            }
            None => read_regular(path, MAX_BYTES),
        };
        read.map_err(|error| match error {
            FileError::NotRegular(_) => TreeError::NotRegular(absolute.to_owned()),
            FileError::TooLarge { size, .. } => TreeError::TooLarge(absolute.to_owned(), size),
            FileError::Io { error, .. } => failed(error),
            FileError::NotRoots { .. } | FileError::UsersLink { .. } | FileError::NotText(_) => {
                TreeError::Text(error)
            }
        })
    }

    /// The text of a regular file.  Bytes that are not UTF-8 become U+FFFD: Slurm reads bytes, and a name in Latin-1 is one to it.
    ///
    /// # Errors
    /// The file, and why it cannot be read.
    pub(crate) fn read(&self, absolute: &str) -> Result<String, TreeError> {
        let bytes = self.read_bytes(absolute)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The text of a small file, trimmed; None where it cannot be read.
    pub(crate) fn text(&self, absolute: &str) -> Option<String> {
        Some(self.read(absolute).ok()?.trim().to_owned())
    }

    /// The bytes of a small file; None where it cannot be read.
    pub(crate) fn bytes(&self, absolute: &str) -> Option<Vec<u8>> {
        self.read_bytes(absolute).ok()
    }

    /// The first names in a directory, as the system orders them.
    fn names(&self, absolute: &str, most: usize) -> io::Result<Box<dyn Iterator<Item = String>>> {
        Ok(match self.inside()? {
            Some(inside) => Box::new(inside.names(absolute)?.take(most)),
            None => {
                let entries = fs::read_dir(absolute)?.take(most);
                Box::new(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()))
            }
        })
    }

    /// The names in a directory, sorted; empty where there is no directory.
    pub(crate) fn entries(&self, absolute: &str) -> Vec<String> {
        let names = self.names(absolute, MAX_ENTRIES).ok();
        let mut names: Vec<String> = names.into_iter().flatten().collect();
        names.sort_unstable();
        names
    }

    /// The ids of the processes in `/proc`, ascending: all of them, for anybody can start some with lower ids than a daemon's.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let names = self.names("/proc", MAX_PROCESSES).ok();
        let mut processes: Vec<u32> = names
            .into_iter()
            .flatten()
            .filter_map(|name| name.parse().ok())
            .collect();
        processes.sort_unstable();
        processes
    }

    /// The last part of the path that the link at an absolute path leads to; None where there is no link.
    pub(crate) fn link_name(&self, absolute: &str) -> Option<String> {
        let target = match self.inside().ok()? {
            Some(inside) => inside.link(absolute),
            None => fs::read_link(absolute),
        };
        Some(target.ok()?.file_name()?.to_str()?.to_owned())
    }

    /// The tree's own path.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    /// The only open that a read makes keeps to the tree: there is no check before it whose answer could become wrong.
    #[test]
    fn no_link_of_a_recorded_tree_leads_out_of_it() {
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        fs::write(&secret, "secret\n").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        fs::create_dir_all(base.join("etc/real")).unwrap();
        fs::write(base.join("etc/real/file"), "inside\n").unwrap();
        let up = format!("{}{}", "../".repeat(20), secret.display());
        let places = [
            ("absolute", secret.to_str().unwrap()),
            ("up", &up),
            ("folder", outside.path().to_str().unwrap()),
        ];
        for (name, target) in places {
            symlink(target, base.join("etc").join(name)).unwrap();
        }
        let tree = Tree::new(base);
        for path in ["/etc/absolute", "/etc/up", "/etc/folder/secret"] {
            assert!(
                matches!(tree.read(path), Err(TreeError::Missing(_))),
                "{path}"
            );
            assert!(!tree.exists(path) && tree.bytes(path).is_none(), "{path}");
        }
        assert!(tree.entries("/etc/folder").is_empty());
        assert_eq!(tree.link_name("/etc/folder/secret"), None);
        assert!(!tree.lacks("/etc/absolute") && tree.lacks("/etc/other"));
        // Where the tree has that path itself, it is what is read.
        let own = base.join(secret.strip_prefix("/").unwrap());
        fs::create_dir_all(own.parent().unwrap()).unwrap();
        fs::write(&own, "inside\n").unwrap();
        for path in ["/etc/absolute", "/etc/up", "/etc/folder/secret"] {
            assert_eq!(tree.text(path).as_deref(), Some("inside"), "{path}");
        }
        assert_eq!(tree.entries("/etc/folder"), ["secret"]);
        assert!(tree.are_one("/etc/absolute", "/etc/up"));
        assert!(!tree.are_one("/etc/absolute", "/etc/real/file"));
        // The folder was opened once: another in its place is not looked at.
        let moved = base.with_extension("moved");
        fs::rename(base, &moved).unwrap();
        symlink(outside.path(), base).unwrap();
        assert_eq!(tree.text("/etc/real/file").as_deref(), Some("inside"));
        assert!(!tree.exists("/secret"));
        fs::remove_file(base).unwrap();
        fs::rename(&moved, base).unwrap();
    }

    #[test]
    fn what_is_no_file_of_a_recorded_tree_is_told_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        let made = Command::new("mkfifo").arg(base.join("fifo")).status();
        assert!(made.unwrap().success());
        symlink("fifo", base.join("link")).unwrap();
        let tree = Tree::new(base);
        for path in ["/fifo", "/link", "/"] {
            assert!(
                matches!(tree.read(path), Err(TreeError::NotRegular(_))),
                "{path}"
            );
        }
        let none = Tree::new(&base.join("none"));
        assert!(matches!(none.read("/x"), Err(TreeError::Missing(_))));
        assert!(none.entries("/").is_empty() && !none.exists("/"));
    }

    #[test]
    fn links_of_this_host_lead_where_they_lead() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "text\n").unwrap();
        let link = folder.path().join("link");
        symlink(&file, &link).unwrap();
        let tree = Tree::new(Path::new("/"));
        let link = link.to_str().unwrap();
        assert_eq!(tree.text(link).as_deref(), Some("text"));
        assert!(tree.are_one(link, file.to_str().unwrap()));
        assert_eq!(tree.link_name(link).as_deref(), Some("file"));
    }
}
