//! What `doctor` says.

use serde::Serialize;

/// What a finding does to jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::StopsJobs => "stops jobs",
            Self::StopsBinding => "stops binding",
            Self::WeakensBinding => "weakens binding",
            Self::SlowsJobs => "slows jobs",
        }
    }
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Which check found it, a word that stays.
    pub(crate) check: &'static str,
    /// What it does.
    pub(crate) harm: Harm,
    /// What was seen, and where.
    pub(crate) evidence: String,
    /// What follows from it.
    pub(crate) effect: String,
    /// The line to change, as it should be.
    pub(crate) change: String,
}

/// All that was found, and what could not be looked at.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
    pub(crate) unchecked: Vec<String>,
}

impl Report {
    /// Notes something wrong.
    pub(crate) fn find(
        &mut self,
        check: &'static str,
        harm: Harm,
        evidence: impl Into<String>,
        effect: impl Into<String>,
        change: impl Into<String>,
    ) {
        let finding = Finding {
            check,
            harm,
            evidence: evidence.into(),
            effect: effect.into(),
            change: change.into(),
        };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// Notes what could not be looked at, and why.
    pub(crate) fn skip(&mut self, why: impl Into<String>) {
        let why = why.into();
        if !self.unchecked.contains(&why) {
            self.unchecked.push(why);
        }
    }
}
