//! Reads the files.
//!
//! They come from thousands of hosts, some of them broken or hostile: each is bounded in size and trusted only about
//! its own host, and a file that cannot be read is named and skipped.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use discovery::MACHINE_SCHEMA;
use ffi::linux::file::{FileError, read_own_text};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error as _, IntoDeserializer as _, MapAccess, Visitor};
use topology::machine::Machine;
use topology::option::{one_line, printable};
use topology::snapshot::{MAX_BYTES, NODE_FILE, SCHEMA, Snapshot, SnapshotError};

use super::document::SkippedFile;
use super::facts::{Facts, TooManyParts, list_facts};
use super::feature::feature;
use super::seats::Seats;

/// What `doctor --json` prints.
const DOCTOR_SCHEMA: &str = "gpu-numa/doctor/1";
/// Documents in one file at most.
const MOST_DOCUMENTS: usize = 100_000;
/// Files of a folder at most.
const MOST_FILES: usize = 1_000_000;
/// Threads at most; reading is bound by memory long before.
const MOST_THREADS: usize = 16;

/// What is known of one host.
#[derive(Debug)]
pub(super) struct Host {
    /// Its name; the file's where it does not say.
    pub(super) name: String,
    /// Where the machine is from, or the findings where there is none.
    pub(super) file: String,
    /// When it was read, in seconds since 1970; 0 where that is not recorded.
    created_unix: u64,
    /// Equal ones are the same allocation.
    pub(super) facts: Option<Arc<Facts>>,
    /// Memory by node, in bytes.
    pub(super) memory: Box<[(u32, u64)]>,
    /// Its GPUs and the CPUs beside them; none where there is no machine.
    pub(super) seats: Option<Arc<Seats>>,
    /// What Slurm may know it by ([`feature`]); none where it has no GPU, or there is no machine.
    pub(super) feature: Option<Box<str>>,
    /// What doctor found.
    pub(super) findings: Vec<Found>,
}

/// A finding of doctor's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Found {
    pub(super) check: String,
    pub(super) evidence: String,
    pub(super) change: String,
}

/// All that was read: hosts by name, each once.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) hosts: Vec<Host>,
    pub(super) skipped: Vec<SkippedFile>,
}

/// What was seen so far, so that what is equal takes memory once.
#[derive(Debug, Default)]
struct Seen {
    facts: Mutex<HashSet<Arc<Facts>>>,
    seats: Mutex<HashSet<Arc<Seats>>>,
}

/// Why a file gives no host.
#[derive(Debug, thiserror::Error)]
enum SkipReason {
    #[error("{0}")]
    Io(std::io::Error),
    #[error("not a regular file")]
    NotRegular,
    #[error("{size} bytes; expected at most {limit}")]
    TooLarge { size: u64, limit: u64 },
    #[error("not text")]
    NotText,
    #[error("no file in this folder ends in .json")]
    NoJsonFile,
    #[error("empty")]
    Empty,
    #[error("more than {MOST_DOCUMENTS} documents")]
    TooManyDocuments,
    #[error("not JSON of gpu-numa: {0}")]
    NotOurs(serde_json::Error),
    #[error("no JSON: \"{0}\"")]
    NoJson(String),
    #[error(
        "text before its JSON: \"{0}\"; standard error must not be in the file (srun --error=FILE)"
    )]
    TextBefore(String),
    #[error(
        "text after its JSON: \"{0}\"; standard error must not be in the file (srun --error=FILE)"
    )]
    TextAfter(String),
    #[error("not a \"{schema}\": {error}")]
    Malformed {
        schema: String,
        error: serde_json::Error,
    },
    #[error("schema \"{0}\"; expected \"{SCHEMA}\", \"{MACHINE_SCHEMA}\" or \"{DOCTOR_SCHEMA}\"")]
    UnknownSchema(String),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    TooManyParts(#[from] TooManyParts),
    #[error("a machine without CPUs")]
    NoCpu,
}

impl From<FileError> for SkipReason {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { error, .. } => Self::Io(error),
            FileError::TooLarge { size, limit, .. } => Self::TooLarge { size, limit },
            FileError::NotText(_) => Self::NotText,
            // Any owner will do here, so the last cannot come.
            FileError::NotRegular(_) | FileError::NotRoots { .. } | FileError::UsersLink { .. } => {
                Self::NotRegular
            }
        }
    }
}

/// The hosts of one file, or why there are none.
type FileResult = Result<Vec<Host>, SkipReason>;

/// Reads files and folders.
pub(super) fn read_all(paths: &[PathBuf]) -> Read {
    let mut skipped = Vec::new();
    let files = list_files(paths, &mut skipped);
    let seen = Seen::default();
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<(usize, FileResult)>> = Mutex::new(Vec::new());
    let threads =
        std::thread::available_parallelism().map_or(1, |count| count.get().min(MOST_THREADS));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(file) = files.get(index) else { return };
                    let hosts = read_file(file, &seen);
                    found
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((index, hosts));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(index, _)| *index);
    let mut hosts = BTreeMap::new();
    for (index, result) in found {
        match result {
            Ok(more) => more.into_iter().for_each(|host| merge(&mut hosts, host)),
            Err(why) => skipped.push(SkippedFile {
                file: files.get(index).map(|file| show(file)).unwrap_or_default(),
                why: why.to_string(),
            }),
        }
    }
    Read {
        hosts: hosts.into_values().collect(),
        skipped,
    }
}

/// One host's machine and findings may come in two files; of two machines of one host the later counts.
///
/// Files of different names are different hosts even if they give one name (images cloned with it).
fn merge(hosts: &mut BTreeMap<String, Host>, mut host: Host) {
    if let Some(known) = hosts.get(&host.name)
        && host.facts.is_some()
        && known.facts.is_some()
        && stem_of(Path::new(&known.file)) != stem_of(Path::new(&host.file))
    {
        host.name = format!("{} ({})", host.name, stem_of(Path::new(&host.file)));
    }
    let Some(known) = hosts.get_mut(&host.name) else {
        hosts.insert(host.name.clone(), host);
        return;
    };
    if host.facts.is_some() && (known.facts.is_none() || host.created_unix >= known.created_unix) {
        known.facts = host.facts;
        known.memory = host.memory;
        known.seats = host.seats;
        known.feature = host.feature;
        known.file = host.file;
        known.created_unix = host.created_unix;
    }
    for finding in host.findings {
        if !known.findings.contains(&finding) {
            known.findings.push(finding);
        }
    }
}

/// A path that is safe to print: a file's name is any user's text.
pub(super) fn show(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

/// The files, and of each folder those that end in .json.
fn list_files(paths: &[PathBuf], skipped: &mut Vec<SkippedFile>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        match std::fs::read_dir(path) {
            Ok(entries) => {
                let mut inside: Vec<PathBuf> = entries
                    .take(MOST_FILES)
                    .filter_map(|entry| Some(entry.ok()?.path()))
                    .filter(|file| file.extension().is_some_and(|end| end == "json"))
                    .collect();
                if inside.is_empty() {
                    skipped.push(SkippedFile {
                        file: show(path),
                        why: SkipReason::NoJsonFile.to_string(),
                    });
                }
                inside.sort();
                files.append(&mut inside);
            }
            Err(error) => skipped.push(SkippedFile {
                file: show(path),
                why: SkipReason::Io(error).to_string(),
            }),
        }
    }
    files
}

/// A document of a schema, which is its first entry.
enum Document {
    Snapshot(Box<Snapshot>),
    Machine(Box<Shown>),
    Doctor(Doctor),
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ByFirstKey)
    }
}

struct ByFirstKey;

impl<'de> Visitor<'de> for ByFirstKey {
    type Value = Document;

    fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("a document that begins with its schema")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        if map.next_key::<String>()?.as_deref() != Some("schema") {
            return Err(A::Error::missing_field("schema"));
        }
        let schema: String = map.next_value()?;
        let whole = MapAccessDeserializer::new(Whole {
            schema: Some(schema.clone()),
            rest: map,
        });
        Ok(match schema.as_str() {
            SCHEMA => Document::Snapshot(Box::deserialize(whole)?),
            MACHINE_SCHEMA => Document::Machine(Box::deserialize(whole)?),
            DOCTOR_SCHEMA => Document::Doctor(Doctor::deserialize(whole)?),
            other => return Err(A::Error::unknown_variant(other, &[])),
        })
    }
}

/// A map whose first entry, the schema, was read already.
struct Whole<A> {
    schema: Option<String>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Whole<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        if self.schema.is_some() {
            return seed.deserialize("schema".into_deserializer()).map(Some);
        }
        self.rest.next_key_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match self.schema.take() {
            Some(schema) => seed.deserialize(schema.into_deserializer()),
            None => self.rest.next_value_seed(seed),
        }
    }
}

fn read_file(path: &Path, seen: &Seen) -> FileResult {
    parse_file(path, &read_own_text(path, MAX_BYTES)?, seen)
}

/// What `show --json` says, as far as it is of use here.
struct Shown {
    driver: Option<String>,
    machine: Machine,
}

/// Not by `flatten`, which keeps all of a document to read it again, with its numbers as text.
impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsMap;

        impl<'de> Visitor<'de> for AsMap {
            type Value = Shown;

            fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                to.write_str("a machine")
            }

            fn visit_map<A: MapAccess<'de>>(self, rest: A) -> Result<Shown, A::Error> {
                let mut driver = None;
                let machine = Machine::deserialize(MapAccessDeserializer::new(WithoutDriver {
                    driver: &mut driver,
                    rest,
                }))?;
                Ok(Shown { driver, machine })
            }
        }

        deserializer.deserialize_map(AsMap)
    }
}

/// A map without its entry `driver`, which is kept.
struct WithoutDriver<'m, A> {
    driver: &'m mut Option<String>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutDriver<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.rest.next_key::<String>()? {
            if key != "driver" {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            *self.driver = self.rest.next_value()?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.rest.next_value_seed(seed)
    }
}

/// The part of a document that says what it is.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    schema: String,
}

/// What doctor says, as far as it is of use here.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Doctor {
    host: Option<String>,
    findings: Vec<Found>,
}

fn parse_file(path: &Path, text: &str, seen: &Seen) -> FileResult {
    match parse_at_once(path, text, seen) {
        Some(hosts) => Ok(hosts),
        None => parse_by_schema(path, text, seen),
    }
}

/// Reads documents that begin with their schema, as ours do; none where one does not, or is broken.
fn parse_at_once(path: &Path, text: &str, seen: &Seen) -> Option<Vec<Host>> {
    // Most files hold one.
    let mut hosts = Vec::with_capacity(1);
    for document in serde_json::Deserializer::from_str(text).into_iter::<Document>() {
        if hosts.len() == MOST_DOCUMENTS {
            return None;
        }
        hosts.push(host_of(path, document.ok()?, seen).ok()?);
    }
    (!hosts.is_empty()).then_some(hosts)
}

/// Looks for each document's schema first, and so walks it twice; says what is wrong.
fn parse_by_schema(path: &Path, text: &str, seen: &Seen) -> FileResult {
    let mut hosts = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Head>();
    let mut start = 0;
    while let Some(head) = stream.next() {
        let schema = head.map_err(|error| reason_of(text, start, error))?.schema;
        let document = text.get(start..stream.byte_offset()).unwrap_or_default();
        start = stream.byte_offset();
        if hosts.len() == MOST_DOCUMENTS {
            return Err(SkipReason::TooManyDocuments);
        }
        hosts.push(parse_document(path, &schema, document, seen)?);
    }
    if hosts.is_empty() {
        return Err(SkipReason::Empty);
    }
    Ok(hosts)
}

/// Why a document cannot be read: often because lines of standard error are in the file, as `> file 2>&1` leaves it.
fn reason_of(text: &str, start: usize, error: serde_json::Error) -> SkipReason {
    let rest = text.get(start..).unwrap_or_default().trim_start();
    if rest.is_empty() || rest.starts_with('{') {
        return SkipReason::NotOurs(error);
    }
    let found = printable(rest.lines().next().unwrap_or_default());
    if start > 0 {
        SkipReason::TextAfter(found)
    } else if rest.lines().any(|line| line.starts_with('{')) {
        SkipReason::TextBefore(found)
    } else {
        SkipReason::NoJson(found)
    }
}

fn parse_document(path: &Path, schema: &str, text: &str, seen: &Seen) -> Result<Host, SkipReason> {
    let bad = |error| SkipReason::Malformed {
        schema: schema.to_owned(),
        error,
    };
    let document = match schema {
        SCHEMA => Document::Snapshot(Box::new(Snapshot::parse(text)?)),
        MACHINE_SCHEMA => Document::Machine(serde_json::from_str(text).map_err(bad)?),
        DOCTOR_SCHEMA => Document::Doctor(serde_json::from_str(text).map_err(bad)?),
        other => {
            return Err(SkipReason::UnknownSchema(printable(other)));
        }
    };
    host_of(path, document, seen)
}

fn host_of(path: &Path, document: Document, seen: &Seen) -> Result<Host, SkipReason> {
    let snapshot = match document {
        Document::Snapshot(snapshot) => *snapshot,
        Document::Machine(shown) => Snapshot {
            schema: SCHEMA.to_owned(),
            boot_id: None,
            driver: shown.driver,
            generation: None,
            created_unix: 0,
            machine: shown.machine,
        },
        Document::Doctor(doctor) => return Ok(host_of_doctor(path, doctor)),
    };
    let facts = list_facts(&snapshot)?;
    if facts.facts.is_empty() || snapshot.machine.online.is_empty() {
        return Err(SkipReason::NoCpu);
    }
    let machine = &snapshot.machine;
    Ok(Host {
        name: name_of(path, machine.hostname.as_deref()),
        file: show(path),
        created_unix: snapshot.created_unix,
        facts: Some(intern(&seen.facts, facts)),
        memory: machine
            .numa_nodes
            .iter()
            .filter_map(|node| Some((node.id, node.memory_bytes?)))
            .collect(),
        seats: Some(intern(&seen.seats, Seats::of(machine))),
        feature: feature(machine).map(String::into_boxed_str),
        findings: Vec::new(),
    })
}

fn host_of_doctor(path: &Path, doctor: Doctor) -> Host {
    let clean = |text: &str| one_line(&text.chars().take(500).collect::<String>());
    Host {
        name: name_of(path, doctor.host.as_deref()),
        file: show(path),
        created_unix: 0,
        facts: None,
        memory: Box::default(),
        seats: None,
        feature: None,
        findings: doctor
            .findings
            .iter()
            .map(|found| Found {
                check: printable(&found.check),
                evidence: clean(&found.evidence),
                change: clean(&found.change),
            })
            .collect(),
    }
}

/// The host's name as it may be printed; the file's where the document has none.
fn name_of(path: &Path, name: Option<&str>) -> String {
    name.map_or_else(|| stem_of(path), one_line)
}

/// The file's name without its ending; of the service's own file name, its folder's, as in `gpu7/node.json`.
fn stem_of(path: &Path) -> String {
    let own = path.file_name().is_some_and(|name| name == NODE_FILE);
    let folder = path.parent().and_then(Path::file_name).filter(|_| own);
    let stem = folder.or_else(|| path.file_stem()).unwrap_or_default();
    one_line(&stem.to_string_lossy())
}

fn intern<T: Eq + Hash>(seen: &Mutex<HashSet<Arc<T>>>, value: T) -> Arc<T> {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = seen.get(&value) {
        return Arc::clone(known);
    }
    let value = Arc::new(value);
    seen.insert(Arc::clone(&value));
    value
}
