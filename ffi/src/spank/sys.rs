//! Raw declarations of `slurm/spank.h`, as far as they are used.
//!
//! `tests/declarations.rs` compares each with the header of the Slurm that is installed.

use std::ffi::{c_char, c_int, c_void};

/// `spank_t`: opaque.
pub type SpankHandle = *mut c_void;

/// `spank_err_t`.
pub type SpankErr = c_int;
/// `ESPANK_SUCCESS`.
pub const ESPANK_SUCCESS: SpankErr = 0;
/// `ESPANK_BAD_ARG`: an argument that cannot be taken.
pub const ESPANK_BAD_ARG: SpankErr = 3001;
/// `ESPANK_ENV_NOEXIST`: the variable is not in the job's environment.
pub const ESPANK_ENV_NOEXIST: SpankErr = 3004;
/// `ESPANK_NOSPACE`: the buffer is too small.
pub const ESPANK_NOSPACE: SpankErr = 3005;

/// `spank_context_t`.
pub type SpankContext = c_int;
/// `S_CTX_LOCAL`: srun.
pub const S_CTX_LOCAL: SpankContext = 1;
/// `S_CTX_REMOTE`: slurmstepd.
pub const S_CTX_REMOTE: SpankContext = 2;
/// `S_CTX_ALLOCATOR`: sbatch, salloc.
pub const S_CTX_ALLOCATOR: SpankContext = 3;
/// `S_CTX_SLURMD`: slurmd.
pub const S_CTX_SLURMD: SpankContext = 4;

/// `spank_item_t`.
pub type SpankItem = c_int;
/// `S_JOB_UID`: `uid_t *`.
pub const S_JOB_UID: SpankItem = 0;
/// `S_JOB_ID`: `uint32_t *`.
pub const S_JOB_ID: SpankItem = 2;
/// `S_JOB_STEPID`: `uint32_t *`.
pub const S_JOB_STEPID: SpankItem = 3;
/// `S_JOB_NNODES`: `uint32_t *`.
pub const S_JOB_NNODES: SpankItem = 4;
/// `S_JOB_NODEID`: `uint32_t *`.
pub const S_JOB_NODEID: SpankItem = 5;
/// `S_JOB_LOCAL_TASK_COUNT`: `uint32_t *`.
pub const S_JOB_LOCAL_TASK_COUNT: SpankItem = 6;
/// `S_TASK_ID`: local task id, `int *`.
pub const S_TASK_ID: SpankItem = 11;
/// `S_STEP_CPUS_PER_TASK`: `uint32_t *`; 1 under `--overcommit`.
pub const S_STEP_CPUS_PER_TASK: SpankItem = 24;
/// `S_STEP_ALLOC_CORES`: list of abstract core numbers, `char **`.
pub const S_STEP_ALLOC_CORES: SpankItem = 27;

/// `SLURM_BATCH_SCRIPT`: the step id of a batch script.
pub const STEP_BATCH: u32 = 0xffff_fffb;
/// `SLURM_INTERACTIVE_STEP`: the step id of salloc's interactive step.
pub const STEP_INTERACTIVE: u32 = 0xffff_fffa;
/// `SLURM_EXTERN_CONT`: the step id of the extern step.
pub const STEP_EXTERN: u32 = 0xffff_fffc;

/// `spank_opt_cb_f`.
pub type OptionCallback = unsafe extern "C" fn(c_int, *const c_char, c_int) -> c_int;

/// `struct spank_option`.
#[repr(C)]
pub struct SpankOption {
    /// Long option.
    pub name: *mut c_char,
    /// One word for the argument.
    pub arginfo: *mut c_char,
    /// Help text.
    pub usage: *mut c_char,
    /// 0 no argument, 1 required, 2 optional.
    pub has_arg: c_int,
    /// Given back to the callback.
    pub val: c_int,
    /// Called for each use.
    pub cb: Option<OptionCallback>,
}

unsafe extern "C" {
    /// `spank_context`.
    pub fn spank_context() -> SpankContext;
    /// `spank_option_register`.
    pub fn spank_option_register(spank: SpankHandle, option: *mut SpankOption) -> SpankErr;
    /// `spank_get_item`.
    pub fn spank_get_item(spank: SpankHandle, item: SpankItem, ...) -> SpankErr;
    /// `spank_getenv`.
    pub fn spank_getenv(
        spank: SpankHandle,
        var: *const c_char,
        buf: *mut c_char,
        len: c_int,
    ) -> SpankErr;
    /// `spank_setenv`.
    pub fn spank_setenv(
        spank: SpankHandle,
        var: *const c_char,
        val: *const c_char,
        overwrite: c_int,
    ) -> SpankErr;
    /// `spank_unsetenv`.
    pub fn spank_unsetenv(spank: SpankHandle, var: *const c_char) -> SpankErr;
    /// `slurm_error`: to slurmd's log, and in a task to the user's stderr.
    pub fn slurm_error(format: *const c_char, ...);
    /// `slurm_info`: to slurmd's log.
    pub fn slurm_info(format: *const c_char, ...);
    /// `slurm_debug`: to slurmd's log at SlurmdDebug=debug.
    pub fn slurm_debug(format: *const c_char, ...);
    /// `slurm_spank_log`: to the user's stderr, without a prefix.
    pub fn slurm_spank_log(format: *const c_char, ...);
}
