/* What the parts of spank_host share.  All of it is hidden, so that only Slurm's functions, and those that come
 * before libc's, are seen by the plugin. */
#ifndef HOST_H
#define HOST_H

#define _GNU_SOURCE
#include <stdint.h>
#include <sys/types.h>

#pragma GCC visibility push(hidden)

enum {
    MAX_TASKS = 4096, MAX_ENV = 512, MAX_ARGS = 32, MAX_ITEMS = 64, MAX_GPUS = 64, MAX_CPUS = 4096, MAX_NODES = 1024,
    LONG_BITS = 8 * sizeof(long), NVIDIA_MAJOR = 195, DRM_MAJOR = 226, FIRST_GROUP = 70000, NO_NAMESPACE = 77
};
/* The operation of the prctl that tells tracer.c where a hook begins, by its name, and ends, by an empty one. */
enum { MARK = 0x676e626d };
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
typedef struct { unsigned long bits[MAX_CPUS / LONG_BITS]; } set;

struct item {
    char *text;
    int is_set, is_absent;
};

/* Which of Slurm's functions fail; strerror_r is libc's. */
struct fails {
    int get_item, get, set, unset, option_register, strerror;
};

/* What is said of one task alone. */
struct own {
    char *env[8];
    int env_count, opens_some, has_mask, dies, delay_ms, scribbles, scribble;
    set opens, mask;
};

struct scenario {
    char *plugin;
    unsigned major_release, minor_release;
    long api;
    int context, tasks, uid, watches, is_timed, slowness;
    char *args[MAX_ARGS + 1], *options[MAX_ARGS];
    int arg_count, option_count;
    struct item items[MAX_ITEMS];
    struct fails fails;
    int gpus[MAX_GPUS], gpu_count;
    struct own own[MAX_TASKS];
};

/* The made-up kernel's word on this process. */
struct kernel {
    int on, policy;
    set cpus, nodes, mask, policy_nodes;
    char *status;
};

/* What stands for /proc/self/mountinfo; NULL for the kernel's own. */
extern char *mounts;

extern struct scenario scenario;
extern struct kernel kernel;
/* The option that the plugin registered. */
extern struct spank_option registered;
/* The environment of the job, and after the fork of the task. */
extern char *environment[MAX_ENV];
extern int env_count;
/* The running task, -1 before the fork; where its lines go. */
extern int task, out;

/* spank_host.c */
void put(const char *text);
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void fail(const char *what);
int has(const set *set, int index);
void parse_list(set *set, const char *text);
const char *list_of(const set *set);

/* scenario.c */
void read_scenario(void);

/* slurm.c */
void put_env(const char *pair);

/* kernel.c */
void make_kernel(char *cpus_and_status);
void add_denied(const char *line);
void deny(int in_task);

#pragma GCC visibility pop

#endif
