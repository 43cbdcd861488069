/* What the CUDA kernels are given: one struct, passed by value. Read by the C compiler and by nvcc. Private to src/cuda. */
#ifndef WAVESPEED_CUDA_OPERANDS_H
#define WAVESPEED_CUDA_OPERANDS_H

#include "wavespeed/cuda.h"
#include "wavespeed/launch.h"

/* All pointers are of the device. in: the arrays that a kernel reads, in the order of the function of the same name in
 * kernels.h; elements that a kernel does not have are not looked at. */
typedef struct ws_cuda_operands {
    uint64_t n;
    const void *in[1 + WS_HISTORY];
    void *out;
    float *difference;
    float weights[WS_DIFFERENCES];
    uint32_t *ticket; /* zero before the launch */
    double *parts;    /* [chunk][sum] */
    double *sums;     /* [sum] */
} ws_cuda_operands;

/* Small arrays on the device, written as doubles one behind the other into memory of the host. */
typedef struct ws_cuda_part {
    const void *values;
    uint32_t count;
    uint32_t is_float64; /* else float32 */
} ws_cuda_part;

typedef struct ws_cuda_reading {
    ws_cuda_part parts[WS_CUDA_READ_MOST];
    uint32_t count;
    uint32_t sequence; /* goes to *done behind the values */
    double *values;
    uint32_t *done;
} ws_cuda_reading;

#endif
