//! What becomes of the node under a release, as it is foretold.

use serde::Serialize;
use slurm_config::registration::Refused;
use slurm_config::release::Release;

/// What becomes of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ForecastOutcome {
    /// It registers and takes jobs.
    Accepted,
    /// slurmctld drains it.
    Drained,
    /// slurmd does not start.
    NoStart,
    /// It cannot be told.
    Unknown,
}

/// What becomes of the node under one release.
#[derive(Debug)]
pub(crate) struct Foretold {
    /// The release, without a patch.
    pub(super) release: Release,
    /// What happens.
    pub(super) outcome: ForecastOutcome,
    /// Why, unless the node registers.
    pub(super) why: Option<String>,
    /// What slurmd registers; None where it does not start or that is not known.
    pub(super) gpus: Option<String>,
    /// What slurmctld refuses in that.
    pub(super) refused: Option<Refused>,
}
