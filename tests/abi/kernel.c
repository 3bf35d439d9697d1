/* What stands between the plugin and the kernel: a made-up kernel, filters, and calls that fail.
 *
 * syscall(), open64(), strerror_r(), clock_gettime() and malloc() of this program come before libc's, for the plugin as
 * for itself. */
#include "host.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct kernel kernel;
char *mounts;
static struct { const char *call; int error, in_task; } denied[8];
static int denied_count;
/* MPOL_F_MEMS_ALLOWED of linux/mempolicy.h. */
enum { MEMS_ALLOWED = 1 << 2 };

static long real_syscall(long number, const long *a)
{
    static long (*libc)(long, ...);
    if (!libc)
        *(void **)&libc = dlsym(RTLD_NEXT, "syscall");
    return libc(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static long refuse(int error)
{
    errno = error;
    return -1;
}

static long made_up_setaffinity(const long *a)
{
    set asked = { 0 }, both = { 0 };
    unsigned long any = 0;
    size_t length = (size_t)a[1] < sizeof asked ? (size_t)a[1] : sizeof asked;
    memcpy(&asked, (const void *)a[2], length);
    for (size_t i = 0; i < sizeof both / sizeof(long); i++)
        any |= both.bits[i] = asked.bits[i] & kernel.cpus.bits[i];
    if (!any)
        return refuse(EINVAL);
    kernel.mask = both;
    return 0;
}

static long made_up_set_mempolicy(const long *a)
{
    set nodes = { 0 };
    unsigned long any = 0, beyond = 0;
    int mode = (int)a[0] & 0xff;
    if (a[1])
        memcpy(&nodes, (const void *)a[1], (size_t)a[2] / 8 < sizeof nodes ? (size_t)a[2] / 8 : sizeof nodes);
    for (size_t i = 0; i < sizeof nodes / sizeof(long); i++) {
        any |= nodes.bits[i];
        beyond |= nodes.bits[i] & ~kernel.nodes.bits[i];
    }
    if (beyond || mode > 5 || (mode != 0 && mode != 4 && !any))
        return refuse(EINVAL);
    kernel.policy = mode;
    kernel.policy_nodes = nodes;
    return 0;
}

/* Takes six arguments of a call that may have fewer, as the kernel does. */
__attribute__((no_sanitize_address)) long syscall(long number, ...)
{
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (scenario.watches && number == SYS_openat2)
        say("looked for %s", (const char *)a[1]);
    if (!kernel.on)
        return real_syscall(number, a);
    int is_affinity = number == SYS_sched_setaffinity || number == SYS_sched_getaffinity;
    int is_policy = number == SYS_set_mempolicy || number == SYS_get_mempolicy;
    /* The real call as well, for its price and for what a filter says. */
    long real = real_syscall(number, a);
    if (is_affinity || is_policy) {
        if (real < 0 && errno != EINVAL)
            return real;
    }
    switch (number) {
    case SYS_sched_setaffinity:
        return made_up_setaffinity(a);
    case SYS_sched_getaffinity:
        /* As a kernel made for no more CPUs than there is room for. */
        if ((size_t)a[1] < sizeof(set)) {
            memcpy((void *)a[2], &kernel.mask, (size_t)a[1]);
            return a[1];
        }
        memcpy((void *)a[2], &kernel.mask, sizeof(set));
        return sizeof(set);
    case SYS_set_mempolicy:
        return made_up_set_mempolicy(a);
    case SYS_get_mempolicy:
        if (a[4] == MEMS_ALLOWED) {
            memcpy((void *)a[1], &kernel.nodes, (size_t)a[2] / 8 < sizeof(set) ? (size_t)a[2] / 8 : sizeof(set));
            return 0;
        }
        *(int *)a[0] = kernel.policy;
        if (a[1])
            memcpy((void *)a[1], &kernel.policy_nodes, (size_t)a[2] / 8 < sizeof(set) ? (size_t)a[2] / 8 : sizeof(set));
        return 0;
    default:
        return real;
    }
}

int open64(const char *path, int flags, ...)
{
    static int (*libc)(const char *, int, ...);
    va_list list;
    va_start(list, flags);
    unsigned mode = va_arg(list, unsigned);
    va_end(list);
    if (!libc)
        *(void **)&libc = dlsym(RTLD_NEXT, "open64");
    if (scenario.watches)
        say("opened %s", path);
    if (kernel.on && !strcmp(path, "/proc/self/status"))
        path = kernel.status;
    if (mounts && !strcmp(path, "/proc/self/mountinfo"))
        path = mounts;
    return libc(path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...)
{
    static int (*libc)(int, const char *, int, ...);
    va_list list;
    va_start(list, flags);
    unsigned mode = va_arg(list, unsigned);
    va_end(list);
    if (!libc)
        *(void **)&libc = dlsym(RTLD_NEXT, "openat64");
    /* What is below a folder that is opened already was judged with it. */
    if (scenario.watches && folder == AT_FDCWD)
        say("opened %s", path);
    return libc(folder, path, flags, mode);
}

/* The name under which Rust's std calls strerror_r. */
int __xpg_strerror_r(int error, char *buffer, size_t length)
{
    if (scenario.fails.strerror)
        return -1;
    snprintf(buffer, length, "%s", strerrordesc_np(error));
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*libc)(clockid_t, struct timespec *);
    if (!libc)
        *(void **)&libc = dlsym(RTLD_NEXT, "clock_gettime");
    int rc = libc(clock, now);
    if (rc == 0 && scenario.slowness > 1) {
        long long nanos = (now->tv_sec * 1000000000LL + now->tv_nsec) / scenario.slowness;
        now->tv_sec = nanos / 1000000000;
        now->tv_nsec = nanos % 1000000000;
    }
    return rc;
}

/* ---- memory ---- */

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
/* Where the plugin is mapped, once it gets no more memory. */
static uintptr_t starved_from, starved_to;

static int find_plugin(struct dl_phdr_info *object, size_t size, void *unused)
{
    (void)size, (void)unused;
    if (strcmp(object->dlpi_name, scenario.plugin))
        return 0;
    for (int i = 0; i < object->dlpi_phnum; i++)
        if (object->dlpi_phdr[i].p_type == PT_LOAD)
            starved_to = object->dlpi_addr + object->dlpi_phdr[i].p_vaddr + object->dlpi_phdr[i].p_memsz;
    starved_from = object->dlpi_addr;
    return 1;
}

/* AddressSanitizer has a malloc of its own, which starts before this program does. */
#ifndef __SANITIZE_ADDRESS__
#define STARVED ((uintptr_t)__builtin_return_address(0) - starved_from < starved_to - starved_from)

void *malloc(size_t size) { return STARVED ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return STARVED ? NULL : __libc_calloc(count, size); }
void *realloc(void *block, size_t size) { return STARVED ? NULL : __libc_realloc(block, size); }

int posix_memalign(void **block, size_t align, size_t size)
{
    *block = STARVED ? NULL : __libc_memalign(align, size);
    return *block ? 0 : ENOMEM;
}
#endif

/* ---- what is denied ---- */

void make_kernel(char *cpus_and_status)
{
    static const char key[] = "Mems_allowed_list:";
    char line[4096], *status = strchr(cpus_and_status, ' ');
    if (!status)
        fail("kernel");
    *status++ = 0;
    parse_list(&kernel.cpus, cpus_and_status);
    kernel.mask = kernel.cpus;
    kernel.status = strdup(status);
    FILE *file = fopen(status, "r");
    if (!file)
        fail(status);
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, key, sizeof key - 1))
            parse_list(&kernel.nodes, line + sizeof key - 1);
    fclose(file);
}

void add_denied(const char *line)
{
    char where[16], call[32];
    int error;
    if (sscanf(line, "%15s %31s %d", where, call, &error) != 3 || denied_count == 8)
        fail("deny");
    denied[denied_count].in_task = !strcmp(where, "task");
    denied[denied_count].call = strdup(call);
    denied[denied_count++].error = error;
}

/* A filter such as a container runtime may have. */
void deny(int in_task)
{
    static const struct { const char *name; int number; } calls[] = {
        { "sched_setaffinity", SYS_sched_setaffinity }, { "sched_getaffinity", SYS_sched_getaffinity },
        { "set_mempolicy", SYS_set_mempolicy }, { "get_mempolicy", SYS_get_mempolicy }, { "futex", SYS_futex },
        { "shared-mmap", SYS_mmap }
    };
    for (int i = 0; i < denied_count; i++) {
        if (denied[i].in_task != in_task)
            continue;
        if (!strcmp(denied[i].call, "malloc")) {
            dl_iterate_phdr(find_plugin, NULL);
            continue;
        }
        int number = -1, is_mmap = !strcmp(denied[i].call, "shared-mmap");
        for (size_t c = 0; c < sizeof calls / sizeof *calls; c++)
            if (!strcmp(calls[c].name, denied[i].call))
                number = calls[c].number;
        /* mmap only where its flags are those of the tasks' page. */
        struct sock_filter program[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 3),
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MAP_SHARED | MAP_ANONYMOUS, 0, (unsigned char)(is_mmap ? 1 : 0)),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)denied[i].error),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog filter = { sizeof program / sizeof *program, program };
        if (number < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
            fail("seccomp");
    }
}
