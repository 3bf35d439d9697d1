//! Bytes as a text and choices.

use std::borrow::Cow;

/// Ends the text: no UTF-8 has this byte.
const END: u8 = 0xff;

/// The text, and after a byte 0xff what else is to be chosen.
pub(crate) fn split(bytes: &[u8]) -> (Cow<'_, str>, Choices<'_>) {
    let mut parts = bytes.splitn(2, |byte| *byte == END);
    let text = parts.next().unwrap_or_default();
    let rest = parts.next().unwrap_or_default();
    (String::from_utf8_lossy(text), Choices(rest))
}

/// Bytes that decide; 0 once there are no more.
pub(crate) struct Choices<'b>(pub(crate) &'b [u8]);

impl Choices<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// A number below `limit`, which is at most 256.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit.max(1)
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
