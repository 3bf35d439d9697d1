//! What a step adds, what a task can say, and how it reads.

use proptest::prelude::*;

use super::*;
use crate::binding::{MemoryPolicy, Verdict};

fn told(verdict: TaskVerdict) -> TaskTold {
    TaskTold {
        verdict,
        is_bound: true,
        memory: Some(MemoryPolicy::PreferredMany),
        nic: NicPath::SocketLink,
        cpus_refused: false,
        memory_refused: false,
        micros: 250,
    }
}

fn step(policy: Policy) -> StepCount {
    StepCount {
        asked: Some((policy, Width::L3)),
        has_gpus: true,
        source: Source::Snapshot,
        init_micros: 120,
    }
}

fn value(counts: &Counts, figure: Figure, word: &str) -> u64 {
    let mut values = counts.values(figure);
    values.find(|(own, _)| *own == word).unwrap().1
}

#[test]
fn a_step_counts_once_and_each_of_its_tasks_once() {
    let tasks = [
        Some(told(TaskVerdict::Gpus(Verdict::Local))),
        Some(told(TaskVerdict::NoGpu)),
        None,
    ];
    let counts = Counts::of_step(&step(Policy::BestEffort), tasks.into_iter());
    let all = [
        (Figure::Steps, "best-effort", 1),
        (Figure::GpuSteps, "best-effort", 1),
        (Figure::StepsBySource, "snapshot", 1),
        (Figure::Tasks, "local", 1),
        (Figure::Tasks, "no-gpu", 1),
        (Figure::Tasks, "unreported", 1),
        (Figure::TasksByWidth, "l3", 1),
        (Figure::TasksByMemory, "preferred-many", 1),
        (Figure::TasksByNic, "socket-link", 1),
        (Figure::HookMicros, "user_init", 120),
        (Figure::HookMicros, "task_init", 500),
    ];
    for (figure, word, count) in all {
        assert_eq!(value(&counts, figure, word), count, "{figure:?} {word}");
    }
    let expected: u64 = all.iter().map(|(_, _, count)| count).sum();
    // Three runs of hooks besides.
    assert_eq!(counts.words().iter().sum::<u64>(), expected + 3);
}

#[test]
fn a_step_that_did_not_ask_counts_no_tasks() {
    let not_asked = StepCount {
        asked: None,
        ..step(Policy::Off)
    };
    for (step, word) in [(not_asked, "not-asked"), (step(Policy::Off), "off")] {
        let counts = Counts::of_step(&step, std::iter::repeat_n(None, 9));
        assert_eq!(value(&counts, Figure::Steps, word), 1);
        // The step, that it has GPUs, one run of a hook and how long that took.
        assert_eq!(counts.words().iter().sum::<u64>(), 3 + 120);
    }
}

#[test]
fn what_is_changed_by_nothing_is_counted_apart() {
    let tasks = [Some(told(TaskVerdict::Gpus(Verdict::Remote)))];
    let counts = Counts::of_step(&step(Policy::None), tasks.into_iter());
    assert_eq!(value(&counts, Figure::DryRunTasks, "remote"), 1);
    for figure in [Figure::Tasks, Figure::TasksByWidth, Figure::TasksByMemory] {
        assert!(counts.values(figure).all(|(_, count)| count == 0));
    }
}

#[test]
fn what_a_task_told_is_read_as_it_was() {
    for verdict in [
        TaskVerdict::Gpus(Verdict::Refused),
        TaskVerdict::Gpus(Verdict::Unbound),
        TaskVerdict::NoGpu,
    ] {
        for memory in [
            None,
            Some(MemoryPolicy::Default),
            Some(MemoryPolicy::Interleave),
        ] {
            let told = TaskTold {
                memory,
                ..told(verdict)
            };
            assert_eq!(
                TaskTold::read(told.decided_word(), told.done_word()),
                Some(told)
            );
        }
    }
    let refused = TaskTold {
        cpus_refused: true,
        memory_refused: true,
        ..told(TaskVerdict::NoGpu)
    };
    let read = TaskTold::read(refused.decided_word(), refused.done_word()).unwrap();
    assert!(!read.is_bound && read.memory.is_none());
}

proptest! {
    /// Whatever a task writes, it is one task and ten seconds at most.
    #[test]
    fn a_task_counts_once_whatever_it_writes(words in proptest::collection::vec((any::<u32>(), any::<u32>()), 1..5)) {
        for policy in [Policy::None, Policy::BestEffort, Policy::Restricted] {
            let tasks = words.iter().map(|(decided, done)| TaskTold::read(*decided, *done));
            let counts = Counts::of_step(&step(policy), tasks);
            let sum = |figure| counts.values(figure).map(|(_, count)| count).sum::<u64>();
            let len = words.len() as u64;
            prop_assert_eq!(sum(Figure::Tasks) + sum(Figure::DryRunTasks), len);
            for figure in [Figure::TasksByWidth, Figure::TasksByMemory, Figure::TasksByNic] {
                prop_assert!(sum(figure) <= len);
            }
            prop_assert!(sum(Figure::HookMicros) <= 120 + 10_000_000 * len);
        }
    }
}

#[test]
fn a_name_or_value_that_changes_changes_the_layout() {
    assert_ne!(fold(fold(1, "ab"), "c"), fold(fold(1, "a"), "bc"));
    assert_eq!(LEN * 8 + 16, Counts::default().words().len() * 8 + 16);
    const { assert!(LEN * 8 + 16 <= 4096, "a table is one page") };
}

/// The text format, read as strictly as its description says.
#[test]
fn both_syntaxes_are_as_their_descriptions_say() {
    let tasks = [Some(told(TaskVerdict::Gpus(Verdict::Local)))];
    let counts = Counts::of_step(&step(Policy::BestEffort), tasks.into_iter());
    let host = Host {
        version: "1.0 \"a\\b\"",
        snapshot_is_usable: true,
    };
    for syntax in [Syntax::OpenMetrics, Syntax::Prometheus] {
        let text = render(&counts, host, syntax);
        let is_open = syntax == Syntax::OpenMetrics;
        assert_eq!(text.ends_with("# EOF\n"), is_open);
        assert_eq!(text.contains("# UNIT "), is_open);
        let mut family = ("", "");
        let mut seen = std::collections::BTreeSet::new();
        let mut samples = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(typed) = line.strip_prefix("# TYPE ") {
                family = typed.split_once(' ').unwrap();
                assert!(seen.insert(family.0.to_owned()), "{line}");
            } else if !line.starts_with("# ") {
                let name = line.split(['{', ' ']).next().unwrap();
                let suffix = name.strip_prefix(family.0).unwrap();
                let allowed: &[&str] = match (family.1, is_open) {
                    ("counter", true) => &["_total"],
                    ("info", true) => &["_info"],
                    ("histogram", _) => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(allowed.contains(&suffix), "{line}");
                let sample = line.rsplit_once(' ').unwrap().0.to_owned();
                assert!(samples.insert(sample), "{line}");
            }
        }
        assert!(text.contains("gpu_numa_bind_tasks_total{verdict=\"local\"} 1\n"));
        assert!(text.contains("_bucket{hook=\"task_init\",le=\"0.0001\"} 0\n"));
        assert!(text.contains("_bucket{hook=\"task_init\",le=\"0.0003\"} 1\n"));
        assert!(text.contains("_bucket{hook=\"task_init\",le=\"+Inf\"} 1\n"));
        assert!(text.contains("_sum{hook=\"task_init\"} 0.000250\n"));
    }
}
