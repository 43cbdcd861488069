/* What kernels.cu uses of CUDA C++, for a compiler of the CPU. The threads of a block are fibers: each runs until it waits
 * for the others at __syncthreads() or __shfl_xor_sync(), and the next one goes on. Blocks run one after the other, so
 * __shared__ memory can be static. */
#ifndef WAVESPEED_TESTS_EMULATED_CUDA_H
#define WAVESPEED_TESTS_EMULATED_CUDA_H

#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

struct EmulatedIndex {
    uint32_t x;
};

/* Of the fiber that runs. */
static EmulatedIndex threadIdx, blockIdx, gridDim;

static void __syncthreads();

/* value of the thread whose index in the warp differs in these bits. mask: all threads of the warp. */
static uint32_t __shfl_xor_sync(uint32_t mask, uint32_t value, int bits);

static inline void __threadfence() {
}

static inline void __threadfence_system() {
}

static inline uint32_t atomicAdd(uint32_t *counter, uint32_t value) {
    const uint32_t before = *counter;
    *counter += value;
    return before;
}

static inline uint32_t __float_as_uint(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline float __uint_as_float(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}

#endif
