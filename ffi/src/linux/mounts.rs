//! What is mounted where, as the kernel tells without asking any file system.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// What is known of a file system by its type: whether a process that uses it can come to wait for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// On this host's own memory or disks, by the kernel itself.
    Always,
    /// Over a network, by the kernel itself; a process that waits for it can be killed.
    UnlessKilled,
    /// Over a network, by the kernel itself; a process that waits for it may not be killed before its own time is up.
    Late,
    /// By a process (FUSE), or by a type that is not in the table: it may never answer, and a kill may not help.
    Perhaps,
}

/// File system types, as `/proc/self/mountinfo` names them.
///
/// Linux 6.12: `TASK_KILLABLE` in `fs/nfs`, `fs/smb`, `fs/ceph`, `net/9p`; `request_wait_answer` of `fs/fuse/dev.c` waits
/// for a request that its process has read, whatever signal comes.  The others by their own documentation.
const TYPES: [(Answers, &str); 3] = [
    (
        Answers::Always,
        "bcachefs btrfs cramfs erofs exfat ext2 ext3 ext4 f2fs iso9660 jfs nilfs2 overlay ramfs reiserfs rootfs squashfs \
         tmpfs vfat xfs zfs",
    ),
    (Answers::UnlessKilled, "9p afs ceph cifs nfs nfs4 smb3"),
    (Answers::Late, "beegfs gpfs lustre orangefs panfs wekafs"),
];

/// A mounted file system, by its line of `/proc/self/mountinfo` (proc(5)):
/// `36 35 98:0 /root /at options tags... - type source options`, with `\040` for a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount<'t> {
    at: Cow<'t, [u8]>,
    device: &'t [u8],
    /// What stands behind `at`.
    rest: &'t [u8],
}

impl<'t> Mount<'t> {
    fn parse(line: &'t [u8]) -> Option<Self> {
        let mut words = line.splitn(6, |byte| *byte == b' ');
        let device = words.nth(2)?;
        let at = words.nth(1)?;
        let rest = words.next()?;
        Some(Self {
            at: unescape(at),
            device,
            rest,
        })
    }

    /// Where.
    pub fn at(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.at))
    }

    /// Whether it is the same file system, which may be mounted several times.
    pub fn is_same(&self, other: &Self) -> bool {
        self.device == other.device
    }

    /// Its type (`nfs4`, `fuse.sshfs`).
    pub fn kind(&self) -> String {
        let words = self.rest.split(|byte| *byte == b' ');
        let kind = words.skip_while(|word| *word != b"-").nth(1);
        String::from_utf8_lossy(kind.unwrap_or_default()).into_owned()
    }

    /// Whether it answers, by its type.
    pub fn answers(&self) -> Answers {
        let kind = self.kind();
        let is_in = |(_, names): &&(Answers, &str)| names.split(' ').any(|name| name == kind);
        TYPES
            .iter()
            .find(is_in)
            .map_or(Answers::Perhaps, |(answers, _)| *answers)
    }
}

/// `/proc/self/mountinfo`; empty where `/proc` is not there.
pub fn read_mountinfo() -> Vec<u8> {
    std::fs::read("/proc/self/mountinfo").unwrap_or_default()
}

/// Whether there is something at `path` below `root`, the root folder of a process, which is at `top` among `mounts` and which its user
/// may have chosen: no link is followed.  None where that is not known without waiting for a file system that may never answer.
pub fn is_there(mounts: &Mounts<'_>, root: &Path, top: &Path, path: &Path) -> Option<bool> {
    let below = path.strip_prefix("/").ok()?;
    let mount = mounts.of(&top.join(below))?;
    // The kernel's own, of which nothing else is read.
    if mount.answers() != Answers::Always && mount.kind() != "devtmpfs" {
        return None;
    }
    let look = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, look, Mode::empty()).ok()?;
    let flags = look | OFlags::NOFOLLOW;
    match openat2(
        &root,
        below,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    ) {
        Ok(_) => Some(true),
        Err(Errno::NOENT | Errno::NOTDIR) => Some(false),
        Err(_) => None,
    }
}

/// The mounts that a process sees, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Mounts<'t>(Vec<Mount<'t>>);

impl<'t> Mounts<'t> {
    /// The lines of `mountinfo`; what is no such line is passed over.
    pub fn parse(text: &'t [u8]) -> Self {
        let lines = text.split(|byte| *byte == b'\n');
        Self(lines.filter_map(Mount::parse).collect())
    }

    /// What is mounted right at `path`, the last if there are several.
    pub fn at(&self, path: &Path) -> Option<&Mount<'t>> {
        let path = path.as_os_str().as_bytes();
        self.0.iter().rev().find(|mount| *mount.at == *path)
    }

    /// The mount that `path` lies in, by its folders' names; no link is followed.
    pub fn of(&self, path: &Path) -> Option<&Mount<'t>> {
        path.ancestors().find_map(|folder| self.at(folder))
    }
}

fn unescape(word: &[u8]) -> Cow<'_, [u8]> {
    if !word.contains(&b'\\') {
        return Cow::Borrowed(word);
    }
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\')
            .then(|| std::str::from_utf8(after.get(..3)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.unwrap_or(*first));
        rest = after
            .get(if code.is_some() { 3 } else { 0 }..)
            .unwrap_or_default();
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &[u8] = b"21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
        30 21 0:40 / /home rw - nfs4 server:/home rw\n\
        31 30 0:41 / /home/a\\040b rw shared:2 master:3 - fuse.sshfs host: rw\n\
        32 21 0:42 / /home rw - lustre x rw\n\
        nonsense\n";

    #[test]
    fn the_last_mount_on_the_way_counts() {
        let mounts = Mounts::parse(INFO);
        let kind = |path| mounts.of(Path::new(path)).map(Mount::kind);
        assert_eq!(kind("/etc/nccl.conf"), Some("ext4".to_owned()));
        assert_eq!(kind("/home/anna/.nccl.conf"), Some("lustre".to_owned()));
        assert_eq!(kind("/home/a b/x"), Some("fuse.sshfs".to_owned()));
        assert_eq!(kind("relative"), None);
        assert_eq!(mounts.at(Path::new("/etc")), None);
    }

    #[test]
    fn types_tell_whether_they_answer() {
        let mounts = Mounts::parse(INFO);
        let answers = |path| mounts.of(Path::new(path)).unwrap().answers();
        assert_eq!(answers("/"), Answers::Always);
        assert_eq!(answers("/home"), Answers::Late);
        assert_eq!(answers("/home/a b"), Answers::Perhaps);
    }

    #[test]
    fn of_what_may_never_answer_nothing_is_looked_for_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("home/a b")).unwrap();
        std::fs::create_dir(root.join("dev")).unwrap();
        for file in ["home/a b/x", "dev/x"] {
            std::fs::write(root.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("dev", root.join("link")).unwrap();
        let mounts = Mounts::parse(INFO);
        let top = Path::new("/");
        let look = |path| is_there(&mounts, root, top, Path::new(path));
        assert_eq!((look("/dev/x"), look("/dev/y")), (Some(true), Some(false)));
        assert_eq!(look("/no/x"), Some(false));
        assert_eq!((look("/home/a b/x"), look("/home/x")), (None, None));
        assert_eq!((look("/link/x"), look("/link")), (None, Some(true)));
        let devices = Mounts::parse(b"21 1 0:5 / /dev rw - devtmpfs udev rw\n");
        let look = |top, path| is_there(&devices, root, Path::new(top), Path::new(path));
        assert_eq!(look("/", "/dev/x"), Some(true));
        assert_eq!(look("/", "/home/x"), None);
        // Another root, in a mount that its own process does not see.
        assert_eq!(look("/dev/shm/root", "/dev/x"), Some(true));
    }

    #[test]
    fn this_process_has_mounts() {
        assert!(
            Mounts::parse(&read_mountinfo())
                .of(Path::new("/"))
                .is_some()
        );
    }
}
