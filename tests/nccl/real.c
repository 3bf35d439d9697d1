/* The real libnccl with our env plugin, without a GPU: what NCCL asks the plugin for, and what the plugin answers once
 * NCCL has begun.
 *
 *     nccl_real LIBNCCL PLUGIN
 *
 * NCCL loads its env plugin, which NCCL_ENV_PLUGIN names, for ncclGetUniqueId; it asks for the topology only
 * where there is a GPU, so here the host asks the plugin that NCCL has loaded. It looks for a profiler only where there
 * is a GPU too, so of the profiler interfaces only the names in the library are told.
 *
 * Prints `version CODE`, `asked NAME` for each plugin table that NCCL looks up, `knows ncclProfiler_vN` for the newest
 * profiler table whose name the library holds, `loaded` or `not loaded`, and `NCCL_TOPO_FILE=...` where loaded. */
#define _GNU_SOURCE
#include "nccl.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROFILER "ncclProfiler_v"

static void *lookup(void *handle, const char *name) {
    static void *(*next)(void *, const char *);
    static const char *const versions[] = {"GLIBC_2.2.5", "GLIBC_2.17", "GLIBC_2.34"};
    for (size_t i = 0; !next && i < sizeof versions / sizeof *versions; i++)
        *(void **)&next = dlvsym(RTLD_NEXT, "dlsym", versions[i]);
    if (!next) {
        fprintf(stderr, "nccl_real: no dlsym in the C library\n");
        exit(5);
    }
    return next(handle, name);
}

/* Stands before the C library's, so that NCCL's questions are seen. */
void *dlsym(void *restrict handle, const char *restrict name) {
    if (strncmp(name, "ncclEnvPlugin_v", 15) == 0 || strncmp(name, PROFILER, strlen(PROFILER)) == 0)
        printf("asked %s\n", name);
    return lookup(handle, name);
}

static int look_for_profiler(struct dl_phdr_info *object, size_t size, void *library) {
    (void)size;
    if (strcmp(object->dlpi_name, library) != 0) return 0;
    int newest = 0;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_R)) continue;
        const char *at = (const char *)object->dlpi_addr + part->p_vaddr, *end = at + part->p_filesz;
        while ((at = memmem(at, (size_t)(end - at), PROFILER, strlen(PROFILER)))) {
            at += strlen(PROFILER);
            int number = atoi(at);
            if (number > newest) newest = number;
        }
    }
    printf("knows " PROFILER "%d\n", newest);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    void *nccl = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!nccl) {
        fprintf(stderr, "nccl_real: %s\n", dlerror());
        return 3;
    }
    int version = 0;
    int (*get_version)(int *) = (int (*)(int *))lookup(nccl, "ncclGetVersion");
    if (!get_version || get_version(&version) != 0) return 3;
    printf("version %d\n", version);
    if (!dl_iterate_phdr(look_for_profiler, argv[1])) return 3;
    struct { char bytes[128]; } id;
    int (*get_id)(void *) = (int (*)(void *))lookup(nccl, "ncclGetUniqueId");
    printf("ncclGetUniqueId %d\n", get_id ? get_id(&id) : -1);
    void *plugin = dlopen(argv[2], RTLD_NOW | RTLD_NOLOAD);
    if (!plugin) {
        printf("not loaded\n");
        return 0;
    }
    printf("loaded\n");
    /* v1 and v2 have getEnv at the same place. */
    struct env_v2 *env = lookup(plugin, "ncclEnvPlugin_v2");
    const char *answer = env->getEnv("NCCL_TOPO_FILE");
    printf("NCCL_TOPO_FILE=%s\n", answer ? answer : "(null)");
    return 0;
}
