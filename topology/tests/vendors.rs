//! What differs between GPU vendors stands in `topology/src/vendor.rs`, and nowhere else.

// For clippy helpers in such a module are tests too.
#[cfg(test)]
mod vendors {
    use std::fs;
    use std::path::{Path, PathBuf};

    use topology::vendor::VENDORS;

    /// The workspace.
    fn workspace() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
    }

    /// The Rust files below a folder that are not tests, relative to the workspace.
    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_test = ["tests", "tests.rs", "testing.rs", "fuzz", "target"].contains(&name);
            if is_test || name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                sources(&path, found);
            } else if name.ends_with(".rs") {
                found.push(path.strip_prefix(workspace()).unwrap().to_owned());
            }
        }
    }

    /// A file's code: without comments, up to its tests.
    fn code(path: &Path) -> String {
        let text = fs::read_to_string(workspace().join(path)).unwrap();
        let text = text.split("mod tests {").next().unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
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
                vendor.driver.version.to_owned(),
            ]);
            words.extend(vendor.driver.gpus.map(str::to_owned));
            words.extend(
                vendor
                    .variables
                    .order
                    .map(|order| format!("\"{}\"", order.name)),
            );
        }
        words
    }

    #[test]
    fn no_other_source_holds_what_the_vendor_table_holds() {
        let mut files = Vec::new();
        sources(workspace(), &mut files);
        assert!(files.len() > 100, "only {} files looked at", files.len());
        let table = Path::new("topology/src/vendor.rs");
        assert!(files.contains(&table.to_owned()));
        let words = own_words();
        let mut found = Vec::new();
        for file in files.iter().filter(|file| *file != table) {
            let code = code(file);
            let held = words.iter().filter(|word| code.contains(word.as_str()));
            found.extend(held.map(|word| format!("{}: {word}", file.display())));
        }
        assert_eq!(found, Vec::<String>::new());
    }
}
