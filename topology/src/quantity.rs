//! Counts and sizes in words, the same in every text that a person reads.

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// `1 GPU`, `2 GPUs`.
pub fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A size that was chosen, exact where it can be: `512 MiB`, `1.5 KiB`.
pub fn size(bytes: u64) -> String {
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

/// An amount that was found, with one place after the point: `35.0 GiB`.
pub fn volume(bytes: u64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        assert_eq!(
            [0, 1, 2].map(|number| count(number, "GPU")),
            ["0 GPUs", "1 GPU", "2 GPUs"]
        );
    }

    #[test]
    fn sizes_are_exact_or_have_one_place() {
        assert_eq!(size(512 << 20), "512 MiB");
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1000), "1000 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(4 << 40), "4 TiB");
        assert_eq!(volume(35 << 30), "35.0 GiB");
        assert_eq!(volume(u64::MAX), "16383.9 PiB");
    }
}
