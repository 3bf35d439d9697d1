//! What a task told of itself, in the two words that it has in the page of outcomes.

use crate::binding::{MemoryPolicy, Verdict};
use crate::nics::NicPath;

/// What a task got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskVerdict {
    /// A task with GPUs.
    Gpus(Verdict),
    /// It sees no GPU.
    NoGpu,
}

impl TaskVerdict {
    /// Whether it has GPUs.
    pub fn has_gpus(self) -> bool {
        matches!(self, Self::Gpus(_))
    }

    /// Its place among the words of its label.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Gpus(Verdict::Local) => 0,
            Self::Gpus(Verdict::Spanning) => 1,
            Self::Gpus(Verdict::Partial) => 2,
            Self::Gpus(Verdict::Remote) => 3,
            Self::Gpus(Verdict::Unbound) => 4,
            Self::Gpus(Verdict::Refused) => 5,
            Self::NoGpu => 6,
        }
    }
}

/// All, by their number.
const VERDICTS: [TaskVerdict; 7] = [
    TaskVerdict::Gpus(Verdict::Local),
    TaskVerdict::Gpus(Verdict::Spanning),
    TaskVerdict::Gpus(Verdict::Partial),
    TaskVerdict::Gpus(Verdict::Remote),
    TaskVerdict::Gpus(Verdict::Unbound),
    TaskVerdict::Gpus(Verdict::Refused),
    TaskVerdict::NoGpu,
];
/// All, by their number.
const MEMORY: [MemoryPolicy; 5] = [
    MemoryPolicy::Default,
    MemoryPolicy::Preferred,
    MemoryPolicy::PreferredMany,
    MemoryPolicy::Bind,
    MemoryPolicy::Interleave,
];
/// All, by their number.
const PATHS: [NicPath; 7] = [
    NicPath::OneSwitch,
    NicPath::Switches,
    NicPath::HostBridge,
    NicPath::Node,
    NicPath::Package,
    NicPath::SocketLink,
    NicPath::Unknown,
];

/// The place of a memory policy among all.
pub(super) fn memory_index(policy: MemoryPolicy) -> usize {
    match policy {
        MemoryPolicy::Default => 0,
        MemoryPolicy::Preferred => 1,
        MemoryPolicy::PreferredMany => 2,
        MemoryPolicy::Bind => 3,
        MemoryPolicy::Interleave => 4,
    }
}

/// Set in the first word once something was told.
const PRESENT: u32 = 1 << 31;
/// Set in the second word once the task's hook came to its end.
const DONE: u32 = 1 << 31;
const CPUS_REFUSED: u32 = 1 << 30;
const MEMORY_REFUSED: u32 = 1 << 29;
/// The microseconds in the second word.
const MICROS: u32 = (1 << 24) - 1;
/// The longest that is believed of a hook: more than it can take (a wait ends after two seconds).
const LONGEST_MICROS: u32 = 10_000_000;
/// In the first word, beside three numbers of four bits.
const IS_BOUND: u32 = 1 << 16;

/// What a task told of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskTold {
    /// What it got.
    pub verdict: TaskVerdict,
    /// Whether its CPUs were set.
    pub is_bound: bool,
    /// The memory policy that was set; none where that is as the task came.
    pub memory: Option<MemoryPolicy>,
    /// What lies between its GPUs and its NICs.
    pub nic: NicPath,
    /// Whether the kernel refused the CPUs.
    pub cpus_refused: bool,
    /// Whether the kernel refused the memory policy.
    pub memory_refused: bool,
    /// How long its hook took.
    pub micros: u32,
}

impl TaskTold {
    /// The first word: what was decided for it, which whoever decides may write.
    pub fn decided_word(&self) -> u32 {
        let number = |index: usize| u32::try_from(index).unwrap_or(0);
        let memory = self.memory.map_or(0, |policy| 1 + memory_index(policy));
        PRESENT
            | number(self.verdict.index())
            | number(memory) << 4
            | number(super::nic_index(self.nic)) << 8
            | if self.is_bound { IS_BOUND } else { 0 }
    }

    /// The second word: what the task itself knows at the end of its hook.
    pub fn done_word(&self) -> u32 {
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        DONE | flag(self.cpus_refused, CPUS_REFUSED)
            | flag(self.memory_refused, MEMORY_REFUSED)
            | self.micros.min(LONGEST_MICROS)
    }

    /// What a task told; none where its hook did not come to its end, or where no task of ours writes such words.
    ///
    /// They come from a process of the user: each is one of what is known, or nothing.
    pub fn read(decided: u32, done: u32) -> Option<Self> {
        let number = |shift: u32| (decided >> shift & 0xf) as usize;
        let known = PRESENT | IS_BOUND | 0xfff;
        let verdict = *VERDICTS.get(number(0))?;
        let memory = match number(4) {
            0 => None,
            policy => Some(*MEMORY.get(policy - 1)?),
        };
        let nic = *PATHS.get(number(8))?;
        let micros = done & MICROS;
        let is_whole = decided & PRESENT != 0
            && decided & !known == 0
            && done & DONE != 0
            && done & !(DONE | CPUS_REFUSED | MEMORY_REFUSED | MICROS) == 0
            && micros <= LONGEST_MICROS;
        is_whole.then_some(Self {
            verdict,
            is_bound: decided & IS_BOUND != 0 && done & CPUS_REFUSED == 0,
            memory: memory.filter(|_| done & MEMORY_REFUSED == 0),
            nic,
            cpus_refused: done & CPUS_REFUSED != 0,
            memory_refused: done & MEMORY_REFUSED != 0,
            micros,
        })
    }
}
