//! A folder tree in memory, and where it is written to.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    File(Vec<u8>),
    Link(String),
    Folder,
}

/// A tree of files, links and empty folders by path, without a slash at the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<String, Entry>);

impl Tree {
    /// A file of one line.
    pub(crate) fn line(&mut self, path: String, text: impl std::fmt::Display) {
        self.bytes(path, format!("{text}\n").into_bytes());
    }

    pub(crate) fn bytes(&mut self, path: String, bytes: Vec<u8>) {
        self.0.insert(path, Entry::File(bytes));
    }

    pub(crate) fn link(&mut self, path: String, target: String) {
        self.0.insert(path, Entry::Link(target));
    }

    pub(crate) fn folder(&mut self, path: &str) {
        self.0.insert(path.to_owned(), Entry::Folder);
    }

    /// The part of it below `folder`, paths beginning there.
    pub fn below(&self, folder: &str) -> Self {
        let inner = |(path, entry): (&String, &Entry)| {
            let rest = path.strip_prefix(folder)?.strip_prefix('/')?;
            Some((rest.to_owned(), entry.clone()))
        };
        Self(self.0.iter().filter_map(inner).collect())
    }

    /// Writes it into the folder `root`, which is made where it is not there and may hold other things.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        fs::create_dir_all(root)?;
        let mut made = "";
        for (path, entry) in &self.0 {
            let full = root.join(path);
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            if parent != made {
                fs::create_dir_all(root.join(parent))?;
                made = parent;
            }
            match entry {
                Entry::File(bytes) => fs::write(full, bytes)?,
                Entry::Folder => fs::create_dir_all(full)?,
                Entry::Link(target) => {
                    let made = symlink(target, &full);
                    let is_there = fs::read_link(&full).is_ok_and(|old| old == Path::new(target));
                    if !is_there {
                        made?;
                    }
                }
            }
        }
        Ok(())
    }

    /// It as a seed of the fuzz target `tree`: the choices of a plan, then a record for each entry; without the
    /// devices' configuration space, which is large and of which the readers of a machine take nothing.
    pub fn seed(&self) -> Vec<u8> {
        let mut seed = b"\0\x01\x02\x03\0\x01\x02\x01\x02\xff".to_vec();
        let entries = self.0.iter().filter(|(path, _)| !path.ends_with("/config"));
        for (path, entry) in entries {
            let head = match entry {
                Entry::File(_) => format!("@{path}\n"),
                Entry::Link(target) => format!("@{path}>{target}"),
                Entry::Folder => format!("@{path}/"),
            };
            seed.extend(head.into_bytes());
            if let Entry::File(bytes) = entry {
                seed.extend(bytes);
            }
            seed.push(b'\n');
        }
        seed
    }
}
