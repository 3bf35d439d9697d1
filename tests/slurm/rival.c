/* rival.so: another site's SPANK plugin, as it may stand before or after ours in plugstack.conf.
 *
 *   optional rival.so option         has an option of our name
 *   optional rival.so environment    in every hook of a task overwrites, sets and removes what we read and set
 *   optional rival.so container FOLDER...   puts each task into a user and a mount namespace of its own, in which /run and
 *                                           the FOLDERs are empty, as what starts containers does
 *   optional rival.so memory         in every hook of a task reads memory that it freed, for tests/slurm/memory
 *
 * Like ours it takes whatever release it is loaded into for its own, so that one file serves every Slurm under test.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <slurm/spank.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

const char plugin_name[] = "rival";
const char plugin_type[] = "spank";
unsigned int plugin_version;
const unsigned int spank_plugin_version = 1;

__attribute__((constructor)) static void fill_version(void)
{
    static const unsigned int releases[] = { 0x1605, 0x1702, 0x170b, 0x1805, 0x180b, 0x1905, 0x190b, 0x1a05 };
    long (*api)(void) = (long (*)(void))dlsym(RTLD_DEFAULT, "slurm_api_version");
    unsigned long number = api ? (unsigned long)(api() >> 16) - 38 : 99;
    if (number < sizeof releases / sizeof *releases)
        plugin_version = releases[number] << 8;
}

static int take(int value, const char *text, int remote)
{
    (void)value, (void)text, (void)remote;
    return 0;
}

int slurm_spank_init(spank_t spank, int count, char **arguments)
{
    static struct spank_option option = { "gpu-numa-bind", "[x]", "another plugin's option", 2, 0, take };
    if (count > 0 && !strcmp(arguments[0], "option"))
        spank_option_register(spank, &option);
    return 0;
}

static int read_freed(void)
{
    volatile char *volatile block = malloc(1);
    free((void *)block);
    return *block & 0;
}

static int change(spank_t spank, int count, char **arguments)
{
    if (count > 0 && !strcmp(arguments[0], "memory"))
        return read_freed();
    if (count < 1 || strcmp(arguments[0], "environment"))
        return 0;
    spank_setenv(spank, "CUDA_VISIBLE_DEVICES", "GPU-00000000-0000-0000-0000-000000000000,,7", 1);
    spank_setenv(spank, "NCCL_TOPO_FILE", "/nowhere", 1);
    spank_setenv(spank, "GPU_NUMA_BIND_SET", "=\n=", 1);
    spank_setenv(spank, "SLURM_CPU_BIND_LIST", "0xzz,,", 1);
    spank_unsetenv(spank, "SLURM_STEP_GPUS");
    spank_unsetenv(spank, "SLURM_GPUS_ON_NODE");
    spank_unsetenv(spank, "HOME");
    return 0;
}

static int put(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY | O_CLOEXEC);
    ssize_t written = fd < 0 ? -1 : write(fd, text, strlen(text));
    if (fd >= 0)
        close(fd);
    return written < 0 ? -1 : 0;
}

/* The user stays who it is, as in pyxis's containers.  Of an optional plugin Slurm does not mind what it returns. */
static void contain(spank_t spank, int count, char **folders)
{
    char users[64], groups[64];
    int failed, dumpable = prctl(PR_GET_DUMPABLE);
    snprintf(users, sizeof users, "%u %u 1", getuid(), getuid());
    snprintf(groups, sizeof groups, "%u %u 1", getgid(), getgid());
    /* Who has been root does not own its files in /proc. */
    prctl(PR_SET_DUMPABLE, 1);
    failed = unshare(CLONE_NEWUSER | CLONE_NEWNS) || put("/proc/self/setgroups", "deny") || put("/proc/self/uid_map", users) ||
        put("/proc/self/gid_map", groups) || mount("none", "/run", "tmpfs", 0, NULL);
    for (int i = 0; i < count && !failed; i++)
        failed = mount("none", folders[i], "tmpfs", 0, NULL);
    prctl(PR_SET_DUMPABLE, dumpable);
    if (failed)
        _exit(9);
    spank_setenv(spank, "HOME", "/root", 1);
    spank_setenv(spank, "NVIDIA_VISIBLE_DEVICES", "void", 1);
}

int slurm_spank_user_init(spank_t spank, int count, char **arguments)
{
    return change(spank, count, arguments);
}

int slurm_spank_task_init(spank_t spank, int count, char **arguments)
{
    if (count > 0 && !strcmp(arguments[0], "container"))
        contain(spank, count - 1, arguments + 1);
    return change(spank, count, arguments);
}
