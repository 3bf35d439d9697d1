//! The few functions of CUDA's driver library (`cuda.h`) that time a copy, loaded at run time.
//!
//! For a program's short-lived child, behind the feature `cuda`: a driver may hang or stop the process.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::time::{Duration, Instant};

use libloading::Library;

use crate::linux::pages::Pages;

/// Length of a PCI address with its NUL, and room to spare.
const ADDRESS_BYTES: usize = 32;

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum CudaError {
    /// The library or a function of it is not there.
    #[error("{0}")]
    Load(#[from] libloading::Error),
    /// A function's error code (`CUresult`).
    #[error("{function} gives error {code}")]
    Call {
        /// The function.
        function: &'static str,
        /// Its `CUresult`.
        code: c_int,
    },
}

/// The loaded library, initialised.
#[derive(Debug)]
pub struct Cuda {
    library: Library,
}

/// Calls a function of the library by name; all its arguments are plain values or live pointers.
macro_rules! call {
    ($cuda:expr, $name:literal, fn($($kind:ty),*), $($argument:expr),*) => {{
        // SAFETY: the symbol is a function of cuda.h with this declaration.
        let function = unsafe {
            $cuda.library.get::<unsafe extern "C" fn($($kind),*) -> c_int>($name)
        }?;
        // SAFETY: pointers among the arguments are to live objects of the sizes that cuda.h asks for.
        match unsafe { function($($argument),*) } {
            0 => Ok(()),
            code => Err(CudaError::Call {
                function: std::str::from_utf8($name).unwrap_or("a function"),
                code,
            }),
        }
    }};
}

impl Cuda {
    /// Loads `libcuda.so.1` and initialises it.
    ///
    /// # Errors
    /// [`CudaError`]: no driver, or one without a GPU.
    pub fn load() -> Result<Self, CudaError> {
        // SAFETY: the driver's library runs its initialisers, which the caller's process is there for.
        let library = unsafe { Library::new("libcuda.so.1") }?;
        let cuda = Self { library };
        call!(cuda, b"cuInit", fn(c_uint), 0)?;
        Ok(cuda)
    }

    /// How many GPUs it shows.
    ///
    /// # Errors
    /// [`CudaError::Call`].
    pub fn count(&self) -> Result<c_int, CudaError> {
        let mut count = 0;
        call!(self, b"cuDeviceGetCount", fn(*mut c_int), &raw mut count)?;
        Ok(count)
    }

    /// The PCI address of a GPU, as CUDA writes it.
    ///
    /// # Errors
    /// [`CudaError::Call`].
    pub fn pci_address(&self, device: c_int) -> Result<String, CudaError> {
        let mut text = [0 as c_char; ADDRESS_BYTES];
        let room = c_int::try_from(ADDRESS_BYTES - 1).unwrap_or(0);
        call!(
            self,
            b"cuDeviceGetPCIBusId",
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
    /// [`CudaError::Call`], the first that fails; what was taken is given back.
    pub fn time_copies(
        &self,
        device: c_int,
        pages: &mut Pages,
        count: u32,
    ) -> Result<(Duration, Duration), CudaError> {
        let mut context: *mut c_void = std::ptr::null_mut();
        call!(
            self,
            b"cuDevicePrimaryCtxRetain",
            fn(*mut *mut c_void, c_int),
            &raw mut context,
            device
        )?;
        let result = call!(self, b"cuCtxSetCurrent", fn(*mut c_void), context)
            .and_then(|()| self.with_context(pages, count));
        let released = call!(self, b"cuDevicePrimaryCtxRelease_v2", fn(c_int), device);
        result.and_then(|times| released.map(|()| times))
    }

    fn with_context(
        &self,
        pages: &mut Pages,
        count: u32,
    ) -> Result<(Duration, Duration), CudaError> {
        let bytes = size_of_val(pages.words());
        let host: *mut c_void = pages.words_mut().as_mut_ptr().cast();
        let mut there = 0u64;
        call!(
            self,
            b"cuMemAlloc_v2",
            fn(*mut u64, usize),
            &raw mut there,
            bytes
        )?;
        let locked = call!(
            self,
            b"cuMemHostRegister_v2",
            fn(*mut c_void, usize, c_uint),
            host,
            bytes,
            0
        );
        let result = locked.and_then(|()| {
            let times = self.copy(host, there, bytes, count);
            let unlocked = call!(self, b"cuMemHostUnregister", fn(*mut c_void), host);
            times.and_then(|times| unlocked.map(|()| times))
        });
        let freed = call!(self, b"cuMemFree_v2", fn(u64), there);
        result.and_then(|times| freed.map(|()| times))
    }

    fn copy(
        &self,
        host: *mut c_void,
        there: u64,
        bytes: usize,
        count: u32,
    ) -> Result<(Duration, Duration), CudaError> {
        // The first of each wakes the link.
        let mut start = Instant::now();
        for round in 0..=count {
            if round == 1 {
                start = Instant::now();
            }
            call!(
                self,
                b"cuMemcpyHtoD_v2",
                fn(u64, *const c_void, usize),
                there,
                host.cast_const(),
                bytes
            )?;
        }
        let to_gpu = start.elapsed();
        for round in 0..=count {
            if round == 1 {
                start = Instant::now();
            }
            call!(
                self,
                b"cuMemcpyDtoH_v2",
                fn(*mut c_void, u64, usize),
                host,
                there,
                bytes
            )?;
        }
        Ok((to_gpu, start.elapsed()))
    }
}
