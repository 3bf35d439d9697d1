//! Hosts sorted into kinds, and what sets a host apart from its kind.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use topology::quantity::volume;

use super::document::{DifferingHost, HostKind};
use super::facts::{Facts, compare, distance};
use super::read::Host;

/// A variant belongs to a kind when at most one in this many facts differs.
const LIKENESS: usize = 4;
/// Kinds of one family that a variant is compared with, the commonest.
const MOST_COMPARED: usize = 64;
/// Memory of a node may differ from its kind's by one part in this many: firmware keeps some.
const MEMORY_TOLERANCE: u64 = 32;

/// Hosts that agree in every fact.
struct Variant<'a> {
    facts: &'a Facts,
    hosts: Vec<&'a Host>,
}

/// Variants that are one kind; the first is what the kind is.
struct Group<'a> {
    variants: Vec<Variant<'a>>,
    like: Option<usize>,
}

/// Sorts the hosts that have a machine.
pub(super) fn sort_into_kinds(hosts: &[Host]) -> Vec<HostKind> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut families: HashMap<&str, Vec<usize>> = HashMap::new();
    for variant in list_variants(hosts) {
        let family = families.entry(&variant.facts.family).or_default();
        let nearest = find_nearest(&groups, family, variant.facts);
        match nearest.and_then(|index| groups.get_mut(index)) {
            Some(group) if 2 * variant.hosts.len() <= main_count(group) => {
                group.variants.push(variant);
            }
            Some(_) | None => {
                family.push(groups.len());
                groups.push(Group {
                    variants: vec![variant],
                    like: nearest,
                });
            }
        }
    }
    describe(&groups)
}

fn main_count(group: &Group<'_>) -> usize {
    group.variants.first().map_or(0, |main| main.hosts.len())
}

/// Commonest first, then by the name of the first host, so that the answer is the same whatever the order.
fn list_variants(hosts: &[Host]) -> Vec<Variant<'_>> {
    let mut by_facts: HashMap<*const Facts, Variant<'_>> = HashMap::new();
    for host in hosts {
        let Some(facts) = &host.facts else { continue };
        by_facts
            .entry(Arc::as_ptr(facts))
            .or_insert_with(|| Variant {
                facts,
                hosts: Vec::new(),
            })
            .hosts
            .push(host);
    }
    let mut variants: Vec<Variant<'_>> = by_facts.into_values().collect();
    variants.sort_by(|a, b| {
        let first = |variant: &Variant<'_>| variant.hosts.first().map(|host| host.name.clone());
        (b.hosts.len().cmp(&a.hosts.len())).then_with(|| first(a).cmp(&first(b)))
    });
    variants
}

/// The kind from which it differs least, if it is like one at all.
fn find_nearest(groups: &[Group<'_>], family: &[usize], facts: &Facts) -> Option<usize> {
    family
        .iter()
        .take(MOST_COMPARED)
        .filter_map(|index| {
            let main = groups.get(*index)?.variants.first()?;
            let apart = distance(facts, main.facts);
            // A fact that has another value counts on both sides.
            let size = facts.facts.len() + main.facts.facts.len();
            (apart * LIKENESS <= size).then_some((apart, *index))
        })
        .min()
        .map(|(_, index)| index)
}

fn describe(groups: &[Group<'_>]) -> Vec<HostKind> {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    let size = |index: &usize| {
        groups.get(*index).map_or(0, |group| {
            group
                .variants
                .iter()
                .map(|variant| variant.hosts.len())
                .sum()
        })
    };
    order.sort_by_key(|index| std::cmp::Reverse(size(index)));
    let number_of: HashMap<usize, usize> = order
        .iter()
        .enumerate()
        .map(|(position, index)| (*index, position + 1))
        .collect();
    order
        .iter()
        .filter_map(|index| {
            let group = groups.get(*index)?;
            let main = group.variants.first()?;
            let like = group
                .like
                .and_then(|other| groups.get(other)?.variants.first());
            let mut names: Vec<String> = group
                .variants
                .iter()
                .flat_map(|variant| variant.hosts.iter().map(|host| host.name.clone()))
                .collect();
            names.sort();
            Some(HostKind {
                number: *number_of.get(index)?,
                summary: main.facts.summary.clone(),
                hosts: names,
                unlike: like.map_or_else(Vec::new, |like| compare(main.facts, like.facts)),
                like: group.like.and_then(|other| number_of.get(&other).copied()),
                differing: list_differing(group, main.facts),
            })
        })
        .collect()
}

fn list_differing(group: &Group<'_>, main: &Facts) -> Vec<DifferingHost> {
    let memory = usual_memory(group);
    let mut differing = Vec::new();
    for variant in &group.variants {
        let apart = compare(variant.facts, main);
        for host in &variant.hosts {
            let mut differences = apart.clone();
            differences.extend(compare_memory(host, &memory));
            if !differences.is_empty() {
                differing.push(DifferingHost {
                    host: host.name.clone(),
                    file: host.file.clone(),
                    differences,
                });
            }
        }
    }
    differing.sort_by(|a, b| a.host.cmp(&b.host));
    differing
}

/// The median of each node's memory, in bytes.
fn usual_memory(group: &Group<'_>) -> BTreeMap<u32, u64> {
    let mut sizes: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for host in group.variants.iter().flat_map(|variant| &variant.hosts) {
        for (node, bytes) in &host.memory {
            sizes.entry(*node).or_default().push(*bytes);
        }
    }
    sizes
        .into_iter()
        .filter_map(|(node, mut sizes)| {
            sizes.sort_unstable();
            Some((node, *sizes.get(sizes.len() / 2)?))
        })
        .collect()
}

fn compare_memory(host: &Host, usual: &BTreeMap<u32, u64>) -> Vec<String> {
    host.memory
        .iter()
        .filter_map(|(node, bytes)| {
            let usual = *usual.get(node)?;
            (bytes.abs_diff(usual) > usual / MEMORY_TOLERANCE).then(|| {
                format!(
                    "node {node}: memory {}; its kind: {}",
                    volume(*bytes),
                    volume(usual)
                )
            })
        })
        .collect()
}
