//! Numbers as a person reads them.

use topology::quantity::size;

/// `once`, `twice`, `3 times`; with a fraction where it is none of these.
pub(crate) fn times(count: f64) -> String {
    match count {
        1.0 => "once".to_owned(),
        2.0 => "twice".to_owned(),
        whole if whole.fract() == 0.0 => format!("{whole:.0} times"),
        part => format!("{part:.1} times"),
    }
}

/// `of 512 MiB`, `of 4 KiB to 512 MiB`.
pub(crate) fn span(least: u64, most: u64) -> String {
    if least == most {
        format!("of {}", size(least))
    } else {
        format!("of {} to {}", size(least), size(most))
    }
}

/// A whole amount of a product that has a fraction, in bytes.
pub(crate) fn scaled(bytes: u64, factor: f64) -> u64 {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an amount for a person: 53 bits are enough, and a cast to u64 saturates"
    )]
    let product = (bytes as f64 * factor).round().max(0.0) as u64;
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_of_one_size_is_that_size() {
        assert_eq!(span(1024, 1024), "of 1 KiB");
        assert_eq!(span(1024, 2048), "of 1 KiB to 2 KiB");
    }

    #[test]
    fn times_are_words_where_there_is_one() {
        assert_eq!(times(2.0), "twice");
        assert_eq!(times(4.0), "4 times");
        assert_eq!(times(1.5), "1.5 times");
    }
}
