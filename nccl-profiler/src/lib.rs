//! `libnccl-profiler-gpu-numa.so`: NCCL's profiler plugin that says when collectives cross the socket link,
//! and NCCL's env plugin that answers `NCCL_TOPO_FILE`.
//!
//! This file is the table of entry points and nothing else.  Every call succeeds for NCCL, whatever happens:
//! an error of `init` would cost the profiler, an error elsewhere is not looked at (plugin/profiler.cc,
//! 2.30).
//!
//! Architecture invariants: no thread, no wait for another rank, nothing written on an event unless
//! something crosses, no file that another user could have written is believed.  It is no tuner: NCCL has
//! one only, and aws-ofi-nccl brings its own.

mod communicator;
mod counts;
mod cure;
mod env;
mod host;
mod journal;
mod kinds;
mod network;
mod release;
mod report;
mod words;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::atomic::AtomicI32;

use ffi::guard;
use ffi::nccl::sys::{self, DescriptorV4, DescriptorV5, DescriptorV7, NcclResult};
use ffi::nccl::{NcclLog, V4, V5, V6, V7, Version};

use communicator::{Communicator, Start};

/// How NCCL's log names the plugin.
const NAME: &CStr = c"gpu-numa";

type ProfilerV4 = sys::Profiler<sys::InitV4, DescriptorV4>;
type ProfilerV5 = sys::Profiler<sys::InitV5, DescriptorV5>;
type ProfilerV7 = sys::Profiler<sys::InitV5, DescriptorV7>;

const fn profiler<V: Version, I: Copy>(init: I) -> sys::Profiler<I, V::Descriptor> {
    sys::Profiler {
        name: NAME.as_ptr(),
        init,
        start_event: start_event::<V>,
        stop_event,
        record_event_state,
        finalize,
        reserved: [std::ptr::null(); 2],
    }
}

/// Profiler v4 (NCCL 2.27.3 and later).
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name that NCCL looks up")]
pub static ncclProfiler_v4: ProfilerV4 = profiler::<V4, _>(init_v4 as sys::InitV4);

/// Profiler v5 (NCCL 2.28.3 and later).
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name that NCCL looks up")]
pub static ncclProfiler_v5: ProfilerV5 = profiler::<V5, _>(init_v5::<V5> as sys::InitV5);

/// Profiler v6 (NCCL 2.29.2 and later).
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name that NCCL looks up")]
pub static ncclProfiler_v6: ProfilerV5 = profiler::<V6, _>(init_v5::<V6> as sys::InitV5);

/// Profiler v7 (NCCL 2.31.2 and later).
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name that NCCL looks up")]
pub static ncclProfiler_v7: ProfilerV7 = profiler::<V7, _>(init_v5::<V7> as sys::InitV5);

/// Env plugin v1 (NCCL 2.28.7 and later).
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name that NCCL looks up")]
pub static ncclEnvPlugin_v1: sys::Env<sys::EnvInitV1> = sys::Env {
    name: NAME.as_ptr(),
    init: env_init_v1,
    finalize: env_finalize,
    get_env,
};

/// Env plugin v2 (NCCL 2.30.7 and later).
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name that NCCL looks up")]
pub static ncclEnvPlugin_v2: sys::Env<sys::EnvInitV2> = sys::Env {
    name: NAME.as_ptr(),
    init: env_init_v2,
    finalize: env_finalize,
    get_env,
};

/// Where a panic's place goes: nowhere, for NCCL has a logger by communicator only.
fn drop_line(_: &str) {}

unsafe extern "C" fn init_v4(
    context: *mut *mut c_void,
    mask: *mut c_int,
    name: *const c_char,
    id: u64,
    hosts: c_int,
    ranks: c_int,
    rank: c_int,
    logger: sys::Logger,
) -> NcclResult {
    // SAFETY: NCCL's own arguments.
    unsafe { begin::<V4>(context, mask, name, (id, hosts, ranks, rank), logger) }
}

unsafe extern "C" fn init_v5<V: Version>(
    context: *mut *mut c_void,
    id: u64,
    mask: *mut c_int,
    name: *const c_char,
    hosts: c_int,
    ranks: c_int,
    rank: c_int,
    logger: sys::Logger,
) -> NcclResult {
    // SAFETY: NCCL's own arguments.
    unsafe { begin::<V>(context, mask, name, (id, hosts, ranks, rank), logger) }
}

/// # Safety
/// `context` and `mask` are NCCL's places to fill in, or null; `name` is a C string, or null; `logger` is NCCL's, which outlives
/// the communicator.
unsafe fn begin<V: Version>(
    context: *mut *mut c_void,
    mask: *mut c_int,
    name: *const c_char,
    (id, hosts, ranks, rank): (u64, c_int, c_int, c_int),
    logger: sys::Logger,
) -> NcclResult {
    // SAFETY: as the caller promises.
    let log = unsafe { NcclLog::new(logger) };
    let mask = if mask.is_null() {
        None
    } else {
        // SAFETY: as the caller promises; NCCL itself reads it as an atomic (profiler.cc).  It is a variable of NCCL's for
        // the whole process (`ncclProfilerEventMask`, in the symbols of 2.31.2 and 2.32.3 too), so it lives as long as
        // what uses it here.
        Some(unsafe { AtomicI32::from_ptr(mask) })
    };
    let name = if name.is_null() {
        None
    } else {
        // SAFETY: as the caller promises; read within this call, for NCCL's caller may free it later.
        Some(unsafe { CStr::from_ptr(name) })
    };
    let start = Start {
        id,
        name,
        hosts,
        ranks,
        rank,
        log,
        wanted: V::EVENTS,
        interface: V::NUMBER,
        mask,
    };
    let begun = guard::run(drop_line, || Communicator::begin(&start)).flatten();
    let begun = begun.map_or(std::ptr::null_mut(), |communicator| {
        Box::into_raw(communicator).cast()
    });
    // SAFETY: as the caller promises.
    if let Some(context) = unsafe { context.as_mut() } {
        *context = begun;
    }
    if let Some(mask) = mask {
        communicator::set_event_mask(mask);
    }
    sys::SUCCESS
}

/// # Safety
/// `context` is null or what [`begin`] gave and [`finalize`] has not had; `handle` is NCCL's place to fill
/// in, or null; `descriptor` is NCCL's.
unsafe extern "C" fn start_event<V: Version>(
    context: *mut c_void,
    handle: *mut *mut c_void,
    descriptor: *mut V::Descriptor,
) -> NcclResult {
    // SAFETY: as the caller promises.
    let communicator = unsafe { context.cast::<Communicator>().as_ref() };
    let mut given = std::ptr::null_mut();
    if let Some(communicator) = communicator.filter(|communicator| communicator.listens()) {
        // SAFETY: as the caller promises.
        let kind = unsafe { V::kind(descriptor) };
        let done = guard::run(drop_line, || {
            if communicator.passes_over(kind) {
                return std::ptr::null_mut();
            }
            // SAFETY: as the caller promises; read within this call.
            let event = unsafe { V::read(descriptor) };
            communicator.on_event(&event);
            event.handle()
        });
        match done {
            Some(handle) => given = handle,
            None => communicator.silence(),
        }
    }
    // SAFETY: as the caller promises.
    if let Some(handle) = unsafe { handle.as_mut() } {
        *handle = given;
    }
    sys::SUCCESS
}

unsafe extern "C" fn stop_event(_handle: *mut c_void) -> NcclResult {
    sys::SUCCESS
}

unsafe extern "C" fn record_event_state(
    _handle: *mut c_void,
    _state: c_uint,
    _args: *mut c_void,
) -> NcclResult {
    sys::SUCCESS
}

unsafe extern "C" fn finalize(context: *mut c_void) -> NcclResult {
    if !context.is_null() {
        // SAFETY: what `begin` gave, given back once.
        let communicator = unsafe { Box::from_raw(context.cast::<Communicator>()) };
        guard::run(drop_line, || communicator.end());
    }
    sys::SUCCESS
}

unsafe extern "C" fn env_init_v1(major: u8, minor: u8, patch: u8, _: *const c_char) -> NcclResult {
    release::note(major, minor, patch);
    sys::SUCCESS
}

unsafe extern "C" fn env_init_v2(
    major: u8,
    minor: u8,
    patch: u8,
    _: *const c_char,
    _: sys::Logger,
) -> NcclResult {
    release::note(major, minor, patch);
    sys::SUCCESS
}

unsafe extern "C" fn env_finalize() -> NcclResult {
    sys::SUCCESS
}

unsafe extern "C" fn get_env(name: *const c_char) -> *const c_char {
    if name.is_null() {
        return std::ptr::null();
    }
    // SAFETY: NCCL's own string, read within this call.
    let name = unsafe { CStr::from_ptr(name) };
    guard::run(drop_line, || env::answer(name)).unwrap_or(std::ptr::null())
}
