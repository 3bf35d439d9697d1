//! hwloc's XML of version 3, said again in version 2, which is what this program's hwloc reads.
//!
//! What matters here is written alike in both.  The differences (hwloc's NEWS for 3.0, and its files): facts
//! about the whole topology are `<info>` of `<topology>`, not of the root object; `osdev_type` is a set of
//! bits, not a number; `id`, `pci_locality` and the programming interface in `pci_type` are new, and hwloc 2
//! passes over them.

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

/// The text in version 2.  A text that is not as hwloc writes it is left as it is, for hwloc to judge.
pub(crate) fn as_version_2(text: &str, version: &str) -> String {
    let text = text.replacen(&format!("version=\"{version}\""), "version=\"2.0\"", 1);
    let text = with_os_device_types(&text);
    let Some((root, rest)) = split_after_root(&text) else {
        return text;
    };
    let after_objects = rest.rfind("</object>").and_then(|end| rest.get(end..));
    let facts: String = after_objects
        .unwrap_or_default()
        .lines()
        .filter(|line| line.trim_start().starts_with("<info "))
        .collect();
    format!("{root}{facts}{rest}")
}

/// The text up to the end of the root object's first tag, and the rest.
fn split_after_root(text: &str) -> Option<(&str, &str)> {
    let start = text.find("<object ")?;
    let length = text.get(start..)?.find('>')? + 1;
    text.split_at_checked(start + length)
}

fn with_os_device_types(text: &str) -> String {
    const NAME: &str = "osdev_type=\"";
    let mut parts = text.split(NAME);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        result.push_str(NAME);
        let translated = part.split_once('"').and_then(|(bits, rest)| {
            let bits: u32 = bits.parse().ok()?;
            let (_, number) = OS_DEVICE_TYPES.iter().find(|(bit, _)| bits & bit != 0)?;
            Some((number, rest))
        });
        match translated {
            Some((number, rest)) => result.extend([number, "\"", rest]),
            None => result.push_str(part),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_the_topology_become_the_root_objects() {
        let three = "<topology version=\"3.0\">\n  <object type=\"Machine\">\n    \
                     <object type=\"OSDev\" name=\"mlx5_0\" osdev_type=\"48\"/>\n  </object>\n  \
                     <info name=\"Architecture\" value=\"x86_64\"/>\n</topology>\n";
        let two = as_version_2(three, "3.0");
        assert!(two.starts_with("<topology version=\"2.0\">"), "{two}");
        assert!(
            two.contains(
                "<object type=\"Machine\">  <info name=\"Architecture\" value=\"x86_64\"/>"
            ),
            "{two}"
        );
        assert!(two.contains("osdev_type=\"3\""), "{two}");
    }

    #[test]
    fn a_text_that_hwloc_did_not_write_is_left_to_hwloc() {
        for text in [
            "<topology version=\"3.0\"></topology>",
            "osdev_type=\"",
            "osdev_type=\"x\"",
            "",
        ] {
            assert_eq!(as_version_2(text, "2.0"), text);
        }
    }
}
