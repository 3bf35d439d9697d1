//! What `doctor` found, and what it could not check.

use std::collections::HashSet;

use serde::Serialize;

/// What a finding does to jobs, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Harm {
    /// The node takes no jobs with GPUs.
    StopsJobs,
    /// Jobs are refused, bound wrongly or not at all.
    StopsBinding,
    /// Jobs are bound by less than could be known, and may leave what they were bound to.
    WeakensBinding,
    /// Jobs run, slower than they could.
    SlowsJobs,
}

impl Harm {
    /// The exit status of `gpu-numa check`; 2 is that it could not look.
    pub(crate) fn exit_status(self) -> u8 {
        match self {
            Self::StopsJobs => 1,
            Self::StopsBinding => 3,
            Self::WeakensBinding => 4,
            Self::SlowsJobs => 5,
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::StopsJobs => "stops jobs",
            Self::StopsBinding => "stops binding",
            Self::WeakensBinding => "weakens binding",
            Self::SlowsJobs => "slows jobs",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DoctorFinding {
    /// The check's identifier, which stays the same in later releases.
    pub(crate) check: &'static str,
    /// What it does to jobs.
    pub(crate) harm: Harm,
    /// What was seen, and where.
    pub(crate) evidence: String,
    /// What follows from it.
    pub(crate) effect: String,
    /// What to change: the file and the line as it should be.
    pub(crate) change: String,
    /// Whether it is of a GPU that this host has or had: another kernel driver has it, its device file is not there.
    #[serde(skip)]
    pub(crate) is_of_gpu: bool,
}

impl DoctorFinding {
    /// Whether a node should take no jobs for it: what stops jobs, and is of the host's own GPUs.
    ///
    /// What is of a configuration is left to slurmctld and slurmd: a line that somebody mistypes is the same on every node, and
    /// must not drain a cluster.
    pub(crate) fn drains(&self) -> bool {
        self.harm == Harm::StopsJobs && self.is_of_gpu
    }
}

/// All findings, and what could not be checked.
#[derive(Debug, Default)]
pub(crate) struct DoctorReport {
    pub(crate) findings: Vec<DoctorFinding>,
    pub(crate) unchecked: Vec<String>,
    /// What was found, to look up: a file of many lines may have a finding for each.
    known: HashSet<DoctorFinding>,
}

impl DoctorReport {
    /// Adds a finding, once.
    pub(crate) fn find(
        &mut self,
        check: &'static str,
        harm: Harm,
        evidence: impl Into<String>,
        effect: impl Into<String>,
        change: impl Into<String>,
    ) {
        let finding = DoctorFinding {
            check,
            harm,
            evidence: evidence.into(),
            effect: effect.into(),
            change: change.into(),
            is_of_gpu: false,
        };
        self.add(finding);
    }

    /// Adds what stops jobs because of a GPU of this host, once.
    pub(crate) fn find_of_gpu(
        &mut self,
        check: &'static str,
        evidence: impl Into<String>,
        effect: impl Into<String>,
        change: impl Into<String>,
    ) {
        self.add(DoctorFinding {
            check,
            harm: Harm::StopsJobs,
            evidence: evidence.into(),
            effect: effect.into(),
            change: change.into(),
            is_of_gpu: true,
        });
    }

    fn add(&mut self, finding: DoctorFinding) {
        if self.known.insert(finding.clone()) {
            self.findings.push(finding);
        }
    }

    /// Whether `check` has found something that stops jobs.
    pub(crate) fn stops(&self, check: &str) -> bool {
        let mut findings = self.findings.iter();
        findings.any(|own| own.check == check && own.harm == Harm::StopsJobs)
    }

    /// Adds what could not be checked and why, once.
    pub(crate) fn skip(&mut self, why: impl Into<String>) {
        let why = why.into();
        if !self.unchecked.contains(&why) {
            self.unchecked.push(why);
        }
    }
}
