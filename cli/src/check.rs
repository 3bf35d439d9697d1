//! `gpu-numa check`: whether this node should take no jobs, for Slurm's health check, NHC and prologs.

use clap::Args;
use serde::Serialize;

use crate::command::{CommandError, Format, From, Outcome};
use crate::doctor::examine;
use crate::doctor::report::{DoctorFinding, Harm};
use crate::doctor::world::{Choice, World};
use crate::out::Out;

/// How long it may take: less than slurmd gives its health check (60 s) and NHC a check (30 s).
const PATIENCE_SECONDS: u32 = 5;
/// What it says when it takes longer.
const TOO_LONG: &str = "gpu-numa: check: not done after 5 s; nothing is known of this node\n";
/// The longest reason, in bytes; `scontrol` and `sinfo` take longer ones, and a line of a terminal does not.
const MAX_REASON: usize = 200;

/// Say in one line, fast, whether this node should take no jobs.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa check
  reason=$(gpu-numa check); [ $? -ne 1 ] || echo \"$reason\"
  gpu-numa check --class slows-jobs --json

For HealthCheckProgram, NHC and prologs: of what doctor finds, what stops jobs and is of the host's own GPUs: one that is \
gone since boot, or that gres.conf names and that has no device file or another kernel driver.  The rest, Slurm's configuration and a stale \
snapshot among it, is passed over unless --class names it.  The driver of the GPUs is not asked, no GPU is opened, and after 5 s it \
ends by itself.

Prints nothing, or one line that is fit for `scontrol update reason=`: ASCII without quotes, 200 bytes at most.

Exit status: by the worst finding that counts: 0 none; 1 stops jobs; 3 stops binding; 4 weakens binding; 5 slows jobs; 2 \
the node could not be looked at, which is no reason to drain it.")]
pub(crate) struct Check {
    /// Count all findings of this class and of worse ones, those of Slurm's configuration too
    #[arg(long, value_name = "CLASS", value_enum)]
    class: Option<Harm>,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    choice: Choice,
}

/// The JSON document.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CheckDocument {
    /// `gpu-numa/check/1`.
    schema: &'static str,
    host: Option<String>,
    /// The line that is printed without `--json`; null where nothing counts.
    reason: Option<String>,
    /// The class of the worst finding that counts.
    class: Option<Harm>,
    /// Those that count, the worst first.
    findings: Vec<DoctorFinding>,
    /// How many findings do not count.
    passed_over: usize,
    /// What could not be checked, which is never a finding.
    unchecked: Vec<String>,
    /// Whether nothing counts.
    ok: bool,
}

impl Check {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        ffi::linux::limit::end_after(PATIENCE_SECONDS, TOO_LONG, 2);
        let machine = self.from.read_without_driver()?;
        let mut world = World::read(&machine, &self.from.source(), &self.choice)?;
        world.asks_driver = false;
        let report = examine(&world);
        let (findings, milder): (Vec<_>, Vec<_>) =
            report
                .findings
                .into_iter()
                .partition(|finding| match self.class {
                    Some(class) => finding.harm <= class,
                    None => finding.drains(),
                });
        let document = CheckDocument {
            schema: "gpu-numa/check/1",
            host: machine.hostname.clone(),
            reason: reason(&findings),
            class: findings.first().map(|worst| worst.harm),
            passed_over: milder.len(),
            unchecked: report.unchecked,
            ok: findings.is_empty(),
            findings,
        };
        if self.format.json {
            out.json(&document)?;
        } else if let Some(reason) = &document.reason {
            out.line(reason)?;
        }
        let status = |harm: Harm| Outcome::Status(harm.exit_status());
        Ok(document.class.map_or(Outcome::Done, status))
    }
}

/// The worst finding in one line for `scontrol update reason=`; None where there is none.
fn reason(findings: &[DoctorFinding]) -> Option<String> {
    let worst = findings.first()?;
    let more = match findings.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let mut line = plain(&format!(
        "gpu-numa: {}: {}: {}",
        worst.check, worst.evidence, worst.effect
    ));
    let room = MAX_REASON - more.len();
    if line.len() > room {
        // It is ASCII by now.
        line.truncate(room - 3);
        line = format!("{}...", line.trim_end());
    }
    Some(line + &more)
}

/// Printable ASCII that means nothing to a shell in double quotes, each run of blanks as one.
fn plain(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '`' | '\\' | '$' => {}
            c if c.is_whitespace() || c.is_control() => {
                if !line.ends_with(' ') {
                    line.push(' ');
                }
            }
            ' '..='~' => line.push(c),
            _ => line.push('?'),
        }
    }
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(evidence: &str) -> DoctorFinding {
        DoctorFinding {
            check: "gres-file",
            harm: Harm::StopsJobs,
            evidence: evidence.to_owned(),
            effect: "slurmd stops".to_owned(),
            change: String::new(),
            is_of_gpu: true,
        }
    }

    #[test]
    fn a_reason_is_one_plain_line_whatever_a_file_holds() {
        let hostile = "gres.conf:1: \"File=/dev/x'`id`$(id)\\\n\t\u{1b}[31m\u{e9}\u{202e}\" ";
        let line = reason(&[finding(hostile)]).unwrap();
        assert_eq!(
            line,
            "gpu-numa: gres-file: gres.conf:1: File=/dev/xid(id) [31m?? : slurmd stops"
        );
    }

    #[test]
    fn a_reason_has_a_bounded_length_and_counts_what_it_leaves_out() {
        let many: Vec<_> = (0..1_000)
            .map(|_| finding(&"\u{e9} x".repeat(999)))
            .collect();
        let line = reason(&many).unwrap();
        assert!(
            line.len() <= MAX_REASON && line.ends_with("... (and 999 more)"),
            "{line}"
        );
        assert_eq!(reason(&[]), None);
    }
}
