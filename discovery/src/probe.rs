//! Questions to C libraries, asked in a child process that is bounded in time and in what it says.
//!
//! The child is the same program, started as `PROGRAM __probe WHAT`, or forked where hwloc is asked; it prints one JSON value, a
//! `Result` in serde's form, on a line of its own that begins with [`MARK`]: a library may print too.
//!
//! hwloc reads what others wrote, so its child is nobody and can only read ([`ffi::linux::confine`]), whoever asks.  NVML's may
//! beside open the driver's device files, where all are there.  Where one is missing, or NVML does not answer so, it is asked with
//! the caller's rights: the driver's library starts a program that makes device files.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ffi::linux::confine::{confine, confine_to_devices};
use ffi::linux::fork::{Variable, fork_answer};
use serde::de::DeserializeOwned;

use crate::child::{ChildError, Started, read_marked_line};
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
const CHILD_SECONDS: u32 = 15;
/// Begins the answer: a control character, which JSON never holds.
const MARK: u8 = 0x1e;

/// hwloc, asked about a filesystem root: meanwhile the caller reads it too.
pub(crate) struct HwlocQuestion(Result<Started, AskError>);

impl HwlocQuestion {
    /// Asks about this machine, or about the recorded filesystem root at `recorded`.
    ///
    /// The child is a fork of this process where that has one thread, as `gpu-numa` has then: `program` need not be loaded anew,
    /// which takes as long as half of what hwloc does on a small machine.
    pub(crate) fn ask(program: &Path, recorded: Option<&Path>) -> Self {
        let root = recorded.map(|root| root.as_os_str().to_owned());
        Self(start_hwloc(program, root.as_deref()))
    }

    /// What hwloc says.
    pub(crate) fn answer(self) -> Result<HwlocAnswer, AskError> {
        let read = |output: &mut _| read_marked_line(output, MARK);
        parse_answer(&self.0?.read_within(HWLOC_TIME, read, None)?)
    }
}

fn start_hwloc(program: &Path, root: Option<&OsStr>) -> Result<Started, AskError> {
    let named = root.map(|root| root.to_str());
    let own = hwloc_variables();
    // A root whose name is not UTF-8 goes the long way.
    if named != Some(None) {
        let given: Vec<String> = std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .filter(|name| name.starts_with("HWLOC_"))
            .collect();
        let mut variables: Vec<Variable<'_>> =
            given.iter().map(|name| (name.as_str(), None)).collect();
        variables.extend(own.map(|(name, value)| (name, Some(value))));
        variables.push(("HWLOC_COMPONENTS", Some("linux,stop")));
        if let Some(root) = named.flatten() {
            variables.extend([
                ("HWLOC_FSROOT", Some(root)),
                ("HWLOC_THISSYSTEM", Some("0")),
            ]);
        }
        let forked = fork_answer(&variables, CHILD_SECONDS, || {
            confine_reader(root.map(Path::new));
            answer_line(OsStr::new("hwloc"))
        });
        if let Ok(Some(child)) = forked {
            return Ok(Started::forked(child));
        }
    }
    let mut command = hwloc_command(program, "hwloc");
    command.env("HWLOC_COMPONENTS", "linux,stop");
    if let Some(root) = root {
        command
            .env("HWLOC_FSROOT", root)
            .env("HWLOC_THISSYSTEM", "0");
    }
    Ok(Started::execute(command, None)?)
}

/// Has hwloc read an XML.
pub(crate) fn ask_hwloc_xml(program: &Path, xml: String) -> Result<HwlocAnswer, AskError> {
    ask(hwloc_command(program, "hwloc-xml"), Some(xml), HWLOC_TIME)
}

/// Asks NVML about this machine, whose driver has `devices`: all of its device files, or none where one is missing.
pub(crate) fn ask_nvml(program: &Path, devices: &[String]) -> Result<NvmlAnswer, AskError> {
    let ask = |devices: &[String]| {
        let late = Some("NVML does not answer yet");
        ask_aloud(
            nvml_command(program, "nvml", devices),
            None,
            NVML_TIME,
            late,
        )
    };
    let is_whole = |answer: &Result<NvmlAnswer, AskError>| match answer {
        Ok(answer) => answer.remarks.is_empty(),
        // Who hangs in the driver would do so again.
        Err(AskError::Child(ChildError::Time(_))) => true,
        // The library may need what we do not know of.
        Err(AskError::Refused(_) | AskError::Child(_)) => false,
    };
    let answer = ask(devices);
    if devices.is_empty() || is_whole(&answer) {
        return answer;
    }
    ask(&[])
}

/// Asks NVML which processes are on which GPU.
pub(crate) fn ask_gpu_processes(
    program: &Path,
    devices: &[String],
) -> Result<GpuProcesses, AskError> {
    let command = nvml_command(program, "nvml-processes", devices);
    ask(command, None, NVML_TIME)
}

fn command(program: &Path, what: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(SUBCOMMAND).arg(what);
    command
}

fn nvml_command(program: &Path, what: &str, devices: &[String]) -> Command {
    let mut command = command(program, what);
    command.args(devices);
    command
}

/// hwloc's plugins would load CUDA and OpenCL.
fn hwloc_variables() -> [(&'static str, &'static str); 2] {
    [
        ("HWLOC_PLUGINS_PATH", "/nonexistent"),
        ("HWLOC_HIDE_ERRORS", "2"),
    ]
}

/// The user's own `HWLOC_*` would change the answer.
fn hwloc_command(program: &Path, what: &str) -> Command {
    let mut command = command(program, what);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"HWLOC_") {
            command.env_remove(name);
        }
    }
    command.envs(hwloc_variables());
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
    parse_answer(&Started::execute(command, input)?.read_within(time, read, late)?)
}

fn parse_answer<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, AskError> {
    serde_json::from_slice::<Result<T, ProbeError>>(bytes)
        .map_err(|_| ChildError::Died)?
        .map_err(AskError::Refused)
}

/// Answers a question and ends the process, when the arguments (without the program's name) hold the
/// hidden subcommand; does nothing when they do not.
#[allow(clippy::disallowed_methods, reason = "JSON for the parent")]
pub fn answer(mut arguments: impl Iterator<Item = OsString>) {
    if arguments.next().as_deref() != Some(OsStr::new(SUBCOMMAND)) {
        return;
    }
    let what = arguments.next().unwrap_or_default();
    std::panic::set_hook(Box::new(|_| {}));
    match what.to_str() {
        Some("hwloc") => confine_reader(std::env::var_os("HWLOC_FSROOT").as_deref().map(Path::new)),
        Some("hwloc-xml") => confine(&[], CHILD_SECONDS),
        // Root sees more processes in MIG instances than others do, and so stays root.
        Some(what @ ("nvml" | "nvml-processes")) => confine_library(arguments, what == "nvml"),
        Some(_) | None => {}
    }
    let line = answer_line(what.as_os_str());
    let mut out = io::stdout().lock();
    let written = out.write_all(&line).and_then(|()| out.flush());
    // At once: a library's own exit handlers may hang.
    ffi::linux::process::exit_now(if written.is_ok() { 0 } else { 2 });
}

/// Leaves hwloc the folders that it reads of this machine, or a recorded root.
fn confine_reader(recorded: Option<&Path>) {
    let own = ["/sys", "/proc"].map(Path::new);
    match recorded {
        Some(root) => confine(&[root], CHILD_SECONDS),
        None => confine(&own, CHILD_SECONDS),
    }
}

/// Leaves NVML the device files that are named; without any, all that the caller may do.
fn confine_library(devices: impl Iterator<Item = OsString>, leaves_user: bool) {
    let devices: Vec<OsString> = devices.collect();
    let paths: Vec<&Path> = devices.iter().map(Path::new).collect();
    if !paths.is_empty() {
        confine_to_devices(&paths, leaves_user, CHILD_SECONDS);
    }
    // After that: a thread from before would keep its rights.  No alarm, for a library takes signals as it likes.
    end_by_a_thread();
}

fn end_by_a_thread() {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(CHILD_SECONDS.into()));
        ffi::linux::process::exit_now(2);
    });
}

/// The answer as the parent looks for it.
fn answer_line(what: &OsStr) -> Vec<u8> {
    let answer = std::panic::catch_unwind(|| answer_json(what))
        .unwrap_or_else(|_| refuse(&ProbeError::Panicked));
    let mut line = vec![b'\n', MARK];
    line.extend_from_slice(answer.as_bytes());
    line.push(b'\n');
    line
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
