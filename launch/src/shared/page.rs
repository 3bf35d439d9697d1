//! The page that the tasks of a step on one host share: what GPUs and CPUs each has, who is there, and what is
//! decided for each.
//!
//! Each task writes its slot, then counts itself in.  The one that finds itself the last decides for all: it writes
//! what each is to do, and wakes the others once.  The first that gives up waiting for a task that has not come closes
//! the page, and then every task plans alone.
//!
//! Whether all are in or the page is closed is settled by one word, so never both.  Once all are in, what each told is
//! in the page, and the decision is a function of that: where the one that decides is late or gone, each of the others
//! comes to the same decision by itself.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ffi::errno::Errno;
use ffi::linux::shared::SharedWords;
use topology::binding::{MemoryPolicy, TaskRequest, UserMemory};
use topology::machine::{Gpu, Machine};
use topology::set::{CpuSet, NodeSet};

use super::{SharedMemory, Word};

/// Where the state is: how many are in, and these two flags.
const STATE: usize = 0;
/// Set in the state once somebody gave up waiting.
const CLOSED: u32 = 1 << 31;
/// Set in the state of a closed page once a task refused the step.
const REFUSED: u32 = 1 << 30;
/// Where the time is at which the last task came, in microseconds since the step was prepared.
const ARRIVED: usize = 1;
/// Where it is said how the meeting ended; the tasks sleep on this word, in a cache line that arrivals leave alone.
const OUTCOME: usize = 16;
/// Where 1 is once a task spoke for all that plan alone.
const SPOKEN: usize = 17;
/// Words before the first slot.
const HEADER: usize = 32;

/// The meeting has not ended.
const OPEN: u32 = 0;
/// What each task is to do is in the page.
const ORDERED: u32 = 1;
/// All are in, and each decides by itself on what is in the page.
const KNOWN: u32 = 2;
/// Not all came.
const APART: u32 = 3;

/// In the first word of a slot, besides the number of GPUs: the task has written.
const PRESENT: u32 = 1 << 31;
const USER_CPU_BIND: u32 = 1 << 16;
/// The task came with a memory policy, whose number is at [`MEMORY_SHIFT`].
const USER_MEMORY: u32 = 1 << 17;
/// That policy follows the CPUs.
const MEMORY_IS_LOCAL: u32 = 1 << 18;
/// The task may open every GPU of the host.
const SEES_ALL_GPUS: u32 = 1 << 19;
const MEMORY_SHIFT: u32 = 20;

/// Words of an order before its sets: flags, where its texts are, and how long they are.
const ORDER_HEAD: usize = 4;
const IS_WHOLE: u32 = 1 << 31;
const IS_REFUSED: u32 = 1 << 8;
const BINDS_CPUS: u32 = 1 << 9;
const BINDS_MEMORY: u32 = 1 << 10;
const SETS_TOPOLOGY: u32 = 1 << 11;
const SETS_PROFILER: u32 = 1 << 12;
const KEEPS_STILL: u32 = 1 << 13;
/// The memory policies by their number, in a slot and in the low bits of an order's flags.
const POLICIES: [MemoryPolicy; 5] = [
    MemoryPolicy::Default,
    MemoryPolicy::Preferred,
    MemoryPolicy::PreferredMany,
    MemoryPolicy::Bind,
    MemoryPolicy::Interleave,
];
const POLICY_BITS: u32 = 0xff;

/// The most tasks a page is made for.
const MAX_TASKS: usize = 4096;
/// Bytes that a task's texts have on average; memory that is not written costs nothing.
const TEXT_BYTES: usize = 4096;
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

/// What is decided for a task: what it is to set, and what it is to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// The step is refused.
    pub is_refused: bool,
    /// The CPUs to bind to; none where they stay.
    pub cpus: Option<CpuSet>,
    /// The memory policy to set, and its nodes; none where it stays.
    pub memory: Option<(MemoryPolicy, NodeSet)>,
    /// Whether NCCL's topology file is to be named.
    pub sets_topology: bool,
    /// Whether NCCL's profiler plugin is to be named.
    pub sets_profiler: bool,
    /// Whether programs are to be asked to leave its binding alone.
    pub keeps_still: bool,
    /// What it says, lines with a newline between.
    pub lines: String,
    /// Its report; empty where its environment is left as it is.
    pub report: String,
}

/// How the tasks of a step met.
#[derive(Debug)]
pub enum Meeting<'p, M: SharedMemory> {
    /// All are in, and this one is to decide for all.
    Decides(Decider<'p, M>),
    /// What this one is to do is in the page: [`Page::order`].
    Ordered,
    /// All are in, and this one decides by itself on [`Page::read`].
    Known,
    /// Not all came, and this one plans alone.
    Apart,
}

/// The shared page.
#[derive(Debug)]
pub struct Page<M = SharedWords> {
    memory: M,
    layout: Layout,
}

/// How many words each part has.
#[derive(Debug, Clone, Copy)]
struct Layout {
    tasks: usize,
    gpus: usize,
    cpus: usize,
    nodes: usize,
}

impl Layout {
    fn of(tasks: usize, machine: &Machine) -> Self {
        let last_node = machine.numa_nodes.iter().map(|node| node.id).max();
        Self {
            tasks,
            gpus: machine.gpus.iter().map(Gpu::parts).sum(),
            cpus: machine.online.words().len().max(1) * 2,
            nodes: (last_node.unwrap_or(0) as usize / 64 + 1) * 2,
        }
    }

    fn slot(self) -> usize {
        1 + self.gpus + self.nodes + self.cpus
    }

    fn order(self) -> usize {
        ORDER_HEAD + self.cpus + self.nodes
    }

    fn first_order(self) -> usize {
        HEADER + self.slot() * self.tasks
    }

    fn texts(self) -> usize {
        self.first_order() + self.order() * self.tasks
    }
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
        let memory = SharedWords::map(words_for(tasks, machine, TEXT_BYTES))?;
        Ok(Self::over(memory, tasks, machine))
    }
}

/// How many words a page for `tasks` tasks on `machine` has, with room for texts of `text_bytes` per task.
pub fn words_for(tasks: usize, machine: &Machine, text_bytes: usize) -> usize {
    Layout::of(tasks, machine).texts() + tasks * text_bytes.div_ceil(4)
}

impl<M: SharedMemory> Page<M> {
    /// The page in `memory`, of [`words_for`] words.
    pub fn over(memory: M, tasks: usize, machine: &Machine) -> Self {
        Self {
            memory,
            layout: Layout::of(tasks, machine),
        }
    }

    fn word(&self, at: usize) -> Option<&M::Word> {
        self.memory.words().get(at)
    }

    fn slot_of(&self, task: usize) -> Option<&[M::Word]> {
        let len = self.layout.slot();
        let start = HEADER + task.checked_mul(len)?;
        (task < self.layout.tasks).then_some(())?;
        self.memory.words().get(start..start + len)
    }

    fn order_of(&self, task: usize) -> Option<&[M::Word]> {
        let len = self.layout.order();
        let start = self.layout.first_order() + task.checked_mul(len)?;
        (task < self.layout.tasks).then_some(())?;
        self.memory.words().get(start..start + len)
    }

    fn all(&self) -> u32 {
        u32::try_from(self.layout.tasks).unwrap_or(u32::MAX)
    }

    /// Tells what task `task` has, and waits until all have told, or one gave up waiting.
    ///
    /// A task that comes again, having told the same, gets what it got the first time.  One whose GPUs or CPUs the
    /// page has no room for closes it.
    ///
    /// The wait ends 100 ms plus 5 ms a task after the last task came in; on a host so slow that the launch since
    /// `prepared_micros` took longer than that, after as long again.  In any case it ends after two seconds.
    pub fn meet(
        &self,
        task: usize,
        request: &TaskRequest,
        machine: &Machine,
        prepared_micros: u64,
    ) -> Meeting<'_, M> {
        match self.arrive(task, request, machine, prepared_micros) {
            Some(count) if count == self.all() => Meeting::Decides(Decider { page: self }),
            Some(_) => self.wait(prepared_micros),
            None => Meeting::Apart,
        }
    }

    /// Writes a task's slot and counts it in; gives how many are in then (0 for one that came again), or none where
    /// the page is closed, or the slot is another's.
    fn arrive(
        &self,
        task: usize,
        request: &TaskRequest,
        machine: &Machine,
        prepared_micros: u64,
    ) -> Option<u32> {
        let (state, slot) = (self.word(STATE)?, self.slot_of(task));
        let told = self.words_of(request, machine);
        let (Some((head, body)), Some((first, rest))) = (
            slot.and_then(<[_]>::split_first),
            told.as_deref().and_then(<[_]>::split_first),
        ) else {
            // It will never be in, so nobody need wait for it.
            self.close(state);
            return None;
        };
        let order = Ordering::Relaxed;
        if let Err(there) = head.compare_exchange(0, *first, order, order) {
            let is_same = there == *first
                && body
                    .iter()
                    .zip(rest)
                    .all(|(word, own)| word.load(order) == *own);
            return is_same.then_some(0);
        }
        store(body, rest);
        let now = self.memory.now_micros().saturating_sub(prepared_micros);
        if let Some(arrived) = self.word(ARRIVED) {
            arrived.store(u32::try_from(now).unwrap_or(u32::MAX), order);
        }
        count_in(state)
    }

    /// A request as its slot has it; none where there is no room for it.
    fn words_of(&self, request: &TaskRequest, machine: &Machine) -> Option<Vec<u32>> {
        let mut words = vec![0; self.layout.slot()];
        let (head, body) = words.split_first_mut()?;
        let (gpus, sets) = body.split_at_mut_checked(self.layout.gpus)?;
        let (nodes, cpus) = sets.split_at_mut_checked(self.layout.nodes)?;
        let index = |address| machine.gpus.iter().position(|gpu| gpu.pci == address);
        let known = request.visible.iter().filter_map(|address| index(*address));
        let mut count = 0;
        for gpu in known {
            *gpus.get_mut(count)? = u32::try_from(gpu).ok()?;
            count += 1;
        }
        if let Some(mask) = &request.slurm_cpus {
            write_set(cpus, mask.words())?;
        }
        *head = PRESENT | u32::try_from(count).ok().filter(|count| *count <= 0xffff)?;
        if request.user_cpu_bind {
            *head |= USER_CPU_BIND;
        }
        if request.sees_all_gpus {
            *head |= SEES_ALL_GPUS;
        }
        if let Some(memory) = &request.user_memory
            && memory.policy != MemoryPolicy::Default
        {
            let number = POLICIES.iter().position(|known| *known == memory.policy)?;
            *head |= USER_MEMORY | u32::try_from(number).ok()? << MEMORY_SHIFT;
            *head |= if memory.is_local { MEMORY_IS_LOCAL } else { 0 };
            // A node that the machine does not have is left out.
            let _ = write_set(nodes, memory.nodes.words());
        }
        Some(words)
    }

    fn wait(&self, prepared_micros: u64) -> Meeting<'_, M> {
        let (Some(state), Some(outcome)) = (self.word(STATE), self.word(OUTCOME)) else {
            return Meeting::Apart;
        };
        let start = self.memory.now_micros();
        let launch = start.saturating_sub(prepared_micros);
        let patience = launch.max(100_000 + 5_000 * u64::from(self.all()));
        let end = start + LONGEST_WAIT_MICROS;
        let mut now = start;
        loop {
            match outcome.load(Ordering::Acquire) {
                ORDERED => return Meeting::Ordered,
                KNOWN => return Meeting::Known,
                APART => return Meeting::Apart,
                _ => {}
            }
            let seen = state.load(Ordering::Acquire);
            if seen & CLOSED != 0 {
                return Meeting::Apart;
            }
            let arrived = self
                .word(ARRIVED)
                .map_or(0, |word| word.load(Ordering::Relaxed));
            let last = start.max(prepared_micros.saturating_add(u64::from(arrived)));
            let left = (last + patience).min(end).saturating_sub(now);
            if left > 0 {
                self.memory
                    .wait_while(outcome, OPEN, Duration::from_micros(left));
                now = self.memory.now_micros();
            } else if seen >= self.all() {
                // Who decides is late or gone, and all is in the page.
                return Meeting::Known;
            } else if self.close_as(state, seen, CLOSED) {
                return Meeting::Apart;
            }
        }
    }

    /// Closes the page unless all are in.
    fn close(&self, state: &M::Word) {
        let mut seen = state.load(Ordering::Acquire);
        while seen & CLOSED == 0 && seen < self.all() && !self.close_as(state, seen, CLOSED) {
            seen = state.load(Ordering::Acquire);
        }
    }

    /// Closes the page in which `seen` was the state, and wakes all.
    fn close_as(&self, state: &M::Word, seen: u32, flags: u32) -> bool {
        let order = (Ordering::AcqRel, Ordering::Acquire);
        let is_closed = state
            .compare_exchange(seen, seen | flags, order.0, order.1)
            .is_ok();
        if is_closed {
            self.end(APART);
        }
        is_closed
    }

    /// Says how the meeting ended, and wakes all.
    fn end(&self, how: u32) {
        if let Some(outcome) = self.word(OUTCOME) {
            let order = (Ordering::AcqRel, Ordering::Acquire);
            let _ = outcome.compare_exchange(OPEN, how, order.0, order.1);
            self.memory.wake_all(outcome);
        }
    }

    /// Tells all that plan alone that the step is refused, and wakes those that wait; true for the first that does.
    ///
    /// Where all are in, a lone one has nothing to refuse for the others.
    pub fn refuse(&self) -> bool {
        let Some(state) = self.word(STATE) else {
            return false;
        };
        loop {
            let seen = state.load(Ordering::Acquire);
            if seen & REFUSED != 0 || (seen & CLOSED == 0 && seen >= self.all()) {
                return false;
            }
            if self.close_as(state, seen, CLOSED | REFUSED) {
                return true;
            }
        }
    }

    /// Whether another task refused the step.
    pub fn is_refused(&self) -> bool {
        self.word(STATE)
            .is_some_and(|state| state.load(Ordering::Acquire) & REFUSED != 0)
    }

    /// Whether the caller is the one to speak for all tasks that plan alone: true once.
    pub fn may_speak(&self) -> bool {
        self.word(SPOKEN)
            .is_some_and(|spoken| spoken.swap(1, Ordering::Relaxed) == 0)
    }

    /// What every task told; to be read once [`Page::meet`] said that all are in.
    pub fn read(&self, machine: &Machine) -> Vec<TaskRequest> {
        (0..self.layout.tasks)
            .map(|task| {
                self.slot_of(task)
                    .map(|slot| self.read_slot(slot, machine))
                    .unwrap_or_default()
            })
            .collect()
    }

    fn read_slot(&self, slot: &[M::Word], machine: &Machine) -> TaskRequest {
        let words = load(slot);
        let head = words.first().copied().unwrap_or(0);
        let body = words.get(1..).unwrap_or_default();
        let (gpus, sets) = body.split_at_checked(self.layout.gpus).unwrap_or_default();
        let (nodes, cpus) = sets.split_at_checked(self.layout.nodes).unwrap_or_default();
        let policy = POLICIES.get((head >> MEMORY_SHIFT & 7) as usize);
        let memory = policy.filter(|_| head & USER_MEMORY != 0);
        TaskRequest {
            visible: gpus
                .iter()
                .take((head & 0xffff) as usize)
                .filter_map(|at| machine.gpus.get(*at as usize))
                .map(|gpu| gpu.pci)
                .collect(),
            sees_all_gpus: head & SEES_ALL_GPUS != 0,
            slurm_cpus: Some(CpuSet::from_words(&join(cpus))),
            user_cpu_bind: head & USER_CPU_BIND != 0,
            user_memory: memory.map(|policy| UserMemory {
                policy: *policy,
                nodes: NodeSet::from_words(&join(nodes)),
                is_local: head & MEMORY_IS_LOCAL != 0,
            }),
        }
    }

    /// What task `task` is to do; none where there was no room for it in the page, so that it decides by itself on
    /// [`Page::read`].
    pub fn order(&self, task: usize) -> Option<Order> {
        let words = load(self.order_of(task)?);
        let [flags, at, lines, report, sets @ ..] = words.as_slice() else {
            return None;
        };
        let has = |flag| flags & flag != 0;
        let policy = *POLICIES.get((flags & POLICY_BITS) as usize)?;
        let (cpus, nodes) = sets.split_at_checked(self.layout.cpus)?;
        let (lines, report) = self.read_texts(*at as usize, *lines as usize, *report as usize)?;
        has(IS_WHOLE).then(|| Order {
            is_refused: has(IS_REFUSED),
            cpus: has(BINDS_CPUS).then(|| CpuSet::from_words(&join(cpus))),
            memory: has(BINDS_MEMORY).then(|| (policy, NodeSet::from_words(&join(nodes)))),
            sets_topology: has(SETS_TOPOLOGY),
            sets_profiler: has(SETS_PROFILER),
            keeps_still: has(KEEPS_STILL),
            lines,
            report,
        })
    }

    /// Two texts of `first` and `second` bytes.
    fn read_texts(&self, at: usize, first: usize, second: usize) -> Option<(String, String)> {
        let len = first.checked_add(second)?;
        let start = self.layout.texts().checked_add(at)?;
        let words = self
            .memory
            .words()
            .get(start..start.checked_add(len.div_ceil(4))?)?;
        let mut bytes = vec![0; words.len() * 4];
        let (places, _) = bytes.as_chunks_mut();
        for (place, word) in places.iter_mut().zip(words) {
            *place = word.load(Ordering::Relaxed).to_le_bytes();
        }
        bytes.truncate(len);
        let rest = bytes.split_off(first.min(len));
        Some((
            String::from_utf8(bytes).ok()?,
            String::from_utf8(rest).ok()?,
        ))
    }

    /// Writes an order whose texts go to `at`; gives where the next ones go, or none where there is no room.
    fn write_order(&self, task: usize, order: &Order, at: usize) -> Option<usize> {
        let mut words = vec![0; self.layout.order()];
        let (head, sets) = words.split_at_mut_checked(ORDER_HEAD)?;
        let (cpus, nodes) = sets.split_at_mut_checked(self.layout.cpus)?;
        let mut flags = IS_WHOLE;
        if let Some(set) = &order.cpus {
            flags |= BINDS_CPUS;
            write_set(cpus, set.words())?;
        }
        if let Some((policy, set)) = &order.memory {
            let number = POLICIES.iter().position(|known| known == policy)?;
            flags |= BINDS_MEMORY | u32::try_from(number).ok()?;
            write_set(nodes, set.words())?;
        }
        for (is_set, flag) in [
            (order.is_refused, IS_REFUSED),
            (order.sets_topology, SETS_TOPOLOGY),
            (order.sets_profiler, SETS_PROFILER),
            (order.keeps_still, KEEPS_STILL),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        let (lines, report) = (order.lines.len(), order.report.len());
        let start = self.layout.texts().checked_add(at)?;
        let len = lines.checked_add(report)?.div_ceil(4);
        let text = self.memory.words().get(start..start.checked_add(len)?)?;
        let head_words = [
            flags,
            u32::try_from(at).ok()?,
            u32::try_from(lines).ok()?,
            u32::try_from(report).ok()?,
        ];
        head.copy_from_slice(&head_words);
        // Most have no lines.
        let bytes = if order.lines.is_empty() {
            Cow::Borrowed(order.report.as_bytes())
        } else {
            Cow::Owned([order.lines.as_bytes(), order.report.as_bytes()].concat())
        };
        for (word, bytes) in text.iter().zip(bytes.chunks(4)) {
            word.store(pack(bytes), Ordering::Relaxed);
        }
        store(self.order_of(task)?, &words);
        Some(at + len)
    }
}

/// The task that is to decide for all; where it goes without an answer, each decides by itself.
#[derive(Debug)]
pub struct Decider<'p, M: SharedMemory> {
    page: &'p Page<M>,
}

impl<M: SharedMemory> Decider<'_, M> {
    /// Tells each task what it is to do, by local id, and wakes all.
    pub fn publish(self, orders: &[Order]) {
        let mut at = 0;
        for (task, order) in orders.iter().enumerate() {
            at = self.page.write_order(task, order, at).unwrap_or(at);
        }
        self.page.end(ORDERED);
        std::mem::forget(self);
    }
}

impl<M: SharedMemory> Drop for Decider<'_, M> {
    fn drop(&mut self) {
        self.page.end(KNOWN);
    }
}

/// Counts one more task in, and gives how many are in then; none where the page is closed.
fn count_in(state: &impl Word<Value = u32>) -> Option<u32> {
    let mut seen = state.load(Ordering::Acquire);
    while seen & CLOSED == 0 {
        match state.compare_exchange(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Some(seen + 1),
            Err(other) => seen = other,
        }
    }
    None
}

/// Writes words to where zeros are.
fn store(to: &[impl Word<Value = u32>], words: &[u32]) {
    for (to, from) in to.iter().zip(words) {
        if to.load(Ordering::Relaxed) != *from {
            to.store(*from, Ordering::Relaxed);
        }
    }
}

fn load(words: &[impl Word<Value = u32>]) -> Vec<u32> {
    let words = words.iter();
    words.map(|word| word.load(Ordering::Relaxed)).collect()
}

/// Writes a set in halves; none where it is wider than `to`.
#[inline]
fn write_set(to: &mut [u32], set: &[u64]) -> Option<()> {
    for (pair, word) in to.chunks_mut(2).zip(set) {
        for (half, value) in pair.iter_mut().zip([low(*word), low(*word >> 32)]) {
            *half = value;
        }
    }
    (set.len() * 2 <= to.len()).then_some(())
}

/// The words of a set from halves.
fn join(halves: &[u32]) -> Vec<u64> {
    let pairs = halves.chunks(2);
    pairs
        .map(|pair| {
            let half = |at: usize| u64::from(pair.get(at).copied().unwrap_or(0));
            half(0) | half(1) << 32
        })
        .collect()
}

/// Up to four bytes as a word.
fn pack(bytes: &[u8]) -> u32 {
    if let Ok(bytes) = bytes.try_into() {
        return u32::from_le_bytes(bytes);
    }
    let mut word = [0; 4];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u32::from_le_bytes(word)
}

/// The low half of a word.
fn low(word: u64) -> u32 {
    u32::try_from(word & 0xffff_ffff).unwrap_or(0)
}
