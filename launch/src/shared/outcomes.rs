//! The page in which each task of a step tells the daemon what it got, for the host's counters.
//!
//! Two words per task: what was decided, which the task that decides for all may write, and what the task itself knows at the
//! end of its hook.  Nobody waits for either.  The tasks are processes of the user, so the daemon takes no more from a task's
//! words than [`TaskTold::read`] lets through.

use std::sync::atomic::Ordering;

use ffi::errno::Errno;
use ffi::linux::shared::SharedWords;
use topology::metrics::TaskTold;

/// The most tasks that have words; those beyond tell nothing.
const MAX_TASKS: usize = 4096;

/// The page.
#[derive(Debug)]
pub struct Outcomes(SharedWords);

impl Outcomes {
    /// Maps a page for `tasks` tasks, which processes forked later share.
    ///
    /// # Errors
    /// What the kernel says where it has no memory.
    pub fn map(tasks: usize) -> Result<Self, Errno> {
        SharedWords::map(2 * tasks.clamp(1, MAX_TASKS)).map(Self)
    }

    /// Writes what was decided for a task.
    pub fn decide(&self, task: usize, told: &TaskTold) {
        self.store(2 * task, told.decided_word());
    }

    /// Writes what a task knows at the end of its hook.
    pub fn finish(&self, task: usize, told: &TaskTold) {
        self.store(2 * task + 1, told.done_word());
    }

    fn store(&self, at: usize, value: u32) {
        if let Some(word) = self.0.words().get(at) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// What a task told, by its local id.
    pub fn read(&self, task: usize) -> Option<TaskTold> {
        let word = |at: usize| Some(self.0.words().get(at)?.load(Ordering::Relaxed));
        TaskTold::read(word(2 * task)?, word(2 * task + 1)?)
    }
}
