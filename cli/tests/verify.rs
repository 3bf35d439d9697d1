//! `gpu-numa verify` on a process of somebody who means ill.

use std::os::unix::fs::symlink;
use std::process::Command;

#[test]
fn a_process_name_cannot_act_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("\u{1b}[2J\n%s");
    symlink("/bin/sleep", &program).unwrap();
    let mut process = Command::new(&program).arg("30").spawn().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(["verify", &process.id().to_string()])
        .output();
    process.kill().unwrap();
    process.wait().unwrap();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(text.starts_with("process "), "{text:?}");
    assert!(text.contains("(\\u{1b}[2J\\n%s)\n"), "{text:?}");
}
