//! Sets of CPUs and of nodes, as the kernel writes them.

/// A set of up to 64 CPUs or nodes.
pub(crate) type Set = u64;

pub(crate) fn parse_set(list: &str) -> Set {
    let mut set = 0;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            for bit in first..=last.min(63) {
                set |= 1 << bit;
            }
        }
    }
    set
}

pub(crate) fn show_set(set: Set) -> String {
    let mut parts = Vec::new();
    let mut bit = 0;
    while bit < 64 {
        if set >> bit & 1 == 1 {
            let first = bit;
            while bit < 63 && set >> (bit + 1) & 1 == 1 {
                bit += 1;
            }
            parts.push(match bit - first {
                0 => first.to_string(),
                _ => format!("{first}-{bit}"),
            });
        }
        bit += 1;
    }
    if parts.is_empty() {
        "-".to_owned()
    } else {
        parts.join(",")
    }
}

pub(crate) fn ones(set: Set) -> usize {
    set.count_ones() as usize
}

pub(crate) fn bits(set: Set) -> impl Iterator<Item = u32> {
    (0..64).filter(move |bit| set >> bit & 1 == 1)
}

pub(crate) fn disjoint(sets: &[Set]) -> bool {
    let union = sets.iter().fold(0, |all, set| all | set);
    sets.iter().map(|set| ones(*set)).sum::<usize>() == ones(union)
}
