//! `gpu-numa __generate DIR`: man pages and shell completions, for the packages.
//!
//! Both come from the one definition of the commands, and the page on the option from the table of its items, so they
//! say the same as `--help`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, ValueHint};
use clap::{Arg, Args};
use clap_complete::Shell;
use slurm_config::rules;

use crate::command::{CommandError, Outcome};
use crate::completions::{self, PROGRAM};
use crate::man;
use crate::nccl::paths::CAPABILITIES;
use crate::option_page::option_page;
use crate::out::{Out, WriteError};

/// Writes DIR/man/gpu-numa*.1, DIR/man/gpu-numa-bind.7 and DIR/completions/{gpu-numa,_gpu-numa,gpu-numa.fish}.
#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// Where to write
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Generate {
    pub(crate) fn run(
        &self,
        out: &mut Out,
        program: &clap::Command,
    ) -> Result<Outcome, CommandError> {
        let pages = make(self.dir.join("man"))?;
        let completions = make(self.dir.join("completions"))?;
        let command = visible(program);
        clap_mangen::generate_to(command.clone(), &pages)
            .map_err(|error| WriteError::file("write", &pages, error))?;
        complete_pages(&pages, PROGRAM, &command)?;
        let command = with_hints(command);
        let page = pages.join("gpu-numa-bind.7");
        fs::write(&page, option_page()).map_err(|error| WriteError::file("write", &page, error))?;
        // As the shells' folders for completions want them named.
        for (shell, file) in [
            (Shell::Bash, "gpu-numa"),
            (Shell::Zsh, "_gpu-numa"),
            (Shell::Fish, "gpu-numa.fish"),
        ] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command.clone(), PROGRAM, &mut text);
            let text = completions::finish(shell, &String::from_utf8_lossy(&text));
            let path = completions.join(file);
            fs::write(&path, text).map_err(|error| WriteError::file("write", &path, error))?;
        }
        out.line(format_args!(
            "{} and {} written",
            pages.display(),
            completions.display()
        ))?;
        Ok(Outcome::Done)
    }
}

/// Completes the page of `command`, which is called `name`, and those of the commands below it.
fn complete_pages(pages: &Path, name: &str, command: &clap::Command) -> Result<(), WriteError> {
    let path = pages.join(format!("{name}.1"));
    let page = fs::read_to_string(&path).map_err(|error| WriteError::file("read", &path, error))?;
    fs::write(&path, man::complete(&page, command))
        .map_err(|error| WriteError::file("write", &path, error))?;
    for below in command.get_subcommands() {
        let name = format!("{name}-{}", below.get_name());
        if pages.join(format!("{name}.1")).exists() {
            complete_pages(pages, &name, below)?;
        }
    }
    Ok(())
}

/// The command without its hidden subcommands, which are for packagers and not for the shell.
fn visible(command: &clap::Command) -> clap::Command {
    let shown: Vec<clap::Command> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .cloned()
        .collect();
    let mut bare = clap::Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .args(command.get_arguments().filter(|own| own.is_global_set()))
        .subcommands(shown);
    if let Some(about) = command.get_about() {
        bare = bare.about(about.clone());
    }
    bare
}

/// The command with what each value is, so that shells offer files for files only.
fn with_hints(command: clap::Command) -> clap::Command {
    let hint = |argument: Arg| {
        let value = argument.get_value_names().and_then(<[_]>::first);
        let hint = match value.map(|name| name.as_str()) {
            Some("PATH" | "FILE") => ValueHint::AnyPath,
            Some("DIR") => ValueHint::DirPath,
            Some("CMD") => ValueHint::CommandWithArguments,
            _ => ValueHint::Other,
        };
        let words = offered(&argument);
        if !words.is_empty() {
            argument.value_parser(PossibleValuesParser::new(words))
        } else if argument.get_value_hint() == ValueHint::Unknown
            && argument.get_action().takes_values()
        {
            argument.value_hint(hint)
        } else {
            argument
        }
    };
    command.mut_args(hint).mut_subcommands(with_hints)
}

/// How many GPUs shells offer: as many as the largest hosts have.
const OFFERED_GPUS: u32 = 16;

/// What shells offer for a value that the program reads by itself: releases of Slurm, series of NCCL and what it takes for a
/// variable, compute capabilities, and the names of GPUs whatever host it is.
fn offered(argument: &Arg) -> Vec<&'static str> {
    let value = argument.get_value_names().and_then(<[_]>::first);
    let words: Vec<String> = match (argument.get_id().as_str(), value.map(|name| name.as_str())) {
        ("slurm_release", _) => rules::TABLE
            .iter()
            .map(|own| own.release().to_string())
            .collect(),
        (_, Some("GPU")) => (0..OFFERED_GPUS)
            .map(|number| format!("GPU{number}"))
            .collect(),
        ("sm", _) => CAPABILITIES.map(|number| number.to_string()).to_vec(),
        ("p2p", Some("LEVEL")) => ["on", "off", "LOC", "NVL", "PIX", "PXB", "PHB", "SYS"]
            .map(str::to_owned)
            .to_vec(),
        ("p2p", _) => ["on", "off"].map(str::to_owned).to_vec(),
        ("version", Some("VERSION")) => {
            let mut series: Vec<String> = nccl_topo::rules::TABLE
                .iter()
                .map(|rules| rules.from.series())
                .collect();
            series.dedup();
            series
        }
        ("gpus", Some("LIST")) | (_, Some("GPU,GPU")) => {
            (0..OFFERED_GPUS).map(|number| number.to_string()).collect()
        }
        _ => Vec::new(),
    };
    // clap wants them for as long as the program runs, which ends when the files are written.
    let kept = words.into_iter().map(|word| &*word.leak());
    kept.collect()
}

fn make(path: PathBuf) -> Result<PathBuf, WriteError> {
    fs::create_dir_all(&path).map_err(|error| WriteError::file("make", &path, error))?;
    Ok(path)
}
