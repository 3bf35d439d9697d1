//! What a site calls its GPUs: the types of gres.conf and of the node's line, which users ask for.

use slurm_config::gres::{GresLine, NodeGres};
use slurm_config::node::Node;
use slurm_config::registration::{is_part_of, type_of_name};
use topology::machine::Gpu;

use super::devices;
use super::world::World;

/// The type that the site gives a GPU, in its own spelling: that of the line that names its device file, else the only one of
/// the node's line, else the one that AutoDetect would take; None where there is none or it is not known.
pub(crate) fn of_gpu(world: &World<'_>, gpu: &Gpu) -> Option<String> {
    let (gres, node) = site(world)?;
    let file = devices::file_of(world.machine, gpu);
    let mut named = gres.lines.iter().filter(|line| {
        let files = line.files();
        file.as_ref().is_some_and(|file| files.contains(file))
    });
    if let Some(kind) = named.next().and_then(GresLine::kind) {
        return Some(kind.to_owned());
    }
    let mut kinds: Vec<String> = gres
        .lines
        .iter()
        .filter(|line| !line.is_of_several_files())
        .filter_map(|line| line.kind().map(str::to_owned))
        .chain(node.gres("gpu").into_iter().filter_map(|(kind, _)| kind))
        .collect();
    // The longest first, as slurmd takes them; one that differs in case only is the same to a person.
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.len()));
    kinds.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
    let name = gpu.name.as_deref().map(type_of_name);
    let fits = |kind: &&String| name.as_ref().is_some_and(|name| is_part_of(kind, name));
    // A word of the site's own is for all; one that is a part of another GPU's name is for that one.
    let names_others = |kind: &String| {
        let names = world
            .machine
            .gpus
            .iter()
            .filter_map(|gpu| gpu.name.as_deref());
        names.map(type_of_name).any(|name| is_part_of(kind, &name))
    };
    match kinds.as_slice() {
        [only] if name.is_none() || !names_others(only) => Some(only.clone()),
        several => several.iter().find(fits).cloned(),
    }
}

/// The type of the MIG instance of these device files, as a line of gres.conf has it.
pub(crate) fn of_instance(world: &World<'_>, files: &str) -> Option<String> {
    let (gres, _) = site(world)?;
    let mut own = gres
        .lines
        .iter()
        .filter(|line| line.several_files().join(",") == files);
    own.next()?.kind().map(str::to_owned)
}

/// The device files of the MIG instances that gres.conf's lines give of the GPU with device file `file`, for a host whose driver's
/// own list of them is not recorded; None where there are none.
pub(crate) fn instances(world: &World<'_>, file: &str) -> Option<Vec<String>> {
    let tree = world.tree.as_ref()?;
    if tree.exists("/proc/driver/nvidia/capabilities") {
        return None;
    }
    let (gres, _) = site(world)?;
    let all = gres.lines.iter().map(GresLine::several_files);
    let own = all.filter(|files| files.first().is_some_and(|first| first == file));
    let own: Vec<String> = own.map(|files| files.join(",")).collect();
    (!own.is_empty()).then_some(own)
}

/// The value of `Gres=` with as many GPUs as the host has: the node's own types and its other GRES are kept.  None where the
/// node has several types and how many there are of each is not known.
pub(crate) fn gres_value(world: &World<'_>, node: &Node) -> Option<String> {
    let of_parts = |gpu: &Gpu| std::iter::repeat_n(of_gpu(world, gpu), gpu.parts());
    let mut kinds: Vec<Option<String>> = world.given().flat_map(of_parts).collect();
    let declared = node.gres("gpu");
    let is_typed = match declared.as_slice() {
        [] => kinds.iter().all(Option::is_some),
        items => items.iter().any(|(kind, _)| kind.is_some()),
    };
    if !is_typed {
        kinds.fill(None);
    } else if kinds.iter().any(Option::is_none) {
        return None;
    }
    let mut items = node.gres_items();
    // Also as people write it who have seen AccountingStorageTRES or a job's TRES, which is no GPU for Slurm.
    let is_gpu = |item: &String| {
        let name = item.split([':', '=']).next().unwrap_or_default().trim();
        ["gpu", "gres/gpu", "(null)"]
            .iter()
            .any(|word| name.eq_ignore_ascii_case(word))
    };
    let at = items.iter().position(is_gpu).unwrap_or(0);
    items.retain(|item| !is_gpu(item));
    items.splice(at..at, gres_items(&kinds));
    Some(items.join(","))
}

/// `gpu:h100:4`, `gpu:a30:2`, the items of the node's `Gres=`, from the type of each GPU.
pub(crate) fn gres_items(gpus: &[Option<String>]) -> Vec<String> {
    let mut kinds: Vec<(Option<&str>, usize)> = Vec::new();
    for gpu in gpus {
        match kinds.iter_mut().find(|(kind, _)| *kind == gpu.as_deref()) {
            Some((_, count)) => *count += 1,
            None => kinds.push((gpu.as_deref(), 1)),
        }
    }
    let item = |(kind, count): &(Option<&str>, usize)| match kind {
        None => format!("gpu:{count}"),
        Some(kind) => format!("gpu:{kind}:{count}"),
    };
    kinds.iter().map(item).collect()
}

/// The node's GPUs in gres.conf, and the node's line.
fn site<'a>(world: &'a World<'_>) -> Option<(NodeGres<'a>, &'a Node)> {
    let slurm = world.slurm.as_ref()?;
    let node = slurm.node.as_ref()?;
    let lines = slurm.gres.as_deref().unwrap_or_default();
    Some((NodeGres::of(lines, &node.name, "gpu"), node))
}
