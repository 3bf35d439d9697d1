//! Our declarations of SPANK against the header of the Slurm that is installed.

#![allow(
    clippy::unwrap_used,
    reason = "a header that cannot be read should fail the test"
)]

use std::collections::BTreeMap;
use std::path::Path;

use ffi::spank::sys;

/// Constants and functions that bindgen reads in `slurm/spank.h`.
fn header() -> String {
    let include = "/usr/include";
    assert!(
        Path::new(include).join("slurm/spank.h").exists(),
        "slurm/spank.h is missing; `packaging/needs fast` names the package that has it"
    );
    let bindings = bindgen::Builder::default()
        .header_contents("all.h", "#include <slurm/slurm.h>\n#include <slurm/slurm_errno.h>\n#include <slurm/spank.h>\n")
        .clang_arg(format!("-I{include}"))
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .allowlist_item("(S_.*|ESPANK_.*|SLURM_(BATCH_SCRIPT|INTERACTIVE_STEP|EXTERN_CONT)|spank_.*|slurm_(error|info|debug|spank_log))")
        .generate()
        .unwrap();
    bindings.to_string()
}

fn constants(text: &str) -> BTreeMap<&str, i64> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("pub const ")?.split_once(": "))
        .filter_map(|(name, rest)| {
            let value = rest.split_once("= ")?.1.trim_end_matches(';');
            Some((name, value.parse().ok()?))
        })
        .collect()
}

#[test]
fn constants_are_those_of_the_installed_header() {
    let header = header();
    let constants = constants(&header);
    for (name, ours) in [
        ("ESPANK_SUCCESS", i64::from(sys::ESPANK_SUCCESS)),
        ("ESPANK_ENV_NOEXIST", sys::ESPANK_ENV_NOEXIST.into()),
        ("ESPANK_NOSPACE", sys::ESPANK_NOSPACE.into()),
        ("S_CTX_LOCAL", sys::S_CTX_LOCAL.into()),
        ("S_CTX_REMOTE", sys::S_CTX_REMOTE.into()),
        ("S_CTX_ALLOCATOR", sys::S_CTX_ALLOCATOR.into()),
        ("S_CTX_SLURMD", sys::S_CTX_SLURMD.into()),
        ("S_JOB_UID", sys::S_JOB_UID.into()),
        ("S_JOB_ID", sys::S_JOB_ID.into()),
        ("S_JOB_STEPID", sys::S_JOB_STEPID.into()),
        ("S_JOB_NNODES", sys::S_JOB_NNODES.into()),
        ("S_JOB_NODEID", sys::S_JOB_NODEID.into()),
        ("S_JOB_LOCAL_TASK_COUNT", sys::S_JOB_LOCAL_TASK_COUNT.into()),
        ("S_TASK_ID", sys::S_TASK_ID.into()),
        ("S_STEP_CPUS_PER_TASK", sys::S_STEP_CPUS_PER_TASK.into()),
        ("S_STEP_ALLOC_CORES", sys::S_STEP_ALLOC_CORES.into()),
        ("SLURM_BATCH_SCRIPT", sys::STEP_BATCH.into()),
        ("SLURM_INTERACTIVE_STEP", sys::STEP_INTERACTIVE.into()),
        ("SLURM_EXTERN_CONT", sys::STEP_EXTERN.into()),
    ] {
        assert_eq!(constants.get(name), Some(&ours), "{name}");
    }
}

#[test]
fn functions_and_the_option_struct_are_those_of_the_installed_header() {
    let header = header();
    let flat: String = header.split_whitespace().collect::<Vec<_>>().join(" ");
    for signature in [
        "pub fn spank_context() -> spank_context_t",
        "pub fn spank_option_register(spank: spank_t, opt: *mut spank_option) -> spank_err_t",
        "pub fn spank_get_item(spank: spank_t, item: spank_item_t, ...) -> spank_err_t",
        "pub fn spank_unsetenv( spank: spank_t, var: *const ::std::os::raw::c_char, ) -> spank_err_t",
        "pub fn slurm_spank_log(arg1: *const ::std::os::raw::c_char, ...)",
        "pub fn slurm_error(format: *const ::std::os::raw::c_char, ...)",
        "pub name: *mut ::std::os::raw::c_char, pub arginfo: *mut ::std::os::raw::c_char, \
         pub usage: *mut ::std::os::raw::c_char, pub has_arg: ::std::os::raw::c_int, \
         pub val: ::std::os::raw::c_int, pub cb: spank_opt_cb_f,",
    ] {
        let loose = |text: &str| text.replace(", )", ")").replace("( ", "(");
        assert!(
            loose(&flat).contains(&loose(signature)),
            "{signature}\n{header}"
        );
    }
    assert_eq!(size_of::<sys::SpankOption>(), 40);
}
