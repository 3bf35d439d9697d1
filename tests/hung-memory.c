/* hung-memory FILE: a process of which nobody can look at the memory, while FILE does not answer; prints "ready" and stays.
 *
 * One thread reads FILE's mapping through /proc/self/mem, and the kernel holds mmap_lock while it waits for the file's pages
 * (__access_remote_vm, mm/memory.c); another maps memory, for which it wants that lock alone; and all who want it after that wait
 * too: readers of numa_maps, cmdline and environ. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static char *hung;

static void *read_it(void *unused)
{
    char byte;
    int memory = open("/proc/self/mem", O_RDONLY);
    pread(memory, &byte, 1, (off_t)(uintptr_t)hung);
    return unused;
}

static void *map_more(void *unused)
{
    mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return unused;
}

int main(int count, char **words)
{
    pthread_t reader, mapper;
    /* With whoever tests: all that looks at every process would wait for this one. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int file = count == 2 ? open(words[1], O_RDONLY) : -1;
    hung = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);
    if (hung == MAP_FAILED || printf("ready\n") < 0 || fflush(stdout) != 0)
        return 1;
    if (pthread_create(&mapper, NULL, map_more, NULL) != 0 || pthread_join(mapper, NULL) != 0)
        return 1;
    pthread_create(&reader, NULL, read_it, NULL);
    usleep(300000);
    map_more(NULL);
    for (;;)
        pause();
}
