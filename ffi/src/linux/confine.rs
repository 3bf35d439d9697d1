//! Takes from a process what a parser of others' bytes does not need.
//!
//! For a child that reads a file, or a tree of files, with a C library, and answers over a pipe: whatever the bytes make it do, it
//! writes no file, starts no program, reaches no network and no other process, takes no more than [`MEMORY_BYTES`], and is no
//! user whom anything belongs to.  What a kernel or a container lacks is left out; the rest still holds.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::linux::migrate::page_bytes;

/// Address space that a parser may have, beyond what the process had.  hwloc's largest recorded machine takes a hundredth of it.
pub const MEMORY_BYTES: u64 = 1 << 30;
/// The overflow user and group: nobody's (`/proc/sys/kernel/overflowuid`).
const NOBODY: u32 = 65_534;

/// Confines this process, which must have one thread, to reading what lies below `folders`.
///
/// It ends by itself after `seconds`.  Descriptors that are open stay.
pub fn confine(folders: &[&Path], seconds: u32) {
    limit(seconds);
    // SAFETY: a flag of this process; filters and rules need it where the process has no rights of its own.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    leave_user(!folders.is_empty());
    fence_files(folders);
    filter_calls();
}

fn limit(seconds: u32) {
    let set = |what, most: u64| {
        let mut limit = libc::rlimit {
            rlim_cur: most,
            rlim_max: most,
        };
        // SAFETY: a live structure; a limit that cannot be set stays as it was, and none is raised.
        unsafe {
            libc::getrlimit(what, &raw mut limit);
            limit.rlim_cur = limit.rlim_cur.min(most);
            limit.rlim_max = limit.rlim_max.min(most);
            libc::setrlimit(what, &raw const limit);
        }
    };
    // SAFETY: plain system calls; the parent may have ignored the signal.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::alarm(seconds);
    }
    set(libc::RLIMIT_CORE, 0);
    set(libc::RLIMIT_FSIZE, 0);
    set(libc::RLIMIT_CPU, u64::from(seconds));
    set(
        libc::RLIMIT_AS,
        own_size_bytes().saturating_add(MEMORY_BYTES),
    );
}

/// Address space that this process has; 0 where `/proc` does not tell.
fn own_size_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split(' ')
        .next()
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * page_bytes() as u64
}

/// A capability set as `capset(2)` takes it (`linux/capability.h`, version 3).
#[repr(C)]
struct Capabilities {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Becomes nobody where the process is root, and gives all capabilities away.  One that `reads` keeps root's right to read:
/// a tree of root's alone would be unreadable otherwise, and the rules on files still bound it.
fn leave_user(reads: bool) {
    /// `CAP_DAC_READ_SEARCH`.
    const READ_SEARCH: u32 = 1 << 2;
    /// `SECBIT_NO_SETUID_FIXUP` of `linux/securebits.h`: another user keeps the capabilities, also where access(2) asks, which
    /// hwloc does first.
    const NO_FIXUP: libc::c_ulong = 1 << 2;
    const VERSION_3: u32 = 0x2008_0522;
    // SAFETY: plain system calls on this process of one thread; one that the kernel refuses changes nothing.
    unsafe {
        // Where that cannot be set, root remains, without what makes it more than its name.
        if libc::geteuid() == 0
            && (!reads || libc::prctl(libc::PR_SET_SECUREBITS, NO_FIXUP, 0, 0, 0) == 0)
        {
            libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>());
            libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY);
            libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY);
        }
        let own = |kept: u32| {
            let head = [VERSION_3, 0];
            let none = || Capabilities {
                effective: 0,
                permitted: 0,
                inheritable: 0,
            };
            let low = Capabilities {
                effective: kept,
                permitted: kept,
                inheritable: 0,
            };
            let sets = [low, none()];
            libc::syscall(libc::SYS_capset, head.as_ptr(), sets.as_ptr())
        };
        // A user who never had it has none to keep.
        if !reads || own(READ_SEARCH) != 0 {
            own(0);
        }
    }
}

/// The version of Landlock's rules that the kernel takes; negative where it has none.
fn landlock_version() -> libc::c_long {
    /// `LANDLOCK_CREATE_RULESET_VERSION`.
    const VERSION: libc::c_int = 1;
    // SAFETY: asks for the version; there is no structure.
    unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u64>(),
            0,
            VERSION,
        )
    }
}

/// Landlock's word on files (`linux/landlock.h`): all is denied but reading below the folders.
fn fence_files(folders: &[&Path]) {
    const PATH_BENEATH: libc::c_int = 1;
    const READ: u64 = 1 << 2 | 1 << 3;
    /// What each version can deny: 13 rights, moving files, cutting them, a device's own calls.
    const RIGHTS: [(libc::c_long, u64); 4] = [(1, 13), (2, 14), (3, 15), (5, 16)];
    #[repr(C, packed)]
    struct Beneath {
        allowed: u64,
        folder: libc::c_int,
    }
    let version = landlock_version();
    let Some((_, bits)) = RIGHTS.iter().rev().find(|(from, _)| version >= *from) else {
        return;
    };
    let handled: u64 = (1 << bits) - 1;
    // SAFETY: the structure of the first version is this one number.
    let rules = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const handled,
            size_of::<u64>(),
            0,
        )
    };
    let Some(rules) = libc::c_int::try_from(rules)
        .ok()
        .filter(|rules| *rules >= 0)
    else {
        return;
    };
    // SAFETY: the descriptor was just made, and is nobody else's.
    let rules = unsafe { OwnedFd::from_raw_fd(rules) };
    for folder in folders {
        let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else {
            continue;
        };
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        let Ok(opened) = rustix::fs::open(path.as_c_str(), flags, rustix::fs::Mode::empty()) else {
            continue;
        };
        let rule = Beneath {
            allowed: READ,
            folder: opened.as_raw_fd(),
        };
        // SAFETY: a live structure of the kind that is named.
        unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                rules.as_raw_fd(),
                PATH_BENEATH,
                &raw const rule,
                0,
            )
        };
    }
    // SAFETY: a descriptor of rules.
    unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
}

/// What a parser calls: it reads, takes memory, tells the time, and ends.
const CALLS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_lseek,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_getcwd,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_getcpu,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrandom,
    libc::SYS_get_mempolicy,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// The calls that open a file, and which of their arguments has the flags.
const OPENING: &[(libc::c_long, usize)] = &[
    (libc::SYS_openat, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 1),
];

/// `AUDIT_ARCH_*` of `linux/audit.h`; none where this code has not been tried.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: Option<u32> = None;

/// Answers every other call, and every one that would open a file for writing, with `EPERM`: a library goes on without.
fn filter_calls() {
    let Some(architecture) = ARCHITECTURE else {
        return;
    };
    let mut filter = program(architecture);
    let Ok(len) = u16::try_from(filter.len()) else {
        return;
    };
    let program = libc::sock_fprog {
        len,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: a live program of that many instructions; one that the kernel refuses changes nothing.
    unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
}

fn program(architecture: u32) -> Vec<libc::sock_filter> {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
    const EQUALS: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const ALLOW: u32 = 0x7fff_0000; // SECCOMP_RET_ALLOW
    const REFUSE: u32 = 0x0005_0000 | 1; // SECCOMP_RET_ERRNO | EPERM
    // Of `struct seccomp_data`: the call's number, the architecture, then the arguments of eight bytes, the lower half first.
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    const ARGUMENTS: u32 = 16;
    /// What opens for writing, or makes a file.
    const WRITES: u32 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u32;
    let step = |code, k, (jt, jf): (u8, u8)| libc::sock_filter { code, jt, jf, k };
    let plain = |code, k| step(code, k, (0, 0));
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let mut program = vec![
        plain(LOAD, ARCH),
        step(EQUALS, architecture, (1, 0)),
        plain(RETURN, REFUSE),
        plain(LOAD, NUMBER),
    ];
    for (call, argument) in OPENING {
        let at = ARGUMENTS + 8 * u32::try_from(*argument).unwrap_or(0);
        program.extend([
            step(EQUALS, number(*call), (0, 5)),
            plain(LOAD, at),
            plain(AND, WRITES),
            step(EQUALS, 0, (0, 1)),
            plain(RETURN, ALLOW),
            plain(RETURN, REFUSE),
        ]);
    }
    for call in CALLS {
        program.extend([step(EQUALS, number(*call), (0, 1)), plain(RETURN, ALLOW)]);
    }
    program.push(plain(RETURN, REFUSE));
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::process::exit_now;
    use std::fs;

    /// What a confined child of this process says; it has one thread, for it forks without the others.
    fn confined(folders: &[&Path], ask: fn(&Path) -> Vec<&'static str>, at: &Path) -> String {
        let (mut from, to) = std::io::pipe().unwrap();
        // SAFETY: a test; the child only reads files, and ends at once.
        match unsafe { libc::fork() } {
            0 => {
                confine(folders, 5);
                let said = ask(at).join(" ");
                let is_said = std::io::Write::write_all(&mut &to, said.as_bytes()).is_ok();
                exit_now(i32::from(!is_said));
            }
            child => {
                drop(to);
                let mut text = String::new();
                std::io::Read::read_to_string(&mut from, &mut text).unwrap();
                // SAFETY: our own child.
                unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
                text
            }
        }
    }

    #[test]
    fn a_parser_reads_its_folder_and_can_do_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("given"), "text").unwrap();
        // As root's own files are.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(folder.path().join("given"), mode).unwrap();
        let asked = |at: &Path| {
            let mut can = Vec::new();
            let mut note = |is: bool, word| {
                if is {
                    can.push(word);
                }
            };
            note(fs::read(at.join("given")).is_ok(), "read");
            let given = CString::new(at.join("given").as_os_str().as_bytes()).unwrap();
            // SAFETY: a string that outlives the call.
            let is_accessible = unsafe { libc::access(given.as_ptr(), libc::R_OK) } == 0;
            note(is_accessible, "access");
            let is_fenced = landlock_version() > 0;
            note(
                is_fenced && fs::read("/etc/passwd").is_ok(),
                "read-elsewhere",
            );
            note(fs::write(at.join("new"), "text").is_ok(), "write");
            note(fs::write("/dev/null", "text").is_ok(), "write-device");
            note(fs::remove_file(at.join("given")).is_ok(), "remove");
            note(std::os::unix::net::UnixStream::pair().is_ok(), "socket");
            note(
                std::net::TcpListener::bind("127.0.0.1:0").is_ok(),
                "network",
            );
            // SAFETY: plain system calls with no memory.
            unsafe {
                note(libc::fork() >= 0, "fork");
                note(libc::kill(libc::getppid(), 0) == 0, "signal");
                note(libc::geteuid() == 0, "root");
                note(libc::unshare(libc::CLONE_NEWUSER) == 0, "namespace");
            }
            let mut room = Vec::<u8>::new();
            note(room.try_reserve_exact(2 << 30).is_ok(), "memory");
            can
        };
        let can = confined(&[folder.path()], asked, folder.path());
        assert_eq!(can, "read access");
        // Without a folder it reads what all may read where there are no rules on files, and never what is root's.
        assert_eq!(confined(&[], asked, folder.path()), "");
        assert!(folder.path().join("given").exists());
    }
}
