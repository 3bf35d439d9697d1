//! Questions to C libraries, asked in a child process that is bounded in time and in what it says.
//!
//! The child is the same program, started as `PROGRAM __probe WHAT`; it prints one JSON value, a
//! `Result` in serde's form, on a line of its own that begins with [`MARK`]: a library may print too.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::hwloc::{self, HwlocAnswer};
use crate::nvml::{self, NvmlAnswer};
use crate::source::MAX_FILE_BYTES;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "__probe";
/// How long hwloc may take; the slowest recorded tree takes well under a second.
const HWLOC_TIME: Duration = Duration::from_secs(10);
/// How long NVML may take; waking eight idle GPUs without persistence mode takes some seconds.
const NVML_TIME: Duration = Duration::from_secs(10);
/// After how long a child ends by itself, should its parent be gone.
const CHILD_TIME: Duration = Duration::from_secs(15);
/// How long an ended child may take to be gone.
const END_TIME: Duration = Duration::from_millis(500);
/// Begins the answer: a control character, which JSON never holds.
const MARK: u8 = 0x1e;
/// How long a person is left to wonder.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a child may print.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// Why a child gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("its helper process cannot be started: {0}")]
    Start(io::Error),
    #[error("no answer within {} s", .0.as_secs())]
    Time(Duration),
    #[error("it stopped its helper process")]
    Died,
    #[error("{0}")]
    Refused(String),
}

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

/// Asks, and says `late` on standard error where there is no answer after [`PATIENCE`].
fn ask_aloud<T: DeserializeOwned>(
    mut command: Command,
    input: Option<String>,
    time: Duration,
    late: Option<&str>,
) -> Result<T, AskError> {
    let mut child = command
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(AskError::Start)?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // A child that ends early closes the pipe; its answer tells why.
        std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    }
    let (sender, receiver) = channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            // Not to the end of the stream: a library may keep the process from ending.
            let mut stdout = BufReader::new(stdout.take(MAX_ANSWER_BYTES));
            let mut answer = Vec::new();
            let read = skip_to_mark(&mut stdout)
                .and_then(|()| stdout.read_until(b'\n', &mut answer).map(|_| answer));
            sender.send(read)
        });
    }
    let mut answer = receiver.recv_timeout(time.min(PATIENCE));
    if let (Err(RecvTimeoutError::Timeout), Some(rest)) = (&answer, time.checked_sub(PATIENCE)) {
        if let Some(late) = late {
            // When standard error is closed there is nobody left to tell.
            let _ = writeln!(
                io::stderr(),
                "gpu-numa: {late}; going on without it in {} s",
                rest.as_secs()
            );
        }
        answer = receiver.recv_timeout(rest);
    }
    end(&mut child);
    match answer {
        Ok(Ok(bytes)) => parse_answer(&bytes),
        Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(AskError::Died),
        Err(RecvTimeoutError::Timeout) => Err(AskError::Time(time)),
    }
}

/// Reads and forgets what comes before the answer.
fn skip_to_mark(stdout: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = stdout.fill_buf()?;
        let (at, used) = match bytes.iter().position(|byte| *byte == MARK) {
            Some(at) => (true, at + 1),
            None => (bytes.is_empty(), bytes.len()),
        };
        stdout.consume(used);
        if at {
            return Ok(());
        }
    }
}

/// Ends a child and takes its status, without waiting for one that the kernel cannot end now.
fn end(child: &mut Child) {
    // One that has answered ends by itself.
    if is_gone(child, Duration::from_millis(20)) {
        return;
    }
    let _ = child.kill();
    is_gone(child, END_TIME);
}

/// Whether the child ends within `time`.
fn is_gone(child: &mut Child, time: Duration) -> bool {
    let start = Instant::now();
    loop {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        if start.elapsed() > time {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn parse_answer<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, AskError> {
    serde_json::from_slice::<Result<T, String>>(bytes)
        .map_err(|_| AskError::Died)?
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
        .unwrap_or_else(|_| refuse("it panicked"));
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
        Some(_) | None => return refuse("no such question"),
    };
    json.unwrap_or_else(|_| refuse("its answer has no JSON form"))
}

fn refuse(why: &str) -> String {
    format!("{{\"Err\":\"{why}\"}}")
}

fn read_stdin() -> Result<String, String> {
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_arguments_are_left_to_the_program() {
        answer(["show".into()].into_iter());
        answer(std::iter::empty());
    }

    #[test]
    fn a_child_that_says_nothing_in_time_is_given_up() {
        let mut command = Command::new("sleep");
        command.arg("30");
        let error = ask::<u32>(command, None, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, AskError::Time(_)), "{error}");
    }

    #[test]
    fn a_child_that_babbles_or_is_missing_is_an_error() {
        let mut command = Command::new("echo");
        command.arg("hello");
        assert!(matches!(
            ask::<u32>(command, None, Duration::from_secs(5)),
            Err(AskError::Died)
        ));
        let missing = Command::new("/nonexistent/program");
        assert!(matches!(
            ask::<u32>(missing, None, Duration::from_secs(5)),
            Err(AskError::Start(_))
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
            parse_answer::<u32>(b"{\"Err\":\"no\"}")
                .unwrap_err()
                .to_string(),
            "no"
        );
    }
}
