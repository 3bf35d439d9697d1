/* What a plugin like ours cannot do without: for `make bench`.
 *
 * With -DEMPTY it has hooks that do nothing.  Otherwise it makes the system calls that any plugin needs that binds the
 * tasks of a step together: user_init reads the snapshot and what says that it is not stale, and maps a page; task_init
 * asks for mask, memory policy and GPUs, waits until all tasks are there, and sets mask, policy and four variables.  It
 * decides nothing: each task keeps its mask, and prefers memory of node 0.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

extern int spank_get_item(void *, int, ...);
extern int spank_getenv(void *, const char *, char *, int);
extern int spank_setenv(void *, const char *, const char *, int);
enum { S_JOB_LOCAL_TASK_COUNT = 6, S_TASK_ID = 11, MPOL_PREFERRED_MANY = 5 };

const char plugin_name[] = "floor";
const char plugin_type[] = "spank";
const unsigned plugin_version = 22 << 16 | 5 << 8;

#ifdef EMPTY

int slurm_spank_init(void *s, int n, char **a) { return (void)s, (void)n, (void)a, 0; }
int slurm_spank_init_post_opt(void *s, int n, char **a) { return (void)s, (void)n, (void)a, 0; }
int slurm_spank_user_init(void *s, int n, char **a) { return (void)s, (void)n, (void)a, 0; }
int slurm_spank_task_init(void *s, int n, char **a) { return (void)s, (void)n, (void)a, 0; }

#else

static struct page {
    atomic_uint in, go;
    struct { uint64_t mask[16]; char text[512]; } tasks[];
} *page;
static uint32_t tasks, gpus;
static char *snapshot;

/* Reads a file at once; gives how long it is. */
static ssize_t read_file(const char *path, char **text)
{
    struct stat meta;
    int file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (file < 0)
        return -1;
    fstat(file, &meta);
    size_t room = (size_t)meta.st_size + 1 < 4096 ? 4096 : (size_t)meta.st_size + 1;
    *text = malloc(room);
    ssize_t length = read(file, *text, room);
    close(file);
    return length;
}

int slurm_spank_init(void *s, int n, char **a) { return (void)s, (void)n, (void)a, 0; }
int slurm_spank_init_post_opt(void *s, int n, char **a) { return (void)s, (void)n, (void)a, 0; }

int slurm_spank_user_init(void *spank, int count, char **args)
{
    static const char *const now[] = {
        "/proc/sys/kernel/random/boot_id", "/sys/devices/system/cpu/online", "/proc/driver/nvidia/version"
    };
    char path[4096], value[64] = "0", *text;
    struct stat meta;
    for (int i = 0; i < count; i++)
        if (!strncmp(args[i], "snapshot=", 9))
            snapshot = args[i] + 9;
    if (!snapshot)
        return 0;
    lstat(snapshot, &meta);
    snprintf(path, sizeof path, "%s/node.json", snapshot);
    if (read_file(path, &text) < 0)
        return 0;
    for (size_t i = 0; i < sizeof now / sizeof *now; i++)
        if (read_file(now[i], &text) >= 0)
            free(text);
    spank_get_item(spank, S_JOB_LOCAL_TASK_COUNT, &tasks);
    spank_getenv(spank, "SLURM_GPUS_ON_NODE", value, sizeof value);
    gpus = (uint32_t)strtoul(value, NULL, 10);
    page = mmap(NULL, sizeof *page + tasks * sizeof *page->tasks, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return 0;
}

int slurm_spank_task_init(void *spank, int count, char **args)
{
    struct timespec limit = { 2, 0 };
    uint64_t nodes[16] = { 0 }, first_node[16] = { 1 };
    char path[64];
    int mode = 0, own = 0;
    struct stat meta;
    (void)count, (void)args;
    if (!page || page == MAP_FAILED)
        return 0;
    spank_get_item(spank, S_TASK_ID, &own);
    uint64_t *mask = page->tasks[own].mask;
    syscall(SYS_sched_getaffinity, 0, sizeof page->tasks->mask, mask);
    syscall(SYS_get_mempolicy, &mode, nodes, 1024UL, NULL, 0UL);
    for (uint32_t gpu = 0; gpu < gpus; gpu++) {
        snprintf(path, sizeof path, "/dev/nvidia%u", gpu);
        faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS);
    }
    if (atomic_fetch_add(&page->in, 1) + 1 == tasks) {
        for (uint32_t k = 0; k < tasks; k++)
            snprintf(page->tasks[k].text, sizeof page->tasks->text, "task %u of %u", k, tasks);
        atomic_store(&page->go, 1);
        if (tasks > 1)
            syscall(SYS_futex, &page->go, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    } else {
        while (!atomic_load(&page->go))
            if (syscall(SYS_futex, &page->go, FUTEX_WAIT, 0, &limit, NULL, 0) != 0 && atomic_load(&page->in) != tasks)
                break;
    }
    syscall(SYS_sched_setaffinity, 0, sizeof page->tasks->mask, mask);
    syscall(SYS_set_mempolicy, MPOL_PREFERRED_MANY, first_node, 1024UL);
    if (own >= 0)
        stat("/nonexistent/.nccl.conf", &meta);
    spank_setenv(spank, "CUDA_DEVICE_ORDER", "PCI_BUS_ID", 1);
    spank_setenv(spank, "NCCL_TOPO_FILE", "/run/gpu-numa-bind/nccl-topo.xml", 1);
    spank_setenv(spank, "GPU_NUMA_BIND_SET", "CUDA_DEVICE_ORDER=PCI_BUS_ID", 1);
    spank_setenv(spank, "GPU_NUMA_BIND_REPORT", page->tasks[own].text, 1);
    return 0;
}

#endif
