/* One level of the CPU's vector units: every kernel for every dtype, and their table. Each kernels_<level>.c includes this
 * last, after defining
 *
 * - vector: WIDTH floats, where WIDTH divides WS_KERNEL_LANES
 * - load_f32, load_bf16, load_f16 (pointer): WIDTH elements at any address
 * - store_f32, store_bf16, store_f16 (pointer, vector): the same back
 * - load_i8 (pointer): WIDTH small integers as a vector
 * - store_i8 (pointer, vector): rounded to nearest even, within -127 and 127
 * - zero(), broadcast(float), add, subtract, multiply, magnitude (the absolute value)
 * - larger (of two magnitudes; NaN is larger than any other)
 * - TABLE, LEVEL: the table's name in C and the level's name for people
 *
 * These must be the plain IEEE operations: the order of operations is the contract of kernels.h, and every level gives the
 * same bits. Hence nothing here may be contracted to fused multiply-add or compiled with -ffast-math. */
#include "cpu/levels.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
    VECTORS = WS_KERNEL_LANES / WIDTH, /* in one row */
    MOMENTS = 8                        /* members of ws_moments */
};

static inline size_t block_end(size_t start, size_t n) {
    return n - start < WS_KERNEL_BLOCK ? n : start + WS_KERNEL_BLOCK;
}

static inline void clear(vector sums[VECTORS]) {
    for (size_t v = 0; v < VECTORS; ++v) {
        sums[v] = zero();
    }
}

static inline void fold(double *totals, const vector sums[VECTORS]) {
    float lanes[WS_KERNEL_LANES];
    for (size_t v = 0; v < VECTORS; ++v) {
        store_f32(lanes + v * WIDTH, sums[v]);
    }
    for (size_t lane = 0; lane < WS_KERNEL_LANES; ++lane) {
        totals[lane] += (double)lanes[lane];
    }
}

static inline double sum_lanes(const double *lanes) {
    double sum = 0.0;
    for (size_t lane = 0; lane < WS_KERNEL_LANES; ++lane) {
        sum += lanes[lane];
    }
    return sum;
}

static inline size_t group_end(size_t start, size_t end) {
    return end - start < WS_KERNEL_GROUP ? end : start + WS_KERNEL_GROUP;
}

/* The largest magnitude of all lanes. The bits of magnitudes are in the same order as they are, and those of NaN come
 * last. */
static inline float largest_of(const vector magnitudes[VECTORS]) {
    float lanes[WS_KERNEL_LANES];
    uint32_t bits[WS_KERNEL_LANES];
    for (size_t v = 0; v < VECTORS; ++v) {
        store_f32(lanes + v * WIDTH, magnitudes[v]);
    }
    memcpy(bits, lanes, sizeof(bits));
    size_t largest = 0;
    for (size_t lane = 1; lane < WS_KERNEL_LANES; ++lane) {
        largest = bits[lane] > bits[largest] ? lane : largest;
    }
    return lanes[largest];
}

/* The values of one group, up to the end of its last row, and their scale (kernels.h). */
static inline float pack_group(int8_t *values, const float *difference, size_t n, float largest) {
    const float smallest = 0x1p-100f; /* 127 times the inverse of anything smaller would come near to overflowing */
    if (!(largest >= smallest && largest <= FLT_MAX)) {
        memset(values, 0, n);
        return largest < smallest ? 0.0f : NAN;
    }
    const vector factor = broadcast(127.0f / largest);
    for (size_t i = 0; i < n; i += WIDTH) {
        store_i8(values + i, multiply(load_f32(difference + i), factor));
    }
    return largest / 127.0f;
}

#define ELEMENT float
#define NAME(verb) verb##_f32
#define LOAD(pointer) load_f32(pointer)
#define STORE(pointer, value) store_f32(pointer, value)
#include "cpu/kernels_template.h"

#define ELEMENT uint16_t
#define NAME(verb) verb##_bf16
#define LOAD(pointer) load_bf16(pointer)
#define STORE(pointer, value) store_bf16(pointer, value)
#include "cpu/kernels_template.h"

#define ELEMENT uint16_t
#define NAME(verb) verb##_f16
#define LOAD(pointer) load_f16(pointer)
#define STORE(pointer, value) store_f16(pointer, value)
#include "cpu/kernels_template.h"

const ws_kernels TABLE = {
    .name = LEVEL,
    .distance = {distance_f32, distance_bf16, distance_f16},
    .moments = {moments_f32, moments_bf16, moments_f16},
    .finish = {finish_f32, finish_bf16, finish_f16},
    .apply = {apply_f32, apply_bf16, apply_f16},
    .subtract = {subtract_f32, subtract_bf16, subtract_f16},
    .advance = {advance_f32, advance_bf16, advance_f16},
    .extrapolate = {extrapolate_f32, extrapolate_bf16, extrapolate_f16},
};
