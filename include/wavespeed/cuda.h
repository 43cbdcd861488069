/* The kernels of kernels.h on GPUs of NVIDIA, through the driver that torch has loaded: no CUDA runtime, nothing linked.
 *
 * Every function may decline, and then the caller uses torch. Before a GPU is used for the first time, all kernels run on it
 * once and their results are compared with the CPU's, bit for bit. When they differ, or the driver refuses anything, the
 * executor is off for the rest of the process and says why in one sentence. While a CUDA graph is being captured nothing is
 * launched.
 *
 * Calls for one executor must not overlap, except ws_cuda_read_wait. The calling thread's current context stays what it was.
 */
#ifndef WAVESPEED_CUDA_H
#define WAVESPEED_CUDA_H

#include "wavespeed/kernels.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ws_cuda ws_cuda;

typedef enum ws_cuda_kernel {
    WS_CUDA_DISTANCE = 0,
    WS_CUDA_MOMENTS,
    WS_CUDA_FINISH,
    WS_CUDA_SUBTRACT,
    WS_CUDA_ADVANCE,
    WS_CUDA_APPLY,
    WS_CUDA_EXTRAPOLATE,
    WS_CUDA_KERNELS
} ws_cuda_kernel;

/* device: torch's index of it. stream: torch's current one there; 0 is the default stream. */
typedef struct ws_cuda_place {
    int device;
    void *stream;
} ws_cuda_place;

/* Arrays of n elements on the device, and memory there for what a kernel with sums needs. What a kernel does not have is
 * NULL. in: what the function for whole arrays in kernels.h only reads, in its order; out: what it writes (finish: base,
 * subtract and advance: residual); difference: of advance, ws_difference_size(n). workspace: ws_cuda_workspace_bytes(),
 * aligned to 8. sums: as many as the kernel has. */
typedef struct ws_cuda_arrays {
    ws_dtype dtype;
    size_t n;
    const void *in[1 + WS_HISTORY];
    void *out;
    float *difference;
    float weights[WS_DIFFERENCES];
    void *workspace;
    double *sums;
} ws_cuda_arrays;

/* A small array on the device that the host wants to read. */
typedef struct ws_cuda_values {
    const void *values;
    uint32_t count;
    bool is_float64; /* else float32 */
} ws_cuda_values;

enum {
    WS_CUDA_READ_MOST = 128,       /* arrays in one reading */
    WS_CUDA_READ_MOST_VALUES = 511 /* of all of them */
};

typedef enum ws_cuda_answer {
    WS_CUDA_ANSWERED = 0,
    WS_CUDA_SILENT, /* no answer within the time limit */
    WS_CUDA_REFUSED /* the driver reports that something on the GPU went wrong */
} ws_cuda_answer;

/* NULL when memory ran out. Declines everything unless WAVESPEED_CUDA=on is in the environment. */
ws_cuda *ws_cuda_new(void);

/* What the driver holds (modules, page-locked memory) stays: the GPU may still be writing. */
void ws_cuda_free(ws_cuda *cuda);

/* For the status, to be read after "CUDA kernels: ". Lives as long as the executor. */
const char *ws_cuda_status(const ws_cuda *cuda);

/* False when this executor will decline everything from now on. */
bool ws_cuda_is_on(const ws_cuda *cuda);

size_t ws_cuda_workspace_bytes(ws_cuda_kernel kernel, size_t n);

/* Puts a kernel into the stream. False: nothing was launched, and nothing was written. */
bool ws_cuda_launch(ws_cuda *cuda, const ws_cuda_place *place, ws_cuda_kernel kernel, const ws_cuda_arrays *arrays);

/* Reading small arrays without a copy: a kernel writes them into memory of the host, which waits for its mark there.
 *
 * ws_cuda_read_begin: returns a ticket, or -1 when it declines.
 * ws_cuda_read_wait: waits until what is in the stream before has run, without touching the executor: other calls may go on.
 * ws_cuda_read_end: on WS_CUDA_ANSWERED writes all values to out, one array behind the other, and returns true. */
int ws_cuda_read_begin(ws_cuda *cuda, const ws_cuda_place *place, const ws_cuda_values *values, size_t count);
ws_cuda_answer ws_cuda_read_wait(const ws_cuda *cuda, int ticket);
bool ws_cuda_read_end(ws_cuda *cuda, int ticket, ws_cuda_answer answer, double *out);

#ifdef __cplusplus
}
#endif

#endif
