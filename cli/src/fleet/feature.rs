//! What a host is, as the name of a feature of Slurm nodes (`--constraint`): its GPUs, and where they are.
//!
//! A name goes by the host alone, and by nothing that comes with a driver, so that it stays whatever other hosts there are.

use std::collections::BTreeMap;

use topology::machine::{Gpu, Machine};

use crate::models;

/// The most nodes with GPUs that are named one by one.
const MOST_NODES: usize = 16;

/// Words of product names that are no model.
const NO_MODEL: [&str; 15] = [
    "nvidia", "tesla", "geforce", "quadro", "amd", "instinct", "radeon", "pro", "intel", "data",
    "center", "gpu", "graphics", "device", "flex",
];

/// Families of which the next word names the model.
const FAMILIES: [&str; 5] = ["rtx", "gtx", "titan", "max", "arc"];

/// `h100x8_2s2n_4per_node`: what GPUs a host has, its sockets and NUMA nodes, and how many GPUs are on which; none without
/// GPUs.
pub(super) fn feature(machine: &Machine) -> Option<String> {
    if machine.gpus.is_empty() {
        return None;
    }
    let mut models: BTreeMap<String, usize> = BTreeMap::new();
    for gpu in &machine.gpus {
        *models.entry(model(gpu)).or_default() += 1;
    }
    let models: Vec<String> = models
        .iter()
        .map(|(model, count)| format!("{model}x{count}"))
        .collect();
    let nodes: Vec<u32> = machine
        .numa_nodes
        .iter()
        .filter(|node| !node.cpus.is_empty())
        .map(|node| node.id)
        .collect();
    let place = place(machine, &nodes).unwrap_or_else(|| "place_unknown".to_owned());
    Some(format!(
        "{}_{}s{}n_{place}",
        models.join("_"),
        machine.packages.len(),
        nodes.len()
    ))
}

/// `4per_node`, `n0x4_n3x2`; none where a GPU's node is not known.
fn place(machine: &Machine, nodes: &[u32]) -> Option<String> {
    let mut on: BTreeMap<u32, usize> = BTreeMap::new();
    for gpu in &machine.gpus {
        // One that is near several, as all of a socket, counts on the first.
        let first = gpu.locality.numa_nodes.as_ref()?.first()?;
        *on.entry(first).or_default() += 1;
    }
    let counts: Vec<usize> = nodes
        .iter()
        .map(|node| on.get(node).copied().unwrap_or(0))
        .collect();
    if let Some(each) = counts
        .first()
        .filter(|first| counts.iter().all(|own| own == *first))
    {
        return Some(format!("{each}per_node"));
    }
    let named: Vec<String> = on
        .iter()
        .take(MOST_NODES)
        .map(|(node, count)| format!("n{node}x{count}"))
        .collect();
    Some(named.join("_"))
}

/// `h100` by its PCI ids, which no driver is needed for; else by what the file says.
fn model(gpu: &Gpu) -> String {
    let name = models::name(gpu).or_else(|| gpu.name.clone());
    let lower = name.unwrap_or_default().to_ascii_lowercase();
    let mut words = lower
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty() && !NO_MODEL.contains(word));
    match (words.next(), words.next()) {
        (Some(family), Some(model)) if FAMILIES.contains(&family) => format!("{family}_{model}"),
        (Some(model), _) => model.chars().take(32).collect(),
        (None, _) => format!("gpu{:04x}_{:04x}", gpu.vendor, gpu.device),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::pci::{CLASS_3D, PciDevice};

    fn named(vendor: u16, device: u16, name: Option<&str>) -> String {
        let address = "0000:21:00.0".parse().unwrap();
        let gpu = Gpu::of(&PciDevice::new(address, CLASS_3D, vendor, device));
        model(&Gpu {
            name: name.map(str::to_owned),
            ..gpu
        })
    }

    #[test]
    fn a_model_is_a_word_that_slurm_takes_in_a_constraint() {
        assert_eq!(named(0x10de, 0x2330, None), "h100");
        assert_eq!(named(0x10de, 0x2330, Some("NVIDIA H100 80GB HBM3")), "h100");
        assert_eq!(named(0x1002, 0x74a1, None), "mi300x");
        assert_eq!(named(0x10de, 0, None), "gpu10de_0000");
        for (name, word) in [
            ("NVIDIA GeForce RTX 4090", "rtx_4090"),
            ("Intel Data Center GPU Max 1550", "max_1550"),
            ("AMD Instinct MI250X / MI250", "mi250x"),
            ("A\u{e9}\n&|B", "a"),
        ] {
            assert_eq!(named(0x10de, 0, Some(name)), word);
        }
    }

    #[test]
    fn a_feature_says_where_the_gpus_are() {
        let of = |name: &str| feature(&machines::named(name).machine());
        assert_eq!(of("dgx-h100").as_deref(), Some("h100x8_2s2n_4per_node"));
        assert_eq!(of("spr-2s-nogpu"), None);
    }
}
