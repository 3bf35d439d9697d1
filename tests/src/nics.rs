//! Which NICs GPUs should be dealt, by trying all ways: the judge of the deal, which shares no code with it.
//!
//! A GPU gets NICs of the nearest kind alone.  Each gets one, so that the sum of the squares of how many GPUs a NIC serves is
//! least; a NIC that serves nobody then goes to a GPU that it is nearest to, so that the sum of the squares of how many NICs
//! each has is least.

use std::collections::{BTreeMap, BTreeSet};

/// Where a GPU or a NIC is.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The bridges above it, nearest first, by any numbers.
    pub bridges: Vec<u64>,
    /// Its host bridge, by any number; none where not known.
    pub root: Option<u64>,
    /// The nodes near it; none where not known.
    pub nodes: Option<BTreeSet<u32>>,
    /// Its package; none where not known.
    pub package: Option<u32>,
}

/// How far a GPU and a NIC are apart; none where it is not known.
fn distance(gpu: &Place, nic: &Place) -> Option<u32> {
    let shared = gpu.bridges.iter().enumerate().find_map(|(mine, bridge)| {
        let theirs = nic.bridges.iter().position(|other| other == bridge)?;
        Some(mine.max(theirs))
    });
    if let Some(deepest) = shared {
        return Some(if deepest <= 1 { 0 } else { 1 });
    }
    if gpu.root.is_some() && gpu.root == nic.root {
        return Some(2);
    }
    let packages = gpu.package.zip(nic.package);
    if packages.is_some_and(|(gpu, nic)| gpu != nic) {
        return Some(5);
    }
    let (mine, theirs) = gpu.nodes.as_ref().zip(nic.nodes.as_ref())?;
    if !mine.is_disjoint(theirs) {
        return Some(3);
    }
    packages.map(|_| 4)
}

/// The NICs that are nearest to each GPU, by their places in `nics`.
pub fn nearest(gpus: &[Place], nics: &[Place]) -> Vec<Vec<usize>> {
    let of = |gpu: &Place| {
        let apart: Vec<Option<u32>> = nics.iter().map(|nic| distance(gpu, nic)).collect();
        let least = apart.iter().flatten().min();
        let is_nearest =
            |nic: &usize| least.is_some() && apart.get(*nic).and_then(Option::as_ref) == least;
        (0..nics.len()).filter(is_nearest).collect()
    };
    gpus.iter().map(of).collect()
}

/// The least sum of squares of loads where each of `items` goes onto one of its places, which have `loads` already.  Places that the same items may
/// go onto are alike, so of these only how many have which load is tried.
fn least_squares(items: &[Vec<usize>], loads: &[usize]) -> usize {
    let choosers = |place: usize| -> Vec<usize> {
        let may = |item: &usize| items.get(*item).is_some_and(|own| own.contains(&place));
        (0..items.len()).filter(may).collect()
    };
    let mut alike: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
    for (place, load) in loads.iter().enumerate() {
        alike.entry(choosers(place)).or_default().push(*load);
    }
    let kinds: Vec<(Vec<usize>, Vec<usize>)> = alike.into_iter().collect();
    let start: Vec<Vec<usize>> = kinds.iter().map(|(_, loads)| sorted(loads)).collect();
    let mut states = BTreeSet::from([start]);
    for item in (0..items.len()).filter(|item| items.get(*item).is_some_and(|own| !own.is_empty()))
    {
        let mut next = BTreeSet::new();
        for state in &states {
            for (kind, (choosers, _)) in kinds.iter().enumerate() {
                if !choosers.contains(&item) {
                    continue;
                }
                for place in 0..state.get(kind).map_or(0, Vec::len) {
                    let mut changed = state.clone();
                    if let Some(own) = changed.get_mut(kind) {
                        if let Some(load) = own.get_mut(place) {
                            *load += 1;
                        }
                        own.sort_unstable();
                    }
                    next.insert(changed);
                }
            }
        }
        states = next;
    }
    let squares = |state: &Vec<Vec<usize>>| state.iter().flatten().map(|load| load.pow(2)).sum();
    states.iter().map(squares).min().unwrap_or(0)
}

fn sorted(loads: &[usize]) -> Vec<usize> {
    let mut loads = loads.to_vec();
    loads.sort_unstable();
    loads
}

/// What is wrong with a deal, of which `near` says what is nearest to each GPU; nothing where it is the best.
pub fn complaint(near: &[Vec<usize>], dealt: &[Vec<usize>], nics: usize) -> Option<String> {
    if near.len() != dealt.len() {
        return Some("a GPU is left out".to_owned());
    }
    for (own, near) in dealt.iter().zip(near) {
        if own.is_empty() != near.is_empty() {
            return Some(format!("{own:?} for a GPU with {near:?}"));
        }
        if let Some(far) = own.iter().find(|nic| !near.contains(nic)) {
            return Some(format!("NIC {far} is not nearest to a GPU with {near:?}"));
        }
    }
    let load = |nic: usize| dealt.iter().filter(|own| own.contains(&nic)).count();
    for nic in 0..nics {
        if load(nic) == 0 && near.iter().any(|near| near.contains(&nic)) {
            return Some(format!("NIC {nic} serves nobody"));
        }
    }
    let shares = |own: &&Vec<usize>| own.iter().any(|nic| load(*nic) > 1);
    if dealt.iter().filter(shares).any(|own| own.len() > 1) {
        return Some("a GPU that shares a NIC has a second one".to_owned());
    }
    let shared: usize = (0..nics)
        .map(load)
        .filter(|load| *load > 1)
        .map(|load| load.pow(2))
        .sum();
    let alone = dealt
        .iter()
        .filter(|own| !own.is_empty() && !shares(own))
        .count();
    let best = least_squares(near, &vec![0; nics]);
    if shared + alone != best {
        return Some(format!(
            "squares of NICs' loads are {}, can be {best}",
            shared + alone
        ));
    }
    // Those that no two GPUs share, onto GPUs; one that shares has one already.
    let single: Vec<Vec<usize>> = (0..nics)
        .filter(|nic| load(*nic) <= 1)
        .map(|nic| {
            (0..near.len())
                .filter(|gpu| near.get(*gpu).is_some_and(|near| near.contains(&nic)))
                .collect()
        })
        .collect();
    let loads: Vec<usize> = dealt.iter().map(|own| usize::from(shares(&own))).collect();
    let best = least_squares(&single, &loads);
    let ours: usize = dealt.iter().map(|own| own.len().pow(2)).sum();
    (ours != best).then(|| format!("squares of how many NICs GPUs have are {ours}, can be {best}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deal_that_is_not_the_best_is_complained_of() {
        let all = vec![vec![0, 1], vec![0, 1]];
        assert_eq!(complaint(&all, &[vec![0], vec![1]], 2), None);
        for wrong in [
            [vec![0], vec![0]],
            [vec![0, 1], vec![]],
            [vec![0, 1], vec![1]],
        ] {
            assert!(complaint(&all, &wrong, 2).is_some(), "{wrong:?}");
        }
        let three = vec![vec![0, 1, 2, 3], vec![0, 1, 2, 3]];
        assert!(complaint(&three, &[vec![0], vec![1, 2, 3]], 4).is_some());
        assert_eq!(complaint(&three, &[vec![0, 3], vec![1, 2]], 4), None);
    }
}
