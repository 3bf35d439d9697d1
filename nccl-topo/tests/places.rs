//! Every place that an NCCL version may touch is listed in ARCHITECTURE.md under "To add an NCCL version", and no code
//! but the table of rules compares versions.

// For clippy helpers in such a module are tests too.
#[cfg(test)]
mod places {
    use std::collections::BTreeSet;

    use gpu_numa_tests::places::{all_texts, listed, names, read};
    use nccl_topo::rules::{Rules, TABLE, Version, env_interfaces, profiler_interfaces};

    const TABLE_FILE: &str = "nccl-topo/src/rules.rs";

    fn newest() -> &'static Rules {
        TABLE.last().unwrap()
    }

    /// `2.31` of 2.31.2.
    fn minor(version: Version) -> String {
        format!("{}.{}", version.major, version.minor)
    }

    /// Whether a text names a minor version or one of its patches: `2.31`, `2.31.2`, but not `2.310`.
    fn names_patch_of(text: &str, minor: &str) -> bool {
        let words = text.split(|c: char| !c.is_ascii_digit() && c != '.');
        let dotted = format!("{minor}.");
        words
            .map(|word| word.trim_end_matches('.'))
            .any(|word| word == minor || word.starts_with(&dotted))
    }

    /// How the newest plugin interfaces are named.
    fn newest_interfaces() -> Vec<String> {
        let profiler = profiler_interfaces().pop_last().unwrap();
        let env = env_interfaces().pop_last().unwrap();
        vec![
            format!("ncclProfiler_v{profiler}"),
            format!("DescriptorV{profiler}"),
            format!("descriptor_v{profiler}"),
            format!("ncclEnvPlugin_v{env}"),
            format!("EnvInitV{env}"),
            format!("struct env_v{env}"),
        ]
    }

    #[test]
    fn architecture_lists_every_file_that_names_the_newest_version_or_interface() {
        let version = newest().from;
        let interfaces = newest_interfaces();
        // This test, the list itself, and what is a line for each release anyway.
        let left_out = [
            "nccl-topo/tests/places.rs",
            "ARCHITECTURE.md",
            "CHANGELOG.md",
        ];
        let found: BTreeSet<String> = all_texts()
            .into_iter()
            .filter(|(path, text)| {
                let is_named = names_patch_of(text, &minor(version))
                    || interfaces.iter().any(|name| text.contains(name));
                is_named && !left_out.contains(&path.as_str())
            })
            .map(|(path, _)| path)
            .collect();
        let mut listed = listed("To add an NCCL version");
        // Named for the version that is assumed, see the next test.
        for path in ["cli/src/nccl/paths.rs", "CHANGELOG.md"] {
            assert!(listed.remove(path), "{path}");
        }
        assert_eq!(listed, found);
    }

    #[test]
    fn the_help_names_the_assumed_version() {
        let assumed = format!("Computed as NCCL {} does", Rules::assumed().from);
        assert!(
            read("cli/src/nccl/paths.rs").contains(&assumed),
            "{assumed}"
        );
    }

    #[test]
    fn no_code_but_the_table_compares_versions() {
        let mut found = Vec::new();
        for (path, text) in all_texts() {
            let is_code = path.ends_with(".rs") && !path.contains("tests");
            if !is_code || path == TABLE_FILE {
                continue;
            }
            let text = text.split("mod tests {").next().unwrap();
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            // A text that people read may name the version that is assumed.
            let code = code.filter(|line| !line.starts_with("Computed as NCCL "));
            for line in code {
                let is_named = TABLE.iter().any(|rules| {
                    names(line, &rules.from.to_string()) || names(line, &minor(rules.from))
                });
                if is_named {
                    found.push(format!("{path}: {}", line.trim()));
                }
            }
        }
        assert_eq!(found, Vec::<String>::new());
    }
}
