//! What is timed: reading memory in a row, and following a chain through it.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Words in a cache line.
const LINE: usize = 8;

/// Reads `words` again and again for about `time`; gives back bytes and how long it took.
pub(super) fn read_for(words: &[u64], time: Duration) -> (u64, Duration) {
    let start = Instant::now();
    let mut bytes = 0u64;
    loop {
        // A piece at a time, so that a slow machine need not finish the whole.
        for piece in words.chunks(1 << 18) {
            black_box(piece.iter().fold(0u64, |sum, word| sum.wrapping_add(*word)));
            bytes += u64::try_from(size_of_val(piece)).unwrap_or(0);
            if start.elapsed() >= time {
                return (bytes, start.elapsed());
            }
        }
        if words.is_empty() {
            return (0, start.elapsed());
        }
    }
}

/// Writes a chain into `words`: each cache line's first word names the next line, all lines in one circle
/// in an order that no prefetcher foresees (Sattolo's algorithm).
pub(super) fn write_chain(words: &mut [u64]) {
    let lines = words.len() / LINE;
    let mut order: Vec<usize> = (0..lines).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for last in (1..lines).rev() {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let range = u64::try_from(last).unwrap_or(u64::MAX);
        order.swap(last, usize::try_from(state % range).unwrap_or(0));
    }
    for (line, next) in order.into_iter().enumerate() {
        if let Some(word) = words.get_mut(line * LINE) {
            *word = u64::try_from(next * LINE).unwrap_or(0);
        }
    }
}

/// Follows the chain for about `time`; gives back steps and how long they took.
pub(super) fn follow_for(words: &[u64], time: Duration) -> (u64, Duration) {
    let start = Instant::now();
    let mut steps = 0u64;
    let mut at = 0usize;
    loop {
        for _ in 0..4096 {
            let next = words.get(at).copied().unwrap_or(0);
            at = usize::try_from(next).unwrap_or(0);
        }
        steps += 4096;
        if start.elapsed() >= time {
            black_box(at);
            return (steps, start.elapsed());
        }
    }
}

/// 10^9 bytes, or as many steps.
#[allow(
    clippy::cast_precision_loss,
    reason = "a figure for a person, to a tenth"
)]
pub(super) fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_visits_every_line_once() {
        let mut words = vec![0u64; 1000 * LINE];
        write_chain(&mut words);
        let mut at = 0;
        for step in 1..=1000 {
            at = usize::try_from(words[at]).unwrap();
            assert_eq!(at == 0, step == 1000, "step {step}");
        }
    }
}
