//! GRES that share GPUs: gres/shard and gres/mps.

use crate::gres::{MAX_FILES, NodeGres};
use crate::hostlist;
use crate::node::Node;

use super::{Fatal, Record};

/// A GRES that shares GPUs, as slurmd registers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shared {
    pub(super) name: &'static str,
    /// How many the node's line declares.
    pub(super) declared: u64,
    /// How many slurmd has.
    pub(super) found: u64,
}

/// The GRES that share GPUs (`gres_id_shared`, interfaces/gres.c).
pub(super) const SHARED: [&str; 2] = ["mps", "shard"];

/// The GRES that share GPUs among those that a value of `GresTypes=` names.  Others on a node's line or in gres.conf are left out
/// (`gres_name_filter`, `_parse_gres_config`, interfaces/gres.c, common/gres.c in 22.05, in every release).
pub fn sharing(gres_types: &str) -> Vec<&'static str> {
    let has = |name: &&str| gres_types.split(',').any(|own| own == *name);
    SHARED.into_iter().filter(has).collect()
}

impl Shared {
    /// What slurmd has of gres/`name`: one line without a file, which it spreads over all GPUs, or lines with the files of
    /// GPUs (`_merge_lists`, plugins/gres/common/gres_c_s.c); None where the node's line has none.
    pub(super) fn of(
        name: &'static str,
        gres: &NodeGres<'_>,
        node: &Node,
        gpus: &[Record],
    ) -> Result<Option<Self>, Fatal> {
        let lines = gres.of_name(name);
        let with_file = lines.iter().filter(|line| !line.files().is_empty()).count();
        let is_mixed = with_file > 0 && with_file < lines.len();
        let has_types = lines.iter().any(|line| line.kind().is_some());
        if is_mixed || with_file == 0 && !has_types && lines.len() > 1 {
            return Err(Fatal::SharedLines {
                name: name.to_owned(),
            });
        }
        let Some(declared) = node.gres_count(name).filter(|count| *count > 0) else {
            return Ok(None);
        };
        // What is on no line of gres.conf is a record of its own, without a file.
        let mut open = declared;
        let mut records: Vec<(Vec<String>, u64)> = Vec::new();
        let mut passed_over = 0;
        for line in &lines {
            let given = line.count().unwrap_or_else(|| line.devices());
            let files = line.files();
            let is_misspelt = line.is_misspelt(name);
            // Under another name it shares nothing, and has one for each file.
            if is_misspelt && !files.is_empty() && given != files.len() as u64 {
                return Err(Fatal::Count {
                    count: given,
                    files: files.len() as u64,
                });
            }
            let count = given.min(open);
            open -= count;
            if is_misspelt {
                passed_over += count;
            } else if count > 0 {
                records.push((files, count));
            }
        }
        if open > 0 && (!records.is_empty() || passed_over > 0) {
            return Err(Fatal::SharedShort {
                name: name.to_owned(),
                found: declared - open,
                declared,
            });
        }
        if gpus.is_empty() {
            return Err(Fatal::SharedAlone {
                name: name.to_owned(),
            });
        }
        let files: Vec<String> = gpus
            .iter()
            .filter_map(|gpu| gpu.file.as_deref())
            .flat_map(|files| hostlist::expand(files, MAX_FILES))
            .collect();
        let of_record = |(own, count): &(Vec<String>, u64)| {
            let each = count / (own.len() as u64).max(1);
            let known = own.iter().filter(|file| files.contains(file));
            each.saturating_mul(known.count() as u64)
        };
        let found = if records.iter().all(|(files, _)| files.is_empty()) {
            declared - passed_over
        } else {
            records.iter().map(of_record).fold(0, u64::saturating_add)
        };
        Ok(Some(Self {
            name,
            declared,
            found,
        }))
    }
}
