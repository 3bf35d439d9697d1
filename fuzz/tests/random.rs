//! Every target under seeds that are changed at random, at every level from bits to lines; then under such that are made a megabyte.
//!
//! `GPU_NUMA_FUZZ_SECONDS` is the time for each target (default 1); `GPU_NUMA_FUZZ_SEED` the first random number.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and reports what it did"
)]

use std::time::{Duration, Instant};

use gpu_numa_fuzz::{TARGETS, Target, grown};

/// The longest input that is made, in bytes.
const LONGEST: usize = 64 << 10;
/// One input may take this long; most take microseconds.
const SLOW: Duration = Duration::from_secs(5);
/// One of a megabyte this long, in a build that is not optimised, on a host that is busy.
const SLOW_OF_LARGE: Duration = Duration::from_secs(30);

/// xorshift64*: a few lines, and the same texts for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// What grammars trip over.
const MORSELS: &[&str] = &[
    "",
    ",",
    "-",
    "=",
    ":",
    "0",
    "-1",
    "4294967295",
    "18446744073709551616",
    "65535",
    "65536",
    "0-65535",
    "3-1",
    "\u{0}",
    "\n",
    "\t",
    " ",
    "\"",
    "'",
    "\\",
    "<",
    "/>",
    "<!--",
    "-->",
    "<!DOCTYPE x [<!ENTITY a \"b\">]>",
    "&a;",
    "[",
    "]",
    "{",
    "}",
    "[0-999999999]",
    "%s%n",
    "é",
    "\u{202e}",
    "\u{1b}[31m",
    "null",
    "1e999",
    "GPU-",
    "MIG-",
    "0000:3b:00.0",
    "ffffffff:ff:1f.7",
    "0x",
    "ffffffff,",
    "always=",
    "include ",
    "optional ",
    "required ",
];

/// Bytes near the seeds.
fn change(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = random.pick(seeds).clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(1 + bytes.len() / 4)).min(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                drop(bytes.splice(to..to, piece));
            }
            3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            4 if at < bytes.len() => bytes[at] = b'0' + random.below(10) as u8,
            5 => {
                let other = random.pick(seeds);
                let from = random.below(other.len() + 1);
                drop(bytes.splice(at..end, other[from..].iter().copied()));
            }
            6 => {
                let piece = bytes[at..end].repeat(1 + random.below(64));
                drop(bytes.splice(at..at, piece));
            }
            _ => drop(bytes.splice(at..end, random.pick(MORSELS).bytes())),
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

fn seeds(target: Target) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(target.seeds()).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

/// Every seed as it is, then changed ones until the time is up.
fn fuzz(target: Target) {
    let number = |variable: &str, default: u64| {
        std::env::var(variable).map_or(default, |text| text.parse().unwrap())
    };
    let time = Duration::from_secs(number("GPU_NUMA_FUZZ_SECONDS", 1));
    let mut random = Random(number("GPU_NUMA_FUZZ_SEED", 0x9e37_79b9_7f4a_7c15).max(1));
    let seeds = seeds(target);
    let mut whole = seeds.iter().cloned();
    let begin = Instant::now();
    let (count, slowest) = check_all(target, SLOW, || match whole.next() {
        Some(seed) => Some(seed),
        None => (begin.elapsed() < time).then(|| change(&mut random, &seeds)),
    });
    let (begin, mut is_first) = (Instant::now(), true);
    let (large, slowest_of_large) = check_all(target, SLOW_OF_LARGE, || {
        let is_due = std::mem::take(&mut is_first) || begin.elapsed() < time;
        is_due.then(|| grown(&change(&mut random, &seeds)))
    });
    println!(
        "{}: {count} inputs, the slowest took {slowest:?}; {large} of a megabyte, the slowest took {slowest_of_large:?}",
        target.name
    );
}

/// Has the target look at each input; how many there were, and how long the slowest took.
fn check_all(
    target: Target,
    slow: Duration,
    mut inputs: impl FnMut() -> Option<Vec<u8>>,
) -> (u64, Duration) {
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while let Some(input) = inputs() {
        let one = Instant::now();
        let result = std::panic::catch_unwind(|| (target.check)(&input));
        let took = one.elapsed();
        let shown = || input[..input.len().min(LONGEST)].escape_ascii();
        let name = target.name;
        assert!(result.is_ok(), "{name}: input {count}: {}", shown());
        assert!(took < slow, "{name}: {took:?} for {}", shown());
        slowest = slowest.max(took);
        count += 1;
    }
    (count, slowest)
}

/// A test for each target, so that they run side by side.
macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                fuzz(Target::named(stringify!($name)).unwrap());
            }
        )*

        #[test]
        fn every_target_is_tried() {
            let tried = [$(stringify!($name)),*];
            assert_eq!(TARGETS.map(|target| target.name), tried);
        }
    };
}

targets!(option set visible slurm site snapshot from tree kfd nccl peers page);
