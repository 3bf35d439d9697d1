//! Safe calls on the handle that Slurm gives each hook.

use std::ffi::{CStr, CString, c_char, c_int};
use std::marker::PhantomData;
use std::ptr;

use super::sys;

/// The process that loaded the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// srun.
    Local,
    /// slurmstepd.
    Remote,
    /// sbatch or salloc.
    Allocator,
    /// slurmd.
    Slurmd,
    /// A prolog or epilog, or one that this list does not know.
    Other,
}

/// The context of the calling process.
pub fn context() -> Context {
    // SAFETY: no argument, no precondition.
    match unsafe { sys::spank_context() } {
        sys::S_CTX_LOCAL => Context::Local,
        sys::S_CTX_REMOTE => Context::Remote,
        sys::S_CTX_ALLOCATOR => Context::Allocator,
        sys::S_CTX_SLURMD => Context::Slurmd,
        _ => Context::Other,
    }
}

/// A call that Slurm refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: Slurm answers {code}")]
pub struct SpankError {
    /// Function and argument.
    pub call: String,
    /// `ESPANK_*`.
    pub code: i32,
}

/// The handle of one hook call; it does not outlive the hook.
#[derive(Debug)]
pub struct Spank<'hook> {
    handle: sys::SpankHandle,
    hook: PhantomData<&'hook ()>,
}

/// The longest environment value that is read, in bytes.
const LONGEST_VALUE: usize = 1 << 20;

/// Bytes of a text that needs no allocation: as many as a name or a path has.
const SHORT_TEXT: usize = 128;

/// A text with a NUL at its end, without an allocation where it is short.
enum CText {
    Short([u8; SHORT_TEXT]),
    Long(CString),
}

impl CText {
    /// None where a NUL is in the text.
    #[inline]
    fn new(text: &str) -> Option<Self> {
        let mut short = [0; SHORT_TEXT];
        // One byte at least stays the NUL.
        let place = short.get_mut(..text.len());
        let made = match place.filter(|_| text.len() < SHORT_TEXT) {
            Some(place) => {
                place.copy_from_slice(text.as_bytes());
                Self::Short(short)
            }
            None => Self::Long(CString::new(text).ok()?),
        };
        // SAFETY: the bytes end with a NUL.  The C library looks for the first a vector at a time.
        let length = unsafe { libc::strlen(made.as_ptr()) };
        (length == text.len()).then_some(made)
    }

    fn as_ptr(&self) -> *const c_char {
        match self {
            Self::Short(bytes) => bytes.as_ptr().cast(),
            Self::Long(text) => text.as_ptr(),
        }
    }
}

impl Spank<'_> {
    /// Wraps the handle of a hook.
    ///
    /// # Safety
    /// `handle` is the one that Slurm gave the hook that is running, and the value is dropped before
    /// that hook returns.
    pub unsafe fn new(handle: sys::SpankHandle) -> Self {
        Self {
            handle,
            hook: PhantomData,
        }
    }

    /// An item of type `uint32_t`; none where this context has none.
    fn item_u32(&self, item: sys::SpankItem) -> Option<u32> {
        let mut value = 0u32;
        // SAFETY: the items passed here write one uint32_t (or int, or uid_t: 32 bits each).
        let code = unsafe { sys::spank_get_item(self.handle, item, &raw mut value) };
        (code == sys::ESPANK_SUCCESS).then_some(value)
    }

    /// The job's user.
    pub fn job_uid(&self) -> Option<u32> {
        self.item_u32(sys::S_JOB_UID)
    }

    /// The job's id.
    pub fn job_id(&self) -> Option<u32> {
        self.item_u32(sys::S_JOB_ID)
    }

    /// The step's id; [`sys::STEP_BATCH`] and its kind for the special ones.
    pub fn step_id(&self) -> Option<u32> {
        self.item_u32(sys::S_JOB_STEPID)
    }

    /// How many hosts the job (in a step: the step) has.
    pub fn host_count(&self) -> Option<u32> {
        self.item_u32(sys::S_JOB_NNODES)
    }

    /// This host's number in the job.
    pub fn host_index(&self) -> Option<u32> {
        self.item_u32(sys::S_JOB_NODEID)
    }

    /// Tasks of the step on this host.
    pub fn local_tasks(&self) -> Option<u32> {
        self.item_u32(sys::S_JOB_LOCAL_TASK_COUNT)
    }

    /// This task's number on this host; only in a task.
    pub fn local_id(&self) -> Option<u32> {
        self.item_u32(sys::S_TASK_ID)
    }

    /// `--cpus-per-task` of the step.
    pub fn cpus_per_task(&self) -> Option<u32> {
        self.item_u32(sys::S_STEP_CPUS_PER_TASK)
    }

    /// The step's cores on this host as a list of Slurm's own core numbers, which are not the OS's:
    /// good for counting only.
    pub fn step_cores(&self) -> Option<String> {
        let mut list: *mut c_char = ptr::null_mut();
        // SAFETY: the item writes one char pointer.
        let code =
            unsafe { sys::spank_get_item(self.handle, sys::S_STEP_ALLOC_CORES, &raw mut list) };
        if code != sys::ESPANK_SUCCESS || list.is_null() {
            return None;
        }
        // SAFETY: on success the pointer is to a C string that lives as long as the step.
        Some(
            unsafe { CStr::from_ptr(list) }
                .to_string_lossy()
                .into_owned(),
        )
    }

    /// A variable of the job's (in a task: the task's) environment.
    ///
    /// None where it is not set, or is longer than 1 MiB.  What is not UTF-8 of it is replaced by U+FFFD, so that a value
    /// is not taken for none; [`Spank::env_bytes`] has it whole.
    pub fn env(&self, name: &str) -> Option<String> {
        let value = self.env_bytes(name)?;
        let lossy = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Some(String::from_utf8(value).unwrap_or_else(|error| lossy(error.into_bytes())))
    }

    /// Whether the variable is set, however long its value is.
    pub fn has_env(&self, name: &str) -> bool {
        let Some(name) = CText::new(name) else {
            return false;
        };
        let mut first = 0u8;
        // SAFETY: the name is a C string, the buffer has the one byte that the length says.
        let code =
            unsafe { sys::spank_getenv(self.handle, name.as_ptr(), (&raw mut first).cast(), 1) };
        matches!(code, sys::ESPANK_SUCCESS | sys::ESPANK_NOSPACE)
    }

    /// The same, byte by byte.
    pub fn env_bytes(&self, name: &str) -> Option<Vec<u8>> {
        let name = CText::new(name)?;
        let mut short = [0u8; 256];
        let mut long = Vec::new();
        let mut buffer = short.as_mut_slice();
        loop {
            let len = c_int::try_from(buffer.len()).ok()?;
            // SAFETY: the name is a C string, the buffer has as many bytes as the length says.
            let code = unsafe {
                sys::spank_getenv(self.handle, name.as_ptr(), buffer.as_mut_ptr().cast(), len)
            };
            match code {
                sys::ESPANK_SUCCESS => break,
                sys::ESPANK_NOSPACE if buffer.len() < LONGEST_VALUE => {
                    let more = buffer.len() * 16;
                    long.resize(more, 0);
                    buffer = long.as_mut_slice();
                }
                _ => return None,
            }
        }
        let value = CStr::from_bytes_until_nul(buffer).ok()?;
        Some(value.to_bytes().to_vec())
    }

    /// Sets a variable of the task's environment, over any value it has.
    ///
    /// # Errors
    /// What Slurm answers; a NUL in name or value is refused here, as `ESPANK_BAD_ARG`.
    pub fn set_env(&self, name: &str, value: &str) -> Result<(), SpankError> {
        let failed = |code| SpankError {
            call: format!("spank_setenv({name})"),
            code,
        };
        let (Some(c_name), Some(c_value)) = (CText::new(name), CText::new(value)) else {
            return Err(failed(sys::ESPANK_BAD_ARG));
        };
        // SAFETY: both are C strings that outlive the call, which copies them.
        match unsafe { sys::spank_setenv(self.handle, c_name.as_ptr(), c_value.as_ptr(), 1) } {
            sys::ESPANK_SUCCESS => Ok(()),
            code => Err(failed(code)),
        }
    }

    /// Removes a variable from the task's environment; one that is not set is no error.
    ///
    /// # Errors
    /// What Slurm answers.
    pub fn remove_env(&self, name: &str) -> Result<(), SpankError> {
        let failed = |code| SpankError {
            call: format!("spank_unsetenv({name})"),
            code,
        };
        let Some(c_name) = CText::new(name) else {
            return Err(failed(sys::ESPANK_BAD_ARG));
        };
        // SAFETY: a C string that outlives the call.
        match unsafe { sys::spank_unsetenv(self.handle, c_name.as_ptr()) } {
            sys::ESPANK_SUCCESS | sys::ESPANK_ENV_NOEXIST => Ok(()),
            code => Err(failed(code)),
        }
    }

    /// Registers an option with an optional value.
    ///
    /// # Errors
    /// What Slurm answers; in slurmd's own context it refuses, which is harmless.
    pub fn register_option(
        &self,
        name: &'static CStr,
        arginfo: &'static CStr,
        usage: &'static CStr,
        callback: sys::OptionCallback,
    ) -> Result<(), SpankError> {
        let mut option = sys::SpankOption {
            name: name.as_ptr().cast_mut(),
            arginfo: arginfo.as_ptr().cast_mut(),
            usage: usage.as_ptr().cast_mut(),
            has_arg: 2,
            val: 0,
            cb: Some(callback),
        };
        // SAFETY: the strings are static, and Slurm copies the option (spank.c, _spank_option_copy).
        match unsafe { sys::spank_option_register(self.handle, &raw mut option) } {
            sys::ESPANK_SUCCESS => Ok(()),
            code => Err(SpankError {
                call: format!("spank_option_register({name:?})"),
                code,
            }),
        }
    }
}

/// The arguments of the plugin's plugstack line.
///
/// # Safety
/// `count` and `vector` are those that Slurm gave the hook that is running.
pub unsafe fn read_args(count: c_int, vector: *mut *mut c_char) -> Vec<String> {
    if vector.is_null() {
        return Vec::new();
    }
    let mut args = Vec::new();
    for index in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: the vector has `count` entries.
        let arg = unsafe { *vector.add(index) };
        if arg.is_null() {
            break;
        }
        // SAFETY: not null, so a C string that lives through the hook.
        let text = unsafe { CStr::from_ptr(arg) };
        args.push(text.to_string_lossy().into_owned());
    }
    args
}

/// The value that Slurm gives an option's callback; none where the user gave none.
///
/// # Safety
/// `value` is the pointer that Slurm gave the callback that is running.
pub unsafe fn read_option_value(value: *const c_char) -> Option<String> {
    if value.is_null() {
        return None;
    }
    // SAFETY: not null, so a C string that lives through the callback.
    Some(
        unsafe { CStr::from_ptr(value) }
            .to_string_lossy()
            .into_owned(),
    )
}

/// The API number of the Slurm in this process (`slurm_api_version() >> 16`); none outside Slurm.
///
/// Looked up at run time, so that a process without the function can still load the plugin.
pub fn host_api_number() -> Option<u32> {
    // SAFETY: the name is a C string; the default scope may be searched at any time.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"slurm_api_version".as_ptr()) };
    if symbol.is_null() {
        return None;
    }
    // SAFETY: slurm.h declares it `extern long slurm_api_version(void)` in every release of the table.
    let function: extern "C" fn() -> libc::c_long = unsafe { std::mem::transmute(symbol) };
    u32::try_from(function() >> 16).ok()
}
