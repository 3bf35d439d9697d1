//! What fuzzers give to each reader of others' bytes, and what must hold whatever they give.
//!
//! One [`Target`] for each kind of input.  `tests/random.rs` changes its seeds at random for a second in every
//! `cargo test`; `guided/` has libFuzzer look for new ways through the code.  Both call [`Target::check`], which
//! panics where something does not hold, and start from `seeds/NAME/`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "this is test code: it fails by panicking"
)]

mod input;
mod large;
mod machines;
mod memory;
mod nccl;
mod texts;
mod tree;

pub use large::grown;

use std::path::{Path, PathBuf};

/// A kind of input.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and its folder's below `seeds`.
    pub name: &'static str,
    /// Reads the bytes as that kind of input, and panics where what must hold does not.
    pub check: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 12] = [
    target("option", texts::option),
    target("set", texts::set),
    target("visible", texts::visible),
    target("slurm", texts::slurm),
    target("site", texts::site),
    target("snapshot", machines::snapshot),
    target("from", machines::from),
    target("tree", machines::tree),
    target("kfd", machines::kfd),
    target("nccl", nccl::file),
    target("peers", memory::peers),
    target("page", memory::page),
];

const fn target(name: &'static str, check: fn(&[u8])) -> Target {
    Target { name, check }
}

impl Target {
    /// The target of that name.
    pub fn named(name: &str) -> Option<Self> {
        TARGETS.into_iter().find(|target| target.name == name)
    }

    /// Where its seeds are, a file each.
    pub fn seeds(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(self.name)
    }
}
