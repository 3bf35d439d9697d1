//! Host names folded as Slurm writes them: `gpu[001-128,130],login1`.

use std::collections::BTreeMap;

/// Folds names with the same text before a number of the same width.
pub(super) fn fold<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut plain: Vec<&str> = Vec::new();
    let mut numbered: BTreeMap<(&str, usize), Vec<u64>> = BTreeMap::new();
    for name in names {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = name.get(stem.len()..).unwrap_or("");
        match digits.parse::<u64>() {
            Ok(number) if digits.len() < 16 => {
                // 9 and 10 are a range; 09 and 10 too, and another than 9 and 10.
                let width = if digits.starts_with('0') || digits.len() == 1 {
                    digits.len()
                } else {
                    0
                };
                let width = if digits.len() == 1 { 0 } else { width };
                numbered.entry((stem, width)).or_default().push(number);
            }
            Ok(_) | Err(_) => plain.push(name),
        }
    }
    widen(&mut numbered);
    let mut parts: Vec<String> = numbered
        .into_iter()
        .map(|((stem, width), numbers)| fold_numbers(stem, width, numbers))
        .collect();
    parts.extend(plain.into_iter().map(str::to_owned));
    parts.join(",")
}

/// Whether a name can be a Slurm node's, and needs no quoting in Lua or slurm.conf; names come from files that anybody may have written.
pub(super) fn is_node_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.chars().all(is_plain)
}

/// Numbers without leading zeros that are as wide as padded ones of the same stem belong to them.
fn widen(numbered: &mut BTreeMap<(&str, usize), Vec<u64>>) {
    let padded: Vec<(&str, usize)> = numbered
        .keys()
        .filter(|(_, width)| *width > 0)
        .copied()
        .collect();
    for (stem, width) in padded {
        let Some(loose) = numbered.get_mut(&(stem, 0)) else {
            continue;
        };
        let (same, other): (Vec<u64>, Vec<u64>) = loose
            .iter()
            .partition(|number| number.to_string().len() == width);
        *loose = other;
        if let Some(numbers) = numbered.get_mut(&(stem, width)) {
            numbers.extend(same);
        }
    }
    numbered.retain(|_, numbers| !numbers.is_empty());
}

fn fold_numbers(stem: &str, width: usize, mut numbers: Vec<u64>) -> String {
    numbers.sort_unstable();
    numbers.dedup();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, high)) if *high + 1 == number => *high = number,
            Some(_) | None => ranges.push((number, number)),
        }
    }
    let one = |number: u64| format!("{number:0width$}");
    let list: Vec<String> = ranges
        .iter()
        .map(|(low, high)| {
            if low == high {
                one(*low)
            } else {
                format!("{}-{}", one(*low), one(*high))
            }
        })
        .collect();
    if let ([only], Some((low, high))) = (list.as_slice(), ranges.first())
        && low == high
    {
        return format!("{stem}{only}");
    }
    format!("{stem}[{}]", list.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fold_as_slurm_writes_them() {
        assert_eq!(fold(["gpu1", "gpu2", "gpu4"]), "gpu[1-2,4]");
        assert_eq!(fold(["n08", "n09", "n10", "n11"]), "n[08-11]");
        assert_eq!(fold(["n9", "n10"]), "n[9-10]");
        assert_eq!(fold(["login", "gpu7"]), "gpu7,login");
        assert_eq!(fold(["a01", "a1"]), "a1,a01");
        assert_eq!(
            fold(["x99999999999999999999999999"]),
            "x99999999999999999999999999"
        );
    }
}
