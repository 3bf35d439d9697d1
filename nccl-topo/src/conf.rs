//! NCCL's configuration files, which RCCL's are like (`misc/param.cc` `setEnvFile`).

/// What a line sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting<'t> {
    /// Line of the file, from 1.
    pub line: usize,
    /// Its value, with any blanks around it.
    pub value: &'t str,
}

/// The line of a file that sets a variable, which is the first of several; none where none does.
pub fn setting_of<'t>(text: &'t str, variable: &str) -> Option<Setting<'t>> {
    let mut lines = (1..).zip(text.lines());
    lines.find_map(|(line, text)| {
        let (own, value) = text.split_once('=')?;
        // A comment's variable is not one that is asked for.
        (own == variable).then_some(Setting { line, value })
    })
}

/// What a file sets a variable to; none where it does not.
pub fn set_in<'t>(text: &'t str, variable: &str) -> Option<&'t str> {
    setting_of(text, variable).map(|setting| setting.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_counts_and_blanks_are_part_of_a_name() {
        let text = "#NCCL_A=0\n NCCL_A=1\nNCCL_A=2 \r\nNCCL_A=3\nNCCL_B\nNCCL_C==\n";
        assert_eq!(set_in(text, "NCCL_A"), Some("2 "));
        assert_eq!(set_in(text, "NCCL_B"), None);
        assert_eq!(set_in(text, "NCCL_C"), Some("="));
    }
}
