//! `--follow`: a line whenever something changes.
//!
//! A look costs what the process has of threads, one at its memory has the kernel walk all of it, and NVML takes a
//! second.  So each kind of look waits three thousand times as long as it took: together they take less than a
//! thousandth of a core.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use topology::set::CpuSet;

use launch::job::Group;
use launch::processes::waited;
use launch::used::Evidence;

use super::host::{Checked, Host, NVML_AGE};
use super::judge::{FarFile, Finding, judge};
use super::words;
use crate::command::{CommandError, Outcome};
use crate::out::Out;

/// How many times as long as a look takes, nothing is looked at.
const REST: u32 = 3000;
/// Memory is looked at no more often.
const MEMORY_REST: Duration = Duration::from_secs(60);
/// How long after the first look NVML is asked again which GPUs a process uses.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// A process that is followed.
struct Followed {
    checked: Checked,
    cpus: CpuSet,
    memory_due: Instant,
    gpus_due: Instant,
}

/// What a look found.
struct Look {
    /// What changed, a line each.
    changes: Vec<String>,
    /// How long the threads took.
    took: Duration,
}

impl Followed {
    fn new(checked: Checked) -> Self {
        let now = Instant::now();
        Self {
            cpus: checked.process.cpus(),
            memory_due: now + MEMORY_REST,
            gpus_due: now + ASK_AGAIN,
            checked,
        }
    }

    /// Looks again; what changed, none where it has ended.
    fn look(&mut self, host: &Host<'_>) -> Option<Look> {
        let start = Watch::start();
        let process = &mut self.checked.process;
        if !process.read_threads(host.root) {
            return None;
        }
        let took = start.worked();
        let now = Instant::now();
        if now >= self.memory_due {
            let start = Watch::start();
            process.read_memory(host.root);
            self.memory_due = Instant::now() + MEMORY_REST.max(start.worked() * REST);
        }
        let mut changes = Vec::new();
        let is_named = self.checked.used.evidence == Evidence::Named;
        if !is_named && now >= self.gpus_due {
            let start = Watch::start();
            let used = host.used(self.checked.process.pid, NVML_AGE);
            if used != self.checked.used {
                changes.push(format!("GPUs now {}", words::gpus(host.machine, &used)));
                self.checked.used = used;
            }
            self.gpus_due = Instant::now() + ASK_AGAIN.max(start.worked() * REST);
        }
        changes.extend(self.judge_again(host));
        Some(Look { changes, took })
    }

    fn judge_again(&mut self, host: &Host<'_>) -> Vec<String> {
        let Checked {
            process,
            used,
            judgement,
        } = &mut self.checked;
        let new = judge(host.machine, process, used);
        let is_in = |list: &[Finding], own: &Finding| list.iter().any(|other| other.is_as(own));
        let (before, after) = (&judgement.findings, &new.findings);
        let mut changes: Vec<String> = Vec::new();
        for finding in after.iter().filter(|own| !is_in(before, own)) {
            let sentence = words::finding(host.machine, &new, finding);
            let is_wrong = !finding.is_doubt();
            changes.push(if is_wrong {
                format!("now wrong: {sentence}")
            } else {
                format!("now unsure: {sentence}")
            });
        }
        for finding in before.iter().filter(|own| !is_in(after, own)) {
            let sentence = words::finding(host.machine, judgement, finding);
            changes.push(format!("no longer so: {sentence}"));
        }
        let was_far = |file: &FarFile| judgement.far_files.iter().any(|own| own.path == file.path);
        for file in new.far_files.iter().filter(|file| !was_far(file)) {
            changes.push(format!("note: {}", words::far_file(&new, file)));
        }
        let cpus = process.cpus();
        if changes.is_empty() && cpus != self.cpus {
            let verdict = new.verdict.map_or("not known", words::word);
            changes.push(format!("CPUs now {cpus} (were {}): {verdict}", self.cpus));
        }
        self.cpus = cpus;
        *judgement = new;
        changes
    }

    fn title(&self) -> String {
        let process = &self.checked.process;
        words::title(process.pid, &process.name)
    }

    fn is_wrong(&self) -> bool {
        let mut findings = self.checked.judgement.findings.iter();
        findings.any(|finding| !finding.is_doubt())
    }
}

/// How long something takes, without what was waited for.
struct Watch {
    from: Instant,
    waited: Duration,
}

impl Watch {
    fn start() -> Self {
        Self {
            from: Instant::now(),
            waited: waited(),
        }
    }

    fn worked(&self) -> Duration {
        let meanwhile = waited().saturating_sub(self.waited);
        self.from.elapsed().saturating_sub(meanwhile)
    }
}

/// Follows processes until the last has ended, of a group also those that begin meanwhile; wanting where one of them was
/// wrong at any time, or not `all_read` from the first.
pub(super) fn follow(
    out: &mut Out,
    host: &Host<'_>,
    checked: Vec<Checked>,
    group: Option<&Group>,
    (every, all_read): (u32, bool),
) -> Result<Outcome, CommandError> {
    let mut followed: Vec<Followed> = checked.into_iter().map(Followed::new).collect();
    let mut was_wrong = !all_read || followed.iter().any(Followed::is_wrong);
    let every = Duration::from_secs(u64::from(every));
    let mut rest = every;
    let mut looked_at: BTreeSet<u32> = BTreeSet::new();
    while !followed.is_empty() {
        out.flush()?;
        sleep(rest);
        let mut took = Duration::ZERO;
        let mut left = Vec::new();
        for mut own in followed {
            let name = own.title();
            let Some(look) = own.look(host) else {
                out.line(format_args!("{} {name}: has ended", time()))?;
                continue;
            };
            took += look.took;
            for change in look.changes {
                out.line(format_args!("{} {name}: {change}", time()))?;
            }
            was_wrong |= own.is_wrong();
            left.push(own);
        }
        followed = left;
        if let Some(group) = group {
            let start = Watch::start();
            let pids: BTreeSet<u32> = group.pids(host.root).into_iter().collect();
            for new in begun(host, &pids, &looked_at, &followed) {
                let name = new.title();
                let verdict = new
                    .checked
                    .judgement
                    .verdict
                    .map_or("not known", words::word);
                out.line(format_args!("{} {name}: has begun: {verdict}", time()))?;
                was_wrong |= new.is_wrong();
                followed.push(new);
            }
            looked_at = pids;
            took += start.worked();
        }
        was_wrong |= !Host::all_answered();
        rest = every.max(took * REST);
    }
    out.flush()?;
    Ok(if was_wrong {
        Outcome::Wanting
    } else {
        Outcome::Done
    })
}

/// Those of the group's processes that have begun since the last look, and have GPUs.
fn begun(
    host: &Host<'_>,
    pids: &BTreeSet<u32>,
    looked_at: &BTreeSet<u32>,
    followed: &[Followed],
) -> Vec<Followed> {
    let is_followed = |pid: &u32| followed.iter().any(|own| own.checked.process.pid == *pid);
    let new = pids
        .difference(looked_at)
        .filter(|pid| !is_followed(pid))
        // NVML does not list it yet.
        .filter_map(|pid| host.check(*pid, Duration::MAX));
    new.filter(|checked| !checked.is_without_gpu())
        .map(Followed::new)
        .collect()
}

/// The time of day, UTC.
fn time() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |now| now.as_secs()) % 86_400;
    format!(
        "{:02}:{:02}:{:02}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::fs;

    /// A process with the first GPU of `dgx-h100`, on node 0, and its memory by `maps`.
    fn write(root: &std::path::Path, maps: &str) {
        let folder = root.join("proc/100");
        let thread = folder.join("task/100");
        fs::create_dir_all(&thread).unwrap();
        fs::create_dir_all(folder.join("fd")).unwrap();
        fs::write(thread.join("comm"), "python\n").unwrap();
        fs::write(
            thread.join("status"),
            "Name:\tpython\nCpus_allowed_list:\t0-3\n",
        )
        .unwrap();
        fs::write(folder.join("comm"), "python\n").unwrap();
        fs::write(
            folder.join("environ"),
            r#"GPU_NUMA_BIND_REPORT={"gpus":["0000:1b:00.0"]}"#,
        )
        .unwrap();
        fs::write(folder.join("numa_maps"), maps).unwrap();
    }

    #[test]
    fn memory_that_went_to_the_other_node_is_said_and_so_is_its_return() {
        let recording = machines::named("dgx-h100").record();
        let root = recording.root();
        let machine = topology::sysfs::read_machine(root, &topology::locality::Overrides::new());
        let machine = machine.unwrap();
        let host = Host {
            machine: &machine,
            root,
            is_live: false,
            named: None,
            nvml: RefCell::new(None),
        };
        let near = "1 default heap anon=90000 N0=90000 kernelpagesize_kB=4\n";
        let drifted = "1 default heap anon=90000 N0=30000 N1=60000 kernelpagesize_kB=4\n";
        write(root, near);
        let mut followed = Followed::new(host.check(100, Duration::MAX).unwrap());
        let mut changes = |maps: &str, is_due: bool| {
            write(root, maps);
            if is_due {
                followed.memory_due = Instant::now();
            }
            followed.look(&host).unwrap().changes
        };
        assert_eq!(changes(near, true), [""; 0]);
        // Not before its memory is looked at again.
        assert_eq!(changes(drifted, false), [""; 0]);
        let far = "234.3 MiB of its 351.5 MiB of memory are not on its GPU's node 0";
        let [said] = changes(drifted, true).try_into().unwrap();
        assert!(said.starts_with(&format!("now wrong: {far}")), "{said}");
        let [said] = changes(near, true).try_into().unwrap();
        assert!(said.starts_with(&format!("no longer so: {far}")), "{said}");
    }
}
