/* probe: prints on one line what a task itself has, as KEY=VALUE words.
 *
 *   probe [--label NAME] [--mib N] [--children] [--sleep S] [--env PREFIX]...
 *
 * The checks of tests/vm and tests/slurm judge a binding by this line alone: by what the kernel says of
 * this very process, never by what the plugin says that it did.  It is plain C, linked statically, because
 * an emulated guest pays for every file that a program opens when it starts.
 *
 *   --label NAME   print label=NAME too, so that the lines of several probes of one script can be told apart
 *   --mib N        touch N MiB of fresh memory and count its pages by NUMA node (16; 0 touches none)
 *   --children     also print the line from a child and from its child, as a program under mpirun would be
 *   --sleep S      stay for S seconds after printing, so that other steps can be started beside this one
 *   --env PREFIX   append every environment variable whose name starts with PREFIX
 *
 * A variable that is not set prints "-", an empty one prints nothing.  White space, "%" and control
 * characters within a value are written as %XX, so that the line splits at blanks.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { MAX_GPUS = 64, MAX_NODES = 1024, MAX_PREFIXES = 32 };

static char line[1 << 17];
static size_t used;
static const char *label;

static void put_char(char c)
{
    if (used + 1 < sizeof line)
        line[used++] = c;
}

static void put(const char *text)
{
    while (*text)
        put_char(*text++);
}

static void put_value(const char *value)
{
    for (; *value; value++)
        if (isgraph((unsigned char)*value) && *value != '%') {
            put_char(*value);
        } else {
            char hex[4];
            snprintf(hex, sizeof hex, "%%%02X", (unsigned char)*value);
            put(hex);
        }
}

static void fact(const char *key, const char *value)
{
    if (used)
        put_char(' ');
    put(key);
    put_char('=');
    put_value(value);
}

static void number(const char *key, long long value)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", value);
    fact(key, digits);
}

static void variable(const char *key, const char *name)
{
    const char *value = getenv(name);
    fact(key, value ? value : "-");
}

/* Cpus_allowed_list and Mems_allowed_list: the affinity mask, and the cpuset's memory nodes. */
static void allowed_lists(void)
{
    char text[4096];
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(text, sizeof text, status)) {
        text[strcspn(text, "\n")] = 0;
        if (!strncmp(text, "Cpus_allowed_list:\t", 19))
            fact("cpus", text + 19);
        if (!strncmp(text, "Mems_allowed_list:\t", 19))
            fact("mems", text + 19);
    }
    if (status)
        fclose(status);
}

/* The step's own CPUs: a mask of all CPUs is cut to the cpuset by the kernel.  Asked in a child, because the
 * mask that the task was given is what is to be seen. */
static void cpuset(void)
{
    enum { LONGS = 128 };
    unsigned long mask[LONGS];
    char text[4096] = "";
    int ends[2];
    size_t n = 0;
    if (pipe(ends) != 0)
        return;
    if (fork() == 0) {
        memset(mask, 0xff, sizeof mask);
        syscall(SYS_sched_setaffinity, 0, sizeof mask, mask);
        memset(mask, 0, sizeof mask);
        syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
        for (int cpu = 0, end; cpu < LONGS * 64 && n < sizeof text - 32; cpu = end + 1) {
            for (end = cpu; end < LONGS * 64 && mask[end / 64] >> end % 64 & 1; end++)
                ;
            if (end > cpu)
                n += (size_t)snprintf(text + n, sizeof text - n, end - cpu > 1 ? "%s%d-%d" : "%s%d", n ? "," : "", cpu, end - 1);
        }
        _exit(write(ends[1], text, n) != (ssize_t)n);
    }
    close(ends[1]);
    ssize_t got = read(ends[0], text, sizeof text - 1);
    text[got > 0 ? got : 0] = 0;
    close(ends[0]);
    wait(NULL);
    fact("cpuset", text);
}

/* linux/mempolicy.h; the flags in the upper bits are not part of the name. */
static const char *policy_name(int mode)
{
    static const char *const names[] = { "default", "preferred", "bind", "interleave", "local", "preferred-many" };
    mode &= 0xff;
    return mode < 6 ? names[mode] : "other";
}

static void memory_policy(void)
{
    static unsigned long mask[MAX_NODES / (8 * sizeof(long))];
    char nodes[4096] = "";
    size_t n = 0;
    int mode = 0;
    if (syscall(SYS_get_mempolicy, &mode, mask, (unsigned long)MAX_NODES, NULL, 0UL) != 0) {
        fact("policy", "unknown");
        return;
    }
    for (int i = 0; i < MAX_NODES && n < sizeof nodes - 16; i++)
        if (mask[i / (8 * sizeof(long))] >> (i % (8 * sizeof(long))) & 1)
            n += (size_t)snprintf(nodes + n, sizeof nodes - n, "%s%d", n ? "," : "", i);
    fact("policy", policy_name(mode));
    fact("policy_nodes", n ? nodes : "-");
}

/* Where fresh memory really comes from: "NODE:PAGES,..." over a mapping that was just written. */
static void touched_pages(size_t mib)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), count = (mib << 20) / page, n = 0;
    long by_node[MAX_NODES] = { 0 }, absent = 0;
    char text[4096] = "";
    if (!mib)
        return;
    char *at = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void **pages = calloc(count, sizeof *pages);
    int *status = calloc(count, sizeof *status);
    if (at == MAP_FAILED || !pages || !status) {
        fact("pages", "no-memory");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        at[i * page] = 1;
        pages[i] = at + i * page;
    }
    if (syscall(SYS_move_pages, 0, count, pages, NULL, status, 0) != 0) {
        fact("pages", "unknown");
        return;
    }
    for (size_t i = 0; i < count; i++)
        if (status[i] >= 0 && status[i] < MAX_NODES)
            by_node[status[i]]++;
        else
            absent++;
    for (int i = 0; i < MAX_NODES && n < sizeof text - 32; i++)
        if (by_node[i])
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%d:%ld", n ? "," : "", i, by_node[i]);
    if (absent)
        snprintf(text + n, sizeof text - n, "%sabsent:%ld", n ? "," : "", absent);
    fact("pages", text);
    free(status);
    free(pages);
    munmap(at, mib << 20);
}

struct gpu {
    char pci[32];
    int minor;
};

static int by_pci(const void *a, const void *b)
{
    return strcmp(((const struct gpu *)a)->pci, ((const struct gpu *)b)->pci);
}

/* The driver's own list of GPUs.  Where the PCI order and the minors differ, only this file tells. */
static int read_gpus(struct gpu *gpus)
{
    char path[512], text[256];
    struct dirent *entry;
    int count = 0;
    DIR *dir = opendir("/proc/driver/nvidia/gpus");
    while (dir && (entry = readdir(dir)) && count < MAX_GPUS) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/driver/nvidia/gpus/%s/information", entry->d_name);
        FILE *information = fopen(path, "r");
        if (!information)
            continue;
        gpus[count].minor = -1;
        snprintf(gpus[count].pci, sizeof gpus[count].pci, "%.31s", entry->d_name);
        while (fgets(text, sizeof text, information))
            sscanf(text, "Device Minor: %d", &gpus[count].minor);
        fclose(information);
        count += gpus[count].minor >= 0;
    }
    if (dir)
        closedir(dir);
    qsort(gpus, (size_t)count, sizeof *gpus, by_pci);
    return count;
}

/* access() asks the device cgroup just as open() would, and needs no driver behind the file. */
static int may_open(int minor)
{
    char path[32];
    snprintf(path, sizeof path, "/dev/nvidia%d", minor);
    return access(path, R_OK | W_OK) == 0;
}

static void openable_gpus(void)
{
    struct gpu gpus[MAX_GPUS];
    char addresses[MAX_GPUS * 32] = "", minors[MAX_GPUS * 12] = "";
    int count = read_gpus(gpus);
    size_t a = 0, m = 0;
    for (int i = 0; i < count; i++)
        if (may_open(gpus[i].minor))
            a += (size_t)snprintf(addresses + a, sizeof addresses - a, "%s%s", a ? "," : "", gpus[i].pci);
    for (int i = 0; i < MAX_GPUS; i++)
        if (may_open(i))
            m += (size_t)snprintf(minors + m, sizeof minors - m, "%s%d", m ? "," : "", i);
    fact("opens", a ? addresses : "-");
    fact("minors", m ? minors : "-");
}

static void topology_file(void)
{
    const char *path = getenv("NCCL_TOPO_FILE");
    struct stat st;
    fact("nccl_topo", path ? path : "-");
    if (!path)
        fact("nccl_topo_bytes", "-");
    else if (access(path, R_OK) != 0 || stat(path, &st) != 0)
        fact("nccl_topo_bytes", "unreadable");
    else
        number("nccl_topo_bytes", st.st_size);
}

static int by_value(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void open_files(void)
{
    int fds[256], count = 0;
    char text[2048] = "";
    size_t n = 0;
    struct dirent *entry;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && (entry = readdir(dir)) && count < 256)
        if (isdigit((unsigned char)entry->d_name[0]) && atoi(entry->d_name) != dirfd(dir))
            fds[count++] = atoi(entry->d_name);
    if (dir)
        closedir(dir);
    qsort(fds, (size_t)count, sizeof *fds, by_value);
    for (int i = 0; i < count && n < sizeof text - 16; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%d", n ? "," : "", fds[i]);
    fact("fds", text);
}

static void environment(char *const *prefixes, int count)
{
    for (char **entry = environ; *entry; entry++)
        for (int i = 0; i < count; i++)
            if (!strncmp(*entry, prefixes[i], strlen(prefixes[i]))) {
                if (used)
                    put_char(' ');
                put_value(*entry);
                break;
            }
}

static void report(int depth, long long start_ns, size_t mib, char *const *prefixes, int count)
{
    used = 0;
    variable("task", "SLURM_LOCALID");
    if (label)
        fact("label", label);
    variable("procid", "SLURM_PROCID");
    variable("jobid", "SLURM_JOB_ID");
    variable("stepid", "SLURM_STEP_ID");
    number("depth", depth);
    number("uid", getuid());
    number("start_us", start_ns / 1000);
    allowed_lists();
    cpuset();
    memory_policy();
    touched_pages(mib);
    openable_gpus();
    variable("cvd", "CUDA_VISIBLE_DEVICES");
    variable("step_gpus", "SLURM_STEP_GPUS");
    variable("cuda_order", "CUDA_DEVICE_ORDER");
    topology_file();
    variable("nccl_profiler", "NCCL_PROFILER_PLUGIN");
    variable("report", "GPU_NUMA_BIND_REPORT");
    open_files();
    environment(prefixes, count);
    put_char('\n');
    /* One write, so that the lines of several tasks never mix. */
    if (write(STDOUT_FILENO, line, used) != (ssize_t)used)
        _exit(3);
}

int main(int argc, char **argv)
{
    struct timespec now;
    size_t mib = 16;
    int depths = 0, depth = 0, prefix_count = 0;
    unsigned sleep_seconds = 0;
    char *prefixes[MAX_PREFIXES] = { 0 };

    clock_gettime(CLOCK_MONOTONIC, &now);
    long long start_ns = now.tv_sec * 1000000000LL + now.tv_nsec;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--children"))
            depths = 2;
        else if (!strcmp(argv[i], "--label") && i + 1 < argc)
            label = argv[++i];
        else if (!strcmp(argv[i], "--mib") && i + 1 < argc)
            mib = strtoul(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--sleep") && i + 1 < argc)
            sleep_seconds = (unsigned)strtoul(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--env") && i + 1 < argc && prefix_count < MAX_PREFIXES)
            prefixes[prefix_count++] = argv[++i];
        else {
            fprintf(stderr, "probe: unknown argument \"%s\"; see the head of probe.c\n", argv[i]);
            return 2;
        }
    }
    report(depth, start_ns, mib, prefixes, prefix_count);
    while (depth < depths) {
        pid_t child = fork();
        if (child < 0)
            return 3;
        if (child > 0) {
            int status = 0;
            waitpid(child, &status, 0);
            return depth == 0 && sleep_seconds ? (int)sleep(sleep_seconds) : WEXITSTATUS(status);
        }
        report(++depth, start_ns, mib, prefixes, prefix_count);
    }
    if (depth == 0 && sleep_seconds)
        sleep(sleep_seconds);
    return 0;
}
