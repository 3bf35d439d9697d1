//! The plugstack line: `optional gpu_numa_bind.so [ARG...]`.

use std::path::{Path, PathBuf};

use topology::option::{ItemKind, Items, printable};
use topology::snapshot::DIRECTORY;

/// What the site says.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// `always=ITEMS`: binding is on for every step.
    pub(crate) always: Option<Items>,
    /// `default=ITEMS`: what fills in when binding is asked for.
    pub(crate) default: Items,
    /// `lock=KIND[,KIND]`: kinds of item that a user cannot choose.
    pub(crate) locked: Vec<ItemKind>,
    /// `strict_batch`: strict policies may refuse a batch script's own step.
    pub(crate) strict_batch: bool,
    /// `snapshot=DIR`: where the snapshot service writes.
    pub(crate) directory: PathBuf,
    /// Arguments that were not understood, a line each.
    pub(crate) problems: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            always: None,
            default: Items::default(),
            locked: Vec::new(),
            strict_batch: false,
            directory: PathBuf::from(DIRECTORY),
            problems: Vec::new(),
        }
    }
}

impl Config {
    /// Reads the arguments; what is not understood is noted and left out.
    pub(crate) fn parse(args: &[String]) -> Self {
        let mut config = Self::default();
        for arg in args {
            config.take(arg);
        }
        config
    }

    /// Takes one argument; of a list whatever is good, so that a slip costs no more than itself.
    fn take(&mut self, arg: &str) {
        match arg.split_once('=') {
            Some(("always", text)) => self.always = Some(self.items("always", text)),
            Some(("default", text)) => self.default = self.items("default", text),
            Some(("lock", kinds)) => {
                for name in kinds.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                    match ItemKind::ALL.into_iter().find(|kind| kind.name() == name) {
                        Some(kind) => self.locked.push(kind),
                        None => self.note(&unknown_kind(name)),
                    }
                }
            }
            Some(("snapshot", directory)) if Path::new(directory).is_absolute() => {
                self.directory = PathBuf::from(directory);
            }
            Some(("snapshot", directory)) => self.note(&format!(
                "\"snapshot={}\": expected an absolute path",
                printable(directory)
            )),
            None if arg == "strict_batch" => self.strict_batch = true,
            Some(_) | None => self.note(&format!(
                "unknown argument \"{}\"; expected always=, default=, lock=, snapshot= or strict_batch",
                printable(arg)
            )),
        }
    }

    fn items(&mut self, key: &str, text: &str) -> Items {
        let (items, problems) = Items::parse_leniently(text);
        for problem in problems {
            self.note(&format!("{key}=: {problem}"));
        }
        items
    }

    fn note(&mut self, problem: &str) {
        self.problems.push(format!("plugstack: {problem}"));
    }
}

fn unknown_kind(name: &str) -> String {
    let names = ItemKind::ALL.map(ItemKind::name).join(", ");
    format!("lock={}: expected {names}", printable(name))
}
