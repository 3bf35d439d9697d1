//! Reads the files.  They come from thousands of hosts, some of them broken or worse: each is bounded in size
//! and believed in nothing but its own host, and one that cannot be read is named and skipped.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use discovery::MACHINE_SCHEMA;
use ffi::linux::file::{FileError, read_own_text};
use serde::{Deserialize, Serialize};
use topology::machine::Machine;
use topology::option::printable;
use topology::snapshot::{MAX_BYTES, NODE_FILE, SCHEMA, Snapshot};

use super::facts::{Facts, list_facts};

/// What `doctor --json` prints.
const DOCTOR_SCHEMA: &str = "gpu-numa/doctor/1";
/// Documents in one file at most.
const MOST_DOCUMENTS: usize = 100_000;
/// Files of a folder at most.
const MOST_FILES: usize = 1_000_000;
/// Threads at most; reading is bound by memory long before.
const MOST_THREADS: usize = 16;

/// A file that gives no host, or not all that is in it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Skipped {
    pub(super) file: String,
    pub(super) why: String,
}

/// What is known of one host.
#[derive(Debug)]
pub(super) struct Host {
    /// Its name; the file's where it does not say.
    pub(super) name: String,
    /// Where the machine is from, or the findings where there is none.
    pub(super) file: String,
    /// The file's name without folder and ending.
    stem: String,
    /// When it was read, in seconds since 1970; 0 where that is not recorded.
    created_unix: u64,
    /// Equal ones are the same allocation.
    pub(super) facts: Option<Arc<Facts>>,
    /// Memory by node, in bytes.
    pub(super) memory: Vec<(u32, u64)>,
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
    pub(super) skipped: Vec<Skipped>,
}

/// Facts seen so far, so that equal ones take memory once.
type Seen = Mutex<HashSet<Arc<Facts>>>;

/// The hosts of one file, or why there are none.
type FileResult = Result<Vec<Host>, String>;

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
            Err(why) => skipped.push(Skipped {
                file: files.get(index).map(|file| show(file)).unwrap_or_default(),
                why,
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
        && known.stem != host.stem
    {
        host.name = format!("{} ({})", host.name, host.stem);
    }
    let Some(known) = hosts.get_mut(&host.name) else {
        hosts.insert(host.name.clone(), host);
        return;
    };
    if host.facts.is_some() && (known.facts.is_none() || host.created_unix >= known.created_unix) {
        known.facts = host.facts;
        known.memory = host.memory;
        known.file = host.file;
        known.stem = host.stem;
        known.created_unix = host.created_unix;
    }
    for finding in host.findings {
        if !known.findings.contains(&finding) {
            known.findings.push(finding);
        }
    }
}

/// A path as it may be printed: a file's name is anybody's text.
pub(super) fn show(path: &Path) -> String {
    path.to_string_lossy()
        .chars()
        .take(4096)
        .flat_map(char::escape_debug)
        .collect()
}

/// The files, and of each folder those that end in .json.
fn list_files(paths: &[PathBuf], skipped: &mut Vec<Skipped>) -> Vec<PathBuf> {
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
                    skipped.push(Skipped {
                        file: show(path),
                        why: "a folder without a file that ends in .json".to_owned(),
                    });
                }
                inside.sort();
                files.append(&mut inside);
            }
            Err(error) => skipped.push(Skipped {
                file: show(path),
                why: error.to_string(),
            }),
        }
    }
    files
}

fn read_file(path: &Path, seen: &Seen) -> Result<Vec<Host>, String> {
    let text = read_own_text(path, MAX_BYTES).map_err(|error| match error {
        FileError::Io { error, .. } => error.to_string(),
        FileError::NotRegular(_) => "not a regular file".to_owned(),
        FileError::TooLarge { size, limit, .. } => {
            format!("{size} bytes; expected at most {limit}")
        }
        FileError::NotText(_) => "not text".to_owned(),
        FileError::NotRoots { .. } => "not root's".to_owned(),
    })?;
    parse_file(path, &text, seen)
}

/// The part of a document that tells what it is.
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

fn parse_file(path: &Path, text: &str, seen: &Seen) -> Result<Vec<Host>, String> {
    let mut hosts = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Head>();
    let mut start = 0;
    while let Some(head) = stream.next() {
        let schema = head.map_err(|error| say_why(text, start, &error))?.schema;
        let document = text.get(start..stream.byte_offset()).unwrap_or_default();
        start = stream.byte_offset();
        if hosts.len() == MOST_DOCUMENTS {
            return Err(format!("more than {MOST_DOCUMENTS} documents"));
        }
        hosts.push(parse_document(path, &schema, document, seen)?);
    }
    if hosts.is_empty() {
        return Err("empty".to_owned());
    }
    Ok(hosts)
}

/// Why a document cannot be read; where lines of standard error are in the file, as `> file 2>&1` leaves it, so said.
fn say_why(text: &str, start: usize, error: &serde_json::Error) -> String {
    let rest = text.get(start..).unwrap_or_default().trim_start();
    let found = rest.lines().next().unwrap_or_default();
    if rest.is_empty() || rest.starts_with('{') {
        return format!("not JSON of ours: {error}");
    }
    if start > 0 {
        return format!(
            "text after its JSON: \"{}\"; standard error must not be in the file (srun --error=FILE)",
            printable(found)
        );
    }
    if rest.lines().any(|line| line.starts_with('{')) {
        return format!(
            "text before its JSON: \"{}\"; standard error must not be in the file (srun --error=FILE)",
            printable(found)
        );
    }
    format!("no JSON: \"{}\"", printable(found))
}

fn parse_document(path: &Path, schema: &str, text: &str, seen: &Seen) -> Result<Host, String> {
    let bad = |error: serde_json::Error| format!("not a \"{schema}\": {error}");
    let snapshot = match schema {
        SCHEMA => Snapshot::parse(text).map_err(|error| error.to_string())?,
        MACHINE_SCHEMA => {
            let machine: Machine = serde_json::from_str(text).map_err(bad)?;
            Snapshot {
                schema: SCHEMA.to_owned(),
                boot_id: None,
                driver: None,
                created_unix: 0,
                machine,
            }
        }
        DOCTOR_SCHEMA => {
            let doctor: Doctor = serde_json::from_str(text).map_err(bad)?;
            return Ok(host_of_doctor(path, doctor));
        }
        other => {
            return Err(format!(
                "schema \"{}\"; expected \"{SCHEMA}\", \"{MACHINE_SCHEMA}\" or \"{DOCTOR_SCHEMA}\"",
                printable(other)
            ));
        }
    };
    let facts = list_facts(&snapshot)?;
    if facts.facts.is_empty() || snapshot.machine.online.is_empty() {
        return Err("a machine without CPUs".to_owned());
    }
    let machine = &snapshot.machine;
    Ok(Host {
        name: name_of(path, machine.hostname.as_deref()),
        file: show(path),
        stem: stem_of(path),
        created_unix: snapshot.created_unix,
        facts: Some(intern(seen, facts)),
        memory: machine
            .numa_nodes
            .iter()
            .filter_map(|node| Some((node.id, node.memory_bytes?)))
            .collect(),
        findings: Vec::new(),
    })
}

fn host_of_doctor(path: &Path, doctor: Doctor) -> Host {
    let clean = |text: &str| -> String {
        text.chars()
            .take(500)
            .flat_map(char::escape_debug)
            .collect()
    };
    Host {
        name: name_of(path, doctor.host.as_deref()),
        file: show(path),
        stem: stem_of(path),
        created_unix: 0,
        facts: None,
        memory: Vec::new(),
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
    name.map_or_else(|| stem_of(path), printable)
}

/// The file's name without its ending; of the service's own file name, its folder's, as in `gpu7/node.json`.
fn stem_of(path: &Path) -> String {
    let own = path.file_name().is_some_and(|name| name == NODE_FILE);
    let folder = path.parent().and_then(Path::file_name).filter(|_| own);
    let stem = folder.or_else(|| path.file_stem()).unwrap_or_default();
    printable(&stem.to_string_lossy())
}

fn intern(seen: &Seen, facts: Facts) -> Arc<Facts> {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = seen.get(&facts) {
        return Arc::clone(known);
    }
    let facts = Arc::new(facts);
    seen.insert(Arc::clone(&facts));
    facts
}
