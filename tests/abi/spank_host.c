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
 *   opens K LIST          the minors that task K may open (all)
 *   mask K LIST           the CPUs that Slurm gives task K (all)
 *   tmpfs PATH, bind SOURCE PATH, dir PATH, dev     the mount namespace; dev is a fresh /dev
 *   deny WHERE CALL ERRNO CALL fails from here on; WHERE is stepd or task
 *   die K, delay K MS     task K ends, or waits, before task_init
 *   kernel CPUS STATUS    a made-up kernel: affinity and memory policy are made up, the cpuset is CPUS, and
 *                         the file STATUS, with its Mems_allowed_list, stands for /proc/self/status
 *   rounds N              afterwards, N times one task alone, for its time
 *
 * Values take \n, \\ and \xHH.  Output: "WHO WORD REST", WHO being "host" or "task K".  Exit 77: this
 * system gives no mount namespace.
 *
 * Order and semantics: slurmstepd/mgr.c, task.c, common/spank.c, common/plugin.c of Slurm 22.05.8 and 26.05.3.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_TASKS = 4096, MAX_ENV = 512, MAX_ARGS = 32, MAX_ITEMS = 64, MAX_GPUS = 64, MAX_CPUS = 4096, MAX_NODES = 1024,
    LONG_BITS = 8 * sizeof(long), NVIDIA_MAJOR = 195, FIRST_GROUP = 70000, NO_NAMESPACE = 77
};
enum { LOCAL = 1, REMOTE, ALLOCATOR, SLURMD };
enum {
    ESPANK_SUCCESS, ESPANK_ERROR = 3000, ESPANK_BAD_ARG, ESPANK_NOT_TASK, ESPANK_ENV_EXISTS, ESPANK_ENV_NOEXIST, ESPANK_NOSPACE,
    ESPANK_NOT_REMOTE, ESPANK_NOEXIST, ESPANK_NOT_EXECD, ESPANK_NOT_AVAIL, ESPANK_NOT_LOCAL
};
enum { S_JOB_UID = 0, S_JOB_LOCAL_TASK_COUNT = 6, S_TASK_ID = 11, S_STEP_ALLOC_CORES = 27 };

struct spank_option {
    char *name, *arginfo, *usage;
    int has_arg, val;
    int (*cb)(int, const char *, int);
};
typedef int hook(void *, int, char **);
typedef struct { unsigned long bits[MAX_CPUS / LONG_BITS]; } set;

static const char *plugin;
static unsigned major_release = 22, minor_release = 5;
static long api = 38;
static int context = REMOTE, tasks = 1, rounds, uid = 65534;
static char *args[MAX_ARGS + 1];
static int arg_count;
static char *environment[MAX_ENV];
static int env_count;
static struct { char *text; int is_set, is_absent; } items[MAX_ITEMS];
static struct { int get_item, get, set, unset, option_register, strerror; } fails;
static char *options[MAX_ARGS];
static int option_count;
static struct spank_option registered;
static int gpus[MAX_GPUS], gpu_count;
static struct { char *env[8]; int env_count, opens_some, has_mask, dies, delay_ms; set opens, mask; } own[MAX_TASKS];
static struct { const char *call; int error, in_task; } denied[8];
static int denied_count;
static struct { int on; set cpus, nodes, mask; int policy; set policy_nodes; char *status; } kernel;

static int task = -1;
static int out = STDOUT_FILENO;

/* ---- output ---- */

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void put(const char *text)
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
static void say(const char *format, ...)
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

static void fail(const char *what)
{
    say("broken %s: %s", what, strerror(errno));
    _exit(2);
}

/* ---- sets ---- */

static int has(const set *set, int index)
{
    return index >= 0 && index < MAX_CPUS && set->bits[index / LONG_BITS] >> index % LONG_BITS & 1;
}

static void parse_list(set *set, const char *text)
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

static const char *list_of(const set *set)
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

/* ---- the made-up kernel: syscall() and open64() of this program come before libc's ---- */

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
    int mode = (int)a[0] & 0xff;
    if (a[1])
        memcpy(&nodes, (const void *)a[1], (size_t)a[2] / 8 < sizeof nodes ? (size_t)a[2] / 8 : sizeof nodes);
    for (int i = 0; i < MAX_CPUS; i++)
        if (has(&nodes, i) && !has(&kernel.nodes, i))
            return refuse(EINVAL);
    if (mode > 5 || (mode != 0 && mode != 4 && !*list_of(&nodes)))
        return refuse(EINVAL);
    kernel.policy = mode;
    kernel.policy_nodes = nodes;
    return 0;
}

long syscall(long number, ...)
{
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
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
        memset((void *)a[2], 0, (size_t)a[1]);
        memcpy((void *)a[2], &kernel.mask, (size_t)a[1] < sizeof(set) ? (size_t)a[1] : sizeof(set));
        return sizeof(set);
    case SYS_set_mempolicy:
        return made_up_set_mempolicy(a);
    case SYS_get_mempolicy:
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
    if (kernel.on && !strcmp(path, "/proc/self/status"))
        path = kernel.status;
    return libc(path, flags, mode);
}

/* The name under which Rust's std calls strerror_r. */
int __xpg_strerror_r(int error, char *buffer, size_t length)
{
    if (fails.strerror)
        return -1;
    snprintf(buffer, length, "%s", strerrordesc_np(error));
    return 0;
}

/* ---- what the plugin takes from Slurm ---- */

static void log_line(const char *level, const char *format, va_list list)
{
    static char text[1 << 20];
    vsnprintf(text, sizeof text, format, list);
    say("log %s %s", level, text);
}

#define LOGGER(name, level) \
    void name(const char *format, ...) \
    { \
        va_list list; \
        va_start(list, format); \
        log_line(level, format, list); \
        va_end(list); \
    }

LOGGER(slurm_error, "error")
LOGGER(slurm_info, "info")
LOGGER(slurm_debug, "debug")
LOGGER(slurm_spank_log, "user")

#ifndef WITHOUT_API_VERSION
long slurm_api_version(void)
{
    return api << 16;
}
#endif

int spank_context(void)
{
    return context;
}

int spank_option_register(void *handle, struct spank_option *option)
{
    (void)handle;
    if (fails.option_register || context == SLURMD)
        return ESPANK_ERROR;
    registered = *option;
    registered.name = strdup(option->name);
    return ESPANK_SUCCESS;
}

int spank_get_item(void *handle, int item, ...)
{
    va_list list;
    (void)handle;
    if (fails.get_item)
        return ESPANK_ERROR;
    if (item < 0 || item >= MAX_ITEMS || !items[item].is_set || items[item].is_absent) {
        if (item == S_TASK_ID && task >= 0 && !items[item].is_absent) {
            va_start(list, item);
            *va_arg(list, int *) = task;
            va_end(list);
            return ESPANK_SUCCESS;
        }
        return item == S_TASK_ID ? ESPANK_NOT_TASK : ESPANK_BAD_ARG;
    }
    if (context != REMOTE && item != S_JOB_UID)
        return ESPANK_NOT_REMOTE;
    va_start(list, item);
    if (item == S_STEP_ALLOC_CORES)
        *va_arg(list, char **) = strcmp(items[item].text, "null") ? items[item].text : NULL;
    else
        *va_arg(list, uint32_t *) = (uint32_t)strtoul(items[item].text, NULL, 0);
    va_end(list);
    return ESPANK_SUCCESS;
}

static int env_index(const char *name)
{
    size_t length = strlen(name);
    for (int i = 0; i < env_count; i++)
        if (!strncmp(environment[i], name, length) && environment[i][length] == '=')
            return i;
    return -1;
}

static void put_env(const char *pair)
{
    char *name = strndup(pair, strcspn(pair, "="));
    int at = env_index(name);
    if (at < 0 && env_count == MAX_ENV)
        fail("too many variables");
    environment[at < 0 ? env_count++ : at] = strdup(pair);
    free(name);
}

int spank_getenv(void *handle, const char *name, char *buffer, int length)
{
    (void)handle;
    if (context != REMOTE)
        return ESPANK_NOT_REMOTE;
    if (fails.get)
        return ESPANK_ERROR;
    int at = env_index(name);
    if (at < 0)
        return ESPANK_ENV_NOEXIST;
    const char *value = strchr(environment[at], '=') + 1;
    /* snprintf semantics: what fits is written, as spank.c's strlcpy does. */
    return snprintf(buffer, (size_t)length, "%s", value) >= length ? ESPANK_NOSPACE : ESPANK_SUCCESS;
}

int spank_setenv(void *handle, const char *name, const char *value, int overwrite)
{
    (void)handle;
    if (context != REMOTE)
        return ESPANK_NOT_REMOTE;
    if (fails.set)
        return ESPANK_ERROR;
    if (env_index(name) >= 0 && !overwrite)
        return ESPANK_ENV_EXISTS;
    char *pair = NULL;
    if (asprintf(&pair, "%s=%s", name, value) < 0)
        return ESPANK_ERROR;
    put_env(pair);
    free(pair);
    return ESPANK_SUCCESS;
}

int spank_unsetenv(void *handle, const char *name)
{
    (void)handle;
    if (context != REMOTE)
        return ESPANK_NOT_REMOTE;
    if (fails.unset)
        return ESPANK_ERROR;
    int at = env_index(name);
    if (at >= 0)
        environment[at] = environment[--env_count];
    return ESPANK_SUCCESS;
}

/* ---- scenario ---- */

static void unescape(char *text)
{
    char *to = text;
    for (char *from = text; *from; from++) {
        unsigned byte;
        if (*from == '\\' && from[1] == 'n') {
            *to++ = '\n';
            from++;
        } else if (*from == '\\' && from[1] == '\\') {
            *to++ = '\\';
            from++;
        } else if (*from == '\\' && from[1] == 'x' && sscanf(from + 2, "%2x", &byte) == 1) {
            *to++ = (char)byte;
            from += 3;
        } else {
            *to++ = *from;
        }
    }
    *to = 0;
}

static void enter_namespace(void)
{
    static int entered;
    if (entered++)
        return;
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        say("no-namespace %s", strerror(errno));
        _exit(NO_NAMESPACE);
    }
}

static void mount_tmpfs(const char *path)
{
    enter_namespace();
    if (mount("tmpfs", path, "tmpfs", 0, "mode=755") != 0)
        fail(path);
}

static void make_dev(void)
{
    static const struct { const char *path; int major, minor; } devices[] = {
        { "/dev/null", 1, 3 }, { "/dev/zero", 1, 5 }, { "/dev/random", 1, 8 }, { "/dev/urandom", 1, 9 }
    };
    mount_tmpfs("/dev");
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        if (mknod(devices[i].path, S_IFCHR, makedev(devices[i].major, devices[i].minor)) != 0 || chmod(devices[i].path, 0666) != 0)
            fail(devices[i].path);
}

static void make_gpu(int minor)
{
    char path[64];
    snprintf(path, sizeof path, "/dev/nvidia%d", minor);
    if (mknod(path, S_IFCHR, makedev(NVIDIA_MAJOR, minor)) != 0 || chown(path, 0, (gid_t)(FIRST_GROUP + minor)) != 0
        || chmod(path, 0660) != 0)
        fail(path);
    if (gpu_count < MAX_GPUS)
        gpus[gpu_count++] = minor;
}

static void make_kernel(char *rest)
{
    static const char key[] = "Mems_allowed_list:";
    char line[4096], *status = strchr(rest, ' ');
    if (!status)
        fail("kernel");
    *status++ = 0;
    parse_list(&kernel.cpus, rest);
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

static int is_word(char *line, const char *word, char **rest)
{
    size_t length = strlen(word);
    if (strncmp(line, word, length) || (line[length] && line[length] != ' '))
        return 0;
    *rest = line + length + (line[length] == ' ');
    return 1;
}

/* The task number at the head of a line's rest. */
static int take_task(char **rest)
{
    long number = strtol(*rest, rest, 10);
    if (**rest == ' ')
        ++*rest;
    if (number < 0 || number >= MAX_TASKS)
        fail("task number");
    return (int)number;
}

static void take_deny(char *rest)
{
    char where[16], call[32];
    int error;
    if (sscanf(rest, "%15s %31s %d", where, call, &error) != 3 || denied_count == 8)
        fail("deny");
    denied[denied_count].in_task = !strcmp(where, "task");
    denied[denied_count].call = strdup(call);
    denied[denied_count++].error = error;
}

static void take_fail(const char *name)
{
    fails.get_item |= !strcmp(name, "get_item");
    fails.get |= !strcmp(name, "getenv");
    fails.set |= !strcmp(name, "setenv");
    fails.unset |= !strcmp(name, "unsetenv");
    fails.option_register |= !strcmp(name, "option_register");
    fails.strerror |= !strcmp(name, "strerror_r");
}

static int context_of(const char *name)
{
    static const char *const names[] = { "local", "remote", "allocator", "slurmd" };
    for (int i = 0; i < 4; i++)
        if (!strcmp(name, names[i]))
            return i + 1;
    fail(name);
    return 0;
}

static void set_item(long number, const char *text, int is_absent)
{
    if (number < 0 || number >= MAX_ITEMS)
        fail("item number");
    items[number].text = strdup(text);
    items[number].is_set = 1;
    items[number].is_absent = is_absent;
}

static void take_task_line(char *line)
{
    char *rest;
    if (is_word(line, "task-env", &rest)) {
        int k = take_task(&rest);
        if (own[k].env_count < 8)
            own[k].env[own[k].env_count++] = strdup(rest);
    } else if (is_word(line, "opens", &rest)) {
        int k = take_task(&rest);
        own[k].opens_some = 1;
        parse_list(&own[k].opens, rest);
    } else if (is_word(line, "mask", &rest)) {
        int k = take_task(&rest);
        own[k].has_mask = 1;
        parse_list(&own[k].mask, rest);
    } else if (is_word(line, "die", &rest)) {
        own[take_task(&rest)].dies = 1;
    } else if (is_word(line, "delay", &rest)) {
        int k = take_task(&rest);
        own[k].delay_ms = atoi(rest);
    } else {
        errno = EINVAL;
        fail(line);
    }
}

static void take_namespace_line(char *line)
{
    char *rest;
    if (is_word(line, "tmpfs", &rest)) {
        mount_tmpfs(rest);
    } else if (is_word(line, "dir", &rest)) {
        if (mkdir(rest, 0755) != 0)
            fail(rest);
    } else if (is_word(line, "bind", &rest)) {
        char *to = strchr(rest, ' ');
        *to++ = 0;
        enter_namespace();
        if (mount(rest, to, NULL, MS_BIND | MS_REC, NULL) != 0)
            fail(to);
    } else if (is_word(line, "dev", &rest)) {
        make_dev();
    } else if (is_word(line, "gpu", &rest)) {
        make_gpu(atoi(rest));
    } else {
        take_task_line(line);
    }
}

static void take_line(char *line)
{
    char *rest;
    unescape(line);
    if (is_word(line, "plugin", &rest))
        plugin = strdup(rest);
    else if (is_word(line, "release", &rest))
        sscanf(rest, "%u %u", &major_release, &minor_release);
    else if (is_word(line, "api", &rest))
        api = atol(rest);
    else if (is_word(line, "context", &rest))
        context = context_of(rest);
    else if (is_word(line, "arg", &rest) && arg_count < MAX_ARGS)
        args[arg_count++] = strdup(rest);
    else if (is_word(line, "env", &rest))
        put_env(rest);
    else if (is_word(line, "no-item", &rest))
        set_item(strtol(rest, NULL, 10), "", 1);
    else if (is_word(line, "item", &rest)) {
        long number = strtol(rest, &rest, 10);
        set_item(number, rest + (*rest == ' '), 0);
    } else if (is_word(line, "fail", &rest))
        take_fail(rest);
    else if (is_word(line, "option", &rest) && option_count < MAX_ARGS)
        options[option_count++] = *rest == '=' ? strdup(rest + 1) : NULL;
    else if (is_word(line, "tasks", &rest))
        tasks = atoi(rest);
    else if (is_word(line, "rounds", &rest))
        rounds = atoi(rest);
    else if (is_word(line, "uid", &rest))
        uid = atoi(rest);
    else if (is_word(line, "kernel", &rest))
        make_kernel(rest);
    else if (is_word(line, "deny", &rest))
        take_deny(rest);
    else
        take_namespace_line(line);
}

static void read_scenario(void)
{
    char *line = NULL;
    size_t size = 0;
    char number[16];
    static const struct { int item; const char *value; } usual[] = {
        { 2, "12" }, { 3, "0" }, { 4, "1" }, { 5, "0" }, { 24, "1" }
    };
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        set_item(usual[i].item, usual[i].value, 0);
    while (getline(&line, &size, stdin) > 0) {
        line[strcspn(line, "\n")] = 0;
        if (*line)
            take_line(line);
    }
    free(line);
    if (tasks < 1 || tasks > MAX_TASKS || !plugin)
        fail("scenario");
    if (!items[S_JOB_LOCAL_TASK_COUNT].is_set) {
        snprintf(number, sizeof number, "%d", tasks);
        set_item(S_JOB_LOCAL_TASK_COUNT, number, 0);
    }
    if (context != REMOTE)
        for (int i = 0; i < env_count; i++)
            putenv(environment[i]);
    kernel.on = kernel.status != NULL;
}

/* ---- a filter as a container runtime may have it ---- */

static void deny(int in_task)
{
    static const struct { const char *name; int number; } calls[] = {
        { "sched_setaffinity", SYS_sched_setaffinity }, { "sched_getaffinity", SYS_sched_getaffinity },
        { "set_mempolicy", SYS_set_mempolicy }, { "get_mempolicy", SYS_get_mempolicy }, { "futex", SYS_futex },
        { "shared-mmap", SYS_mmap }
    };
    for (int i = 0; i < denied_count; i++) {
        if (denied[i].in_task != in_task)
            continue;
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
        if (readlink(path, target, sizeof target - 1) >= 0 && asprintf(&fds[count], "%s:%s", entry->d_name, target) > 0)
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

static int run_hook(hook *function, const char *name)
{
    struct timespec from, to;
    char *before = strdup(state());
    clock_gettime(CLOCK_MONOTONIC, &from);
    int rc = function(&items, arg_count, args);
    clock_gettime(CLOCK_MONOTONIC, &to);
    const char *after = state();
    say("rc %s %d", name, rc);
    say("nanos %s %lld", name, (to.tv_sec - from.tv_sec) * 1000000000LL + to.tv_nsec - from.tv_nsec);
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

static void become_user(int k)
{
    gid_t groups[MAX_GPUS];
    int count = 0;
    for (int i = 0; i < gpu_count; i++)
        if (!own[k].opens_some || has(&own[k].opens, gpus[i]))
            groups[count++] = (gid_t)(FIRST_GROUP + gpus[i]);
    if (setgroups((size_t)count, groups) != 0 || setresgid((gid_t)uid, (gid_t)uid, (gid_t)uid) != 0
        || setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid) != 0)
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

static void run_task(int k, int go)
{
    char byte;
    task = k;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (read(go, &byte, 1) != 1)
        _exit(4);
    close(go);
    run_named("task_init_privileged");
    become_user(k);
    for (int i = 0; i < own[k].env_count; i++)
        put_env(own[k].env[i]);
    if (own[k].has_mask && kernel.on)
        kernel.mask = own[k].mask;
    if (own[k].dies)
        _exit(9);
    if (own[k].delay_ms)
        usleep((useconds_t)own[k].delay_ms * 1000);
    deny(1);
    int rc = run_named("task_init");
    print_task();
    _exit(rc < 0 ? 1 : 0);
}

struct child {
    pid_t pid;
    int go, out;
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
    if (own[k].has_mask && !kernel.on && sched_setaffinity(child.pid, sizeof own[k].mask, (cpu_set_t *)&own[k].mask) != 0)
        fail("mask");
    return child;
}

static void finish_task(int k, struct child child)
{
    char text[4096];
    ssize_t n;
    int status = 0;
    if (waitpid(child.pid, &status, 0) != child.pid)
        fail("waitpid");
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
    for (int k = 0; k < tasks; k++)
        children[k] = start_task(k);
    run_named("task_post_fork");
    for (int k = 0; k < tasks; k++)
        if (write(children[k].go, "", 1) == 1)
            close(children[k].go);
    for (int k = 0; k < tasks; k++)
        finish_task(k, children[k]);
    for (int round = 0; round < rounds; round++) {
        struct child alone = start_task(round % tasks);
        if (write(alone.go, "", 1) == 1)
            close(alone.go);
        finish_task(round % tasks, alone);
    }
    run_named("task_exit");
    if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
        say("changed a child is left");
}

/* ---- the plugin, as plugin.c loads it ---- */

static int load(void)
{
    library = dlopen(plugin, RTLD_LAZY);
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
    if (strcmp(type, "spank") || (*version & 0xffff00) != (major_release << 16 | minor_release << 8)) {
        say("refused Incompatible Slurm plugin %s version", plugin);
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
    for (int i = 0; i < option_count; i++) {
        if (!registered.cb) {
            say("no option is registered");
            return 0;
        }
        int rc = registered.cb(registered.val, options[i], context == REMOTE);
        say("rc option %d", rc);
        if (rc != 0 && context != REMOTE) {
            say("invalid --%s argument: %s", registered.name, options[i] ? options[i] : "");
            return 0;
        }
    }
    return 1;
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    read_scenario();
    if (!load())
        return 0;
    deny(0);
    run_named("init");
    if (context == SLURMD) {
        run_named("slurmd_exit");
        return 0;
    }
    if (!run_options())
        return 0;
    run_named("init_post_opt");
    if (context != REMOTE) {
        run_named("local_user_init");
        run_named("exit");
        return 0;
    }
    if (setegid((gid_t)uid) != 0 || seteuid((uid_t)uid) != 0)
        fail("become user");
    run_named("user_init");
    if (seteuid(0) != 0 || setegid(0) != 0)
        fail("become root");
    run_tasks();
    run_named("exit");
    say("done");
    return 0;
}
