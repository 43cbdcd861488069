/* The kernels of kernels.h for CUDA, with the bits of the CPU's: the same virtual lanes, blocks and chunks, added in the
 * same order.
 *
 * Compile with -fmad=false and without -use_fast_math: a product fused with an addition rounds differently. Nothing of the
 * CUDA runtime is used, so that the driver alone can load the result. tests/c/emulated_cuda runs this file on the CPU. */
#include "cuda/operands.h"

#include <cuda_fp16.h>

namespace {

constexpr uint32_t LANES = WS_KERNEL_LANES;
constexpr uint32_t WARPS = WS_LAUNCH_SUM_THREADS / LANES; /* one for each block of a chunk */
constexpr uint32_t WARP = 0xFFFFFFFF;                     /* all of its threads */

/* ---- Elements ------------------------------------------------------------------------------------------------------- */

struct Bfloat16 {
    uint16_t bits;
};

struct Float16 {
    uint16_t bits;
};

__device__ inline float widened(float value) {
    return value;
}

__device__ inline float widened(Bfloat16 value) {
    return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
}

__device__ inline float widened(Float16 value) {
    return __half2float(__ushort_as_half(value.bits));
}

/* Rounded to nearest even. */
template <typename Element> __device__ inline Element narrowed(float value);

template <> __device__ inline float narrowed<float>(float value) {
    return value;
}

template <> __device__ inline Bfloat16 narrowed<Bfloat16>(float value) {
    const uint32_t bits = __float_as_uint(value);
    const bool is_nan = (bits & 0x7FFFFFFF) > 0x7F800000;
    const uint32_t rounded = is_nan ? bits | 0x00400000 : bits + 0x7FFF + ((bits >> 16) & 1);
    return {static_cast<uint16_t>(rounded >> 16)};
}

template <> __device__ inline Float16 narrowed<Float16>(float value) {
    return {__half_as_ushort(__float2half_rn(value))};
}

template <typename Element> __device__ inline float load(const void *array, uint64_t i) {
    return widened(static_cast<const Element *>(array)[i]);
}

/* ---- What is summed ------------------------------------------------------------------------------------------------- */

/* Each of these has
 *
 * - SUMS: how many sums it forms
 * - ROWS: of how many rows of lanes a thread has its elements in flight at once, which hides the latency of the memory
 * - Row: one thread's elements of a row; read() fetches them
 * - add(): adds them to the thread's sums */
template <typename Element> struct Distance {
    static constexpr uint32_t SUMS = 2;
    static constexpr uint32_t ROWS = 16;

    struct Row {
        float probe, stored;
    };

    static __device__ inline Row read(const ws_cuda_operands &operands, uint64_t i) {
        return {load<Element>(operands.in[0], i), load<Element>(operands.in[1], i)};
    }

    static __device__ inline void add(const ws_cuda_operands &, uint64_t, const Row &row, float sums[SUMS]) {
        sums[0] += fabsf(row.probe - row.stored);
        sums[1] += fabsf(row.stored);
    }
};

template <typename Element> struct Moments {
    static constexpr uint32_t SUMS = 8;
    static constexpr uint32_t ROWS = 8;

    struct Row {
        float probe, newest, middle, oldest;
    };

    static __device__ inline Row read(const ws_cuda_operands &operands, uint64_t i) {
        return {load<Element>(operands.in[0], i), load<Element>(operands.in[1], i), load<Element>(operands.in[2], i),
                load<Element>(operands.in[3], i)};
    }

    static __device__ inline void add(const ws_cuda_operands &, uint64_t, const Row &row, float sums[SUMS]) {
        const float e = row.probe - row.newest;
        const float d1 = row.newest - row.middle;
        const float d2 = row.middle - row.oldest;
        sums[0] += fabsf(e);
        sums[1] += fabsf(row.newest);
        sums[2] += e * e;
        sums[3] += e * d1;
        sums[4] += e * d2;
        sums[5] += d1 * d1;
        sums[6] += d1 * d2;
        sums[7] += d2 * d2;
    }
};

/* Also writes the residual, every thread its own elements after it has read them. */
struct StoredResidual {
    static constexpr uint32_t SUMS = 1;
    static constexpr uint32_t ROWS = 16;

    struct Row {
        float start, end;
    };

    static __device__ inline void add(const ws_cuda_operands &operands, uint64_t i, const Row &row, float sums[SUMS]) {
        const float residual = row.end - row.start;
        static_cast<float *>(operands.out)[i] = residual;
        sums[0] += fabsf(residual);
    }
};

/* The residual takes the place of the start. */
template <typename Element> struct Finish : StoredResidual {
    static __device__ inline Row read(const ws_cuda_operands &operands, uint64_t i) {
        return {static_cast<const float *>(operands.out)[i], load<Element>(operands.in[0], i)};
    }
};

template <typename Element> struct Subtract : StoredResidual {
    static __device__ inline Row read(const ws_cuda_operands &operands, uint64_t i) {
        return {load<Element>(operands.in[0], i), load<Element>(operands.in[1], i)};
    }
};

/* ---- One lane of one block of elements: [start, end) ---------------------------------------------------------------- */

/* Row by row. Short rows need no padding: zeros would leave every sum as it is. */
template <typename Step> struct Rows {
    static constexpr uint32_t SUMS = Step::SUMS;

    static __device__ inline void sum_lane(const ws_cuda_operands &operands, uint64_t start, uint64_t end, uint32_t lane,
                                           float sums[SUMS]) {
        constexpr uint32_t ROWS = Step::ROWS;
        uint64_t i = start + lane;
#pragma unroll 1
        for (; i + (ROWS - 1) * LANES < end; i += ROWS * LANES) {
            typename Step::Row rows[ROWS];
#pragma unroll
            for (uint32_t row = 0; row < ROWS; ++row) {
                rows[row] = Step::read(operands, i + row * LANES);
            }
#pragma unroll
            for (uint32_t row = 0; row < ROWS; ++row) {
                Step::add(operands, i + row * LANES, rows[row], sums);
            }
        }
#pragma unroll 1
        for (; i < end; i += LANES) {
            Step::add(operands, i, Step::read(operands, i), sums);
        }
    }
};

__device__ inline uint64_t count_groups(uint64_t n) {
    return (n + WS_KERNEL_GROUP - 1) / WS_KERNEL_GROUP;
}

/* The bits of magnitudes are in the same order as they are, and those of NaN come last. */
__device__ inline uint32_t largest_of_warp(uint32_t bits) {
#pragma unroll
    for (uint32_t distance = LANES / 2; distance > 0; distance /= 2) {
        const uint32_t other = __shfl_xor_sync(WARP, bits, static_cast<int>(distance));
        bits = other > bits ? other : bits;
    }
    return bits;
}

/* Rounded to nearest even, within -127 and 127: adding 1.5 * 2^23 leaves the integer in the lower bits of the sum. */
__device__ inline int8_t rounded(float value) {
    const uint32_t bits = __float_as_uint(value + 0x1.8p23f);
    return static_cast<int8_t>(static_cast<int32_t>(bits & 0x007FFFFF) - 0x00400000);
}

/* Group by group, since a group shares a scale: a warp has all of its elements. */
template <typename Element> struct Advance {
    static constexpr uint32_t SUMS = 1;
    static constexpr uint32_t GROUP_ROWS = WS_KERNEL_GROUP / LANES;
    static constexpr uint32_t ROWS = 8; /* in flight at once */

    struct Row {
        float before, start, end;
    };

    static __device__ inline Row read(const ws_cuda_operands &operands, uint64_t i) {
        return {static_cast<const float *>(operands.out)[i], load<Element>(operands.in[0], i),
                load<Element>(operands.in[1], i)};
    }

    /* Writes this thread's values of the group that begins at `first`, and the scale. */
    static __device__ inline void pack(const ws_cuda_operands &operands, uint64_t first, uint64_t end, uint32_t lane,
                                       const float changes[GROUP_ROWS], float largest) {
        constexpr float SMALLEST = 0x1p-100f; /* as in src/cpu/kernels_level.h */
        constexpr float GREATEST = 0x1.fffffep127f;
        const bool is_used = largest >= SMALLEST && largest <= GREATEST;
        const float factor = 127.0f / largest;
        int8_t *const values = reinterpret_cast<int8_t *>(operands.difference + count_groups(operands.n));
#pragma unroll
        for (uint32_t row = 0; row < GROUP_ROWS; ++row) {
            const uint64_t i = first + row * LANES + lane;
            if (i < end) {
                values[i] = is_used ? rounded(changes[row] * factor) : static_cast<int8_t>(0);
            }
        }
        if (lane == 0) {
            const float unused = largest < SMALLEST ? 0.0f : __uint_as_float(0x7FC00000);
            operands.difference[first / WS_KERNEL_GROUP] = is_used ? largest / 127.0f : unused;
        }
    }

    /* All threads of a warp go through the same groups, because they meet in each. Elements beyond the end are zero. */
    static __device__ inline void sum_lane(const ws_cuda_operands &operands, uint64_t start, uint64_t end, uint32_t lane,
                                           float sums[SUMS]) {
#pragma unroll 1
        for (uint64_t first = start; first < end; first += WS_KERNEL_GROUP) {
            float changes[GROUP_ROWS];
            uint32_t largest = 0;
#pragma unroll
            for (uint32_t half = 0; half < GROUP_ROWS; half += ROWS) {
                Row rows[ROWS];
#pragma unroll
                for (uint32_t row = 0; row < ROWS; ++row) {
                    const uint64_t i = first + (half + row) * LANES + lane;
                    rows[row] = i < end ? read(operands, i) : Row{0.0f, 0.0f, 0.0f};
                }
#pragma unroll
                for (uint32_t row = 0; row < ROWS; ++row) {
                    const uint64_t i = first + (half + row) * LANES + lane;
                    const float now = rows[row].end - rows[row].start;
                    const float change = now - rows[row].before;
                    const uint32_t magnitude = __float_as_uint(fabsf(change));
                    changes[half + row] = change;
                    largest = magnitude > largest ? magnitude : largest;
                    sums[0] += fabsf(now);
                    if (i < end) {
                        static_cast<float *>(operands.out)[i] = now;
                    }
                }
            }
            pack(operands, first, end, lane, changes, __uint_as_float(largest_of_warp(largest)));
        }
    }
};

/* ---- Sums over an array --------------------------------------------------------------------------------------------- */

/* The CUDA block that finishes last adds the parts of all chunks, in their order: by as many threads as there are sums,
 * while the others fetch the next parts. */
template <uint32_t SUMS> __device__ inline void add_chunks(const ws_cuda_operands &operands) {
    constexpr uint32_t FETCHED = 64; /* chunks at a time */
    static_assert(FETCHED * SUMS <= WS_LAUNCH_SUM_THREADS, "every thread fetches one part at most");
    __shared__ double fetched[FETCHED * SUMS];
    const volatile double *const parts = operands.parts; /* other CUDA blocks wrote them: never from a cache of this one */
    const uint32_t thread = threadIdx.x;
    const uint64_t all = static_cast<uint64_t>(gridDim.x) * SUMS;
    double sum = 0.0;
#pragma unroll 1
    for (uint64_t first = 0; first < all; first += FETCHED * SUMS) {
        const uint32_t count = all - first < FETCHED * SUMS ? static_cast<uint32_t>(all - first) : FETCHED * SUMS;
        if (thread < count) {
            fetched[thread] = parts[first + thread];
        }
        __syncthreads();
        if (thread < SUMS) {
            for (uint32_t part = thread; part < count; part += SUMS) {
                sum += fetched[part];
            }
        }
        __syncthreads();
    }
    if (thread < SUMS) {
        operands.sums[thread] = sum;
    }
}

/* Lanes: Rows or Advance, whose sum_lane() is called by whole warps. */
template <typename Lanes> __device__ inline void sum_array(const ws_cuda_operands &operands) {
    constexpr uint32_t SUMS = Lanes::SUMS;
    __shared__ float of_blocks[SUMS][WARPS][LANES];
    __shared__ double of_lanes[SUMS][LANES];
    __shared__ bool is_last;
    const uint32_t thread = threadIdx.x;
    const uint32_t lane = thread % LANES;
    const uint32_t warp = thread / LANES;

    const uint64_t start = static_cast<uint64_t>(blockIdx.x) * WS_KERNEL_CHUNK + warp * WS_KERNEL_BLOCK;
    const uint64_t end = operands.n < start + WS_KERNEL_BLOCK ? operands.n : start + WS_KERNEL_BLOCK;
    float sums[SUMS] = {};
    Lanes::sum_lane(operands, start, end, lane, sums);
#pragma unroll
    for (uint32_t k = 0; k < SUMS; ++k) {
        of_blocks[k][warp][lane] = sums[k];
    }
    __syncthreads();
    if (thread < SUMS * LANES) {
        double total = 0.0;
        for (uint32_t block = 0; block < WARPS; ++block) {
            total += static_cast<double>(of_blocks[warp][block][lane]);
        }
        of_lanes[warp][lane] = total;
    }
    __syncthreads();
    if (thread < SUMS) {
        double sum = 0.0;
        for (uint32_t k = 0; k < LANES; ++k) {
            sum += of_lanes[thread][k];
        }
        operands.parts[static_cast<uint64_t>(blockIdx.x) * SUMS + thread] = sum;
        __threadfence();
    }
    __syncthreads();
    if (thread == 0) {
        is_last = atomicAdd(operands.ticket, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (is_last) {
        __threadfence();
        add_chunks<SUMS>(operands);
    }
}

/* ---- Elements of an array ------------------------------------------------------------------------------------------- */

template <typename Element> struct Apply {
    static __device__ inline float value(const ws_cuda_operands &operands, uint64_t i) {
        return load<Element>(operands.in[0], i) + load<float>(operands.in[1], i);
    }
};

template <typename Element> struct Extrapolate {
    static __device__ inline float change(const ws_cuda_operands &operands, uint32_t k, uint64_t i) {
        const float *const scales = static_cast<const float *>(operands.in[2 + k]);
        const int8_t *const values = reinterpret_cast<const int8_t *>(scales + count_groups(operands.n));
        return operands.weights[k] * scales[i / WS_KERNEL_GROUP] * static_cast<float>(values[i]);
    }

    static __device__ inline float value(const ws_cuda_operands &operands, uint64_t i) {
        float sum = load<Element>(operands.in[0], i) + load<float>(operands.in[1], i);
        sum += change(operands, 0, i);
        sum += change(operands, 1, i);
        return sum;
    }
};

/* out may be the first input: every thread reads all of its elements before it writes them. */
template <typename Step, typename Element> __device__ inline void write_array(const ws_cuda_operands &operands) {
    const uint64_t first = static_cast<uint64_t>(blockIdx.x) * WS_LAUNCH_THREADS * WS_LAUNCH_ELEMENTS + threadIdx.x;
    float values[WS_LAUNCH_ELEMENTS];
#pragma unroll
    for (uint32_t k = 0; k < WS_LAUNCH_ELEMENTS; ++k) {
        const uint64_t i = first + k * WS_LAUNCH_THREADS;
        values[k] = i < operands.n ? Step::value(operands, i) : 0.0f;
    }
#pragma unroll
    for (uint32_t k = 0; k < WS_LAUNCH_ELEMENTS; ++k) {
        const uint64_t i = first + k * WS_LAUNCH_THREADS;
        if (i < operands.n) {
            static_cast<Element *>(operands.out)[i] = narrowed<Element>(values[k]);
        }
    }
}

} // namespace

/* ---- Entry points --------------------------------------------------------------------------------------------------- */

#define WS_ENTRY_POINTS(Element, dtype)                                                                                     \
    extern "C" __global__ void __launch_bounds__(WS_LAUNCH_SUM_THREADS, 2)                                                  \
        wavespeed_distance_##dtype(const ws_cuda_operands operands) {                                                       \
        sum_array<Rows<Distance<Element>>>(operands);                                                                       \
    }                                                                                                                       \
    extern "C" __global__ void __launch_bounds__(WS_LAUNCH_SUM_THREADS, 2)                                                  \
        wavespeed_moments_##dtype(const ws_cuda_operands operands) {                                                        \
        sum_array<Rows<Moments<Element>>>(operands);                                                                        \
    }                                                                                                                       \
    extern "C" __global__ void __launch_bounds__(WS_LAUNCH_SUM_THREADS, 2)                                                  \
        wavespeed_finish_##dtype(const ws_cuda_operands operands) {                                                         \
        sum_array<Rows<Finish<Element>>>(operands);                                                                         \
    }                                                                                                                       \
    extern "C" __global__ void __launch_bounds__(WS_LAUNCH_SUM_THREADS, 2)                                                  \
        wavespeed_subtract_##dtype(const ws_cuda_operands operands) {                                                       \
        sum_array<Rows<Subtract<Element>>>(operands);                                                                       \
    }                                                                                                                       \
    extern "C" __global__ void __launch_bounds__(WS_LAUNCH_SUM_THREADS, 2)                                                  \
        wavespeed_advance_##dtype(const ws_cuda_operands operands) {                                                        \
        sum_array<Advance<Element>>(operands);                                                                              \
    }                                                                                                                       \
    extern "C" __global__ void __launch_bounds__(WS_LAUNCH_THREADS)                                                         \
        wavespeed_apply_##dtype(const ws_cuda_operands operands) {                                                          \
        write_array<Apply<Element>, Element>(operands);                                                                     \
    }                                                                                                                       \
    extern "C" __global__ void __launch_bounds__(WS_LAUNCH_THREADS)                                                         \
        wavespeed_extrapolate_##dtype(const ws_cuda_operands operands) {                                                    \
        write_array<Extrapolate<Element>, Element>(operands);                                                               \
    }

WS_ENTRY_POINTS(float, f32)
WS_ENTRY_POINTS(Bfloat16, bf16)
WS_ENTRY_POINTS(Float16, f16)

/* One CUDA block of WS_CUDA_READ_MOST threads: one for each array. The host waits for *done, which must arrive last. */
extern "C" __global__ void __launch_bounds__(WS_CUDA_READ_MOST) wavespeed_read(const ws_cuda_reading reading) {
    const uint32_t thread = threadIdx.x;
    if (thread < reading.count) {
        uint32_t place = 0;
        for (uint32_t before = 0; before < thread; ++before) {
            place += reading.parts[before].count;
        }
        const ws_cuda_part part = reading.parts[thread];
        for (uint32_t i = 0; i < part.count; ++i) {
            reading.values[place + i] = part.is_float64 != 0
                                            ? static_cast<const double *>(part.values)[i]
                                            : static_cast<double>(static_cast<const float *>(part.values)[i]);
        }
        __threadfence_system();
    }
    __syncthreads();
    if (thread == 0) {
        *static_cast<volatile uint32_t *>(reading.done) = reading.sequence;
        __threadfence_system();
    }
}
