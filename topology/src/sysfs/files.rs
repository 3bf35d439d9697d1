//! Bounded reads of small text files under a root that need not be trusted.
//!
//! Below `/` every path is the kernel's own.  Any other root is somebody's folder, and is read [inside](Inside).

use std::fs::{self, FileType, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, open, statat};

use super::inside::Inside;
use crate::set::{IndexSet, MAX_INDEX};

/// What is read of one file at most; sysfs gives at most a page but for a few lists.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Entries taken from one directory at most; VF-rich machines have some ten thousand PCI functions.
const MAX_ENTRIES: usize = 32 * 1024;

/// A filesystem root to read from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Root<'a>(pub(super) &'a Path);

impl Root<'_> {
    fn is_this_host(self) -> bool {
        self.0 == Path::new("/")
    }

    /// A path of this host's, in one block of memory: a launch makes some twenty.
    fn on_this_host(relative: &str) -> PathBuf {
        let mut path = String::with_capacity(1 + relative.len());
        path.push('/');
        path.push_str(relative);
        PathBuf::from(path)
    }

    /// A recorded root; none where it cannot be opened.
    fn inside(self) -> Option<Inside> {
        Inside::open(self.0).ok()
    }

    /// What `relative` leads to, or is itself, a link as a link, unless it `follows`; none where nothing is there.
    fn metadata(self, relative: &str, follows: bool) -> Option<Metadata> {
        if self.is_this_host() {
            let path = Self::on_this_host(relative);
            let found = if follows {
                fs::metadata(path)
            } else {
                fs::symlink_metadata(path)
            };
            return found.ok();
        }
        self.inside()?.metadata(relative, follows).ok()
    }

    /// Whether `relative` leads to a folder.
    pub(super) fn is_dir(self, relative: &str) -> bool {
        let found = self.metadata(relative, true);
        found.is_some_and(|found| found.is_dir())
    }

    /// What is at `relative` itself, a link as a link; none where nothing is there.
    pub(super) fn kind(self, relative: &str) -> Option<FileType> {
        let found = self.metadata(relative, false);
        found.map(|found| found.file_type())
    }

    /// Which of `names` are in a folder, a link as a link.
    ///
    /// The folder is opened once: from the root each name would be a walk of its own, which takes longer than the rest.
    pub(super) fn which_are_in(self, folder: &str, names: &[String]) -> Vec<bool> {
        if !self.is_this_host() {
            let is_in = |name| self.kind(&format!("{folder}/{name}")).is_some();
            return names.iter().map(is_in).collect();
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(Self::on_this_host(folder), flags, Mode::empty());
        let is_in = |name: &String| {
            let folder = folder.as_ref().ok()?;
            statat(folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).ok()
        };
        names.iter().map(|name| is_in(name).is_some()).collect()
    }

    /// The text of a link, wherever it leads.
    pub(super) fn link(self, relative: &str) -> Option<PathBuf> {
        if self.is_this_host() {
            return fs::read_link(Self::on_this_host(relative)).ok();
        }
        self.inside()?.link(relative).ok()
    }

    /// The text of a regular file, trimmed; none for anything else, so that no FIFO can block.
    pub(super) fn text(self, relative: &str) -> Option<String> {
        self.text_up_to(relative, MAX_FILE_BYTES)
    }

    /// The first `limit` bytes of a regular file as text, trimmed.
    pub(super) fn text_up_to(self, relative: &str, limit: u64) -> Option<String> {
        let bytes = self.bytes_up_to(relative, limit)?;
        // Some arm64 kernels end their lists with a NUL.
        let text = String::from_utf8_lossy(&bytes);
        Some(
            text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
                .to_owned(),
        )
    }

    /// The first `limit` bytes of a regular file; none for anything else.
    pub(super) fn bytes_up_to(self, relative: &str, limit: u64) -> Option<Vec<u8>> {
        // What it is, is asked of what was opened: a tree's owner may put a FIFO or a link there in between.
        let file = if self.is_this_host() {
            OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(Self::on_this_host(relative))
                .ok()?
        } else {
            self.inside()?.open_file(relative, false).ok()?
        };
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        // Most are shorter, and without room to read into, the first reads ask for very little.
        let mut bytes = Vec::with_capacity(512);
        file.take(limit).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// A number in decimal.
    pub(super) fn number<T: std::str::FromStr>(self, relative: &str) -> Option<T> {
        self.text(relative)?.parse().ok()
    }

    /// A number in hex, with or without `0x`.
    pub(super) fn hex(self, relative: &str) -> Option<u32> {
        let text = self.text(relative)?;
        u32::from_str_radix(text.strip_prefix("0x").unwrap_or(&text), 16).ok()
    }

    /// A set from a list file, or failing that from a hex mask file.
    pub(super) fn set<K>(self, list: &str, mask: &str) -> Option<IndexSet<K>> {
        self.text(list)
            .and_then(|text| text.parse().ok())
            .or_else(|| parse_mask(&self.text(mask)?))
    }

    /// The names in a directory, sorted; empty when there is none.
    pub(super) fn entries(self, relative: &str) -> Vec<String> {
        let names = if self.is_this_host() {
            names_at(&Self::on_this_host(relative))
        } else {
            self.names_inside(relative)
        };
        let mut names = names.unwrap_or_default();
        names.sort_unstable();
        names
    }

    fn names_inside(self, relative: &str) -> Option<Vec<String>> {
        let names = self.inside()?.names(relative).ok()?;
        Some(names.take(MAX_ENTRIES).collect())
    }

    /// The numbers N of the names `prefixN` in a directory, ascending.
    pub(super) fn numbered(self, relative: &str, prefix: &str) -> Vec<u32> {
        let mut numbers: Vec<_> = self
            .entries(relative)
            .iter()
            .filter_map(|name| parse_number(name.strip_prefix(prefix)?))
            .collect();
        numbers.sort_unstable();
        numbers
    }
}

fn names_at(folder: &Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(folder).ok()?.take(MAX_ENTRIES);
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Some(names.collect())
}

/// A set index in plain decimal digits.
fn parse_number(digits: &str) -> Option<u32> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| *number <= MAX_INDEX)
}

/// A set from the kernel's mask format: hex words of at most 32 bits, highest first, joined by commas.
///
/// Absent when the text is none.
pub fn parse_mask<K>(text: &str) -> Option<IndexSet<K>> {
    let mut set = IndexSet::new();
    let mut base = 0u32;
    for word in text.trim().rsplit(',') {
        let word = word.trim();
        let digits = word.strip_prefix("0x").unwrap_or(word);
        if digits.is_empty() || digits.len() > 8 || base > MAX_INDEX {
            return None;
        }
        let bits = u32::from_str_radix(digits, 16).ok()?;
        for bit in 0..32 {
            if bits >> bit & 1 == 1 {
                set.insert(base + bit);
            }
        }
        base += 32;
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::set::CpuSet;

    #[test]
    fn masks_are_read_from_the_right() {
        let set: CpuSet = parse_mask("00000001,0000000f").unwrap();
        assert_eq!(set.to_string(), "0-3,32");
        assert_eq!(parse_mask::<crate::set::Cpu>("ff").unwrap().len(), 8);
    }

    #[test]
    fn what_is_no_mask_is_none() {
        for text in ["", "g", "123456789", "1,,2", "-1"] {
            assert!(
                parse_mask::<crate::set::Cpu>(text).is_none(),
                "{text} was taken"
            );
        }
        assert!(parse_mask::<crate::set::Cpu>(&"0,".repeat(9000)).is_none());
    }

    #[test]
    fn a_directory_or_a_link_is_no_text() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "1\n").unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        let root = Root(dir.path());
        assert_eq!(root.text("file").as_deref(), Some("1"));
        assert_eq!(root.text("link"), None);
        assert_eq!(root.text("."), None);
    }

    #[test]
    fn no_link_of_a_recorded_root_leads_out_of_it() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("file"), "secret\n").unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/file"), "1\n").unwrap();
        for (target, name) in [
            (outside.path(), "a/out"),
            (Path::new("b"), "a/in"),
            (Path::new("../../../../../../../../a/b"), "a/up"),
            (Path::new("/a/b"), "a/absolute"),
        ] {
            std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
        }
        let root = Root(dir.path());
        assert_eq!(root.text("a/out/file"), None);
        assert!(root.entries("a/out").is_empty() && !root.is_dir("a/out"));
        assert_eq!(root.link("a/out").as_deref(), Some(outside.path()));
        assert!(root.kind("a/out").unwrap().is_symlink());
        for inside in ["a/in", "a/up", "a/absolute", "a/b"] {
            assert_eq!(root.text(&format!("{inside}/file")).as_deref(), Some("1"));
            assert_eq!(root.entries(inside), ["file"]);
            assert!(root.is_dir(inside), "{inside}");
        }
        assert_eq!(root.text("../file"), None);
    }
}
