//! A list of items, as one source (option, environment, plugstack line) names them.

use super::choices::Nccl;
use super::item::Item;
use super::kinds::ItemKind;
use super::table::{self, TABLE};
use super::text::printable;

/// The items that one source names, at most one of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Items {
    /// By kind, in the order of [`ItemKind::ALL`].
    named: Vec<Item>,
}

/// Why an option string is refused: one line that names the item and what is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A word that is no item, and like none.
    #[error("unknown item \"{0}\"; expected {expected}", expected = table::expected_items())]
    UnknownItem(String),
    /// A word that is no item, but nearly one.
    #[error(
        "unknown item \"{typed}\"; did you mean \"{near}\"? (expected {expected})",
        expected = table::expected_items()
    )]
    Misspelt {
        /// What was typed.
        typed: String,
        /// The item that is like it.
        near: &'static str,
    },
    /// `KEY=` with a key that is no kind.
    #[error("unknown key \"{0}\"; expected {expected}", expected = table::expected_keys())]
    UnknownKey(String),
    /// `KEY=ITEM` with an item that is written without a key.
    #[error("\"{typed}\": expected {item} alone, without a key")]
    NoKey {
        /// What was typed.
        typed: String,
        /// The item.
        item: &'static str,
    },
    /// A key with a value that it does not take.
    #[error("\"{kind}={value}\": expected {kind}={accepted}", accepted = table::values_of(*kind, "|"))]
    UnknownValue {
        /// The kind, whose name is the key.
        kind: ItemKind,
        /// The value.
        value: String,
    },
    /// Two items of one kind.
    #[error("\"{first}\" and \"{second}\" are both a {kind}; expected one")]
    Twice {
        /// The kind.
        kind: ItemKind,
        /// The earlier item.
        first: String,
        /// The later item.
        second: String,
    },
    /// Longer than any real option.
    #[error("an option of {0} bytes; expected at most {MAX_LENGTH}")]
    TooLong(usize),
}

/// The longest option string that is looked at, in bytes.
pub const MAX_LENGTH: usize = 1024;

impl Items {
    /// Reads a comma-separated list of items; the empty text names none.
    ///
    /// # Errors
    /// [`OptionError`] for the first item that is not understood or stands twice.
    // A function of its own: tests/slurm/fault-shim.c puts a panic where it begins.
    #[inline(never)]
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        let (items, mut problems) = Self::parse_leniently(text);
        if problems.is_empty() {
            Ok(items)
        } else {
            Err(problems.swap_remove(0))
        }
    }

    /// Reads what can be read, and says what could not: for slurmstepd, where a bad item must not
    /// cost the job.
    pub fn parse_leniently(text: &str) -> (Self, Vec<OptionError>) {
        if text.len() > MAX_LENGTH {
            return (Self::default(), vec![OptionError::TooLong(text.len())]);
        }
        let mut items = Self::default();
        let mut problems = Vec::new();
        let mut seen: Vec<(ItemKind, &str)> = Vec::new();
        for word in text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            match parse_item(word) {
                Ok(item) => {
                    let kind = item.kind();
                    if let Some((_, first)) = seen.iter().find(|(earlier, _)| *earlier == kind) {
                        let (first, second) = ((*first).to_owned(), word.to_owned());
                        problems.push(OptionError::Twice {
                            kind,
                            first,
                            second,
                        });
                        continue;
                    }
                    seen.push((kind, word));
                    items.add(item);
                }
                Err(problem) => problems.push(problem),
            }
        }
        (items, problems)
    }

    /// The item of a kind; none where it is not named.
    pub fn of(&self, kind: ItemKind) -> Option<Item> {
        self.named.iter().copied().find(|item| item.kind() == kind)
    }

    /// What it says of NCCL; none where it says nothing.
    pub fn nccl(&self) -> Option<Nccl> {
        self.named.iter().find_map(|item| match item {
            Item::Nccl(nccl) => Some(*nccl),
            Item::Policy(_)
            | Item::Width(_)
            | Item::Memory(_)
            | Item::Map(_)
            | Item::Nic(_)
            | Item::Frameworks(_)
            | Item::Verbosity(_)
            | Item::Override => None,
        })
    }

    /// All items.
    pub fn iter(&self) -> impl Iterator<Item = Item> {
        self.named.iter().copied()
    }

    /// Adds an item, where none of its kind is named yet.
    pub(super) fn add(&mut self, item: Item) {
        let place = self
            .named
            .partition_point(|other| other.kind() < item.kind());
        if self.of(item.kind()).is_none() {
            self.named.insert(place, item);
        }
    }

    /// Drops the item of a kind; false where none is named.
    pub(super) fn remove(&mut self, kind: ItemKind) -> bool {
        let before = self.named.len();
        self.named.retain(|item| item.kind() != kind);
        self.named.len() < before
    }
}

fn parse_item(text: &str) -> Result<Item, OptionError> {
    if let Some(row) = TABLE.iter().find(|row| row.word == text) {
        return Ok(row.item);
    }
    let Some((key, value)) = text.split_once('=') else {
        let typed = printable(text);
        return Err(match table::nearest(&text.to_ascii_lowercase()) {
            Some(near) => OptionError::Misspelt { typed, near },
            None => OptionError::UnknownItem(typed),
        });
    };
    let kind = ItemKind::ALL
        .into_iter()
        .find(|kind| kind.has_key() && kind.name() == key);
    Err(match kind {
        Some(kind) => OptionError::UnknownValue {
            kind,
            value: printable(value),
        },
        None => match TABLE.iter().find(|row| row.word == value) {
            Some(row) => OptionError::NoKey {
                typed: printable(text),
                item: row.word,
            },
            None => OptionError::UnknownKey(printable(key)),
        },
    })
}
