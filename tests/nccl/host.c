/* A host that stands for NCCL: loads the real plugin, makes communicators of ranks that are threads or processes,
 * and hands over events in NCCL's order.
 *
 *     nccl_host PLUGIN profiler VERSION [--hosts N] [--ids A,B] [--names A,B] [--many N] [--processes] [--missing RANK] GPU,GPU,... WORD...
 *     nccl_host PLUGIN env VERSION NAME[=VALUE]...
 *
 * WORDs, for every rank in order:
 *     FUNC:ALGO:COUNT[:ROOT]   a collective of COUNT floats (AllGather and Broadcast: bytes), called and planned
 *     captured:FUNC:COUNT      recorded into a CUDA graph      ce:FUNC   by copy engines (v6)
 *     symmetric:FUNC:COUNT     over symmetric memory (v7)      call:FUNC:COUNT[:ROOT]   called, never planned
 *     captured-ce:..., captured-symmetric:...   the same, recorded into a CUDA graph
 *     all-to-all:COUNT         a send and a receive of COUNT bytes for each pair
 *     recorded-all-to-all:COUNT   the same, recorded into a CUDA graph
 *     bench:N                  N AllReduces, timed by each rank             fork     a child that ends at once
 *     sleep:MILLISECONDS       count    once all ranks are there, what the process holds
 *
 * --names A,B names the communicators in turn. --many N makes N communicators, whose ids follow the last that was given. Prints `mask RANK 0x...` after init,
 * `bench NANOSECONDS` for each rank, `held DESCRIPTORS MAPPINGS KIB` for `count`, `left` with the same before the first and after the
 * last communicator, and what get_env gave. MAPPINGS are those of files in /dev/shm, KIB what it holds. */
#define _GNU_SOURCE
#include "nccl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64, MOST_COMMUNICATORS = 1024 };

static const char *gpus[MOST];
static int ranks, hosts = 1, version, missing = -1, processes;
static uint64_t ids[MOST_COMMUNICATORS];
static int communicators = 1;
static const char *names[MOST];
static int name_count;
static char **words;
static int word_count;
static struct profiler *plugin;
static pthread_barrier_t *barrier;
static _Thread_local int device = -1;

static void fail(const char *what) {
    fprintf(stderr, "nccl_host: %s\n", what);
    exit(3);
}

/* CUDA, as far as the plugin asks it. */
int cuCtxGetDevice(int *out) {
    if (device < 0) return 201;
    *out = device;
    return 0;
}
int cuDeviceGetPCIBusId(char *out, int length, int which) {
    snprintf(out, (size_t)length, "%s", gpus[which]);
    for (char *c = out; *c; c++) if (*c >= 'a' && *c <= 'f') *c -= 'a' - 'A';
    return 0;
}
int cuDeviceGetAttribute(int *out, int attribute, int which) {
    (void)which;
    *out = attribute == 75 ? 9 : 0;
    return 0;
}

static void log_line(int level, unsigned long flags, const char *file, int line, const char *format, ...) {
    (void)flags, (void)file, (void)line;
    const char *wanted = getenv("NCCL_DEBUG");
    if (level > 2 && !(wanted && !strcmp(wanted, "INFO"))) return;
    va_list args;
    va_start(args, format);
    fprintf(stderr, "NCCL level %d ", level);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

struct communicator {
    void *context;
    bool is_first;
    int rank;
    int mask;
};

/* An event, whatever the version's layout. */
struct event {
    uint64_t type;
    void *parent;
    const char *func, *algo, *datatype;
    size_t count;
    int root;
    bool captured, symmetric;
};

static void *start_any(struct communicator *c, struct event e) {
    void *handle = (void *)1;
#define FILL_COLL(d)                                                                                       \
    (d).coll.func = e.func, (d).coll.count = e.count, (d).coll.datatype = e.datatype, (d).coll.root = e.root, \
    (d).coll.algo = e.algo, (d).coll.proto = "SIMPLE", (d).coll.nChannels = 2, (d).coll.nWarps = 16
#define FILL_P2P(d)                                                                                        \
    (d).p2p.func = e.func, (d).p2p.count = e.count, (d).p2p.datatype = e.datatype, (d).p2p.peer = e.root
#define FILL_P2P_CALL(d)                                                                                   \
    (d).p2pApi.func = e.func, (d).p2pApi.count = e.count, (d).p2pApi.datatype = e.datatype,                \
    (d).p2pApi.graphCaptured = e.captured
#define FILL_CALL(d)                                                                                       \
    (d).collApi.func = e.func, (d).collApi.count = e.count, (d).collApi.datatype = e.datatype,             \
    (d).collApi.root = e.root, (d).collApi.graphCaptured = e.captured
    if (version == 4) {
        struct descriptor_v4 d;
        memset(&d, 0xa5, sizeof d);
        d.type = (uint8_t)e.type, d.parentObj = e.parent, d.rank = c->rank;
        if (e.type == COLL) FILL_COLL(d);
        if (e.type == P2P) FILL_P2P(d);
        if (plugin->startEvent(c->context, &handle, &d)) fail("startEvent failed");
    } else if (version == 7) {
        struct descriptor_v7 d;
        memset(&d, 0xa5, sizeof d);
        d.type = e.type, d.parentObj = e.parent, d.rank = c->rank;
        if (e.type == COLL) FILL_COLL(d), d.coll.isSymColl = e.symmetric;
        if (e.type == P2P) FILL_P2P(d);
        if (e.type == COLL_API) FILL_CALL(d);
        if (e.type == P2P_API) FILL_P2P_CALL(d);
        if (e.type == CE_COLL) d.ceColl.func = e.func;
        if (plugin->startEvent(c->context, &handle, &d)) fail("startEvent failed");
    } else {
        struct descriptor_v6 d;
        memset(&d, 0xa5, sizeof d);
        d.type = e.type, d.parentObj = e.parent, d.rank = c->rank;
        if (e.type == COLL) FILL_COLL(d);
        if (e.type == P2P) FILL_P2P(d);
        if (e.type == COLL_API) FILL_CALL(d);
        if (e.type == P2P_API) FILL_P2P_CALL(d);
        if (e.type == CE_COLL) d.ceColl.func = e.func;
        if (plugin->startEvent(c->context, &handle, &d)) fail("startEvent failed");
    }
    return handle;
}

static void *start(struct communicator *c, struct event e) {
    return c->mask & (int)e.type ? start_any(c, e) : NULL;
}

static void stop(void *handle) {
    if (!handle) return;
    if (plugin->recordEventState(handle, 24, NULL) || plugin->stopEvent(handle)) fail("stopEvent failed");
}

static void event(struct communicator *c, struct event e) { stop(start(c, e)); }

/* A collective: its call, then the group, then what it became (profiler.cc). */
static void *collective(struct communicator *c, const char *func, const char *algo, size_t count, int root,
                        bool captured, bool symmetric) {
    bool in_bytes = !strcmp(func, "AllGather") || !strcmp(func, "Broadcast");
    const char *datatype = in_bytes ? "ncclInt8" : "ncclFloat32";
    event(c, (struct event){.type = GROUP_API});
    void *call = version > 4 ? start(c, (struct event){.type = COLL_API, .func = func, .datatype = datatype,
                                                       .count = count, .root = root, .captured = captured})
                             : NULL;
    stop(call);
    if (algo) {
        event(c, (struct event){.type = GROUP});
        event(c, (struct event){.type = COLL, .parent = call, .func = func, .algo = algo, .datatype = datatype,
                                .count = count, .root = root, .symmetric = symmetric});
    }
    return call;
}

static void bench(struct communicator *c, long count) {
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    struct event e = {.type = COLL, .func = "AllReduce", .algo = "RING", .datatype = "ncclFloat32", .count = 1024};
    int mask = c->mask;
    c->mask = -1;
    for (long i = 0; i < count; i++) start(c, e);
    c->mask = mask;
    clock_gettime(CLOCK_MONOTONIC, &to);
    double spent = (double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec);
    printf("bench %.1f\n", spent / (double)count);
}

/* What the process holds: open files, and mappings of files in /dev/shm. */
static void count(const char *what) {
    char name[64], line[512];
    int descriptors = 0, mappings = 0;
    for (int i = 0; i < 4096; i++) {
        snprintf(name, sizeof name, "/proc/self/fd/%d", i);
        descriptors += access(name, F_OK) == 0 || readlink(name, line, sizeof line) >= 0;
    }
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps) fail("no maps");
    while (fgets(line, sizeof line, maps)) mappings += strstr(line, "/dev/shm/") != NULL;
    fclose(maps);
    struct statvfs shared;
    if (statvfs("/dev/shm", &shared)) fail("no /dev/shm");
    unsigned long kib = (shared.f_blocks - shared.f_bfree) * (shared.f_frsize / 1024);
    printf("%s %d %d %lu\n", what, descriptors, mappings, kib);
}

static void run_word(struct communicator *c, const char *word) {
    char text[128], *part[5] = {0}, *rest = text;
    snprintf(text, sizeof text, "%s", word);
    for (int i = 0; i < 5 && rest; i++) part[i] = strsep(&rest, ":");
    long number = part[1] ? atol(part[1]) : 0;
    bool captured = !strncmp(part[0], "captured-", 9);
    if (captured) part[0] += 9;
    if (!strcmp(part[0], "captured")) collective(c, part[1], "RING", (size_t)atol(part[2]), 0, true, false);
    else if (!strcmp(part[0], "symmetric")) collective(c, part[1], "RING", (size_t)atol(part[2]), 0, captured, true);
    else if (!strcmp(part[0], "call"))
        collective(c, part[1], NULL, (size_t)atol(part[2]), part[3] ? atoi(part[3]) : 0, false, false);
    else if (!strcmp(part[0], "ce")) {
        void *call = collective(c, part[1], NULL, 1, 0, captured, false);
        event(c, (struct event){.type = CE_COLL, .parent = call, .func = part[1]});
    }
    else if (!strcmp(part[0], "bench")) bench(c, number);
    else if (!strcmp(part[0], "sleep")) usleep((unsigned)number * 1000);
    else if (!strcmp(part[0], "count")) {
        if (!c->is_first) return;
        pthread_barrier_wait(barrier);
        if (c->rank == 0) count("held");
        pthread_barrier_wait(barrier);
    }
    else if (!strcmp(part[0], "fork")) {
        pid_t child = fork();
        if (child == 0) {
            plugin->finalize(c->context);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    } else if (!strcmp(part[0], "all-to-all") || !strcmp(part[0], "recorded-all-to-all")) {
        bool recorded = part[0][0] == 'r';
        for (int peer = 0; peer < ranks; peer++)
            for (int receive = 0; receive < 2; receive++) {
                struct event e = {.type = P2P_API, .func = receive ? "Recv" : "Send", .datatype = "ncclInt8",
                                  .count = (size_t)number, .root = peer, .captured = recorded};
                void *call = version > 4 && c->mask & P2P ? start_any(c, e) : NULL;
                stop(call);
                e.type = P2P, e.parent = call;
                event(c, e);
            }
    } else collective(c, part[0], part[1], (size_t)atol(part[2]), part[3] ? atoi(part[3]) : 0, false, false);
}

static void *run_rank(void *argument) {
    int rank = (int)(intptr_t)argument;
    device = rank;
    struct communicator *all = calloc((size_t)communicators, sizeof *all);
    if (!all) fail("no memory");
    for (int i = 0; i < communicators; i++) {
        struct communicator *c = &all[i];
        c->is_first = i == 0, c->rank = rank, c->context = (void *)2, c->mask = 0;
        /* Freed when init has returned, as its maker may. */
        char *name = name_count ? strdup(names[i % name_count]) : NULL;
        int result = 0;
        if (rank != missing)
            result = version == 4
                ? ((init_v4)plugin->init)(&c->context, &c->mask, name, ids[i], hosts, ranks * hosts, rank, log_line)
                : ((init_v5)plugin->init)(&c->context, ids[i], &c->mask, name, hosts, ranks * hosts, rank, log_line);
        free(name);
        if (result) fail("init failed");
        if (rank == missing) c->context = NULL;
        pthread_barrier_wait(barrier);
        printf("mask %d 0x%x\n", rank, (unsigned)c->mask);
    }
    for (int w = 0; w < word_count; w++)
        for (int i = 0; i < communicators; i++)
            if (rank != missing) run_word(&all[i], words[w]);
    /* Not while another still counts: a summary is what there is by then. */
    pthread_barrier_wait(barrier);
    for (int i = 0; i < communicators; i++)
        if (all[i].context && plugin->finalize(all[i].context)) fail("finalize failed");
    free(all);
    return NULL;
}

static int run_profiler(void *library, int argc, char **argv) {
    char symbol[32], *list = NULL;
    version = atoi(argv[0]);
    snprintf(symbol, sizeof symbol, "ncclProfiler_v%d", version);
    plugin = dlsym(library, symbol);
    if (!plugin) fail(dlerror());
    ids[0] = 0x1f2e;
    int at = 1;
    for (; at < argc && argv[at][0] == '-'; at++) {
        if (!strcmp(argv[at], "--processes")) processes = 1;
        else if (!strcmp(argv[at], "--hosts")) hosts = atoi(argv[++at]);
        else if (!strcmp(argv[at], "--missing")) missing = atoi(argv[++at]);
        else if (!strcmp(argv[at], "--ids")) {
            communicators = 0;
            for (char *id = strtok(argv[++at], ","); id; id = strtok(NULL, ",")) ids[communicators++] = strtoull(id, NULL, 16);
        } else if (!strcmp(argv[at], "--names")) {
            for (char *n = strtok(argv[++at], ","); n && name_count < MOST; n = strtok(NULL, ",")) names[name_count++] = n;
        } else if (!strcmp(argv[at], "--many")) {
            int wanted = atoi(argv[++at]);
            if (wanted > MOST_COMMUNICATORS) fail("too many communicators");
            for (; communicators < wanted; communicators++) ids[communicators] = ids[communicators - 1] + 1;
        } else fail("unknown option");
    }
    if (at >= argc) fail("no GPUs");
    list = argv[at++];
    for (char *gpu = strtok(list, ","); gpu && ranks < MOST; gpu = strtok(NULL, ",")) gpus[ranks++] = gpu;
    words = argv + at, word_count = argc - at;
    pthread_barrierattr_t shared;
    pthread_barrierattr_init(&shared);
    pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    barrier = mmap(NULL, sizeof *barrier, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (barrier == MAP_FAILED) fail("no memory");
    pthread_barrier_init(barrier, &shared, (unsigned)ranks);
    if (processes) {
        int bad = 0, status;
        setbuf(stdout, NULL);
        for (int rank = 0; rank < ranks; rank++)
            if (fork() == 0) {
                run_rank((void *)(intptr_t)rank);
                exit(0);
            }
        while (wait(&status) > 0) bad |= status;
        return bad != 0;
    }
    count("left");
    pthread_t threads[MOST];
    for (int rank = 0; rank < ranks; rank++) pthread_create(&threads[rank], NULL, run_rank, (void *)(intptr_t)rank);
    for (int rank = 0; rank < ranks; rank++) pthread_join(threads[rank], NULL);
    count("left");
    return 0;
}

static int run_env(void *library, int argc, char **argv) {
    int env_version = atoi(argv[0]);
    struct env_v1 *v1 = dlsym(library, "ncclEnvPlugin_v1");
    struct env_v2 *v2 = dlsym(library, "ncclEnvPlugin_v2");
    if (!v1 || !v2) fail("no env plugin");
    int result = env_version == 1 ? v1->init(2, 28, 7, "") : v2->init(2, 30, 7, "", log_line);
    const char *(*get)(const char *) = env_version == 1 ? v1->getEnv : v2->getEnv;
    for (int i = 1; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (value) {
            *value = 0;
            setenv(argv[i], value + 1, 1);
            continue;
        }
        const char *answer = get(argv[i]);
        printf("%s=%s\n", argv[i], answer ? answer : "(null)");
    }
    return result | (env_version == 1 ? v1->finalize() : v2->finalize());
}

int main(int argc, char **argv) {
    if (argc < 4) fail("usage: nccl_host PLUGIN profiler|env VERSION ...");
    /* As NCCL does (os/linux.cc). */
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) fail(dlerror());
    int result = !strcmp(argv[2], "env") ? run_env(library, argc - 3, argv + 3) : run_profiler(library, argc - 3, argv + 3);
    dlclose(library);
    return result;
}
