//! Others' text in messages.

/// A user's word for a message: control characters escaped, cut at 60 characters.
pub fn printable(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

/// A message that quotes others' text, as one line of at most 2,000 characters that cannot act on a terminal.
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars().take(2_000) {
        // Directional overrides and the like are no control characters to Rust, and are to a reader.
        if c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            line.extend(c.escape_debug());
        } else {
            line.push(c);
        }
    }
    line
}
