//! Man pages and completions, as the packages hold them.

use std::fs;
use std::process::Command;

use topology::option::TABLE;

/// What bash offers for the last of `words`, which the completions in `file` are to complete.
fn offered(file: &std::path::Path, words: &[&str]) -> Vec<String> {
    let last = words.len() - 1;
    let script = format!(
        "source {}; COMP_LINE='{}'; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=({}); COMP_CWORD={last}; _gpu__numa gpu-numa \"${{COMP_WORDS[{last}]}}\" \"${{COMP_WORDS[{}]}}\"; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        file.display(),
        words.join(" "),
        words
            .iter()
            .map(|word| format!("'{word}'"))
            .collect::<Vec<_>>()
            .join(" "),
        last - 1
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_their_options_and_what_is_below_them() {
    let folder = generated();
    let file = folder.path().join("completions/gpu-numa");
    for (words, expected) in [
        (&["gpu-numa", "sh"][..], &["show"][..]),
        (&["gpu-numa", "show", "--sv"], &["--svg"]),
        (
            &["gpu-numa", "gres-conf", "--slurm-r"],
            &["--slurm-release"],
        ),
        (&["gpu-numa", "nccl", "e"], &["emit"]),
        (&["gpu-numa", "nccl", "emit", "--expl"], &["--explain"]),
        (&["gpu-numa", "plan", "--option", "restr"], &["restricted"]),
        (
            &["gpu-numa", "plan", "--option", "restricted,ove"],
            &["restricted,override"],
        ),
        (&["gpu-numa", "plan", "--color", "al"], &["always"]),
        (&["gpu-numa", "--color", "ne"], &["never"]),
        (
            &["gpu-numa", "doctor", "--slurm-release", "24"],
            &["24.05", "24.11"],
        ),
        (
            &["gpu-numa", "gres-conf", "--slurm-release", "22"],
            &["22.05"],
        ),
        (&["gpu-numa", "show", "--explain", "GPU3"], &["GPU3"]),
        (&["gpu-numa", "run", "--gpus", "15"], &["15"]),
        (&["gpu-numa", "nccl", "paths", "--gpus", "15"], &["15"]),
        (&["gpu-numa", "nccl", "paths", "--sm", "9"], &["90"]),
        (
            &["gpu-numa", "nccl", "paths", "--p2p", "P"],
            &["PIX", "PXB", "PHB"],
        ),
        (&["gpu-numa", "nccl", "emit", "--p2p", "of"], &["off"]),
        (&["gpu-numa", "nccl", "ranks", "--nccl", "2.29"], &["2.29"]),
        // Numbers and lists are no files.
        (&["gpu-numa", "plan", "--tasks", ""], &[""]),
    ] {
        assert_eq!(offered(&file, words), expected, "{words:?}");
    }
}

#[test]
fn bash_completes_items_with_an_equals_sign_at_which_it_ends_a_word() {
    let folder = generated();
    let file = folder.path().join("completions/gpu-numa");
    for (line, expected) in [
        ("gpu-numa plan --option restricted,mem=b", "bind"),
        ("gpu-numa plan --option mem=b", "bind"),
        ("gpu-numa plan --option=restr", "restricted"),
        ("gpu-numa plan --option=off,mem=i", "interleave"),
    ] {
        let script = format!(
            "source {}; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=(gpu-numa plan); COMP_CWORD=1; \
             _gpu__numa gpu-numa; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.display()
        );
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        let offered = String::from_utf8(output.stdout).unwrap();
        assert_eq!(offered.trim_end(), expected, "{line}");
    }
}

#[test]
fn processes_are_offered_where_a_command_takes_them() {
    let folder = generated();
    let completions = folder.path().join("completions");
    let own = std::process::id().to_string();
    for command in ["verify", "heal"] {
        let found = offered(
            &completions.join("gpu-numa"),
            &["gpu-numa", command, "--json", &own],
        );
        assert!(found.contains(&own), "{command}: {found:?}");
    }
    let text = |file: &str| fs::read_to_string(completions.join(file)).unwrap();
    assert_eq!(text("_gpu-numa").matches(":_pids'").count(), 2);
    assert_eq!(
        text("gpu-numa.fish")
            .matches("__fish_complete_pids")
            .count(),
        2
    );
}

/// A folder with what the packages hold.
fn generated() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .arg("__generate")
        .arg(folder.path())
        .status();
    assert!(status.unwrap().success());
    folder
}

#[test]
fn every_man_page_is_clean_and_its_items_stand_on_lines_of_their_own() {
    let folder = generated();
    for entry in fs::read_dir(folder.path().join("man")).unwrap() {
        let path = entry.unwrap().path();
        let output = Command::new("groff")
            .args(["-man", "-ww", "-Tutf8", "-P-cbou"])
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.success() && said.is_empty(),
            "{}: {said}",
            path.display()
        );
        if path.ends_with("gpu-numa-run.1") {
            let page = String::from_utf8(output.stdout).unwrap();
            for row in TABLE {
                // The hyphens of a page are typographic.
                let word = row.word.replace('-', "\u{2010}");
                let begins = |line: &str| {
                    let rest = line.trim_start().replace('-', "\u{2010}");
                    let rest = rest.strip_prefix(&word).map(str::to_owned);
                    rest.is_some_and(|rest| rest.starts_with([':', ' ']))
                };
                assert!(page.lines().any(begins), "{}: {page}", row.word);
            }
        }
    }
}

/// Types a line and a tab into an interactive zsh; it ends once the line is completed.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PROMPT=; fpath=($1 \$fpath); autoload -U compinit; compinit -u -D; print REA''DY"
zpty -r z out '*READY*'
zpty -w -n z $2$'\t'
zpty -r z out "*$3*"
zpty -d z
"#;

#[test]
fn zsh_and_fish_complete_as_bash_does() {
    let folder = generated();
    let program = env!("CARGO_BIN_EXE_gpu-numa");
    let completions = folder.path().join("completions");
    let bin = std::path::Path::new(program).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    for (line, completed) in [
        ("gpu-numa sh", "show"),
        ("gpu-numa nccl e", "emit"),
        ("gpu-numa show --sv", "--svg"),
        ("gpu-numa plan --option restr", "restricted"),
        (
            "gpu-numa plan --option restricted,ove",
            "restricted,override",
        ),
        ("gpu-numa show --color al", "always"),
        ("gpu-numa doctor --slurm-release 22", "22.05"),
        ("gpu-numa nccl paths --sm 9", "90"),
    ] {
        let script = format!(
            "source {}/gpu-numa.fish; complete -C '{line}'",
            completions.display()
        );
        let fish = Command::new("fish")
            .args(["--no-config", "-c", &script])
            .env("PATH", &path)
            .output();
        let offered = String::from_utf8(fish.unwrap().stdout).unwrap();
        assert!(offered.starts_with(completed), "fish: {line}: {offered}");
        let zsh = Command::new("timeout")
            .args(["120", "zsh", "-f", "-c", ZSH, "zsh"])
            .arg(&completions)
            .args([line, completed])
            .env("PATH", &path)
            .status();
        assert!(zsh.unwrap().success(), "zsh: {line}");
    }
}

#[test]
fn man_pages_and_completions_name_every_command_that_help_names() {
    let folder = generated();
    let program = env!("CARGO_BIN_EXE_gpu-numa");
    let dir = folder.path();
    let help = Command::new(program).arg("-h").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let list = help
        .split("Commands:")
        .nth(1)
        .unwrap()
        .split("Options:")
        .next()
        .unwrap();
    let commands = list
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let commands: Vec<&str> = commands.filter(|command| *command != "help").collect();
    assert!(commands.contains(&"show") && commands.len() >= 6, "{help}");
    for command in commands {
        let page = fs::read_to_string(dir.join(format!("man/gpu-numa-{command}.1"))).unwrap();
        assert!(page.contains("Examples:"), "{command}: {page}");
        for file in ["gpu-numa", "_gpu-numa", "gpu-numa.fish"] {
            let text = fs::read_to_string(dir.join("completions").join(file)).unwrap();
            assert!(
                text.contains(command) && !text.contains("__generate"),
                "{file}: {command}"
            );
        }
    }
    let verify = fs::read_to_string(dir.join("man/gpu-numa-verify.1")).unwrap();
    for part in [
        "[\\fB\\-\\-gpus\\fR \\fIGPU,GPU\\fR]",
        "[\\fB\\-\\-job\\fR [\\fIJOB\\fR]]",
        ".SH \"EXIT STATUS\"",
        ".SH FILES",
        ".SH ENVIRONMENT",
        ".SH \"SEE ALSO\"",
    ] {
        assert!(verify.contains(part), "{part}: {verify}");
    }
    // Each command's own statuses, once and in their place.
    for (command, status) in [
        ("show", "0 when it is done, 1 when it looked"),
        ("run", "The command\\*(Aqs own; 127 when it is not found"),
        (
            "check",
            "By the worst finding that counts: 0 none; 1 stops jobs; 3 stops binding",
        ),
        ("verify", "0 when all is well; 1 when something is wrong"),
        (
            "heal",
            "0 when at most 1 MiB is left elsewhere; 1 when more is",
        ),
        ("nccl-check", "0 when NCCL takes the file"),
    ] {
        let page = fs::read_to_string(dir.join(format!("man/gpu-numa-{command}.1"))).unwrap();
        let section = page.split(".SH \"EXIT STATUS\"\n").nth(1).unwrap();
        assert!(section.starts_with(status), "{command}: {section}");
        assert!(!page.contains("Exit status:"), "{command}: {page}");
    }
    let overview = fs::read_to_string(dir.join("man/gpu-numa.1")).unwrap();
    assert!(!overview.contains("__generate"), "{overview}");
    let page = fs::read_to_string(dir.join("man/gpu-numa-bind.7")).unwrap();
    let page = page
        .replace("\\*(Aq", "'")
        .replace("\\-", "-")
        .replace("\\fB", "")
        .replace("\\fR", "");
    let completions = fs::read_to_string(dir.join("completions/gpu-numa")).unwrap();
    let help = Command::new(program)
        .args(["plan", "--help"])
        .output()
        .unwrap()
        .stdout;
    let help = String::from_utf8(help).unwrap();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let help = words(&help);
    for row in TABLE {
        let line = format!(
            "{}{}",
            row.word,
            if row.is_default() { " (default)" } else { "" }
        );
        assert!(page.lines().any(|shown| shown == line), "{line}: {page}");
        assert!(words(&page).contains(&words(row.meaning)), "{}", row.word);
        assert!(
            completions
                .split([' ', '"', '\n'])
                .any(|word| word == row.word),
            "{}",
            row.word
        );
        let shown = format!("{line}: {}", row.meaning);
        assert!(help.contains(&shown), "{shown}: {help}");
    }
}
