//! Man pages and completions, as the packages hold them.

use std::fs;
use std::process::Command;

use topology::option::TABLE;

#[test]
fn man_pages_and_completions_name_every_command_that_help_names() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_gpu-numa");
    let dir = folder.path();
    let status = Command::new(program)
        .arg("__generate")
        .arg(dir)
        .status()
        .unwrap();
    assert!(status.success());
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
