//! What is mounted where, as the kernel tells without asking any file system.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

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
const TYPES: [(Answers, &[&str]); 3] = [
    (
        Answers::Always,
        &[
            "bcachefs", "btrfs", "cramfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs",
            "iso9660", "jfs", "nilfs2", "overlay", "ramfs", "reiserfs", "rootfs", "squashfs",
            "tmpfs", "vfat", "xfs", "zfs",
        ],
    ),
    (
        Answers::UnlessKilled,
        &["9p", "afs", "ceph", "cifs", "nfs", "nfs4", "smb3"],
    ),
    (
        Answers::Late,
        &["beegfs", "gpfs", "lustre", "orangefs", "panfs", "wekafs"],
    ),
];

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub at: PathBuf,
    /// Its device, `major:minor`.
    pub device: String,
    /// Its type (`nfs4`, `fuse.sshfs`).
    pub kind: String,
}

impl Mount {
    /// Whether it answers, by its type.
    pub fn answers(&self) -> Answers {
        let is_in = |(_, names): &&(Answers, &[&str])| names.contains(&self.kind.as_str());
        TYPES
            .iter()
            .find(is_in)
            .map_or(Answers::Perhaps, |(answers, _)| *answers)
    }
}

/// The mounts that a process sees, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Those of this process; none where `/proc` is not there.
    pub fn read() -> Self {
        Self::parse(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    /// Lines of `mountinfo` (proc(5)); others are passed over.
    pub fn parse(text: &[u8]) -> Self {
        let lines = text.split(|byte| *byte == b'\n');
        Self(lines.filter_map(parse_line).collect())
    }

    /// What is mounted right at `path`, the last if there are several.
    pub fn at(&self, path: &Path) -> Option<&Mount> {
        self.0.iter().rev().find(|mount| mount.at == path)
    }

    /// The mount that `path` lies in, by its folders' names; no link is followed.
    pub fn of(&self, path: &Path) -> Option<&Mount> {
        path.ancestors().find_map(|folder| self.at(folder))
    }
}

/// `36 35 98:0 /root /at options tags... - type source options`, with `\040` for a space.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let device = String::from_utf8(words.nth(2)?.to_vec()).ok()?;
    let at = PathBuf::from(OsString::from_vec(unescape(words.nth(1)?)));
    let kind = words.skip_while(|word| *word != b"-").nth(1)?;
    let kind = String::from_utf8(kind.to_vec()).ok()?;
    Some(Mount { at, device, kind })
}

fn unescape(word: &[u8]) -> Vec<u8> {
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
    plain
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
        let kind = |path| mounts.of(Path::new(path)).map(|mount| mount.kind.as_str());
        assert_eq!(kind("/etc/nccl.conf"), Some("ext4"));
        assert_eq!(kind("/home/anna/.nccl.conf"), Some("lustre"));
        assert_eq!(kind("/home/a b/x"), Some("fuse.sshfs"));
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
    fn this_process_has_mounts() {
        assert!(Mounts::read().of(Path::new("/")).is_some());
    }
}
