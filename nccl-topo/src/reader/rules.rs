//! What NCCL makes of the values: one function per kind of element.

use std::collections::BTreeMap;

use topology::pci::PciAddress;

use super::finding::{Effect, Problem, Violation};
use crate::element::{Element, GPU_CLASS, integer};
use crate::rules::{self, pci_speed};
use crate::settings::number;

/// Attributes that NCCL adds to an element where they are missing.
pub(super) fn added_by_nccl(name: &str) -> &'static [&'static str] {
    match name {
        "cpu" => &[
            "host_hash",
            "affinity",
            "arch",
            "vendor",
            "familyid",
            "modelid",
        ],
        "pci" => &[
            "class",
            "vendor",
            "device",
            "subsystem_vendor",
            "subsystem_device",
            "link_speed",
            "link_width",
        ],
        "gpu" => &["dev", "sm", "rank", "gdr", "mlopart", "keep"],
        "net" => &[
            "name", "dev", "latency", "speed", "port", "guid", "maxconn", "gdr", "coll", "net",
            "gin", "rma", "keep",
        ],
        _ => &[],
    }
}

/// All findings of a tree that could be read, for the NCCL whose rules these are.
pub(super) fn check(root: &Element, nccl: &rules::Rules) -> Vec<Violation> {
    let mut rules = Rules {
        nccl,
        found: Vec::new(),
        seen: BTreeMap::new(),
    };
    rules.system(root);
    rules.found
}

struct Rules<'r> {
    nccl: &'r rules::Rules,
    found: Vec<Violation>,
    /// Line of each `numaid` and `busid`.
    seen: BTreeMap<(&'static str, String), usize>,
}

impl Rules<'_> {
    fn note(&mut self, element: &Element, effect: Effect, problem: Problem) {
        self.found.push(Violation {
            line: element.line,
            at: element.tag(),
            effect,
            problem,
        });
    }

    fn bad(&mut self, element: &Element, effect: Effect, key: &str, expected: &'static str) {
        let problem = Problem::BadValue {
            key: key.to_owned(),
            value: element.get(key).unwrap_or_default().to_owned(),
            expected,
        };
        self.note(element, effect, problem);
    }

    /// The value, or a note that it is missing.
    fn need<'e>(
        &mut self,
        element: &'e Element,
        effect: Effect,
        key: &'static str,
        because: &'static str,
    ) -> Option<&'e str> {
        let value = element.get(key);
        if value.is_none() {
            self.note(element, effect, Problem::Missing { key, because });
        }
        value
    }

    fn once(&mut self, element: &Element, key: &'static str, because: &'static str) {
        let value = element.get(key).unwrap_or_default().to_owned();
        let entry = (key, value.clone());
        if let Some(first) = self.seen.get(&entry).copied() {
            let problem = Problem::Duplicate {
                key,
                value,
                first,
                because,
            };
            self.note(element, Effect::Misread, problem);
        } else {
            self.seen.insert(entry, element.line);
        }
    }

    /// What holds for every element.
    fn any(&mut self, element: &Element) {
        let (count, most) = (element.children.len(), self.nccl.most_children);
        if count > most {
            self.note(
                element,
                Effect::Fatal,
                Problem::TooManyChildren { count, most },
            );
        }
    }

    fn system(&mut self, system: &Element) {
        self.any(system);
        let because = "NCCL refuses the file";
        let version = self.need(system, Effect::Fatal, "version", because);
        let expected = match version.map(number) {
            None | Some(1) => None,
            Some(2) => Some("NCCL knows only version 1; AMD's RCCL writes 2"),
            Some(_) => Some("NCCL knows only version 1"),
        };
        if let Some(expected) = expected {
            self.bad(system, Effect::Fatal, "version", expected);
        }
        for cpu in system.named("cpu") {
            self.cpu(cpu);
        }
        self.one_way(system);
    }

    fn cpu(&mut self, cpu: &Element) {
        self.any(cpu);
        if let Some(id) = self.need(cpu, Effect::Fatal, "numaid", "NCCL refuses the file") {
            if integer(id).is_none() {
                self.bad(
                    cpu,
                    Effect::Misread,
                    "numaid",
                    "expected a number; NCCL uses the digits at its beginning",
                );
            }
            self.once(
                cpu,
                "numaid",
                "NCCL takes the one for the other, and paths from the second to the first for paths inside one",
            );
        }
        self.processor(cpu);
        if cpu.get("affinity").is_some_and(|mask| !is_mask(mask)) {
            let expected = "expected words of at most 8 hex digits, separated by commas";
            self.bad(cpu, Effect::Misread, "affinity", expected);
        }
        for child in &cpu.children {
            self.pci_or_nic(child);
        }
    }

    fn processor(&mut self, cpu: &Element) {
        let because =
            "NCCL fills it in only above a GPU or NIC that it uses, else the communicator fails";
        let Some(arch) = self.need(cpu, Effect::Misread, "arch", because) else {
            return;
        };
        match arch {
            "arm64" | "ppc64" => return,
            _ if arch.starts_with("x86_64") => {}
            _ => {
                return self.bad(
                    cpu,
                    Effect::Misread,
                    "arch",
                    "expected x86_64, arm64 or ppc64",
                );
            }
        }
        let Some(vendor) = self.need(cpu, Effect::Misread, "vendor", because) else {
            return;
        };
        let known = [
            "GenuineIntel",
            "AuthenticAMD",
            "CentaurHauls",
            "  Shanghai  ",
        ];
        if !known.iter().any(|known| vendor.starts_with(known)) {
            let expected = "NCCL knows GenuineIntel, AuthenticAMD and Zhaoxin's names, and assumes 5000 GB/s \
                            between sockets of others";
            self.bad(cpu, Effect::Misread, "vendor", expected);
        } else {
            let is_amd = vendor.starts_with("AuthenticAMD");
            if is_amd && !self.nccl.amd_needs_family {
                return;
            }
            // Without a family NCCL fills in family and model, and where it has one neither.
            let family = self.need(cpu, Effect::Misread, "familyid", because);
            if family.is_some() && !is_amd {
                let because =
                    "NCCL fills it in only together with familyid, and the communicator fails";
                self.need(cpu, Effect::Fatal, "modelid", because);
            }
        }
    }

    fn pci_or_nic(&mut self, element: &Element) {
        match element.name.as_str() {
            "pci" => self.pci(element),
            "nic" => self.nic(element),
            _ => self.any(element),
        }
    }

    fn pci(&mut self, pci: &Element) {
        self.any(pci);
        if let Some(address) = self.need(pci, Effect::Fatal, "busid", "NCCL cannot place it") {
            if address
                .parse::<PciAddress>()
                .is_ok_and(|real| real.to_string() == address)
            {
                self.once(pci, "busid", "NCCL finds only the first");
            } else {
                let expected = "expected a PCI address with its domain, in lower case, as in \
                                \"0000:3b:00.0\"; NCCL does not find the device by this one and places it elsewhere";
                self.bad(pci, Effect::Misread, "busid", expected);
            }
        }
        self.class(pci);
        self.link(pci);
        if pci.get("keep") == Some("1") && holds_gpu(pci) {
            let because = "every rank then keeps the GPUs of the others";
            self.unwanted(pci, Effect::Misread, "keep", because);
        }
        for child in &pci.children {
            match child.name.as_str() {
                "gpu" => self.gpu(child, pci.get("busid").unwrap_or_default()),
                _ => self.pci_or_nic(child),
            }
        }
    }

    fn class(&mut self, pci: &Element) {
        let because = "NCCL fills it in only for a device that exists";
        let Some(class) = self.need(pci, Effect::Misread, "class", because) else {
            return;
        };
        let is_bridge = !class.starts_with(GPU_CLASS) && !class.starts_with("0x02");
        let hex = class.strip_prefix("0x").filter(|hex| !hex.is_empty());
        if hex.is_none_or(|hex| !hex.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            self.bad(
                pci,
                Effect::Misread,
                "class",
                "expected hex digits after 0x; NCCL treats the device as a bridge",
            );
        } else if is_bridge && pci.children.iter().any(|child| child.name == "gpu") {
            self.bad(
                pci,
                Effect::Fatal,
                "class",
                "a bridge holds a <gpu>; NCCL refuses it",
            );
        } else if !is_bridge && pci.children.iter().any(|child| child.name == "pci") {
            self.bad(
                pci,
                Effect::Misread,
                "class",
                "NCCL ignores a <pci> below a GPU or NIC",
            );
        }
    }

    fn link(&mut self, pci: &Element) {
        let because = if self.nccl.gpu_link_speed_is_of_the_moment {
            "NCCL fills it in only above a GPU or NIC that it uses, and a GPU's with its current speed"
        } else {
            "NCCL fills it in only above a GPU or NIC that it uses"
        };
        let speed = self.need(pci, Effect::Misread, "link_speed", because);
        if speed.is_some_and(|speed| !is_known_speed(speed)) {
            let expected = "NCCL does not know this value and assumes 8 GT/s; expected a value as in \"16.0 GT/s PCIe\"";
            self.bad(pci, Effect::Misread, "link_speed", expected);
        }
        let width = self.need(pci, Effect::Misread, "link_width", because);
        let in_lanes = |width: &str| integer(width).is_some_and(|lanes| (0..=32).contains(&lanes));
        if width.is_some_and(|width| !width.is_empty() && !in_lanes(width)) {
            self.bad(
                pci,
                Effect::Misread,
                "link_width",
                "expected a number of lanes",
            );
        }
    }

    /// A `<gpu>` of the device at `busid`.
    fn gpu(&mut self, gpu: &Element, busid: &str) {
        self.any(gpu);
        let because = "NCCL trusts it, and the driver's numbers can change";
        self.unwanted(gpu, Effect::Note, "dev", because);
        let because = "with it, a GPU outside the communicator makes NCCL fail";
        self.unwanted(gpu, Effect::Misread, "keep", because);
        for link in gpu.named("nvlink") {
            self.any(link);
            for key in ["target", "count"] {
                self.need(link, Effect::Fatal, key, "NCCL refuses the file");
            }
            if self.nccl.nvlinks_need_class {
                self.need(link, Effect::Fatal, "tclass", "NCCL refuses the file");
            }
            if link.get("target") == Some(busid) {
                let expected = "this is the GPU itself";
                self.bad(link, Effect::Misread, "target", expected);
            }
            let because = "with it, NCCL does not detect this GPU's other NVLinks";
            self.note(link, Effect::Note, Problem::UnwantedElement { because });
        }
        for link in gpu.named("c2c") {
            self.any(link);
            for key in ["bw", "count"] {
                self.need(link, Effect::Fatal, key, "NCCL refuses the file");
            }
            let because = "with it, NCCL does not ask the driver";
            self.note(link, Effect::Note, Problem::UnwantedElement { because });
        }
    }

    fn nic(&mut self, nic: &Element) {
        self.any(nic);
        for net in &nic.children {
            self.any(net);
            if net.name != "net" {
                continue;
            }
            let because = "NCCL cannot tell which device it is";
            if self.need(net, Effect::Misread, "name", because).is_some() {
                let because =
                    "with it, NCCL neither detects where the NIC is nor fills in what is above it";
                self.note(net, Effect::Note, Problem::UnwantedElement { because });
            }
        }
    }

    /// NVLinks and switch links that lead to an element of the file which has none back: NCCL fails when
    /// both ends are in use (`graph/paths.cc` `ncclTopoSetPaths`).
    fn one_way(&mut self, root: &Element) {
        let mut links = Vec::new();
        ways(root, "", &mut links);
        let mut places = BTreeMap::new();
        root.walk(&mut |element| {
            if let Some(busid) = element.get("busid").filter(|_| element.name == "pci") {
                places.entry(busid).or_insert_with(|| class_of(element));
            }
        });
        for (from, link) in &links {
            let to = link.get("target").unwrap_or_default();
            let over_nvlink = link.name == "nvlink";
            let same_kind = match places.get(to) {
                Some(class) => class.starts_with(GPU_CLASS) == over_nvlink,
                None => false,
            };
            let back = |(other, back): &(&str, &Element)| {
                *other == to && back.name == link.name && back.get("target") == Some(from)
            };
            if same_kind && to != *from && !links.iter().any(back) {
                let expected = "there is no link back, and NCCL fails when both ends are in use";
                self.bad(link, Effect::Misread, "target", expected);
            }
        }
    }

    fn unwanted(
        &mut self,
        element: &Element,
        effect: Effect,
        key: &'static str,
        because: &'static str,
    ) {
        if let Some(value) = element.get(key) {
            let value = value.to_owned();
            let problem = Problem::Unwanted {
                key,
                value,
                because,
            };
            self.note(element, effect, problem);
        }
    }
}

/// All NVLinks and switch links with the `busid` of the device that holds them.
fn ways<'e>(element: &'e Element, busid: &'e str, found: &mut Vec<(&'e str, &'e Element)>) {
    if matches!(element.name.as_str(), "nvlink" | "pcilink") {
        found.push((busid, element));
    }
    let busid = element.get("busid").unwrap_or(busid);
    for child in &element.children {
        ways(child, busid, found);
    }
}

fn class_of(element: &Element) -> &str {
    element.get("class").unwrap_or_default()
}

fn is_mask(text: &str) -> bool {
    let hex = |word: &str| {
        (1..=8).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    text.is_empty() || text.split(',').all(hex)
}

fn is_known_speed(speed: &str) -> bool {
    speed.is_empty() || pci_speed(speed).is_some()
}

fn holds_gpu(element: &Element) -> bool {
    element.name == "gpu" || element.is_gpu() || element.children.iter().any(holds_gpu)
}
