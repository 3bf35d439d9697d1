// A stand-in for HIP and ROCm's SMI library: the GPUs of HIP_STAND_IN, PCI addresses with commas between, whose memory is the
// process's own and which do nothing.  With -DSMI the second library; with -DPROGRAM what starts a communicator over them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#ifdef PROGRAM

int ncclCommInitAll(void **communicators, int count, const int *devices);
const char *ncclGetErrorString(int result);
int ncclCommDestroy(void *communicator);
int ncclGroupStart(void);
int ncclGroupEnd(void);
int ncclAllReduce(const void *from, void *to, unsigned long count, int type, int operation, void *communicator, void *stream);
int hipGetDeviceCount(int *count);
int hipSetDevice(int device);

// RCCL's threads may still wait for one another after an error: no exit handler runs.
int main(void) {
    void *communicators[64];
    char line[512];
    int count = 0;
    hipGetDeviceCount(&count);
    int result = ncclCommInitAll(communicators, count, NULL);
    // Sums of 32-bit floats.
    static float memory[1024];
    if (!result) result = ncclGroupStart();
    for (int device = 0; !result && device < count; device++)
        result = hipSetDevice(device) || ncclAllReduce(memory, memory, 1024, 7, 0, communicators[device], 0);
    if (!result) result = ncclGroupEnd();
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        if (strstr(line, "gpu_numa") || strstr(line, "gpu-numa.so") || strstr(line, "/dev/shm/gpu-numa")) printf("loaded %s", line);
    for (int device = 0; !result && device < count; device++) ncclCommDestroy(communicators[device]);
    printf("started: %d %s\n", result, ncclGetErrorString(result));
    fflush(stdout);
    _exit(result);
}

#else

static const char *addresses[64];
static unsigned count;

__attribute__((constructor)) static void begin(void) {
    const char *set = getenv("HIP_STAND_IN");
    char *list = strdup(set ? set : "");
    for (char *one = strtok(list, ","); one && count < 64; one = strtok(NULL, ",")) addresses[count++] = one;
}

#ifdef SMI

struct version { unsigned major, minor, patch; const char *build; };

int rsmi_init(unsigned long flags) { return 0; }
int rsmi_num_monitor_devices(unsigned *devices) { return *devices = count, 0; }
int rsmi_dev_pci_id_get(unsigned device, unsigned long *id) {
    unsigned domain, bus, slot, function;
    sscanf(addresses[device], "%x:%x:%x.%x", &domain, &bus, &slot, &function);
    return *id = (unsigned long)domain << 32 | bus << 8 | slot << 3 | function, 0;
}
int rsmi_minmax_bandwidth_get(unsigned from, unsigned to, unsigned long *least, unsigned long *most) {
    return *least = 50000, *most = 200000, 0;
}
int rsmi_status_string(int status, const char **text) { return *text = "stand-in", 0; }
// xGMI, one hop.
int rsmi_topo_get_link_type(unsigned from, unsigned to, unsigned long *hops, unsigned *kind) { return *hops = 1, *kind = 2, 0; }
int rsmi_topo_get_link_weight(unsigned from, unsigned to, unsigned long *weight) { return *weight = 15, 0; }
int rsmi_dev_firmware_version_get(unsigned device, int block, unsigned long *version) { return *version = 0, 0; }
int rsmi_version_get(struct version *version) { return *version = (struct version){5, 0, 0, "stand-in"}, 0; }

#else

#include <hip/hip_runtime_api.h>

static __thread int current;

static hipError_t some_memory(void **memory, size_t size) { return *memory = calloc(1, size ? size : 1), hipSuccess; }

hipError_t __hipPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, hipStream_t *stream) { return hipSuccess; }
void **__hipRegisterFatBinary(const void *data) { static void *module; return &module; }
void __hipRegisterFunction(void) {}
void __hipUnregisterFatBinary(void **module) {}

hipError_t hipGetDeviceCount(int *devices) { return *devices = count, hipSuccess; }
hipError_t hipGetDevice(int *device) { return *device = current, hipSuccess; }
hipError_t hipSetDevice(int device) { return current = device, hipSuccess; }
hipError_t hipDeviceCanAccessPeer(int *can, int device, int peer) { return *can = 1, hipSuccess; }
hipError_t hipDeviceEnablePeerAccess(int peer, unsigned flags) { return hipSuccess; }
hipError_t hipDeviceGetPCIBusId(char *text, int size, int device) { return snprintf(text, size, "%s", addresses[device]), hipSuccess; }
hipError_t hipDeviceGetByPCIBusId(int *device, const char *text) {
    for (unsigned own = 0; own < count; own++)
        if (!strcasecmp(text, addresses[own])) return *device = own, hipSuccess;
    return hipErrorInvalidValue;
}
hipError_t hipDeviceGetAttribute(int *value, hipDeviceAttribute_t attribute, int device) {
    *value = attribute == hipDeviceAttributeComputeCapabilityMajor ? 9 : attribute == hipDeviceAttributeWarpSize ? 64
           : attribute == hipDeviceAttributeMultiprocessorCount ? 110
           : attribute == hipDeviceAttributeMaxSharedMemoryPerBlock || attribute == hipDeviceAttributeSharedMemPerBlockOptin ? 65536 : 0;
    return hipSuccess;
}
hipError_t hipGetDeviceProperties(hipDeviceProp_t *properties, int device) {
    static unsigned flush;
    memset(properties, 0, sizeof *properties);
    strcpy(properties->name, "stand-in");
    strcpy(properties->gcnArchName, "gfx90a:sramecc+:xnack-");
    properties->major = 9, properties->warpSize = 64, properties->multiProcessorCount = 110;
#if HIP_VERSION_MAJOR < 6
    properties->gcnArch = 910;
#endif
    properties->isLargeBar = 1, properties->sharedMemPerBlock = 65536;
    properties->hdpMemFlushCntl = properties->hdpRegFlushCntl = &flush;
    sscanf(addresses[device], "%x:%x:%x", &properties->pciDomainID, &properties->pciBusID, &properties->pciDeviceID);
    return hipSuccess;
}

hipError_t hipMalloc(void **memory, size_t size) { return some_memory(memory, size); }
hipError_t hipExtMallocWithFlags(void **memory, size_t size, unsigned flags) { return some_memory(memory, size); }
hipError_t hipHostMalloc(void **memory, size_t size, unsigned flags) { return some_memory(memory, size); }
hipError_t hipFree(void *memory) { return hipSuccess; }
hipError_t hipHostFree(void *memory) { return hipSuccess; }
hipError_t hipHostGetDevicePointer(void **device, void *host, unsigned flags) { return *device = host, hipSuccess; }
hipError_t hipHostRegister(void *memory, size_t size, unsigned flags) { return hipSuccess; }
hipError_t hipHostUnregister(void *memory) { return hipSuccess; }
hipError_t hipMemcpy(void *to, const void *from, size_t size, hipMemcpyKind kind) { return memmove(to, from, size), hipSuccess; }
hipError_t hipMemcpyAsync(void *to, const void *from, size_t size, hipMemcpyKind kind, hipStream_t stream) {
    return memmove(to, from, size), hipSuccess;
}
hipError_t hipMemsetAsync(void *memory, int value, size_t size, hipStream_t stream) { return memset(memory, value, size), hipSuccess; }
hipError_t hipPointerGetAttributes(hipPointerAttribute_t *attributes, const void *memory) {
    return memset(attributes, 0, sizeof *attributes), hipSuccess;
}
hipError_t hipIpcGetMemHandle(hipIpcMemHandle_t *handle, void *memory) { return memcpy(handle, &memory, sizeof memory), hipSuccess; }
hipError_t hipIpcOpenMemHandle(void **memory, hipIpcMemHandle_t handle, unsigned flags) {
    return memcpy(memory, &handle, sizeof *memory), hipSuccess;
}
hipError_t hipIpcCloseMemHandle(void *memory) { return hipSuccess; }

hipError_t hipEventCreate(hipEvent_t *event) { return some_memory((void **)event, 8); }
hipError_t hipEventCreateWithFlags(hipEvent_t *event, unsigned flags) { return some_memory((void **)event, 8); }
hipError_t hipEventDestroy(hipEvent_t event) { return hipSuccess; }
hipError_t hipEventQuery(hipEvent_t event) { return hipSuccess; }
hipError_t hipEventRecord(hipEvent_t event, hipStream_t stream) { return hipSuccess; }
hipError_t hipStreamCreateWithFlags(hipStream_t *stream, unsigned flags) { return some_memory((void **)stream, 8); }
hipError_t hipStreamDestroy(hipStream_t stream) { return hipSuccess; }
hipError_t hipStreamSynchronize(hipStream_t stream) { return hipSuccess; }
hipError_t hipStreamWaitEvent(hipStream_t stream, hipEvent_t event, unsigned flags) { return hipSuccess; }
hipError_t hipStreamAddCallback(hipStream_t stream, hipStreamCallback_t callback, void *data, unsigned flags) { return hipSuccess; }
hipError_t hipThreadExchangeStreamCaptureMode(hipStreamCaptureMode *mode) { return hipSuccess; }

hipError_t hipFuncGetAttributes(hipFuncAttributes *attributes, const void *function) {
    return memset(attributes, 0, sizeof *attributes), attributes->maxThreadsPerBlock = 1024, hipSuccess;
}
hipError_t hipFuncSetAttribute(const void *function, hipFuncAttribute attribute, int value) { return hipSuccess; }
hipError_t hipLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared, hipStream_t stream) {
    return hipSuccess;
}
hipError_t hipExtLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared, hipStream_t stream,
                              hipEvent_t begin, hipEvent_t end, int flags) {
    return hipSuccess;
}
hipError_t hipGetLastError(void) { return hipSuccess; }

#if HIP_VERSION_MAJOR >= 7
// What the newer RCCL needs besides.  It has neither CUDA graphs nor memory by handles here: no stream is captured, and the
// attribute that says that memory has handles is 0.
hipError_t hipCtxGetCurrent(hipCtx_t *context) { return *context = NULL, hipSuccess; }
hipError_t hipDeviceGet(hipDevice_t *device, int ordinal) { return *device = ordinal, hipSuccess; }
hipError_t hipDeviceSetLimit(enum hipLimit_t limit, size_t value) { return hipSuccess; }
hipError_t hipDeviceSynchronize(void) { return hipSuccess; }
hipError_t hipDriverGetVersion(int *version) { return *version = HIP_VERSION, hipSuccess; }
hipError_t hipRuntimeGetVersion(int *version) { return *version = HIP_VERSION, hipSuccess; }
hipError_t hipEventSynchronize(hipEvent_t event) { return hipSuccess; }
hipError_t hipEventElapsedTime(float *milliseconds, hipEvent_t from, hipEvent_t to) { return *milliseconds = 0, hipSuccess; }
hipError_t hipMallocFromPoolAsync(void **memory, size_t size, hipMemPool_t pool, hipStream_t stream) { return some_memory(memory, size); }
hipError_t hipMemGetAddressRange(hipDeviceptr_t *base, size_t *size, hipDeviceptr_t memory) {
    return *base = memory, *size = 0, hipSuccess;
}
hipError_t hipPointerGetAttribute(void *value, hipPointer_attribute attribute, hipDeviceptr_t memory) { return hipErrorNotSupported; }
hipError_t hipLaunchHostFunc(hipStream_t stream, hipHostFn_t function, void *data) { return function(data), hipSuccess; }
hipError_t hipStreamIsCapturing(hipStream_t stream, hipStreamCaptureStatus *status) {
    return *status = hipStreamCaptureStatusNone, hipSuccess;
}
hipError_t hipStreamGetCaptureInfo_v2(hipStream_t stream, hipStreamCaptureStatus *status, unsigned long long *id, hipGraph_t *graph,
                                      const hipGraphNode_t **nodes, size_t *nodes_count) {
    return *status = hipStreamCaptureStatusNone, hipSuccess;
}
hipError_t hipMemPoolCreate(hipMemPool_t *pool, const hipMemPoolProps *properties) { return some_memory((void **)pool, 8); }
hipError_t hipMemPoolDestroy(hipMemPool_t pool) { return hipSuccess; }
hipError_t hipMemPoolSetAttribute(hipMemPool_t pool, hipMemPoolAttr attribute, void *value) { return hipSuccess; }
#endif
const char *hipGetErrorString(hipError_t error) { return "stand-in"; }

#endif
#endif
