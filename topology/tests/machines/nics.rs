//! The deal of NICs on every machine, and on what becomes of it with NICs that are down or not there, against all ways to
//! deal them.

use gpu_numa_tests::nics::{Place, complaint, nearest};
use topology::machine::Machine;
use topology::nics::{data_nics, deal_nics, nics_of_tasks};
use topology::pci::PciAddress;

/// Where a GPU or a NIC is, read from the document alone.
fn place(machine: &Machine, address: PciAddress) -> Place {
    let number = |address: PciAddress| {
        let known = machine
            .pci
            .iter()
            .position(|device| device.address == address);
        u64::try_from(known.unwrap_or(usize::MAX)).unwrap()
    };
    let device = |address: PciAddress| machine.pci.iter().find(|device| device.address == address);
    let mut bridges = Vec::new();
    let mut above = device(address).and_then(|device| device.parent);
    while let Some(bridge) = above {
        bridges.push(number(bridge));
        above = device(bridge).and_then(|device| device.parent);
    }
    let gpus = machine.gpus.iter().map(|gpu| (gpu.pci, &gpu.locality));
    let nics = machine.nics.iter().map(|nic| (nic.pci, &nic.locality));
    let (_, locality) = gpus.chain(nics).find(|(own, _)| *own == address).unwrap();
    let root = device(address).and_then(|device| device.root_bus);
    Place {
        bridges,
        root: root.map(|(domain, bus)| u64::from(domain) << 8 | u64::from(bus)),
        nodes: locality
            .numa_nodes
            .as_ref()
            .map(|nodes| nodes.iter().collect()),
        package: locality.package,
    }
}

/// Fails where the deal of some GPUs, or of tasks with them, is not the best.
pub(crate) fn judge(what: &str, machine: &Machine, gpus: &[PciAddress]) {
    let nics = data_nics(machine);
    let places = |all: &[PciAddress]| -> Vec<Place> {
        all.iter().map(|address| place(machine, *address)).collect()
    };
    let near = nearest(&places(gpus), &places(&nics));
    let number = |nic: &PciAddress| nics.iter().position(|own| own == nic).unwrap();
    let shares = deal_nics(machine, gpus);
    let dealt: Vec<Vec<usize>> = shares
        .iter()
        .map(|share| share.nics.iter().map(number).collect())
        .collect();
    let found = complaint(&near, &dealt, nics.len());
    assert_eq!(found, None, "{what}: {dealt:?} of {near:?}");
    for share in &shares {
        let load = |nic: &PciAddress| {
            shares
                .iter()
                .filter(|other| other.nics.contains(nic))
                .count()
        };
        let most = share.nics.iter().map(load).max().unwrap_or(0);
        assert_eq!(share.sharing, most, "{what}");
        assert_eq!(share.path.is_some(), !share.nics.is_empty(), "{what}");
    }
    // Tasks with the same GPU have its NICs, also where they are more than NICs.
    let twice: Vec<Vec<PciAddress>> = gpus.iter().chain(gpus).map(|gpu| vec![*gpu]).collect();
    let tasks = nics_of_tasks(machine, &twice);
    for (task, gpu) in tasks.iter().zip(twice.iter().flatten()) {
        let at = gpus.iter().position(|own| own == gpu).unwrap();
        assert_eq!(task.nics, shares[at].nics, "{what}");
    }
    let one = nics_of_tasks(machine, &[gpus.to_vec()]);
    let mut all: Vec<PciAddress> = shares.iter().flat_map(|share| share.nics.clone()).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(one[0].nics, all, "{what}");
}

/// The machine with the first NICs alone, with each NIC down, with none known to be up; all its GPUs, and some.
pub(crate) fn judge_all_of(name: &str, machine: &Machine) {
    let gpus: Vec<PciAddress> = machine.gpus.iter().map(|gpu| gpu.pci).collect();
    judge(name, machine, &gpus);
    for count in 1..gpus.len() {
        judge(&format!("{name}, {count} GPUs"), machine, &gpus[..count]);
        judge(
            &format!("{name}, GPUs from {count}"),
            machine,
            &gpus[count..],
        );
    }
    let odd: Vec<PciAddress> = gpus.iter().copied().step_by(2).collect();
    judge(&format!("{name}, every second GPU"), machine, &odd);
    for count in 0..machine.nics.len() {
        let mut fewer = machine.clone();
        fewer.nics.truncate(count);
        judge(&format!("{name}, {count} NICs"), &fewer, &gpus);
        let mut down = machine.clone();
        down.nics[count].ports.clear();
        let has_others = down.nics.iter().any(|nic| !nic.ports.is_empty());
        assert!(
            !has_others
                || !data_nics(&down).contains(&down.nics[count].pci)
                || is_slingshot(&down, count),
            "{name}"
        );
        judge(&format!("{name}, NIC {count} down"), &down, &gpus);
    }
    let mut unknown = machine.clone();
    unknown.nics.iter_mut().for_each(|nic| nic.ports.clear());
    judge(&format!("{name}, no port known"), &unknown, &gpus);
}

/// Slingshot's NICs are no RDMA devices, so whether a port is up is not recorded.
fn is_slingshot(machine: &Machine, nic: usize) -> bool {
    let nic = &machine.nics[nic];
    (nic.vendor, nic.device) == (0x17db, 0x0501)
}
