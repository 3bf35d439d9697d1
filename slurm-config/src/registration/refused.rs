//! What slurmctld refuses of a node that registers; it sets it invalid and drains it.

use std::fmt;

use crate::cores::CoreSet;
use crate::node::Shape;
use crate::rules::CoresRule;

use super::Registration;

/// Why slurmctld sets the node invalid and drains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Fewer GPUs than the node's line declares.
    Fewer {
        /// How many slurmd has.
        found: u64,
        /// How many the line declares.
        declared: u64,
    },
    /// Fewer of a type, which is compared letter by letter.
    FewerOfType {
        /// The type.
        kind: String,
        /// How many slurmd has.
        found: u64,
        /// How many the line declares.
        declared: u64,
    },
    /// A type that the node's line does not have.
    OtherType {
        /// The type that slurmd has.
        kind: String,
    },
    /// Fewer shards than the node's line declares: those of other device files than the node's GPUs', or of a name in other capitals,
    /// are passed over.
    FewerShared {
        /// `shard` or `mps`.
        name: String,
        /// How many slurmd has.
        found: u64,
        /// How many the line declares.
        declared: u64,
    },
    /// `Cores=` that is no list of numbers.
    NoNumbers {
        /// `Cores=`.
        cores: String,
    },
    /// Cores that the release does not take.
    Cores {
        /// Slurm's core numbers.
        cores: CoreSet,
        /// What it takes.
        rule: CoresRule,
    },
    /// `Links=`, or links that AutoDetect finds, to more GPUs than the node has (`_links_str2array`).
    Links {
        /// To how many.
        links: u64,
        /// How many the node has.
        gpus: u64,
    },
    /// A core beyond the last.
    NoSuchCore {
        /// Slurm's core numbers.
        cores: CoreSet,
    },
    /// `RestrictedCoresPerGPU=` on a node whose GPUs have neither cores nor a type, or that has none.
    RestrictedWithoutPlaces,
    /// GPUs without as many cores of their own as `RestrictedCoresPerGPU=` asks for.
    Restricted {
        /// How many are asked for, for each GPU.
        per_gpu: u64,
        /// The cores of these GPUs, which others may have and the system may keep.
        cores: CoreSet,
        /// How many are left of them.
        left: u64,
        /// How many these GPUs need.
        needed: u64,
    },
}

impl fmt::Display for Refused {
    /// The reason in a person's words, after "because".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fewer { found, declared } => {
                write!(f, "slurmd has {found} of {declared} GPUs")
            }
            Self::FewerOfType {
                kind,
                found,
                declared,
            } => write!(f, "slurmd has {found} of {declared} GPUs of type {kind}"),
            Self::OtherType { kind } => {
                write!(
                    f,
                    "slurmd has type {kind}, which the node's line does not have"
                )
            }
            Self::FewerShared {
                name,
                found,
                declared,
            } => write!(
                f,
                "the node's GPUs have {found} of {declared} {name}: those of other device files or of another name are passed over"
            ),
            Self::NoNumbers { cores } => {
                write!(f, "Cores={cores} is no list of core numbers")
            }
            Self::Cores { cores, rule } => {
                write!(f, "cores {cores} are not {rule}")
            }
            Self::Links { links, gpus } => write!(
                f,
                "links to {links} GPUs are given and the node's line has {gpus} (\"Invalid GRES Links value\")"
            ),
            Self::NoSuchCore { cores } => {
                write!(f, "cores {cores} go beyond the node's last core")
            }
            Self::RestrictedWithoutPlaces => f.write_str(
                "RestrictedCoresPerGPU= needs GPUs with Cores= or a type (\"don't have any topology\")",
            ),
            Self::Restricted {
                per_gpu,
                cores,
                left,
                needed,
            } => write!(
                f,
                "RestrictedCoresPerGPU={per_gpu} needs {needed} cores of {cores}, of which {left} are left"
            ),
        }
    }
}

/// Whether a release with `rule` refuses `cores` because one of them is behind the last of a node of `shape`; before there were rules,
/// nothing looked.
fn is_beyond(rule: CoresRule, shape: Shape, cores: &CoreSet) -> bool {
    let last = cores.last().map_or(0, u64::from);
    rule != CoresRule::AnySet && last >= shape.cores()
}

impl Registration {
    /// Whether slurmctld of a release with `rule` takes it for a node of `shape`.
    ///
    /// # Errors
    /// Why it does not.
    pub fn judge(&self, rule: CoresRule, shape: Shape) -> Result<(), Refused> {
        let found: u64 = self.records.iter().map(|record| record.count).sum();
        let wanted = self.wanted;
        if found < wanted {
            return Err(Refused::Fewer {
                found,
                declared: wanted,
            });
        }
        // slurmctld looks at places only where a record has cores or a type, or GPUs are shared.
        let looks = self.has_places() || !self.shared.is_empty();
        for record in self.records.iter().filter(|_| looks) {
            let gpus = found.min(wanted);
            if let Some(links) = record.links.filter(|links| *links > gpus) {
                return Err(Refused::Links { links, gpus });
            }
            let cores = match &record.cores {
                None => continue,
                // Before there were rules, nothing looked.
                Some(Err(_)) if rule == CoresRule::AnySet => continue,
                Some(Err(cores)) => {
                    return Err(Refused::NoNumbers {
                        cores: cores.clone(),
                    });
                }
                Some(Ok(cores)) => cores,
            };
            if is_beyond(rule, shape, cores) {
                return Err(Refused::NoSuchCore {
                    cores: cores.clone(),
                });
            }
            if !rule.admits_in(shape, cores) {
                return Err(Refused::Cores {
                    cores: cores.clone(),
                    rule,
                });
            }
        }
        self.judge_types()?;
        match self.shared.iter().find(|own| own.found < own.declared) {
            Some(own) => Err(Refused::FewerShared {
                name: own.name.to_owned(),
                found: own.found,
                declared: own.declared,
            }),
            None => Ok(()),
        }
    }

    /// Whether each GPU has `per_gpu` cores for itself on a node of `shape`, without those that are `kept` for the system, taken
    /// from the lowest, record by record (`_set_gpu_spec`, slurmctld/node_mgr.c).  Cores that `rule` refuses count for none, and
    /// nothing is looked at behind them.
    ///
    /// # Errors
    /// [`Refused::RestrictedWithoutPlaces`] or [`Refused::Restricted`].
    pub fn judge_restricted(
        &self,
        per_gpu: u64,
        kept: &CoreSet,
        rule: CoresRule,
        shape: Shape,
    ) -> Result<(), Refused> {
        let looks = self.has_places() || !self.shared.is_empty();
        if self.records.is_empty() || !looks {
            return Err(Refused::RestrictedWithoutPlaces);
        }
        let all: CoreSet = (0..u32::try_from(shape.cores()).unwrap_or(u32::MAX)).collect();
        let has_cores = self.records.iter().any(|record| record.cores.is_some());
        let mut taken = kept.clone();
        for record in self.records.iter().filter(|_| has_cores) {
            let cores = match &record.cores {
                None => &all,
                Some(Ok(cores))
                    if !is_beyond(rule, shape, cores) && rule.admits_in(shape, cores) =>
                {
                    cores
                }
                Some(_) => return Ok(()),
            };
            let needed = record.count.saturating_mul(per_gpu);
            let open = cores.difference(&taken);
            let left = open.len() as u64;
            if left < needed {
                return Err(Refused::Restricted {
                    per_gpu,
                    cores: cores.clone(),
                    left,
                    needed,
                });
            }
            let own = open
                .iter()
                .take(usize::try_from(needed).unwrap_or(usize::MAX));
            taken.extend_with(&own.collect());
        }
        Ok(())
    }

    /// Whether a record has cores or a type.
    fn has_places(&self) -> bool {
        let mut records = self.records.iter();
        records.any(|record| record.cores.is_some() || record.kind.is_some())
    }

    /// Types are compared letter by letter, and only where the node's line has some.
    fn judge_types(&self) -> Result<(), Refused> {
        let typed = self
            .declared
            .iter()
            .filter_map(|(kind, count)| Some((kind.as_ref()?, *count)));
        let typed: Vec<(&String, u64)> = typed.collect();
        if typed.is_empty() || !self.has_places() {
            return Ok(());
        }
        for (kind, count) in &typed {
            let own = self
                .records
                .iter()
                .filter(|record| record.kind.as_ref() == Some(*kind));
            let found: u64 = own.map(|record| record.count).sum();
            if found < *count && self.records.len() > 1 {
                return Err(Refused::FewerOfType {
                    kind: (*kind).clone(),
                    found,
                    declared: *count,
                });
            }
        }
        let kinds = self
            .records
            .iter()
            .filter_map(|record| record.kind.as_ref());
        for kind in kinds {
            if !typed.iter().any(|(own, _)| *own == kind) {
                return Err(Refused::OtherType { kind: kind.clone() });
            }
        }
        Ok(())
    }
}
