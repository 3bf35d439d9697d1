//! Slurm, as far as unit tests need one: each test's thread has its own.
//!
//! These are the functions that a process of Slurm has and the plugin calls.  Those that C declares with `...` take
//! here the arguments that `ffi` passes, which go the same way on x86_64 and aarch64.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};

use ffi::spank::Spank;
use ffi::spank::sys::{
    ESPANK_ENV_NOEXIST, ESPANK_NOSPACE, ESPANK_SUCCESS, S_CTX_REMOTE, S_STEP_ALLOC_CORES,
    SpankContext, SpankErr, SpankHandle, SpankItem, SpankOption,
};

/// What Slurm knows of a step, and what it was told.
pub(crate) struct Slurm {
    /// Which program this is.
    pub(crate) context: SpankContext,
    /// Numbers that the plugin may ask for.
    pub(crate) items: BTreeMap<SpankItem, u32>,
    /// The step's cores; none where Slurm does not say.
    pub(crate) cores: Option<CString>,
    /// The environment of job or task.
    pub(crate) environment: BTreeMap<String, String>,
    /// Every line, whichever log it went to.
    pub(crate) lines: Vec<String>,
}

thread_local! {
    static SLURM: RefCell<Slurm> = const {
        RefCell::new(Slurm {
            context: S_CTX_REMOTE,
            items: BTreeMap::new(),
            cores: None,
            environment: BTreeMap::new(),
            lines: Vec::new(),
        })
    };
}

/// Looks at this thread's Slurm, or changes it.
pub(crate) fn with<T>(look: impl FnOnce(&mut Slurm) -> T) -> T {
    SLURM.with_borrow_mut(look)
}

/// Sets items and variables, and gives the handle of a hook.
pub(crate) fn hook(items: &[(SpankItem, u32)], variables: &[(&str, &str)]) -> Spank<'static> {
    with(|slurm| {
        slurm.items.extend(items.iter().copied());
        let variables = variables.iter();
        slurm
            .environment
            .extend(variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    });
    // SAFETY: the functions below look at no handle.
    unsafe { Spank::new(std::ptr::null_mut()) }
}

/// The lines so far; they are then forgotten.
pub(crate) fn take_lines() -> Vec<String> {
    with(|slurm| std::mem::take(&mut slurm.lines))
}

/// # Safety
/// `text` is a C string.
unsafe fn text_of(text: *const c_char) -> String {
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

#[unsafe(no_mangle)]
extern "C" fn spank_context() -> SpankContext {
    with(|slurm| slurm.context)
}

#[unsafe(no_mangle)]
extern "C" fn spank_option_register(_: SpankHandle, _: *mut SpankOption) -> SpankErr {
    ESPANK_SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn spank_get_item(_: SpankHandle, item: SpankItem, place: *mut u32) -> SpankErr {
    with(|slurm| {
        if item == S_STEP_ALLOC_CORES {
            let Some(cores) = &slurm.cores else { return 1 };
            // SAFETY: this item's place is one for a pointer; the text stays until the test changes it.
            unsafe { place.cast::<*const c_char>().write(cores.as_ptr()) };
            return ESPANK_SUCCESS;
        }
        let Some(value) = slurm.items.get(&item) else {
            return 1;
        };
        // SAFETY: the other items' place is one for 32 bits.
        unsafe { place.write(*value) };
        ESPANK_SUCCESS
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn spank_getenv(
    _: SpankHandle,
    name: *const c_char,
    buffer: *mut c_char,
    len: c_int,
) -> SpankErr {
    // SAFETY: the caller gives a C string.
    let name = unsafe { text_of(name) };
    let Some(value) = with(|slurm| slurm.environment.get(&name).cloned()) else {
        return ESPANK_ENV_NOEXIST;
    };
    if value.len() + 1 > usize::try_from(len).unwrap() {
        return ESPANK_NOSPACE;
    }
    let value = CString::new(value).unwrap();
    let bytes = value.as_bytes_with_nul();
    // SAFETY: the buffer is as long as the caller says, which is enough, and apart.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.cast(), bytes.len()) };
    ESPANK_SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn spank_setenv(
    _: SpankHandle,
    name: *const c_char,
    value: *const c_char,
    _overwrite: c_int,
) -> SpankErr {
    // SAFETY: the caller gives two C strings.
    let (name, value) = unsafe { (text_of(name), text_of(value)) };
    with(|slurm| slurm.environment.insert(name, value));
    ESPANK_SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn spank_unsetenv(_: SpankHandle, name: *const c_char) -> SpankErr {
    // SAFETY: the caller gives a C string.
    let name = unsafe { text_of(name) };
    with(|slurm| slurm.environment.remove(&name));
    ESPANK_SUCCESS
}

/// Makes a logger that takes the format `%s` and one line.
macro_rules! loggers {
    ($($name:ident)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(_format: *const c_char, line: *const c_char) {
            // SAFETY: the caller gives a C string.
            let line = unsafe { text_of(line) };
            with(|slurm| slurm.lines.push(line));
        }
    )* };
}

loggers!(slurm_error slurm_info slurm_debug slurm_spank_log);
