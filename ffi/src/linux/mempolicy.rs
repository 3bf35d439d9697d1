//! NUMA memory policy of the calling thread (`set_mempolicy(2)`), inherited over fork and exec.

use crate::errno::{Errno, check};

/// Words for a node mask: 1,024 nodes, the largest `MAX_NUMNODES`.
const MASK_WORDS: usize = 16;
/// The kernel takes the number of bits and reads one less.
const MASK_BITS: usize = MASK_WORDS * 64;
/// Mode flags that `get_mempolicy` may add to the mode (`MPOL_MODE_FLAGS`, bits 13 to 15).
const MODE_FLAGS: i32 = 0xe000;

/// A policy's mode, as in `linux/mempolicy.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `MPOL_DEFAULT`: from the node the thread runs on.
    Default,
    /// `MPOL_PREFERRED`: from one node while it has memory.
    Preferred,
    /// `MPOL_BIND`: from these nodes only.
    Bind,
    /// `MPOL_INTERLEAVE`: page by page over these nodes.
    Interleave,
    /// `MPOL_LOCAL`: as the default, asked for by name.
    Local,
    /// `MPOL_PREFERRED_MANY`: from these nodes while they have memory; kernel 5.15.
    PreferredMany,
    /// A mode of a newer kernel (`MPOL_WEIGHTED_INTERLEAVE` is 6).
    Other(i32),
}

impl Mode {
    fn number(self) -> i32 {
        match self {
            Self::Default => libc::MPOL_DEFAULT,
            Self::Preferred => libc::MPOL_PREFERRED,
            Self::Bind => libc::MPOL_BIND,
            Self::Interleave => libc::MPOL_INTERLEAVE,
            Self::Local => libc::MPOL_LOCAL,
            Self::PreferredMany => 5,
            Self::Other(number) => number,
        }
    }

    /// The mode of this number, mode flags put aside.
    pub fn of(number: i32) -> Self {
        match number & !MODE_FLAGS {
            0 => Self::Default,
            1 => Self::Preferred,
            2 => Self::Bind,
            3 => Self::Interleave,
            4 => Self::Local,
            5 => Self::PreferredMany,
            other => Self::Other(other),
        }
    }
}

/// A policy as the kernel tells it, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelPolicy {
    /// The mode with its flags (`MPOL_F_STATIC_NODES`, `MPOL_F_RELATIVE_NODES`).
    number: i32,
    /// Its nodes as words of 64, lowest first; under those flags the nodes that were asked for.
    nodes: Vec<u64>,
}

impl KernelPolicy {
    /// The mode, its flags put aside.
    pub fn mode(&self) -> Mode {
        Mode::of(self.number)
    }

    /// Its nodes as words of 64, lowest first.
    pub fn nodes(&self) -> &[u64] {
        &self.nodes
    }

    /// Gives it to the calling thread again, flags and all.
    ///
    /// # Errors
    /// As [`apply_policy`].
    pub fn restore(&self) -> Result<(), Errno> {
        apply_policy(Mode::Other(self.number), &self.nodes)
    }
}

/// The calling thread's policy.
///
/// # Errors
/// `ENOSYS` on a kernel without NUMA, `EPERM` under a seccomp filter that denies it.
pub fn read_policy() -> Result<KernelPolicy, Errno> {
    let (number, nodes) = get_mempolicy(0)?;
    Ok(KernelPolicy { number, nodes })
}

/// `MPOL_F_MEMS_ALLOWED` of `linux/mempolicy.h`.
const MEMS_ALLOWED: libc::c_ulong = 1 << 2;

/// The nodes that the calling thread's cpuset lets memory come from, as words of 64, lowest first.
///
/// # Errors
/// As [`read_policy`].
pub fn read_allowed_nodes() -> Result<Vec<u64>, Errno> {
    let (_, nodes) = get_mempolicy(MEMS_ALLOWED)?;
    Ok(nodes)
}

/// What the kernel says of the calling thread without looking at an address: with flags 0 its policy and that policy's
/// nodes, with [`MEMS_ALLOWED`] those that its cpuset allows.
fn get_mempolicy(flags: libc::c_ulong) -> Result<(i32, Vec<u64>), Errno> {
    let mut mode = 0i32;
    let mut nodes = vec![0u64; MASK_WORDS];
    // SAFETY: both pointers are to live buffers, the mask as long as its bit count says; the address is null, and no
    // flag asks for one.
    check(unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut mode,
            nodes.as_mut_ptr(),
            MASK_BITS,
            std::ptr::null::<libc::c_void>(),
            flags,
        )
    })?;
    Ok((mode, nodes))
}

/// Sets the calling thread's policy.
///
/// # Errors
/// `EINVAL` for a mode that the kernel lacks and for nodes that are offline, without memory or outside
/// the cpuset; `EPERM` under a seccomp filter that denies it.
pub fn apply_policy(mode: Mode, nodes: &[u64]) -> Result<(), Errno> {
    let mut mask = [0u64; MASK_WORDS];
    for (to, from) in mask.iter_mut().zip(nodes) {
        *to = *from;
    }
    let (pointer, bits) = match Mode::of(mode.number()) {
        Mode::Default | Mode::Local => (std::ptr::null(), 0),
        Mode::Preferred | Mode::Bind | Mode::Interleave | Mode::PreferredMany | Mode::Other(_) => {
            (mask.as_ptr(), MASK_BITS)
        }
    };
    // SAFETY: the mask is as long as its bit count says, or null with 0 bits; the call only reads it.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode.number(), pointer, bits) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_set_is_the_policy_read() {
        std::thread::spawn(|| {
            apply_policy(Mode::Bind, &[1]).unwrap();
            assert_eq!(read_policy().unwrap().mode(), Mode::Bind);
            assert_eq!(read_policy().unwrap().nodes()[0], 1);
            apply_policy(Mode::Default, &[]).unwrap();
            assert_eq!(read_policy().unwrap().mode(), Mode::Default);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_policy_comes_back_with_its_flags() {
        /// `MPOL_F_STATIC_NODES` of `linux/mempolicy.h`.
        const STATIC_NODES: i32 = 1 << 15;
        std::thread::spawn(|| {
            for number in [0, 1, libc::MPOL_BIND | STATIC_NODES, libc::MPOL_LOCAL] {
                apply_policy(Mode::Other(number), &[1]).unwrap();
                let came = read_policy().unwrap();
                apply_policy(Mode::Interleave, &[1]).unwrap();
                came.restore().unwrap();
                assert_eq!(read_policy().unwrap(), came);
                assert_eq!(came.mode(), Mode::of(number));
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn some_node_is_allowed() {
        let nodes = read_allowed_nodes().unwrap();
        assert!(nodes.iter().any(|word| *word != 0));
    }

    #[test]
    fn a_node_that_is_not_there_is_refused() {
        assert_eq!(
            apply_policy(Mode::Bind, &[0, 0, 1 << 40]),
            Err(Errno(libc::EINVAL))
        );
    }
}
