//! Short texts: options, sets, lists of GPUs, configuration.

use slurm_config::config::{self, Statement};
use slurm_config::{hostlist, node, plugstack, release, rules};
use topology::allowed::parse_mask_list;
use topology::machine::{KfdGpu, KfdNode, Machine};
use topology::option::{Items, Settings, one_line};
use topology::pci::PciAddress;
use topology::set::{CpuSet, MAX_INDEX};
use topology::sysfs;
use topology::visible::{TaskView, find_visible};

use crate::input::split;
use crate::machines;

/// `--gpu-numa-bind=...`, `GPU_NUMA_BIND` and plugstack's items.
pub(crate) fn option(bytes: &[u8]) {
    let (text, _) = split(bytes);
    let (lenient, problems) = Items::parse_leniently(&text);
    if let Ok(items) = Items::parse(&text) {
        assert!(problems.is_empty() && items == lenient);
        let _ = Settings::from(&items);
    }
    for problem in problems {
        is_a_line(&problem.to_string());
    }
}

/// Text that may go to a terminal: short, and nothing that acts on it.
fn is_a_line(line: &str) {
    assert!(
        line.chars().count() < 20_000 && !line.chars().any(char::is_control),
        "{line:?}"
    );
}

/// CPU and node lists, PCI addresses, hex masks.
pub(crate) fn set(bytes: &[u8]) {
    let (text, _) = split(bytes);
    match text.parse::<CpuSet>() {
        Ok(set) => {
            assert!(set.iter().all(|index| index <= MAX_INDEX));
            assert_eq!(set.to_string().parse::<CpuSet>().unwrap(), set);
            assert_eq!(CpuSet::from_words(set.words()), set);
        }
        Err(error) => is_a_line(&one_line(&error.to_string())),
    }
    match text.parse::<PciAddress>() {
        Ok(address) => assert_eq!(address.to_string().parse::<PciAddress>().unwrap(), address),
        Err(error) => is_a_line(&one_line(&error.to_string())),
    }
    for mask in parse_mask_list(&text) {
        assert!(mask.iter().all(|index| index <= MAX_INDEX));
    }
    if let Some(mask) = sysfs::parse_mask::<topology::set::Cpu>(&text) {
        assert!(mask.iter().all(|index| index <= MAX_INDEX));
    }
    let speed = sysfs::parse_speed(&text);
    assert!(
        speed.is_none_or(|speed| speed.is_finite() && speed > 0.0),
        "{speed:?}"
    );
    let _ = sysfs::parse_width(&text);
}

/// `CUDA_VISIBLE_DEVICES`, `ROCR_VISIBLE_DEVICES` and Slurm's lists of GPUs.
pub(crate) fn visible(bytes: &[u8]) {
    let (text, mut choices) = split(bytes);
    let mut machine = machines::two_gpus();
    let is_amd = choices.below(2) == 1;
    if is_amd {
        make_amd(&mut machine);
    }
    let all: Vec<PciAddress> = machine.gpus.iter().map(|gpu| gpu.pci).collect();
    let mut maybe = |other: &str| match choices.below(3) {
        0 => None,
        1 => Some(other.to_owned()),
        _ => Some(text.clone().into_owned()),
    };
    let view = TaskView {
        vendor: None,
        within_name: "HIP_VISIBLE_DEVICES",
        visible: maybe("GPU-aa").or_else(|| Some(text.clone().into_owned())),
        within: maybe("0"),
        order: maybe("FASTEST_FIRST"),
        step_list: maybe("0,1"),
        on_host: maybe("2"),
        openable: all.iter().copied().skip(choices.below(3)).collect(),
    };
    let seen = find_visible(&machine, &view).gpus;
    let mut once = seen.clone();
    once.sort();
    once.dedup();
    assert!(
        once.len() == seen.len() && seen.iter().all(|gpu| view.openable.contains(gpu)),
        "{seen:?} of {view:?}"
    );
}

/// Gives a machine's GPUs to AMD, found by its driver from the last to the first.
fn make_amd(machine: &mut Machine) {
    for (node, gpu) in (0..).zip(machine.gpus.iter_mut().rev()) {
        gpu.vendor = 0x1002;
        let part = KfdNode {
            node,
            ..KfdNode::default()
        };
        gpu.kfd = Some(KfdGpu {
            nodes: vec![part],
            ..KfdGpu::default()
        });
    }
}

/// plugstack.conf, slurm.conf, gres.conf, host lists, releases.
pub(crate) fn slurm(bytes: &[u8]) {
    let (text, _) = split(bytes);
    let _ = plugstack::parse(&text, "plugstack.conf");
    let statements = config::parse(&text, "slurm.conf");
    let lines: Vec<config::Line> = statements
        .into_iter()
        .filter_map(|statement| match statement {
            Statement::Line(line) => Some(line),
            Statement::Include { .. } => None,
        })
        .collect();
    for name in [Some("gpu07.cluster"), None] {
        if let Some(node) = node::find(&lines, name) {
            let _ = (node.geometry(), node.gres_count("gpu"));
        }
    }
    for line in &lines {
        for key in ["cores", "file", "nodename"] {
            let value = line.get(key).unwrap_or_default();
            assert!(hostlist::expand(value, 10).len() <= 10);
        }
    }
    let names = hostlist::expand(&text, 100);
    assert!(names.len() <= 100);
    let _ = hostlist::contains(&text, "gpu07");
    let _ = plugstack::fits(&text, "99-gpu-numa-bind.conf");
    if let Some(release) = release::Release::find(&text) {
        let _ = (
            rules::loads_plugin(release),
            rules::Series::of(release),
            release.version_number(),
        );
    }
}

/// The site's files: localities and switches.
pub(crate) fn site(bytes: &[u8]) {
    let (text, _) = split(bytes);
    let (overrides, complaints) = sysfs::parse_overrides(&text, "localities");
    assert!(overrides.named.len() + overrides.measured.len() <= text.lines().count());
    let (switches, more) = sysfs::parse_switches(&text, "switches");
    assert!(switches.iter().all(|switch| switch.devices.len() > 1));
    // A line each, at most; of a large file the first are as good as all.
    for line in complaints.into_iter().chain(more).take(4096) {
        is_a_line(&one_line(&line.to_string()));
    }
}
