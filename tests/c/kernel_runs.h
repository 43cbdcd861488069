/* What the tests of the kernels against their oracles share: on which levels and in which order of chunks they run, the
 * lengths, and the summation order that kernels.h promises. */
#ifndef WAVESPEED_TESTS_KERNEL_RUNS_H
#define WAVESPEED_TESTS_KERNEL_RUNS_H

#include "kernel_arrays.h"

static const size_t sizes[] = {0, 1, 31, 32, 33, 4095, 4096, 4097, 65535, 65536, 65537, 200001};

enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]), LARGEST = 200001 };

static ws_cpu_executor executor; /* what the tests of a group run on */

/* What threads may do to the order of chunks. */
static inline void last_index_first(int64_t n, ws_loop_body *body, void *context) {
    while (n-- > 0) {
        body(n, n + 1, context);
    }
}

/* All tests at every level that this machine has, with the chunks in either order. Returns how many failed. */
static inline int run_at_every_level(const struct CMUnitTest *tests, size_t count) {
    ws_parallel_for *const orders[] = {NULL, last_index_first};
    int failed = 0;
    for (size_t i = 0; (executor.kernels = ws_kernels_level(i)) != NULL; ++i) {
        for (size_t k = 0; k < sizeof(orders) / sizeof(orders[0]); ++k) {
            executor.parallel_for = orders[k];
            failed += _cmocka_run_group_tests(executor.kernels->name, tests, count, NULL, NULL);
        }
    }
    return failed;
}

static inline void check_every_length(void (*check)(ws_dtype dtype, size_t n)) {
    for (int dtype = 0; dtype < WS_DTYPE_COUNT; ++dtype) {
        for (size_t s = 0; s < N_SIZES; ++s) {
            check((ws_dtype)dtype, sizes[s]);
        }
    }
}

/* kernels.h's order, written down once more as plainly as possible. term(context, i) is an fp32 number. */
static inline double sum_in_order(float (*term)(const void *context, size_t i), const void *context, size_t n) {
    double total = 0.0;
    for (size_t chunk = 0; chunk < n; chunk += WS_KERNEL_CHUNK) {
        double lanes[WS_KERNEL_LANES] = {0};
        const size_t chunk_end = n - chunk < WS_KERNEL_CHUNK ? n : chunk + WS_KERNEL_CHUNK;
        for (size_t block = chunk; block < chunk_end; block += WS_KERNEL_BLOCK) {
            for (size_t lane = 0; lane < WS_KERNEL_LANES; ++lane) {
                float sum = 0.0f;
                for (size_t k = lane; k < WS_KERNEL_BLOCK && block + k < chunk_end; k += WS_KERNEL_LANES) {
                    sum += term(context, block + k);
                }
                lanes[lane] += (double)sum;
            }
        }
        double of_chunk = 0.0;
        for (size_t lane = 0; lane < WS_KERNEL_LANES; ++lane) {
            of_chunk += lanes[lane];
        }
        total += of_chunk;
    }
    return total;
}

/* For the magnitudes of an array of fp32. */
static inline float base_term(const void *context, size_t i) {
    return fabsf(((const float *)context)[i]);
}

#endif
