/* The real libnccl with our env plugin, without a GPU: what the plugin answers once NCCL has begun.
 *
 *     nccl_real LIBNCCL PLUGIN
 *
 * NCCL loads its env plugin, which NCCL_ENV_PLUGIN names, for ncclGetUniqueId; it asks for the topology only
 * where there is a GPU, so here the host asks the plugin that NCCL has loaded. */
#define _GNU_SOURCE
#include "nccl.h"

#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    void *nccl = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!nccl) {
        fprintf(stderr, "nccl_real: %s\n", dlerror());
        return 3;
    }
    struct { char bytes[128]; } id;
    int (*get_id)(void *) = (int (*)(void *))dlsym(nccl, "ncclGetUniqueId");
    printf("ncclGetUniqueId %d\n", get_id ? get_id(&id) : -1);
    void *plugin = dlopen(argv[2], RTLD_NOW | RTLD_NOLOAD);
    if (!plugin) {
        fprintf(stderr, "nccl_real: NCCL has not loaded %s\n", argv[2]);
        return 4;
    }
    struct env_v2 *env = dlsym(plugin, "ncclEnvPlugin_v2");
    const char *answer = env->getEnv("NCCL_TOPO_FILE");
    printf("NCCL_TOPO_FILE=%s\n", answer ? answer : "(null)");
    return 0;
}
