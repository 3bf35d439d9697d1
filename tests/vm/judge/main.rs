//! Judges what `run-table` printed: each shape's tasks against brute force, against Slurm alone, against what was said
//! of them and against `gpu-numa plan`.
//!
//!   judge-shapes FILE        GPU_NUMA_CLI: the program for `plan`; without it that is left out
//!
//! It knows nothing of our crates: the machine is what /sys said, the tasks are what tests/probe saw in them.  Prints
//! TAP-like lines and "N passed, M failed".

#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test program of its own: it prints TAP, and a panic is a failed test"
)]

mod input;
mod lines;
mod memory;
mod order;
mod plan;
mod policy;
mod set;
mod step;
mod tried;
mod words;

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::input::{Machine, Shape, read};
use crate::step::judge_step;
use crate::tried::judge_tries;

/// The status of a launch that did not end (timeout's), and above it those of signals.
const TIMED_OUT: i32 = 124;

pub(crate) struct Tally {
    passed: usize,
    failed: usize,
    text: String,
}

impl Tally {
    pub(crate) fn check(&mut self, name: &str, what: &str, wrong: &[String]) {
        if wrong.is_empty() {
            self.passed += 1;
            let _ = writeln!(self.text, "ok - {name}: {what}");
        } else {
            self.failed += 1;
            let _ = writeln!(self.text, "not ok - {name}: {what} ({})", wrong.join("; "));
        }
    }
}

fn judge_shape(
    machine: &Machine,
    shape: &Shape,
    tally: &mut Tally,
    snapshot: Option<&str>,
    input_ends: bool,
) {
    if shape.alone.status != 0 {
        // What it waited for is in the @hang lines of the file.
        let does = if shape.alone.status >= TIMED_OUT {
            "hangs"
        } else {
            "refuses it"
        };
        let _ = writeln!(
            tally.text,
            "ok - {} [{}] # SKIP Slurm alone {does}: {}",
            shape.name,
            shape.slurm,
            shape.alone.said.first().cloned().unwrap_or_default()
        );
        return;
    }
    let full_name = format!("{} [{}] ={}", shape.name, shape.slurm, shape.items);
    judge_tries(machine, shape, &full_name, tally);
    if input_ends && shape.bound.steps.is_empty() && shape.bound.said.is_empty() {
        return;
    }
    if shape.expect == "refused" || shape.expect == "fits" && policy::is_refused(shape) {
        let ran = !shape.bound.steps.is_empty();
        let said = shape.bound.said.iter().any(|line| line.contains("refused"));
        let wrong = if ran || shape.bound.status == 0 || !said {
            vec![format!(
                "status {}, tasks ran: {ran}, {:?}",
                shape.bound.status, shape.bound.said
            )]
        } else {
            let mut wrong = lines::of_refused(shape);
            wrong.extend(policy::fits_all_the_same(machine, shape));
            wrong
        };
        tally.check(
            &format!("{} ={}", shape.name, shape.items),
            "is refused",
            &wrong,
        );
        return;
    }
    if shape.bound.status != 0 || shape.bound.steps.is_empty() {
        let wrong = vec![format!(
            "status {}: {:?}",
            shape.bound.status, shape.bound.said
        )];
        tally.check(&format!("{} [{}]", shape.name, shape.slurm), "runs", &wrong);
        return;
    }
    let strangers = lines::of_no_step(shape);
    if !strangers.is_empty() {
        tally.check(&shape.name, "every line is of a step", &strangers);
    }
    for (index, step) in shape.bound.steps.keys().enumerate() {
        judge_step(machine, shape, step, tally, snapshot, index);
    }
}

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("judge-shapes FILE");
        return ExitCode::from(2);
    };
    let text = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::from(2);
        }
    };
    let input = read(&text);
    let mut tally = Tally {
        passed: 0,
        failed: 0,
        text: String::new(),
    };
    let snapshot = input.snapshot.as_ref().map(|text| {
        let file = format!("{path}.node.json");
        let _ = std::fs::write(&file, text);
        file
    });
    for (index, shape) in input.shapes.iter().enumerate() {
        // The guest may have ended in the middle of the last.
        let ends = !input.is_finished && index + 1 == input.shapes.len();
        judge_shape(&input.machine, shape, &mut tally, snapshot.as_deref(), ends);
    }
    let end = if input.is_finished {
        Vec::new()
    } else {
        vec![format!("after {} shapes", input.shapes.len())]
    };
    tally.check(&path, "the guest finished", &end);
    print!("{}", tally.text);
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
