/* The executor's state. Private to src/cuda and its tests. */
#ifndef WAVESPEED_CUDA_EXECUTOR_H
#define WAVESPEED_CUDA_EXECUTOR_H

#include "wavespeed/cuda.h"
#include "wavespeed/status.h"

#include "cuda/driver.h"
#include "cuda/operands.h"

enum {
    WS_CUDA_DEVICES = 32,
    WS_CUDA_MAILBOXES = 8 /* readings that may be waited for at once */
};

typedef struct ws_cuda_device {
    bool is_prepared; /* context and functions are there */
    bool is_checked;  /* the kernels have proved themselves on it */
    ws_cu_device id;
    ws_cu_context context; /* the primary one, which is torch's; retained for ever */
    ws_cu_function kernel[WS_CUDA_KERNELS][WS_DTYPE_COUNT];
    ws_cu_function read;
} ws_cuda_device;

/* Page-locked memory that the GPU writes into, 4 KiB. */
typedef struct ws_cuda_mail {
    double values[WS_CUDA_READ_MOST_VALUES];
    uint32_t done; /* the sequence number of the reading that is complete */
    uint32_t unused;
} ws_cuda_mail;

typedef struct ws_cuda_mailbox {
    bool is_taken; /* for ever, when the GPU did not answer: it may still write */
    uint32_t sequence;
    uint32_t count; /* values */
    ws_cu_stream stream;
    ws_cu_context context;
} ws_cuda_mailbox;

struct ws_cuda {
    bool is_loaded; /* the driver's functions and the mail are there */
    bool is_off;
    char reason[WS_ERROR_TEXT_SIZE]; /* why it is off */
    int64_t patience_ns;             /* time limit of a wait */
    ws_cuda_driver driver;
    ws_cuda_device devices[WS_CUDA_DEVICES];
    ws_cuda_mailbox mailboxes[WS_CUDA_MAILBOXES];
    ws_cuda_mail *mail; /* [WS_CUDA_MAILBOXES] */
};

/* What became of something that was tried. */
typedef enum ws_cuda_outcome {
    WS_CUDA_DONE = 0,
    WS_CUDA_NOT_NOW, /* not possible at the moment: a capture, no memory */
    WS_CUDA_NEVER    /* the executor is off */
} ws_cuda_outcome;

/* executor.c. Context and functions of the device must be there, and its context current. */
ws_cuda_outcome ws_cuda_enqueue(ws_cuda *cuda, const ws_cuda_device *device, ws_cu_stream stream, ws_cuda_kernel kernel,
                                const ws_cuda_arrays *arrays);
int ws_cuda_enqueue_reading(ws_cuda *cuda, const ws_cuda_device *device, ws_cu_stream stream, const ws_cuda_values *values,
                            size_t count);

/* WS_CUDA_DONE for WS_CU_SUCCESS; else the executor is off. */
ws_cuda_outcome ws_cuda_require(ws_cuda *cuda, ws_cu_result result, const char *function);

ws_cuda_outcome ws_cuda_turn_off(ws_cuda *cuda, const char *format, ...) WS_PRINTF(2, 3);

uint32_t ws_cuda_sums(ws_cuda_kernel kernel);

/* self_check.c: runs every kernel on a device and compares with the CPU. Context as above. */
ws_cuda_outcome ws_cuda_check_device(ws_cuda *cuda, const ws_cuda_device *device, ws_cu_stream stream);

#endif
