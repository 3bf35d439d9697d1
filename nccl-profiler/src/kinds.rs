//! Communicators of one kind: those of a job that their maker gave names which differ in numbers alone, such as its data-parallel
//! groups.  One of them speaks for all.
//!
//! PyTorch's names of process groups, and those that Megatron, DeepSpeed and vLLM give, number groups of one kind.

use std::ffi::CStr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use launch::shared::kinds::{FIGURES, Kind, KindSum};
use launch::shared::peers::FOLDER;
use launch::shared::peers::Sent;
use topology::text::is_printable;

use crate::counts::{Func, SizeSum};
use crate::host;
use crate::report::{KindReport, LinkReport, Load};

/// Bytes of a name that are looked at.
const LONGEST_NAME: usize = 64;
/// Kinds that one process keeps.
const MOST_KINDS: usize = 64;
/// Kinds that do not cross and are named beside one that does.
const MOST_SILENT: usize = 3;

/// What tells processes of one job from those of another of the same user.
const JOB_VARIABLES: [&str; 7] = [
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "TORCHELASTIC_RUN_ID",
    "MASTER_ADDR",
    "MASTER_PORT",
    "PMIX_NAMESPACE",
    "RAY_JOB_ID",
];

/// The name that its maker gave a communicator (`ncclConfig_t.commName`), as far as it can be printed; none where nothing can.
pub(crate) fn printable(name: &CStr) -> Option<String> {
    let bytes = name.to_bytes();
    let text = String::from_utf8_lossy(bytes.get(..LONGEST_NAME).unwrap_or(bytes)).into_owned();
    let is_kept = |c: &char| is_printable(*c) && *c != '"' && *c != '\\';
    let text: String = text.chars().filter(is_kept).collect();
    Some(text).filter(|text| !text.trim().is_empty())
}

/// What the names of its kind have in common: each number is a `*`.
pub(crate) fn pattern(name: &str) -> String {
    let mut pattern = String::new();
    for c in name.chars() {
        match c {
            '0'..='9' if pattern.ends_with('*') => {}
            '0'..='9' => pattern.push('*'),
            other => pattern.push(other),
        }
    }
    pattern
}

/// A communicator, among those of its kind.
#[derive(Debug)]
pub(crate) struct Membership {
    kind: Arc<Kind>,
}

type Known = Vec<(u64, Arc<Kind>)>;

/// The kinds that this process has joined.
static KNOWN: Mutex<Known> = Mutex::new(Vec::new());
/// Patterns of communicators that do not cross.
static SILENT: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Membership {
    /// Of a communicator whose kind has this pattern and shape; none where its kind's file cannot be had.
    pub(crate) fn begin(pattern: &str, shape: &[usize]) -> Option<Self> {
        let hash = hash(pattern, shape);
        // A lock that is held, or was when its process forked, is not waited for.
        let mut known = KNOWN.try_lock().ok()?;
        let own = known.iter().find(|(own, _)| *own == hash);
        if let Some((_, kind)) = own
            && kind.begin()
        {
            return Some(Self { kind: kind.clone() });
        }
        // A set that other processes ended leaves its file here.
        known.retain(|(own, _)| *own != hash);
        if known.len() >= MOST_KINDS {
            return None;
        }
        let kind = Arc::new(Kind::join(Path::new(FOLDER), host::boot_number(), hash)?);
        known.push((hash, kind.clone()));
        Some(Self { kind })
    }

    /// How many communicators there are of its kind so far.
    pub(crate) fn count(&self) -> u64 {
        self.kind.count()
    }

    /// Whether the caller is the first of them that speaks, and speaks for all.
    pub(crate) fn claim(&self) -> bool {
        self.kind.claim()
    }

    /// Ends; the last one gets how many they were and what all moved.
    pub(crate) fn end(&self, report: &LinkReport<'_>) -> Option<(u64, KindReport)> {
        let all = self.kind.end(&to_sum(report))?;
        // Its name is away: those that come later are another set.
        if let Ok(mut known) = KNOWN.try_lock() {
            known.retain(|(_, kind)| !Arc::ptr_eq(kind, &self.kind));
        }
        Some((all.0, to_report(&all.1)))
    }
}

/// Remembers that communicators of this pattern do not cross.
pub(crate) fn note_silent(name: Option<&str>) {
    if let Some(pattern) = name.map(pattern)
        && let Ok(mut silent) = SILENT.try_lock()
        && silent.len() < MOST_KINDS
        && !silent.contains(&pattern)
    {
        silent.push(pattern);
    }
}

/// `communicators "tp_*" do not cross`, of those in this process; none where there is none.
pub(crate) fn silent_line() -> Option<String> {
    let silent = SILENT.try_lock().ok()?;
    let names: Vec<String> = silent
        .iter()
        .take(MOST_SILENT)
        .map(|pattern| format!("\"{pattern}\""))
        .collect();
    (!names.is_empty()).then(|| format!("communicators {} do not cross", names.join(", ")))
}

fn to_report(sum: &KindSum) -> KindReport {
    let [
        up,
        down,
        both,
        sends,
        sent_up,
        sent_down,
        captured,
        uncounted,
        bounds,
        sizes @ ..,
    ] = sum.figures;
    let functions = Func::ALL.into_iter().zip(sum.functions);
    let (sizes, _) = sizes.as_chunks::<2>();
    KindReport {
        load: Load::of_all(up, down, both),
        sent: Sent {
            sends,
            up_bytes: sent_up,
            down_bytes: sent_down,
        },
        captured,
        uncounted,
        is_exact: bounds == 0,
        functions: functions.filter(|(_, sum)| sum.calls > 0).collect(),
        sizes: SizeSum::of_all(sizes),
    }
}

fn to_sum(report: &LinkReport<'_>) -> KindSum {
    let (load, sent) = (report.load, report.sent);
    let bounds = u64::from(!report.is_exact());
    let mut figures = [0; FIGURES];
    let first = [
        load.up_bytes,
        load.down_bytes,
        load.both_bytes,
        sent.sends,
        sent.up_bytes,
        sent.down_bytes,
        report.captured,
        report.uncounted_calls(),
        bounds,
    ];
    let sizes = SizeSum::BUCKETS.map(|below_bytes| {
        let mut own = report.sizes.iter();
        own.find(|size| size.below_bytes == below_bytes)
            .map_or([0, 0], |size| [size.calls, size.bytes])
    });
    let all = first.iter().chain(sizes.as_flattened());
    for (figure, value) in figures.iter_mut().zip(all) {
        *figure = *value;
    }
    KindSum {
        figures,
        functions: Func::ALL.map(|func| report.of_function(func).unwrap_or_default()),
    }
}

/// FNV-1a of all that makes a kind, with what tells jobs apart; outside of any job each process has kinds of its own.
fn hash(pattern: &str, shape: &[usize]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    let mut is_in_job = false;
    for name in JOB_VARIABLES {
        let value = std::env::var_os(name).unwrap_or_default();
        is_in_job |= !value.is_empty();
        add(value.as_encoded_bytes());
    }
    if !is_in_job {
        add(&std::process::id().to_le_bytes());
    }
    add(pattern.as_bytes());
    for number in shape {
        add(&number.to_le_bytes());
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_kind_differ_in_numbers_alone() {
        assert_eq!(pattern("dp_0"), pattern("dp_17"));
        assert_eq!(pattern("0:default_pg"), "*:default_pg");
        assert_eq!(pattern("12"), "*");
        assert_ne!(pattern("tp_0"), pattern("dp_0"));
        assert_eq!(pattern("DATA_PARALLEL_GROUP"), "DATA_PARALLEL_GROUP");
    }

    #[test]
    fn a_name_is_short_and_can_be_printed() {
        assert_eq!(printable(c""), None);
        assert_eq!(printable(c"dp\n\"0\"\x1b[0m").as_deref(), Some("dp0[0m"));
        let long = std::ffi::CString::new("x".repeat(1000)).unwrap();
        assert_eq!(printable(&long).unwrap().len(), LONGEST_NAME);
    }
}
