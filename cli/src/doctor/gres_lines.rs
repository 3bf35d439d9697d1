//! gres.conf's lines among themselves, and against the node's line: keys, counts, order, AutoDetect.

use std::collections::BTreeSet;

use slurm_config::config::Line;
use slurm_config::hostlist;
use slurm_config::node::Node;
use topology::machine::{Gpu, Machine};
use topology::pci::PciAddress;
use topology::vendor::{GpuVendor, VENDORS};

use super::World;
use super::gres::{MAX_FILES, by_minor, detection_of, knows_minors, minor_of};
use super::report::{Harm, Report};
use super::slurm::Slurm;

/// Words of `AutoDetect=` for devices of other vendors than those of this program.
const OTHER_DETECTIONS: [&str; 2] = ["oneapi", "nrt"];

/// What gres.conf knows, in lower case (`gres.c`, `_gres_options`, 22.05 to 26.05; gres.conf(5)).
const KEYS: [&str; 14] = [
    "autodetect",
    "cores",
    "count",
    "cpus",
    "file",
    "files",
    "flags",
    "ignore",
    "link",
    "links",
    "multiplefiles",
    "name",
    "nodename",
    "type",
];

/// Keys that Slurm does not know, on any host's line: slurmd reads them all.
pub(super) fn check_keys(lines: &[Line], report: &mut Report) {
    for line in lines {
        for (key, value) in &line.pairs {
            if KEYS.contains(&key.as_str()) {
                continue;
            }
            report.find(
                "gres-key",
                Harm::StopsJobs,
                format!("{}: unknown key \"{key}={value}\"", line.place()),
                "slurmd stops at a line that it cannot read, and the node is down",
                format!(
                    "{}: expected Name=, Type=, File=, Cores=, Count=, Links=, Flags=, NodeName= or AutoDetect=",
                    line.place()
                ),
            );
        }
    }
}

/// Whether AutoDetect can find these GPUs on this host.
pub(super) fn check_detection(
    world: &World<'_>,
    slurm: &Slurm,
    value: &str,
    line: &Line,
    report: &mut Report,
) {
    let value = value.to_ascii_lowercase();
    let gpus = &world.machine.gpus;
    let finds = |maker: &&GpuVendor| maker.autodetect.contains(&value.as_str());
    let of_a_vendor = VENDORS.iter().find(finds);
    let mut makers = gpus.iter().filter_map(Gpu::maker);
    let is_for_others = of_a_vendor.is_some() || OTHER_DETECTIONS.contains(&value.as_str());
    let missed = makers
        .next()
        .filter(|first| is_for_others && !finds(first) && !makers.any(|maker| finds(&maker)));
    let problem = match (value.as_str(), missed) {
        ("off" | "none" | "", _) => return,
        (_, Some(missed)) => format!("finds none of {}'s GPUs", missed.name),
        // gres.conf(5) of 24.11 has it first.
        ("nvidia", None)
            if slurm
                .release
                .is_some_and(|release| (release.major, release.minor) < (24, 11)) =>
        {
            "is known from Slurm 24.11 on".to_owned()
        }
        ("nvml", None) => match folder_without(slurm, "gpu_nvml.so") {
            Some(folder) => {
                format!("needs gpu_nvml.so, which {folder} lacks: this Slurm is built without NVML")
            }
            None => return,
        },
        (_, None) if is_for_others => return,
        (_, None) => "is none that Slurm knows (nvml, nvidia, rsmi, oneapi, nrt, off)".to_owned(),
    };
    let detection = format!("AutoDetect={}", detection_of(world.machine));
    report.find(
        "gres-autodetect",
        Harm::StopsJobs,
        format!("{}, which {problem}", line.quote("AutoDetect")),
        "slurmd finds no GPU or does not start, and the node is drained",
        format!(
            "{}: {}, or the lines of `gpu-numa gres-conf`",
            line.place(),
            if value == "nvml" {
                "install Slurm's NVML plugin"
            } else {
                &detection
            }
        ),
    );
}

/// Slurm's plugin folder, where it is there and has other plugins but not this one.
fn folder_without(slurm: &Slurm, plugin: &str) -> Option<String> {
    let named = slurm.value("plugindir").map(|(value, _)| value.to_owned());
    let usual = [
        "/usr/lib64/slurm",
        "/usr/lib/slurm",
        "/usr/lib/x86_64-linux-gnu/slurm-wlm",
        "/usr/lib/aarch64-linux-gnu/slurm-wlm",
    ];
    let folders: Vec<String> = match named {
        Some(named) => named.split(':').map(str::to_owned).collect(),
        None => usual.map(str::to_owned).to_vec(),
    };
    let of_slurm: Vec<&String> = folders
        .iter()
        .filter(|folder| slurm.tree.exists(&format!("{folder}/task_affinity.so")))
        .collect();
    let has = of_slurm
        .iter()
        .any(|folder| slurm.tree.exists(&format!("{folder}/{plugin}")));
    of_slurm
        .first()
        .filter(|_| !has)
        .map(|folder| (*folder).clone())
}

/// The device files of a line.
fn files_of(line: &Line) -> Vec<String> {
    line.get("file")
        .or_else(|| line.get("files"))
        .map(|list| hostlist::expand(list, MAX_FILES))
        .unwrap_or_default()
}

/// Counts and types of the lines, against each other and the node's `Gres=`.
pub(super) fn check_counts(
    world: &World<'_>,
    node: &Node,
    lines: &[&Line],
    detects: bool,
    report: &mut Report,
) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut total: u64 = 0;
    for line in lines {
        let files = files_of(line);
        let count = line
            .get("count")
            .and_then(|value| value.parse::<u64>().ok());
        total = total.saturating_add(if files.is_empty() {
            count.unwrap_or(1)
        } else {
            files.len() as u64
        });
        check_line_count(line, &files, count, detects, report);
        for file in files {
            if seen.contains(&file) {
                report.find(
                    "gres-file",
                    Harm::StopsJobs,
                    format!("{}: {file} is also on a line before", line.place()),
                    "Slurm counts one GPU twice, and gives it to two jobs or drains the node",
                    format!("{}: take {file} out of one of them", line.place()),
                );
            }
            seen.insert(file);
        }
    }
    let wanted = node.gres_count("gpu").unwrap_or(0);
    let there = world.machine.gpus.len() as u64;
    if !detects && total < wanted && wanted <= there {
        report.find(
            "gres-count",
            Harm::StopsJobs,
            format!(
                "{}: Gres= declares {wanted} GPUs, gres.conf has {total}",
                node.line.place()
            ),
            "slurmctld drains the node (\"gres/gpu count reported lower than configured\")",
            "gres.conf: the lines of `gpu-numa gres-conf`",
        );
    }
    if !detects {
        check_types(node, &node.gres("gpu"), lines, report);
    }
}

fn check_line_count(
    line: &Line,
    files: &[String],
    count: Option<u64>,
    detects: bool,
    report: &mut Report,
) {
    if files.is_empty() && !detects {
        report.find(
            "gres-file",
            Harm::StopsBinding,
            format!("{}: a line for GPUs without File=", line.place()),
            "slurmd knows no device file of these GPUs: nothing is fenced and CUDA_VISIBLE_DEVICES is not set",
            format!("{}: File=/dev/nvidia0 and so on, as `gpu-numa gres-conf` prints", line.place()),
        );
    }
    if let Some(count) = count.filter(|count| !files.is_empty() && *count != files.len() as u64) {
        report.find(
            "gres-count",
            Harm::StopsJobs,
            format!(
                "{}: Count={count}, but File= names {}",
                line.place(),
                files.len()
            ),
            "slurmd refuses the line",
            format!("{}: Count={}, or without it", line.place(), files.len()),
        );
    }
}

/// Types that the node's line declares and no line of gres.conf has.
fn check_types(
    node: &Node,
    declared: &[(Option<String>, u64)],
    lines: &[&Line],
    report: &mut Report,
) {
    let known: Vec<&str> = lines.iter().filter_map(|line| line.get("type")).collect();
    for kind in declared.iter().filter_map(|(kind, _)| kind.as_deref()) {
        // Lines without any type take that of the node's line.
        if known.is_empty() || known.iter().any(|own| own.eq_ignore_ascii_case(kind)) {
            continue;
        }
        report.find(
            "gres-type",
            Harm::StopsJobs,
            format!(
                "{}: Gres=gpu:{kind}, but gres.conf has Type={}",
                node.line.place(),
                known.join(", Type=")
            ),
            "slurmctld finds no GPU of that type on the node and drains it",
            format!("{}: the same type in both files", node.line.place()),
        );
    }
}

/// Device files against the order of PCI addresses, which is how CUDA counts under PCI_BUS_ID.
pub(super) fn check_order(machine: &Machine, lines: &[&Line], detects: bool, report: &mut Report) {
    if detects || !knows_minors(machine) {
        return;
    }
    let gpus: Vec<(String, PciAddress, &Line)> = lines
        .iter()
        .flat_map(|line| files_of(line).into_iter().map(move |file| (file, *line)))
        .filter_map(|(file, line)| {
            let gpu = by_minor(machine, minor_of(machine, &file)?)?;
            Some((file, gpu.pci, line))
        })
        .collect();
    let wrong = gpus.windows(2).find_map(|pair| match pair {
        [before, after] if before.1 > after.1 => Some((before, after)),
        _ => None,
    });
    if let Some((before, after)) = wrong {
        report.find(
            "gres-order",
            Harm::WeakensBinding,
            format!(
                "{}: {} ({}) comes before {} ({})",
                before.2.place(),
                before.0,
                before.1,
                after.0,
                after.1
            ),
            "Slurm numbers GPUs in the order of these lines and CUDA in PCI order: where devices are not fenced, \
             CUDA_VISIBLE_DEVICES names another GPU than the job was given",
            "gres.conf: the lines in PCI order, as `gpu-numa gres-conf` prints them",
        );
    }
}
