//! The few functions of the GPU makers' libraries that time a copy, loaded at run time: CUDA's driver (`cuda.h`) and AMD's HIP
//! (`hip/hip_runtime_api.h`), whose functions are alike.
//!
//! For a program's short-lived child, behind the feature `runtime`: a driver may hang or stop the process.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::time::{Duration, Instant};

use libloading::Library;

use crate::linux::pages::Pages;

/// Length of a PCI address with its NUL, and room to spare.
const ADDRESS_BYTES: usize = 32;

/// A maker's library.
#[derive(Debug)]
pub struct Maker {
    /// Who makes its GPUs, by the name of `topology::vendor`.
    pub gpus: &'static str,
    /// What the library is called, for a person.
    pub name: &'static str,
    /// Its files; the first that is there is taken.
    files: &'static [&'static str],
    functions: Functions,
}

/// Its functions.
#[derive(Debug)]
struct Functions {
    init: &'static str,
    count: &'static str,
    address: &'static str,
    /// What makes a device the calling thread's.
    enter: Enter,
    allocate: &'static str,
    free: &'static str,
    register: &'static str,
    unregister: &'static str,
    to_gpu: &'static str,
    from_gpu: &'static str,
}

#[derive(Debug)]
enum Enter {
    /// Takes a context of the device, makes it the thread's, and gives it back.
    Context {
        retain: &'static str,
        set: &'static str,
        release: &'static str,
    },
    /// Makes the device the thread's.
    Device(&'static str),
}

/// Those that are known.
pub static MAKERS: [Maker; 2] = [
    Maker {
        gpus: "NVIDIA",
        name: "libcuda",
        files: &["libcuda.so.1"],
        functions: Functions {
            init: "cuInit",
            count: "cuDeviceGetCount",
            address: "cuDeviceGetPCIBusId",
            enter: Enter::Context {
                retain: "cuDevicePrimaryCtxRetain",
                set: "cuCtxSetCurrent",
                release: "cuDevicePrimaryCtxRelease_v2",
            },
            allocate: "cuMemAlloc_v2",
            free: "cuMemFree_v2",
            register: "cuMemHostRegister_v2",
            unregister: "cuMemHostUnregister",
            to_gpu: "cuMemcpyHtoD_v2",
            from_gpu: "cuMemcpyDtoH_v2",
        },
    },
    Maker {
        gpus: "AMD",
        name: "libamdhip64",
        // ROCm's own packages keep it out of the loader's way unless a module is loaded.
        files: &[
            "libamdhip64.so.7",
            "libamdhip64.so.6",
            "libamdhip64.so.5",
            "/opt/rocm/lib/libamdhip64.so",
        ],
        functions: Functions {
            init: "hipInit",
            count: "hipGetDeviceCount",
            address: "hipDeviceGetPCIBusId",
            enter: Enter::Device("hipSetDevice"),
            allocate: "hipMalloc",
            free: "hipFree",
            register: "hipHostRegister",
            unregister: "hipHostUnregister",
            to_gpu: "hipMemcpyHtoD",
            from_gpu: "hipMemcpyDtoH",
        },
    },
];

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The library or a function of it is not there.
    #[error("{0}")]
    Load(#[from] libloading::Error),
    /// A function's error code (`CUresult`, `hipError_t`).
    #[error("{function} gives error {code}")]
    Call {
        /// The function.
        function: &'static str,
        /// Its error code.
        code: c_int,
    },
}

/// The loaded library of a maker, initialised.
#[derive(Debug)]
pub struct Runtime {
    library: Library,
    functions: &'static Functions,
}

/// Calls a function of the library by name; all its arguments are plain values or live pointers.
macro_rules! call {
    ($runtime:expr, $name:expr, fn($($kind:ty),*), $($argument:expr),*) => {{
        let name: &'static str = $name;
        // SAFETY: the symbol is a function of the maker's header with this declaration.
        let function = unsafe {
            $runtime.library.get::<unsafe extern "C" fn($($kind),*) -> c_int>(name.as_bytes())
        }?;
        // SAFETY: pointers among the arguments are to live objects of the sizes that the header asks for.
        match unsafe { function($($argument),*) } {
            0 => Ok(()),
            code => Err(RuntimeError::Call {
                function: name,
                code,
            }),
        }
    }};
}

impl Maker {
    /// Loads the library and initialises it.
    ///
    /// # Errors
    /// [`RuntimeError`]: no library, or one that finds no GPU.
    pub fn load(&'static self) -> Result<Runtime, RuntimeError> {
        // SAFETY: the library runs its initialisers, which the caller's process is there for.
        let load = |file: &&str| unsafe { Library::new(*file) };
        let (first, others) = self.files.split_first().unwrap_or((&"", &[]));
        // Of several that are not there the first is the one to name.
        let library = load(first).or_else(|error| {
            let mut others = others.iter().filter_map(|file| load(file).ok());
            others.next().ok_or(error)
        })?;
        let runtime = Runtime {
            library,
            functions: &self.functions,
        };
        call!(runtime, self.functions.init, fn(c_uint), 0)?;
        Ok(runtime)
    }
}

impl Runtime {
    /// How many GPUs it shows.
    ///
    /// # Errors
    /// [`RuntimeError::Call`].
    pub fn count(&self) -> Result<c_int, RuntimeError> {
        let mut count = 0;
        call!(self, self.functions.count, fn(*mut c_int), &raw mut count)?;
        Ok(count)
    }

    /// The PCI address of a GPU, as the library writes it.
    ///
    /// # Errors
    /// [`RuntimeError::Call`].
    pub fn pci_address(&self, device: c_int) -> Result<String, RuntimeError> {
        let mut text = [0 as c_char; ADDRESS_BYTES];
        let room = c_int::try_from(ADDRESS_BYTES - 1).unwrap_or(0);
        call!(
            self,
            self.functions.address,
            fn(*mut c_char, c_int, c_int),
            text.as_mut_ptr(),
            room,
            device
        )?;
        // SAFETY: the last byte is never given to the library and is zero.
        let text = unsafe { CStr::from_ptr(text.as_ptr()) };
        Ok(text.to_string_lossy().into_owned())
    }

    /// Times `count` copies of `pages` to the GPU and as many back; the memory is page-locked meanwhile.
    ///
    /// # Errors
    /// [`RuntimeError::Call`], the first that fails; what was taken is given back.
    pub fn time_copies(
        &self,
        device: c_int,
        pages: &mut Pages,
        count: u32,
    ) -> Result<(Duration, Duration), RuntimeError> {
        match &self.functions.enter {
            Enter::Context {
                retain,
                set,
                release,
            } => {
                let mut context: *mut c_void = std::ptr::null_mut();
                call!(
                    self,
                    retain,
                    fn(*mut *mut c_void, c_int),
                    &raw mut context,
                    device
                )?;
                let result = call!(self, set, fn(*mut c_void), context)
                    .and_then(|()| self.with_context(pages, count));
                let released = call!(self, release, fn(c_int), device);
                result.and_then(|times| released.map(|()| times))
            }
            Enter::Device(set) => {
                call!(self, set, fn(c_int), device)?;
                self.with_context(pages, count)
            }
        }
    }

    fn with_context(
        &self,
        pages: &mut Pages,
        count: u32,
    ) -> Result<(Duration, Duration), RuntimeError> {
        let bytes = size_of_val(pages.words());
        let host: *mut c_void = pages.words_mut().as_mut_ptr().cast();
        let mut there = 0u64;
        call!(
            self,
            self.functions.allocate,
            fn(*mut u64, usize),
            &raw mut there,
            bytes
        )?;
        let locked = call!(
            self,
            self.functions.register,
            fn(*mut c_void, usize, c_uint),
            host,
            bytes,
            0
        );
        let result = locked.and_then(|()| {
            let times = self.copy(host, there, bytes, count);
            let unlocked = call!(self, self.functions.unregister, fn(*mut c_void), host);
            times.and_then(|times| unlocked.map(|()| times))
        });
        let freed = call!(self, self.functions.free, fn(u64), there);
        result.and_then(|times| freed.map(|()| times))
    }

    fn copy(
        &self,
        host: *mut c_void,
        there: u64,
        bytes: usize,
        count: u32,
    ) -> Result<(Duration, Duration), RuntimeError> {
        let to_gpu = time(count, || {
            call!(
                self,
                self.functions.to_gpu,
                fn(u64, *const c_void, usize),
                there,
                host.cast_const(),
                bytes
            )
        })?;
        let from_gpu = time(count, || {
            call!(
                self,
                self.functions.from_gpu,
                fn(*mut c_void, u64, usize),
                host,
                there,
                bytes
            )
        })?;
        Ok((to_gpu, from_gpu))
    }
}

/// What `count` copies take after a first, which wakes the link.
fn time(count: u32, copy: impl Fn() -> Result<(), RuntimeError>) -> Result<Duration, RuntimeError> {
    copy()?;
    let start = Instant::now();
    for _ in 0..count {
        copy()?;
    }
    Ok(start.elapsed())
}
