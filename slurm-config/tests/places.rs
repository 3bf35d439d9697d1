//! Every place that names Slurm's releases agrees with the table of rules, and ARCHITECTURE.md lists each of them
//! under "To add a Slurm release".

// For clippy helpers in such a module are tests too.
#[cfg(test)]
mod places {
    use std::collections::BTreeSet;

    use gpu_numa_tests::places::{all_texts, listed, names, read};
    use slurm_config::rules::{Series, TABLE, plugin_range};

    /// The series that load the plugin.
    fn loading() -> Vec<&'static Series> {
        TABLE.iter().filter(|series| series.loads_plugin).collect()
    }

    /// A series as C sources of the tests have it: `0x1905`.
    fn hexadecimal(series: &Series) -> String {
        format!("0x{:04x}", series.number.0 << 8 | series.number.1)
    }

    #[test]
    fn architecture_lists_every_file_that_names_the_newest_release() {
        let newest = loading().pop().unwrap();
        let name = newest.release().to_string();
        let found: BTreeSet<String> = all_texts()
            .into_iter()
            .filter(|(path, text)| {
                // This list is for what is to be changed, and says what of itself.
                path != "ARCHITECTURE.md"
                    && (names(text, &name) || text.contains(&hexadecimal(newest)))
            })
            .map(|(path, _)| path)
            .collect();
        let mut listed = listed("To add a Slurm release");
        listed.remove("ARCHITECTURE.md");
        assert_eq!(listed, found);
    }

    #[test]
    fn every_range_of_releases_is_the_tables() {
        let range = plugin_range();
        let first = format!("{} to ", TABLE[0].release());
        let mut ranges = 0;
        for (path, text) in all_texts() {
            // A range may be broken over two lines of prose or comment.
            let words: Vec<&str> = text
                .split_whitespace()
                .filter(|word| !["//", "//!", "///", "*", "#"].contains(word))
                .collect();
            let joined = words.join(" ");
            for (at, _) in joined.match_indices(&first) {
                let found: String = joined[at..].chars().take(range.len()).collect();
                assert_eq!(found, range, "{path}");
                ranges += 1;
            }
        }
        assert!(ranges > 10, "only {ranges} ranges");
    }

    #[test]
    fn no_code_but_the_tables_compares_releases() {
        let mut found = Vec::new();
        for (path, text) in all_texts() {
            let is_code =
                path.ends_with(".rs") && !path.contains("tests") && !path.contains("fuzz");
            let is_table = path.starts_with("slurm-config/src/demands/")
                || [
                    "slurm-config/src/plugins.rs",
                    "slurm-config/src/rules.rs",
                    "slurm-config/src/keys.rs",
                    "slurm-config/src/options.rs",
                    "slurm-config/src/values.rs",
                ]
                .contains(&path.as_str());
            if !is_code || is_table {
                continue;
            }
            let text = text.split("mod tests {").next().unwrap();
            let code: Vec<&str> = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            for series in TABLE {
                let (year, month) = series.number;
                let forms = [
                    format!("({year}, {month})"),
                    format!("libslurm.so.{}", series.api),
                    hexadecimal(series),
                ];
                for line in &code {
                    let held = forms.iter().any(|form| line.contains(form.as_str()));
                    if held || names(line, &series.release().to_string()) {
                        found.push(format!("{path}: {}", line.trim()));
                    }
                }
            }
        }
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn the_rpm_ties_itself_to_the_tables_releases() {
        let spec = read("packaging/gpu-numa-bind.spec");
        let macros: Vec<&str> = spec
            .lines()
            .filter(|line| line.starts_with("%global slurm_api "))
            .collect();
        let cases: String = loading()
            .iter()
            .map(|series| format!("({}) echo {};; ", series.release(), series.api))
            .collect();
        let expected =
            format!("%global slurm_api %(case \"%{{slurm_release}}\" in {cases}(*) echo 0;; esac)");
        assert_eq!(macros, [expected]);
        let mut releases: Vec<String> = loading()
            .iter()
            .map(|series| series.release().to_string())
            .collect();
        let last = releases.pop().unwrap();
        let sentence = format!("expected {} or {last}}}", releases.join(", "));
        assert!(spec.contains(&sentence), "{sentence}");
    }

    #[test]
    fn the_test_plugin_offers_itself_to_the_tables_releases() {
        let numbers: Vec<String> = loading().into_iter().map(hexadecimal).collect();
        let expected = format!("releases[] = {{ {} }};", numbers.join(", "));
        let first = format!("- {} : 99", TABLE[0].api);
        let rival = read("tests/slurm/rival.c");
        assert!(rival.contains(&expected), "{expected}");
        assert!(rival.contains(&first), "{first}");
    }

    #[test]
    fn the_slurm_tier_reads_the_releases_from_the_table() {
        // tests/slurm/checks takes a row's number from a line of this form, and leaves out rows that say this.
        let table = read("slurm-config/src/rules.rs");
        for series in TABLE {
            let (year, month) = series.number;
            assert!(table.contains(&format!("\n    number: ({year}, {month}),\n")));
        }
        let left_out = table.matches("\n    loads_plugin: false,\n").count();
        assert_eq!(left_out, TABLE.len() - loading().len());
        assert!(read("tests/slurm/checks").contains("slurm-config/src/rules.rs"));
    }
}
