//! NVLinks of a machine from what each GPU says of its own links.

use std::collections::BTreeMap;

use crate::machine::{Gpu, Machine};
use crate::path::nvlinks;
use crate::pci::PciAddress;

/// The active links of a GPU: the address of the far end, and how many lead there.  An address that is no
/// GPU's is an NVSwitch's.
pub type Links = Vec<(PciAddress, u32)>;

/// Where a link leads whose far end gives no address (an NVSwitch behind a fabric manager).
pub const SOME_SWITCH: PciAddress = PciAddress {
    domain: u32::MAX,
    bus: 0xff,
    device: 0x1f,
    function: 0,
};

/// Gives each GPU of `machine` that said something its links to other GPUs: the direct ones, and through
/// NVSwitch to every GPU that has links to one.  All switches are one: what counts is how many links lead
/// into the fabric.
pub fn set_nvlinks(machine: &mut Machine, said: &BTreeMap<PciAddress, Links>) {
    for gpu in &mut machine.gpus {
        if let Some(own) = said.get(&gpu.pci) {
            gpu.nvlinks = links_of(gpu.pci, own, said);
        }
    }
}

fn links_of(
    pci: PciAddress,
    own: &Links,
    said: &BTreeMap<PciAddress, Links>,
) -> BTreeMap<PciAddress, u32> {
    let to_switch = |links: &Links| -> u32 {
        let switched = links.iter().filter(|(to, _)| !said.contains_key(to));
        sum(switched)
    };
    let mut links = BTreeMap::new();
    for (other, theirs) in said.iter().filter(|(other, _)| **other != pci) {
        let direct = own.iter().filter(|(to, _)| to == other);
        let switched = to_switch(own).min(to_switch(theirs));
        let all = sum(direct).saturating_add(switched);
        if all > 0 {
            links.insert(*other, all);
        }
    }
    links
}

/// How many links; a file may claim any number.
fn sum<'l>(links: impl Iterator<Item = &'l (PciAddress, u32)>) -> u32 {
    links.fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

/// A GPU without a link among GPUs of its model that have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unlinked {
    /// Its address.
    pub pci: PciAddress,
    /// How many others have links.
    pub others: usize,
    /// How many links each of them has; none where they differ.
    pub links: Option<u32>,
}

/// The GPUs of `machine` that have no link, where at least three of the same model, and more than are without, are all
/// linked to each other.
///
/// A pair that a bridge joins says nothing of a third GPU.  Empty also where no link could be seen.
pub fn unlinked(machine: &Machine) -> Vec<Unlinked> {
    let mut found = Vec::new();
    for gpu in &machine.gpus {
        let model = (gpu.vendor, gpu.device);
        let alike = || {
            let gpus = machine.gpus.iter();
            gpus.filter(move |other| (other.vendor, other.device) == model)
        };
        let joined = |a: &Gpu, b: &Gpu| nvlinks(machine, a.pci, b.pci);
        let has_links = |a: &Gpu| {
            machine
                .gpus
                .iter()
                .any(|b| a.pci != b.pci && joined(a, b) > 0)
        };
        let linked: Vec<&Gpu> = alike().filter(|other| has_links(other)).collect();
        let is_mesh = linked
            .iter()
            .all(|a| linked.iter().all(|b| a.pci == b.pci || joined(a, b) > 0));
        let without = alike().count() - linked.len();
        if has_links(gpu) || !is_mesh || linked.len() < 3 || linked.len() <= without {
            continue;
        }
        let mut counts = linked.iter().flat_map(|a| {
            let others = linked.iter().filter(|b| b.pci != a.pci);
            others.map(|b| joined(a, b)).collect::<Vec<u32>>()
        });
        let first = counts.next();
        found.push(Unlinked {
            pci: gpu.pci,
            others: linked.len(),
            links: first.filter(|first| counts.all(|count| count == *first)),
        });
    }
    found
}

/// Adds a link to `to`.
pub fn add_link(links: &mut Links, to: PciAddress) {
    match links.iter_mut().find(|(known, _)| *known == to) {
        Some((_, count)) => *count += 1,
        None => links.push((to, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(gpus: &[(&str, &[(&str, u32)])]) -> BTreeMap<PciAddress, Links> {
        let links = |links: &[(&str, u32)]| {
            let links = links.iter();
            links
                .map(|(to, count)| (to.parse().unwrap(), *count))
                .collect()
        };
        let gpus = gpus.iter();
        gpus.map(|(pci, ends)| (pci.parse().unwrap(), links(ends)))
            .collect()
    }

    fn links(of: &str, said: &BTreeMap<PciAddress, Links>) -> Vec<(String, u32)> {
        let pci = of.parse().unwrap();
        let links = links_of(pci, &said[&pci], said).into_iter();
        links.map(|(to, count)| (to.to_string(), count)).collect()
    }

    #[test]
    fn a_switch_joins_every_gpu_that_has_links_to_it() {
        let switch = "0000:c4:00.0";
        let all = said(&[
            ("0000:18:00.0", &[(switch, 18)]),
            ("0000:2a:00.0", &[(switch, 18)]),
            ("0000:3a:00.0", &[]),
        ]);
        assert_eq!(
            links("0000:18:00.0", &all),
            [("0000:2a:00.0".to_owned(), 18)]
        );
    }

    #[test]
    fn direct_links_count_for_their_pair_only() {
        let all = said(&[
            ("0000:06:00.0", &[("0000:07:00.0", 2)]),
            ("0000:07:00.0", &[("0000:06:00.0", 2)]),
            ("0000:08:00.0", &[]),
        ]);
        assert_eq!(
            links("0000:06:00.0", &all),
            [("0000:07:00.0".to_owned(), 2)]
        );
    }

    #[test]
    fn a_gpu_without_links_is_found_where_three_others_are_joined() {
        let names = |found: Vec<Unlinked>| -> Vec<(String, usize, Option<u32>)> {
            let found = found.into_iter();
            found
                .map(|one| (one.pci.to_string(), one.others, one.links))
                .collect()
        };
        let machine = |said: &BTreeMap<PciAddress, Links>| {
            let mut machine = Machine::default();
            for pci in said.keys() {
                let device = crate::pci::PciDevice::new(*pci, 0x03_0200, 0x10de, 0x31c2);
                machine.gpus.push(Gpu::of(&device));
            }
            set_nvlinks(&mut machine, said);
            machine
        };
        let switch: &[(&str, u32)] = &[("0000:c4:00.0", 18)];
        let five = said(&[
            ("0000:01:00.0", switch),
            ("0000:02:00.0", &[]),
            ("0000:03:00.0", switch),
            ("0000:04:00.0", &[]),
            ("0000:05:00.0", switch),
        ]);
        let alone = |pci: &str| (pci.to_owned(), 3, Some(18));
        assert_eq!(
            names(unlinked(&machine(&five))),
            [alone("0000:02:00.0"), alone("0000:04:00.0")]
        );
        let pair_and_one = said(&[
            ("0000:01:00.0", &[("0000:02:00.0", 4)]),
            ("0000:02:00.0", &[("0000:01:00.0", 4)]),
            ("0000:03:00.0", &[]),
        ]);
        assert_eq!(names(unlinked(&machine(&pair_and_one))), []);
    }

    #[test]
    fn links_beyond_counting_are_very_many() {
        let most = u32::MAX;
        let all = said(&[
            (
                "0000:06:00.0",
                &[
                    ("0000:07:00.0", most),
                    ("0000:07:00.0", 7),
                    ("0000:05:00.0", most),
                ],
            ),
            (
                "0000:07:00.0",
                &[("0000:05:00.0", most), ("0000:04:00.0", 1)],
            ),
        ]);
        assert_eq!(
            links("0000:06:00.0", &all),
            [("0000:07:00.0".to_owned(), most)]
        );
    }

    #[test]
    fn links_to_one_far_end_add_up() {
        let mut links = Links::new();
        for _ in 0..3 {
            add_link(&mut links, SOME_SWITCH);
        }
        assert_eq!(links, [(SOME_SWITCH, 3)]);
    }
}
