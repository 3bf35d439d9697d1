//! Where lines go: NCCL's log or stderr, and the file of `GPU_NUMA_BIND_LOG` as JSON.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::SystemTime;

use ffi::linux::file::WITHOUT_WAITING;
use ffi::nccl::NcclLog;
use nccl_topo::traffic::Hops;
use serde::Serialize;
use topology::text::whole_line;

use crate::host;
use crate::report::{LinkReport, Load, Moment};

/// The variable that names the file; `%h` in it is the host, `%p` the process, `%%` a per cent sign.
const FILE_VARIABLE: &str = "GPU_NUMA_BIND_LOG";

/// Where lines go, as the environment says.
#[derive(Debug)]
pub(crate) struct Journal {
    /// NCCL shows its own lines.
    through_nccl: bool,
    /// The file for JSON lines.
    path: Option<String>,
    /// Slurm's job, step and task.
    slurm: [Option<String>; 3],
}

impl Journal {
    /// Reads the environment.
    pub(crate) fn read() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let path = variable(FILE_VARIABLE);
        Self {
            through_nccl: nccl_shows_info(variable("NCCL_DEBUG").as_deref()),
            path: path.map(|pattern| expand(&pattern, &host::name(), std::process::id())),
            slurm: ["SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID"].map(variable),
        }
    }

    /// Says a line: through NCCL's logger where that shows it, else on stderr.
    ///
    /// NCCL without `NCCL_DEBUG` shows nothing but errors, and a line as an error would become what
    /// `ncclGetLastError` gives.
    #[allow(clippy::disallowed_methods, reason = "the line is made safe")]
    pub(crate) fn say(&self, log: NcclLog, line: &str) {
        let line = whole_line(line);
        if self.through_nccl {
            log.info(&format!("gpu-numa: {line}"));
        } else {
            // One write, so that lines of several processes do not mix; one that fails has nowhere to go.
            let _ = std::io::stderr().write_all(format!("gpu-numa: {line}\n").as_bytes());
        }
    }

    /// Appends a report to the file of `GPU_NUMA_BIND_LOG`, where one is named.
    pub(crate) fn record(&self, report: &LinkReport<'_>, line: &str) {
        let Some(path) = &self.path else { return };
        let Ok(mut text) = serde_json::to_string(&to_record(report, &self.slurm, line)) else {
            return;
        };
        text.push('\n');
        // As this user, whose own choice the path is; a FIFO or device does not hold the job up.
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .custom_flags(WITHOUT_WAITING)
            .open(path);
        if let Ok(mut file) = file
            && file.metadata().is_ok_and(|meta| meta.is_file())
        {
            let _ = file.write_all(text.as_bytes());
        }
    }
}

/// Whether NCCL shows lines of level INFO (`debug.cc`; its words have any case).
fn nccl_shows_info(level: Option<&str>) -> bool {
    level.is_some_and(|level| {
        ["INFO", "ABORT", "TRACE"]
            .iter()
            .any(|word| level.eq_ignore_ascii_case(word))
    })
}

#[derive(Serialize)]
struct Record<'a> {
    schema: &'static str,
    time_unix: u64,
    host: String,
    pid: u32,
    job: Option<&'a str>,
    step: Option<&'a str>,
    task: Option<&'a str>,
    event: Moment,
    communicator: String,
    name: Option<&'a str>,
    ranks: usize,
    hosts: usize,
    nccl_nodes: usize,
    local_ranks: &'a [usize],
    packages: usize,
    modelled: bool,
    exact: bool,
    hops_known: bool,
    ring: Way,
    tree: Way,
    crossing_hops: Vec<[String; 2]>,
    crossing_gb_s: Option<f32>,
    inside_gb_s: Option<f32>,
    collectives: Vec<CollectiveSum>,
    sizes: Vec<Size>,
    over_link: Load,
    sends: Sends,
    captured: u64,
    not_counted: NotCounted,
    line: &'a str,
}

#[derive(Serialize)]
struct Way {
    up: u32,
    down: u32,
    both: u32,
}

impl From<Hops> for Way {
    fn from(hops: Hops) -> Self {
        Self {
            up: hops.up,
            down: hops.down,
            both: hops.both,
        }
    }
}

#[derive(Serialize)]
struct CollectiveSum {
    func: &'static str,
    algo: &'static str,
    count: u64,
    buffer_bytes: u64,
    least_bytes: u64,
    most_bytes: u64,
}

/// Collectives by the size of their buffers.
#[derive(Serialize)]
struct Size {
    below_bytes: Option<u64>,
    count: u64,
    buffer_bytes: u64,
}

#[derive(Serialize)]
struct Sends {
    count: u64,
    #[serde(flatten)]
    load: Load,
}

#[derive(Serialize)]
struct NotCounted {
    calls: u64,
    by: Vec<UncountedCalls>,
}

#[derive(Serialize)]
struct UncountedCalls {
    why: &'static str,
    calls: u64,
}

fn to_record<'a>(
    report: &'a LinkReport<'_>,
    slurm: &'a [Option<String>; 3],
    line: &'a str,
) -> Record<'a> {
    let [job, step, task] = slurm.each_ref().map(Option::as_deref);
    let who = report.who;
    let forecast = report.forecast;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let hops = forecast.crossing_hops();
    let collectives = report.sums.iter().map(|sum| CollectiveSum {
        func: sum.func.word(),
        algo: sum.algo.word(),
        count: sum.amount.calls,
        buffer_bytes: sum.func.buffer_bytes(sum.amount.bytes, who.ranks),
        least_bytes: sum.func.buffer_bytes(sum.amount.least, who.ranks),
        most_bytes: sum.func.buffer_bytes(sum.amount.most, who.ranks),
    });
    Record {
        schema: "gpu-numa/nccl-log/1",
        time_unix: since.map_or(0, |since| since.as_secs()),
        host: host::name(),
        pid: std::process::id(),
        job,
        step,
        task,
        event: report.moment,
        communicator: format!("{:#x}", who.id),
        name: who.name.as_deref(),
        ranks: who.ranks,
        hosts: who.hosts,
        nccl_nodes: who.nodes,
        local_ranks: &who.local,
        packages: forecast.packages,
        modelled: forecast.is_modelled(),
        exact: report.is_exact(),
        hops_known: forecast.hops_are_known(),
        ring: forecast.ring().into(),
        tree: forecast.tree().into(),
        crossing_hops: hops
            .iter()
            .map(|(from, to)| [from.to_string(), to.to_string()])
            .collect(),
        crossing_gb_s: forecast.crossing_gb_s,
        inside_gb_s: forecast.inside_gb_s,
        collectives: collectives.collect(),
        sizes: report
            .sizes
            .iter()
            .map(|size| Size {
                below_bytes: size.below_bytes,
                count: size.calls,
                buffer_bytes: size.bytes,
            })
            .collect(),
        over_link: report.load,
        sends: Sends {
            count: report.sent.sends,
            load: report.sent_load(),
        },
        captured: report.captured,
        not_counted: NotCounted {
            calls: report.uncounted_calls(),
            by: report
                .uncounted
                .iter()
                .map(|(reason, calls)| UncountedCalls {
                    why: reason.words(),
                    calls: *calls,
                })
                .collect(),
        },
        line,
    }
}

/// Fills `%h`, `%p` and `%%` in; anything else stays as it is.
fn expand(pattern: &str, host: &str, process: u32) -> String {
    let mut path = String::new();
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            path.push(c);
            continue;
        }
        match rest.next() {
            Some('h') => path.push_str(host),
            Some('p') => path.push_str(&process.to_string()),
            Some('%') => path.push('%'),
            Some(other) => path.extend(['%', other]),
            None => path.push('%'),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_takes_host_and_process() {
        assert_eq!(expand("/a/%h.%p.jsonl", "n7", 42), "/a/n7.42.jsonl");
        assert_eq!(expand("/a/100%%%x%", "n7", 42), "/a/100%%x%");
    }

    #[test]
    fn nccl_shows_lines_where_it_is_asked_for_them() {
        assert!(nccl_shows_info(Some("info")) && nccl_shows_info(Some("TRACE")));
        assert!(!nccl_shows_info(None) && !nccl_shows_info(Some("WARN")));
    }
}
