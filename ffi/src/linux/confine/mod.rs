//! Takes from a process what it does not need to ask others' code about others' bytes.
//!
//! [`confine`] is for a child that reads a file, or a tree of files, with a C library, and answers over a pipe: whatever the bytes
//! make it do, it writes no file, starts no program, reaches no network and no other process, takes no more than
//! [`MEMORY_BYTES`], and is no user whom anything belongs to.  [`confine_to_devices`] is for one whose library asks a driver: it
//! keeps the driver's device files beside.  What a kernel or a container lacks is left out; the rest still holds.

mod filter;

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::linux::migrate::page_bytes;
use filter::{Filter, filter_calls};

/// Address space that a parser may have, beyond what the process had.  hwloc's largest recorded machine takes a hundredth of it.
pub const MEMORY_BYTES: u64 = 1 << 30;
/// Address space that a driver's library may have: it maps registers and itself, with holes, but no GPU's memory.
pub const LIBRARY_BYTES: u64 = 16 << 30;
/// The overflow user and group: nobody's (`/proc/sys/kernel/overflowuid`).
const NOBODY: u32 = 65_534;

/// Confines this process, which must have one thread, to reading what lies below `folders`.
///
/// It ends by itself after `seconds`.  Descriptors that are open stay.
pub fn confine(folders: &[&Path], seconds: u32) {
    limit(seconds, MEMORY_BYTES);
    forbid_new_rights();
    leave_user(!folders.is_empty());
    let read = |folder| Allowed {
        path: folder,
        rights: READ,
    };
    fence_files(&folders.iter().copied().map(read).collect::<Vec<_>>());
    filter_calls(Filter::Reading);
}

/// Confines this process, which must have one thread, to reading what every user may read and to `devices`: device files, which it
/// may write and ask by `ioctl`, and folders of such.
///
/// It has no capability, starts no program, has no socket, and makes, removes and renames no file.  Where it `leaves_user` and
/// every user may open all of the device files it is nobody; else it stays who it is.  Threads that it makes later are confined
/// too.  It ends by itself after `seconds` of a processor's time.
pub fn confine_to_devices(devices: &[&Path], leaves_user: bool, seconds: u32) {
    limit_use(seconds, LIBRARY_BYTES);
    forbid_new_rights();
    if leaves_user && devices.iter().all(|device| is_everyones(device)) {
        leave_user(false);
    } else {
        drop_capabilities(0);
    }
    let device = |path| Allowed {
        path,
        rights: READ | WRITE_FILE | ASK_DEVICE,
    };
    let all = Allowed {
        path: Path::new("/"),
        rights: READ,
    };
    let allowed: Vec<Allowed<'_>> = devices.iter().copied().map(device).chain([all]).collect();
    fence_files(&allowed);
    filter_calls(Filter::Asking);
}

/// Whether any user may read and write a device file; of a folder, what is in it decides when it is opened.
fn is_everyones(path: &Path) -> bool {
    const ALL: libc::mode_t = libc::S_IROTH | libc::S_IWOTH;
    rustix::fs::stat(path).is_ok_and(|found| {
        let is_folder = found.st_mode & libc::S_IFMT == libc::S_IFDIR;
        is_folder || found.st_mode & ALL == ALL
    })
}

fn forbid_new_rights() {
    // SAFETY: a flag of this process; filters and rules need it where the process has no rights of its own.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
}

fn limit(seconds: u32, memory_bytes: u64) {
    // SAFETY: plain system calls; the parent may have ignored the signal.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::alarm(seconds);
    }
    limit_use(seconds, memory_bytes);
}

/// Limits a processor's time, memory beyond what the process has, and files: none may grow.
fn limit_use(seconds: u32, memory_bytes: u64) {
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
    set(libc::RLIMIT_CORE, 0);
    set(libc::RLIMIT_FSIZE, 0);
    set(libc::RLIMIT_CPU, u64::from(seconds));
    set(
        libc::RLIMIT_AS,
        own_size_bytes().saturating_add(memory_bytes),
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
    }
    // A user who never had it has none to keep.
    if !reads || !drop_capabilities(READ_SEARCH) {
        drop_capabilities(0);
    }
}

/// Gives all capabilities away but the `kept` ones of the first 32; whether the kernel did it.  None can come back.
fn drop_capabilities(kept: u32) -> bool {
    const VERSION_3: u32 = 0x2008_0522;
    let head = [VERSION_3, 0];
    let sets = [kept, 0].map(|kept| Capabilities {
        effective: kept,
        permitted: kept,
        inheritable: 0,
    });
    // SAFETY: live structures of version 3: a head, and two sets of 32 capabilities each.
    unsafe { libc::syscall(libc::SYS_capset, head.as_ptr(), sets.as_ptr()) == 0 }
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

/// Landlock's rights (`linux/landlock.h`): to read files and folders, to write a file, and a device's own calls.
const READ: u64 = 1 << 2 | 1 << 3;
const READ_FOLDER: u64 = 1 << 3;
const WRITE_FILE: u64 = 1 << 1;
const ASK_DEVICE: u64 = 1 << 15;

/// What may be done with a file, or below a folder.
struct Allowed<'p> {
    path: &'p Path,
    rights: u64,
}

/// Landlock's word on files: all is denied but what is allowed.
fn fence_files(allowed: &[Allowed<'_>]) {
    const PATH_BENEATH: libc::c_int = 1;
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
    for Allowed { path, rights } in allowed {
        let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
            continue;
        };
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        let Ok(opened) = rustix::fs::open(path.as_c_str(), flags, rustix::fs::Mode::empty()) else {
            continue;
        };
        // The kernel refuses a rule with a right that is not denied elsewhere, or that no file has.
        let is_folder = rustix::fs::fstat(&opened)
            .is_ok_and(|found| found.st_mode & libc::S_IFMT == libc::S_IFDIR);
        let of_kind = if is_folder { u64::MAX } else { !READ_FOLDER };
        let rule = Beneath {
            allowed: rights & handled & of_kind,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::process::exit_now;
    use std::fs;

    fn confined(folders: &[&Path], ask: fn(&Path) -> Vec<&'static str>, at: &Path) -> String {
        confined_by(confine, folders, ask, at)
    }

    /// What a confined child of this process says; it has one thread, for it forks without the others.
    fn confined_by(
        confine: impl Fn(&[&Path], u32),
        folders: &[&Path],
        ask: fn(&Path) -> Vec<&'static str>,
        at: &Path,
    ) -> String {
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
    fn a_library_asks_its_device_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(folder.path(), readable).unwrap();
        fs::write(folder.path().join("given"), "text").unwrap();
        let asked = |at: &Path| {
            let mut can = Vec::new();
            let mut note = |is: bool, word| {
                if is {
                    can.push(word);
                }
            };
            note(fs::read("/proc/self/maps").is_ok(), "read");
            // Its own threads hold locks, time and memory.
            note(std::thread::spawn(|| ()).join().is_ok(), "thread");
            note(fs::write("/dev/null", "text").is_ok(), "write-device");
            let is_fenced = landlock_version() > 0;
            note(
                is_fenced && fs::write("/dev/zero", "text").is_ok(),
                "write-other",
            );
            note(fs::write(at.join("given"), "more").is_ok(), "write");
            note(fs::remove_file(at.join("given")).is_ok(), "remove");
            note(fs::create_dir(at.join("new")).is_ok(), "folder");
            note(std::os::unix::net::UnixStream::pair().is_ok(), "socket");
            let started = std::process::Command::new("/bin/true").status();
            note(started.is_ok(), "program");
            // SAFETY: plain system calls with no memory.
            unsafe {
                note(libc::fork() >= 0, "fork");
                note(libc::kill(libc::getppid(), 0) == 0, "signal");
                note(libc::geteuid() == 0, "root");
                note(libc::setresuid(0, 0, 0) == 0, "become-root");
                note(libc::unshare(libc::CLONE_NEWUSER) == 0, "namespace");
            }
            let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
            let is = |line: &str| status.lines().any(|own| own == line);
            for set in ["CapEff", "CapPrm", "CapInh"] {
                note(!is(&format!("{set}:\t0000000000000000")), "capability");
            }
            note(!is("NoNewPrivs:\t1") || !is("Seccomp:\t2"), "loose");
            can
        };
        let confine =
            |_: &[&Path], seconds| confine_to_devices(&[Path::new("/dev/null")], true, seconds);
        assert_eq!(
            confined_by(confine, &[], asked, folder.path()),
            "read thread write-device"
        );
        assert_eq!(
            fs::read_to_string(folder.path().join("given")).unwrap(),
            "text"
        );
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
