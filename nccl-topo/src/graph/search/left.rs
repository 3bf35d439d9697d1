//! What is left of links, as NCCL rounds it.

/// What is left of each link's bandwidth, in GB/s, by link.
pub(super) struct Left(pub(super) Vec<f32>);

impl Left {
    /// What is left of a link, in GB/s.
    pub(super) fn of(&self, link: usize) -> f32 {
        self.0.get(link).copied().unwrap_or_default()
    }

    pub(super) fn has(&self, link: usize, wanted: f32) -> bool {
        self.0.get(link).is_some_and(|left| *left >= wanted)
    }

    pub(super) fn subtract(&mut self, link: usize, wanted: f32) {
        if let Some(left) = self.0.get_mut(link) {
            *left = less(*left, wanted);
        }
    }
}

/// What is left after a bandwidth is taken, as NCCL rounds it (`SUB_ROUND`).
pub(super) fn less(left: f32, wanted: f32) -> f32 {
    rounded((left - wanted) * 1000.0) / 1000.0
}

/// Whether NCCL's rounding does not change a bandwidth.
#[expect(clippy::float_cmp, reason = "whether it is the same")]
pub(super) fn is_whole(bandwidth: f32) -> bool {
    less(bandwidth, 0.0) == bandwidth
}

/// To the nearest whole number, halves away from zero (`roundf`), without a call of the C library, of which a search
/// would make hundreds of thousands.
fn rounded(number: f32) -> f32 {
    // From here on every number is whole.
    const WHOLE: f32 = 8_388_608.0;
    if number.abs() >= WHOLE || number.is_nan() {
        return number;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "below 2^23, as the line above says"
    )]
    let whole = number as i32;
    #[expect(clippy::cast_precision_loss, reason = "below 2^23")]
    let whole = whole as f32;
    let rest = number - whole;
    if rest >= 0.5 {
        whole + 1.0
    } else if rest <= -0.5 {
        whole - 1.0
    } else {
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_by_the_c_library() {
        let mut number = 0.000_1_f32;
        while number < 1e9 {
            for near in [number, number.trunc() + 0.5, number.next_down(), -number] {
                assert_eq!(
                    rounded(near).to_bits(),
                    (near.round() + 0.0).to_bits(),
                    "{near}"
                );
            }
            number *= 1.003;
        }
    }
}
