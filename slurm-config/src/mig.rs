//! The types by which Slurm's configuration names MIG instances.

/// Whether a type names a MIG profile (`1g.10gb`, `a100_4g.40gb`, `h100_1g.12gb+me`, `1g.24gb-me`, `1c.2g.20gb`): such devices are parts of a
/// GPU, so their number says nothing about the number of GPUs.
pub fn is_mig_type(kind: &str) -> bool {
    let lower = kind.to_ascii_lowercase();
    let profile = lower.rsplit('_').next().unwrap_or_default();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A compute instance has the slices of its own before those of the GPU instance.
    let own = profile
        .split_once("c.")
        .filter(|(slices, _)| is_number(slices));
    let profile = own.map_or(profile, |(_, rest)| rest);
    profile.split_once("g.").is_some_and(|(slices, memory)| {
        let memory = memory.split(['+', '-']).next().unwrap_or_default();
        is_number(slices) && memory.strip_suffix("gb").is_some_and(is_number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mig_profiles_are_told_from_models() {
        for kind in [
            "1g.10gb",
            "a100_4g.40gb",
            "h100_1g.12gb+me",
            "NVIDIA_A100_3G.20GB",
            "nvidia_rtx_pro_6000_1g.24gb-me",
            "1c.2g.20gb",
            "1g.23gb+me.all",
        ] {
            assert!(is_mig_type(kind), "{kind}");
        }
        for kind in ["h100", "a100_80gb", "l40s", "g.10gb", "1g.gb", "1g.10", ""] {
            assert!(!is_mig_type(kind), "{kind}");
        }
    }
}
