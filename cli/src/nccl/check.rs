//! `gpu-numa nccl check`.

use std::path::PathBuf;

use clap::Args;
use discovery::Source;
use nccl_topo::compare::{Difference, compare};
use nccl_topo::model::parts::in_parts;
use nccl_topo::reader::{self, Effect, System, Violation};
use serde::Serialize;
use topology::nvlink::unlinked;

use crate::command::{CommandError, Format, From, Outcome};
use crate::nccl::version::{For, ForNccl, for_versions, merged, predictions};
use crate::out::{self, Out};

/// The effect of what the file says instead of NCCL, and may well be right.
const NOTE: &str = "note";

/// Check a file against NCCL's reader's rules, and against a machine
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa nccl check /etc/nccl/topo.xml
  gpu-numa nccl check topo.xml --from /srv/recorded/node7

Each finding is one line on standard output.  Without --from, the file is compared with this machine if it has an NVIDIA GPU.

Exit status: 0 when NCCL takes the file and all findings are notes, 1 when one is more than that, 2 when the file or the \
machine cannot be read.")]
pub(crate) struct Check {
    /// The topology file
    file: PathBuf,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    nccl: ForNccl,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CheckDocument {
    schema: &'static str,
    accepted: bool,
    compared: bool,
    findings: Vec<CheckFinding>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct CheckFinding {
    line: Option<usize>,
    element: Option<String>,
    effect: &'static str,
    problem: String,
}

impl Check {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let text = super::read(&self.file)?;
        let here = matches!(self.from.source(), Source::ThisMachine);
        let versions = self.nccl.versions(here);
        let Readings { taken, violations } = read_for_each(&text, &versions);
        let is_accepted = taken.len() == versions.len();
        let mut findings = violations;
        if let Some((_, system)) = taken.first() {
            findings.extend(self.unlinked());
            findings.extend(in_parts(system).into_iter().map(|busid| {
                of_prediction(format!(
                    "{busid} is in parts (MLOPart): NCCL takes parts from the GPUs that its ranks hold, and not from a \
                     file; what is said here is of whole GPUs, and `gpu-numa nccl paths` has the parts"
                ))
            }));
        }
        let machine = self.from.read()?;
        let has_gpu = machine.has_nccl_gpus();
        let compared = !taken.is_empty() && (!here || has_gpu);
        if compared {
            let each = taken
                .iter()
                .map(|(one, system)| (one, compare(system, &machine, one.rules)));
            let mut differences = merged(versions.len(), each.collect());
            differences.sort_by_key(|(difference, _)| difference.line);
            findings.extend(differences.into_iter().map(of_difference));
            findings.extend(
                predictions(&machine, &versions, Some(&taken))
                    .into_iter()
                    .map(of_prediction),
            );
        } else if !taken.is_empty() {
            out::message(
                "not compared with a machine: no NVIDIA GPU here; name another machine with --from PATH",
            );
        }
        let fits = findings.iter().all(|finding| finding.effect == NOTE);
        let outcome = if fits {
            Outcome::Done
        } else {
            Outcome::Wanting
        };
        if self.format.json {
            out.json(&CheckDocument {
                schema: "gpu-numa/nccl-check/1",
                accepted: is_accepted,
                compared,
                findings,
            })?;
            return Ok(outcome);
        }
        let file = self.file.display();
        for finding in findings.iter().take(MOST_LINES) {
            let line = finding
                .line
                .map(|line| format!(":{line}"))
                .unwrap_or_default();
            let element = finding
                .element
                .as_ref()
                .map(|at| format!("{at}: "))
                .unwrap_or_default();
            let CheckFinding {
                effect, problem, ..
            } = finding;
            out.line(format_args!("{file}{line}: {effect}: {element}{problem}"))?;
        }
        if let Some(more) = findings
            .len()
            .checked_sub(MOST_LINES)
            .filter(|more| *more > 0)
        {
            out.line(format_args!(
                "{file}: and {more} more of the kind (all with --json)"
            ))?;
        }
        if fits {
            let against = if compared {
                ", and it matches the machine"
            } else {
                ""
            };
            out.line(format_args!(
                "{file}: NCCL reads this file as intended{against}"
            ))?;
        }
        Ok(outcome)
    }
}

impl Check {
    /// GPUs that the file gives no NVLink, beside others that have them.
    fn unlinked(&self) -> Vec<CheckFinding> {
        // What this reader cannot tell a machine from is among the violations.
        let Ok(machine) = discovery::read_machine(&Source::Path(self.file.clone())) else {
            return Vec::new();
        };
        let found = unlinked(&machine).into_iter().map(|alone| {
            let (pci, others) = (alone.pci, alone.others);
            of_prediction(match alone.links {
                Some(links) => {
                    format!("{pci} has no NVLink, the other {others} GPUs have {links} each")
                }
                None => format!("{pci} has no NVLink, the other {others} GPUs have"),
            })
        });
        found.collect()
    }
}

/// Findings that are listed; a file that is none of NCCL's has one a line.
const MOST_LINES: usize = 50;

/// What the versions make of a file.
struct Readings {
    /// The file, for those of them that take it.
    taken: Vec<(For, System)>,
    /// What is wrong with it, by line: once where it is for all of them, else with the version.
    violations: Vec<CheckFinding>,
}

fn read_for_each(text: &str, versions: &[For]) -> Readings {
    let mut taken = Vec::new();
    let mut each = Vec::new();
    for one in versions {
        let reading = reader::read_for(text, one.rules);
        taken.extend(reading.system.map(|system| (one.clone(), system)));
        each.push((one, reading.violations));
    }
    let mut found = merged(versions.len(), each);
    found.sort_by_key(|(violation, _)| violation.line);
    let violations = found.iter().map(|(violation, names)| {
        let mut finding = of_violation(violation);
        finding.problem = for_versions(finding.problem, names.as_ref());
        finding
    });
    Readings {
        taken,
        violations: violations.collect(),
    }
}

fn of_violation(violation: &Violation) -> CheckFinding {
    CheckFinding {
        line: Some(violation.line),
        element: Some(violation.at.clone()).filter(|at| !at.is_empty()),
        effect: match violation.effect {
            Effect::Fatal => "refused",
            Effect::Misread => "misread",
            Effect::Ignored => "ignored",
            Effect::Note => NOTE,
        },
        problem: violation.problem.to_string(),
    }
}

fn of_difference((difference, names): (Difference, Option<String>)) -> CheckFinding {
    CheckFinding {
        line: difference.line,
        element: None,
        effect: "differs",
        problem: for_versions(difference.kind.to_string(), names.as_ref()),
    }
}

/// A note: the file is not at fault.
fn of_prediction(problem: String) -> CheckFinding {
    CheckFinding {
        line: None,
        element: None,
        effect: NOTE,
        problem,
    }
}
