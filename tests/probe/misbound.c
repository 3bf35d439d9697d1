/* misbound WORD...: a process that is bound as WORDs say, one after the other; then it prints its number and waits without a limit.
 *
 *   open FILE           holds FILE open
 *   cpus FIRST LAST     binds the calling thread
 *   policy NODE         has new memory of the calling thread come from NODE only
 *   memory MIB          allocates and writes memory
 *   at MIB NODE         the same, in a mapping with a policy of its own (mbind)
 *   shared MIB NODE     the same, shared, without a file system
 *   locked MIB NODE     as "at", and locked in memory (mlock)
 *   pinned MIB NODE     as "at", and pinned by the kernel, as registered memory is (io_uring's registered buffers)
 *   map FILE            maps FILE and reads all of it
 *   thread NAME         starts a thread that does the WORDs up to "end", and waits
 *   fork                goes on in a child; the parent prints its own number and waits
 *   exec PROGRAM...     becomes another program
 *   title TEXT          has TEXT, and zeros behind it, where its arguments and environment are; the last of the WORDs
 *   leave               ends the first thread, while the others live on */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

extern char **environ;
static char **words, *start;
static pthread_barrier_t done;

static void fail(const char *what)
{
    perror(what);
    _exit(1);
}

static const char *word(void)
{
    if (!*words) {
        fprintf(stderr, "misbound: a word is missing\n");
        _exit(1);
    }
    return *words++;
}

static void bind_cpus(void)
{
    cpu_set_t set;
    int cpu = atoi(word()), last = atoi(word());
    CPU_ZERO(&set);
    for (; cpu <= last; cpu++)
        CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set))
        fail("sched_setaffinity");
}

/* `node` below 0: no policy of its own. */
static char *take(size_t mib, int node, int kind)
{
    size_t size = mib << 20;
    unsigned long nodes = node < 0 ? 0 : 1UL << node;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    if (nodes && syscall(SYS_mbind, memory, size, MPOL_BIND, &nodes, 8 * sizeof nodes, 0))
        fail("mbind");
    memset(memory, 1, size);
    return memory;
}

static void take_locked(size_t mib, int node)
{
    if (mlock(take(mib, node, MAP_PRIVATE), mib << 20))
        fail("mlock");
}

static void take_pinned(size_t mib, int node)
{
    struct io_uring_params parameters = {0};
    struct iovec buffer = {take(mib, node, MAP_PRIVATE), mib << 20};
    int ring = syscall(SYS_io_uring_setup, 1, &parameters);
    if (ring < 0 || syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1))
        fail("io_uring");
}

static void map_file(const char *path)
{
    volatile char sum = 0;
    struct stat is;
    off_t at;
    int file = open(path, O_RDONLY);
    char *memory;
    if (file < 0 || fstat(file, &is))
        fail(path);
    memory = mmap(NULL, is.st_size, PROT_READ, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    for (at = 0; at < is.st_size; at += 4096)
        sum += memory[at];
}

/* As setproctitle of Python and of libbsd do: what was there is elsewhere then. */
static void take_title(const char *text)
{
    char *copy = strdup(text), **entry = environ, *end = strchr(start, 0);
    for (; *entry; entry++)
        end = strchr(*entry, 0);
    memset(start, 0, end - start);
    strncpy(start, copy, end - start);
}

static void *run(void *name);

static void start_thread(void)
{
    pthread_t thread;
    const char *name = word();
    pthread_barrier_init(&done, NULL, 2);
    if (pthread_create(&thread, NULL, run, NULL))
        fail("pthread_create");
    pthread_setname_np(thread, name);
    pthread_barrier_wait(&done);
}

static void say_and_wait(void)
{
    printf("%d\n", (int)getpid());
    fflush(stdout);
    for (;;)
        pause();
}

/* Does the words up to the last, or to "end". */
static void act(void)
{
    while (*words && strcmp(*words, "end") != 0) {
        const char *what = word();
        if (!strcmp(what, "open")) {
            if (open(word(), O_RDWR | O_CLOEXEC) < 0)
                fail("open");
        } else if (!strcmp(what, "cpus")) {
            bind_cpus();
        } else if (!strcmp(what, "policy")) {
            unsigned long nodes = 1UL << atoi(word());
            if (syscall(SYS_set_mempolicy, MPOL_BIND, &nodes, 8 * sizeof nodes))
                fail("set_mempolicy");
        } else if (!strcmp(what, "memory")) {
            take(strtoul(word(), NULL, 10), -1, MAP_PRIVATE);
        } else if (!strcmp(what, "at") || !strcmp(what, "shared")) {
            size_t mib = strtoul(word(), NULL, 10);
            take(mib, atoi(word()), what[0] == 'a' ? MAP_PRIVATE : MAP_SHARED);
        } else if (!strcmp(what, "locked") || !strcmp(what, "pinned")) {
            size_t mib = strtoul(word(), NULL, 10);
            (what[0] == 'l' ? take_locked : take_pinned)(mib, atoi(word()));
        } else if (!strcmp(what, "map")) {
            map_file(word());
        } else if (!strcmp(what, "thread")) {
            start_thread();
        } else if (!strcmp(what, "fork")) {
            if (fork() > 0)
                say_and_wait();
        } else if (!strcmp(what, "exec")) {
            execvp(*words, words);
            fail("exec");
        } else if (!strcmp(what, "title")) {
            take_title(word());
        } else if (!strcmp(what, "leave")) {
            printf("%d\n", (int)getpid());
            fflush(stdout);
            syscall(SYS_exit, 0);
        } else {
            fprintf(stderr, "misbound: %s: no such word\n", what);
            _exit(1);
        }
    }
    if (*words)
        words++;
}

static void *run(void *name)
{
    act();
    pthread_barrier_wait(&done);
    for (;;)
        pause();
    return name;
}

int main(int count, char **arguments)
{
    (void)count;
    start = arguments[0];
    words = arguments + 1;
    act();
    say_and_wait();
}
