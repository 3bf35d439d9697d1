//! What is left of the links in whole thousandths of GB/s.
//!
//! NCCL rounds what is left of a link to thousandths after each step.  Where all links and all that is taken of them
//! are thousandths already, whole numbers say the same, need no rounding, and what is given back leaves all as it was.

use super::known::spread;
use super::left::{Left, is_whole};
use super::links::{ONE_OF, PARTS, Way};
use super::twins::Twins;

/// The plain bandwidth.
const PLAIN: u8 = 0;
/// What goes through an Intel CPU in small packets.
const OVER_PCI: u8 = 1;
/// This much more for the parts of a link back.
const BACK: u8 = 2;

/// A link that a way takes, and which part of the bandwidth.
#[derive(Debug, Clone, Copy)]
struct Taken {
    link: u32,
    part: u8,
}

/// A bandwidth, by the part of it that is taken.
#[derive(Debug, Clone, Copy, Default)]
struct Amount {
    /// In GB/s, as bits.
    bits: u32,
    /// What a link must have left, in thousandths.
    needed: [i32; PARTS],
    /// What is taken of it.
    taken: [i32; PARTS],
}

/// What is left of each link, in thousandths.
#[derive(Debug, Default)]
pub(super) struct Whole {
    left: Vec<i32>,
    /// Where the links of each way begin in `steps`; one more than there are ways.
    starts: Vec<u32>,
    /// How many steps each way has; a link back is no step.
    lengths: Vec<u16>,
    steps: Vec<Taken>,
    /// For each way the sum of its links' factors in `as_number`, by part.
    factors: Vec<[u64; PARTS]>,
    amounts: [Amount; 3],
    /// All that is left in one number: the same for the same.
    pub(super) as_number: u64,
    /// The same for places that are alike, where that can be told.
    pub(super) twins: Option<Twins>,
}

impl Whole {
    /// All ways of a machine.
    pub(super) fn of(ways: &[Way], bandwidths: &[f32], twins: Option<Twins>) -> Self {
        let factor: Vec<u64> = (0..bandwidths.len()).map(|link| spread(link) | 1).collect();
        let mut whole = Self {
            starts: vec![0],
            twins,
            ..Self::default()
        };
        for way in ways {
            let mut factors = [0_u64; PARTS];
            for step in &way.steps {
                let own = if way.intel && step.pci {
                    OVER_PCI
                } else {
                    PLAIN
                };
                let back = step.back.map(|(link, _)| (link, own + BACK));
                for (link, part) in [(step.link, own)].into_iter().chain(back) {
                    whole.steps.push(Taken {
                        link: u32::try_from(link).unwrap_or(u32::MAX),
                        part,
                    });
                    if let Some(sum) = factors.get_mut(usize::from(part)) {
                        *sum = sum.wrapping_add(factor.get(link).copied().unwrap_or_default());
                    }
                }
            }
            whole.factors.push(factors);
            let first = whole.starts.last().copied().unwrap_or_default() as usize;
            if let Some(twins) = &mut whole.twins {
                let own = whole.steps.get(first..).unwrap_or_default().iter();
                twins.add_way(own.map(|step| (step.link as usize, usize::from(step.part))));
            }
            whole
                .starts
                .push(u32::try_from(whole.steps.len()).unwrap_or(u32::MAX));
            whole
                .lengths
                .push(u16::try_from(way.steps.len()).unwrap_or(u16::MAX));
        }
        whole
    }

    /// Makes ready for a search that takes these bandwidths and begins with this left; whether whole numbers can say
    /// what it does.
    pub(super) fn begin(&mut self, left: &Left, bandwidths: [f32; 3]) -> bool {
        self.as_number = 0;
        if let Some(twins) = &mut self.twins {
            twins.begin();
        }
        self.left.clear();
        self.left
            .extend(left.0.iter().map(|left| thousandths(*left)));
        for (amount, bandwidth) in self.amounts.iter_mut().zip(bandwidths) {
            let over_pci = bandwidth * 6.0 / 5.0;
            let parts = [bandwidth, over_pci, bandwidth / ONE_OF, over_pci / ONE_OF];
            amount.bits = bandwidth.to_bits();
            for (part, wanted) in parts.into_iter().enumerate() {
                let is_used = self
                    .factors
                    .iter()
                    .any(|factors| factors.get(part) != Some(&0));
                let taken = thousandths(wanted);
                if is_used && !is_near(wanted, taken) {
                    return false;
                }
                // As floats compare: what is taken may be a little more than so many thousandths.
                let needed = taken + i32::from(in_gb_s(taken) < wanted);
                if let (Some(place), Some(need)) =
                    (amount.taken.get_mut(part), amount.needed.get_mut(part))
                {
                    (*place, *need) = (taken, needed);
                }
            }
        }
        true
    }

    /// Takes a bandwidth of each link of a way, where all have that much; gives how many steps it has.
    pub(super) fn take(&mut self, way: usize, bandwidth: f32) -> Option<usize> {
        let amount = self.amount(bandwidth);
        if !self.has_amount(way, &amount) {
            return None;
        }
        let (start, end) = self.range(way);
        for step in self.steps.get(start..end)? {
            if let (Some(left), Some(taken)) = (
                self.left.get_mut(step.link as usize),
                amount.taken.get(usize::from(step.part)),
            ) {
                *left -= taken;
            }
        }
        if let Some(twins) = &mut self.twins {
            twins.take(way, &amount.taken);
        }
        self.as_number = self.as_number.wrapping_sub(self.change(way, &amount));
        Some(usize::from(
            self.lengths.get(way).copied().unwrap_or_default(),
        ))
    }

    /// Whether each link of a way has a bandwidth left.
    pub(super) fn has(&self, way: usize, bandwidth: f32) -> bool {
        self.has_amount(way, &self.amount(bandwidth))
    }

    fn has_amount(&self, way: usize, amount: &Amount) -> bool {
        let (start, end) = self.range(way);
        let mut steps = self.steps.get(start..end).unwrap_or_default().iter();
        steps.all(|step| {
            let needed = amount.needed.get(usize::from(step.part));
            self.left.get(step.link as usize) >= needed
        })
    }

    /// Gives back what was taken last.
    pub(super) fn give_back(&mut self, way: usize, bandwidth: f32) -> usize {
        let amount = self.amount(bandwidth);
        let (start, end) = self.range(way);
        for step in self.steps.get(start..end).unwrap_or_default() {
            if let (Some(left), Some(taken)) = (
                self.left.get_mut(step.link as usize),
                amount.taken.get(usize::from(step.part)),
            ) {
                *left += taken;
            }
        }
        if let Some(twins) = &mut self.twins {
            twins.give_back();
        }
        self.as_number = self.as_number.wrapping_add(self.change(way, &amount));
        usize::from(self.lengths.get(way).copied().unwrap_or_default())
    }

    /// What is left of a link, in thousandths of GB/s.
    pub(super) fn left_of(&self, link: usize) -> i32 {
        self.left.get(link).copied().unwrap_or_default()
    }

    fn range(&self, way: usize) -> (usize, usize) {
        match self.starts.get(way..way + 2) {
            Some([start, end]) => (*start as usize, *end as usize),
            _ => (0, 0),
        }
    }

    /// By how much a way changes the number.
    fn change(&self, way: usize, amount: &Amount) -> u64 {
        let factors = self.factors.get(way).copied().unwrap_or_default();
        let all = factors.iter().zip(amount.taken);
        all.fold(0, |sum, (factor, taken)| {
            sum.wrapping_add(factor.wrapping_mul(i64::from(taken).cast_unsigned()))
        })
    }

    fn amount(&self, bandwidth: f32) -> Amount {
        let bits = bandwidth.to_bits();
        let mut amounts = self.amounts.iter();
        amounts
            .find(|amount| amount.bits == bits)
            .copied()
            .unwrap_or_default()
    }
}

fn thousandths(bandwidth: f32) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a bandwidth in GB/s, a few thousand at most"
    )]
    let whole = (bandwidth * 1000.0).round() as i32;
    whole
}

fn in_gb_s(thousandths: i32) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "as NCCL's own rounding")]
    let thousandths = thousandths as f32;
    thousandths / 1000.0
}

/// Whether a bandwidth is so many thousandths, but for what a float cannot hold.
fn is_near(bandwidth: f32, thousandths: i32) -> bool {
    is_whole(in_gb_s(thousandths)) && (bandwidth - in_gb_s(thousandths)).abs() < 1e-5
}
