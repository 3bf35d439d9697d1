/* tracer: runs spank_host and sees each call of the kernel that a hook makes with a path, or on a file of a folder.
 *
 *   tracer LOG FOLDER HOST
 *
 * Writes "HOOK CALL PATH" lines to LOG.  A process that asks anything of FOLDER ("-" for none), but for an openat2 that
 * answers from the kernel's caches alone, never comes back from it, as where a file server is gone: it can only be killed.
 * The host says where a hook begins and ends by a prctl that the kernel refuses (MARK in host.h). */
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 8192 };
/* Which argument is the folder's descriptor (-1: none), which the path (-1: the descriptor is the file). */
static const struct { long number; const char *name; int folder, path; } calls[] = {
#ifdef SYS_open
    { SYS_open, "open", -1, 0 }, { SYS_stat, "stat", -1, 0 }, { SYS_lstat, "lstat", -1, 0 }, { SYS_access, "access", -1, 0 },
    { SYS_readlink, "readlink", -1, 0 }, { SYS_creat, "creat", -1, 0 }, { SYS_unlink, "unlink", -1, 0 },
    { SYS_mkdir, "mkdir", -1, 0 }, { SYS_rmdir, "rmdir", -1, 0 }, { SYS_rename, "rename", -1, 0 }, { SYS_link, "link", -1, 0 },
    { SYS_symlink, "symlink", -1, 1 }, { SYS_chmod, "chmod", -1, 0 }, { SYS_chown, "chown", -1, 0 },
    { SYS_lchown, "lchown", -1, 0 }, { SYS_utimes, "utimes", -1, 0 }, { SYS_mknod, "mknod", -1, 0 },
#endif
    { SYS_openat, "openat", 0, 1 }, { SYS_openat2, "openat2", 0, 1 }, { SYS_newfstatat, "newfstatat", 0, 1 },
    { SYS_statx, "statx", 0, 1 }, { SYS_faccessat, "faccessat", 0, 1 }, { SYS_faccessat2, "faccessat2", 0, 1 },
    { SYS_readlinkat, "readlinkat", 0, 1 }, { SYS_unlinkat, "unlinkat", 0, 1 }, { SYS_mkdirat, "mkdirat", 0, 1 },
    { SYS_mknodat, "mknodat", 0, 1 }, { SYS_renameat2, "renameat2", 0, 1 }, { SYS_linkat, "linkat", 0, 1 },
    { SYS_symlinkat, "symlinkat", 1, 2 }, { SYS_fchmodat, "fchmodat", 0, 1 }, { SYS_fchownat, "fchownat", 0, 1 },
    { SYS_utimensat, "utimensat", 0, 1 }, { SYS_statfs, "statfs", -1, 0 }, { SYS_chdir, "chdir", -1, 0 },
    { SYS_chroot, "chroot", -1, 0 }, { SYS_truncate, "truncate", -1, 0 }, { SYS_execve, "execve", -1, 0 },
    { SYS_execveat, "execveat", 0, 1 }, { SYS_getxattr, "getxattr", -1, 0 }, { SYS_listxattr, "listxattr", -1, 0 },
    { SYS_name_to_handle_at, "name_to_handle_at", 0, 1 }, { SYS_inotify_add_watch, "inotify_add_watch", -1, 1 },
    { SYS_mount, "mount", -1, 1 }, { SYS_read, "read", 0, -1 }, { SYS_pread64, "pread64", 0, -1 }, { SYS_readv, "readv", 0, -1 },
    { SYS_preadv2, "preadv2", 0, -1 }, { SYS_fstat, "fstat", 0, -1 }, { SYS_lseek, "lseek", 0, -1 },
    { SYS_getdents64, "getdents64", 0, -1 }, { SYS_fstatfs, "fstatfs", 0, -1 }, { SYS_mmap, "mmap", 4, -1 },
    { SYS_close, "close", 0, -1 }, { SYS_fchdir, "fchdir", 0, -1 }, { SYS_flock, "flock", 0, -1 },
};

static struct tracee { pid_t pid; char hook[32]; } tracees[MOST];
static FILE *file;
static const char *slow;

static void stop(const char *what)
{
    fprintf(stderr, "tracer: %s: %s\n", what, strerror(errno));
    exit(5);
}

static struct tracee *of(pid_t pid)
{
    struct tracee *free_one = NULL;
    for (int i = 0; i < MOST; i++) {
        if (tracees[i].pid == pid)
            return &tracees[i];
        if (!tracees[i].pid && !free_one)
            free_one = &tracees[i];
    }
    if (!free_one)
        stop("too many processes");
    free_one->pid = pid;
    free_one->hook[0] = 0;
    return free_one;
}

/* A string of the process; to a page's end at a time, as what follows it may not be there. */
static void read_text(pid_t pid, uint64_t at, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
    while (at && used + 1 < size) {
        size_t piece = 4096 - (at + used) % 4096;
        struct iovec to = { text + used, piece < size - 1 - used ? piece : size - 1 - used }, from = { (void *)(at + used), to.iov_len };
        ssize_t read = process_vm_readv(pid, &to, 1, &from, 1, 0);
        if (read <= 0)
            break;
        used += (size_t)read;
        text[used] = 0;
        if (memchr(text + used - read, 0, (size_t)read))
            break;
    }
}

static void link_of(pid_t pid, const char *name, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    ssize_t length = readlink(path, text, size - 1);
    text[length < 0 ? 0 : length] = 0;
}

static void whole_path(pid_t pid, int folder, const char *path, char *whole, size_t size)
{
    char name[32] = "cwd", base[4096];
    if (*path == '/') {
        snprintf(whole, size, "%s", path);
        return;
    }
    if (folder != AT_FDCWD)
        snprintf(name, sizeof name, "fd/%d", folder);
    link_of(pid, name, base, sizeof base);
    snprintf(whole, size, *path ? "%s/%s" : "%s%s", base, path);
}

static int is_cached_only(pid_t pid, uint64_t at)
{
    struct open_how how = { 0 };
    struct iovec to = { &how, sizeof how }, from = { (void *)at, sizeof how };
    return process_vm_readv(pid, &to, 1, &from, 1, 0) == sizeof how && how.resolve & RESOLVE_CACHED;
}

/* Whether a descriptor only names its file (O_PATH): to close it asks no file system (filp_flush of fs/open.c). */
static int is_only_name(pid_t pid, int descriptor)
{
    char path[64], line[256];
    unsigned flags = 0;
    snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", pid, descriptor);
    FILE *info = fopen(path, "r");
    while (info && fgets(line, sizeof line, info))
        sscanf(line, "flags: %o", &flags);
    if (info)
        fclose(info);
    return (flags & O_PATH) != 0;
}

/* Whether the process may go on. */
static int look(struct tracee *tracee, const struct __ptrace_syscall_info *info)
{
    const uint64_t *a = (const uint64_t *)info->entry.args;
    char path[4096], whole[8300];
    if (info->entry.nr == SYS_prctl && a[0] == MARK) {
        read_text(tracee->pid, a[1], tracee->hook, sizeof tracee->hook);
        return 1;
    }
    if (!tracee->hook[0])
        return 1;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (calls[i].number != (long)info->entry.nr)
            continue;
        int is_file = calls[i].path < 0, descriptor = calls[i].folder < 0 ? AT_FDCWD : (int)a[calls[i].folder];
        int is_cached = calls[i].number == SYS_openat2 && is_cached_only(tracee->pid, a[2]);
        if (is_file && (descriptor < 0 || (calls[i].number == SYS_close && is_only_name(tracee->pid, descriptor))))
            return 1;
        path[0] = 0;
        if (!is_file)
            read_text(tracee->pid, a[calls[i].path], path, sizeof path);
        whole_path(tracee->pid, descriptor, path, whole, sizeof whole);
        if (!is_file)
            fprintf(file, "%s %s%s %s\n", tracee->hook, calls[i].name, is_cached ? "-cached" : "", whole);
        if (is_cached || strncmp(whole, slow, strlen(slow)))
            return 1;
        fprintf(file, "%s HANGS %s %s\n", tracee->hook, calls[i].name, whole);
        return 0;
    }
    return 1;
}

static void on_stop(pid_t pid, int status)
{
    struct tracee *tracee = of(pid);
    int signal = WSTOPSIG(status), event = status >> 16;
    struct __ptrace_syscall_info info;
    if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) {
        unsigned long child = 0;
        ptrace(PTRACE_GETEVENTMSG, pid, NULL, &child);
        snprintf(of((pid_t)child)->hook, sizeof tracee->hook, "%s", tracee->hook);
        signal = 0;
    } else if (signal == (SIGTRAP | 0x80)) {
        signal = 0;
        long size = ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info);
        if (size > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY && !look(tracee, &info))
            return;
    } else if (event || signal == SIGTRAP || signal == SIGSTOP) {
        signal = 0;
    }
    ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(long)signal);
}

int main(int argc, char **argv)
{
    int status, last = 5;
    if (argc != 4 || !(file = fopen(argv[1], "w")))
        stop("usage: tracer LOG FOLDER HOST");
    setvbuf(file, NULL, _IOLBF, 0);
    slow = strcmp(argv[2], "-") ? argv[2] : "\n";
    pid_t host = fork();
    if (host == 0) {
        fclose(file);
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        execl(argv[3], argv[3], (char *)NULL);
        stop(argv[3]);
    }
    if (waitpid(host, &status, 0) != host || !WIFSTOPPED(status))
        stop("the host does not start");
    if (ptrace(PTRACE_SETOPTIONS, host, NULL,
               (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL)) != 0)
        stop("ptrace");
    ptrace(PTRACE_SYSCALL, host, NULL, NULL);
    for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
        if (WIFSTOPPED(status)) {
            on_stop(pid, status);
            continue;
        }
        of(pid)->pid = 0;
        if (pid == host) {
            last = WIFEXITED(status) ? WEXITSTATUS(status) : 6;
            break;
        }
    }
    fclose(file);
    return last;
}
