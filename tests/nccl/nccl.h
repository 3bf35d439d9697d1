/* NCCL's plugin interfaces as a host sees them: what the tests' host fills in, in the layout of NCCL's own
 * headers (src/include/plugin/ of 2.30.7; profiler v7 as in 2.31.2). */
#ifndef NCCL_H
#define NCCL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GROUP = 1 << 0, COLL = 1 << 1, P2P = 1 << 2, GROUP_API = 1 << 8, COLL_API = 1 << 9, P2P_API = 1 << 10,
       CE_COLL = 1 << 12 };

typedef void (*logger)(int level, unsigned long flags, const char *file, int line, const char *format, ...);

/* What every version says of a collective and of a send. */
#define COLL_FIELDS                                                                                        \
    uint64_t seqNumber;                                                                                    \
    const char *func;                                                                                      \
    const void *sendBuff;                                                                                  \
    void *recvBuff;                                                                                        \
    size_t count;                                                                                          \
    int root;                                                                                              \
    const char *datatype;                                                                                  \
    uint8_t nChannels, nWarps;                                                                             \
    const char *algo, *proto;
#define P2P_FIELDS                                                                                         \
    const char *func;                                                                                      \
    void *buff;                                                                                            \
    const char *datatype;                                                                                  \
    size_t count;                                                                                          \
    int peer;                                                                                              \
    uint8_t nChannels;
#define CALL_FIELDS                                                                                        \
    const char *func;                                                                                      \
    size_t count;                                                                                          \
    const char *datatype;                                                                                  \
    int root;                                                                                              \
    void *stream;                                                                                          \
    bool graphCaptured;
#define P2P_CALL_FIELDS                                                                                    \
    const char *func;                                                                                      \
    size_t count;                                                                                          \
    const char *datatype;                                                                                  \
    void *stream;                                                                                          \
    bool graphCaptured;

struct descriptor_v4 {
    uint8_t type;
    void *parentObj;
    int rank;
    union {
        struct { COLL_FIELDS } coll;
        struct { P2P_FIELDS } p2p;
    };
};

struct descriptor_v6 { /* and v5, which lacks ceColl */
    uint64_t type;
    void *parentObj;
    int rank;
    union {
        struct { bool graphCaptured; int groupDepth; } groupApi;
        struct { CALL_FIELDS } collApi;
        struct { P2P_CALL_FIELDS } p2pApi;
        struct { COLL_FIELDS void *parentGroup; } coll;
        struct { P2P_FIELDS void *parentGroup; } p2p;
        struct { uint64_t seqNumber; const char *func; const void *sendBuff; void *recvBuff; size_t count; int root;
                 const char *datatype, *syncStrategy; bool intraBatchSync; uint32_t batchSize, numBatches, ceSeqNum;
                 void *stream; } ceColl;
    };
};

struct descriptor_v7 {
    uint64_t type;
    void *parentObj;
    int rank;
    union {
        struct { CALL_FIELDS uint64_t userTag; } collApi;
        struct { P2P_CALL_FIELDS uint64_t userTag; } p2pApi;
        struct { COLL_FIELDS void *parentGroup; const char *kernelVariant; bool isSymColl; uint64_t userTag; } coll;
        struct { P2P_FIELDS void *parentGroup; uint64_t userTag; } p2p;
        struct { uint64_t seqNumber; const char *func; } ceColl;
    };
};

struct profiler {
    const char *name;
    void *init;
    int (*startEvent)(void *context, void **handle, void *descriptor);
    int (*stopEvent)(void *handle);
    int (*recordEventState)(void *handle, int state, void *args);
    int (*finalize)(void *context);
};

typedef int (*init_v4)(void **, int *, const char *, uint64_t, int, int, int, logger);
typedef int (*init_v5)(void **, uint64_t, int *, const char *, int, int, int, logger);

struct env_v1 {
    const char *name;
    int (*init)(uint8_t, uint8_t, uint8_t, const char *);
    int (*finalize)(void);
    const char *(*getEnv)(const char *);
};

struct env_v2 {
    const char *name;
    int (*init)(uint8_t, uint8_t, uint8_t, const char *, logger);
    int (*finalize)(void);
    const char *(*getEnv)(const char *);
};

#endif
