//! `--option`: the items of `--gpu-numa-bind`, for the commands that bind or plan without Slurm.

use std::ffi::OsStr;

use clap::Args;
use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::ErrorKind;
use launch::site::{VARIABLE, asked_without_site};
use launch::variables::{Environment, OwnEnvironment};
use topology::option::{ItemKind, Items, Nccl, Settings, TABLE, rows_of};

use crate::command::CommandError;
use crate::out;

/// The items that a command line names.
#[derive(Debug, Args)]
pub(crate) struct OptionItems {
    /// The same items as in --gpu-numa-bind=ITEM,...; GPU_NUMA_BIND supplies those of kinds not named here
    #[arg(long = "option", value_name = "ITEM,...", default_value = "", hide_default_value = true,
          hide_possible_values = true, value_parser = ItemList, long_help = long_help())]
    text: String,
}

impl OptionItems {
    /// The option as it was given; nothing where it was not.
    pub(crate) fn given(&self) -> Vec<String> {
        if self.text.is_empty() {
            Vec::new()
        } else {
            vec!["--option".to_owned(), self.text.clone()]
        }
    }

    /// What they say of NCCL; none where they say nothing.
    pub(crate) fn nccl(&self) -> Option<Nccl> {
        Items::parse(&self.text).ok()?.nccl()
    }

    /// The settings that the items make, completed by `GPU_NUMA_BIND` as at a job's start.
    ///
    /// # Errors
    /// One line that names the item that is not understood; of the variable, such an item is said and left out.
    pub(crate) fn settings(&self) -> Result<Settings, CommandError> {
        Items::parse(&self.text)
            .map_err(|problem| CommandError::Argument(format!("--option: {problem}")))?;
        let variable = OwnEnvironment.get(VARIABLE);
        let asked = asked_without_site(&self.text, variable.as_deref());
        for problem in &asked.problems {
            out::message(&problem.to_string());
        }
        Ok(asked.settings)
    }
}

/// Every item with its meaning.
fn long_help() -> String {
    let mut help = "The same items as in --gpu-numa-bind=ITEM,...; GPU_NUMA_BIND supplies those of kinds not named \
                    here. At most one of each kind:"
        .to_owned();
    for kind in ItemKind::ALL {
        help.push('\n');
        for row in rows_of(kind) {
            let default = if row.is_default() { " (default)" } else { "" };
            help.push_str(&format!("\n{}{default}: {}", row.word, row.meaning));
        }
    }
    help
}

/// Takes any text, and tells the shells' completions which items there are.
#[derive(Debug, Clone)]
struct ItemList;

impl TypedValueParser for ItemList {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        let text = value.to_str().map(str::to_owned);
        text.ok_or_else(|| clap::Error::new(ErrorKind::InvalidUtf8).with_cmd(command))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let values = TABLE
            .iter()
            .map(|row| PossibleValue::new(row.word).help(row.meaning));
        Some(Box::new(values))
    }
}
