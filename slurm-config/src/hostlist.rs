//! Slurm's lists of names with numbers in brackets: `n[01-10,20],gpu7`, `/dev/nvidia[0-3]`.

use std::collections::BTreeSet;

/// The digits of a number, at most: those of the largest that fits.
const MOST_DIGITS: usize = 20;

/// Brackets of one name, at most; Slurm knows five dimensions (`HIGHEST_DIMENSIONS`).
const MOST_BRACKETS: usize = 8;

/// A range in brackets, with the digits that its numbers are padded to.
type Range = (u64, u64, usize);

/// A piece of one name.
#[derive(Debug)]
enum Piece {
    Text(String),
    Numbers(Vec<Range>),
}

/// Whether `list` names `name`.
pub fn contains(list: &str, name: &str) -> bool {
    items(list)
        .iter()
        .any(|item| pieces(item).is_some_and(|pieces| matches(&pieces, name)))
}

/// The names of `list`, at most `limit` of them; a bracket that is no range stands for itself.
pub fn expand(list: &str, limit: usize) -> Vec<String> {
    let mut names = Vec::new();
    for item in items(list) {
        match pieces(item) {
            Some(pieces) => grow(&pieces, String::new(), limit, &mut names),
            None => names.push(item.to_owned()),
        }
        names.truncate(limit);
    }
    names
}

/// Splits at commas outside brackets.
fn items(list: &str) -> Vec<&str> {
    let mut depth = 0u32;
    list.split(|c: char| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|item| !item.is_empty())
    .collect()
}

fn pieces(item: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = item;
    while let Some((text, tail)) = rest.split_once('[') {
        if pieces.len() / 2 == MOST_BRACKETS {
            return None;
        }
        let (inside, after) = tail.split_once(']')?;
        pieces.push(Piece::Text(text.to_owned()));
        let ranges = inside.split(',').map(range).collect::<Option<_>>()?;
        pieces.push(Piece::Numbers(ranges));
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Some(pieces)
}

fn range(text: &str) -> Option<Range> {
    let text = text.trim();
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let range = (low.parse().ok()?, high.parse().ok()?, low.len());
    (range.0 <= range.1 && low.len() <= MOST_DIGITS).then_some(range)
}

/// Whether the pieces make up `name`: where in it each of them may end, one after the other.
fn matches(pieces: &[Piece], name: &str) -> bool {
    let mut ends = BTreeSet::from([0]);
    for piece in pieces {
        ends = ends
            .into_iter()
            .flat_map(|start| ends_of(piece, name, start))
            .collect();
    }
    ends.contains(&name.len())
}

/// Where in `name` a piece that begins at `start` may end.
fn ends_of(piece: &Piece, name: &str, start: usize) -> Vec<usize> {
    let rest = name.get(start..).unwrap_or_default();
    match piece {
        Piece::Text(text) => {
            let fits = rest.starts_with(text.as_str());
            fits.then_some(start + text.len()).into_iter().collect()
        }
        Piece::Numbers(ranges) => {
            let is_digit = |byte: &u8| byte.is_ascii_digit();
            let digits = rest.bytes().take(MOST_DIGITS).take_while(is_digit).count();
            let fits = |length: &usize| {
                let head = rest.get(..*length).unwrap_or_default();
                let number = head.parse::<u64>();
                let is_in = |number: u64| {
                    let mut ranges = ranges.iter();
                    ranges.any(|(low, high, width)| {
                        (*low..=*high).contains(&number) && format!("{number:0width$}") == head
                    })
                };
                number.is_ok_and(is_in)
            };
            (1..=digits)
                .filter(fits)
                .map(|length| start + length)
                .collect()
        }
    }
}

fn grow(pieces: &[Piece], start: String, limit: usize, names: &mut Vec<String>) {
    if names.len() >= limit {
        return;
    }
    match pieces.split_first() {
        None => names.push(start),
        Some((Piece::Text(text), rest)) => grow(rest, start + text, limit, names),
        Some((Piece::Numbers(ranges), rest)) => {
            for (low, high, width) in ranges {
                for number in *low..=*high {
                    if names.len() >= limit {
                        return;
                    }
                    grow(rest, format!("{start}{number:0width$}"), limit, names);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_with_its_padding() {
        let list = "login, n[01-10,20],r[1-2]c[3-4]x";
        for name in ["login", "n01", "n10", "n20", "r2c4x"] {
            assert!(contains(list, name), "{name}");
        }
        for name in ["n1", "n11", "n020", "r3c4x", "r1c3", "", "n"] {
            assert!(!contains(list, name), "{name}");
        }
    }

    #[test]
    fn lists_grow_no_further_than_the_limit() {
        assert_eq!(
            expand("/dev/nvidia[0-1,3]", 9),
            ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia3"]
        );
        assert_eq!(expand("n[0-999999999999]", 3).len(), 3);
        assert_eq!(expand("a[", 3), ["a["]);
    }

    #[test]
    fn a_number_with_more_digits_than_any_stands_for_itself() {
        let list = format!("n[{}1-2]", "0".repeat(70_000));
        assert!(!contains(&list, "n1"));
        assert_eq!(expand(&list, 4), [list]);
    }

    #[test]
    fn a_name_of_many_brackets_stands_for_itself() {
        assert_eq!(expand(&"[1]".repeat(8), 4), ["11111111"]);
        // Each way to cut the digits was tried once.
        let wide = format!("{}x", "[0-999999999999999999]".repeat(8));
        assert!(contains(&wide, &format!("{}x", "1".repeat(60))));
        assert!(!contains(&wide, &"1".repeat(60)));
        let list = "[1]".repeat(40_000);
        assert!(!contains(&list, "1"));
        assert_eq!(expand(&list, 4), [list]);
    }
}
