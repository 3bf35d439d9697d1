//! CPU affinity of a thread, as words of 64 CPUs, lowest first.

use crate::errno::{Errno, check};

/// Words that hold any kernel's mask: 65,536 CPUs, eight times the largest `CONFIG_NR_CPUS`.
const MASK_WORDS: usize = 1024;
/// Words that are tried first: 1,024 CPUs.
const USUAL_WORDS: usize = 16;

/// The affinity of process or thread `pid`; 0 is the caller.
///
/// # Errors
/// `ESRCH` when there is no such thread, `EPERM` when it may not be asked.
pub fn read_affinity(pid: i32) -> Result<Vec<u64>, Errno> {
    let mut usual = [0u64; USUAL_WORDS];
    match ask_affinity(pid, &mut usual) {
        // A kernel with more CPUs wants room for all of them.
        Err(Errno(libc::EINVAL)) => {
            let mut all = vec![0u64; MASK_WORDS];
            let written = ask_affinity(pid, &mut all)?;
            all.truncate(written);
            Ok(all)
        }
        written => Ok(usual.get(..written?).unwrap_or(&usual).to_vec()),
    }
}

/// Fills `words`, and says how many of them the kernel wrote.
fn ask_affinity(pid: i32, words: &mut [u64]) -> Result<usize, Errno> {
    // The raw call, because glibc's wrapper fixes the size of cpu_set_t at 1,024 CPUs.
    // SAFETY: the buffer is as long as the length says and outlives the call, which writes it only.
    let written = check(unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            pid,
            size_of_val(words),
            words.as_mut_ptr(),
        )
    })?;
    let written = usize::try_from(written).unwrap_or(0).div_ceil(8);
    if written > words.len() {
        return Err(Errno(libc::EINVAL));
    }
    Ok(written)
}

/// Binds process or thread `pid` (0 is the caller) to the CPUs of `words`.
///
/// The kernel cuts the mask to the caller's cpuset; read it back to know.
///
/// # Errors
/// `EINVAL` when no CPU of the mask is online and in the cpuset.
pub fn apply_affinity(pid: i32, words: &[u64]) -> Result<(), Errno> {
    // SAFETY: the buffer is as long as the length says; the call only reads it.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            pid,
            size_of_val(words),
            words.as_ptr(),
        )
    })
    .map(drop)
}

/// The CPUs that the caller's cpuset allows: widens the caller's mask, reads it back, restores it.
///
/// The caller's mask is restored whatever happens in between.
///
/// # Errors
/// Those of [`read_affinity`]; when the mask cannot be widened the caller's mask is the answer.
pub fn read_cpuset() -> Result<Vec<u64>, Errno> {
    widen(&read_affinity(0)?)
}

/// The same for a caller whose mask is known to be `own`.
///
/// # Errors
/// As [`read_cpuset`].
pub fn widen(own: &[u64]) -> Result<Vec<u64>, Errno> {
    // The kernel writes as many words as it has CPUs for.
    let all = vec![u64::MAX; own.len()];
    let widened = apply_affinity(0, &all).and_then(|()| read_affinity(0));
    let restored = apply_affinity(0, own);
    match (widened, restored) {
        (Ok(cpuset), Ok(())) => Ok(cpuset),
        (Err(_), Ok(())) => Ok(own.to_vec()),
        (_, Err(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_mask_is_restored_after_the_cpuset_is_read() {
        std::thread::spawn(|| {
            let all = read_affinity(0).unwrap();
            let first = all.iter().position(|word| *word != 0).unwrap();
            let mut one = vec![0; first + 1];
            one[first] = 1 << all[first].trailing_zeros();
            apply_affinity(0, &one).unwrap();
            let cpuset = read_cpuset().unwrap();
            assert!(
                cpuset
                    .iter()
                    .zip(&all)
                    .all(|(wide, own)| wide & own == *own)
            );
            let now = read_affinity(0).unwrap();
            assert_eq!(now.iter().map(|w| w.count_ones()).sum::<u32>(), 1);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_mask_without_a_usable_cpu_is_an_error() {
        assert_eq!(apply_affinity(0, &[0]), Err(Errno(libc::EINVAL)));
    }
}
