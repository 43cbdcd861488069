#include "wavespeed/launch.h"

static const size_t most_blocks = 0x7FFFFFFF; /* the x dimension of a grid */

ws_launch ws_launch_for(size_t n, uint32_t sums) {
    const uint32_t threads = sums > 0 ? WS_LAUNCH_SUM_THREADS : WS_LAUNCH_THREADS;
    const size_t elements =
        sums > 0 ? WS_KERNEL_CHUNK : (size_t)WS_LAUNCH_THREADS * WS_LAUNCH_ELEMENTS; /* of one CUDA block */
    const size_t blocks = n / elements + (n % elements != 0);
    if (blocks == 0 || blocks > most_blocks || sums > WS_LAUNCH_MOST_SUMS) {
        return (ws_launch){0};
    }
    const size_t workspace = sums > 0 ? WS_LAUNCH_TICKET_BYTES + blocks * sums * sizeof(double) : 0;
    return (ws_launch){(uint32_t)blocks, threads, workspace};
}
