//! Child processes that are bounded in time and in what they say.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use ffi::linux::fork::{Forked, ends_within};

/// How long an ended child may take to be gone.
const END_TIME: Duration = Duration::from_millis(500);
/// How long a person waits before being told why.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a child may print.
const MAX_OUTPUT_BYTES: u64 = 64 << 20;

/// Why a child gave no output.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started.
    #[error("its helper process cannot be started: {0}")]
    Start(io::Error),
    /// It was ended after this long.
    #[error("no answer within {} s", .0.as_secs())]
    Time(Duration),
    /// It ended, or closed its output, before it had said all.
    #[error("it stopped its helper process")]
    Died,
}

/// A child's standard output, of which only so much is read.
pub(crate) type Output = BufReader<io::Take<Box<dyn Read + Send>>>;

/// A child that was started, and is ended at the latest when this is dropped.
#[derive(Debug)]
pub(crate) struct Started {
    child: AnyChild,
}

#[derive(Debug)]
enum AnyChild {
    Executed(Child),
    Forked(Forked),
}

/// All that `command` prints, if it has closed its output within `time`; it is ended then.
///
/// # Errors
/// [`ChildError`].  How the child ended is not looked at.
pub fn read_output(command: Command, time: Duration) -> Result<Vec<u8>, ChildError> {
    let all = |output: &mut Output| {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).map(|_| bytes)
    };
    Started::execute(command, None)?.read_within(time, all, None)
}

impl Started {
    /// Starts `command`, whose input is `input`.
    pub(crate) fn execute(mut command: Command, input: Option<String>) -> Result<Self, ChildError> {
        let mut child = command
            .stdin(if input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(ChildError::Start)?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            // A child that ends early closes the pipe; its answer tells why.
            std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        }
        Ok(Self {
            child: AnyChild::Executed(child),
        })
    }

    /// A child of our own code.
    pub(crate) fn forked(child: Forked) -> Self {
        Self {
            child: AnyChild::Forked(child),
        }
    }

    /// What `read` makes of its output; it is ended then, at the latest after `time`.  Says `late` on standard error where
    /// there is no answer after [`PATIENCE`].
    #[allow(
        clippy::disallowed_methods,
        reason = "what is said is a sentence of ours"
    )]
    pub(crate) fn read_within<T: Send + 'static>(
        mut self,
        time: Duration,
        read: impl FnOnce(&mut Output) -> io::Result<T> + Send + 'static,
        late: Option<&str>,
    ) -> Result<T, ChildError> {
        let (sender, receiver) = channel();
        if let Some(output) = self.take_output() {
            let mut output = BufReader::new(output.take(MAX_OUTPUT_BYTES));
            std::thread::spawn(move || sender.send(read(&mut output)));
        }
        let mut answer = receiver.recv_timeout(time.min(PATIENCE));
        if let (Err(RecvTimeoutError::Timeout), Some(rest)) = (&answer, time.checked_sub(PATIENCE))
        {
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
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(ChildError::Died),
            Err(RecvTimeoutError::Timeout) => Err(ChildError::Time(time)),
        }
    }

    fn take_output(&mut self) -> Option<Box<dyn Read + Send>> {
        match &mut self.child {
            AnyChild::Executed(child) => Some(Box::new(child.stdout.take()?)),
            AnyChild::Forked(child) => Some(Box::new(child.take_output()?)),
        }
    }

    fn has_ended(&mut self) -> bool {
        match &mut self.child {
            AnyChild::Executed(child) => !matches!(child.try_wait(), Ok(None)),
            AnyChild::Forked(child) => child.has_ended(),
        }
    }

    /// Whether the child ends within `time`.
    fn is_gone(&mut self, time: Duration) -> bool {
        ends_within(time, || self.has_ended())
    }
}

/// Ends the child and takes its status, without waiting for one that the kernel cannot end now.
impl Drop for Started {
    fn drop(&mut self) {
        // One that has answered ends by itself.
        if self.is_gone(Duration::from_millis(20)) {
            return;
        }
        match &mut self.child {
            AnyChild::Executed(child) => drop(child.kill()),
            AnyChild::Forked(child) => child.kill(),
        }
        self.is_gone(END_TIME);
    }
}

/// Reads and forgets what comes before `mark`, then gives what follows it on that line.
pub(crate) fn read_marked_line(output: &mut Output, mark: u8) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        let bytes = output.fill_buf()?;
        let (is_found, used) = match bytes.iter().position(|byte| *byte == mark) {
            Some(at) => (true, at + 1),
            None => (bytes.is_empty(), bytes.len()),
        };
        output.consume(used);
        if is_found {
            // Not to the end of the stream: a library may keep the process from ending.
            output.read_until(b'\n', &mut line)?;
            return Ok(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn all_that_a_child_prints_is_given() {
        let printed = read_output(shell("echo a; echo b"), Duration::from_secs(20));
        assert_eq!(printed.unwrap(), b"a\nb\n");
    }

    #[test]
    fn a_child_that_says_nothing_in_time_is_given_up() {
        let start = Instant::now();
        let error = read_output(shell("sleep 30"), Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, ChildError::Time(_)), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let missing = Command::new("/nonexistent/program");
        let error = read_output(missing, Duration::from_secs(5)).unwrap_err();
        assert!(matches!(error, ChildError::Start(_)), "{error}");
    }
}
