//! Filters of system calls (`seccomp(2)`), as programs of the kernel's packet filter (`linux/filter.h`).

/// What a parser calls: it reads, takes memory, tells the time, and ends.
const READING: &[libc::c_long] = &[
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
const OPENING: &[(libc::c_long, u32)] = &[
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

/// What a library that asks a driver by `ioctl` has no use for: to start programs, reach others, or change what they find.  Not
/// here is how it makes threads; see [`program_of_asking`].
const REFUSED: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_kill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_mknodat,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_personality,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_renameat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const EQUALS: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const FROM: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const ALLOW: u32 = 0x7fff_0000; // SECCOMP_RET_ALLOW
const FAIL: u32 = 0x0005_0000; // SECCOMP_RET_ERRNO
const REFUSE: u32 = FAIL | libc::EPERM as u32;
// Of `struct seccomp_data`: the call's number, the architecture, then the arguments of eight bytes, the lower half first.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A filter of this process and of the threads that it makes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Filter {
    /// It reads files, takes memory and tells the time; every other call is refused, and so is one that would open a file for
    /// writing.
    Reading,
    /// It may do whatever a library does that asks a driver, but for what no such library has a use for.
    Asking,
}

/// Answers each call that the filter refuses with `EPERM`: a library goes on without.
pub(super) fn filter_calls(filter: Filter) {
    let Some(architecture) = ARCHITECTURE else {
        return;
    };
    let mut filter = match filter {
        Filter::Reading => program_of_reading(architecture),
        Filter::Asking => program_of_asking(architecture),
    };
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

fn step(code: u16, k: u32, (jt, jf): (u8, u8)) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn plain(code: u16, k: u32) -> libc::sock_filter {
    step(code, k, (0, 0))
}

/// A call's number; one that no kernel has where it is none.
fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

/// Refuses calls of another architecture, and has the call's number for what follows.
fn head(architecture: u32) -> Vec<libc::sock_filter> {
    vec![
        plain(LOAD, ARCH),
        step(EQUALS, architecture, (1, 0)),
        plain(RETURN, REFUSE),
        plain(LOAD, NUMBER),
    ]
}

/// For one call: what follows is on its argument, masked, which must be `wanted`.
fn masked(call: libc::c_long, argument: u32, mask: u32, wanted: u32) -> [libc::sock_filter; 6] {
    [
        step(EQUALS, number(call), (0, 5)),
        plain(LOAD, ARGUMENTS + 8 * argument),
        plain(AND, mask),
        step(EQUALS, wanted, (0, 1)),
        plain(RETURN, ALLOW),
        plain(RETURN, REFUSE),
    ]
}

fn program_of_reading(architecture: u32) -> Vec<libc::sock_filter> {
    /// What opens for writing, or makes a file.
    const WRITES: u32 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u32;
    let mut program = head(architecture);
    for (call, argument) in OPENING {
        program.extend(masked(*call, *argument, WRITES, 0));
    }
    for call in READING {
        program.extend([step(EQUALS, number(*call), (0, 1)), plain(RETURN, ALLOW)]);
    }
    program.push(plain(RETURN, REFUSE));
    program
}

/// Threads may be made, processes not.  What `clone3` makes cannot be seen, so it is one that this kernel lacks, and the C library
/// takes `clone` then.
fn program_of_asking(architecture: u32) -> Vec<libc::sock_filter> {
    /// Numbers from here are those of x32 on x86-64, under which every call exists once more (`__X32_SYSCALL_BIT`).
    const X32: u32 = 0x4000_0000;
    const THREAD: u32 = libc::CLONE_THREAD as u32;
    let mut program = head(architecture);
    program.extend([step(FROM, X32, (0, 1)), plain(RETURN, REFUSE)]);
    program.extend(masked(libc::SYS_clone, 0, THREAD, THREAD));
    program.extend([
        step(EQUALS, number(libc::SYS_clone3), (0, 1)),
        plain(RETURN, FAIL | libc::ENOSYS as u32),
    ]);
    for call in REFUSED {
        program.extend([step(EQUALS, number(*call), (0, 1)), plain(RETURN, REFUSE)]);
    }
    program.push(plain(RETURN, ALLOW));
    program
}
