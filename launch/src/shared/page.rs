//! The page that the tasks of a step on one host share: what GPUs and CPUs each has, and who is there.
//!
//! Each task writes its slot, then counts itself in.  When all are in, all see the same and come to the
//! same plan.  The first that gives up waiting closes the page, and then none uses it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ffi::errno::Errno;
use ffi::linux::shared::SharedWords;
use topology::binding::{MemoryPolicy, TaskRequest, UserMemory};
use topology::machine::Machine;
use topology::set::{CpuSet, NodeSet};

use super::{SharedMemory, Word};

/// Set in the state word once somebody gave up waiting.
const CLOSED: u32 = 1 << 31;
/// Set in the state word of a closed page once a task refused the step.
const REFUSED: u32 = 1 << 30;
/// Words before the first slot; the state word has a cache line of its own.
const HEADER: usize = 16;
/// The most GPUs that a task's slot names; one with more shows none and is planned for alone.
const MAX_GPUS: usize = 64;
/// Words of a slot before the nodes of its memory policy: flags and count, GPUs.
const SLOT_NODES: usize = 1 + MAX_GPUS;
const USER_CPU_BIND: u32 = 1 << 16;
/// Where in a slot's head the user's memory policy stands, in four bits.
const MEMORY_SHIFT: u32 = 17;
/// Set in a policy's code where it follows the CPUs.
const MEMORY_LOCAL: u32 = 8;
/// The most tasks a page is made for.
const MAX_TASKS: usize = 4096;
/// The longest that a task waits whatever happens, in microseconds.
const LONGEST_WAIT_MICROS: u64 = 2_000_000;

/// Why there is no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// More tasks than a page is made for.
    #[error("{0} tasks on this host; expected at most {MAX_TASKS}")]
    TooManyTasks(usize),
    /// The kernel has no memory for it.
    #[error(transparent)]
    Memory(#[from] Errno),
}

/// The shared page.
#[derive(Debug)]
pub struct Page<M = SharedWords> {
    memory: M,
    tasks: usize,
    /// Words of a slot.
    slot: usize,
    /// Words of a slot before the mask.
    head: usize,
}

impl Page {
    /// Maps a page for `tasks` tasks on `machine`, which processes forked later share.
    ///
    /// # Errors
    /// [`PageError`] by what is wrong.
    pub fn map(tasks: usize, machine: &Machine) -> Result<Self, PageError> {
        if tasks > MAX_TASKS {
            return Err(PageError::TooManyTasks(tasks));
        }
        let memory = SharedWords::map(words_for(tasks, machine))?;
        Ok(Self::over(memory, tasks, machine))
    }
}

/// How many words a page for `tasks` tasks on `machine` has.
pub fn words_for(tasks: usize, machine: &Machine) -> usize {
    HEADER + slot_words(machine) * tasks
}

/// Words of a slot before the mask: flags and count, GPUs, and nodes, as many as the machine has.
fn head_words(machine: &Machine) -> usize {
    let last = machine.numa_nodes.iter().map(|node| node.id).max();
    SLOT_NODES + last.map_or(0, |last| last as usize / 32 + 1)
}

/// Words of a slot: head, GPUs, nodes, and a mask as wide as the machine's CPUs.
fn slot_words(machine: &Machine) -> usize {
    head_words(machine) + machine.online.words().len().max(1) * 2
}

impl<M: SharedMemory> Page<M> {
    /// The page in `memory`, of [`words_for`] words.
    pub fn over(memory: M, tasks: usize, machine: &Machine) -> Self {
        Self {
            memory,
            tasks,
            slot: slot_words(machine),
            head: head_words(machine),
        }
    }

    fn state(&self) -> Option<&M::Word> {
        self.memory.words().first()
    }

    fn slot_of(&self, task: usize) -> Option<&[M::Word]> {
        let start = HEADER + task.checked_mul(self.slot)?;
        self.memory.words().get(start..start + self.slot)
    }

    /// Writes a task's slot and counts it in; false when the page is closed or the task does not fit.
    pub fn publish(&self, task: usize, request: &TaskRequest, machine: &Machine) -> bool {
        let (Some(state), Some(slot)) = (self.state(), self.slot_of(task)) else {
            return false;
        };
        let index = |address| machine.gpus.iter().position(|gpu| gpu.pci == address);
        let gpus: Vec<u32> = request
            .visible
            .iter()
            .filter_map(|address| u32::try_from(index(*address)?).ok())
            .collect();
        let mask = request.slurm_cpus.clone().unwrap_or_default();
        if gpus.len() > MAX_GPUS || mask.words().len() * 2 > self.slot - self.head {
            return false;
        }
        let mut head = u32::try_from(gpus.len()).unwrap_or(0);
        head |= if request.user_cpu_bind {
            USER_CPU_BIND
        } else {
            0
        };
        let memory = request.user_memory.as_ref();
        head |= memory.map_or(0, |memory| memory_code(memory) << MEMORY_SHIFT);
        let halves = mask
            .words()
            .iter()
            .flat_map(|word| [low(*word), low(*word >> 32)]);
        // A node that the machine does not have is left out.
        let named = memory
            .map(|memory| memory.nodes.words())
            .unwrap_or_default();
        let nodes = named
            .iter()
            .flat_map(|word| [low(*word), low(*word >> 32)])
            .chain(std::iter::repeat(0))
            .take(self.head - SLOT_NODES);
        let body = gpus
            .into_iter()
            .chain(std::iter::repeat(0))
            .take(MAX_GPUS)
            .chain(nodes)
            .chain(halves);
        for (to, from) in slot.iter().zip(std::iter::once(head).chain(body)) {
            to.store(from, Ordering::Relaxed);
        }
        let is_in = count_in(state);
        self.memory.wake_all(state);
        is_in
    }

    /// Waits until all tasks are in; false once the page is closed.
    ///
    /// The wait ends 100 ms plus 5 ms a task after the last task came in; on a host so slow that the
    /// launch since `prepared_micros` took longer than that, after as long again.  In any case it ends
    /// after two seconds.
    pub fn wait(&self, prepared_micros: u64) -> bool {
        let Some(state) = self.state() else {
            return false;
        };
        let all = u32::try_from(self.tasks).unwrap_or(u32::MAX);
        let start = self.memory.now_micros();
        let launch = start.saturating_sub(prepared_micros);
        let patience = launch.max(100_000 + 5_000 * u64::from(all));
        let end = start + LONGEST_WAIT_MICROS;
        let mut seen = state.load(Ordering::Acquire);
        let mut deadline = self.memory.now_micros() + patience;
        loop {
            if seen & CLOSED != 0 {
                return false;
            }
            if seen >= all {
                return true;
            }
            let now = self.memory.now_micros();
            let left = deadline.min(end).saturating_sub(now);
            if left == 0 {
                match state.compare_exchange(
                    seen,
                    seen | CLOSED,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                ) {
                    Ok(_) => {
                        self.memory.wake_all(state);
                        return false;
                    }
                    Err(other) => seen = other,
                }
                continue;
            }
            self.memory
                .wait_while(state, seen, Duration::from_micros(left));
            let other = state.load(Ordering::Acquire);
            if other != seen {
                seen = other;
                deadline = self.memory.now_micros() + patience;
            }
        }
    }

    /// Tells the tasks that come later that the step is refused.
    pub fn refuse(&self) {
        if let Some(state) = self.state() {
            state.fetch_or(CLOSED | REFUSED, Ordering::AcqRel);
        }
    }

    /// Whether another task refused the step.
    pub fn is_refused(&self) -> bool {
        self.state()
            .is_some_and(|state| state.load(Ordering::Acquire) & REFUSED != 0)
    }

    /// What every task wrote; to be read once [`Page::wait`] said that all are in.
    pub fn read(&self, machine: &Machine) -> Vec<TaskRequest> {
        (0..self.tasks)
            .map(|task| {
                self.slot_of(task)
                    .map(|slot| read_slot(slot, self.head, machine))
                    .unwrap_or_default()
            })
            .collect()
    }
}

/// Counts one more task in; false where the page is closed.
fn count_in(state: &impl Word<Value = u32>) -> bool {
    let mut seen = state.load(Ordering::Acquire);
    while seen & CLOSED == 0 {
        match state.compare_exchange(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return true,
            Err(other) => seen = other,
        }
    }
    false
}

fn read_slot(slot: &[impl Word<Value = u32>], mask_at: usize, machine: &Machine) -> TaskRequest {
    let word = |index: usize| {
        slot.get(index)
            .map_or(0, |word| word.load(Ordering::Relaxed))
    };
    let head = word(0);
    let visible = (1..SLOT_NODES)
        .take((head & 0xffff) as usize)
        .filter_map(|at| machine.gpus.get(word(at) as usize))
        .map(|gpu| gpu.pci)
        .collect();
    let wide = |start: usize, end: usize| -> Vec<u64> {
        let at = |at: usize| if at < end { u64::from(word(at)) } else { 0 };
        let pairs = (start..end).step_by(2);
        pairs.map(|pair| at(pair) | at(pair + 1) << 32).collect()
    };
    let mask = wide(mask_at, slot.len());
    let nodes = wide(SLOT_NODES, mask_at);
    TaskRequest {
        visible,
        slurm_cpus: Some(CpuSet::from_words(&mask)),
        user_cpu_bind: head & USER_CPU_BIND != 0,
        user_memory: memory_of_code(head >> MEMORY_SHIFT & 15, NodeSet::from_words(&nodes)),
    }
}

/// A policy as a slot's head has it; 0 is the default policy.
fn memory_code(memory: &UserMemory) -> u32 {
    let kind = match memory.policy {
        MemoryPolicy::Default => return 0,
        MemoryPolicy::Preferred => 1,
        MemoryPolicy::PreferredMany => 2,
        MemoryPolicy::Bind => 3,
        MemoryPolicy::Interleave => 4,
    };
    kind | if memory.is_local { MEMORY_LOCAL } else { 0 }
}

fn memory_of_code(code: u32, nodes: NodeSet) -> Option<UserMemory> {
    let policy = match code & !MEMORY_LOCAL {
        1 => MemoryPolicy::Preferred,
        2 => MemoryPolicy::PreferredMany,
        3 => MemoryPolicy::Bind,
        4 => MemoryPolicy::Interleave,
        _ => return None,
    };
    Some(UserMemory {
        policy,
        nodes,
        is_local: code & MEMORY_LOCAL != 0,
    })
}

/// The low half of a word.
fn low(word: u64) -> u32 {
    u32::try_from(word & 0xffff_ffff).unwrap_or(0)
}
