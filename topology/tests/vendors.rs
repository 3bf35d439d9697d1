//! What differs between GPU vendors stands in `topology/src/vendor.rs`, and ARCHITECTURE.md lists every other place
//! that a vendor needs.

// For clippy helpers in such a module are tests too.
#[cfg(test)]
mod vendors {
    use std::collections::BTreeSet;
    use std::path::Path;

    use gpu_numa_tests::places::{all_texts, listed, workspace};
    use topology::vendor::VENDORS;

    const TABLE: &str = "topology/src/vendor.rs";

    /// The project's Rust code by file: no tests, no comments.
    fn sources() -> Vec<(String, String)> {
        let is_code = |path: &str| {
            let mut parts = path.split('/');
            let is_test = |part: &str| {
                ["tests", "tests.rs", "testing.rs", "fuzz"].contains(&part) || part.starts_with('.')
            };
            path.ends_with(".rs") && !parts.any(is_test)
        };
        let files = all_texts().into_iter().filter(|(path, _)| is_code(path));
        files
            .map(|(path, text)| {
                let code = text.split("mod tests {").next().unwrap_or_default().lines();
                let code = code.filter(|line| !line.trim_start().starts_with("//"));
                (path, code.collect::<Vec<_>>().join("\n"))
            })
            .collect()
    }

    /// What only the table may hold, in the form in which code would hold it.
    fn own_words() -> Vec<String> {
        let mut words = Vec::new();
        for vendor in &VENDORS {
            words.extend([
                format!("0x{:04x}", vendor.id),
                format!("\"{:04x}", vendor.id),
                format!("{}{{", vendor.device_file),
                format!("\"{}\"", vendor.variables.visible),
            ]);
            words.extend(vendor.version_files());
            words.extend(vendor.driver.gpus.map(str::to_owned));
            let within = vendor.variables.within.iter();
            words.extend(within.map(|name| format!("\"{name}\"")));
            let order = vendor.variables.order;
            words.extend(order.map(|order| format!("\"{}\"", order.name)));
        }
        words
    }

    #[test]
    fn no_other_source_holds_what_the_vendor_table_holds() {
        let files = sources();
        assert!(files.len() > 100, "only {} files looked at", files.len());
        assert!(files.iter().any(|(path, _)| path == TABLE));
        let words = own_words();
        let mut found = Vec::new();
        for (path, code) in files.iter().filter(|(path, _)| path != TABLE) {
            let held = words.iter().filter(|word| code.contains(word.as_str()));
            found.extend(held.map(|word| format!("{path}: {word}")));
        }
        assert_eq!(found, Vec::<String>::new());
    }

    /// Whether a text is about one vendor's GPUs: a vendor's name, its variables, its library, its PCI id, a
    /// word of Slurm's for it.
    fn names_a_vendor(text: &str) -> bool {
        let words = VENDORS.iter().flat_map(|vendor| {
            let family = vendor.variables.visible.split('_').next();
            let autodetect = vendor.autodetect.iter().map(|word| format!("\"{word}\""));
            autodetect
                .chain(family.map(|family| format!("{family}_")))
                .chain([format!("{:04x}", vendor.id)])
        });
        text.to_ascii_lowercase().contains("nvidia")
            || text.contains("Library::")
            || words.into_iter().any(|word| text.contains(&word))
    }

    #[test]
    fn architecture_lists_every_place_that_names_a_vendor() {
        let packaging = all_texts()
            .into_iter()
            .filter(|(path, _)| path.starts_with("packaging/systemd/"));
        let found: BTreeSet<String> = sources()
            .into_iter()
            .chain(packaging)
            .filter(|(_, text)| names_a_vendor(text))
            .map(|(path, _)| path)
            .collect();
        let listed = listed("To add a GPU vendor");
        let missing: Vec<_> = found.difference(&listed).collect();
        assert!(missing.is_empty(), "not in ARCHITECTURE.md: {missing:?}");
        let gone = listed
            .iter()
            .filter(|path| !workspace().join(Path::new(path.as_str())).exists());
        assert_eq!(gone.collect::<Vec<_>>(), Vec::<&String>::new());
    }
}
