//! gres.conf's lines of MIG instances: whether each is one device, whole, and given once.

use std::collections::BTreeMap;

use slurm_config::gres::{GresLine, NodeGres};
use slurm_config::rules;

use super::devices::{self, DeviceFile};
use super::forecast;
use super::report::{DoctorReport, Harm};
use super::slurm::Slurm;
use super::world::World;

/// Where the driver's capabilities are, by which a process may use an instance.
const CAPABILITIES: &str = "/dev/nvidia-caps/";

pub(super) fn check(
    world: &World<'_>,
    slurm: &Slurm,
    gres: &NodeGres<'_>,
    report: &mut DoctorReport,
) {
    for line in &gres.lines {
        check_apart(line, report);
        check_whole(line, report);
    }
    check_twice(gres, report);
    check_given_whole(world, gres, report);
    check_beside_sharing(world, slurm, gres, report);
}

/// Instances where GresTypes= has a GRES that shares GPUs, in releases that do not keep their files together.
fn check_beside_sharing(
    world: &World<'_>,
    slurm: &Slurm,
    gres: &NodeGres<'_>,
    report: &mut DoctorReport,
) {
    let splits = |release| forecast::splits_several_files(slurm, release);
    let Some(release) = world.release.filter(|release| splits(*release)) else {
        return;
    };
    let mut lines = gres.lines.iter();
    let is_found = || gres.detects() && world.given().any(|gpu| !gpu.mig.is_empty());
    if !lines.any(GresLine::is_of_several_files) && !is_found() {
        return;
    }
    let Some((_, types)) = slurm.value("grestypes") else {
        return;
    };
    report.find(
        "mig-files",
        Harm::StopsJobs,
        format!("{} beside MIG instances", types.quote("GresTypes")),
        format!(
            "slurmd {release} takes each file of an instance for a GPU of its own where GresTypes= has shard or mps, and a job that gets one of \
             them can open no GPU"
        ),
        format!(
            "{}: GresTypes= without shard and mps, or Slurm {} or newer",
            types.place(),
            rules::SEVERAL_FILES_BESIDE_SHARING
        ),
    );
}

/// `File=` with files of which each is a part of an instance only: slurmd takes each for a GPU.
fn check_apart(line: &GresLine<'_>, report: &mut DoctorReport) {
    let files = line.files();
    if !files.iter().any(|file| file.starts_with(CAPABILITIES)) {
        return;
    }
    let place = line.line.place();
    report.find(
        "mig-files",
        Harm::StopsJobs,
        line.line.quote("File"),
        format!(
            "slurmd takes each of the {} files for a GPU of its own, and a job that gets one of them can open no GPU",
            files.len()
        ),
        format!(
            "{place}: MultipleFiles= with the files of one instance (the GPU's, the GPU instance's and the compute instance's), and a line for \
             each instance, as `gpu-numa gres-conf` prints them"
        ),
    );
}

/// `MultipleFiles=` of an instance without the GPU's own file or without an instance's.
fn check_whole(line: &GresLine<'_>, report: &mut DoctorReport) {
    let files = line.several_files();
    let parts = files
        .iter()
        .filter(|file| file.starts_with(CAPABILITIES))
        .count();
    let (missing, change) = match (parts, files.len() - parts) {
        (0, _) | (2.., 1) => return,
        (_, 0) => (
            "no file of the GPU itself",
            "/dev/nvidiaN of the instance's GPU first",
        ),
        (1, _) => (
            "the file of one capability",
            "both files of the instance: the GPU instance's and the compute instance's",
        ),
        (_, _) => (
            "the files of several GPUs",
            "the files of one instance alone",
        ),
    };
    report.find(
        "mig-files",
        Harm::StopsJobs,
        format!("{} has {missing}", line.line.quote("MultipleFiles")),
        "where devices are fenced (ConstrainDevices=yes) a job may open the files of its line alone, and a program needs all of its instance's: \
         the job finds no GPU",
        format!(
            "{}: {change} (/proc/driver/nvidia-caps/mig-minors has the numbers; `gpu-numa gres-conf` prints the lines)",
            line.line.place()
        ),
    );
}

/// The same instance on two lines, which slurmd does not look for (`gres_node_config_load`: duplicates of `File=` alone).
fn check_twice(gres: &NodeGres<'_>, report: &mut DoctorReport) {
    let mut seen: BTreeMap<Vec<String>, String> = BTreeMap::new();
    for line in &gres.lines {
        let mut files = line.several_files();
        files.sort_unstable();
        if files.is_empty() {
            continue;
        }
        let place = line.line.place();
        match seen.get(&files) {
            Some(before) => report.find(
                "mig-files",
                Harm::StopsBinding,
                format!("{place}: the files of {before} again"),
                "Slurm gives one instance to two jobs, which share its memory",
                format!(
                    "{place}: the files of another instance, or no such line and one less in Gres="
                ),
            ),
            None => {
                seen.insert(files, place);
            }
        }
    }
}

/// `File=` of a GPU that is divided, by what the driver says or by lines of its instances.
fn check_given_whole(world: &World<'_>, gres: &NodeGres<'_>, report: &mut DoctorReport) {
    // Lines may be many: each is looked at once.
    let mut instances: BTreeMap<String, String> = BTreeMap::new();
    for line in gres.lines.iter().filter(|line| line.is_of_several_files()) {
        let (parts, cards): (Vec<String>, Vec<String>) = line
            .several_files()
            .into_iter()
            .partition(|file| file.starts_with(CAPABILITIES));
        for card in cards.into_iter().filter(|_| !parts.is_empty()) {
            instances.entry(card).or_insert_with(|| line.line.place());
        }
    }
    let has_mig = world.machine.gpus.iter().any(|gpu| !gpu.mig.is_empty());
    if instances.is_empty() && !has_mig {
        return;
    }
    let is_cut = |file: &str| {
        let found = devices::of_file(world.machine, file);
        matches!(found, DeviceFile::Gpu(gpu) if !gpu.mig.is_empty())
    };
    let is_divided = |file: &String| match instances.get(file) {
        Some(place) => Some(format!("{place} has an instance of it")),
        None => (has_mig && is_cut(file)).then(|| "the driver has divided it (MIG)".to_owned()),
    };
    for line in &gres.lines {
        let files = line.files();
        let mut divided = files
            .iter()
            .filter_map(|file| Some((file, is_divided(file)?)));
        let Some((file, why)) = divided.next() else {
            continue;
        };
        let place = line.line.place();
        report.find(
            "mig-files",
            Harm::StopsJobs,
            format!("{place}: File= gives {file} whole, and {why}"),
            "a job that gets it may open none of its instances where devices are fenced (ConstrainDevices=yes), and finds no GPU; where they \
             are not, it may use an instance that another job has",
            format!(
                "{place}: File= without {file}, and a line with MultipleFiles= for each instance, as `gpu-numa gres-conf` prints them; or the \
                 GPU undivided (`nvidia-smi -mig 0`)"
            ),
        );
    }
}
