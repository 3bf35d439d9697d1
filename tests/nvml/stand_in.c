/* A stand-in for libnvidia-ml.so.1: the few functions that are asked, answered from the file that the
 * environment variable STAND_IN_NVML names.
 *
 *   gpu PCI UUID MINOR NAME    a GPU; what follows is about it
 *   mig UUID GI CI             an instance of it; one at the next index, "-" leaves an index empty
 *   node N                     nvmlDeviceGetNumaNodeId
 *   memory N                   a node of its memory affinity
 *   cpu FIRST LAST             CPUs of its affinity
 *   link TYPE PCI              its next NVLink; TYPE is gpu, npu, switch or unknown, PCI may be "-"
 *   p2p PCI STATUS             nvmlDeviceGetP2PStatus with that GPU; 0 (ok) with those not named
 *   process PID                a process with a context on it
 *   lost                       each question about it is answered NVML_ERROR_GPU_IS_LOST
 *   fail FUNCTION STATUS, hang FUNCTION, crash FUNCTION, babble FUNCTION
 *
 * -DWITHOUT_nvmlName leaves a function out, as old drivers do.  Declarations: nvml.h of CUDA 12 and 13,
 * as far as they go here; the structures are those of NVML's documentation.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15 };
enum { MAX_PROCESSES = 8, MAX_GPUS = 32, MAX_MIG = 8, MAX_LINKS = 18, WORDS = 64, WORD_BITS = 8 * sizeof(unsigned long) };

typedef struct device *nvmlDevice_t;

typedef struct {
    char busIdLegacy[16];
    unsigned domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} nvmlPciInfo_t;

struct link { unsigned type; char pci[32]; };

struct p2p { unsigned status; char pci[32]; };

struct device {
    char pci[32], uuid[96], name[96];
    unsigned minor;
    int is_lost, node;
    unsigned long cpus[WORDS], memory[WORDS];
    struct link links[MAX_LINKS];
    unsigned link_count;
    struct p2p p2p[MAX_GPUS];
    unsigned p2p_count;
    unsigned processes[MAX_PROCESSES], process_count;
    /* Of a GPU: its instances.  Of an instance: its GPU. */
    struct device *mig[MAX_MIG], *parent;
    unsigned mig_count, gpu_instance, compute_instance;
};

static struct device gpus[MAX_GPUS];
static unsigned gpu_count;
static int is_ready;
static char faults[16][2][64];
static int fault_status[16], fault_count;

static void set_bit(unsigned long *words, unsigned bit)
{
    if (bit < WORDS * WORD_BITS)
        words[bit / WORD_BITS] |= 1UL << bit % WORD_BITS;
}

static unsigned type_of(const char *name)
{
    return !strcmp(name, "gpu") ? 0 : !strcmp(name, "npu") ? 1 : !strcmp(name, "switch") ? 2 : 255;
}

static void take_mig(struct device *gpu, const char *uuid, unsigned gi, unsigned ci)
{
    struct device *mig = strcmp(uuid, "-") ? calloc(1, sizeof *mig) : NULL;
    if (gpu->mig_count == MAX_MIG)
        return;
    gpu->mig[gpu->mig_count++] = mig;
    if (!mig)
        return;
    snprintf(mig->uuid, sizeof mig->uuid, "%s", uuid);
    mig->gpu_instance = gi;
    mig->compute_instance = ci;
    mig->parent = gpu;
}

static void take_line(const char *line)
{
    char a[96], b[96], c[96];
    unsigned x, y;
    struct device *gpu = gpu_count ? &gpus[gpu_count - 1] : NULL;
    if (sscanf(line, "gpu %31s %95s %u %95[^\n]", a, b, &x, c) == 4 && gpu_count < MAX_GPUS) {
        gpu = &gpus[gpu_count++];
        memcpy(gpu->pci, a, sizeof gpu->pci);
        memcpy(gpu->uuid, b, sizeof gpu->uuid);
        memcpy(gpu->name, c, sizeof gpu->name);
        gpu->minor = x;
        gpu->node = -1;
    } else if (sscanf(line, "%15s %63s %d", a, b, &fault_status[fault_count]) >= 2
               && (!strcmp(a, "fail") || !strcmp(a, "hang") || !strcmp(a, "crash") || !strcmp(a, "babble")) && fault_count < 15) {
        snprintf(faults[fault_count][0], 64, "%.63s", a);
        snprintf(faults[fault_count++][1], 64, "%.63s", b);
    } else if (!gpu) {
        return;
    } else if (sscanf(line, "mig %95s %u %u", a, &x, &y) == 3) {
        take_mig(gpu, a, x, y);
    } else if (sscanf(line, "node %u", &x) == 1) {
        gpu->node = (int)x;
    } else if (sscanf(line, "memory %u", &x) == 1) {
        set_bit(gpu->memory, x);
    } else if (sscanf(line, "cpu %u %u", &x, &y) == 2) {
        for (; x <= y; x++)
            set_bit(gpu->cpus, x);
    } else if (sscanf(line, "link %95s %31s", a, b) == 2 && gpu->link_count < MAX_LINKS) {
        gpu->links[gpu->link_count].type = type_of(a);
        memcpy(gpu->links[gpu->link_count++].pci, b, 32);
    } else if (sscanf(line, "p2p %31s %u", a, &x) == 2 && gpu->p2p_count < MAX_GPUS) {
        gpu->p2p[gpu->p2p_count].status = x;
        memcpy(gpu->p2p[gpu->p2p_count++].pci, a, 32);
    } else if (sscanf(line, "process %u", &x) == 1 && gpu->process_count < MAX_PROCESSES) {
        gpu->processes[gpu->process_count++] = x;
    } else if (!strncmp(line, "lost", 4)) {
        gpu->is_lost = 1;
    }
}

__attribute__((unused)) static void read_scenario(void)
{
    char line[512];
    const char *path = getenv("STAND_IN_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    while (file && fgets(line, sizeof line, file))
        take_line(line);
    if (file)
        fclose(file);
}

/* What the scenario does to a function, before it answers. */
static int fault(const char *function)
{
    for (int i = 0; i < fault_count; i++) {
        if (strcmp(faults[i][1], function))
            continue;
        if (!strcmp(faults[i][0], "hang"))
            for (;;)
                pause();
        if (!strcmp(faults[i][0], "crash"))
            raise(SIGSEGV);
        if (!strcmp(faults[i][0], "babble")) {
            puts("{\"Ok\":7} from the library, on standard output");
            continue;
        }
        return fault_status[i];
    }
    return is_ready || !strcmp(function, "nvmlInit_v2") ? SUCCESS : UNINITIALIZED;
}

#define BEGIN(device) \
    do { \
        int status = fault(__func__); \
        const struct device *asked = (device); \
        if (status) \
            return status; \
        if (!asked) \
            return INVALID_ARGUMENT; \
        if (asked->is_lost || (asked->parent && asked->parent->is_lost)) \
            return GPU_IS_LOST; \
    } while (0)

static int put_text(const char *text, char *to, unsigned length)
{
    if (strlen(text) >= length)
        return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return SUCCESS;
}

static int put_pci(const char *text, nvmlPciInfo_t *pci)
{
    unsigned function;
    memset(pci, 0, sizeof *pci);
    if (sscanf(text, "%x:%x:%x.%x", &pci->domain, &pci->bus, &pci->device, &function) != 4)
        return SUCCESS;
    /* Eight digits and upper case, as the driver writes them. */
    snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:%02X.%X", pci->domain, pci->bus, pci->device, function);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.%X", pci->domain & 0xffff, pci->bus & 0xff, pci->device & 0x1f, function & 7);
    pci->pciDeviceId = 0x233010de;
    return SUCCESS;
}

#ifndef WITHOUT_nvmlInit_v2
int nvmlInit_v2(void)
{
    int status = fault(__func__);
    if (status)
        return status;
    if (!is_ready++)
        read_scenario();
    return fault(__func__);
}
#endif

int nvmlShutdown(void)
{
    return fault(__func__);
}

int nvmlSystemGetDriverVersion(char *version, unsigned length)
{
    int status = fault(__func__);
    return status ? status : put_text("580.95.05", version, length);
}

#ifndef WITHOUT_nvmlDeviceGetCount_v2
int nvmlDeviceGetCount_v2(unsigned *count)
{
    int status = fault(__func__);
    *count = gpu_count;
    return status;
}
#endif

int nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device)
{
    int status = fault(__func__);
    if (status)
        return status;
    if (index >= gpu_count)
        return INVALID_ARGUMENT;
    *device = &gpus[index];
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
    BEGIN(device);
    return put_pci((device->parent ? device->parent : device)->pci, pci);
}

#ifndef WITHOUT_nvmlDeviceGetUUID
int nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length)
{
    BEGIN(device);
    return put_text(device->uuid, uuid, length);
}
#endif

#ifndef WITHOUT_nvmlDeviceGetMinorNumber
int nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *minor)
{
    BEGIN(device);
    *minor = device->minor;
    return SUCCESS;
}
#endif

#ifndef WITHOUT_nvmlDeviceGetName
int nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length)
{
    BEGIN(device);
    return put_text(device->name, name, length);
}
#endif

#ifndef WITHOUT_nvmlDeviceGetMaxMigDeviceCount
int nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count)
{
    BEGIN(device);
    *count = device->mig_count ? 7 : 0;
    return SUCCESS;
}
#endif

#ifndef WITHOUT_nvmlDeviceGetMigDeviceHandleByIndex
int nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *mig)
{
    BEGIN(device);
    if (index >= device->mig_count || !device->mig[index])
        return NOT_FOUND;
    *mig = device->mig[index];
    return SUCCESS;
}
#endif

#ifndef WITHOUT_nvmlDeviceGetGpuInstanceId
int nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned *id)
{
    BEGIN(device);
    *id = device->gpu_instance;
    return device->parent ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned *id)
{
    BEGIN(device);
    *id = device->compute_instance;
    return device->parent ? SUCCESS : NOT_SUPPORTED;
}
#endif

#ifndef WITHOUT_nvmlDeviceGetNumaNodeId
int nvmlDeviceGetNumaNodeId(nvmlDevice_t device, unsigned *node)
{
    BEGIN(device);
    *node = (unsigned)device->node;
    return device->node < 0 ? NOT_SUPPORTED : SUCCESS;
}
#endif

static int put_words(const unsigned long *words, unsigned long *to, unsigned size)
{
    unsigned long any = 0;
    for (unsigned i = 0; i < size; i++)
        any |= to[i] = i < WORDS ? words[i] : 0;
    return any ? SUCCESS : NOT_SUPPORTED;
}

#ifndef WITHOUT_nvmlDeviceGetMemoryAffinity
int nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, unsigned size, unsigned long *nodes, unsigned scope)
{
    BEGIN(device);
    return scope > 1 ? INVALID_ARGUMENT : put_words(device->memory, nodes, size);
}
#endif

#ifndef WITHOUT_nvmlDeviceGetCpuAffinity
int nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned size, unsigned long *cpus)
{
    BEGIN(device);
    return put_words(device->cpus, cpus, size);
}
#endif

#ifndef WITHOUT_nvmlDeviceGetNvLinkState
int nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned link, int *state)
{
    BEGIN(device);
    if (!device->link_count)
        return NOT_SUPPORTED;
    if (link >= device->link_count)
        return INVALID_ARGUMENT;
    *state = 1;
    return SUCCESS;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned link, nvmlPciInfo_t *pci)
{
    BEGIN(device);
    return link < device->link_count ? put_pci(device->links[link].pci, pci) : INVALID_ARGUMENT;
}
#endif

typedef struct {
    unsigned pid;
    unsigned long long usedGpuMemory;
    unsigned gpuInstanceId, computeInstanceId;
} nvmlProcessInfo_t;

#ifndef WITHOUT_nvmlDeviceGetComputeRunningProcesses_v3
int nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *to)
{
    BEGIN(device);
    unsigned room = *count;
    *count = device->process_count;
    if (room < device->process_count)
        return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < device->process_count; i++)
        to[i] = (nvmlProcessInfo_t){ .pid = device->processes[i], .gpuInstanceId = ~0U, .computeInstanceId = ~0U };
    return SUCCESS;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *to)
{
    BEGIN(device);
    (void)to;
    *count = 0;
    return SUCCESS;
}
#endif

#ifndef WITHOUT_nvmlDeviceGetP2PStatus
int nvmlDeviceGetP2PStatus(nvmlDevice_t device, nvmlDevice_t other, unsigned what, unsigned *status)
{
    BEGIN(device);
    (void)what;
    *status = 0;
    for (unsigned i = 0; i < device->p2p_count; i++)
        if (!strcmp(device->p2p[i].pci, other->pci))
            *status = device->p2p[i].status;
    return SUCCESS;
}
#endif

#ifndef WITHOUT_nvmlDeviceGetNvLinkRemoteDeviceType
int nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, unsigned link, unsigned *type)
{
    BEGIN(device);
    if (link >= device->link_count)
        return INVALID_ARGUMENT;
    *type = device->links[link].type;
    return SUCCESS;
}
#endif
