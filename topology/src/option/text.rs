//! Others' text in messages.

use crate::text::is_printable;

/// A user's word for a message: control characters escaped, cut at 60 characters.
pub fn printable(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

/// A message that quotes others' text, as one line of at most 2,000 characters that cannot act on a terminal: what is
/// not seen as itself is escaped.
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars().take(2_000) {
        if is_printable(c) {
            line.push(c);
        } else {
            line.extend(c.escape_debug());
        }
    }
    line
}
