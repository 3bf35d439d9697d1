/* One GPU that stands for several: as many ranks as addresses, each a process with a CUDA context of its own on the
 * first GPU of this host, whose PCI address and UUID CUDA and NVML tell as the rank's own.
 *
 *     nccl_one_gpu LIBNCCL COUNT P2P ADDRESS,ADDRESS,...
 *
 * P2P is what NVML says of P2P between the GPUs: `works` or `denied`.
 * Each rank adds up COUNT floats of all in an AllReduce and looks at the sum.  NCCL takes each rank's GPU for another
 * one at the place that NCCL_TOPO_FILE gives it: its rings, trees, transports and bytes are those of such a host, its
 * times are not, since all share one GPU.
 *
 * Prints `version CODE`, then `rank K right` for each rank. Exit 1 where a call fails or a sum is wrong. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_RANKS = 64, NVML_NOT_SUPPORTED = 3, NVML_P2P_OK = 0, NVML_P2P_CHIPSET_NOT_SUPPORTED = 1, CUDA_INVALID_DEVICE = 101, NCCL_FLOAT32 = 7, NCCL_SUM = 0,
       LONGEST_SECONDS = 150 };

static const char *address;
static int p2p_works;

static void *lookup(void *handle, const char *name) {
    static void *(*next)(void *, const char *);
    static const char *const versions[] = {"GLIBC_2.2.5", "GLIBC_2.17", "GLIBC_2.34"};
    for (size_t i = 0; !next && i < sizeof versions / sizeof *versions; i++)
        *(void **)&next = dlvsym(RTLD_NEXT, "dlsym", versions[i]);
    if (!next) {
        fprintf(stderr, "nccl_one_gpu: no dlsym in the C library\n");
        exit(1);
    }
    return next(handle, name);
}

/* ---- what stands before the driver's functions ---- */

static int get_address(char *text, int length, int device) {
    (void)device;
    snprintf(text, (size_t)length, "%s", address);
    return 0;
}

static int get_by_address(int *device, const char *text) {
    *device = 0;
    return strcasecmp(text, address) == 0 ? 0 : CUDA_INVALID_DEVICE;
}

/* By which NCCL, from 2.30 on, finds that two ranks have one GPU.  The CUDA runtime looks for it first, for itself, and
 * starts with no other UUID than the real one. */
static int get_uuid(char *uuid, int device) {
    (void)device;
    /* "0000:1b:00.0" has 12 bytes of the 16. */
    memset(uuid, 0, 16);
    memcpy(uuid, address, strnlen(address, 16));
    return 0;
}

static int (*real_handle_by_index)(unsigned, void **);

static int get_handle_by_address(const char *text, void **handle) {
    (void)text;
    return real_handle_by_index(0, handle);
}

/* The ranks' GPUs have no NVLink. */
static int get_link_state(void *handle, unsigned link, unsigned *is_active) {
    (void)handle, (void)link, (void)is_active;
    return NVML_NOT_SUPPORTED;
}

static int get_p2p(void *one, void *other, unsigned way, unsigned *status) {
    (void)one, (void)other, (void)way;
    *status = p2p_works ? NVML_P2P_OK : NVML_P2P_CHIPSET_NOT_SUPPORTED;
    return 0;
}

static int (*real_proc_address)(const char *, void **, int, unsigned long, void *);
static int (*real_proc_address_v1)(const char *, void **, int, unsigned long);
static void *instead(const char *name);

static int get_proc_address(const char *name, void **function, int version, unsigned long flags, void *status) {
    int rc = real_proc_address(name, function, version, flags, status);
    void *ours = rc == 0 && strcmp(name, "cuGetProcAddress") != 0 ? instead(name) : NULL;
    if (ours)
        *function = ours;
    /* Under this name the newest of its versions is asked for. */
    if (rc == 0 && strcmp(name, "cuGetProcAddress") == 0)
        *(int (**)(const char *, void **, int, unsigned long, void *))function = get_proc_address;
    return rc;
}

static int get_proc_address_v1(const char *name, void **function, int version, unsigned long flags) {
    int rc = real_proc_address_v1(name, function, version, flags);
    void *ours = rc == 0 ? instead(name) : NULL;
    if (ours)
        *function = ours;
    return rc;
}

static void *instead(const char *name) {
    static int uuid_asked;
    static const struct { const char *name; void *function; } ours[] = {
        {"cuDeviceGetPCIBusId", (void *)get_address},
        {"cuDeviceGetByPCIBusId", (void *)get_by_address},
        {"cuDeviceGetUuid", (void *)get_uuid},
        {"cuDeviceGetUuid_v2", (void *)get_uuid},
        {"cuGetProcAddress_v2", (void *)get_proc_address},
        {"cuGetProcAddress", (void *)get_proc_address_v1},
        {"nvmlDeviceGetHandleByPciBusId", (void *)get_handle_by_address},
        {"nvmlDeviceGetHandleByPciBusId_v2", (void *)get_handle_by_address},
        {"nvmlDeviceGetNvLinkState", (void *)get_link_state},
        {"nvmlDeviceGetP2PStatus", (void *)get_p2p},
    };
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strcmp(name, ours[i].name) == 0)
            return ours[i].function == (void *)get_uuid && uuid_asked++ == 0 ? NULL : ours[i].function;
    return NULL;
}

/* Stands before the C library's: NCCL's CUDA runtime, NCCL's NVML and our plugin find the driver by it. */
void *dlsym(void *restrict handle, const char *restrict name) {
    void *real = lookup(handle, name), *ours = real ? instead(name) : NULL;
    if (!ours)
        return real;
    if (strcmp(name, "cuGetProcAddress_v2") == 0)
        *(void **)&real_proc_address = real;
    else if (strcmp(name, "cuGetProcAddress") == 0)
        *(void **)&real_proc_address_v1 = real;
    else if (strncmp(name, "nvmlDeviceGetHandle", 19) == 0)
        *(void **)&real_handle_by_index = lookup(handle, "nvmlDeviceGetHandleByIndex_v2");
    return ours;
}

/* ---- a rank ---- */

struct id { char bytes[128]; };
struct meeting { volatile int is_told; struct id id; };

static void *from(const char *path, void *library, const char *name) {
    void *function = library ? lookup(library, name) : NULL;
    if (!function) {
        fprintf(stderr, "nccl_one_gpu: %s has no %s: %s\n", path, name, dlerror());
        exit(1);
    }
    return function;
}

#define DRIVER(result, name, ...) \
    ((result(*)(__VA_ARGS__))from("libcuda.so.1", driver, #name))
#define NCCL(result, name, ...) ((result(*)(__VA_ARGS__))from(path, nccl, #name))
#define MUST(call) must(call, #call)

static void must(int rc, const char *call) {
    if (rc != 0) {
        fprintf(stderr, "nccl_one_gpu: %s: %s gives %d\n", address, call, rc);
        exit(1);
    }
}

static int run_rank(const char *path, size_t count, int rank, int ranks, struct meeting *meeting) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW), *nccl = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!nccl)
        fprintf(stderr, "nccl_one_gpu: %s\n", dlerror());
    int device, version;
    void *context, *communicator;
    unsigned long long sent, received;
    MUST(DRIVER(int, cuInit, unsigned)(0));
    MUST(DRIVER(int, cuDeviceGet, int *, int)(&device, 0));
    MUST(DRIVER(int, cuDevicePrimaryCtxRetain, void **, int)(&context, device));
    MUST(DRIVER(int, cuCtxSetCurrent, void *)(context));
    MUST(DRIVER(int, cuMemAlloc_v2, unsigned long long *, size_t)(&sent, count * sizeof(float)));
    MUST(DRIVER(int, cuMemAlloc_v2, unsigned long long *, size_t)(&received, count * sizeof(float)));
    float own = (float)(rank + 1), sum = (float)(ranks * (ranks + 1) / 2);
    unsigned bits;
    memcpy(&bits, &own, sizeof bits);
    MUST(DRIVER(int, cuMemsetD32_v2, unsigned long long, unsigned, size_t)(sent, bits, count));
    if (rank == 0) {
        MUST(NCCL(int, ncclGetVersion, int *)(&version));
        printf("version %d\n", version);
        MUST(NCCL(int, ncclGetUniqueId, struct id *)(&meeting->id));
        __sync_synchronize();
        meeting->is_told = 1;
    }
    while (!meeting->is_told)
        usleep(1000);
    MUST(NCCL(int, ncclCommInitRank, void **, int, struct id, int)(&communicator, ranks, meeting->id, rank));
    MUST(NCCL(int, ncclAllReduce, unsigned long long, unsigned long long, size_t, int, int, void *, void *)(
        sent, received, count, NCCL_FLOAT32, NCCL_SUM, communicator, NULL));
    MUST(DRIVER(int, cuCtxSynchronize, void)());
    float *here = malloc(count * sizeof(float));
    MUST(DRIVER(int, cuMemcpyDtoH_v2, void *, unsigned long long, size_t)(here, received, count * sizeof(float)));
    for (size_t i = 0; i < count; i++)
        if (here[i] != sum) {
            fprintf(stderr, "nccl_one_gpu: rank %d has %f at %zu, not %f\n", rank, (double)here[i], i, (double)sum);
            return 1;
        }
    printf("rank %d right\n", rank);
    MUST(NCCL(int, ncclCommDestroy, void *)(communicator));
    return 0;
}

int main(int argc, char **argv) {
    const char *addresses[MOST_RANKS];
    int ranks = 0, failed = 0;
    if (argc != 5)
        return 2;
    p2p_works = strcmp(argv[3], "works") == 0;
    for (char *next = strtok(argv[4], ","); next && ranks < MOST_RANKS; next = strtok(NULL, ","))
        addresses[ranks++] = next;
    struct meeting *meeting =
        mmap(NULL, sizeof *meeting, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (meeting == MAP_FAILED)
        return 1;
    for (int rank = 0; rank < ranks; rank++)
        if (fork() == 0) {
            alarm(LONGEST_SECONDS);
            address = addresses[rank];
            exit(run_rank(argv[1], strtoul(argv[2], NULL, 10), rank, ranks, meeting));
        }
    for (int status; wait(&status) > 0;)
        failed |= status != 0;
    return failed;
}
