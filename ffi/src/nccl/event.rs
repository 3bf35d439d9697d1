//! An event's descriptor in Rust terms, whatever its version.

use std::ffi::{c_int, c_void};

use super::Text;
use super::sys::{self, BodyV5, Coll, DescriptorV4, DescriptorV5, DescriptorV7, P2p};

/// What NCCL tells.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A collective is planned.
    Collective(Collective<'a>),
    /// A collective is called.
    Call(ApiCall<'a>),
    /// A send or receive is planned.
    Peer(Peer<'a>),
    /// A send or receive is called.
    PeerCall {
        /// Whether it is recorded into a CUDA graph.
        captured: bool,
    },
    /// A collective goes a way that no ring describes.
    Special(SpecialCollective<'a>),
    /// Anything else.
    Other,
}

impl Event<'_> {
    /// What `startEvent` gives back: a call's handle, which NCCL names as the parent of what the call becomes;
    /// null for all else, of which nothing more is to be told.
    pub fn handle(&self) -> *mut c_void {
        match self {
            Self::Call(call) => sys::call_handle(call.captured),
            Self::PeerCall { captured } => sys::call_handle(*captured),
            Self::Collective(_) | Self::Peer(_) | Self::Special(_) | Self::Other => {
                std::ptr::null_mut()
            }
        }
    }
}

/// A collective with the way it takes.
#[derive(Debug, Clone, Copy)]
pub struct Collective<'a> {
    /// `AllReduce` and so on.
    pub func: Text<'a>,
    /// Elements; for AllGather and Broadcast bytes, as `ncclInt8`.
    pub count: usize,
    /// `ncclFloat32` and so on.
    pub datatype: Text<'a>,
    /// Root.
    pub root: c_int,
    /// Channels.
    pub channels: u8,
    /// `RING`, `TREE` and so on.
    pub algo: Text<'a>,
    /// Whether its call was recorded into a CUDA graph.
    pub captured: bool,
}

/// A collective as it is called.
#[derive(Debug, Clone, Copy)]
pub struct ApiCall<'a> {
    /// `AllReduce` and so on.
    pub func: Text<'a>,
    /// Elements.
    pub count: usize,
    /// `ncclFloat32` and so on.
    pub datatype: Text<'a>,
    /// Root.
    pub root: c_int,
    /// Whether it is recorded into a CUDA graph.
    pub captured: bool,
}

/// A send or receive.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// `Send` or `Recv`.
    pub func: Text<'a>,
    /// Elements.
    pub count: usize,
    /// `ncclFloat32` and so on.
    pub datatype: Text<'a>,
    /// The other rank.
    pub peer: c_int,
    /// Whether its call was recorded into a CUDA graph.
    pub captured: bool,
}

/// A collective that no ring or tree carries.
#[derive(Debug, Clone, Copy)]
pub struct SpecialCollective<'a> {
    /// `AllGather` and so on.
    pub func: Text<'a>,
    /// What does.
    pub way: SpecialWay,
    /// Whether its call was recorded into a CUDA graph.
    pub captured: bool,
}

/// What carries a collective where no ring or tree does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialWay {
    /// The GPUs' copy engines.
    CopyEngines,
    /// A kernel that reads and writes the other GPUs' memory.
    SymmetricMemory,
}

/// A version of the profiler interface.
pub trait Version {
    /// What `startEvent` gets.
    type Descriptor;
    /// Its number.
    const NUMBER: u8;
    /// The events that are of use and that this version has.
    const EVENTS: u64;

    /// The kind of an event, which is a bit of [`Version::EVENTS`] or of NCCL's others; 0 for a null pointer.
    ///
    /// # Safety
    /// `descriptor` is null or NCCL's own.
    unsafe fn kind(descriptor: *const Self::Descriptor) -> u64;

    /// Reads a descriptor.
    ///
    /// # Safety
    /// `descriptor` is null or NCCL's own, with strings that outlive `'a`.
    unsafe fn read<'a>(descriptor: *const Self::Descriptor) -> Event<'a>;
}

/// Defines a version: its name, its number, its descriptor, its events, the function that reads it.
macro_rules! version {
    ($(#[$doc:meta])* $name:ident, $number:expr, $descriptor:ty, $events:expr, $read:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl Version for $name {
            type Descriptor = $descriptor;
            const NUMBER: u8 = $number;
            const EVENTS: u64 = $events;

            unsafe fn kind(descriptor: *const $descriptor) -> u64 {
                // SAFETY: null or live, as the caller promises.
                unsafe { descriptor.as_ref() }.map_or(0, |descriptor| wide(descriptor.kind))
            }

            unsafe fn read<'a>(descriptor: *const $descriptor) -> Event<'a> {
                // SAFETY: as the caller promises.
                unsafe { $read(descriptor) }
            }
        }
    };
}

version!(
    /// v4: collectives and sends as they are planned.
    V4, 4, DescriptorV4, sys::COLL | sys::P2P, read_v4
);
version!(
    /// v5: and as they are called.
    V5, 5, DescriptorV5, V4::EVENTS | sys::COLL_API | sys::P2P_API, read_v5
);
version!(
    /// v6: and by copy engines.
    V6, 6, DescriptorV5, V5::EVENTS | sys::CE_COLL, read_v6
);
version!(
    /// v7: and over symmetric memory.
    V7, 7, DescriptorV7, V6::EVENTS, read_v7
);

/// A kind in the widest of the versions' types.
fn wide(kind: impl Into<u64>) -> u64 {
    kind.into()
}

/// Reads a descriptor of v4.
///
/// # Safety
/// `descriptor` is null or NCCL's own, with strings that outlive `'a`.
unsafe fn read_v4<'a>(descriptor: *const DescriptorV4) -> Event<'a> {
    // SAFETY: null or live, as the caller promises.
    let Some(descriptor) = (unsafe { descriptor.as_ref() }) else {
        return Event::Other;
    };
    match u64::from(descriptor.kind) {
        sys::COLL => {
            // SAFETY: the kind says which member is set.
            let coll = unsafe { descriptor.body.coll };
            // SAFETY: NCCL's strings.
            unsafe { collective(&coll, std::ptr::null_mut()) }
        }
        sys::P2P => {
            // SAFETY: the kind says which member is set.
            let p2p = unsafe { descriptor.body.p2p };
            // SAFETY: NCCL's strings.
            unsafe { peer(&p2p, std::ptr::null_mut()) }
        }
        _ => Event::Other,
    }
}

/// Reads a descriptor of v5.
///
/// # Safety
/// As for [`read_v4`].
unsafe fn read_v5<'a>(descriptor: *const DescriptorV5) -> Event<'a> {
    // SAFETY: null or live, as the caller promises.
    let Some(descriptor) = (unsafe { descriptor.as_ref() }) else {
        return Event::Other;
    };
    // SAFETY: as the caller promises.
    unsafe { body_v5(descriptor.kind, descriptor.parent, &descriptor.body) }
}

/// Reads a descriptor of v6, which has collectives by copy engines besides.
///
/// # Safety
/// As for [`read_v4`].
unsafe fn read_v6<'a>(descriptor: *const DescriptorV5) -> Event<'a> {
    // SAFETY: null or live, as the caller promises.
    let Some(descriptor) = (unsafe { descriptor.as_ref() }) else {
        return Event::Other;
    };
    // SAFETY: as the caller promises.
    unsafe { body_v6(descriptor.kind, descriptor.parent, &descriptor.body) }
}

/// Reads a descriptor of v7, which tells kernels over symmetric memory apart.
///
/// # Safety
/// As for [`read_v4`].
unsafe fn read_v7<'a>(descriptor: *const DescriptorV7) -> Event<'a> {
    // SAFETY: null or live, as the caller promises.
    let Some(descriptor) = (unsafe { descriptor.as_ref() }) else {
        return Event::Other;
    };
    // SAFETY: what v5 and v6 have begins the body of v7, whichever member is set.
    let body = unsafe { &descriptor.body.v5 };
    // SAFETY: as the caller promises.
    let event = unsafe { body_v6(descriptor.kind, descriptor.parent, body) };
    let Event::Collective(collective) = event else {
        return event;
    };
    // SAFETY: the kind says which member is set.
    let is_symmetric = unsafe { descriptor.body.coll.is_symmetric };
    if is_symmetric == 0 {
        return event;
    }
    Event::Special(SpecialCollective {
        func: collective.func,
        way: SpecialWay::SymmetricMemory,
        captured: collective.captured,
    })
}

/// What v5 has.
///
/// # Safety
/// `body` is of an event of `kind`, whose strings are NCCL's and outlive `'a`.
unsafe fn body_v5<'a>(kind: u64, parent: *mut c_void, body: &BodyV5) -> Event<'a> {
    match kind {
        sys::COLL => {
            // SAFETY: the kind says which member is set.
            let coll = unsafe { body.coll };
            // SAFETY: NCCL's strings.
            unsafe { collective(&coll, parent) }
        }
        sys::P2P => {
            // SAFETY: the kind says which member is set.
            let p2p = unsafe { body.p2p };
            // SAFETY: NCCL's strings.
            unsafe { peer(&p2p, parent) }
        }
        // SAFETY: the kind says which member is set.
        sys::COLL_API => unsafe { call(body) },
        sys::P2P_API => {
            // SAFETY: the kind says which member is set.
            let call = unsafe { body.p2p_api };
            Event::PeerCall {
                captured: call.graph_captured != 0,
            }
        }
        _ => Event::Other,
    }
}

/// What v6 has.
///
/// # Safety
/// As for [`body_v5`].
unsafe fn body_v6<'a>(kind: u64, parent: *mut c_void, body: &BodyV5) -> Event<'a> {
    if kind == sys::CE_COLL {
        // SAFETY: the kind says which member is set.
        let func = unsafe { body.ce_coll.func };
        // SAFETY: NCCL's string.
        let func = unsafe { Text::new(func) };
        return Event::Special(SpecialCollective {
            func,
            way: SpecialWay::CopyEngines,
            captured: parent == sys::call_handle(true),
        });
    }
    // SAFETY: as the caller promises.
    unsafe { body_v5(kind, parent, body) }
}

/// # Safety
/// The strings are NCCL's and outlive `'a`.
unsafe fn collective<'a>(coll: &Coll, parent: *mut c_void) -> Event<'a> {
    // SAFETY: as the caller promises.
    let read = |pointer| unsafe { Text::new(pointer) };
    Event::Collective(Collective {
        func: read(coll.func),
        count: coll.count,
        datatype: read(coll.datatype),
        root: coll.root,
        channels: coll.channels,
        algo: read(coll.algo),
        captured: parent == sys::call_handle(true),
    })
}

/// # Safety
/// The strings are NCCL's and outlive `'a`.
unsafe fn peer<'a>(p2p: &P2p, parent: *mut c_void) -> Event<'a> {
    // SAFETY: as the caller promises.
    let read = |pointer| unsafe { Text::new(pointer) };
    Event::Peer(Peer {
        func: read(p2p.func),
        count: p2p.count,
        datatype: read(p2p.datatype),
        peer: p2p.peer,
        captured: parent == sys::call_handle(true),
    })
}

/// # Safety
/// `body` is of a [`sys::COLL_API`], whose strings are NCCL's and outlive `'a`.
unsafe fn call<'a>(body: &BodyV5) -> Event<'a> {
    // SAFETY: as the caller promises.
    let api = unsafe { body.coll_api };
    // SAFETY: as the caller promises.
    let read = |pointer| unsafe { Text::new(pointer) };
    Event::Call(ApiCall {
        func: read(api.func),
        count: api.count,
        datatype: read(api.datatype),
        root: api.root,
        captured: api.graph_captured != 0,
    })
}
