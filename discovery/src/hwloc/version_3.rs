//! hwloc's XML of version 3, rewritten as version 2, which is what this program's hwloc reads.
//!
//! What matters here is the same in both.  The differences (hwloc's NEWS for 3.0, and its files): facts
//! about the whole topology are `<info>` of `<topology>`, not of the root object; `osdev_type` is a set of
//! bits, not a number; `id`, `pci_locality` and the programming interface in `pci_type` are new, and hwloc 2
//! passes over them.

use std::ops::Range;

use roxmltree::{Document, Node};

/// Bits of `osdev_type` in version 3 with the number of version 2, the most telling first.
const OS_DEVICE_TYPES: [(u32, &str); 7] = [
    (1 << 5, "3"), // OpenFabrics
    (1 << 4, "2"), // network
    (1 << 3, "5"), // co-processor
    (1 << 2, "1"), // GPU
    (1 << 6, "4"), // DMA
    (1 << 1, "0"), // memory, which version 2 counts among block devices
    (1, "0"),      // storage
];

/// The text of `document` in version 2.
pub(crate) fn as_version_2(document: &Document<'_>) -> String {
    let text = document.input_text();
    let topology = document.root_element();
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    if let Some(version) = topology.attribute_node("version") {
        edits.push((version.range_value(), "2.0".to_owned()));
    }
    for object in topology.descendants() {
        let Some(kind) = object.attribute_node("osdev_type") else {
            continue;
        };
        let bits: Option<u32> = kind.value().parse().ok();
        let mut types = OS_DEVICE_TYPES.iter();
        let number = bits.and_then(|bits| types.find(|(bit, _)| bits & bit != 0));
        edits.extend(number.map(|(_, number)| (kind.range_value(), (*number).to_owned())));
    }
    let is_element = |name: &'static str| move |node: &Node<'_, '_>| node.has_tag_name(name);
    let root = topology.children().find(is_element("object"));
    if let Some(inside) = root.and_then(|root| root.first_child()) {
        let facts = topology.children().filter(is_element("info"));
        let facts: String = facts.filter_map(|fact| text.get(fact.range())).collect();
        let start = inside.range().start;
        edits.push((start..start, facts));
    }
    edits.sort_by_key(|(range, _)| range.start);
    apply(text, &edits)
}

/// The text with ranges replaced that do not overlap, in order.
fn apply(text: &str, edits: &[(Range<usize>, String)]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut end = 0;
    for (range, new) in edits {
        result.push_str(text.get(end..range.start).unwrap_or_default());
        result.push_str(new);
        end = range.end;
    }
    result.push_str(text.get(end..).unwrap_or_default());
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> String {
        as_version_2(&Document::parse(text).unwrap())
    }

    #[test]
    fn facts_of_the_topology_become_the_root_objects() {
        let two = rewritten(
            "<topology version=\"3.0\">\n  <object type=\"Machine\">\n    \
             <object type=\"OSDev\" name=\"mlx5_0\" osdev_type=\"48\"/>\n  </object>\n  \
             <info name=\"Architecture\" value=\"x86_64\"/>\n  <info name='Backend' value='Linux'/>\n</topology>\n",
        );
        assert_eq!(
            two,
            "<topology version=\"2.0\">\n  <object type=\"Machine\">\
             <info name=\"Architecture\" value=\"x86_64\"/><info name='Backend' value='Linux'/>\n    \
             <object type=\"OSDev\" name=\"mlx5_0\" osdev_type=\"3\"/>\n  </object>\n  \
             <info name=\"Architecture\" value=\"x86_64\"/>\n  <info name='Backend' value='Linux'/>\n</topology>\n"
        );
    }

    #[test]
    fn a_text_that_hwloc_did_not_write_is_left_to_hwloc() {
        for text in [
            "<topology/>",
            "<topology><object osdev_type=\"x\"/></topology>",
            "<topology><object osdev_type=\"0\"></object></topology>",
        ] {
            assert_eq!(rewritten(text), text);
        }
    }
}
