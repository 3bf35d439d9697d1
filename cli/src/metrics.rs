//! `gpu-numa metrics`: what the Slurm plugin counted on this host, for monitoring.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use launch::host::{Trust, read_snapshot};
use launch::metrics::{read, start};
use serde::Serialize;
use topology::metrics::{Counts, Figure, Host, Syntax, render};
use topology::snapshot::DIRECTORY;

use crate::command::{CommandError, Format, Outcome};
use crate::out::Out;
use crate::snapshot::{make_folder, write_atomically};

/// The file that node_exporter's textfile collector reads: of a folder those that end so.
const TEXTFILE: &str = "gpu-numa-bind.prom";

/// Print what the Slurm plugin counted on this host, for monitoring.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa metrics
  gpu-numa metrics --start --textfile /var/lib/node_exporter/textfile_collector
  gpu-numa metrics --json

The plugin counts only on hosts that have a table of counters, /run/gpu-numa-bind/metrics.  --start makes one, as root; \
to stop counting, remove it.  It is gone after a boot, as the counters of a restarted program are: gpu-numa-metrics.timer \
starts it again and writes the text file every 30 s.

slurmstepd counts a step when it ends.  No figure has a label that users choose.

Prints OpenMetrics 1.0; --textfile writes Prometheus' text format, which is what node_exporter reads, in one step.

Exit status: 0; 2 where nothing is counted on this host.")]
pub(crate) struct Metrics {
    /// Start counting on this host where it does not count yet (as root)
    #[arg(long)]
    start: bool,
    /// Write gpu-numa-bind.prom into this folder, for node_exporter's textfile collector, and print nothing
    #[arg(long, value_name = "DIR", conflicts_with = "json")]
    textfile: Option<PathBuf>,
    /// The snapshot's folder, which holds the table
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    dir: PathBuf,
    #[command(flatten)]
    format: Format,
}

/// The JSON document.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MetricsDocument {
    /// `gpu-numa/metrics/1`.
    schema: &'static str,
    /// Whether the plugins can use this host's snapshot now.
    snapshot_is_usable: bool,
    /// Steps by the policy asked for; `not-asked` where binding was not.
    steps: Values,
    /// Those that Slurm gave GPUs on this host.
    gpu_steps: Values,
    /// Steps for which binding was asked, by where the machine was read from.
    steps_by_source: Values,
    /// Tasks by what they got.
    tasks: Values,
    /// Tasks under the policy `none`, by what they would have got.
    dry_run_tasks: Values,
    /// Tasks that were bound, by width.
    tasks_by_width: Values,
    /// Tasks with GPUs by the memory policy that was set.
    tasks_by_memory: Values,
    /// Tasks with GPUs by what lies between these and their NICs.
    tasks_by_nic: Values,
    /// Tasks for which the kernel refused what was to be set.
    kernel_refusals: Values,
    /// Microseconds in the plugin's hooks.
    hook_micros: Values,
}

type Values = BTreeMap<&'static str, u64>;

impl MetricsDocument {
    fn new(counts: &Counts, snapshot_is_usable: bool) -> Self {
        let of = |figure| counts.values(figure).collect();
        Self {
            schema: "gpu-numa/metrics/1",
            snapshot_is_usable,
            steps: of(Figure::Steps),
            gpu_steps: of(Figure::GpuSteps),
            steps_by_source: of(Figure::StepsBySource),
            tasks: of(Figure::Tasks),
            dry_run_tasks: of(Figure::DryRunTasks),
            tasks_by_width: of(Figure::TasksByWidth),
            tasks_by_memory: of(Figure::TasksByMemory),
            tasks_by_nic: of(Figure::TasksByNic),
            kernel_refusals: of(Figure::KernelRefusals),
            hook_micros: of(Figure::HookMicros),
        }
    }
}

impl Metrics {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        if let Some(folder) = self.textfile.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(CommandError::Argument(format!(
                "--textfile \"{}\": expected a folder that is there",
                folder.display()
            )));
        }
        let counts = self.counts()?;
        let snapshot_is_usable = read_snapshot(&self.dir, Trust::Root).is_ok();
        let host = Host {
            version: env!("CARGO_PKG_VERSION"),
            snapshot_is_usable,
        };
        match &self.textfile {
            Some(folder) => {
                let text = render(&counts, host, Syntax::Prometheus);
                write_atomically(&folder.join(TEXTFILE), &text)?;
            }
            None if self.format.json => {
                out.json(&MetricsDocument::new(&counts, snapshot_is_usable))?;
            }
            None => {
                let text = render(&counts, host, Syntax::OpenMetrics);
                out.file(Path::new("-"), &text)?;
            }
        }
        Ok(Outcome::Done)
    }

    /// The counters, of a new table where one is to be started and none can be used.
    fn counts(&self) -> Result<Counts, CommandError> {
        let found = read(&self.dir);
        if self.start && found.is_err() {
            make_folder(&self.dir)?;
            start(&self.dir).map_err(|error| CommandError::Argument(error.to_string()))?;
            return read(&self.dir).map_err(|error| CommandError::Argument(error.to_string()));
        }
        found.map_err(|error| {
            CommandError::Argument(if error.is_missing() {
                format!(
                    "nothing is counted on this host: no {}; as root, gpu-numa metrics --start starts it",
                    launch::metrics::table(&self.dir).display()
                )
            } else {
                format!("{error}; as root, gpu-numa metrics --start starts a new table")
            })
        })
    }
}
