//! `gpu-numa heal`: moves memory of a process to its GPU's node.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use discovery::Source;
use ffi::errno::Errno;
use ffi::linux::process::effective_user;
use launch::heal::{Healed, Misplaced, Mover, find_misplaced};
use launch::processes::ask_by_child;
use serde::Serialize;
use topology::machine::Machine;
use topology::quantity::volume;
use topology::set::NodeSet;

use crate::command::{CommandError, Format, Outcome};
use crate::hardware;
use crate::out::Out;
use crate::progress::bytes_bar;
use crate::usage::parse_bytes;
use crate::verify::{Checked, Host, Whom, gpus_in_words, no_gpu_in_group, title};

/// What may stay elsewhere without being worth a word, in bytes: it comes back with each library that is loaded.
const FEW_BYTES: u64 = 1 << 20;

/// Moves memory of a process to its GPU's NUMA node.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa heal --dry-run 12345
  gpu-numa heal 12345
  gpu-numa heal --gpus 0 --limit 500M 12345
  srun --overlap --jobid 4711 gpu-numa heal --job

Memory stays where the thread that first wrote it put it; a process that was bound later keeps it there.  The kernel \
moves it page by page while the process runs, in slices of some milliseconds.  Only your own processes, and only \
memory of their own: what is a file's cache is for `gpu-numa cache`.  Left and counted is what is locked (mlock), \
in pages of 1 GiB, pinned (registered with CUDA or RDMA), or in other processes too; memory of the driver is not touched.  New memory \
still comes from where the process's policy says: start it bound.

Exit status: 0 when at most 1 MiB is left elsewhere; 1 when more is (with --dry-run, when more would be moved), and when one of several \
processes could not be healed; 2 when nothing could be done.")]
pub(crate) struct Heal {
    #[command(flatten)]
    whom: Whom,
    /// Say what would be moved, and move nothing
    #[arg(long)]
    dry_run: bool,
    /// Move at most so many bytes a second, such as 500M or 2G (default: no limit)
    #[arg(long, value_name = "BYTES", value_parser = parse_rate)]
    limit: Option<u64>,
    #[command(flatten)]
    format: Format,
}

/// The JSON document.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct HealDocument {
    /// `gpu-numa/heal/1`.
    schema: &'static str,
    /// Whether nothing was to be moved.
    dry_run: bool,
    processes: Vec<HealedProcess>,
    /// Whether nothing is left elsewhere.
    ok: bool,
}

/// A process.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct HealedProcess {
    pid: u32,
    name: String,
    /// How its GPUs are known, for a person.
    gpus: String,
    /// Where its memory belongs; null where that is not known.
    nodes: Option<NodeSet>,
    /// What was on other nodes, in bytes, but for what is locked.
    misplaced_bytes: u64,
    /// What of that was moved, in bytes; 0 with --dry-run.
    moved_bytes: u64,
    /// What stays where it is, in bytes by reason: `locked`, `large_pages` (of 1 GiB and such), `shared` (other processes have it too), `busy` (pinned, or in
    /// use), `no_room`, `other`.
    left_bytes: BTreeMap<&'static str, u64>,
    /// How long the longest slice took, in milliseconds.
    longest_slice_ms: f64,
    /// Why nothing, or not all, was done; null where all was.
    problem: Option<String>,
}

/// Reads a rate in bytes a second, for clap.  A forgotten unit would move a page every few seconds.
fn parse_rate(text: &str) -> Result<u64, String> {
    let rate = parse_bytes(text)?;
    if rate < 1 << 20 {
        return Err("less than 1 MiB a second; expected such as 500M or 2G".to_owned());
    }
    Ok(rate)
}

impl Heal {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        ask_by_child();
        let machine = discovery::read_machine(&Source::ThisMachine)?;
        let host = Host {
            machine: &machine,
            root: Path::new("/"),
            is_live: true,
            named: self.whom.gpus(&machine)?,
            nvml: RefCell::new(None),
        };
        let (checked, all_read) = self.find(&host)?;
        let mut processes = Vec::new();
        for checked in &checked {
            processes.push(self.heal(&machine, checked));
        }
        let ok = all_read
            && processes
                .iter()
                .all(|process| process.is_well(self.dry_run));
        if let [process] = processes.as_slice()
            && let (None, Some(problem)) = (&process.nodes, &process.problem)
        {
            let whom = title(process.pid, &process.name);
            return Err(CommandError::Argument(format!("{whom}: {problem}")));
        }
        let document = HealDocument {
            schema: "gpu-numa/heal/1",
            dry_run: self.dry_run,
            processes,
            ok,
        };
        if self.format.json {
            out.json(&document)?;
        } else {
            print(out, &document)?;
        }
        Ok(if ok { Outcome::Done } else { Outcome::Wanting })
    }

    /// The processes, and whether all that are named could be read.
    fn find(&self, host: &Host<'_>) -> Result<(Vec<Checked>, bool), CommandError> {
        if let Some(group) = self.whom.group()? {
            let (checked, count, all_read) = host.check_group(&group);
            if checked.is_empty() {
                return Err(CommandError::Argument(no_gpu_in_group(&group, count)));
            }
            return Ok((checked, all_read));
        }
        let pids = self.whom.pids();
        if pids.is_empty() {
            return Err(CommandError::Argument(
                "PID is missing: name the process whose memory is to be moved, or a --job"
                    .to_owned(),
            ));
        }
        host.check_named(&pids, None)
    }

    fn heal(&self, machine: &Machine, checked: &Checked) -> HealedProcess {
        let process = &checked.process;
        let mut healed = HealedProcess {
            pid: process.pid,
            name: process.name.clone(),
            gpus: gpus_in_words(machine, &checked.used),
            nodes: None,
            misplaced_bytes: 0,
            moved_bytes: 0,
            left_bytes: BTreeMap::new(),
            longest_slice_ms: 0.0,
            problem: None,
        };
        let nodes = match target_nodes(checked) {
            Ok(nodes) => nodes,
            Err(why) => {
                healed.problem = Some(why);
                return healed;
            }
        };
        let kept = checked.judgement.kept_nodes.union(&nodes);
        match find_misplaced(process.pid, &kept) {
            Ok(misplaced) => {
                healed.misplaced_bytes = misplaced.bytes;
                healed.leave("locked", misplaced.locked_bytes);
                healed.leave("large_pages", misplaced.large_pages_bytes);
                if !self.dry_run {
                    self.move_all(machine, (&nodes, &kept), &misplaced, &mut healed);
                }
                healed.nodes = Some(nodes);
            }
            Err(error) => healed.problem = Some(format!("its memory cannot be read: {error}")),
        }
        healed
    }

    fn move_all(
        &self,
        machine: &Machine,
        (nodes, kept): (&NodeSet, &NodeSet),
        misplaced: &Misplaced,
        healed: &mut HealedProcess,
    ) {
        let bar = bytes_bar(misplaced.bytes);
        bar.set_message(format!("of process {}", healed.pid));
        let mover = Mover {
            pid: healed.pid,
            nodes,
            kept,
            nearness: &|from, to| machine.nearness(from, to),
            limit: self.limit,
            progress: &|bytes| bar.set_position(bytes),
        };
        let (result, why) = match mover.heal(misplaced) {
            Ok(result) => (result, None),
            Err((result, why)) => (result, Some(why)),
        };
        bar.finish_and_clear();
        healed.take(&result);
        healed.problem = why.map(refusal);
    }
}

/// Where a process's memory belongs, or why it is left alone.
fn target_nodes(checked: &Checked) -> Result<NodeSet, String> {
    let process = &checked.process;
    let owner = fs::metadata(format!("/proc/{}", process.pid)).map(|of| of.uid());
    if owner.ok() != Some(effective_user()) {
        return Err(
            "left alone: it is another user's process, and only your own are healed".to_owned(),
        );
    }
    let Some(nodes) = &checked.judgement.memory_nodes else {
        return Err(
            "left alone: where its memory belongs is not known (gpu-numa verify says why); name its GPUs with --gpus"
                .to_owned(),
        );
    };
    let allowed = process.allowed_nodes.as_ref();
    let nodes = allowed.map_or_else(|| nodes.clone(), |allowed| nodes.intersection(allowed));
    if nodes.is_empty() {
        return Err("left alone: its cpuset lets it have no memory on its GPUs' nodes".to_owned());
    }
    Ok(nodes)
}

/// What the kernel's refusal means.
fn refusal(why: Errno) -> String {
    if why == Errno::NO_PROCESS {
        "it has ended meanwhile".to_owned()
    } else if why == Errno::NOT_PERMITTED {
        format!(
            "the kernel refuses to move its memory ({why}); in a container, move_pages needs CAP_SYS_NICE"
        )
    } else {
        format!("the kernel stopped moving its memory: {why}")
    }
}

impl HealedProcess {
    fn leave(&mut self, reason: &'static str, bytes: u64) {
        if bytes > 0 {
            *self.left_bytes.entry(reason).or_default() += bytes;
        }
    }

    fn take(&mut self, result: &Healed) {
        self.moved_bytes = result.moved;
        self.leave("shared", result.shared);
        self.leave("busy", result.busy);
        self.leave("no_room", result.no_room);
        self.leave("other", result.other);
        self.longest_slice_ms = milliseconds(result.longest_slice);
    }

    /// Whether no more of it is on other nodes than is worth a word.
    fn is_well(&self, is_dry: bool) -> bool {
        let left: u64 = self.left_bytes.values().sum();
        let elsewhere = if is_dry {
            left + self.misplaced_bytes
        } else {
            left
        };
        self.problem.is_none() && elsewhere <= FEW_BYTES
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

fn print(out: &mut Out, document: &HealDocument) -> Result<(), CommandError> {
    for process in &document.processes {
        out.line(title(process.pid, &process.name))?;
        out.line(format_args!("  GPUs    {}", process.gpus))?;
        if let Some(nodes) = &process.nodes {
            out.line(format_args!(
                "  memory  {}",
                moved_line(document.dry_run, process, &hardware::nodes(nodes))
            ))?;
        }
        for (reason, bytes) in &process.left_bytes {
            out.line(format_args!(
                "  left    {}: {}",
                volume(*bytes),
                reason_in_words(reason)
            ))?;
        }
        if let Some(problem) = &process.problem {
            out.line(format_args!("  {problem}"))?;
        }
    }
    Ok(())
}

fn moved_line(is_dry: bool, process: &HealedProcess, place: &str) -> String {
    let (misplaced, moved) = (volume(process.misplaced_bytes), volume(process.moved_bytes));
    match (process.misplaced_bytes, is_dry) {
        (0, _) => format!("all that may be moved is on {place}"),
        (_, true) => format!("{misplaced} would be moved to {place}"),
        (_, false) => format!(
            "{moved} of {misplaced} moved to {place}; the longest slice took {} ms",
            process.longest_slice_ms
        ),
    }
}

/// What a reason of `left_bytes` means.
fn reason_in_words(reason: &str) -> &'static str {
    match reason {
        "locked" => "locked in memory (mlock)",
        "large_pages" => "in pages so large that moving one stops its users for too long (1 GiB)",
        "shared" => "shared with other processes; heal these too, or start them bound",
        "busy" => "pinned (registered with CUDA or RDMA), or in use each time",
        "no_room" => "no room on its nodes",
        _ => "not moved by the kernel, or taken meanwhile",
    }
}
