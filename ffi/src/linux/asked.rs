//! A child that asks what may never answer, for a parent that goes on without it.
//!
//! Not a thread: a program in which one waits in the kernel, and cannot be killed there, does not end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::fork::{Forked, ends_within, fork_answer};
use crate::errno::Errno;

/// The most bytes of a question or an answer.
const MOST_BYTES: usize = 64 << 20;

/// A child that is asked one question after the other.
#[derive(Debug)]
pub struct Asked {
    child: Forked,
    questions: File,
    answers: File,
}

/// There was no answer in time, or the child has ended: it is to be left, and another one started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silent;

impl Asked {
    /// Starts one in which `answer` answers, until its parent ends or drops this.
    ///
    /// None where this process has several threads (see [`fork_answer`]).
    ///
    /// # Errors
    /// What `pipe` and `fork` say.
    pub fn start(answer: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Result<Option<Self>, Errno> {
        let (asked, questions) = pipe_with(PipeFlags::CLOEXEC)?;
        let (answers, told) = pipe_with(PipeFlags::CLOEXEC)?;
        let (asked, told) = (File::from(asked), File::from(told));
        let others = [questions.as_raw_fd(), answers.as_raw_fd()];
        let serve = || {
            for descriptor in others {
                // The parent's ends: with them open the child would not see that it has ended.
                // SAFETY: the child's own copies, which nothing in it uses or closes.
                unsafe { libc::close(descriptor) };
            }
            // What cannot be told any more has no reader.
            let _ = serve(&asked, &told, &answer);
            Vec::new()
        };
        // It ends with its parent, however long that follows a process.
        let child = fork_answer(&[], 0, serve)?;
        Ok(child.map(|child| Self {
            child,
            questions: questions.into(),
            answers: answers.into(),
        }))
    }

    /// What the child answers within `patience`, or within `longest` if it is at work and does not wait.
    ///
    /// # Errors
    /// [`Silent`].
    pub fn ask(
        &mut self,
        question: &[u8],
        patience: Duration,
        longest: Duration,
    ) -> Result<Option<Vec<u8>>, Silent> {
        let start = Instant::now();
        write_framed(&mut self.questions, question).map_err(|_| Silent)?;
        let mut end = start + patience;
        while !self.has_answer(end)? {
            end += patience;
            if !self.child.is_running() || end > start + longest {
                return Err(Silent);
            }
        }
        let end = start + longest;
        let mut has_one = [0];
        self.read_until(&mut has_one, end)?;
        if has_one == [0] {
            return Ok(None);
        }
        let mut length = [0; 8];
        self.read_until(&mut length, end)?;
        let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_| Silent)?;
        if length > MOST_BYTES {
            return Err(Silent);
        }
        let mut bytes = vec![0; length];
        self.read_until(&mut bytes, end)?;
        Ok(Some(bytes))
    }

    /// Whether there is something to read before `end`.
    fn has_answer(&self, end: Instant) -> Result<bool, Silent> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_| Silent)?;
            let mut fds = [PollFd::new(&self.answers, PollFlags::IN)];
            match poll(&mut fds, Some(&left)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(Silent),
            }
        }
    }

    fn read_until(&mut self, mut to: &mut [u8], end: Instant) -> Result<(), Silent> {
        while !to.is_empty() {
            if !self.has_answer(end)? {
                return Err(Silent);
            }
            let length = self.answers.read(to).map_err(|_| Silent)?;
            if length == 0 {
                return Err(Silent);
            }
            to = to.get_mut(length..).unwrap_or_default();
        }
        Ok(())
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.child.kill();
        // Its status is taken where it ends at once, as one that waits for a lock does.
        ends_within(Duration::from_millis(20), || self.child.has_ended());
    }
}

fn serve(
    mut asked: &File,
    mut told: &File,
    answer: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let mut length = [0; 8];
        asked.read_exact(&mut length)?;
        let length = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX);
        let mut question = vec![0; length.min(MOST_BYTES)];
        asked.read_exact(&mut question)?;
        match answer(&question).filter(|bytes| bytes.len() <= MOST_BYTES) {
            Some(bytes) => {
                told.write_all(&[1])?;
                write_framed(&mut told, &bytes)?;
            }
            None => told.write_all(&[0])?,
        }
    }
}

fn write_framed(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    to.write_all(&length.to_le_bytes())?;
    to.write_all(bytes)
}
