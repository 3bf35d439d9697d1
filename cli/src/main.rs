//! The program `gpu-numa`: a table of commands, each with its own module.

#![deny(unsafe_code)]

mod archive;
mod assumed;
mod cache;
mod check;
mod command;
mod compare;
mod completions;
mod doctor;
mod flags;
mod fleet;
mod generate;
mod gres_conf;
mod hardware;
mod heal;
mod links;
mod man;
mod measure;
mod metrics;
mod models;
mod nccl;
mod nics;
mod option;
mod option_page;
mod out;
mod paper;
mod picture;
mod plan;
mod progress;
mod run;
#[cfg(test)]
mod schemas;
mod show;
mod snapshot;
mod table;
mod usage;
mod verify;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};
use command::{CommandError, Outcome};
use out::{Out, WriteError};
use paper::Colour;

/// So that `run` hands on the signals and descriptors that it was given itself.
#[used]
#[allow(unsafe_code, reason = "it must run before Rust's runtime changes them")]
#[unsafe(link_section = ".init_array")]
static NOTE_START: extern "C" fn() = ffi::exec::note_start;

/// Shows, plans and checks where GPU jobs run on NUMA machines.
#[derive(Debug, Parser)]
#[command(name = "gpu-numa", version, max_term_width = 80)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Whether the answer is coloured
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        help = "Whether the answer is coloured: auto, always or never"
    )]
    color: Colour,
}

/// The commands, one line each.
#[derive(Debug, Subcommand)]
enum Command {
    /// Show the machine: GPUs, NICs, NUMA nodes and the paths between
    Show(show::Show),
    /// Plan what --gpu-numa-bind would do
    Plan(plan::Plan),
    /// Run a command bound to GPUs, without Slurm
    Run(run::Run),
    /// Check whether a process runs near its GPUs
    Verify(verify::Verify),
    /// Move a process's memory to its GPUs' NUMA node
    Heal(heal::Heal),
    /// Show on which NUMA nodes the cached pages of files are
    Cache(cache::Cache),
    /// Check this host and its Slurm setup; print the fix per problem
    Doctor(doctor::Doctor),
    /// Say in one line, fast, whether this node should take no jobs
    Check(check::Check),
    /// Print what the Slurm plugin counted on this host
    Metrics(metrics::Metrics),
    /// Group hosts by hardware and list the ones that differ
    Fleet(fleet::Fleet),
    /// Write gres.conf for this machine, and what slurm.conf needs
    GresConf(gres_conf::GresConf),
    /// Measure memory latency and bandwidth between NUMA nodes
    Measure(measure::Measure),
    /// Write, explain and check NCCL's topology file
    Nccl(nccl::Nccl),
    /// Write the files that the plugins read, in /run/gpu-numa-bind
    Snapshot(snapshot::Snapshot),
    /// Write man pages and shell completions
    #[command(name = "__generate", hide = true)]
    Generate(generate::Generate),
    /// Time copies between host and GPUs, for measure
    #[command(name = "__copies", hide = true)]
    Copies(measure::Copies),
}

/// Runs the command that was typed.
fn run(command: &Command, out: &mut Out) -> Result<Outcome, CommandError> {
    match command {
        Command::Show(show) => show.run(out),
        Command::Plan(plan) => plan.run(out),
        Command::Run(run) => run.run(out),
        Command::Verify(verify) => verify.run(out),
        Command::Heal(heal) => heal.run(out),
        Command::Cache(cache) => cache.run(out),
        Command::Doctor(doctor) => doctor.run(out),
        Command::Check(check) => check.run(out),
        Command::Metrics(metrics) => metrics.run(out),
        Command::Fleet(fleet) => fleet.run(out),
        Command::GresConf(gres_conf) => gres_conf.run(out),
        Command::Measure(measure) => measure.run(out),
        Command::Nccl(nccl) => nccl.run(out),
        Command::Snapshot(snapshot) => snapshot.run(out),
        Command::Generate(generate) => generate.run(out, &Cli::command()),
        Command::Copies(copies) => copies.run(out),
    }
}

/// Prints the help that was asked for, or one line about what is wrong with the command line.
fn refuse(error: &clap::Error) -> ExitCode {
    let is_bare = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_bare || !error.use_stderr() {
        // Where standard output is closed, nothing can be reported.
        let _ = error.print();
    } else {
        let words: Vec<String> = std::env::args_os()
            .skip(1)
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        out::message(&usage::line(error, &Cli::command(), &words));
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

fn main() -> ExitCode {
    discovery::probe::answer(std::env::args_os().skip(1));
    archive::packing::answer(std::env::args_os().skip(1));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let mut out = Out::new(cli.color);
    let result = run(&cli.command, &mut out).and_then(|outcome| {
        out.flush()?;
        Ok(outcome)
    });
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Wanting) => ExitCode::from(1),
        Ok(Outcome::Status(status)) => ExitCode::from(status),
        Err(CommandError::Write(WriteError::Answer(error)))
            if error.kind() == std::io::ErrorKind::BrokenPipe =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            out::message(&error.to_string());
            ExitCode::from(2)
        }
    }
}
