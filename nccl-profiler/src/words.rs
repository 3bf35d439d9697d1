//! Numbers as a person reads them.

/// `once`, `twice`, `3 times`; with a fraction where it is none of these.
pub(crate) fn times(count: f64) -> String {
    match count {
        1.0 => "once".to_owned(),
        2.0 => "twice".to_owned(),
        whole if whole.fract() == 0.0 => format!("{whole:.0} times"),
        part => format!("{part:.1} times"),
    }
}

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// A size with its unit: `512 MiB`, `1.5 KiB`.
pub(crate) fn size(bytes: u64) -> String {
    let mut unit = 0;
    let mut whole = bytes;
    while whole >= 1024 && whole.is_multiple_of(1024) && unit + 1 < UNITS.len() {
        whole /= 1024;
        unit += 1;
    }
    if whole < 1024 || unit + 1 == UNITS.len() {
        return format!("{whole} {}", UNITS.get(unit).copied().unwrap_or("B"));
    }
    volume(bytes)
}

/// An amount with one place after the point: `35.0 GiB`.
pub(crate) fn volume(bytes: u64) -> String {
    let mut unit = 0;
    let mut scale = 1u64;
    while bytes / scale >= 1024 && unit + 1 < UNITS.len() {
        scale *= 1024;
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes} B");
    }
    let tenths = u128::from(bytes) * 10 / u128::from(scale);
    format!(
        "{}.{} {}",
        tenths / 10,
        tenths % 10,
        UNITS.get(unit).copied().unwrap_or("B")
    )
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
    fn sizes_are_exact_or_have_one_place() {
        assert_eq!(size(512 << 20), "512 MiB");
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1000), "1000 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(4 << 40), "4 TiB");
        assert_eq!(volume(35 << 30), "35.0 GiB");
        assert_eq!(volume(u64::MAX), "16383.9 PiB");
        assert_eq!(span(1024, 2048), "of 1 KiB to 2 KiB");
    }

    #[test]
    fn times_are_words_where_there_is_one() {
        assert_eq!(times(2.0), "twice");
        assert_eq!(times(4.0), "4 times");
        assert_eq!(times(1.5), "1.5 times");
    }
}
