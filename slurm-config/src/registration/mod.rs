//! What slurmd registers of a node's GPUs, and whether slurmctld takes it.
//!
//! The steps are Slurm's own, the same from 22.05 on but for [`CoresRule`](crate::rules::CoresRule): gres.conf is checked
//! (`_validate_gres_conf`), held against the node's `Gres=` (`_merge_config`, interfaces/gres.c), then against what
//! AutoDetect finds (`_merge_system_gres_conf`, plugins/gres/gpu/gres_gpu.c), and slurmctld judges the rest
//! (`_node_config_validate`, interfaces/gres.c).  `make test-gres` holds them to real daemons.

mod detected;
mod refused;
mod shape;
mod shared;
mod stop;
#[cfg(test)]
mod tests;

use crate::cores::CoreSet;
use crate::gres::{MAX_FILES, NodeGres};
use crate::hostlist;
use crate::node::Node;
use crate::rules::Series;

use detected::{merge_detected, take_lines};
use shared::Shared;
use stop::{check_files, check_lines, read_lines};

pub use detected::{is_part_of, type_of_name};
pub use refused::Refused;
pub use shape::registered_shape;
pub use shared::sharing;
pub use stop::{Fatal, sets_variable, variable_flag};

/// GPUs that Slurm holds as one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its type; None for none.
    pub kind: Option<String>,
    /// Its device files as one text, by which lines and found GPUs are compared; None where none is named.
    pub file: Option<String>,
    /// How many GPUs it is.
    pub count: u64,
    /// Its cores, or what stands there instead of numbers; None where none are named, which means all.
    pub cores: Option<Result<CoreSet, String>>,
    /// How many GPUs its links are to, itself among them; None where no links are named.
    pub links: Option<u64>,
    /// Whether its files are one device (`MultipleFiles=`, MIG).
    pub is_of_several_files: bool,
    /// Whether `Name=` of its line has other capitals than GresTypes=: slurmd takes it, and slurmctld passes over it
    /// ("duplicate plugin ID", `gres_node_config_unpack`, interfaces/gres.c, in every release).
    pub is_misspelt: bool,
}

/// The GPUs of a node as slurmd registers them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// How many the node's line declares.
    wanted: u64,
    /// What it declares of each type.
    declared: Vec<(Option<String>, u64)>,
    /// What slurmd has.
    pub records: Vec<Record>,
    /// What it has of gres/shard and gres/mps, which share GPUs.
    shared: Vec<Shared>,
}

impl Registration {
    /// What slurmd of `series` registers of the GPUs of `gres` under the line of `node`; `detected` is what AutoDetect finds, one
    /// record each, None where it does not look; `sharing` are the GRES of GresTypes= that share GPUs ([`sharing`]).
    ///
    /// # Errors
    /// Why slurmd does not start.
    pub fn of(
        gres: &NodeGres<'_>,
        node: &Node,
        detected: Option<Vec<Record>>,
        series: &Series,
        sharing: &[&'static str],
    ) -> Result<Self, Fatal> {
        if gres.conflict.is_some() {
            return Err(Fatal::Detections);
        }
        check_lines(&gres.every, series.flags)?;
        let mut lines = read_lines(gres)?;
        let declared: Vec<_> = node
            .gres("gpu")
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        let typed = declared.iter().filter(|(kind, _)| kind.is_some()).count();
        if typed > 0 && typed < declared.len() {
            return Err(Fatal::MixedGres);
        }
        let mut records = Vec::new();
        if typed == 0 {
            let counts = declared.iter().map(|(_, count)| *count);
            let all = counts.fold(0, u64::saturating_add);
            take_lines(&mut lines, None, all, &mut records);
        } else {
            for (kind, count) in &declared {
                take_lines(&mut lines, kind.as_deref(), *count, &mut records);
            }
        }
        if let Some(found) = detected {
            records = merge_detected(records, found);
        }
        records.retain(|record| record.file.is_some() && !record.is_misspelt);
        check_files(&records)?;
        let mut shared = Vec::new();
        for name in sharing.iter().copied() {
            shared.extend(Shared::of(name, gres, node, &records)?);
        }
        Ok(Self {
            wanted: node.gres_count("gpu").unwrap_or(0),
            declared,
            records,
            shared,
        })
    }

    /// Takes each file of a GPU of several files for a GPU of its own, as slurmd does where
    /// [`splits_several_files`](crate::rules::splits_several_files) and GresTypes= has a GRES that shares GPUs.
    #[must_use]
    pub fn with_files_split(mut self) -> Self {
        let split = |record: Record| {
            let files = record.file.as_deref().unwrap_or_default();
            if !record.is_of_several_files || files.is_empty() {
                return vec![record];
            }
            let one = |file: String| Record {
                file: Some(file),
                ..record.clone()
            };
            let all = hostlist::expand(files, MAX_FILES);
            all.into_iter().map(one).collect()
        };
        self.records = self.records.into_iter().flat_map(split).collect();
        self
    }
}
