//! Questions to C libraries, asked in a child process that is bounded in time and in what it says.
//!
//! The child is the same program, started as `PROGRAM __probe WHAT`; it prints one JSON value, a
//! `Result` in serde's form, on a line of its own that begins with [`MARK`]: a library may print too.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::child::{ChildError, read_marked_line, read_within};
use crate::error::{AskError, ProbeError};
use crate::hwloc::{self, HwlocAnswer};
use crate::nvml::{self, GpuProcesses, NvmlAnswer};
use crate::source::MAX_FILE_BYTES;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "__probe";
/// How long hwloc may take; the slowest recorded tree takes well under a second.
const HWLOC_TIME: Duration = Duration::from_secs(10);
/// How long NVML may take; waking eight idle GPUs without persistence mode takes some seconds.
const NVML_TIME: Duration = Duration::from_secs(10);
/// After how long a child ends by itself, should its parent be gone.
const CHILD_TIME: Duration = Duration::from_secs(15);
/// Begins the answer: a control character, which JSON never holds.
const MARK: u8 = 0x1e;

/// Asks hwloc about this machine.
pub(crate) fn ask_hwloc_live(program: &Path) -> Result<HwlocAnswer, AskError> {
    let mut command = hwloc_command(program, "hwloc");
    command.env("HWLOC_COMPONENTS", "linux,stop");
    ask(command, None, HWLOC_TIME)
}

/// Asks hwloc about a recorded filesystem root.
pub(crate) fn ask_hwloc_root(program: &Path, root: &Path) -> Result<HwlocAnswer, AskError> {
    let mut command = hwloc_command(program, "hwloc");
    command
        .env("HWLOC_FSROOT", root)
        .env("HWLOC_THISSYSTEM", "0")
        .env("HWLOC_COMPONENTS", "linux,stop");
    ask(command, None, HWLOC_TIME)
}

/// Has hwloc read an XML.
pub(crate) fn ask_hwloc_xml(program: &Path, xml: String) -> Result<HwlocAnswer, AskError> {
    ask(hwloc_command(program, "hwloc-xml"), Some(xml), HWLOC_TIME)
}

/// Asks NVML about this machine.
pub(crate) fn ask_nvml(program: &Path) -> Result<NvmlAnswer, AskError> {
    ask_aloud(
        command(program, "nvml"),
        None,
        NVML_TIME,
        Some("NVML does not answer yet"),
    )
}

/// Asks NVML which processes are on which GPU.
pub(crate) fn ask_gpu_processes(program: &Path) -> Result<GpuProcesses, AskError> {
    ask(command(program, "nvml-processes"), None, NVML_TIME)
}

fn command(program: &Path, what: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(SUBCOMMAND).arg(what);
    command
}

/// The user's own `HWLOC_*` would change the answer, and hwloc's plugins would load CUDA and OpenCL.
fn hwloc_command(program: &Path, what: &str) -> Command {
    let mut command = command(program, what);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"HWLOC_") {
            command.env_remove(name);
        }
    }
    command
        .env("HWLOC_PLUGINS_PATH", "/nonexistent")
        .env("HWLOC_HIDE_ERRORS", "2");
    command
}

fn ask<T: DeserializeOwned>(
    command: Command,
    input: Option<String>,
    time: Duration,
) -> Result<T, AskError> {
    ask_aloud(command, input, time, None)
}

fn ask_aloud<T: DeserializeOwned>(
    command: Command,
    input: Option<String>,
    time: Duration,
    late: Option<&str>,
) -> Result<T, AskError> {
    let read = |output: &mut _| read_marked_line(output, MARK);
    parse_answer(&read_within(command, input, time, read, late)?)
}

fn parse_answer<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, AskError> {
    serde_json::from_slice::<Result<T, ProbeError>>(bytes)
        .map_err(|_| ChildError::Died)?
        .map_err(AskError::Refused)
}

/// Answers a question and ends the process, when the arguments (without the program's name) hold the
/// hidden subcommand; does nothing when they do not.
pub fn answer(mut arguments: impl Iterator<Item = OsString>) {
    if arguments.next().as_deref() != Some(OsStr::new(SUBCOMMAND)) {
        return;
    }
    let what = arguments.next().unwrap_or_default();
    std::thread::spawn(|| {
        std::thread::sleep(CHILD_TIME);
        ffi::linux::process::exit_now(2);
    });
    std::panic::set_hook(Box::new(|_| {}));
    let answer = std::panic::catch_unwind(|| answer_json(what.as_os_str()))
        .unwrap_or_else(|_| refuse(&ProbeError::Panicked));
    let mut line = vec![b'\n', MARK];
    line.extend_from_slice(answer.as_bytes());
    line.push(b'\n');
    let mut out = io::stdout().lock();
    let written = out.write_all(&line).and_then(|()| out.flush());
    // At once: a library's own exit handlers may hang.
    ffi::linux::process::exit_now(if written.is_ok() { 0 } else { 2 });
}

fn answer_json(what: &OsStr) -> String {
    let json = match what.to_str() {
        Some("hwloc") => serde_json::to_string(&hwloc::read_environment()),
        Some("hwloc-xml") => {
            serde_json::to_string(&read_stdin().and_then(|xml| hwloc::read_xml(&xml)))
        }
        Some("nvml") => serde_json::to_string(&nvml::read()),
        Some("nvml-processes") => serde_json::to_string(&nvml::read_processes()),
        Some(_) | None => return refuse(&ProbeError::NoSuchQuestion),
    };
    json.unwrap_or_else(|_| refuse(&ProbeError::NoJson))
}

/// An answer that is none; the parent takes an empty line for a child that died.
fn refuse(why: &ProbeError) -> String {
    serde_json::to_string(&Err::<(), _>(why)).unwrap_or_default()
}

fn read_stdin() -> Result<String, ProbeError> {
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| ProbeError::Input(error.to_string()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn other_arguments_are_left_to_the_program() {
        answer(["show".into()].into_iter());
        answer(std::iter::empty());
    }

    #[test]
    fn a_child_that_babbles_has_died() {
        let mut command = Command::new("echo");
        command.arg("hello");
        assert!(matches!(
            ask::<u32>(command, None, Duration::from_secs(5)),
            Err(AskError::Child(ChildError::Died))
        ));
    }

    #[test]
    fn an_answer_is_found_among_other_words_before_the_process_ends() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            r#"echo '{"Ok":1}'; printf '\n\036{"Ok":7}\nmore'; sleep 30"#,
        ]);
        let start = Instant::now();
        assert_eq!(
            ask::<u32>(command, None, Duration::from_secs(20)).unwrap(),
            7
        );
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn an_answer_is_a_result() {
        assert_eq!(parse_answer::<u32>(b"{\"Ok\":7}").unwrap(), 7);
        assert_eq!(
            parse_answer::<u32>(refuse(&ProbeError::NoTopology).as_bytes())
                .unwrap_err()
                .to_string(),
            "it is truncated, or no hwloc XML"
        );
    }
}
