//! NCCL's configuration files, which RCCL's are like (`misc/param.cc` `setEnvFile`).

/// What a line sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting<'t> {
    /// Line of the file, from 1.
    pub line: usize,
    /// The variable, with any blanks around its name.
    pub variable: &'t str,
    /// Its value, with any blanks around it.
    pub value: &'t str,
}

/// What a file sets, line by line; of a variable the first line counts.
pub fn settings(text: &str) -> impl Iterator<Item = Setting<'_>> {
    let lines = (1..).zip(text.lines());
    lines.filter_map(|(line, text)| {
        let (variable, value) = text.split_once('=')?;
        (!text.starts_with('#')).then_some(Setting {
            line,
            variable,
            value,
        })
    })
}

/// What a file sets a variable to; none where it does not.
pub fn set_in<'t>(text: &'t str, variable: &str) -> Option<&'t str> {
    let mut own = settings(text).filter(|setting| setting.variable == variable);
    own.next().map(|setting| setting.value)
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
