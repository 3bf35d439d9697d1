//! The tree that the ranks of a host make together.

use super::parts::Held;
use crate::element::Element;
use crate::rules::Rules;

/// What the ranks of a host have together.
pub(super) struct Joined {
    /// The tree.
    pub(super) root: Element,
    /// What NCCL stops at: attributes that it needs and fills in in the trees of other ranks alone.
    pub(super) stops_at: Vec<String>,
}

/// A rank, and what it holds.
#[derive(Debug, Clone, Copy)]
struct Rank<'r> {
    number: usize,
    held: Held<'r>,
}

/// Each rank's tree joined in the order of ranks (`topo.cc` `ncclTopoGetSystem`).
pub(super) fn joined(system: &Element, ranks: &[String], rules: &Rules) -> Joined {
    let mut root = bare(system);
    for (number, name) in ranks.iter().enumerate() {
        let rank = Rank {
            number,
            held: Held::of(name),
        };
        let own = children_kept(system, rank).1;
        join(&mut root, own);
    }
    let mut stops_at = Vec::new();
    root.walk(&mut |element| stops_at.extend(needed(element, rules)));
    Joined { root, stops_at }
}

/// The element without its children.
fn bare(element: &Element) -> Element {
    Element {
        children: Vec::new(),
        name: element.name.clone(),
        attributes: element.attributes.clone(),
        line: element.line,
        filled: element.filled.clone(),
    }
}

/// The element as a rank has it, with the children that it keeps.  A rank fills in what is above its own GPU and above
/// the adapters that the file has no `<net>` of (`graph/xml.cc` `ncclTopoFillGpu`, `ncclTopoFillNet`).
fn as_filled(element: &Element, rank: Rank, children: Vec<Element>) -> Element {
    let mut own = Element {
        children,
        ..bare(element)
    };
    if !own.filled.is_empty() && !is_filled(&own, rank) {
        let filled = std::mem::take(&mut own.filled);
        own.attributes.retain(|(key, _)| !filled.contains(key));
        own.filled = filled;
    }
    own
}

/// Whether a rank fills in an element that holds what the rank keeps.
fn is_filled(element: &Element, rank: Rank) -> bool {
    if element.name == "pci" {
        let is_own = element.get("busid") == Some(rank.held.busid);
        // One that was not read is not the file's.
        let is_new = |nic: &Element| nic.named("net").any(|net| net.line == 0);
        if is_own || element.named("nic").any(is_new) {
            return true;
        }
    }
    let mut below = element.named("pci");
    below.any(|pci| is_filled(pci, rank))
}

/// The attributes that NCCL needs of an element and that were filled in in the trees of other ranks alone (`graph/topo.cc`
/// `ncclTopoAddCpu`, `ncclTopoAddPci`).
fn needed(element: &Element, rules: &Rules) -> Option<String> {
    let lacks = |key: &&str| {
        let is_filled = element.filled.iter().any(|filled| filled == key);
        is_filled && element.get(key).is_none()
    };
    let keys: &[&str] = match element.name.as_str() {
        "cpu" => match element.get("arch") {
            None => &["arch"],
            Some("x86_64") => match element.get("vendor") {
                None => &["vendor"],
                Some("GenuineIntel" | "CentaurHauls" | "  Shanghai  ") => &["familyid", "modelid"],
                Some("AuthenticAMD") if rules.amd_needs_family => &["familyid"],
                Some(_) => &[],
            },
            Some(_) => &[],
        },
        "pci" => &["class", "link_width", "link_speed"],
        _ => &[],
    };
    let key = keys.iter().find(|key| lacks(key))?;
    Some(format!("{key} of {}", element.tag()))
}

/// What a rank keeps of an element, if anything: its own GPU, all networks, and what says `keep`
/// (`xml.cc` `ncclTopoTrimXmlRec`).
fn kept(element: &Element, rank: Rank) -> Option<Element> {
    let stays = element.get("keep") == Some("1") || element.name == "net";
    if stays || element.is_gpu() {
        let own = element.is_gpu() && element.get("busid") == Some(rank.held.busid);
        let children = if own {
            vec![own_gpu(element, rank)]
        } else {
            // One that is no rank's is no GPU of the communicator's.
            let others = element.children.iter();
            others
                .filter(|child| child.name != "gpu")
                .cloned()
                .collect()
        };
        return (stays || own).then(|| as_filled(element, rank, children));
    }
    let (any, children) = children_kept(element, rank);
    any.then(|| as_filled(element, rank, children))
}

/// The `<gpu>` of a rank's own GPU: the first of the file, or a new one (`xml.cc` `ncclTopoGetXmlFromGpu`).
fn own_gpu(pci: &Element, rank: Rank) -> Element {
    let mut gpu = match pci.named("gpu").next() {
        Some(gpu) => gpu.clone(),
        None => Element::new("gpu"),
    };
    let part = rank.held.part.unwrap_or(-1).to_string();
    let own = [("rank", rank.number.to_string()), ("mlopart", part)];
    for (key, value) in own {
        gpu.attributes.retain(|(known, _)| known != key);
        gpu = gpu.with(key, value);
    }
    gpu
}

/// The children that a rank keeps, and whether one of them makes the element stay.
fn children_kept(element: &Element, rank: Rank) -> (bool, Vec<Element>) {
    let mut any = false;
    let mut children = Vec::new();
    for child in &element.children {
        if child.name == "pcilink" {
            children.push(child.clone());
        } else if let Some(child) = kept(child, rank) {
            any = true;
            children.push(child);
        }
    }
    (any, children)
}

/// Adds children, those that are there already (equal in tag and all attributes) with what they hold
/// (`ncclTopoFuseXml`).
fn join(into: &mut Element, children: Vec<Element>) {
    for child in children {
        let same =
            |other: &&mut Element| other.name == child.name && other.attributes == child.attributes;
        let holder = match into.children.iter_mut().find(same) {
            Some(holder) => holder,
            None => {
                into.children.push(bare(&child));
                let Some(holder) = into.children.last_mut() else {
                    continue;
                };
                holder
            }
        };
        join(holder, child.children);
    }
}
