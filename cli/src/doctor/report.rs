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
    /// Where slurmd keeps its copies of slurmctld's files; what is to be changed in them is changed there.
    copies: Option<String>,
}

/// Files of Slurm that slurmctld sends (`slurmd_config_files`, common/fetch_config.c, the same from 22.05 on) and that advice is
/// about.
const SENT: [&str; 4] = ["slurm.conf", "gres.conf", "cgroup.conf", "plugstack.conf"];

/// A change in slurmd's copies in `folder` as it is made where slurmctld has the files; another is as it was.
fn on_slurmctlds_host(change: String, folder: &str) -> String {
    let ends = |c: char| !(c.is_alphanumeric() || "/._-:".contains(c));
    let mut copies: Vec<&str> = Vec::new();
    for (at, _) in change.match_indices(&format!("{folder}/")) {
        let rest = change.get(at..).unwrap_or_default();
        let place = rest.split(ends).next().unwrap_or_default();
        let place = place.trim_end_matches([':', '.']);
        if !copies.contains(&place) {
            copies.push(place);
        }
    }
    let words = change.split(ends).map(|word| word.trim_end_matches(':'));
    let mut sent = words.filter(|word| SENT.contains(word));
    if copies.is_empty() && sent.next().is_none() {
        return change;
    }
    let short = change.replace(&format!("{folder}/"), "");
    let (what, whose) = match copies.as_slice() {
        [one] => {
            let name = one.get(folder.len() + 1..).unwrap_or_default();
            let file = name.split(':').next().unwrap_or_default();
            let whose = format!("copy: {one}");
            (
                short.replace(&format!("{name}:"), &format!("{file}:")),
                whose,
            )
        }
        [] => (short, format!("copies: {folder}")),
        several => (short, format!("copies: {}", several.join(", "))),
    };
    format!("on slurmctld's host, {what}, then `scontrol reconfigure` (slurmd's {whose})")
}

impl DoctorReport {
    /// An empty report on a host whose slurmd keeps copies of slurmctld's files in a folder, or has its own.
    pub(crate) fn with_copies_in(copies: Option<String>) -> Self {
        Self {
            copies,
            ..Self::default()
        }
    }

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

    fn add(&mut self, mut finding: DoctorFinding) {
        if let Some(folder) = &self.copies {
            finding.change = on_slurmctlds_host(finding.change, folder);
        }
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

#[cfg(test)]
mod tests {
    use super::on_slurmctlds_host;

    #[test]
    fn a_change_in_slurmds_copies_is_made_where_slurmctld_has_them() {
        for (change, expected) in [
            (
                "/c/gres.conf:1: Cores=0-7   (node 0)",
                "on slurmctld's host, gres.conf: Cores=0-7   (node 0), then `scontrol reconfigure` (slurmd's copy: /c/gres.conf:1)",
            ),
            (
                "/c/gres.conf:1: Cores=0-7; /c/gres.conf:12: Cores=8-15",
                "on slurmctld's host, gres.conf:1: Cores=0-7; gres.conf:12: Cores=8-15, then `scontrol reconfigure` (slurmd's copies: \
                 /c/gres.conf:1, /c/gres.conf:12)",
            ),
            (
                "gres.conf and the node's line as `gpu-numa gres-conf` prints them",
                "on slurmctld's host, gres.conf and the node's line as `gpu-numa gres-conf` prints them, then `scontrol reconfigure` \
                 (slurmd's copies: /c)",
            ),
            (
                "/etc/slurm/plugstack.conf.d/a.conf:1: remove the line",
                "/etc/slurm/plugstack.conf.d/a.conf:1: remove the line",
            ),
            ("load the driver", "load the driver"),
        ] {
            assert_eq!(on_slurmctlds_host(change.to_owned(), "/c"), expected);
        }
    }
}
