//! Which NCCL a page is about.

use std::path::{Path, PathBuf};

use clap::Args;
use nccl_topo::graph::Searches;
use nccl_topo::predict::{
    Prediction, gpus_without_nvlink, predict_file, predict_for, splits_for, splits_of_file,
};
use nccl_topo::reader::System;
use nccl_topo::rules::{NEWEST, Rules, Version};
use topology::machine::Machine;

use crate::out;

/// Where a host's libraries are, below the root.
const FOLDERS: [&str; 6] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "usr/local/lib",
    "usr/local/cuda/lib64",
];

/// The library that every user of NCCL loads, a link to one named by its version.
const LIBRARY: &str = "libnccl.so.2";

#[derive(Debug, Args)]
pub(crate) struct ForNccl {
    /// NCCL's version, as 2.30 or 2.30.7 [default: the libnccl found here, else 2.30 and what differs in 2.31]
    #[arg(long = "nccl", value_name = "VERSION", value_parser = parse_version)]
    version: Option<Asked>,
}

/// A version as it was asked for.
#[derive(Debug, Clone)]
struct Asked {
    text: String,
    version: Version,
}

/// Reads `2.30` or `2.30.7` for clap; of a series the newest counts.
fn parse_version(text: &str) -> Result<Asked, String> {
    let whole = if text.split('.').count() == 2 {
        format!("{text}.255")
    } else {
        text.to_owned()
    };
    let version = whole.parse::<Version>();
    let version = version.map_err(|_| {
        let assumed = Rules::assumed().from;
        format!(
            "expected a version of NCCL, as {} or {assumed}",
            assumed.series()
        )
    })?;
    let oldest = Rules::oldest().from;
    if version < oldest {
        return Err(format!(
            "expected {oldest} or later: what earlier versions do is not known here"
        ));
    }
    Ok(Asked {
        text: text.to_owned(),
        version,
    })
}

/// A version to answer for.
#[derive(Debug, Clone)]
pub(crate) struct For {
    /// As a page names it: `2.30`.
    pub(crate) name: String,
    /// Its rules; for a version newer than the table those of the newest row, whose name it has.
    pub(crate) rules: &'static Rules,
    /// Whether these rules are known to be its own, so that what it will do can be foretold.
    pub(crate) is_known: bool,
}

impl ForNccl {
    /// The versions to answer for: one that is asked for or found, else the two whose rules are in use; `is_here`
    /// where the answer is about this host.
    pub(crate) fn versions(&self, is_here: bool) -> Vec<For> {
        let found = || found_here().filter(|_| is_here);
        let asked = self.version.clone().or_else(found);
        let Some(Asked { text, version }) = asked else {
            return Rules::in_use()
                .map(|rules| For {
                    name: rules.from.series(),
                    rules,
                    is_known: true,
                })
                .collect();
        };
        if !version.is_known() {
            out::message(&format!(
                "NCCL {text} is newer than {NEWEST}, the newest whose rules are known here: figures and paths are those of \
                 {NEWEST}, and nothing is predicted"
            ));
        }
        vec![For {
            name: if version.is_known() {
                text
            } else {
                NEWEST.to_string()
            },
            rules: Rules::of(version),
            is_known: version.is_known(),
        }]
    }
}

/// The NCCL that is installed here, by the name of its library; none where there is none, or its name does not tell.
fn found_here() -> Option<Asked> {
    let listed = std::env::var_os("LD_LIBRARY_PATH");
    let listed = listed.iter().flat_map(std::env::split_paths);
    let usual = FOLDERS.iter().map(|folder| Path::new("/").join(folder));
    let version = |folder: PathBuf| {
        let library = std::fs::canonicalize(folder.join(LIBRARY)).ok()?;
        let name = library.file_name()?.to_str()?;
        let text = name.strip_prefix("libnccl.so.")?.to_owned();
        let version = text.parse().ok()?;
        Some(Asked { text, version })
    };
    listed
        .filter(|folder| folder.is_absolute())
        .chain(usual)
        .find_map(version)
}

/// What holds for some of so many versions, each once: with their names where it does not hold for all of them.
pub(crate) fn merged<T: PartialEq>(
    versions: usize,
    each: Vec<(&For, Vec<T>)>,
) -> Vec<(T, Option<String>)> {
    let mut all: Vec<(T, Vec<String>)> = Vec::new();
    for (one, found) in each {
        for found in found {
            match all.iter_mut().find(|(known, _)| *known == found) {
                Some((_, names)) if names.contains(&one.name) => {}
                Some((_, names)) => names.push(one.name.clone()),
                None => all.push((found, vec![one.name.clone()])),
            }
        }
    }
    let named = all.into_iter().map(|(found, names)| {
        let names = (names.len() < versions).then(|| names.join(", "));
        (found, names)
    });
    named.collect()
}

/// A text with the versions for which it holds.
pub(crate) fn for_versions(text: String, names: Option<&String>) -> String {
    match names {
        Some(names) => format!("NCCL {names}: {text}"),
        None => text,
    }
}

/// A user's file as each version takes it that does.
pub(crate) type Taken = [(For, System)];

/// What no true file can fix, or what NCCL makes of a user's file, and how NCCL cuts the host, in words: what holds for all
/// versions once, the rest with its version; of a version newer than the table nothing.
pub(crate) fn predictions(
    machine: &Machine,
    versions: &[For],
    file: Option<&Taken>,
) -> Vec<String> {
    let searches = Searches::default();
    let known = versions.iter().filter(|one| one.is_known);
    let each = known.map(|one| {
        let taken = file.map(|taken| taken.iter().find(|(own, _)| own.name == one.name));
        let (found, splits) = match taken {
            Some(Some((_, system))) => (
                predict_file(system, machine, one.rules, &searches),
                splits_of_file(system, machine, one.rules, &searches),
            ),
            // A file that this version refuses.
            Some(None) => (Vec::new(), Vec::new()),
            None => (
                predict_for(machine, one.rules, &searches),
                splits_for(machine, one.rules, &searches),
            ),
        };
        let texts = found.iter().map(with_remedy);
        let texts = texts.chain(splits.iter().map(ToString::to_string));
        (one, texts.collect())
    });
    let all = merged(versions.len(), each.collect()).into_iter();
    let all = all.map(|(text, names)| for_versions(text, names.as_ref()));
    without_nvlink(machine).into_iter().chain(all).collect()
}

/// A prediction, with the graph file where that helps.
fn with_remedy(prediction: &Prediction) -> String {
    if prediction.several_hosts || !prediction.about.is_unfixable() {
        return prediction.to_string();
    }
    let words = if prediction.with_p2p {
        ""
    } else {
        " --p2p off"
    };
    format!(
        "{prediction}. If each communicator of a job has all GPUs of the host, `gpu-numa nccl emit --graph{words}` \
         writes a graph file that fixes it"
    )
}

/// What GPUs without NVLink among others that have it do to NCCL.
pub(crate) fn without_nvlink(machine: &Machine) -> Option<String> {
    let without = gpus_without_nvlink(machine);
    let named: Vec<String> = without.iter().map(ToString::to_string).collect();
    let named = named.join(", ");
    match without.len() {
        0 => None,
        1 => Some(format!(
            "{named} has no NVLink, and other GPUs here have: in a communicator with it, NCCL's rings leave NVLink for \
             all GPUs; check the GPU and its fabric"
        )),
        _ => Some(format!(
            "{named} have no NVLink, and other GPUs here have: in a communicator with one of them, NCCL's rings leave \
             NVLink for all GPUs; check the GPUs and their fabric"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_series_or_one_of_it() {
        let rules = |text| Rules::of(parse_version(text).unwrap().version);
        assert_eq!(rules("2.30").from, rules("2.30.7").from);
        assert!(parse_version("2.26.5").is_err());
        assert!(parse_version("next").is_err());
    }
}
