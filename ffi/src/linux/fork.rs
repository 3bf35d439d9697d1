//! A child process that goes on with this program's own code: it need not be loaded once more, as an executed one must.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::errno::Errno;
use crate::linux::process::exit_now;

/// Whether a child, of which `has_ended` says whether it has, ends within `time`.
pub fn ends_within(time: Duration, mut has_ended: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    // Most end at once: a whole millisecond would be a tenth of what `show` takes.
    let mut pause = Duration::from_micros(50);
    loop {
        if has_ended() {
            return true;
        }
        if start.elapsed() > time {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(1));
    }
}

/// A child that answers.
#[derive(Debug)]
pub struct Forked {
    pid: Pid,
    output: Option<File>,
    has_ended: bool,
}

/// A variable of the child's environment, and its value; none takes it away.
pub type Variable<'v> = (&'v str, Option<&'v str>);

/// Forks a child in which `answer` runs, under `variables`; what that gives is all that the child says, but for what C libraries
/// print.  It ends by itself after `seconds`, and with its parent.
///
/// None where this process has several threads: after a fork only one of them goes on, and the others may have held locks.
///
/// # Errors
/// What `pipe` and `fork` say.
pub fn fork_answer(
    variables: &[Variable<'_>],
    seconds: u32,
    answer: impl FnOnce() -> Vec<u8>,
) -> Result<Option<Forked>, Errno> {
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads != 1 {
        return Ok(None);
    }
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EIO)))?;
    let (output, input) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: this process has one thread, so the child has all of it, and no lock of another one.
    match unsafe { libc::fork() } {
        0 => {
            let own = [
                null.as_fd().as_raw_fd(),
                input.as_fd().as_raw_fd(),
                null.as_fd().as_raw_fd(),
            ];
            child(own, seconds, variables);
            std::panic::set_hook(Box::new(|_| {}));
            let said = catch_unwind(AssertUnwindSafe(answer)).unwrap_or_default();
            let is_said = File::from(input).write_all(&said).is_ok();
            // At once: exit handlers belong to the parent, and a library's own may hang.
            exit_now(if is_said { 0 } else { 2 });
        }
        pid => {
            let pid = Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() > 0);
            let pid = pid.ok_or_else(Errno::last)?;
            Ok(Some(Forked {
                pid,
                output: Some(output.into()),
                has_ended: false,
            }))
        }
    }
}

/// Makes the child what it should be: its standard descriptors, its end, its environment.
fn child(standard: [i32; 3], seconds: u32, variables: &[Variable<'_>]) {
    for (to, from) in (0..).zip(standard) {
        // SAFETY: descriptors of this process.
        unsafe { libc::dup2(from, to) };
    }
    // SAFETY: plain system calls; the parent may have ignored the signal.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::alarm(seconds);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
    for (name, value) in variables {
        let Ok(name) = CString::new(*name) else {
            continue;
        };
        match value.map(CString::new) {
            // SAFETY: two strings that outlive the call, in a process of one thread.
            Some(Ok(value)) => unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 1) },
            // SAFETY: as above.
            Some(Err(_)) | None => unsafe { libc::unsetenv(name.as_ptr()) },
        };
    }
}

impl Forked {
    /// What it says; none where that was taken before.
    pub fn take_output(&mut self) -> Option<File> {
        self.output.take()
    }

    /// Whether it has ended; its status is taken.
    pub fn has_ended(&mut self) -> bool {
        if !self.has_ended {
            self.has_ended = !matches!(waitpid(Some(self.pid), WaitOptions::NOHANG), Ok(None));
        }
        self.has_ended
    }

    /// Whether it is on a processor or waits for one, and for nothing else (proc_pid_stat(5), state).
    pub fn is_running(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid));
        let stat = stat.unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('R'))
    }

    /// Ends it.
    pub fn kill(&mut self) {
        if !self.has_ended() {
            // It has ended meanwhile, or the kernel cannot end it now.
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_several_threads_forks_no_child() {
        let other =
            std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_millis(200)));
        let forked = fork_answer(&[], 5, Vec::new).unwrap();
        assert!(forked.is_none());
        other.join().unwrap();
    }
}
