//! The line at the end of a step, where the site wants one.

use crate::binding::Verdict;
use crate::metrics::{TaskTold, TaskVerdict};
use crate::quantity::volume;

/// What NCCL's communicators of a step moved between sockets of this host, as its plugin counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NcclTotal {
    /// Bytes, both ways together.
    pub bytes: u64,
    /// Whether there may have been more.
    pub is_bound: bool,
}

/// What is known of a step that ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepEnd {
    /// Tasks here that had GPUs.
    pub with_gpus: usize,
    /// Those of them that were started on their GPUs' CPUs alone.
    pub local: usize,
    /// Tasks here that told nothing.
    pub silent: usize,
}

impl StepEnd {
    /// Of what each task told; none for one that told nothing.
    pub fn of(tasks: impl Iterator<Item = Option<TaskTold>>) -> Self {
        let mut end = Self::default();
        for told in tasks {
            let Some(told) = told else {
                end.silent += 1;
                continue;
            };
            end.with_gpus += usize::from(told.verdict.has_gpus());
            let is_local = told.verdict == TaskVerdict::Gpus(Verdict::Local) && !told.cpus_refused;
            end.local += usize::from(is_local);
        }
        end
    }
}

/// The line; none where no task had a GPU.  It says how tasks were started: what they did with their CPUs later is not known.
pub fn step_end_line(
    host: &str,
    end: &StepEnd,
    nccl: Option<NcclTotal>,
    is_dry_run: bool,
) -> Option<String> {
    let StepEnd {
        with_gpus,
        local,
        silent,
    } = *end;
    if with_gpus == 0 {
        return None;
    }
    let tasks = match (with_gpus, is_dry_run) {
        (1, false) if local == 1 => {
            format!("{host} at the end: the task was started on its GPUs' CPUs")
        }
        (1, false) => {
            format!("{host} at the end: the task was not started on its GPUs' CPUs alone")
        }
        (1, true) if local == 1 => {
            format!("{host} at the end: the task would have been on its GPUs' CPUs")
        }
        (1, true) => {
            format!("{host} at the end: the task would not have been on its GPUs' CPUs alone")
        }
        (_, false) => format!(
            "{host} at the end: {local} of {with_gpus} tasks were started on their GPUs' CPUs"
        ),
        (_, true) => format!(
            "{host} at the end: {local} of {with_gpus} tasks would have been on their GPUs' CPUs"
        ),
    };
    let silent = match silent {
        0 => String::new(),
        1 => "; 1 task did not report".to_owned(),
        more => format!("; {more} tasks did not report"),
    };
    let nccl = match nccl {
        None => String::new(),
        Some(NcclTotal {
            bytes: 0,
            is_bound: false,
        }) => "; NCCL moved nothing between sockets".to_owned(),
        Some(NcclTotal {
            bytes: 0,
            is_bound: true,
        }) => "; how much NCCL moved between sockets is not known".to_owned(),
        Some(NcclTotal { bytes, is_bound }) => {
            let about = if is_bound { "at least" } else { "about" };
            format!("; NCCL moved {about} {} between sockets", volume(bytes))
        }
    };
    Some(format!("{tasks}{silent}{nccl}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_is_known_and_no_more() {
        let end = |with_gpus, local, silent| StepEnd {
            with_gpus,
            local,
            silent,
        };
        let total = |bytes, is_bound| Some(NcclTotal { bytes, is_bound });
        let line = |end, nccl, is_dry_run| step_end_line("n7", &end, nccl, is_dry_run);
        assert_eq!(line(end(0, 0, 2), None, false), None);
        let all = line(end(4, 4, 0), total(2_254_857_831, false), false);
        assert_eq!(
            all.as_deref(),
            Some(
                "n7 at the end: 4 of 4 tasks were started on their GPUs' CPUs; NCCL moved about 2.1 GiB between sockets"
            )
        );
        let some = line(end(3, 2, 1), total(0, true), true);
        assert_eq!(
            some.as_deref(),
            Some(
                "n7 at the end: 2 of 3 tasks would have been on their GPUs' CPUs; 1 task did not report; how much NCCL moved \
                 between sockets is not known"
            )
        );
        let one = line(end(1, 1, 0), total(0, false), false);
        assert_eq!(
            one.as_deref(),
            Some(
                "n7 at the end: the task was started on its GPUs' CPUs; NCCL moved nothing between sockets"
            )
        );
    }
}
