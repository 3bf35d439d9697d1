/* Stands in for libcuda: one GPU, whose copies are memcpy. */
#include <stdlib.h>
#include <string.h>
int cuInit(unsigned flags) { return flags ? 1 : 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGetPCIBusId(char *text, int room, int device) {
    if (device != 0 || room < 13) return 1;
    strcpy(text, "0000:3B:00.0");
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &cuInit; return device; }
int cuDevicePrimaryCtxRelease_v2(int device) { return device; }
int cuCtxSetCurrent(void *context) { return context == (void *)&cuInit ? 0 : 201; }
int cuMemAlloc_v2(unsigned long long *there, size_t bytes) { *there = (unsigned long long)malloc(bytes); return *there ? 0 : 2; }
int cuMemFree_v2(unsigned long long there) { free((void *)there); return 0; }
int cuMemHostRegister_v2(void *host, size_t bytes, unsigned flags) { return host && bytes && !flags ? 0 : 1; }
int cuMemHostUnregister(void *host) { return host ? 0 : 1; }
int cuMemcpyHtoD_v2(unsigned long long there, const void *host, size_t bytes) { memcpy((void *)there, host, bytes); return 0; }
int cuMemcpyDtoH_v2(void *host, unsigned long long there, size_t bytes) { memcpy(host, (void *)there, bytes); return 0; }
