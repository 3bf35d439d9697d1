//! The targets of `gpu_numa_fuzz` under libFuzzer; `GPU_NUMA_FUZZ_TARGET` names the one.
#![no_main]

use std::sync::LazyLock;

use gpu_numa_fuzz::Target;

/// Read once: libFuzzer's own threads never change the environment.
static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("GPU_NUMA_FUZZ_TARGET").unwrap_or_default();
    Target::named(&name).expect("GPU_NUMA_FUZZ_TARGET names no target")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.check)(bytes));
