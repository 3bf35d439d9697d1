//! The last rungs: NVML's word, and what the site measured.

use super::*;
use crate::machine::NvmlPlace;

/// The site measured node 3, NVML says what `place` holds.
fn with_nvml(place: NvmlPlace) -> (Machine, Overrides) {
    let mut machine = machine(2);
    machine.gpus[0].nvml_place = Some(place);
    let mut overrides = Overrides::new();
    overrides.measured.insert(at(GPU), NodeSet::single(3));
    (machine, overrides)
}

fn place_with(machine: &Machine, overrides: &Overrides) -> (NumaSource, Option<String>) {
    let device = machine.device(at(GPU)).unwrap();
    let found = locate(&Facts {
        device,
        machine,
        overrides,
    });
    (
        found.numa_source,
        found.numa_nodes.map(|nodes| nodes.to_string()),
    )
}

#[test]
fn nvml_is_believed_where_it_is_narrow_and_agrees_with_itself() {
    let node = |id| NvmlPlace {
        numa_node: Some(id),
        ..NvmlPlace::default()
    };
    let sets = |nodes: &str, cpus: &str| NvmlPlace {
        numa_node: None,
        memory_nodes: Some(nodes.parse().unwrap()),
        cpus: Some(cpus.parse().unwrap()),
    };
    let measured = (NumaSource::Measured, Some("3".to_owned()));
    let nvml = |nodes: &str| (NumaSource::Nvml, Some(nodes.to_owned()));
    for (said, expected) in [
        (node(1), nvml("1")),
        (sets("2", "4-5"), nvml("2")),
        (sets("2-3", "6-7"), nvml("3")),
        (sets("0-3", "0-3"), nvml("0-1")),
        // All of the machine, another node in each, none that there is.
        (sets("0-3", "0-7"), measured.clone()),
        (sets("0", "4-5"), measured.clone()),
        (node(9), measured.clone()),
        (NvmlPlace::default(), measured),
    ] {
        let (machine, overrides) = with_nvml(said.clone());
        assert_eq!(place_with(&machine, &overrides), expected, "{said:?}");
    }
}

#[test]
fn nvmls_node_of_the_gpus_own_memory_stands_for_the_nearest_with_cpus() {
    let (mut machine, overrides) = with_nvml(NvmlPlace {
        numa_node: Some(4),
        ..NvmlPlace::default()
    });
    machine.numa_nodes.push(NumaNode {
        id: 4,
        package: None,
        cpus: Default::default(),
        memory_bytes: Some(1 << 36),
        kind: NodeKind::Gpu,
        distances: [(0, 80), (1, 80), (2, 40), (3, 80), (4, 10)].into(),
    });
    let nvml = (NumaSource::Nvml, Some("2".to_owned()));
    assert_eq!(place_with(&machine, &overrides), nvml);
    machine.numa_nodes[4].distances.clear();
    let measured = (NumaSource::Measured, Some("3".to_owned()));
    assert_eq!(place_with(&machine, &overrides), measured);
}

#[test]
fn a_measurement_counts_below_all_that_firmware_says() {
    let (mut machine, mut overrides) = with_nvml(NvmlPlace::default());
    machine.pci[1].numa_node = Some(0);
    assert_eq!(place_with(&machine, &overrides).0, NumaSource::NumaNode);
    overrides.named.insert(at(GPU), NodeSet::single(1));
    let named = (NumaSource::Override, Some("1".to_owned()));
    assert_eq!(place_with(&machine, &overrides), named);
}
