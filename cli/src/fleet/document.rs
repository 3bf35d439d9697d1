//! The document of `fleet --json`.

use serde::Serialize;

/// The hosts by kind, and what is wrong with them.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FleetDocument {
    /// `gpu-numa/fleet/1`.
    pub(super) schema: &'static str,
    /// How many hosts gave a machine, a doctor report, or both.
    pub(super) hosts: usize,
    /// Commonest first.
    pub(super) kinds: Vec<HostKind>,
    /// What doctor found, on the most hosts first.
    pub(super) findings: Vec<FleetFinding>,
    /// Files that gave no host.
    pub(super) skipped: Vec<SkippedFile>,
    /// Whether no host differs, nothing was found and no file was skipped.
    pub(super) ok: bool,
}

/// One check of doctor's, and the hosts on which it found something.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct FleetFinding {
    /// The check's stable identifier.
    pub(super) check: String,
    /// By name.
    pub(super) hosts: Vec<String>,
    /// What was seen on the first of them.
    pub(super) evidence: String,
    /// What to change on the first of them.
    pub(super) change: String,
}

/// Hosts that agree in most facts.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct HostKind {
    /// From 1, the commonest first.
    pub(super) number: usize,
    /// What such a host consists of.
    pub(super) summary: String,
    /// All its hosts, including those that differ.
    pub(super) hosts: Vec<String>,
    /// How it differs from the kind `like`; empty where there is none.
    pub(super) unlike: Vec<String>,
    /// The number of the kind that it nearly equals; null where there is none.
    pub(super) like: Option<usize>,
    /// The hosts that differ from the majority.
    pub(super) differing: Vec<DifferingHost>,
}

/// A host that differs from its kind.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct DifferingHost {
    /// Its name.
    pub(super) host: String,
    /// The file that described it.
    pub(super) file: String,
    /// One sentence per fact.
    pub(super) differences: Vec<String>,
}

/// A file that was skipped.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct SkippedFile {
    /// Its path.
    pub(super) file: String,
    /// Why it was skipped.
    pub(super) why: String,
}
