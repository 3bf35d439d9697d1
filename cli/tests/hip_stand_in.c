/* Stands in for AMD's HIP library: a GPU in two parts, which are two devices at one address; copies are memcpy. */
#include <stdlib.h>
#include <string.h>
static int current = -1;
int hipInit(unsigned flags) { return flags ? 1 : 0; }
int hipGetDeviceCount(int *count) { *count = 2; return 0; }
int hipDeviceGetPCIBusId(char *text, int room, int device) {
    if (device > 1 || room < 13) return 1;
    strcpy(text, "0000:c1:00.0");
    return 0;
}
int hipSetDevice(int device) { current = device; return device > 1; }
int hipMalloc(void **there, size_t bytes) { *there = malloc(bytes); return current < 0 || !*there ? 2 : 0; }
int hipFree(void *there) { free(there); return 0; }
int hipHostRegister(void *host, size_t bytes, unsigned flags) { return host && bytes && !flags ? 0 : 1; }
int hipHostUnregister(void *host) { return host ? 0 : 1; }
int hipMemcpyHtoD(void *there, const void *host, size_t bytes) { memcpy(there, host, bytes); return 0; }
int hipMemcpyDtoH(void *host, const void *there, size_t bytes) { memcpy(host, there, bytes); return 0; }
