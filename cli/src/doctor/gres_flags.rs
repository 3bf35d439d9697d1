//! `Flags=` of GPUs' lines in gres.conf, and the variables that Slurm sets by them.

use slurm_config::gres::{GresLine, NodeGres};
use slurm_config::node::Node;
use slurm_config::registration::{sets_variable, variable_flag};
use slurm_config::release::Release;
use slurm_config::rules::{self, FlagsRule, Series};
use topology::machine::Gpu;

use super::forecast;
use super::report::{DoctorReport, Harm};
use super::world::World;

/// Words of `Flags=`: those that this Slurm does not know, and those with which jobs do without their GPUs' variable.
pub(super) fn check(
    world: &World<'_>,
    node: &Node,
    gres: &NodeGres<'_>,
    report: &mut DoctorReport,
) {
    let counted: Vec<&GresLine<'_>> = gres
        .lines
        .iter()
        .filter(|line| line.has_flag("countonly"))
        .collect();
    for line in &counted {
        report.find(
            "gres-key",
            Harm::StopsBinding,
            format!("{}: CountOnly on a line for GPUs", line.line.quote("Flags")),
            "Slurm only counts the GPUs and does not load its plugin gres_gpu.so: jobs get no variable that says which are theirs, \
             ConstrainDevices=yes keeps none from them, and nothing can be bound by them",
            format!("{}: remove CountOnly", line.line.place()),
        );
    }
    let release = world.release.unwrap_or_else(|| Series::newest().release());
    let unset = unset_variable(world, node, gres, Series::of(release).flags);
    let is_told = check_early_uuids(world, gres, unset.is_some(), report)
        | check_strange_flags(gres, release, unset, report);
    if counted.is_empty() && !is_told {
        check_variables(world, node, gres, report);
    }
}

/// The variable of a maker whose GPUs' jobs get none because of `Flags=`, and the word that sets it; None where they get all, where slurmd
/// stops at the lines, or where some GPUs of the node have no line, for which Slurm sets all variables again.
fn unset_variable(
    world: &World<'_>,
    node: &Node,
    gres: &NodeGres<'_>,
    rule: FlagsRule,
) -> Option<(&'static str, &'static str)> {
    let has_all = forecast::gpus_of_lines(world, gres) >= node.gres_count("gpu").unwrap_or(0);
    let mut makers = world.given().filter_map(Gpu::maker).filter(|_| has_all);
    makers.find_map(|maker| {
        let word = maker.autodetect.first().copied().and_then(variable_flag)?;
        let is_unset = sets_variable(&gres.every, word, rule) == Some(false);
        is_unset.then_some((maker.variables.visible, word))
    })
}

/// What jobs do without a variable that says which GPUs are theirs.
fn without_variable(variable: &str) -> String {
    format!(
        "a line with Flags= sets only the variables that it names: jobs get no {variable}, and every program sees the GPUs that the \
         fence leaves, or all"
    )
}

/// `Flags=env_uuid` where this Slurm does not know it; whether there is any.
fn check_early_uuids(
    world: &World<'_>,
    gres: &NodeGres<'_>,
    is_unset: bool,
    report: &mut DoctorReport,
) -> bool {
    let Some(release) = world.release else {
        return false;
    };
    if Series::of(release).has_env_uuid {
        return false;
    }
    let Some(first) = rules::TABLE.iter().find(|series| series.has_env_uuid) else {
        return false;
    };
    let mut is_there = false;
    for line in gres.lines.iter().filter(|line| line.has_flag("env_uuid")) {
        is_there = true;
        report.find(
            "gres-key",
            Harm::WeakensBinding,
            format!(
                "{}: env_uuid, which Slurm has from {} on; this is {release}",
                line.line.quote("Flags"),
                first.release()
            ),
            if is_unset {
                "slurmd does not know the word, but a line with Flags= sets only the variables that it names: jobs get no \
                 CUDA_VISIBLE_DEVICES, and every program sees the GPUs that the fence leaves, or all"
            } else {
                "slurmd ignores it: CUDA_VISIBLE_DEVICES holds numbers, not UUIDs"
            },
            format!("{}: remove env_uuid", line.line.place()),
        );
    }
    is_there
}

/// Words of `Flags=` that no slurmd of this release knows, other than one of a later release; whether there are any.
fn check_strange_flags(
    gres: &NodeGres<'_>,
    release: Release,
    unset: Option<(&'static str, &'static str)>,
    report: &mut DoctorReport,
) -> bool {
    let mut is_there = false;
    for line in &gres.lines {
        let value = line.line.get("flags").unwrap_or_default();
        for (word, meant) in rules::unknown_flags(value, release) {
            if word == "env_uuid" {
                continue;
            }
            is_there = true;
            let place = line.line.place();
            report.find(
                "gres-key",
                Harm::WeakensBinding,
                format!("{}: slurmd does not know {word}", line.line.quote("Flags")),
                unset.map_or_else(
                    || "slurmd passes over the word".to_owned(),
                    |(variable, _)| without_variable(variable),
                ),
                match meant {
                    Some(meant) => format!("{place}: {meant} instead of {word}"),
                    None => format!("{place}: remove {word}"),
                },
            );
        }
    }
    is_there
}

/// Words that Slurm knows, and with which jobs get no variable for their GPUs.
fn check_variables(world: &World<'_>, node: &Node, gres: &NodeGres<'_>, report: &mut DoctorReport) {
    let known: Vec<&Series> = match world.release {
        Some(release) => vec![Series::of(release)],
        None => rules::TABLE.iter().collect(),
    };
    let unset: Vec<_> = known
        .iter()
        .filter_map(|series| {
            let (variable, word) = unset_variable(world, node, gres, series.flags)?;
            Some((series, variable, word))
        })
        .collect();
    let ends = unset.first().zip(unset.last());
    let Some(((oldest, variable, word), (newest, _, _))) = ends else {
        return;
    };
    let having = gres
        .lines
        .iter()
        .filter(|line| line.line.get("flags").is_some());
    let having: Vec<&GresLine<'_>> = having.collect();
    let quotes: Vec<String> = having.iter().map(|line| line.line.quote("Flags")).collect();
    let places: Vec<String> = having.iter().map(|line| line.line.place()).collect();
    let places = places.join(", ");
    let when = if unset.len() == known.len() {
        String::new()
    } else {
        format!("in Slurm {} to {}, ", oldest.release(), newest.release())
    };
    report.find(
        "gres-key",
        Harm::WeakensBinding,
        format!("{}: no {word}", quotes.join(", ")),
        format!("{when}{}", without_variable(variable)),
        if having.iter().any(|line| line.has_flag("no_gpu_env")) {
            format!("{places}: remove no_gpu_env, unless programs are to find their GPUs by the fence alone")
        } else {
            format!("{places}: {word} too, on every line with Flags=")
        },
    );
}
