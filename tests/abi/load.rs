//! Loading: which releases of Slurm take the plugin, and what it needs and shows as a shared object.

use std::process::Command;

use crate::build;
use crate::host::{Scenario, run};

/// `SLURM_API_CURRENT` and release, from the META file of each release.
const RELEASES: [(u32, u32, u32); 8] = [
    (38, 22, 5),
    (39, 23, 2),
    (40, 23, 11),
    (41, 24, 5),
    (42, 24, 11),
    (43, 25, 5),
    (44, 25, 11),
    (45, 26, 5),
];

fn in_release(api: u32, major: u32, minor: u32) -> Scenario {
    Scenario::bare()
        .line(format_args!("api {api}"))
        .line(format_args!("release {major} {minor}"))
        .option("")
}

#[test]
fn every_release_of_the_table_takes_the_plugin() {
    for (api, major, minor) in RELEASES {
        let outcome = run(in_release(api, major, minor));
        assert_eq!(outcome.host("version"), [format!("{major}.{minor}.0")]);
        assert_eq!(outcome.host("name"), ["gpu_numa_bind"]);
        assert!(outcome.host_says("done"), "{}", outcome.text);
    }
}

#[test]
fn a_release_outside_the_table_refuses_it() {
    for (api, major, minor) in [(46, 26, 11), (37, 21, 8), (0, 22, 5), (4_000_000, 22, 5)] {
        let outcome = run(in_release(api, major, minor));
        assert_eq!(outcome.host("version"), ["0.0.0"]);
        assert!(
            outcome.host_says("refused Incompatible"),
            "{}",
            outcome.text
        );
    }
}

#[test]
fn a_program_that_is_no_slurm_sees_no_release() {
    let host = build::host_without_api_version();
    let outcome = in_release(38, 22, 5).run_in(host);
    assert_eq!(outcome.host("version"), ["0.0.0"]);
}

#[test]
fn nothing_is_needed_but_libc_and_it_is_bound_when_loaded() {
    let dynamic = readelf(&["-d"]);
    let needed: Vec<&str> = dynamic
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split(['[', ']']).nth(1))
        .collect();
    // Before glibc 2.34 its parts are libraries of their own.
    let known = |name: &&str| {
        ["libc.so.", "libdl.so.", "libpthread.so.", "ld-linux"]
            .iter()
            .any(|known| name.starts_with(known))
    };
    assert!(!needed.is_empty() && needed.iter().all(known), "{needed:?}");
    assert!(
        dynamic.contains("BIND_NOW") || dynamic.contains(" NOW"),
        "a symbol that Slurm lacks must fail dlopen, not a running daemon:\n{dynamic}"
    );
    assert!(!dynamic.contains("(RPATH)") && !dynamic.contains("(RUNPATH)"));
}

#[test]
fn only_slurms_symbols_are_shown() {
    let (defined, undefined) = dynamic_symbols();
    let mut expected = [
        "plugin_name",
        "plugin_type",
        "plugin_version",
        "slurm_spank_exit",
        "slurm_spank_task_exit",
        "slurm_spank_init",
        "slurm_spank_init_failure_mode",
        "slurm_spank_init_post_opt",
        "slurm_spank_task_init",
        "slurm_spank_user_init",
        "spank_plugin_version",
    ]
    .map(str::to_owned)
    .to_vec();
    expected.sort();
    assert_eq!(defined, expected);
    let from_slurm: Vec<&String> = undefined
        .iter()
        .filter(|name| name.starts_with("spank_") || name.starts_with("slurm_"))
        .collect();
    assert_eq!(
        from_slurm,
        [
            "slurm_debug",
            "slurm_error",
            "slurm_info",
            "slurm_spank_log",
            "spank_context",
            "spank_get_item",
            "spank_getenv",
            "spank_option_register",
            "spank_setenv",
            "spank_unsetenv",
        ]
    );
}

/// Names of the symbols that the plugin defines and that it takes from others.
fn dynamic_symbols() -> (Vec<String>, Vec<String>) {
    let table = readelf(&["--dyn-syms"]);
    let (mut defined, mut undefined) = (Vec::new(), Vec::new());
    for line in table.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, _, _, _, "GLOBAL" | "WEAK", _, section, name, ..] = words[..] {
            let name = name.split('@').next().unwrap().to_owned();
            if section == "UND" {
                undefined.push(name);
            } else {
                defined.push(name);
            }
        }
    }
    defined.sort();
    undefined.sort();
    (defined, undefined)
}

fn readelf(args: &[&str]) -> String {
    let output = Command::new("readelf")
        .arg("-W")
        .args(args)
        .arg(build::plugin())
        .output()
        .expect("readelf runs (binutils)");
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}
