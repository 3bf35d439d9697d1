//! What is wrong with the command line, in one line.

use std::error::Error as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};
use topology::option::printable;
use topology::text::nearest;

/// A value parser of whole numbers in `range`, whose complaint says so.
pub(crate) fn whole(
    range: RangeInclusive<u32>,
) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync {
    move |text| {
        let number = text.parse::<u32>().ok();
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                format!(
                    "expected a whole number from {} to {}",
                    range.start(),
                    range.end()
                )
            })
    }
}

/// Process ids in one argument: what `"$(pgrep python)"` gives.
#[derive(Debug, Clone)]
pub(crate) struct Pids(pub(crate) Vec<u32>);

/// Reads process ids, for clap: at least one, so that a quoted `"$(pgrep ...)"` that finds nothing is an error.
pub(crate) fn parse_pids(text: &str) -> Result<Pids, String> {
    let number = |word: &str| word.parse::<u32>().ok().filter(|pid| *pid > 0);
    let numbers: Option<Vec<u32>> = text.split_whitespace().map(number).collect();
    match numbers {
        Some(pids) if !pids.is_empty() => Ok(Pids(pids)),
        Some(_) => Err(
            "expected a process id, such as 12345; did $(pgrep ...) find no process?".to_owned(),
        ),
        None => Err("expected a process id, such as 12345".to_owned()),
    }
}

/// Reads a number of bytes, for clap: `500M` is 500 MiB.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let end = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text
        .get(end.len()..)
        .unwrap_or_default()
        .to_ascii_uppercase();
    let shift = match unit.trim_end_matches("IB").trim_end_matches('B') {
        "" => Some(0),
        "K" => Some(10),
        "M" => Some(20),
        "G" => Some(30),
        "T" => Some(40),
        _ => None,
    };
    let bytes = shift.and_then(|shift| end.parse::<u64>().ok()?.checked_mul(1 << shift));
    let bytes = bytes.filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "expected a number of bytes, such as 500M or 2G".to_owned())
}

/// Reads the name of a picture's file, for clap.
pub(crate) fn parse_svg(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension() {
        None if text.is_empty() => Err("expected the name of a file, or -".to_owned()),
        Some(extension) if !extension.eq_ignore_ascii_case("svg") => {
            Err("the picture is SVG; expected a name that ends in .svg, or -".to_owned())
        }
        Some(_) | None => Ok(path),
    }
}

/// The fault of a command line that `root` refused, with where to read on.
pub(crate) fn line(error: &Error, root: &Command, words: &[String]) -> String {
    let (path, command) = chosen(root, words);
    let fault = negative(error, words)
        .or_else(|| not_utf8(error, words))
        .or_else(|| misplaced(error, command, words))
        .unwrap_or_else(|| fault(error, command));
    if fault.ends_with('?') {
        format!("{fault} (see {path} --help)")
    } else {
        format!("{fault}; see {path} --help")
    }
}

/// What is wrong with a negative number after an option, which clap takes for an option; none where it is something else.
fn negative(error: &Error, words: &[String]) -> Option<String> {
    let argument = text(error, ContextKind::InvalidArg);
    let is_number = error.kind() == ErrorKind::UnknownArgument && argument.parse::<f64>().is_ok();
    let at = words.iter().position(|word| *word == argument)?;
    let option = words
        .get(at.checked_sub(1)?)
        .filter(|word| word.starts_with("--"))?;
    is_number.then(|| format!("{option} \"{argument}\": expected a number that is not negative"))
}

/// Which word is not UTF-8; clap does not say.
fn not_utf8(error: &Error, words: &[String]) -> Option<String> {
    let is_odd = |word: &&String| word.contains(char::REPLACEMENT_CHARACTER);
    let word = words.iter().find(is_odd)?;
    (error.kind() == ErrorKind::InvalidUtf8)
        .then(|| format!("\"{}\" is not UTF-8; expected text", printable(word)))
}

/// What was meant by an option before its command, a command with dashes, and a long option with a single dash; none where the
/// fault is another.
fn misplaced(error: &Error, command: &Command, words: &[String]) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let argument = text(error, ContextKind::InvalidArg);
    // clap names the first letter alone of what has a single dash.
    let is_typed = |word: &&String| {
        word.starts_with(&argument) && (argument.starts_with("--") || word.len() > argument.len())
    };
    let typed = bare(words.iter().find(is_typed)?);
    let name = typed.trim_start_matches('-').to_lowercase();
    let own = command.get_arguments().filter_map(clap::Arg::get_long);
    if let Some(long) = nearest(&name, own).filter(|_| name.len() > 1) {
        return Some(format!(
            "unknown option \"{}\"; did you mean --{long}?",
            printable(typed)
        ));
    }
    let has_it = |inner: &&Command| {
        inner
            .get_arguments()
            .any(|own| own.get_long() == Some(&name) && !inner.is_hide_set())
    };
    let near = nearest(&name, commands(command).into_iter());
    match (near, command.get_subcommands().find(has_it)) {
        (Some(near), _) => Some(format!(
            "unknown option \"{}\"; did you mean the command {near}?",
            printable(typed)
        )),
        (None, Some(inner)) => Some(format!(
            "--{name} goes behind the command, as in {} --{name}",
            inner.get_name()
        )),
        (None, None) => None,
    }
}

/// The innermost command that the words name, and how it is called.
fn chosen<'a>(root: &'a Command, words: &[String]) -> (String, &'a Command) {
    let mut path = root.get_name().to_owned();
    let mut command = root;
    for word in words {
        let Some(inner) = command.find_subcommand(word) else {
            break;
        };
        path = format!("{path} {word}");
        command = inner;
    }
    (path, command)
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "clap's kinds are open; those without wording of ours keep clap's"
)]
fn fault(error: &Error, command: &Command) -> String {
    let argument = text(error, ContextKind::InvalidArg);
    let value = text(error, ContextKind::InvalidValue);
    let name = bare(&argument);
    match error.kind() {
        ErrorKind::InvalidValue if value.is_empty() => {
            let wanted = argument
                .split_once(' ')
                .map_or("a value", |(_, shown)| shown);
            format!("{name}: a value is missing; expected {wanted}")
        }
        ErrorKind::InvalidValue => {
            let valid = list(error, ContextKind::ValidValue);
            let suggested = list(error, ContextKind::SuggestedValue);
            let near = nearest(&value.to_lowercase(), valid.iter().map(String::as_str))
                .or_else(|| suggested.first().map(String::as_str));
            let valid = valid.join(", ");
            match near {
                Some(near) => {
                    format!("{name} \"{value}\": did you mean {near}? (expected {valid})")
                }
                None => format!("{name} \"{value}\": expected {valid}"),
            }
        }
        ErrorKind::ValueValidation => {
            let why = error.source().map_or_else(
                || "a value that is not accepted".to_owned(),
                ToString::to_string,
            );
            format!("{name} \"{value}\": {why}")
        }
        ErrorKind::UnknownArgument => unknown_argument(error, &argument, command),
        ErrorKind::InvalidSubcommand => {
            let word = text(error, ContextKind::InvalidSubcommand);
            // Those that are for packagers are not suggested, and clap's own suggestions are of far words too.
            let known = commands(command);
            let lower = word.to_lowercase();
            let near = nearest(&lower, known.iter().copied());
            let known = known.join(", ");
            match near {
                Some(near) => {
                    format!("unknown command \"{word}\"; did you mean {near}? (expected {known})")
                }
                None if ["version", "help"].contains(&lower.as_str()) => {
                    format!("unknown command \"{word}\"; did you mean --{lower}?")
                }
                None => format!("unknown command \"{word}\"; expected {known}"),
            }
        }
        ErrorKind::MissingSubcommand => {
            format!(
                "a command is missing; expected {}",
                commands(command).join(", ")
            )
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = list(error, ContextKind::InvalidArg);
            let missing: Vec<&str> = missing.iter().map(|shown| bare(shown)).collect();
            format!("{} is missing", missing.join(" and "))
        }
        ErrorKind::ArgumentConflict => {
            let others = list(error, ContextKind::PriorArg);
            let others: Vec<&str> = others.iter().map(|shown| bare(shown)).collect();
            if others.is_empty() || others == [name] {
                format!("{name} is given twice; expected once")
            } else {
                format!("{name} cannot be used with {}", others.join(" and "))
            }
        }
        ErrorKind::TooManyValues => {
            format!("{name} \"{value}\": no value expected")
        }
        _ => first_line(error),
    }
}

fn unknown_argument(error: &Error, argument: &str, command: &Command) -> String {
    if !argument.starts_with('-') {
        let reads_machines = command
            .get_arguments()
            .any(|own| own.get_long() == Some("from"));
        return if reads_machines && Path::new(argument).exists() {
            format!("unexpected argument \"{argument}\"; did you mean --from {argument}?")
        } else {
            format!("unexpected argument \"{argument}\"")
        };
    }
    let near = text(error, ContextKind::SuggestedArg);
    if !near.is_empty() {
        return format!(
            "unknown option \"{argument}\"; did you mean {}?",
            bare(&near)
        );
    }
    let known: Vec<String> = command
        .get_arguments()
        .filter(|own| !own.is_hide_set())
        .filter_map(|own| Some(format!("--{}", own.get_long()?)))
        .collect();
    if known.is_empty() {
        format!("unknown option \"{argument}\"")
    } else {
        format!(
            "unknown option \"{argument}\"; expected {}",
            known.join(", ")
        )
    }
}

/// The names of the commands below `command`.
fn commands(command: &Command) -> Vec<&str> {
    command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
        .map(Command::get_name)
        .collect()
}

/// `--from` of `--from <PATH>`, `PID` of `[PID]`, `FILE` of `<FILE>...`.
fn bare(shown: &str) -> &str {
    let word = shown.split(' ').next().unwrap_or(shown);
    let word = word.split('=').next().unwrap_or(word);
    word.trim_end_matches('.')
        .trim_matches(['<', '>', '[', ']'])
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "clap's values are open, and only texts are names"
)]
fn text(error: &Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.first().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "clap's values are open, and only texts are names"
)]
fn list(error: &Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

/// What clap says where there is no wording of ours, without its heading.
fn first_line(error: &Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}
