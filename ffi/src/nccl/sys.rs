//! Raw declarations of NCCL's plugin tables, as far as they are used.
//!
//! `make test-nccl-headers` (tests/nccl/headers.rs) compares them with NVIDIA's own headers.

use std::ffi::{c_char, c_int, c_uint, c_ulong, c_void};

/// `ncclResult_t`.
pub type NcclResult = c_int;
/// `ncclSuccess`.
pub const SUCCESS: NcclResult = 0;

/// `ncclDebugLogger_t`: level, subsystems, file, line, format.
pub type Logger =
    Option<unsafe extern "C" fn(c_int, c_ulong, *const c_char, c_int, *const c_char, ...)>;
/// `NCCL_LOG_INFO`.  `NCCL_LOG_WARN` would also become the text of `ncclGetLastError`.
pub const LOG_INFO: c_int = 3;
/// `NCCL_ALL`: shown whatever `NCCL_DEBUG_SUBSYS` says.
pub const ALL_SUBSYSTEMS: c_ulong = c_ulong::MAX;

/// `ncclProfileGroup`.
pub const GROUP: u64 = 1 << 0;
/// `ncclProfileColl`: a collective with algorithm and channels, when its kernel is planned.
pub const COLL: u64 = 1 << 1;
/// `ncclProfileP2p`: a send or a receive, when its kernel is planned.
pub const P2P: u64 = 1 << 2;
/// `ncclProfileCollApi`: a collective as it is called (v5).
pub const COLL_API: u64 = 1 << 9;
/// `ncclProfileP2pApi`: a send or receive as it is called (v5); comes where [`P2P`] is asked for.
pub const P2P_API: u64 = 1 << 10;
/// `ncclProfileCeColl`: a collective by copy engines (v6).
pub const CE_COLL: u64 = 1 << 12;

/// A collective's descriptor, v4 to v6.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Coll {
    /// How many before it.
    pub seq_number: u64,
    /// `AllReduce` and so on.
    pub func: *const c_char,
    /// Address.
    pub send_buff: *const c_void,
    /// Address.
    pub recv_buff: *mut c_void,
    /// Elements; for AllGather and Broadcast bytes, with `ncclInt8` (`collTaskAppend`, enqueue.cc).
    pub count: usize,
    /// Root.
    pub root: c_int,
    /// `ncclFloat32` and so on.
    pub datatype: *const c_char,
    /// Channels.
    pub channels: u8,
    /// Warps.
    pub warps: u8,
    /// `RING`, `TREE` and so on.
    pub algo: *const c_char,
    /// `SIMPLE`, `LL`, `LL128`.
    pub proto: *const c_char,
}

/// A collective's descriptor, v7.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CollV7 {
    /// As before.
    pub coll: Coll,
    /// For plugins of v4.
    pub parent_group: *mut c_void,
    /// The kernel's name.
    pub kernel_variant: *const c_char,
    /// A `bool`: whether it is a kernel over symmetric memory.
    pub is_symmetric: u8,
}

/// A collective as it is called.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CollApi {
    /// `AllReduce` and so on.
    pub func: *const c_char,
    /// Elements.
    pub count: usize,
    /// `ncclFloat32` and so on.
    pub datatype: *const c_char,
    /// Root.
    pub root: c_int,
    /// CUDA stream.
    pub stream: *mut c_void,
    /// A `bool`: whether it is recorded into a CUDA graph.
    pub graph_captured: u8,
}

/// A send or receive as it is called.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct P2pApi {
    /// `Send`, `Recv`.
    pub func: *const c_char,
    /// Elements.
    pub count: usize,
    /// `ncclFloat32` and so on.
    pub datatype: *const c_char,
    /// CUDA stream.
    pub stream: *mut c_void,
    /// A `bool`: whether it is recorded into a CUDA graph.
    pub graph_captured: u8,
}

/// A send or receive.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct P2p {
    /// `Send`, `Recv`.
    pub func: *const c_char,
    /// Address.
    pub buff: *mut c_void,
    /// `ncclFloat32` and so on.
    pub datatype: *const c_char,
    /// Elements.
    pub count: usize,
    /// The other rank.
    pub peer: c_int,
    /// Channels.
    pub channels: u8,
}

/// A collective by copy engines.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CeColl {
    /// How many before it.
    pub seq_number: u64,
    /// `AllGather` and so on.
    pub func: *const c_char,
}

/// What an event is about, v4.
#[repr(C)]
pub union BodyV4 {
    /// [`COLL`].
    pub coll: Coll,
    /// [`P2P`].
    pub p2p: P2p,
}

/// What an event is about, v5 and v6.
#[repr(C)]
#[derive(Clone, Copy)]
pub union BodyV5 {
    /// [`COLL`].
    pub coll: Coll,
    /// [`COLL_API`].
    pub coll_api: CollApi,
    /// [`P2P_API`].
    pub p2p_api: P2pApi,
    /// [`P2P`].
    pub p2p: P2p,
    /// [`CE_COLL`], v6.
    pub ce_coll: CeColl,
}

/// What an event is about, v7.
#[repr(C)]
pub union BodyV7 {
    /// What v5 and v6 have.
    pub v5: BodyV5,
    /// [`COLL`].
    pub coll: CollV7,
}

/// `ncclProfilerEventDescr_v4_t`.
#[repr(C)]
pub struct DescriptorV4 {
    /// One of the event types.
    pub kind: u8,
    /// What `startEvent` gave for the event above.
    pub parent: *mut c_void,
    /// The rank.
    pub rank: c_int,
    /// By `kind`.
    pub body: BodyV4,
}

/// `ncclProfilerEventDescr_v5_t` to `_v7_t`, by their body.
///
/// None may be longer than NCCL's own, which ends where its longest body ends.
#[repr(C)]
pub struct Descriptor<B> {
    /// One of the event types.
    pub kind: u64,
    /// What `startEvent` gave for the event above.
    pub parent: *mut c_void,
    /// The rank.
    pub rank: c_int,
    /// By `kind`.
    pub body: B,
}

/// `ncclProfilerEventDescr_v5_t`, `_v6_t`.
pub type DescriptorV5 = Descriptor<BodyV5>;
/// `ncclProfilerEventDescr_v7_t`.
pub type DescriptorV7 = Descriptor<BodyV7>;

/// `startEvent`: context, handle to fill in, descriptor.
pub type StartEvent<D> = unsafe extern "C" fn(*mut c_void, *mut *mut c_void, *mut D) -> NcclResult;
/// `stopEvent`.
pub type StopEvent = unsafe extern "C" fn(*mut c_void) -> NcclResult;
/// `recordEventState`.
pub type RecordEventState = unsafe extern "C" fn(*mut c_void, c_uint, *mut c_void) -> NcclResult;
/// `finalize`.
pub type Finalize = unsafe extern "C" fn(*mut c_void) -> NcclResult;
/// `init`, v4: context, mask, name, id, hosts, ranks, rank, logger.
pub type InitV4 = unsafe extern "C" fn(
    *mut *mut c_void,
    *mut c_int,
    *const c_char,
    u64,
    c_int,
    c_int,
    c_int,
    Logger,
) -> NcclResult;
/// `init`, v5 to v7: context, id, mask, name, hosts, ranks, rank, logger.
pub type InitV5 = unsafe extern "C" fn(
    *mut *mut c_void,
    u64,
    *mut c_int,
    *const c_char,
    c_int,
    c_int,
    c_int,
    Logger,
) -> NcclResult;

/// `ncclProfiler_v4_t` to `_v7_t`, by their `init` and descriptor.
#[repr(C)]
pub struct Profiler<I, D> {
    /// Name, for NCCL's log.
    pub name: *const c_char,
    /// A communicator begins.
    pub init: I,
    /// An event begins.
    pub start_event: StartEvent<D>,
    /// An event ends.
    pub stop_event: StopEvent,
    /// An event goes on.
    pub record_event_state: RecordEventState,
    /// A communicator ends.
    pub finalize: Finalize,
    /// No further function, should a later v7 look for one.
    pub reserved: [*const c_void; 2],
}

// SAFETY: the pointers lead to constants and functions only.
unsafe impl<I, D> Sync for Profiler<I, D> {}

/// `init` of the env plugin, v1: NCCL's release.
pub type EnvInitV1 = unsafe extern "C" fn(u8, u8, u8, *const c_char) -> NcclResult;
/// `init` of the env plugin, v2: and the logger.
pub type EnvInitV2 = unsafe extern "C" fn(u8, u8, u8, *const c_char, Logger) -> NcclResult;

/// `ncclEnv_v1_t` and `ncclEnv_v2_t`, by their `init`.
#[repr(C)]
pub struct Env<I> {
    /// Name, for NCCL's log.
    pub name: *const c_char,
    /// The library is loaded.
    pub init: I,
    /// The process ends.
    pub finalize: unsafe extern "C" fn() -> NcclResult,
    /// What a variable is.
    pub get_env: unsafe extern "C" fn(*const c_char) -> *const c_char,
}

// SAFETY: the pointers lead to constants and functions only.
unsafe impl<I> Sync for Env<I> {}

/// What stands for a call that is run when it is made, and for one recorded into a CUDA graph.
static CALLS: [u8; 2] = [0, 1];

/// The handle of a call's event, which NCCL gives back as the parent of what the call becomes; it is never
/// read through.
pub(crate) fn call_handle(captured: bool) -> *mut c_void {
    let first: *const u8 = (&raw const CALLS).cast();
    first.wrapping_add(usize::from(captured)).cast_mut().cast()
}
