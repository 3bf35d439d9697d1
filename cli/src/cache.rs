//! `gpu-numa cache`: on which NUMA nodes the cached pages of files are.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::Args;
use discovery::Source;
use ffi::errno::Errno;
use ffi::linux::cached::{CachedPages, count_cached, evict, find_cached};
use ffi::linux::process::effective_user;
use indicatif::ProgressBar;
use serde::Serialize;
use topology::binding::memory_nodes;
use topology::machine::Machine;
use topology::option::one_line;
use topology::quantity::{count, volume};
use topology::set::NodeSet;

use crate::command::{CommandError, Format, Outcome, parse_gpus};
use crate::hardware;
use crate::out::{self, Out};
use crate::paper::Ink;
use crate::progress::bytes_so_far;
use crate::table::{Cell, Column, Table};

/// How much of a file is looked at in one go: its page table takes 1/512 of that.
const WINDOW_BYTES: u64 = 256 << 20;
/// Files that are printed one by one; `--json` has all.
const MOST_LINES: usize = 40;
/// Cached elsewhere and not worth a word, in bytes.
const FEW_BYTES: u64 = 1 << 20;
/// Folders within folders, at most.
const DEEPEST: usize = 256;

/// Show on which NUMA nodes the cached pages of files are.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa cache model.safetensors
  gpu-numa cache --gpus 0,1 /models/llama
  gpu-numa cache --gpus 0,1 --evict /models/llama && gpu-numa run --gpus 0,1 ./serve

A file's pages stay in memory where the process that first read them was told to put them, and a later process \
reads them from there.  Nothing of a file is read in by looking: only pages that are cached are asked about.

The kernel tells this only to those who own a file or may write it, and to root; other files are counted as not known. \
--evict has the kernel drop the pages of your own files, so that the next process that reads them puts them near \
itself; pages that a process has mapped stay.

Exit status: 0; 1 where --gpus is given and pages are on other nodes, or not all could be looked at; 2 when nothing \
could be.")]
pub(crate) struct Cache {
    /// Files, and folders with all that is below them (links in them are not followed)
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The GPUs whose process reads the files, by number in PCI order or by PCI address: pages on other nodes than
    /// theirs are wrong
    #[arg(long, value_name = "GPU,GPU")]
    gpus: Option<String>,
    /// Have the kernel drop the pages of files that you own; with --gpus of those alone that have pages on other nodes
    #[arg(long)]
    evict: bool,
    #[command(flatten)]
    format: Format,
}

/// The JSON document.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CacheDocument {
    /// `gpu-numa/cache/1`.
    schema: &'static str,
    /// Where the pages belong, by --gpus; null without it.
    nodes: Option<NodeSet>,
    /// Those of which something is cached, in the order of their paths.
    files: Vec<CachedFile>,
    /// All files that were looked at.
    total: Total,
    /// What could not be looked at.
    skipped: Vec<SkippedPath>,
    /// Whether all was looked at, and with --gpus nothing is on other nodes.
    ok: bool,
}

/// A file.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct CachedFile {
    path: String,
    size_bytes: u64,
    /// Its cached pages by node, in bytes, as they were before --evict.
    cached_bytes: BTreeMap<u32, u64>,
    /// What of them --evict had dropped, in bytes; absent where it was not asked to.
    #[serde(skip_serializing_if = "Option::is_none")]
    evicted_bytes: Option<u64>,
    /// What is on other nodes than --gpus' in the end.
    #[serde(skip)]
    left_far_bytes: u64,
}

/// The sum of all files.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Total {
    files: usize,
    size_bytes: u64,
    /// By node.
    cached_bytes: BTreeMap<u32, u64>,
    /// What --evict had dropped.
    evicted_bytes: u64,
    /// What is on other nodes than --gpus' in the end.
    #[serde(skip)]
    left_far_bytes: u64,
}

/// A path that could not be looked at.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SkippedPath {
    path: String,
    why: String,
}

/// Why a path is left out.
#[derive(Debug, thiserror::Error)]
enum SkipReason {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("neither a file nor a folder")]
    Special,
    #[error(
        "not known: it is not yours, and the kernel says what is cached to a file's owner and to those who may write it"
    )]
    NotOwn,
    #[error("folders within folders, more than {DEEPEST}")]
    TooDeep,
    #[error(
        "the kernel does not say where its pages are ({0}); in a container, move_pages needs CAP_SYS_NICE"
    )]
    NotTold(Errno),
    #[error("it cannot be mapped ({0})")]
    NotMapped(Errno),
}

impl SkippedPath {
    fn new(path: &Path, why: &SkipReason) -> Self {
        Self {
            path: show(path),
            why: why.to_string(),
        }
    }
}

fn show(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

impl Cache {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let nodes = self.nodes()?;
        let bar = bytes_so_far();
        let mut walk = Walk {
            look: Look {
                nodes: nodes.as_ref(),
                is_evicting: self.evict,
                bar: &bar,
            },
            seen: BTreeSet::new(),
            total: Total::default(),
            files: Vec::new(),
            skipped: Vec::new(),
        };
        for path in &self.files {
            walk.path(path, 0);
        }
        bar.finish_and_clear();
        let Walk {
            total,
            mut files,
            skipped,
            ..
        } = walk;
        for skipped in &skipped {
            out::message(&format!("{}: {}", skipped.path, skipped.why));
        }
        if total.files == 0 && !skipped.is_empty() {
            return Err(CommandError::Argument(
                "no file could be looked at".to_owned(),
            ));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let ok = skipped.is_empty() && total.left_far_bytes <= FEW_BYTES;
        let document = CacheDocument {
            schema: "gpu-numa/cache/1",
            nodes,
            files,
            total,
            skipped,
            ok,
        };
        if self.format.json {
            out.json(&document)?;
        } else {
            print(out, &document, self.evict)?;
        }
        Ok(if ok { Outcome::Done } else { Outcome::Wanting })
    }

    /// Where the pages belong.
    fn nodes(&self) -> Result<Option<NodeSet>, CommandError> {
        let Some(list) = &self.gpus else {
            return Ok(None);
        };
        let machine = discovery::read_machine(&Source::ThisMachine)?;
        let gpus = parse_gpus(&machine, "--gpus", list)?;
        nodes_of(&machine, &gpus).map(Some)
    }
}

fn nodes_of(
    machine: &Machine,
    gpus: &[topology::pci::PciAddress],
) -> Result<NodeSet, CommandError> {
    let nodes = memory_nodes(machine, &machine.nodes_of_gpus(gpus));
    if nodes.is_empty() {
        return Err(CommandError::Argument(
            "--gpus: the NUMA node of these GPUs is unknown (gpu-numa show --explain GPU0 says what was asked)".to_owned(),
        ));
    }
    Ok(nodes)
}

/// What of these bytes is not on `nodes`; nothing where these are not named.
fn far_bytes(cached: &BTreeMap<u32, u64>, nodes: Option<&NodeSet>) -> u64 {
    let far = cached
        .iter()
        .filter(|(node, _)| nodes.is_some_and(|nodes| !nodes.contains(**node)));
    far.map(|(_, bytes)| bytes).sum()
}

/// How a file is looked at.
#[derive(Clone, Copy)]
struct Look<'w> {
    nodes: Option<&'w NodeSet>,
    is_evicting: bool,
    bar: &'w ProgressBar,
}

/// A walk over files and folders.
struct Walk<'w> {
    look: Look<'w>,
    /// Device and number of files that were looked at: a file may have several names.
    seen: BTreeSet<(u64, u64)>,
    total: Total,
    files: Vec<CachedFile>,
    skipped: Vec<SkippedPath>,
}

impl Walk<'_> {
    fn path(&mut self, path: &Path, depth: usize) {
        // What the user names may be a link, what is in a folder may not.
        let metadata = if depth == 0 {
            fs::metadata(path)
        } else {
            fs::symlink_metadata(path)
        };
        let result = match metadata {
            Ok(metadata) if metadata.is_dir() => self.folder(path, depth),
            Ok(metadata) if metadata.is_file() => self.file(path, &metadata),
            Ok(metadata) if depth > 0 && !metadata.file_type().is_block_device() => Ok(()),
            Ok(_) => Err(SkipReason::Special),
            Err(error) => Err(error.into()),
        };
        if let Err(why) = result {
            self.skipped.push(SkippedPath::new(path, &why));
        }
    }

    fn folder(&mut self, path: &Path, depth: usize) -> Result<(), SkipReason> {
        if depth == DEEPEST {
            return Err(SkipReason::TooDeep);
        }
        let mut names: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.path());
        }
        names.sort();
        for name in &names {
            self.path(name, depth + 1);
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, metadata: &Metadata) -> Result<(), SkipReason> {
        if !self.seen.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        let name = path.file_name().unwrap_or_else(|| OsStr::new(""));
        self.look.bar.set_message(one_line(&name.to_string_lossy()));
        let found = self.look.at(path)?;
        self.total.files += 1;
        self.total.size_bytes += found.size_bytes;
        self.total.evicted_bytes += found.evicted_bytes.unwrap_or(0);
        self.total.left_far_bytes += found.left_far_bytes;
        for (node, bytes) in &found.cached_bytes {
            *self.total.cached_bytes.entry(*node).or_default() += bytes;
        }
        if !found.cached_bytes.is_empty() {
            self.files.push(found);
        }
        Ok(())
    }
}

impl Look<'_> {
    fn at(&self, path: &Path) -> Result<CachedFile, SkipReason> {
        let (file, may_ask) = open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(SkipReason::Special);
        }
        let is_own = metadata.uid() == effective_user() || effective_user() == 0;
        if !is_own && !may_ask {
            return Err(SkipReason::NotOwn);
        }
        let size_bytes = metadata.len();
        let cached_bytes = self.find(&file, size_bytes)?;
        let mut left_far_bytes = far_bytes(&cached_bytes, self.nodes);
        let is_to_go = self.is_evicting && is_own && (self.nodes.is_none() || left_far_bytes > 0);
        let evicted_bytes = if is_to_go && !cached_bytes.is_empty() {
            evict(&file)?;
            let left = self.find(&file, size_bytes)?;
            left_far_bytes = far_bytes(&left, self.nodes);
            let before: u64 = cached_bytes.values().sum();
            Some(before.saturating_sub(left.values().sum()))
        } else {
            None
        };
        Ok(CachedFile {
            path: show(path),
            size_bytes,
            cached_bytes,
            evicted_bytes,
            left_far_bytes,
        })
    }

    /// The cached bytes by node.
    fn find(&self, file: &File, size: u64) -> Result<BTreeMap<u32, u64>, SkipReason> {
        let mut cached = BTreeMap::new();
        // A sparse file is halved down to its windows with cached pages; the next part is the last.
        let mut parts = vec![(0, size)];
        while let Some((offset, length)) = parts.pop() {
            if length == 0 || count_cached(file, offset, length) == Some(0) {
                self.bar.inc(length);
                continue;
            }
            if length > WINDOW_BYTES {
                let half = (length / 2).next_multiple_of(WINDOW_BYTES);
                parts.push((offset + half, length - half));
                parts.push((offset, half));
                continue;
            }
            let found = find_cached(file, offset, usize::try_from(length).unwrap_or(usize::MAX));
            add(&mut cached, &found.map_err(refused)?);
            self.bar.inc(length);
        }
        Ok(cached)
    }
}

fn add(cached: &mut BTreeMap<u32, u64>, found: &CachedPages) {
    for (node, bytes) in &found.by_node {
        *cached.entry(*node).or_default() += bytes;
    }
}

fn refused(why: Errno) -> SkipReason {
    if why == Errno::NOT_PERMITTED || why == Errno::NO_SUCH_CALL {
        SkipReason::NotTold(why)
    } else {
        SkipReason::NotMapped(why)
    }
}

/// Opens a file, and says whether the kernel tells its cached pages to one who does not own it: to those who may write it.
fn open(path: &Path) -> io::Result<(File, bool)> {
    /// Of `fcntl.h`: a pipe or a device that took the file's place is not waited for, a look is no access.
    const NO_WAIT: i32 = 0o4000;
    const NO_ACCESS_TIME: i32 = 0o1_000_000;
    let open = |flags: i32, write: bool| {
        File::options()
            .read(true)
            .write(write)
            .custom_flags(flags)
            .open(path)
    };
    // Only an owner may leave the time of access alone.
    let file = open(NO_WAIT | NO_ACCESS_TIME, false).or_else(|_| open(NO_WAIT, false))?;
    let may_write = open(NO_WAIT, true).is_ok();
    Ok((file, may_write))
}

fn print(out: &mut Out, document: &CacheDocument, is_evicting: bool) -> Result<(), CommandError> {
    let total = &document.total;
    let nodes: BTreeSet<u32> = total.cached_bytes.keys().copied().collect();
    let cached: u64 = total.cached_bytes.values().sum();
    out.line(format_args!(
        "{} of {} in {} cached",
        volume(cached),
        volume(total.size_bytes),
        count(total.files, "file")
    ))?;
    if document.files.is_empty() {
        return Ok(());
    }
    let mut columns: Vec<Column> = nodes
        .iter()
        .map(|node| Column::right(format!("node {node}")))
        .collect();
    if is_evicting {
        columns.push(Column::right("evicted"));
    }
    columns.push(Column::left("file"));
    let mut table = Table::new(columns);
    let mut files: Vec<&CachedFile> = document.files.iter().collect();
    // Those with the most first.
    files.sort_by_key(|file| std::cmp::Reverse(file.cached_bytes.values().sum::<u64>()));
    for file in files.iter().take(MOST_LINES) {
        table.row(row(
            document,
            &nodes,
            &file.cached_bytes,
            is_evicting.then_some(file.evicted_bytes),
            &file.path,
        ));
    }
    if document.files.len() > 1 {
        let evicted = is_evicting.then_some(Some(total.evicted_bytes));
        let name = match files.len().saturating_sub(MOST_LINES) {
            0 => "all".to_owned(),
            more => format!("all, with {more} more files"),
        };
        table.row(row(document, &nodes, &total.cached_bytes, evicted, &name));
    }
    out.table(&table)?;
    if let Some(right) = &document.nodes {
        let far = total.left_far_bytes;
        if far > FEW_BYTES {
            out.line("")?;
            out.line(format_args!(
                "WRONG  {} are on other nodes than the GPUs' {}; --evict drops them, so that the next reader puts them near itself",
                volume(far),
                hardware::nodes(right)
            ))?;
        }
    }
    Ok(())
}

fn row(
    document: &CacheDocument,
    nodes: &BTreeSet<u32>,
    cached: &BTreeMap<u32, u64>,
    evicted: Option<Option<u64>>,
    name: &str,
) -> Vec<Cell> {
    let is_wrong = |node: &u32| {
        document
            .nodes
            .as_ref()
            .is_some_and(|right| !right.contains(*node))
    };
    let mut cells: Vec<Cell> = nodes
        .iter()
        .map(|node| match cached.get(node) {
            None | Some(0) => Cell::plain("-"),
            Some(bytes) if is_wrong(node) => Cell::new(volume(*bytes), Ink::Far),
            Some(bytes) => Cell::plain(volume(*bytes)),
        })
        .collect();
    if let Some(evicted) = evicted {
        cells.push(Cell::plain(evicted.map_or_else(|| "-".to_owned(), volume)));
    }
    cells.push(Cell::plain(name));
    cells
}
