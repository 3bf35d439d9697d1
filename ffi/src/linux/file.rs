//! Files that root, or a task, reads without trusting who wrote them.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, StatVfsMountFlags, fstatvfs, statvfs};
use rustix::io::Errno;

use super::process::effective_user;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system says no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or its folder.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A folder, FIFO, device or socket.
    #[error("{}: not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// Larger than any real one.
    #[error("{}: {size} bytes; expected at most {limit}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A user other than root (or the process's own, where that is enough) can write it.
    #[error("{}: must be owned by root and writable only by root (owner {owner}, mode {mode:o})", path.display())]
    NotRoots {
        /// The file or its folder.
        path: PathBuf,
        /// Owner.
        owner: u32,
        /// Permission bits.
        mode: u32,
    },
    /// A link on the way to a file that root is to write, which another user made.
    #[error("{}: a link of user {owner}'s; as root only root's own links are followed", path.display())]
    UsersLink {
        /// The link.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Not UTF-8.
    #[error("{}: not text", .0.display())]
    NotText(PathBuf),
}

/// Reads a text file that only root can have written: regular, no link, at most `limit` bytes, it and
/// its folder owned by root and writable only by root.  Does not block on a FIFO.
///
/// # Errors
/// [`FileError`] by what is wrong.
pub fn read_roots_text(path: &Path, limit: u64) -> Result<String, FileError> {
    let (file, meta) = open_roots(path, READING)?;
    read_bounded(file, &meta, path, limit)
}

/// Bytes of a file that are in memory at a time: a page, each of which costs a new process more than a system call.
const PIECE: usize = 4096;

/// Hands on, piece by piece, a file that only root can have written, by the rules of [`read_roots_text`]; what it holds may
/// be no text.
///
/// # Errors
/// [`FileError`] by what is wrong, maybe when some of it was handed on.
pub fn read_roots_pieces(
    path: &Path,
    limit: u64,
    mut take: impl FnMut(&[u8]),
) -> Result<(), FileError> {
    let (file, meta) = open_roots(path, READING)?;
    let too_large = |size| FileError::TooLarge {
        path: path.to_owned(),
        size,
        limit,
    };
    if meta.len() > limit {
        return Err(too_large(meta.len()));
    }
    let mut piece = Vec::new();
    piece
        .try_reserve_exact(PIECE)
        .map_err(|_| io(path, std::io::ErrorKind::OutOfMemory.into()))?;
    let mut size = 0;
    loop {
        piece.clear();
        match rustix::io::read(&file, spare_capacity(&mut piece)) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                size += read as u64;
                if size > limit {
                    return Err(too_large(size));
                }
                take(&piece);
                // What a regular file has is read at once; it may grow meanwhile.
                if read < piece.capacity() && size >= meta.len() {
                    return Ok(());
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(io(path, error.into())),
        }
    }
}

/// Flags for opening what may be a FIFO or a terminal: do not wait for it, do not take it over.
pub const WITHOUT_WAITING: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// The same, and what else a file is opened with to be read, for [`rustix`].
pub(super) const READING: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// Whether `path` is a regular, non-empty file that only root can have written.
pub fn is_roots_file(path: &Path) -> bool {
    roots_file(path).is_some()
}

/// The file at `path`, if it is a regular, non-empty one that only root can have written.
pub fn roots_file(path: &Path) -> Option<FileId> {
    let (_, meta) = open_roots(path, READING).ok()?;
    (meta.len() > 0).then(|| FileId::of(&meta))
}

/// Which file it is, by device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
        }
    }

    /// Whether `path` leads to that very file, without a link.
    pub fn is_at(self, path: &Path) -> bool {
        std::fs::symlink_metadata(path).is_ok_and(|meta| Self::of(&meta) == self)
    }
}

/// Reads a text file of the caller's own user: regular, at most `limit` bytes; links are followed.
///
/// # Errors
/// [`FileError`] by what is wrong.
pub fn read_own_text(path: &Path, limit: u64) -> Result<String, FileError> {
    let (file, meta) = open(path, 0)?;
    read_bounded(file, &meta, path, limit)
}

/// Reads the text of a file that was opened with [`READING`] as `path`: regular, at most `limit` bytes.
pub(super) fn read_opened_text(file: File, path: &Path, limit: u64) -> Result<String, FileError> {
    let (file, meta) = only_regular(path, file)?;
    read_bounded(file, &meta, path, limit)
}

/// Reads a file of `/proc` whose content another user may choose: the first `limit` bytes, and whether that is all.
///
/// # Errors
/// What the kernel answers, such as that the process has ended.
pub fn read_first(path: &Path, limit: usize) -> std::io::Result<(Vec<u8>, bool)> {
    read_first_of(File::open(path)?, limit)
}

/// The same of a file that is open.
///
/// # Errors
/// What the kernel answers.
pub fn read_first_of(file: File, limit: usize) -> std::io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(one_more).read_to_end(&mut bytes)?;
    let is_all = bytes.len() <= limit;
    bytes.truncate(limit);
    Ok((bytes, is_all))
}

/// Reads a regular file of at most `limit` bytes; links are followed, and nothing is waited for.
///
/// # Errors
/// [`FileError`] by what is wrong.
pub fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let (file, meta) = open(path, 0)?;
    read_bytes(file, &meta, path, limit)
}

/// Reads what was opened at `path`, without waiting, if that is a regular file of at most `limit` bytes.
///
/// # Errors
/// [`FileError`] by what is wrong.
pub fn read_opened(file: File, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let (file, meta) = only_regular(path, file)?;
    read_bytes(file, &meta, path, limit)
}

/// Opens a regular file; links are followed, and nothing is waited for.
///
/// # Errors
/// [`FileError`] by what is wrong.
pub fn open_regular(path: &Path) -> Result<File, FileError> {
    open(path, 0).map(|(file, _)| file)
}

/// Reads a text file that only root or the process's own user can have written: regular, no link, at most
/// `limit` bytes.  In a container whose user namespace has no root of the host, a file of an unmapped owner
/// counts where its mount is read-only.
///
/// # Errors
/// [`FileError`] by what is wrong.
pub fn read_trusted_text(path: &Path, limit: u64) -> Result<String, FileError> {
    let (file, meta) = open(path, libc::O_NOFOLLOW)?;
    let owner = meta.uid();
    let is_known = owner == 0 || owner == effective_user();
    let is_mounted_so = owner == unmapped_user() && is_read_only(&file);
    if meta.mode() & 0o022 != 0 || !(is_known || is_mounted_so) {
        return Err(not_trusted(path, &meta));
    }
    read_bounded(file, &meta, path, limit)
}

/// The owner that files of an unmapped user seem to have.
pub(super) fn unmapped_user() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(65_534)
}

fn is_read_only(file: &File) -> bool {
    fstatvfs(file).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// The size in bytes of the file system that holds `path`, used or not (statvfs(3)).
///
/// # Errors
/// What the kernel answers, such as that there is no such path.
pub fn file_system_bytes(path: &Path) -> std::io::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}

pub(super) fn not_trusted(path: &Path, meta: &Metadata) -> FileError {
    FileError::NotRoots {
        path: path.to_owned(),
        owner: meta.uid(),
        mode: meta.mode() & 0o7777,
    }
}

/// Opens a file in the very folder that was judged: one that is put in the folder's place meanwhile is not looked at.
pub(super) fn open_roots(path: &Path, flags: OFlags) -> Result<(File, Metadata), FileError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(FileError::NotRegular(path.to_owned()));
    };
    let place = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let to_judge = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(place, to_judge, Mode::empty());
    let opened = File::from(opened.map_err(|error| io(folder, error.into()))?);
    let meta = opened.metadata().map_err(|error| io(folder, error))?;
    only_roots(folder, &meta)?;
    let file = rustix::fs::openat(&opened, name, flags | OFlags::NOFOLLOW, Mode::empty());
    let file = File::from(file.map_err(|error| io(path, error.into()))?);
    let (file, meta) = only_regular(path, file)?;
    only_roots(path, &meta)?;
    Ok((file, meta))
}

fn open(path: &Path, flags: i32) -> Result<(File, Metadata), FileError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags | WITHOUT_WAITING)
        .open(path)
        .map_err(|error| io(path, error))?;
    only_regular(path, file)
}

fn only_regular(path: &Path, file: File) -> Result<(File, Metadata), FileError> {
    let meta = file.metadata().map_err(|error| io(path, error))?;
    if !meta.is_file() {
        return Err(FileError::NotRegular(path.to_owned()));
    }
    Ok((file, meta))
}

pub(super) fn only_roots(path: &Path, meta: &Metadata) -> Result<(), FileError> {
    if meta.uid() != 0 || meta.mode() & 0o022 != 0 || meta.is_symlink() {
        return Err(not_trusted(path, meta));
    }
    Ok(())
}

fn read_bounded(file: File, meta: &Metadata, path: &Path, limit: u64) -> Result<String, FileError> {
    let bytes = read_bytes(file, meta, path, limit)?;
    String::from_utf8(bytes).map_err(|_| FileError::NotText(path.to_owned()))
}

fn read_bytes(file: File, meta: &Metadata, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let size = meta.len();
    if size > limit {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
            size,
            limit,
        });
    }
    // One byte more than there should be, so that one read finds the end too; a file of `/proc` has no size.
    let room = usize::try_from(size).unwrap_or(0).max(4095) + 1;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    loop {
        let more = if bytes.is_empty() { room } else { bytes.len() };
        bytes
            .try_reserve_exact(more)
            .map_err(|_| io(path, std::io::ErrorKind::OutOfMemory.into()))?;
        let free = bytes.capacity() - bytes.len();
        match rustix::io::read(&file, spare_capacity(&mut bytes)) {
            Ok(0) => break,
            Ok(read) => {
                // What a regular file has is read at once; the file may grow while it is read.
                let is_whole = size > 0 && read < free && bytes.len() as u64 >= size;
                if bytes.len() >= limit || is_whole {
                    break;
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(io(path, error.into())),
        }
    }
    bytes.truncate(limit);
    Ok(bytes)
}

pub(super) fn io(path: &Path, error: std::io::Error) -> FileError {
    FileError::Io {
        path: path.to_owned(),
        error,
    }
}
