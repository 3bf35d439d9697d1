/* spank_host: a small slurmstepd, srun, sbatch or slurmd around the real plugin.
 *
 *   spank_host < SCENARIO
 *
 * It defines every function that the plugin takes from Slurm, loads the plugin as Slurm does, runs the hooks
 * in Slurm's order and prints what each task has at the end.  A scenario is lines of a word and its rest:
 *
 *   plugin PATH           the plugin (required)
 *   release MAJOR MINOR   the Slurm release that this process is (22 5)
 *   api NUMBER            what slurm_api_version() gives >> 16 (38)
 *   context NAME          remote, local, allocator or slurmd (remote)
 *   arg TEXT              an argument of the plugstack line
 *   env NAME=VALUE        the job's environment; of srun's own process in the local contexts
 *   task-env K NAME=VALUE set for task K alone, before task_init, as gres_g_task_set_env does
 *   item NUMBER VALUE     what spank_get_item gives for a number or text
 *   no-item NUMBER        what it gives nothing for
 *   fail FUNCTION         get_item, getenv, setenv, unsetenv or option_register always fail; strerror_r too,
 *                         where Rust's std panics
 *   option [=VALUE]       one use of the option
 *   tasks N               tasks here (1)
 *   uid N                 the job's user (65534)
 *   gpu MINOR             a device file; only members of its group may open it
 *   render MINOR          the same as a render node
 *   opens K LIST          the minors that task K may open (all)
 *   mask K LIST           the CPUs that Slurm gives task K (all)
 *   tmpfs PATH, bind SOURCE PATH, dir PATH, dev     the mount namespace; dev is a fresh /dev
 *   deny WHERE CALL ERRNO CALL fails from here on; WHERE is stepd or task; of malloc, for the plugin alone
 *   die K, delay K MS     task K ends, or waits, before task_init
 *   scribble K BYTE       task K fills all memory that it shares with BYTE after task_init
 *   kernel CPUS STATUS    a made-up kernel: affinity and memory policy are made up, the cpuset is CPUS, and
 *                         the file STATUS, with its Mems_allowed_list, stands for /proc/self/status
 *   mounts FILE           a file that stands for /proc/self/mountinfo
 *   watch                 says each file that the plugin opens, or looks for with openat2
 *   timed                 only times: no hook is checked for what it leaves, and tasks say no more than how long theirs
 *                         took and how many pages it touched
 *   slow-clock N          the clock runs N times slower than it does, so that no wait of the plugin ends for its length
 *
 * Values take \n, \\ and \xHH.  Output: "WHO WORD REST", WHO being "host" or "task K".  Exit 77: not
 * root, or this system gives no mount namespace.
 *
 * Parts: scenario.c reads it, slurm.c is Slurm's functions, kernel.c what stands before the kernel's.
 *
 * Order and semantics: slurmstepd/mgr.c, task.c, common/spank.c, common/plugin.c of Slurm 22.05.8 and 26.05.3.
 */
#include "host.h"

#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef int hook(void *, int, char **);

int task = -1, out = STDOUT_FILENO;

/* ---- output ---- */

void put(const char *text)
{
    size_t length = strlen(text);
    while (length) {
        ssize_t n = write(out, text, length);
        if (n <= 0)
            _exit(3);
        text += n;
        length -= (size_t)n;
    }
}

/* One line; a newline in it is written as \n. */
void say(const char *format, ...)
{
    static char raw[1 << 21], line[1 << 22];
    size_t n;
    va_list list;
    va_start(list, format);
    vsnprintf(raw, sizeof raw, format, list);
    va_end(list);
    n = (size_t)(task < 0 ? sprintf(line, "host ") : sprintf(line, "task %d ", task));
    for (const char *c = raw; *c; c++) {
        if (*c == '\n' || *c == '\\')
            line[n++] = '\\';
        line[n++] = *c == '\n' ? 'n' : *c;
    }
    line[n++] = '\n';
    line[n] = 0;
    put(line);
}

void fail(const char *what)
{
    say("broken %s: %s", what, strerror(errno));
    _exit(2);
}

/* ---- sets ---- */

int has(const set *set, int index)
{
    return index >= 0 && index < MAX_CPUS && set->bits[index / LONG_BITS] >> index % LONG_BITS & 1;
}

void parse_list(set *set, const char *text)
{
    memset(set, 0, sizeof *set);
    while (*text) {
        char *end;
        long from = strtol(text, &end, 10), to = from;
        if (*end == '-')
            to = strtol(end + 1, &end, 10);
        for (long i = from; i <= to && i < MAX_CPUS; i++)
            set->bits[i / LONG_BITS] |= 1UL << i % LONG_BITS;
        text = end + (*end == ',');
        if (*end && *end != ',')
            break;
    }
}

const char *list_of(const set *set)
{
    static char text[1 << 14];
    size_t n = 0;
    text[0] = 0;
    for (int i = 0, end; i < MAX_CPUS && n < sizeof text - 32; i = end + 1) {
        for (end = i; has(set, end); end++)
            ;
        if (end > i)
            n += (size_t)snprintf(text + n, sizeof text - n, end - i > 1 ? "%s%d-%d" : "%s%d", n ? "," : "", i, end - 1);
    }
    return text;
}

/* ---- what a hook must leave as it was ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void append(char *text, size_t size, const char *more)
{
    size_t used = strlen(text);
    snprintf(text + used, size - used, " %s", more);
}

/* Open files, signals, threads, umask and folder. */
static const char *state(void)
{
    static char texts[2][1 << 15];
    static int which;
    char *text = texts[which ^= 1], line[4096], *fds[256];
    int count = 0;
    struct dirent *entry;
    text[0] = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && (entry = readdir(dir)) && count < 256) {
        char path[300], target[1024] = "";
        if (!isdigit((unsigned char)entry->d_name[0]) || atoi(entry->d_name) == dirfd(dir))
            continue;
        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        /* The step's totals, which a site asks for. */
        if (readlink(path, target, sizeof target - 1) >= 0 && strcmp(target, "/memfd:gpu-numa-totals (deleted)") != 0 &&
            asprintf(&fds[count], "%s:%s", entry->d_name, target) > 0)
            count++;
    }
    if (dir)
        closedir(dir);
    qsort(fds, (size_t)count, sizeof *fds, by_text);
    for (int i = 0; i < count; i++) {
        append(text, sizeof texts[0], fds[i]);
        free(fds[i]);
    }
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if ((!strncmp(line, "Sig", 3) && strncmp(line, "SigQ", 4)) || !strncmp(line, "ShdPnd", 6) || !strncmp(line, "Threads", 7) || !strncmp(line, "Umask", 5)) {
            line[strcspn(line, "\n")] = 0;
            append(text, sizeof texts[0], line);
        }
    if (status)
        fclose(status);
    if (getcwd(line, sizeof line))
        append(text, sizeof texts[0], line);
    return text;
}

static long long nanos_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Processor time of all tasks that have ended. */
static long long tasks_cpu_now(void)
{
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000LL + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000LL;
}

static long faults_now(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

static int run_hook(hook *function, const char *name)
{
    char *before = scenario.is_timed ? NULL : strdup(state());
    long faults = faults_now();
    /* Told to a tracer alone; where time is taken there is none. */
    if (!scenario.is_timed)
        prctl(MARK, name);
    long long from = nanos_now();
    int rc = function(&scenario.items, scenario.arg_count, scenario.args);
    long long to = nanos_now();
    if (!scenario.is_timed)
        prctl(MARK, "");
    faults = faults_now() - faults;
    const char *after = scenario.is_timed ? NULL : state();
    say("rc %s %d", name, rc);
    say("nanos %s %lld", name, to - from);
    say("faults %s %ld", name, faults);
    if (scenario.is_timed)
        return rc;
    if (strcmp(before, after))
        say("changed %s %s -> %s", name, before, after);
    free(before);
    return rc;
}

static void *library;

static int run_named(const char *name)
{
    char symbol[64];
    hook *function;
    snprintf(symbol, sizeof symbol, "slurm_spank_%s", name);
    *(void **)&function = dlsym(library, symbol);
    return function ? run_hook(function, name) : 0;
}

/* ---- a task ---- */

static void become_user(const struct own *own)
{
    gid_t groups[MAX_GPUS], gid = (gid_t)scenario.uid;
    uid_t uid = (uid_t)scenario.uid;
    int count = 0;
    for (int i = 0; i < scenario.gpu_count; i++)
        if (!own->opens_some || has(&own->opens, scenario.gpus[i]))
            groups[count++] = (gid_t)(FIRST_GROUP + scenario.gpus[i]);
    if (setgroups((size_t)count, groups) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
        fail("become user");
}

/* The mask as the kernel has it, also where a filter denies sched_getaffinity. */
static void print_real_cpus(void)
{
    static const char key[] = "Cpus_allowed_list:\t";
    char line[1 << 14];
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (!strncmp(line, key, sizeof key - 1)) {
            line[strcspn(line, "\n")] = 0;
            say("cpus %s", line + sizeof key - 1);
        }
    if (status)
        fclose(status);
}

static void print_task(void)
{
    static const char *const names[] = { "default", "preferred", "bind", "interleave", "local", "preferred-many" };
    set nodes = { 0 };
    int mode = 0;
    if (kernel.on)
        say("cpus %s", list_of(&kernel.mask));
    else
        print_real_cpus();
    /* Through the plugin's own door, so that the made-up kernel answers where there is one. */
    syscall(SYS_get_mempolicy, &mode, &nodes, (unsigned long)MAX_NODES, NULL, 0UL);
    mode &= 0xff;
    say("policy %s", mode < 6 ? names[mode] : "other");
    say("nodes %s", list_of(&nodes));
    for (int i = 0; i < env_count; i++)
        say("env %s", environment[i]);
}

/* What a hostile task can do at most to what it shares with the daemon and its neighbours. */
static void scribble(int byte)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps)
        fail("maps");
    while (fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        char mode[8];
        if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) == 3 && !strcmp(mode, "rw-s") && strstr(line, "/dev/zero"))
            memset((void *)from, byte, to - from);
    }
    fclose(maps);
}

static void run_task(int k, int go)
{
    const struct own *own = &scenario.own[k];
    char byte;
    task = k;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (read(go, &byte, 1) != 1)
        _exit(4);
    close(go);
    run_named("task_init_privileged");
    become_user(own);
    for (int i = 0; i < own->env_count; i++)
        put_env(own->env[i]);
    if (own->has_mask && kernel.on)
        kernel.mask = own->mask;
    if (own->dies)
        _exit(9);
    if (own->delay_ms)
        usleep((useconds_t)own->delay_ms * 1000);
    deny(1);
    int rc = run_named("task_init");
    if (own->scribbles)
        scribble(own->scribble);
    if (!scenario.is_timed)
        print_task();
    _exit(rc < 0 ? 1 : 0);
}

struct child {
    pid_t pid;
    int go, out, status;
};

static struct child start_task(int k)
{
    int ends[2];
    struct child child = { .out = memfd_create("task", 0) };
    if (child.out < 0 || pipe(ends) != 0)
        fail("task");
    child.pid = fork();
    if (child.pid < 0)
        fail("fork");
    if (child.pid == 0) {
        close(ends[1]);
        out = child.out;
        run_task(k, ends[0]);
    }
    close(ends[0]);
    child.go = ends[1];
    set *mask = &scenario.own[k].mask;
    if (scenario.own[k].has_mask && !kernel.on && sched_setaffinity(child.pid, sizeof *mask, (cpu_set_t *)mask) != 0)
        fail("mask");
    return child;
}

static void wait_for(struct child *child)
{
    if (waitpid(child->pid, &child->status, 0) != child->pid)
        fail("waitpid");
}

static void finish_task(int k, struct child child)
{
    char text[4096];
    ssize_t n;
    int status = child.status;
    lseek(child.out, 0, SEEK_SET);
    while ((n = read(child.out, text, sizeof text - 1)) > 0) {
        text[n] = 0;
        put(text);
    }
    close(child.out);
    task = k;
    say(WIFEXITED(status) ? "exit %d" : "signal %d", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    task = -1;
}

static void run_tasks(void)
{
    static struct child children[MAX_TASKS];
    for (int k = 0; k < scenario.tasks; k++)
        children[k] = start_task(k);
    run_named("task_post_fork");
    long long from = nanos_now();
    for (int k = 0; k < scenario.tasks; k++)
        if (write(children[k].go, "", 1) == 1)
            close(children[k].go);
    for (int k = 0; k < scenario.tasks; k++)
        wait_for(&children[k]);
    say("nanos step %lld", nanos_now() - from);
    say("nanos processor %lld", tasks_cpu_now());
    for (int k = 0; k < scenario.tasks; k++)
        finish_task(k, children[k]);
    for (int k = 0; k < scenario.tasks; k++)
        run_named("task_exit");
    if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
        say("changed a child is left");
}

/* ---- the plugin, as plugin.c loads it ---- */

static int load(void)
{
    long long from = nanos_now();
    library = dlopen(scenario.plugin, RTLD_LAZY);
    long long to = nanos_now();
    if (scenario.is_timed)
        say("nanos dlopen %lld", to - from);
    if (!library) {
        say("refused dlopen: %s", dlerror());
        return 0;
    }
    const char *name = dlsym(library, "plugin_name"), *type = dlsym(library, "plugin_type");
    const uint32_t *version = dlsym(library, "plugin_version");
    if (!name || !type || !version) {
        say("refused no plugin_name, plugin_type or plugin_version");
        return 0;
    }
    say("name %s", name);
    say("type %s", type);
    say("version %u.%u.%u", *version >> 16, *version >> 8 & 0xff, *version & 0xff);
    if (strcmp(type, "spank") || (*version & 0xffff00) != (scenario.major_release << 16 | scenario.minor_release << 8)) {
        say("refused Incompatible Slurm plugin %s version", scenario.plugin);
        return 0;
    }
    if (dlsym(library, "init")) {
        say("refused an init of its own");
        return 0;
    }
    return 1;
}

static int run_options(void)
{
    for (int i = 0; i < scenario.option_count; i++) {
        if (!registered.cb) {
            say("no option is registered");
            return 0;
        }
        int rc = registered.cb(registered.val, scenario.options[i], scenario.context == REMOTE);
        say("rc option %d", rc);
        if (rc != 0 && scenario.context != REMOTE) {
            say("invalid --%s argument: %s", registered.name, scenario.options[i] ? scenario.options[i] : "");
            return 0;
        }
    }
    return 1;
}

int main(void)
{
    if (geteuid() != 0) {
        say("no-namespace not root");
        return NO_NAMESPACE;
    }
    read_scenario();
    if (!load())
        return 0;
    deny(0);
    run_named("init");
    if (scenario.context == SLURMD) {
        run_named("slurmd_exit");
        return 0;
    }
    if (!run_options())
        return 0;
    run_named("init_post_opt");
    if (scenario.context != REMOTE) {
        run_named("local_user_init");
        run_named("exit");
        return 0;
    }
    if (setegid((gid_t)scenario.uid) != 0 || seteuid((uid_t)scenario.uid) != 0)
        fail("become user");
    run_named("user_init");
    if (seteuid(0) != 0 || setegid(0) != 0)
        fail("become root");
    run_tasks();
    run_named("exit");
    say("done");
    return 0;
}
