//! Lists of a document that are no longer than a machine can have them.
//!
//! A set costs memory by its highest index, so a short text that repeats a set could ask for gigabytes.  A CPU is in one
//! core, one package and one node, which is what keeps these lists small.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::{Gpu, Nic, NumaNode, Package};
use crate::set::{CpuSet, MAX_INDEX};

/// Packages, NUMA nodes or NICs at most.  Linux has 1,024 nodes; 16 NICs have some 2,000 virtual functions.
const MOST: usize = 4096;
/// GPUs at most: 16, of which each shows 32 virtual functions.  What is said of pairs costs the square.
pub const MOST_GPUS: usize = 512;
/// Cores or caches at most.
const MOST_SETS: usize = MAX_INDEX as usize + 1;

/// What a list has CPUs by.
pub(crate) trait HasCpus {
    /// How many of its kind a list may have.
    const MOST: usize = MOST;

    /// The CPUs that no other member has; none where members may share some.
    fn own_cpus(&self) -> Option<&CpuSet>;
}

impl HasCpus for CpuSet {
    const MOST: usize = MOST_SETS;

    fn own_cpus(&self) -> Option<&CpuSet> {
        Some(self)
    }
}

impl HasCpus for Package {
    fn own_cpus(&self) -> Option<&CpuSet> {
        Some(&self.cpus)
    }
}

impl HasCpus for NumaNode {
    fn own_cpus(&self) -> Option<&CpuSet> {
        Some(&self.cpus)
    }
}

impl HasCpus for Gpu {
    const MOST: usize = MOST_GPUS;

    fn own_cpus(&self) -> Option<&CpuSet> {
        None
    }
}

impl HasCpus for Nic {
    fn own_cpus(&self) -> Option<&CpuSet> {
        None
    }
}

/// Why a list is none of a machine's.
pub(crate) enum Unbounded {
    /// It is longer than any machine's.
    TooLong,
    /// These CPUs are in it twice.
    Twice(CpuSet),
}

/// A list in the making.
pub(crate) struct List<T> {
    elements: Vec<T>,
    known: CpuSet,
}

impl<T: HasCpus> List<T> {
    /// The empty list.
    pub(crate) fn new() -> Self {
        Self {
            elements: Vec::new(),
            known: CpuSet::new(),
        }
    }

    /// The empty list, with room for `count` elements.
    pub(crate) fn with_room(count: usize) -> Self {
        Self {
            elements: Vec::with_capacity(count.min(T::MOST)),
            known: CpuSet::new(),
        }
    }

    /// Adds an element, where the list may have it.
    pub(crate) fn push(&mut self, element: T) -> Result<(), Unbounded> {
        if self.elements.len() == T::MOST {
            return Err(Unbounded::TooLong);
        }
        if let Some(cpus) = element.own_cpus() {
            if self.known.intersects(cpus) {
                return Err(Unbounded::Twice(self.known.intersection(cpus)));
            }
            self.known.extend_with(cpus);
        }
        self.elements.push(element);
        Ok(())
    }

    /// Its elements.
    pub(crate) fn into_elements(self) -> Vec<T> {
        self.elements
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + HasCpus> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {}", T::MOST)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        let mut list = List::new();
        while let Some(element) = elements.next_element::<T>()? {
            list.push(element).map_err(|why| match why {
                Unbounded::TooLong => A::Error::invalid_length(T::MOST + 1, &self),
                Unbounded::Twice(cpus) => {
                    A::Error::custom(format_args!("CPUs {cpus} are listed twice"))
                }
            })?;
        }
        Ok(list.into_elements())
    }
}

/// The list, in which no CPU is twice.
pub(super) fn read_list<'de, T: Deserialize<'de> + HasCpus, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(ListVisitor(PhantomData))
}

/// [`read_list`], of a list that may be left out.
pub(super) fn read_some_list<'de, T: Deserialize<'de> + HasCpus, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    read_list(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use crate::machine::Machine;

    fn error_of(document: &str) -> String {
        serde_json::from_str::<Machine>(document)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_cpu_is_in_one_core_and_one_package() {
        assert!(error_of(r#"{"cores": ["0-3", "2,9"]}"#).contains("CPUs 2 are listed twice"));
        let package = r#"{"id": 0, "cpus": "0", "numa_nodes": ""}"#;
        let twice = format!(r#"{{"packages": [{package}, {package}]}}"#);
        assert!(error_of(&twice).contains("CPUs 0 are listed twice"));
    }

    #[test]
    fn lists_have_an_end() {
        let none = r#"{"id": 0, "cpus": "", "numa_nodes": ""},"#.repeat(4096);
        let packages = format!(
            r#"{{"packages": [{none}{}]}}"#,
            none.split_once("},").unwrap().0.to_owned() + "}"
        );
        assert!(error_of(&packages).contains("a list of at most 4096"));
    }

    #[test]
    fn texts_of_a_document_are_plain() {
        assert!(error_of(r#"{"hostname": "a\nGres=gpu:9"}"#).contains("expected letters"));
        let machine: Machine = serde_json::from_str(
            r#"{"hostname": "gpu1", "remarks": ["a\u001b[2Jb\nc"],
                "gpus": [{"pci": "0000:01:00.0", "vendor": "10de", "device": "2330", "name": "H100\nName=gpu",
                          "package": null, "numa_nodes": null, "numa_source": "unknown", "cpus": null}]}"#,
        )
        .unwrap();
        assert_eq!(machine.remarks, ["a\u{fffd}[2Jb\u{fffd}c"]);
        assert_eq!(
            machine.gpus[0].name.as_deref(),
            Some("H100\u{fffd}Name=gpu")
        );
    }
}
