//! A megabyte of an input: a piece of it, many times.
//!
//! What a reader takes for each element of a list, line of a file, or attribute shows only where there are very many; fuzzers
//! change bytes, and would take long to write that.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// How long such an input is, in bytes.
const LARGE: usize = 1 << 20;

/// What pieces end with: elements of JSON and of lists, lines, elements of XML, words.
const ENDS: &[u8] = b",\n> ";
/// Copies whose number goes up are no more than so many different things.
const NUMBERS: u64 = 100_000;

/// The input with one of its pieces so many times that it is a megabyte; which, and whether a number in it goes up with each, follows
/// from the input.
pub fn grown(bytes: &[u8]) -> Vec<u8> {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let mut choices = hasher.finish();
    let mut below = |limit: usize| {
        let limit = limit.max(1) as u64;
        let choice = choices % limit;
        choices /= limit;
        choice as usize
    };
    let end = ENDS[below(ENDS.len())];
    let counts = below(2) == 0;
    let ends: Vec<usize> = (1..)
        .zip(bytes)
        .filter(|(_, byte)| **byte == end)
        .map(|(after, _)| after)
        .collect();
    // A whole piece, from after one end to after a later one; without ends, the input itself.
    let first = below(ends.len());
    let last = first + 1 + below(8.min(ends.len().saturating_sub(first + 1)));
    let from = ends.get(first).copied().unwrap_or(0);
    let to = ends.get(last).copied().unwrap_or(bytes.len()).max(from);
    let (head, piece, tail) = (&bytes[..from], &bytes[from..to], &bytes[to..]);
    let mut grown = Vec::with_capacity(LARGE + 2 * piece.len() + 32);
    grown.extend_from_slice(head);
    let mut number = 0;
    while !piece.is_empty() && grown.len() + tail.len() < LARGE {
        write_copy(&mut grown, piece, if counts { number } else { 0 });
        number = (number + 1) % NUMBERS;
    }
    grown.extend_from_slice(tail);
    grown
}

/// A piece whose last number is so much more.
fn write_copy(grown: &mut Vec<u8>, piece: &[u8], more: u64) {
    let last = piece.iter().rposition(u8::is_ascii_digit);
    let Some(last) = last.filter(|_| more > 0) else {
        return grown.extend_from_slice(piece);
    };
    let before = piece[..last]
        .iter()
        .rposition(|byte| !byte.is_ascii_digit());
    let first = before.map_or(0, |before| before + 1);
    let digits = piece[first..=last]
        .iter()
        .map(|digit| u64::from(digit - b'0'));
    let number = digits.fold(0_u64, |number, digit| {
        number.wrapping_mul(10).wrapping_add(digit)
    });
    grown.extend_from_slice(&piece[..first]);
    grown.extend_from_slice(number.wrapping_add(more).to_string().as_bytes());
    grown.extend_from_slice(&piece[last + 1..]);
}
