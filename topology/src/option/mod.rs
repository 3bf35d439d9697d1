//! The option `--gpu-numa-bind[=ITEM[,ITEM...]]` and where its items come from.
//!
//! `table` holds each item's word and meaning once: parsing, the texts that say what is expected, `srun --help`,
//! `gpu-numa plan --help`, the manual, the shells' completions and README's table all come from it.  To add an item,
//! add a variant to its kind in `choices` and a row to the table; a new kind is one more entry in `kinds`, `item`
//! and `settings`.

mod choices;
mod item;
mod items;
mod kinds;
mod precedence;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub use choices::{Frameworks, Map, Memory, Nccl, Nic, Policy, Verbosity, Width};
pub use item::Item;
pub use items::{Items, MAX_LENGTH, OptionError};
pub use kinds::ItemKind;
pub use settings::Settings;
pub use table::{Row, TABLE, USAGE, rows_of};
pub use text::{one_line, printable};
