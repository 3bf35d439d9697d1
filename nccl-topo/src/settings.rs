//! What NCCL makes of the words of its variables.
//!
//! Where a variable is kept is the caller's affair: the environment of a process, or a configuration file that NCCL merges into it.

use crate::graph::{PathType, Reach};

/// What a job's settings say of P2P, shared memory and the network; `get` gives the value of a variable.
pub fn reach(get: impl Fn(&str) -> Option<String>) -> Reach {
    let is_one = |name| get(name).is_some_and(|text| number(&text) == 1);
    Reach {
        // Where both are set, the first counts (`graph/paths.cc` `ncclGetLevel`).
        p2p_limit: if is_one("NCCL_P2P_DISABLE") {
            Some(PathType::Loc)
        } else {
            get("NCCL_P2P_LEVEL").and_then(|level| p2p_level(&level))
        },
        // `graph/paths.cc` `ncclTopoCheckNet`, `transport/shm.cc` `shmCanConnect`: 1, and nothing else.
        is_whole: is_one("NCCL_NET_DISABLE_INTRA"),
        without_shm: is_one("NCCL_SHM_DISABLE"),
    }
}

/// The path type that a value of `NCCL_P2P_LEVEL` names, by its word or by the numbers of old; none where NCCL passes the
/// value over (`graph/paths.cc` `ncclGetLevel`).
pub fn p2p_level(text: &str) -> Option<PathType> {
    let named = PathType::ALL
        .into_iter()
        .filter(|kind| *kind <= PathType::Sys)
        .find(|kind| kind.to_string() == text);
    let of_old = || {
        let levels = [
            PathType::Loc,
            PathType::Pix,
            PathType::Pxb,
            PathType::Phb,
            PathType::Sys,
        ];
        if !text.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        let place = usize::try_from(number(text)).unwrap_or(usize::MAX);
        levels.get(place.min(levels.len() - 1)).copied()
    };
    named.or_else(of_old)
}

/// The number that a value begins with, as C's `strtol` reads it with base 0; 0 where it begins with none, the largest
/// where it is larger than any.
pub fn number(text: &str) -> i64 {
    leading(text, false)
}

/// The same with base 16.
pub fn hexadecimal(text: &str) -> i64 {
    leading(text, true)
}

fn leading(text: &str, is_hexadecimal: bool) -> i64 {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let is_hex_digit = |rest: &&str| rest.starts_with(|c: char| c.is_ascii_hexdigit());
    let hex = text.strip_prefix("0x").or(text.strip_prefix("0X"));
    let (base, digits) = match hex.filter(is_hex_digit) {
        Some(rest) => (16, rest),
        None if is_hexadecimal => (16, text),
        None if text.starts_with('0') => (8, text),
        None => (10, text),
    };
    let digits = digits.chars().map_while(|c| c.to_digit(base));
    let number = digits.fold(0_i64, |number, digit| {
        let grown = number.saturating_mul(i64::from(base));
        grown.saturating_add(i64::from(digit))
    });
    if is_negative { -number } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach_of(set: &[(&str, &str)]) -> Reach {
        reach(|name| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn numbers_are_as_c_reads_them() {
        let all = [
            ("1", 1),
            (" 1", 1),
            ("1 ", 1),
            ("1x", 1),
            ("+1", 1),
            ("01", 1),
            ("0x1", 1),
            ("0x", 0),
            ("010", 8),
            ("08", 0),
            ("-1", -1),
            ("", 0),
            ("yes", 0),
            ("99999999999999999999", i64::MAX),
        ];
        for (text, value) in all {
            assert_eq!(number(text), value, "{text}");
        }
        let all = [
            ("5", 5),
            ("0x5", 5),
            ("a", 10),
            ("010", 16),
            ("5 x", 5),
            ("", 0),
        ];
        for (text, value) in all {
            assert_eq!(hexadecimal(text), value, "{text}");
        }
    }

    #[test]
    fn levels_are_words_and_the_numbers_of_old() {
        let all = [
            ("LOC", Some(PathType::Loc)),
            ("NVL", Some(PathType::Nvl)),
            ("SYS", Some(PathType::Sys)),
            ("0", Some(PathType::Loc)),
            ("1", Some(PathType::Pix)),
            ("4", Some(PathType::Sys)),
            ("77", Some(PathType::Sys)),
            ("0x2", Some(PathType::Pxb)),
            // NCCL looks no farther than SYS, and at exact words.
            ("NET", None),
            ("nvl", None),
            (" NVL", None),
            ("-1", None),
            ("", None),
        ];
        for (text, level) in all {
            assert_eq!(p2p_level(text), level, "{text}");
        }
    }

    #[test]
    fn p2p_is_off_by_either_variable_and_the_first_counts() {
        let limit = |set: &[(&str, &str)]| reach_of(set).p2p_limit;
        assert_eq!(limit(&[("NCCL_P2P_DISABLE", "1")]), Some(PathType::Loc));
        assert_eq!(limit(&[("NCCL_P2P_LEVEL", "LOC")]), Some(PathType::Loc));
        let both = [("NCCL_P2P_DISABLE", "1"), ("NCCL_P2P_LEVEL", "SYS")];
        assert_eq!(limit(&both), Some(PathType::Loc));
        let other = [("NCCL_P2P_DISABLE", "0"), ("NCCL_P2P_LEVEL", "NVL")];
        assert_eq!(limit(&other), Some(PathType::Nvl));
        assert_eq!(limit(&[("NCCL_P2P_DISABLE", "2")]), None);
    }
}
