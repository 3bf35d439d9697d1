//! A table of counters in a file of root's: processes add to it without a lock, and others read it.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rustix::fs::{OFlags, fstatfs};

use super::file::{FileError, READING, open_roots};
use super::shared::SharedWords;
use crate::errno::Errno;

/// How large a table's file is: one page of the smallest kind, so that it is there whole or not at all.
const BYTES: usize = 4096;
/// Words before the first counter.
const HEAD: usize = 2;
/// What a table begins with ("gnbcount").
const MAGIC: u64 = 0x676e_6263_6f75_6e74;
/// The file systems whose files are memory (`linux/magic.h`).
const MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Why a table is not used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It is not there, or others could have written it.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not of its size, or not all of it has been written.
    #[error("{}: {size} bytes, {blocks} of them there; expected {BYTES}", path.display())]
    Size {
        /// The table.
        path: PathBuf,
        /// How long it is.
        size: u64,
        /// How much of it the file system has.
        blocks: u64,
    },
    /// It is on a disk or the network, where a write may wait or fail.
    #[error("{}: not in memory; expected tmpfs", .0.display())]
    NotMemory(PathBuf),
    /// It is a table of other figures, such as those of another release.
    #[error("{}: counts other figures than this release", .0.display())]
    Layout(PathBuf),
    /// The kernel does not map it.
    #[error("{}: {error}", path.display())]
    Map {
        /// The table.
        path: PathBuf,
        /// What the kernel says.
        error: Errno,
    },
    /// It cannot be made.
    #[error("{}: {error}", path.display())]
    Make {
        /// The table.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl TableError {
    /// Whether there is none, which is a choice and no fault.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::File(FileError::Io { error, .. }) => error.kind() == io::ErrorKind::NotFound,
            Self::File(_)
            | Self::Size { .. }
            | Self::NotMemory(_)
            | Self::Layout(_)
            | Self::Map { .. }
            | Self::Make { .. } => false,
        }
    }
}

/// Whether something is at `path`, whatever it is.
pub fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Adds `counts` to the counters of the table at `path`, in their order.
///
/// Each is added in one step, so that processes that add at once lose nothing.  Nothing is waited for: the file is memory
/// and all of it is there.  (Root alone could take that away in the microseconds between the look and the last addition.)
///
/// # Errors
/// [`TableError`] by what is wrong; then nothing was added.
pub fn add(path: &Path, layout: u64, counts: &[u64]) -> Result<(), TableError> {
    let words = open_table(path, READING | OFlags::RDWR)?;
    let own = own_words(path, &words, layout, counts.len())?;
    for (word, count) in own.iter().zip(counts) {
        if *count > 0 {
            word.fetch_add(*count, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// The counters of the table at `path`.
///
/// # Errors
/// [`TableError`] by what is wrong.
pub fn read(path: &Path, layout: u64, count: usize) -> Result<Vec<u64>, TableError> {
    let (mut file, meta) = open_roots(path, READING)?;
    check(path, &file, &meta)?;
    let mut bytes = Vec::with_capacity(BYTES);
    let read = io::Read::read_to_end(&mut io::Read::take(&mut file, BYTES as u64), &mut bytes);
    read.map_err(|error| FileError::Io {
        path: path.to_owned(),
        error,
    })?;
    let words: Vec<u64> = bytes
        .chunks_exact(8)
        .filter_map(|chunk| Some(u64::from_ne_bytes(chunk.try_into().ok()?)))
        .collect();
    match words.split_at_checked(HEAD) {
        Some((head, rest)) if *head == [MAGIC, layout] && rest.len() >= count => {
            Ok(rest.iter().take(count).copied().collect())
        }
        Some(_) | None => Err(TableError::Layout(path.to_owned())),
    }
}

/// Puts a table of zeros at `path`, in the place of what is there.
///
/// # Errors
/// [`TableError`] by what is wrong.
pub fn make(path: &Path, layout: u64) -> Result<(), TableError> {
    let mut bytes = Vec::with_capacity(BYTES);
    for word in [MAGIC, layout] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.resize(BYTES, 0);
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let made = write_new(&new, &bytes).and_then(|is_in_memory| {
        if is_in_memory {
            fs::rename(&new, path)?;
        }
        Ok(is_in_memory)
    });
    if let Ok(true) = made {
        return Ok(());
    }
    // The first error is the one to report.
    let _ = fs::remove_file(&new);
    Err(match made {
        Ok(_) => TableError::NotMemory(path.to_owned()),
        Err(error) => TableError::Make {
            path: path.to_owned(),
            error,
        },
    })
}

/// Writes a new file, and says whether it is in memory.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)?;
    // Whatever the umask: monitoring may run as any user.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    Ok(is_in_memory(&file))
}

fn open_table(path: &Path, flags: OFlags) -> Result<SharedWords, TableError> {
    let (file, meta) = open_roots(path, flags)?;
    check(path, &file, &meta)?;
    let words = SharedWords::map_file(&file, BYTES / size_of::<u32>());
    words.map_err(|error| TableError::Map {
        path: path.to_owned(),
        error,
    })
}

fn check(path: &Path, file: &File, meta: &Metadata) -> Result<(), TableError> {
    let (size, blocks) = (meta.len(), meta.blocks().saturating_mul(512));
    // A page that is not there yet would have to be found when it is written, and a full file system ends who writes it.
    if size != BYTES as u64 || blocks < BYTES as u64 {
        return Err(TableError::Size {
            path: path.to_owned(),
            size,
            blocks,
        });
    }
    is_in_memory(file)
        .then_some(())
        .ok_or_else(|| TableError::NotMemory(path.to_owned()))
}

fn is_in_memory(file: &File) -> bool {
    let kind = fstatfs(file).map(|stat| u64::try_from(stat.f_type).unwrap_or(0));
    kind.is_ok_and(|kind| MEMORY.contains(&(kind & 0xffff_ffff)))
}

fn own_words<'w>(
    path: &Path,
    words: &'w SharedWords,
    layout: u64,
    count: usize,
) -> Result<&'w [std::sync::atomic::AtomicU64], TableError> {
    let wrong = || TableError::Layout(path.to_owned());
    let (head, rest) = words
        .wide_words()
        .split_at_checked(HEAD)
        .ok_or_else(wrong)?;
    let is_own = head
        .iter()
        .zip([MAGIC, layout])
        .all(|(word, own)| word.load(Ordering::Relaxed) == own);
    rest.get(..count).filter(|_| is_own).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A folder in memory that only root can write.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    fn is_root() -> bool {
        super::super::process::effective_user() == 0
    }

    fn assert_not_roots(result: Result<(), TableError>) {
        let error = result.unwrap_err();
        assert!(
            matches!(error, TableError::File(FileError::NotRoots { .. })),
            "{error}"
        );
    }

    #[test]
    fn what_is_added_at_once_is_all_there() {
        let folder = folder();
        let path = folder.path().join("metrics");
        if !is_root() {
            make(&path, 7).unwrap();
            assert_not_roots(add(&path, 7, &[1]));
            return;
        }
        assert!(add(&path, 7, &[1]).unwrap_err().is_missing());
        make(&path, 7).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|_| add(&path, 7, &[1, 0, 3]).unwrap()));
            }
        });
        assert_eq!(read(&path, 7, 3).unwrap(), [2000, 0, 6000]);
        assert!(matches!(read(&path, 8, 3), Err(TableError::Layout(_))));
        assert!(matches!(add(&path, 8, &[1]), Err(TableError::Layout(_))));
        assert!(matches!(
            add(&path, 7, &[1; 600]),
            Err(TableError::Layout(_))
        ));
    }

    #[test]
    fn a_file_that_is_no_table_is_not_touched() {
        let folder = folder();
        let path = folder.path().join("metrics");
        if !is_root() {
            make(&path, 7).unwrap();
            assert_not_roots(read(&path, 7, 1).map(drop));
            return;
        }
        let file = File::create(&path).unwrap();
        file.set_len(BYTES as u64).unwrap();
        // All of it is a hole, which a full file system could not fill.
        assert!(matches!(add(&path, 7, &[1]), Err(TableError::Size { .. })));
        make(&path, 7).unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(100)
            .unwrap();
        assert!(matches!(add(&path, 7, &[1]), Err(TableError::Size { .. })));
        make(&path, 7).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        assert_not_roots(add(&path, 7, &[1]));
        let link = folder.path().join("link");
        make(&path, 7).unwrap();
        symlink(&path, &link).unwrap();
        assert!(matches!(
            add(&link, 7, &[1]),
            Err(TableError::File(FileError::Io { .. }))
        ));
        assert_eq!(read(&path, 7, 1).unwrap(), [0]);
    }
}
