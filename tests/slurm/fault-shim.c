/* fault-shim.so: preloaded into slurmd (and so slurmstepd) or srun, makes one hook of our plugin meet one fault.
 *
 * The release plugin has no code for this.  Slurm finds a plugin's hooks with dlsym(), which comes here first, and
 * gets a hook of this file around the plugin's own.  While that runs, what the plugin calls of Slurm and of libc
 * comes here first too, for the thread that is in the hook alone.
 *
 * The environment variable GPU_NUMA_FAULT names a file of one line: PROGRAM HOOK KIND [FUNCTION PANIC].  HOOK is the
 * name of the hook without slurm_spank_, or "option" for the option's callback.  A file with ".met" after that name
 * says afterwards that the fault was met.  Kinds:
 *   error         every call into Slurm and the kernel fails; the option's callback gets a bad value
 *   panic         the plugin's own function at offset FUNCTION is replaced by a call of core::panicking::panic at
 *                 offset PANIC, so that a true Rust panic unwinds from there
 *   slow          the hook takes 2.5 s longer, which is more than a task waits for its neighbours
 *   slow-one      so in the step's task 1 alone
 *   slow-told     the hook takes 2.5 s longer from when a file with ".go" after that name is there, a minute at most
 *   die           the process is killed: slurmstepd, or the task
 *   die-parent    so is its parent: in a task, slurmstepd
 *   die-one       the step's task 1 is killed
 *   die-others    all tasks of the step but task 1 are
 *   stop-one      the step's task 1 is stopped for 3 s, as by SIGSTOP from a user
 *   eat           the process takes memory until it is killed, 1 GiB at most
 *   eacces        nothing can be opened
 *   no-affinity, no-policy   seccomp: sched_setaffinity, set_mempolicy answer EPERM
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <slurm/spank.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum kind { NONE, ERROR, PANIC, SLOW, SLOW_ONE, SLOW_TOLD, DIE, DIE_PARENT, DIE_ONE, DIE_OTHERS, STOP_ONE, EAT, EACCES_ALL,
    NO_AFFINITY, NO_POLICY };
static const char *const kinds[] = { "none", "error", "panic", "slow", "slow-one", "slow-told", "die", "die-parent", "die-one",
    "die-others", "stop-one", "eat", "eacces", "no-affinity", "no-policy" };

static struct {
    char program[64], hook[64], kind[64];
    unsigned long function, panic;
    enum kind number;
} fault;

/* What the current thread's hook meets; NONE outside of a hook. */
static __thread enum kind now;
static __thread int slept;
/* Where the plugin is mapped. */
static unsigned long base;

static void *real_dlsym(void *handle, const char *name)
{
    static void *(*real)(void *, const char *);
    if (!real)
        real = (void *(*)(void *, const char *))dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
    return real(handle, name);
}

/* The function that NAME would be without this file. */
#define NEXT(name)                                                                                                    \
    static __typeof__(name) *next;                                                                                    \
    if (!next)                                                                                                        \
        next = (__typeof__(name) *)real_dlsym(RTLD_NEXT, #name)

static void read_fault(void)
{
    const char *path = getenv("GPU_NUMA_FAULT");
    FILE *file = path ? fopen(path, "r") : NULL;
    fault.number = NONE;
    if (!file)
        return;
    int fields = fscanf(file, "%63s %63s %63s %lx %lx", fault.program, fault.hook, fault.kind, &fault.function,
        &fault.panic);
    fclose(file);
    for (enum kind k = NONE; fields >= 3 && k <= NO_POLICY; k++)
        if (!strcmp(fault.kind, kinds[k]))
            fault.number = k;
}

/* Says that the fault was met, by a file beside the fault's own. */
static void mark_met(void)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s.met", getenv("GPU_NUMA_FAULT"));
    int fd = open(path, O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
}

/* A task of a fixed number, so that what its neighbour says is the same each time. */
static int is_the_one(spank_t spank)
{
    int task = -1;
    return spank && spank_get_item(spank, S_TASK_ID, &task) == ESPANK_SUCCESS && task == 1;
}

/* The file that runs: slurmstepd writes over its own arguments.  Debian's end in "-wlm". */
static int is_program(const char *name)
{
    char path[PATH_MAX] = "";
    if (readlink("/proc/self/exe", path, sizeof path - 1) < 0)
        return 0;
    const char *last = strrchr(path, '/');
    return last && !strncmp(last + 1, name, strlen(name));
}

/* mov rdi, text; mov rsi, length; mov rdx, location; mov rax, function; jmp rax */
static unsigned char jump[42], original[sizeof jump];

static void write_code(const unsigned char *code)
{
    unsigned long at = base + fault.function, page = 4096;
    unsigned long start = at & -page, end = (at + sizeof jump + page - 1) & -page;
    if (mprotect((void *)start, end - start, PROT_READ | PROT_WRITE | PROT_EXEC))
        abort();
    memcpy((void *)at, code, sizeof jump);
    mprotect((void *)start, end - start, PROT_READ | PROT_EXEC);
}

static void arm_panic(void)
{
    static const char text[] = "injected", place[] = "fault-shim.c";
    static const struct { const char *file; size_t length; uint32_t line, column; } location = { place, 12, 1, 1 };
    const unsigned char moves[4][2] = { { 0x48, 0xbf }, { 0x48, 0xbe }, { 0x48, 0xba }, { 0x48, 0xb8 } };
    const uint64_t values[4] = { (uint64_t)text, sizeof text - 1, (uint64_t)&location, base + fault.panic };
    for (int i = 0; i < 4; i++) {
        memcpy(jump + 10 * i, moves[i], 2);
        memcpy(jump + 10 * i + 2, &values[i], 8);
    }
    jump[40] = 0xff;
    jump[41] = 0xe0;
    memcpy(original, (void *)(base + fault.function), sizeof original);
    write_code(jump);
}

static void deny(unsigned int call)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof *code, code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        abort();
}

/* Stops the process; a child wakes it again. */
static void stop_for_a_while(void)
{
    pid_t self = getpid();
    pid_t child = fork();
    if (child == 0) {
        sleep(3);
        kill(self, SIGCONT);
        _exit(0);
    }
    kill(self, SIGSTOP);
    waitpid(child, NULL, 0);
}

/* Each page is written, so that it is memory. */
static void eat(void)
{
    const size_t piece = 1 << 20;
    for (int pieces = 0; pieces < 1024; pieces++) {
        void *block = malloc(piece);
        if (block)
            memset(block, 1, piece);
    }
}

static void enter(const char *hook, spank_t spank)
{
    read_fault();
    if (fault.number == NONE || strcmp(fault.hook, hook) || !is_program(fault.program))
        return;
    mark_met();
    slept = 0;
    switch (fault.number) {
    case PANIC: arm_panic(); break;
    case NO_AFFINITY: deny(SYS_sched_setaffinity); return;
    case NO_POLICY: deny(SYS_set_mempolicy); return;
    case SLOW_ONE: if (!is_the_one(spank)) return; fault.number = SLOW; break;
    case DIE: kill(getpid(), SIGKILL); return;
    case DIE_PARENT: kill(getppid(), SIGKILL); return;
    case DIE_ONE: if (is_the_one(spank)) kill(getpid(), SIGKILL); return;
    case DIE_OTHERS: if (!is_the_one(spank)) kill(getpid(), SIGKILL); return;
    case EAT: eat(); return;
    case STOP_ONE: if (is_the_one(spank)) stop_for_a_while(); return;
    default: break;
    }
    now = fault.number;
}

static void wait_until_told(void)
{
    char path[PATH_MAX];
    const char *file = getenv("GPU_NUMA_FAULT");
    enum kind meant = now;
    now = NONE;
    snprintf(path, sizeof path, "%s.go", file ? file : "");
    for (int tries = 0; tries < 600 && access(path, F_OK); tries++)
        usleep(100000);
    now = meant;
}

/* Whether a call of the plugin should fail; takes its time first where the hook is to be slow. */
static int fails(void)
{
    if ((now == SLOW || now == SLOW_TOLD) && !slept) {
        slept = 1;
        if (now == SLOW_TOLD)
            wait_until_told();
        usleep(2500000);
    }
    return now == ERROR;
}

static void leave(void)
{
    fails(); /* for a hook that calls nothing */
    if (now == PANIC)
        write_code(original);
    now = NONE;
}

/* --- the hooks ------------------------------------------------------------------------------------------- */

typedef int hook_call(spank_t, int, char **);
enum { HOOKS = 6 };
static hook_call *real_hooks[HOOKS];
static const char *const names[HOOKS] = { "init", "init_post_opt", "user_init", "task_init", "task_exit", "exit" };

static int run(int which, spank_t spank, int count, char **arguments)
{
    enter(names[which], spank);
    int status = real_hooks[which](spank, count, arguments);
    leave();
    return status;
}

static int init(spank_t s, int n, char **a) { return run(0, s, n, a); }
static int init_post_opt(spank_t s, int n, char **a) { return run(1, s, n, a); }
static int user_init(spank_t s, int n, char **a) { return run(2, s, n, a); }
static int task_init(spank_t s, int n, char **a) { return run(3, s, n, a); }
static int task_exit(spank_t s, int n, char **a) { return run(4, s, n, a); }
static int at_exit(spank_t s, int n, char **a) { return run(5, s, n, a); }
static hook_call *const our_hooks[HOOKS] = { init, init_post_opt, user_init, task_init, task_exit, at_exit };

static int is_plugin(void *handle)
{
    struct link_map *map;
    if (handle == RTLD_DEFAULT || handle == RTLD_NEXT || dlinfo(handle, RTLD_DI_LINKMAP, &map) ||
        !strstr(map->l_name, "gpu_numa_bind"))
        return 0;
    base = map->l_addr;
    return 1;
}

void *dlsym(void *handle, const char *name)
{
    void *found = real_dlsym(handle, name);
    if (!found || strncmp(name, "slurm_spank_", 12) || !is_plugin(handle))
        return found;
    for (int i = 0; i < HOOKS; i++)
        if (!strcmp(name + 12, names[i])) {
            real_hooks[i] = (hook_call *)found;
            return (void *)our_hooks[i];
        }
    return found;
}

static int (*real_option)(int, const char *, int);

static int option(int value, const char *text, int remote)
{
    enter("option", NULL);
    int status = real_option(value, now == ERROR ? "clsest" : text, remote);
    leave();
    return status;
}

/* --- what the plugin calls ------------------------------------------------------------------------------- */

spank_err_t spank_option_register(spank_t spank, struct spank_option *given)
{
    NEXT(spank_option_register);
    static struct spank_option ours;
    if (fails())
        return ESPANK_ERROR;
    if (strcmp(given->name, "gpu-numa-bind"))
        return next(spank, given);
    ours = *given;
    real_option = given->cb;
    ours.cb = option;
    return next(spank, &ours);
}

spank_err_t spank_get_item(spank_t spank, spank_item_t item, ...)
{
    NEXT(spank_get_item);
    void *a[4];
    va_list list;
    va_start(list, item);
    for (int i = 0; i < 4; i++)
        a[i] = va_arg(list, void *);
    va_end(list);
    return fails() ? ESPANK_ERROR : next(spank, item, a[0], a[1], a[2], a[3]);
}

#define FAILING(type, name, parameters, arguments, error_number, failure)                                             \
    type name parameters                                                                                              \
    {                                                                                                                 \
        NEXT(name);                                                                                                   \
        if (fails()) {                                                                                                \
            errno = error_number;                                                                                     \
            return failure;                                                                                           \
        }                                                                                                             \
        return next arguments;                                                                                        \
    }
FAILING(spank_err_t, spank_getenv, (spank_t s, const char *n, char *b, int l), (s, n, b, l), EIO, ESPANK_ERROR)
FAILING(spank_err_t, spank_setenv, (spank_t s, const char *n, const char *v, int o), (s, n, v, o), EIO, ESPANK_ERROR)
FAILING(spank_err_t, spank_unsetenv, (spank_t s, const char *n), (s, n), EIO, ESPANK_ERROR)
FAILING(DIR *, opendir, (const char *p), (p), EIO, NULL)
FAILING(ssize_t, readlink, (const char *restrict p, char *restrict b, size_t l), (p, b, l), EIO, -1)
FAILING(int, faccessat, (int d, const char *p, int m, int f), (d, p, m, f), EIO, -1)
FAILING(int, statx, (int d, const char *restrict p, int f, unsigned m, struct statx *restrict s), (d, p, f, m, s), EIO, -1)
FAILING(int, stat64, (const char *restrict p, struct stat64 *restrict s), (p, s), EIO, -1)
FAILING(int, lstat64, (const char *restrict p, struct stat64 *restrict s), (p, s), EIO, -1)

/* Whether nothing is to be opened now, with errno. */
static int cannot_open(void)
{
    if (!fails() && now != EACCES_ALL)
        return 0;
    errno = now == ERROR ? EIO : EACCES;
    return 1;
}

int open64(const char *path, int flags, ...)
{
    NEXT(open64);
    va_list list;
    va_start(list, flags);
    unsigned mode = va_arg(list, unsigned);
    va_end(list);
    if (cannot_open())
        return -1;
    return next(path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...)
{
    NEXT(openat64);
    va_list list;
    va_start(list, flags);
    unsigned mode = va_arg(list, unsigned);
    va_end(list);
    if (cannot_open())
        return -1;
    return next(folder, path, flags, mode);
}

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
    NEXT(mmap);
    if (flags & MAP_SHARED && fails()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return next(at, length, protection, flags, fd, offset);
}

long syscall(long number, ...)
{
    NEXT(syscall);
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (fails()) {
        errno = EIO;
        return -1;
    }
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
