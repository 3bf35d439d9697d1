//! Numbers as a person reads them.

use topology::quantity::size;

/// `once`, `twice`, `3 times`.
pub(crate) fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
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
        assert_eq!(times(2), "twice");
        assert_eq!(times(4), "4 times");
    }
}
