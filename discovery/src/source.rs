//! What a `--from` path is.

use std::fs;
use std::path::{Path, PathBuf};

use ffi::linux::file::{FileError, read_regular};

use crate::error::DiscoveryError;

/// The largest file that is read.
pub(crate) const MAX_FILE_BYTES: u64 = 64 << 20;

/// Attributes that an element may have, or what looks like them: names are compared with one another.  hwloc's own have some 30.
const MOST_ATTRIBUTES: usize = 512;

/// Where a machine is read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// The machine this runs on.
    #[default]
    ThisMachine,
    /// A directory (a filesystem root), an hwloc XML, an NCCL XML or a snapshot, told apart by content.
    Path(PathBuf),
}

/// What was found at a path.
#[derive(Debug)]
pub(crate) enum Content {
    /// A filesystem root.
    Root,
    /// The text of an hwloc XML.
    HwlocXml(String),
    /// The text of an NCCL topology file.
    NcclXml(String),
    /// A JSON text.
    Json(String),
}

/// Looks what `path` is, and reads it when it is a file.
pub(crate) fn open(path: &Path) -> Result<Content, DiscoveryError> {
    let unreadable = |error| DiscoveryError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        let is_root = path.join("sys").is_dir();
        return if is_root {
            Ok(Content::Root)
        } else {
            Err(DiscoveryError::NoRoot(path.to_owned()))
        };
    }
    let bytes = read_regular(path, MAX_FILE_BYTES).map_err(|error| match error {
        FileError::Io { error, .. } => unreadable(error),
        FileError::TooLarge { limit, .. } => DiscoveryError::TooLarge {
            path: path.to_owned(),
            limit_mib: limit >> 20,
        },
        FileError::NotRegular(_)
        | FileError::NotRoots { .. }
        | FileError::UsersLink { .. }
        | FileError::NotText(_) => DiscoveryError::NoFile(path.to_owned()),
    })?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let content = recognise(text).ok_or_else(|| DiscoveryError::UnknownFormat(path.to_owned()))?;
    match find_crowded(&content) {
        Some(line) => Err(DiscoveryError::TooManyAttributes {
            path: path.to_owned(),
            line,
            most: MOST_ATTRIBUTES,
        }),
        None => Ok(content),
    }
}

/// The line of an XML's first element with too many attributes.
fn find_crowded(content: &Content) -> Option<usize> {
    let (Content::HwlocXml(text) | Content::NcclXml(text)) = content else {
        return None;
    };
    let signs = |piece: &str| piece.bytes().filter(|byte| *byte == b'=').count();
    let mut line = 1;
    for piece in text.split('<') {
        if signs(piece) > MOST_ATTRIBUTES {
            return Some(line);
        }
        line += piece.bytes().filter(|byte| *byte == b'\n').count();
    }
    None
}

/// Tells the formats apart by their first element.
fn recognise(text: String) -> Option<Content> {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    if start.starts_with('{') {
        return Some(Content::Json(text));
    }
    match first_element(start)? {
        "topology" | "root" => Some(Content::HwlocXml(text)),
        "system" => Some(Content::NcclXml(text)),
        _ => None,
    }
}

/// The name of an XML's first element, after declaration, comments and document type.
fn first_element(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let end = if rest.starts_with("<?") {
            rest.find("?>")? + 2
        } else if rest.starts_with("<!--") {
            rest.find("-->")? + 3
        } else if rest.starts_with("<!") {
            rest.find('>')? + 1
        } else {
            let name = rest.strip_prefix('<')?;
            return name.split(|c: char| !c.is_ascii_alphanumeric()).next();
        };
        rest = rest.get(end..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_apart_by_their_first_element() {
        let kind = |text: &str| match recognise(text.to_owned()) {
            Some(Content::HwlocXml(_)) => "hwloc",
            Some(Content::NcclXml(_)) => "nccl",
            Some(Content::Json(_)) => "json",
            Some(Content::Root) | None => "none",
        };
        let declared =
            "<?xml version=\"1.0\"?>\n<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n<topology>";
        assert_eq!(kind(declared), "hwloc");
        assert_eq!(kind("<!-- a > b -->\n<system version=\"1\">"), "nccl");
        assert_eq!(kind("\u{feff} {\"schema\":1}"), "json");
        for text in ["", "<", "<html>", "<!--", "GPU0 GPU1", "<?xml"] {
            assert_eq!(kind(text), "none", "{text}");
        }
    }
}
