//! What slurmctld alone refuses in slurm.conf: slurmd and the commands go on, and no job of the cluster runs.
//!
//! Real ones of 22.05, 25.05 and 25.11 were asked.

use std::collections::BTreeSet;
use std::fmt;

use crate::config::{Line, last};
use crate::node::NamesLeft;
use crate::release::Release;
use crate::rules::Series;

/// Why slurmctld does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterFault<'a> {
    /// A partition has nodes that no NodeName line has (`_build_bitmaps`, slurmctld/read_config.c; "Invalid node names in partition").
    UnknownNodes {
        /// The partition's line.
        line: &'a Line,
        /// The first of its nodes that no line has.
        node: String,
    },
    /// SelectTypeParameters= of select/cons_tres says not what is given to jobs.
    NothingToGive(&'a Line),
    /// SelectTypeParameters= of select/linear says what is given to jobs, which are whole nodes there.
    MoreToGive(&'a Line),
}

impl ClusterFault<'_> {
    /// Whether slurmd of `release` does not start either: where it loads select/linear, which looks at its parameters then.
    pub fn stops_slurmd(&self, release: Option<Release>) -> bool {
        match self {
            Self::MoreToGive(_) => release.is_some_and(|own| Series::of(own).slurmd_loads_select),
            Self::UnknownNodes { .. } | Self::NothingToGive(_) => false,
        }
    }

    /// The line that has it.
    pub fn line(&self) -> &Line {
        match self {
            Self::UnknownNodes { line, .. }
            | Self::NothingToGive(line)
            | Self::MoreToGive(line) => line,
        }
    }
}

impl fmt::Display for ClusterFault<'_> {
    /// Where it is, and what is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownNodes { line, node } => {
                write!(
                    f,
                    "{} has {node}, which no NodeName line has",
                    line.quote("Nodes")
                )
            }
            Self::NothingToGive(line) => {
                write!(
                    f,
                    "{} without CR_CPU, CR_Core or CR_Socket",
                    line.quote("SelectTypeParameters")
                )
            }
            Self::MoreToGive(line) => write!(
                f,
                "{} with SelectType=select/linear, which takes no CR_CPU, CR_Core or CR_Socket",
                line.quote("SelectTypeParameters")
            ),
        }
    }
}

/// What slurmctld refuses in these lines, which must be all that there are; where the release is not known, what every release refuses.
pub fn faults_of(conf: &[Line], release: Option<Release>) -> Vec<ClusterFault<'_>> {
    let unknown = with_unknown_nodes(conf).into_iter();
    unknown.chain(select_fault(conf, release)).collect()
}

/// The partitions with nodes that no line names; none where nodes may register themselves (`MaxNodeCount=`), or are too many to compare.
fn with_unknown_nodes(conf: &[Line]) -> Vec<ClusterFault<'_>> {
    let of_key = |key: &'static str| conf.iter().filter_map(move |line| line.get(key));
    let mut named: BTreeSet<String> = BTreeSet::new();
    // Lists may name more than any cluster has: all lines together get so many.
    let mut left = NamesLeft::all();
    for list in of_key("nodename") {
        match left.of(list) {
            Some(names) => named.extend(names),
            None => return Vec::new(),
        }
    }
    if last(conf, "maxnodecount").is_some() {
        return Vec::new();
    }
    named.extend(of_key("nodeset").map(str::to_owned));
    let mut fault = |line: &'_ Line| {
        let list = line
            .get("nodes")
            .filter(|_| line.get("partitionname").is_some())?;
        let list: Vec<&str> = list.split_whitespace().collect();
        let mut nodes = left.of(&list.join(","))?.into_iter();
        nodes.find(|node| !node.eq_ignore_ascii_case("ALL") && !named.contains(node))
    };
    let lines = conf.iter();
    lines
        .filter_map(|line| {
            Some(ClusterFault::UnknownNodes {
                line,
                node: fault(line)?,
            })
        })
        .collect()
}

/// SelectTypeParameters= against SelectType= (`_validate_select_params` and its like of each release: "Invalid SelectTypeParameters").
fn select_fault(conf: &[Line], release: Option<Release>) -> Option<ClusterFault<'_>> {
    let given = last(conf, "selecttype").map(|(kind, _)| kind);
    let by_default = || release.map(|own| Series::of(own).default_select);
    let kind = given.or_else(by_default)?;
    let (value, line) = last(conf, "selecttypeparameters")?;
    let lower = value.to_ascii_lowercase();
    let gives = |word: &str| {
        let begins = ["cr_cpu", "cr_core", "cr_socket"]
            .iter()
            .any(|own| word.starts_with(own));
        begins && word != "cr_core_default_dist_block"
    };
    match (kind, lower.split(',').any(gives)) {
        ("select/cons_tres", false) => Some(ClusterFault::NothingToGive(line)),
        ("select/linear", true) => Some(ClusterFault::MoreToGive(line)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::of_text;

    /// As real ones of 22.05, 25.05 and 25.11 answered.
    #[test]
    fn what_slurmctld_refuses_is_found() {
        let nodes = "NodeName=n[1-4] CPUs=2\nNodeSet=ns Feature=x\n";
        for (text, expected) in [
            ("PartitionName=p Nodes=ALL", None),
            ("PartitionName=p Nodes=n1,n[3-4],ns", None),
            (
                "PartitionName=p Nodes=n1,n7",
                Some("f:3: Nodes=n1,n7 has n7, which no NodeName line has"),
            ),
            ("MaxNodeCount=9\nPartitionName=p Nodes=n7", None),
            ("DownNodes=n7 State=DOWN", None),
            (
                "SelectType=select/cons_tres\nSelectTypeParameters=CR_Memory,CR_CORE_DEFAULT_DIST_BLOCK",
                Some(
                    "f:4: SelectTypeParameters=CR_Memory,CR_CORE_DEFAULT_DIST_BLOCK without CR_CPU, CR_Core or CR_Socket",
                ),
            ),
            (
                "SelectType=select/cons_tres\nSelectTypeParameters=cr_core_memory",
                None,
            ),
            (
                "SelectType=select/linear\nSelectTypeParameters=CR_Core",
                Some(
                    "f:4: SelectTypeParameters=CR_Core with SelectType=select/linear, which takes no CR_CPU, CR_Core or CR_Socket",
                ),
            ),
            (
                "SelectType=select/linear\nSelectTypeParameters=CR_Memory",
                None,
            ),
        ] {
            let lines = of_text(&format!("{nodes}{text}\n"), "f");
            let found = faults_of(&lines, None);
            let told = found.first().map(ToString::to_string);
            assert_eq!(told.as_deref(), expected, "{text}");
        }
    }
}
