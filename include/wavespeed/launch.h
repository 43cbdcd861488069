/* How the CUDA kernels are launched for an array of n elements: a pure function, so that it is tested without a GPU.
 *
 * Kernels that form sums give one CUDA block to each chunk of kernels.h, and one warp to each of the chunk's blocks of
 * WS_KERNEL_BLOCK elements: thread k of a warp is virtual lane k. Kernels without sums give every thread
 * WS_LAUNCH_ELEMENTS elements. */
#ifndef WAVESPEED_LAUNCH_H
#define WAVESPEED_LAUNCH_H

#include "wavespeed/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    WS_LAUNCH_SUM_THREADS = WS_KERNEL_CHUNK / WS_KERNEL_BLOCK * WS_KERNEL_LANES, /* per CUDA block */
    WS_LAUNCH_THREADS = 256,                                                     /* the same where no sums are formed */
    WS_LAUNCH_ELEMENTS = 8,                                                      /* per thread, where no sums are formed */
    WS_LAUNCH_MOST_SUMS = 8                                                      /* members of ws_moments */
};

/* blocks is 0 where nothing is to be launched: for no elements, and for more than a grid can hold.
 * workspace_bytes: device memory that the kernel needs besides its operands, aligned to 8 bytes. Its first
 * WS_LAUNCH_TICKET_BYTES must be zero; the rest holds the sums of the chunks. */
typedef struct ws_launch {
    uint32_t blocks;
    uint32_t threads;
    size_t workspace_bytes;
} ws_launch;

enum { WS_LAUNCH_TICKET_BYTES = 8 };

/* For a kernel that forms so many sums over the array; sums is 0 for one that only writes elements. */
ws_launch ws_launch_for(size_t n, uint32_t sums);

#ifdef __cplusplus
}
#endif

#endif
